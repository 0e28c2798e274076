"""Segmentation of the object in a scene by a small encoder-decoder, with and without long skip connections.

Such connections (Ronneberger et al. 2015) are as long as the network. They carry spatial detail; the gradient does not
need them.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnhw.data.augment import to_float
from cnnhw.data.scenes import Drawing
from cnnhw.models.unet import EncoderDecoder

__all__ = ["Found", "find_objects"]


@dataclasses.dataclass(frozen=True)
class Found:
    """Segmentation quality on test scenes."""

    overlap: float  # intersection over union of all object pixels, 0 to 1
    edge: float  # pixel accuracy near an object's edge, 0 to 1
    masks: Tensor  # (N, S, S), bool: those predicted


def find_objects(train: Drawing, test: Drawing, *, long: bool, seed: int = 0, epochs: int = 8) -> Found:
    """Train an encoder-decoder on scenes, and measure its segmentation of others.

    Parameters
    ----------
    train, test : Drawing
        Scenes with masks.
    long : bool
        As for :class:`cnnhw.models.unet.EncoderDecoder`.
    seed : int
        Decides initial weights and the order of the scenes.
    epochs : int
        Passes over the training scenes.
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
