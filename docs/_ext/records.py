"""Roles that render figures from records and from the original report, and the provenance box.

``:record:`q1/q1_shallow accuracy``` renders a mean over the recorded runs with their number and range;
``:paired:`faults/raw sound``` renders the difference of two arms' test accuracy with its interval;
``:reported:`q1_shallow test_accuracy``` renders a number of the report. What does not exist is a warning, and so an
error of the build.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

from cnnhw import studies, system
from cnnhw.book import benchmarks, original_report, registry
from cnnhw.errors import CnnhwError
from cnnhw.studies.statistics import of_arms
from cnnhw.studies.store import Record

Measure = Callable[[Record, int | None], float]

MEASURES: dict[str, tuple[Measure, str]] = {
    "accuracy": (lambda r, epoch: r.accuracy(epoch), ".3f"),
    "last": (lambda r, _: r.accuracy(len(r.history["loss"])), ".3f"),
    "validation": (lambda r, epoch: r.history["validation_accuracy"][(epoch or r.best_epoch) - 1], ".3f"),
    "gap": (lambda r, epoch: _at_end(r, "accuracy", epoch) - _at_end(r, "validation_accuracy", epoch), ".3f"),
    "best_epoch": (lambda r, _: r.best_epoch, "g"),
    "lowest_loss": (lambda r, _: 1 + r.history["validation_loss"].index(min(r.history["validation_loss"])), "g"),
    "seconds": (lambda r, _: r.content["seconds"], ",.0f"),
    "minutes": (lambda r, _: r.content["seconds"] / 60, ".1f"),
    "photos_per_second": (
        lambda r, _: r.content["data"]["photos"]["train"] * len(r.history["seconds"]) / r.content["seconds"],
        ".0f",
    ),
    "parameters": (lambda r, _: r.content["parameters"], ",.0f"),
    "loss": (lambda r, epoch: _at_end(r, "loss", epoch), ".2f"),
    "first_loss": (lambda r, _: r.content["first_losses"][0], ",.1f"),
    "highest_first_loss": (lambda r, _: max(r.content["first_losses"]), ",.0f"),
    "lowest_validation": (lambda r, _: min(r.history["validation_accuracy"]), ".3f"),
    "highest_validation": (lambda r, _: max(r.history["validation_accuracy"]), ".3f"),
    "training": (lambda r, epoch: _at_end(r, "accuracy", epoch), ".3f"),
    "seconds_an_epoch": (lambda r, _: statistics.median(r.history["seconds"]), ".2f"),
    "stage_accuracy": (lambda r, _: r.accuracy(r.stages[0]["best_epoch"]), ".3f"),
    "milliseconds": (lambda r, _: r.content["measures"]["CPU milliseconds a photo"], ".2f"),
    "trainable": (lambda r, _: r.stages[0]["trainable"], ",.0f"),
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
    if not known:
        there = ", ".join(sorted({record.study for record in found})) or "none"
        raise ValueError(f"there are no records of study {study!r}; there are of {there}")
    if missing := [arm for arm in wanted if arm not in known]:
        raise ValueError(f"study {study!r} has no records of {', '.join(missing)}; it has {', '.join(sorted(known))}")
    chosen = [record for record in found if record.study == study and record.arm in wanted]
    function, form = MEASURES[measure]
    try:
        values = [function(record, int(at) if at else None) for record in chosen]
    except (KeyError, IndexError):
        raise ValueError(f"not all runs of {arms} have {measure} after epoch {at or 'the last'}") from None
    except ValueError:
        raise ValueError(f"{at!r} is not the number of an epoch") from None
    origin = f"study {study}, " + ", ".join(f"{record.arm} seed {record.seed}" for record in chosen)
    if len(set(values)) == 1 and measure in ("parameters", "trainable"):
        return f"{values[0]:{form}}", origin
    if len(values) == 1:
        return f"{values[0]:{form}} (one run)", origin
    counted = measure in ("best_epoch", "lowest_loss")
    middle, word = (statistics.median(values), "median") if counted else (statistics.fmean(values), "mean")
    return f"{middle:{form}} ({word} of {len(values)} runs, {min(values):{form}} to {max(values):{form}})", origin


def render_paired(text: str, found: Sequence[Record]) -> tuple[str, str]:
    """Render what a ``:paired:`` role asks for: the difference of two arms in test accuracy, the same seeds paired.

    Parameters
    ----------
    text : str
        ``study/arm arm`` or ``study/arm arm@epoch``: the first minus the second.
    found : sequence of Record
        All records.

    Returns
    -------
    tuple of str
        The difference in points with its interval and the number of seeds, and what it was computed from.

    Raises
    ------
    ValueError
        If the study or an arm does not exist, or the arms cannot be compared.
    """
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
        f"{100 * effect.effect:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, {effect.seeds} seeds)",
        f"study {study}, {first} minus {second}, seeds and test photos paired",
    )


def render_reported(text: str) -> str:
    """Render what a ``:reported:`` role asks for: an experiment and one of its fields.

    Raises
    ------
    ValueError
        If there is no such experiment or field.
    """
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
        for record in found:
            self.env.note_dependency(str(record.path))
        try:
            text, origin = render(self.text, found)
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":record: {error}", line=self.lineno)]
        return [nodes.abbreviation(self.rawtext, text, explanation=origin, classes=["record"])], []


class PairedRole(SphinxRole):
    """``:paired:``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = [record for record in every() if record.study == self.text.partition("/")[0]] or every()
        for record in found:
            self.env.note_dependency(str(record.path))
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


class Provenance(SphinxDirective):
    """``.. provenance:: STUDY``: the box that says what a page's figures come from.

    ``.. provenance:: live`` is the box of what a page computes while the site is built, ``.. provenance:: bench`` that
    of the benchmark.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "live":
            title, lines = "What was computed for this page", live_provenance()
        elif self.arguments[0] == "bench":
            title, lines = "Where the benchmark comes from", bench_provenance(benchmarks.record())
        else:
            found = [record for record in every() if record.study == self.arguments[0]]
            if not found:
                return [self.state.document.reporter.warning(f"no records of {self.arguments[0]!r}", line=self.lineno)]
            for record in found:
                self.env.note_dependency(str(record.path))
            title, lines = "Where the figures come from", provenance(found)
        box = nodes.admonition(classes=["provenance"])
        box += nodes.title("", title)
        items = nodes.field_list()
        for name, text in lines.items():
            item = nodes.field()
            item += nodes.field_name("", name)
            item += nodes.field_body("", nodes.paragraph("", text))
            items += item
        box += items
        return [box]


def provenance(found: Sequence[Record]) -> dict[str, str]:
    """Return the lines of the provenance box for the records of one study."""
    study = registry.get(found[0].study)
    contents = [record.content for record in found]
    sets: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for content in contents:
        data = content["data"]
        sets.setdefault((data["name"], content["configuration"]["size"]), {})[data["fingerprint"]] = data
    arms = []
    for arm in study.arms:
        done = [record.seed for record in found if record.arm == arm.name]
        seeds = f", seed{'s' if len(done) > 1 else ''} {', '.join(map(str, done))}" if done else ""
        arms.append(f"{arm.name}: {len(done)} of {len(arm.seeds)} planned{seeds}")
    earlier = study.earlier(found)
    repeated = sum(record.repeated for record in found if record not in earlier)
    dates = sorted(content["date"][:10] for content in contents)
    return {
        "Study": f"{study.name}. {study.question}",
        "Data": "; ".join(_photos(name, size, splits) for (name, size), splits in sets.items()),
        "Runs": "; ".join(arms),
        "Machine": "; ".join(
            sorted({f"{content['processor']}, {content['threads']} thread a run" for content in contents})
        ),
        "Versions": "; ".join(
            sorted({", ".join(f"{k} {v}" for k, v in content["versions"].items()) for content in contents})
        ),
        "When": " to ".join(dict.fromkeys((dates[0], dates[-1]))),
        "Training time": f"{sum(content['seconds'] for content in contents) / 3600:.1f} hours in all",
        "Code": (
            f"The present code matches {len(found) - len(earlier)} of {len(found)} runs"
            + (f"; an earlier version measured {repeated} of them, and one run an arm was repeated" if repeated else "")
            + "."
        ),
        "Reduced": "Yes: not all planned runs are there." if len(found) < len(study.jobs()) else "No.",
    }


def _photos(name: str, size: int, splits: dict[str, dict[str, Any]]) -> str:
    """Describe one data set at one size, which may have been split in several ways."""
    data = next(iter(splits.values()))
    counts = ", ".join(f"{count:,} {part}" for part, count in data["photos"].items())
    which = f"fingerprint {data['fingerprint']}" if len(splits) == 1 else f"{len(splits)} splits"
    return f"{name}, {size} pixels, {which}: {counts}. {data['note']}".rstrip(". ")


def bench_provenance(result: dict[str, Any]) -> dict[str, str]:
    """Return the lines of the provenance box of the benchmark."""
    machine = result["machine"]
    keras = next(row["versions"] for row in result["throughput"] if row["side"] == "keras")
    versions = machine["versions"] | keras
    return {
        "Data": ", ".join(f"{name} ({count:,} photos to train on)" for name, count in result["photos"].items())
        + "; noise, where only speed is measured.",
        "Machine": f"{machine['processor']}, {machine['threads']} threads, {machine['memory_gb']} GB of memory",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "When": result["date"][:10],
        "Samples": f"{result['seconds']:g} seconds each, in turns; the recipe in Keras was trained once.",
        "Measure again": "python tests/benchmarks/bench.py --data tiny5 --data flowers --retrain --json bench.json",
    }


def live_provenance() -> dict[str, str]:
    """Return the lines of the provenance box of what is computed while the site is built."""
    threads = torch.get_num_threads()
    return {
        "Data": "scenes, drawn by the package; photographs only where the page names them.",
        "Machine": f"{system.processor()}, {threads} thread{'s' if threads > 1 else ''}",
        "Versions": ", ".join(f"{name} {version}" for name, version in system.versions().items()),
        "When": "whenever the package, the records, or a library has changed since the last build",
        "Reduced": "Yes: what runs in seconds shows how something is done, and not how well it can be done.",
    }


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register roles and directive."""
    app.add_role("record", RecordRole())
    app.add_role("paired", PairedRole())
    app.add_role("reported", ReportedRole())
    app.add_directive("provenance", Provenance)
    app.connect("builder-inited", lambda _: every.cache_clear())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
