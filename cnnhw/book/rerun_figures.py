"""Figures of the report's experiments: what it printed, beside what other runs gave.

Each takes the runs of the experiments, as of :func:`cnnhw.book.rerun.ours`, by the experiment's name.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnhw import evaluation, studies
from cnnhw.book import benchmarks, original_report
from cnnhw.book.figures import PHONE
from cnnhw.book.rerun import TITLES, Runs, recall, spread
from cnnhw.plots.figures import COLOURS, _figure, _own_settings
from cnnhw.studies import measures

__all__ = ["accuracies", "curves", "second_stage", "shares_found"]

_HERE, _THERE, _KERAS = COLOURS[:3]  # our runs, the report, and a run of its networks in Keras
_BELOW: Final = "outside lower center"
_BEFORE = 10  # epochs of the first stage that are shown before the second


@_own_settings
def accuracies(runs: Runs) -> Figure:
    """Draw the test accuracy of each experiment: the report's with an interval, ours a dot a run, Keras's if known."""
    keras, lines = _in_keras(), []
    for name, (found, epoch) in runs.items():
        experiment = original_report.get(name)
        for stage in experiment.stages[:-1]:
            if stage.test_accuracy is not None and stage.confusion is not None:
                here = [measures.STAGE_ACCURACY(one) for one in found]
                title = f"{TITLES[name]}, {stage.name} alone"
                lines.append((title, stage.test_accuracy, stage.confusion, here, keras.get(f"{name} {stage.name}")))
        here = [one.accuracy(epoch or len(one.history["loss"])) for one in found]
        lines.append((TITLES[name], experiment.test_accuracy, experiment.confusion, here, keras.get(name)))
    figure = _figure(PHONE, 0.65 * len(lines) + 1.5, "Test accuracy, reported and ours")
    axis = figure.subplots()
    told: list[str] = []
    for height, (title, there, confusion, here, in_keras) in enumerate(reversed(lines)):
        interval = evaluation.wilson_interval(int(confusion.trace()), int(confusion.sum()))
        axis.annotate(title, (0.02, height + 0.3), xycoords=("axes fraction", "data"), va="center")
        axis.plot(interval, [height] * 2, color=_THERE, linewidth=2, alpha=0.5)
        axis.plot(there, height, "x", color=_THERE, markersize=8, markeredgewidth=2)
        axis.plot(here, [height - 0.25] * len(here), "o", color=_HERE, alpha=0.6)
        text = f"{title}: {there:.3f} and {spread(here, '.3f')}"
        if in_keras is not None:
            axis.plot(in_keras, height - 0.25, "^", color=_KERAS)
            text += f", in Keras {in_keras:.3f}"
        told.insert(0, text)
    axis.set_ylim(-0.6, len(lines) - 0.4)
    axis.set_yticks([])
    axis.set_xlabel("test accuracy; bars: 95 % intervals")
    axis.grid(axis="x", alpha=0.25)
    _legend(figure, axis, 3, ("x-", _THERE, "report"), ("o", _HERE, "ours"), ("^", _KERAS, "in Keras"))
    figure.set_label(f"Test accuracy of each experiment, as reported and in our runs. {'; '.join(told)}.")
    return figure


@_own_settings
def curves(runs: Runs) -> Figure:
    """Draw loss and accuracy by epoch, a row an experiment: lines are our runs, marks are the report's."""
    figure = _figure(PHONE, 1.8 * len(runs) + 1.2, "Loss and accuracy by epoch, as reported and in our runs")
    told = []
    rows = figure.subplots(len(runs), 2, squeeze=False)
    for axes, (name, (found, epoch)) in zip(rows, runs.items(), strict=True):
        experiment = original_report.get(name)
        there = {key: [values] for key, values in experiment.whole_history().items()}
        length = epoch or min(len(one.history["loss"]) for one in found)
        here = {key: [one.history[key][:length] for one in found] for key in there}
        for axis, measure in zip(axes, ("loss", "accuracy"), strict=True):
            for key, line, mark in ((measure, "--", "x"), (f"validation_{measure}", "-", ".")):
                _line(axis, there[key], mark, _THERE)
                _line(axis, here[key], line, _HERE)
            for stage in experiment.stages[:-1]:
                axis.axvline(stage.epochs + 0.5, color="0.5", linewidth=1)
            axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=5))
            axis.grid(alpha=0.25)
        losses, shares = axes
        losses.set_yscale("log")
        low, high = losses.get_ylim()
        losses.yaxis.set_major_locator(ticker.LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5)))
        losses.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        losses.yaxis.set_minor_formatter(ticker.NullFormatter())
        losses.axhline(math.log(len(experiment.classes)), color="0.3", linestyle=":", linewidth=1)
        losses.set_ylabel("loss (nats)")
        losses.set_title(TITLES[name], loc="left", fontsize="medium")
        shares.set_ylim(0, 1)
        shares.set_ylabel("accuracy")
        told.append(f"{TITLES[name]}: the report, {_ends(there)}; ours, {_ends(here)}")
    for axis in rows[-1]:
        axis.set_xlabel("epoch")
    reported = (("x", _THERE, "report, training"), (".", _THERE, "report, validation"))
    ours = (("--", _HERE, "ours, training"), ("-", _HERE, "ours, validation"))
    _legend(figure, axis, 2, *reported, *ours, (":", "0.3", "guessing"))
    figure.set_label(f"Loss and accuracy by epoch, at the first and the last one. {'. '.join(told)}.")
    return figure


@_own_settings
def second_stage(runs: Runs) -> Figure:
    """Draw the training loss of Q6's first transfer around its second stage: with the fault, and without it."""
    experiment, (found, _) = original_report.get("q6_from_inception"), runs["q6_from_inception"]
    before = experiment.stages[0].epochs
    whole = [one for one in studies.records("report") if one.arm == "q6_from_inception_trained"]
    lines = {
        "report": (experiment.whole_history()["loss"], "x", _THERE),
        "ours, with the fault": (found[0].history["loss"], "-", _HERE),
        "ours, without it": (whole[0].history["loss"], "o-", _KERAS),
    }
    figure = _figure(PHONE, 3.8, "Q6, transfer of Q4's network")
    axis, told = figure.subplots(), []
    for name, (losses, style, colour) in lines.items():
        shown = losses[before - _BEFORE :]
        axis.plot(range(before - _BEFORE + 1, len(losses) + 1), shown, style, color=colour, markersize=4, label=name)
        told.append(f"{name}, {losses[before - 1]:.2f} after the first stage and {losses[-1]:.2f} at the end")
    axis.axvline(before + 0.5, color="0.5", linewidth=1)
    axis.annotate("second stage", (before + 1, 0.05), xycoords=("data", "axes fraction"), color="0.3")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("epoch")
    axis.set_ylabel("training loss (nats)")
    axis.grid(alpha=0.25)
    figure.legend(frameon=False, loc=_BELOW)
    figure.set_label(f"Training loss around the second stage of Q6's transfer of Q4's network. {'; '.join(told)}.")
    return figure


@_own_settings
def shares_found(runs: Runs) -> Figure:
    """Draw the share found of each class, a panel an experiment: the report's, and ours a dot a run."""
    figure = _figure(PHONE, 1.6 * len(runs) + 0.8, "Share found of each class, as reported and in our runs")
    told = []
    for axis, (name, (found, epoch)) in zip(figure.subplots(len(runs), 1), runs.items(), strict=True):
        experiment = original_report.get(name)
        there = _recall(experiment.classes, experiment.confusion)
        here = [_recall(one.classes, one.confusion(epoch or len(one.history["loss"]))) for one in found]
        classes = sorted({*there, *here[0]})  # photos that stand in may have others
        for height, label in enumerate(classes):
            if label in there:
                axis.plot(there[label], height - 0.12, "x", color=_THERE, markersize=6, markeredgewidth=2)
            if label in here[0]:
                shares = [one[label] for one in here]
                axis.plot(shares, [height + 0.12] * len(shares), "o", color=_HERE, alpha=0.6, markersize=5)
        axis.set_yticks(range(len(classes)), classes)
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.grid(alpha=0.25)
        axis.set_title(TITLES[name], loc="left", fontsize="medium")
        means = {label: statistics.fmean(one[label] for one in here) for label in here[0]}
        least = [min(side.items(), key=lambda item: item[1]) for side in (there, means)]
        told.append(f"{TITLES[name]}: reported {least[0][0]} {least[0][1]:.2f}, ours {least[1][0]} {least[1][1]:.2f}")
    _legend(figure, axis, 2, ("x", _THERE, "the report"), ("o", _HERE, "a run of ours"))
    figure.set_label(
        f"Share found of each class. The class with the smallest share of each experiment: {'; '.join(told)}."
    )
    return figure


def _in_keras() -> dict[str, float]:
    """Return the test accuracies of the benchmark's runs in Keras, where they follow the report."""
    result, found = benchmarks.record(), {}
    if curve := benchmarks.keras_curve(result, "tiny5"):
        found["q1_deep"] = curve[-1][1]
    for row in result.get("transfer", []):
        if row["side"] == "keras":  # its second stage stops where it reaches the report's accuracy
            found["q6_from_deep head"] = row["curve"][row["stages"].count("head") - 1][1]
    return found


def _recall(classes: Sequence[str], confusion: torch.Tensor) -> dict[str, float]:
    return dict(zip(classes, recall(confusion), strict=True))


def _line(axis: Axes, runs: Sequence[Sequence[float]], style: str, colour: str) -> None:
    """Draw the mean of some runs by epoch, with a band from the lowest to the highest."""
    values = torch.tensor(runs)
    epochs = range(1, values.shape[1] + 1)
    axis.plot(epochs, values.mean(0), style, color=colour, linewidth=1.4, markersize=4)
    if len(runs) > 1:
        axis.fill_between(epochs, values.amin(0), values.amax(0), color=colour, alpha=0.18, linewidth=0)


def _ends(histories: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Say where the mean curves of some runs begin and end."""
    words = {"loss": "training loss", "accuracy": "training accuracy", "validation_accuracy": "validation accuracy"}
    means = {word: torch.tensor(histories[key]).mean(0).tolist() for key, word in words.items()}
    return ", ".join(f"{word} {values[0]:.2f} to {values[-1]:.2f}" for word, values in means.items())


def _legend(figure: Figure, axis: Axes, columns: int, *marks: tuple[str, str, str]) -> None:
    """Explain the marks of all panels below the figure."""
    for style, colour, label in marks:
        axis.plot([], [], style, color=colour, label=label)
    figure.legend(frameon=False, ncols=columns, loc=_BELOW)
