"""What the second edition's studies share: half of the photos, each seed's own cut, and enough epochs to converge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from cnnhw.studies.questions import Question
from cnnhw.studies.study import Arm
from cnnhw.training.recipe import Recipe

SEEDS = tuple(range(200, 224))
"""Fresh ones: the first edition had 0 to 11, pilots have 100 to 102."""

# A first design, 20 epochs of AdamW, was tuned and given up before any run: twice as many still changed arms of every
# study by more than half of what matters. This one comes from single trials, on photos held out from training.
RECIPE = Recipe(
    epochs=48, batch_size=64, optimizer="muon", weight_decay=0.05, schedule="one_cycle", flip=True, shift=2,
    precision="bfloat16",
)  # fmt: skip
FORMAT = "float32"
"""The number format of studies that are run where a processor computes them as fast, or faster, in this one."""
LARGE: dict[str, Any] = {"recipe": dataclasses.replace(RECIPE, shift=4), "protocols": ("own_cut", "train_25")}
"""For photos of 64 pixels, of which a quarter is trained on: each has four times the pixels of one of 32."""

question = partial(Question, registered="2026-11-28")
again = partial(Question, registered="2026-11-29")
"""Registered anew, when the first design was given up."""


def arm(name: str, model: str, rate: float, options: Mapping[str, Any] = {}, **change: Any) -> Arm:
    """Return an arm that learns from half of the training photos, unless it is told otherwise, at a rate of its own."""
    recipe = dataclasses.replace(change.pop("recipe", RECIPE), learning_rate=rate)
    settings = {"seeds": SEEDS, "protocols": ("own_cut", "half_train"), **change}
    return Arm(name, model, recipe, options=options, **settings)
