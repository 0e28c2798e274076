"""Which pixels a class depends on: saliency by gradients, and occlusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnhw.errors import DataError
from cnnhw.features.extract import _BATCH, _GREY, _input, _label, _photo
from cnnhw.models.blocks import evaluating, logits_of

__all__ = ["occlusion", "saliency"]


def saliency(model: nn.Module, image: Tensor, label: int | None = None) -> Tensor:
    """Return a saliency map: the gradient of a class's logit with respect to each pixel (Simonyan et al. 2014).

    Parameters
    ----------
    model : nn.Module
        Any classifier that takes a batch of photos in 0..1, and returns logits, or an object with ``logits``.
    image : Tensor of shape (3, H, W) or (1, 3, H, W), uint8 or float
        One photo.
    label : int, optional
        The class; the predicted one if not given.

    Returns
    -------
    Tensor of shape (H, W), float32
        The largest absolute value over the three colours of the gradient of the logit, with pixels in 0..1.

    Raises
    ------
    DataError
        If there is no such class, or not one photo.
    ModelError
        If the model does not return logits.

    Examples
    --------
    >>> import cnnhw, torch
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> cnnhw.features.saliency(model, torch.rand(3, 32, 32)).shape
    torch.Size([32, 32])
    """
    with evaluating(model), torch.enable_grad():
        pixels = _input(model, _photo(image)).detach().clone().requires_grad_()
        logits = logits_of(model(pixels))
        (gradient,) = torch.autograd.grad(logits[0, _label(logits, label)], pixels)
    return gradient[0].abs().amax(0).float().cpu()


def occlusion(model: nn.Module, image: Tensor, label: int | None = None, window: int = 8, step: int = 4) -> Tensor:
    """Return an occlusion map: how much a class depends on each part of a photo (Zeiler and Fergus 2014).

    Parameters
    ----------
    model : nn.Module
        Any classifier that takes a batch of photos in 0..1, and returns logits, or an object with ``logits``.
    image : Tensor of shape (3, H, W) or (1, 3, H, W), uint8 or float
        One photo.
    label : int, optional
        The class; the predicted one if not given.
    window : int
        Side of the grey square that occludes, in pixels.
    step : int
        Pixels from one square to the next, 1 to `window`; the last ones end at the photo's edge.

    Returns
    -------
    Tensor of shape (H, W), float32
        The drop of the class's probability, averaged over the squares that cover the pixel: -1 to 1.

    Raises
    ------
    DataError
        If there is no such class, or not one photo, or the squares do not fit.
    ModelError
        If the model does not return logits.

    Examples
    --------
    >>> import cnnhw, torch
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> cnnhw.features.occlusion(model, torch.rand(3, 32, 32), label=0, window=16, step=8).shape
    torch.Size([32, 32])
    """
    image = _photo(image)
    height, width = image.shape[-2:]
    if not 1 <= step <= window <= min(height, width):
        raise DataError(
            f"window={window}, step={step} for a photo of {width} x {height}: give 1 <= step <= window <= side"
        )
    tops, lefts = (sorted({*range(0, side - window + 1, step), side - window}) for side in (height, width))
    corners = [(top, left) for top in tops for left in lefts]
    drops, covers = torch.zeros(height, width), torch.zeros(height, width)
    with evaluating(model), torch.no_grad():
        pixels = _input(model, image)
        logits = logits_of(model(pixels))
        label = _label(logits, label)
        whole = logits.softmax(1)[0, label]
        for start in range(0, len(corners), _BATCH):
            part = corners[start : start + _BATCH]
            covered = pixels.repeat(len(part), 1, 1, 1)
            for one, (top, left) in zip(covered, part, strict=True):
                one[:, top : top + window, left : left + window] = _GREY
            lost = (whole - logits_of(model(covered)).softmax(1)[:, label]).tolist()
            for drop, (top, left) in zip(lost, part, strict=True):
                drops[top : top + window, left : left + window] += drop
                covers[top : top + window, left : left + window] += 1
    return drops / covers
