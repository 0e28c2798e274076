"""
Q3. Do first-layer feature maps extract edges?
==============================================

**The question.** First-layer :term:`feature maps <feature map>` are said to learn to extract edges. Show it, by visualising the first layer's
outputs for a photo of your choice.

**The short answer.** Your network shows edges before it has learnt anything. Edges are easily seen in the maps of a
first layer, and in those of the same layer before training, too: any small filter responds to brightness and to its slopes,
and a filter whose weights sum to zero responds almost only to slopes, that is, to edges. A picture of maps cannot tell what was
*learnt*. So we count, over six runs each, and put random filters and filters set by hand beside the learnt ones.

* How closely maps follow the photo's slopes, learnt filters minus random ones (a correlation): :effect:`q3-edges` for 3x3
  filters, :effect:`q3-edges-seven` for 7x7. Whether filters learn to follow slopes in runs as short as these stays open.
* The network does use what a 7x7 first layer has learnt: frozen as learnt, it :finding:`q3-swap-random gains/loses` of
  accuracy against a frozen random one.
* Frozen filters made by hand against frozen learnt ones: :effect:`q3-swap-bank`. Random 3x3 filters, frozen, against
  learnt ones: they :finding:`q3-random-three gain/lose`. We had claimed a difference of less than 2.5 points for both. After
  the correction for nine claims, both are open.
* How far filters prefer one orientation, answer to a uniform surface, set colours against each other, or tell an object from
  its ground: nothing of what was claimed is decided. The figures are below.
"""

# %%
# .. widget:: first_layer
#    :title: See it: a first layer, from random weights to trained ones
#
#    A scene, its edges by Sobel's kernels, and maps of a first layer of 7x7 kernels, computed in your browser. The slider mixes the weights
#    that the layer had before its training with those that it had afterwards. Edges are there at both ends. The line below says how
#    closely the strength of the maps follows the strength of the edges.
#
# What a first layer can be at all
# --------------------------------
#
# .. drawing:: edge
#
# A 3x3 kernel on three colours is 27 numbers :math:`w_c(d)`, one for each colour :math:`c` and each of the nine offsets
# :math:`d` from the middle. Its map on a photo :math:`f` is
#
# .. math:: m(p) = b + \sum_c \sum_d w_c(d)\, f_c(p + d).
#
# There is little room in 27 numbers: for edges of some direction, for spots, for one colour against another, and for
# mixtures of these. A patch of a photo has a mean, a slope, and what is left over. By Taylor's theorem
# :math:`f_c(p + d) \approx f_c(p) + d \cdot \nabla f_c(p)`, and so
#
# .. math:: m(p) \approx b + \sum_c \Big[ \underbrace{\sum_d w_c(d)}_{\text{sum}}\, f_c(p)
#           + \underbrace{\sum_d w_c(d)\, d}_{\text{direction}} \cdot\, \nabla f_c(p) \Big].
#
# To first order every filter is a brightness times its *sum*, plus a derivative in the *direction* of its first moment. If
# the sum vanishes, a uniform surface gets no answer (apart from the bias :math:`b`), and what is left is a derivative: an
# edge detector of a kind, whatever the weights are. The exceptions have a first moment of zero, too, such as the
# Laplacian, and answer to curvature. The *DC share* (from "direct current", the constant part of a signal) measures this:
#
# .. math:: \frac{\left|\sum_{c,d} w_c(d)\right|}{\sum_{c,d} |w_c(d)|},
#
# 1 for an average, 0 for a filter that answers nothing to a uniform grey surface.
#
# How good is the first order? Neighbouring pixels of photos are much alike, so it should be good. Here are two photos that
# come with scikit-learn :cite:p:`pedregosa2011scikit`, cut to squares and scaled: ``flower.jpg`` and ``china.jpg``, both
# under CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/). scikit-learn's note credits both to danielbuechele; its
# link for the flower leads to vultilion's page (https://www.flickr.com/photos/vultilion/6056698931/), and for the other
# to https://www.flickr.com/photos/danielbuechele/6061409035/.

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import cnnhw
from cnnhw import features, plots
from cnnhw.book import figures
from cnnhw.data import scenes
from cnnhw.data.augment import resize
from cnnhw.features import first_layer
from cnnhw.models.first_layer import bank
from cnnhw.studies.measures import measured


def square(name, left):
    """Return a square of a photo, from the given column on, as the network wants it."""
    pixels = torch.tensor(load_sample_image(name)).permute(2, 0, 1)
    return resize(pixels[None, :, :, left : left + pixels.shape[1]] / 255, 128)[
        0
    ].clamp(0, 1)


photos = torch.stack([square("flower.jpg", 100), square("china.jpg", 0)])
flower, china = photos
figure = plots.contact_sheet(photos, ["flower.jpg", "china.jpg"], columns=2)
figure.set_label(
    "Two photos: an orange dahlia before a dark, blurred ground, and a pagoda with many roofs before a pale sky."
)
plt.show()

# %%
# All patches of 3x3 pixels of both photos, as points in 27 dimensions: how much of their spread lies along which
# direction?

patches = F.unfold(photos, 3).transpose(1, 2).flatten(0, 1)  # (patches, 27)
spread, directions = torch.linalg.eigh(patches.T.cov())
spread, directions = spread.flip(0), directions.flip(1)
for count in (1, 3, 9):
    print(
        f"the first {count} of 27 directions hold {100 * float(spread[:count].sum() / spread.sum()):.1f} % of the variance"
    )
shares = directions.T[:16].reshape(16, 3, 9).sum(2).square().sum(1) / 9  # of DC
uniform = [number for number, share in enumerate(shares) if share > 0.9]
figure = plots.filters(
    directions.T[:16].reshape(-1, 3, 3, 3), "The first 16 principal directions"
)
figure.set_label(
    "Principal directions of the photos' patches as small pictures, largest variance first. "
    f"Those of one colour all over, or nearly: {', '.join(map(str, uniform)) or 'none'} of 16."
)
plt.show()

# %%
# First come brightness and colours, then slopes, then curvature: the order of the terms in Taylor's series, found in the
# photos without it. Now take filters at *random*, with Glorot's distribution, as a network has them before training, and
# compare their maps with what the first order alone predicts:

untrained = cnnhw.models.create("q1_shallow", seed=0)
random = features.filters(untrained)  # (16, 3, 3, 3)
zero_sum = random - random.mean((2, 3), keepdim=True)  # in each colour
slope = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8  # Sobel's
middle = torch.zeros(3, 3)
middle[1, 1] = 1


def first_order(weight):
    """Return the filters that brightness and slopes alone would call for."""
    away = torch.arange(3.0) - 1
    total = weight.sum((2, 3))[..., None, None]
    across = (weight * away).sum((2, 3))[..., None, None]
    down = (weight * away[:, None]).sum((2, 3))[..., None, None]
    return total * middle + across * slope + down * slope.T


def agreement(weight):
    """Return the mean correlation of maps with those of the first order."""
    pairs = zip(
        *(
            F.conv2d(photos, one).transpose(0, 1).flatten(1)
            for one in (weight, first_order(weight))
        ),
        strict=True,
    )
    return sum(float(torch.stack(pair).corrcoef()[0, 1]) for pair in pairs) / len(
        weight
    )


def slopes(weight):
    """Return how closely maps follow the slope to the right or downwards, the mean of all filters."""
    maps = F.conv2d(F.pad(photos, (1, 1, 1, 1), mode="reflect"), weight)
    found = first_layer.edge_correlation(maps, photos)
    return float(torch.maximum(found["gx"], found["gy"]).mean())


for name, weight in (
    ("random", random),
    ("random, zero sum", zero_sum),
    ("by hand", bank(3)),
):
    print(
        f"{name:17} DC share {first_layer.dc_share(weight).mean():.2f}, agreement with the first order {agreement(weight):.2f}, "
        f"correlation with slopes {slopes(weight):.2f}"
    )

# %%
# Nothing has been learnt here. As drawn, the filters mostly copy the photo, since brightness varies far more than slopes do,
# and even a small DC share lets it through; edges are seen in such maps because they are seen in the photo. With their
# sums taken away, the same filters follow the slopes, because there is little else to follow. (Those made by hand for
# spots and colours do not.) So a high correlation with slopes says, above all, that a filter's sum is small. A claim that a network has *learnt* to extract edges has to be measured against this
# :term:`control`: random features are known to do surprisingly well :cite:p:`saxe2011random`.
#
# The maps of a trained network
# -----------------------------
#
# ``q1_shallow`` is the original report's first network. The package has its weights from a run of chapter
# :doc:`Q1 </auto_examples/plot_q1_cnn>` on ``tiny5``, and the seed gives the same network as it was before its first step.
# All 32 maps of the first convolution for the flower, 16 before training and the same 16 after, *on one scale*:

trained = cnnhw.load("q1_shallow")
both = {"before": untrained, "after": trained}


def compare(image, layer, title):
    """Draw the maps of a layer before and after training, and count the dead."""
    shown = {
        when: features.maps(model, image[None], layer) for when, model in both.items()
    }
    names = [f"{when} {channel}" for when in both for channel in range(16)]
    figure = plots.feature_maps(
        torch.cat([maps[0] for maps in shown.values()]), title=title, names=names
    )
    return figure, {
        when: int(features.dead(maps).sum()) for when, maps in shown.items()
    }


figure, _ = compare(flower, "conv1", "First convolution, before and after training")
figure.set_label(
    "Thirty-two maps of the flower on one scale, red for positive and blue for negative values, 16 before and 16 after "
    "training, of the same filters."
)
plt.show()

# %%
# Both halves show the flower as a disc and petals as lines. :explore:`In the explorer <network=q1_shallow&layer=conv1&photo=flower.jpg>`
# the same maps are computed for a photo of yours, and each cell can be checked by hand. How far did training move each filter?

learnt = features.filters(trained)
moved = (learnt - random).flatten(1).norm(dim=1) / random.flatten(1).norm(dim=1)
alike = F.cosine_similarity(learnt.flatten(1), random.flatten(1))
print(
    f"moved by {moved.min():.2f} to {moved.max():.2f} of their length, median {moved.median():.2f}"
)
print(f"cosine with themselves before: {alike.min():.2f} to {alike.max():.2f}")
figure = plots.filters(
    torch.cat([random, learnt]),
    "Filters before (0 to 15) and after training (16 to 31)",
)
figure.set_label(
    "Thirty-two filters of 3x3 pixels in colour on one scale, 0 to 15 before training and 16 to 31 the same ones after it. "
    f"Their cosines with themselves before are {alike.min():.2f} to {alike.max():.2f}."
)
plt.show()

# %%
# After pooling and :term:`ReLU` only positive values are left. A channel without any is *dead* for this photo and is marked so;
# had each map its own contrast, a nearly dead one would look as lively as the rest. For both photos:

for name, image in (("flower", flower), ("china", china)):
    figure, dead = compare(image, "features.relu1", f"After pooling and ReLU: {name}")
    figure.set_label(
        f"Thirty-two maps of the photo {name} after ReLU on one scale, 16 before training, {dead['before']} of them dead, "
        f"and 16 after, {dead['after']} of them dead."
    )
    plt.show()
    print(name, "dead channels:", dead)

# %%
# Numbers for the same two networks, on the two photos, and against the objects' masks on generated scenes. One run is one
# run; six of each follow below.

drawing = scenes.draw(40, size=128, first=2_000_000)
for when, model in both.items():
    found = first_layer.scores(model, photos)
    shown = first_layer.scores(model, drawing.images, drawing.masks)
    found |= {name: shown[name] for name in ("figure-ground", "figure-ground best")}
    print(f"{when}:", ", ".join(f"{name} {value:.2f}" for name, value in found.items()))

# %%
# What a channel is largest for
# -----------------------------
#
# Another way to ask what a filter wants: look for the places in many pictures where its channel is largest
# :cite:p:`zeiler2014visualizing`. For the three strongest filters of the trained network, the surroundings of the largest
# activation in each of the five scenes that have the largest ones; the filter itself sees the 3x3 pixels in the middle. Black
# is outside the scene.

strongest = learnt.flatten(1).norm(dim=1).topk(3).indices.tolist()
crops, captions, framed = [], [], 0
padded = F.pad(drawing.images, (8, 8, 8, 8))
for channel in strongest:
    for number, row, column, value in features.top_activations(
        trained, drawing.images, "conv1", channel, 5
    ):
        crops.append(padded[number, :, row : row + 17, column : column + 17])
        captions.append(f"channel {channel}: {value:.2f}")
        framed += bool({row, column} & {0, 127})
figure = plots.contact_sheet(
    torch.stack(crops), captions, title="Patches around the maxima of three channels"
)
figure.set_label(
    "Fifteen patches of 17x17 pixels from generated scenes, five for each of three channels of the first layer, around "
    "the channel's maximum in it."
)
plt.show()
print(f"at the frame of a scene: {framed} of {len(crops)}")

# %%
# Such patches show what *drives* a channel most, which is not what it mostly does: a channel whose sum is not zero is
# driven by brightness, too. Those at the frame answer to an edge that is not in the scene at all: the convolution pads it with
# zeros, which are black.
#
# A unit of the first layer sees 3x3 pixels of the photo, one of a later layer more; the package finds the box exactly, and
# :explore:`the explorer <network=q1_shallow&layer=conv3&photo=flower.jpg&trained>` frames that of any unit:

boxes = {}
for layer in ("conv1", "conv2", "conv3"):
    side = features.maps(trained, flower[None], layer).shape[-1]
    boxes[layer] = features.receptive_box(trained, layer, side // 2, side // 2)
figure = plots.receptive_fields(flower, boxes, "What one unit of each layer sees")
sides = {layer: bottom - top for layer, (top, _, bottom, _) in boxes.items()}
figure.set_label(
    "The flower with three nested frames: the receptive fields of one unit in the middle of the first, second and third "
    f"convolution, {', '.join(map(str, sides.values()))} pixels wide."
)
plt.show()

# %%
# What the whole network looks at
# -------------------------------
#
# Two questions to the whole network about the flower. *Saliency*: how strongly does each pixel move the logit of the
# predicted class, by its gradient :cite:p:`simonyan2014deep`? :term:`Occlusion`: by how much does the class's probability drop
# when a grey square covers a part :cite:p:`zeiler2014visualizing`? (You can drag
# :explore:`a square of your own <network=q1_shallow&layer=conv3&photo=flower.jpg&trained>` over the photo.) (``tiny5`` has no flowers among its classes. The network has to
# call it something.)

with torch.no_grad():
    probabilities = trained(flower[None]).softmax(1)[0]
print(
    ", ".join(
        f"{c} {p:.2f}" for c, p in zip(trained.classes, probabilities, strict=True)
    )
)
predicted = trained.classes[int(probabilities.argmax())]
saliency = features.saliency(trained, flower)
occlusion = features.occlusion(trained, flower, window=24, step=8)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
most = float(occlusion.abs().max()) or 1.0
axes[0].imshow(flower.permute(1, 2, 0))
for axis, field, scale, label in (
    (axes[1], saliency, {"cmap": "viridis"}, "size of the gradient"),
    (
        axes[2],
        occlusion,
        {"cmap": "RdBu_r", "vmin": -most, "vmax": most},
        "drop of the probability",
    ),
):
    figure.colorbar(axis.imshow(field, **scale), ax=axis, label=label, shrink=0.75)
for axis, title in zip(
    axes, ("photo", f'saliency of "{predicted}"', "occlusion"), strict=True
):
    axis.set_title(title)
    axis.set_axis_off()
down, across = torch.meshgrid(*[torch.arange(128.0) - 64] * 2, indexing="ij")
disc = torch.hypot(down, across) < 40
inside = float(saliency[disc].sum() / saliency.sum())
figure.set_label(
    f"The flower, the saliency of the predicted class {predicted}, and the drop of its probability under occlusion. "
    f"{100 * inside:.0f} % of the saliency lies in the middle disc of 40 pixels radius."
)
plt.show()
print(
    f"{100 * inside:.0f} % of the saliency lies in the disc around the middle, which is {100 * float(disc.float().mean()):.0f} % of the photo"
)

# %%
# Such maps ask for caution as well: some of them look like the output of an edge detector and hardly change when the
# network's weights are replaced by random ones :cite:p:`adebayo2018sanity`. :term:`Saliency` of the untrained network, correlated
# with that of the trained one:

pair = torch.stack(
    [saliency, features.saliency(untrained, flower, int(probabilities.argmax()))]
)
print(f"correlation over pixels: {pair.flatten(1).corrcoef()[0, 1]:.2f}")

# %%
# The measurement
# ---------------
#
# The network of the study is small, and its first layer stands apart: 16 filters, 3x3 or 7x7, *learnt* with all others;
# left as drawn at *random*; or set to a *bank* made by hand, of eight edges, two spots, and two pairs of opponent colours
# as spots and edges. Batch norm follows, so that the filters' scale does not matter.

plots.diagram(cnnhw.models.create("first_layer", size=48, side=7))

# %%
# Beside it a fourth kind, *swapped*: the first layer is taken from a trained network and frozen, and all layers that follow
# start anew. Were the layers that follow adapted to just these filters, as co-adaptation in deeper layers suggests
# :cite:p:`yosinski2014transferable`, that would be undone here; swapped, random and bank differ in nothing but the filters
# that are frozen.

for side in (3, 7):
    figure = plots.filters(bank(side), f"The bank of {side}x{side} filters")
    figure.set_label(
        f"Sixteen filters of {side}x{side} pixels made by hand: eight grey edges in steps of an eighth of half a turn, a "
        "bright spot, a spot with a dark surround, and red-green and blue-yellow as spots and as edges."
    )
    plt.show()

# %%
# Measured on trained networks, with photos of ``tiny5`` at 48 pixels, before batch norm and ReLU; each figure is a mean over
# the 16 :term:`channels <channel>`, from 0 to 1:
#
# * **Edge correlation**: between a map and the slope of the photo's brightness by Sobel's operator, to the right or
#   downwards, whichever is larger; without its sign.
# * **Magnitude correlation**: between the map's absolute value and the length of the slope. An edge detector regardless of
#   direction would have it high.
# * **Orientation selectivity**: one minus the circular variance of the answers to gratings :cite:p:`ringach2002orientation`.
#   An ideal derivative has :math:`1/3`, a blob 0.
# * **DC share**, as above, and **opponent share**: which part of the squared weights sets colours against each other; for
#   independent random weights :math:`2/3`.
# * **Figure-ground**: the area under the ROC curve of a channel that is read as "object or ground?" on generated scenes
#   with known masks; :math:`1/2` is chance. The mean over the channels, and the best channel.

records = cnnhw.studies.records("q3")
KINDS = ("learnt", "random", "bank")


def by_arm(figure_of, kinds):
    """Return a figure of each run, by kind and side of the first layer."""
    return {
        f"{kind}, {side}x{side}": [
            figure_of(r) for r in records if r.arm == f"{kind}_{side}"
        ]
        for side in (3, 7)
        for kind in kinds
    }


def draw(name, groups):
    """Draw a figure of all runs."""
    plots.strip(groups, name, f"{name[0].upper()}{name[1:]}, by first layer")


for measure in ("edge correlation", "magnitude correlation", "orientation selectivity"):
    draw(measure, by_arm(measured(measure), KINDS))
    plt.show()

# %%
# .. claim:: q3-edges
#    :verdict: not resolved
#
# .. claim:: q3-edges-seven
#    :verdict: not resolved
#
# .. claim:: q3-orientation
#    :verdict: not resolved
#
# In these five epochs, learnt filters cannot be told from random ones by any of these three claims. That may well be for lack of
# training. The filters of the bank were made to follow slopes; their dots lie on one another, as they are the same in each run.

for measure in ("dc share", "opponent share"):
    draw(measure, by_arm(measured(measure), KINDS))
    plt.show()

# %%
# .. claim:: q3-uniform
#    :verdict: not resolved
#
# .. claim:: q3-colour
#    :verdict: not resolved
#
# By their intervals alone, both of these would be refuted: in learnt filters the share of the sum is
# :finding:`q3-uniform larger by/smaller by`, and that of opponent colours :finding:`q3-colour larger by/smaller by`. Nine claims are tested together, by
# Holm's method :cite:p:`holm1979`, and neither survives.
#
# Subject and surroundings:

for measure in ("figure-ground", "figure-ground best"):
    draw(measure, by_arm(measured(measure), KINDS))
    plt.show()

# %%
# .. claim:: q3-figure
#    :verdict: not resolved
#
# A channel that sees 3x3 pixels can know of an object only what its brightness, colour and texture give away. The best of 16
# channels is a *selected* figure: of random filters, too, the best of 16 stands out (exercise 3).
#
# Does the network need what it has learnt?
# -----------------------------------------
#
# .. list-table:: Test accuracy on ``tiny5``, 48 pixels
#    :header-rows: 1
#    :stub-columns: 1
#
#    * - First layer
#      - 3x3
#      - 7x7
#    * - learnt with the rest
#      - :record:`q3/learnt_3 accuracy`
#      - :record:`q3/learnt_7 accuracy`
#    * - swapped: as learnt, frozen
#      - :record:`q3/swapped_3 accuracy`
#      - :record:`q3/swapped_7 accuracy`
#    * - random, frozen
#      - :record:`q3/random_3 accuracy`
#      - :record:`q3/random_7 accuracy`
#    * - bank, frozen
#      - :record:`q3/bank_3 accuracy`
#      - :record:`q3/bank_7 accuracy`

draw(
    "test accuracy",
    by_arm(lambda r: r.accuracy(), ("learnt", "swapped", "random", "bank")),
)
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
# By its interval alone, the last claim would count as supported. What strikes most in the table had not been claimed at all. The
# hand-made bank, frozen, minus the layer that is learnt with the rest: :paired:`q3/bank_3 learnt_3` at 3x3, and
# :paired:`q3/bank_7 learnt_7` at 7x7. These are observations.
#
# A reason why a random first layer need not cost much: the second layer mixes the 16 maps with weights of its own.
# Batch norm and ReLU stand between, but wherever they act nearly linearly, 16 random filters span a 16-dimensional part of
# the 27 dimensions of a patch, as any others do, and the second layer can mix what it wants from them. 7x7 filters have
# 147 dimensions, of which 16 at random miss the most.
#
# Loss, accuracy and confusions of the learnt 7x7 network:

figures.trained([r for r in records if r.arm == "learnt_7"], title="learnt, 7x7")
plt.show()

# %%
# Seven pixels wide
# -----------------
#
# In 3x3 pixels there is no room for the shapes of textbooks. In the first layers of large networks trained on millions of
# photos, filters of 7x7 or 11x11 pixels become gratings and colour blobs :cite:p:`yosinski2014transferable`; networks that are
# large for their task are reported to keep much of their random start :cite:p:`raghu2019transfusion`. Training alone leaves
# useless noise in the filters; :term:`weight decay` :cite:p:`loshchilov2019adamw` removes it. So here is a 7x7 layer, trained live on small, easy scenes for a few epochs, without weight decay
# and with a strong one:

small = scenes.load(size=32, train=1500, test=300, controls=scenes.EASY, progress=False)
network = cnnhw.models.create("first_layer", size=32, side=7, seed=1)
shapes = {"before": features.filters(network)}
for decay in (0.0, 1.5):
    network = cnnhw.models.create("first_layer", size=32, side=7, seed=1)
    recipe = cnnhw.Recipe(
        epochs=6,
        optimizer="adamw",
        learning_rate=1e-2,
        weight_decay=decay,
        schedule="one_cycle",
    )
    run = cnnhw.fit(network, small, recipe, progress=False)
    shapes[f"after, weight decay {decay:g}"] = features.filters(run.model)
    print(
        f"weight decay {decay:g}: {run.seconds:.0f} s of training, test accuracy {run.accuracy:.2f}"
    )
for when, weight in (shapes | {"bank": bank(7)}).items():
    print(
        f"{when:23} orientation selectivity {first_layer.orientation_selectivity(weight).mean():.2f}, "
        f"DC share {first_layer.dc_share(weight).mean():.2f}, opponent share {first_layer.opponent_share(weight).mean():.2f}"
    )
unit = [w / w.flatten(1).norm(dim=1)[:, None, None, None] for w in shapes.values()]
figure = plots.filters(
    torch.cat(unit),
    "7x7 filters before (0 to 15), after (16 to 31), and after with weight decay (32 to 47)",
)
figure.set_label(
    "Forty-eight filters of 7x7 pixels, scaled to equal norm, 16 each. Their share of opponent colours: "
    + ", ".join(
        f"{k} {first_layer.opponent_share(w).mean():.2f}" for k, w in shapes.items()
    )
    + "."
)
plt.show()

# %%
# These are reduced runs, on drawings, one each, only to look at filters. Those of a network of the study, trained on photos, are
# in the explorer, :explore:`before and after training <network=first_layer&layer=conv1>` or
# :explore:`untrained alone <network=first_layer&layer=conv1&untrained>`. The classes of the scenes differ in shape and texture and not
# in colour: look at what weight decay leaves of the filters' colours. And a filter that looks
# like noise need not be useless; it may be an edge detector with the noise of its start on top.
#
# What the original report said, and why it differed
# --------------------------------------------------
#
# The report showed the 16 channels behind the first average pooling of its network for one photo it had trained on, a dog, in
# BGR, so that the dog is blue. It said that some channels separate the subject from its surroundings, even the ground from
# the background, and that some show the lines of edges. That is a fair description of what can be seen. It does not
# show that anything was *learnt*, for four reasons:
#
# * **No control.** Filters at random show the same kinds of maps, as above.
# * **Each map had its own contrast.** A channel of next to nothing is then stretched to the whole range of greys, and a dead
#   one cannot be told from a weak one.
# * **It looked behind a pooling step**, where lines are blurred and three of four positions are gone.
# * **One photo, 16 maps, and the eye of one who knows what to look for.** With 16 channels some will single out the subject
#   of any one photo.
#
# The second one is easily seen. The maps of the flower after ReLU, once more, each stretched to its own range:

maps = features.maps(trained, flower[None], "features.relu1")[0]
low, high = (maps.flatten(1).aminmax(dim=1)[i][:, None, None] for i in (0, 1))
stretched = (maps - low) / (high - low).clamp(min=1e-12)
weak = int((high.flatten() < 0.1 * high.max()).sum())
figure = plots.feature_maps(
    stretched, flower, "The same maps, each with a contrast of its own: do not do this"
)
figure.set_label(
    "The 16 maps of the flower after ReLU, each stretched to its own range, so that weak ones look as strong as the rest."
)
plt.show()
print(f"channels whose largest value is below a tenth of the strongest one's: {weak}")

# %%
# **What would have refuted it.** "The first layer learns to extract edges" is refuted, for networks such as these, by
# learnt filters whose maps follow slopes no more closely than those of random filters; "the network needs it", by a
# random first layer that costs nothing.
#
# **What was known beforehand.** An earlier set of runs, of seeds 0 to 5, is not kept. When the claims of this page were
# written down again, its outcome was known in part. The runs shown here are of seeds 6 to 11 and were made after that.
#
# **What these runs cannot tell.** Each network saw half of the photos of ``tiny5`` five times, at 48 pixels, and all are of one
# architecture. Longer training on millions of photos is known to give cleaner filters; nothing here speaks against it. Sobel's
# slopes are those of brightness, so an edge between two colours of the same brightness counts for nothing. And a mean over
# channels hides a layer in which a few channels are excellent.
#
# A network of your own
# ---------------------
#
# The same pictures for any network that the package has trained, from the command line; the shipped ones also live, in the
# :doc:`feature explorer </feature_explorer>`:
#
# .. code-block:: console
#
#    $ cnnhw features q1_shallow photo.jpg
#    $ cnnhw features runs/mine photo.jpg --layer relu1 --out maps.png
#
# In Python, :func:`cnnhw.features.maps` and :func:`cnnhw.features.first_layer.scores` take any torch model.
#
# Exercises
# ---------
#
# How to work on them, and what the stars mean: :ref:`the page for students <exercises>`.
#
# **1. How much does a unit see?** ★ A layer with kernel side :math:`k` adds :math:`k - 1` steps to each side length of
# the receptive field, in units of the product of all strides before it. How wide is the field of a unit of each
# convolution of ``q1_shallow``, in which a 2x2 pooling follows each 3x3 convolution? Check it with the frames above.
#
# .. solution::

width, step, wide = 1, 1, {}
for layer in ("conv1", "conv2", "conv3"):
    width += (3 - 1) * step  # the convolution
    wide[layer] = width
    width += (2 - 1) * step  # the pooling
    step *= 2
print(wide)
assert wide == sides

# %%
# .. end-solution::
#
# **2. A filter's edges by luck** ★★ Draw 1,000 grey 3x3 filters of zero sum at random. How are their correlations with
# the slopes of the two photos distributed, and where in this distribution are Sobel's operator and the Laplacian?
#
# .. solution::

generator = torch.Generator().manual_seed(0)
drawn = torch.randn(1000, 1, 3, 3, generator=generator)
laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
grey = torch.einsum("nchw,c->nhw", photos, torch.tensor([0.299, 0.587, 0.114]))[:, None]
tried = torch.cat(
    [drawn - drawn.mean((2, 3), keepdim=True), slope[None, None], laplacian[None, None]]
)
found = first_layer.edge_correlation(
    F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="reflect"), tried), photos
)
closest = torch.maximum(found["gx"], found["gy"])
at = closest[:1000].quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64))
print(
    "5, 50 and 95 of 100 random filters are below",
    ", ".join(f"{q:.2f}" for q in at.tolist()),
)
print(f"Sobel {closest[1000]:.2f}, Laplacian {closest[1001]:.2f}")
assert closest[1001] < at[1] < closest[1000]

# %%
# Many a random filter of zero sum follows the slopes to a good part, without having learnt anything. The
# Laplacian, whose first moment is zero, does not.
#
# .. end-solution::
#
# **3. The best of sixteen** ★★★ A report shows the channel, of 16, that tells object from ground best. Draw 20 first
# layers of 16 random filters, and calculate the area under the curve on generated scenes for all channels. How far
# above the mean channel is the best one of a layer? Is it still the best on scenes that it was not chosen on?
#
# .. solution::

layers = torch.randn(20 * 16, 3, 3, 3, generator=generator)
areas = []
for number in (2_000_000, 2_000_100):
    some = scenes.draw(8, size=32, first=number)
    answers = F.conv2d(some.images / 255, layers, padding=1)
    areas.append(first_layer.area_under_curve(answers, some.masks).reshape(20, 16))
chosen, fresh = areas
best = chosen.argmax(1, keepdim=True)
print(f"mean channel {chosen.mean():.2f}")
print(
    f"the best of 16: {chosen.gather(1, best).mean():.2f} where chosen, {fresh.gather(1, best).mean():.2f} on other scenes"
)
assert chosen.gather(1, best).mean() > fresh.gather(1, best).mean()

# %%
# The best of many lies above their mean by its choice alone. What the chosen channel loses on other scenes was
# luck; what is left is what brightness and colour of the object give away. None of it was learnt.
#
# .. end-solution::
#
# .. provenance:: q3
#
# .. provenance:: live
