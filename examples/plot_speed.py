"""
Speed: what a minute on a laptop can do
=======================================

**The question.** The report's :term:`recipe` takes half an hour on a processor without a GPU. How soon can a network be as
accurate as the report's best one, how accurate does one get in two and in ten minutes, and where does the time go?

**The short answer.** On ``tiny5``, from random weights, with two threads:

* The recipe :meth:`cnnhw.Recipe.fast` reaches a test accuracy of :record:`dash/fast_2 accuracy` after
  :record:`dash/fast_2 seconds` seconds of training. It does so in two passes over the photos. The report's best
  network got :reported:`q1_deep test_accuracy` on Linnaeus 5, and on ``tiny5`` its recipe gets
  :record:`q1/q1_deep+q1_deep_30 accuracy@13`.
* With the larger network of :meth:`cnnhw.Recipe.best` it is :record:`minutes/two_minutes accuracy` after
  :record:`minutes/two_minutes minutes` minutes, and :record:`minutes/ten_minutes accuracy` after
  :record:`minutes/ten_minutes minutes` minutes.
* Most of the time of a step goes into convolutions, and in the report's larger network those run near what the
  processor can do at all. So what is gained is gained by *computing less*: fewer passes, smaller pictures first, shorter
  numbers, and a better use of each step.

``cnnhw bench`` says how fast training is on your machine, and ``python tests/benchmarks/bench.py``, in a checkout,
measures all of it. Where there are six seeds, statements carry a verdict; as they were
written down after the runs, they are marked *post hoc* on the page of :doc:`all claims </claims>`. All else on this page
is an observation; none of it is a promise for other machines or other photos. In particular ``tiny5`` consists of photos of 64x64 pixels, enlarged where a network
asks for more, which favours recipes that work at low resolution. Therefore the same is shown with the resolution held
at 128 pixels, and on ``flowers``, whose photos are larger.
"""

# %%
# The network
# -----------
#
# ``fast`` has the pieces that the quickest recipes for CIFAR-10 have :cite:p:`jordan2024airbench`, cut for a CPU. The
# :term:`first layer <stem>` takes patches of four pixels apart and halves the map; each stage halves it again right after its first
# convolution, so that most of the work is done on small maps; residual blocks :cite:p:`he2016deep` follow in the last
# two stages; an average over all positions and one linear layer end it, so that the same weights serve photos of any
# size. Each response of the first layer is kept with both signs :cite:p:`shang2016understanding`, as ReLU would drop
# one.

from matplotlib import pyplot as plt

import cnnhw
from cnnhw import plots, training
from cnnhw.book import benchmarks

model = cnnhw.models.create("fast", size=64)
plots.diagram(model)

# %%
# Its first layer is not learnt. The patches of photographs have far more contrast in slow gradients than in fine
# detail; the :term:`whitening` filters are the principal components of patches, each divided by its standard deviation, so
# that all details reach the next layer equally strong. With patches as rows of :math:`X`, mean removed, and
# :math:`X^\top X / n = V \operatorname{diag}(\lambda) V^\top`, filter :math:`i` is
#
# .. math:: w_i = v_i / \sqrt{\lambda_i + \varepsilon},
#
# and the responses :math:`X w_i` are uncorrelated and of equal variance (up to :math:`\varepsilon`, which keeps noise
# from being blown up). Computing them takes a fraction of a second. What the filters of the shipped network, of photographs,
# make of a photo is seen in :explore:`the explorer <network=fast&layer=stem&photo=china.jpg&channel=2>`. These are the filters
# for a few hundred scenes:

from cnnhw.data import scenes

pictures = scenes.load(size=64, train=500, test=50, progress=False)
training.whiten_(model, pictures.train.images.float() / 255)
filters = model.features.stem.weight.detach()  # (24, 3, 4, 4)
shown = filters / filters.abs().amax((1, 2, 3), keepdim=True) * 127 + 128
figure = plots.contact_sheet(
    shown.byte(),
    [str(i) for i in range(1, 25)],
    columns=8,
    title="Whitening filters, the strongest component first",
)
figure.set_label(
    "24 filters of 4x4 pixels in colour, each scaled to its own range, in the order of the patches' variance."
)
plt.show()

# %%
# What each part of the recipe contributes
# ----------------------------------------
#
# Each arm of the study leaves one part out, changes it, or adds one, and trains for the same eight passes. The recipe
# was chosen on photos held out from training before the study ran; its optimiser is :term:`Muon` :cite:p:`jordan2024muon`. Effects are
# differences to the full recipe with the same seed and photos, with an interval of 95 in 100 for other seeds and other
# test photos (:func:`cnnhw.studies.statistics.compare`).

from statistics import fmean

from cnnhw.studies import statistics

arms = {
    "no_whitening": "first layer learnt, not whitened",
    "adamw": "AdamW in place of Muon",
    "one_resolution": "64 pixels throughout",
    "float32": "float32 throughout",
    "cutout": "with a square covered (cutout)",
}
records = cnnhw.studies.records("fast")


def means(arm):
    """Return the mean accuracy and the mean seconds of an arm's runs."""
    runs = [record for record in records if record.arm == arm]
    return fmean(r.accuracy() for r in runs), fmean(r.content["seconds"] for r in runs)


rows = {}
print(f"{'':34}{'test accuracy':>14}{'effect, points':>28}{'seconds':>9}")
mean, cost = means("fast")
print(f"{'the full recipe':34}{mean:14.3f}{'':28}{cost:9.0f}")
for arm, words in arms.items():
    effect = statistics.of_arms(records, arm, "fast")
    low, high = effect.interval()
    rows[words] = (100 * effect.effect, 100 * low, 100 * high)
    mean, cost = means(arm)
    points = "{:+.1f} ({:+.1f} to {:+.1f})".format(*rows[words])
    print(f"{words:34}{mean:14.3f}{points:>28}{cost:9.0f}")
figure = plots.forest(
    rows,
    "test accuracy minus that of the full recipe, points",
    "What is lost, or gained, without each part",
)
plt.show()

# %%
# Whitening and Muon raise the accuracy (:claim:`speed-whitening supported`, :claim:`speed-muon supported`). Rising
# resolution and bfloat16 are there for the sake of time (:claim:`speed-resolutions-time supported`,
# :claim:`speed-bfloat16-time supported`; seconds are of one thread, two runs side by side) and cost less than 2.5 points
# (:claim:`speed-resolutions supported`, :claim:`speed-bfloat16 supported`). What was tried and left out of the recipe, after a
# few runs each that were judged by photos held out from training: larger batches, GELU, crops at random scales, CutMix,
# weight averaging, and averaging over a photo and its mirror image at
# test time, a gain that needs two predictions instead of one. In a training as short as this, a :term:`covered square <cutout>`
# :cite:p:`devries2017cutout` came out at :effect:`speed-cutout`. In the longer ones of :meth:`cnnhw.Recipe.best` one or two such runs spoke
# for it, and for photos :term:`blended in pairs <mixup>` :cite:p:`zhang2018mixup`: both keep the network from learning the photos by
# heart.
#
# Time to accuracy
# ----------------
#
# How soon is a network as accurate as the report's two networks were, :reported:`q1_shallow test_accuracy` and
# :reported:`q1_deep test_accuracy`? On the other side stands the report's better recipe in Keras, with TensorFlow, on
# the same photos and the same machine, run once. Curves were drawn afterwards; nothing was decided by them.

result = benchmarks.record()


def curves(photos):
    """Return the curves of one data set by name, one for each run."""
    found = {}
    for row in result["accuracy"][photos]:
        keras = row["side"] == "keras"
        name = "q1_deep, the report's recipe in Keras" if keras else row["setting"]
        found.setdefault(name, []).append(row["curve"])
    return found


figure = plots.time_to_accuracy(
    curves("tiny5"),
    benchmarks.LEVELS,
    "tiny5: accuracy against seconds, from random weights",
)


plt.show()

figure = plots.time_to_accuracy(
    curves("flowers"),
    benchmarks.levels(result, "flowers"),
    "flowers: accuracy against seconds, from random weights",
)
plt.show()

# %%
# The whole table, as ``tests/benchmarks/bench.py`` prints it, with the targets that were set beforehand. The number in
# "Keras 100 times" is the ratio of the times in which ``q1_deep`` reaches the same accuracy, in Keras and here:

print(benchmarks.table(result))

# %%
# Where the recipe in Keras never reaches a level, its whole training time is a lower bound for what it would need, and
# the ratio is one "more than".
#
# Near the peak, or far from it
# -----------------------------
#
# A training step of a network with :math:`M` multiply-adds a photo costs about :math:`6M` floating-point operations:
# two each for the forward pass, for the gradient of the maps and for that of the weights. The machine's peak was
# measured by large matrix products and convolutions. What a network reaches of it says how much could still be gained
# without computing less.
#
# The table above says how many photos a second the report's networks train, here and in Keras, and what the target was. Both
# sides call the same library for convolutions (oneDNN), and ``q1_deep`` runs
# so near to the peak on both sides that a fifth more would need all of it, to the last operation. ``q1_shallow`` is
# further from it: its first convolution sees three channels only, too few for the processor's vectors, and its large
# first maps cost memory traffic more than arithmetic. Tried without success for it: padding the photos to four and to
# eight channels, ReLU in place, and binding threads to processors. In bfloat16, which the report did not use and which
# halves the size of numbers, there is twice as much arithmetic, and both networks gain a good part of it.

names = {
    row["model"]: f"{row['model']}, {row['size']} pixels" for row in result["profile"]
}
figure = plots.shares(
    {names[row["model"]]: row["shares"] for row in result["profile"]},
    "Where the time of training goes",
)
shares = {
    f"{row['model']}, {kind}": [share]
    for row in result["profile"]
    for kind, share in row["shares"].items()
}
plt.show()

# %%
# The same from outside, by sampling where in the package a training process is (py-spy); what is called from there in
# other packages is counted to it. In ``fast``, the optimiser's step is the price of Muon: its matrix products.

for row in result["profile"]:
    print(names[row["model"]])
    for place, share in list(row["places"].items())[:6]:
        print(f"    {share:4.0%}  {place}")

# %%
# Two things that are not arithmetic were found by profiling, and mended. Memory that a step had freed was given back to
# the system, which had to clear fresh pages for the next step; now the commands keep it, and so can a script
# (:func:`cnnhw.system.keep_freed`). And in
# ``q1_shallow``, ReLU now comes after max pooling: the two can be exchanged without changing any result, and so it
# has a quarter of the cells to work on.
#
# How time grows
# --------------

scaling = result["scaling"]
by_count = scaling["photos"]
epochs = [row["photos"] / row["photos_per_second"] for row in by_count]
by_side = {}
for row in scaling["side"]:
    along, up = by_side.setdefault(row["model"], ([], []))
    along.append(row["size"])
    up.append(1000 / row["photos_per_second"])
figure = plots.scaling(
    {
        "photos (fast, 64 pixels)": {
            "fast": ([row["photos"] for row in by_count], epochs)
        },
        "side of 1,000 photos in pixels": by_side,
    },
    "seconds an epoch",
    "Seconds an epoch, by the number of photos and by their side",
)
plt.show()

# %%
# Many runs at once
# -----------------
#
# A claim takes many runs. With two threads for one run, the threads wait for each other at every operation, and what
# has not been divided among them is done by one; with one run a thread neither happens. So ``cnnhw study run`` starts
# as many one-thread processes as there are processors. The last lines of the table above compare both ways, in turns.
# Since freed memory is kept, one run with two threads waits less, and so less is left to be saved.
#
# Within a budget of time
# -----------------------
#
# For photos of your own, ``cnnhw train ensemble --minutes 10 --data FOLDER`` measures the machine for a second and plans:
# a process for each processor, in which networks are trained one after the other; the largest resolution, up to that of the
# photos, which leaves each of them time for some ten passes; and as many networks as there is time for. Their mean answers.
# The schedule follows the clock, so that training ends in time whatever else the machine does. The plan here for a thousand
# photos, in half a minute and in ten:

from cnnhw.training import presets

for minutes in (0.5, 10):
    plan = presets.within(minutes, 1000)
    print(
        f"{minutes:4} minutes: {plan.members} {plan.model} at {plan.size} pixels in {plan.recipe.precision}"
    )

# %%
# What would have refuted it
# --------------------------
#
# That the recipe is quick because it computes less, and not because of this machine, would be refuted by a machine on
# which the ratio to Keras vanishes: run ``python tests/benchmarks/bench.py`` on yours. That each part of the recipe pays would be refuted by
# an interval above that lies on the wrong side of zero; where one includes zero, six seeds do not tell.
#
# Exercises
# ---------
#
# How to work on them, and what the stars mean: :ref:`the page for students <exercises>`.
#
# **1. Operations by hand** ★ How many multiply-adds does the second convolution of ``q1_deep`` take for a photo of 128
# pixels, and what share of a training step's operations is that?
#
# .. solution::

side, kernel, channels, out = 64, 5, 16, 32  # after the first pooling
by_hand = side**2 * kernel**2 * channels * out
print(
    f"{by_hand:,} multiply-adds, {6 * by_hand / benchmarks.flops('q1_deep', 128):.0%} of the operations of a step"
)
assert by_hand == 52_428_800

# %%
# .. end-solution::
#
# **2. What half the side saves** ★★ The recipe trains at a half, three quarters and all of the side. If a pass costs in
# proportion to the area, what share of the time of eight full passes does it take? Compare that with what the arm with
# 64 pixels throughout took in the records.
#
# .. solution::

recipe = cnnhw.Recipe.fast()
areas = [(recipe.side(epoch, 64) / 64) ** 2 for epoch in range(1, recipe.epochs + 1)]
measured = means("fast")[1] / means("one_resolution")[1]
print(
    [recipe.side(epoch, 64) for epoch in range(1, recipe.epochs + 1)],
    f"{fmean(areas):.0%} by area, {measured:.0%} measured",
)
assert fmean(areas) < measured < 1

# %%
# Not all of it is saved in practice: small maps keep the processor less busy.
#
# .. end-solution::
#
# **3. Whitening, checked** ★★★ Show that the responses of the filters above to patches that they were not computed from
# are nearly uncorrelated. Then break it: take as many filters at random. What would a layer after them have to undo?
#
# .. solution::

import torch
from torch.nn import functional as F

patches = F.unfold((pictures.test.images.float() / 255 - 0.45) * 4, 4, stride=4)
patches = patches.transpose(0, 1).flatten(1)
largest = {}
for name, weight in (
    ("whitened", filters),
    ("random", torch.randn_like(filters)),
):
    correlation = torch.corrcoef(weight.flatten(1) @ patches)
    largest[name] = float((correlation - torch.eye(24)).abs().max())
    print(f"{name}: largest correlation of two filters {largest[name]:.2f}")
assert largest["whitened"] < 0.5 < largest["random"]

# %%
# Random filters nearly all answer to brightness, which varies most in patches, so their responses say the same thing
# many times over. A layer that follows would have to take that apart before it could see any detail.
#
# .. end-solution::
#
# .. provenance:: dash
# .. provenance:: fast
# .. provenance:: minutes
# .. provenance:: bench
# .. provenance:: live
