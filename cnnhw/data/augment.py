"""From stored uint8 photos to what a network takes: conversion to 0..1, resizing, random changes of whole batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LUMINANCE", "augment", "luminance", "resize", "to_float"]

LUMINANCE = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in the luminance (ITU-R Recommendation BT.601)."""

_GREY = 115  # about the mean of photographs


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

    Examples
    --------
    >>> import torch
    >>> to_float(torch.full((1, 3, 1, 1), 51, dtype=torch.uint8)).flatten()
    tensor([0.2000, 0.2000, 0.2000])
    """
    return images if images.is_floating_point() else images.float().div_(255)


def luminance(images: Tensor) -> Tensor:
    """Return the luminance of RGB photos, float (N, 3, H, W): Tensor of shape (N, H, W)."""
    return torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMINANCE))


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

    Examples
    --------
    >>> import torch
    >>> resize(torch.rand(2, 3, 32, 32), 24).shape
    torch.Size([2, 3, 24, 24])
    """
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def augment(
    images: Tensor, *, flip: bool, shift: int, cutout: float = 0.0, generator: torch.Generator,
    rows: slice = slice(None), of: int | None = None,
) -> Tensor:  # fmt: skip
    """Mirror and shift each photo of a batch at random, and cover part of it, independently.

    Parameters
    ----------
    images : Tensor of shape (N, C, H, W), uint8
        The batch, or part of it.
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
    rows : slice
        Which photos of the batch `images` are, where they are not all of it.
    of : int, optional
        The number of photos of the whole batch, N by default. A photo is changed in the same way whether the others of
        its batch are there or not.

    Returns
    -------
    Tensor of shape (N, C, H, W)
        The augmented batch; `images` itself if there is nothing to do.

    Examples
    --------
    >>> import torch
    >>> images = torch.arange(27, dtype=torch.uint8).reshape(1, 3, 3, 3)
    >>> changed = augment(images, flip=True, shift=1, generator=torch.Generator().manual_seed(0))
    >>> changed.shape, changed.dtype
    (torch.Size([1, 3, 3, 3]), torch.uint8)
    """
    n, _, height, width = images.shape
    drawn = n if of is None else of
    if flip:
        mirrored = torch.rand(drawn, generator=generator)[rows] < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if shift:
        # reflection works on floating point only; uint8 values survive the round trip exactly
        padded = F.pad(images.float(), (shift,) * 4, mode="reflect").to(images.dtype)
        dy, dx = torch.randint(0, 2 * shift + 1, (2, drawn), generator=generator)[:, rows]
        down = dy[:, None] + torch.arange(height)  # (N, H)
        across = dx[:, None] + torch.arange(width)  # (N, W)
        sample = torch.arange(n)[:, None, None]
        # advanced indices apart from each other put the indexed axes first: (N, H, W, C)
        images = padded[sample, :, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2).contiguous()
    if cutout:
        reach = round(cutout * height / 2)
        y, x = torch.randint(0, height, (2, drawn, 1), generator=generator)[:, rows]
        high, wide = ((torch.arange(height) - centre).abs() < reach for centre in (y, x))  # (N, H), (N, W)
        images = images.masked_fill((high[:, :, None] & wide[:, None, :])[:, None], _GREY)
    return images
