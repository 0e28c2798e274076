"""Figures that several chapters draw from records."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from cnnhw import plots
from cnnhw.studies.store import Record

__all__ = ["trained"]


def trained(records: Sequence[Record], classes: Sequence[str] | None = None, title: str = "") -> Figure:
    """Draw curves, confusion matrix and time of one arm's runs; the best epoch is marked if there is one run."""
    return plots.trained(
        [record.history for record in records],
        [record.confusion() for record in records],
        [record.content["seconds"] for record in records],
        classes or (records[0].classes if records else ()),
        best_epoch=records[0].best_epoch if len(records) == 1 else None,
        title=title,
    )
