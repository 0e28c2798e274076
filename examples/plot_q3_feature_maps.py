"""
Q3. Do first-layer feature maps extract edges?
==============================================

**The question.** First-layer :term:`feature maps <feature map>` are said to learn to extract edges. Show it, by visualising the first
layer's outputs for a photo of your choice.

*Fifteen minutes. You need convolution (Q1). Then you can tell what a map shows from what a network has learnt.*

**The answer.** Your network shows edges before it has learnt anything. Any small filter answers to brightness and to its slopes, and one
whose weights sum to zero in each colour answers almost only to slopes, that is, to edges. So a picture of maps cannot show what was
*learnt*: that takes the same layer before training, beside it.

* In short runs we cannot tell whether learnt 7x7 filters follow edges more closely than random ones: :effect:`q3-edges-seven` in
  correlation. Longer runs, which give filters time to change, are still to come.
* The network does use what it has learnt. Frozen as learnt, a 7x7 first layer :finding:`q3-swap-random gains/loses` against a frozen random
  one.
* Frozen filters made by hand, minus frozen learnt ones: :effect:`q3-swap-bank`.
"""

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt

import cnnhw
from cnnhw import features, plots
from cnnhw.book import q3
from cnnhw.data import scenes
from cnnhw.features import first_layer
from cnnhw.models.first_layer import bank

photos = q3.pictures()
untrained = cnnhw.models.create("q1_shallow", seed=0)
trained = cnnhw.load("q1_shallow")
q3.see(photos[0], untrained, trained)
plt.show()

# %%
# See it
# ------
#
# Above, bright means a strong answer, positive or negative, on one scale. Shown are the two of 16 maps that follow the edges most closely
# *before* training. (Sobel's kernels, defined below, measure the slope of brightness.) (The photo, ``flower.jpg``, and ``china.jpg`` come
# with scikit-learn :cite:p:`pedregosa2011scikit`, under CC BY 2.0, https://creativecommons.org/licenses/by/2.0/. scikit-learn's note
# credits both to danielbuechele; its link for the flower leads to vultilion's page, https://www.flickr.com/photos/vultilion/6056698931/,
# for the other to https://www.flickr.com/photos/danielbuechele/6061409035/.)
#
# .. widget:: first_layer
#    :title: See it: a first layer, from random weights to trained ones
#
#    A scene, its edges by Sobel's kernels, and maps of a first layer of 7x7 kernels, computed in your browser. The slider mixes the weights
#    that the layer had before its training with those that it had afterwards. Edges are there at both ends. The line below says how
#    closely the strength of the maps follows the strength of the edges.
#
# **How far did training move each filter?** ``q1_shallow`` is the report's first network, trained on ``tiny5`` (:doc:`Q1 <plot_q1_cnn>`):

q3.filters(untrained, trained)
plt.show()
pair = (features.filters(model).flatten(1) for model in (untrained, trained))
alike = F.cosine_similarity(*pair)
print(f"cosines with themselves before: {alike.min():.2f} to {alike.max():.2f}")

# %%
# A cosine of 1 means that a filter kept its shape. :explore:`In the explorer <network=q1_shallow&layer=conv1&photo=flower.jpg>` its maps
# are computed for a photo of yours, and each cell can be checked by hand.
#
# The idea and the argument
# -------------------------
#
# .. drawing:: edge
#
# A 3x3 kernel on three colours is 27 numbers :math:`w_c(d)`, one for each colour :math:`c` and each of the nine offsets :math:`d` from the
# middle. Its map on a photo :math:`f` is :math:`m(p) = b + \sum_c \sum_d w_c(d)\, f_c(p + d)`. By Taylor's theorem
# :math:`f_c(p + d) \approx f_c(p) + d \cdot \nabla f_c(p)`, and so
#
# .. math:: m(p) \approx b + \sum_c \Big[ \underbrace{\sum_d w_c(d)}_{\text{sum}}\, f_c(p)
#           + \underbrace{\sum_d w_c(d)\, d}_{\text{direction}} \cdot\, \nabla f_c(p) \Big].
#
# To first order every filter is a brightness times its *sum*, plus a derivative in some *direction*. If the sum vanishes in each colour, a
# uniform surface gets no answer, and what is left is a derivative: an edge detector of a kind, whatever the weights are. (The exceptions
# have no direction, either, such as the Laplacian.) The *DC share*, from "direct current", the constant part of a signal, measures it:
# :math:`|\sum w| / \sum |w|`, 1 for an average, 0 for a filter that answers nothing to a uniform grey surface. **In numbers:** Sobel's
# kernel has the weights -1, -2, -1 on its left, 1, 2, 1 on its right, and 0 between: a sum of 0, so a DC share of 0.
#
# Now take filters at *random*, with Glorot's distribution, as a network has them before training, and take away their sums:

random = features.filters(untrained)  # (16, 3, 3, 3)
zero_sum = random - random.mean((2, 3), keepdim=True)  # in each colour
padded = F.pad(photos, (1, 1, 1, 1), mode="reflect")
kinds = {"random": random, "random, zero sum": zero_sum, "by hand": bank(3)}
for name, weight in kinds.items():
    found = first_layer.edge_correlation(F.conv2d(padded, weight), photos)
    slopes = torch.maximum(found["gx"], found["gy"]).mean()
    share = first_layer.dc_share(weight).mean()
    print(f"{name:17} DC share {share:.2f}, correlation with slopes {slopes:.2f}")

# %%
# Nothing has been learnt here. As drawn, the filters mostly copy the photo, as brightness varies far more than slopes do, and even a small
# DC share lets it through; edges are seen in such maps because they are seen in the photo. With their sums taken away, the same filters
# follow the slopes, because there is little else to follow. So a high correlation says, above all, that a filter's sum is small. That a
# network has *learnt* to extract edges has to be measured against this :term:`control`: random features do surprisingly well
# :cite:p:`saxe2011random`.
#
# Test it
# -------
#
# The network of the study is small, and its first layer stands apart: 16 filters, 3x3 or 7x7, *learnt* with all others, left as drawn at
# *random*, or set *by hand* to a bank of edges, spots and opponent colours:

plots.filters(bank(7), "The bank of 7x7 filters: edges, spots, opponent colours")
plt.show()

# %%
# * **Varied:** the first layer. Beside the three kinds, a layer that was learnt is frozen in a network whose other layers start anew
#   (*swapped*), so that it differs from frozen random filters and from the bank in nothing but the filters.
# * **Held:** half of the training photos of ``tiny5``, at 48 pixels; batch norm after the first layer, so that the filters' scale does not
#   matter; recipe, and five epochs.
# * **Measured,** each from 0 to 1, averaged over channels: *edge correlation*, the larger of a map's correlations with the slopes to the
#   right and downwards; *orientation selectivity*, 0 if a filter answers alike to gratings of all directions, 1 if to one only
#   :cite:p:`ringach2002orientation`; *DC share*; *opponent share*, the part of the squared weights that sets colours against each other;
#   and *figure-ground*, the area under the ROC curve: the chance that a cell of the object gets a larger answer than one of the ground, or
#   the reverse if that is larger.
#
# Five epochs leave filters little time to change. The study that is to decide trains for sixty, with :term:`weight decay`
# :cite:p:`loshchilov2019adamw`, which removes what the loss has no use for, and compares each layer *with itself as it was drawn*.
#
# What the runs say
# -----------------
#
# .. question:: q3-training
#    :verdict: not run
#
# .. question:: q3-bank
#    :verdict: not run
#
# .. question:: q3-random
#    :verdict: not run

q3.gains()
plt.show()
q3.measures()
plt.show()

# %%
# .. claim:: q3-swap-random
#    :verdict: supported
#
# .. claim:: q3-swap-bank
#    :verdict: not resolved
#
# .. claim:: q3-random-three
#    :verdict: not resolved
#
# .. claim:: q3-edges
#    :verdict: not resolved
#
# .. claim:: q3-edges-seven
#    :verdict: not resolved
#
# .. claim:: q3-orientation
#    :verdict: not resolved
#
# .. claim:: q3-uniform
#    :verdict: not resolved
#
# .. claim:: q3-colour
#    :verdict: not resolved
#
# .. claim:: q3-figure
#    :verdict: not resolved
#
# **What does a network need its first layer for?** A random one need not cost much, as the second layer mixes the 16 maps with weights of
# its own. 16 random filters span a 16-dimensional part of the 27 dimensions of a 3x3 patch in colour, and, wherever batch norm and ReLU act
# nearly linearly, the next layer can mix what it wants from them. 7x7 filters have 147 dimensions, of which 16 at random miss the most.
#
# .. trained:: q3
#
#    learnt_7: 7x7, learnt
#    swapped_7: 7x7, frozen as learnt
#    random_7: 7x7, random
#    bank_7: 7x7, by hand
#
# Seven pixels wide, live
# -----------------------
#
# In 3x3 pixels there is no room for the shapes of textbooks. In the first layers of large networks, filters of 7x7 or 11x11 pixels become
# gratings and colour blobs :cite:p:`yosinski2014transferable`; networks that are large for their task keep much of their random start
# :cite:p:`raghu2019transfusion`. Here is a 7x7 layer, trained on small, easy scenes, without weight decay and with a strong one. Each filter is drawn at unit length, so compare shapes, not strength: 0 to 15 are before training, 16 to 31 after it, 32 to 47 after it with weight decay.

controls = scenes.EASY
small = scenes.load(size=32, train=1500, test=300, controls=controls, progress=False)
shapes = []
for decay in (0.0, 1.5):
    network = cnnhw.models.create("first_layer", size=32, side=7, seed=1)
    start = features.filters(network)
    recipe = cnnhw.Recipe(6, optimizer="adamw", learning_rate=1e-2, weight_decay=decay)
    run = cnnhw.fit(network, small, recipe, progress=False)
    shapes.append(features.filters(run.model))
    print(f"weight decay {decay:g}: test accuracy {run.accuracy:.2f}")
unit = [w / w.flatten(1).norm(dim=1)[:, None, None, None] for w in (start, *shapes)]
plots.filters(torch.cat(unit), "16 filters before, after, and with weight decay")
plt.show()

# %%
# The filters of a network of the study, trained on photos, are in the explorer,
# :explore:`before and after training <network=first_layer&layer=conv1>`. A filter that looks like noise need not be useless; it may be an
# edge detector with the noise of its start on top.
#
# What the original report said, and why it differed
# --------------------------------------------------
#
# The report showed the 16 channels behind the first average pooling of its network for one photo it had trained on, a dog, in BGR, so that
# the dog is blue. It said that some channels separate the subject from its surroundings, and that some show the lines of edges. That is a
# fair description of what can be seen. It does not show that anything was *learnt*: there was no control; each map had a contrast of its
# own, which stretches a channel of next to nothing to the whole range of greys; it looked behind a pooling step, where three of four
# positions are gone; and of 16 maps of one photo, some will single out the subject. The maps of the flower after a :term:`ReLU`, on one
# scale, as they should be drawn:

maps = features.maps(trained, photos[:1], "conv1")[0].relu()
plots.feature_maps(maps, photos[0], "The first layer after ReLU, on one scale")
plt.show()
largest = maps.flatten(1).amax(1)
weak = int((largest < 0.1 * largest.max()).sum())
print(f"channels below a tenth of the strongest one: {weak} of {len(maps)}")

# %%
# For any network and any photo: ``cnnhw features q1_shallow photo.jpg``. What the whole network looks at is shown by :term:`saliency` and
# :term:`occlusion` (:func:`cnnhw.features.saliency`, :func:`cnnhw.features.occlusion`).
#
# .. admonition:: Three misconceptions
#
#    * *Edges in the maps show that edges were learnt.* They are in the maps of random filters, too.
#    * *A lively map is a strong one.* Not if each map is stretched to its own range.
#    * *The clearest channel shows what the layer does.* It was chosen among many, and some of what it shows is luck (exercise 3).
#
# .. dropdown:: Check yourself: a grey 3x3 filter has the weights 1/9 everywhere. What does its map show, and what is its DC share?
#
#    The photo, a little blurred. Its DC share is 1.
#
# **Remember three things.** A filter whose sum is zero in each colour answers to changes, above all to edges. Learning is shown by a layer
# beside its untrained self. And maps belong on one scale. **What would refute** that edges in a map are no sign of learning: untrained maps
# that show none.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. How much does a unit see?** ★ A layer with kernel side :math:`k` adds :math:`k - 1` steps to the *width* of the receptive field, a
# step being the product of all strides before it. How wide is the field of a unit of each convolution of ``q1_shallow``, in which a 2x2
# pooling follows each 3x3 convolution?
#
# .. solution::

width, step = 1, 1
for layer in ("conv1", "conv2", "conv3"):
    width += (3 - 1) * step  # the convolution
    top, _, bottom, _ = features.receptive_box(trained, layer, 8, 8)
    assert bottom - top == width
    print(f"{layer}: {width} pixels")
    width, step = width + (2 - 1) * step, 2 * step  # the pooling

# %%
# .. end-solution::
#
# **2. A filter's edges by luck** ★★ Draw 1,000 grey 3x3 filters of zero sum at random. How are their correlations with the slopes of the
# two photos distributed, and where in this distribution are Sobel's operator and the Laplacian?
#
# .. solution::

torch.manual_seed(0)
drawn = torch.randn(1000, 1, 3, 3)
drawn -= drawn.mean((2, 3), keepdim=True)
sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
grey = torch.einsum("nchw,c->nhw", padded, torch.tensor([0.299, 0.587, 0.114]))
answers = F.conv2d(grey[:, None], torch.cat([drawn, sobel, laplacian]))
found = first_layer.edge_correlation(answers, photos)
closest = torch.maximum(found["gx"], found["gy"])
low, middle, high = closest[:1000].quantile(torch.tensor([0.05, 0.5, 0.95]).double())
print(f"5, 50, 95 of 100 are below {low:.2f}, {middle:.2f}, {high:.2f}")
print(f"Sobel {closest[1000]:.2f}, Laplacian {closest[1001]:.2f}")
assert closest[1001] < middle < closest[1000]

# %%
# Many a random filter of zero sum follows the slopes to a good part, without having learnt anything. The Laplacian, which has no direction,
# does not. (Sobel has 1 by construction: the slopes are its answers.)
#
# .. end-solution::
#
# **3. The best of sixteen** ★★★ A report shows the channel, of 16, that tells object from ground best. Draw 20 first layers of 16 random
# filters, and calculate the area under the curve on generated scenes for all channels. How far above the mean channel is the best one of a
# layer? Is it still the best on scenes that it was not chosen on?
#
# .. solution::

layers, areas = torch.randn(20 * 16, 3, 3, 3), []
for number in (2_000_000, 2_000_100):
    some = scenes.draw(8, size=32, first=number)
    answers = F.conv2d(some.images / 255, layers, padding=1)
    area = first_layer.area_under_curve(answers, some.masks)
    areas.append(area.reshape(20, 16))
best = areas[0].argmax(1, keepdim=True)
chosen, fresh = (area.gather(1, best).mean() for area in areas)
print(f"mean {areas[0].mean():.2f}, best of 16 {chosen:.2f}, elsewhere {fresh:.2f}")
assert fresh < chosen

# %%
# The best of many lies above their mean by its choice alone. What it loses on other scenes was luck; what is left is what brightness and
# colour of the object give away. None of it was learnt.
#
# .. end-solution::
#
# .. provenance:: q3 live
