"""Robustness to shifts, blur and recolouring."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnhw.data.photoset import Split
from cnnhw.errors import UnknownNameError
from cnnhw.evaluation.metrics import accuracy, predict
from cnnhw.models.blocks import Classifier

__all__ = ["CHANGES", "changed", "shift_consistency"]

CHANGES = ("blurred", "recoloured")


def changed(images: Tensor, kind: str) -> Tensor:
    """Return blurred or recoloured photos, which networks were not trained on.

    Parameters
    ----------
    images : Tensor of shape (N, 3, S, S), uint8
        RGB photos.
    kind : {"blurred", "recoloured"}
        A Gaussian blur with a standard deviation of 1/40 of the side; or the hue turned by a tenth of the circle and
        the colours half as saturated.

    Returns
    -------
    Tensor of shape (N, 3, S, S), uint8
        The changed photos.

    Raises
    ------
    UnknownNameError
        If there is no such kind of change.

    Examples
    --------
    >>> import torch
    >>> changed(torch.zeros(1, 3, 40, 40, dtype=torch.uint8), "blurred").shape
    torch.Size([1, 3, 40, 40])
    """
    from torchvision.transforms import functional as tv  # takes a second to import

    if kind not in CHANGES:
        raise UnknownNameError("change", kind, CHANGES)
    if kind == "blurred":
        deviation = images.shape[-1] / 40
        side = 2 * math.ceil(3 * deviation) + 1
        return tv.gaussian_blur(images, [side, side], [deviation, deviation])
    return tv.adjust_saturation(tv.adjust_hue(images, 0.1), 0.5)


def shift_consistency(model: Classifier, split: Split, most: int = 4) -> float:
    """Return the shift consistency: how often a small shift leaves the predicted class unchanged (Zhang 2019).

    Parameters
    ----------
    model : Classifier
        The model.
    split : Split
        N photos of side S.
    most : int
        Greatest shift in pixels, 1 or more: photos are shifted by 1, 2, ... pixels right and down.

    Returns
    -------
    float
        Share of (photo, shift) pairs whose prediction is that of the photo itself, 0 to 1. Both are cut from a photo
        that is padded by reflection.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw.data import scenes
    >>> photos = scenes.load(size=16, train=50, test=10, progress=False)
    >>> 0 <= shift_consistency(cnnhw.models.create("q1_shallow", size=16), photos.test) <= 1
    True
    """
    images = split.images.float()
    side = images.shape[-1]
    padded = F.pad(images, (most, 0, most, 0), mode="reflect").byte()
    still = predict(model, split).argmax(1)
    rows = torch.arange(len(split))
    agreed = 0.0
    for shift in range(1, most + 1):
        cut = padded[:, :, most - shift : most - shift + side, most - shift : most - shift + side]
        moved = Split(cut.contiguous(), rows, split.labels, split.names, split.digests)
        agreed += accuracy(predict(model, moved).argmax(1), still)
    return agreed / most
