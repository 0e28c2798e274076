"""A tiny encoder and decoder that finds the object in a scene, with and without long connections between the two.

Such connections (Ronneberger et al. 2015) are as long as the network. They are there to bring back where things are,
and not for the gradient.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnhw.data.augment import to_float
from cnnhw.data.scenes import Drawing

__all__ = ["EncoderDecoder", "Found", "find_objects"]


class EncoderDecoder(nn.Module):
    """Two halvings of the map, and two doublings back.

    Parameters
    ----------
    long : bool
        Whether the decoder sees the encoder's maps. If not, it sees zeros in their place, so that the number of
        parameters stays the same.
    width : int
        Channels of the first map.
    """

    def __init__(self, long: bool, width: int = 16) -> None:
        super().__init__()
        self.long = long
        self.down1, self.down2 = _conv(3, width), _conv(width, 2 * width)
        self.middle = _conv(2 * width, 2 * width)
        self.up2, self.up1 = _conv(4 * width, width), _conv(2 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logit of "object" for each pixel: Tensor of shape (N, S, S) for photos (N, 3, S, S)."""
        first = self.down1(x)  # (N, W, S, S)
        second = self.down2(F.max_pool2d(first, 2))  # (N, 2W, S/2, S/2)
        middle = self.middle(F.max_pool2d(second, 2))  # (N, 2W, S/4, S/4)
        second, first = (part if self.long else torch.zeros_like(part) for part in (second, first))
        up = self.up2(torch.cat([F.interpolate(middle, scale_factor=2), second], 1))  # (N, W, S/2, S/2)
        up = self.up1(torch.cat([F.interpolate(up, scale_factor=2), first], 1))  # (N, W, S, S)
        return self.out(up)[:, 0]


@dataclasses.dataclass(frozen=True)
class Found:
    """How well objects were found in test scenes.

    Attributes
    ----------
    overlap : float
        Intersection over union of all object pixels, 0 to 1.
    edge : float
        Share of the pixels near an object's edge that were told right, 0 to 1.
    masks : Tensor of shape (N, S, S), bool
        What was taken for the object.
    """

    overlap: float
    edge: float
    masks: Tensor


def find_objects(train: Drawing, test: Drawing, *, long: bool, seed: int = 0, epochs: int = 8) -> Found:
    """Train an encoder and decoder on scenes, and look at what it finds in others.

    Parameters
    ----------
    train, test : Drawing
        Scenes with masks.
    long : bool
        As for :class:`EncoderDecoder`.
    seed : int
        Decides initial weights and the order of the scenes.
    epochs : int
        Passes over the training scenes.

    Returns
    -------
    Found
        Measured on the test scenes.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EncoderDecoder(long)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(train.images), generator=generator).split(32):
            logits = model(to_float(train.images[rows]))
            loss = F.binary_cross_entropy_with_logits(logits, train.masks[rows].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        masks = model.eval()(to_float(test.images)) > 0
    near = _near_edge(test.masks)
    union = (masks | test.masks).sum()
    return Found(
        overlap=float((masks & test.masks).sum() / union.clamp(min=1)),
        edge=float((masks == test.masks)[near].double().mean()),
        masks=masks,
    )


def _near_edge(masks: Tensor, reach: int = 2) -> Tensor:
    """Return the pixels within `reach` of an object's edge, on either side: Tensor of shape (N, S, S), bool."""
    side, inside = 2 * reach + 1, masks.float()[:, None]
    grown = F.max_pool2d(inside, side, stride=1, padding=reach)
    shrunk = -F.max_pool2d(-inside, side, stride=1, padding=reach)
    return (grown - shrunk)[:, 0] > 0


def _conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
