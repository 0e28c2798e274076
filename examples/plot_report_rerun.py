"""
The report, re-run
==================

**The question.** A student's report answered this homework once. Do its experiments give the same again, repeated as reported, faults
included, on photos that anyone can have?

To read: 20 minutes, after :doc:`the faults <plot_report_faults>`. Afterwards you can say what a repeated experiment shows, and what it
does not.

**The answer.** The odd curves come back, on other photos and from other initial weights. So they were no accidents of one run; the setup is
the likely cause, and the chapter on :doc:`the faults <plot_report_faults>` tests it. The accuracies agree in some cases only. That of Q2's
network is :record:`report/q2_concat_skip accuracy` here and :reported:`q2_concat_skip test_accuracy` in the report; that of Q4's is
:record:`report/q4_inception accuracy` here, after 8 of the report's 50 epochs, and :reported:`q4_inception test_accuracy` there.
"""

from matplotlib import pyplot as plt

import cnnhw
from cnnhw.book import original_report, rerun, rerun_figures

runs = {name: rerun.ours(name) for name in original_report.names()}
rerun_figures.accuracies(runs)
plt.show()

# %%
# Bars show how far other test photos of the same kind could move the report's accuracy. Triangles are single runs of the same networks in
# Keras, from the benchmark of the chapter on :doc:`speed <plot_speed>`; why that of Q1's second network lies where it does, we do not know.
# All are :term:`observations <observation>` of one to six runs. ``tiny5`` stands in for Linnaeus 5; the flowers of Q6 come from the
# report's set, split anew. Compare the patterns, not the heights.
#
# * **First losses.** The mean loss of Q2's first epoch is :record:`report/q2_concat_skip loss@1` here and
#   :reported:`q2_concat_skip first_epoch_loss` in the report. Guessing among five classes costs :math:`\ln 5 \approx 1.61`.
# * **Validation.** The lowest :term:`validation accuracy <validation photos>` of Q4's network is
#   :record:`report/q4_inception lowest_validation` here and :reported:`q4_inception lowest_validation` in the report.
# * **The second stage of Q6's first transfer.** The training loss goes from :record:`report/q6_from_inception loss@50` to
#   :record:`report/q6_from_inception loss` here, from :reported:`q6_from_inception head_loss` to
#   :reported:`q6_from_inception last_loss` in the report.
#
# What could be repeated, and what could not
# ------------------------------------------
#
# The report kept what its notebooks printed: curves, summaries, confusion matrices. Without them nobody could repeat anything. Each
# part of its setup now has a name in the package, and can be switched on and off:
#
# * ``q1_shallow``, ``q1_deep``, ``q2_concat_skip``, ``q4_inception``: its networks, to the parameter;
# * ``Recipe(raw=True)``: pixels that were not divided by 255; ``Recipe(keep="last")``: the last epoch's weights, and not the best's;
# * protocols ``last_tenth``, ``bgr``, ``random_split``: the unshuffled last tenth for validation; blue and red exchanged; flowers split
#   at random, once more for each run;
# * ``Stage("classifier", ...)`` twice: a second stage that trains the classifier only; ``new_classifier=False``: the old one, kept.
#
# **In Keras.** With the same weights the networks here and in Keras give the same :term:`logits` to one part in ten thousand, and the same
# losses in the first five steps; tests hold that. Two differences are left. Adam adds its epsilon at another place, which matters for
# tiny gradients. And in Keras its moments live on into a second stage that was not compiled; here each stage starts with new ones.
#
# **Not repeated.** The photos: ``tiny5`` has fruit and insects where Linnaeus 5 has berries and flowers. The last 42 of Q4's 50 epochs,
# which would have taken hours: it stops at the report's own best epoch. The order of the channels in Q1, which by itself came out at
# :paired:`faults/bgr sound`. ``q1_deep`` is cut at the report's 13th epoch.
#
# The curves
# ----------

rerun_figures.curves(runs)
plt.show()

# %%
# Means of our runs, with bands from the lowest to the highest; a second stage begins at the upright line. Look at the first points of
# Q2 and Q4, at the validation accuracy of Q4, and at Q6's first transfer on both sides of its line.
#
# Which oddities came back
# ------------------------
#
# Numbers of faults are those of :doc:`their chapter <plot_report_faults>`: 1 is validation on one class, 2 raw pixels, 3 a skip that is not
# residual, 4 a second stage that trains the last layer only, 5 the old classifier, 11 test photos drawn anew for each run, 12 seconds that cannot be
# compared.

rerun.traces(runs)

# %%
# Each row has a rule that a sound run should not meet. The rules were made when both sides were known, so they describe and test
# nothing. To switch one fault at a time is the test: :doc:`the faults <plot_report_faults>` do it. Raw pixels alone, for example, change
# the accuracy of Q2's network by :paired:`faults/concat_raw concat`. Of the rows chosen here, one does not come back:

(missing,) = (row for row in rerun.traces(runs).rows if row.columns[-1] == "no")
print(f"does not come back: {rerun.TITLES[missing.experiment]}: {missing.measure}")
assert missing.experiment == "q4_inception"

# %%
# Both sides have the same faults, so these alone are not why the report's Q4 ended so far below its Q1. Among the remaining differences are
# 42 more epochs of :term:`overfitting`, other classes, photos with four times the pixels, and the luck of one run. Which of them it is was
# not tested.
#
# The second stage, with the fault and without it
# -----------------------------------------------
#
# The report set ``trainable = True`` and did not compile again, so the last layer went on training alone: fault 4. Without the fault, for
# three epochs only, and with all else the same (at first the loss may jump, as all layers begin to move):

rerun_figures.second_stage(runs)
plt.show()
lowest = {r.arm: min(r.history["loss"]) for r in cnnhw.studies.records("report")}
assert lowest["q6_from_inception_trained"] < lowest["q6_from_inception"]

# %%
# The report took its flat loss for a local optimum, a fair reading of the curve. It was a second stage that trained the last layer only. Test
# accuracy with the fault: :record:`report/q6_from_inception accuracy`; without: :record:`report/q6_from_inception_trained accuracy`; one run
# each, on some 660 photos.
#
# Which classes are found
# -----------------------

rerun_figures.shares_found(runs)
plt.show()

# %%
# In Q4 half of the training photos of "other" were set aside for validation. On both sides it is found least often: see the table above.
#
# Every number, side by side
# --------------------------

rerun.table({"Here": runs}, rerun.WORDS)

# %%
# Ranges are from the lowest to the highest run, after the mean (the median, for epochs). An epoch of convergence is the first whose
# validation accuracy is within two points of the highest. Our times are of one thread. What frozen layers say of a photo is computed
# once and kept. Seconds of an epoch of the head on Q1's network without that: :record:`report/q6_from_deep_uncached seconds_an_epoch`.
#
# **A worked example: how near is near?** A share :math:`p` of :math:`n` photos has a standard error of :math:`\sqrt{p(1-p)/n}`. For the
# report's first network, and its distance from the mean of our runs:

found, epoch = runs["q1_shallow"]
p, n = original_report.get("q1_shallow").test_accuracy, len(found[0].labels)
ours = sum(r.accuracy(epoch or 15) for r in found) / len(found)  # after its 15 epochs
print(f"standard error {100 * (p * (1 - p) / n) ** 0.5:.1f} points")
print(f"distance       {100 * abs(ours - p):.1f} points")

# %%
# Were both measured on photos of one kind, so small a distance would be within chance. They were not, so the agreement may be one, too.
#
# .. trained:: report
#
#    q2_concat_skip: Q2, concatenated skips, raw pixels
#    q4_inception: Q4, Inception modules, raw pixels, validated on one class
#    q6_from_inception: Q6, transfer of Q4's network, with the fault in its second stage
#    q6_from_inception_trained: Q6, transfer of Q4's network, without the fault
#    q6_from_deep: Q6, transfer of Q1's network
#
# The networks of Q1, with their numbers under other protocols, are in :doc:`its chapter <plot_q1_cnn>`. For your own column, with or without Linnaeus 5:
#
# .. code-block:: sh
#
#    cnnhw reproduce all --data linnaeus5
#    cnnhw reproduce q6_from_deep --data scenes --quick    # a few minutes
#
# .. admonition:: Misconceptions
#
#    * *"What can be reproduced is right."* A fault can be reproduced as well: these were.
#    * *"Curves of the same shape, so accuracies of the same height."* The shape shows the setup. The height depends on photos and epochs,
#      too.
#    * *"Another library, another result."* The same weights give the same logits; a different result need not come from the library.
#
# **Check yourself.** Decide first, then open the answer.
#
# .. dropdown:: A new network for ten classes starts with a loss of 40. What do you expect instead, and where do you look?
#
#    Guessing costs :math:`\ln 10 \approx 2.3`. Look at the pixels as the network gets them: are they divided by 255?
#
# .. dropdown:: You unfreeze all layers, and an epoch takes as long as before. What has happened?
#
#    Probably the layers are still frozen: a backward pass through all of them takes time. Compare an early layer's weights before and after.
#
# .. dropdown:: Q4's network has one accuracy in Keras and another in PyTorch. Is PyTorch better?
#
#    Nobody can say: the photos differ, the epochs differ, and there is one run of each. Compare on the same photos, with several seeds.
#
# **Remember three things.** A repeated result shows that the setup makes it, not that the setup is sound. Look at the first loss, the
# classes in validation, and the trainable parameters. Compare heights on the same photos only.
#
# Exercises
# ---------
#
# How to work on them, and what the stars mean: :ref:`the page for students <exercises>`.
#
# **1. Is it the same network?** ★ The report's second network for Q1 has 2,613,925 parameters. Count those of its dense layers by hand,
# and check that the rest are the four convolutions.
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
# **2. How far could luck take it?** ★★ The first stage of ``q6_from_deep`` ended at the "test accuracy after stage 1" in the table, on 734
# flowers. Which accuracies would other flowers have given the same network (two standard errors either way)? How many flowers would an
# interval of half that width take?
#
# .. solution::

stage = original_report.get("q6_from_deep").stages[0]
right, total = int(stage.confusion.trace()), int(stage.confusion.sum())
low, high = cnnhw.evaluation.wilson_interval(right, total)
print(f"{right} of {total}: {low:.3f} to {high:.3f}")
narrow = cnnhw.evaluation.wilson_interval(4 * right, 4 * total)
print(f"four times as many: {narrow[0]:.3f} to {narrow[1]:.3f}")
assert abs((narrow[1] - narrow[0]) / (high - low) - 0.5) < 0.01

# %%
# .. end-solution::
#
# **3. Read a curve** ★★★ Without looking at its code: how do you see, in the curves of Q4 above, that its validation photos are not
# like its training photos? Turn it into a number: by how much does validation accuracy change from epoch to epoch, in units of
# :math:`\sqrt{2p(1-p)/600}`, the standard error of a difference between two samples of 600 photos? Calculate it for Q4 and for Q1's second
# network, and say why a healthy run should stay near 1.
#
# .. solution::

import itertools
import math


def unrest(record):
    """Return the typical change between epochs, in standard errors of a difference."""
    line = record.history["validation_accuracy"]
    changes = [b - a for a, b in itertools.pairwise(line)]
    typical = (sum(c * c for c in changes) / len(changes)) ** 0.5
    mean = sum(line) / len(line)
    return typical / math.sqrt(2 * mean * (1 - mean) / 600)


found = {name: unrest(runs[name][0][0]) for name in ("q4_inception", "q1_deep")}
print(", ".join(f"{name} {value:.1f}" for name, value in found.items()))
assert found["q4_inception"] > 3 * found["q1_deep"]

# %%
# Training loss falls smoothly while validation accuracy jumps by many standard errors. For ``q1_deep`` the changes hold what is learnt
# between epochs as well, and the photos are the same in each epoch, so that sampling alone would give less. Two measurements to ask
# for: the number of validation photos of each class, and the validation accuracy on training photos of those same classes.
#
# .. end-solution::
#
# .. provenance:: report
#
# .. provenance:: q1
#
# .. provenance:: bench
