"""
ii. Why does DenseNet's transition layer average?
=================================================

**The question.** Between its dense blocks, :term:`DenseNet` has a :term:`transition layer <transition>` that ends in *average* pooling, where
VGG and GoogLeNet take the :term:`maximum <max pooling>`. Why?

*Twelve minutes. You need convolution and pooling (Q1). Then you can say when an average keeps more than a maximum, and check it.*

**The answer.** The paper does not say, and does not test it. Three reasons can be checked. The average makes the layer *linear* after its ReLU,
so pooling could go first, with the same result, and leave the convolution a quarter of the cells (DenseNet pools last). Of a signal that fills the
window it keeps more than the maximum does. And it blurs, as a low-pass filter, so predictions may be steadier when the photo shifts.

* **Accuracy:** with the average in place of the maximum it
  :finding:`ii-average is higher by {effect}/is lower by {effect}/differs by less than {delta}: {effect}/may be higher or lower: {effect}`.
* **Steadiness:** with the average, the share of predictions that a shift leaves as they are
  :finding:`ii-shifts is higher by {effect}/is lower by {effect}/differs by less than {delta}: {effect}/may be higher or lower: {effect}`.
* **How smooth are the maps?** At the first trained transition, neighbouring cells of what is pooled have a correlation of :record:`ii_pooling/average
  transition2 pooled autocorrelation`; of the cells behind its ReLU, a share of :record:`ii_pooling/average transition2 active share` is active.
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
# Bars, and the numbers in brackets behind an effect, are 95 % intervals.
#
# The idea and the argument
# -------------------------
#
# .. drawing:: dense
#
# In a dense block each layer's new maps are put beside its input, so channels pile up. The transition between two blocks halves the sides of
# the map and, in DenseNet-BC, the number of channels. Huang et al. :cite:p:`huang2017densely` describe it as :term:`batch norm <batch normalisation>`, a 1x1 convolution and 2x2
# :term:`average pooling`. (Usual implementations, and this one, put a ReLU behind the batch norm.) They give no reason for the average, and
# compare it with nothing else. It cannot be essential: by their Table 1, the networks for ImageNet take a 3x3 maximum with a stride of 2 after
# the first 7x7 convolution, and two relatives take a maximum in the transition itself, DSOD :cite:p:`shen2017dsod` and FC-DenseNet
# :cite:p:`jegou2017fcdensenet`.
#
# **Averaging and the convolution can be exchanged.** After the ReLU, a 1x1 convolution mixes channels at each place, :math:`y_p = W x_p`, and
# averaging mixes places in each channel. Both are linear and act on different axes, so
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
# :explore:`The explorer <network=dense&layer=transition2.2&photo=china.jpg>` shows a trained transition, before and after the average.
#
# **Which keeps more of a signal?** Take a window of four cells with independent normal noise, and a signal in some of them. How well can the signal be
# detected after pooling? The measure :math:`d'` is the shift of the pooled value's mean, divided by its standard deviation (the root mean square of
# those with and without signal). With an amplitude of :math:`A` standard deviations of the noise in :math:`k` cells, the average has
# :math:`A k / \sqrt 4`: for :math:`A = 2`, 4 with all four cells, 1 with one. For the maximum an integral gives 2.85 and 1.37. With two cells, as a
# thin line fills, the two are level, 2.00 and 2.06. Lines are calculated, crosses simulated:

ii.signals()
plt.show()

# %%
# So "a maximum keeps the strongest, an average the weak ones" is only half the story: which one keeps *more* depends on how many cells carry the
# signal, and on how strong it is. Where neighbouring cells agree in everything, mean and maximum are the same number, and it makes no difference.
#
# **Gradient.** The maximum sends the gradient to one cell of four, the average an equal part of it to each of the four.
#
# **Aliasing.** Taking every second cell of a map, as a :term:`stride` of two does, turns fine detail into coarse patterns that were not there:
# :term:`aliasing`. An average over 2x2 cells is a low-pass filter, if a crude one: it damps fine detail first. A maximum is not. Zhang
# :cite:p:`zhang2019shift` made networks steadier under shifts, and a little more accurate, by blurring before each reduction.
#
# .. drawing:: stripe
#
# .. widget:: shift
#    :title: Try it: shift and pool
#
#    A map moves to the right by a cell, and is pooled in three ways. The pooled map should move, too, and not change otherwise. After an odd number
#    of cells it cannot do so exactly. How much it changes depends on the signal: try the texture, whose columns alternate between bright and dark.
#
# The experiment
# --------------
#
# * **Varied:** the transitions of a DenseNet-BC (1x1 bottlenecks before its 3x3 convolutions) with three
#   blocks of four layers and a :term:`growth rate` of 12: average or maximum, behind the convolution.
# * **Held:** a quarter of the training photos of ``tiny5``, the stand-in for Linnaeus 5, at 32 pixels; the recipe, with random shifts, and its 48 epochs; all other
#   layers. Each seed draws initial weights, order, augmentation, and the cut into training and validation photos.
# * **Tuned:** each network's learning rate, from five or more, on training photos that the study leaves aside.
# * **Measured:** accuracy; :term:`consistency <shift consistency>`, the share of test photos whose predicted class stays when the photo moves
#   by one to four pixels right and down; and of the maps at trained transitions, how alike neighbouring cells are, and how many are active.
#
# .. soundness:: ii_pooling
#
# What the runs say
# -----------------
#
# .. question:: ii-average
#    :verdict: supported
#
# .. question:: ii-shifts
#    :verdict: supported

ii.shifted()
plt.show()

# %%
# **Are the maps smooth and dense?** Where neighbouring cells of the pooled maps are alike, average and maximum differ little: their correlation minus
# 0.5 is :effect:`ii-smooth`. The average might as well come before the convolution, behind the ReLU; if few cells are active there, it averages each
# of them with zeros. Their share minus 0.5 is :effect:`ii-dense`.
#
# .. trained:: ii_pooling
#
#    average: transitions that average
#    max: transitions that take the maximum
#
# What the original report said, and why it differed
# --------------------------------------------------
#
# It cited a paper named *DenseNet* :cite:p:`iandola2014densenet`, which is about stitching image pyramids and shares only the name: an easy
# slip, as it is the older of the two. Its argument, that a maximum keeps the largest cell and an average also keeps weak ones, which may be
# edges, is right as far as it goes. It leaves out that both keep one number of four, and that of a *strong* signal in a single cell the maximum
# keeps more.
#
# .. admonition:: Three misconceptions
#
#    * *An average keeps all information.* Both keep one number of four.
#    * *An average prevents overfitting, as it has no parameters.* Nor has a maximum; no run here measures overfitting.
#    * *A maximum is steady under shifts, as it keeps the largest cell.* The largest cell moves to another window.
#
# .. dropdown:: Check yourself: stripes alternate from cell to cell. What is left of them after an average, and after a maximum?
#
#    Grey after the average, white after the maximum; in both cases the stripes are gone, and stay gone when they shift by a cell. Every second
#    cell gives all white or all black, and a shift by one cell swaps them.
#
# **Remember three things.** The average commutes with the 1x1 convolution. Which pooling keeps more depends on how many cells carry the signal, and
# how strong it is. And an average blurs before it drops cells. **What these runs cannot tell:** two transitions on small maps say little about large
# ones; random shifts in training, and a first layer with a stride of 2, may hide a gain. **What would refute** the low-pass reason: no steadier runs.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. What does the exchange save?** ★ With the average first, the convolutions of the transitions take a quarter of the multiply-adds. What
# share of *all* that ``dense`` takes at 32 pixels does it save? Predict it, then count.
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
# **2. A wider stripe** ★ Stripes of *two* cells each, bright and dark, are pooled by average, by maximum, and by taking every second cell; then
# they move by one cell. Which of the results only move, and which change otherwise?
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
# Every second cell has bright and dark stripes in turn, before and after. The average turns grey, the maximum white. With fine stripes, of one cell,
# it is the other way round.
#
# .. end-solution::
#
# **3. The maximum of four** ★★ What are mean and variance of the maximum of four standard normal numbers? Estimate them from a million draws. Then predict from the
# variance alone what :func:`cnnhw.theory.max_signal` gives for a signal of one standard deviation in all four cells, and check it.
#
# .. solution::

draws = torch.randn(1_000_000, 4).amax(1)
print(f"mean {draws.mean():.2f}, variance {draws.var():.2f}")
assert abs(1 / float(draws.std()) - theory.max_signal(4, 1.0)) < 0.01

# %%
# A signal in all cells shifts the maximum, and leaves its spread as it is. So :math:`d'` is the shift over the standard deviation, :math:`1 / 0.70 = 1.43`.
#
# .. end-solution::
#
# **4. A photo that moves by one pixel** ★★ Which way of halving a picture changes the least if the picture moves by one pixel? Predict the order,
# then measure the mean change on scenes, in standard deviations of the result.
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
# Taking every second cell changes the most. Average and maximum are close: where neighbours are alike, so are their mean and their maximum.
#
# .. end-solution::
#
# **5. When does the average overtake?** ★★★ A signal of two standard deviations fills :math:`k` of :math:`n` cells. From which :math:`k` on
# does the average detect it at least as well as the maximum, for windows of 2x2, 3x3 and 4x4 cells? Predict first, and say what that means for
# global average pooling.
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
# The share falls: averaging many cells takes so much noise away that a signal in a modest part of them is enough. Over a whole map, an average
# favours features that fill a part of the photo; one that sits in a single cell is a case for the maximum.
#
# .. end-solution::
#
# .. provenance:: ii_pooling live
