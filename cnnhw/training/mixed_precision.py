"""Number formats of half the size: faster convolutions, with the loss, its gradients and the weights in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cnnhw.training.optimizers import Update
from cnnhw.training.recipe import Recipe
from cnnhw.training.step import Criterion, Network, Step

__all__ = ["mixed", "precision"]


def precision(recipe: Recipe, device: torch.device) -> str:
    """Return the number format that a recipe means on this machine: ``"float32"``, ``"bfloat16"`` or ``"float16"``."""
    if recipe.precision != "auto":
        return recipe.precision
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16"
        return "float16" if torch.cuda.get_device_capability(device) >= (7, 0) else "float32"
    if device.type != "cpu":
        return "float32"
    # older versions of torch cannot tell what the processor has
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def mixed(step: Step, dtype: torch.dtype, scaler: torch.amp.GradScaler) -> Step:
    """Wrap a step so that the network computes in another number format (Micikevicius et al. 2018).

    Small gradients would be zero in float16. So the loss is multiplied by a large number there, and the gradients are
    divided by it before they change the weights.
    """

    def in_half(
        x: Tensor, y: Tensor, network: Network, criterion: Criterion, optimizer: Update
    ) -> tuple[Tensor, Tensor]:
        def network_in_half(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, dtype):
                return network(x).float()  # (B, K) float32

        def scaled_loss(logits: Tensor, y: Tensor) -> Tensor:
            return scaler.scale(criterion(logits, y))  # ()

        scale = scaler.get_scale()
        loss, logits = step(x, y, network_in_half, scaled_loss, _Unscaled(optimizer, scaler))
        return loss / scale, logits

    return in_half


class _Unscaled(Update):
    """An update by gradients of a scaled loss; a step whose gradients overflowed is left out."""

    def __init__(self, update: Update, scaler: torch.amp.GradScaler) -> None:
        self.optimizers, self._kernels, self._scaler = update.optimizers, update._kernels, scaler

    def step(self) -> None:
        super().step()
        self._scaler.update()

    def _take(self, optimizer: torch.optim.Optimizer) -> None:
        self._scaler.step(optimizer)
