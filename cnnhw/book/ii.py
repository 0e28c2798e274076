"""Theory ii: whether it matters that a DenseNet's transition layers average, and do not take the maximum."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from cnnhw.book.i import small
from cnnhw.data.photoset import PhotoSet
from cnnhw.evaluation import robustness
from cnnhw.models.blocks import Classifier
from cnnhw.studies.claims import Claim, alike, higher
from cnnhw.studies.measures import measured
from cnnhw.studies.study import Study


def _shifts(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    return {"shift consistency": robustness.shift_consistency(model, photos.test)}


_CONSISTENCY = measured("shift consistency")
MEASURES = (_CONSISTENCY,)

_claim, _higher, _alike = (
    partial(made, study="transition", registered="2026-11-24") for made in (Claim, higher, alike)
)

_CLAIMS = (
    _alike("ii-accuracy", "average", "max",
        "Transition layers that take the maximum come within 2.5 points of those that average."),
    _claim("ii-consistency", "average", "max",
        "With averaging transitions, predictions change less often when the photo shifts than with the maximum.",
        "predictions that change as often, or more often", measure=_CONSISTENCY),
    _claim("ii-strided-consistency", "average", "strided",
        "With averaging transitions, predictions change less often when the photo shifts than with every second cell.",
        "predictions that change as often, or more often", measure=_CONSISTENCY),
    _higher("ii-strided-accuracy", "average", "strided",
        "Averaging transitions are more accurate than transitions that take every second cell."),
    _alike("ii-max-order", "max_first", "max",
        "Taking the maximum before the 1x1 convolution comes within 2.5 points of taking it afterwards."),
)  # fmt: skip

_TRANSITION = Study(
    name="transition",
    question="What does it change if a DenseNet's transition layers take the maximum, or every second cell?",
    data="tiny5",
    size=32,
    arms=tuple(
        small(kind, "dense", {"transition": kind})
        for kind in ("average", "max", "max_first", "strided", "average_first")
    ),
    measures=(_shifts,),
    claims=_CLAIMS,
)
STUDIES = (_TRANSITION,)
