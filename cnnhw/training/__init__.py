"""Training: photos and a model become a run.

:mod:`cnnhw.training.step` is one step, :mod:`cnnhw.training.loop` takes them all.
"""

from __future__ import annotations

from cnnhw.training.checkpoint import CHECKPOINT, saved_settings
from cnnhw.training.loop import first_losses, fit, speed
from cnnhw.training.mixed_precision import precision
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.training.whitening import whiten_

__all__ = ["CHECKPOINT", "Recipe", "Run", "first_losses", "fit", "precision", "saved_settings", "speed", "whiten_"]
