"""Learning rates: chosen for every arm of a study alike, before it is run, and never on test photos.

Five rates with one seed and a third of the epochs; then the best two with three seeds and all epochs, which are the
study's pilot; last the better of these with twice the epochs, to see whether the arm has learnt. A best rate at the
edge of the grid widens it; where a study asks for it, all epochs decide between a rate and its neighbours, too. The
runs are a study of their own, `STUDY-tune`; its records hold no test predictions but those of the training photos that
the protocols leave aside, or else of the validation photos.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnhw.studies import queue, store
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Job, Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

__all__ = [
    "PILOTS", "SUFFIX", "Choice", "choices", "decisive", "expected", "missing", "of", "pilots", "rate", "rates", "tune",
]  # fmt: skip

PILOTS = (100, 101, 102)
"""The seeds of the pilot: the study itself never uses them."""
SUFFIX = "-tune"
_GRID = 5
_CENTRES = {"adam": 1e-3, "adamw": 2e-3, "muon": 0.02, "sgd": 0.05}
_REACH = 8  # doublings, either way: linear heads learn best far above the middle
_LENGTHS = {"third": 1 / 3, "whole": 1.0, "double": 2.0}


@dataclass(frozen=True)
class Choice:
    """What tuning says about an arm.

    - ``arm`` (str): which.
    - ``rate`` (float or None): the rate that did best with all epochs; None until it is known.
    - ``tried`` (dict of float to float): accuracy on held-out photos after a third of the epochs, by rate, ascending.
    - ``whole`` (dict of float to float): mean accuracy of the pilot, by rate.
    - ``double`` (float or None): that of the chosen rate with twice the epochs.
    """

    arm: str
    rate: float | None
    tried: dict[float, float]
    whole: dict[float, float]
    double: float | None

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the lowest or highest that was tried."""
        return self.rate in (min(self.tried, default=None), max(self.tried, default=None))


def of(study: Study) -> Study:
    """Return the study that tunes another: all runs that it may need, of which few are run."""
    arms = [
        _at(study, arm, rate, length)
        for arm in study.arms
        for rate in rates(arm)
        for length in _LENGTHS
    ]  # fmt: skip
    return dataclasses.replace(
        study,
        name=f"{study.name}{SUFFIX}",
        question=f"At which learning rate does each arm of {study.name} do best on validation photos?",
        observation="it chooses learning rates on held-out photos; its runs at full length are the pilot",
        arms=tuple(arms),
        every_epoch=False,
        drift=False,
        questions=(),
        sources=(study, *study.sources),
        kept=(),
        test=False,
    )


def rates(arm: Arm) -> tuple[float, ...]:
    """Return the rates that an arm may be tuned to, each twice the one before: the grid begins with the middle five."""
    centre = _CENTRES[_leading(arm).optimizer]
    return tuple(float(f"{centre * 2.0**k:.6g}") for k in range(-_REACH, _REACH + 1))


def _leading(arm: Arm) -> Recipe:
    """Return the recipe whose rate is tuned: of stages, that with the highest; the others keep their ratio to it."""
    return max((stage.recipe for stage in arm.stages), key=lambda recipe: recipe.learning_rate)


def _name(arm: str, rate: float, length: str) -> str:
    return f"{arm}@{rate:g}" + ("" if length == "whole" else f"-{length}")


def _at(study: Study, arm: Arm, rate: float, length: str) -> Arm:
    """Return an arm with another rate and other epochs."""
    factor, leading = _LENGTHS[length], _leading(arm).learning_rate

    def change(recipe: Recipe) -> Recipe:
        own = rate if recipe.learning_rate == leading else float(f"{recipe.learning_rate * rate / leading:.6g}")
        return dataclasses.replace(recipe, learning_rate=own, epochs=max(1, round(factor * recipe.epochs)))

    recipe: Recipe | tuple[Stage, ...] = (
        change(arm.recipe)
        if isinstance(arm.recipe, Recipe)
        else tuple(dataclasses.replace(stage, recipe=change(stage.recipe)) for stage in arm.recipe)
    )
    return dataclasses.replace(
        arm,
        name=_name(arm.name, rate, length),
        recipe=recipe,
        seeds=PILOTS[:1] if length == "third" else PILOTS,
        source=f"{study.name}/{arm.source}" if arm.source and "/" not in arm.source else arm.source,
    )


def decisive(study: Study, arm: str) -> bool:
    """Return whether a verdict depends on an arm, which then has to be shown to have learnt, with twice the epochs."""
    return any(arm in question.arms and question.role != "exploratory" for question in study.questions)


def expected(study: Study, arm: str) -> float:
    """Return as how many whole runs tuning an arm counts, if no best rate lies at an edge of the grid."""
    pilots_of_two = 2 * len(PILOTS)  # which one rate takes with twice the epochs, too
    return _GRID / 3 + pilots_of_two * (2 if decisive(study, arm) else 1)


def _accuracies(tuning: Study, records: Sequence[Record]) -> dict[str, list[float]]:
    """Return the accuracy on held-out photos at the best epoch of each run that the study still has, by arm."""
    own = [record for record in records if record.study == tuning.name]
    keys = {job.key for job in tuning.jobs()} if own else set()
    found: dict[str, list[float]] = {}
    for record in own:
        if record.key in keys:
            found.setdefault(record.arm, []).append(record.on_held_out().accuracy())
    return found


def _state(study: Study, arm: Arm, seen: dict[str, list[float]]) -> tuple[Choice, list[tuple[float, str]]]:
    """Return what is known of an arm, and what is to be run next to know more."""
    grid = rates(arm)

    def means(length: str) -> dict[float, float]:
        count = len(PILOTS[:1] if length == "third" else PILOTS)
        runs = {rate: seen.get(_name(arm.name, rate, length), []) for rate in grid}
        return {rate: statistics.fmean(values) for rate, values in runs.items() if len(values) == count}

    tried, whole, double = means("third"), means("whole"), means("double")
    rate = None
    wanted = [(one, "third") for one in grid[_REACH - _GRID // 2 : _REACH + _GRID // 2 + 1] if one not in tried]
    if not wanted:
        # the rate that did best after a third decides where to look, then the one that did best in all epochs
        best = sorted(tried, key=tried.__getitem__, reverse=True)
        wanted = _wider(grid, tried, best[0])
        if not wanted:
            wanted = [(one, "whole") for one in best[:2] if one not in whole]
        if not wanted:
            rate = max(whole, key=whole.__getitem__)
            wanted = _wider(grid, tried, rate)
            if not wanted and study.neighbours:
                place = grid.index(rate)
                wanted = [(one, "whole") for one in grid[max(0, place - 1) : place + 2] if one not in whole]
                rate = None if wanted else rate
        if not wanted and rate is not None and rate not in double and decisive(study, arm.name):
            wanted = [(rate, "double")]
    return Choice(arm.name, rate, tried, whole, double.get(rate) if rate is not None else None), wanted


def _wider(grid: Sequence[float], tried: dict[float, float], best: float) -> list[tuple[float, str]]:
    """Return the next rate beyond an edge at which the best lies, if there is one."""
    step = 1 if best == max(tried) else -1 if best == min(tried) else 0
    place = grid.index(best) + step
    return [(grid[place], "third")] if step and 0 <= place < len(grid) else []


def choices(study: Study, records: Sequence[Record]) -> dict[str, Choice]:
    """Return what the tuning records of a study say, by arm; other records are left aside."""
    seen = _accuracies(of(study), records)
    return {arm.name: _state(study, arm, seen)[0] for arm in study.arms}


def missing(study: Study, records: Sequence[Record]) -> list[Job]:
    """Return the runs that are to be done next to tune a study; none if it is tuned."""
    tuning = of(study)
    seen = _accuracies(tuning, records)
    done = {record.key for record in records if record.study == tuning.name}
    names = [_name(arm.name, *what) for arm in study.arms for what in _state(study, arm, seen)[1]]
    return [job for job in tuning.jobs() if job.arm.name in names and job.key not in done]


def tune(study: Study, processes: int | None = None, where: Path | None = None, progress: bool = True) -> list[Job]:
    """Run what is missing of a study's tuning, step by step; return the jobs that other processes were running."""
    while jobs := missing(study, store.read(f"{study.name}{SUFFIX}", where)):
        if elsewhere := queue.run(jobs, processes, where, progress):
            return elsewhere
    return []


def rate(study: Study, arm: str) -> float:
    """Return the rate that a study gives an arm, of stages the highest."""
    return _leading(next(one for one in study.arms if one.name == arm)).learning_rate


def pilots(study: Study, records: Sequence[Record], arm: str) -> list[Record]:
    """Return an arm's pilot runs at the rate that the study gives it, by seed; as many of them as there are."""
    own = rate(study, arm)
    first = next(one for one in study.arms if one.name == arm)
    name = _name(arm, own, "whole")
    keys = {Job(of(study), _at(study, first, own, "whole"), seed).key for seed in PILOTS}
    found = [r for r in records if (r.study, r.arm) == (f"{study.name}{SUFFIX}", name) and r.key in keys]
    return sorted(found, key=lambda record: record.seed)
