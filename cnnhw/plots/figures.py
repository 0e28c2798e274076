"""Colours, an empty figure, names that can be read, and saving of figures.

All is drawn with settings of our own, whatever the user's matplotlibrc says.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from cnnhw import files

__all__ = ["COLOURS", "Svg", "save"]

# Okabe and Ito's palette: told apart by readers with any kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

_PLAIN = "DejaVu Sans"  # which comes with matplotlib
_LONGEST = 20  # characters of a name that is drawn
_FONTS = 100  # that are opened in search of a script
_WIDE = ("cjk", "noto sans", "unicode", "fallback", "gothic", "hei", "ming", "song", "emoji", "nirmala", "segoe")
_NOT_OURS = ("backend", "interactive", "toolbar", "timezone", "tk.", "webagg.", "date.epoch", "savefig.directory")
_own_settings = matplotlib.rc_context(
    {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith(_NOT_OURS)}
)  # a decorator of all that draws


class Svg(str):
    """The text of an SVG picture, shown as a picture in notebooks and on pages."""

    def _repr_html_(self) -> str:
        return f'<div class="diagram">{self}</div>'


@_own_settings
def save(figure: Figure, path: str | Path, dpi: int = 110) -> None:
    """Write a figure to a PNG file, whole or not at all, and close it."""
    try:
        with files.replacing(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about glyphs and margins, of which the reader sees as much
            figure.savefig(temporary, format="png", dpi=dpi, backend="agg")
    finally:
        plt.close(figure)


def _figure(width: float, height: float, title: str) -> Figure:
    try:
        figure = plt.figure(figsize=(width, height), layout="constrained")
    except Exception:  # the user's backend needs a screen, or what is not installed
        figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(_text(title, 100), parse_math=False)  # names of files and classes may hold dollars
    return figure


def _names(names: Sequence[str]) -> list[str]:
    """Return names as they can be drawn: cut where long, and as ``class 1`` where no font has their letters."""
    missing = _missing("".join(names))
    return [
        f"class {number}" if missing & set(name) or not name.strip() else _cut(name, _LONGEST)
        for number, name in enumerate(names, start=1)
    ]


def _text(text: str, longest: int = _LONGEST) -> str:
    """Return a text as it can be drawn: cut where long, with ? for what no font has."""
    missing = _missing(text)
    return _cut("".join("?" if letter in missing else letter for letter in text), longest)


def _cut(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def _missing(text: str) -> set[str]:
    """Return the letters that cannot be drawn; let the figure being drawn use more fonts if they have some."""
    drawn = {letter for letter in text if not letter.isspace()}
    bad = {letter for letter in drawn if unicodedata.category(letter) in ("Cc", "Cf", "Cs")}
    if not hasattr(matplotlib.ft2font, "__libraqm_version__"):  # letters would be drawn apart, from left to right
        bad |= {letter for letter in drawn if unicodedata.bidirectional(letter) in ("R", "AL", "AN")}
    missing = {letter for letter in drawn - bad if ord(letter) not in _letters(_path(_PLAIN))}
    families = list(matplotlib.rcParams["font.family"])
    for name, path in _fonts() if missing else ():
        if found := {letter for letter in missing if ord(letter) in _letters(path)}:
            missing -= found
            families.append(name)
        if not missing:
            break
    matplotlib.rcParams["font.family"] = list(dict.fromkeys(families))
    return bad | missing


@cache
def _path(family: str) -> str:
    return str(font_manager.findfont(family))


@cache
def _fonts() -> list[tuple[str, str]]:
    """Return name and path of the upright fonts there are, one of a name, those for many scripts first."""
    fonts = {
        font.name: font.fname
        for font in reversed(font_manager.fontManager.ttflist)
        if font.style == "normal" and "last resort" not in font.name.lower()  # which has a box for everything
    }
    return sorted(fonts.items(), key=lambda font: (not any(part in font[0].lower() for part in _WIDE), font))[:_FONTS]


@cache
def _letters(path: str) -> Collection[int]:
    """Return the numbers of the letters that a font has; none if it is one of coloured pictures."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _names_below(figure: Figure) -> None:
    """Put one legend for all panels below them, where it hides nothing, in as many columns as fit."""
    for legend in list(figure.legends):
        legend.remove()
    named = {name: drawn for axis in figure.axes for drawn, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    columns = int(figure.get_figwidth() / (0.45 + 0.07 * max(map(len, named), default=1)))  # a mark, and small letters
    figure.legend(
        list(named.values()), list(named), frameon=False, ncols=min(3, max(1, columns)), fontsize="small",
        loc="outside lower center",
    )  # fmt: skip
