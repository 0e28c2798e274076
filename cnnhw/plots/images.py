"""Sheets of photos, feature maps and filters; each takes the figure's `title`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor

from cnnhw import features
from cnnhw.errors import DataError
from cnnhw.plots.figures import COLOURS, _figure, _names, _names_below, _own_settings, _text

__all__ = ["contact_sheet", "feature_maps", "filters", "maps", "receptive_fields"]


_MOST = 1000  # pictures in a figure, which take some ten seconds


@_own_settings
def maps(
    panels: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    labels: Tensor,
    classes: Sequence[str],
    columns: int | None = None,
) -> Figure:
    """Draw embeddings of photos in a plane, coloured by class.

    Parameters
    ----------
    panels : mapping of str to (sequence of float, sequence of float)
        For each title the coordinates of N photos, across and up.
    labels : Tensor of shape (N,), int64
        Their classes, an index into `classes`.
    classes : sequence of str
        The class names.
    columns : int, optional
        Panels per row; all, if not given.
    """
    columns = columns or len(panels)
    down = math.ceil(len(panels) / columns)
    figure = _figure(5 * columns, 5 * down, "")
    axes = list(figure.subplots(down, columns, squeeze=False).flat)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, (across, up)) in zip(axes, panels.items(), strict=False):
        for label, name in enumerate(_names(classes)):
            rows = (labels == label).nonzero().flatten().tolist()
            colour = COLOURS[label % len(COLOURS)]
            axis.plot(
                [across[row] for row in rows],
                [up[row] for row in rows],
                ".",
                color=colour,
                label=name.replace("$", r"\$"),
            )
        axis.set_title(title, fontsize="medium")
        axis.set_xticks([])
        axis.set_yticks([])
    _names_below(figure)
    return figure


@_own_settings
def contact_sheet(images: Tensor, captions: Sequence[str], columns: int = 5, title: str = "") -> Figure:
    """Draw photos with captions.

    Parameters
    ----------
    images : Tensor of shape (N, 3, H, W), uint8
        RGB photos.
    captions : sequence of str
        One per photo.
    columns : int
        Photos per row.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import plots
    >>> figure = plots.contact_sheet(torch.zeros(3, 3, 16, 16, dtype=torch.uint8), ["a", "b", "c"], columns=3)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['a', 'b', 'c']
    """
    tiles = [(_rgb(image), caption) for image, caption in zip(images, captions, strict=True)]
    figure = _tiles(tiles, title, {}, columns, side=1.9)[0]
    figure.set_label(f"{title or 'Photos'}: {', '.join(' '.join(caption.split()) for caption in captions)}.")
    return figure


@_own_settings
def feature_maps(
    maps: Tensor,
    image: Tensor | None = None,
    title: str = "",
    names: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """Draw the feature maps of a layer, all on one colour scale; a channel that is constant is marked as dead.

    Parameters
    ----------
    maps : Tensor of shape (C, H, W)
        The channels for one photo.
    image : Tensor of shape (3, S, S), uint8 or float, optional
        The photo, shown first.
    names : sequence of str, optional
        One per channel; its number, from 0, if not given.
    columns : int
        Maps per row.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import plots
    >>> plots.save(plots.feature_maps(torch.rand(8, 16, 16), title="conv1"), "maps.png")
    """
    maps = maps.detach().cpu().float()
    most = float(maps.abs().max()) or 1.0
    signed = bool((maps < 0).any())
    scale: dict[str, Any] = {"cmap": "RdBu_r" if signed else "viridis", "vmin": -most if signed else 0, "vmax": most}
    captions = list(names) if names is not None else [str(channel) for channel in range(len(maps))]
    tiles: list[tuple[Tensor, str]] = list(zip(maps, captions, strict=True))
    if image is not None:
        tiles.insert(0, (_rgb(image), "photo"))
    figure, axis, drawn = _tiles(tiles, title, scale, columns)
    figure.colorbar(drawn[-1], ax=axis, shrink=min(1.0, 3 / figure.get_figheight()), label="activation")
    dead = features.dead(maps[None]).tolist()
    for lifeless, one in zip(dead, drawn[image is not None :], strict=False):
        if lifeless:
            left, right, bottom, top = one.get_extent()
            axis.text(
                (left + right) / 2, (top + bottom) / 2, "dead", ha="center", va="center", fontsize="small",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
    largest = captions[int(maps.flatten(1).abs().amax(1).argmax())]
    gone = (
        f"; dead: {', '.join(name for name, is_dead in zip(captions, dead, strict=True) if is_dead)}"
        if any(dead)
        else ""
    )
    figure.set_label(f"{title or 'Feature maps'}: {len(maps)} on one scale, the largest value in {largest}{gone}.")
    return figure


@_own_settings
def filters(weight: Tensor, title: str = "", columns: int = 8) -> Figure:
    """Draw the filters of a first layer in colour, on one scale: grey is 0, the largest weight its end.

    Parameters
    ----------
    weight : Tensor of shape (K, 3, k, k)
        The filters.
    columns : int
        Filters per row.

    Raises
    ------
    DataError
        If the filters do not have three channels.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw import plots
    >>> plots.save(plots.filters(cnnhw.features.filters(cnnhw.models.create("q1_shallow"))), "filters.png")
    """
    if weight.dim() != 4 or weight.shape[1] != 3:
        raise DataError(f"filters of shape {tuple(weight.shape)} have no colours: give those of shape (K, 3, k, k)")
    weight = weight.detach().cpu().float()
    shown = 0.5 + weight / (2 * weight.abs().max().clamp(min=1e-12))
    figure = _tiles([(_rgb(one), str(number)) for number, one in enumerate(shown)], title, {}, columns)[0]
    figure.set_label(
        f"{title or 'Filters'}: {len(weight)} of {weight.shape[-1]}x{weight.shape[-1]} pixels, on one scale."
    )
    return figure


@_own_settings
def receptive_fields(image: Tensor, boxes: Mapping[str, tuple[int, int, int, int]], title: str = "") -> Figure:
    """Draw the receptive fields of units in a photo.

    Parameters
    ----------
    image : Tensor of shape (3, S, S), uint8 or float
        The photo.
    boxes : mapping of str to (int, int, int, int)
        For each name top, left, bottom and right in pixels, as :func:`cnnhw.features.receptive_box` returns them.
    """
    figure = _figure(6, 4.5, title)
    axis = figure.subplots()
    axis.imshow(_rgb(image).numpy())
    for (name, (top, left, bottom, right)), colour in zip(boxes.items(), COLOURS, strict=False):
        # a pixel's centre is a whole number
        corner = (left - 0.5, top - 0.5)
        axis.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, color=colour, linewidth=2, label=name))
    axis.set_axis_off()
    figure.legend(frameon=False, loc="outside right upper")
    return figure


def _rgb(image: Tensor) -> Tensor:
    """Return a picture as matplotlib takes it."""
    return image.detach().cpu().permute(1, 2, 0)


def _tiles(
    tiles: Sequence[tuple[Tensor, str]], title: str, scale: Mapping[str, Any], columns: int = 8, side: float = 1.2
) -> tuple[Figure, Axes, list[AxesImage]]:
    """Draw pictures with captions in rows, in one axes: hundreds of axes would take a minute."""
    if len(tiles) > _MOST:
        title = f"{title}{': ' if title else ''}the first {_MOST:,} of {len(tiles):,} pictures"
        tiles = tiles[:_MOST]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    figure = _figure(side * columns + 1.4, 1.17 * side * rows + 0.5, title)
    axis = figure.subplots()
    drawn = []
    for number, (picture, caption) in enumerate(tiles):
        left, top = 1.08 * (number % columns), 1.26 * (number // columns)
        drawn.append(axis.imshow(picture.numpy(), extent=(left, left + 1, top + 1, top), **scale))
        axis.text(
            left + 0.5, top - 0.03, _text(caption), ha="center", va="bottom", fontsize="x-small", parse_math=False
        )
    axis.set_xlim(-0.04, 1.08 * columns - 0.04)
    axis.set_ylim(1.26 * rows - 0.24, -0.24)
    axis.set_axis_off()
    return figure, axis, drawn
