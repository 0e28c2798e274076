"""Charts of histories, matrices and other numbers; each takes the figure's `title`.

A figure's label (``figure.get_label()``) describes it in words, computed from what is drawn: pages use it as the
alternative text.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from cnnhw.evaluation.calibration import Bin
from cnnhw.plots.figures import COLOURS, _figure, _names, _names_below, _own_settings, _text
from cnnhw.theory.loss_landscape import Plane

__all__ = [
    "accuracy_by_epoch",
    "against",
    "bars",
    "confusion",
    "curves",
    "forest",
    "lines",
    "panels",
    "per_class",
    "plane",
    "reliability",
    "scaling",
    "shares",
    "strip",
    "time_to_accuracy",
    "trained",
]

_CLASSES = 20  # that have their names and counts in a confusion matrix of full size

History = Mapping[str, Sequence[float]]


@_own_settings
def curves(
    runs: Mapping[str, History | Sequence[History]],
    *,
    reported: Mapping[str, History] | None = None,
    best_epoch: int | None = None,
    title: str = "",
    columns: int = 2,
) -> Figure:
    """Draw loss and accuracy by epoch.

    Parameters
    ----------
    runs : mapping of str to history, or to several histories
        One colour per name. A history has ``loss``, ``accuracy``, ``validation_loss`` and ``validation_accuracy`` per
        epoch; of several (one per seed) the mean is drawn, with a band from the lowest to the highest.
    reported : mapping of str to history, optional
        What the original report printed under the same names, drawn with dots.
    best_epoch : int, optional
        Marked by a vertical line.
    columns : int
        Panels per row: 2, or 1 for a narrow figure.

    Examples
    --------
    >>> from cnnhw import plots
    >>> history = {"loss": [1.6, 1.1], "accuracy": [0.2, 0.6]}
    >>> history |= {f"validation_{name}": values for name, values in history.items()}
    >>> plots.curves({"one run": history}).get_label()[:34]
    'Loss and accuracy by epoch. one ru'
    """
    figure = _figure(5 * columns, 8.4 / columns, title)
    axes = figure.subplots(2 // columns, columns).flat
    for axis, measure in zip(axes, ("loss", "accuracy"), strict=True):
        for (name, given), colour in zip(runs.items(), COLOURS, strict=False):
            histories = [given] if isinstance(given, Mapping) else list(given)
            _history(axis, histories, measure, colour, f"{name}, ")
            if reported and name in reported:
                _reported(axis, reported[name], measure, colour, name)
        _epoch_axis(axis, measure, best_epoch)
    _names_below(figure)
    told = [
        _told([given] if isinstance(given, Mapping) else list(given), name)
        + (". " + _told([reported[name]], f"{name}, reported") if reported and name in reported else "")
        for name, given in runs.items()
    ]
    return _label(figure, title, "loss and accuracy by epoch", *told)


@_own_settings
def confusion(
    matrices: Mapping[str, Tensor], classes: Sequence[str] | Mapping[str, Sequence[str]], columns: int = 3
) -> Figure:
    """Draw confusion matrices side by side: the colour is the share of the row, the number the (mean) count.

    Parameters
    ----------
    matrices : mapping of str to Tensor of shape (K, K)
        Counts, true classes in rows, under the title of each.
    classes : sequence of str, or mapping of str to sequence of str
        The class names, the same for all matrices or by title.
    columns : int
        Matrices per row.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import plots
    >>> plots.confusion({"test": torch.tensor([[3, 1], [0, 4]])}, ["cats", "dogs"]).get_label()
    'Confusion matrices, with the share on the diagonal. test 0.88.'
    """
    largest = max(len(matrix) for matrix in matrices.values())
    side = max(3.8, 0.62 * min(largest, _CLASSES) + 1.4)
    columns = min(len(matrices), columns)
    rows = math.ceil(len(matrices) / columns)
    figure = _figure(side * columns, side * rows, "")
    for number, (title, matrix) in enumerate(matrices.items()):
        names = classes[title] if isinstance(classes, Mapping) else classes
        axis = figure.add_subplot(rows, columns, number + 1)
        _matrix(axis, matrix, names)
        axis.set_title(_text(title), fontsize="medium", parse_math=False)
    told = [f"{title} {float(matrix.trace() / matrix.sum()):.2f}" for title, matrix in matrices.items()]
    return _label(figure, "", "confusion matrices, with the share on the diagonal", "; ".join(told))


@_own_settings
def trained(
    histories: Sequence[History],
    confusions: Sequence[Tensor],
    seconds: Sequence[float],
    classes: Sequence[str],
    *,
    best_epoch: int | None = None,
    title: str = "",
) -> Figure:
    """Draw loss, accuracy and test confusion matrix (K, K) of runs of one model; the title ends with their seconds."""
    one = len(histories) == 1
    if len({len(history["loss"]) for history in histories}) != 1 or len({len(matrix) for matrix in confusions}) != 1:
        raise ValueError("one figure is for runs with the same epochs and classes, and at least one")
    runs = f"median of {len(seconds)} runs, {min(seconds):,.0f} to {max(seconds):,.0f} s"
    took = f"training took {np.median(seconds):,.0f} s ({'one run' if one else runs})"
    figure = _figure(4.6, 7.2, f"{title}: {took}" if title else took.capitalize())
    axes = figure.subplot_mosaic([["loss", "accuracy"], ["matrix", "matrix"]], height_ratios=(2, 3))
    for measure in ("loss", "accuracy"):
        _history(axes[measure], histories, measure, COLOURS[0])
        _epoch_axis(axes[measure], measure, best_epoch)
    _names_below(figure)
    matrix = np.mean([matrix.numpy() for matrix in confusions], axis=0)
    _matrix(axes["matrix"], matrix, classes)
    axes["matrix"].set_title("test photos" if one else "test photos, mean of the runs", fontsize="medium")
    return _label(
        figure, title, "loss and accuracy by epoch, and the confusion matrix", _told(histories), _found(matrix, classes)
    )


@_own_settings
def per_class(shares: Mapping[str, Sequence[Sequence[float]]], classes: Sequence[str], title: str = "") -> Figure:
    """Draw the recall of each class: dots for runs, a bar for their mean.

    Parameters
    ----------
    shares : mapping of str to sequence of sequence of float
        For each name one row per run, each with one share (0 to 1) per class.
    classes : sequence of str
        The class names.
    """
    figure = _figure(8, 3.8, title)
    axis = figure.subplots()
    width = 0.8 / len(shares)
    for number, ((name, rows), colour) in enumerate(zip(shares.items(), COLOURS, strict=False)):
        values = np.asarray(rows, dtype=float)  # (runs, classes)
        at = np.arange(len(classes)) + (number - (len(shares) - 1) / 2) * width
        axis.bar(at, values.mean(0), width * 0.92, color=colour, alpha=0.45, label=name)
        for row in values:
            axis.plot(at, row, ".", color=colour, markersize=5, clip_on=False, zorder=3)
    axis.set_xticks(range(len(classes)), _names(classes), parse_math=False)
    axis.set_ylim(0, 1)
    axis.set_ylabel("share found (recall)")
    axis.grid(axis="y", alpha=0.25)
    _names_below(figure)
    told = []
    for name, rows in shares.items():
        columns = zip(classes, zip(*rows, strict=True), strict=True)
        told.append(f"{name}: " + ", ".join(f"{kind} {min(found):.2f} to {max(found):.2f}" for kind, found in columns))
    return _label(figure, title, "share found of each class, ranges of the runs", "; ".join(told))


@_own_settings
def reliability(bins: Sequence[Bin], title: str = "") -> Figure:
    """Draw a reliability diagram, with a histogram of the confidence (Niculescu-Mizil and Caruana 2005)."""
    figure = _figure(5, 5.6, title)
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = [one for one in bins if one.count]
    style = {"width": [one.high - one.low for one in filled], "align": "edge", "edgecolor": "white"}
    lows = [one.low for one in filled]
    accuracies = [one.accuracy for one in filled]
    axis.bar(lows, accuracies, color=COLOURS[0], alpha=0.6, label="accuracy", **style)
    axis.plot(
        [one.confidence for one in filled],
        accuracies,
        ".",
        color="black",
        clip_on=False,
        zorder=3,
        label="at the mean confidence",
    )
    axis.plot([0, 1], [0, 1], "--", color="0.4", linewidth=1, label="perfect calibration")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_ylabel("accuracy")
    axis.grid(alpha=0.25)
    axis.legend(fontsize="small", frameon=False, loc="upper left")
    below.bar(lows, [one.count for one in filled], color="0.6", **style)
    below.set_xlabel("confidence (top probability)")
    below.set_ylabel("photos")
    below.yaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=4))
    return figure


@_own_settings
def accuracy_by_epoch(runs: Mapping[str, Sequence[tuple[Sequence[float], int]]], title: str = "") -> Figure:
    """Draw test accuracy by epoch, a line a run, with a ring at the epoch chosen.

    Parameters
    ----------
    runs : mapping of str to sequence of (sequence of float, int)
        One colour per name; for each run the test accuracy (0 to 1) after each epoch, and the epoch chosen, from 1.
    """
    figure = _figure(9, 4, title)
    axis = figure.subplots()
    for (name, lines), colour in zip(runs.items(), COLOURS, strict=False):
        for number, (values, chosen) in enumerate(lines):
            label = name if number == 0 else None
            axis.plot(range(1, len(values) + 1), values, ".-", color=colour, linewidth=0.8, markersize=4, label=label)
            axis.plot(chosen, values[chosen - 1], "o", color=colour, markerfacecolor="none", markersize=10)
    axis.plot([], [], "o", color="0.3", markerfacecolor="none", markersize=10, label="best by validation")
    axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    _finish(axis, "epoch", "test accuracy")
    _names_below(figure)
    told = []
    for name, curves in runs.items():
        epochs, kept = [epoch for _, epoch in curves], [values[epoch - 1] for values, epoch in curves]
        told.append(f"{name} after {min(epochs)} to {max(epochs)} epochs, with {min(kept):.2f} to {max(kept):.2f}")
    return _label(figure, title, "test accuracy by epoch, a line a run", "Chosen: " + "; ".join(told))


@_own_settings
def lines(
    series: Mapping[str, Sequence[Sequence[float]]],
    axis_label: str,
    title: str = "",
    *,
    log: bool = False,
    start: int = 1,
    across: str = "epoch",
    ticks: Sequence[str] = (),
) -> Figure:
    """Draw curves by epoch, by step, or by anything else that has an order.

    Parameters
    ----------
    series : mapping of str to sequence of sequence of float
        One colour per name; for each run one value per epoch. The mean is drawn, with a band from lowest to highest.
    axis_label : str
        What is measured, with its unit.
    log : bool
        Whether the values are on a logarithmic scale.
    start : int
        The number of the first epoch.
    across : str
        What the values are one each of.
    ticks : sequence of str
        Names of the places along the axis, instead of their numbers.

    Examples
    --------
    >>> from cnnhw import plots
    >>> plots.lines({"loss": [[1.6, 1.2, 0.9]]}, "nats").get_label()
    'Nats by epoch, means at the first and the last. loss from 1.6 to 0.9.'
    """
    figure = _figure(9, 4, title)
    axis = figure.subplots()
    for (name, rows), colour in zip(series.items(), COLOURS, strict=False):
        _band(axis, rows, colour, "-", name, start)
    if log:
        _logarithmic(axis)
    _places(axis, start, ticks)
    _finish(axis, across, axis_label)
    _names_below(figure)
    return _label(figure, title, f"{axis_label} by {across}, means at the first and the last", _ends(series))


@_own_settings
def panels(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    axis_label: str,
    title: str = "",
    *,
    log: bool = False,
    start: int = 1,
    across: str = "epoch",
    ticks: Sequence[str] = (),
    columns: int = 2,
) -> Figure:
    """Draw small multiples: curves as :func:`lines` draws them, in panels with the same axes.

    Parameters
    ----------
    panels : mapping of str to mapping of str to sequence of sequence of float
        For each panel what :func:`lines` takes; a name has the same colour in all.
    axis_label : str
        What is measured, with its unit.
    log : bool
        Whether the values are on a logarithmic scale.
    start : int
        The number of the first epoch.
    across : str
        What the values are one each of.
    ticks : sequence of str
        Names of the places along the axis, instead of their numbers.
    columns : int
        Panels per row.

    Examples
    --------
    >>> from cnnhw import plots
    >>> plots.panels({"small": {"loss": [[1.6, 0.9]]}, "large": {"loss": [[1.5, 0.4]]}}, "nats").get_label()
    'Nats by epoch, means at the first and the last. small: loss from 1.6 to 0.9. large: loss from 1.5 to 0.4.'
    """
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = _figure(4.6 * columns, 3.2 * rows, title)
    axes = figure.subplots(rows, columns, sharex="col", sharey=True, squeeze=False)
    named = dict.fromkeys(name for series in panels.values() for name in series)
    colours = dict(zip(named, COLOURS, strict=False))
    for axis, (panel, series) in zip(axes.flat, panels.items(), strict=False):
        for name, values in series.items():
            _band(axis, values, colours[name], "-", name, start)
        axis.set_title(panel, fontsize="medium")
        _places(axis, start, ticks, most=5)
        axis.grid(alpha=0.25)
    if log:
        _logarithmic(axes[0, 0])
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel(across)
    figure.supylabel(axis_label, fontsize="medium")
    _names_below(figure)
    told = [f"{panel}: {_ends(series)}" for panel, series in panels.items()]
    return _label(figure, title, f"{axis_label} by {across}, means at the first and the last", *told)


@_own_settings
def bars(series: Mapping[str, Mapping[float, float]], across: str, axis_label: str, title: str = "") -> Figure:
    """Draw distributions, one panel each.

    Parameters
    ----------
    series : mapping of str to mapping of float to float
        For each name the height of the bar at each place.
    across : str
        What the places are.
    axis_label : str
        What the heights are.
    """
    figure = _figure(10, 3.2, title)
    axes = figure.subplots(1, len(series), sharex=True, squeeze=False)[0]
    for axis, (name, heights), colour in zip(axes, series.items(), COLOURS, strict=False):
        axis.bar(list(heights), list(heights.values()), 0.8, color=colour)
        axis.set_title(name, fontsize="medium")
        axis.set_xlabel(across)
    axes[0].set_ylabel(axis_label)
    return figure


@_own_settings
def against(
    series: Mapping[str, Sequence[Sequence[tuple[float, float]]]], across: str, axis_label: str, title: str = ""
) -> Figure:
    """Draw one figure against another, a line a run.

    Parameters
    ----------
    series : mapping of str to sequence of sequence of (float, float)
        One colour per name; for each run the pairs of abscissa and ordinate.
    across, axis_label : str
        Labels of the axes, with units.
    """
    figure = _figure(9, 4, title)
    axis = figure.subplots()
    for (name, runs), colour in zip(series.items(), COLOURS, strict=False):
        for number, run in enumerate(runs):
            x, y = zip(*run, strict=True)
            axis.plot(x, y, ".-", color=colour, linewidth=1, markersize=5, label=name if number == 0 else None)
    _finish(axis, across, axis_label)
    _names_below(figure)
    told = []
    for name, runs in series.items():
        points = sorted(point for run in runs for point in run)
        (low, least), (high, most) = (pick(points, key=lambda point: point[1]) for pick in (min, max))
        told.append(f"{name} lowest at {low:.3g} with {least:.3g} and highest at {high:.3g} with {most:.3g}")
    return _label(figure, title, f"{axis_label} against {across}", "; ".join(told))


@_own_settings
def strip(groups: Mapping[str, Sequence[float]], axis_label: str, title: str = "") -> Figure:
    """Draw a strip plot: one dot for each run, in a row for each group, and a stroke for the mean.

    Parameters
    ----------
    groups : mapping of str to sequence of float
        One figure per run.
    axis_label : str
        What is measured, with its unit.

    Examples
    --------
    >>> from cnnhw import plots
    >>> plots.strip({"a": [0.5, 0.7], "b": [0.4]}, "accuracy").get_label()
    'Accuracy of each run, means and ranges. a 0.6 (0.5 to 0.7), b 0.4 (0.4 to 0.4).'
    """
    figure = _figure(9, 0.32 * len(groups) + 1.5, title)
    axis = figure.subplots()
    for height, values in enumerate(reversed(list(groups.values()))):
        axis.plot(values, [height] * len(values), "o", color=COLOURS[0], alpha=0.6, markersize=5)
        axis.plot([np.mean(values)] * 2, [height - 0.3, height + 0.3], color=COLOURS[1], linewidth=2)
    axis.set_yticks(range(len(groups)), list(reversed(list(groups))))
    axis.set_xlabel(axis_label)
    axis.grid(alpha=0.25)
    told = [f"{name} {np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})" for name, values in groups.items()]
    return _label(figure, title, f"{axis_label} of each run, means and ranges", ", ".join(told))


@_own_settings
def time_to_accuracy(
    runs: Mapping[str, Sequence[Sequence[tuple[float, float]]]], levels: Sequence[float] = (), title: str = ""
) -> Figure:
    """Draw test accuracy against seconds of training, on a logarithmic scale.

    Parameters
    ----------
    runs : mapping of str to sequence of curves
        One colour per name; each curve is a sequence of (seconds, accuracy), one pair per epoch.
    levels : sequence of float
        Accuracies to mark by a horizontal line.
    """
    figure = _figure(9, 4, title)
    axis = figure.subplots()
    for (name, curves), colour in zip(runs.items(), COLOURS, strict=False):
        for number, curve in enumerate(curves):
            seconds, accuracies = zip(*curve, strict=True)
            label = name if number == 0 else None
            axis.plot(seconds, accuracies, ".-", color=colour, linewidth=0.9, markersize=5, label=label)
    for level in levels:
        axis.axhline(level, color="0.6", linewidth=1, zorder=0)
        axis.annotate(
            f"{level:.3f}", (1, level), xycoords=("axes fraction", "data"), va="bottom", ha="right", color="0.4"
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    _finish(axis, "seconds of training", "test accuracy")
    _names_below(figure)
    told = []
    for name, curves in runs.items():
        seconds, accuracy = np.mean([curve[-1] for curve in curves], axis=0)
        told.append(f"{name} to {accuracy:.3f} in {seconds:.3g} s")
    marked = f"Marked: {', '.join(f'{level:.3f}' for level in levels)}" if levels else ""
    what = "test accuracy against seconds of training, means at the end"
    return _label(figure, title, what, "; ".join(told), *([marked] if marked else []))


@_own_settings
def forest(
    rows: Mapping[str, tuple[float, float, float]], axis_label: str, title: str = "", *, grey: Collection[str] = ()
) -> Figure:
    """Draw a forest plot: effects with their intervals, one a row.

    Parameters
    ----------
    rows : mapping of str to (float, float, float)
        For each name the effect and the lower and upper end of its interval.
    axis_label : str
        What is measured, with its unit.
    grey : collection of str
        Names of rows that decide nothing, such as those of exploratory comparisons.

    Examples
    --------
    >>> from cnnhw import plots
    >>> plots.forest({"a minus b": (1.5, -0.5, 3.5)}, "points").get_label()
    'Points, with intervals. a minus b +1.5 (-0.5 to +3.5).'
    """
    figure = _figure(8, 0.36 * len(rows) + 1.4, title)
    axis = figure.subplots()
    for height, (name, (effect, low, high)) in enumerate(reversed(list(rows.items()))):
        colour = "0.6" if name in grey else COLOURS[0]
        axis.plot((low, high), (height, height), color=colour, linewidth=2)
        axis.plot(effect, height, "o", color=colour)
    axis.axvline(0, color="0.5", linewidth=1, zorder=0)
    axis.set_yticks(range(len(rows)), list(reversed(list(rows))))
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(axis_label)
    axis.grid(axis="x", alpha=0.25)
    told = [f"{name} {effect:+z.3g} ({low:+z.3g} to {high:+z.3g})" for name, (effect, low, high) in rows.items()]
    return _label(figure, title, f"{axis_label}, with intervals", "; ".join(told))


@_own_settings
def shares(rows: Mapping[str, Mapping[str, float]], title: str = "") -> Figure:
    """Draw shares of a whole as stacked bars; shares above 5 % carry their figure.

    Parameters
    ----------
    rows : mapping of str to mapping of str to float
        For each name the share, 0 to 1, of each kind.
    """
    figure = _figure(9, 0.7 * len(rows) + 1.6, title)
    axis = figure.subplots()
    found = dict.fromkeys(kind for row in rows.values() for kind in row)
    kinds = sorted(found, key=lambda kind: -sum(row.get(kind, 0.0) for row in rows.values()))
    palette = [*COLOURS, "#999999", "#F0E442", "#444444", "#bbbbbb"]
    for height, row in enumerate(reversed(list(rows.values()))):
        left = 0.0
        for kind, colour in zip(kinds, palette, strict=False):
            share = row.get(kind, 0.0)
            axis.barh(height, share, 0.7, left, color=colour, label=kind if height == 0 else None)
            if share > 0.05:
                axis.text(left + share / 2, height, f"{share:.0%}", ha="center", va="center", fontsize="small")
            left += share
    axis.set_yticks(range(len(rows)), list(reversed(list(rows))))
    axis.xaxis.set_major_formatter(ticker.PercentFormatter(1))
    axis.set_xlim(0, 1)
    _names_below(figure)
    told = [f"{name}: " + ", ".join(f"{kind} {share:.0%}" for kind, share in row.items()) for name, row in rows.items()]
    return _label(figure, title, "shares", "; ".join(told))


@_own_settings
def scaling(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], axis_label: str, title: str = ""
) -> Figure:
    """Draw scaling curves, on logarithmic scales, a panel below the other.

    Parameters
    ----------
    panels : mapping of str to mapping of str to (sequence of float, sequence of float)
        For each panel, named after what is varied, the values along both axes by name.
    axis_label : str
        What is measured, with its unit.
    """
    figure = _figure(6, 3.2 * len(panels), title)
    for axis, (varied, lines) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
        for (name, (along, up)), colour in zip(lines.items(), COLOURS, strict=False):
            axis.plot(along, up, "o-", color=colour, label=name)
        axis.set_xscale("log")
        axis.set_yscale("log")
        ticks = sorted({value for along, _ in lines.values() for value in along})
        axis.set_xticks(ticks, [f"{value:,g}" for value in ticks])
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
        _finish(axis, varied, axis_label)
        axis.legend(frameon=False, fontsize="small")  # of its own: a colour may stand for another name in each panel
    told = [
        f"by {across}: "
        + ", ".join(
            f"{name} from {up[0]:.3g} at {along[0]:g} to {up[-1]:.3g} at {along[-1]:g}"
            for name, (along, up) in series.items()
        )
        for across, series in panels.items()
    ]
    return _label(figure, title, f"{axis_label}, on logarithmic scales", *told)


@_own_settings
def plane(
    planes: Mapping[str, Plane], title: str = "", names: Sequence[str] = ("A", "B", "C"), columns: int | None = None
) -> Figure:
    """Draw the loss on planes through three networks each.

    Parameters
    ----------
    planes : mapping of str to Plane
        One panel a name.
    names : sequence of str
        What the three networks of each plane are.
    columns : int, optional
        Panels per row; all, if not given.
    """
    columns = columns or len(planes)
    rows = math.ceil(len(planes) / columns)
    figure = _figure(4.6 * columns + 1, 4.8 * rows, title)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    highest = max(float(plane.losses.max()) for plane in planes.values())
    lowest = max(min(float(plane.losses.min()) for plane in planes.values()), 1e-6 * highest)
    levels = np.geomspace(lowest * (1 - 1e-9), max(highest, 1.001 * lowest), 17)
    for axis in axes[len(planes) :]:
        axis.set_visible(False)
    for axis, (name, plane) in zip(axes, planes.items(), strict=False):
        heights = np.clip(plane.losses, lowest, None)
        drawn = axis.contourf(plane.across, plane.up, heights, levels, norm=LogNorm(), cmap="viridis")
        axis.contour(plane.across, plane.up, heights, levels, norm=LogNorm(), colors="white", linewidths=0.4)
        marks = zip(plane.places, "osD", ("#D55E00", "#CC79A7", "white"), names, strict=True)
        for place, marker, colour, network in marks:
            axis.plot(*place, marker, color=colour, markeredgecolor="black", markersize=9, label=network)
        axis.set_aspect("equal")
        axis.set_title(name, fontsize="medium")
        axis.set_xlabel("distance between weights")
    figure.colorbar(
        drawn, ax=axes, label="loss (nats), logarithmic", format=ticker.FormatStrFormatter("%.2g"), shrink=0.8
    )
    _names_below(figure)
    return figure


def _finish(axis: Axes, across: str, up: str) -> None:
    """Name both axes, and add a grid."""
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.grid(alpha=0.25)


def _places(axis: Axes, start: int, ticks: Sequence[str], most: int = 9) -> None:
    """Mark whole numbers along the axis, or places by their names."""
    axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=most))
    if ticks:
        axis.set_xticks(range(start, start + len(ticks)), list(ticks))


def _logarithmic(axis: Axes) -> None:
    """Give the upright axis a logarithmic scale, with plain figures."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    low, high = axis.get_ylim()
    few = high < 30 * low  # over more than that, the figures between powers of ten would overlap
    axis.yaxis.set_minor_formatter(ticker.FormatStrFormatter("%g") if few else ticker.NullFormatter())


def _ends(series: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Describe in words where the mean curves begin and end."""
    means = {name: np.asarray(rows, dtype=float).mean(0) for name, rows in series.items()}
    return "; ".join(f"{name} from {mean[0]:.3g} to {mean[-1]:.3g}" for name, mean in means.items())


def _label(figure: Figure, title: str, what: str, *told: str) -> Figure:
    """Describe a figure in its label."""
    head = f"{title.rstrip('.')}: {what}. " if title else f"{what[0].upper()}{what[1:]}. "
    figure.set_label(" ".join((head + ". ".join(told) + ".").split()))
    return figure


def _told(histories: Sequence[History], name: str = "") -> str:
    """Describe in words where the mean curves of some runs begin and end."""
    mean = {measure: np.mean([history[measure] for history in histories], axis=0) for measure in histories[0]}
    words = {"loss": "training loss", "validation_loss": "validation loss"}
    words |= {"accuracy": "training accuracy", "validation_accuracy": "validation accuracy"}
    parts = [f"{word} from {mean[key][0]:.2f} to {mean[key][-1]:.2f}" for key, word in words.items() if key in mean]
    if "validation_loss" in mean:
        parts[1] += f" (lowest after epoch {1 + int(mean['validation_loss'].argmin())})"
    runs = f"mean of {len(histories)} runs: " if len(histories) > 1 else ""
    return f"{name}{', ' if name and runs else ': ' if name else ''}{runs}{', '.join(parts)}"


def _found(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Describe a confusion matrix in words."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    found, mistakes = shares.diagonal(), shares - np.diag(shares.diagonal())
    true, taken = divmod(int(mistakes.argmax()), len(matrix))
    return (
        f"Of the test photos, {classes[int(found.argmax())]} is found most often ({found.max():.2f}) and "
        f"{classes[int(found.argmin())]} least often ({found.min():.2f}); the commonest mistake is "
        f"{classes[true]} taken for {classes[taken]}"
    )


def _band(axis: Axes, rows: Sequence[Sequence[float]], colour: str, style: str, label: str, start: int = 1) -> None:
    values = np.asarray(rows, dtype=float)  # (runs, epochs)
    epochs = np.arange(start, values.shape[1] + start)
    one: dict[str, Any] = (
        {"marker": "o", "markerfacecolor": "none" if style == "--" else colour} if values.shape[1] == 1 else {}
    )
    # an accuracy of 1 lies on the frame, not under it; a loss may be larger than what the axis shows
    over: dict[str, Any] = {"clip_on": False, "zorder": 3} if values.max() <= 1 else {}
    axis.plot(epochs, values.mean(0), style, color=colour, label=label, linewidth=1.6, **one, **over)
    if len(values) > 1:
        axis.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)


def _history(axis: Axes, histories: Sequence[History], measure: str, colour: str, name: str = "") -> None:
    _band(axis, [h[measure] for h in histories], colour, "--", f"{name}training")
    _band(axis, [h[f"validation_{measure}"] for h in histories], colour, "-", f"{name}validation")


def _epoch_axis(axis: Axes, measure: str, best_epoch: int | None) -> None:
    if best_epoch is not None:
        axis.axvline(best_epoch, color="0.6", linewidth=1, zorder=0, label="best by validation")
    axis.set_xlabel("epoch")
    axis.set_ylabel("cross-entropy (nats)" if measure == "loss" else "accuracy")
    axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
    axis.grid(alpha=0.25)
    if measure == "loss":
        axis.set_ylim(bottom=0)
    else:
        axis.set_ylim(0, 1)


def _matrix(axis: Axes, matrix: Tensor | np.ndarray, names: Sequence[str]) -> None:
    """Draw a confusion matrix: the colour is the share of the row, the number the count."""
    counts = np.asarray(matrix, dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= _CLASSES:
        for (i, j), share in np.ndenumerate(shares):
            colour = "white" if share > 0.55 else "black"
            axis.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", color=colour)
    if len(counts) <= 2 * _CLASSES:
        drawn = _names(names)
        axis.set_xticks(range(len(drawn)), drawn, rotation=40, ha="right", parse_math=False)
        axis.set_yticks(range(len(drawn)), drawn, parse_math=False)
    else:
        for one in (axis.xaxis, axis.yaxis):
            one.set_major_locator(ticker.MaxNLocator(integer=True))
            one.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value + 1:.0f}"))
    numbered = ", numbers of classes" if len(counts) > 2 * _CLASSES else ""
    axis.set_xlabel(f"predicted{numbered}")
    axis.set_ylabel(f"true{numbered}")


def _reported(axis: Axes, history: History, measure: str, colour: str, name: str) -> None:
    for prefix, marker in (("", "x"), ("validation_", "o")):
        values = history[f"{prefix}{measure}"]
        part = "validation" if prefix else "training"
        axis.plot(
            range(1, len(values) + 1), values, marker, color=colour, markersize=4, markerfacecolor="none",
            label=f"{name}, {part}, report",
        )  # fmt: skip
