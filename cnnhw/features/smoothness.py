"""How smooth and how dense feature maps are, which tells how much average and maximum pooling can differ."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnhw.errors import DataError

__all__ = ["active_share", "autocorrelation"]


def autocorrelation(maps: Tensor, lag: int = 1) -> Tensor:
    r"""Return how alike neighbouring cells of feature maps are.

    Of a channel x with mean :math:`\mu` over all photos and cells, it is the mean of both directions'

    .. math:: \frac{\sum (x_{n,i,j} - \mu) (x_{n,i,j+l} - \mu)}
              {\tfrac12 \sum (x_{n,i,j} - \mu)^2 + \tfrac12 \sum (x_{n,i,j+l} - \mu)^2}

    for a lag l, over all pairs of cells of all photos.

    Parameters
    ----------
    maps : Tensor of shape (N, C, H, W)
        The maps of some photos.
    lag : int
        Distance of the cells, 1 or more.

    Returns
    -------
    Tensor of shape (C,), float64
        -1 to 1 for each channel: 0 on average for independent cells, 1 where both are always equal; 0 for a dead
        channel.

    Raises
    ------
    DataError
        If the maps have no two cells so far apart.

    See Also
    --------
    active_share : How dense the maps are.
    cnnhw.theory.average_signal : What follows for pooling.

    Examples
    --------
    >>> stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 1, 8, 8)  # alike downwards, opposite across
    >>> autocorrelation(stripes)
    tensor([0.], dtype=torch.float64)
    """
    if maps.dim() != 4 or not 1 <= lag < min(maps.shape[-2:]):
        raise DataError(f"maps of shape {tuple(maps.shape)} have no cells {lag} apart in both directions")
    found = []
    for channel in maps.detach().unbind(1):  # one at a time, as all of them in double precision may be much
        x = channel.double()  # (N, H, W)
        x = x - x.mean()
        pairs = ((x[..., lag:], x[..., :-lag]), (x[:, lag:], x[:, :-lag]))
        ratios = [2 * (a * b).sum() / (a.square().sum() + b.square().sum()).clamp(min=1e-300) for a, b in pairs]
        found.append(torch.stack(ratios).mean())
    return torch.stack(found)


def active_share(maps: Tensor) -> Tensor:
    """Return the share of the cells of feature maps that are above 0: all of a dense map, few of a sparse one.

    Parameters
    ----------
    maps : Tensor of shape (N, C, H, W)
        The maps of some photos, after a ReLU.

    Returns
    -------
    Tensor of shape (C,), float64
        0 to 1 for each channel.

    See Also
    --------
    autocorrelation : How smooth the maps are.

    Examples
    --------
    >>> active_share(torch.tensor([[[[0.0, 2.0], [0.0, 0.0]]]]))
    tensor([0.2500], dtype=torch.float64)
    """
    return (maps > 0).double().mean((0, 2, 3))
