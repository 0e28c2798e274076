"""The optimisers that a recipe names, as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnhw.training.recipe import Recipe

__all__ = ["Update"]


class Update:
    """What changes the weights of a network, as its recipe says: one optimiser, or Muon for kernels beside AdamW.

    Parameters
    ----------
    model : nn.Module
        The network; parameters that require no gradient are left as they are.
    recipe : Recipe
        Names the optimiser, its rate, and its weight decay.
    rates : mapping of nn.Parameter to float, optional
        What the learning rate is multiplied by for some parameters; for all others it is 1.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, rates: Mapping[nn.Parameter, float] | None = None) -> None:
        self.optimizers, self._kernels = _optimizers(model, recipe, rates or {})

    @property
    def factors(self) -> list[float]:
        """What the learning rate is multiplied by, for each group of parameters."""
        return [group["factor"] for optimizer in self.optimizers for group in optimizer.param_groups]

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the steps to come."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for kernel, _ in self._kernels:
            kernel.grad = None

    def step(self) -> None:
        """Change all parameters by their gradients."""
        for kernel, matrix in self._kernels:
            assert kernel.grad is not None
            matrix.grad = _matrix(kernel.grad)
        for optimizer in self.optimizers:
            self._take(optimizer)

    def _take(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()


def _optimizers(
    model: nn.Module, recipe: Recipe, rates: Mapping[nn.Parameter, float]
) -> tuple[list[torch.optim.Optimizer], list[tuple[nn.Parameter, nn.Parameter]]]:
    """Return the optimisers, and the kernels that Muon updates, each with the matrix that shares its memory."""
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
