"""What a trained network says of its validation and test photos, for the page that shows it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from cnnhw import data
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import CnnhwError
from cnnhw.evaluation import calibration, selective
from cnnhw.evaluation.assessment import Assessment, assess
from cnnhw.models.blocks import Classifier

__all__ = []

WANTED = 0.95
"""The share of answers that has to be correct, on validation photos, from the threshold on that is kept."""

_LEVELS = (0.9, WANTED, 0.99)
_MOST = 12  # mistakes that are shown
_SIDE = 160  # pixels of a thumbnail, at most
_BINS = 10


@dataclass(frozen=True)
class Mistake:
    """A test photo that was classified wrongly."""

    name: str
    given: str  # the class that it is labelled with
    predicted: str
    probability: float  # of the predicted class
    picture: str  # a JPEG as data: address
    credit: str


@dataclass(frozen=True)
class Findings:
    """What the validation photos chose, and what the test photos show."""

    levels: tuple[dict[str, Any], ...]  # of rising accuracy
    photos: int
    wrong: int
    mistakes: tuple[Mistake, ...] | None  # the most confident ones; None if the photos may not be shown
    bins: tuple[calibration.Bin, ...]
    calibration_error: float
    confidence: float  # mean top probability

    @property
    def threshold(self) -> dict[str, Any]:
        """The level that ``run.json`` keeps."""
        return next(level for level in self.levels if level["accuracy"] == WANTED)


def fewest(accuracy: float) -> int:
    """Return how many answers one mistake has to be among for a share of them to be correct."""
    return round(1 / (1 - accuracy))


def find(model: Classifier, photos: PhotoSet) -> Findings:
    """Return what a network says of the photos that it was not trained on."""
    validation, test = assess(model, photos, "validation"), assess(model, photos, "test")
    bins = calibration.bins(test.probabilities, test.labels, _BINS)
    return Findings(
        levels=tuple(_level(validation, test, accuracy) for accuracy in _LEVELS),
        photos=len(test.names),
        wrong=len(test.errors),
        mistakes=_mistakes(test),
        bins=tuple(bins),
        calibration_error=calibration.expected_calibration_error(bins),
        confidence=float(test.probabilities.amax(1).mean()),
    )


def _level(validation: Assessment, test: Assessment, accuracy: float) -> dict[str, Any]:
    """Choose a threshold on validation photos; return it and what it does, as JSON holds it."""
    chosen = selective.threshold(validation.probabilities, validation.labels, accuracy, least=fewest(accuracy))
    counts = {
        part.part: asdict(selective.answered(part.probabilities, part.labels, chosen)) for part in (validation, test)
    }
    return {"accuracy": accuracy, "probability": chosen, **counts}


def _mistakes(test: Assessment) -> tuple[Mistake, ...] | None:
    rows = test.errors[:_MOST]
    credits = _credits(test.photos, [test.names[row] for row in rows])
    if credits is None:
        return None
    pictures = test.photos.test.batch(rows) if rows else ()
    return tuple(
        Mistake(
            test.names[row], test.classes[int(test.labels[row])], test.classes[int(test.predictions[row])],
            float(test.probabilities[row].amax()), _thumbnail(picture.permute(1, 2, 0).numpy()), credit,
        )
        for row, picture, credit in zip(rows, pictures, credits, strict=True)
    )  # fmt: skip


def _thumbnail(pixels: Any) -> str:
    """Return a photo (S, S, 3), uint8, as the address of a small JPEG."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _credits(photos: PhotoSet, names: Sequence[str]) -> list[str] | None:
    """Return whom each photo is to be credited to; None if that has to be said and is not known."""
    flowers = data.SOURCES["flowers"]
    if photos.licence != flowers.licence:
        return [""] * len(names)
    try:
        known = data.flower_credits() if flowers.find(128) else {}  # nothing is downloaded for it
    except CnnhwError:
        return None
    return [known[name] for name in names] if known.keys() >= {*names} else None
