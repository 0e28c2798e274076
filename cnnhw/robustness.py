"""How a network takes small changes of a photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cnnhw.data.photoset import Split
from cnnhw.evaluation import accuracy, predict
from cnnhw.models.blocks import Classifier

__all__ = ["shift_consistency"]


def shift_consistency(model: Classifier, split: Split, most: int = 4) -> float:
    """Return how often a small shift of the photo leaves the predicted class as it is (Zhang 2019).

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
        Share of (photo, shift) pairs whose prediction is that of the photo itself, 0 to 1. Shifted and unshifted photo
        are both cut from one that is continued at its edges by reflection.
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
