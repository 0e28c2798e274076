"""Records: one packed JSON file a finished run of a study, and where they lie."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnhw import evaluation, files
from cnnhw.data.photoset import Split
from cnnhw.errors import CnnhwError
from cnnhw.system import processor, versions
from cnnhw.training.run import Run

__all__ = ["PLANS", "Record", "blind", "configuration_key", "folder", "from_runs", "read", "write", "write_canary"]

_FORMAT = 1
_SUFFIX = ".json.gz"  # unpacked, records would be most of the repository
_SIZE_LIMIT = 16 * 2**20  # bytes unpacked; a record has less than a hundred thousand
_UNUSABLE = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, ArithmeticError, RecursionError)
_ONE_DIGIT = 10  # classes
PLANS = "plans"
"""The folder of plans, among those of records."""


@dataclass(frozen=True, eq=False)
class Record:
    """One finished run, read back from its file."""

    content: dict[str, Any]
    path: Path

    @property
    def study(self) -> str:
        """The name of the study it was made for."""
        return self.content["study"]

    @property
    def arm(self) -> str:
        """The name of the arm within the study."""
        return self.content["arm"]

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.content["configuration"]["seed"]

    @property
    def key(self) -> str:
        """The hash of the configuration."""
        return self.content["key"]

    @property
    def history(self) -> dict[str, list[float]]:
        """Per epoch: loss, accuracy, validation loss and accuracy, seconds of training."""
        return self.content["history"]

    @property
    def best_epoch(self) -> int:
        """The best epoch by validation, from 1."""
        return self.content["best_epoch"]

    @property
    def stages(self) -> list[dict[str, int]]:
        """The stages of a transfer: ``epochs``, ``trainable`` parameters and ``best_epoch``; empty for others."""
        return self.content.get("stages", [])

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return tuple(self.content["data"]["classes"])

    @cached_property
    def labels(self) -> Tensor:
        """The true classes of the test photos: Tensor of shape (N,), int64."""
        return _from_text(self.content["test_labels"], len(self.classes))

    def predictions(self, epoch: int | None = None) -> Tensor:
        """Return the predicted classes of the test photos, Tensor of shape (N,), int64, after an epoch."""
        by_epoch = self.content["test_predictions"]
        return _from_text(by_epoch[str(epoch or self.best_epoch)], len(self.classes))

    def accuracy(self, epoch: int | None = None) -> float:
        """Return the test accuracy, 0 to 1, after `epoch` (by default the best by validation)."""
        return evaluation.accuracy(self.predictions(epoch), self.labels)

    def confusion(self, epoch: int | None = None) -> Tensor:
        """Return the test confusion matrix, Tensor of shape (K, K), after `epoch` (by default the best)."""
        return evaluation.confusion_matrix(self.predictions(epoch), self.labels, len(self.classes))

    def on_held_out(self) -> Record:
        """Return a record without test predictions as if its held-out photos were the test photos: for planning."""
        said = self.content
        return Record(
            said
            | {
                "data": said["data"] | {"test_fingerprint": said["held_fingerprint"]},
                "test_labels": said["held_labels"],
                "test_predictions": {str(self.best_epoch): said["held_predictions"]},
            },
            self.path,
        )

    @property
    def repeated(self) -> bool:
        """Whether later code stands for the record, having repeated the first steps of its arm: see `queue.canary`."""
        return "canary" in self.content


def folder() -> Path:
    """Return the folder of the records: ``docs/records`` of a checkout, else the copy inside the package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "docs" / "records"
    return checkout if checkout.is_dir() and (package.parent / "pyproject.toml").is_file() else package / "records"


def read(study: str | None = None, where: Path | None = None) -> list[Record]:
    """Return the records of all studies or of one, by study, arm and seed; CnnhwError names a file of no use."""
    found, place = [], where or folder()
    if plain := [path for path in sorted(place.glob(f"{study or '*'}/*-*.json")) if path.parent.name != PLANS]:
        raise CnnhwError(f"{plain[0]} is a record that is not packed: pack it, and all others, with gzip")
    for path in sorted(place.glob(f"{study or '*'}/*{_SUFFIX}")):
        try:
            text = _unpacked(path)
            content = json.loads(text)
            if content["format"] != _FORMAT or content["key"] != configuration_key(content["configuration"]):
                raise ValueError("its format is unknown or its key does not fit its configuration")
            if "checksum" not in content:
                raise ValueError("it has no checksum")
            if content["checksum"] != _checksum(text.replace(_seal(content["checksum"]), _seal(""))):
                raise ValueError("its content does not fit its checksum: it was changed after it was written")
            record = Record(content, path)
            order = str(record.study), str(record.arm), int(record.seed)
        except _UNUSABLE as error:
            raise CnnhwError(
                f"{path} is not a usable record ({error}): restore it, or delete it and run it again"
            ) from error
        found.append((order, record))
    return [record for _, record in sorted(found, key=lambda pair: pair[0])]


def from_runs(runs: Sequence[Run], *, study: str, arm: str, configuration: dict[str, Any], code: str) -> dict[str, Any]:
    """Return a record's content for a finished run, or the stages of a transfer, whose epochs are counted through."""
    run = runs[-1]
    before = [sum(len(earlier.history["loss"]) for earlier in runs[:number]) for number in range(len(runs))]
    by_epoch = {
        str(start + epoch): predictions
        for start, part in zip(before, runs, strict=True)
        for epoch, predictions in enumerate(part.test_predictions, start=1)
    }
    best_epoch = before[-1] + run.best_epoch
    by_epoch.setdefault(str(best_epoch), run.predictions.tolist())
    summary = run.summary()
    photos = run.photos
    stages = [
        {"epochs": len(part.history["loss"]), "trainable": part.trainable, "best_epoch": start + part.best_epoch}
        for start, part in zip(before, runs, strict=True)
    ]
    return {
        "format": _FORMAT,
        "study": study,
        "arm": arm,
        "key": configuration_key(configuration),
        "configuration": configuration,
        "recipe": run.recipe,
        **({"stages": stages} if len(runs) > 1 else {}),
        "code": code,
        "data": {
            "name": photos.name,
            "fingerprint": photos.fingerprint,
            "test_fingerprint": photos.test.fingerprint,
            "classes": list(photos.classes),
            "photos": summary["photos"],
            "note": photos.note,
            "licence": photos.licence,
        },
        "parameters": summary["parameters"],
        "best_epoch": best_epoch,
        "seconds": sum(part.seconds for part in runs),
        "history": {name: [round(value, 5) for part in runs for value in part.history[name]] for name in run.history},
        "first_losses": [round(value, 6) for value in runs[0].first_losses],
        "test_labels": _to_text(photos.test.labels.tolist(), len(photos.classes)),
        "test_predictions": {epoch: _to_text(values, len(photos.classes)) for epoch, values in by_epoch.items()},
        "threads": run.threads,
        "precision": run.precision,
        "processor": processor(),
        "versions": versions(),
        "date": summary["date"],
    }


def blind(content: dict[str, Any], held: Split, predictions: Sequence[int]) -> dict[str, Any]:
    """Return a record's content without test predictions, but with those of other held-out photos at the best epoch."""
    count = len(content["data"]["classes"])
    return content | {
        "test_labels": "",
        "test_predictions": {},
        "held_fingerprint": held.fingerprint,
        "held_labels": _to_text(held.labels.tolist(), count),
        "held_predictions": _to_text(predictions, count),
    }


def write(content: dict[str, Any], where: Path | None = None) -> Path:
    """Write a record's content, with a checksum, to ``<study>/<arm>-<seed>-<key>.json.gz``, whole or not at all."""
    name = f"{content['arm']}-{content['configuration']['seed']}-{content['key'][:8]}{_SUFFIX}"
    path = (where or folder()) / content["study"] / name
    _write(path, content)
    return path


def write_canary(record: Record, code: str, difference: float, seed: int) -> None:
    """Note in a record that `code` repeats its first steps, up to `difference` nats, and stands for it from now on."""
    note = {"measured": record.content.get("canary", {}).get("measured", record.content["code"])}
    _write(record.path, record.content | {"code": code, "canary": note | {"difference": difference, "seed": seed}})


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content | {"checksum": ""}, indent=1, allow_nan=False) + "\n"
    with files.replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text.replace(_seal(""), _seal(_checksum(text))).encode(), mtime=0))


def _unpacked(path: Path) -> str:
    """Return the text of a record's file; ValueError if it is too long for one."""
    with gzip.open(path) as stream:
        data = stream.read(_SIZE_LIMIT + 1)
    if len(data) > _SIZE_LIMIT:
        raise ValueError(f"it is larger than {_SIZE_LIMIT // 2**20} MB")
    return data.decode()


def _seal(checksum: str) -> str:
    return f'"checksum": "{checksum}"'


def _checksum(text: str) -> str:
    """Return 16 hexadecimal digits that stand for a record's text, in which they are still empty themselves."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def configuration_key(configuration: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that stand for a configuration."""
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _to_text(labels: Sequence[int], classes: int) -> str:
    """Return class indices as text: a digit each, or, of more than ten classes, numbers with a space between them."""
    return ("" if classes <= _ONE_DIGIT else " ").join(map(str, labels))


def _from_text(text: str, classes: int) -> Tensor:
    return torch.tensor([int(label) for label in (text if classes <= _ONE_DIGIT else text.split())])
