"""Q3: a small network whose first layer can be learnt, left at random, or set to edge and colour filters by hand."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnhw.data.augment import LUMINANCE
from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier, linear_head

__all__ = ["Bank", "bank", "first_layer"]

KERNELS = 16  # of the first layer


def bank(side: int) -> Tensor:
    r"""Return a bank of hand-made filters: edges in eight directions, blobs of brightness, and colours.

    With :math:`g = e^{-(x^2 + y^2) / 2 \sigma^2}` and :math:`\sigma = k / 4`, the edges are
    :math:`(x \cos\varphi + y \sin\varphi)\, g`, derivatives of the Gaussian g to a factor.

    Parameters
    ----------
    side : int
        Their side k in pixels, odd, 3 or more.

    Returns
    -------
    Tensor of shape (16, 3, k, k)
        Eight derivatives of a Gaussian (for k = 3: Sobel's masks and those between them), a Gaussian, its Laplacian
        (zero sum), and the red-green and blue-yellow differences as blobs and as edges; each of unit norm.

    Raises
    ------
    ModelError
        If `side` is not odd, or less than 3.

    See Also
    --------
    Bank : A layer of them.

    Examples
    --------
    >>> bank(5).shape
    torch.Size([16, 3, 5, 5])
    """
    if side < 3 or side % 2 == 0:
        raise ModelError(f"side={side} is not an odd number of at least 3")
    at = torch.arange(side) - side // 2.0
    y, x = torch.meshgrid(at, at, indexing="ij")
    gauss = torch.exp(-(x**2 + y**2) / (2 * (side / 4) ** 2))
    angles = torch.arange(8) * (torch.pi / 8)
    edges = [(x * angle.cos() + y * angle.sin()) * gauss for angle in angles]
    round_ = (x**2 + y**2) * gauss
    laplace = gauss / gauss.sum() - round_ / round_.sum()
    grey, red_green, blue_yellow = (
        torch.tensor(LUMINANCE),
        torch.tensor([1.0, -1.0, 0.0]),
        torch.tensor([-0.5, -0.5, 1.0]),
    )
    filters = [grey[:, None, None] * shape for shape in (*edges, gauss, laplace)]
    for opponent in (red_green, blue_yellow):
        filters += [opponent[:, None, None] * shape for shape in (gauss, edges[0], edges[4])]
    whole = torch.stack(filters)
    return whole / whole.flatten(1).norm(dim=1)[:, None, None, None]


class Bank(nn.Module):
    """A first layer of the filters of :func:`bank`, which nothing changes."""

    weight: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("weight", bank(side))

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered photos, Tensor of shape (N, 16, S, S)."""
        return F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)  # (N, 16, S, S)


def first_layer(num_classes: int = 5, size: int = 64, side: int = 3, first: str = "learnt") -> Classifier:
    """Build a small network to study its first layer by.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 8 or more.
    side : int
        Side of the first layer's 16 kernels, odd, 3 or more.
    first : {"learnt", "random", "bank"}
        The first layer: learnt with all others; left as it was drawn; or the filters of :func:`bank`.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 64, S/8, S/8).

    Raises
    ------
    ModelError
        If `first`, `side` or `size` is not possible.

    See Also
    --------
    bank : The filters made by hand.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("first_layer", size=32, first="bank")
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 64, 4, 4])
    """
    if first not in ("learnt", "random", "bank"):
        raise ModelError(f"first={first!r} is none of learnt, random, bank")
    if side < 3 or side % 2 == 0:
        raise ModelError(f"side={side} is not an odd number of at least 3")
    if size < 8:
        raise ModelError(f"size={size} is too small: nothing is left after the last pooling")
    conv1 = Bank(side) if first == "bank" else nn.Conv2d(3, KERNELS, side, padding=side // 2, bias=False)
    conv1.requires_grad_(first == "learnt")
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=conv1)  # (N, 16, S, S)
    channels = KERNELS
    for number, out in enumerate((32, 64), start=2):
        layers[f"norm{number - 1}"] = nn.BatchNorm2d(channels)
        layers[f"relu{number - 1}"] = nn.ReLU()
        layers[f"pool{number - 1}"] = nn.MaxPool2d(2)
        layers[f"conv{number}"] = nn.Conv2d(channels, out, 3, padding=1, bias=False)  # (N, out, S/2^i, S/2^i)
        channels = out
    layers |= {"norm3": nn.BatchNorm2d(channels), "relu3": nn.ReLU(), "pool3": nn.MaxPool2d(2)}
    return Classifier(nn.Sequential(layers), linear_head(channels, num_classes), size)
