"""The report's faults: its experiments as reported, and each fault on and off, with nothing else changed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnhw import plots, studies
from cnnhw.book import base, benchmarks, figures, original_report
from cnnhw.book.i import SIX
from cnnhw.data import scenes, subsets
from cnnhw.studies.questions import EXPLORATORY, effect
from cnnhw.studies.statistics import Comparison, of_arms, of_values
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

# The report's experiments, as reported, faults included; its networks for Q1 are in the study q1, too. Two seeds, as
# its two transfers were tested on different random splits of the flowers. Only the second stage that really trains
# the transferred Inception is ours.
_LAST = Recipe(keep="last")
_HEAD_50 = Stage("classifier", replace(_LAST, epochs=50, batch_size=64))
_HEAD_10 = Stage("classifier", replace(_LAST, epochs=10, batch_size=64))
_FROM_DEEP = Arm(
    "q6_from_deep",
    "q1_deep",
    (_HEAD_10, Stage("all", replace(_LAST, epochs=20, batch_size=64))),
    seeds=(1,),
    data="flowers",
    protocols=("random_split", "bgr"),
    source="q1_deep",
)
_FROM_INCEPTION = replace(
    _FROM_DEEP,
    name="q6_from_inception",
    model="q4_inception",
    recipe=(_HEAD_50, Stage("classifier", replace(_LAST, epochs=40))),
    seeds=(0,),
    source="q4_inception",
    new_classifier=False,
)
REPORT = Study(
    name="report",
    observation="it repeats single runs, as reported",
    question="What do the report's own experiments give, repeated as reported on photos that anyone can have?",
    data="tiny5",
    size=128,
    arms=(
        Arm("q1_deep", "q1_deep", replace(_LAST, epochs=13), seeds=(1,), protocols=("bgr",)),
        Arm(
            "q4_inception",
            "q4_inception",
            replace(_LAST, epochs=8, raw=True),
            seeds=(0,),
            protocols=("last_tenth", "bgr"),
        ),
        Arm(
            "q2_concat_skip",
            "q2_concat_skip",
            replace(_LAST, epochs=15, batch_size=128, raw=True),
            seeds=(0, 1, 2),
            protocols=("bgr",),
        ),
        _FROM_DEEP,
        _FROM_INCEPTION,
        replace(
            _FROM_INCEPTION,
            name="q6_from_inception_trained",
            recipe=(_HEAD_50, Stage("all", replace(_LAST, epochs=3))),
        ),
        replace(
            _FROM_DEEP,
            name="q6_from_deep_uncached",
            recipe=(Stage("classifier", replace(_LAST, epochs=2, batch_size=64)),),
            cache=False,
        ),
    ),
    every_epoch=True,
)

# Each fault of the report, on and off, with nothing else changed; small enough that a run takes about a minute.
_HEAD = Stage("classifier", Recipe(epochs=20, batch_size=64))
_ALL = Stage("all", Recipe(epochs=10, batch_size=64))


def _on_flowers(name: str, *stages: Stage, **change: Any) -> Arm:
    return Arm(name, "q1_shallow", stages, seeds=SIX, data="flowers", source="sound", **change)


_FAULTS = Study(
    name="faults",
    observation="it was run before anything was said about its outcome",
    question="What does each fault of the report do by itself?",
    data="tiny5",
    size=64,
    arms=(
        Arm("sound", "q1_shallow", Recipe(epochs=8), seeds=SIX),
        Arm("last_tenth", "q1_shallow", Recipe(epochs=8), seeds=SIX, protocols=("last_tenth",)),
        Arm("raw", "q1_shallow", Recipe(epochs=8, raw=True), seeds=SIX),
        Arm("bgr", "q1_shallow", Recipe(epochs=8), seeds=SIX, protocols=("bgr",)),
        Arm("averaged", "q1_shallow", Recipe(epochs=8), seeds=SIX, options={"dense": False}),
        _on_flowers("head_only", _HEAD, Stage("classifier", _ALL.recipe)),
        _on_flowers("trained", _HEAD, _ALL),
        _on_flowers("old_classifier", _HEAD, _ALL, new_classifier=False),
        _on_flowers("bgr_target", _HEAD, _ALL, protocols=("bgr",)),
        _on_flowers("own_split", _HEAD, _ALL, protocols=("random_split",)),
        Arm("scratch", "q1_shallow", _ALL.recipe, seeds=SIX, data="flowers"),
        Arm("inception", "q4_inception", Recipe(epochs=4), seeds=SIX, size=32),
        Arm("inception_raw", "q4_inception", Recipe(epochs=4, raw=True), seeds=SIX, size=32),
        Arm("inception_averaged", "q4_inception", Recipe(epochs=4), seeds=SIX, size=32, options={"dense": False}),
        Arm("concat", "q2_concat_skip", Recipe(epochs=2), seeds=SIX, size=100),
        Arm("concat_raw", "q2_concat_skip", Recipe(epochs=2, raw=True), seeds=SIX, size=100),
        Arm("no_concat", "q2_concat_skip", Recipe(epochs=2), seeds=SIX, size=100, options={"skips": False}),
        Arm("concat_128", "q2_concat_skip", Recipe(epochs=2, batch_size=128), seeds=SIX, size=100),
    ),
    every_epoch=True,
)

# In few epochs of the report's recipe an averaged map cost Q1's network accuracy; chapter iii advises to average.
# Rates that `cnnhw study tune` chose.
_RATES = {"flattened": 0.005, "averaged": 0.02}
_AVERAGED = Study(
    name="faults_averaged",
    question="Does an averaged map cost the report's first network accuracy where it is trained to convergence?",
    data="tiny5",
    size=64,
    arms=tuple(
        base.arm(name, "q1_shallow", rate, {"dense": name == "flattened"}, **base.LARGE)
        for name, rate in _RATES.items()
    ),
    questions=(
        base.question(
            "faults-averaged", ("averaged", "flattened"),
            "Trained to convergence, too, an averaged map costs the report's first network accuracy.",
            chapter="faults", study="faults_averaged", role="exploratory", prediction="lower", delta=2.5,
            known="in part", held="photos, recipe and convolutions",
        ),
    ),
)  # fmt: skip
STUDIES = (REPORT, _FAULTS, _AVERAGED)

# What is drawn: in each pair of arms, the first has the fault. Of the other rows, see `differences`; where nothing is
# to be subtracted, the words say why.
_PAIRS: dict[str, tuple[str, str] | str] = {
    "1  Validated on one class": ("last_tenth", "sound"),
    "2  Raw pixels, Q1's network": ("raw", "sound"),
    "2  Raw pixels, Q2's network": ("concat_raw", "concat"),
    "2  Raw pixels, Q4's network": ("inception_raw", "inception"),
    "3  Image concatenated": ("concat", "no_concat"),
    "3  Batches of 128 instead of 32": ("concat_128", "concat"),
    "4  Second stage: last layer only": ("head_only", "trained"),
    "5  Old classifier kept": ("old_classifier", "trained"),
    "6  A layer that nothing reads": "same outputs",
    "7  Dense layer, Q1's network": ("sound", "averaged"),
    "7  The same, trained to convergence": "",
    "7  Dense layer, Q4's network": ("inception", "inception_averaged"),
    "8  Transfer without a control": "same network",
    "9  Epoch chosen on the test photos": "",
    "10  Blue for red everywhere": ("bgr", "sound"),
    "10  Blue for red after the transfer": ("bgr_target", "trained"),
    "11  Each run has test photos of its own": "other photos",
    "12  Times that cannot be compared": "same network",
}
_CONVERGED, _EPOCH = (name for name, pair in _PAIRS.items() if not pair)
_ON, _OFF, _TRANSFER, _ALSO = "#D55E00", "#0072B2", "#009E73", "dimgrey"


@cache
def _runs(arm: str, study: str = "faults") -> list[Record]:
    """Return the runs of an arm, by seed."""
    found = [record for record in studies.records(study) if record.arm == arm]
    return sorted(found, key=lambda record: record.seed)


def differences() -> dict[str, Comparison | str]:
    """Return, fault by fault, accuracy with the fault minus accuracy without it, or why that changes nothing.

    Of an epoch chosen on the test photos it is of what would be reported; the interval is over seeds alone.
    """
    records = studies.records("faults")
    found: dict[str, Comparison | str] = {}
    for name, pair in _PAIRS.items():
        if isinstance(pair, tuple):
            found[name] = of_arms(records, *pair)
        elif pair:
            found[name] = pair
    chosen = _runs("q1_shallow", "q1")
    best = [max(run.accuracy(epoch) for epoch in range(1, len(run.history["loss"]) + 1)) for run in chosen]
    found[_EPOCH] = of_values(best, [run.accuracy() for run in chosen])
    answer = effect(_AVERAGED.questions[0], studies.records("faults_averaged"))
    if answer and answer.seeds >= EXPLORATORY:
        found[_CONVERGED] = replace(answer, effect=-answer.effect)  # it is the average minus the dense layer
    return {name: found[name] for name in _PAIRS if name in found}


def forest() -> Figure:
    """Draw what each fault does to the accuracy by itself, with its interval."""
    rows = differences()
    figure, (axis,) = figures.stacked(1, 0.42 * len(rows) + 0.9)
    sides = axis.get_yaxis_transform()
    told, effects = [], {}
    for height, (name, row) in enumerate(rows.items()):
        number, _, words = name.partition("  ")
        axis.text(0, height - 0.12, number, transform=sides, fontsize=9.5)
        axis.text(0.06, height - 0.12, words, transform=sides, fontsize=9.5)
        if isinstance(row, str):
            said = row
        else:
            middle, low, high = (100 * value for value in (row.effect, *row.interval()))
            axis.plot((low, high), (height + 0.2, height + 0.2), color="grey", linewidth=2.5, solid_capstyle="butt")
            axis.plot(middle, height + 0.2, "o", color="dimgrey", markersize=6)
            said = f"{middle:+z.1f} ({low:+z.1f} to {high:+z.1f})"
            effects[name] = (middle, low, high)
        axis.text(1, height - 0.12, said, transform=sides, fontsize=9, color="dimgrey", ha="right")
        told.append(f"{number}. {words}: {said}")
    axis.axvline(0, color="darkgrey", linewidth=1, zorder=0)
    axis.set_ylim(len(rows) - 0.4, -0.7)
    axis.set_yticks([])
    axis.spines[["left", "right", "top"]].set_visible(False)
    axis.grid(axis="x", alpha=0.2)
    axis.set_xlabel("accuracy with the fault minus accuracy without it, points")
    clear = sum(low > 0 or high < 0 for _, low, high in effects.values())
    title = f"Each fault switched on by itself: {clear} of {len(effects)} intervals leave out zero"
    figure.suptitle(title, fontsize=10)
    lowest, *_, highest = sorted(effects, key=lambda name: effects[name][0])
    figure.set_label(
        f"{title}. Accuracy with the fault minus accuracy without it, in points, with 95 % intervals. "
        f"Furthest below zero lies {_words(lowest)}, furthest above it {_words(highest)}. {'; '.join(told)}."
    )
    return figure


def _words(name: str) -> str:
    return name.replace("  ", ". ")


def traces() -> Figure:
    """Draw what four of the faults leave behind, beside runs without them."""
    one, sound = _runs("last_tenth"), _runs("sound")
    panels: list[tuple[str, str, str, dict[str, tuple[list[list[float]], str]]]] = [
        ("1  Validated on one class", "epoch", "accuracy", {
            "validation, one class": ([run.history["validation_accuracy"] for run in one], _ON),
            "the same networks, test": ([[run.accuracy(e + 1) for e in range(8)] for run in one], _ALSO),
        }),
        ("2  Raw pixels", "step", "training loss, nats", {
            "0 to 255": ([run.content["first_losses"] for run in _runs("raw")], _ON),
            "0 to 1": ([run.content["first_losses"] for run in sound], _OFF),
        }),
        ("4  Second stage: last layer only", "epoch", "training loss, nats", {
            "last layer only": ([run.history["loss"] for run in _runs("head_only")], _ON),
            "all layers": ([run.history["loss"] for run in _runs("trained")], _OFF),
        }),
        ("8  Transfer, and its control", "epoch of all layers", "validation accuracy", {
            "after a transfer": ([run.history["validation_accuracy"][20:] for run in _runs("trained")], _TRANSFER),
            "from scratch": ([run.history["validation_accuracy"] for run in _runs("scratch")], _ALSO),
        }),
    ]  # fmt: skip
    figure, axes = figures.stacked(len(panels), 2.1 * len(panels))
    told = []
    for axis, (name, across, up, series) in zip(axes, panels, strict=True):
        _lines(axis, series)
        axis.set_title(name, fontsize=9.5, loc="left")
        axis.set_xlabel(across)
        axis.set_ylabel(up)
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        means = {word: np.mean(rows, axis=0) for word, (rows, _) in series.items()}
        ends = "; ".join(f"{word} from {mean[0]:.2g} to {mean[-1]:.2g}" for word, mean in means.items())
        told.append(f"{_words(name)}: {up} by {across}, {ends}.")
    _, losses, stages, _ = axes
    losses.set_yscale("log")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.axhline(np.log(5), color="grey", linewidth=1, linestyle=":")
    losses.annotate("ln 5", (1, np.log(5)), (0, -3), textcoords="offset points", fontsize=9, va="top")
    stages.axvline(20.5, color="grey", linewidth=1, linestyle=":")
    title = f"What four faults leave behind: mean and range of {len(sound)} runs each"
    figure.suptitle(title, fontsize=10)
    figure.set_label(f"{title}. {' '.join(told)}")
    return figure


def _lines(axis: Axes, series: Mapping[str, tuple[Sequence[Sequence[float]], str]]) -> None:
    """Draw means with bands from the lowest to the highest run, and write their names beside them."""
    ends = {name: np.mean(rows, axis=0)[-1] for name, (rows, _) in series.items()}
    for name, (rows, colour) in series.items():
        values = np.asarray(rows)
        steps = np.arange(1, values.shape[1] + 1)
        axis.plot(steps, values.mean(0), color=colour)
        axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        above = ends[name] == max(ends.values())
        place = (steps[-1], values[:, -1].max() if above else values[:, -1].min())
        axis.annotate(
            name, place, (0, 3 if above else -3), textcoords="offset points", color=colour, fontsize=9, ha="right",
            va="bottom" if above else "top",
        )  # fmt: skip
    axis.margins(y=0.25)
    axis.grid(alpha=0.2)


def swapped() -> Figure:
    """Draw scenes as they are, and with red and blue exchanged, as OpenCV hands them over."""
    pictures = scenes.load(size=64, train=50, test=5, progress=False)
    both = torch.cat([pictures.test.images, subsets.bgr(pictures).test.images])
    figure = plots.contact_sheet(both, ["RGB"] * 5 + ["BGR"] * 5, title="Five scenes, and what OpenCV makes of them")
    figures.narrow(figure, 2.3)
    figure.set_label("Five generated scenes above, and below the same scenes with red and blue exchanged.")
    return figure


def times() -> str:
    """Return seconds of an epoch in the report and here, beside the operations that a photo takes, as text."""
    lines = [f"{'an epoch of':15}{'report, s':>10}{'here, s':>10}{'operations a photo':>21}"]
    for name, study in (("q1_shallow", "q1"), ("q1_deep", "q1"), ("q2_concat_skip", "report")):
        there = statistics.median(original_report.get(name).history["seconds"])
        here = statistics.fmean(statistics.median(run.history["seconds"]) for run in _runs(name, study))
        billions = benchmarks.flops(name, 128) / 1e9
        lines.append(f"{name:15}{there:10.0f}{here:10.0f}{billions:13.2f} billion")
    return "\n".join(lines)
