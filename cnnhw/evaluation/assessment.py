"""Evaluation of a trained network on labelled photos: metrics, errors, and a folder that holds both."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnhw import evaluation, files, outputs, system
from cnnhw.data.photoset import PhotoSet, join
from cnnhw.errors import DataError, UnknownNameError, WeightsError
from cnnhw.evaluation import calibration
from cnnhw.models.blocks import Classifier, check_classifier

__all__ = ["PARTS", "Assessment", "assess", "check_unused"]

PARTS = ("test", "validation", "train", "all")
"""What a network can be assessed on."""

_REPORT = "evaluation.json"
_FILES = (_REPORT, "errors.csv", "confusion.png", "reliability.png")


@dataclass(frozen=True, eq=False)
class Assessment:
    """The logits of a network for N labelled photos of K classes, and the metrics of these."""

    model: Classifier
    photos: PhotoSet
    part: str  # one of `PARTS`
    classes: tuple[str, ...]  # in the order of the network's logits
    names: tuple[str, ...]  # of the photos
    labels: Tensor  # (N,), int64: their true classes, indices into `classes`
    logits: Tensor  # (N, K), float32

    @cached_property
    def probabilities(self) -> Tensor:
        """The probability of each class: Tensor of shape (N, K), float64."""
        return self.logits.double().softmax(1)

    @cached_property
    def predictions(self) -> Tensor:
        """The most probable classes: Tensor of shape (N,), int64."""
        return self.logits.argmax(1)

    @cached_property
    def confusion(self) -> Tensor:
        """The confusion matrix: Tensor of shape (K, K), int64; rows are the true classes."""
        return evaluation.confusion_matrix(self.predictions, self.labels, len(self.classes))

    @cached_property
    def errors(self) -> list[int]:
        """The misclassified photos, indices into `names`, the most confident predictions first."""
        wrong = (self.predictions != self.labels).nonzero().flatten()
        order = self.probabilities[wrong].amax(1).argsort(descending=True, stable=True)
        return wrong[order].tolist()

    @cached_property
    def bins(self) -> list[calibration.Bin]:
        """The photos in 15 bins by their top probability."""
        return calibration.bins(self.probabilities, self.labels)

    def summary(self) -> dict[str, Any]:
        """Return all figures as plain values, as ``evaluation.json`` holds them; what is not defined is None."""
        from sklearn.metrics import precision_recall_fscore_support  # takes a second to import

        shares = precision_recall_fscore_support(
            self.labels.numpy(), self.predictions.numpy(), labels=range(len(self.classes)), zero_division=math.nan
        )
        per_class = [
            {"name": name, "precision": _defined(p), "recall": _defined(r), "f1": _defined(f), "photos": int(count)}
            for name, p, r, f, count in zip(self.classes, *shares, strict=True)
        ]
        correct = int(self.confusion.trace())
        filled = [dataclasses.asdict(one) for one in self.bins]
        return {
            "accuracy": evaluation.accuracy(self.predictions, self.labels),
            "accuracy_interval": evaluation.wilson_interval(correct, len(self.names)),
            "balanced_accuracy": evaluation.balanced_accuracy(self.confusion),
            "errors": len(self.errors),
            "per_class": per_class,
            "expected_calibration_error": calibration.expected_calibration_error(self.bins),
            "brier_score": calibration.brier_score(self.probabilities, self.labels),
            "negative_log_likelihood": evaluation.loss(self.logits.double(), self.labels),
            "bins": [
                one | {"confidence": _defined(one["confidence"]), "accuracy": _defined(one["accuracy"])}
                for one in filled
            ],
            "confusion": self.confusion.tolist(),
            "classes": list(self.classes),
            "model": self.model.name,
            "size": self.model.size,
            "data": self.photos.name,
            "data_fingerprint": self.photos.fingerprint,
            "data_note": self.photos.note,
            "part": self.part,
            "photos": len(self.names),
            "versions": system.versions(),
            "date": system.now(),
        }

    def table(self) -> str:
        """Return the figures as text: accuracy, calibration, and a line a class."""
        found = self.summary()
        low, high = found["accuracy_interval"]
        width = max(len(name) for name in ("class", *self.classes))
        lines = [
            f"Accuracy {found['accuracy']:.3f} (95 % interval for the choice of photos {low:.3f} to {high:.3f}), "
            f"balanced accuracy {found['balanced_accuracy']:.3f}, {found['errors']:,} of {found['photos']:,} wrong.",
            f"Expected calibration error {found['expected_calibration_error']:.3f} ({len(self.bins)} bins), "
            f"Brier score {found['brier_score']:.3f}, "
            f"mean negative log-likelihood {found['negative_log_likelihood']:.3f} nats.",
            f"{'class':{width}}  precision  recall     F1  photos",
        ]
        for one in found["per_class"]:
            precision, recall, f1 = (
                "-" if one[what] is None else f"{one[what]:.3f}" for what in ("precision", "recall", "f1")
            )
            lines.append(f"{one['name']:{width}}  {precision:>9}  {recall:>6}  {f1:>5}  {one['photos']:6,}")
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write figures, errors and pictures to an unused folder, whole or not at all, and return it."""
        folder = Path(path)
        check_unused(folder)

        def nothing() -> tuple[()]:
            check_unused(folder)
            return ()

        with files.replacing_all(folder, last=_REPORT, own=nothing) as new:
            rows = [("photo", "true", "predicted", *self.classes)]
            for row in self.errors:
                true, predicted = (self.classes[int(which[row])] for which in (self.labels, self.predictions))
                shares = (f"{share:.4f}" for share in self.probabilities[row].tolist())
                rows.append((self.names[row], true, predicted, *shares))
            files.write_csv(new / "errors.csv", rows)
            files.write_json(new / _REPORT, self.summary())
        for name in ("confusion.png", "reliability.png"):
            outputs.draw(folder / name, partial(self._draw, name))
        return folder

    def _draw(self, name: str, path: Path) -> None:
        from cnnhw import plots  # matplotlib takes half a second to import

        title = f"{self.photos.name}, {self.part}"
        if name == "confusion.png":
            figure = plots.confusion({title: self.confusion}, self.classes)
        else:
            figure = plots.reliability(self.bins, title)
        plots.save(figure, path)


def assess(model: Classifier, photos: PhotoSet, part: str = "test") -> Assessment:
    """Evaluate a network on one of `PARTS` of labelled photos; class names are matched, in any order, all or some."""
    if part not in PARTS:
        raise UnknownNameError("part", part, PARTS)
    check_classifier(model, "evaluated")
    classes, places = _matched(model, photos)
    evaluation.check_fits(model, photos.size, model.num_classes)
    split = join(*photos.splits) if part == "all" else getattr(photos, part)
    if not len(split):
        counts = ", ".join(f"{one} {len(getattr(photos, one))}" for one in ("train", "validation", "test"))
        raise DataError(f"{photos.name} has no photos in the part {part} ({counts}): choose another, or all")
    logits = evaluation.predict(model, split)
    if not logits.isfinite().all():
        raise WeightsError("the logits of the network are not finite: its weights cannot be used")
    return Assessment(model, photos, part, classes, split.names, places[split.labels], logits)


def check_unused(folder: Path) -> None:
    """Raise OccupiedError if a folder holds anything; it need not exist."""
    outputs.check_folder(folder, _FILES, "choose another folder (--out)")


def _matched(model: Classifier, photos: PhotoSet) -> tuple[tuple[str, ...], Tensor]:
    """Return the class names in the network's order, and the place in it of each class of the data."""
    classes = model.classes or photos.classes
    if len(classes) != model.num_classes:  # without names
        raise DataError(
            f"the network has {model.num_classes} classes without names, {photos.name} has {len(photos.classes)}: "
            "without names, the numbers have to be the same"
        )
    missing, unknown = (
        ", ".join(repr(name) for name in one if name not in other)
        for one, other in ((classes, photos.classes), (photos.classes, classes))
    )
    if unknown:  # that some are missing is no error, but may say how they should be called
        lacks = f"lacks {missing} and " if missing else ""
        raise DataError(
            f"the classes of {photos.name} are not those of the network: it {lacks}has {unknown}, unknown to the "
            "network. Name the class folders as the network names its classes"
        )
    return classes, torch.tensor([classes.index(name) for name in photos.classes])


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
