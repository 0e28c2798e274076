"""A small DenseNet-BC (Huang et al. 2017) whose transition layers can be exchanged."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier, linear_head

__all__ = ["TRANSITIONS", "DenseLayer", "dense", "transition_layer"]

TRANSITIONS = ("average", "max", "max_first", "strided", "average_first")


class DenseLayer(nn.Module):
    r"""Bottleneck and 3x3 convolution, whose output is put beside the input (Huang et al. 2017, eq. 2).

    .. math:: x_l = H_l([x_0, x_1, \ldots, x_{l-1}])

    The input is the concatenation; in the output :math:`x_l` is put beside it, for the next layer.

    Parameters
    ----------
    channels : int
        Channels C of the input.
    growth : int
        Channels k that are added.

    See Also
    --------
    cnnhw.models.original.ConcatSkip : What the report called a residual connection.

    Examples
    --------
    >>> import torch
    >>> DenseLayer(channels=24, growth=12)(torch.rand(2, 24, 8, 8)).shape
    torch.Size([2, 36, 8, 8])
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        # (N, C, S, S) to (N, 4k, S, S) to (N, k, S, S)
        self.new = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return [x, H(x)], Tensor of shape (N, C + k, S, S)."""
        new = self.new(x)  # H(x): (N, k, S, S)
        return torch.cat([x, new], 1)  # (N, C + k, S, S)


def transition_layer(channels: int, out: int, kind: str) -> nn.Sequential:
    """Build a transition layer: norm, ReLU, and a 1x1 convolution with a step that halves the map.

    Parameters
    ----------
    channels, out : int
        Channels of input and output.
    kind : {"average", "max", "max_first", "strided", "average_first"}
        ``"average"`` is the paper's: 1x1 convolution, then 2x2 average. ``"max"`` takes the maximum in its place;
        ``"max_first"`` and ``"average_first"`` pool before the convolution; ``"strided"`` takes one of four cells.

    Returns
    -------
    nn.Sequential
        Takes a Tensor of shape (N, channels, S, S), returns one of shape (N, out, S/2, S/2).

    Raises
    ------
    ModelError
        If there is no such kind.

    See Also
    --------
    dense : The network that it belongs to.

    Examples
    --------
    >>> import torch
    >>> transition_layer(32, 16, "average")(torch.rand(2, 32, 8, 8)).shape
    torch.Size([2, 16, 4, 4])
    """
    conv = nn.Conv2d(channels, out, 1, bias=False)
    end: dict[str, list[nn.Module]] = {
        "average": [conv, nn.AvgPool2d(2)],
        "max": [conv, nn.MaxPool2d(2)],
        "max_first": [nn.MaxPool2d(2), conv],
        "strided": [nn.Conv2d(channels, out, 1, stride=2, bias=False)],
        "average_first": [nn.AvgPool2d(2), conv],
    }
    if kind not in end:
        raise ModelError(f"transition={kind!r} is none of {', '.join(TRANSITIONS)}")
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), *end[kind])


def dense(
    num_classes: int = 5, size: int = 32, transition: str = "average", growth: int = 12, layers: int = 4
) -> Classifier:
    """Build a DenseNet-BC of three dense blocks, with compression 1/2 in the transitions between them.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 8 or more.
    transition : {"average", "max", "max_first", "strided", "average_first"}
        See :func:`cnnhw.models.dense.transition_layer`.
    growth : int
        Channels k that each layer adds.
    layers : int
        Layers a block.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, C, S/8, S/8), C = 90 with the defaults.

    Raises
    ------
    ModelError
        If `size` is less than 8, or there is no such transition.

    See Also
    --------
    transition_layer : What its blocks are joined by.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("dense", size=32)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 90, 4, 4])
    """
    if size < 8:
        raise ModelError(f"size={size} is too small: nothing is left after the last transition")
    channels = 2 * growth
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False))
    for block in (1, 2, 3):
        if block > 1:
            # (N, channels / 2, S/2^block, S/2^block)
            parts[f"transition{block}"] = transition_layer(channels, channels // 2, transition)
            channels //= 2
        for layer in range(1, layers + 1):
            parts[f"dense{block}_{layer}"] = DenseLayer(channels, growth)  # (N, channels + k, S/2^block, S/2^block)
            channels += growth
    parts |= {"norm": nn.BatchNorm2d(channels), "relu": nn.ReLU()}
    return Classifier(nn.Sequential(parts), linear_head(channels, num_classes), size)
