"""
i. How long should a residual connection be?
============================================

**The question.** A :term:`residual connection` skips some convolutions. When should it be long, and when short? What does that depend on?

*Fifteen minutes. You need Q2. Then you can say what a connection's length changes, and what it does not.*

**The answer.** Keep it short, about two convolutions, as explored runs suggest: a long block is a deep plain network again, and hard to train. What
connections bring depends on depth, and on batch norm. Tested was this: in 24 convolutions with batch norm, connections over two, compared with none,
:finding:`i-span raise the accuracy by {effect}/lower the accuracy by {effect}/change the accuracy by less than {delta}: {effect}/may raise or lower the accuracy: {effect}`.
Whether harder problems deserve longer ones, as the original report (a student's homework) has it, stays undecided. What follows is explored only, and
decides nothing:

* *Length,* on photos, in 24 convolutions, 8 epochs: over six against two, :paired:`length/d24_span6 d24_span2`; over one against two,
  :paired:`length/d24_span1 d24_span2`.
* *Depth:* in 12 convolutions, over two against none, :paired:`length/d12_span2 d12_plain`. *Without batch norm,* in 24: an accuracy of
  :record:`length/d24_plain_no_norm accuracy` without connections, where guessing gives one in five, and :record:`length/d24_span2_no_norm accuracy`
  with connections over two.
* *Harder problems:* over six against two, :paired:`i_harder/75_span6 75_span2` on harder scenes (generated pictures), and
  :paired:`i_harder/58_span6 58_span2` on easier ones. The difference of the two is :effect:`i-harder`.
"""

import torch
from matplotlib import pyplot as plt

import cnnhw
from cnnhw import theory
from cnnhw.book import i
from cnnhw.data import scenes
from cnnhw.evaluation import segmentation
from cnnhw.models.residual import Span

i.gains()
plt.show()

# %%
# Bars, and the numbers in brackets behind an effect, are 95 % intervals. Grey: explored, or preliminary (8 epochs, one learning rate for all).
#
# The idea and the argument
# -------------------------
#
# .. drawing:: spans
#
# **Unravelled.** A residual block computes :math:`y = x + F(x)`; :math:`F` is its *branch*, :math:`F'` the branch's derivative. Backpropagation through
# :math:`n` blocks multiplies the gradient by :math:`(I + F_1') \cdots (I + F_n')`. Multiplied out, that is a sum over :math:`2^n` paths, each through
# some branches and around the others :cite:p:`veit2016residual`. With :math:`D` convolutions in blocks of :math:`l`, the connection's :term:`span`, a
# path has
#
# .. math:: l \cdot \mathrm{Binomial}(D/l,\, 1/2)
#
# convolutions: on average :math:`D/2` *for every* :math:`l`. **In numbers:** 24 convolutions in blocks of two make :math:`2^{12} = 4{,}096`
# paths, in blocks of six :math:`2^4 = 16`; both sets have 12 convolutions on average, with a standard deviation, :math:`\sqrt{lD}/2`, of
# 3.5 and of 6. So a longer connection does not make paths shorter; it makes fewer of them, and spreads them out.

i.lengths()
plt.show()

# %%
# **The way around a block is the same for every length.** A block multiplies the :term:`gradient` by :math:`I + F'`: what arrives at its output
# reaches its input intact, plus a correction, whatever :math:`l` is. What :math:`l` decides is how deep a branch is.
#
# * :math:`l = 1`, and a *linear* branch: :math:`y = x + Wx` is what a convolution can be by itself (exercise 2), and no easier to train
#   :cite:p:`he2016deep,li2016demystifying`. With normalisation and ReLU first, the order used here :cite:p:`he2016identity`, the block is
#   :math:`y = x + W\,\mathrm{relu}(\mathrm{norm}(x))`, which no convolution can absorb.
# * :math:`l = 2` and more: a non-linearity stands *between two convolutions*, so the branch is a small network and not one layer. In Wide
#   ResNets on CIFAR-10, at equal parameters :cite:p:`zagoruyko2016wide`, blocks of 1, 2, 3 and 4 convolutions leave errors of ``6.69``,
#   ``5.43``, ``5.65`` and ``5.93`` in 100. For large :math:`l` the branch is itself a deep plain network, which is hard to optimise.
#
# **Which paths carry the gradient?** Not all alike. With batch norm :cite:p:`ioffe2015batchnorm` what is passed on from block to block, the
# stream :math:`x`, grows with each addition, while each branch is normalised: later branches count less :cite:p:`de2020batch`. This book
# has a formula of its own for the mean length of paths, weighted by their gradient, in fully connected networks before training. The factor
# :math:`a` is by how much a layer with ReLU and batch norm enlarges the squared gradient:
#
# .. math:: l \sum_{i=1}^{D/l} \frac{a^l}{i + a^l}, \qquad a = \frac{\pi}{\pi - 1}.
#
# Here it is put to the test on convolutions, live. Multiply the gradient through each branch by :math:`t`. A path through :math:`k` branches is then
# multiplied by :math:`t^k`. So the growth of the gradient with :math:`t`, relative to its size, at :math:`t = 1`, is the mean :math:`k`; times
# :math:`l`, that is convolutions. (There are two stages of 12, so the formula is applied to each.)

images = scenes.draw(128, size=32).images.float() / 255
labels = torch.arange(128) % 5  # any will do: the networks know nothing of classes yet
i.paths(i.carried(images, labels))
plt.show()

# %%
# With batch norm, the formula gets the trend right and most numbers too low. The way around a block is always open; but each layer of a branch enlarges
# the gradient (that is :math:`a`), so where the length comes near 24, almost all of it has gone through the branches.
#
# The experiment
# --------------
#
# * **Varied:** connections over two, or none, in 24 convolutions of 3x3. Two more, the stem and one between the two stages, halve the map.
# * **Held:** half of the training photos of ``tiny5``, the stand-in for Linnaeus 5, the recipe, and its 48 epochs. Each seed draws initial
#   weights, order, augmentation, and the cut into training and validation photos.
# * **Tuned:** each network's :term:`learning rate`, from five or more, on training photos that the study leaves aside.
#
# A second study explores the report's own question on a quarter of the training scenes. On harder ones, objects vary more in size and angle, in more
# clutter and noise: connections over two reach :record:`i_harder/75_span2 accuracy` there, and :record:`i_harder/58_span2 accuracy` on easier ones. If
# harder problems deserve longer connections, those over six gain more, compared with two, on the harder ones. (Twice as many epochs would still change
# these accuracies, as the table says: so this study decides nothing.)
#
# .. soundness:: i_span i_harder
#
# What the runs say
# -----------------

i.losses()
plt.show()

# %%
# Where the loss stays high on a network's own *training* photos, the trouble is not overfitting, but optimisation.
#
# .. question:: i-span
#    :verdict: supported
#
# **Lesions.** If a residual network is a sum over paths, deleting a block, which leaves half of the paths, should cost it less than a plain network,
# which has one path. Blocks, or single convolutions of the plain network, were drawn at random, eight times.

i.lesions()
plt.show()

# %%
# Lines are means over seeds. With all convolutions and without two: :record:`i_span/span2 accuracy` and :record:`i_span/span2 accuracy without
# 2 convolutions` with connections, :record:`i_span/span0 accuracy` and :record:`i_span/span0 accuracy without 2 convolutions` without any.
#
# .. trained:: i_span i_harder
#
#    span0: 24 convolutions, no connections
#    span2: connections over two
#    58_span2: connections over two, easier scenes
#    58_span6: connections over six, easier scenes
#    75_span2: connections over two, harder scenes
#    75_span6: connections over six, harder scenes
#
# An aside: long connections, for another purpose
# -----------------------------------------------
#
# Some networks first shrink the map, in the encoder, and then enlarge it again, in the decoder. Connections across both hand the encoder's maps
# to the decoder :cite:p:`ronneberger2015unet`. They bring back *where* things are, which pooling has thrown away, and restore detail
# :cite:p:`drozdzal2016importance`. Here a small network learns, live, to mark the object in a scene; without connections, its decoder gets zeros
# in place of those maps. The share of pixels near the object's edges that are marked correctly, three
# seeds each, too few to conclude from:

draw = {"size": 48, "controls": scenes.EASY}
train, test = scenes.draw(300, **draw), scenes.draw(100, first=100000, **draw)
for long, words in ((True, "with connections"), (False, "without")):
    find = [segmentation.find_objects(train, test, long=long, seed=s) for s in range(3)]
    print(f"{words:17}", ", ".join(f"{one.edge:.2f}" for one in find))

# %%
# What the original report said, and why it differed
# --------------------------------------------------
#
# First, a residual network is an ensemble of shallow ones, so that choosing a few long blocks or many short ones is a matter of tuning: a good reading.
# Second, weights multiply in backpropagation, so that length acts exponentially: this overlooks the identity path, along which nothing multiplies.
# Third, harder problems deserve longer blocks: that is what the second study explores.
#
# .. admonition:: Three misconceptions
#
#    * *A longer connection gives a better gradient.* The path past a block is the same whatever the block holds.
#    * *Connections help because gradients would vanish.* With batch norm, those of plain networks do not, either :cite:p:`he2016deep`.
#    * *A connection over one convolution is useless.* That holds for a linear branch; the branches here contain a ReLU.
#
# .. dropdown:: Check yourself: 24 convolutions in blocks of three. How many paths are there, and how long is the shortest?
#
#    Eight blocks make :math:`2^8 = 256` paths. The shortest goes around all blocks, through none of the 24 convolutions.
#
# **Remember three things.** If every path counts equally, paths have :math:`D/2` convolutions on average, whatever the span; weighted by gradient, the
# average depends on the span. The way around a block is the same for every length. And a long block is a deep plain network. **What these runs cannot
# tell:** what other kinds of initialisation do, and what happens beyond 24 convolutions.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. Count paths** ★ A network has 24 convolutions in blocks of 2. What share of its paths has 8 to 16 convolutions? Calculate it with
# binomial coefficients, and check it with :func:`cnnhw.theory.path_lengths`.
#
# .. solution::

by_hand = (495 + 792 + 924 + 792 + 495) / 2**12
lengths = theory.path_lengths(24, 2)
share = sum(share for length, share in lengths.items() if 8 <= length <= 16)
assert abs(share - by_hand) < 1e-12
print(f"{share:.3f}")

# %%
# .. end-solution::
#
# **2. The identity for free** ★ Show that a 3x3 convolution can absorb the connection around it, if no non-linearity stands between.
#
# .. solution::
#
# The identity is a kernel with 1 in its middle, from each channel to itself: add it to the weights.

conv, x = torch.nn.Conv2d(4, 4, 3, padding=1), torch.rand(1, 4, 8, 8)
expected = x + conv(x)
conv.weight.data[range(4), range(4), 1, 1] += 1
assert torch.allclose(conv(x), expected, atol=1e-6)

# %%
# .. end-solution::
#
# **3. Fifty-four blocks** ★★ Veit et al. find that nearly all of the gradient in a network of 54 blocks comes from paths through 5 to 17 of them. What
# share of all paths are these? Suppose that a path through :math:`k` blocks carries a gradient in proportion to :math:`t^k`. For which :math:`t` is
# the mean :math:`k` in the middle of that range, 11, and what share of the gradient do those paths then carry?
#
# .. solution::
#
# Weighted by :math:`t^k`, the distribution is binomial again, with :math:`t/(1+t)` in place of one half; so the mean is
# :math:`54\,t/(1+t)`.

lengths = theory.path_lengths(54, 1)
t = 11 / (54 - 11)
carried = {k: part * t**k for k, part in lengths.items()}
parts = (lengths, carried)
share, gradient = (sum(list(p.values())[5:18]) / sum(p.values()) for p in parts)
print(f"{100 * share:.2f} of 100 paths; t = {t:.2f}, {gradient:.2f} of the gradient")
assert share < 0.01 < 0.95 < gradient

# %%
# .. end-solution::
#
# **4. Branches that begin at zero** ★★★ Set the weights of the last convolution of each branch to zero, as some recipes do at the start. What is
# the mean length of paths then, weighted by gradient? Predict it, then measure it with ``theory.measured_path_length`` on the images above. How
# can such a network learn at all? (A branch over two is norm, ReLU, convolution, twice.)
#
# .. solution::

model = cnnhw.models.create("residual", size=32, seed=0, span=2)
blocks = [part for part in model.modules() if isinstance(part, Span)]
for block in blocks:
    block.branch[-1].weight.data.zero_()
length = theory.measured_path_length(model, images, labels)
loss = torch.nn.functional.cross_entropy(model(images[:32]), labels[:32])
ends = [blocks[0].branch[2].weight, blocks[0].branch[5].weight]
first, last = (found.norm() for found in torch.autograd.grad(loss, ends))
print(f"length {length:.1f}; gradient at a branch's ends {first:.1f}, {last:.3f}")
assert length == 0 == first < last

# %%
# Only the path around all blocks is left. But the last convolution itself gets a gradient, since what enters it is not zero. After one step,
# the branch's first convolution learns as well.
#
# .. end-solution::
#
# .. provenance:: i_span i_harder length live
