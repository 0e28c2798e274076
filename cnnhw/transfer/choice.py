"""What to start from."""

from __future__ import annotations

from pathlib import Path

from cnnhw import models
from cnnhw.models import pretrained
from cnnhw.models.blocks import Classifier
from cnnhw.models.weights import load

__all__ = ["source"]


def source(weights: str | Path, *, size: int | None = None) -> Classifier:
    """Return a trained network to start from.

    Parameters
    ----------
    weights : str or Path
        What :func:`cnnhw.load` takes; or a network trained on ImageNet: one of :func:`cnnhw.models.backbones`, or
        ``"imagenet"`` for the first of them.
    size : int, optional
        For a network trained on ImageNet, the side length in pixels of the photos that it gets; 128 by default.

    Returns
    -------
    Classifier
        The network in evaluation mode.

    Raises
    ------
    WeightsError
        As for :func:`cnnhw.load`.
    CnnhwError
        As for :func:`cnnhw.models.pretrained.load`.
    """
    names = models.backbones()
    if str(weights) in ("imagenet", *names) and not Path(weights).exists():
        return pretrained.load(names[0] if str(weights) == "imagenet" else str(weights), size=size or 128)
    return load(weights)
