"""
Q2. What do residual connections change?
========================================

**The question.** Residual connections are added to the network of Q1. What becomes of its accuracy, and of the speed at which it
converges?

*Fifteen minutes. You need the chain rule and Q1. Then you can say what such a connection does to a gradient, and where it matters.*

**The answer.** In the report's second network for Q1, of four plain convolutions, they :finding:`q2-deep add {effect} to the
accuracy/cost {effect}/make no difference that matters: {effect}/make a difference that these runs cannot tell from none: {effect}`. What they add to the accuracy :finding:`q2-depth
grows with depth: at depth 20 they add more than at depth 8, by {effect}/shrinks with depth: at depth 20 they add less than at depth 8, by
{effect}/differs by less than {delta} between depth 8 and depth 20: {effect}/may grow or shrink with depth: {effect}`.

* *By depth,* in small ResNets on photos of 32 pixels: :record:`q2_depth/d8_plain accuracy` without and :record:`q2_depth/d8_residual
  accuracy` with connections at depth 8, :record:`q2_depth/d20_plain accuracy` and :record:`q2_depth/d20_residual accuracy` at depth 20.
* *Convergence,* as the training loss, averaged over all epochs (less is sooner): at depth 20 connections change it by :effect:`q2-depth-loss`.
  In the report's network that loss is :record:`q2_deep/plain loss area` without and :record:`q2_deep/residual loss area` with them.
"""

import torch
from matplotlib import pyplot as plt

import cnnhw
from cnnhw.book import q2
from cnnhw.data import scenes

q2.gains()
plt.show()

# %%
# Bars, and brackets behind an effect, are 95 % intervals; what decides no question is grey.
#
# The idea and the argument
# -------------------------
#
# .. drawing:: shortcuts
#
# A residual block adds its input to what it computes, :math:`y = x + F(x)` :cite:p:`he2016deep`. With weights of zero the block is the
# identity. So a deeper network of such blocks can do all that a shallower one can, and has to learn only what is to be *changed* about
# :math:`x`.
#
# **What gradient arrives?** Let :math:`L` be the loss. The chain rule gives
#
# .. math:: \frac{\partial L}{\partial x} = \frac{\partial L}{\partial y}\,\big(I + F'(x)\big),
#
# and through :math:`n` blocks a product of brackets, which begins with :math:`I` when it is multiplied out:
#
# .. math:: \prod_{i=1}^{n} (I + F_i') = I + \sum_i F_i' + \sum_{i<j} F_j' F_i' + \dots
#
# A plain network has only the last term, :math:`F_n' \cdots F_1'`. If every :math:`F_i'` shrinks the gradient, the plain product vanishes
# as :math:`n` grows; the sum keeps its term :math:`I`.
#
# **In numbers.** If each of nine blocks has :math:`F' = 0.5`, the plain product is :math:`0.5^9 \approx 0.002`, the residual one
# :math:`1.5^9 \approx 38`; with :math:`F' = 0.1` they are :math:`10^{-9}` and :math:`1.1^9 \approx 2.4`. The identity cures small
# gradients, not large ones: :term:`batch norm <batch normalisation>` :cite:p:`ioffe2015batchnorm`, or branches that begin small, have to keep the sum in bounds.
#
# **What stands in the way?** In the blocks of He et al., and in ours, a ReLU follows the addition. Where that ReLU outputs zero, the
# gradient is blocked, so the identity path exists only where the sum is positive. (Where normalisation and ReLU come first
# :cite:p:`he2016identity`, as in chapter i, the path is clear.) And where :math:`F` changes the shape of the map, a pooled 1x1 convolution,
# the :term:`projection`, takes the place of :math:`I`: a second, short path, but no identity. So the argument predicts little for a network
# of four convolutions, and more for deep ones.
#
# .. widget:: gradient
#    :title: Try it: the gradient, block by block
#
#    A random network of blocks runs forwards and backwards in your browser. The line is the length of the gradient at each block. Without
#    shortcuts, each block multiplies it by a gain of its own; with shortcuts, a path leads past all blocks. Batch norm sets the gain anew.
#
# **What arrives in fact?** Here is the gradient of the loss by the weights of the first convolution, in networks of several depths with
# their :term:`initial weights <initialisation>`, computed live on generated scenes of 16 pixels, three seeds each.

pictures = scenes.load(size=16, train=1000, test=200, progress=False)
found = q2.first_gradients(pictures)  # each of shape (seeds, depths)
q2.gradients(found)
plt.show()
plain, residual = (torch.tensor(rows) for rows in found["without batch norm"].values())
assert plain[:, -1].mean() < plain[:, 0].mean()  # vanishes
assert residual[:, -1].mean() > residual[:, 0].mean()

# %%
# Without batch norm, the plain network's gradient shrinks with depth, and the residual network's grows, as the sum does if nothing holds it
# back. With batch norm neither vanishes. He et al. :cite:p:`he2016deep` say the same of theirs: vanishing gradients are not what ails plain
# networks that have batch norm. A gradient of good size may still be of little use, if it points elsewhere a step further on.
#
# The experiment
# --------------
#
# These are the small ResNets of He et al.: a :term:`stem`, three stages of blocks of two 3x3 convolutions each, with 16, 32 and 64
# channels, an average, and one linear layer. The first block of the second and of the third stage halves the map and doubles the channels,
# so its shortcut is a projection; all others are the identity. The plain networks are the same without shortcuts.
#
# * **Varied:** shortcuts or none; depth 8 or 20.
# * **Held:** photos (half of the training photos of ``tiny5``, the stand-in for Linnaeus 5, at 32 pixels), recipe, width, batch norm, and
#   48 epochs. Each seed draws initial weights, order, augmentation, and the cut into training and validation photos.
# * **Tuned:** each network's learning rate, from five or more, on training photos that the study leaves aside. **Asked:** the gain at depth
#   20 minus the gain at depth 8.
#
# The second study asks about the report's second network for Q1, ``q1_deep``, at 64 pixels, on a quarter of the training photos. Each of its
# four convolutions changes channels and map, so there is no place for an identity: ``q1_deep_residual`` has a projection around the first two
# and one around the last two. Around a single one it would be pointless: with nothing non-linear between its ends, the sum of two convolutions
# is a convolution.
#
# .. soundness:: q2_depth q2_deep
#
# What the runs say
# -----------------
#
# .. question:: q2-depth
#    :verdict: supported
#
# .. question:: q2-deep
#    :verdict: supported

q2.losses()
plt.show()

# %%
# Lines are means over seeds, bands reach from the lowest to the highest run. **Time is another matter.** The report found its residual
# network faster by the epoch, and called that convergence. Projections and additions take time, too; exercise 1
# counts the projections' weights, which do not say how much.
# **Published:** He et al. :cite:p:`he2016deep`, ImageNet, with batch norm: plain and residual networks of 18 layers leave errors of
# ``27.94`` and ``27.88`` in 100, and at 34 layers ``28.54`` and ``25.03``. There, too, only the deeper one gains.
#
# .. trained:: q2_depth q2_deep
#
#    d8_plain: depth 8, plain
#    d8_residual: depth 8, residual
#    d20_plain: depth 20, plain
#    d20_residual: depth 20, residual
#    plain: q1_deep
#    residual: q1_deep, with connections
#
# A slice of the loss
# -------------------
#
# Do shortcuts smooth the loss? Each network is trained twice, live, from the *same* start, with the photos in another order. The three span
# a plane, on which the loss can be drawn :cite:p:`garipov2018loss`.

q2.slices(pictures, cnnhw.Recipe(epochs=5, learning_rate=3e-3))
plt.show()

# %%
# Li et al. :cite:p:`li2018visualizing` show such pictures for networks of 56 layers and more: craggy without connections and smooth with
# them; at 20 layers, theirs are smooth as well. A plane of two dimensions out of tens of thousands is an illustration and no evidence.
#
# What the original report said, and why it differed
# --------------------------------------------------
#
# It found its residual network less accurate than the plain one (:reported:`q2_concat_skip test_accuracy` against
# :reported:`q1_deep test_accuracy`), quicker by the epoch, and sooner converged; and blamed little data. But that network has no
# :term:`residual connection`. Both of its "connections" resize a map, project it by a 1x1 convolution with a ReLU, and *concatenate* the
# result: nothing is added, and no path leads through unchanged. Its maps shrink for want of padding, its batches have 128 photos in place
# of 32, its pixels were not divided by 255, and each network was trained once. So the report compared a smaller network on raw pixels with
# a larger one; about residual connections its figures say nothing. :doc:`plot_report_faults` takes some of these differences apart. What the
# concatenated copies do by themselves is :paired:`faults/concat no_concat`; trained again as reported, the network reaches
# :record:`report/q2_concat_skip last`. (Concatenation as such is no mistake: DenseNet :cite:p:`huang2017densely` is built on it.)
#
# .. admonition:: Three misconceptions
#
#    * *Gradients vanish without shortcuts.* Where there is batch norm they do not, as the figure above shows.
#    * *One rate is fair to both.* Part of a gap can be the rate's, so the rate has to be tuned for each.
#    * *A projection is free.* It adds weights, if few, and time.
#
# .. dropdown:: Check yourself: all weights of a block are zero. What are its output and the gradient of its input?
#
#    The output is the input (after the ReLU), and the gradient passes unchanged where the input is positive.
#
# **Remember three things.** A shortcut adds the input back, so the gradient keeps a path of additions. That matters in deep networks. To
# concatenate a resized copy is something else. **What these runs cannot tell:** in the study of depth, photos are of 32 pixels, nothing is
# deeper than 20, where published gains begin, and all networks have batch norm.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. What do the projections cost?** ★ Count the parameters of the two shortcuts of ``q1_deep_residual``. What is their share?
#
# .. solution::

added = (3 * 32 + 32) + (32 * 128 + 128)  # two 1x1 convolutions with biases
models = (cnnhw.models.create(f"q1_deep{end}") for end in ("", "_residual"))
plain, residual = map(cnnhw.models.count_parameters, models)
assert plain + added == residual
print(f"{added:,} of {residual:,}: {added / residual:.2%}")

# %%
# .. end-solution::
#
# **2. Twenty blocks with one number** ★ Let each :math:`F(x) = w x` with one weight. By what is the gradient multiplied on its way through
# 20 of them, without and with connections, for :math:`w` = 0.5, 0.1 and -0.1?
#
# .. solution::

for w in (0.5, 0.1, -0.1):
    x = plain = joined = torch.ones((), requires_grad=True)
    for _ in range(20):
        plain, joined = w * plain, joined + w * joined
    slopes = [float(torch.autograd.grad(y, x)[0]) for y in (plain, joined)]
    print(f"w = {w:4}: plain {slopes[0]:9.1e}, residual {slopes[1]:9.1e}")
    assert abs(slopes[1] / (1 + w) ** 20 - 1) < 1e-4

# %%
# The plain product vanishes for all of them. With connections it neither vanishes nor stays: a norm has to keep it in bounds.
#
# .. end-solution::
#
# **3. Concatenating is adding** ★★ Show that a convolution after a concatenation is the sum of two convolutions, one of each part.
#
# .. solution::

conv = torch.nn.functional.conv2d
weight, (one, other) = torch.rand(6, 8, 3, 3), torch.rand(2, 2, 4, 10, 10)
whole = conv(torch.cat([one, other], 1), weight)
parts = conv(one, weight[:, :4]) + conv(other, weight[:, 4:])
assert torch.allclose(whole, parts, atol=1e-4)

# %%
# So the report's network does add, one convolution later. What it lacks is a path on which nothing has to be learnt.
#
# .. end-solution::
#
# **4. An interval by hand** ★★★ Take the records of depth 20. Calculate the :term:`paired difference` in test accuracy, a figure a seed,
# and Student's interval of their mean. What does that of :func:`cnnhw.studies.statistics.of_arms` allow for that this one does not?
#
# .. solution::

import numpy as np
from scipy import stats

from cnnhw.studies.statistics import of_arms

runs = sorted(cnnhw.studies.records("q2_depth"), key=lambda run: run.seed)
arms = "d20_residual", "d20_plain"
one, other = (np.array([r.accuracy() for r in runs if r.arm == arm]) for arm in arms)
whole, by_seed = of_arms(runs, *arms), stats.sem(one - other)
assert abs(whole.effect - (one - other).mean()) < 1e-9
for stderr, df in ((by_seed, len(one) - 1), (whole.stderr, whole.df)):
    half = 100 * stats.t.ppf(0.975, df) * stderr
    print(f"{100 * whole.effect:+z.1f} +- {half:.2f} points, {df:.1f} df")

# %%
# The first interval is for other seeds on the *same* 2,000 photos. The second one allows for other photos, too. Part of it rests on 2,000
# photos and not on eight seeds, which gives it more degrees of freedom :cite:p:`satterthwaite1946`.
#
# .. end-solution::
#
# .. provenance:: q2_depth q2_deep live
