"""A forest plot of one line: effect, interval, zero, and what is shaded, as SVG that a phone shows at full size."""

from __future__ import annotations

import html

from cnnhw_docs.verdicts import Said, figures, short

_WIDE, _HIGH, _LINE, _AXIS = 320, 62, 34, 48
_SIGN = 6.6  # width of one, in text of 12 pixels


def draw(one: Said) -> str:
    """Return the drawing, with its name; nothing before there is an effect."""
    if one.effect is None or one.low is None or one.high is None:
        return ""
    ends = (-one.delta, one.delta)
    left, right = min(one.low, *ends), max(one.high, *ends)
    room = 0.08 * (right - left or 1)
    left, right = left - room, right + room

    def x(value: float) -> float:
        return round(min(max(_WIDE * (value - left) / (right - left), 0), _WIDE), 1)

    start, stop = map(x, ends)
    marks = {0.0: "0"} | {end: f"{end:+zg}" for end in ends if abs(x(end) - x(0)) > 36}
    said = short(one).replace(f" {one.measure.unit}", "")
    half = _SIGN * len(said) / 2
    parts = [
        f'<rect class="shaded" x="{start}" y="20" width="{round(stop - start, 1)}" height="{_AXIS - 20}"/>',
        f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="20" y2="{_AXIS}"/>',
        f'<line class="interval" x1="{x(one.low)}" x2="{x(one.high)}" y1="{_LINE}" y2="{_LINE}"/>',
        *(
            f'<line class="interval" x1="{x(end)}" x2="{x(end)}" y1="{_LINE - 5}" y2="{_LINE + 5}"/>'
            for end in (one.low, one.high)
        ),
        f'<circle cx="{x(one.effect)}" cy="{_LINE}" r="5"/>',
        _text(min(max(x(one.effect), half), _WIDE - half), 13, said),
        *(_text(min(max(x(value), 8), _WIDE - 8), _HIGH - 2, text) for value, text in marks.items()),
    ]
    name = html.escape(f"Effect {figures(one)}; {shaded(one)}.", quote=True)
    return (
        f'<svg class="forest {one.colour}" viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{name}">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{round(x, 1)}" y="{y}" text-anchor="middle">{html.escape(text)}</text>'


def shaded(one: Said) -> str:
    """Return in words what is shaded."""
    return f"shaded: less than {one.delta:g} {one.measure.unit}, which does not matter"
