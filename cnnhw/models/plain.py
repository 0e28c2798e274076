"""Plain stacks of convolutions, from a plan of kernels, widths and head: what chapter iii designs with."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier

__all__ = ["plain"]


def plain(
    num_classes: int = 5,
    size: int = 32,
    kernels: str = "3-3-3-3",
    widths: str = "16-32-64-128",
    head: str = "average",
) -> Classifier:
    """Build a network of stages, each of one or more convolutions with batch norm and ReLU, and a 2x2 max pooling.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, at least 2 to the power of the number of stages.
    kernels : str
        Kernel sides, a digit a convolution, stages divided by dashes: ``"3-5-7-7"`` widens, ``"33-33-33-33"`` has
        pairs.
    widths : str
        Channels of each stage, divided by dashes.
    head : str
        ``"average"`` or ``"flatten"``: what becomes of the last map; with a hidden dense layer of so many units after
        a dash: ``"flatten-64"``.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, C, S/2^n, S/2^n) for n stages.

    Raises
    ------
    ModelError
        If `kernels`, `widths` or `head` are no plan, or `size` is too small for it.

    See Also
    --------
    cnnhw.models.original.q1_deep : The report's network, which widens its kernels, too.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("plain", size=32, kernels="3-5", widths="16-32")
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 32, 8, 8])
    """
    plan, channels_of = kernels.split("-"), [int(width) for width in widths.split("-")]
    if len(plan) != len(channels_of) or not all(digit in "13579" for digit in "".join(plan)):
        raise ModelError(f"kernels={kernels!r}, widths={widths!r} are no plan: odd kernels, as many stages in both")
    if size < 2 ** len(plan):
        raise ModelError(f"size={size} is too small for {len(plan)} stages")
    how, _, hidden = head.partition("-")
    if how not in ("average", "flatten"):
        raise ModelError(f"head={head!r} begins neither with 'average' nor with 'flatten'")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for stage, (sides, out) in enumerate(zip(plan, channels_of, strict=True), start=1):
        for number, side in enumerate(map(int, sides), start=1):
            name = f"{stage}_{number}"
            # (N, out, S/2^(stage-1), S/2^(stage-1)), from here to the pooling
            layers[f"conv{name}"] = nn.Conv2d(channels, out, side, padding=side // 2, bias=False)
            layers[f"norm{name}"] = nn.BatchNorm2d(out)
            layers[f"relu{name}"] = nn.ReLU()
            channels = out
        layers[f"pool{stage}"] = nn.MaxPool2d(2)  # (N, out, S/2^stage, S/2^stage)
    last = size // 2 ** len(plan)
    end: OrderedDict[str, nn.Module] = OrderedDict()
    if how == "average":
        end["average"] = nn.AdaptiveAvgPool2d(1)  # (N, C, 1, 1)
    end["flatten"] = nn.Flatten()
    numbers = channels if how == "average" else channels * last * last
    if hidden:
        end |= {"hidden": nn.Linear(numbers, int(hidden)), "relu": nn.ReLU()}
        numbers = int(hidden)
    end["linear"] = nn.Linear(numbers, num_classes)  # (N, K)
    return Classifier(nn.Sequential(layers), nn.Sequential(end), size)
