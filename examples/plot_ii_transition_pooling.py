"""
ii. Why does DenseNet's transition layer average?
=================================================

**The question.** Between its dense blocks, :term:`DenseNet` has a :term:`transition layer <transition>` that ends in *average* pooling, where most
networks of its time take the :term:`maximum <max pooling>`. Why?

**The short answer.** The paper does not say, and does not test it. Three reasons can be checked. It makes the layer
*linear* after its ReLU, so that pooling can go before the 1x1 convolution on a quarter of the cells, with the same result exactly. Of a signal that
fills the window it keeps more than the maximum does, and of a signal in a single cell less. And it is a low-pass filter:

* predictions are steadier when the photo shifts: the share that stays is :effect:`ii-consistency` higher than with the maximum, and
  :effect:`ii-strided-consistency` higher than with every second cell;
* accuracy hardly depended on it: average minus maximum, :effect:`ii-accuracy`. Taking every second cell cost accuracy:
  the average is ahead of it by :effect:`ii-strided-accuracy`.
"""

# %%
# What the paper says
# -------------------
#
# .. drawing:: dense
#
# Huang et al. :cite:p:`huang2017densely` describe the transition as batch norm, a 1x1 convolution and 2x2 :term:`average pooling`. They
# give no reason for the average, and compare it with nothing else. It cannot be essential: by their Table 1, the networks for
# ImageNet take a 3x3 maximum with a stride of 2 after the first 7x7 convolution, and two relatives take a maximum in the transition
# itself, DSOD :cite:p:`shen2017dsod` and FC-DenseNet :cite:p:`jegou2017fcdensenet`.
#
# Averaging and the convolution can be exchanged
# ----------------------------------------------
#
# After the ReLU, a 1x1 convolution mixes channels at each place, :math:`y_p = W x_p`, and averaging mixes places in each
# channel. Both are linear and act on different axes, so
#
# .. math:: \tfrac14 \sum_p W x_p = W \Big( \tfrac14 \sum_p x_p \Big).
#
# The right-hand side does the multiplications on a quarter of the cells. No non-linearity stands between the two, and the
# result is the same; for the maximum it is not. :explore:`The explorer <network=dense&layer=transition2.2&photo=china.jpg>` shows
# a trained transition's convolution, and, behind its ReLU switch, what averaging leaves of it.

import torch
from matplotlib import pyplot as plt

import cnnhw
from cnnhw import plots, theory
from cnnhw.book.registry import MEASURES
from cnnhw.models.dense import transition_layer

x = torch.randn(2, 48, 16, 16)


def exchanged(kind, other):
    """Return the largest difference between two transition layers with the same weights."""
    first, second = (transition_layer(48, 24, name).eval() for name in (kind, other))
    second.load_state_dict(
        dict(zip(second.state_dict(), first.state_dict().values(), strict=True))
    )
    with torch.no_grad():
        return float((first(x) - second(x)).abs().max())


print(
    f"average after or before the convolution: {exchanged('average', 'average_first'):.1e}"
)
print(f"maximum after or before the convolution: {exchanged('max', 'max_first'):.2f}")
assert exchanged("average", "average_first") < 1e-6
for kind in ("average", "average_first"):
    model = cnnhw.models.create("dense", size=32, transition=kind)
    found = [
        layer
        for layer in theory.layers(model)
        if layer.name.startswith("features.transition")
    ]
    print(
        f"{kind:14} multiply-adds of both transitions: {sum(layer.macs for layer in found):,}"
    )

# %%
# Signal and noise
# ----------------
#
# Take a window of four cells with independent normal noise, and a signal in some of them. How well does what is left after
# pooling tell whether the signal was there? The measure is :math:`d'`, the shift of the mean in standard deviations. For the
# average it is :math:`A k / \sqrt 4` with amplitude :math:`A` in :math:`k` cells. For the maximum it takes an integral. Lines
# are calculated, crosses simulated:

amplitudes = [0.5 * step for step in range(9)]
generator = torch.Generator().manual_seed(0)
series = {}
for active in (1, 2, 4):
    for name, function in (
        ("average", theory.average_signal),
        ("max", theory.max_signal),
    ):
        series[f"{name}, {active} of 4 cells"] = [
            [(a, function(active, a)) for a in amplitudes]
        ]


def simulated(active, amplitude, pool):
    """Return d' of a pooled window by simulation."""
    noise = torch.randn(40000, 4, generator=generator)
    signal = torch.randn(40000, 4, generator=generator)
    signal[:, :active] += amplitude
    with_it, without = pool(signal), pool(noise)
    spread = ((with_it.var() + without.var()) / 2).sqrt()
    return float((with_it.mean() - without.mean()) / spread)


figure = plots.against(
    series,
    "amplitude of the signal, in standard deviations of the noise",
    "d' after pooling",
    "How well a signal in one, two or four of four cells is told after pooling",
)
for active in (1, 2, 4):
    for pool in (lambda v: v.mean(1), lambda v: v.max(1).values):
        points = [simulated(active, a, pool) for a in amplitudes[1::2]]
        figure.axes[0].plot(amplitudes[1::2], points, "x", color="0.3", markersize=5)
plt.show()

# %%
# So "max pooling keeps the strongest, average pooling the weak ones" is half of it: which one keeps *more* depends on how
# many cells carry the signal. If maps between dense blocks are smooth, so that neighbouring cells agree, the average has the
# advantage; for thin edges the maximum has. Whether they are smooth was not measured here.
#
# **Gradient.** The maximum sends the gradient to one cell of four, the average an equal part of it to each of the four:

for kind in ("average", "max"):
    inputs = torch.randn(4, 48, 16, 16, requires_grad=True)
    pool = torch.nn.AvgPool2d(2) if kind == "average" else torch.nn.MaxPool2d(2)
    (gradient,) = torch.autograd.grad(pool(inputs).sum(), inputs)
    print(
        f"{kind:8} share of cells with a gradient: {float((gradient != 0).float().mean()):.2f}"
    )

# %%
# Aliasing, and what a shift does
# -------------------------------
#
# .. drawing:: stripe
#
# Taking every second cell of a map, as a :term:`stride` of two does, folds high frequencies into low ones: :term:`aliasing`. An average over 2x2 cells is itself a low-pass
# filter, if a crude one; a maximum is not. Zhang :cite:p:`zhang2019shift` made networks steadier under shifts, and a little
# more accurate, by blurring before each reduction.
#
# .. widget:: shift
#    :title: Try it: shift and pool
#
#    A map moves to the right by a cell, and is pooled in three ways. What comes out should move, too, and not change
#    otherwise. After an odd number of cells it cannot just move, as it has one cell for two. How much it changes
#    depends on the signal: try the texture, whose columns take turns.
#
# The experiment: a DenseNet-BC with three blocks of four layers, :term:`growth <growth rate>` 12, on 32-pixel photos of ``tiny5``; five kinds of
# transitions, six seeds; everything else the same. :term:`Consistency <shift consistency>` is the share of test photos whose predicted class stays
# when the photo moves by one to four pixels right and down.

records = cnnhw.studies.records("transition")
kinds = ("average", "average_first", "max", "max_first", "strided")
for what, measure in (
    ("test accuracy", MEASURES["accuracy"]),
    ("consistency under shifts", MEASURES["shift consistency"]),
):
    found = {kind: [measure(r) for r in records if r.arm == kind] for kind in kinds}
    title = f"{what.capitalize()}, by kind of transition"
    figure = plots.strip(found, what, title)
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
# ``average_first`` computes the same function as ``average``; training amplifies rounding errors, so the gap between their rows
# shows how large chance differences are.
#
# What these runs cannot tell: how the accuracies of average and maximum differ within the interval above. Nor do two transitions on
# small maps say much about large ones: on ImageNet-sized maps there is more to alias.
#
# What the original report said, and why it differed
# --------------------------------------------------
#
# It cited a paper named *DenseNet* :cite:p:`iandola2014densenet`, which is about stitching image pyramids and shares only the
# name: an easy slip, as it is the older of the two. Its argument, that a maximum keeps the largest cell and an average also
# keeps weak ones, which may be edges, is right as far as it goes. It leaves out that both keep one number of four, and
# that thin edges fill few cells, where the maximum keeps more.
#
# **What would have refuted it.** The anti-aliasing reason: predictions that are no steadier. "It matters for accuracy": an
# interval within 2.5 points of zero.
#
# Exercises
# ---------
#
# How to work on them, and what the stars mean: :ref:`the page for students <exercises>`.
#
# **1. What does the exchange save?** ★ A transition has 256 channels in, 128 out, on a map of 28x28 cells. How many
# multiply-adds does it take with the convolution first, and with the average first? Is the ratio the same in the
# transitions of the network above?
#
# .. solution::

after, before = 28 * 28 * 256 * 128, 14 * 14 * 256 * 128
print(f"{after:,} and {before:,}")
costs = {}
for kind in ("average", "average_first"):
    found = theory.layers(cnnhw.models.create("dense", size=32, transition=kind))
    costs[kind] = sum(
        layer.macs for layer in found if layer.name.startswith("features.transition")
    )
assert after / before == costs["average"] / costs["average_first"] == 4

# %%
# .. end-solution::
#
# **2. Aliasing in one line** ★ Stripes that alternate from cell to cell are pooled by average, by maximum, and by
# taking every second cell; then the stripes move by one cell. Which results change?
#
# .. solution::

stripes = torch.tensor([1.0, 0.0] * 4)[None, None]
moved = stripes.roll(1)
changes = {}
for name, pool in (
    ("average", torch.nn.AvgPool1d(2)),
    ("maximum", torch.nn.MaxPool1d(2)),
    ("every second", lambda v: v[..., ::2]),
):
    print(f"{name:13} {pool(stripes)[0, 0].tolist()} {pool(moved)[0, 0].tolist()}")
    changes[name] = not torch.equal(pool(stripes), pool(moved))
assert changes == {"average": False, "maximum": False, "every second": True}

# %%
# Only taking every second cell changes, from all ones to all zeros.
#
# .. end-solution::
#
# **3. The maximum of four** ★★ What are mean and variance of the maximum of four standard normal numbers? Draw them.
# Then predict from the variance alone what :func:`cnnhw.theory.max_signal` gives for a signal of one standard deviation
# in all four cells, and check it.
#
# .. solution::

draws = torch.randn(1_000_000, 4, generator=generator).max(1).values
print(f"mean {draws.mean():.2f}, variance {draws.var():.2f}")
predicted, exact = 1 / float(draws.std()), theory.max_signal(4, 1.0)
print(f"d' predicted {predicted:.2f}, by integration {exact:.2f}")
assert abs(predicted - exact) < 0.01

# %%
# A signal in all cells shifts the maximum by as much as each cell, and leaves its spread as it is. So :math:`d'` is the
# shift over the standard deviation.
#
# .. end-solution::
#
# **4. A photo that moves by one pixel** ★★ Which way of halving a picture changes the least if the picture moves by one
# pixel: average, maximum, or every second cell? Predict the order, then measure it on scenes, as the mean change in
# units of the result's standard deviation.
#
# .. solution::

from cnnhw.data import scenes

pictures = scenes.draw(50, size=64).images.float().mean(1, keepdim=True)
still, moved = pictures[..., 1:63], pictures[..., :62]
change = {
    name: float((pool(moved) - pool(still)).abs().mean() / pool(still).std())
    for name, pool in (
        ("average", torch.nn.AvgPool2d(2)),
        ("maximum", torch.nn.MaxPool2d(2)),
        ("every second", lambda v: v[..., ::2, ::2]),
    )
}
print(", ".join(f"{name} {value:.2f}" for name, value in change.items()))
assert max(change["average"], change["maximum"]) < change["every second"] / 1.2

# %%
# Taking every second cell stands out, as expected. Average and maximum are nearly level here: where neighbours are
# alike, so are their mean and their maximum. What one picture changes and what a trained network makes of the change
# are two questions; the second one has the claim above.
#
# .. end-solution::
#
# **5. When does the average overtake?** ★★★ A signal of two standard deviations fills :math:`k` of :math:`n` cells.
# From which :math:`k` on does the average tell it at least as well as the maximum, for windows of 2x2, 3x3 and 4x4
# cells? Does larger pooling make the average need a larger share of the window, or a smaller one? Predict first, and
# say what that means for global average pooling.
#
# .. solution::

overtakes = {
    cells: next(
        active
        for active in range(1, cells + 1)
        if theory.average_signal(active, 2.0, cells)
        >= theory.max_signal(active, 2.0, cells)
    )
    for cells in (4, 9, 16)
}
for cells, active in overtakes.items():
    print(f"{cells:2} cells: from {active} on, {active / cells:.2f} of the window")
shares = [active / cells for cells, active in overtakes.items()]
assert shares == sorted(shares, reverse=True)

# %%
# The share falls: averaging many cells takes so much noise away that a signal in a modest part of them is enough. Over
# a whole map, an average therefore favours features that fill a part of the photo; one that sits in a single cell is
# a case for the maximum.
#
# .. end-solution::
#
# .. provenance:: transition
#
# .. provenance:: live
