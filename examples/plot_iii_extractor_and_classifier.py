"""
iii. Designing extractor and classifier together
================================================

**The question.** How should the feature extractor and the classifier of a convolutional network be designed, and how
does one depend on the other?

**The short answer.** As one budget. Count parameters *and* multiply-adds of each layer before training anything: they sit
in different places. Then

* average the last map, and spend nothing on dense layers: a hidden layer adds little (:claim:`iii-hidden not resolved`), and a
  flattened map adds mostly parameters (:claim:`iii-flatten not resolved`);
* keep kernels small: kernels that widen with depth, as the original report advised, against 3x3 at equal multiply-adds:
  :claim:`iii-widening-macs not resolved`;
* let channels grow as the map shrinks: :claim:`iii-growth not resolved`.
"""

# %%
# Three numbers for each layer
# ----------------------------
#
# A convolution of :math:`C` into :math:`K` channels with :math:`k \times k` weights on a map of :math:`H \times W` cells has
#
# .. math:: K (k^2 C + 1)\ \text{parameters}, \qquad H W K C k^2\ \text{multiply-adds},
#
# and adds :math:`(k - 1) j` pixels to the receptive field, where :math:`j` is the number of pixels between neighbouring
# cells. Parameters do not know the size of the map; multiply-adds do. So early layers, with large maps and few channels, cost
# time; late layers, and dense ones on a flattened map, cost memory. :func:`cnnhw.theory.layers` counts them for any
# registered network, and ``cnnhw design MODEL`` prints them. A test compares the counts with PyTorch's own counter.

from statistics import fmean

from matplotlib import pyplot as plt

import cnnhw
from cnnhw import plots, theory

NAMES = ("q1_shallow", "q1_deep", "q2_concat_skip", "q4_inception")


def groups(model, what):
    """Return the share of each group of layers: convolutions by quarter of the network, and dense layers."""
    layers = [layer for layer in theory.layers(model) if layer.parameters]
    convs = [layer for layer in layers if layer.kind == "Conv2d"]
    total = sum(getattr(layer, what) for layer in layers)
    found = {}
    for number, layer in enumerate(convs):
        half = "first" if number < len(convs) / 2 else "second"
        name = f"convolutions, {half} half"
        found[name] = found.get(name, 0) + getattr(layer, what) / total
    found["dense layers"] = 1 - sum(found.values())
    return found


for what, title in (
    ("parameters", "Where the parameters are: nearly all in the dense layers"),
    ("macs", "Where the multiply-adds are: in the convolutions"),
):
    figure = plots.shares(
        {f"{name}, {what}": groups(cnnhw.models.create(name), what) for name in NAMES},
        title,
    )
    figure.set_label(
        f"{title}, for the report's four networks: stacked bars of the first and second half of the convolutions and of "
        "the dense layers."
    )
    plt.show()

# %%
for name in NAMES:
    layers = theory.layers(cnnhw.models.create(name))
    last = [layer for layer in layers if len(layer.shape) == 3][-1]
    dense = max(layer.parameters for layer in layers if layer.kind == "Linear")
    total = sum(layer.parameters for layer in layers)
    print(
        f"{name:15} receptive field of the last map {last.field:3} pixels; largest dense layer {dense / total:.1%} of "
        f"{total:,} parameters; {sum(layer.macs for layer in layers) / 1e6:.0f} million multiply-adds"
    )

# %%
# The two parts depend on each other in one place: the size of the last map. Flattened, it multiplies the dense layer by its
# *area*; averaged, it does not count. Whoever adds a pooling step to the extractor thereby cuts a flattening head to a
# quarter. A head that averages leaves the extractor free.
#
# The same holds for small kernels :cite:p:`simonyan2015very`: two 3x3 convolutions see as far as one 5x5, with

for many, kernel in ((2, 5), (3, 7)):
    print(
        f"{many} of 3x3 for one {kernel}x{kernel}: {many * 9 / kernel**2:.0%} of the weights"
    )

# %%
# and with a non-linearity more.
#
# The experiment
# --------------
#
# Four stages on 32-pixel photos of ``tiny5``, each with batch norm, ReLU and a 2x2 maximum; 8 epochs on half of the
# training photos, six seeds. Kernel plans are compared at equal multiply-adds *and* at equal parameters, by scaling all
# widths; growth of the channels at equal multiply-adds; and six heads on the same extractor.

records = cnnhw.studies.records("design")
points = {}
for arm in cnnhw.studies.get("design").arms:
    model = cnnhw.models.create("plain", size=32, **arm.options)
    macs = sum(layer.macs for layer in theory.layers(model))
    runs = [r.accuracy() for r in records if r.arm == arm.name]
    points[arm.name] = (macs / 1e6, runs)
    count = cnnhw.models.count_parameters(model)
    print(
        f"{arm.name:22}{count:10,} parameters{macs:12,} multiply-adds   accuracy {fmean(runs):.3f}"
    )

# %%

figure = plots.costs(
    points,
    "million multiply-adds a photo",
    "test accuracy",
    "Accuracy against cost: seventeen designs, and the front of the best",
)
figure.set_label(
    "Test accuracy against multiply-adds for seventeen designs, with bars from the lowest to the highest of six runs, and "
    "the front that nothing cheaper surpasses."
)
plt.show()

# %%
# **Kernels.**
#
# .. claim:: iii-widening-macs
#    :verdict: not resolved
#
# .. claim:: iii-widening-parameters
#    :verdict: not resolved
#
# .. claim:: iii-widening-narrowing
#    :verdict: not resolved
#
# .. claim:: iii-pairs-fives
#    :verdict: not resolved
#
# **Channels.**
#
# .. claim:: iii-growth
#    :verdict: not resolved
#
# .. claim:: iii-growth-rate
#    :verdict: not resolved
#
# **Heads.**
#
# .. claim:: iii-hidden
#    :verdict: not resolved
#
# .. claim:: iii-flatten
#    :verdict: not resolved
#
# What these runs cannot tell: on 32-pixel photos the last map has 2x2 cells, so that flattening costs little here; on 128
# pixels the same head has sixty-four times the parameters. Eight epochs favour what learns fast.
#
# A recipe
# --------
#
# 1. Choose the receptive field: it should reach across the object. ``cnnhw design`` prints it.
# 2. Convolutions of 3x3, two a stage if there is time; channels that grow where the map shrinks.
# 3. Average, then one linear layer. Add a hidden layer only if validation photos ask for it.
# 4. Look at both budgets. If one layer holds nearly all of either, know why.
#
# Regular designs of this kind, with channels growing by about 2.5 a stage, come out best in a search over thousands of
# networks, too :cite:p:`radosavovic2020designing`.
#
# Live: the budget of a network of one's own, and five epochs of it on easy scenes.

from cnnhw.data import scenes

model = cnnhw.models.create("plain", size=48, kernels="33-3-3-3", widths="12-24-48-96")
for layer in theory.layers(model):
    if layer.parameters:
        print(
            f"{layer.name:18} {layer.kind:12} {layer.parameters:8,} {layer.macs:10,} field {layer.field}"
        )
run = cnnhw.fit(
    model,
    scenes.load(size=48, train=1000, test=300, controls=scenes.EASY, progress=False),
    cnnhw.Recipe(epochs=5),
    progress=False,
)
print(f"test accuracy {run.accuracy:.2f} after {run.seconds:.0f} s: a reduced run")

# %%
# What the original report said, and why it differed
# --------------------------------------------------
#
# It advised to begin with small filters and few channels, to widen filters and add channels with depth, and to narrow before
# the dense layers. Adding channels is common practice. Widening filters is the opposite of what became common, and it is
# dear: a kernel of 7 on the many channels of a late layer has 49 weights for each pair of channels. Its own
# networks show what it does not mention: which of the two parts has the parameters.
#
# **What would have refuted it.** At equal multiply-adds, widening kernels that beat 3x3; constant channels that are as good as
# growing ones; a head with hidden units that gains more than 2.5 points.
#
# Exercises
# ---------
#
# **1. Receptive field by hand.** Four stages of one 3x3 convolution and a 2x2 pooling each: how far does a cell of the last
# convolution see?
#
# .. raw:: html
#
#    <details class="solution"><summary>Solution</summary>

field, step = 1, 1
for _ in range(4):
    field += 2 * step  # the convolution
    seen = field
    field, step = field + step, 2 * step  # the pooling
print(f"{seen} pixels before the last pooling")
layers = theory.layers(cnnhw.models.create("plain", size=128))
assert seen == next(layer.field for layer in layers if layer.name == "features.conv4_1")

# %%
# .. raw:: html
#
#    </details>
#
# **2. Six heads.** On a last map of 8x8 cells and 128 channels: how many parameters have flatten-256-5 and average-5?
#
# .. raw:: html
#
#    <details class="solution"><summary>Solution</summary>

print(f"{(8 * 8 * 128 + 1) * 256 + 257 * 5:,} and {129 * 5:,}")

# %%
# .. raw:: html
#
#    </details>
#
# **3. Halve it.** Halve the multiply-adds of ``q1_deep`` without touching its head. Which layer do you change first?
#
# .. raw:: html
#
#    <details class="solution"><summary>Solution</summary>

for layer in theory.layers(cnnhw.models.create("q1_deep")):
    if layer.macs:
        print(f"{layer.name:16}{layer.macs:14,}")

# %%
# The third convolution: it takes 7x7 weights on maps of 32x32 cells. As 3x3 it would cost less than a fifth.
#
# .. raw:: html
#
#    </details>
#
# .. provenance:: design
#
# .. provenance:: live
