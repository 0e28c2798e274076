"""A first layer that whitens patches, computed from the photos."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier

__all__ = ["whiten_"]


def whiten_(model: Classifier, images: Tensor) -> None:
    r"""Set a model's first convolution to whitening filters, in place, and freeze it.

    The filters are the principal components :math:`e_i` of the photos' patches, the strongest first, each divided by
    its standard deviation: :math:`w_i = e_i / \sqrt{\lambda_i + 0.01}`, where :math:`\lambda_i` is the variance along
    it. The responses are uncorrelated and of about the same size (Jordan 2024).

    Parameters
    ----------
    model : Classifier
        Its first convolution, K x K pixels, has 3 input channels and at most ``3 * K * K`` output channels. All that
        comes before it must be part of ``model.features``.
    images : Tensor of shape (N, 3, S, S), float
        Photos in 0..1, some hundreds.

    Raises
    ------
    ModelError
        If the first convolution has more outputs than there are components, or is no direct part of the features.

    See Also
    --------
    cnnhw.Recipe : Its field `whiten` asks for this.

    Examples
    --------
    >>> from cnnhw import models
    >>> model = models.create("fast", size=32)
    >>> whiten_(model, torch.rand(20, 3, 32, 32))
    >>> model.features.stem.weight.requires_grad
    False
    """
    conv = next((part for part in model.features.children() if isinstance(part, nn.Conv2d)), None)
    if conv is None or conv.in_channels != 3 or conv.groups != 1 or conv.kernel_size != conv.kernel_size[::-1]:
        raise ModelError(f"{model.name or 'the network'} has no square convolution of photos to whiten at its start")
    side = conv.kernel_size[0]
    if conv.out_channels > 3 * side * side:
        raise ModelError(
            f"a {side}x{side} convolution has only {3 * side * side} whitening filters, not {conv.out_channels}"
        )
    with torch.no_grad():
        for part in model.features.children():
            if part is conv:
                break
            images = part(images)
        patches = F.unfold(images, side, stride=side).transpose(1, 2).flatten(0, 1)  # (P, 3 * K * K)
        mean = patches.mean(0)  # (3 * K * K,)
        variances, components = torch.linalg.eigh(torch.cov(patches.T))  # ascending; components in columns
        kept = slice(-conv.out_channels, None)
        filters = (components[:, kept] / (variances[kept] + 0.01).sqrt()).T.flip(0)  # (out, 3 * K * K)
        conv.weight.copy_(filters.view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.copy_(-filters @ mean)
    conv.requires_grad_(False)
