"""
Q3. Do first-layer feature maps extract edges?
==============================================

**The question.** First-layer :term:`feature maps <feature map>` are said to learn to extract edges. Show it, by visualising the first layer's
outputs for a photo of your choice.

*Fifteen minutes. You need convolution (Q1). Then you can tell what a map shows from what a network has learnt.*

**The answer.** Some maps of your network show edges before it has learnt anything. Any small filter answers to brightness and to its slopes, and one whose
weights sum to zero in each colour answers almost only to slopes, that is, to edges. So a picture of maps cannot show what was *learnt*: that
takes the same layer before training, beside it.

* *What training changes.* After sixty epochs the maps of a 7x7 first layer
  :finding:`q3-training follow the edges more closely than before, by {effect}/follow the edges less closely than before, by {effect}/follow the edges about as closely as before, less than {delta} apart: {effect}/may follow the edges better or worse than before: {effect}`
  in correlation.
* *What a learnt layer is worth.* With a frozen random first layer the network is
  :finding:`q3-random more accurate than with a learnt one, by {effect}/less accurate than with a learnt one, by {effect}/as accurate as with a learnt one to within {delta}: {effect}/perhaps more and perhaps less accurate than with a learnt one: {effect}`.
  With a frozen bank of edge and colour filters it is
  :finding:`q3-bank more accurate than with a learnt one, by {effect}/less accurate than with a learnt one, by {effect}/as accurate as with a learnt one to within {delta}: {effect}/perhaps more and perhaps less accurate than with a learnt one: {effect}`.
"""

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt

import cnnhw
from cnnhw import features, plots
from cnnhw.book import figures, q3
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
# Above, bright means a strong answer, positive or negative, on one scale. Shown are the two of 16 maps that follow the edges most closely *before*
# training, which favours the untrained network. (Sobel's kernels measure the slope of brightness. The photos ``flower.jpg``, https://www.flickr.com/photos/vultilion/6056698931/, and
# ``china.jpg``, https://www.flickr.com/photos/danielbuechele/6061409035/, come with scikit-learn :cite:p:`pedregosa2011scikit` under CC BY 2.0,
# https://creativecommons.org/licenses/by/2.0/.)
#
# .. widget:: first_layer
#    :title: See it: a first layer, from random weights to trained ones
#
#    A scene, its edges by Sobel's kernels, and maps of 7x7 kernels, computed in your browser. The slider mixes the weights before training with
#    those after it. The line below says how closely the strength of the maps follows the strength of the edges.
#
# **How far did training move each filter?** See the cosine between its weights before and after: 1 means that it kept its shape. (The network is ``q1_shallow``,
# of :doc:`Q1 <plot_q1_cnn>`; :explore:`the explorer <network=q1_shallow&layer=conv1&photo=flower.jpg>` computes its maps for a photo of yours.)

q3.filters(untrained, trained)
plt.show()

# %%
# The idea and the argument
# -------------------------
#
# .. drawing:: edge
#
# A 3x3 kernel on three colours is 27 numbers :math:`w_c(d)`, for each colour :math:`c` and each of nine offsets :math:`d` from the middle. Its map
# on a photo :math:`f` is :math:`m(p) = b + \sum_c \sum_d w_c(d)\, f_c(p + d)`. By Taylor, :math:`f_c(p + d) \approx f_c(p) + d \cdot \nabla f_c(p)`:
#
# .. math:: m(p) \approx b + \sum_c \Big[ \underbrace{\sum_d w_c(d)}_{\text{sum}} f_c(p) + \underbrace{\sum_d w_c(d)\, d}_{\text{direction}} \cdot \nabla f_c(p) \Big].
#
# To first order every filter is a brightness times its *sum*, plus a derivative in some *direction*. If the sum is zero in each colour, a uniform
# surface gets no answer, and a derivative is left: an edge detector of a kind, unless the direction is zero, too (the Laplacian of exercise 2).
# The *DC share* ("direct current", the constant part of a signal) measures the answer to uniform grey: :math:`|\sum w| / \sum |w|`, 1 for an
# average, 0 for no answer. **In numbers:** Sobel's kernel has the weights -1, -2, -1 on its left, 1, 2, 1 on its right, and 0 between: a sum of 0,
# so a DC share of 0. Now draw filters at *random*, as before training, and subtract their means in each colour. DC share, correlation with slopes:

random = features.filters(untrained)  # (16, 3, 3, 3)
zero_sum = random - random.mean((2, 3), keepdim=True)  # in each colour
padded = F.pad(photos, (1, 1, 1, 1), mode="reflect")
kinds = {"random": random, "random, zero sum": zero_sum, "by hand": bank(3)}
for name, weight in kinds.items():
    found = first_layer.edge_correlation(F.conv2d(padded, weight), photos)
    slopes = torch.maximum(found["gx"], found["gy"]).mean()
    print(f"{name:17} {first_layer.dc_share(weight).mean():.2f}, {slopes:.2f}")

# %%
# Nothing has been learnt here. As drawn, the filters mostly copy the photo: brightness varies so much more than its slopes that even a small DC share lets it through. With their sums taken away,
# they follow the slopes, because there is little else to follow. That a network has *learnt* to extract edges has to be measured against this
# :term:`control`: random features do surprisingly well :cite:p:`saxe2011random`.
#
# Test it
# -------
#
# The network of the study is small, and its first layer stands apart: 16 filters of 7x7 pixels, *learnt* with all others, left as drawn at *random*,
# or set *by hand* to a bank:

figures.narrow(plots.filters(bank(7), "The bank: edges, spots, opponent colours"), 1.6)
plt.show()

# %%
# * **Varied:** the first layer. One that learns is also compared with *itself, as it was drawn*.
# * **Held:** half of the training photos of ``tiny5``, the stand-in for Linnaeus 5, at 32 pixels; recipe, and sixty epochs with :term:`weight decay`
#   :cite:p:`loshchilov2019adamw`, which shrinks weights that do not lower the loss. Each seed draws weights, order, augmentation and its validation photos.
# * **Tuned:** the learning rate of each kind of first layer, from five or more, on training photos that the study leaves aside.
# * **Measured,** each from 0 to 1, averaged over filters: *edge correlation*, the larger of a map's correlations with the slopes to the right and
#   downwards, signs aside; *orientation selectivity*, 0 if a filter answers stripes of all directions alike, 1/3 for a pure slope, 1 if one only
#   :cite:p:`ringach2002orientation`; *DC share*; and *opponent share*, the part of the squared weights that differs between the colours.
#
# .. soundness:: q3_edges
#
# What the runs say
# -----------------
#
# .. question:: q3-training
#    :verdict: supported
#
# .. question:: q3-random
#    :verdict: supported
#
# .. question:: q3-bank
#    :verdict: open

q3.gains()
q3.measures()
plt.show()

# %%
# Bars, and the numbers in brackets behind an effect, are 95 % intervals; those of the two accuracies are wider, so that both hold together.
# Any 16 filters span at most 16 of the 147 dimensions of 7x7 pixels in three colours; learning can choose which, and a random draw cannot.
#
# .. trained:: q3_edges
#
#    learnt_7: learnt
#    random_7: frozen at random
#    bank_7: frozen, by hand
#
# Seven pixels wide, live
# -----------------------
#
# In the first layers of large networks, filters of 7x7 or 11x11 pixels become gratings and colour blobs :cite:p:`yosinski2014transferable`;
# networks that are large for their task keep much of their random start :cite:p:`raghu2019transfusion`. A 7x7 layer is trained on easy scenes: what is
# left of its start without weight decay, and with a strong one? Scaled to unit length: 0 to 15 at the start, 16 to 31 without, 32 to 47 with decay.

small = scenes.load(size=32, train=1500, test=300, controls=scenes.EASY, progress=False)
shapes = []
for decay in (0.0, 1.5):
    network = cnnhw.models.create("first_layer", size=32, side=7, seed=1)
    start = features.filters(network)
    recipe = cnnhw.Recipe(6, optimizer="adamw", learning_rate=1e-2, weight_decay=decay)
    run = cnnhw.fit(network, small, recipe, progress=False)
    shapes.append(features.filters(run.model))
unit = [w / w.flatten(1).norm(dim=1)[:, None, None, None] for w in (start, *shapes)]
figures.narrow(plots.filters(torch.cat(unit), "Filters before, after, with decay"), 4)
plt.show()

# %%
# The filters of a network of the study are in the explorer, :explore:`before and after training <network=first_layer&layer=conv1>`.
#
# What the original report said, and why it differed
# --------------------------------------------------
#
# The report showed the 16 channels behind the first average pooling of its network for one photo, a dog. It said that some channels separate the
# subject from its surroundings, and that some show edges: a fair description. It does not show that anything was *learnt*: there was no control;
# each map had a contrast of its own; and of 16 maps of one photo, some will single out the subject. After a :term:`ReLU`, on one scale:

maps = features.maps(trained, photos[:1], "conv1")[0].relu()
figures.narrow(plots.feature_maps(maps, photos[0], "Maps after ReLU", columns=6), 2.7)
plt.show()

# %%
# ``cnnhw features q1_shallow photo.jpg`` draws such maps. What the whole network looks at is shown by :term:`saliency` and :term:`occlusion`.
#
# .. admonition:: Three misconceptions
#
#    * *Edges in the maps show that edges were learnt.* They are in some maps of random filters, too.
#    * *A lively map is a strong one.* Not if each map is stretched to its own range.
#    * *The clearest channel shows what the layer does.* It was chosen among many, and some of what it shows is luck (exercise 3).
#
# .. dropdown:: Check yourself: a 3x3 filter has the weight 1/27 at all nine places of all three colours. What does its map show, and what is its DC share?
#
#    The photo in grey, a little blurred. Its DC share is 1.
#
# **Remember three things.** A filter whose sum is zero in each colour answers to changes, above all to edges. Learning is shown by a layer beside
# its untrained self. And maps belong on one scale. **What would refute** that edges are no sign of learning: untrained maps that show none.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. How much does a unit see?** ★ A layer with kernel side :math:`k` adds :math:`k - 1` steps to the *width* of the receptive field, a step being
# the product of all strides before it. How wide is it in each convolution of ``q1_shallow``, where a 2x2 pooling follows each 3x3 convolution?
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
# **2. A filter's edges by luck** ★★ Draw 1,000 grey 3x3 filters of zero sum at random. How are their correlations with the slopes of the two photos
# distributed, and where in this distribution is the Laplacian?
#
# .. solution::

torch.manual_seed(0)
drawn = torch.randn(1000, 1, 3, 3)
drawn -= drawn.mean((2, 3), keepdim=True)
laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
grey = torch.einsum("nchw,c->nhw", padded, torch.tensor([0.299, 0.587, 0.114]))
answers = F.conv2d(grey[:, None], torch.cat([drawn, laplacian]))
found = first_layer.edge_correlation(answers, photos)
closest = torch.maximum(found["gx"], found["gy"])
low, middle, high = closest[:1000].quantile(torch.tensor([0.05, 0.5, 0.95]).double())
print(f"5, 50, 95 in 100 are below {low:.2f}, {middle:.2f}, {high:.2f}")
assert closest[1000] < middle

# %%
# Many random filters of zero sum follow the slopes well, without having learnt anything. The Laplacian, which has no direction, lies below the median.
#
# .. end-solution::
#
# **3. The best of sixteen** ★★★ A report shows that channel of 16 which separates object and ground best, by its *area under the curve*: the share of
# pairs, a cell of each, that it ranks the same way. Draw 20 layers of 16 random filters: how far is the best above the mean, and on new scenes?
#
# .. solution::

layers, areas = torch.randn(20 * 16, 3, 3, 3), []
for number in (2_000_000, 2_000_100):
    some = scenes.draw(8, size=32, first=number)
    answers = F.conv2d(some.images / 255, layers, padding=1)
    areas.append(first_layer.area_under_curve(answers, some.masks).reshape(20, 16))
best = areas[0].argmax(1, keepdim=True)
chosen, fresh = (area.gather(1, best).mean() for area in areas)
print(f"mean {areas[0].mean():.2f}, best of 16 {chosen:.2f}, elsewhere {fresh:.2f}")
assert fresh < chosen

# %%
# What the best loses on other scenes was luck; what is left is what brightness and colour of the object give away. None of it was learnt.
#
# .. end-solution::
#
# .. provenance:: q3_edges live
