"""Q5: what a transfer gains by letting the new head learn first, and in which order the layers should follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cnnhw import models, plots, studies, transfer
from cnnhw.book import base, figures, speed
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.data.subsets import FOLDS
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head
from cnnhw.models.weights import load
from cnnhw.studies import folds, tuning
from cnnhw.studies.measures import SECONDS, Measure, measured
from cnnhw.studies.study import Arm, Study
from cnnhw.training.loop import fit
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

_EARLY_DISTANCE = measured("early weight distance", "% of the weights' norm")
# each fold has other test photos: of few folds, two runs are compared as wholes, and not photo by photo
OVER_SPLITS = Measure("accuracy over splits", "points", 100.0, lambda run, epoch: run.accuracy(epoch))
MEASURES = (_EARLY_DISTANCE, OVER_SPLITS)


def tune(epochs: int, rate: float, **change: Any) -> Recipe:
    """Return the recipe by which features that have learnt go on learning, or new ones learn."""
    return transfer.recipe(epochs, batch_size=64, learning_rate=rate, precision=base.FORMAT, **change)


def probe(epochs: int, rate: float) -> Stage:
    """Return the stage in which a head learns; on photos that are not mirrored, so that features are computed once."""
    return Stage("head", tune(epochs, rate, flip=False))


IMAGENET: dict[str, Any] = {"model": "efficientnet_lite0", "pretrained": True, "size": 128}
# All transfers begin with the fast recipe's network, trained on tiny5. They are cross-validated: five folds of up to
# twelve repeats test every flower each time. One run of the source serves the folds of a repeat; another those of the
# pilots.
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


# Rates that `cnnhw study tune` chose; stages of one arm share theirs.
_RATES = {"at_once": 8e-3, "head_first": 4e-3, "end": 8e-3, "start": 1.6e-2, "together": 4e-3}
_TUNING_EPOCHS = 40  # of a tenth of the photos, after the head's if it learns first
_HEAD_EPOCHS = 60  # on features that are kept, which take next to no time
_GROUP_EPOCHS = 20


_FIRST = Study(
    name="q5_first",
    question="At equal steps of tuning, does a transfer gain if its head learns first?",
    data="flowers",
    size=64,
    arms=(
        folded("at_once", (Stage("all", tune(_TUNING_EPOCHS, _RATES["at_once"])),), 10),
        folded(
            "head_first",
            (
                probe(_HEAD_EPOCHS, _RATES["head_first"]),
                Stage("all", tune(_TUNING_EPOCHS, _RATES["head_first"])),
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
            order,
            transfer.in_turn(models.create("fast", size=64), tune(_GROUP_EPOCHS, _RATES[order]), 3, order=order),
            10,
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
STUDIES = (SOURCE, _FIRST, _IN_TURN)
ANSWER = (
    "A new head's first gradients point in arbitrary directions; freezing shields the features until it has learnt. "
    "Where all layers then learn for as many steps, that :finding:`q5-head-first raises the accuracy by {effect}/"
    "lowers the accuracy by {effect}/changes the accuracy by less than {delta}: {effect}/may raise or lower the "
    "accuracy: {effect}`."
)
"""What the landing page says."""


def gains() -> Figure:
    """Draw by how much a head that learns first, and the order of the layers, change the accuracy."""
    rows: dict[str, str | tuple[str, str, str]] = {
        "head first, not all at once (asked)": "q5-head-first",
        "from the end, not the start (asked)": "q5-in-turn",
        "from the end, not together": "q5-in-turn-together",
    }
    return figures.effects(rows, STUDIES, "points of test accuracy", "What freezing first, and order, change")


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
    """Draw how far the features' weights move, and how alike the features stay to the source's, by epoch of tuning."""
    words = {"at_once": "all at once", "head_first": "head first"}
    panels = {
        what: {
            said: [
                [row[measure] for row in run.content["drift"].values()][-_TUNING_EPOCHS:]
                for run in studies.records("q5_first")
                if run.arm == arm
            ]
            for arm, said in words.items()
        }
        for what, measure in (("distance of the weights", "distance"), ("similarity (CKA)", "similarity"))
    }
    return figures.narrow(plots.panels(panels, "of 1", "How far the features move from the source's"))
