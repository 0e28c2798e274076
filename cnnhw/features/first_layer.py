"""How much of an edge detector a first layer is: Sobel correlation, orientation selectivity, figure-ground."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnhw import features
from cnnhw.data.augment import luminance
from cnnhw.errors import DataError
from cnnhw.features.extract import _photos

__all__ = [
    "area_under_curve",
    "dc_share",
    "edge_correlation",
    "opponent_share",
    "orientation_selectivity",
    "scores",
    "sobel",
]

_FREQUENCIES = 8


def sobel(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Sobel derivatives of the luminance, across and down, and their magnitude, each (N, H, W)."""
    pixels = images if images.is_floating_point() else images / 255
    grey = luminance(pixels)
    across = grey.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    gx, gy = F.conv2d(
        F.pad(grey[:, None], (1, 1, 1, 1), mode="reflect"), torch.stack([across, across.T])[:, None]
    ).unbind(1)
    return gx, gy, torch.hypot(gx, gy)


def edge_correlation(maps: Tensor, images: Tensor) -> dict[str, Tensor]:
    """Return the correlation of feature maps with the gradient of the luminance.

    Parameters
    ----------
    maps : Tensor of shape (N, C, H, W)
        The maps of a layer, before its ReLU.
    images : Tensor of shape (N, 3, H, W), uint8 or float
        The photos.

    Returns
    -------
    dict of str to Tensor of shape (C,), float64
        For each channel the absolute Pearson correlation over all positions of all photos: ``"gx"`` and ``"gy"``
        between the map and the derivatives, ``"magnitude"`` between the map's absolute value and the gradient's
        magnitude; 0 to 1. A constant channel gives 0.

    Raises
    ------
    DataError
        If maps and photos differ in number or size.
    """
    if len(maps) != len(images) or maps.shape[-2:] != images.shape[-2:]:
        raise DataError(
            f"maps of shape {tuple(maps.shape)} for photos of shape {tuple(images.shape)}: "
            "number, height and width must be the same"
        )
    return _correlations(maps, sobel(images))


def orientation_selectivity(weight: Tensor, orientations: int = 16) -> Tensor:
    """Return the orientation selectivity of filters.

    The response r to a full-field grey sine grating is its maximum over phases: the norm of the responses to a sine and
    a cosine. It is taken at the filter's preferred spatial frequency, of eight from half a cycle per filter to half a
    cycle per pixel.

    Parameters
    ----------
    weight : Tensor of shape (C, 3, k, k)
        The filters.
    orientations : int
        How many orientations theta, evenly spaced on [0, pi).

    Returns
    -------
    Tensor of shape (C,), float64
        One minus the circular variance of the tuning curve, abs(sum r exp(2i theta)) / sum r (Ringach et al. 2002): 0
        for a filter that responds equally to all orientations, or to no grey grating at all; 1 for one that responds
        to a single orientation. An ideal directional derivative has 1/3.

    Examples
    --------
    >>> import torch
    >>> slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).expand(1, 3, 3, 3)
    >>> round(float(orientation_selectivity(slope)), 2)
    0.38
    """
    grey = weight.detach().double().sum(1)  # (C, k, k): the filter as it acts on grey photos
    side = grey.shape[-1]
    at = torch.arange(side, dtype=torch.float64, device=grey.device) - (side - 1) / 2
    theta = torch.arange(orientations, dtype=torch.float64, device=grey.device) * math.pi / orientations
    frequency = torch.linspace(0.5 / side, 0.5, _FREQUENCIES, dtype=torch.float64, device=grey.device)
    along = at[None, None, :] * theta.cos()[:, None, None] + at[None, :, None] * theta.sin()[:, None, None]
    phase = 2 * math.pi * frequency[:, None, None, None] * along  # (frequency, orientation, k, k)
    response = torch.hypot(*(torch.einsum("ckl,fokl->cfo", grey, wave) for wave in (phase.cos(), phase.sin())))
    best = response.amax(2).argmax(1)  # (C,)
    tuning = response[torch.arange(len(grey)), best]  # (C, orientation)
    total = tuning.sum(1)
    vector = torch.hypot((tuning * (2 * theta).cos()).sum(1), (tuning * (2 * theta).sin()).sum(1))
    # for a pure colour filter only rounding is left here
    answers = total > 1e-6 * orientations * weight.detach().double().abs().sum((1, 2, 3))
    return torch.where(answers, vector / total.clamp(min=1e-300), 0.0)


def dc_share(weight: Tensor) -> Tensor:
    """Return how strongly filters respond to a uniform grey photo, as a share of the largest possible response.

    Parameters
    ----------
    weight : Tensor of shape (C, 3, k, k)
        The filters.

    Returns
    -------
    Tensor of shape (C,), float64
        abs(sum w) / sum abs(w): 0 for a derivative, 1 for an average, 0 for a filter of zeros.

    Examples
    --------
    >>> import torch
    >>> dc_share(torch.ones(1, 3, 3, 3))
    tensor([1.], dtype=torch.float64)
    """
    flat = weight.detach().double().flatten(1)
    return flat.sum(1).abs() / flat.abs().sum(1).clamp(min=1e-300)


def opponent_share(weight: Tensor) -> Tensor:
    """Return the share of filters that is colour-opponent.

    Parameters
    ----------
    weight : Tensor of shape (C, 3, k, k)
        The filters.

    Returns
    -------
    Tensor of shape (C,), float64
        The share of the squared weights that is left after subtracting the mean over the three colours at each
        position: 0 for a grey filter, 1 for one that does not respond to grey, 2/3 on average for independent weights.

    Examples
    --------
    >>> import torch
    >>> grey = torch.ones(1, 3, 3, 3)
    >>> opponent_share(grey)
    tensor([0.], dtype=torch.float64)
    """
    filters = weight.detach().double()
    apart = filters - filters.mean(1, keepdim=True)
    return apart.square().sum((1, 2, 3)) / filters.square().sum((1, 2, 3)).clamp(min=1e-300)


def area_under_curve(maps: Tensor, masks: Tensor) -> Tensor:
    """Return how well single channels separate object and background: the area under the ROC curve.

    Parameters
    ----------
    maps : Tensor of shape (N, C, H, W)
        The maps of a layer.
    masks : Tensor of shape (N, H, W), bool
        Where the object is.

    Returns
    -------
    Tensor of shape (C,), float64
        For each channel the area over all positions of all photos, or 1 minus it if that is larger, for channels that
        mark the background: 0.5 to 1. Ties count half (Mann and Whitney 1947).

    Raises
    ------
    DataError
        If the masks do not fit the maps, or hold no object or no background.

    Examples
    --------
    >>> import torch
    >>> masks = torch.tensor([[[True, False], [True, False]]])
    >>> area_under_curve(masks[:, None].float(), masks)
    tensor([1.], dtype=torch.float64)
    """
    if masks.shape != maps[:, 0].shape:
        raise DataError(f"masks of shape {tuple(masks.shape)} do not fit maps of shape {tuple(maps.shape)}")
    inside = masks.flatten()
    count = int(inside.sum())
    if not 0 < count < len(inside):
        raise DataError("the masks must hold some of the object and some of the ground")
    areas = []
    for channel in maps.detach().unbind(1):
        _, place, counts = torch.unique(channel.flatten(), return_inverse=True, return_counts=True)
        ranks = (counts.cumsum(0) - (counts - 1) / 2.0).double()[place]
        area = float(ranks[inside].sum() - count * (count + 1) / 2) / (count * (len(inside) - count))
        areas.append(max(area, 1 - area))
    return torch.tensor(areas, dtype=torch.float64)


def scores(model: nn.Module, images: Tensor, masks: Tensor | None = None) -> dict[str, float]:
    """Return how much of an edge detector a model's first convolution is.

    Parameters
    ----------
    model : nn.Module
        Any model; its layer is that of :func:`cnnhw.features.first_convolution`.
    images : Tensor of shape (N, 3, S, S) or (3, S, S), uint8 or float
        Photos in 0..255, or in 0..1; or a single one.
    masks : Tensor of shape (N, S, S), bool, optional
        Where the object is.

    Returns
    -------
    dict of str to float
        Means over channels, 0 to 1: ``"edge correlation"`` (the larger of those with the horizontal and the vertical
        derivative), ``"magnitude correlation"``, ``"orientation selectivity"``, ``"dc share"``, ``"opponent share"``;
        with masks ``"figure-ground"``, the mean area under the ROC curve, and ``"figure-ground best"``, that of the
        best channel. If maps are smaller than photos, derivatives and masks are averaged to their size, or cropped if
        only the padding is missing.

    Examples
    --------
    >>> import cnnhw, torch
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> sorted(scores(model, torch.rand(2, 3, 32, 32)))
    ['dc share', 'edge correlation', 'magnitude correlation', 'opponent share', 'orientation selectivity']
    """
    name = features.first_convolution(model)
    images = _photos(images)
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    maps = features.maps(model, images, name).cpu()
    slopes = tuple(_fit(part, maps) for part in sobel(images.cpu()))
    found = _correlations(maps, slopes)
    means = {
        "edge correlation": torch.maximum(found["gx"], found["gy"]),
        "magnitude correlation": found["magnitude"],
        "orientation selectivity": orientation_selectivity(weight),
        "dc share": dc_share(weight),
        "opponent share": opponent_share(weight),
    }
    out = {what: float(values.mean()) for what, values in means.items()}
    if masks is not None:
        areas = area_under_curve(maps, _fit(masks.float().cpu(), maps) > 0.5)
        out |= {"figure-ground": float(areas.mean()), "figure-ground best": float(areas.max())}
    return out


def _fit(field: Tensor, maps: Tensor) -> Tensor:
    """Bring a field of shape (N, H, W) to the maps' size."""
    height, width = maps.shape[-2:]
    over = field.shape[-2] - height, field.shape[-1] - width
    if min(over) >= 0 and 3 * height > 2 * field.shape[-2]:  # a stride of 1
        top, left = over[0] // 2, over[1] // 2
        return field[:, top : top + height, left : left + width]
    return F.adaptive_avg_pool2d(field[:, None], (height, width))[:, 0]


def _correlations(maps: Tensor, slopes: tuple[Tensor, ...]) -> dict[str, Tensor]:
    gx, gy, magnitude = (_standard(part) for part in slopes)
    rows = []
    for channel in maps.detach().unbind(1):  # one at a time, as all of them in double precision may be much
        values, length = _standard(channel), _standard(channel.abs())
        rows.append(torch.stack([values @ gx, values @ gy, length @ magnitude]).abs())
    return dict(zip(("gx", "gy", "magnitude"), torch.stack(rows, 1).clamp(max=1), strict=True))


def _standard(values: Tensor) -> Tensor:
    """Return values with mean 0 and length 1, in one row; zeros if they are constant."""
    flat = values.double().flatten()
    if flat.max() - flat.min() <= 1e-6 * flat.abs().max():
        return torch.zeros_like(flat)
    flat = flat - flat.mean()
    return flat / flat.norm()
