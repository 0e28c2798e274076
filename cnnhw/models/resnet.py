"""Residual networks for Q2: the report's deeper network with shortcuts that add, and small ResNets of any depth.

A block returns F(x) + s(x): s is the identity where input and output have the same shape, else a pooled 1x1
projection. Without its shortcuts, each network is its own control.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier, linear_head

__all__ = ["Shortcut", "q1_deep_residual", "resnet"]


class Shortcut(nn.Module):
    r"""Some layers, and a shortcut that is added to what they return (He et al. 2016, eq. 1 and 2).

    .. math:: y = F(x) + x \qquad\text{or}\qquad y = F(x) + W_s x

    Parameters
    ----------
    branch : nn.Module
        The layers F: (N, C, S, S) to (N, K, T, T).
    shortcut : nn.Module or None
        What the input passes through before it is added; None adds nothing.

    See Also
    --------
    cnnhw.models.residual.Span : The order of the second paper.

    Examples
    --------
    >>> import torch
    >>> x = torch.rand(2, 4, 8, 8)
    >>> torch.equal(Shortcut(nn.ReLU(), nn.Identity())(x), x + x)
    True
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x) + s(x), or F(x) alone: Tensor of shape (N, K, T, T)."""
        out = self.branch(x)  # F(x): (N, K, T, T)
        if self.shortcut is None:
            return out
        return out + self.shortcut(x)  # (N, K, T, T)


def q1_deep_residual(num_classes: int = 5, size: int = 128) -> Classifier:
    """Build the report's second network for Q1 with two residual connections, and nothing else changed.

    Each connection skips two convolutions: around one alone it would be no more than another kernel, as nothing
    nonlinear would stand between. No block keeps its input's shape, so both shortcuts are pooled 1x1 projections.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, a multiple of 16.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 128, S/16, S/16).

    Raises
    ------
    ModelError
        If `size` is no multiple of 16.

    See Also
    --------
    cnnhw.models.original.q1_deep : The same network without connections.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("q1_deep_residual", size=32)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 128, 2, 2])
    """
    if size % 16 or size < 16:
        raise ModelError(f"size={size} is no multiple of 16: branch and shortcut would not meet")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for first, plan in ((1, ((3, 16), (5, 32))), (3, ((7, 64), (7, 128)))):
        (kernel, inner), (last_kernel, out) = plan
        branch = OrderedDict(
            {
                f"conv{first}": nn.Conv2d(channels, inner, kernel, padding=kernel // 2),  # (N, inner, T, T)
                f"relu{first}": nn.ReLU(),
                f"pool{first}": nn.AvgPool2d(2),  # (N, inner, T/2, T/2)
                f"conv{first + 1}": nn.Conv2d(inner, out, last_kernel, padding=last_kernel // 2),
            }
        )
        layers[f"block{first // 2 + 1}"] = Shortcut(nn.Sequential(branch), _projection(channels, out, norm=False))
        layers[f"relu{first + 1}"] = nn.ReLU()
        layers[f"pool{first + 1}"] = nn.AvgPool2d(2)  # (N, out, T/4, T/4)
        channels = out
    head = OrderedDict(
        flatten=nn.Flatten(),
        dense1=nn.Linear(channels * (size // 16) ** 2, 256), relu1=nn.ReLU(), dense2=nn.Linear(256, num_classes),
    )  # fmt: skip
    return Classifier(nn.Sequential(layers), nn.Sequential(head), size)


def resnet(
    num_classes: int = 5, size: int = 32, depth: int = 20, width: int = 16, shortcuts: bool = True, norm: bool = True
) -> Classifier:
    """Build a residual network for small photos (He et al. 2016, section 4.2), or the same one without shortcuts.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, a multiple of 4, 8 or more.
    depth : int
        Layers with weights, shortcuts not counted: 6 n + 2 for n blocks of two convolutions in each of three stages.
    width : int
        Channels of the first stage; each stage has twice as many as the one before it, on half the map.
    shortcuts : bool
        Whether the blocks' inputs are added to their outputs.
    norm : bool
        Whether batch norm follows each convolution; if not, the convolutions have biases.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 4 width, S/4, S/4).

    Raises
    ------
    ModelError
        If `depth` is not 6 n + 2, or `size` no multiple of 4.

    See Also
    --------
    cnnhw.models.residual.residual : A network whose connections can have any length.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("resnet", size=32, depth=8)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 64, 8, 8])
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ModelError(f"depth={depth} is not 6 n + 2: give 8, 14, 20, ...")
    if size % 4 or size < 8:
        raise ModelError(f"size={size} is no multiple of 4 of at least 8: branch and shortcut would not meet")
    stem = nn.Sequential(*_unit(3, width, norm), nn.ReLU())  # (N, width, S, S)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    channels = width
    for stage in range(1, 4):
        out = width * 2 ** (stage - 1)
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            branch = nn.Sequential(*_unit(channels, out, norm, stride), nn.ReLU(), *_unit(out, out, norm))
            shortcut = nn.Identity() if channels == out else _projection(channels, out, norm)
            layers[f"stage{stage}_block{block}"] = Shortcut(branch, shortcut if shortcuts else None)
            layers[f"stage{stage}_relu{block}"] = nn.ReLU()  # (N, out, S/2^(stage-1), S/2^(stage-1))
            channels = out
    return Classifier(nn.Sequential(layers), linear_head(channels, num_classes), size)


def _unit(channels: int, out: int, norm: bool, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=not norm)
    return [conv, nn.BatchNorm2d(out)] if norm else [conv]


def _projection(channels: int, out: int, norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, 1, bias=not norm)
    return nn.Sequential(nn.AvgPool2d(2), conv, *([nn.BatchNorm2d(out)] if norm else []))
