"""Q2: what residual connections change, with everything else the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cnnhw import models, plots, studies
from cnnhw.book import base, figures
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.models.blocks import Classifier
from cnnhw.studies.measures import LOSS_AREA
from cnnhw.studies.study import Study
from cnnhw.theory import loss_landscape
from cnnhw.training.loop import fit
from cnnhw.training.recipe import Recipe

_KINDS = ("plain", "residual")
_DRAWN = (8, 14, 20, 26, 32)  # depths of networks before training

_RESNETS: dict[str, dict[str, Any]] = {
    f"d{depth}_{kind}": {"depth": depth, "shortcuts": kind == "residual", "norm": True}
    for depth in (20, 8)
    for kind in ("residual", "plain")
}
# Rates that `cnnhw study tune` chose.
_RATES = {
    "d20_residual": 0.005, "d20_plain": 0.01, "d8_residual": 0.02, "d8_plain": 0.02, "residual": 0.005, "plain": 0.0025,
}  # fmt: skip

_DEPTH = Study(
    name="q2_depth",
    question="Do residual connections gain more in a deeper network?",
    data="tiny5",
    size=32,
    arms=tuple(base.arm(name, "resnet", _RATES[name], options) for name, options in _RESNETS.items()),
    questions=(
        base.again(
            "q2-depth", ("d20_residual", "d20_plain", "d8_residual", "d8_plain"),
            "Residual connections gain more at depth 20 than at depth 8.",
            asked="the gain in accuracy from residual connections at depth 20, compared with the gain at depth 8",
            chapter="q2", study="q2_depth", role="primary", prediction="higher", delta=5.0, known="in part",
            held="photos, recipe, width, batch norm and the number of epochs",
            varied=("options.shortcuts", "options.depth"),
        ),
        base.again(
            "q2-depth-loss", ("d20_residual", "d20_plain"),
            "At depth 20, residual connections lower the training loss, averaged over the epochs.",
            chapter="q2", study="q2_depth", role="exploratory", prediction="lower", delta=0.05, measure=LOSS_AREA,
            held="photos, recipe, depth and batch norm", known="in part",
        ),
    ),
)  # fmt: skip
_DEEP = Study(
    name="q2_deep",
    question="Do residual connections change the accuracy of Q1's deeper network, once it is trained to convergence?",
    data="tiny5",
    size=64,
    arms=(
        base.arm("residual", "q1_deep_residual", _RATES["residual"], **base.LARGE),
        base.arm("plain", "q1_deep", _RATES["plain"], **base.LARGE),
    ),
    questions=(
        base.again(
            "q2-deep", ("residual", "plain"),
            "In Q1's deeper network, trained to convergence, residual connections change less than matters.",
            asked="the accuracy of Q1's deeper network with residual connections, compared with it without",
            chapter="q2", study="q2_deep", role="secondary", prediction="no difference that matters", delta=2.5,
            held="photos, recipe and layers", known="in part",
        ),
    ),
)  # fmt: skip
STUDIES = (_DEPTH, _DEEP)
ANSWER = (
    "In the report's second network for Q1, residual connections :finding:`q2-deep add {effect} to the accuracy/"
    "cost {effect}/make no difference that matters: {effect}/make a difference that cannot be told from none: "
    "{effect}`; from depth 8 to depth 20, what they add :finding:`q2-depth grows by {effect}/shrinks by {effect}/"
    "changes by less than {delta}: {effect}/may grow or shrink: {effect}`."
)
"""What the landing page says."""


def gains() -> Figure:
    """Draw what residual connections add to the accuracy at two depths, and the difference."""
    rows: dict[str, str | tuple[str, str, str]] = {
        "depth 8": ("q2_depth", "d8_residual", "d8_plain"),
        "depth 20": ("q2_depth", "d20_residual", "d20_plain"),
        "20 minus 8 (asked)": "q2-depth",
        "q1_deep, of four convolutions (asked)": "q2-deep",
    }
    return figures.effects(rows, STUDIES, "points of test accuracy", "What residual connections add to the accuracy")


def losses() -> Figure:
    """Draw the training loss at both depths and of `q1_deep`, without and with residual connections."""
    arms = {f"depth {depth}": {kind: f"d{depth}_{kind}" for kind in _KINDS} for depth in (8, 20)}
    arms["q1_deep"] = {kind: kind for kind in _KINDS}
    found = studies.records("q2_depth") + studies.records("q2_deep")
    panels = {
        words: {kind: [run.history["loss"] for run in found if run.arm == arm] for kind, arm in kinds.items()}
        for words, kinds in arms.items()
    }
    return figures.narrow(
        plots.panels(panels, "training loss (nats)", "Training loss, without and with residual connections")
    )


def network(kind: str, seed: int = 0, depth: int = 20, norm: bool = True) -> Classifier:
    """Return a network for photos of 16 pixels, plain or residual, as it is before training."""
    options = {"depth": depth, "width": 8, "shortcuts": kind == "residual", "norm": norm}
    return models.create("resnet", size=16, seed=seed, **options)


def first_gradients(photos: PhotoSet) -> dict[str, dict[str, list[list[float]]]]:
    """Return the gradient's norm at the first convolution before training: by batch norm and kind, a row a seed."""
    images, labels = _some(photos)

    def first(kind: str, seed: int, depth: int, norm: bool) -> float:
        return next(iter(loss_landscape.gradient_norms(network(kind, seed, depth, norm), images, labels).values()))

    return {
        panel: {kind: [[first(kind, seed, depth, norm) for depth in _DRAWN] for seed in range(3)] for kind in _KINDS}
        for panel, norm in (("without batch norm", False), ("with batch norm", True))
    }


def gradients(found: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> Figure:
    """Draw what :func:`first_gradients` found, by depth."""
    title, label = "Gradient at the first convolution, before training", "norm of the gradient"
    ticks = [str(depth) for depth in _DRAWN]
    return figures.narrow(plots.panels(found, label, title, log=True, across="depth", ticks=ticks))


def slices(photos: PhotoSet, recipe: Recipe) -> Figure:
    """Train each kind twice from one start, the photos in another order; draw the loss on the plane of the three."""
    images, labels = _some(photos)
    planes = {}
    for kind in _KINDS:
        one, other = (fit(network(kind), photos, recipe, seed=order, progress=False).model for order in (0, 1))
        planes[kind] = loss_landscape.plane(one, other, network(kind), images, labels, steps=13)
    names = ("solution, order 0", "solution, order 1", "start")
    title = "Training loss on the plane through two solutions and their start"
    figure = figures.narrow(plots.plane(planes, title, names, columns=1), 5.4)
    told = "; ".join(f"{kind} {plane.losses.min():.2f} to {plane.losses.max():.2f}" for kind, plane in planes.items())
    figure.set_label(
        "Contours of the training loss, in nats, on the plane through two solutions and the start they have in common, "
        f"in one scale of colours. Lowest and highest loss drawn: {told}."
    )
    return figure


def _some(photos: PhotoSet) -> tuple[Tensor, Tensor]:
    """Return some training photos and their labels."""
    return to_float(photos.train.batch(torch.arange(125))), photos.train.labels[:125]
