"""Figures: all functions return a matplotlib figure, or SVG text."""

from __future__ import annotations

from cnnhw.plots.charts import (
    accuracy_by_epoch,
    against,
    bars,
    confusion,
    curves,
    forest,
    lines,
    panels,
    per_class,
    plane,
    reliability,
    scaling,
    shares,
    strip,
    time_to_accuracy,
    trained,
)
from cnnhw.plots.diagram import diagram
from cnnhw.plots.figures import COLOURS, Svg, save
from cnnhw.plots.images import contact_sheet, feature_maps, filters, maps, receptive_fields

__all__ = [
    "COLOURS",
    "Svg",
    "accuracy_by_epoch",
    "against",
    "bars",
    "confusion",
    "contact_sheet",
    "curves",
    "diagram",
    "feature_maps",
    "filters",
    "forest",
    "lines",
    "maps",
    "panels",
    "per_class",
    "plane",
    "receptive_fields",
    "reliability",
    "save",
    "scaling",
    "shares",
    "strip",
    "time_to_accuracy",
    "trained",
]
