"""Training: photos and a model become a run."""

from __future__ import annotations

from cnnhw.training.loop import CHECKPOINT, first_losses, fit, precision, saved_settings, speed
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.training.whitening import whiten_

__all__ = ["CHECKPOINT", "Recipe", "Run", "first_losses", "fit", "precision", "saved_settings", "speed", "whiten_"]
