"""The benchmarks that the book shows, read from their files: curves, levels, a table, figures for sentences, peers.

They are measured by ``bench.py``, ``peers.py`` and ``goals.py`` of ``tests/benchmarks`` in a checkout; ``cnnhw bench``
says how fast a machine trains.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from cnnhw import models, studies
from cnnhw.book import original_report
from cnnhw.errors import CnnhwError

__all__ = [
    "FLOWERS",
    "GOALS",
    "LEVELS",
    "Goal",
    "flops",
    "keras_curve",
    "leaders",
    "levels",
    "peers",
    "record",
    "seconds_to",
    "stated",
    "table",
    "times_to",
    "together",
]

LEVELS = tuple(original_report.get(name).test_accuracy for name in ("q1_shallow", "q1_deep"))
FLOWERS = original_report.get("q6_from_deep").test_accuracy  # the report's best after its transfer
_LATE = 1.05  # how much of its time a training may take
_SHORTEST = "fast, 2 epochs, 48 px"  # as short as the report's accuracy allows


class Goal(NamedTuple):
    """A test accuracy that ``cnnhw train`` is to reach in a given time: the median of runs, a seed each."""

    model: str
    data: str
    minutes: float
    accuracy: float
    seeds: int


GOALS = (
    Goal("ensemble", "tiny5", 1 / 3, 0.80, 6),
    Goal("ensemble", "tiny5", 2.0, 0.85, 6),
    Goal("best", "flowers", 2.0, 0.93, 2),
    Goal("best", "flowers", 5.0, 0.95, 2),
    Goal("ensemble", "tiny5", 10.0, 0.87, 1),
)


def flops(name: str, side: int) -> float:
    """Count the operations of one photo's training step in convolutions and matrix products, 2 a multiply-add."""
    model = models.create(name, size=side)
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(4, 3, side, side)).sum().backward()
    return counter.get_total_flops() / 4


def record(name: str = "bench") -> dict[str, Any]:
    """Return the content of a file of figures beside the records; a CnnhwError if it cannot be read."""
    path = _path(name)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no figures by name")
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(name, error) from error
    return found


def peers() -> dict[str, Any]:
    """Return ``peers.json``: what other libraries reach in the same time; a CnnhwError if it is missing or broken.

    Its ``runs`` are trainings, each with ``data``, ``peer``, ``version``, ``minutes``, ``seed``, test ``accuracy``,
    ``seconds`` of training and ``processor_seconds`` of the whole process; newer ones also with ``photos`` and
    ``size``. Beside them stand ``processor``, ``threads`` and ``date``.
    """
    found = record("peers")
    try:
        if not (all(isinstance(found[key], str) for key in ("processor", "date")) and found["threads"] >= 1):
            raise ValueError("its machine or its date is none")
        keys = [_checked(run) for run in found["runs"]]
        if not keys or len(set(keys)) < len(keys):
            raise ValueError("it holds no training, or one of them twice")
    except (KeyError, TypeError, ValueError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else error
        raise _unusable("peers", said) from error
    return found


def together(found: Mapping[str, Any]) -> dict[tuple[str, float], dict[str, list[dict[str, Any]]]]:
    """Return the trainings of :func:`peers` by data and minutes, then by peer, the most accurate in the mean first."""
    groups: dict[tuple[str, float], dict[str, list[dict[str, Any]]]] = {}
    for run in found["runs"]:
        groups.setdefault((run["data"], run["minutes"]), {}).setdefault(run["peer"], []).append(run)
    return {
        key: dict(sorted(group.items(), key=lambda item: -_mean(item[1], "accuracy"))) for key, group in groups.items()
    }


def leaders(found: Mapping[str, Any]) -> list[str]:
    """Say of each budget of :func:`peers` who reached the highest test accuracy, who came next, and in how many."""
    said = []
    for (data, minutes), group in together(found).items():
        means = {peer: f"{_mean(runs, 'accuracy'):.3f}" for peer, runs in group.items()}
        most = next(iter(means.values()))
        best = " and ".join(peer for peer, mean in means.items() if mean == most)
        rest = next((f", then {peer} ({mean})" for peer, mean in means.items() if mean != most), "")
        counts = [len(runs) for runs in group.values()]
        each = "one training each" if max(counts) == 1 else f"{min(counts)} to {max(counts)} trainings each"
        said.append(f"{data}, {minutes:g} minutes: {best} reached the highest test accuracy ({most}){rest}; {each}.")
    return said


def _mean(runs: Sequence[Mapping[str, Any]], what: str) -> float:
    return statistics.fmean(run[what] for run in runs)


def _checked(run: Mapping[str, Any]) -> tuple[str, float, int, str]:
    """Return what a training is told by; KeyError, TypeError or ValueError if it is none."""
    names, times = (run["data"], run["peer"], run["version"]), ("minutes", "seconds", "processor_seconds")
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("a training has no name")
    if not (all(0 < run[time] < math.inf for time in times) and 0 <= run["accuracy"] <= 1):
        raise ValueError(f"a training of {run['peer']} took no time, or is not between 0 and 1 in accuracy")
    return run["data"], float(run["minutes"]), int(run["seed"]), run["peer"]


def _path(name: str) -> Path:
    return studies.store.folder() / f"{name}.json"


def _unusable(name: str, why: object) -> CnnhwError:
    path = _path(name)
    return CnnhwError(
        f"{path} cannot be read ({why}): restore it, or measure with `python tests/benchmarks/{name}.py --json {path}`"
    )


def stated(what: str, result: Mapping[str, Any] | None = None) -> str:
    """Return a figure of the benchmark as a sentence holds it; ValueError if it holds none.

    ``share q1_deep convolution`` is a kind of operation's share of training, ``place fast optimizer.step()`` that of a
    line of code, ``peak q1_deep cnnhw`` the share of the processor's peak, ``rate q1_deep cnnhw`` photos a second.
    ``seconds tiny5 SETTING`` is the time to the last of :func:`levels`, ``ratio tiny5 SETTING`` how many times as long
    Keras took, ``together fast`` how many times as many photos a second one-thread processes train as one process.
    ``goal ensemble tiny5 120`` is what ``cnnhw train ensemble --minutes 2`` reached on tiny5.
    """
    result = record() if result is None else result
    kind, _, rest = what.partition(" ")
    of, _, name = rest.partition(" ")
    try:
        if kind == "goal":
            data, seconds = name.split()
            runs = _trained(of, data, int(seconds))
            return f"{statistics.median(run['accuracy'] for run in runs):.3f} ({_spread(runs)})"
        if kind in ("share", "place"):
            row = next(row for row in result["profile"] if row["model"] == of)
            return f"{100 * row[f'{kind}s'][name]:.0f} %"
        if kind in ("peak", "rate"):
            row = next(row for row in result["throughput"] if (row["model"], row["side"]) == (of, name))
            if kind == "peak":
                return f"{100 * _of_peak(result, row):.0f} %"
            rates = row["photos_per_second"]
            return f"{statistics.median(rates):,.0f} photos a second ({min(rates):,.0f} to {max(rates):,.0f})"
        if kind == "together":
            row = next(row for row in result["processes"] if row["model"] == of)
            pairs = zip(row["one_thread_each"], row["one_process"], strict=True)
            ratios = sorted(many / one for many, one in pairs)
            return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        if kind in ("seconds", "ratio"):
            level = levels(dict(result), of)[-1]
            times = times_to(level, [row["curve"] for row in result["accuracy"][of] if row["setting"] == name])
            middle = statistics.median_high(times)
            if kind == "seconds":
                return f"{middle:.1f} s (median of {len(times)} runs, from {times[0]:.1f} to {times[-1]:.1f})"
            keras, bound = _reached(level, keras_curve(dict(result), of))
            return f"{bound}{keras / middle:.0f}"
    except (KeyError, StopIteration, IndexError, statistics.StatisticsError):
        pass
    raise ValueError(f"the benchmark holds no {what!r}")


def seconds_to(level: float, curve: Sequence[Sequence[float]]) -> float | None:
    """Return the seconds after which a curve of (seconds, accuracy) first reaches a level, or None if it never does."""
    return next((seconds for seconds, accuracy in curve if accuracy >= level), None)


def times_to(level: float, curves: Sequence[Sequence[Sequence[float]]]) -> list[float]:
    """Return, sorted, the seconds after which curves first reach a level; infinity for those that never do."""
    times = (seconds_to(level, curve) for curve in curves)
    return sorted(math.inf if seconds is None else seconds for seconds in times)


def levels(result: dict[str, Any], photos: str) -> tuple[float, ...]:
    """Return the accuracies that the time to accuracy is measured to: the report's on tiny5, else Keras's best."""
    if photos == "tiny5":
        return LEVELS
    curve = keras_curve(result, photos)
    return (max(accuracy for _, accuracy in curve),) if curve else ()


def keras_curve(result: dict[str, Any], photos: str) -> list[tuple[float, float]]:
    """Return (seconds, test accuracy) after each epoch of the report's q1_deep in Keras, as of a benchmark's machine.

    Where a benchmark holds no training of Keras, the accuracies, which do not depend on the machine, are those of
    :func:`record`, and the time of an epoch follows from the benchmark's photos a second. Without either it is empty.
    """

    def trained(where: dict[str, Any]) -> list[list[float]]:
        rows = where.get("accuracy", {}).get(photos, [])
        return next((row["curve"] for row in rows if row["side"] == "keras"), [])

    if here := trained(result):
        return [(seconds, accuracy) for seconds, accuracy in here]
    for row in result.get("throughput", []):
        if (row["model"], row["side"]) == ("q1_deep", "keras"):
            epoch = result["photos"][photos] / statistics.median(row["photos_per_second"])
            return [(epoch * i, accuracy) for i, (_, accuracy) in enumerate(trained(record()), start=1)]
    return []


def table(result: dict[str, Any]) -> str:
    """Return a benchmark as lines of text, with its targets."""
    machine = result["machine"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, {machine['memory_gb'] or 'unknown'} GB; peak "
        + ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in machine["peak_gflops"].items())
    ]
    rows = {(row["model"], row["side"]): row for row in result.get("throughput", [])}
    if rows:
        lines += ["", f"{'':30}{'photos/s':>22}{'GFLOP/s':>9}{'of peak':>9}{'peak MB':>9}"]
    for (name, side), row in rows.items():
        rates, middle = row["photos_per_second"], statistics.median(row["gflops"])
        lines.append(
            f"{name + ' in ' + side:30}{statistics.median(rates):7.0f} ({min(rates):.0f} to {max(rates):.0f})".ljust(52)
            + f"{middle:9.0f}{_of_peak(result, row):9.0%}{row['peak_mb']:9,}"
        )
    for name, side in rows:
        if side == "keras":
            ours, theirs = (rows[name, one]["photos_per_second"] for one in ("cnnhw", "keras"))
            lines.append(_target(f"{name}: cnnhw to Keras", ours, theirs, 1.2))
    for photos, runs in result.get("accuracy", {}).items():
        for level in levels(result, photos):
            head = f"seconds to test accuracy {level:.3f} on {photos}"
            goals = {_SHORTEST: 75} if (photos, level) == ("tiny5", LEVELS[-1]) else {}
            lines += _race(head, level, "q1_deep in Keras", keras_curve(result, photos), runs, goals)
    if runs := result.get("transfer", []):
        head = f"seconds from photographs to test accuracy {FLOWERS:.4f} on flowers"
        theirs = next((run["curve"] for run in runs if run["side"] == "keras"), [])
        lines += _race(head, FLOWERS, "the report, in Keras", theirs, runs, {run["setting"]: 50 for run in runs})
    lines += _goal_lines()
    lines += [""] * ("processes" in result)
    for row in result.get("processes", []):
        what = f"{row['model']}: one-thread processes to one process"
        lines.append(_target(what, row["one_thread_each"], row["one_process"], 1.7))
    return "\n".join(lines)


def _target(what: str, one: Sequence[float], other: Sequence[float], goal: float) -> str:
    """Say what the ratio of two rates, sampled in turns, is, and whether it reaches its target."""
    ratios = sorted(a / b for a, b in zip(one, other, strict=True))
    middle = statistics.median(ratios)
    return f"{what}: {middle:.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f}); target {goal:g}: {_met(middle >= goal)}"


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _race(
    head: str, level: float, label: str, theirs: Sequence[Sequence[float]], rows: Sequence[Mapping[str, Any]],
    goals: Mapping[str, float],
) -> list[str]:  # fmt: skip
    """Say how long Keras and each setting of ours take to a level, and how the ratios compare with their targets."""
    lines, keras, bound = ["", head], None, ""
    if theirs:
        keras, bound = _reached(level, theirs)
        best = max(accuracy for _, accuracy in theirs)
        lines.append(f"  {label + ':':35}{bound}{keras:.0f} s; its best is {best:.3f}")
    for setting in dict.fromkeys(row["setting"] for row in rows if row["side"] == "cnnhw"):
        times = times_to(level, [row["curve"] for row in rows if row["setting"] == setting])
        middle = statistics.median_high(times)
        text = f"  {setting + ':':35}{sum(map(math.isfinite, times))} of {len(times)} runs"
        if math.isfinite(middle):
            text += f", {middle:.1f} s ({times[0]:.1f} to {times[-1]:.1f})"
            if keras is not None:
                text += f", Keras {bound}{keras / middle:.0f} times"
                if setting in goals:
                    text += f"; target {goals[setting]}: {_met(keras / middle >= goals[setting])}"
        lines.append(text)
    return lines


def _reached(level: float, curve: Sequence[Sequence[float]]) -> tuple[float, str]:
    """Return the seconds to a level, and a word before them: if it is never reached, all the time is a lower bound."""
    seconds = seconds_to(level, curve)
    return (curve[-1][0], "more than ") if seconds is None else (seconds, "")


def _of_peak(result: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """Return a sample's rate of arithmetic as a share of the processor's peak."""
    return float(statistics.median(row["gflops"]) / result["machine"]["peak_gflops"][row["precision"]])


def _trained(model: str, data: str, seconds: int) -> list[dict[str, Any]]:
    """Return the trainings of a goal, the least accurate first."""
    goal = (model, data, seconds)
    found = [run for run in record("goals")["runs"] if (run["model"], run["data"], round(60 * run["minutes"])) == goal]
    return sorted(found, key=lambda run: float(run["accuracy"]))


def _spread(runs: Sequence[Mapping[str, Any]]) -> str:
    """Say how many trainings there are, and between what their accuracies lie."""
    if len(runs) == 1:
        return "one run"
    return f"median of {len(runs)} runs, {runs[0]['accuracy']:.3f} to {runs[-1]['accuracy']:.3f}"


def _goal_lines() -> list[str]:
    """Say what ``cnnhw train --minutes`` reached in a given time, and what the goal was."""
    found = record("goals")
    lines = ["", f"test accuracy of cnnhw train in a given time; {found['processor']}, {found['threads']} threads"]
    for goal in GOALS:
        if runs := _trained(goal.model, goal.data, round(60 * goal.minutes)):
            middle, spent = (statistics.median(run[what] for run in runs) for what in ("accuracy", "seconds"))
            met = middle >= goal.accuracy and spent <= _LATE * 60 * goal.minutes
            lines.append(
                f"  {goal.model} on {goal.data}: {middle:.3f} ({_spread(runs)}) in {spent:.0f} s; "
                f"target {goal.accuracy:g} in {60 * goal.minutes:.0f} s: {_met(met)}"
            )
    return lines
