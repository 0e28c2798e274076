"""
Q1. Which convolutional network suits the photographs?
======================================================

**The question.** Which convolutional network, found by trial and error, suits Linnaeus 5: five classes of photos, 1,200 a class to train on and 400 to
test on? (Those may not be passed on: all runs here are on ``tiny5``, as many photos from Tiny ImageNet.)

*Twenty minutes. You need no other chapter. Then you can search for a network, a change at a time, and tell overfitting from learning.*

**The answer.** A small :term:`residual <residual connection>` network with batch norm, ``fast``, trained on mirrored and shifted photos with a learning
rate that rises and falls. Compared, seed by seed, with the network that the original report (a student's homework) chose, the deeper of its two, its
accuracy on test photos :finding:`q1-final is higher by {effect}/is lower by {effect}/differs by less than {delta}: {effect}/may be higher or lower: {effect}`.

* **Test accuracy** of ``fast``: :record:`q1_final/final accuracy`. The report's two, at as many pixels, as it trained them but for a tuned rate: the first one has :record:`q1_final/shallow accuracy`, the
  deeper one :record:`q1_final/deep accuracy`, which
  :finding:`q1-report is ahead, by {effect}/is behind, by {effect}/differs by less than {delta}: {effect}/cannot be told from the other: {effect}`.
* **Overfitting** comes early, as reported: the validation loss is lowest after about epoch :record:`q1/q1_shallow lowest_loss` for the report's first network,
  and after about epoch :record:`q1/q1_deep+q1_deep_30 lowest_loss` for its second, and then rises, as the training accuracy goes on rising.
"""

from matplotlib import pyplot as plt

import cnnhw
from cnnhw.book import protocols, q1
from cnnhw.data import scenes

q1.gains()
plt.show()

# %%
# Bars, and the numbers in brackets behind an effect, are 95 % intervals. Grey: given up.
#
# The idea and the argument
# -------------------------
#
# .. drawing:: convolution
#
# The *extractor* of a convolutional network repeats a :term:`convolution`, a non-linearity, and a pooling step that halves the map. Its *head* turns the
# last map into one score a class.
#
# .. widget:: convolution
#    :title: Try it: a convolution by hand
#
#    Each cell of the map is a sum of nine products, pixels times weights of the kernel. A kernel with -1 in its left column and 1 in its right one
#    gives large values where brightness rises from left to right. Training finds the weights; here you choose them.
#
# **Where do the parameters go?** With kernels of side :math:`k`, :math:`C_{in}` channels in and :math:`C_{out}` out, a convolution has
# :math:`C_{out}\,(k^2\,C_{in} + 1)` parameters, whatever the photo's size. In a *dense* layer each *unit* has a weight for every input, and one more.
# Its input here is the *flattened* map, all cells in one row, so it grows with the map's area. **In numbers,** in ``q1_shallow``, the report's first
# network: the last convolution takes 32 channels to 64, :math:`64 \cdot (9 \cdot 32 + 1) = 18{,}496` parameters; the dense layer before the last
# reads 64 maps of 16x16 cells with 64 units, :math:`64 \cdot (64 \cdot 256 + 1) = 1{,}048{,}640`: nearly all that the network has.
#
# The second network, ``q1_deep``, widens its kernels with depth (3, 5, 7, 7), averages where the first one takes maxima, and pools once more.
# Both have the report's number of parameters, to the digit; their diagrams are with the curves below.
#
# **Overfitting.** A tenth of the 6,000 training photos is set aside for validation. The *loss* is :math:`-\ln p`, with :math:`p` the probability that the
# network gives to the right class, averaged over photos: 0 is perfect, and guessing among five has :math:`\ln 5 = 1.61`. A million parameters can
# memorise 5,400 photos. The training loss then goes on falling with each pass over them, each :term:`epoch`, while that on other photos turns and rises.
#
# .. drawing:: overfitting
#
# Three things reduce it. :term:`Early stopping <early stopping>` keeps the epoch that :term:`validation photos` choose (here, by accuracy).
# :term:`Augmentation <augmentation>` shows each photo a little changed, so that it cannot be memorised. And :term:`regularisation` leaves less capacity
# to memorise: a smaller head, :term:`weight decay`, :term:`dropout`. On :doc:`Train it here </train_here>` a network overfits live.
#
# The experiment
# --------------
#
# **The report's networks, as reported:** :term:`Adam` :cite:p:`kingma2015adam` at a constant rate, :term:`batches <batch>` of 32, Glorot's
# initialisation :cite:p:`glorot2010understanding`, no augmentation, 15 and 13 epochs; one run of 30. The photos are enlarged from 64 pixels to 128.
#
# **The search** begins with ``q1_shallow`` at 48 pixels and half of the training photos, to save time. A step changes one thing, for a reason written
# down first; steps 6 and 7 change a whole network and a whole recipe, whose parts they cannot tell apart. Each is run with twelve seeds, that is, from
# twelve random starts, and kept if it raises the mean accuracy on *validation photos*, even if the interval holds zero. No :term:`test photo
# <test photos>` is used. (Terms: :term:`batch norm <batch normalisation>`, :term:`schedule`, :term:`one cycle`, :term:`Muon`, :term:`whitening`.)
#
# **The test.** The validation accuracy is too high, as epochs and steps are chosen by it. So the network that is left and the two of the report
# are trained anew, on all training photos, with fresh seeds and a rate tuned for each, and tested once.
#
# .. soundness:: q1_final
#
# What the runs say
# -----------------
#
# Each step, and what it changed, in the mean of twelve runs. At the end several runs of the final network vote, and most votes win.

q1.log()

# %%
# .. question:: q1-final
#    :verdict: supported
#
# .. question:: q1-report
#    :verdict: refuted
#
# **When should training have stopped?** Below, each dot is the test accuracy after an epoch, and the ring marks the epoch that the validation
# photos choose. The other epochs were looked at only afterwards, and nothing was chosen by them.

q1.by_epoch()
plt.show()

# %%
# With 600 photos a validation accuracy :math:`p` has a standard error of :math:`\sqrt{p(1-p)/600}`, about two points: too coarse to choose among the
# later epochs, where these lines only jump up and down. Which is kept is mostly luck. At the end, overfitting parts training and validation accuracy: by
# :record:`q1/q1_shallow gap` in ``q1_shallow`` (15 epochs), by :record:`q1/q1_deep_30 gap` in ``q1_deep`` (30).
#
# The search, live
# ----------------
#
# The first steps, on generated scenes of five classes, one run each. One run decides nothing, and what helps on photos need not help on scenes. For your
# own photos, in five class folders, put ``cnnhw.data.load("FOLDER", size=32)`` in place of the scenes, or type
# ``cnnhw train q1_shallow --data FOLDER --size 48 --epochs 15``. There, ``--augment`` is step 3, ``--rate`` sets the learning rate, the model ``fast``
# has steps 6 and 7, ``--size 64`` is step 8, and the model ``ensemble`` trains several and averages their outputs.

photos = scenes.load(size=32, train=1500, test=500, progress=False)
plan = {"kernels": "3-3-3", "widths": "16-32-64", "head": "flatten-64"}
for words, name, options, change in (
    ("as reported", "q1_shallow", {}, {}),
    ("batch norm", "plain", plan, {}),
    ("augmentation", "plain", plan, {"flip": True, "shift": 2}),
):
    model = cnnhw.models.create(name, size=32, **options)
    run = cnnhw.fit(model, photos, cnnhw.Recipe(epochs=8, **change), progress=False)
    last = [run.history[name][-1] for name in ("accuracy", "validation_accuracy")]
    print(f"{words:12} training {last[0]:.2f}, validation {last[1]:.2f}")

# %%
# What the original report said, and why it differed
# --------------------------------------------------
#
# On Linnaeus 5, one run each, its networks reached test accuracies of :reported:`q1_shallow test_accuracy` and :reported:`q1_deep test_accuracy`; on our
# photos, after as many epochs, :record:`q1/q1_shallow accuracy@15` and :record:`q1/q1_deep+q1_deep_30 accuracy@13`.

q1.curves()
plt.show()

# %%
# Validation accuracy levels off, and the validation *loss* turns and climbs: a network that is :term:`surer of itself than it should be <calibration>` pays
# dearly for mistakes. Why do the numbers differ? The photos do, the report ran each network once, and it chose epochs by the test accuracy.
#
# **One network, several numbers.** These networks come back in other chapters, under other protocols. Compare two accuracies only if pixels, training
# photos, epochs and optimiser agree. The table takes the epoch that validation chooses; the two accuracies above are of the last.

protocols.table()

# %%
# .. trained:: q1 q1_final
#
#    q1_shallow: the report's first network
#    q1_deep: the report's second network
#    q1_deep_30: the report's second network, 30 epochs
#    final: the network that the search ends with
#    shallow: the report's first network, at 64 pixels and a tuned rate
#    deep: the report's second network, at 64 pixels and a tuned rate
#
# .. admonition:: Three misconceptions
#
#    * *The lowest training loss is the best network.* It may only have memorised most; ask the validation photos.
#    * *One run tells two networks apart.* It tells two *runs* apart.
#    * *Less overfitting means higher accuracy.* A smaller head does lessen it; see in the table what step 2 did to the accuracy.
#
# .. dropdown:: Check yourself: suppose that from epoch 5 on validation accuracy stays where it is, and validation loss rises. What is going on?
#
#    It overfits. It gets as many photos right as before, and is ever surer of those it gets wrong.
#
# **Remember three things.** Change one thing at a time; of a package you learn only the sum. Judge it on validation photos, with several runs. Look
# at the test photos once, at the end. **What would refute** that both networks overfit: training accuracy that levels off with validation accuracy.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`. ``cnnhw.studies.records("q1")`` has this page's runs: ``accuracy(3)`` of one
# is its test accuracy after epoch 3, ``accuracy()`` that of the chosen epoch, and ``history["validation_loss"]`` a list by epoch.
#
# **1. Where do the parameters go?** ★ Replace the flattening and the hidden dense layer of ``q1_shallow`` by the mean of each map (*global
# average pooling*). How many parameters are left, and what does the network no longer know?
#
# .. solution::

extractor = 16 * (9 * 3 + 1) + 32 * (9 * 16 + 1) + 64 * (9 * 32 + 1)
shallow = cnnhw.models.create("q1_shallow")
assert extractor == cnnhw.models.count_parameters(shallow.features)
print(f"{extractor + 5 * (64 + 1):,} are left: the last layer has 64 inputs")

# %%
# The network no longer knows *where* in the photo a feature was found, only how strong it was on average.
#
# .. end-solution::
#
# **2. How sure is one run?** ★★ A network is right on 1,242 of 2,000 test photos. Which accuracies are compatible with that, if only the choice
# of photos is uncertain? (Take two standard errors either way.) Compare the width with the range over runs of ``q1_shallow``.
#
# .. solution::

low, high = cnnhw.evaluation.wilson_interval(1242, 2000)
assert abs(100 * (high - low) - 4.2) < 0.1
records = cnnhw.studies.records("q1")
found = [record.accuracy() for record in records if record.arm == "q1_shallow"]
print(f"photos {low:.3f} to {high:.3f}, seeds {min(found):.3f} to {max(found):.3f}")

# %%
# The interval (:cite:t:`wilson1927probable`) says nothing about the seeds. A claim about a *network* has to allow for both.
#
# .. end-solution::
#
# **3. What does peeking gain?** ★★ Someone chooses the epoch by the *test* photos and reports that accuracy. By how many points is it above the
# one that the validation photos choose? Predict whether it can be negative, then read it from the records.
#
# .. solution::

for record in records:
    epochs = range(1, 1 + len(record.history["loss"]))
    gain = max(record.accuracy(epoch) for epoch in epochs) - record.accuracy()
    print(f"{record.arm:12} {100 * gain:.1f} points")
    assert gain >= 0

# %%
# It cannot: the chosen epoch is one of those that the maximum is taken over. Other test photos would prefer other epochs.
#
# .. end-solution::
#
# **4. Patience** ★★★ Write ``stop(losses, patience)``: the epoch after which training ends, as ``patience`` epochs in a row brought no new minimum of the
# validation loss. With one and with three, how many epochs does each run save, and at what cost in test accuracy, if the best epoch by that loss is kept?
#
# .. solution::


def stop(losses, patience):
    """Return the last epoch that is trained, from 1."""
    for end in range(patience + 1, len(losses)):
        if min(losses[end - patience : end]) >= min(losses[: end - patience]):
            return end
    return len(losses)


assert stop([3, 2, 1, 2, 3, 0], 2) == 5
for patience in (1, 3):
    for record in records:
        losses = record.history["validation_loss"]
        left = losses[: stop(losses, patience)]
        best, kept = (1 + losses.index(min(some)) for some in (losses, left))
        cost = 100 * (record.accuracy(best) - record.accuracy(kept))
        print(f"{patience}: {len(losses) - len(left)} saved, {cost:+z.1f} points")

# %%
# A patience of one stops at the first bump. With a rate that falls towards the end, do not stop early: the last epochs gain most.
#
# .. end-solution::
#
# .. provenance:: q1 q1_search q1_final live
