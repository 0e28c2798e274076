"""Plans: how many seeds a study's questions need, from its pilot, and which runs come next.

A study with questions is run only if it was planned and its questions are still those that were: the plan, a file
among the records, holds their hashes. Seeds are added block by block, looking at half-widths alone.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnnhw import files, models, system
from cnnhw.data import subsets
from cnnhw.data.subsets import FOLDS
from cnnhw.errors import CnnhwError, UnknownNameError
from cnnhw.studies import questions, queue, soundness, store, tuning
from cnnhw.studies.measures import Measure
from cnnhw.studies.questions import EXPLORATORY, Question
from cnnhw.studies.statistics import correct
from cnnhw.studies.store import Record
from cnnhw.studies.study import Job, Study

__all__ = [
    "Outlook", "Plan", "Spread", "account", "check_planned", "costs", "following", "make", "run", "spread", "unasked",
    "widths", "write", "write_costs",
]  # fmt: skip

# Of the variance between photos, what every seed shares: in the first edition half of the effects had 0.05 or less.
_PHOTO_SHARE = 0.1
_OWN = {"own_cut", "fold"}  # protocols of this edition; the first one's studies had one cut for all seeds
_MINUTE = 60.0


@dataclass(frozen=True)
class Spread:
    """How much a question's effect varies from run to run, in the unit of its measure.

    - ``seeds`` (float): standard deviation between seeds, or repeats, were there no end of test photos.
    - ``photos`` (float): standard deviation that the choice of test photos adds to that of one seed.
    """

    seeds: float
    photos: float = 0.0

    def half_width(self, count: int, confidence: float) -> float:
        """Return the half-width of the interval that is expected of so many seeds."""
        from scipy import stats  # slow to import

        variance = self.seeds**2 / count + self.photos**2 * (_PHOTO_SHARE + (1 - _PHOTO_SHARE) / count)
        return float(stats.t.ppf((1 + confidence) / 2, count - 1)) * math.sqrt(variance)


@dataclass(frozen=True)
class Outlook:
    """What is expected of a question.

    - ``question`` (Question): which.
    - ``basis`` (str): ``"pilot"``, or ``"estimate"``, from a given standard deviation.
    - ``seeds`` (int or None): seeds, or repeats, that it takes; None if the most that are planned are not enough.
    - ``half_width`` (float or None): what is expected of them, or of the most, in the measure's unit.
    """

    question: Question
    basis: str
    seeds: int | None
    half_width: float | None

    @property
    def resolvable(self) -> bool:
        """Whether the plan can resolve the effect that matters; an exploratory question need not."""
        return self.seeds is not None


@dataclass(frozen=True)
class Plan:
    """A study's plan: its questions, and what they cost.

    - ``study`` (Study): which.
    - ``outlooks`` (tuple of Outlook): one a question.
    - ``runs`` (dict of str to int): runs by arm, those that were made and those to come.
    - ``minutes`` (float or None): core-minutes of training that they took and will take; None if an arm's are unknown.
    - ``tuning`` (float): core-minutes of tuning and pilot: what they took, and what those of other arms will take.
    - ``faults`` (tuple of str): why it cannot be run as it is.
    """

    study: Study
    outlooks: tuple[Outlook, ...]
    runs: Mapping[str, int]
    minutes: float | None
    tuning: float
    faults: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the plan as text: a line a question, then what it costs. No effect is named."""
        out = []
        for one in self.outlooks:
            asked, unit = one.question, one.question.measure.unit
            kind = asked.counted
            if one.half_width is None:
                what = "not measured in pilots" if one.basis == "pilot" else "no pilot yet"
                said = f"{what}, {one.seeds} {kind} or more"
            elif one.seeds is None:
                said = f"half-width {one.half_width:.3g} {unit} even with {asked.blocks.most} {kind}: out of reach"
            else:
                basis = "" if one.basis == "pilot" else f", {one.basis}"
                said = f"half-width {one.half_width:.3g} {unit} expected of {one.seeds} {kind}{basis}"
            want = f"wanted {asked.delta / 2:g}" if asked.role != "exploratory" else "exploratory"
            out.append(f"{self.study.name:16} {asked.id:24} {asked.role:11} {want:14} {said}")
        unknown = "not known before the pilot" if self.outlooks else "not known before the first"
        cost = unknown if self.minutes is None else f"{self.minutes:.0f} core-minutes"
        spent = f"; tuning and pilot {self.tuning:.0f}" if self.tuning else ""
        out.append(f"{self.study.name:16} {sum(self.runs.values())} runs, {cost}{spent}")
        return out


def spread(question: Question, runs: Sequence[Sequence[Record]]) -> Spread:
    """Return how much a question's effect varies over pilot runs, by arm, of the same seeds in the same order."""
    measure, against = question.measure, question.against
    size = FOLDS if question.pooled else 1  # a repeat is the mean of its folds
    signs = (1, -1, -1, 1)[: len(runs)]
    effects, noise = [], []
    for row in zip(*(map(Record.on_held_out, arm) for arm in runs), strict=True):
        values = [measure(run) for run in row]
        own = isinstance(against, Measure)
        start = against(row[0]) if isinstance(against, Measure) else 0.0
        effects.append(measure.scale * (sum(s * value for s, value in zip(signs, values, strict=True)) - start))
        if measure.by_photo and not own:
            marks = [sign * correct([run])[0] for sign, run in zip(signs, row, strict=True)]
            # the pairs of an interaction may be of two sets of photos, whose noise adds up
            apart = len({run.content["data"]["test_fingerprint"] for run in row}) > 1
            differences = [np.sum(one, axis=0) for one in ([marks[:2], marks[2:]] if apart else [marks])]
            noise.append(measure.scale**2 * sum(float(d.var()) / len(d) for d in differences))
    photos = statistics.fmean(noise) if noise else 0.0
    between = max(0.0, statistics.variance(effects) - photos)
    first = runs[0][0]
    ratio = len(first.on_held_out().labels) / first.content["data"]["photos"]["test"] if noise else 0.0
    return Spread(math.sqrt(between / size), math.sqrt(photos * ratio / size))


def _piloted(question: Question, runs: Sequence[Sequence[Record]]) -> Spread | None:
    """Return the spread over pilot runs; None of an exploratory question about something that they do not note."""
    try:
        return spread(question, runs)
    except UnknownNameError:
        if question.role != "exploratory":
            raise
        return None


def make(
    study: Study,
    asked: Sequence[Question],
    records: Sequence[Record],
    sd: float | None = None,
    seconds: Mapping[str, float] | None = None,
) -> Plan:
    """Plan a study from its pilot.

    Parameters
    ----------
    study : Study
        The study; its own questions are planned.
    asked : sequence of Question
        All questions of the book: the secondary ones of a chapter share their confidence.
    records : sequence of Record
        Those of the study's tuning, and any others.
    sd : float, optional
        What an effect's standard deviation between seeds is taken to be without a pilot, in points; of what is
        measured in another unit nothing is estimated.
    seconds : mapping of str to float, optional
        What a run of each arm is taken to cost without a pilot.

    Returns
    -------
    Plan
        With the reasons, if there are any, why the study cannot be run like this.
    """
    outlooks, faults = [], impossible(study)
    found = {arm.name: tuning.pilots(study, records, arm.name) for arm in study.arms}
    chosen = tuning.choices(study, records)
    for question in study.questions:
        runs = [found[arm] for arm in question.arms]
        if all(len(arm) == len(tuning.PILOTS) for arm in runs):
            outlooks.append(_outlook(question, asked, "pilot", _piloted(question, runs)))
        else:
            guess = None if sd is None or question.measure.unit != "points" else Spread(sd)
            outlooks.append(_outlook(question, asked, "estimate", guess))
        if not outlooks[-1].resolvable:
            least = outlooks[-1].half_width or 0.0
            faults.append(
                f"question {question.id}: its delta of {question.delta:g} {question.measure.unit} is below what "
                f"the most seeds can resolve ({2 * least:.2g}): register a larger one, or redesign the study"
            )
        if question.role == "exploratory":
            continue
        faults += [
            f"arm {arm} has no pilot at the rate that tuning chose"
            + (
                f" ({chosen[arm].rate:g}): give it that rate"
                if chosen[arm].rate
                else f": run cnnhw study tune {study.name}"
            )
            for arm in question.arms
            if chosen[arm].rate is None or tuning.rate(study, arm) != chosen[arm].rate or not found[arm]
        ]
    checks = soundness.check(study, records)
    if bad := [f"{one.of}: {one.said}" for one in checks if one.decides and one.good is False]:
        faults.append(f"it is not sound, and so would give no verdicts: {'; '.join(bad)}: change it, and tune it anew")
    wanted = _counts(study, {one.question.id: one.seeds or one.question.blocks.most for one in outlooks})
    if short := [arm.name for arm in study.arms if len(arm.seeds) < _most(study, arm.name)]:
        faults.append(
            f"arms {', '.join(short)} have too few seeds for the most blocks: give them {_most(study, short[0])}"
        )
    if reused := sorted({seed for arm in study.arms for seed in arm.seeds} & {*tuning.PILOTS}):
        faults.append(f"seeds {', '.join(map(str, reused))} are those of pilots: take others")
    measured = {arm: statistics.fmean(run.content["seconds"] for run in runs) for arm, runs in found.items() if runs}
    costs = {**(seconds or {}), **measured}
    spent = sum(r.content["seconds"] for r in records if r.study == f"{study.name}{tuning.SUFFIX}")
    spent += sum(
        tuning.expected(study, arm) * costs.get(arm, 0.0) for arm, choice in chosen.items() if not choice.tried
    )
    done = Counter(record.arm for record in records if record.study == study.name)
    took = sum(record.content["seconds"] for record in records if record.study == study.name)
    left = {arm: max(0, count - done[arm]) for arm, count in wanted.items()}
    seconds_in_all = took + sum(count * costs.get(arm, 0.0) for arm, count in left.items())
    known = {arm for arm, count in left.items() if count} <= costs.keys()
    return Plan(
        study,
        tuple(outlooks),
        {arm: count + done[arm] for arm, count in left.items()},
        seconds_in_all * study.threads / _MINUTE if known else None,
        spent * study.threads / _MINUTE,
        tuple(dict.fromkeys(faults)),
    )


def impossible(study: Study) -> list[str]:
    """Return why arms of a study cannot be run: what their model, its options or their protocols lack."""
    found = []
    for arm in study.arms:
        try:
            for protocol in arm.protocols:
                subsets.function(protocol)
            if not arm.pretrained and not arm.source:
                _try(arm.model, arm.size or study.size, tuple(arm.options.items()))
        except CnnhwError as error:
            found.append(f"arm {arm.name}: {error}")
    return found


@functools.cache
def _try(model: str, size: int, options: tuple[tuple[str, Any], ...]) -> None:
    """Make a network without weights, once for all arms that have it."""
    with torch.device("meta"):
        models.create(model, size=size, **dict(options))


def unasked(study: Study, records: Sequence[Record], seconds: Mapping[str, float] | None = None) -> Plan:
    """Say what a study that asks nothing, and so is neither tuned nor planned, took and will take."""
    own = [record for record in records if record.study == study.name]
    done = {record.key for record in own}
    left = Counter(job.arm.name for job in study.jobs() if job.key not in done)
    mean = {arm: statistics.fmean(r.content["seconds"] for r in own if r.arm == arm) for arm in {r.arm for r in own}}
    costs = {**(seconds or {}), **mean}
    seconds_in_all = sum(record.content["seconds"] for record in own)
    if known := left.keys() <= costs.keys():
        seconds_in_all += sum(count * costs[arm] for arm, count in left.items())
    runs = left + Counter(record.arm for record in own)
    return Plan(study, (), runs, seconds_in_all * study.threads / _MINUTE if known else None, 0.0, ())


def account(
    studies: Sequence[Study],
    asked: Sequence[Question],
    records: Sequence[Record],
    sd: float | None = None,
    seconds: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Plan]:
    """Plan all studies that ask something, or each of whose seeds has a cut of its own: see `make` and `unasked`."""
    costs = seconds or {}
    return [
        make(one, asked, records, sd, costs.get(one.name))
        if one.questions
        else unasked(one, records, costs.get(one.name))
        for one in studies
        if one.questions or any(_OWN & {*arm.protocols} for arm in one.arms)
    ]


def _outlook(question: Question, asked: Sequence[Question], basis: str, found: Spread | None) -> Outlook:
    blocks, level = question.blocks, questions.confidence(question, asked)
    if question.role == "exploratory":
        seeds = EXPLORATORY
        return Outlook(question, basis, seeds, None if found is None else found.half_width(seeds, level))
    if found is None:
        return Outlook(question, basis, blocks.least, None)
    for seeds in range(blocks.least, blocks.most + 1, blocks.step):
        if (half := found.half_width(seeds, level)) <= question.delta / 2:
            return Outlook(question, basis, seeds, half)
    return Outlook(question, basis, None, found.half_width(blocks.most, level))


def _counts(study: Study, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return how many runs each arm needs, if questions need so many seeds or repeats; others have a few of these."""
    compared = {arm for question in study.questions for arm in question.arms}
    sizes = {arm.name: FOLDS if "fold" in arm.protocols and arm.name not in compared else 1 for arm in study.arms}
    counts = {arm.name: min(EXPLORATORY * sizes[arm.name], len(arm.seeds)) for arm in study.arms}
    for question in study.questions:
        for arm in question.arms:
            size = FOLDS if question.pooled else 1
            counts[arm] = max(counts[arm], size * wanted[question.id])
    return counts


def _most(study: Study, arm: str) -> int:
    """Return how many seeds an arm has to have, so that all blocks can be run."""
    return max(
        (
            (FOLDS if q.pooled else 1) * (EXPLORATORY if q.role == "exploratory" else q.blocks.most)
            for q in study.questions
            if arm in q.arms
        ),
        default=0,
    )


def path(study: Study, where: Path | None = None) -> Path:
    """Return the file of a study's plan."""
    return (where or store.folder()) / store.PLANS / f"{study.name}.json"


def costs(where: Path | None = None) -> dict[str, dict[str, float]]:
    """Return what ``cnnhw study plan --all --measure`` measured last: seconds of a run, by study and arm."""
    place = _costs_file(where)
    try:
        return json.loads(place.read_text(encoding="utf-8"))["seconds"] if place.exists() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CnnhwError(
            f"{place} cannot be read ({error}): cnnhw study plan --all --measure writes it anew"
        ) from error


def write_costs(seconds: Mapping[str, Mapping[str, float]], where: Path | None = None) -> Path:
    """Keep what runs were measured to cost, with the processor and the day."""
    rounded = {study: {arm: round(value, 1) for arm, value in arms.items()} for study, arms in seconds.items()}
    files.write_json(_costs_file(where), {"processor": system.processor(), "date": system.now(), "seconds": rounded})
    return _costs_file(where)


def _costs_file(where: Path | None) -> Path:
    return (where or store.folder()) / store.PLANS / "costs.json"


def write(plan: Plan, where: Path | None = None) -> Path:
    """Write a plan, without which its study is not run; CnnhwError if it cannot be run like this."""
    study = plan.study
    if plan.faults:
        raise CnnhwError(f"study {study.name} cannot be planned: {'; '.join(plan.faults)}")
    content = {
        "study": study.name,
        "questions": questions.hashes(study.questions),
        "expected": {
            one.question.id: {"seeds": one.seeds, "half_width": one.half_width and round(one.half_width, 3)}
            for one in plan.outlooks
        },
        "runs": dict(plan.runs),
        "core_minutes": plan.minutes and round(plan.minutes, 1),
        "date": system.now(),
    }
    files.write_json(path(study, where), content)
    return path(study, where)


def check_planned(study: Study, where: Path | None = None) -> None:
    """Raise CnnhwError if a study with questions was not planned, or they have changed since."""
    if not study.questions:
        return
    place = path(study, where)
    remedy = f"cnnhw study plan {study.name}"
    if not place.is_file():
        raise CnnhwError(f"study {study.name} was not planned: {remedy} does it, after cnnhw study tune {study.name}")
    try:
        planned = json.loads(place.read_text(encoding="utf-8"))["questions"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CnnhwError(f"{place} is not a usable plan ({error}): delete it, and plan anew with {remedy}") from error
    now = questions.hashes(study.questions)
    if changed := sorted(name for name in now.keys() | planned.keys() if now.get(name) != planned.get(name)):
        raise CnnhwError(
            f"study {study.name} was planned for other questions than it has now ({', '.join(changed)}): restore "
            f"them, or, if none of its runs was made, plan anew with {remedy}"
        )


def widths(study: Study, asked: Sequence[Question], records: Sequence[Record]) -> dict[str, tuple[int, float | None]]:
    """Return, by question, how many seeds or repeats are complete, and the half-width that they give."""
    found: dict[str, tuple[int, float | None]] = {}
    for question in study.questions:
        seen = questions.effect(question, records)
        level = questions.confidence(question, asked)
        found[question.id] = (seen.seeds, questions.half_width(question, seen, level)) if seen else (0, None)
    return found


def following(study: Study, asked: Sequence[Question], records: Sequence[Record]) -> list[Job]:
    """Return the runs that come next: those of the first block, then of one more for what is not precise; else none."""
    keys = {job.key for job in study.jobs()}
    records = [record for record in records if record.study == study.name and record.key in keys]
    wanted = {}
    for question in study.questions:
        seen, blocks = questions.effect(question, records), question.blocks
        if question.role == "exploratory":
            wanted[question.id] = EXPLORATORY
        elif seen is None:
            wanted[question.id] = blocks.least
        else:
            enough = questions.precise(question, seen, questions.confidence(question, asked))
            wanted[question.id] = seen.seeds + (0 if enough else blocks.step)
    counts = _counts(study, wanted)
    done = {record.key for record in records}
    first = {(arm.name, seed) for arm in study.arms for seed in sorted(arm.seeds)[: counts[arm.name]]}
    return [job for job in study.jobs() if (job.arm.name, job.seed) in first and job.key not in done]


def run(
    study: Study, asked: Sequence[Question], processes: int | None = None, where: Path | None = None,
    progress: bool = True,
) -> list[Job]:  # fmt: skip
    """Run a planned study block by block; return the jobs that other processes were running."""
    check_planned(study, where)
    if study.questions and (faults := make(study, asked, store.read(f"{study.name}{tuning.SUFFIX}", where)).faults):
        raise CnnhwError(f"study {study.name} cannot be run as it is now: {'; '.join(faults)}")
    while jobs := following(study, asked, store.read(study.name, where)):
        if elsewhere := queue.run(jobs, processes, where, progress):
            return elsewhere
    return []
