"""
iii. Designing extractor and classifier together
================================================

**The question.** How should the :term:`feature extractor <extractor>` and the classifier of a convolutional network be designed, and how
does one depend on the other?

*Fifteen minutes. You need Q1. Then you can tell where a network's parameters and its time are, before training anything, and design one
within a budget.*

**The answer.** As one budget. Count :term:`parameters` *and* :term:`multiply-adds` of each layer: they sit in different places. Then keep
kernels small, let channels grow as the map shrinks, and average the last map.

* **Kernels** that widen with depth, as the original report advised, :finding:`iii-widening-macs gain/lose` against 3x3 throughout at equal
  multiply-adds, and :finding:`iii-widening-parameters gain/lose` at equal parameters. Pairs of 3x3, against single ones at equal
  multiply-adds: :paired:`design/pairs_macs base`.
* **Channels** that double, minus constant ones: :effect:`iii-growth`, not decided after correction. A factor of two and a half instead of
  two changes the accuracy by :effect:`iii-growth-rate`.
* **Heads:** a hidden layer behind the averaged map changes the accuracy by :effect:`iii-hidden`; flattening the map before it, by
  :effect:`iii-flatten`. Both cost parameters.
* Does the best head depend on the kernels before it? The runs that are to decide are not made yet.
"""

from matplotlib import pyplot as plt

import cnnhw
from cnnhw import theory
from cnnhw.book import iii
from cnnhw.data import scenes
from cnnhw.models.heads import Head

iii.gains()
plt.show()

# %%
# Bars, and brackets behind an effect, are 95 % intervals, at equal multiply-adds of the extractors.
#
# The idea and the argument
# -------------------------
#
# A convolution of :math:`C` into :math:`K` channels with :math:`k \times k` weights on a map of :math:`H \times W` cells has
#
# .. math:: K (k^2 C + 1)\ \text{parameters}, \qquad H W K C k^2\ \text{multiply-adds},
#
# and adds :math:`(k - 1) j` pixels to the :term:`receptive field`, where :math:`j` is the number of pixels between neighbouring cells.
# Parameters do not know the size of the map; multiply-adds do. So a large map costs multiply-adds, however few its weights; many channels,
# or a dense layer on a flattened map, cost memory. **In numbers:** 16 channels to 32 with 3x3 kernels on 64x64 cells are 4,640 parameters
# and 18,874,368 multiply-adds; 128 channels to 128 on 8x8 cells are 147,584 parameters and 9,437,184 multiply-adds: 32 times the
# parameters, half the multiply-adds. :func:`cnnhw.theory.layers` counts for any registered network, and ``cnnhw design MODEL`` prints it.
#
# .. widget:: budget
#    :title: Try it: a network's budget and field
#
#    Choose the photo's side, stages, kernels, channels and a head. The square shows how much of the photo a cell of the last map sees; the
#    bars, how parameters and multiply-adds are shared between extractor and head. Two things to try: find a network whose field covers the
#    photo with kernels of 3, and watch what flattening does when the photo grows.
#
# Where the report's networks have their parameters, and where their multiply-adds:

iii.places(("q1_shallow", "q1_deep", "q2_concat_skip", "q4_inception"))
plt.show()

# %%
# **Where the two parts meet.** They depend on each other in one place: the size of the last map. Flattened, it multiplies the dense layer
# by its *area*; averaged, it does not count. One more pooling step in the extractor leaves a flattening head a quarter of its weights. A
# head that averages leaves the extractor free.
#
# .. drawing:: receptive
#
# **Small** :term:`kernels <kernel>` see far, too, if they are stacked :cite:p:`simonyan2015very`. Two 3x3 convolutions see as far as one
# 5x5 with :math:`2 \cdot 9 / 25`, 72 % of the weights; three as far as one 7x7 with :math:`3 \cdot 9 / 49`, 55 %. And each adds a
# non-linearity.
#
# The experiment
# --------------
#
# * **Varied:** kernel plans, at equal multiply-adds and at equal parameters, by scaling all widths; growth of the channels; and the
#   :term:`head` on the same extractor.
# * **Held:** four stages with batch norm, ReLU and a 2x2 maximum; half of the training photos of ``tiny5``, the stand-in for Linnaeus 5, at
#   32 pixels; the recipe, with its eight epochs.
#
# But "together" means that what one part gets, the other goes without. A second study varies both, six pairs of an extractor and a
# head at 64 pixels, all of as many parameters within one in a hundred. It asks whether what widening kernels gain depends on the head:

iii.planned()

# %%
# What the runs say
# -----------------
#
# .. question:: iii-together
#    :verdict: not run

iii.front()
plt.show()

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
# .. _iii-averaging:
#
# **Averaging here, and in the report's networks.** :ref:`Fault 7 <fault-dense>` replaces the flattened map and the dense layers of the
# report's own networks by an average, and there the flattened map is ahead, by :paired:`faults/sound averaged` in Q1's network and by
# :paired:`faults/inception inception_averaged` in Q4's. Those runs are short, at the report's rate. With the average, Q1's network has
# :record:`faults/averaged parameters` parameters in place of :record:`faults/sound parameters`, and after eight epochs a *training*
# accuracy of :record:`faults/averaged training`: it has not learnt its photos yet. With more training, tuned rates and another recipe, the
# average minus the flattened map is :effect:`faults-averaged`.
#
# .. trained:: design
#
#    base: 3x3 kernels, an average
#    widening_macs: kernels that widen, equal multiply-adds
#    pairs_macs: pairs of 3x3, equal multiply-adds
#    flatten_256: a flattened map with a hidden layer
#
# A recipe
# --------
#
# 1. Choose the receptive field: it should reach across the object. ``cnnhw design`` prints it.
# 2. Convolutions of 3x3 (kernels that widen instead: :effect:`iii-widening-macs`); channels that grow where the map shrinks (against
#    constant ones: :effect:`iii-growth`). Spend the budget on channels first, and on a second convolution a stage only if the receptive
#    field or validation photos ask for it.
# 3. Average, then one linear layer, and train long enough that the training photos are learnt. If they are not, or validation photos ask
#    for it, try a hidden layer (it changed the accuracy by :effect:`iii-hidden`).
# 4. Look at both budgets. If one layer holds nearly all of either, know why. ``cnnhw design`` warns of it, and names the finding that a
#    warning rests on.
#
# In a search over thousands of *residual* networks, too, the best were regular, with channels growing by about 2.5 a stage
# :cite:p:`radosavovic2020designing`. Here is the budget of a network of one's own (parameters, multiply-adds, field), and five epochs of it
# on easy scenes, live:

model = cnnhw.models.create("plain", size=48, kernels="33-3-3-3", widths="12-24-48-96")
for layer in theory.layers(model):
    if layer.macs:
        counts = f"{layer.parameters:8,} {layer.macs:10,}"
        print(f"{layer.name:18} {counts} field {layer.field}")
controls = scenes.EASY
photos = scenes.load(size=48, train=1000, test=300, controls=controls, progress=False)
run = cnnhw.fit(model, photos, cnnhw.Recipe(epochs=5), progress=False)
print(f"test accuracy {run.accuracy:.2f} after {run.seconds:.0f} s: a reduced run")

# %%
# What the original report said, and why it differed
# --------------------------------------------------
#
# It advised to begin with small filters and few channels, to widen filters and add channels with depth, and to narrow before the dense
# layers. Adding channels is common practice. Widening filters is the opposite of what became common, and it is dear: a kernel of 7 on the
# many channels of a late layer has 49 weights for each pair of channels. Its own networks show what it does not mention: which of the two
# parts has the parameters.
#
# .. admonition:: Three misconceptions
#
#    * *A bigger dense head classifies better.* It has more to memorise with.
#    * *Parameters are the cost.* They are memory. Time goes roughly with multiply-adds: the hidden layer of ``q1_shallow`` holds its
#      parameters and hardly takes any.
#    * *The receptive field is what a cell looks at.* It is what it *can* look at; the middle counts for more.
#
# .. dropdown:: Check yourself: photos grow from 64 to 128 pixels. What becomes of the parameters of a flattening head, and of an averaging one?
#
#    The last map has four times the cells, so the flattening head has four times the weights. The averaging one stays as it is.
#    Multiply-adds of the extractor are four times as many in both.
#
# **Remember three things.** Parameters and multiply-adds sit in different places: count both. Extractor and head meet in the size of the
# last map. And stacked 3x3 kernels see far for few weights, which need not make a network more accurate. **What these runs cannot tell:**
# eight epochs favour what learns fast, and on 32 pixels the last map has 2x2 cells only, so that a flattened map is short. **What would
# refute** the advice on kernels: widening ones that beat 3x3 at equal multiply-adds.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. Receptive field by hand** ★ Four stages of one 3x3 convolution and a 2x2 pooling each: how far does a cell of the last convolution
# see?
#
# .. solution::

field, step = 1, 1
for _ in range(4):
    seen = field + 2 * step  # the convolution
    field, step = seen + step, 2 * step  # the pooling
layers = theory.layers(cnnhw.models.create("plain", size=128))
assert seen == next(layer.field for layer in layers if "conv4_1" in layer.name)
print(f"{seen} pixels before the last pooling")

# %%
# .. end-solution::
#
# **2. Two heads** ★ On a last map of 8x8 cells and 128 channels: how many parameters have an average with one linear layer to 5 classes,
# and a flattened map with 256 hidden units?
#
# .. solution::

by_hand = 129 * 5, (8 * 8 * 128 + 1) * 256 + 257 * 5
heads = Head(), Head(hidden=256, pool="flatten")
built = tuple(cnnhw.models.count_parameters(head.build(128, 8, 5)) for head in heads)
assert by_hand == built
print(f"{built[0]:,} and {built[1]:,}")

# %%
# .. end-solution::
#
# **3. Halve it** ★★ Halve the multiply-adds of ``q1_deep`` without touching its head or its channels. Which layer do you change first, and
# is that one enough?
#
# .. solution::

layers = theory.layers(cnnhw.models.create("q1_deep"))
macs = {layer.name: layer.macs for layer in layers if layer.macs}
left = total = sum(macs.values())
for name in ("features.conv3", "features.conv4"):
    left -= macs[name] * (1 - 9 / 49)
    print(f"{name} has {macs[name] / total:.0%}; as 3x3, {left / total:.0%} are left")
assert left < total / 2

# %%
# Start with either convolution of 7x7 kernels, which have 49 weights for each pair of channels where 3x3 has nine. One is not enough: it
# takes both.
#
# .. end-solution::
#
# **4. One budget, two shapes** ★★★ Find the width of the first of four 3x3 stages for which a network at 32 pixels takes closest to the
# multiply-adds of ``plain``, once with constant channels and once with channels that double. Which network has more parameters, and where
# did the multiply-adds of the other one go?
#
# .. solution::


def network(width, growth):
    """Return the layers of a plain network of four stages whose channels grow."""
    widths = "-".join(str(width * growth**stage) for stage in range(4))
    return theory.layers(cnnhw.models.create("plain", size=32, widths=widths))


def total(layers, what):
    """Return the sum of a figure over all layers."""
    return sum(getattr(layer, what) for layer in layers)


budget = total(theory.layers(cnnhw.models.create("plain", size=32)), "macs")
for growth in (1, 2):
    tried = [network(width, growth) for width in range(4, 65)]
    layers = min(tried, key=lambda layers: abs(total(layers, "macs") - budget))
    second = next(layer for layer in layers if layer.name == "features.conv2_1")
    share = second.macs / total(layers, "macs")
    count = f"{total(layers, 'parameters'):,} parameters"
    print(f"growth {growth}: {count}, {share:.0%} of multiply-adds in stage two")
    assert abs(total(layers, "macs") / budget - 1) < 0.1

# %%
# With constant channels most multiply-adds go into the large maps of the first stages. Doubling spends them evenly from the second stage
# on, as each stage has a quarter of the cells and four times the weights; so for the same multiply-adds it buys several times the
# parameters.
#
# .. end-solution::
#
# .. provenance:: design faults faults_averaged live
