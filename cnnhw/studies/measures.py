"""Measures: figures that are read off records, each with its name, unit, scale and number format.

What any study has is here; what only one chapter measures is in its file.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cnnhw.errors import CnnhwError, UnknownNameError
from cnnhw.studies.statistics import Comparison, compare, correct, of_values
from cnnhw.studies.store import Record

__all__ = [
    "ACCURACY",
    "AN_EPOCH",
    "LOSS_AREA",
    "MEASURES",
    "PARAMETERS",
    "SECONDS",
    "STAGE_ACCURACY",
    "TRAINABLE",
    "Measure",
    "measured",
]


@dataclass(frozen=True)
class Measure:
    """A figure of one run, which pages show and questions are asked about.

    - ``name`` (str): what it is called.
    - ``unit`` (str): the unit of its differences on a page.
    - ``scale`` (float): what they are multiplied by there.
    - ``function`` (callable): reads it off a record, after an epoch (from 1) or, of None, of the whole run; call the
      measure instead.
    - ``form`` (str): how a figure is written, not scaled: a format specification. Of what has ``"g"`` pages give
      medians.
    - ``digits`` (int): the digits of a difference behind the point.
    - ``by_photo`` (bool): whether two arms are compared photo by photo, as only an accuracy on the same test photos can
      be.

    Examples
    --------
    >>> from cnnhw import studies
    >>> record = studies.records("q1")[0]
    >>> ACCURACY(record) == record.accuracy()
    True
    """

    name: str
    unit: str
    scale: float
    function: Callable[[Record, int | None], float] = field(repr=False)
    form: str = ".3f"
    digits: int = 1
    by_photo: bool = False

    def __call__(self, record: Record, epoch: int | None = None) -> float:
        """Return the figure of a run, for some measures after `epoch`, from 1."""
        return self.function(record, epoch)

    def compare(self, first: Sequence[Record], second: Sequence[Record]) -> Comparison:
        """Return the effect of an arm over another, whose runs have the same seeds in the same order."""
        if self.by_photo:
            both = correct([*first, *second])
            return compare(both[: len(first)], both[len(first) :])
        return of_values([self(record) for record in first], [self(record) for record in second])


def measured(name: str, unit: str = "points", scale: float = 100.0, form: str = ".3f", digits: int = 1) -> Measure:
    """Return the measure of a figure that a study measures on its trained networks; by default of a share."""

    def figure(record: Record, epoch: int | None) -> float:
        known = record.content.get("measures", {})
        if name not in known:
            raise UnknownNameError("measure", name, known)
        if not isinstance(known[name], int | float):
            raise CnnhwError(f"{record.study}: {name} is not a single figure")
        return float(known[name])

    return Measure(name, unit, scale, figure, form, digits)


def _at(name: str, run: Record, epoch: int | None) -> float:
    return run.history[name][epoch - 1 if epoch else -1]


def _lowest(values: Sequence[float]) -> int:
    return 1 + values.index(min(values))


ACCURACY = Measure("accuracy", "points", 100.0, lambda run, epoch: run.accuracy(epoch), by_photo=True)
LOSS_AREA = Measure("loss area", "nats", 1.0, lambda run, _: statistics.fmean(run.history["loss"]), digits=3)
SECONDS = Measure("seconds", "s", 1.0, lambda run, _: run.content["seconds"], form=",.0f")
MINUTES = Measure("minutes", "min", 1.0, lambda run, _: run.content["seconds"] / 60, form=".1f")
AN_EPOCH = Measure("seconds_an_epoch", "s", 1.0, lambda run, _: statistics.median(run.history["seconds"]), form=".3g")
PARAMETERS = Measure("parameters", "parameters", 1.0, lambda run, _: run.content["parameters"], form=",")
TRAINABLE = Measure("trainable", "parameters", 1.0, lambda run, _: run.stages[0]["trainable"], form=",")
_SHARE = ("points", 100.0)
_LOSS = ("nats", 1.0)
_EPOCH = ("epochs", 1.0)

# after a transfer's first stage
STAGE_ACCURACY = Measure("stage_accuracy", *_SHARE, lambda run, _: run.accuracy(run.stages[0]["best_epoch"]))

MEASURES = {
    measure.name: measure
    for measure in (
        ACCURACY,
        LOSS_AREA,
        SECONDS,
        MINUTES,
        AN_EPOCH,
        PARAMETERS,
        TRAINABLE,
        STAGE_ACCURACY,
        Measure("last", *_SHARE, lambda run, _: run.accuracy(len(run.history["loss"]))),
        Measure("training", *_SHARE, lambda run, epoch: _at("accuracy", run, epoch)),
        Measure("validation", *_SHARE, lambda run, epoch: _at("validation_accuracy", run, epoch or run.best_epoch)),
        Measure("lowest_validation", *_SHARE, lambda run, _: min(run.history["validation_accuracy"])),
        Measure("highest_validation", *_SHARE, lambda run, _: max(run.history["validation_accuracy"])),
        Measure(
            "gap", *_SHARE, lambda run, epoch: _at("accuracy", run, epoch) - _at("validation_accuracy", run, epoch)
        ),
        Measure("loss", *_LOSS, lambda run, epoch: _at("loss", run, epoch), form=".2f"),
        Measure("first_loss", *_LOSS, lambda run, _: run.content["first_losses"][0], form=",.1f"),
        Measure("highest_first_loss", *_LOSS, lambda run, _: max(run.content["first_losses"]), form=",.0f"),
        Measure("best_epoch", *_EPOCH, lambda run, _: run.best_epoch, form="g"),
        Measure("lowest_loss", *_EPOCH, lambda run, _: _lowest(run.history["validation_loss"]), form="g"),
    )
}
"""What any study has, by name."""
