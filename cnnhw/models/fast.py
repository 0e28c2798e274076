"""Small residual networks that reach a good accuracy in little time on a CPU.

The first layer takes patches of the photo apart into whitened components (:func:`cnnhw.training.whiten_` sets it from
the photos), each stage halves the map right after its first convolution, and the kernels are orthogonalised updates
away from their random start: the pieces of K. Jordan's "94 % on CIFAR-10 in 3.29 seconds" (2024), cut for a CPU.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier, linear_head

__all__ = ["Residual", "Signs", "Standardise", "best", "fast"]


class Standardise(nn.Module):
    """Shift and scale photos in 0..1 to about zero mean and unit variance."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(x - 0.45) / 0.25``, Tensor of the shape of x."""
        return (x - 0.45) * 4  # (N, 3, S, S)


class Signs(nn.Module):
    r"""Put each channel beside its negative, so that a ReLU keeps both sides (Shang et al. 2016).

    .. math:: \rho(x) = [\max(0, x), \max(0, -x)], \quad\text{the ReLU being a layer of its own}

    Examples
    --------
    >>> Signs()(torch.ones(1, 1, 1, 1)).flatten().tolist()
    [1.0, -1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return a Tensor of shape (N, 2C, H, W) for one of shape (N, C, H, W)."""
        return torch.cat([x, -x], 1)  # (N, 2C, H, W)


class Residual(nn.Module):
    r"""Two 3x3 convolutions with batch norm and ReLU, added to their input (He et al. 2016, eq. 1).

    .. math:: y = F(x) + x

    Parameters
    ----------
    channels : int
        Channels C of input and output.

    See Also
    --------
    cnnhw.models.resnet.Shortcut : With a projection where shapes differ.

    Examples
    --------
    >>> Residual(4)(torch.rand(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_unit(channels, channels), *_unit(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + inner(x)``, Tensor of shape (N, C, H, W)."""
        out = self.inner(x)  # F(x): (N, C, H, W)
        return x + out  # (N, C, H, W)


def fast(num_classes: int = 5, size: int = 64) -> Classifier:
    """Build the network of :meth:`cnnhw.Recipe.fast`: width 32, residual blocks in the last two stages.

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
    best : Wider and deeper.
    cnnhw.Recipe.fast : How it is trained.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("fast", size=32)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 128, 2, 2])
    """
    return _build(num_classes, size, width=32, blocks=(0, 1, 1))


def best(num_classes: int = 5, size: int = 64) -> Classifier:
    """Build the network of :meth:`cnnhw.Recipe.best`: `fast`, wider and with a residual block in each stage.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 16 or more.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 256, S/16, S/16).

    See Also
    --------
    fast : Narrower, for seconds of training.
    cnnhw.Recipe.best : How it is trained.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("best", size=32)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 256, 2, 2])
    """
    return _build(num_classes, size, width=64, blocks=(1, 1, 1))


def _build(num_classes: int, size: int, width: int, blocks: tuple[int, ...]) -> Classifier:
    if size < 16:
        raise ModelError(f"size={size} is too small: nothing is left after the last pooling")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        standardise=Standardise(),
        stem=nn.Conv2d(3, 24, 4, stride=2, padding=1),  # (N, 24, S/2, S/2)
        signs=Signs(),  # (N, 48, S/2, S/2)
        relu=nn.ReLU(),
    )
    channels = 48
    for i, (residuals, out) in enumerate(zip(blocks, (width, 2 * width, 4 * width), strict=True), start=1):
        conv, norm, relu = _unit(channels, out)
        layers[f"stage{i}"] = nn.Sequential(conv, nn.MaxPool2d(2), norm, relu)  # (N, out, S/2^(i+1), S/2^(i+1))
        for j in range(1, residuals + 1):
            layers[f"residual{i}_{j}"] = Residual(out)  # (N, out, S/2^(i+1), S/2^(i+1))
        channels = out
    return Classifier(nn.Sequential(layers), linear_head(channels, num_classes), size)


def _unit(channels: int, out: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
