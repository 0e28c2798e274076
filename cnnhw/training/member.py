"""Members of an ensemble, and the process that trains them: ``python -m cnnhw.training.member``."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cnnhw import models, system
from cnnhw.data import handover
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import CnnhwError
from cnnhw.training import checkpoint
from cnnhw.training.loop import fit
from cnnhw.training.recipe import Recipe

__all__ = []

_SPREAD = 1000  # seeds of the members of one ensemble; the next ensemble's come after them


def folder_of(place: Path, number: int) -> Path:
    """Return the folder of a member's checkpoint."""
    return place / f"member{number}"


def seed_of(seed: int, number: int) -> int:
    """Return the seed of a member."""
    return seed * _SPREAD + number


def train(
    photos: PhotoSet, recipe: Recipe, members: Sequence[int], tell: Callable[[int, float, bool], None], *, of: str,
    seed: int, folder: Path, resume: bool, until: float, progress: bool = False,
) -> None:  # fmt: skip
    """Train members one after the other, `until` a time of ``time.time()`` if the recipe has minutes."""
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

        def on_epoch(epoch: int, row: dict[str, float], number: int = number) -> None:
            tell(number, row["validation_accuracy"], False)

        run = fit(
            model, photos, own, seed=seed_of(seed, number), folder=folder_of(folder, number), resume=resume,
            progress=progress, on_epoch=on_epoch,
        )  # fmt: skip
        tell(number, run.validation_accuracy, True)


def main() -> int:
    """Train the members that the order on the standard input names; return the exit code."""
    system.keep_freed()
    order: dict[str, Any] = json.load(sys.stdin)
    try:
        photos, recipe = handover.read(Path(order.pop("photos"))), Recipe(**order.pop("recipe"))
        train(photos, recipe, order.pop("members"), _say, folder=Path(order.pop("folder")), **order)
    except CnnhwError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    return 0


def _saved(folder: Path, resume: bool) -> dict[str, Any] | None:
    path = folder / checkpoint.CHECKPOINT
    return checkpoint.read(path)[0] if resume and path.exists() else None


def _say(member: int, accuracy: float, done: bool) -> None:
    print(json.dumps({"member": member, "validation_accuracy": accuracy, "done": done}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
