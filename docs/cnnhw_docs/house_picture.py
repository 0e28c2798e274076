"""``.. house::``: the package in one picture, drawn from its imports.

Rooms stand on their floors, from the ground up, each with its modules and their lines. An arrow leads from a room to
one that it imports from, the thicker, the more imports there are. Every room stands on the ground floor: arrows to it
are counted there, not drawn. There are two drawings, for wide windows and for phones; the style shows one of them.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from cnnhw_docs import house

Arrows = Mapping[tuple[str, str], int]

_LINE, _HEAD, _PAD, _GAP = 18, 26, 10, 8  # heights of a line and of a heading; space inside of and between boxes
_CHARACTER = 7.3  # width of a character of the modules' names


@dataclass
class Room:
    """A room: its floor, the lines of its modules by name, and how many modules of other rooms import from it."""

    name: str
    floor: int
    modules: dict[str, int]
    users: int = 0


@dataclass
class _Box:
    """A room on the picture: where it begins and ends, and its text, line by line."""

    room: Room
    top: float
    height: float
    lines: list[str]


def rooms(package: Path = house.PACKAGE) -> dict[str, Room]:
    """Return the rooms, from the top floor down."""
    found = {name: Room(name, number, {}) for number, names in enumerate(house.FLOORS) for name in names}
    for module, path in house.modules(package).items():
        _, name, *rest = [*module.split("."), "", ""]
        if name in found:
            found[name].modules[rest[0] or path.stem] = len(path.read_text(encoding="utf-8").splitlines())
    for module, others in house.imports(package).items():
        for name in {_room(other) for other in others} - {_room(module)}:
            if name in found:
                found[name].users += 1
    return {name: room for name, room in reversed(found.items()) if room.modules}


def arrows(package: Path = house.PACKAGE) -> dict[tuple[str, str], int]:
    """Return how many imports run from a room to another, the ground floor aside."""
    known = {name for names in house.FLOORS[1:] for name in names}
    pairs = (
        (_room(module), _room(other)) for module, others in house.imports(package).items() for other in sorted(others)
    )
    return dict(Counter((one, other) for one, other in pairs if one != other and {one, other} <= known))


def _room(module: str) -> str:
    return [*module.split("."), ""][1]


def in_words(found: Mapping[str, Room], drawn: Arrows) -> str:
    """Return the picture's alternative text."""
    floors: dict[int, list[str]] = {}
    for room in reversed(found.values()):
        size = f"{room.name} ({sum(room.modules.values()):,} lines)"
        floors.setdefault(room.floor, []).append(size)
    listed = "; ".join(", ".join(names) for names in floors.values())
    most = sorted(drawn.items(), key=lambda pair: -pair[1])[:3]
    thick = ", ".join(f"from {one} to {other} ({count} imports)" for (one, other), count in most)
    up = sum(found[one].floor < found[other].floor for one, other in drawn)
    return (
        f"The rooms of the package on {len(floors)} floors. From the ground up: {listed}. {len(drawn)} arrows lead "
        f"from a room to one that it imports from; {up or 'none'} of them {'lead' if up > 1 else 'leads'} to a higher "
        "floor. "
        f"The thickest are those {thick}."
    )


def draw(found: Mapping[str, Room], drawn: Arrows, width: int, bulge: int, kind: str) -> str:
    """Return the picture as SVG."""
    left, right = 26, width - bulge
    boxes, bottom = _place(found, drawn, int((right - left - 2 * _PAD) / _CHARACTER))
    parts = [_floors(boxes), *(_drawn_box(box, left, right) for box in boxes.values())]
    places = _ends(boxes, drawn)
    by_length = sorted(drawn, key=lambda pair: abs(places[pair, "in"] - places[pair, "out"]))
    for rank, pair in enumerate(by_length, start=1):  # the longer, the farther out: a curve reaches 3/4 of its handles
        reach = (24 + (bulge - 36) * rank / len(by_length)) / 0.75
        parts.append(_drawn_arrow(pair, drawn[pair], (right, places[pair, "out"], places[pair, "in"]), reach))
    label = html.escape(in_words(found, drawn), quote=True)
    return (
        f'<svg class="house house-{kind}" viewBox="0 0 {width} {bottom:.0f}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _place(found: Mapping[str, Room], drawn: Arrows, characters: int) -> tuple[dict[str, _Box], float]:
    """Stack the rooms; return their boxes and where the picture ends."""
    boxes: dict[str, _Box] = {}
    top, floor = 1.0, -1
    for room in found.values():
        top += _GAP if floor in (-1, room.floor) else 2 * _GAP
        floor = room.floor
        lines = _wrap([f"{name} {count}" for name, count in room.modules.items()], characters)
        if room.floor == 0:
            lines = _wrap([f"used by {room.users} modules"], characters)
        ends = sum(_space(count) for pair, count in drawn.items() if room.name in pair)
        height = max(_HEAD + _LINE * len(lines) + _PAD / 2, ends + _PAD)
        boxes[room.name] = _Box(room, top, height, lines)
        top += height
    return boxes, top + _GAP


def _wrap(words: Sequence[str], characters: int) -> list[str]:
    """Fill lines with words that are not to be broken."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= characters:
            lines[-1] += f"   {word}"
        else:
            lines.append(word)
    return lines


def _thickness(count: int) -> float:
    return 1 + 1.1 * math.sqrt(count - 1)


def _space(count: int) -> float:
    return _thickness(count) + 5


def _ends(boxes: Mapping[str, _Box], drawn: Arrows) -> dict[tuple[tuple[str, str], str], float]:
    """Return the height at which each arrow leaves its room ("out") and enters the other ("in"), so that few cross."""
    order = {name: place for place, name in enumerate(boxes)}
    places = {}
    for name, box in boxes.items():
        ends = [(pair, "in") for pair in drawn if pair[1] == name] + [
            (pair, "out") for pair in drawn if pair[0] == name
        ]
        # from top to bottom: arrows that come from above, the nearest first; then those to below, the farthest first
        far = {end: order[end[0][end[1] == "out"]] - order[name] for end in ends}
        ends.sort(key=lambda end: (far[end] > 0, -far[end]))
        at = box.top + (box.height - sum(_space(drawn[pair]) for pair, _ in ends)) / 2
        for pair, side in ends:
            places[pair, side] = at + _space(drawn[pair]) / 2
            at += _space(drawn[pair])
    return places


def _drawn_box(box: _Box, left: float, right: float) -> str:
    room = box.room
    size = f"{sum(room.modules.values()):,} lines"
    texts = [
        f'<text class="house-room" x="{left + _PAD}" y="{box.top + 18:.1f}">{html.escape(room.name)}</text>',
        f'<text class="house-size" x="{right - _PAD}" y="{box.top + 18:.1f}" text-anchor="end">{size}</text>',
    ]
    for number, line in enumerate(box.lines):
        words = "   ".join(_dimmed(word) for word in line.split("   "))
        y = box.top + _HEAD + _LINE * number + 12
        texts.append(f'<text class="house-modules" x="{left + _PAD}" y="{y:.1f}" xml:space="preserve">{words}</text>')
    place = f'x="{left}" y="{box.top:.1f}" width="{right - left}" height="{box.height:.1f}"'
    return f'<rect class="house-box" {place} rx="5"/>{"".join(texts)}'


def _dimmed(word: str) -> str:
    """Set the number of lines behind a module's name back."""
    name, _, count = word.rpartition(" ")
    return f'{html.escape(name)} <tspan class="house-size">{count}</tspan>' if count.isdigit() else html.escape(word)


def _floors(boxes: Mapping[str, _Box]) -> str:
    """Number the floors at the left."""
    parts = []
    for floor in sorted({box.room.floor for box in boxes.values()}):
        there = [box for box in boxes.values() if box.room.floor == floor]
        top, bottom = there[0].top, there[-1].top + there[-1].height
        parts.append(f'<path class="house-floor" d="M19 {top:.1f}V{bottom:.1f}"/>')
        parts.append(
            f'<text class="house-size" x="7" y="{(top + bottom) / 2 + 4:.1f}" text-anchor="middle">{floor}</text>'
        )
    return "".join(parts)


def _drawn_arrow(pair: tuple[str, str], count: int, place: tuple[float, float, float], reach: float) -> str:
    """Draw an arrow from one height at the boxes' edge to another."""
    x, start, stop = place
    wide = _thickness(count)
    head = 4 + wide / 2
    path = f"M{x} {start:.1f}C{x + reach:.1f} {start:.1f} {x + reach:.1f} {stop:.1f} {x + 2 * head:.1f} {stop:.1f}"
    tip = f"M{x + 1} {stop:.1f}l{2 * head:.1f} {-head:.1f}v{2 * head:.1f}z"
    said = f"{pair[0]} imports from {pair[1]}: {count}"
    return (
        f'<g class="house-arrow"><title>{html.escape(said)}</title>'
        f'<path class="house-line" d="{path}" stroke-width="{wide:.1f}"/><path class="house-tip" d="{tip}"/></g>'
    )


class House(SphinxDirective):
    """``.. house::``."""

    def run(self) -> list[nodes.Node]:
        found, drawn = rooms(), arrows()
        wide, narrow = draw(found, drawn, 860, 260, "wide"), draw(found, drawn, 350, 126, "narrow")
        return [nodes.raw("", f'<div class="house-frame">{wide}{narrow}</div>', format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("house", House)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
