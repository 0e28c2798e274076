"""Theory ii: whether it matters that a DenseNet's transition layers average, and do not take the maximum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cnnhw import features, plots, studies, theory
from cnnhw.book import base, figures
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.evaluation import robustness
from cnnhw.features import smoothness
from cnnhw.models.blocks import Classifier
from cnnhw.studies.measures import measured
from cnnhw.studies.study import Study

_PHOTOS = 256  # for maps
_WINDOWS = 40_000  # that are simulated
_POOLS: tuple[tuple[str, Callable[[int, float], float], Callable[[Tensor], Tensor]], ...] = (
    ("average", theory.average_signal, lambda cells: cells.mean(1)),
    ("maximum", theory.max_signal, lambda cells: cells.amax(1)),
)


def _shifts(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    return {"shift consistency": robustness.shift_consistency(model, photos.test)}


def at_transitions(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Return how smooth and dense the maps at transitions are, over some test photos: means over live channels.

    They are taken after the ReLU, and again, as "pooled", where the transition halves them.
    """
    images = to_float(photos.test.batch(torch.arange(min(_PHOTOS, len(photos.test)))))
    found: dict[str, float] = {}
    for name, part in model.features.named_children():
        if name.startswith("transition") and isinstance(part, nn.Sequential):
            pools = [place for place, layer in enumerate(part) if isinstance(layer, nn.AvgPool2d | nn.MaxPool2d)]
            maps, pooled = (features.maps(model, images, f"features.{name}.{at}") for at in (1, (pools or [2])[0] - 1))
            for what, values, of in (
                ("autocorrelation", smoothness.autocorrelation(maps), maps),
                ("active share", smoothness.active_share(maps), maps),
                ("pooled autocorrelation", smoothness.autocorrelation(pooled), pooled),
            ):
                found[f"{name} {what}"] = float(values[~features.dead(of)].mean())
    return found


_CONSISTENCY = measured("shift consistency")
_AT_TRANSITIONS = tuple(
    measured(f"transition{block} {what}", "(of 1)", 1.0, digits=3)
    for block in (2, 3)
    for what in ("autocorrelation", "active share", "pooled autocorrelation")
)
MEASURES = (_CONSISTENCY, *_AT_TRANSITIONS)

# Rates that `cnnhw study tune` chose.
_TUNED = {"average": 0.02, "max": 0.04}
_SMOOTH, _DENSE = (
    next(measure for measure in _AT_TRANSITIONS if measure.name == f"transition2 {what}")
    for what in ("pooled autocorrelation", "active share")
)

_POOLING = Study(
    name="ii_pooling",
    question="Does it matter that transition layers average, where the network is trained to convergence?",
    data="tiny5",
    size=32,
    arms=tuple(
        base.arm(kind, "dense", rate, {"transition": kind}, protocols=base.LARGE["protocols"])
        for kind, rate in _TUNED.items()
    ),
    measures=(_shifts, at_transitions),
    questions=(
        base.question(
            "ii-average", ("average", "max"),
            "Transitions that average and transitions that take the maximum are as accurate.",
            asked="the accuracy with transitions that average, compared with transitions that take the maximum",
            chapter="ii", study="ii_pooling", role="primary", prediction="no difference that matters", delta=2.5,
            known="in part", held="photos, recipe and all other layers",
        ),
        base.question(
            "ii-shifts", ("average", "max"),
            "With averaging transitions, more predictions stay as they are when the photo shifts.",
            # about what blurring before the pooling gains in DenseNet-121 (Zhang 2019)
            asked="the share of predictions that survive a shift with averaging transitions, compared with the maximum",
            chapter="ii", study="ii_pooling", prediction="higher", delta=1.5, known="in part", measure=_CONSISTENCY,
            held="photos, recipe and all other layers",
        ),
        base.question(
            "ii-smooth", ("average",),
            "Neighbouring cells of what an averaging transition pools are alike: their correlation is above a half.",
            chapter="ii", study="ii_pooling", role="exploratory", prediction="higher", delta=0.1, measure=_SMOOTH,
            held="the network", against=0.5,
        ),
        base.question(
            "ii-dense", ("average",),
            "The maps that reach an averaging transition are dense: more than half of their cells are active.",
            chapter="ii", study="ii_pooling", role="exploratory", prediction="higher", delta=0.1, measure=_DENSE,
            held="the network", against=0.5,
        ),
    ),
)  # fmt: skip
STUDIES = (_POOLING,)
ANSWER = (
    "An average can be exchanged with the transition's 1x1 convolution, and blurs before it drops cells. Against the "
    "maximum, its accuracy :finding:`ii-average is higher by {effect}/is lower by {effect}/differs by less than "
    "{delta}: {effect}/may be higher or lower: {effect}`."
)
"""What the landing page says."""


def gains() -> Figure:
    """Draw by how much averaging, and not the maximum, changes accuracy and steadiness."""
    rows: dict[str, str | tuple[str, str, str]] = {
        "accuracy (asked)": "ii-average",
        "survive a shift (asked)": "ii-shifts",
    }
    return figures.effects(rows, STUDIES, "points", "What averaging adds, against the maximum")


def signals() -> Figure:
    """Draw how well a signal in some cells of a window is detected after pooling, calculated and simulated."""
    amplitudes = [0.5 * step for step in range(9)]
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, _WINDOWS, 4, generator=generator)
    figure, axes = figures.stacked(3, 7.6)
    told = []
    for axis, active in zip(axes, (1, 2, 4), strict=True):
        for colour, (name, exact, pool) in zip(plots.COLOURS, _POOLS, strict=False):
            axis.plot(amplitudes, [exact(active, a) for a in amplitudes], color=colour, label=name)
            for a in amplitudes[1::2]:
                signal = draw() + a * (torch.arange(4) < active)
                with_it, without = pool(signal), pool(draw())
                found = (with_it.mean() - without.mean()) / ((with_it.var() + without.var()) / 2).sqrt()
                axis.plot(a, float(found), "x", color="0.4", markersize=5)
            told.append(f"{name}, signal in {active} of 4 cells, amplitude 2: {exact(active, 2.0):.2f}")
        axis.set_title(f"signal in {active} of 4 cells", fontsize="medium")
        axis.set_ylabel("d' after pooling")
        axis.grid(alpha=0.25)
    axes[0].legend(frameon=False)
    axes[-1].set_xlabel("amplitude, in standard deviations of the noise")
    title = "How well a signal can be detected after pooling"
    return figures.described(figure, title, "d' against amplitude, calculated and simulated", *told)


def shifted() -> Figure:
    """Draw the consistency under shifts, by kind of transition."""
    found = studies.records("ii_pooling")
    kinds = {"average": "average", "max": "maximum"}
    groups = {words: [_CONSISTENCY(run) for run in found if run.arm == kind] for kind, words in kinds.items()}
    return figures.narrow(plots.strip(groups, "consistency", "Share of predictions that survive a shift"), 2.4)
