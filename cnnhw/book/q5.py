"""Q5: what a transfer gains by letting the new head learn first, and in which order the layers should follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cnnhw import evaluation, models, plots, studies, transfer
from cnnhw.book import base, figures, q4, speed
from cnnhw.book.i import SIX
from cnnhw.book.rates import SEEDS
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.data.subsets import FOLDS
from cnnhw.evaluation import robustness
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head
from cnnhw.models.weights import load
from cnnhw.studies import folds, tuning
from cnnhw.studies.claims import Claim, alike, higher
from cnnhw.studies.measures import SECONDS, Measure, measured
from cnnhw.studies.study import Arm, Study
from cnnhw.training.loop import fit
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

# All transfers begin with the fast recipe's network, trained on tiny5, and go on on flowers at 64 pixels. Sizes are
# percentages of the training photos; each has its number of epochs, and all its arms take as many steps.
EPOCHS = {5: 40, 10: 24, 25: 8, 50: 8, 100: 4}
SOURCES = (speed.FAST, q4.Q4)

TRANSFER_RATES = {  # what the study of rates chose, by validation accuracy
    "scratch": 1e-3,
    "tuned": 3e-3,
    "linear": 0.27,
    "hidden": 9e-3,
    "fast": 2e-2,
    "imagenet": 1e-2,
    "inception_linear": 0.3,
    "inception_tuned": 4.5e-3,
}


def _changes(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracy on test photos that are changed in ways that the network was not trained for."""
    found = {}
    rows = torch.arange(len(photos.test))
    for kind in robustness.CHANGES:
        store = robustness.changed(photos.test.images, kind)
        split = dataclasses.replace(photos.test, store=store, index=rows)
        guesses = evaluation.predict(model, split).argmax(1)
        found[f"accuracy on {kind} photos"] = evaluation.accuracy(guesses, split.labels)
    found["accuracy on changed photos"] = sum(found.values()) / len(found)
    return found


_EARLY_DISTANCE = measured("early weight distance", "% of the weights' norm")
_SIMILARITY = measured("feature similarity", "(of 0 to 1)", 1.0, digits=3)
_CHANGED = measured("accuracy on changed photos")
# each fold has other test photos: of few folds, two runs are compared as wholes, and not photo by photo
OVER_SPLITS = Measure("accuracy over splits", "points", 100.0, lambda run, epoch: run.accuracy(epoch))
MEASURES = (_EARLY_DISTANCE, _SIMILARITY, _CHANGED, OVER_SPLITS)

_claim, _higher, _alike = (partial(made, study="q5", registered="2026-11-25") for made in (Claim, higher, alike))

_CLAIMS = (
    _higher("q5-probe-few", "probe_10", "random_10",
        "With a tenth of the photos, a transfer gets more accurate if the new head learns first, on frozen features."),
    _alike("q5-probe", "probe_100", "random_100",
        "With all photos, it makes less than 2.5 points of difference whether the head learns first."),
    _alike("q5-zero", "zero_100", "random_100",
        "With all photos, a head that begins at zero comes within 2.5 points of one that begins at random."),
    _higher("q5-slow", "slow_10", "random_10",
        "With a tenth of the photos, a head that learns at ten times the rate of the features raises the accuracy."),
    _higher("q5-warm", "warm_10", "random_10",
        "With a tenth of the photos, a rate that rises over the first quarter of the steps raises the accuracy."),
    _claim("q5-drift", "probe_100", "random_100",
        "With all photos, the weights of the features move less in the first epoch they learn in if the head has.",
        "a distance that is no smaller", measure=_EARLY_DISTANCE, direction="less"),
    _claim("q5-similar", "probe_100", "random_100",
        "With all photos, the features stay more alike to the source's in the end if the head learns first.",
        "a similarity that is no higher", measure=_SIMILARITY),
    _higher("q5-changed", "probe_100", "random_100",
        "On blurred and recoloured photos, a transfer of all photos is more accurate if the head learns first.",
        measure=_CHANGED),
    _higher("q5-frozen", "probe_100", "frozen_100",
        "With all photos, training all layers after the head gains at least 2 points over the head alone.",
        points=2),
)  # fmt: skip

_ORDER_CLAIMS = (
    _higher("q5-end", "end_10", "at_once_10",
        "With a tenth of the photos, unfreezing from the end gains at least 1.5 points over all layers at once.",
        points=1.5, study="q5_order"),
    _higher("q5-order", "end_10", "start_10",
        "With a tenth of the photos, unfreezing from the end is more accurate than from the beginning.",
        study="q5_order"),
)  # fmt: skip

_LAYER_CLAIMS = (
    _alike("q5-stem", "stem_frozen_25", "nothing_25",
        "The source's first layer, frozen, and the rest anew, comes within 2.5 points of all layers anew.",
        study="q5_layers"),
    _higher("q5-middle", "stage2_tuned_25", "stage2_frozen_25",
        "Of layers kept up to the second stage, those that go on learning give more accuracy than frozen ones.",
        study="q5_layers"),
    _higher("q5-last", "all_tuned_25", "all_frozen_25",
        "With all features kept, those that go on learning give more accuracy than frozen ones.",
        study="q5_layers"),
    _higher("q5-kept", "all_tuned_25", "nothing_25",
        "All features kept and tuned gain at least 2 points over all layers anew.",
        points=2, study="q5_layers"),
)  # fmt: skip


def tune(epochs: int, kind: str = "tuned", **change: Any) -> Recipe:
    """Return the recipe by which features that have learnt go on learning, or new ones learn."""
    return transfer.recipe(epochs, **{"batch_size": 64, "learning_rate": TRANSFER_RATES[kind], **change})


def tune_fast(epochs: int, **change: Any) -> Recipe:
    """Return the fast recipe for features that have learnt: what is whitened stays as it is."""
    return replace(Recipe.fast(epochs), **{"whiten": False, "learning_rate": TRANSFER_RATES["fast"], **change})


def probe(epochs: int, kind: str = "linear", **change: Any) -> Stage:
    """Return the stage in which a head learns; on photos that are not mirrored, so that features are computed once."""
    return Stage("head", tune(epochs, kind, flip=False, **change))


def flowers(name: str, percent: int, recipe: Recipe | tuple[Stage, ...], **change: Any) -> Arm:
    """Return an arm on a share of the flowers' training photos; with stages, it is a transfer."""
    settings: dict[str, Any] = {"model": "fast", "seeds": SIX, "data": "flowers", **change}
    if not isinstance(recipe, Recipe):
        settings = {"head": Head(), **({} if settings.get("pretrained") else {"source": "fast/fast"}), **settings}
    if percent != 100:
        settings = {"protocols": (f"train_{percent}",), **settings}
    return Arm(f"{name}_{percent}", recipe=recipe, **settings)


IMAGENET: dict[str, Any] = {"model": "efficientnet_lite0", "pretrained": True, "size": 128}
Q4_NETWORK: dict[str, Any] = {"model": "inception", "options": q4.SEVEN, "seeds": SEEDS}
FROM_Q4 = Q4_NETWORK | {"source": "q4/seven"}


def _rate_arms() -> tuple[Arm, ...]:
    epochs = EPOCHS[100]

    def all_at_once(rate: float) -> tuple[Stage, ...]:
        return (Stage("all", tune(epochs, learning_rate=rate)),)

    def head_alone(rate: float) -> tuple[Stage, ...]:
        return (probe(epochs, learning_rate=rate),)

    kinds: dict[str, tuple[tuple[float, ...], Callable[[float], Recipe | tuple[Stage, ...]], dict[str, Any]]] = {
        "scratch": ((1e-3, 3e-3, 9e-3), lambda rate: tune(epochs, learning_rate=rate), {}),
        "tuned": ((1e-3, 3e-3, 9e-3), all_at_once, {}),
        "linear": ((0.09, 0.27, 0.8), head_alone, {}),
        "hidden": ((1e-3, 3e-3, 9e-3), head_alone, {"head": Head(hidden=256)}),
        "fast": ((6e-3, 2e-2, 6e-2), lambda rate: (Stage("all", tune_fast(epochs, learning_rate=rate)),), {}),
        "imagenet": ((1e-3, 1e-2, 0.1), head_alone, IMAGENET),
        "inception_linear": ((3e-3, 3e-2, 0.3), head_alone, FROM_Q4),
        "inception_tuned": ((5e-4, 1.5e-3, 4.5e-3), all_at_once, FROM_Q4),
    }
    return tuple(
        replace(flowers(kind, 100, recipe(rate), **(more | {"seeds": (8,)})), name=f"{kind}_{rate:g}")
        for kind, (rates, recipe, more) in kinds.items()
        for rate in rates
    )


_TRANSFER_RATES = Study(
    name="transfer_rates",
    observation="it chooses learning rates, by validation photos",
    question="Which of three rates suits training from scratch, features that go on learning, and a new head alone?",
    data="flowers",
    size=64,
    arms=_rate_arms(),
    sources=SOURCES,
)


def probe_then(epochs: int, head: str = "linear", rest: str = "tuned") -> tuple[Stage, Stage]:
    """Return the two stages of a transfer: a quarter of the epochs for the head, the rest for all."""
    first = max(1, epochs // 4)
    recipe = tune_fast(epochs - first) if rest == "fast" else tune(epochs - first, rest)
    return probe(first, head), Stage("all", recipe)


def _ways(percent: int) -> tuple[Arm, ...]:
    epochs = EPOCHS[percent]
    all_at_once = tune(epochs)
    quick_head = replace(all_at_once, learning_rate=10 * all_at_once.learning_rate)
    arm = partial(flowers, percent=percent, seeds=(*SIX, 6, 7))
    return (
        arm("frozen", recipe=(probe(epochs),)),
        arm("random", recipe=(Stage("all", all_at_once),)),
        arm("probe", recipe=probe_then(epochs)),
        arm("zero", recipe=(Stage("all", all_at_once),), head=Head(zero=True)),
        arm("slow", recipe=(Stage("all", quick_head, features_rate=0.1),)),
        arm("warm", recipe=(Stage("all", replace(all_at_once, warmup=0.25)),)),
    )


_Q5 = Study(
    name="q5",
    question="What does a transfer gain by letting the new head learn first, with the features frozen?",
    data="flowers",
    size=64,
    arms=(*_ways(10), *_ways(50), *_ways(100)),
    measures=(_changes,),
    drift=True,
    claims=_CLAIMS,
    sources=SOURCES,
)

# The features of the fast network in three groups, from the end; then in the other order; then all three times.
GROUPS = {
    "end": (("stage3", ""), ("stage2", ""), ("all", "")),
    "start": (("all", "stage1"), ("all", "residual2_1"), ("all", "")),
    "at_once": (("all", ""), ("all", ""), ("all", "")),
}
_QUARTER = EPOCHS[10] // 4
_Q5_ORDER = Study(
    name="q5_order",
    question="Does it matter in which order a transfer makes the layers trainable?",
    data="flowers",
    size=64,
    arms=tuple(
        flowers(name, 10, (probe(_QUARTER), *(Stage(train, tune(_QUARTER), until=until) for train, until in groups)))
        for name, groups in GROUPS.items()
    ),
    claims=_ORDER_CLAIMS,
    sources=SOURCES,
)

# What is kept of the source, up to a layer; all after it is drawn anew. At one rate for all arms.
_KEPT = {"stem": "stage1", "stage2": "stage3", "all": "linear"}
_KEPT_ARMS = tuple(f"{kept}_{how}" for kept in _KEPT for how in ("frozen", "tuned"))
_LAYER_RECIPE = tune(EPOCHS[25])
_Q5_LAYERS = Study(
    name="q5_layers",
    question="How general is each layer: up to which one do features learnt on other photos serve?",
    data="flowers",
    size=64,
    arms=(
        flowers("nothing", 25, (Stage("all", _LAYER_RECIPE),), head=None, fresh_from="stem"),
        *(
            flowers(f"{kept}_{how}", 25, (Stage(train, _LAYER_RECIPE),), head=None, fresh_from=first)
            for kept, first in _KEPT.items()
            for how, train in (("frozen", first), ("tuned", "all"))
        ),
    ),
    claims=_LAYER_CLAIMS,
    sources=SOURCES,
)

# The second edition's transfers are cross-validated: five folds of up to twelve repeats test every flower each time.
# One run of the source serves the folds of a repeat; another those of the pilots.
REPEATS = base.SEEDS[:12]
SOURCE = Study(
    name="source",
    observation="it trains what transfers start from, and compares nothing",
    question="What do the transfers to the flowers start from?",
    data="tiny5",
    size=64,
    arms=(
        Arm(
            "fast", "fast", replace(speed.RECIPE, precision=base.FORMAT), (tuning.PILOTS[0] // FOLDS, *REPEATS),
            protocols=("own_cut",),
        ),
    ),
    kept=("fast",),
)  # fmt: skip


def folded(name: str, recipe: tuple[Stage, ...], percent: int = 100, **change: Any) -> Arm:
    """Return a transfer to a share of the flowers' training photos in each fold."""
    share = () if percent == 100 else (f"train_{percent}",)
    start: dict[str, Any] = {} if change.get("pretrained") else {"source": "source/fast", "folds": FOLDS}
    settings = {"model": "fast", "protocols": ("fold", *share), "head": Head(), **start, **change}
    return Arm(name, recipe=recipe, seeds=folds.seeds(REPEATS), **settings)


# Rates that `cnnhw study tune` chose or, before it has run, from its grid; stages of one arm share theirs.
_RATES = {"at_once": 8e-3, "head_first": 4e-3, "end": 8e-3, "start": 1.6e-2, "together": 4e-3}
_TUNING_EPOCHS = 40  # of a tenth of the photos, after the head's if it learns first
_HEAD_EPOCHS = 60  # on features that are kept, which take next to no time
_GROUP_EPOCHS = 20


def _tuning(epochs: int, arm: str, **change: Any) -> Recipe:
    return tune(epochs, learning_rate=_RATES[arm], precision=base.FORMAT, **change)


_FIRST = Study(
    name="q5_first",
    question="At equal steps of tuning, does a transfer gain if its head learns first?",
    data="flowers",
    size=64,
    arms=(
        folded("at_once", (Stage("all", _tuning(_TUNING_EPOCHS, "at_once")),), 10),
        folded(
            "head_first",
            (
                Stage("head", _tuning(_HEAD_EPOCHS, "head_first", flip=False)),
                Stage("all", _tuning(_TUNING_EPOCHS, "head_first")),
            ),
            10,
        ),
    ),
    sources=(SOURCE,),
    questions=(
        base.question(
            "q5-head-first", ("head_first", "at_once"),
            "With a tenth of the photos and equal steps of tuning, a head that learns first changes less than matters.",
            asked="the accuracy of a transfer whose head learns first, compared with all at once, in equal steps",
            chapter="q5", study="q5_first", role="primary", prediction="no difference that matters", delta=2.5,
            known="in part", pooled=True, held="photos, source, head, and the steps in which all layers learn",
            varied=("recipe.-2",),
        ),
        base.question(
            "q5-head-first-time", ("head_first", "at_once"),
            "A head that learns first, on features that are kept, takes next to no time more.",
            chapter="q5", study="q5_first", role="exploratory", prediction="no difference that matters", delta=1.0,
            pooled=True, held="photos, source, head, and the steps in which all layers learn", measure=SECONDS,
            varied=("recipe.-2",),
        ),
        base.question(
            "q5-shield", ("head_first", "at_once"),
            "In the first epoch in which they learn, the features' weights move less if the head has learnt before.",
            chapter="q5", study="q5_first", role="exploratory", prediction="lower", delta=1.0, known="in part",
            pooled=True, held="photos, source, head, and the steps in which all layers learn", measure=_EARLY_DISTANCE,
            varied=("recipe.-2",),
        ),
    ),
    drift=True,
)  # fmt: skip
_IN_TURN = Study(
    name="q5_in_turn",
    question="Where all layers learn for as many steps, does it matter which of them learn first?",
    data="flowers",
    size=64,
    arms=tuple(
        folded(
            order, transfer.in_turn(models.create("fast", size=64), _tuning(_GROUP_EPOCHS, order), 3, order=order), 10
        )
        for order in ("end", "start", "together")
    ),
    sources=(SOURCE,),
    questions=(
        base.question(
            "q5-in-turn", ("end", "start"),
            "With equal steps a layer, tuning from the end and tuning from the beginning are as accurate.",
            asked="the accuracy of a transfer tuned from the end, compared with the beginning, in equal steps a layer",
            chapter="q5", study="q5_in_turn", prediction="no difference that matters", delta=2.5, known="in part",
            pooled=True, held="photos, source, head, and the steps of each layer", varied=("recipe.-1", "recipe.-3"),
        ),
        base.question(
            "q5-in-turn-together", ("end", "together"),
            "With equal steps a layer, tuning group by group from the end is less accurate than tuning all together.",
            chapter="q5", study="q5_in_turn", role="exploratory", prediction="lower", delta=2.5, known="in part",
            held="photos, source, head, and the steps of each layer", measure=OVER_SPLITS,
            varied=("recipe.-1", "recipe.-2", "recipe.-3"),
        ),
    ),
)  # fmt: skip
STUDIES = (_TRANSFER_RATES, _Q5, _Q5_ORDER, _Q5_LAYERS, SOURCE, _FIRST, _IN_TURN)
ANSWER = (
    "A new head's first gradients point in arbitrary directions; freezing shields the features until it has learnt. "
    "With a tenth of the photos, in as many steps in all, that :finding:`q5-probe-few gained/lost`."
)
"""What the landing page says."""


def gains() -> Figure:
    """Draw by how much ways of sparing the features, and orders of tuning them, change the accuracy."""
    rows: dict[str, str | tuple[str, str, str]] = {
        "head first, all photos": ("q5", "probe_100", "random_100"),
        "head first, a tenth": ("q5", "probe_10", "random_10"),
        "head of zeros, a tenth": ("q5", "zero_10", "random_10"),
        "head at 10 x the rate, a tenth": ("q5", "slow_10", "random_10"),
        "rising rate, a tenth": ("q5", "warm_10", "random_10"),
        "from the end, not the start": ("q5_order", "end_10", "start_10"),
        "from the end, not at once": ("q5_order", "end_10", "at_once_10"),
    }
    return figures.effects(rows, STUDIES, "points of test accuracy", "What sparing the features, and order, change")


def start(photos: PhotoSet, head: Head, seed: int = 0, learn: int = 0) -> Classifier:
    """Return the shipped network with a new head, which has learnt for some epochs."""
    model = load("fast")
    transfer.begin(model, 5, seed, head=head)
    if learn:
        stage = Stage("head", transfer.recipe(learn, learning_rate=0.1, flip=False))
        transfer.transfer(model, photos, [stage], head=head, seed=seed, progress=False)
    return model.eval()


def arriving(model: Classifier, photos: PhotoSet) -> Tensor:
    """Return the gradient of the loss on all training photos at all weights of the features, as one vector."""
    loss = torch.nn.functional.cross_entropy(model(to_float(photos.train.images)), photos.train.labels)
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(model.features.parameters()))])


def followed(begun: Mapping[str, Classifier], photos: PhotoSet, steps: int = 8) -> Figure:
    """Train all layers of some transfers, a step an epoch; draw the gradient that arrives at the features."""
    norms: dict[str, list[list[float]]] = {}
    for name, model in begun.items():
        found = [arriving(model, photos).norm().item()]
        recipe = transfer.recipe(steps, batch_size=len(photos.train), schedule="constant", weight_decay=0.0, flip=False)

        def look(epoch: int, row: dict[str, float], model: Classifier = model, found: list[float] = found) -> None:
            found.append(arriving(model.eval(), photos).norm().item())

        fit(model, photos, recipe, progress=False, on_epoch=look)
        norms[name] = [found]
    title = "The gradient that arrives at the features, step by step"
    figure = plots.lines(norms, "norm of the gradient", title, start=0, across="step")
    return figures.narrow(figure, 3.4)


def drift() -> Figure:
    """Draw how far the features' weights move, and how alike the features stay to the source's, by epoch."""
    runs = [run for run in studies.records("q5") if run.arm in ("random_100", "probe_100", "slow_100")]
    words = {"random_100": "all at once", "probe_100": "head first", "slow_100": "head at 10 x the rate"}
    panels = {
        what: {
            said: [[row[measure] for row in run.content["drift"].values()] for run in runs if run.arm == arm]
            for arm, said in words.items()
        }
        for what, measure in (("distance of the weights", "distance"), ("similarity (CKA)", "similarity"))
    }
    return figures.narrow(plots.panels(panels, "of 1", "How far the features move from the source's"))


def kept() -> Figure:
    """Draw the accuracy by how much of the source is kept, frozen or tuned."""
    found = studies.records("q5_layers")
    by_arm = {arm: [run.accuracy() for run in found if run.arm == f"{arm}_25"] for arm in ("nothing", *_KEPT_ARMS)}
    lines = {
        how: [list(row) for row in zip(by_arm["nothing"], *(by_arm[f"{one}_{how}"] for one in _KEPT), strict=True)]
        for how in ("frozen", "tuned")
    }
    ticks = ("nothing", "first layer", "to stage 2", "all features")
    title = "Layers kept of the source, frozen or tuned"
    return figures.narrow(plots.lines(lines, "test accuracy", title, across="what is kept", ticks=ticks), 3.4)
