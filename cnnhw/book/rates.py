"""The learning rate of each network of Q4's first studies, from three: by validation photos, one seed, two epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnhw.book import i
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe

SEEDS = (6, 7, 8, 9, 10, 11)  # seeds 0 to 5 had a first set of runs, which is not kept

_DEEP: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("q1_deep", {}),
    "inception": ("inception", {}),
    "threes": ("inception", {"kernels": "3"}),
}


def deep(name: str, model: str, rate: float, epochs: int, options: Mapping[str, Any] = {}, **change: Any) -> Arm:
    """Return an arm with a network like Q1's deeper one."""
    settings = {"size": 64, "seeds": SEEDS, **change}
    return i.small(name, model, options, Recipe(epochs=epochs, learning_rate=rate), **settings)


_RATES = Study(
    name="rates",
    observation="it chooses learning rates, by validation photos",
    question="Which of three learning rates suits each network of Q4?",
    data="tiny5",
    size=32,
    arms=tuple(
        deep(f"{name}_{rate:g}", model, rate, 2, options, seeds=(0,))
        for name, (model, options) in _DEEP.items()
        for rate in (5e-4, 1e-3, 2e-3)
    ),
)
STUDIES = (_RATES,)

RATES = {  # what the study chose, by the validation accuracy after its two epochs
    "plain": 1e-3,
    "inception": 2e-3,
    "threes": 5e-4,
}
