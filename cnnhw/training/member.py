"""The process that trains members of an ensemble: ``python -m cnnhw.training.member``, told what by its parent."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
import time
from typing import Any

from cnnhw import models, system
from cnnhw.errors import CnnhwError
from cnnhw.training import checkpoint
from cnnhw.training.ensembles import folder_of, seed_of
from cnnhw.training.loop import fit

__all__ = []


def main() -> int:
    """Train the members that the order on the standard input names; return the exit code."""
    system.keep_freed()
    order = pickle.load(sys.stdin.buffer)  # from the process that started this one
    try:
        _train(**order)
    except CnnhwError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    return 0


def _train(
    photos: Any, recipe: Any, of: str, seed: int, folder: Any, resume: bool, until: float, members: list[int]
) -> None:
    before = {number: _saved(folder_of(folder, number), resume) for number in members}
    until -= sum(note["clock"][0] for note in before.values() if note)
    for rank, number in enumerate(members):
        own = recipe
        if note := before[number]:
            own = dataclasses.replace(recipe, minutes=note["settings"]["recipe"].get("minutes", 0.0))
        elif recipe.minutes:  # the same for each member that is left, and never nothing
            left = max(until - time.time(), 1.0) / (len(members) - rank)
            own = dataclasses.replace(recipe, minutes=left / 60)
        model = models.create(of, len(photos.classes), seed=seed_of(seed, number), size=photos.size)

        def tell(epoch: int, row: dict[str, float], number: int = number) -> None:
            _say(number, row["validation_accuracy"], done=False)

        run = fit(
            model, photos, own, seed=seed_of(seed, number), folder=folder_of(folder, number), resume=resume,
            progress=False, on_epoch=tell,
        )  # fmt: skip
        _say(number, run.validation_accuracy, done=True)


def _saved(folder: Any, resume: bool) -> dict[str, Any] | None:
    path = folder / checkpoint.CHECKPOINT
    return checkpoint.read(path)[0] if resume and path.exists() else None


def _say(member: int, accuracy: float, done: bool) -> None:
    print(json.dumps({"member": member, "validation_accuracy": accuracy, "done": done}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
