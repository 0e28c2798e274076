"""What the second edition's studies share: half of the photos, each seed's own cut, and enough epochs to converge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from cnnhw.studies.questions import Question
from cnnhw.studies.study import Arm
from cnnhw.training.recipe import Recipe

REGISTERED = "2026-11-28"
SEEDS = tuple(range(200, 224))
"""Fresh ones: the first edition had 0 to 11, pilots have 100 to 102."""

RECIPE = Recipe(
    epochs=20, batch_size=64, optimizer="adamw", weight_decay=0.05, schedule="one_cycle", flip=True, shift=2,
    precision="bfloat16",
)  # fmt: skip

question = partial(Question, registered=REGISTERED)


def arm(name: str, model: str, rate: float, options: Mapping[str, Any] = {}, **change: Any) -> Arm:
    """Return an arm that learns from half of the training photos, at the rate that it was tuned to."""
    recipe = dataclasses.replace(change.pop("recipe", RECIPE), learning_rate=rate)
    settings = {"seeds": SEEDS, "protocols": ("own_cut", "half_train"), **change}
    return Arm(name, model, recipe, options=options, **settings)
