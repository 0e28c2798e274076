"""Mixup: photos of a batch are blended in pairs, and so are their losses (Zhang et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnhw.training import distributed
from cnnhw.training.optimizers import Update
from cnnhw.training.step import Criterion, Network, Step

__all__ = ["mixup"]


def mixup(step: Step, alpha: float, generator: torch.Generator) -> Step:
    r"""Wrap a step so that it sees blended photos.

    Each photo :math:`x_i` is blended with another :math:`x_j` of its batch, to
    :math:`\lambda x_i + (1 - \lambda) x_j`, and its loss is
    :math:`\lambda \ell(z, y_i) + (1 - \lambda) \ell(z, y_j)`, as the cross-entropy is linear in its target
    (Zhang et al. 2018).
    """

    def blended(
        x: Tensor, y: Tensor, network: Network, criterion: Criterion, optimizer: Update
    ) -> tuple[Tensor, Tensor]:
        drawn = torch.distributions.Beta(alpha, alpha).sample()  # ()
        share = distributed.broadcast(drawn).to(x.device)  # (): the same in all processes
        partner = torch.randperm(len(y), generator=generator).to(x.device)  # (B,): a photo for each

        def blended_loss(logits: Tensor, y: Tensor) -> Tensor:
            return share * criterion(logits, y) + (1 - share) * criterion(logits, y[partner])  # ()

        return step(share * x + (1 - share) * x[partner], y, network, blended_loss, optimizer)  # x: (B, 3, s, s)

    return blended
