"""Transfer: a trained network goes on learning on other photos, in stages that train more and more of it."""

from __future__ import annotations

from cnnhw.models.heads import Head
from cnnhw.transfer.best import search
from cnnhw.transfer.choice import adapt, fitting_side, source
from cnnhw.transfer.features import freeze, frozen_features, layers_from, learning_steps
from cnnhw.transfer.loop import begin, joined, transfer
from cnnhw.transfer.probe import linear_probe
from cnnhw.transfer.stages import Stage, gradual, in_turn, parts, recipe, two_stages

__all__ = [
    "Head", "Stage", "adapt", "begin", "fitting_side", "freeze", "frozen_features", "gradual", "in_turn", "joined",
    "layers_from", "learning_steps", "linear_probe", "parts", "recipe", "search", "source", "transfer",
    "two_stages",
]  # fmt: skip
