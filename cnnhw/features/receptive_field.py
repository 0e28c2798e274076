"""The receptive field of a unit, found by computation."""

from __future__ import annotations

import copy

import torch
from torch import nn

from cnnhw.errors import DataError
from cnnhw.features.extract import _blank, maps

__all__ = ["receptive_box"]


def receptive_box(
    model: nn.Module, layer: str | None, row: int, column: int, size: int | None = None
) -> tuple[int, int, int, int]:
    """Return the receptive field of a unit.

    Rows and columns of the photo are set to NaN, which all arithmetic passes on whatever the weights are; bisection
    finds how many can be set, from each side, before NaN reaches the unit. This is exact for any model made of
    convolutions, poolings, norms and activations, and needs no gradient.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    layer : str, optional
        As for :func:`cnnhw.features.maps`.
    row, column : int
        The unit's position in the map, from 0.
    size : int, optional
        As for :func:`layers`.

    Returns
    -------
    tuple of int
        Top, left, bottom and right in pixels, so that the unit sees ``photo[:, top:bottom, left:right]``; clipped to
        the photo.

    Raises
    ------
    UnknownNameError
        As for :func:`maps`.
    DataError
        If the map has no such position, or it does not depend on the photo.

    Examples
    --------
    >>> import cnnhw
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> cnnhw.features.receptive_box(model, "conv2", row=8, column=8)
    (13, 13, 21, 21)
    """
    if any(part.dtype in (torch.bfloat16, torch.float16) for part in model.parameters()):
        model = copy.deepcopy(model).float()  # kernels in half precision spread NaN, too
    photos = _blank(model, 4, size)
    side = photos.shape[-1]
    height, width = maps(model, photos[:1], layer).shape[-2:]
    if not (0 <= row < height and 0 <= column < width):
        raise DataError(f"the map has {height} x {width} positions; there is no ({row}, {column})")

    def reached(covered: list[int]) -> list[bool]:
        """Return whether NaN in the first rows, first columns, last rows and last columns reaches the unit."""
        tried = photos.clone()
        top, left, bottom, right = covered
        tried[0, :, :top] = tried[1, :, :, :left] = torch.nan
        tried[2, :, side - bottom :] = tried[3, :, :, side - right :] = torch.nan
        with torch.backends.nnpack.flags(enabled=False):  # its tiles would spread NaN to neighbours
            return maps(model, tried, layer)[:, :, row, column].isnan().any(1).tolist()

    few, many = [0] * 4, [side] * 4  # `few` rows do not reach the unit, `many` do
    if not all(reached(many)):
        raise DataError(f"layer {layer!r} does not depend on the photo at ({row}, {column})")
    while any(b - a > 1 for a, b in zip(few, many, strict=True)):
        middle = [(a + b) // 2 if b - a > 1 else b for a, b in zip(few, many, strict=True)]
        for i, hit in enumerate(reached(middle)):
            if hit:
                many[i] = middle[i]
            else:
                few[i] = middle[i]
    top, left, bottom, right = many
    return top - 1, left - 1, side - bottom + 1, side - right + 1
