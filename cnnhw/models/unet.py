"""A tiny encoder and decoder, with and without long connections between the two (Ronneberger et al. 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EncoderDecoder"]


class EncoderDecoder(nn.Module):
    """Two halvings of the map, and two doublings back.

    Parameters
    ----------
    long : bool
        Whether the decoder sees the encoder's maps. If not, it sees zeros in their place, so that the number of
        parameters stays the same.
    width : int
        Channels of the first map.

    Examples
    --------
    >>> EncoderDecoder(long=True)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 32, 32])
    """

    def __init__(self, long: bool, width: int = 16) -> None:
        super().__init__()
        self.long = long
        self.down1, self.down2 = _conv(3, width), _conv(width, 2 * width)
        self.middle = _conv(2 * width, 2 * width)
        self.up2, self.up1 = _conv(4 * width, width), _conv(2 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logit of "object" for each pixel: Tensor of shape (N, S, S) for photos (N, 3, S, S)."""
        first = self.down1(x)  # (N, W, S, S)
        second = self.down2(F.max_pool2d(first, 2))  # (N, 2W, S/2, S/2)
        middle = self.middle(F.max_pool2d(second, 2))  # (N, 2W, S/4, S/4)
        second, first = (part if self.long else torch.zeros_like(part) for part in (second, first))
        up = self.up2(torch.cat([F.interpolate(middle, scale_factor=2), second], 1))  # (N, W, S/2, S/2)
        up = self.up1(torch.cat([F.interpolate(up, scale_factor=2), first], 1))  # (N, W, S, S)
        return self.out(up)[:, 0]  # (N, S, S)


def _conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
