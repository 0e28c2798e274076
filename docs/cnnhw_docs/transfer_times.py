"""``.. transfer-times::``: how long ways to a classifier of flowers take until they are as accurate as the report's.

The seconds are those of the benchmark's record, and so is the figure of all its curves.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from cnnhw import plots
from cnnhw.book import benchmarks
from cnnhw_docs.label_audit import table
from cnnhw_docs.live import compact

_FIGURE = "_static/generated/transfer-times.png"
_HEAD = ("Way", "Runs", "Seconds (median, lowest to highest)", "Accuracy at the end (mean)")
_STAGES = {"source": "of the source", "head": "of the head", "all": "of all layers"}
Curves = dict[str, list[list[tuple[float, float]]]]


def curves(result: Mapping[str, Any]) -> Curves:
    """Return the curves of (seconds, test accuracy) of a benchmark's ways, by their names."""
    found: Curves = {}
    for row in result["transfer"]:
        found.setdefault(_name(row), []).append([tuple(point) for point in row["curve"]])
    return found


def _name(row: Mapping[str, Any]) -> str:
    if row["side"] == "cnnhw":
        return f"from scratch: {row['setting']}"
    epochs = Counter(row["stages"])
    return "the report's, in Keras: epochs " + ", ".join(f"{epochs[one]} {of}" for one, of in _STAGES.items())


def rows(found: Curves, level: float) -> list[tuple[str, ...]]:
    """Return the lines of the table: the seconds until a level, and the accuracy that a way ends with."""
    lines = []
    for name, runs in found.items():
        times = benchmarks.times_to(level, runs)
        ends = [run[-1][1] for run in runs]
        low, middle, high = times[0], statistics.median_high(times), times[-1]
        spread = f" ({_seconds(low)} to {_seconds(high)})" if len(runs) > 1 else ""
        lines.append((name, str(len(runs)), f"{_seconds(middle)}{spread}", f"{statistics.fmean(ends):.3f}"))
    return lines


def _seconds(value: float) -> str:
    if math.isinf(value):
        return "not reached"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


class TransferTimes(SphinxDirective):
    """``.. transfer-times::``."""

    def run(self) -> list[nodes.Node]:
        found = curves(benchmarks.record())
        figure = plots.time_to_accuracy(
            {name.partition(": epochs")[0]: runs for name, runs in found.items()},
            [benchmarks.FLOWERS],
            "Accuracy on flowers against seconds of training",
        )
        path = Path(self.env.srcdir) / _FIGURE
        path.parent.mkdir(parents=True, exist_ok=True)
        plots.save(figure, path)
        shown = compact(path).relative_to(self.env.srcdir)
        path.unlink()
        image = nodes.image(uri=f"/{shown.as_posix()}", alt=str(figure.get_label()), classes=["sheet", "chart"])
        return [table(_HEAD, rows(found, benchmarks.FLOWERS)), nodes.container("", image, classes=["sheet-frame"])]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("transfer-times", TransferTimes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
