"""Records: one JSON file a finished run of a study, and where they lie."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import io
import json
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnhw import evaluation, files, models
from cnnhw.errors import CnnhwError
from cnnhw.runs import Run, processor, versions

__all__ = ["Record", "code_fingerprint", "configuration_key", "folder", "from_runs", "read", "write", "write_canary"]

_FORMAT = 1
_SIZE_LIMIT = 16 * 2**20  # bytes; a record has less than a hundred thousand
_SHARED_CODE = (
    "cnnhw.models.blocks",
    "cnnhw.training",
    "cnnhw.evaluation",
    "cnnhw.data.augment",
    "cnnhw.data.decode",
)


@dataclass(frozen=True, eq=False)
class Record:
    """One finished run, read back from its file.

    Attributes
    ----------
    content : dict
        The file's content; see the developer guide for the fields.
    path : Path
        Where it was read from.
    """

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
        return _from_digits(self.content["test_labels"])

    def predictions(self, epoch: int | None = None) -> Tensor:
        """Return the classes predicted for the test photos.

        Parameters
        ----------
        epoch : int, optional
            After which epoch, from 1; by default the best by validation.

        Returns
        -------
        Tensor of shape (N,), int64
            Class indices.
        """
        by_epoch = self.content["test_predictions"]
        return _from_digits(by_epoch[str(epoch or self.best_epoch)])

    def accuracy(self, epoch: int | None = None) -> float:
        """Return the test accuracy, 0 to 1, after `epoch` (by default the best by validation)."""
        return evaluation.accuracy(self.predictions(epoch), self.labels)

    def confusion(self, epoch: int | None = None) -> Tensor:
        """Return the test confusion matrix, Tensor of shape (K, K), after `epoch` (by default the best)."""
        return evaluation.confusion_matrix(self.predictions(epoch), self.labels, len(self.classes))

    def measured_with_present_code(self) -> bool:
        """Whether the code that the figures depend on is still the same."""
        return self.content["code"] == code_fingerprint(self.content["configuration"])

    def repeated_by_present_code(self) -> bool:
        """Whether the present code was seen to repeat the first steps of the run's arm: see `queue.canary`."""
        return self.content.get("canary", {}).get("code") == code_fingerprint(self.content["configuration"])


def folder() -> Path:
    """Return the folder of the records: ``docs/records`` of a checkout, else the copy inside the package.

    Returns
    -------
    Path
        The folder.
    """
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "docs" / "records"
    return checkout if checkout.is_dir() and (package.parent / "pyproject.toml").is_file() else package / "records"


def read(study: str | None = None, where: Path | None = None) -> list[Record]:
    """Read all records, or those of one study, sorted by study, arm and seed.

    Parameters
    ----------
    study : str, optional
        The study's name.
    where : Path, optional
        The folder of the records; by default :func:`cnnhw.studies.store.folder`.

    Returns
    -------
    list of Record
        The records.

    Raises
    ------
    CnnhwError
        If a file is not a readable record, or not as it was written; the message names it.
    """
    found = []
    for path in sorted((where or folder()).glob(f"{study or '*'}/*.json")):
        try:
            if path.stat().st_size > _SIZE_LIMIT:
                raise ValueError(f"it is larger than {_SIZE_LIMIT // 2**20} MB")
            text = path.read_text(encoding="utf-8")
            content = json.loads(text)
            if content["format"] != _FORMAT or content["key"] != configuration_key(content["configuration"]):
                raise ValueError("its format is unknown or its key does not fit its configuration")
            if "checksum" not in content:
                raise ValueError("it has no checksum")
            if content["checksum"] != _checksum(text.replace(_seal(content["checksum"]), _seal(""))):
                raise ValueError("its content does not fit its checksum: it was changed after it was written")
            record = Record(content, path)
            order = str(record.study), str(record.arm), int(record.seed)
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            raise CnnhwError(
                f"{path} is not a usable record ({error}): restore it, or delete it and run it again"
            ) from error
        found.append((order, record))
    return [record for _, record in sorted(found, key=lambda pair: pair[0])]


def from_runs(runs: Sequence[Run], *, study: str, arm: str, configuration: dict[str, Any], code: str) -> dict[str, Any]:
    """Return the content of a record for a finished run.

    Parameters
    ----------
    runs : sequence of Run
        The run, or the stages of a transfer, whose epochs are counted through. Test predictions are kept for each
        epoch if there are any, else for the best one.
    study, arm : str
        What it was made for.
    configuration : dict
        All that was decided beforehand; its hash is the record's key.
    code : str
        The fingerprint of the code that ran.

    Returns
    -------
    dict
        Plain values, ready to be written as JSON.
    """
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
        "test_labels": _to_digits(photos.test.labels.tolist()),
        "test_predictions": {epoch: _to_digits(values) for epoch, values in by_epoch.items()},
        "threads": run.threads,
        "precision": run.precision,
        "processor": processor(),
        "versions": versions(),
        "date": summary["date"],
    }


def write(content: dict[str, Any], where: Path | None = None) -> Path:
    """Write a record's content, with a checksum, to its file, whole or not at all.

    Parameters
    ----------
    content : dict
        What :func:`cnnhw.studies.store.from_runs` returned.
    where : Path, optional
        The folder of the records; by default :func:`cnnhw.studies.store.folder`.

    Returns
    -------
    Path
        The file: ``<study>/<arm>-<seed>-<key>.json``.

    Raises
    ------
    StorageError
        If the disk is full or the folder cannot be written to.
    """
    name = f"{content['arm']}-{content['configuration']['seed']}-{content['key'][:8]}.json"
    path = (where or folder()) / content["study"] / name
    _write(path, content)
    return path


def write_canary(record: Record, difference: float, seed: int) -> None:
    """Note in a record's file that the present code repeats the first steps of its arm.

    Parameters
    ----------
    record : Record
        The record.
    difference : float
        The greatest difference of a loss, in nats.
    seed : int
        The seed of the run of the same arm that was repeated.
    """
    note = {"code": code_fingerprint(record.content["configuration"]), "difference": difference, "seed": seed}
    _write(record.path, record.content | {"canary": note})


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content | {"checksum": ""}, indent=1, allow_nan=False) + "\n"
    files.write_text(path, text.replace(_seal(""), _seal(_checksum(text))))


def _seal(checksum: str) -> str:
    return f'"checksum": "{checksum}"'


def _checksum(text: str) -> str:
    """Return 16 hexadecimal digits that stand for a record's text, in which they are still empty themselves."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def configuration_key(configuration: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that stand for a configuration."""
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_fingerprint(configuration: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that stand for the code a run's figures depend on.

    That is the model's file, the shared blocks, training, evaluation, augmentation and decoding, and where they are
    used also protocols and transfer; without comments, docstrings and layout.

    Parameters
    ----------
    configuration : mapping
        All that decides the run.

    Returns
    -------
    str
        The fingerprint.
    """
    digest = hashlib.sha256()
    used = [models.builder(configuration["model"]).__module__, *_SHARED_CODE]
    if "protocols" in configuration:
        used.append("cnnhw.data.protocols")
    if isinstance(configuration["recipe"], list):
        used.append("cnnhw.transfer")
    if "head" in configuration:
        used.append("cnnhw.models.heads")
    for name in used:
        digest.update(_code(name))
    return digest.hexdigest()[:16]


@functools.cache
def _code(module: str) -> bytes:
    """Return a module's bare source, read once: it is asked for by every record."""
    file = importlib.import_module(module).__file__
    assert file is not None
    return _bare(Path(file).read_text(encoding="utf-8")).encode()


def _bare(source: str) -> str:
    """Return Python source without comments, docstrings, blank space and line ends."""
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            docstrings.add(node.body[0].lineno)
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)
    words = [
        "".join(token.string.split())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in skipped and not (token.type == tokenize.STRING and token.start[0] in docstrings)
    ]
    return " ".join(filter(None, words))


def _to_digits(classes: Iterable[int]) -> str:
    return "".join(map(str, classes))


def _from_digits(digits: str) -> Tensor:
    return torch.tensor([int(digit) for digit in digits])
