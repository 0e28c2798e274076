"""Q4: the report's deeper network with each of its convolutions replaced by an Inception module.

The module is the assignment's (Szegedy et al. 2015, fig. 2b): kernels of several sizes beside each other, each behind a
1x1 convolution, and a pooled branch; their outputs are concatenated. Its kernels are an option, so that the same
topology can be had with one scale only, and the network with plain convolutions. `fast_inception` is the network of the
fast recipe with a module in place of each 3x3 convolution.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models import fast
from cnnhw.models.blocks import Classifier

__all__ = ["InceptionModule", "fast_inception", "inception"]

WIDTHS = (16, 32, 64, 128)  # of q1_deep


class InceptionModule(nn.Module):
    r"""Branches of equal width beside each other, concatenated (Szegedy et al. 2015, fig. 2b).

    .. math:: y = [\,B_{k_1}(x),\; B_{k_2}(B_1(x)),\; \ldots,\; B_1(\max\nolimits_{3 \times 3} x)\,]

    :math:`B_k` is a k x k convolution and ReLU.

    Parameters
    ----------
    channels : int
        Channels C of the input.
    out : int
        Channels K of each branch.
    kernels : sequence of int
        The first is the side of the branch that is one convolution; of each other there is a branch that reduces the
        input to K channels by a 1x1 convolution first. A branch of 3x3 maximum and 1x1 convolution is always there.

    See Also
    --------
    cnnhw.models.original.Inception : The report's own, branch by branch.

    Examples
    --------
    >>> import torch
    >>> InceptionModule(channels=3, out=4, kernels=(1, 3, 5))(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(self, channels: int, out: int, kernels: tuple[int, ...] = (1, 3, 5)) -> None:
        super().__init__()
        direct, *reduced = kernels
        branches = [nn.Sequential(*_conv(channels, out, direct))]
        branches += [nn.Sequential(*_conv(channels, out, 1), *_conv(out, out, side)) for side in reduced]
        pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.branches = nn.ModuleList([*branches, nn.Sequential(pool, *_conv(channels, out, 1))])
        self.kernels = tuple(kernels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' outputs, Tensor of shape (N, (n + 1) K, S, S) for n kernels."""
        outputs = [branch(x) for branch in self.branches]  # n + 1 of (N, K, S, S)
        return torch.cat(outputs, 1)  # (N, (n + 1) K, S, S)


def inception(num_classes: int = 5, size: int = 64, kernels: str = "1-3-5", scale: float = 1.0) -> Classifier:
    """Build the report's second network for Q1 with a module in place of each convolution.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 16 or more.
    kernels : str
        Sides of the module's kernels, divided by dashes: ``"1-3-5"`` as in the assignment, ``"1-3-5-7"`` with the
        branch that it allows to be added, ``"3-3-3"`` the same topology with one scale. One side alone, as in
        ``"3"``, stands for plain convolutions in place of the modules.
    scale : float
        Factor on the channels: with 1, a convolution of k channels becomes a module of k/4 channels a branch, so
        that there are as many as before.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, C, S/16, S/16).

    Raises
    ------
    ModelError
        If `kernels` is no list of odd sides, `scale` is not 0.1 to 10, or `size` is less than 16.

    See Also
    --------
    cnnhw.models.original.q4_inception : The report's network for Q4.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("inception", size=32)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 128, 2, 2])
    """
    try:
        sides = tuple(map(int, kernels.split("-")))
    except ValueError:
        sides = ()
    if not sides or not all(side % 2 and 0 < side < 16 for side in sides):
        raise ModelError(f"kernels={kernels!r} is not a list of odd sides divided by dashes, such as '1-3-5'")
    if not 0.1 <= scale <= 10:
        raise ModelError(f"scale={scale} is not between 0.1 and 10")
    if size < 16:
        raise ModelError(f"size={size} is too small: nothing is left after the last pooling")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for number, width in enumerate(WIDTHS, start=1):
        out = max(1, round(scale * width / 4))
        if len(sides) == 1:
            layer: nn.Module = nn.Sequential(*_conv(channels, 4 * out, sides[0]))
            channels = 4 * out
        else:
            layer = InceptionModule(channels, out, sides)
            channels = (len(sides) + 1) * out
        layers[f"module{number}"] = layer
        layers[f"pool{number}"] = nn.AvgPool2d(2)  # (N, channels, S/2^number, S/2^number)
    head = OrderedDict(
        flatten=nn.Flatten(),
        dense1=nn.Linear(channels * (size // 16) ** 2, 256), relu1=nn.ReLU(), dense2=nn.Linear(256, num_classes),
    )  # fmt: skip
    return Classifier(nn.Sequential(layers), nn.Sequential(head), size)


def _conv(channels: int, out: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU()


def fast_inception(
    num_classes: int = 5, size: int = 64, kernels: str = "1-3-5", widths: str = "32-64-128"
) -> Classifier:
    """Build `fast` with a module in place of each 3x3 convolution; its whitened first layer is left as it is.

    Batch norm follows each module, as it follows each convolution of `fast`.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 16 or more.
    kernels : str
        As for :func:`inception`: ``"3"`` stands for plain convolutions, ``"3-3-3"`` for modules of one scale.
    widths : str
        Channels of the three stages, divided by dashes; by default as many as `fast` has. Of modules, each is a
        multiple of the number of branches.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, C, S/16, S/16), C = 128 with the defaults.

    Raises
    ------
    ModelError
        If `kernels` or `widths` are no such list.

    See Also
    --------
    cnnhw.models.fast.fast : The network with plain convolutions.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("fast_inception", size=32)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 128, 2, 2])
    """
    sides, channels = _sides(kernels), [int(width) for width in widths.split("-") if width.isdecimal()]
    branches = len(sides) + 1 if len(sides) > 1 else 1
    if len(channels) != 3 or widths.count("-") != 2 or not all(c and c % branches == 0 for c in channels):
        raise ModelError(
            f"widths={widths!r} are not three multiples of {branches}, the number of branches, divided by dashes"
        )
    model = fast.fast(num_classes, size)
    own = dict(zip((32, 64, 128), channels, strict=True)) | {48: 48}  # what each width of `fast` becomes
    for parent in list(model.features.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
                before, after = own[part.in_channels], own[part.out_channels]
                setattr(parent, name, _layer(before, after // branches, sides))
            elif isinstance(part, nn.BatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(own[part.num_features]))
    if channels[-1] != 128:
        model.head[-1] = nn.Linear(channels[-1], num_classes)
    return model


def _layer(channels: int, out: int, sides: tuple[int, ...]) -> nn.Module:
    """Return a module of so many channels a branch; of one side alone, a plain convolution."""
    if len(sides) > 1:
        return InceptionModule(channels, out, sides)
    return nn.Conv2d(channels, out, sides[0], padding=sides[0] // 2, bias=False)


def _sides(kernels: str) -> tuple[int, ...]:
    sides = tuple(int(side) for side in kernels.split("-") if side.isdecimal())
    if len(sides) != kernels.count("-") + 1 or not all(side % 2 and side < 16 for side in sides):
        raise ModelError(f"kernels={kernels!r} is not a list of odd sides divided by dashes, such as '1-3-5'")
    return sides
