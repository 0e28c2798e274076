"""Soundness: whether a study's arms have learnt, were tuned alike, and differ in the one thing named.

It is checked before verdicts are given: a study that fails gives none.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnhw.studies import tuning
from cnnhw.studies.measures import MEASURES
from cnnhw.studies.questions import Question
from cnnhw.studies.store import Record
from cnnhw.studies.study import Job, Study

__all__ = ["Check", "check", "differences", "unsound"]

_DELTA = 2.5  # points of accuracy, of studies whose questions are about something else
_RATES = 5
_SURE = 1.96  # standard errors
_RATE = "learning_rate"
_STAGE = re.compile(r"recipe\.-\d+\.")


@dataclass(frozen=True)
class Check:
    """One line of a study's table of soundness.

    - ``what`` (str): ``"learnt"``, ``"above guessing"``, ``"tuned alike"`` or ``"varied as named"``.
    - ``of`` (str): the arm or question.
    - ``said`` (str): what was found, with its figures.
    - ``good`` (bool or None): whether it is as it should be; None if it is not known yet.
    - ``decides`` (bool): whether verdicts depend on it: not for arms of exploratory questions alone.
    """

    what: str
    of: str
    said: str
    good: bool | None
    decides: bool


def check(study: Study, records: Sequence[Record]) -> list[Check]:
    """Return what records say about a study's soundness.

    Parameters
    ----------
    study : Study
        The study.
    records : sequence of Record
        Its records and those of its tuning, and any others.

    Returns
    -------
    list of Check
        For each arm, whether twice the epochs change its accuracy by less than half the effect that matters, whether no
        run is at guessing level, and how its rate was chosen; for each question, in what its arms' configurations
        differ.
    """
    deciding = [question for question in study.questions if question.role != "exploratory"]
    chosen = tuning.choices(study, records)
    found = []
    for arm in study.arms:
        choice, decides = chosen[arm.name], tuning.decisive(study, arm.name)
        margin = min((q.delta for q in deciding if q.measure.by_photo and arm.name in q.arms), default=_DELTA) / 2
        own = [r for r in records if r.study in (study.name, f"{study.name}{tuning.SUFFIX}")]
        pilot = tuning.pilots(study, records, arm.name)
        runs = [*(r for r in own if (r.study, r.arm) == (study.name, arm.name)), *pilot]
        rate = tuning.rate(study, arm.name)
        found += [
            Check("learnt", arm.name, *_learnt(choice, rate, margin), decides),
            Check("above guessing", arm.name, *_guessing(runs), decides),
            Check("tuned alike", arm.name, *_tuned(choice, rate), decides),
        ]
    for question in study.questions:
        said, good = _varied(study, question)
        found.append(Check("varied as named", question.id, said, good, question in deciding))
    return found


def unsound(study: Study, records: Sequence[Record]) -> str:
    """Return why a study gives no verdicts, in one line; "" if it is sound, or has none to give."""
    if all(question.role == "exploratory" for question in study.questions):
        return ""
    return "; ".join(
        f"{one.what}: {one.of}: {one.said}" for one in check(study, records) if one.decides and not one.good
    )


def _learnt(choice: tuning.Choice, rate: float, margin: float) -> tuple[str, bool | None]:
    if choice.double is None or choice.rate != rate:
        return "not run with twice the epochs at this rate", None
    change = 100 * (choice.double - choice.whole[rate])
    good = abs(change) < margin
    digits = 1 if (abs(round(change, 1)) < margin) == good else 2  # 2.46 is not to read as 2.5
    return f"twice the epochs change the accuracy by {change:+z.{digits}f} points (less than {margin:g})", good


def _guessing(runs: Sequence[Record]) -> tuple[str, bool | None]:
    """Say how many runs are no better than guessing on their validation photos, at the best epoch."""
    if not runs:
        return "no runs yet", None
    low = 0
    for run in runs:
        share = 1 / len(run.classes)
        stderr = math.sqrt(share * (1 - share) / run.content["data"]["photos"]["validation"])
        low += MEASURES["validation"](run) <= share + _SURE * stderr
    worst = min(MEASURES["validation"](run) for run in runs)
    said = f"{low} of {len(runs)} runs, pilots included, at guessing level; lowest validation accuracy {worst:.3f}"
    return said, not low


def _tuned(choice: tuning.Choice, rate: float) -> tuple[str, bool | None]:
    if choice.rate is None:
        return "not tuned", None
    ends = f"{min(choice.tried):g} to {max(choice.tried):g}"
    edge = ", at the edge of the grid" if choice.at_edge else ""
    other = f", but it is run at {rate:g}" if rate != choice.rate else ""
    full = f", {len(choice.whole)} with all epochs" if len(choice.whole) > 2 else ""
    said = f"rate {choice.rate:g}, of {len(choice.tried)} from {ends}{full}{edge}{other}"
    return said, len(choice.tried) >= _RATES and not choice.at_edge and rate == choice.rate


def differences(first: Job, second: Job) -> dict[str, tuple[Any, Any]]:
    """Return in what the configurations of two runs differ, by dotted name, as the values of both; not in the seed."""
    one, two = (dict(_leaves(job.configuration | {"seed": 0})) for job in (first, second))
    return {name: (one.get(name), two.get(name)) for name in sorted({*one, *two}) if one.get(name) != two.get(name)}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for number, part in enumerate(value, start=-len(value)):  # counted from the last, which all transfers have
            yield from _leaves(part, f"{name}.{number}")
    else:
        yield name, value


def _varied(study: Study, question: Question) -> tuple[str, bool | None]:
    """Say in what the arms of a question differ, but for tuned rates; a pair at a time."""
    arms = {arm.name: arm for arm in study.arms}
    seed = arms[question.arms[0]].seeds[0]  # that a transfer's source has, too
    jobs = [Job(study, arms[name], seed) for name in question.arms]
    pairs = [(0, 1), (2, 3), (0, 2)] if len(jobs) == 4 else [(0, 1)] if len(jobs) == 2 else []
    said, changed = [], []
    for a, b in pairs:
        found = differences(jobs[a], jobs[b])
        kept = {name: both for name, both in found.items() if _named(name, question) or not name.endswith(_RATE)}
        changed.append({*kept})
        text = ", ".join(_in_words(kept)) or "nothing"
        rate = " (and the tuned rate)" if len(kept) < len(found) else ""
        said.append(f"{question.arms[a]} and {question.arms[b]}: {text}{rate}")
    if not pairs:
        return "one arm alone", True
    named = [
        bool(names) and (all(_named(name, question) for name in names) if question.varied else len(names) == 1)
        for names in changed
    ]
    # both pairs of an interaction differ in the same
    return "; ".join(said), all(named) and (len(changed) == 1 or changed[0] == changed[1])


def _in_words(found: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    """Say each difference; one line for a stage that only one of the runs has."""
    for stage, names in itertools.groupby(found, lambda name: (_STAGE.match(name) or [""])[0]):
        both = {name: found[name] for name in names}
        trained = both.get(f"{stage}train", ())
        if stage and None in trained:
            yield f"a stage that trains {next(filter(None, trained))}, or none"
        else:
            yield from (f"{name} {_short(one)} or {_short(two)}" for name, (one, two) in both.items())


def _named(name: str, question: Question) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in question.varied)


def _short(value: Any) -> str:
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
