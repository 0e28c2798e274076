"""From stored uint8 photos to what a network takes: conversion to 0..1, resizing, random changes of whole batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_GREY = 115  # about the mean of photographs

__all__ = ["augment", "resize", "to_float"]


def to_float(images: Tensor) -> Tensor:
    """Convert photos to the range that every model takes.

    Parameters
    ----------
    images : Tensor of shape (N, 3, H, W), uint8
        Photos in 0..255. Floating-point values, such as cached features, are left as they are.

    Returns
    -------
    Tensor of shape (N, 3, H, W), float32
        The photos in 0..1.
    """
    return images if images.is_floating_point() else images.float().div_(255)


def resize(images: Tensor, side: int) -> Tensor:
    """Scale a batch of square photos, bilinearly and without aliasing.

    Parameters
    ----------
    images : Tensor of shape (N, C, S, S), float
        The photos.
    side : int
        The new side length in pixels.

    Returns
    -------
    Tensor of shape (N, C, side, side)
        The scaled photos; `images` itself if they have that size.
    """
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def augment(images: Tensor, *, flip: bool, shift: int, cutout: float = 0.0, generator: torch.Generator) -> Tensor:
    """Mirror and shift each photo of a batch at random, and cover part of it, independently.

    Parameters
    ----------
    images : Tensor of shape (N, C, H, W), uint8
        The batch.
    flip : bool
        Mirror each photo left to right with probability 1/2.
    shift : int
        Greatest shift in pixels, down and right alike, drawn uniformly from -shift..shift; the edge is filled by
        reflection.
    cutout : float
        Side of a grey square that covers part of each photo, as a share of the photo's side (DeVries and Taylor 2017).
        Its centre is drawn uniformly, so it may stick out.
    generator : torch.Generator
        Source of the random choices.

    Returns
    -------
    Tensor of shape (N, C, H, W)
        The augmented batch; `images` itself if there is nothing to do.
    """
    n, _, height, width = images.shape
    if flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if shift:
        # reflection works on floating point only; uint8 values survive the round trip exactly
        padded = F.pad(images.float(), (shift,) * 4, mode="reflect").to(images.dtype)
        dy, dx = torch.randint(0, 2 * shift + 1, (2, n), generator=generator)
        rows = dy[:, None] + torch.arange(height)  # (N, H)
        columns = dx[:, None] + torch.arange(width)  # (N, W)
        sample = torch.arange(n)[:, None, None]
        # advanced indices apart from each other put the indexed axes first: (N, H, W, C)
        images = padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
    if cutout:
        reach = round(cutout * height / 2)
        y, x = torch.randint(0, height, (2, n, 1), generator=generator)
        down, right = ((torch.arange(height) - centre).abs() < reach for centre in (y, x))  # (N, H), (N, W)
        images = images.masked_fill((down[:, :, None] & right[:, None, :])[:, None], _GREY)
    return images
