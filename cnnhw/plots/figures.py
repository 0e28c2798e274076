"""Colours, an empty figure, and saving of figures."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from cnnhw import files

__all__ = ["COLOURS", "Svg", "save"]

# Okabe and Ito's palette: told apart by readers with any kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


class Svg(str):
    """The text of an SVG picture, shown as a picture in notebooks and on pages."""

    def _repr_html_(self) -> str:
        return f'<div class="diagram">{self}</div>'


def save(figure: Figure, path: str | Path, dpi: int = 110) -> None:
    """Write a figure to a PNG file, whole or not at all, and close it."""
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
    plt.close(figure)


def _figure(width: float, height: float, title: str) -> Figure:
    figure = plt.figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, parse_math=False)  # names of files and classes may hold dollars
    return figure
