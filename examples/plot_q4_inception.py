"""
Q4. Several kernel sizes side by side: does Inception pay?
==========================================================

**The question.** Objects appear at different scales, so one kernel size cannot suit all of them. The :term:`Inception module`
answers with several sizes beside each other. "Take the most accurate network so far", replace *every* convolution of it by
that module, train again, and compare.

**The short answer.** At as many multiply-adds, yes, for more parameters and more time; but nothing here shows that the mix of
kernel sizes is the reason.

* With as many multiply-adds as before, networks of modules :finding:`q4-macs gain/lose`. They pay for it: they have
  :record:`q4/macs parameters` parameters instead of :record:`q4/base parameters`, and a photo takes, in milliseconds of
  processor time, :record:`q4/macs CPU milliseconds a photo` instead of :record:`q4/base CPU milliseconds a photo`.
* With as many parameters the difference is :effect:`q4-parameters`, and with as many channels :effect:`q4-channels`: six runs
  cannot tell.
* Mixed kernel sizes, compared with the same module with 3x3 kernels only: :effect:`q4-one-scale`. A further branch of 7x7:
  :effect:`q4-seven`. Neither is decided.
* On objects larger or smaller than those trained on, the comparisons with 3x3 networks are undecided, too:
  :effect:`q4-scales` against plain 3x3, :effect:`q4-scales-topology` against 3x3 in the same topology. Against 7x7
  convolutions, modules :finding:`q4-scales-sevens gain/lose`, but most runs with 7x7 had not learnt the size that they
  were shown.

The network to start from is ``q1_deep``, the one that the report took for its most accurate. Chapter Q1 leaves the order of
its two networks on our photos open.
"""

# %%
# The module, and what it costs
# -----------------------------
#
# .. drawing:: inception
#
# The module of the assignment (Szegedy et al. :cite:p:`szegedy2015going`, figure 2b) has four branches: a 1x1 convolution; a
# 1x1 and then a 3x3; a 1x1 and then a 5x5; a 3x3 maximum and then a 1x1. Their outputs are put beside each other:

import torch
from matplotlib import pyplot as plt

import cnnhw
from cnnhw import features, plots, theory
from cnnhw.book import figures
from cnnhw.data import scenes
from cnnhw.models.inception import InceptionModule
from cnnhw.studies.measures import measured

module = InceptionModule(64, 16)
x = torch.rand(1, 64, 32, 32)
for branch in module.branches:
    layers = ", ".join(str(layer).partition("(")[0] for layer in branch)
    print(f"{tuple(branch(x).shape)!s:18} {layers}")
print(f"{tuple(module(x).shape)!s:18} concatenated")

# %%
# The 1x1 convolutions before the large kernels are what makes it affordable. A convolution with :math:`k \times k` kernels
# from :math:`C` to :math:`K` channels has :math:`C K k^2` weights; behind a :term:`reduction <bottleneck>` to :math:`R` channels it is
#
# .. math:: C R + R K k^2 ,
#
# which is small if :math:`R \ll C`. For the first module of GoogLeNet, from 192 to 256 channels, biases left out:

branches = {
    "1x1": 192 * 64,
    "1x1, then 3x3": 192 * 96 + 96 * 128 * 9,
    "1x1, then 5x5": 192 * 16 + 16 * 32 * 25,
    "maximum, then 1x1": 192 * 32,
}
assert sum(branches.values()) == 163_328
print(f"module {sum(branches.values()):,} weights", branches)
for side in (3, 5):
    print(f"one {side}x{side} convolution: {192 * 256 * side**2:,}")

# %%
# So there are two ideas in one module, and they are easily mixed up: a cheap *factorisation*, and several *scales*. The paper
# says of its sizes 1, 3 and 5 that they are for convenience, and of its success that it is "questionable" whether it comes from
# the principles that led to the module :cite:p:`szegedy2015going`. To tell the two apart takes a :term:`control`: the same topology
# with one scale.
#
# The experiment
# --------------
#
# The network to start from is ``q1_deep``, at 64 pixels: the report's choice in Q1. (Chapter Q1 does not rank the two
# networks on our photos.) A convolution with
# :math:`k` outputs becomes a module with :math:`k/4` a branch; pooling, head and all else stay. Each arm has six runs of five
# epochs on half of the training photos. The :term:`learning rate` was chosen on validation photos, for the base, the modules and the
# plain 3x3 network apart.
#
# **What was known beforehand.** An earlier set of runs, of seeds 0 to 5, is not kept. When the claims of this page were
# written down again, its outcome was known in part. The runs shown here are of seeds 6 to 11 and were made after that.

RECORDS = cnnhw.studies.records("q4")
ARMS = {
    "base": "the base, q1_deep",
    "channels": "modules, as many channels",
    "parameters": "modules, as many parameters",
    "macs": "modules, as many multiply-adds",
    "one_scale": "the same topology, 3x3 only",
    "single": "plain 3x3 convolutions",
    "seven": "modules with a 7x7 branch",
}


def of(arm):
    """Return the records of one arm."""
    return [record for record in RECORDS if record.arm == arm]


budget = {}
for arm, words in ARMS.items():
    configuration = of(arm)[0].content["configuration"]
    network = cnnhw.models.create(
        configuration["model"], size=64, **configuration.get("options", {})
    )
    layers = theory.layers(network)
    budget[arm] = (
        sum(layer.parameters for layer in layers),
        sum(layer.macs for layer in layers) / 1e6,
    )
    print(f"{words:34} {budget[arm][0]:>10,} parameters {budget[arm][1]:6.1f} M MACs")
assert abs(budget["parameters"][0] / budget["base"][0] - 1) < 0.01
assert abs(budget["macs"][1] / budget["base"][1] - 1) < 0.01

plots.diagram(cnnhw.models.create("inception", size=64))

# %%
# What came out
# -------------

plots.strip(
    {ARMS[arm]: [record.accuracy() for record in of(arm)] for arm in ARMS},
    "test accuracy",
    "The base, and networks with modules in its place",
)
plt.show()

# %%
# .. claim:: q4-channels
#    :verdict: not resolved
#
# .. claim:: q4-parameters
#    :verdict: not resolved
#
# .. claim:: q4-macs
#    :verdict: supported
#
# The runs of one arm lie far apart (``base``: :record:`q4/base accuracy`): that is what keeps the first two open.
#
# Is it the scales?
# -----------------
#
# The control has the same branches, the same reductions and the same concatenation, but every kernel that is larger than one
# pixel, and the 1x1 of the first branch, too, is 3x3. And the plain network has no branches at all.
#
# .. claim:: q4-one-scale
#    :verdict: not resolved
#
# .. claim:: q4-single
#    :verdict: not resolved
#
# .. claim:: q4-seven
#    :verdict: not resolved
#
# By its interval alone, the difference to plain 3x3 convolutions would count (:effect:`q4-single`). Seven claims of this study
# are tested together, by Holm's method :cite:p:`holm1979`, and it does not survive. In the comparison of mixed sizes with 3x3
# only, the interval holds gains and losses alike. So these runs do not show
# that kernels of several sizes are what makes the modules gain; nor do they show that they are not. Branches, reductions and a
# maximum beside the kernels come along with the sizes, and four poolings look at several scales in any case.
#
# What it costs in time
# ---------------------
#
# Multiply-adds are not seconds: many small convolutions keep a processor less busy than one large one. Time here is the
# processor's own clock, for one photo in batches of a hundred, without gradient.

short = ARMS | {
    "single": "plain 3x3",
    "one_scale": "one scale",
    "seven": "7x7 branch",
    "macs": "equal MACs",
}
plots.costs(
    {
        short[arm]: (
            sum(map(measured("CPU milliseconds a photo"), of(arm))) / len(of(arm)),
            [r.accuracy() for r in of(arm)],
        )
        for arm in ARMS
    },
    "CPU milliseconds a photo",
    "test accuracy",
    "Test accuracy against processor time a photo",
)
plt.show()

# %%
# .. claim:: q4-time
#    :verdict: supported
#
# One run of five epochs took :record:`q4/base seconds` seconds with the base, :record:`q4/channels seconds` with as many
# channels and :record:`q4/macs seconds` with as many :term:`multiply-adds`, on a machine that had other work, too. Curves, confusion matrices and times:

for arm in ("base", "channels", "macs"):
    figures.trained(of(arm), title=ARMS[arm])
    plt.show()

# %%
# Which branches are used?
# ------------------------
#
# The share of each branch in the squared norm of its module's output, over test photos, on average over six runs:

names = ("1x1", "1x1, 3x3", "1x1, 5x5", "maximum, 1x1")
plots.shares(
    {
        f"module {number}": {
            name: sum(
                map(
                    measured(f"share of module{number} branch {branch}"), of("channels")
                )
            )
            / len(of("channels"))
            for branch, name in enumerate(names, start=1)
        }
        for number in (1, 2, 3, 4)
    },
    "The branches' shares in the output of each module",
)
plt.show()

# %%
# A norm is not an importance: what a branch adds may be large and of no use, and what is small may be needed (exercise 4).
#
# The argument, tested directly
# -----------------------------
#
# "Objects appear at different scales, so one kernel size cannot suit all of them." Generated scenes let us set the size of
# objects and nothing else. All networks below learn from objects of middle size (``0.45`` to ``0.6`` of the picture's side) and are
# tested on others. They have as many channels at each layer; what differs is the kernels, and with them
# parameters, multiply-adds and, for the modules, the topology:
#
# .. list-table::
#    :header-rows: 1
#    :stub-columns: 1
#
#    * - Network
#      - Parameters
#    * - Inception
#      - :record:`q4_scales/inception parameters`
#    * - the same topology, 3x3 only
#      - :record:`q4_scales/one_scale parameters`
#    * - plain 3x3
#      - :record:`q4_scales/threes parameters`
#    * - plain 5x5
#      - :record:`q4_scales/fives parameters`
#    * - plain 7x7
#      - :record:`q4_scales/sevens parameters`

sizes = {
    "tiny": (0.2, 0.3),
    "small": (0.3, 0.42),
    "middle": (0.45, 0.6),
    "large": (0.7, 0.85),
    "huge": (0.95, 1.2),
}
drawings = [
    scenes.draw(1, size=96, controls=scenes.Controls((low, high)), first=3).images
    for low, high in sizes.values()
]
figure = plots.contact_sheet(
    torch.cat(drawings), list(sizes), title="One flower in five sizes"
)
figure.set_label(
    "The same generated scene five times, with its object from "
    f"{sizes['tiny'][0]:g} to {sizes['huge'][1]:g} of the picture's side."
)
plt.show()

# %%

SCALES = cnnhw.studies.records("q4_scales")
kinds = {
    "inception": "Inception",
    "one_scale": "same topology, 3x3",
    "threes": "plain 3x3",
    "fives": "plain 5x5",
    "sevens": "plain 7x7",
}
middles = [sum(span) / 2 for span in sizes.values()]
figure = plots.against(
    {
        words: [
            [
                (
                    middle,
                    sum(
                        measured(f"accuracy on {size} objects")(r)
                        for r in SCALES
                        if r.arm == arm
                    )
                    / sum(r.arm == arm for r in SCALES),
                )
                for middle, size in zip(middles, sizes, strict=True)
            ]
        ]
        for arm, words in kinds.items()
    },
    "diameter of the object, as a share of the picture's side",
    "test accuracy, mean of six runs",
    "Test accuracy by size of the object; grey: the sizes trained on",
)
figure.axes[0].axvspan(0.45, 0.6, color="0.9", zorder=0)
plt.show()

# %%
# .. claim:: q4-scales
#    :verdict: not resolved
#
# .. claim:: q4-scales-topology
#    :verdict: not resolved
#
# .. claim:: q4-scales-sevens
#    :verdict: supported
#
# These networks differ already on objects of the size that they were trained on, so their heights away from it say little about
# scale. How far did each run get on the trained size?

for arm, words in kinds.items():
    reached = [r.accuracy() for r in SCALES if r.arm == arm]
    print(f"{words:20}", ", ".join(f"{accuracy:.2f}" for accuracy in reached))
guessing = [r.arm for r in SCALES if r.accuracy() < 0.25]
assert guessing.count("sevens") > 3

# %%
# Without batch norm, many runs have not left the level of guessing, one in five. So the one supported claim is about how
# easily a network is trained, and not about scale. To test the assignment's argument properly, every run must first learn
# objects of the trained size, and the objects of one set must have *mixed* sizes.
#
# A network that has come since
# -----------------------------
#
# When the assignment was set, "the most accurate network so far" was Q1's. This book has gone on since, to the network of
# the :doc:`fast recipe <plot_speed>`. With a module in place of each of its 3x3 convolutions it reaches
# :record:`q4_fast/fast_inception accuracy`; as it is, :record:`fast/fast accuracy`. Three runs make no claim.
#
# What a module sees, live
# ------------------------
#
# Trained here and now on easy scenes, in a few seconds; then the four branches of its first module, on a new scene. One scale of
# colours for all maps. (The branches of the study's network with 7x7 kernels are in
# :explore:`the explorer <network=inception&layer=module2.branches.3.2&photo=flower.jpg&relu>`.)

photos = scenes.load(
    size=32, train=2000, test=500, controls=scenes.EASY, progress=False
)
model = cnnhw.models.create("inception", size=32, kernels="1-3-5")
recipe = cnnhw.Recipe(epochs=5)
run = cnnhw.fit(model, photos, recipe, progress=False)
print(f"test accuracy on scenes {run.accuracy:.2f}, after {run.seconds:.0f} s")
assert run.accuracy > 0.4
image = scenes.draw(4, size=32, controls=scenes.EASY, first=900_000).images[3:]
maps = features.maps(model, image, "features.module1")[0]
figure = plots.feature_maps(
    maps,
    image[0],
    "Sixteen maps of the first module, on one scale",
    names=[f"{name} ({k})" for name in names for k in (1, 2, 3, 4)],
)
brightest = int(maps.flatten(1).max(1).values.argmax()) // 4
figure.set_label(
    "Sixteen maps of the first module after its ReLUs, four a branch, beside the scene they come from, on one scale. The "
    f"largest value is in a map of the branch {names[brightest]}."
)
plt.show()

# %%
# What the original report said, and why it differed
# --------------------------------------------------
#
# Its Inception network reached :reported:`q4_inception test_accuracy` against :reported:`q1_deep test_accuracy`; it concluded
# that Inception is less accurate and slower, and blamed little data and many parameters. But that network replaced nothing:
# it has two modules, where Q1's has four convolutions; nearly all of its
# :reported:`q4_inception parameters` parameters sit in one dense layer; its pixels were not divided; and it was validated on
# photos of one class. :doc:`The faults' page <plot_report_faults>` takes these apart one by one. The parameters it blamed are
# the head's, not the modules': replaced one by one, as the assignment asks, they lower the number of parameters.
#
# **What would have refuted it.** "Inception pays": an interval that reaches zero or below, at the budget in question. "It
# is the scales": a control with one scale that does as well. "Several kernels cope with several sizes": single kernels that do
# as well on sizes that they have not seen.
#
# **What these runs cannot tell.** Five epochs on half of the photos are early in training; what a longer training makes of it
# is open. One network of four layers on 64 pixels says little of networks of twenty modules. The learning rate was chosen
# from three, with one seed.
#
# Exercises
# ---------
#
# How to work on them, and what the stars mean: :ref:`the page for students <exercises>`.
#
# **1. Count a module** ★ How many weights, biases included, has a module from 32 to 64 channels with 16 a branch?
#
# .. solution::

by_hand = 4 * (32 * 16 + 16) + (16 * 16 * 9 + 16) + (16 * 16 * 25 + 16)
assert by_hand == cnnhw.models.count_parameters(InceptionModule(32, 16))
print(f"{by_hand:,}")

# %%
# .. end-solution::
#
# **2. What does it see?** ★★ Pooling halves the map between modules. What is the receptive field of one cell after the
# fourth module of ``inception`` at 128 pixels, and what would it be with 3x3 convolutions in place of the modules?
#
# .. solution::

for kernels, side in (("1-3-5", 5), ("3", 3)):
    found = theory.layers(cnnhw.models.create("inception", size=128, kernels=kernels))
    widest = max(layer.field for layer in found if "module4" in layer.name)
    by_hand = side + sum(step // 2 + (side - 1) * step for step in (2, 4, 8))
    assert widest == by_hand
    print(f"{kernels}: {widest} pixels")

# %%
# .. end-solution::
#
# **3. One kernel for all branches** ★★ Show that the branches without ReLUs and without the maximum can be written as
# one 5x5 convolution.
#
# .. solution::

reduce = torch.nn.Conv2d(8, 4, 1, bias=False)
wide = torch.nn.Conv2d(4, 4, 5, padding=2, bias=False)
whole = torch.nn.Conv2d(8, 4, 5, padding=2, bias=False)
with torch.no_grad():
    whole.weight.copy_(
        torch.einsum("orhw,rc->ochw", wide.weight, reduce.weight[..., 0, 0])
    )
x = torch.rand(1, 8, 9, 9)
assert torch.allclose(wide(reduce(x)), whole(x), atol=1e-5)
print(
    "A 1x1 and a 5x5 convolution in a row are one 5x5 convolution; a 3x3 is one with zeros around it."
)

# %%
# .. end-solution::
#
# **4. Which branch could it do without?** ★★★ The figure of shares above measures the norm of what each branch says.
# Rank the branches of the first module of the network that was trained live by that share; predict which one costs the
# most accuracy if it is silenced, its output set to zero. Then silence one after the other and measure on the test
# scenes. Is the order the same, and may one conclude that a branch was useless?
#
# .. solution::

module = run.model.features.module1
sample = photos.test.images[:100].float() / 255
branch_maps = features.maps(run.model, sample, "features.module1").split(4, 1)
norms = torch.stack([part.square().sum() for part in branch_maps])
share = dict(zip(names, (norms / norms.sum()).tolist(), strict=True))
lost = {}
for name, branch in zip(names, module.branches, strict=True):
    silence = branch.register_forward_hook(lambda layer, seen, out: 0 * out)
    predicted = cnnhw.evaluation.predict(run.model, photos.test).argmax(1)
    silence.remove()
    accuracy = cnnhw.evaluation.accuracy(predicted, photos.test.labels)
    lost[name] = run.accuracy - accuracy
    print(f"{name:13} share {share[name]:.2f}, accuracy lost {lost[name]:+.2f}")
restored = cnnhw.evaluation.predict(run.model, photos.test).argmax(1)
assert cnnhw.evaluation.accuracy(restored, photos.test.labels) == run.accuracy
assert max(lost.values()) > 0.05

# %%
# What the rest of the network expects of a branch cannot be read from its norm. And a branch that can be silenced
# without loss is one that *this* network does not use; trained without it from the start, another would have used its
# channels otherwise. That is why the claims above are about networks that were trained apart.
#
# .. end-solution::
#
# .. provenance:: q4
#
# .. provenance:: q4_scales
#
# .. provenance:: q4_fast
#
# .. provenance:: live
