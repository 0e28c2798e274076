"""The network of the fast recipe with an Inception module in place of each 3x3 convolution."""

from __future__ import annotations

from torch import nn

from cnnhw.models import fast
from cnnhw.models.blocks import Classifier
from cnnhw.models.inception import InceptionModule

__all__ = ["fast_inception"]


def fast_inception(num_classes: int = 5, size: int = 64) -> Classifier:
    """Build `fast` with modules of as many channels; only its whitened first layer is left as it is.

    Parameters
    ----------
    num_classes : int
        Number of logits.
    size : int
        Side length S of the photos in pixels, 16 or more.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 128, S/16, S/16).
    """
    model = fast.fast(num_classes, size)
    for parent in list(model.features.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
                setattr(parent, name, InceptionModule(part.in_channels, part.out_channels // 4))
    return model
