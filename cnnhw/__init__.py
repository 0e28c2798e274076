"""Convolutional networks, questioned: photographs become runs, runs become records, records become pages.

::

    import cnnhw

    photos = cnnhw.data.load("scenes", size=128)
    model = cnnhw.models.create("q1_shallow", num_classes=len(photos.classes))
    run = cnnhw.fit(model, photos, cnnhw.Recipe(epochs=3))
    folder = run.save("runs/first")
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from cnnhw import data, evaluation, features, models, transfer
from cnnhw.errors import CnnhwError, DataError, SkippedPhotosWarning, TrainingError, UnknownNameError, WeightsError
from cnnhw.models.weights import load
from cnnhw.training.loop import fit
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run

if TYPE_CHECKING:
    from cnnhw import studies

__version__ = "0.1.0"

__all__ = [
    "CnnhwError",
    "DataError",
    "Recipe",
    "Run",
    "SkippedPhotosWarning",
    "TrainingError",
    "UnknownNameError",
    "WeightsError",
    "data",
    "evaluation",
    "features",
    "fit",
    "load",
    "models",
    "studies",
    "transfer",
]


def __getattr__(name: str) -> ModuleType:
    """Import `studies` when it is first asked for: a program that trains a network needs none of it."""
    if name == "studies":
        return importlib.import_module("cnnhw.studies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
