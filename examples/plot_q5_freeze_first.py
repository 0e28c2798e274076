"""
Q5. Why freeze first?
=====================

**The question.** A trained network gets a new classifier. In step one its extractor is not trainable; in step two it is made trainable,
from its end towards its beginning. Why is the extractor :term:`frozen <freezing>` in step one, and why does step two go that way?

*Fifteen minutes. You need cross-entropy and Q1. Then you can say what a new head sends back, and what freezing protects.*

**The answer.** A new head has random weights, so the gradient that it sends back at first points in an arbitrary direction and would disturb good
features for nothing. So the head learns first. The layers follow from the end, because the last ones are the most specific to the old classes. What
that does to the accuracy is another matter: in our transfers, with a tenth of the photos and as many steps for all layers, a head that learns first
:finding:`q5-head-first raises the accuracy by {effect}/lowers the accuracy by {effect}/changes the accuracy by less than {delta}: {effect}/may raise or lower the accuracy: {effect}`.

* *The features:* how far the extractor's weights move in the first epoch in which they learn, head first minus all at once: :effect:`q5-shield`.
  The learning rates, tuned for each way, are part of it.
* *The order:* with as many steps for each layer, tuning one group of layers at a time from the end, and not from the beginning,
  :finding:`q5-in-turn raises the accuracy by {effect}/lowers the accuracy by {effect}/changes the accuracy by less than {delta}: {effect}/may raise or lower the accuracy: {effect}`.
* *In accuracies,* with a tenth of the photos: :record:`q5_first/at_once accuracy` with all layers at once, and
  :record:`q5_first/head_first accuracy` with the head first.
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
# Bars, and the numbers in brackets behind an effect, are 95 % intervals. Exploratory differences are grey.
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
# features would change to suit a meaningless head. Once the head has learnt, :math:`W^\top (p - y)` points where the
# classes differ. Kumar et al. :cite:p:`kumar2022finetuning` show for two-layer linear networks that this first distortion lasts, and does
# most damage on inputs unlike those trained on.
#
# **In numbers.** Two classes, two features; let the first feature speak for the first class, the second for the second. The true class is
# the first, and :math:`p = (0.5, 0.5)`, so :math:`p - y = (-0.5, 0.5)`. A head with the rows :math:`(1, 0)` and :math:`(0, 1)` sends back
# :math:`(-0.5, 0.5)`: a step against it raises the first feature and lowers the second, as it should. The random rows :math:`(0.2, -0.1)` and
# :math:`(0.6, 0.3)` send back :math:`(0.2, 0.2)`: a step against it lowers both alike, which brings the photo no nearer to its class.
#
# **A head of zeros.** If :math:`W = 0`, then :math:`\partial L / \partial f = 0` *exactly*, whatever the photos: the first step changes the
# head alone, as if the extractor were frozen. It shields for this one step (exercise 2). Two things still move the features in it:
# :term:`weight decay`, which needs no gradient, and the running statistics of batch norm (exercise 3).
#
# **Why from the end?** Early layers tend to hold what many photos share, late ones what the old classes needed :cite:p:`yosinski2014transferable`, so
# the late ones have most to change. And an early layer's gradient passes through all later ones: while those still serve the old classes, it tells
# the early layer how to suit layers that are about to change. For the first of these reasons Howard and Ruder :cite:p:`howard2018universal` unfreeze
# from the end. It saves time, too: the backward pass ends at the earliest layer that learns.
#
# It is often said that a random head sends back *more*. Here is the gradient at the extractor's weights, live: the network of the
# :doc:`fast recipe <plot_speed>` is transferred from photographs to generated scenes, with heads of three kinds, three seeds each.

photos = scenes.load(size=64, train=150, test=150, progress=False)
kinds = {
    "random head": {"head": Head()},
    "head that learnt first": {"head": Head(), "learn": 60},
    "head of zeros": {"head": Head(zero=True)},
}
begun, sizes, agree = {}, {}, {}
for name, how in kinds.items():
    three = [q5.start(photos, seed=seed, **how) for seed in range(3)]
    found = torch.stack([q5.arriving(model, photos) for model in three])
    unit = found / found.norm(dim=1, keepdim=True).clamp(min=1e-12)
    alike = (unit @ unit.T)[[0, 0, 1], [1, 2, 2]]
    norms = ", ".join(f"{norm:.3f}" for norm in found.norm(dim=1))
    print(f"{name:23} norms {norms}; cosines", ", ".join(f"{c:+z.2f}" for c in alike))
    begun[name], sizes[name], agree[name] = three[0], found.norm(dim=1).mean(), alike
assert sizes["head of zeros"] == 0
assert sizes["head that learnt first"] > sizes["random head"]
assert agree["head that learnt first"].min() > agree["random head"].max()

# %%
# So it is not the *size* of what arrives: here a head that has learnt sends back more. It is the *direction*. A cosine of 1 means that two gradients
# point the same way, one near 0 that they have nothing in common. Heads that learnt first, from three seeds, agree on how the features should change;
# random heads do not. (A gradient of zero has no direction; its cosines are printed as 0.) Now all layers learn from each start, one step an epoch:

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
# * **Varied:** what learns when. *All at once:* all layers for 40 epochs, with a random head. *Head first:* the head alone for 60 epochs, on frozen
#   features; then all layers for 40. In a second study, the *order:* three groups of layers, 20 epochs each, from the end or from the beginning. One
#   group learns at a time, and the head, random at first, learns throughout. Or *together:* the head alone for 40 epochs, then everything for 20.
#   (The drawing differs: there the head learns first, and a group stays unlocked. Then the groups would not get equal steps.)
# * **Held:** source, head, a tenth of the training photos (some 230 a fold), and the steps for which each layer of the extractor learns. What the head
#   learns first comes on top, on features that are computed once. At equal steps, the difference in time is :effect:`q5-head-first-time`, our notes
#   by epoch included.
# * **Tested:** by cross-validation. In each repeat five networks share the work, so that every flower is tested once, by a network that has
#   not seen it. Each repeat has a source of its own, and other folds.
# * **Tuned:** each way's learning rate, one for all its stages, from five or more, on another division of the same
#   flowers. So the rates were chosen with photos that are tested here.
#
# .. soundness:: q5_first q5_in_turn
#
# What the runs say
# -----------------
#
# .. question:: q5-head-first
#    :verdict: supported
#
# .. question:: q5-in-turn
#    :verdict: open
#
# **How far do the features move?** Two measures, after each epoch in which all layers learn: how far the extractor's weights are from where they began,
# relative to their norm (their length as one vector); and how alike the features of validation photos are to those before tuning, by linear centred
# kernel alignment (:term:`CKA` :cite:p:`kornblith2019similarity`), which is 1 for features that differ only by a rotation and a factor.

q5.drift()
plt.show()

# %%
# Both depend on the learning rate, which was tuned for each way: AdamW's first steps are about as long as the rate, however large the gradient is.
# Kumar et al. :cite:p:`kumar2022finetuning` found that tuning all layers loses much on photos unlike those trained on. Yosinski et al.
# :cite:p:`yosinski2014transferable` kept the first layers of a network, and trained the rest from random weights: the more layers were kept, the
# less the late ones served other classes. We tried neither.
#
# .. trained:: source q5_first q5_in_turn
#
#    fast: the source, trained on tiny5
#    at_once: all layers at once
#    head_first: head first, then all layers
#    end: group by group, from the end
#    start: group by group, from the beginning
#    together: the head, then all groups together
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
#    * *A random head sends back larger gradients.* Not here: see the norms above.
#
# .. dropdown:: Check yourself: a head begins at zero, and there is no weight decay. What do the extractor's weights do in the first step, and in the second?
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
# **1. Count** ★ How many parameters learn in step one for the network above, with a linear head for five classes, and how many in step two?
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
# **3. Frozen, and yet it moves** ★★ Take all weights of the extractor from the optimiser, as one does to freeze them, but leave the network
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
# The weights have not moved; the running statistics of batch norm have, and with them the output of each channel. So a frozen extractor has to
# be in evaluation mode. (:func:`cnnhw.transfer.transfer` sees to it.)
#
# .. end-solution::
#
# **4. Freezing without freezing** ★★★ Is :math:`W = 0` the only first value that lets no gradient through to the features, for *all*
# photos? Find all of them.
#
# .. solution::
#
# :math:`W^\top (p - y)` has to vanish for all :math:`p - y`. The entries of such a vector sum to zero, and together these vectors span
# all whose entries do. So each column of :math:`W` has to be orthogonal to all of them: its entries are equal. So all rows of :math:`W` are the same vector:

rows = torch.randn(1, 128).expand(5, 128)
error = torch.softmax(torch.randn(7, 5), 1) - torch.eye(5)[torch.arange(7) % 5]
assert torch.allclose(error @ rows, torch.zeros(7, 128), atol=1e-5)
assert torch.linalg.matrix_rank(error) == 4  # all vectors of sum zero

# %%
# Such a head gives all classes the same logit, whatever the photo, just as a head of zeros does.
#
# .. end-solution::
#
# .. provenance:: source q5_first q5_in_turn live
