"""Roles that render figures from records and from the original report, and the provenance box.

``:record:`q1/q1_shallow accuracy``` renders a mean over the recorded runs with their number and range;
``:reported:`q1_shallow test_accuracy``` renders a number of the report. What does not exist is a warning, and so an
error of the build.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

from cnnhw import report, studies
from cnnhw.errors import CnnhwError
from cnnhw.studies import Record

Measure = Callable[[Record, int | None], float]

MEASURES: dict[str, tuple[Measure, str]] = {
    "accuracy": (lambda r, epoch: r.accuracy(epoch), ".3f"),
    "validation": (lambda r, epoch: r.history["validation_accuracy"][(epoch or r.best_epoch) - 1], ".3f"),
    "gap": (lambda r, epoch: _at_end(r, "accuracy", epoch) - _at_end(r, "validation_accuracy", epoch), ".3f"),
    "best_epoch": (lambda r, _: r.best_epoch, ".0f"),
    "lowest_loss": (lambda r, _: 1 + r.history["validation_loss"].index(min(r.history["validation_loss"])), ".0f"),
    "minutes": (lambda r, _: r.content["seconds"] / 60, ".1f"),
    "photos_per_second": (
        lambda r, _: r.content["data"]["photos"]["train"] * len(r.history["seconds"]) / r.content["seconds"],
        ".0f",
    ),
    "parameters": (lambda r, _: r.content["parameters"], ",.0f"),
}


def _at_end(record: Record, name: str, epoch: int | None) -> float:
    return record.history[name][epoch - 1 if epoch else -1]


def render(text: str, found: Sequence[Record]) -> tuple[str, str]:
    """Render what a ``:record:`` role asks for.

    Parameters
    ----------
    text : str
        ``study/arm measure``, ``study/arm+arm measure@epoch``.
    found : sequence of Record
        All records.

    Returns
    -------
    tuple of str
        The figure with number and range of the runs, and what it was computed from.

    Raises
    ------
    ValueError
        If the study, an arm, the measure or the epoch does not exist; the message says what does.
    """
    try:
        place, what = text.split()
        study, arms = place.split("/")
    except ValueError:
        raise ValueError(f"{text!r} is not of the form 'study/arm measure'") from None
    measure, _, at = what.partition("@")
    if measure not in MEASURES:
        raise ValueError(f"unknown measure {measure!r}; there are {', '.join(MEASURES)}")
    wanted = arms.split("+")
    known = {record.arm for record in found if record.study == study}
    if missing := [arm for arm in wanted if arm not in known]:
        raise ValueError(f"study {study!r} has no records of {', '.join(missing)}; it has {', '.join(sorted(known))}")
    chosen = [record for record in found if record.study == study and record.arm in wanted]
    function, form = MEASURES[measure]
    try:
        values = [function(record, int(at) if at else None) for record in chosen]
    except (KeyError, IndexError):
        raise ValueError(f"not all runs of {arms} have predictions after epoch {at}") from None
    origin = f"study {study}, " + ", ".join(f"{record.arm} seed {record.seed}" for record in chosen)
    if len(set(values)) == 1 and measure == "parameters":
        return f"{values[0]:{form}}", origin
    if len(values) == 1:
        return f"{values[0]:{form}} (one run)", origin
    middle, word = (
        (statistics.median(values), "median")
        if form == ".0f" and measure != "photos_per_second"
        else (statistics.fmean(values), "mean")
    )
    return f"{middle:{form}} ({word} of {len(values)} runs, {min(values):{form}} to {max(values):{form}})", origin


def render_reported(text: str) -> str:
    """Render what a ``:reported:`` role asks for: an experiment and one of its fields.

    Raises
    ------
    ValueError
        If there is no such experiment or field.
    """
    try:
        name, field = text.split()
        experiment = report.get(name)
        values: dict[str, tuple[Any, str]] = {
            "test_accuracy": (experiment.test_accuracy, ".3f"),
            "parameters": (experiment.parameters, ",d"),
            "epochs": (experiment.epochs, "d"),
            "minutes": (None if experiment.seconds is None else experiment.seconds / 60, ".1f"),
        }
        value, form = values[field]
    except (ValueError, KeyError, CnnhwError) as error:
        raise ValueError(f"the report has no {text!r} ({error})") from None
    if value is None:
        raise ValueError(f"the report does not state {text!r}")
    return f"{value:{form}}"


class RecordRole(SphinxRole):
    """``:record:``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = studies.records()
        for record in found:
            self.env.note_dependency(str(record.path))
        try:
            text, origin = render(self.text, found)
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":record: {error}", line=self.lineno)]
        return [nodes.abbreviation(self.rawtext, text, explanation=origin, classes=["record"])], []


class ReportedRole(SphinxRole):
    """``:reported:``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            text = render_reported(self.text)
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":reported: {error}", line=self.lineno)]
        return [nodes.inline(self.rawtext, text, classes=["reported"])], []


class Provenance(SphinxDirective):
    """``.. provenance:: STUDY``: the box that says what a page's figures come from."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        found = [record for record in studies.records() if record.study == self.arguments[0]]
        if not found:
            return [self.state.document.reporter.warning(f"no records of {self.arguments[0]!r}", line=self.lineno)]
        box = nodes.admonition(classes=["provenance"])
        box += nodes.title("", "Where the figures come from")
        items = nodes.field_list()
        for name, text in provenance(found).items():
            item = nodes.field()
            item += nodes.field_name("", name)
            item += nodes.field_body("", nodes.paragraph("", text))
            items += item
        box += items
        return [box]


def provenance(found: Sequence[Record]) -> dict[str, str]:
    """Return the lines of the provenance box for the records of one study."""
    study = studies.get(found[0].study)
    contents = [record.content for record in found]
    data = contents[0]["data"]
    counts = ", ".join(f"{count:,} {part}" for part, count in data["photos"].items())
    runs = []
    for arm in study.arms:
        done = [record.seed for record in found if record.arm == arm.name]
        runs.append(f"{arm.name}: {len(done)} of {len(arm.seeds)} planned, seeds {', '.join(map(str, done)) or 'none'}")
    earlier = sum(not record.measured_with_present_code() for record in found)
    dates = sorted(content["date"][:10] for content in contents)
    return {
        "Study": f"{study.name}. {study.question}",
        "Data": f"{data['name']}, {study.size} pixels, fingerprint {data['fingerprint']}: {counts}. {data['note']}",
        "Runs": "; ".join(runs),
        "Machine": "; ".join(
            sorted({f"{content['processor']}, {content['threads']} thread a run" for content in contents})
        ),
        "Versions": "; ".join(
            sorted({", ".join(f"{k} {v}" for k, v in content["versions"].items()) for content in contents})
        ),
        "When": " to ".join(dict.fromkeys((dates[0], dates[-1]))),
        "Training time": f"{sum(content['seconds'] for content in contents) / 3600:.1f} hours in all",
        "Code": (
            f"{earlier} of {len(found)} runs were measured with an earlier version of the code."
            if earlier
            else "All runs were measured with the present version of the code."
        ),
        "Reduced": "Yes: not all planned runs are there." if len(found) < len(study.jobs()) else "No.",
    }


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register roles and directive."""
    app.add_role("record", RecordRole())
    app.add_role("reported", ReportedRole())
    app.add_directive("provenance", Provenance)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
