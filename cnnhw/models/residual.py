"""A network whose residual connections can have any length: the same convolutions, joined differently.

With ``span`` l, each connection skips l convolutions, in the pre-activation order of He et al. (2016b): norm, ReLU, 3x3
convolution. With ``span`` 0 nothing is added. The parameters are the same for every span.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier, linear_head

__all__ = ["Span", "residual"]

STAGE = 12  # convolutions a stage


class Span(nn.Module):
    r"""Some convolutions and one connection around them (He et al. 2016b, eq. 3).

    .. math:: x_{l+1} = x_l + F(x_l)

    Parameters
    ----------
    channels : int
        Channels C of input and output.
    length : int
        How many convolutions.
    norm : bool
        Whether each of them is preceded by batch norm.
    skip : bool
        Whether the input is added to the output.

    See Also
    --------
    cnnhw.models.resnet.Shortcut : The order of the first paper, with a projection where shapes differ.

    Examples
    --------
    >>> import torch
    >>> block = Span(channels=4, length=2, norm=True, skip=True)
    >>> x = torch.rand(2, 4, 8, 8)
    >>> torch.equal(block(x), x + block.branch(x))
    True
    """

    def __init__(self, channels: int, length: int, norm: bool, skip: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(*(part for _ in range(length) for part in _unit(channels, channels, norm)))
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """Return x + F(x), or F(x) alone: Tensor of shape (N, C, S, S)."""
        out = self.branch(x)  # F(x): (N, C, S, S)
        return x + out if self.skip else out  # (N, C, S, S)


def residual(
    num_classes: int = 5, size: int = 32, depth: int = 24, span: int = 2, width: int = 16, norm: bool = True
) -> Classifier:
    """Build a residual network with connections of a given length.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 8 or more.
    depth : int
        Convolutions inside residual stages, a multiple of 12: a stage of 12 for each, the map halved and the channels
        doubled between them. The stem and the transitions are not counted.
    span : int
        Convolutions that a connection skips: 1, 2, 3, 4, 6 or 12; 0 for no connections.
    width : int
        Channels of the first stage.
    norm : bool
        Whether there is batch norm; if not, the convolutions have biases.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, width * 2^(depth/12 - 1), T, T).

    Raises
    ------
    ModelError
        If `depth` is no multiple of 12, `span` does not divide 12, or `size` is too small.

    See Also
    --------
    cnnhw.models.resnet.resnet : A residual network as published.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import models
    >>> model = models.create("residual", size=32, depth=24, span=2)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 32, 8, 8])
    """
    if depth < STAGE or depth % STAGE:
        raise ModelError(f"depth={depth} is not a multiple of {STAGE}")
    if span < 0 or (span and STAGE % span):
        raise ModelError(f"span={span} does not divide a stage of {STAGE}")
    if size < 2 * 2 ** (depth // STAGE):
        raise ModelError(f"size={size} is too small for {depth // STAGE} stages")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Conv2d(3, width, 3, stride=2, padding=1, bias=not norm)  # (N, width, S/2, S/2)
    )
    for stage in range(1, depth // STAGE + 1):
        if stage > 1:
            layers[f"transition{stage}"] = nn.Sequential(*_unit(width, 2 * width, norm, stride=2))
            width *= 2
        length = span or STAGE
        for block in range(1, STAGE // length + 1):
            layers[f"stage{stage}_block{block}"] = Span(width, length, norm, skip=span > 0)
    layers["norm"] = nn.BatchNorm2d(width) if norm else nn.Identity()
    layers["relu"] = nn.ReLU()  # (N, width, T, T), T = S/2^(depth/12)
    return Classifier(nn.Sequential(layers), linear_head(width, num_classes), size)


def _unit(channels: int, out: int, norm: bool, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=not norm)
    return [nn.BatchNorm2d(channels) if norm else nn.Identity(), nn.ReLU(), conv]
