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
    """Return photos (N, 3, S, S), uint8, blurred by 1/40 of the side or with other colours."""
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
