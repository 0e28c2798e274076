"""The learning rate of each network of Q2 and Q4, chosen from three on validation photos, one seed and two epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cnnhw.book import i
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe

SEEDS = (6, 7, 8, 9, 10, 11)  # seeds 0 to 5 had a first set of runs, which is not kept

RESNETS: dict[str, dict[str, Any]] = {
    f"d{depth}_{kind}{'' if norm else '_no_norm'}": {"depth": depth, "shortcuts": kind == "residual", "norm": norm}
    for depth, norm in ((8, True), (14, True), (20, True), (20, False))
    for kind in ("residual", "plain")
}
_DEEP: dict[str, tuple[str, dict[str, Any]]] = {
    "residual": ("q1_deep_residual", {}),
    "plain": ("q1_deep", {}),
    "inception": ("inception", {}),
    "threes": ("inception", {"kernels": "3"}),
}


def deep(name: str, model: str, rate: float, epochs: int, options: Mapping[str, Any] = {}, **change: Any) -> Arm:
    """Return an arm with a network like Q1's deeper one."""
    settings = {"size": 64, "seeds": SEEDS, **change}
    return i.small(name, model, options, Recipe(epochs=epochs, learning_rate=rate), **settings)


def resnet(name: str, options: Mapping[str, Any], rate: float, epochs: int, **change: Any) -> Arm:
    """Return an arm with a residual network of Q2, or its plain twin."""
    recipe = replace(i.RECIPE, learning_rate=rate, epochs=epochs)
    return i.small(name, "resnet", options, recipe, **{"seeds": SEEDS, **change})


_RATES = Study(
    name="rates",
    observation="it chooses learning rates, by validation photos",
    question="Which of three learning rates suits each network of Q2 and Q4?",
    data="tiny5",
    size=32,
    arms=(
        *(
            deep(f"{name}_{rate:g}", model, rate, 2, options, seeds=(0,))
            for name, (model, options) in _DEEP.items()
            for rate in (5e-4, 1e-3, 2e-3)
        ),
        *(
            resnet(f"{name}_{rate:g}", options, rate, 2, seeds=(0,))
            for name, options in RESNETS.items()
            for rate in (1e-3, 3e-3, 9e-3)
        ),
    ),
)
STUDIES = (_RATES,)

RATES = {  # what the study chose, by the validation accuracy after its two epochs
    "residual": 5e-4,
    "plain": 1e-3,
    "inception": 2e-3,
    "threes": 5e-4,
    "d8_residual": 3e-3,
    "d8_plain": 3e-3,
    "d14_residual": 1e-3,
    "d14_plain": 3e-3,
    "d20_residual": 1e-3,
    "d20_plain": 3e-3,
    "d20_residual_no_norm": 1e-3,
    "d20_plain_no_norm": 1e-3,
}
