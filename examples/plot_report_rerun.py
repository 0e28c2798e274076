"""
The report, re-run
==================

**The question.** A student's report answered this homework once. What do its experiments give when they are repeated
exactly as reported, faults included, on photos that anyone can have?

**The short answer.** The oddities of its curves come back on other photos: the :term:`validation accuracy <validation photos>` that jumps about far
below the training accuracy, the first losses in the hundreds, the second stage that does not learn. So they are no
accidents of the report's data. They follow from how the experiments were set up, and the
:doc:`twelve faults <plot_report_faults>` account for these patterns. They do not account for every *accuracy*: how far the
networks of Q2 and Q4 lie from Q1's, here and in the report, is printed below, and what held Q4's down in the report these runs do
not show.

* ``q1_shallow``: :record:`q1/q1_shallow accuracy@15` here; the report has :reported:`q1_shallow test_accuracy`.
* ``q1_deep``: :record:`q1/q1_deep+q1_deep_30 accuracy@13`; the report has :reported:`q1_deep test_accuracy`.
* ``q2_concat_skip``: :record:`report/q2_concat_skip accuracy`; the report has
  :reported:`q2_concat_skip test_accuracy`.
* ``q4_inception``: :record:`report/q4_inception accuracy` after 8 of the report's 50 epochs; the report has
  :reported:`q4_inception test_accuracy`.
* ``q6_from_inception``: :record:`report/q6_from_inception accuracy`; the report has
  :reported:`q6_from_inception test_accuracy`.
* ``q6_from_deep``: :record:`report/q6_from_deep accuracy`; the report has :reported:`q6_from_deep test_accuracy`.

These are **observations, not claims**: there are one, three or six runs of each, and the photos are not the report's. Never
compare the two columns as if they measured one thing; compare the patterns.
"""

# %%
# What was repeated, and what was not
# -----------------------------------
#
# Everything that the report's notebooks did is in the package by name, so that each part can be had with or without:
#
# .. list-table::
#    :header-rows: 1
#
#    * - In the report
#      - Here
#    * - its networks, to the parameter
#      - ``q1_shallow``, ``q1_deep``, ``q2_concat_skip``, ``q4_inception``
#    * - pixels that were never divided by 255 (Q2, Q4)
#      - ``Recipe(raw=True)``
#    * - the last epoch's weights, and not the best's
#      - ``Recipe(keep="last")``
#    * - the unshuffled last tenth for validation (Q4)
#      - protocol ``last_tenth``
#    * - OpenCV's channels: blue, green, red
#      - protocol ``bgr``
#    * - flowers split at random, once more for each run
#      - protocol ``random_split``
#    * - a second stage that trains the classifier only (Q6)
#      - ``Stage("classifier", ...)`` twice
#    * - the old classifier, kept for new classes (Q6)
#      - ``transfer(..., new_classifier=False)``
#
# The networks were checked against the same networks in Keras: with the same weights they give the same logits, to
# one part in ten thousand, on pixels in 0..1 and in 0..255, and the losses of the first five steps of training agree.
# Two differences remain. PyTorch's Adam adds its epsilon after the correction for the young second moment, Keras's before
# it, which matters in the first steps of gradients that are nearly zero. And in Keras, the moments of Adam live on into
# a second stage that was not compiled; here each stage starts with new ones.
#
# The photos are ``tiny5`` for Linnaeus 5, and the same flowers as in the report. The 30-epoch record of Q1 is cut at
# its 13th epoch; its channels are red, green, blue. What the order of the channels does by itself came out at
# :effect:`fault-bgr` (:doc:`fault 10 <plot_report_faults>`). ``q4_inception`` was trained for 8 epochs only, up to the report's own best
# epoch: all 50 would have taken hours.
#
# Every number, side by side
# --------------------------

from matplotlib import pyplot as plt

import cnnhw
from cnnhw import plots
from cnnhw.book import original_report, rerun

ours = {name: rerun.ours(name) for name in original_report.names()}
rerun.table({"Here": ours}, rerun.WORDS)

# %%
# Ranges are from the lowest to the highest run, with the mean before them (the median, for epochs). The epoch of
# convergence is the first one whose validation accuracy comes within two points of the highest; it was computed in
# the same way from both sides' curves. Times here are of one thread, with another run beside it.
#
# The curves
# ----------
#
# Lines are ours, crosses and circles are what the report's notebooks printed.

SHOWN = {
    "q1_shallow": "Q1, first network",
    "q1_deep": "Q1, second network",
    "q2_concat_skip": "Q2, concatenated skips, raw pixels",
    "q4_inception": "Q4, Inception modules, raw pixels, validated on one class",
}


def cut(name):
    """Return the histories of our runs, as long as the shortest, and the report's."""
    records, epoch = ours[name]
    reported = original_report.get(name).whole_history()
    length = min(len(r.history["loss"]) for r in records)
    length = min(epoch or length, length)
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    return [{k: r.history[k][:length] for k in names} for r in records], reported


for name, title in SHOWN.items():
    histories, reported = cut(name)
    figure = plots.curves({name: histories}, reported={name: reported}, title=title)
    highest = {"q2_concat_skip": 4, "q4_inception": 13}.get(name)
    if highest:
        figure.axes[0].set_ylim(0, highest)
    plt.show()

# %%
# The mean loss of the first epoch of ``q2_concat_skip`` is :record:`report/q2_concat_skip loss@1` here, that of
# ``q4_inception`` :record:`report/q4_inception loss@1`; the highest loss among its first twenty steps is
# :record:`report/q4_inception highest_first_loss`. A network that knows nothing about five classes should begin at
# :math:`\ln 5 \approx 1.61`. The report's first epochs read
# :reported:`q2_concat_skip first_epoch_loss` and :reported:`q4_inception first_epoch_loss`.
#
# The accuracies are another matter. How far do the networks of Q2 and Q4 lie behind ``q1_shallow``, all as reported?


def final(name):
    """Return the mean test accuracy of our runs after the last epoch."""
    records, epoch = ours[name]
    values = [r.accuracy(epoch or len(r.history["loss"])) for r in records]
    return sum(values) / len(values)


behind = {}
for name in ("q2_concat_skip", "q4_inception"):
    here = final("q1_shallow") - final(name)
    there = (
        original_report.get("q1_shallow").test_accuracy
        - original_report.get(name).test_accuracy
    )
    behind[name] = here / there
    print(f"{name:15} {100 * there:4.1f} points in the report, {100 * here:4.1f} here")
assert behind["q2_concat_skip"] > 0.5 > behind["q4_inception"]

# %%
# The faults are the same on both sides, so they do not explain the report's Q4. What is left are 42 more epochs of
# overfitting there, and the photos: Linnaeus 5 has four times the pixels of these; which of the
# two it is, if either, was not tested. Whoever has that set can find out with one command (below).
#
# The transfers
# -------------

for name, title in {
    "q6_from_inception": "Q6 from Q4's network, both stages",
    "q6_from_deep": "Q6 from Q1's network, both stages",
}.items():
    histories, reported = cut(name)
    figure = plots.curves({name: histories}, reported={name: reported}, title=title)
    figure.axes[0].set_ylim(0, 4)
    first = original_report.get(name).stages[0].epochs
    for axis in figure.axes:
        axis.axvline(first + 0.5, color="0.5", linewidth=1)
    plt.show()

# %%
# In the report's second stage of ``q6_from_inception`` the loss goes *up* a little, at the same time for an epoch as
# before. That is what a last layer does that goes on training alone. Let everything train for just three epochs, with
# all else the same, and the picture changes:

head = ours["q6_from_inception"][0]
(whole,) = (
    r for r in cnnhw.studies.records("report") if r.arm == "q6_from_inception_trained"
)
figure = plots.lines(
    {
        "second stage as reported": [r.history["loss"][:53] for r in head],
        "second stage that trains all layers": [whole.history["loss"]],
    },
    "training loss (nats)",
    "Training loss, with a second stage as reported and one that trains all layers",
    log=True,
)
lowest = min(loss for r in head for loss in r.history["loss"])
reached = whole.history["loss"][-1]
plt.show()
print(
    f"classifier alone, lowest of {len(head[0].history['loss'])} epochs: {lowest:.2f}"
)
print(f"all layers, after three epochs:           {reached:.2f}")
assert reached < lowest

# %%
# So the first network was not caught in a local optimum. Test accuracy after these three epochs: :record:`report/q6_from_inception_trained accuracy`, against
# :record:`report/q6_from_inception accuracy` as reported.
#
# Confusion matrices
# ------------------

matrices, classes = {}, {}
for name in original_report.names():
    records, epoch = ours[name]
    for title, matrix, labels in (
        (
            f"{name}, report",
            original_report.get(name).confusion,
            original_report.get(name).classes,
        ),
        (
            f"{name}, here",
            sum(r.confusion(epoch or len(r.history["loss"])).double() for r in records)
            / len(records),
            records[0].classes,
        ),
    ):
        matrices[title], classes[title] = matrix, labels
figure = plots.confusion(matrices, classes, columns=2)
figure.set_label(
    "Twelve confusion matrices in pairs, the report's on the left and ours on the right. The share of the last class "
    "that the network of Q4 finds, half of whose photos were missing from its training: "
    + ", ".join(
        f"{side} {float(matrix[-1, -1] / matrix[-1].sum()):.2f}"
        for side in ("report", "here")
        for matrix in [matrices[f"q4_inception, {side}"]]
    )
    + "."
)
plt.show()

# %%
# The clearest trace of a fault is in Q4's last row. Half of the training photos of that class were set aside for
# validation, and on both sides no other class is found so rarely:

for side in ("report", "here"):
    matrix = matrices[f"q4_inception, {side}"]
    shares = (matrix.diagonal() / matrix.sum(1)).tolist()
    print(f"{side:7}" + " ".join(f"{share:.2f}" for share in shares))
    assert min(shares) == shares[-1]

# %%
# What an experiment costs
# ------------------------
#
# The :term:`head` stages train the last layer on what the frozen layers say of a photo, which never changes. It is computed once
# and kept; the result is the same to rounding (a test holds that). For ``q6_from_deep``, the seconds of an
# epoch of the head, with kept features and when each epoch computes them again:

kept = ours["q6_from_deep"][0][0].history["seconds"][1:10]
(again,) = (
    r for r in cnnhw.studies.records("report") if r.arm == "q6_from_deep_uncached"
)
kept_epoch, again_epoch = sum(kept) / len(kept), again.history["seconds"][-1]
print(f"kept {kept_epoch:.3f} s, computed again {again_epoch:.1f} s: ", end="")
print(f"{again_epoch / kept_epoch:.0f} times as long")
first = ours["q6_from_deep"][0][0].history["seconds"][0]
print(f"the first epoch, which computes them: {first:.1f} s")
print(f"{'':22}{'report':>10}{'here':>10}   seconds of training")
for name in original_report.names():
    records, epoch = ours[name]
    there = original_report.get(name).seconds or sum(
        original_report.get(name).whole_history()["seconds"]
    )
    here = [sum(r.history["seconds"][:epoch]) for r in records]
    print(f"{name:22}{there:10,.0f}{sum(here) / len(here):10,.0f}")

# %%
# **What would have refuted it.** Had our curves of Q2 and Q4 begun near :math:`\ln 5`, had the validation accuracy of
# Q4 risen with the training accuracy, or had the second stage of ``q6_from_inception`` learnt, then the report's oddities
# would have been its own, and not its protocol's. The records say otherwise:

import math

inception = ours["q4_inception"][0][0]
assert inception.content["first_losses"][0] > 5 * math.log(5)
swings = inception.history["validation_accuracy"]
assert max(swings) - min(swings) > 0.1
assert inception.history["loss"][-1] < inception.history["loss"][1]
losses = ours["q6_from_inception"][0][0].history["loss"]
assert min(losses[50:]) > 0.8 * losses[49]

# %%
# Your own column
# ---------------
#
# One command re-runs any of it on your machine, and prints the table with a column of yours. With Linnaeus 5, it is the
# real comparison:
#
# .. code-block:: sh
#
#    cnnhw reproduce all --data linnaeus5
#    cnnhw reproduce q6_from_deep --data scenes --quick    # a few minutes, needs no files
#
# Exercises
# ---------
#
# How to work on them, and what the stars mean: :ref:`the page for students <exercises>`.
#
# **1. Is it the same network?** ★ The report's second network for Q1 has 2,613,925 parameters. Count those of its dense
# layers by hand, and check that the rest are the four convolutions.
#
# .. solution::

dense = (128 * 8 * 8 + 1) * 256 + (256 + 1) * 5
kernels = ((3, 3, 16), (5, 16, 32), (7, 32, 64), (7, 64, 128))
convolutions = sum(out * (k * k * channels + 1) for k, channels, out in kernels)
print(f"{dense:,} + {convolutions:,} = {dense + convolutions:,}")
assert dense + convolutions == original_report.get("q1_deep").parameters

# %%
# .. end-solution::
#
# **2. How far could luck take it?** ★★ The head stage of ``q6_from_deep`` ended at the accuracy in the table, on 734
# flowers. Which accuracies would other flowers have given the same network? How many flowers would an interval of half
# that width take?
#
# .. solution::

stage = original_report.get("q6_from_deep").stages[0]
right, total = int(stage.confusion.trace()), int(stage.confusion.sum())
low, high = cnnhw.evaluation.wilson_interval(right, total)
print(f"{right} of {total}: {low:.3f} to {high:.3f}")
narrow = cnnhw.evaluation.wilson_interval(4 * right, 4 * total)
print(f"four times as many: {narrow[0]:.3f} to {narrow[1]:.3f}")
assert low < right / total < high
assert abs((narrow[1] - narrow[0]) / (high - low) - 0.5) < 0.01

# %%
# .. end-solution::
#
# **3. Read a curve** ★★★ Without looking at its code: how do you see, in the curves of ``q4_inception`` above, that its
# validation photos are not like its training photos? Turn it into a number: by how much does validation accuracy change
# from epoch to epoch, in units of what the sampling of 600 photos allows? Calculate it for ``q4_inception`` and for
# ``q1_deep``, and say why the second is an upper bound for a healthy run.
#
# .. solution::


import itertools


def unrest(record):
    """Return the typical change between epochs, in standard errors of a difference."""
    line = record.history["validation_accuracy"]
    changes = [b - a for a, b in itertools.pairwise(line)]
    typical = (sum(c * c for c in changes) / len(changes)) ** 0.5
    mean = sum(line) / len(line)
    return typical / math.sqrt(2 * mean * (1 - mean) / 600)


found = {name: unrest(ours[name][0][0]) for name in ("q4_inception", "q1_deep")}
print(", ".join(f"{name} {value:.1f}" for name, value in found.items()))
assert found["q4_inception"] > 3 * found["q1_deep"]

# %%
# Training loss falls smoothly while validation accuracy jumps by many standard errors. For ``q1_deep`` the changes hold
# what is learnt between epochs as well, and the photos are the same in each epoch, so that sampling alone would give
# less. Two measurements to ask for: the number of validation photos of each class, and the validation accuracy on
# training photos of those same classes.
#
# .. end-solution::
#
# .. provenance:: report
#
# .. provenance:: q1
