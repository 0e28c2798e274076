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
    """One stage of a transfer in the report.

    - ``name`` (str): what was meant to be trained.
    - ``epochs``, ``batch_size`` (int): passes over the photos, and photos a step.
    - ``history`` (dict of str to list of float): per epoch: ``loss``, ``accuracy``, ``validation_loss``,
      ``validation_accuracy`` and ``seconds``.
    - ``test_accuracy`` (float or None): 0 to 1, where the report gives it.
    - ``seconds`` (float or None): time of the whole stage, where the report gives it.
    - ``confusion`` (Tensor of shape (5, 5), int64, or None): test confusion matrix, where the report gives it; rows are
      the true classes.
    - ``trainable`` (int or None): parameters that were trained, where the report gives it.
    """

    name: str
    epochs: int
    batch_size: int
    history: dict[str, list[float]]
    test_accuracy: float | None
    seconds: float | None
    confusion: Tensor | None
    trainable: int | None


@dataclass(frozen=True, eq=False)
class Experiment:
    """One training of the report.

    - ``name`` (str): its key, also the name of the model where one is registered.
    - ``question`` (str): the question it answers, such as ``"Q1"``.
    - ``dataset`` (str): what it was trained on.
    - ``classes`` (tuple of str): the class names, in the order of the confusion matrix.
    - ``test_accuracy`` (float): 0 to 1, after the last epoch.
    - ``confusion`` (Tensor of shape (5, 5), int64): test confusion matrix; rows are the true classes.
    - ``parameters`` (int or None): as the report states it.
    - ``epochs``, ``batch_size`` (int or None): None where the experiment consists of stages.
    - ``learning_rate`` (float): Adam's rate.
    - ``seconds`` (float or None): time of training, where the report gives it.
    - ``history`` (dict of str to list of float): per epoch: ``loss``, ``accuracy``, ``validation_loss``,
      ``validation_accuracy`` and ``seconds``.
    - ``stages`` (tuple of Stage): the stages of a transfer.
    - ``source`` (str or None): the experiment whose network was transferred.
    """

    name: str
    question: str
    dataset: str
    classes: tuple[str, ...]
    test_accuracy: float
    confusion: Tensor
    parameters: int | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float
    seconds: float | None
    history: dict[str, list[float]]
    stages: tuple[Stage, ...]
    source: str | None

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
