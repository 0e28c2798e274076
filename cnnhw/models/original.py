"""The networks of the original report, exactly as reported: structure, initialisation and parameter counts.

Three things differ from the report's Keras code without changing what is computed: the division by 255 belongs to the
data, and the closing softmax belongs to the loss, so every model takes photos in 0..1 and returns logits. And ReLU
comes after max pooling, not before: the two can be exchanged, and so it has a quarter of the work.

Options take one part of a network away, so that the part can be judged by itself.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier

__all__ = ["ConcatSkip", "Inception", "q1_deep", "q1_shallow", "q2_concat_skip", "q4_inception"]


class ConcatSkip(nn.Module):
    r"""The report's "residual" connection: a resized, projected copy of the input is concatenated, and not added.

    .. math:: y = [\,F(x),\; \mathrm{ReLU}(W_s\, r(x))\,], \quad r\text{ resizing to the map of } F(x)

    A residual connection would be :math:`F(x) + W_s x` (He et al. 2016, eq. 2).

    Parameters
    ----------
    main : nn.Sequential
        The path of convolutions: (N, C, S, S) to (N, K, T, T).
    channels, out : int
        Channels C of the input and K of the projected copy.

    See Also
    --------
    cnnhw.models.resnet.Shortcut : A connection that adds.

    Examples
    --------
    >>> main = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2))
    >>> ConcatSkip(main, channels=3, out=8)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 16, 15, 15])
    """

    def __init__(self, main: nn.Sequential, channels: int, out: int) -> None:
        super().__init__()
        self.main = main
        self.project = nn.Conv2d(channels, out, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return both paths side by side, Tensor of shape (N, 2K, T, T)."""
        long = self.main(x)  # (N, K, T, T)
        short = F.interpolate(x, size=long.shape[-2:], mode="bilinear", align_corners=False)  # (N, C, T, T)
        short = self.relu(self.project(short))  # (N, K, T, T)
        return torch.cat([long, short], 1)  # (N, 2K, T, T)


class Inception(nn.Module):
    r"""The report's Inception module: four branches of equal width, concatenated (Szegedy et al. 2015, fig. 2b).

    .. math:: y = [\,B_3(B_1(x)),\; B_5(B_1(x)),\; B_1(\max\nolimits_{3 \times 3} x),\; B_1(x)\,]

    :math:`B_k` is a k x k convolution and ReLU.

    Parameters
    ----------
    channels : int
        Channels C of the input.
    out : int
        Channels K of each branch.

    See Also
    --------
    cnnhw.models.inception.InceptionModule : With kernels of one's choice.

    Examples
    --------
    >>> Inception(channels=3, out=4)(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.branch3 = nn.Sequential(*_conv(channels, out, 1), *_conv(out, out, 3))
        self.branch5 = nn.Sequential(*_conv(channels, out, 1), *_conv(out, out, 5))
        self.branch_pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *_conv(channels, out, 1))
        self.branch1 = nn.Sequential(*_conv(channels, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches side by side, Tensor of shape (N, 4K, S, S)."""
        middle = self.branch3(x)  # (N, K, S, S)
        large = self.branch5(x)  # (N, K, S, S)
        pooled = self.branch_pool(x)  # (N, K, S, S)
        small = self.branch1(x)  # (N, K, S, S)
        return torch.cat([middle, large, pooled, small], 1)  # (N, 4K, S, S)


def q1_shallow(num_classes: int = 5, size: int = 128, dense: bool = True) -> Classifier:
    """Build the report's first network for Q1: three 3x3 convolutions and one hidden layer.

    With 5 classes and 128x128 photos it has 1,072,549 parameters, of which 97.8 % lie in the hidden dense layer.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 8 or more.
    dense : bool
        Whether the map is flattened for a hidden dense layer, as reported; else it is averaged over all positions.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 64, S/8, S/8).

    See Also
    --------
    q1_deep : The report's second network.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("q1_shallow", size=32)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 64, 4, 4])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i, out in enumerate((16, 32, 64), start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, out, 3, padding=1)  # (N, out, S/2^(i-1), S/2^(i-1))
        layers[f"pool{i}"] = nn.MaxPool2d(2)  # (N, out, S/2^i, S/2^i)
        layers[f"relu{i}"] = nn.ReLU()
        channels = out
    return Classifier(nn.Sequential(layers), _head(channels, size // 8, (64,) if dense else None, num_classes), size)


def q1_deep(num_classes: int = 5, size: int = 128) -> Classifier:
    """Build the report's second network for Q1: kernels of 3, 5, 7 and 7 pixels and average pooling.

    With 5 classes and 128x128 photos it has 2,613,925 parameters, of which 80 % lie in the hidden dense layer.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 16 or more.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 128, S/16, S/16).

    See Also
    --------
    cnnhw.models.resnet.q1_deep_residual : The same with residual connections.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("q1_deep", size=32)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 128, 2, 2])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i, (kernel, out) in enumerate(((3, 16), (5, 32), (7, 64), (7, 128)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"pool{i}"] = nn.AvgPool2d(2)  # (N, out, S/2^i, S/2^i)
        channels = out
    return Classifier(nn.Sequential(layers), _head(channels, size // 16, (256,), num_classes), size)


def q2_concat_skip(num_classes: int = 5, size: int = 128, skips: bool = True) -> Classifier:
    """Build the report's network for Q2: convolutions without padding, and connections that concatenate.

    With 5 classes and 128x128 photos it has 887,717 parameters. Nothing in it is a residual connection: no path is
    added to another, and none leads through unchanged.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 98 or more.
    skips : bool
        Whether the concatenated copies are there, as reported; else the main path is alone.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 256, T, T), T = 2 for S = 128 (half the channels
        without `skips`).

    See Also
    --------
    ConcatSkip : Its connections.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("q2_concat_skip", size=128)
    >>> model.forward_features(torch.rand(2, 3, 128, 128)).shape
    torch.Size([2, 256, 2, 2])
    """
    side = size
    for kernel in (3, 5, 7, 7):
        side = (side - kernel + 1) // 2
    inner = 64 if skips else 32
    first = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3), relu1=nn.ReLU(), pool1=nn.AvgPool2d(2),  # (N, 16, 63, 63) for S = 128
            conv2=nn.Conv2d(16, 32, 5), relu2=nn.ReLU(), pool2=nn.AvgPool2d(2),  # (N, 32, 29, 29)
        )
    )  # fmt: skip
    second = nn.Sequential(
        OrderedDict(
            conv3=nn.Conv2d(inner, 64, 7), relu3=nn.ReLU(), pool3=nn.AvgPool2d(2),  # (N, 64, 11, 11)
            conv4=nn.Conv2d(64, 128, 7), relu4=nn.ReLU(), pool4=nn.AvgPool2d(2),  # (N, 128, 2, 2)
        )
    )  # fmt: skip
    layers: OrderedDict[str, nn.Module] = (
        OrderedDict(concat1=ConcatSkip(first, 3, 32), concat2=ConcatSkip(second, 64, 128))
        if skips
        else OrderedDict(main1=first, main2=second)
    )
    head = _head(256 if skips else 128, side, (256,), num_classes)
    del head.relu1  # the report's hidden layer has no activation
    return Classifier(nn.Sequential(layers), head, size)


def q4_inception(num_classes: int = 5, size: int = 128, dense: bool = True) -> Classifier:
    """Build the report's network for Q4: two Inception modules and three dense layers.

    With 5 classes and 128x128 photos it has 33,871,333 parameters, of which 99 % lie in the first dense layer.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 8 or more.
    dense : bool
        Whether the map is flattened for two hidden dense layers, as reported; else it is averaged over all positions.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 128, S/8, S/8).

    See Also
    --------
    Inception : Its modules.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("q4_inception", size=32, dense=False)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 128, 4, 4])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        inception1=Inception(3, 16), pool1=nn.AvgPool2d(2),  # (N, 64, S/2, S/2)
        inception2=Inception(64, 32), pool2=nn.AvgPool2d(4),  # (N, 128, S/8, S/8)
    )  # fmt: skip
    return Classifier(nn.Sequential(layers), _head(128, size // 8, (1024, 256) if dense else None, num_classes), size)


def _head(channels: int, side: int, hidden: tuple[int, ...] | None, num_classes: int) -> nn.Sequential:
    """Return dense layers of the `hidden` widths on the flattened map, or a linear layer on its average for None."""
    if side < 1:
        raise ModelError("size is too small: nothing is left after the last pooling")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if hidden is None:
        layers["average"] = nn.AdaptiveAvgPool2d(1)  # (N, channels, 1, 1)
    layers["flatten"] = nn.Flatten()
    width = channels if hidden is None else channels * side * side
    for i, out in enumerate(hidden or (), start=1):
        layers[f"dense{i}"] = nn.Linear(width, out)
        layers[f"relu{i}"] = nn.ReLU()
        width = out
    layers[f"dense{len(hidden or ()) + 1}"] = nn.Linear(width, num_classes)
    return nn.Sequential(layers)


def _conv(channels: int, out: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU()
