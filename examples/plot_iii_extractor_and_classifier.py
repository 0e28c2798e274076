"""
iii. Designing extractor and classifier together
================================================

**The question.** How should feature :term:`extractor` and classifier of a convolutional network be designed, and how does one depend on the other?

*Fifteen minutes. You need Q1. Then you can tell where a network's parameters and its time are before training it, and design one within a budget.*

**The answer.** Design both on one budget: what the classifier, or :term:`head`, takes, the extractor goes without. They meet in the size of the last
map. Does the choice of one change the choice of the other? We let :term:`kernels <kernel>` widen with depth instead of keeping them at 3x3, with as
many :term:`parameters` in all. Before a head that averages the last map, that changes the accuracy by :effect:`iii-together-widening`; before one
that flattens it, by :paired:`iii_together/widening_flatten threes_flatten`. The second minus the first :finding:`iii-together is above zero: {effect}/is
below zero: {effect}/is less than the {delta} that would matter: {effect}/cannot be told: {effect}`. The rest is explored only:

* *Kernels,* before an average. Pairs of 3x3, minus single ones: :effect:`iii-together-pairs`. *Channels,* in short runs. Channels that double, minus
  constant ones: :paired:`design/base constant_macs`.
* *Heads,* behind 3x3 kernels. A flattened map with 64 hidden units, minus an average: :effect:`iii-together-flatten`. An average with 256 hidden units,
  minus one without: :effect:`iii-together-hidden`.
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
# Bars, and the numbers in brackets behind an effect, are 95 % intervals. Effects that are explored only are grey.
#
# The idea and the argument
# -------------------------
#
# .. drawing:: receptive
#
# **Small kernels see far, too, if they are stacked.** A cell's :term:`receptive field`, the part of the photo that it can see, grows layer by layer. Two
# 3x3 convolutions see as far as one 5x5, with :math:`2 \cdot 9 / 25`, 72 % of the weights, and three as far as one 7x7, with :math:`3 \cdot 9 / 49`,
# or 55 %. Each adds a non-linearity, too :cite:p:`simonyan2015very`.
#
# **Two budgets.** A convolution of :math:`C` into :math:`K` channels with :math:`k \times k` weights on a map of :math:`H \times W` cells has
#
# .. math:: K (k^2 C + 1)\ \text{parameters}, \qquad H W K C k^2\ \text{multiply-adds},
#
# and adds :math:`(k - 1) j` pixels to the receptive field, where neighbouring cells are :math:`j` pixels apart. (With batch norm, there is no bias, but
# :math:`2K` parameters of the norm.) Parameters do not depend on the size of the map; :term:`multiply-adds` do. So a large map is dear in multiply-adds;
# many channels, or a dense layer on a flattened map, in parameters. **In numbers:** 16 channels to 32 with 3x3 kernels on 64x64 cells are 4,640
# parameters and 18,874,368 multiply-adds. 128 channels to 128 on 8x8 cells are 147,584 parameters and 9,437,184 multiply-adds: 32 times the parameters,
# half the multiply-adds.
#
# .. widget:: budget
#    :title: Try it: a network's budget and field
#
#    Choose the photo's side, stages, kernels, channels and a head. The square shows how much of the photo a cell of the last map sees; the bars, how
#    extractor and head share the budgets. Find a network whose field covers the photo with kernels of 3; see what flattening does as the photo grows.
#
# Where the report's networks have their parameters, and where their multiply-adds:

iii.places(("q1_shallow", "q1_deep", "q2_concat_skip", "q4_inception"))
plt.show()

# %%
# **Where the two parts meet.** They depend on each other in the size of the last map. Flattened, it multiplies the weights of the dense layer by its
# *area*; averaged, it has no influence. So one more pooling step leaves a flattening head a quarter of its weights. **In numbers:** on 4x4 cells and
# 128 channels, an average and a linear layer to 5 classes take :math:`129 \cdot 5 = 645` parameters. A flattened map with 64 hidden units takes
# :math:`(16 \cdot 128 + 1) \cdot 64 + 65 \cdot 5 = 131{,}461`, more than four 3x3 convolutions of 16, 32, 64 and 128 channels together. A network that
# flattens, and has as many parameters as the one that averages, is left with little more than half of these channels.
#
# The experiment
# --------------
#
# What one part gets, the other goes without. So kernels and heads are compared at the same number of parameters, give or take one in a hundred:

iii.planned()

# %%
# * **Varied:** kernels (3x3; 3, 5, 7 and 7 from stage to stage; pairs of 3x3) and head; the number of channels makes up for what they cost.
# * **Held:** four stages with batch norm, ReLU and a 2x2 maximum; a quarter of the training photos of ``tiny5``, the stand-in for Linnaeus 5, at 64
#   pixels; the recipe, with its 48 epochs. Each seed draws initial weights, order, augmentation, and the cut into training and validation photos.
# * **Tuned:** each network's learning rate, from five or more, on training photos that the study leaves aside.
# * **Tested:** what widening kernels change if the map is flattened, minus if averaged: an *interaction*. It varies much, so what matters is coarse.
#
# .. soundness:: iii_together
#
# What the runs say
# -----------------
#
# .. question:: iii-together
#    :verdict: supported
#
# At the same number of parameters, multiply-adds differ: a dense layer takes one for each weight, a convolution one for each weight *and cell*.

iii.front()
plt.show()

# %%
# **Growth of the channels:** six seeds, eight epochs, one rate, 32 pixels. By 2.5 a stage, minus by 2: :paired:`design/fast_growth_macs base`.
#
# .. _iii-averaging:
#
# **Averaging here, and in the report's networks.** The page on faults replaces the flattened map and the dense layers of the report's own networks by an
# average (:ref:`fault 7 <fault-dense>`). In short runs at the report's learning rate, the average minus the flattened map is :paired:`faults/averaged
# sound` in Q1's network and :paired:`faults/inception_averaged inception` in Q4's. But then Q1's network with the average has a *training* accuracy of
# :record:`faults/averaged training`: it has not learnt its photos yet. With a tuned rate and a recipe that converges, the same difference is
# :effect:`faults-averaged`. In both, the extractor stays as it is, and the network shrinks; in this chapter's, it gets what the head gives up.
#
# .. trained:: iii_together
#
#    threes_average: 3x3 kernels, an average
#    threes_hidden: 3x3 kernels, an average and a hidden layer
#    threes_flatten: 3x3 kernels, a flattened map and a hidden layer
#    widening_average: kernels that widen, an average
#    widening_flatten: kernels that widen, a flattened map and a hidden layer
#    pairs_average: pairs of 3x3 kernels, an average
#
# A recipe
# --------
#
# Each step says what it rests on. If the interval of an alternative lies wholly above zero, try the alternative first.
#
# 1. **Field.** Let the last convolution see across the object. By argument: a cell cannot use what it does not see.
# 2. **Kernels.** Begin with single 3x3 convolutions. By argument: wide kernels are dear, above all on many channels, and what is spent on a second
#    convolution is missing in channels. Kernels that widen, minus 3x3: :effect:`iii-together-widening`. Pairs, minus single ones:
#    :effect:`iii-together-pairs`.
# 3. **Channels.** Double them where the map halves. By argument: no stage then takes most of the multiply-adds (exercise 4). Doubling, minus constant
#    channels: :paired:`design/base constant_macs`. Among thousands of *residual* networks the best grew by about 2.5 :cite:p:`radosavovic2020designing`.
# 4. **Head.** Average, then one linear layer. By argument: its size does not depend on the photo's. A flattened map, minus an average:
#    :effect:`iii-together-flatten`. A hidden layer behind the average, minus none: :effect:`iii-together-hidden`.
# 5. **Together.** Does another head call for other kernels? That is the primary question: :effect:`iii-together`.
# 6. **Count.** If one layer holds nearly all of a budget, know why. By arithmetic: ``cnnhw design`` prints it, and names the findings behind a warning.
#
# The budget of a network of one's own (parameters, multiply-adds, field), and five epochs of it on easy scenes, live:

model = cnnhw.models.create("plain", size=48, kernels="33-3-3-3", widths="12-24-48-96")
for layer in theory.layers(model):
    if layer.macs:
        print(f"{layer.name:18} {layer.parameters:8,} {layer.macs:10,} {layer.field:4}")
photos = scenes.load(size=48, train=900, test=300, controls=scenes.EASY, progress=False)
run = cnnhw.fit(model, photos, cnnhw.Recipe(epochs=5), progress=False)
print(f"test accuracy {run.accuracy:.2f} after {run.seconds:.0f} s: a reduced run")

# %%
# What the original report said, and why it differed
# --------------------------------------------------
#
# It advised to begin with small filters and few channels, to widen filters and add channels with depth, and to narrow before the dense layers. Much of
# that is sound: adding channels is common practice, and narrowing is what a flattening head needs. Widening filters is the opposite of what became
# common, and dear: a kernel of 7 has 49 weights for each pair of channels, and late layers have many. The report argued; it ran no comparison to tell.
#
# .. admonition:: Three misconceptions
#
#    * *A bigger dense head classifies better.* It has more to memorise with, and on one budget it takes channels from the extractor.
#    * *Parameters are the cost.* They are memory. Time goes roughly with multiply-adds, of which the hidden layer of ``q1_shallow`` takes hardly any.
#    * *The receptive field is what a cell looks at.* It is what it *can* look at; the middle counts for more.
#
# .. dropdown:: Check yourself: photos grow from 64 to 128 pixels. What becomes of the parameters of a flattening head, and of an averaging one?
#
#    The last map has four times the cells, and the first layer of the flattening head four times the weights. The averaging head stays as it is.
#
# **Remember three things.** Parameters and multiply-adds sit in different places: count both. Extractor and head meet in the size of the last map. And
# stacked 3x3 kernels see far for few weights. **What these runs cannot tell:** whether it is so with other plans, budgets or photos, or at equal
# multiply-adds. **What would refute** that kernels and head can be chosen one by one: an interval of the interaction wholly beyond what matters.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. Receptive field by hand** ★ Four stages of one 3x3 convolution and a 2x2 pooling each: how far does a cell of the last convolution see?
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
# **2. Two heads** ★ On 8x8 cells and 128 channels, how many parameters has an average for 5 classes, and a flattened map with 256 hidden units?
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
# **3. Halve it** ★★ Halve the multiply-adds of ``q1_deep``, but leave its head and its channels. Which layer do you change first, and is it enough?
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
# Start with either convolution of 7x7 kernels, which have 49 weights for each pair of channels where 3x3 has nine. One is not enough: it takes both.
#
# .. end-solution::
#
# **4. One budget, two shapes** ★★★ Find the first width of four 3x3 stages, at 32 pixels, that takes closest to the multiply-adds of ``plain``: with
# constant channels, and with channels that double. Which network has more parameters, and where did the other's multiply-adds go?
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
# With constant channels most multiply-adds go into the large maps of the first stages. Doubling spends them evenly from the second stage on, as each
# stage has a quarter of the cells and four times the weights; so for the same multiply-adds it buys several times the parameters.
#
# .. end-solution::
#
# .. provenance:: iii_together design faults faults_averaged live
