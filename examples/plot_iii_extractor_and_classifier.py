"""
iii. Designing extractor and classifier together
================================================

**The question.** How should the :term:`feature extractor <extractor>` and the classifier of a convolutional network be designed, and how
does one depend on the other?

**The short answer.** As one budget. Count :term:`parameters` *and* :term:`multiply-adds` of each layer before training anything: they sit
in different places. Then

* keep kernels small. Kernels that widen with depth, as the original report advised, lost to an all-3x3 network:
  :effect:`iii-widening-macs` at equal multiply-adds and :effect:`iii-widening-parameters` at equal parameters. Kernels that *narrow* are
  no way out: widening ones came out :effect:`iii-widening-narrowing` above them at equal multiply-adds;
* let channels grow as the map shrinks. A factor of two and a half instead of two made little difference:
  :effect:`iii-growth-rate`. Doubling against constant channels :finding:`iii-growth gained/lost`, which by itself would be clear and, among the
  claims tested together here, is not;
* average the last map, if the convolutions have batch norm. A hidden layer, :effect:`iii-hidden`, or a flattened map with
  one, :effect:`iii-flatten`, cost parameters and showed no gain. In the report's own networks, trained as the report did, the flattened
  map :finding:`fault-averaged gained/lost` over the average: :ref:`both findings, side by side <iii-averaging>`.
"""

# %%
# Three numbers for each layer
# ----------------------------
#
# A convolution of :math:`C` into :math:`K` channels with :math:`k \times k` weights on a map of :math:`H \times W` cells has
#
# .. math:: K (k^2 C + 1)\ \text{parameters}, \qquad H W K C k^2\ \text{multiply-adds},
#
# and adds :math:`(k - 1) j` pixels to the :term:`receptive field`, where :math:`j` is the number of pixels between neighbouring
# cells. Parameters do not know the size of the map; multiply-adds do. So early layers, with large maps and few channels, cost
# time; late layers, and dense ones on a flattened map, cost memory. :func:`cnnhw.theory.layers` counts them for any
# registered network, and ``cnnhw design MODEL`` prints them. A test compares the counts with PyTorch's own counter.
#
# .. widget:: budget
#    :title: Try it: a network's budget and field
#
#    Choose the photo's side, stages, kernels, channels and a head. The square shows how much of the photo a cell of the last
#    map sees; the bars, how parameters and multiply-adds are shared between extractor and head. Two things to try: find a
#    network whose field covers the photo with kernels of 3, and watch what flattening does when the photo grows.

from statistics import fmean

from matplotlib import pyplot as plt

import cnnhw
from cnnhw import plots, theory
from cnnhw.book import registry

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
    ("parameters", "Where the parameters are"),
    ("macs", "Where the multiply-adds are"),
):
    found = {name: groups(cnnhw.models.create(name), what) for name in NAMES}
    figure = plots.shares(
        {f"{name}, {what}": shares for name, shares in found.items()}, title
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
# *area*; averaged, it does not count. One more pooling step in the extractor leaves a flattening head a quarter of its weights. A head that
# averages leaves the extractor free.
#
# .. drawing:: receptive
#
# Small :term:`kernels <kernel>` save in another way :cite:p:`simonyan2015very`. Two 3x3 convolutions see as far as one 5x5, three as far as
# one 7x7. Each adds a non-linearity, and together they have fewer weights:

for many, kernel in ((2, 5), (3, 7)):
    print(
        f"{many} of 3x3 for one {kernel}x{kernel}: {many * 9 / kernel**2:.0%} of the weights"
    )

# %%
# The experiment
# --------------
#
# Four stages on 32-pixel photos of ``tiny5``, each with batch norm, ReLU and a 2x2 maximum; 8 epochs on half of the
# training photos, six seeds. Kernel plans are compared at equal multiply-adds *and* at equal parameters, by scaling all
# widths; growth of the channels at equal multiply-adds; and six :term:`heads <head>` on the same extractor.

records = cnnhw.studies.records("design")
points = {"multiply-adds": {}, "parameters": {}}
print(f"{'':22}{'parameters':>12}{'multiply-adds':>15}{'accuracy':>10}")
for arm in registry.get("design").arms:
    layers = theory.layers(cnnhw.models.create("plain", size=32, **arm.options))
    parameters = sum(layer.parameters for layer in layers)
    macs = sum(layer.macs for layer in layers)
    runs = [r.accuracy() for r in records if r.arm == arm.name]
    points["multiply-adds"][arm.name] = (macs / 1e6, runs)
    points["parameters"][arm.name] = (parameters / 1e6, runs)
    print(f"{arm.name:22}{parameters:12,}{macs:15,}{fmean(runs):10.3f}")

# %%

for cost, found in points.items():
    figure = plots.costs(
        found,
        f"million {cost}",
        "test accuracy",
        f"Accuracy against {cost}: {len(found)} designs, and the front of the best",
    )
    plt.show()
means = {name: fmean(runs) for name, (_, runs) in points["parameters"].items()}
print(f"highest mean: {max(means, key=means.get)}, {max(means.values()):.3f}")
assert max(means, key=means.get) == "base"

# %%
# **Kernels.**
#
# .. claim:: iii-widening-macs
#    :verdict: refuted
#
# .. claim:: iii-widening-parameters
#    :verdict: refuted
#
# .. claim:: iii-widening-narrowing
#    :verdict: supported
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
#    :verdict: supported
#
# **Heads.**
#
# .. claim:: iii-hidden
#    :verdict: not resolved
#
# .. claim:: iii-flatten
#    :verdict: not resolved
#
# The plainest plan is one 3x3 convolution a stage, on as many channels as the budget buys: :record:`design/base accuracy`. A second
# convolution in each stage takes channels away from all of them at equal cost. In eight epochs, pairs of 3x3 against
# single 5x5 kernels came out at :effect:`iii-pairs-fives`, and against ``base``, about which no claim had been registered, at
# :paired:`design/pairs_macs base`. Of the two plans with large kernels, widening ones lead at equal multiply-adds; at equal parameters,
# where no claim had been registered either, they come out at :paired:`design/widening_parameters narrowing_parameters`, and the narrowing
# plan takes far more multiply-adds.
#
# What these runs cannot tell: eight epochs favour what learns fast, and on 32-pixel photos the last map has 2x2 cells only, so that
# a flattened map is short. On 128 pixels it has 8x8 cells, and the same heads have

from cnnhw.models.heads import Head

for name, hidden in (("flatten", 0), ("flatten-256", 256)):
    few, many = (
        cnnhw.models.count_parameters(
            Head(hidden=hidden, pool="flatten").build(128, side, 5)
        )
        for side in (2, 8)
    )
    print(f"{name:12} {few:,} and {many:,} parameters: {many / few:.1f} times as many")

# %%
# .. _iii-averaging:
#
# Averaging here, and in the report's networks
# --------------------------------------------
#
# Here, against an averaged map alone, a hidden layer came out at :effect:`iii-hidden`, and a flattened map with one at :effect:`iii-flatten`. :ref:`Fault 7 <fault-dense>` replaces the flattened map
# and the dense layers of the report's own networks by an average, and there it loses: the flattened map is ahead by
# :effect:`fault-averaged` in Q1's network and by :effect:`fault-averaged-q4` in Q4's. The two studies ask the same of different networks:
#
# .. list-table::
#    :header-rows: 1
#    :widths: 28 36 36
#
#    * -
#      - here
#      - fault 7, Q1's network
#    * - convolutions
#      - four, each with batch norm
#      - three, without
#    * - recipe
#      - AdamW, one cycle, mirrored photos
#      - the report's: Adam at one rate, photos as they are
#    * - parameters, averaged and flattened
#      - :record:`design/base parameters` and :record:`design/flatten_256 parameters`
#      - :record:`faults/averaged parameters` and :record:`faults/sound parameters`
#    * - training accuracy after 8 epochs, averaged and flattened
#      - :record:`design/base training` and :record:`design/flatten_256 training`
#      - :record:`faults/averaged training` and :record:`faults/sound training`
#
# With the average, Q1's network keeps only a small part of its parameters, and after eight epochs it underfits:
# it has not even learnt its training photos. The network here keeps nearly all of its parameters in its convolutions. Which
# of the differences decides, batch norm, recipe, or size of the extractor, was not tested; all of them change at once.
#
# A recipe
# --------
#
# 1. Choose the receptive field: it should reach across the object. ``cnnhw design`` prints it.
# 2. Convolutions of 3x3; channels that grow where the map shrinks. Spend the budget on channels first, and on a second
#    convolution a stage only if the receptive field or validation photos ask for it.
# 3. Average, then one linear layer, behind convolutions with batch norm. If the network does not learn its training photos, or validation
#    photos ask for it, try a hidden layer.
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
# the dense layers. Adding channels is common practice. Widening filters is the opposite of what became common, here it
# :finding:`iii-widening-macs gained/lost` against 3x3 kernels at equal multiply-adds and :finding:`iii-widening-parameters gained/lost` at equal
# parameters, and it is dear: a kernel of 7 on the many channels of a late layer has 49 weights for each pair of channels. Its own
# networks show what it does not mention: which of the two parts has the parameters.
#
# **What would have refuted it.** At equal multiply-adds, widening kernels that beat 3x3; constant channels that are as good as
# growing ones; a head with hidden units that gains more than 2.5 points.
#
# Exercises
# ---------
#
# How to work on them, and what the stars mean: :ref:`the page for students <exercises>`.
#
# **1. Receptive field by hand** ★ Four stages of one 3x3 convolution and a 2x2 pooling each: how far does a cell of the
# last convolution see?
#
# .. solution::

field, step = 1, 1
for _ in range(4):
    field += 2 * step  # the convolution
    seen = field
    field, step = field + step, 2 * step  # the pooling
print(f"{seen} pixels before the last pooling")
layers = theory.layers(cnnhw.models.create("plain", size=128))
assert seen == next(layer.field for layer in layers if layer.name == "features.conv4_1")

# %%
# .. end-solution::
#
# **2. Six heads** ★ On a last map of 8x8 cells and 128 channels: how many parameters have flatten-256-5 and average-5?
#
# .. solution::

by_hand = {
    "flatten": (8 * 8 * 128 + 1) * 256 + 257 * 5,
    "average": 129 * 5,
}
built = {
    "flatten": Head(hidden=256, pool="flatten").build(128, 8, 5),
    "average": Head().build(128, 8, 5),
}
for name, head in built.items():
    print(f"{name} {by_hand[name]:,}")
    assert cnnhw.models.count_parameters(head) == by_hand[name]

# %%
# .. end-solution::
#
# **3. Halve it** ★★ Halve the multiply-adds of ``q1_deep`` without touching its head or its channels. Which layer do
# you change first, and is that one enough?
#
# .. solution::

macs = {
    layer.name: layer.macs
    for layer in theory.layers(cnnhw.models.create("q1_deep"))
    if layer.macs
}
for name, count in macs.items():
    print(f"{name:16}{count:14,}")
dearest = max(macs, key=macs.get)
less = sum(macs.values()) - macs[dearest] * (1 - 9 / 49)
print(
    f"{dearest} as 3x3: {less / sum(macs.values()):.0%} of the multiply-adds are left"
)

# %%
# One of the two convolutions with 7x7 kernels: on its map each of its weights is used in every cell. As 3x3 it costs
# less than a fifth. What is left says whether the other one has to follow:

both = less - sum(
    count * (1 - 9 / 49)
    for name, count in macs.items()
    if name != dearest and name.startswith(("features.conv3", "features.conv4"))
)
print(f"both as 3x3: {both / sum(macs.values()):.0%} are left")
assert both < sum(macs.values()) / 2

# %%
# .. end-solution::
#
# **4. One budget, two shapes** ★★★ Write a function ``fit_width(growth, budget)`` that finds the width of the first of
# four 3x3 stages for which a network at 32 pixels, whose channels grow by that factor a stage, takes closest to a
# budget of multiply-adds. Take the budget of ``base`` above. Which network has more parameters, the one with constant
# channels or the one that doubles them, and where did its multiply-adds go?
#
# .. solution::


def network(width, growth):
    """Return a plain network of four stages whose channels grow."""
    widths = "-".join(str(round(width * growth**stage)) for stage in range(4))
    return theory.layers(cnnhw.models.create("plain", size=32, widths=widths))


def total(layers, what):
    """Return the sum of a figure over all layers."""
    return sum(getattr(layer, what) for layer in layers)


def fit_width(growth, budget):
    """Return the width whose multiply-adds come closest to the budget."""
    return min(
        range(4, 65),
        key=lambda width: abs(total(network(width, growth), "macs") - budget),
    )


budget = total(theory.layers(cnnhw.models.create("plain", size=32)), "macs")
parameters = {}
for growth in (1, 2):
    width = fit_width(growth, budget)
    layers = network(width, growth)
    parameters[growth] = total(layers, "parameters")
    first = next(layer for layer in layers if layer.name == "features.conv2_1")
    print(
        f"growth {growth}: first width {width}, {parameters[growth]:,} parameters, "
        f"second stage {first.macs / total(layers, 'macs'):.0%} of the multiply-adds"
    )
    assert abs(total(layers, "macs") / budget - 1) < 0.1
assert parameters[2] > 2 * parameters[1]

# %%
# With constant channels nearly all multiply-adds go into the large maps of the first stages. Doubling spends them
# evenly, as each stage has a quarter of the cells and four times the weights; so for the same time it buys several
# times the parameters.
#
# .. end-solution::
#
# .. provenance:: design
#
# .. provenance:: live
