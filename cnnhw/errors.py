"""The errors and warnings that cnnhw raises itself, and help with misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CnnhwError",
    "DataError",
    "ModelError",
    "OccupiedError",
    "SkippedPhotosWarning",
    "StorageError",
    "TrainingError",
    "UnknownNameError",
    "WeightsError",
]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message, with the nearest name that is known; "" if none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class CnnhwError(Exception):
    """Base of all errors that cnnhw raises itself: the message says what is wrong, where, and what to do."""


class DataError(CnnhwError, ValueError):
    """Photographs, archives or folders that cannot be used."""


class ModelError(CnnhwError, ValueError):
    """A network that cannot be built, trained or looked at as asked."""


class WeightsError(CnnhwError, ValueError):
    """A weights file or run folder that cannot be used."""


class StorageError(CnnhwError, OSError):
    """A file that cannot be written: the disk is full, or the folder read-only."""


class OccupiedError(CnnhwError, FileExistsError):
    """A file or folder to write to that holds something already which cnnhw did not make, or may not replace."""


class TrainingError(CnnhwError, RuntimeError):
    """Training that cannot start or go on."""


class UnknownNameError(CnnhwError, ValueError):
    """A name of some `kind` that is not known; the message suggests the nearest, and ends with the `hint`."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        guess = did_you_mean(name, known)
        super().__init__(f"unknown {kind} {name!r}.{guess} Known: {', '.join(known)}.{' ' + hint if hint else ''}")


class SkippedPhotosWarning(UserWarning):
    """Some files could not be read as photographs and were left out."""
