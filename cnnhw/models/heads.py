"""New heads for a trained extractor: what a transfer puts in the place of the old one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass

import torch
from torch import nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier, device_of, evaluating, glorot_, takes

__all__ = ["Head", "replace_head"]

_POOLS = ("average", "flatten")


@dataclass(frozen=True)
class Head:
    """What follows the last map of the extractor.

    - ``hidden`` (int): units of one hidden layer with ReLU; 0 for none, so that the head is linear.
    - ``dropout`` (float): share of the last layer's inputs that are set to 0 in training, 0 to below 1.
    - ``pool`` ({"average", "flatten"}): ``"average"`` takes the mean of each channel over the map (Lin et al. 2014),
      ``"flatten"`` all its cells.
    - ``zero`` (bool): whether the last layer begins at zero instead of at random: all classes then begin equally
      probable, and no gradient reaches what lies before it in the first step.

    See Also
    --------
    cnnhw.transfer.adapt : Gives a trained network a new head.

    Examples
    --------
    >>> [type(layer).__name__ for layer in Head(hidden=64).build(channels=8, side=4, num_classes=3)]
    ['AdaptiveAvgPool2d', 'Flatten', 'Linear', 'ReLU', 'Linear']
    """

    hidden: int = 0
    dropout: float = 0.0
    pool: str = "average"
    zero: bool = False

    def __post_init__(self) -> None:
        checks = {
            "hidden": self.hidden >= 0,
            "dropout": 0 <= self.dropout < 1,
            "pool": self.pool in _POOLS,
        }
        for field, good in checks.items():
            if not good:
                raise ModelError(
                    f"Head({field}={getattr(self, field)!r}) is not possible; see help(cnnhw.transfer.Head)"
                )

    def build(self, channels: int, side: int, num_classes: int) -> nn.Sequential:
        """Return layers from maps, Tensor of shape (N, C, H, W), to logits (N, K), from torch's global generator."""
        if num_classes < 1:
            raise ModelError(f"num_classes must be 1 or more, got {num_classes}")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = channels
        if self.pool == "average":
            layers["pool"] = nn.AdaptiveAvgPool2d(1)  # (N, C, 1, 1)
        else:
            width *= side * side
        layers["flatten"] = nn.Flatten()  # (N, C), or (N, C * H * W)
        if self.hidden:
            layers["hidden"], layers["relu"] = nn.Linear(width, self.hidden), nn.ReLU()
            width = self.hidden
        if self.dropout:
            layers["dropout"] = nn.Dropout(self.dropout)
        layers["linear"] = linear = nn.Linear(width, num_classes)  # (N, K)
        head = nn.Sequential(layers)
        glorot_(head)
        if self.zero:
            nn.init.zeros_(linear.weight)
        return head


def check_size(model: Classifier, size: int) -> None:
    """Raise ModelError if a network's extractor takes no photos of `size` pixels, but larger ones."""
    if takes(model.features, size):
        return
    # of an extractor that takes none at all, the forward pass says why
    if larger := next((side for side in range(size + 1, size + 129) if takes(model.features, side)), 0):
        name = model.name or "the network"
        raise ModelError(f"{name} takes no photos of {size} pixels; the next size that it takes is {larger}")


def replace_head(model: Classifier, head: Head, num_classes: int, size: int = 0) -> None:
    """Put a new head, for photos of `size` pixels, in the place of a network's own, and note it in ``new_head``."""
    size = size or model.size
    check_size(model, size)
    device = device_of(model)
    with evaluating(model), torch.no_grad():
        maps = model.forward_features(torch.zeros(1, 3, size, size, device=device))
    model.head = head.build(maps.shape[1], maps.shape[-1], num_classes).to(device)
    model.size, model.classes, model.new_head = size, (), asdict(head)
