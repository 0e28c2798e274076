"""Roles that render figures from records and from the original report.

``:record:`q1/q1_shallow accuracy``` renders a mean over the recorded runs with their number and range;
``:paired:`faults/raw sound``` renders the difference of two arms' test accuracy with its interval;
``:reported:`q1_shallow test_accuracy``` renders a number of the report; ``:bench:`share q1_deep convolution``` one of
the benchmark (:func:`cnnhw.book.benchmarks.stated`). Of an arm of the book that has no records, ``:record:`` says that
it is not run yet; what does not exist is a warning, and so an error of the build. Pages need not note on which of a
thousand records they depend: when any changes, so does the stamp (`cnnhw_docs.stamp`), and all are read again.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole
from sphinx.util.typing import ExtensionMetadata

from cnnhw import studies
from cnnhw.book import benchmarks, original_report, registry
from cnnhw.errors import CnnhwError
from cnnhw.studies.statistics import of_arms
from cnnhw.studies.store import Record


def render(text: str, found: Sequence[Record]) -> tuple[str, str]:
    """Render what a ``:record:`` role asks for."""
    try:
        place, *what = text.split()
        study, arms = place.split("/")
        name, _, at = " ".join(what).partition("@")
    except ValueError:
        name = ""
    if not name:
        raise ValueError(f"{text!r} is not of the form 'study/arm measure'")
    if name not in registry.MEASURES:
        raise ValueError(f"unknown measure {name!r}; there are {', '.join(registry.MEASURES)}")
    measure = registry.MEASURES[name]
    wanted = arms.split("+")
    known = {record.arm for record in found if record.study == study}
    missing = [arm for arm in wanted if arm not in known]
    if missing and study in registry.names() and {*missing} <= {arm.name for arm in registry.get(study).arms}:
        return "not run yet", f"study {study}, {', '.join(missing)}"
    if not known:
        there = ", ".join(sorted({record.study for record in found})) or "none"
        raise ValueError(f"there are no records of study {study!r}; there are of {there}")
    if missing:
        raise ValueError(f"study {study!r} has no records of {', '.join(missing)}; it has {', '.join(sorted(known))}")
    chosen = [record for record in found if record.study == study and record.arm in wanted]
    try:
        values = [measure(record, int(at) if at else None) for record in chosen]
    except (KeyError, IndexError, CnnhwError):
        raise ValueError(f"not all runs of {arms} have {name} after epoch {at or 'the last'}") from None
    except ValueError:
        raise ValueError(f"{at!r} is not the number of an epoch") from None
    form = measure.form
    origin = f"study {study}, " + ", ".join(f"{record.arm} seed {record.seed}" for record in chosen)
    if len(set(values)) == 1 and measure.unit == "parameters":
        return f"{values[0]:{form}}", origin
    if len(values) == 1:
        return f"{values[0]:{form}} (one run)", origin
    middle, word = (statistics.median(values), "median") if form == "g" else (statistics.fmean(values), "mean")
    return f"{middle:{form}} ({word} of {len(values)} runs, from {min(values):{form}} to {max(values):{form}})", origin


def render_paired(text: str, found: Sequence[Record]) -> tuple[str, str]:
    """Render what a ``:paired:`` role asks for: the difference of two arms in test accuracy, the same seeds paired."""
    try:
        place, rest = text.split()
        study, first = place.split("/")
    except ValueError:
        raise ValueError(f"{text!r} is not of the form 'study/arm arm'") from None
    second, _, at = rest.partition("@")
    try:
        effect = of_arms([r for r in found if r.study == study], first, second, int(at) if at else None)
    except (CnnhwError, KeyError) as error:
        raise ValueError(f"{text!r}: {error}") from None
    low, high = (100 * end for end in effect.interval())
    return (
        f"{100 * effect.effect:+z.1f} points ({low:+z.1f} to {high:+z.1f}, {effect.seeds} seeds)",
        f"study {study}, {first} minus {second}, 95 % interval, seeds and test photos paired",
    )


def render_reported(text: str) -> str:
    """Render what a ``:reported:`` role asks for: an experiment and one of its fields."""
    try:
        name, field = text.split()
        experiment = original_report.get(name)
        values: dict[str, tuple[Any, str]] = {
            "test_accuracy": (experiment.test_accuracy, ".4g"),
            "parameters": (experiment.parameters, ",d"),
            "epochs": (experiment.epochs, "d"),
            "first_epoch_loss": (experiment.whole_history()["loss"][0], ".1f"),
            "lowest_validation": (min(experiment.whole_history()["validation_accuracy"]), ".3f"),
            "highest_validation": (max(experiment.whole_history()["validation_accuracy"]), ".3f"),
            "last_loss": (experiment.whole_history()["loss"][-1], ".4f"),
            "head_loss": (experiment.stages[0].history["loss"][-1] if experiment.stages else None, ".4f"),
            "seconds": (experiment.seconds, ",.0f"),
            "minutes": (None if experiment.seconds is None else experiment.seconds / 60, ".1f"),
        }
        value, form = values[field]
    except (ValueError, KeyError, CnnhwError) as error:
        raise ValueError(f"the report has no {text!r} ({error})") from None
    if value is None:
        raise ValueError(f"the report does not state {text!r}")
    return f"{value:{form}}"


@functools.cache
def every() -> list[Record]:
    """Return all records, read once a build: pages ask for them hundreds of times."""
    return studies.records()


class RecordRole(SphinxRole):
    """``:record:``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = [record for record in every() if record.study == self.text.partition("/")[0]] or every()
        try:
            text, origin = render(self.text, found)
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":record: {error}", line=self.lineno)]
        return [nodes.abbreviation(self.rawtext, text, explanation=origin, classes=["record"])], []


class PairedRole(SphinxRole):
    """``:paired:``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = [record for record in every() if record.study == self.text.partition("/")[0]] or every()
        try:
            text, origin = render_paired(self.text, found)
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":paired: {error}", line=self.lineno)]
        return [nodes.abbreviation(self.rawtext, text, explanation=origin, classes=["record"])], []


class ReportedRole(SphinxRole):
    """``:reported:``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            text = render_reported(self.text)
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":reported: {error}", line=self.lineno)]
        return [nodes.inline(self.rawtext, text, classes=["reported"])], []


class BenchRole(SphinxRole):
    """``:bench:``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            result = benchmarks.record()
            text = benchmarks.stated(" ".join(self.text.split()), result)
        except (CnnhwError, ValueError) as error:
            return [], [self.inliner.reporter.warning(f":bench: {error}", line=self.lineno)]
        origin = f"benchmark of {result['date'][:10]}, {result['machine']['processor']}: {self.text}"
        return [nodes.abbreviation(self.rawtext, text, explanation=origin, classes=["record"])], []


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the roles."""
    app.add_role("record", RecordRole())
    app.add_role("paired", PairedRole())
    app.add_role("reported", ReportedRole())
    app.add_role("bench", BenchRole())
    app.connect("builder-inited", lambda _: every.cache_clear())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
