"""What a run carries from epoch to epoch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.models.blocks import Classifier, device_of
from cnnhw.training import distributed
from cnnhw.training.clock import Clock
from cnnhw.training.mixed_precision import precision
from cnnhw.training.optimizers import Update
from cnnhw.training.recipe import Recipe
from cnnhw.training.whitening import whiten_

__all__ = []


class State:
    """Network, optimiser, and what has come of the epochs so far."""

    def __init__(
        self, model: Classifier, photos: PhotoSet, recipe: Recipe, seed: int,
        rates: Mapping[nn.Parameter, float] | None = None,
    ) -> None:  # fmt: skip
        self.model = model.to(memory_format=torch.channels_last)  # 1.1 to 1.4 times faster on CPUs
        self.photos, self.recipe, self.seed = photos, recipe, seed
        device = device_of(model)
        self.precision = precision(recipe, device)
        if recipe.raw:
            model.pixel_scale = 255.0
        if recipe.whiten:
            rows = torch.randperm(len(photos.train), generator=torch.Generator().manual_seed(seed))
            whiten_(model, to_float(photos.train.batch(rows[:500])))
        self.optimizer = Update(model, recipe, rates)
        self.weights = class_weights(photos).to(device) if recipe.class_weights else None
        self.criterion = nn.CrossEntropyLoss(self.weights, label_smoothing=recipe.label_smoothing)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "float16")
        # each process updates statistics of its own; `fit` averages them after each epoch
        self.network: nn.Module = (
            DistributedDataParallel(model, broadcast_buffers=False) if distributed.count() > 1 else model
        )
        self.clock = Clock(recipe.minutes)
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self.first_losses: list[float] = []
        self.test_predictions: list[list[int]] = []
        self.best_epoch = 0
        self.best = _copy(model)

    def share(self, epoch: int, step: int, steps: int) -> float:
        """Return how much of the run is done at a step, from 0, of an epoch, from 1, which has so many steps."""
        by_steps = ((epoch - 1) * steps + step + 0.5) / (self.recipe.epochs * steps)
        return max(by_steps, self.clock.share)

    def close_epoch(self, epoch: int, row: dict[str, float]) -> None:
        """Note an epoch's figures, and its weights if it is the best so far."""
        self.epoch = epoch
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        losses = (-loss for loss in self.history["validation_loss"])
        *before, now = zip(self.history["validation_accuracy"], losses, strict=True)
        if self.recipe.keep == "last" or now > max(before, default=(-1.0, 0.0)):
            self.best_epoch, self.best = epoch, _copy(self.model)


def class_weights(photos: PhotoSet) -> Tensor:
    """Return weights that make all classes count the same in training: Tensor of shape (K,), float32."""
    counts = torch.bincount(photos.train.labels, minlength=len(photos.classes)).float()  # (K,)
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
