"""The optimisers that a recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnhw.training.recipe import Recipe

__all__ = []


def _optimizers(
    model: nn.Module, recipe: Recipe, rates: Mapping[nn.Parameter, float]
) -> tuple[list[torch.optim.Optimizer], list[tuple[nn.Parameter, nn.Parameter]]]:
    """Return the optimisers, and the kernels that Muon updates, each with the matrix that shares its memory.

    Each has a group of parameters for each factor of the learning rate.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate, decay = recipe.learning_rate, recipe.weight_decay

    def groups(chosen: list[nn.Parameter], updated: Mapping[nn.Parameter, nn.Parameter]) -> list[dict[str, Any]]:
        factors = dict.fromkeys(rates.get(p, 1.0) for p in chosen)
        return [
            {"params": [updated.get(p, p) for p in chosen if rates.get(p, 1.0) == factor], "factor": factor}
            for factor in factors
        ]

    if recipe.optimizer == "sgd":
        return [torch.optim.SGD(groups(parameters, {}), rate, momentum=0.9, nesterov=True, weight_decay=decay)], []
    kernels: dict[nn.Parameter, nn.Parameter] = {}
    optimizers: list[torch.optim.Optimizer] = []
    if recipe.optimizer == "muon":
        kernels = {p: nn.Parameter(_matrix(p.detach())) for p in parameters if p.dim() == 4}
        if kernels:
            optimizers.append(
                torch.optim.Muon(groups([*kernels], kernels), rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            )
        parameters = [p for p in parameters if p.dim() != 4]
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    adam = kind(groups(parameters, {}), rate, eps=recipe.epsilon, weight_decay=decay, fused=True)
    return [*optimizers, adam], list(kernels.items())


def _matrix(kernel: Tensor) -> Tensor:
    """Return a kernel (out, in, k, k), channels last, as a matrix (out, k * k * in): a view."""
    return kernel.permute(0, 2, 3, 1).flatten(1)
