"""Q6: when transfer pays, and how complex the new head should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from cnnhw import features, plots, studies, transfer
from cnnhw.book import base, figures, q4, speed
from cnnhw.book.i import SIX
from cnnhw.book.q5 import IMAGENET, OVER_SPLITS, SOURCE, folded
from cnnhw.book.rates import RATES, SEEDS
from cnnhw.data.photoset import PhotoSet
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head
from cnnhw.studies.claims import alike, higher
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

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


def _map(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return a plane through the features of the test photos: t-SNE coordinates (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    vectors = features.embeddings(model, photos.test)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    plane = TSNE(random_state=0, init="pca", perplexity=min(30.0, (len(vectors) - 1) / 3)).fit_transform(
        vectors.numpy()
    )
    return {"map across": plane[:, 0].tolist(), "map up": plane[:, 1].tolist()}


_higher, _alike = (partial(made, study="q6", registered="2026-11-25") for made in (higher, alike))

_CLAIMS = (
    _higher("q6-steps", "transfer_100", "scratch_100",
        "With all photos and as many steps, transfer is more accurate than training from scratch."),
    _higher("q6-steps-few", "transfer_10", "scratch_10",
        "With a tenth of the photos and as many steps, transfer gains at least 5 points over training from scratch.",
        points=5),
    _higher("q6-fast", "fast_transfer_100", "fast_100",
        "By the fast recipe and with as many steps, too, transfer is more accurate than training from scratch."),
    _higher("q6-compute", "fast_transfer_100", "fast_compute_100",
        "By the fast recipe and with as much computation in all, too, transfer is more accurate than from scratch."),
    _higher("q6-imagenet", "imagenet_100", "transfer_100",
        "A head on frozen features from ImageNet gains at least 10 points over the transfer from our own network.",
        points=10),
    _higher("q6-imagenet-few", "imagenet_5", "transfer_100",
        "With a twentieth of the photos it is more accurate than our transfer with all of them."),
    _higher("q6-inception", "inception_transfer_100", "inception_scratch_100",
        "Q4's network, transferred, is more accurate than from scratch with as many steps."),
    _higher("q6-inception-frozen", "inception_transfer_100", "inception_frozen_100",
        "Q4's network, transferred, is more accurate than with a new head alone."),
)  # fmt: skip

_HEAD_CLAIMS = (
    _higher("q6-head-hidden", "hidden256_frozen_25", "linear_frozen_25",
        "On frozen features, with a quarter of the photos, a hidden layer of 256 raises the accuracy.",
        study="q6_heads"),
    _higher("q6-head-flatten", "flatten256_frozen_25", "hidden256_frozen_25",
        "On frozen features, with a quarter of the photos, a hidden layer that sees all cells of the map is "
        "more accurate than one that sees their mean.",
        study="q6_heads"),
    _alike("q6-head-full", "hidden256_full_25", "linear_full_25",
        "With all layers trained, on a quarter of the photos, a hidden layer of 256 changes less than 2.5 points.",
        study="q6_heads"),
    _alike("q6-head-flatten-full", "flatten256_full_25", "linear_full_25",
        "With all layers trained, on a quarter of the photos, one that sees all cells changes less than 2.5 points.",
        study="q6_heads"),
    _higher("q6-head-dropout", "dropout256_full_25", "hidden256_full_25",
        "With all layers trained, on a quarter of the photos, dropout before the last layer raises the accuracy.",
        study="q6_heads"),
    _alike("q6-head-gradual", "linear_gradual_25", "linear_full_25",
        "With a linear head, on a quarter of the photos, unfreezing from the end changes less than 2.5 points.",
        study="q6_heads"),
)  # fmt: skip

_SPLIT_CLAIMS = (
    _higher("q6-splits", "transfer_100", "scratch_100",
        "Over six splits of the photos, transfer is more accurate than training from scratch with as many steps.",
        measure=OVER_SPLITS, study="q6_splits"),
)  # fmt: skip

# The ladder. From scratch also with as many multiply-adds, in epochs, as source and transfer took together; and all of
# it by the fast recipe, too, most of whose epochs are at lower resolution.
_ALL = EPOCHS[100]
_Q6 = Study(
    name="q6",
    question="When does transfer pay, against training from scratch and against features learnt on ImageNet?",
    data="flowers",
    size=64,
    arms=(
        *(
            arm
            for percent, epochs in EPOCHS.items()
            for arm in (
                flowers("scratch", percent, tune(epochs, "scratch")),
                flowers("frozen", percent, (probe(epochs),)),
                flowers("transfer", percent, probe_then(epochs)),
            )
        ),
        flowers("fast", 100, Recipe.fast(_ALL)),
        flowers("fast_compute", 100, Recipe.fast(23)),
        flowers("fast_transfer", 100, probe_then(_ALL, rest="fast")),
        *(flowers("imagenet", percent, (probe(EPOCHS[percent], "imagenet"),), **IMAGENET) for percent in (5, 100)),
        flowers("inception_scratch", 100, tune(_ALL, learning_rate=RATES["inception"]), **Q4_NETWORK),
        flowers("inception_frozen", 100, (probe(_ALL, "inception_linear"),), **FROM_Q4),
        flowers("inception_transfer", 100, probe_then(_ALL, "inception_linear", "inception_tuned"), **FROM_Q4),
    ),
    claims=_CLAIMS,
    sources=SOURCES,
)

HEADS = {
    "linear": Head(),
    "hidden64": Head(hidden=64),
    "hidden256": Head(hidden=256),
    "dropout256": Head(hidden=256, dropout=0.5),
    "flatten256": Head(hidden=256, pool="flatten"),
}


def _ways(epochs: int, head: str) -> dict[str, tuple[Stage, ...]]:
    step = epochs // 4
    return {
        "frozen": (probe(epochs, head),),
        "full": probe_then(epochs, head),
        "gradual": (probe(step, head), *(Stage(train, tune(step)) for train in ("stage3", "stage2", "all"))),
    }


_Q6_HEADS = Study(
    name="q6_heads",
    question="How complex should the new head be, and does that depend on what else is trained?",
    data="flowers",
    size=64,
    arms=tuple(
        flowers(f"{name}_{way}", 25, stages, head=head)
        for name, head in HEADS.items()
        for way, stages in _ways(EPOCHS[25], "hidden" if head.hidden else "linear").items()
    ),
    claims=_HEAD_CLAIMS,
    sources=SOURCES,
)
_Q6_SPLITS = Study(
    name="q6_splits",
    question="Does the gain of the transfer hold for other splits of the photos?",
    data="flowers",
    size=64,
    arms=(
        flowers("scratch", 100, tune(_ALL, "scratch"), protocols=("fold",)),
        flowers("transfer", 100, probe_then(_ALL), protocols=("fold",)),
    ),
    claims=_SPLIT_CLAIMS,
    sources=SOURCES,
)
_Q6_MAP = Study(
    name="q6_map",
    observation="it draws one run, and compares nothing",
    question="How do the features of the flowers lie before and after they are tuned?",
    data="flowers",
    size=64,
    arms=(
        flowers("frozen", 100, (probe(_ALL),), seeds=(0,)),
        flowers("transfer", 100, probe_then(_ALL), seeds=(0,)),
    ),
    measures=(_map,),
    sources=SOURCES,
)

# The second edition's control is a transfer, too: it keeps the source's whitened first layer, has the same new head,
# and draws all layers between anew. The source saw 8 x 5,400 photos, which are 19 epochs of a fold's 2,320.
_TRANSFER_EPOCHS, _SOURCE_EPOCHS = 20, 19
_FEW_EPOCHS = 60
_FRESH: dict[str, Any] = {"fresh_from": "stage1"}
# Rates that `cnnhw study tune` chose or, before it has run, from its grid.
_TUNED = {
    "transfer": 0.02, "scratch": 0.02, "imagenet_head": 2e-3, "imagenet_tuned": 2e-3, "transfer_10": 0.02,
    "scratch_10": 0.02,
    "linear_10": 0.128, "hidden64_10": 8e-3, "hidden256_10": 4e-3, "dropout256_10": 0.016, "flatten256_10": 1e-3,
    "linear_25": 0.064, "hidden64_25": 0.016, "hidden256_25": 4e-3, "dropout256_25": 8e-3, "flatten256_25": 2e-3,
    "linear_100": 0.064, "hidden64_100": 8e-3, "hidden256_100": 8e-3, "dropout256_100": 8e-3, "flatten256_100": 2e-3,
}  # fmt: skip


def _fast(epochs: int, arm: str) -> tuple[Stage]:
    return (Stage("all", tune_fast(epochs, learning_rate=_TUNED[arm], precision=base.FORMAT)),)


_PAYS = Study(
    name="q6_pays",
    question="Does our transfer pay, where training from scratch is given the computing of its source, too?",
    data="flowers",
    size=64,
    arms=(
        folded("transfer", _fast(_TRANSFER_EPOCHS, "transfer")),
        folded("scratch", _fast(_TRANSFER_EPOCHS + _SOURCE_EPOCHS, "scratch"), **_FRESH),
        folded("imagenet_head", (probe(40, learning_rate=_TUNED["imagenet_head"], precision=base.FORMAT),), **IMAGENET),
        folded(
            "imagenet_tuned",
            (Stage("all", tune(4, learning_rate=_TUNED["imagenet_tuned"], precision=base.FORMAT)),),
            **IMAGENET,
        ),
    ),
    sources=(SOURCE,),
    questions=(
        base.question(
            "q6-transfer", ("transfer", "scratch"),
            "At equal computing in all, a transfer from our own network and training from scratch are as accurate.",
            asked="the accuracy of a transfer, compared with training from scratch, at equal computing in all",
            chapter="q6", study="q6_pays", role="primary", prediction="no difference that matters", delta=2.5,
            known="in part", pooled=True,
            held="photos, recipe, network, head, first layer, and computing in all",
            varied=("fresh_from", "recipe.-1.epochs"),
        ),
        base.question(
            "q6-imagenet-head", ("imagenet_head", "transfer"),
            "A head on frozen features from ImageNet is more accurate than the transfer from our own network.",
            chapter="q6", study="q6_pays", role="exploratory", prediction="higher", delta=5.0, known="in part",
            held="photos", pooled=True, varied=("model", "pretrained", "source", "size", "recipe"),
        ),
        base.question(
            "q6-imagenet-tuned", ("imagenet_tuned", "imagenet_head"),
            "From ImageNet, tuning all layers is more accurate than a head on frozen features.",
            chapter="q6", study="q6_pays", role="exploratory", prediction="higher", delta=2.5,
            held="photos, network and weights", measure=OVER_SPLITS, varied=("recipe.-1",),
        ),
    ),
)  # fmt: skip
_FEW = Study(
    name="q6_few",
    question="With few photos, what does a transfer gain over training from scratch for as many steps?",
    data="flowers",
    size=64,
    arms=(
        folded("transfer_10", _fast(_FEW_EPOCHS, "transfer_10"), 10),
        folded("scratch_10", _fast(_FEW_EPOCHS, "scratch_10"), 10, **_FRESH),
    ),
    sources=(SOURCE,),
    questions=(
        base.question(
            "q6-few", ("transfer_10", "scratch_10"),
            "With a tenth of the photos and as many steps, a transfer is more accurate than training from scratch.",
            # a large effect is expected: the first edition saw five points
            asked="the accuracy of a transfer with a tenth of the photos, compared with from scratch, in as many steps",
            chapter="q6", study="q6_few", prediction="higher", delta=5.0, known="in part", pooled=True,
            held="photos, recipe, network, head, first layer, and steps",
        ),
    ),
)  # fmt: skip
_FROZEN_EPOCHS = {10: 100, 25: 60, 100: 30}
_FROZEN = Study(
    name="q6_frozen",
    question="How complex should the new head be on frozen features, with few photos and with many?",
    data="flowers",
    size=64,
    arms=tuple(
        folded(
            f"{name}_{percent}", (probe(epochs, learning_rate=_TUNED[f"{name}_{percent}"]),), percent, head=head
        )
        for percent, epochs in _FROZEN_EPOCHS.items()
        for name, head in HEADS.items()
    ),
    sources=(SOURCE,),
    questions=(
        base.question(
            "q6-hidden", ("hidden256_100", "linear_100"),
            "On frozen features, with all photos, a hidden layer of 256 is more accurate than a linear head.",
            asked="the accuracy of a head with a hidden layer on frozen features, compared with a linear head",
            chapter="q6", study="q6_frozen", prediction="higher", delta=2.5, known="in part", pooled=True,
            held="photos, source, features and recipe",
        ),
        base.question(
            "q6-hidden-few", ("hidden256_10", "linear_10"),
            "With a tenth of the photos, a hidden layer of 256 changes less than matters.",
            chapter="q6", study="q6_frozen", role="exploratory", prediction="no difference that matters", delta=2.5,
            held="photos, source, features and recipe", pooled=True,
        ),
        base.question(
            "q6-flattened", ("flatten256_100", "hidden256_100"),
            "A hidden layer that sees all cells of the map is more accurate than one that sees their mean.",
            chapter="q6", study="q6_frozen", role="exploratory", prediction="higher", delta=2.5, known="in part",
            held="photos, source, features and recipe", pooled=True,
        ),
        base.question(
            "q6-dropout", ("dropout256_10", "hidden256_10"),
            "With a tenth of the photos, dropout before the last layer changes less than matters.",
            chapter="q6", study="q6_frozen", role="exploratory", prediction="no difference that matters", delta=2.5,
            known="in part", held="photos, source, features and recipe", pooled=True,
        ),
    ),
)  # fmt: skip
STUDIES = (_TRANSFER_RATES, _Q6, _Q6_HEADS, _Q6_SPLITS, _Q6_MAP, _PAYS, _FEW, _FROZEN)
ANSWER = (
    "Begin with a linear head, and compare with training from scratch: by the fast recipe, at equal computation in "
    "all, our transfer :finding:`q6-compute gained/lost`."
)
"""What the landing page says."""


def rungs() -> Figure:
    """Draw the test accuracies of several ways to a classifier of flowers, a dot a run."""
    found = studies.records("q6")
    words = {
        "scratch_100": "from scratch",
        "frozen_100": "ours, new head",
        "transfer_100": "ours, tuned",
        "fast_100": "fast recipe, from scratch",
        "fast_transfer_100": "fast recipe, ours, tuned",
        "fast_compute_100": "from scratch, equal computation",
        "imagenet_100": "ImageNet, new head",
    }
    groups = {said: [run.accuracy() for run in found if run.arm == arm] for arm, said in words.items()}
    return figures.narrow(plots.strip(groups, "test accuracy", "Seven ways to a classifier of flowers"), 3.6)


def by_number() -> Figure:
    """Draw the accuracy by share of the training photos, from scratch, with a new head, and tuned."""
    found, shares = studies.records("q6"), tuple(EPOCHS)
    lines = {}
    for way, words in {"scratch": "from scratch", "frozen": "new head", "transfer": "tuned"}.items():
        columns = [[run.accuracy() for run in found if run.arm == f"{way}_{share}"] for share in shares]
        lines[words] = [list(row) for row in zip(*columns, strict=True)]
    title, across = "Test accuracy by share of the training photos", "share of the training photos"
    return figures.narrow(
        plots.lines(lines, "test accuracy", title, across=across, ticks=[f"{share} %" for share in shares]), 3.4
    )


def heads() -> Figure:
    """Draw the accuracy by head, of heads alone and of networks whose layers learn after them."""
    found = studies.records("q6_heads")
    lines = {}
    for way, words in {"frozen": "head alone", "full": "then all layers"}.items():
        columns = [[run.accuracy() for run in found if run.arm == f"{kind}_{way}_25"] for kind in HEADS]
        lines[words] = [list(row) for row in zip(*columns, strict=True)]
    ticks = ("linear", "64", "256", "256,\ndropout", "all cells,\n256")
    title, across = "Five heads, alone and with the layers", "hidden units of the head"
    return figures.narrow(plots.lines(lines, "test accuracy", title, across=across, ticks=ticks), 3.4)


def planes() -> Figure:
    """Draw the test photos in a plane by their features, before and after tuning."""
    found = {run.arm: run for run in studies.records("q6_map")}
    words = {"frozen_100": "features of the source", "transfer_100": "after all layers were tuned"}
    panels = {
        said: (found[arm].content["measures"]["map across"], found[arm].content["measures"]["map up"])
        for arm, said in words.items()
    }
    some = found["frozen_100"]
    figure = plots.maps(panels, some.labels, some.classes)
    return figures.described(
        figure, "The test photos by t-SNE of their features", "coloured by flower", *words.values()
    )
