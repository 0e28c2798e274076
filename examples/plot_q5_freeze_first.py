"""
Q5. Why freeze first?
=====================

**The question.** A trained network gets a new classifier. In step one its extractor is not trainable; in step two it is made trainable,
from its end towards its beginning. Why is the extractor :term:`frozen <freezing>` in step one, and why does step two go that way?

*Fifteen minutes. You need cross-entropy and Q1. Then you can say what a new head sends back, and what freezing protects.*

**The answer.** A new head has random weights, so the gradient that it sends back at first points in an arbitrary direction and would
disturb good features for nothing. Freezing the extractor shields the features from it. The last layers follow first, as they are the most
specific to the old classes. That can be measured; a gain in accuracy is another matter.

* *What it protects:* with the head learning first, the features' weights move :finding:`q5-drift further by {effect}/less far by {effect}`
  in the first epoch in which they learn.
* *What it brings,* at equal steps in all: :effect:`q5-probe` with all photos; with a tenth of them, it :finding:`q5-probe-few gained/lost`.
  In both, the features learnt for a quarter fewer steps than with all layers at once. Runs with equal steps of *tuning* will decide; they
  are not run yet.
* *From the end:* once the head has learnt, tuning from the end :finding:`q5-order gained/lost` compared with tuning from the beginning;
  compared with tuning all features at once, :effect:`q5-end`.
* *Whether* the features learn: tuning them after the head :finding:`q5-frozen gained/lost` against leaving them frozen.
"""

import torch
from matplotlib import pyplot as plt

import cnnhw
from cnnhw import features
from cnnhw.book import q5
from cnnhw.data import scenes
from cnnhw.transfer import Head

q5.gains()
plt.show()

# %%
# Bars, and brackets behind an effect, are 95 % intervals, against a random head and all layers at once; in the last two rows all networks
# train the head first. They are grey because no question of this edition is decided by them.
#
# The idea and the argument
# -------------------------
#
# .. drawing:: stages
#
# Let :math:`f` be the features of a photo, and :math:`z = Wf + b` the :term:`logits` of a linear head. With :term:`softmax` probabilities
# :math:`p` and the true class as a vector of zeros and a one, :math:`y`, the gradients of the :term:`cross-entropy` are
#
# .. math::
#    \frac{\partial L}{\partial W} = (p - y)\, f^\top, \qquad
#    \frac{\partial L}{\partial f} = W^\top (p - y) .
#
# What reaches the features is the error, carried back by :math:`W`. If :math:`W` is random, it is carried back in random directions: the
# features are told to change so that a meaningless head becomes right. Once the head has learnt, :math:`W^\top (p - y)` points where the
# classes differ. Kumar et al. :cite:p:`kumar2022finetuning` show for two-layer linear networks that this first distortion lasts, and hurts
# most on photos that are unlike the ones trained on.
#
# **In numbers.** Two classes, two features; let the first feature speak for the first class, the second for the second. The true class is
# the first, and :math:`p = (0.5, 0.5)`, so :math:`p - y = (-0.5, 0.5)`. A head with the rows :math:`(1, 0)` and :math:`(0, 1)` sends back
# :math:`(-0.5, 0.5)`: a step against it raises the first feature and lowers the second, as it should be. The random rows
# :math:`(0.3, -0.8)` and :math:`(0.4, 0.1)` send back :math:`(0.05, 0.45)`: a step against it lowers the second feature, but hardly touches
# the first, and that in the wrong direction.
#
# **A head of zeros.** If :math:`W = 0`, then :math:`\partial L / \partial f = 0` *exactly*, whatever the photos: the first step changes the
# head alone, as if the extractor were frozen. It shields for this one step (exercise 2). Two things still move the features in it:
# :term:`weight decay`, which needs no gradient, and the running statistics of batch norm (exercise 3).
#
# **Why from the end?** Early layers tend to hold what many photos share, late ones what the old classes needed
# :cite:p:`yosinski2014transferable`, so the late ones have most to change. And an early layer's gradient passes through all later ones:
# while those still serve the old classes, it is misdirected as by a random head. So Howard and Ruder :cite:p:`howard2018universal` unfreeze
# from the end. It saves time, too, as the backward pass stops at the first frozen layer.
#
# It is often said that a random head sends back *more*. Here is the gradient at the weights of the features, live: the network of the
# :doc:`fast recipe <plot_speed>` is transferred from photographs to generated scenes, with heads of three kinds, three seeds each.

photos = scenes.load(size=64, train=150, test=150, progress=False)
kinds = {
    "random head": {"head": Head()},
    "head that learnt first": {"head": Head(), "learn": 60},
    "head of zeros": {"head": Head(zero=True)},
}
begun, sizes = {}, {}
for name, how in kinds.items():
    three = [q5.start(photos, seed=seed, **how) for seed in range(3)]
    found = torch.stack([q5.arriving(model, photos) for model in three])
    unit = found / found.norm(dim=1, keepdim=True).clamp(min=1e-12)
    alike = (unit @ unit.T)[[0, 0, 1], [1, 2, 2]]
    norms = ", ".join(f"{norm:.3f}" for norm in found.norm(dim=1))
    print(f"{name:23} norms {norms}; cosines", ", ".join(f"{c:+z.2f}" for c in alike))
    begun[name], sizes[name] = three[0], float(found.norm(dim=1).mean())
assert sizes["head of zeros"] == 0
assert sizes["head that learnt first"] > sizes["random head"]

# %%
# So it is not the *size* of what arrives: a head that has learnt has larger weights, and sends back more. It is the *direction*. Heads that
# learnt first, from three seeds, agree on how the features should change; random heads do not. (A gradient of zero has no direction; its
# cosines are printed as 0.) Now all layers learn, one step an epoch:

q5.followed(begun, photos)
plt.show()

# %%
# .. _q5-experiment:
#
# The experiment
# --------------
#
# The source is the network of the fast recipe, trained on ``tiny5``; the target is ``flowers``, five other classes, at 64 pixels.
#
# * **Varied:** what learns when. *Random*: all layers at once, with a random head. *Head first*: the head alone for a quarter of the
#   epochs, then all layers. A head of *zeros*; a head at ten times the *rate* of the features; a rate that :term:`rises <warm-up>` over a
#   quarter of the steps. Then the *order*: after the head, ever more parts from the end, from the beginning, or all parts at once.
# * **Held:** source, photos, head, and steps in all; one rate for features, chosen on validation photos.
#
# Equal steps in all are not equal steps for the features: those that wait learn for fewer. Nor are they equal time, as epochs on frozen
# features cost next to nothing. So a second set of studies will hold the *tuning* steps equal, and the steps of each layer, tune every
# rate, and test every flower once, in five parts (cross-validation).
#
# What the runs say
# -----------------
#
# .. question:: q5-head-first
#    :verdict: not run
#
# .. question:: q5-in-turn
#    :verdict: not run
#
# .. claim:: q5-probe-few
#    :verdict: refuted
#
# .. claim:: q5-probe
#    :verdict: supported
#
# .. claim:: q5-zero
#    :verdict: not resolved
#
# .. claim:: q5-slow
#    :verdict: not resolved
#
# .. claim:: q5-warm
#    :verdict: not resolved
#
# .. claim:: q5-frozen
#    :verdict: supported
#
# .. claim:: q5-order
#    :verdict: supported
#
# .. claim:: q5-end
#    :verdict: not resolved
#
# **How far do the features move?** Two measures, after each epoch: how far their weights are from where they began, relative to their norm;
# and how alike the features of validation photos still are to the first ones, by linear centred kernel alignment (:term:`CKA`
# :cite:p:`kornblith2019similarity`), which is 1 for features that differ by a rotation and a factor.

q5.drift()
plt.show()

# %%
# .. claim:: q5-drift
#    :verdict: supported
#
# .. claim:: q5-similar
#    :verdict: supported
#
# Part of both may be the schedule: head first, the features learn for three epochs and not four, and at another rate in the first of them.
#
# **Photos unlike those trained on.** Kumar et al. :cite:p:`kumar2022finetuning` found that tuning all layers loses much there. Here test
# photos were blurred and recoloured:
#
# .. claim:: q5-changed
#    :verdict: not resolved
#
# **How general is each layer?** Yosinski et al. :cite:p:`yosinski2014transferable` kept the first layers of a network and drew the rest
# anew. So do we, with a quarter of the photos; what is kept is frozen, or goes on learning.

q5.kept()
plt.show()

# %%
# .. claim:: q5-stem
#    :verdict: not resolved
#
# .. claim:: q5-middle
#    :verdict: not resolved
#
# .. claim:: q5-last
#    :verdict: supported
#
# .. claim:: q5-kept
#    :verdict: supported
#
# The lowest point of the figure is one of the learning rate: at the one rate of this study a head alone learns too slowly, and ends at
# :record:`q5_layers/all_frozen_25 accuracy`; at a rate of its own it gets to :record:`q6/frozen_25 accuracy`. And *nothing kept* lacks the
# source's :term:`whitened <whitening>` first layer, too. All that the source learnt after that layer is worth
# :paired:`q5_layers/all_tuned_25 stem_tuned_25`.
#
# .. trained:: q5
#
#    random_10: all layers at once, a tenth of the photos
#    probe_10: head first, a tenth of the photos
#    frozen_100: the head alone, all photos
#    probe_100: head first, all photos
#
# What the original report said, and why it differed
# --------------------------------------------------
#
# It answers Q5 by argument alone: early layers hold what both problems share, so first only the last layers are trained, then all. That
# explains why there is something to keep; it does not explain why the *extractor* has to wait for the *head*. Nor could it have seen the
# effect: of its two transfers, one never trained the extractor (:doc:`plot_report_faults`), and none was compared with anything.
#
# .. admonition:: Three misconceptions
#
#    * *Freezing the extractor freezes its batch norms.* Only in evaluation mode; else their running statistics go on moving (exercise 3).
#    * *Freezing prevents overfitting.* It leaves fewer weights to overfit with, but those of the head can be enough.
#    * *A random head sends back larger gradients.* See the norms above.
#
# .. dropdown:: Check yourself: a head begins at zero, and there is no weight decay. What do the weights of the features do in the first step, and in the second?
#
#    Nothing in the first, as :math:`W^\top (p - y) = 0` (only batch norm's running statistics move). After it the head is no longer zero,
#    and the second step reaches them.
#
# **Remember three things.** The head's weights carry the error back, so a random head sends it in random directions. Freezing shields the
# features until the head has learnt. And comparisons at equal steps have to say *whose* steps. **What these runs cannot tell:** whether
# this holds for other networks, sources and targets. We tried one of each.
#
# Exercises
# ---------
#
# :ref:`How to work on them, and what the stars mean <exercises>`.
#
# **1. Count** ★ How many weights learn in step one for the network above, with a linear head for five classes, and how many in step two?
#
# .. solution::

model = begun["random head"]
assert cnnhw.models.count_parameters(model.head) == (128 + 1) * 5
print(f"step one {(128 + 1) * 5:,}; step two {cnnhw.models.count_parameters(model):,}")

# %%
# .. end-solution::
#
# **2. The second step** ★★ With a head of zeros and gradient descent with all photos in one step, how does the gradient that reaches the
# features in the second step depend on the rate? Predict it, then look.
#
# .. solution::

second = {}
for rate in (0.01, 0.02):
    model = q5.start(photos, Head(zero=True)).train()
    recipe = cnnhw.Recipe(1, batch_size=150, optimizer="sgd", learning_rate=rate)
    cnnhw.fit(model, photos, recipe, progress=False)
    second[rate] = float(q5.arriving(model.eval(), photos).norm())
print(", ".join(f"rate {rate}: {norm:.4f}" for rate, norm in second.items()))
assert 1.8 < second[0.02] / second[0.01] < 2.2

# %%
# In proportion. After one step :math:`W` is :math:`-\eta` times something that does not depend on :math:`\eta` (the gradient, times 1.9 for
# Nesterov momentum), and :math:`p - y` has hardly changed.
#
# .. end-solution::
#
# **3. Frozen, and yet it moves** ★★ Take all weights of the features from the optimiser, as one does to freeze them, but leave the network
# in training mode, and show it some photos. Are its features the same afterwards? Find out what has moved.
#
# .. solution::

model = q5.start(photos, Head())
before = features.embeddings(model, photos.validation)
held = {name: value.clone() for name, value in model.features.state_dict().items()}
with torch.no_grad():
    model.train()(photos.train.batch(torch.arange(100)) / 255)
after = features.embeddings(model.eval(), photos.validation)
state = model.features.state_dict()
moved = {name.split(".")[-1] for name in held if not state[name].equal(held[name])}
print(f"moved: {', '.join(sorted(moved))}; CKA {features.cka(after, before):.3f}")
assert moved == {"num_batches_tracked", "running_mean", "running_var"}

# %%
# The weights have not moved; the running statistics of batch norm have, and with them what each channel says. So a frozen extractor has to
# be in evaluation mode. (:func:`cnnhw.transfer.transfer` sees to it.)
#
# .. end-solution::
#
# **4. Freezing without freezing** ★★★ Which other first value of :math:`W` lets no gradient through to the features, for *all* photos? Show
# that it must have equal rows.
#
# .. solution::
#
# :math:`W^\top (p - y)` has to vanish for all :math:`p - y`. These vectors sum to zero and span all vectors that do, so each column of
# :math:`W` has to be orthogonal to all of them: it is constant. So all rows of :math:`W` are the same vector:

rows = torch.randn(1, 128).expand(5, 128)
error = torch.softmax(torch.randn(7, 5), 1) - torch.eye(5)[torch.arange(7) % 5]
assert torch.allclose(error @ rows, torch.zeros(7, 128), atol=1e-5)
assert torch.linalg.matrix_rank(error) == 4  # all vectors of sum zero

# %%
# Such a head gives all classes the same logit, whatever the photo, like one of zeros.
#
# .. end-solution::
#
# .. provenance:: q5 q5_order q5_layers q6 transfer_rates live
