"""
ii. Why does DenseNet's transition layer average?
=================================================

**The question.** Between its dense blocks, :term:`DenseNet` has a :term:`transition layer <transition>` that ends in *average* pooling,
where VGG and GoogLeNet take the :term:`maximum <max pooling>`. Why?

*Twelve minutes. You need convolution and pooling (Q1). Then you can say when an average keeps more than a maximum, and check it.*

**The answer.** The paper does not say, and does not test it. Three reasons can be checked. The average makes the layer *linear* after its
ReLU, so that pooling can go first, which leaves the convolution a quarter of the cells, with exactly the same result. Of a signal that
fills the window it keeps more than the maximum does. And it is a low-pass filter, so predictions should be steadier when the photo shifts.

* **Steadiness:** in predictions that survive a shift, the average :finding:`ii-consistency gains/loses` against the maximum, and
  :finding:`ii-strided-consistency gains/loses` against every second cell.
* **Accuracy** hardly depends on it: average minus maximum, :effect:`ii-accuracy`.
* Taking every second cell is another matter: the average :finding:`ii-strided-accuracy gains/loses` against it.
"""

import torch
from matplotlib import pyplot as plt

import cnnhw
from cnnhw import theory
from cnnhw.book import ii
from cnnhw.data import scenes
from cnnhw.models.dense import transition_layer

ii.gains()
plt.show()

# %%
# Bars, and brackets behind an effect, are 95 % intervals. They are grey because no question of this edition is decided by them.
#
# The idea and the argument
# -------------------------
#
# .. drawing:: dense
#
# In a dense block each layer's new maps are put beside its input, so channels pile up. The transition between two blocks halves their
# number, and the map. Huang et al. :cite:p:`huang2017densely` describe it as :term:`batch norm <batch normalisation>`, a 1x1 convolution
# and 2x2 :term:`average pooling`. (Usual implementations, and this one, put a ReLU behind the batch norm.) They give no reason for the
# average, and compare it with nothing else. It cannot be essential: by their Table 1, the networks for ImageNet take a 3x3 maximum with a
# stride of 2 after the first 7x7 convolution, and two relatives take a maximum in the transition itself, DSOD
# :cite:p:`shen2017dsod` and FC-DenseNet :cite:p:`jegou2017fcdensenet`.
#
# **Averaging and the convolution can be exchanged.** After the ReLU, a 1x1 convolution mixes channels at each place, :math:`y_p = W x_p`,
# and averaging mixes places in each channel. Both are linear and act on different axes, so
#
# .. math:: \tfrac14 \sum_p W x_p = W \Big( \tfrac14 \sum_p x_p \Big).
#
# The right-hand side does the multiplications on a quarter of the cells. **In numbers:** from 256 channels to 128 on 28x28 cells, the
# convolution takes :math:`28^2 \cdot 256 \cdot 128 = 25{,}690{,}112` multiply-adds if it comes first, and :math:`6{,}422{,}528` if it comes
# last. The result is the same; for the maximum it is not:

x = torch.randn(2, 48, 16, 16)
for first, other in (("average", "average_first"), ("max", "max_first")):
    one, two = (transition_layer(48, 24, kind).eval() for kind in (first, other))
    weights = one.state_dict().values()
    two.load_state_dict(dict(zip(two.state_dict(), weights, strict=True)))
    apart = float((one(x) - two(x)).detach().abs().max())
    print(f"{first:8} after or before the convolution: {apart:.1e} apart")
    assert (apart < 1e-6) == (first == "average")

# %%
# :explore:`The explorer <network=dense&layer=transition2.2&photo=china.jpg>` shows a trained transition's convolution. Switch to *After* to
# see it averaged, normalised and cut off at zero, as the next layer gets it.
#
# **Which keeps more of a signal?** Take a window of four cells with independent normal noise, and a signal in some of them. How well can
# the signal be detected in what is left after pooling? The measure is :math:`d'`, the shift of the mean in standard deviations. For the
# average it is :math:`A k / \sqrt 4`, with amplitude :math:`A` in :math:`k` cells: 4 for an amplitude of 2 in all four cells, and 1 in a
# single one. For the maximum it takes an integral, which gives 2.85 and 1.37. In two cells, as where a thin edge crosses the window, the
# two are level, 2.00 and 2.06. Lines are calculated, crosses simulated:

ii.signals()
plt.show()

# %%
# So "a maximum keeps the strongest, an average the weak ones" is only half the story: which one keeps *more* depends on how many cells
# carry the signal, and on how strong it is. The average has the advantage if a signal fills the window and the noise differs from cell to
# cell; for a strong signal in a single cell the maximum has it. Where neighbouring cells agree in everything, mean and maximum are the same
# number, and neither has one.
#
# **Gradient.** The maximum sends the gradient to one cell of four, the average an equal part of it to each of the four.
#
# **Aliasing.** Taking every second cell of a map, as a :term:`stride` of two does, folds high frequencies into low ones: :term:`aliasing`.
# An average over 2x2 cells is itself a low-pass filter, if a crude one; a maximum is not. Zhang :cite:p:`zhang2019shift` made networks
# steadier under shifts, and a little more accurate, by blurring before each reduction.
#
# .. drawing:: stripe
#
# .. widget:: shift
#    :title: Try it: shift and pool
#
#    A map moves to the right by a cell, and is pooled in three ways. The pooled map should move, too, and not change otherwise. After an
#    odd number of cells it cannot do so exactly, because each of its cells stands for two. How much it changes depends on the signal: try
#    the
#    texture, whose columns alternate between bright and dark.
#
# The experiment
# --------------
#
# * **Varied:** the transitions of a DenseNet-BC (1x1 bottlenecks before its 3x3 convolutions, and channels halved between blocks) with
#   three blocks of four layers and a :term:`growth rate` of 12: average or maximum, after or before the convolution, or every second cell.
# * **Held:** half of the training photos of ``tiny5``, the stand-in for Linnaeus 5, at 32 pixels; the recipe; all other layers.
# * **Measured:** accuracy, and :term:`consistency <shift consistency>`, the share of test photos whose predicted class stays when the photo
#   moves by one to four pixels right and down.
#
# These runs have eight epochs. Longer ones are to decide. They also measure how smooth and how dense the maps at trained transitions are,
# which tells whether the two poolings have anything to differ about. They have not been made yet.
#
# What the runs say
# -----------------
#
# .. question:: ii-average
#    :verdict: not run
#
# .. question:: ii-shifts
#    :verdict: not run

ii.shifted()
plt.show()

# %%
# .. claim:: ii-accuracy
#    :verdict: supported
#
# .. claim:: ii-consistency
#    :verdict: supported
#
# .. claim:: ii-strided-consistency
#    :verdict: supported
#
# .. claim:: ii-strided-accuracy
#    :verdict: supported
#
# .. claim:: ii-max-order
#    :verdict: supported
#
# A network with the average before the convolution computes the same function as with the average after it. Their accuracies differ all the
# same, by :paired:`transition/average_first average`: training amplifies rounding errors, so this shows how large chance differences are.
#
# .. trained:: transition
#
#    average: transitions that average
#    max: transitions that take the maximum
#    strided: transitions that take every second cell
#
# What the original report said, and why it differed
# --------------------------------------------------
#
# It cited a paper named *DenseNet* :cite:p:`iandola2014densenet`, which is about stitching image pyramids and shares only the name: an easy
# slip, as it is the older of the two. Its argument, that a maximum keeps the largest cell and an average also keeps weak ones, which may be
# edges, is right as far as it goes. It leaves out that both keep one number of four, and that of a *strong* signal in a single cell the
# maximum keeps more.
#
# .. admonition:: Three misconceptions
#
#    * *An average keeps all information.* Both keep one number of four.
#    * *An average prevents overfitting.* Neither has parameters, and no run here measures overfitting.
#    * *A maximum is steady under shifts, as it keeps the largest cell.* The largest cell moves to another window.
#
# .. dropdown:: Check yourself: stripes alternate from cell to cell. What is left of them after an average, and after a maximum?
#
#    Grey after the average, white after the maximum; in both cases the stripes are gone, and stay gone when they shift by a cell. Every
#    second cell gives all white or all black, and a shift by one cell swaps them.
#
# **Remember three things.** The average commutes with the 1x1 convolution. Which pooling keeps more depends on how many cells carry the
# signal, and how strong it is. And an average blurs before it drops cells, which keeps predictions steadier. **What these runs cannot
# tell:** two transitions on small maps say little about large ones, where there is more to alias. **What would refute** the low-pass
# reason: predictions that are no steadier.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. What does the exchange save?** ★ With the average first, the convolutions of the transitions take a quarter of the multiply-adds.
# What share of *all* that ``dense`` takes at 32 pixels does it save? Predict it, then count.
#
# .. solution::

costs = []
for kind in ("average", "average_first"):
    layers = theory.layers(cnnhw.models.create("dense", size=32, transition=kind))
    costs.append(sum(layer.macs for layer in layers))
print(f"{costs[0]:,} and {costs[1]:,}: {1 - costs[1] / costs[0]:.0%} less")
assert costs[1] < costs[0] < 1.1 * costs[1]

# %%
# .. end-solution::
#
# **2. A wider stripe** ★ Stripes of *two* cells each, bright and dark, are pooled by average, by maximum, and by taking every second cell;
# then they move by one cell. Which of the results only move, and which change otherwise?
#
# .. solution::

halve = {
    "average": torch.nn.AvgPool2d(2),
    "maximum": torch.nn.MaxPool2d(2),
    "every second": lambda maps: maps[..., ::2, ::2],
}
stripes = torch.tensor([1.0, 1.0, 0.0, 0.0] * 2).expand(1, 2, 8)
for name, pool in halve.items():
    still, moved = pool(stripes)[0, 0], pool(stripes.roll(1, -1))[0, 0]
    print(f"{name:13} {still.tolist()} {moved.tolist()}")
    only_moves = still.equal(moved) or still.roll(1).equal(moved)
    assert only_moves == (name == "every second")

# %%
# Every second cell has bright and dark stripes in turn, before and after. The average turns grey, the maximum white. Which pooling is
# steady depends on the signal: with fine stripes, of one cell, it is the other way round.
#
# .. end-solution::
#
# **3. The maximum of four** ★★ What are mean and variance of the maximum of four standard normal numbers? Draw them. Then predict from the
# variance alone what :func:`cnnhw.theory.max_signal` gives for a signal of one standard deviation in all four cells, and check it.
#
# .. solution::

draws = torch.randn(1_000_000, 4).amax(1)
print(f"mean {draws.mean():.2f}, variance {draws.var():.2f}")
assert abs(1 / float(draws.std()) - theory.max_signal(4, 1.0)) < 0.01

# %%
# A signal in all cells shifts the maximum by as much as each cell, and leaves its spread as it is. So :math:`d'` is the shift over the
# standard deviation.
#
# .. end-solution::
#
# **4. A photo that moves by one pixel** ★★ Which way of halving a picture changes the least if the picture moves by one pixel? Predict the
# order, then measure it on scenes, as the mean change in units of the result's standard deviation.
#
# .. solution::

pictures = scenes.draw(50, size=64).images.float().mean(1, keepdim=True)
still, moved = pictures[..., 1:63], pictures[..., :62]
change = {}
for name, pool in halve.items():
    change[name] = float((pool(moved) - pool(still)).abs().mean() / pool(still).std())
    print(f"{name:13} {change[name]:.2f}")
assert max(change, key=change.get) == "every second"

# %%
# Taking every second cell stands out. Average and maximum are nearly level: where neighbours are alike, so are their mean and their
# maximum. What one picture changes and what a trained network makes of the change are two questions.
#
# .. end-solution::
#
# **5. When does the average overtake?** ★★★ A signal of two standard deviations fills :math:`k` of :math:`n` cells. From which :math:`k` on
# does the average detect it at least as well as the maximum, for windows of 2x2, 3x3 and 4x4 cells? Predict first, and say what that means
# for global average pooling.
#
# .. solution::

average, maximum = theory.average_signal, theory.max_signal
shares = []
for n in (4, 9, 16):
    k = next(k for k in range(1, n + 1) if average(k, 2, n) >= maximum(k, 2, n))
    shares.append(k / n)
    print(f"{n:2} cells: from {k} on, {k / n:.2f} of the window")
assert shares == sorted(shares, reverse=True)

# %%
# The share falls: averaging many cells takes so much noise away that a signal in a modest part of them is enough. Over a whole map, an
# average favours features that fill a part of the photo; one that sits in a single cell is a case for the maximum.
#
# .. end-solution::
#
# .. provenance:: transition live
