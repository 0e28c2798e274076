"""Q6: when transfer pays, and how complex the new head should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from cnnhw import features, plots, studies, transfer
from cnnhw.book import base, figures
from cnnhw.book.q5 import IMAGENET, OVER_SPLITS, REPEATS, SOURCE, folded, probe, tune
from cnnhw.data.photoset import PhotoSet
from cnnhw.data.subsets import FOLDS
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head
from cnnhw.models.weights import load
from cnnhw.studies import folds
from cnnhw.studies.store import Record
from cnnhw.studies.study import Study
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.transfer.stages import Stage

HEADS = {
    "linear": Head(),
    "hidden64": Head(hidden=64),
    "hidden256": Head(hidden=256),
    "dropout256": Head(hidden=256, dropout=0.5),
    "flatten256": Head(hidden=256, pool="flatten"),
}


def _map(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return a plane through the features of the test photos: t-SNE coordinates (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    vectors = features.embeddings(model, photos.test)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    plane = TSNE(random_state=0, init="pca", perplexity=min(30.0, (len(vectors) - 1) / 3)).fit_transform(
        vectors.numpy()
    )
    return {"map across": plane[:, 0].tolist(), "map up": plane[:, 1].tolist()}


# The control is a transfer, too: it begins with the source's whitened first layer and the same new head, all layers
# between are drawn anew. The source saw 8 x 5,400 photos, which are 19 epochs of a fold's 2,320.
_TRANSFER_EPOCHS, _SOURCE_EPOCHS = 20, 19
_FEW_EPOCHS = 60
_FRESH: dict[str, Any] = {"fresh_from": "stage1"}
# Rates that `cnnhw study tune` chose.
_TUNED = {
    "transfer": 0.04, "scratch": 0.01, "imagenet_head": 4e-3, "imagenet_tuned": 1e-3, "transfer_10": 0.04,
    "scratch_10": 0.005,
    "linear_10": 0.128, "hidden64_10": 8e-3, "hidden256_10": 4e-3, "dropout256_10": 0.016, "flatten256_10": 1e-3,
    "linear_25": 0.064, "hidden64_25": 0.016, "hidden256_25": 4e-3, "dropout256_25": 8e-3, "flatten256_25": 2e-3,
    "linear_100": 0.064, "hidden64_100": 8e-3, "hidden256_100": 8e-3, "dropout256_100": 8e-3, "flatten256_100": 2e-3,
}  # fmt: skip


def _fast(epochs: int, arm: str) -> tuple[Stage]:
    """Return the fast recipe for all layers; the first one is as the source whitened it, and not whitened anew."""
    recipe = replace(Recipe.fast(epochs), whiten=False, learning_rate=_TUNED[arm], precision=base.FORMAT)
    return (Stage("all", recipe),)


_PAYS = Study(
    name="q6_pays",
    question="Does our transfer pay, where training from scratch is given the computing of its source, too?",
    data="flowers",
    size=64,
    arms=(
        folded("transfer", _fast(_TRANSFER_EPOCHS, "transfer")),
        folded("scratch", _fast(_TRANSFER_EPOCHS + _SOURCE_EPOCHS, "scratch"), **_FRESH),
        folded("imagenet_head", (probe(40, _TUNED["imagenet_head"]),), **IMAGENET),
        folded("imagenet_tuned", (Stage("all", tune(4, _TUNED["imagenet_tuned"])),), **IMAGENET),
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
        folded(f"{name}_{percent}", (probe(epochs, _TUNED[f"{name}_{percent}"]),), percent, head=head)
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
_FIRST = folds.seeds(REPEATS)[:1]  # a fold of a repeat
_MAP = Study(
    name="q6_map",
    observation="it draws one run, and compares nothing",
    question="How do the features of the flowers lie before and after they are tuned?",
    data="flowers",
    size=64,
    arms=(
        replace(folded("frozen", (probe(_FROZEN_EPOCHS[100], _TUNED["linear_100"]),)), seeds=_FIRST),
        replace(folded("tuned", _fast(_TRANSFER_EPOCHS, "transfer")), seeds=_FIRST),
    ),
    measures=(_map,),
    sources=(SOURCE,),
)
STUDIES = (_PAYS, _FEW, _FROZEN, _MAP)
ANSWER = (
    "Begin with a linear head, and compare with training from scratch. At equal computing in all, our transfer "
    ":finding:`q6-transfer gains {effect}/loses {effect}/comes within {delta}: {effect}/may gain or lose: {effect}`. "
    "On frozen features, a hidden layer in the head :finding:`q6-hidden raises the accuracy by {effect}/lowers the "
    "accuracy by {effect}/changes the accuracy by less than {delta}: {effect}/may raise or lower the accuracy: "
    "{effect}`."
)
"""What the landing page says."""


def transferred(photos: PhotoSet, head: str, rate: float, *then: Stage) -> list[Run]:
    """Transfer the shipped network: one of `HEADS` learns at a rate, on features that are kept; then other stages."""
    first = Stage("head", transfer.recipe(40, learning_rate=rate, flip=False))
    return transfer.transfer(load("fast"), photos, (first, *then), head=HEADS[head], progress=False)


def _repeats(study: str) -> dict[str, dict[int, float]]:
    """Return the test accuracy of each arm in each whole repeat, whose five folds together test every photo once."""
    runs: dict[str, dict[int, list[Record]]] = {}
    for run in studies.records(study):
        runs.setdefault(run.arm, {}).setdefault(run.seed // FOLDS, []).append(run)
    return {
        arm: {number: float(folds.pooled(five).mean()) for number, five in found.items() if len(five) == FOLDS}
        for arm, found in runs.items()
    }


def rungs() -> Figure:
    """Draw the test accuracies of four ways to a classifier of flowers, a dot a repeat."""
    words = {
        "scratch": "from scratch",
        "transfer": "ours, tuned",
        "imagenet_head": "ImageNet, new head",
        "imagenet_tuned": "ImageNet, tuned",
    }
    title, found = "Four ways to a classifier of flowers", _repeats("q6_pays")
    groups = {said: list(found.get(arm, {}).values()) for arm, said in words.items()}
    if not all(groups.values()):
        return figures.not_run(title)
    return figures.narrow(plots.strip(groups, "test accuracy", title))


def heads() -> Figure:
    """Draw the accuracy by head on frozen features, a line for each share of the training photos."""
    title, found = "Five heads on frozen features, by share of the photos", _repeats("q6_frozen")
    lines = {}
    for percent in _FROZEN_EPOCHS:
        arms = [found.get(f"{name}_{percent}", {}) for name in HEADS]
        both = sorted(set.intersection(*map(set, arms)))  # repeats that all heads have
        lines["all photos" if percent == 100 else f"{percent} %"] = [[arm[one] for arm in arms] for one in both]
    if not all(lines.values()):
        return figures.not_run(title)
    ticks = ("linear", "64", "256", "256,\ndropout", "256,\nall cells")
    return figures.narrow(
        plots.lines(lines, "test accuracy", title, across="hidden units of the head", ticks=ticks), 3.4
    )


def planes() -> Figure:
    """Draw the test photos of one fold in a plane by their features, before and after tuning."""
    words = {"frozen": "features of the source", "tuned": "after all layers were tuned"}
    title, found = "The test photos by t-SNE of their features", {run.arm: run for run in studies.records("q6_map")}
    if not set(words) <= set(found):
        return figures.not_run(title)
    panels = {
        said: (found[arm].content["measures"]["map across"], found[arm].content["measures"]["map up"])
        for arm, said in words.items()
    }
    figure = plots.maps(panels, found["frozen"].labels, found["frozen"].classes, columns=1)
    return figures.described(figures.narrow(figure, 7.4), title, "coloured by flower", *words.values())
