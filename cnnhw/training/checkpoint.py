"""Checkpoints: one file that a run is gone on with after it was interrupted, bitwise as if it had not been."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnhw import files
from cnnhw.errors import TrainingError
from cnnhw.training import distributed
from cnnhw.training.recipe import Recipe
from cnnhw.training.state import State

__all__ = ["CHECKPOINT", "saved_settings"]

CHECKPOINT = "checkpoint.safetensors"


def saved_settings(folder: str | Path) -> dict[str, Any]:
    """Return what an interrupted run was started with (``model``, ``size``, ``recipe``, ``seed``), from its folder."""
    return read(Path(folder) / CHECKPOINT)[0]["settings"]


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON and the tensors of a checkpoint."""
    try:
        metadata, tensors = files.load_tensors(path)
        note = json.loads(metadata["cnnhw"])
        note["settings"]["recipe"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{path} is not a readable checkpoint ({error}): delete it to start anew") from error
    return note, tensors


def save(state: State, path: Path) -> None:
    """Write the checkpoint, in the first process: tensors and, as JSON in the header, all else."""
    if distributed.rank() > 0:
        return
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for which, optimizer in enumerate(state.optimizer.optimizers):
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer{which}.{number}.{name}": value for name, value in moments.items()}
    note = {
        "settings": _settings(state),
        "photos": _counts(state),
        "threads": torch.get_num_threads(),
        "epoch": state.epoch,
        "history": state.history,
        "first_losses": state.first_losses,
        "test_predictions": state.test_predictions,
        "best_epoch": state.best_epoch,
        "clock": [state.clock.spent, state.clock.validation],
        **({"scaler": state.scaler.state_dict()} if state.scaler.is_enabled() else {}),
    }
    files.save_tensors(path, tensors, {"cnnhw": json.dumps(note)})


def restore(state: State, path: Path) -> None:
    """Go back to a checkpoint, refusing one of another run; the first process reads it for all."""
    note, tensors = distributed.broadcast(read(path) if distributed.rank() == 0 else None)
    _check(path, note, _settings(state), _counts(state))

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}

    try:
        state.model.load_state_dict(part("model."))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise TrainingError(f"{path} belongs to another network ({reason}): choose another folder") from error
    state.best = part("best.")
    for which, optimizer in enumerate(state.optimizer.optimizers):
        _restore_moments(optimizer, part(f"optimizer{which}."))
    state.epoch, state.history, state.best_epoch = note["epoch"], note["history"], note["best_epoch"]
    state.first_losses, state.test_predictions = note["first_losses"], note["test_predictions"]
    state.clock.spent, state.clock.validation = note.get("clock", (0.0, 0.0))
    if "scaler" in note:
        state.scaler.load_state_dict(note["scaler"])


def _settings(state: State) -> dict[str, Any]:
    """Return what has to be the same for a run to be resumed."""
    factors, processes = state.optimizer.factors, distributed.count()
    return {
        "model": state.model.name or hashlib.sha256(repr(state.model).encode()).hexdigest()[:16],
        "recipe": state.recipe.changes(),
        "precision": state.precision,
        "size": state.photos.size,
        "seed": state.seed,
        "data": state.photos.fingerprint,
        **({"rates": factors} if set(factors) != {1.0} else {}),
        **({"processes": processes} if processes > 1 else {}),
    }


def _counts(state: State) -> str:
    """Describe the photos in words, for those who want to know why they are not the same."""
    photos = state.photos
    train, validation, test = map(len, photos.splits)
    return f"{photos.name}, {len(photos.classes)} classes, {train} + {validation} + {test} photos"


def _check(path: Path, note: dict[str, Any], ours: dict[str, Any], counts: str) -> None:
    """Refuse a checkpoint of other settings, or one that would be gone on with by another number of threads."""
    saved = note["settings"]
    if saved != ours:
        there, now = ({**settings} for settings in (saved, ours))
        if isinstance(saved["recipe"], dict):
            there, now = (dataclasses.asdict(Recipe()) | one.pop("recipe") | one for one in (there, now))
        if there.get("data") != now["data"]:  # fingerprints mean nothing to a reader
            there["data"], now["data"] = note.get("photos", there.get("data")), counts
            if there["data"] == now["data"]:
                now["data"] += ", but others or in other classes or parts"
        differ = ", ".join(
            f"{name}: {there.get(name)} there, {now.get(name)} now"
            for name in dict.fromkeys([*now, *there])
            if there.get(name) != now.get(name)
        )
        raise TrainingError(
            f"{path} belongs to a run with other settings ({differ}): give the same again, or choose another folder"
        )
    if note["threads"] != torch.get_num_threads():
        raise TrainingError(
            f"{path} was trained with {note['threads']} threads, now there are {torch.get_num_threads()}: results "
            f"would differ in the last digits; call torch.set_num_threads({note['threads']}) or set OMP_NUM_THREADS"
        )


def _restore_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        moments.setdefault(int(number), {})[key] = value
    state = optimizer.state_dict()
    state["state"] = moments
    optimizer.load_state_dict(state)
    # strides are not stored: bring the restored moments back to the layout of their parameters
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.dim() == 4 and parameter.dim() == 4:
                values[key] = value.contiguous(memory_format=torch.channels_last)
