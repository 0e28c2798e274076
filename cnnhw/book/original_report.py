"""The original report's numbers, as data: what its own notebooks printed, per epoch where they printed epochs."""

from __future__ import annotations

import functools
import importlib.resources
import json
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from cnnhw.errors import UnknownNameError

__all__ = ["Experiment", "Stage", "get", "names"]


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of a transfer in the report; None stands for what the report does not give."""

    name: str
    epochs: int
    batch_size: int
    history: dict[str, list[float]]  # per epoch, with the names of `cnnhw.Run`
    test_accuracy: float | None
    seconds: float | None
    confusion: Tensor | None  # (5, 5), int64: of the test, true classes in rows
    trainable: int | None  # parameters


@dataclass(frozen=True, eq=False)
class Experiment:
    """One training of the report; None stands for what the report does not give."""

    name: str  # also that of the model, where one is registered
    question: str  # such as "Q1"
    dataset: str
    classes: tuple[str, ...]  # in the order of the confusion matrix
    test_accuracy: float  # after the last epoch
    confusion: Tensor  # (5, 5), int64: of the test, true classes in rows
    parameters: int | None
    epochs: int | None  # None of a transfer, which has stages
    batch_size: int | None
    learning_rate: float
    seconds: float | None
    history: dict[str, list[float]]
    stages: tuple[Stage, ...]
    source: str | None  # the experiment whose network was transferred

    def whole_history(self) -> dict[str, list[float]]:
        """Return the history, of a transfer that of all its stages one after the other."""
        parts = [stage.history for stage in self.stages] or [self.history]
        return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def names() -> list[str]:
    """Return the names of the report's experiments, in the order of its questions."""
    return list(_experiments())


def get(name: str) -> Experiment:
    """Return one of the report's experiments, one of :func:`names`; an UnknownNameError if there is no such one."""
    if name not in _experiments():
        raise UnknownNameError("experiment of the report", name, _experiments())
    return _experiments()[name]


@functools.cache
def _experiments() -> dict[str, Experiment]:
    text = importlib.resources.files("cnnhw.book").joinpath("original_report.json").read_text(encoding="utf-8")
    return {name: _experiment(content | {"name": name}) for name, content in json.loads(text).items()}


def _experiment(content: dict[str, Any]) -> Experiment:
    stages = tuple(Stage(**_values(Stage, stage)) for stage in content.get("stages", ()))
    return Experiment(**_values(Experiment, content) | {"classes": tuple(content["classes"]), "stages": stages})


def _values(kind: type[Experiment] | type[Stage], content: dict[str, Any]) -> dict[str, Any]:
    """Return the values of all fields, None where the report gives none, the history under the names of `cnnhw.Run`."""
    matrix, history = content.get("confusion_matrix"), content.get("history", {})
    return {field.name: content.get(field.name) for field in fields(kind)} | {
        "confusion": None if matrix is None else torch.tensor(matrix),
        "history": {key.replace("val_", "validation_"): values for key, values in history.items()},
    }
