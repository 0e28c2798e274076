"""The report's experiments once more, on this machine and on any photos, and the table that sets them side by side."""

from __future__ import annotations

import html
import itertools
import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from cnnhw import evaluation, studies
from cnnhw.book import faults, original_report
from cnnhw.book.original_report import Experiment
from cnnhw.errors import UnknownNameError
from cnnhw.studies import measures
from cnnhw.studies.measures import Measure
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Job, Study
from cnnhw.training.recipe import Recipe

__all__ = [
    "TITLES",
    "WORDS",
    "Row",
    "Table",
    "converged",
    "jobs",
    "ours",
    "plan",
    "recall",
    "rows",
    "spread",
    "table",
    "traces",
]

Runs = Mapping[str, tuple[Sequence[Record], int | None]]  # of each experiment, as of `ours`

TITLES = {
    "q1_shallow": "Q1, first network",
    "q1_deep": "Q1, second network",
    "q2_concat_skip": "Q2, concatenated skips",
    "q4_inception": "Q4, Inception modules",
    "q6_from_inception": "Q6, transfer of Q4's network",
    "q6_from_deep": "Q6, transfer of Q1's network",
}
"""What the experiments are, in words."""

_STAND_INS = ("linnaeus5", "tiny5")  # what the first part of the report may be trained on before flowers

_EQUAL = "equal"
_ONE_CLASS = "validated on one class: means nothing"

WORDS: dict[tuple[str, str], str] = {
    ("q1_shallow", "parameters"): _EQUAL,
    ("q1_shallow", "test accuracy"): "photos enlarged from 64 pixels here",
    ("q1_shallow", "seconds of training"): "another machine; one thread here",
    ("q1_deep", "parameters"): _EQUAL,
    ("q1_deep", "test accuracy"): "enlarged photos have less detail for wide kernels",
    ("q1_deep", "seconds of training"): "less than q1_shallow there: fault 12",
    ("q2_concat_skip", "parameters"): "counted from the structure",
    ("q2_concat_skip", "test accuracy"): "raw pixels on both sides: fault 2",
    ("q2_concat_skip", "seconds an epoch"): "compared with the wrong base there: fault 12",
    ("q4_inception", "parameters"): _EQUAL,
    ("q4_inception", "test accuracy"): "raw pixels, half a class missing: faults 1, 2",
    ("q4_inception", "seconds an epoch"): "a GPU there",
    ("q4_inception", "epochs"): "cut to the report's best epoch",
    ("q4_inception", "epoch of best validation accuracy"): _ONE_CLASS,
    ("q4_inception", "epoch of convergence"): _ONE_CLASS,
    ("q6_from_inception", "parameters"): _EQUAL,
    ("q6_from_inception", "test accuracy"): "only the last layer was trained: faults 4, 5",
    ("q6_from_inception", "seconds an epoch"): "kept features here; a GPU there",
    ("q6_from_inception", "trained parameters in stage 1"): _EQUAL,
    ("q6_from_deep", "parameters"): _EQUAL,
    ("q6_from_deep", "test accuracy"): "another random split: fault 11",
    ("q6_from_deep", "test accuracy after stage 1"): "another random split: fault 11",
    ("q6_from_deep", "seconds of training"): "kept features in the head stage here",
    ("q6_from_deep", "trained parameters in stage 1"): _EQUAL,
}


@dataclass(frozen=True)
class Row:
    """One number of the report, and ours."""

    experiment: str
    measure: str
    data: str  # what the report measured it on
    reported: str
    columns: tuple[str, ...]  # what other runs gave, each with the data it was measured on; a dash where there are none

    @property
    def cells(self) -> tuple[str, ...]:
        """The row from left to right."""
        return (self.measure, f"{self.reported} ({self.data})", *self.columns)


@dataclass(frozen=True)
class Table:
    """Rows under a heading, those of an experiment together, shown as text in a terminal and as HTML on a page."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]
    words: Mapping[tuple[str, str], str] = field(default_factory=dict)  # by experiment and measure, in the HTML alone

    def _groups(self) -> Iterator[tuple[str, Iterator[Row]]]:
        return itertools.groupby(self.rows, lambda row: row.experiment)

    def __str__(self) -> str:
        lines = [self.head, *(row.cells for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [_line(self.head, widths)]
        for experiment, rows in self._groups():
            text += ["", experiment, *(_line(row.cells, widths) for row in rows)]
        return "\n".join(text)

    def _repr_html_(self) -> str:
        titles = (*self.head, "A word on it") if self.words else self.head
        head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
        body = []
        for experiment, rows in self._groups():
            name = f"<code>{html.escape(experiment)}</code>"
            name = f"{html.escape(TITLES[experiment])} {name}" if experiment in TITLES else name
            body.append(f'<tr class="group"><th scope="rowgroup" colspan="{len(titles)}">{name}</th></tr>')
            for row in rows:
                word = (self.words.get((experiment, row.measure), ""),) if self.words else ()
                first, *rest = (html.escape(text) for text in (*row.cells, *word))
                body.append(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{text}</td>" for text in rest)}</tr>')
        return (
            '<div class="pst-scrollable-table-container" tabindex="0"><table class="table report-table">'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        )


def plan(data: str, *, target: str = "", quick: bool = False, threads: int | None = None) -> Study:
    """Return the report's experiments as a study on other photos, an arm each; `target` is what it transferred to."""
    target = target or ("flowers" if data in _STAND_INS else data)
    reported = {arm.name: arm for arm in faults.REPORT.arms}
    # the network of Q1 that study q1 holds, and the epochs of Q4 that the book's own run leaves out
    for name, model, like, epochs in (
        ("q1_shallow", "q1_shallow", "q1_deep", 15),
        ("q4_inception", "q4_inception", "q4_inception", 50),
    ):
        (stage,) = reported[like].stages
        recipe = replace(stage.recipe, epochs=epochs)
        reported[name] = replace(reported[like], name=name, model=model, recipe=recipe)
    arms = []
    for name in original_report.names():
        arm = replace(reported[name], seeds=reported[name].seeds[:1], data=target if reported[name].source else "")
        arms.append(_quick(arm) if quick else arm)
    return Study(
        name="reproduce",
        question=f"What do the report's experiments give on {data}?",
        data=data,
        size=64 if quick else 128,
        arms=tuple(arms),
        every_epoch=True,
        threads=threads or os.cpu_count() or 1,
    )


def jobs(study: Study, experiment: str = "all") -> list[Job]:
    """Return the runs of an experiment of `plan`, or of all, in order, those whose weights it needs among them."""
    if experiment not in ("all", *original_report.names()):
        raise UnknownNameError("experiment of the report", experiment, ("all", *original_report.names()))
    found: dict[str, Job] = {}
    for job in study.jobs():
        if experiment in ("all", job.arm.name):
            if job.source:
                found.setdefault(job.source.key, job.source)
            found.setdefault(job.key, job)
    return list(found.values())


def ours(name: str) -> tuple[list[Record], int | None]:
    """Return the book's own runs of an experiment, and the epoch to look at them after, from 1 (None for the last)."""
    arms = {"q1_shallow": ("q1", ["q1_shallow"]), "q1_deep": ("q1", ["q1_deep", "q1_deep_30"])}
    study, wanted = arms.get(name, ("report", [name]))
    return [r for r in studies.records(study) if r.arm in wanted], 13 if name == "q1_deep" else None


def rows(name: str, columns: Sequence[tuple[Sequence[Record], int | None]]) -> list[Row]:
    """Set each of the report's numbers of one experiment beside those of other runs, as of :func:`ours`."""
    experiment = original_report.get(name)
    history = experiment.whole_history()
    shown: dict[str, tuple[str, Any]] = {
        "parameters": (f"{experiment.parameters:,}" if experiment.parameters else "not stated", measures.PARAMETERS),
        "test accuracy": (f"{experiment.test_accuracy:.4g}", _accuracy),
        "share found of each class": (
            _shares(experiment.confusion, experiment.classes),
            lambda found, epoch: _shares(_confusion(found, epoch), found[0].classes),
        ),
        "largest confusion": (
            _largest(experiment.confusion, experiment.classes),
            lambda found, epoch: _largest(_confusion(found, epoch), found[0].classes),
        ),
        "seconds of training": (_seconds(experiment), _SPENT),
        "seconds an epoch": (f"{statistics.median(history['seconds']):.0f}", measures.AN_EPOCH),
        "epochs": (f"{len(history['loss'])}", _EPOCHS),
        "epoch of best validation accuracy": (f"{_best(history['validation_accuracy'])}", _BEST),
        "epoch of convergence": (f"{converged(history['validation_accuracy'])}", _CONVERGED),
    }
    for number, stage in enumerate(experiment.stages[:-1], start=1):
        if stage.test_accuracy is not None:
            shown[f"test accuracy after stage {number}"] = (f"{stage.test_accuracy:.4g}", measures.STAGE_ACCURACY)
        if stage.trainable is not None:
            shown[f"trained parameters in stage {number}"] = (f"{stage.trainable:,}", measures.TRAINABLE)

    def cell(of: Any, found: Sequence[Record], epoch: int | None) -> str:
        if not found:
            return "–"
        text = spread([of(r, epoch) for r in found], of.form) if isinstance(of, Measure) else of(found, epoch)
        return f"{text} ({found[0].content['data']['name']})"

    return [
        Row(name, measure, experiment.dataset, reported, tuple(cell(of, found, epoch) for found, epoch in columns))
        for measure, (reported, of) in shown.items()
    ]


def table(
    columns: Mapping[str, Runs],
    words: Mapping[tuple[str, str], str] | None = None,
) -> Table:
    """Set the report's numbers beside those of other runs; experiments without any run are left out."""
    found = [
        row
        for name in original_report.names()
        if any(column.get(name, ((), None))[0] for column in columns.values())
        for row in rows(name, [column.get(name, ((), None)) for column in columns.values()])
    ]
    return Table(("", "The report", *columns), tuple(found), words or {})


def traces(runs: Runs) -> Table:
    """Set what is odd about the report's numbers beside the same of other runs, and say whether it comes back there."""
    found, epoch = runs["q1_shallow"]
    first = statistics.fmean(one.accuracy(_last(one, epoch)) for one in found)
    lines, words = [], {}
    for trace in _TRACES:
        experiment, (found, epoch) = original_report.get(trace.experiment), runs[trace.experiment]
        reported = original_report.get("q1_shallow").test_accuracy
        there = trace.of(_Side(experiment.whole_history(), experiment.confusion, reported))
        here = [trace.of(_Side(one.history, one.confusion(_last(one, epoch)), first)) for one in found]
        cells = (spread(here, trace.form), "yes" if all(map(trace.odd, here)) else "no")
        lines.append(Row(trace.experiment, trace.what, experiment.dataset, f"{there:{trace.form}}", cells))
        words[trace.experiment, trace.what] = trace.cause
    return Table(("", "The report", "Here", "Comes back?"), tuple(lines), words)


def recall(confusion: torch.Tensor) -> list[float]:
    """Return the share found of each class."""
    counts = confusion.double()
    return (counts.diagonal() / counts.sum(1)).tolist()


def spread(values: Sequence[float], form: str) -> str:
    """Return mean (median of whole numbers) and range in words; the value itself if all are equal."""
    if len(set(values)) == 1:
        return f"{values[0]:{form}}"
    middle = statistics.median(values) if form == "g" else statistics.fmean(values)
    return f"{middle:{form}}, {min(values):{form}} to {max(values):{form}}"


def converged(accuracies: Sequence[float]) -> int:
    """Return the first epoch, from 1, whose accuracy is at most 0.02 below the highest of all."""
    return next(epoch for epoch, value in enumerate(accuracies, start=1) if value >= max(accuracies) - 0.02)


def _quick(arm: Arm) -> Arm:
    def fewer(recipe: Recipe) -> Recipe:
        return replace(recipe, epochs=max(1, recipe.epochs // 5))

    recipe = arm.recipe
    return replace(
        arm,
        recipe=fewer(recipe)
        if isinstance(recipe, Recipe)
        else tuple(replace(stage, recipe=fewer(stage.recipe)) for stage in recipe),
        protocols=(*arm.protocols, "every_fifth"),
        size=100 if arm.model == "q2_concat_skip" else 0,  # which is too deep for smaller photos
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _last(record: Record, epoch: int | None) -> int:
    return epoch or len(record.history["loss"])


def _accuracy(found: Sequence[Record], epoch: int | None) -> str:
    values = [record.accuracy(_last(record, epoch)) for record in found]
    photos = len(found[0].labels)
    low, high = evaluation.wilson_interval(round(statistics.fmean(values) * photos), photos)
    runs = f"{len(values)} runs" if len(values) > 1 else "1 run"
    return f"{spread(values, '.3f')}; {runs}, ±{(high - low) / 2:.3f} for the choice of photos"


def _shares(confusion: torch.Tensor, classes: Sequence[str]) -> str:
    return ", ".join(f"{label} {share:.0%}" for label, share in zip(classes, recall(confusion), strict=True))


def _confusion(found: Sequence[Record], epoch: int | None) -> torch.Tensor:
    return torch.stack([record.confusion(_last(record, epoch)) for record in found]).double().mean(0)


def _largest(confusion: torch.Tensor, classes: Sequence[str]) -> str:
    shares = confusion.double() / confusion.sum(1, keepdim=True)
    shares.fill_diagonal_(0)
    true, predicted = divmod(int(shares.argmax()), len(classes))
    return f"{shares[true, predicted]:.0%} of {classes[true]} as {classes[predicted]}"


def _seconds(experiment: Experiment) -> str:
    return f"{experiment.seconds or sum(experiment.whole_history()['seconds']):,.0f}"


def _best(accuracies: Sequence[float]) -> int:
    return 1 + accuracies.index(max(accuracies))


_SPENT = Measure("seconds of training", "s", 1.0, lambda run, epoch: sum(run.history["seconds"][:epoch]), form=",.0f")
_EPOCHS = Measure("epochs", "epochs", 1.0, _last, form="g")
_BEST = Measure("best", "epochs", 1.0, lambda run, epoch: _best(run.history["validation_accuracy"][:epoch]), form="g")
_CONVERGED = Measure(
    "converged", "epochs", 1.0, lambda run, epoch: converged(run.history["validation_accuracy"][:epoch]), form="g"
)


@dataclass(frozen=True)
class _Side:
    """A run's figures that the report has, too, with the accuracy of Q1's first network on the same side."""

    history: Mapping[str, Sequence[float]]
    confusion: torch.Tensor
    first: float

    def start(self) -> float:
        """Return the mean training loss of the first epoch, in nats."""
        return self.history["loss"][0]

    def behind(self) -> float:
        """Return how far the accuracy is behind that of Q1's first network, in points."""
        return 100 * (self.first - float(self.confusion.trace() / self.confusion.sum()))

    def lowest(self) -> float:
        """Return the lowest validation accuracy of all epochs."""
        return min(self.history["validation_accuracy"])

    def last_class(self) -> float:
        """Return the share found of the last class minus the lowest of the others, in points."""
        *others, last = recall(self.confusion)
        return 100 * (last - min(others))

    def left(self) -> float:
        """Return the last training loss as a share of that after the head stage of Q6's first transfer."""
        before = original_report.get("q6_from_inception").stages[0].epochs
        return self.history["loss"][-1] / self.history["loss"][before - 1]


@dataclass(frozen=True)
class _Trace:
    """Something odd about an experiment: a figure, the rule by which it is odd, and the fault that makes it so."""

    experiment: str
    what: str
    of: Callable[[_Side], float]
    odd: Callable[[float], bool]
    form: str
    cause: str


_HIGH = 2 * math.log(5)  # nats: twice what guessing among five classes costs
_START = f"mean loss of the first epoch; odd above {_HIGH:.2f}"
_BEHIND = "points behind Q1's first network; odd above 10"
_TRACES = (
    _Trace("q2_concat_skip", _START, _Side.start, lambda loss: loss > _HIGH, ".1f", "raw pixels: fault 2"),
    _Trace("q2_concat_skip", _BEHIND, _Side.behind, lambda gap: gap > 10, ".1f", "raw pixels: fault 2"),
    _Trace("q4_inception", _START, _Side.start, lambda loss: loss > _HIGH, ".1f", "raw pixels: fault 2"),
    _Trace(
        "q4_inception", "lowest validation accuracy; odd below 0.2, which is guessing",
        _Side.lowest, lambda share: share < 0.2, ".2f", "validated on one class: fault 1",
    ),
    _Trace(
        "q4_inception", "share found of the last class minus the lowest of the others, points; odd below 0",
        _Side.last_class, lambda points: points < 0, "+.0f", "half of its photos held out: fault 1",
    ),
    _Trace("q4_inception", _BEHIND, _Side.behind, lambda gap: gap > 10, ".1f", "no fault that these runs share"),
    _Trace(
        "q6_from_inception", "training loss after the second stage, divided by that before it; odd above 0.8",
        _Side.left, lambda share: share > 0.8, ".2f", "only the last layer was trained: fault 4",
    ),
)  # fmt: skip
