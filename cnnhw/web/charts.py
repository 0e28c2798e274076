"""Line charts as SVG in the colours of the page, which follow the reader's theme."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 8, 24  # margins


def lines(series: Mapping[str, Sequence[float]], label: str, *, most: float | None = None, mark: int = 0) -> str:
    """Return one line a series, of values by epoch, as SVG; ``charts.css`` has its colours.

    Parameters
    ----------
    series : mapping of str to sequence of float
        The values of each, from epoch 1 on; in the order of the lines' colours.
    label : str
        What is shown, for those who do not see it.
    most : float, optional
        The upper end of the scale, which begins at 0; by default the largest value.
    mark : int
        An epoch that is marked by a vertical line, from 1; 0 for none.

    Returns
    -------
    str
        The picture; nothing if there are fewer than two epochs.

    Examples
    --------
    >>> lines({"loss": [1.6, 0.9, 0.5]}, "Loss by epoch")[:42]
    '<svg class="chart" viewBox="0 0 320 190" r'
    """
    epochs = max((len(values) for values in series.values()), default=0)
    if epochs < 2:
        return ""
    high = most or max((value for values in series.values() for value in values), default=1.0) or 1.0
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(epoch: float) -> float:
        return _LEFT + wide * (epoch - 1) / (epochs - 1)

    def down(value: float) -> float:
        return _TOP + tall * (1 - min(value, high) / high)

    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(label)}">']
    for value in _ticks(0, high, 6):
        y = down(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for epoch in _ticks(1, epochs, 6, whole=True):
        parts.append(f'<text x="{across(epoch):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{epoch:g}</text>')
    if mark:
        x = across(mark)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + tall}"/>')
    for number, values in enumerate(series.values()):
        points = " ".join(f"{across(epoch):.1f},{down(value):.1f}" for epoch, value in enumerate(values, start=1))
        parts.append(f'<polyline class="line line{number}" points="{points}"/>')
    return "".join(parts) + "</svg>"


def _ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return up to `most` round numbers between two."""
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    found = [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
    return [low, *(one for one in found if one >= low + 0.5 * step)] if whole else found
