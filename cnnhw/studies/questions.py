"""Questions: what a study is to settle, and how large an effect would matter, written down before it is run.

A question is planned for precision: seeds are added until its interval is at most as wide as the effect that matters,
looking at the width alone. Finding and verdict are computed from that interval, which is also the one that is drawn.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnhw.data.subsets import FOLDS
from cnnhw.errors import CnnhwError, UnknownNameError
from cnnhw.studies import folds
from cnnhw.studies.measures import ACCURACY, Measure
from cnnhw.studies.statistics import Comparison, contrast, correct, resampled
from cnnhw.studies.store import Record

__all__ = [
    "BLOCKS",
    "EXPLORATORY",
    "PREDICTIONS",
    "REPEATS",
    "Answer",
    "Blocks",
    "Question",
    "answers",
    "check",
    "confidence",
    "effect",
    "estimate",
    "finding",
    "half_width",
    "hashes",
    "precise",
    "resampled_t",
    "verdict",
]

PREDICTIONS = ("higher", "lower", "no difference that matters")
_ROLES = ("primary", "secondary", "exploratory")
_KNOWN = ("no", "in part", "yes")
_LEVEL = 0.05
_SECONDARY = 2  # at most, a chapter
EXPLORATORY = 6
"""Seeds of an exploratory question, at least."""


@dataclass(frozen=True)
class Blocks:
    """How seeds are added: `least` at first, then `step` at a time, `most` at most."""

    least: int
    step: int
    most: int

    def whole(self, seeds: int) -> int:
        """Return how many of so many seeds are whole blocks; 0 if there are too few."""
        return 0 if seeds < self.least else min(self.most, seeds - (seeds - self.least) % self.step)


BLOCKS = Blocks(8, 4, 24)
"""Of seeds."""
REPEATS = Blocks(6, 2, 12)
"""Of repeats of pooled cross-validation."""


@dataclass(frozen=True)
class Question:
    """One question to a study, with a prediction, and the effect that would matter.

    - ``id`` (str): a short name, unique in the book, such as ``"q2-shortcuts"``.
    - ``arms`` (tuple of str): two arms, a - b; four, the interaction (a - b) - (c - d); or one, less ``against``.
    - ``statement`` (str): what is predicted, in one sentence.
    - ``chapter``, ``study`` (str): where it is asked, and the study that answers it.
    - ``prediction`` ({"higher", "lower", "no difference that matters"}): what the effect is expected to be.
    - ``delta`` (float): the effect that matters, in the unit of the measure, above 0: nobody should care for less.
    - ``held`` (str): what is the same in all arms.
    - ``registered`` (str): the day, before any run of it, as in ``"2026-11-24"``.
    - ``role`` ({"primary", "secondary", "exploratory"}): a chapter has one primary question at most, and two secondary
      ones, whose intervals hold together; exploratory ones have no verdict.
    - ``known`` ({"no", "in part", "yes"}): whether the outcome was known when it was registered.
    - ``measure`` (Measure): what is compared: see ``cnnhw.studies.measures``.
    - ``against`` (float or Measure): of one arm: a fixed value in the measure's unit, or the measure of its own start.
    - ``pooled`` (bool): whether the arms are cross-validated by the protocol ``"fold"``: then a repeat, in whose five
      folds every photo is tested once, counts as one seed.
    - ``asked`` (str): the effect in words that do not give the prediction away, as an end to "How high is", for readers
      who guess first; primary and secondary questions of the book have it.
    - ``varied`` (tuple of str): the fields of a run's configuration, by dotted name or what that begins with, in which
      two arms may differ beside their tuned rates, as ``cnnhw study check`` prints them (``"recipe.-1"`` is a
      transfer's last stage); by default any single one.

    Raises CnnhwError if it is not possible.

    Examples
    --------
    >>> asked = Question(
    ...     "q7-wide", ("wide", "narrow"), "Wide is more accurate.", chapter="q7", study="q7", prediction="higher",
    ...     delta=2.5, held="recipe, photos and depth", registered="2027-01-01", role="primary",
    ... )
    >>> asked.refuted_by
    'an accuracy that is lower, or surely differs by less than 2.5 points'
    """

    id: str
    arms: tuple[str, ...]
    statement: str
    _: KW_ONLY
    chapter: str
    study: str
    prediction: str
    delta: float
    held: str
    registered: str
    role: str = "secondary"
    known: str = "no"
    measure: Measure = ACCURACY
    against: float | Measure | None = None
    pooled: bool = False
    asked: str = ""
    varied: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        allowed = {"prediction": PREDICTIONS, "role": _ROLES, "known": _KNOWN}
        for name, choices in allowed.items():
            if getattr(self, name) not in choices:
                raise CnnhwError(f"question {self.id}: {name} {getattr(self, name)!r} is none of {', '.join(choices)}")
        for name, kinds in {"measure": Measure, "against": Measure | float | int | None}.items():
            if not isinstance(getattr(self, name), kinds):
                raise CnnhwError(
                    f"question {self.id}: {name} is {getattr(self, name)!r}, not a Measure, as "
                    "cnnhw.studies.measures.MEASURES holds them by name"
                )
        if len(self.arms) == 2 and len(set(self.arms)) == 1:
            raise CnnhwError(f"question {self.id} compares {self.arms[0]} with itself")
        try:
            datetime.date.fromisoformat(self.registered)
        except ValueError:
            raise CnnhwError(f"question {self.id}: registered {self.registered!r} is no day like 2026-11-24") from None
        if not 0 < self.delta < float("inf"):
            raise CnnhwError(f"question {self.id}: delta is {self.delta}; it is above 0, in {self.measure.unit}")
        if len(self.arms) not in (1, 2, 4) or (len(self.arms) == 1) == (self.against is None):
            raise CnnhwError(
                f"question {self.id} has {len(self.arms)} arms: it takes two, four for an interaction, or one and "
                "`against`, a fixed value or the measure of the arm's own start"
            )

    @property
    def blocks(self) -> Blocks:
        """How seeds, or repeats, are added."""
        return REPEATS if self.pooled else BLOCKS

    @property
    def compared(self) -> str:
        """What the effect is, in words."""
        if len(self.arms) == 4:
            return "({} minus {}) minus ({} minus {})".format(*self.arms)
        if len(self.arms) == 2:
            return "{} minus {}".format(*self.arms)
        if isinstance(self.against, Measure):
            return f"{self.arms[0]} minus its own {self.against.name}"
        return f"{self.arms[0]} minus {self.against:g} {self.measure.unit}"

    @property
    def counted(self) -> str:
        """What its runs are counted in: ``"seeds"``, or ``"repeats"`` of cross-validation."""
        return "repeats" if self.pooled else "seeds"

    @property
    def refuted_by(self) -> str:
        """What would refute the prediction."""
        margin = f"{self.delta:g} {self.measure.unit}"
        if self.prediction == PREDICTIONS[2]:
            return f"a difference in {self.measure.name} that is surely larger than {margin}"
        other = "lower" if self.prediction == "higher" else "higher"
        if len(self.arms) == 4:
            return f"a gain in {self.measure.name} that is {other}, or surely differs by less than {margin}"
        article = "an" if self.measure.name[0] in "aeiou" else "a"
        return f"{article} {self.measure.name} that is {other}, or surely differs by less than {margin}"

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that stand for all that decides the question."""
        said = {field.name: getattr(self, field.name) for field in fields(self)} | {"measure": self.measure.name}
        if isinstance(self.against, Measure):
            said["against"] = self.against.name
        del said["known"], said["asked"]  # notes on the question, which decide nothing
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def hashes(questions: Sequence[Question]) -> dict[str, str]:
    """Return the hash of each question by its identifier: what a record keeps of them."""
    return {question.id: question.hash for question in questions}


def check(questions: Sequence[Question], arms: Mapping[str, Sequence[str]], measures: Mapping[str, Measure]) -> None:
    """Raise CnnhwError if questions do not fit together, or to the arms of each study and the measures, by name."""
    for question in questions:
        if question.study not in arms:
            raise CnnhwError(f"question {question.id} is about {question.study!r}, which is no study")
        if missing := [arm for arm in question.arms if arm not in arms[question.study]]:
            raise CnnhwError(
                f"question {question.id} is about {', '.join(missing)}: study {question.study} has no such arm, "
                f"only {', '.join(arms[question.study])}"
            )
        for measure in (question.measure, question.against):
            if isinstance(measure, Measure) and measures.get(measure.name) is not measure:
                raise CnnhwError(
                    f"question {question.id} is about {measure.name!r}, which is no registered measure: add it to the "
                    "chapter's MEASURES"
                )
        if sum(other.id == question.id for other in questions) > 1:
            raise CnnhwError(f"there are two questions {question.id}: give one another id")
    for chapter in dict.fromkeys(question.chapter for question in questions):
        for role, most in (("primary", 1), ("secondary", _SECONDARY)):
            if len(found := [q.id for q in questions if (q.chapter, q.role) == (chapter, role)]) > most:
                raise CnnhwError(
                    f"chapter {chapter} has {len(found)} {role} questions ({', '.join(found)}), and may have {most}: "
                    "make the others exploratory"
                )


def confidence(question: Question, questions: Sequence[Question]) -> float:
    """Return the confidence of a question's interval: 0.95, or, of m secondary ones of its chapter, 1 - 0.05 / m."""
    same = [other for other in questions if (other.chapter, other.role) == (question.chapter, "secondary")]
    return 1 - _LEVEL / (len(same) if question.role == "secondary" else 1)


def finding(low: float, high: float, delta: float) -> str:
    """Return what an interval says: a prediction's words, or ``"cannot tell"``.

    Examples
    --------
    >>> finding(0.4, 2.0, delta=2.5), finding(0.4, 3.0, delta=2.5), finding(-0.4, 3.0, delta=2.5)
    ('no difference that matters', 'higher', 'cannot tell')
    """
    if -delta < low and high < delta:
        return PREDICTIONS[2]
    return "higher" if low > 0 else "lower" if high < 0 else "cannot tell"


def verdict(prediction: str, low: float, high: float, delta: float) -> str:
    """Return what an interval says about a prediction: ``"supported"``, ``"refuted"`` or ``"open"``.

    A direction is refuted by every other finding but ``"cannot tell"``; that no difference matters only by an interval
    wholly beyond `delta`.
    """
    found = finding(low, high, delta)
    if found == prediction:
        return "supported"
    against = low > delta or high < -delta if prediction == PREDICTIONS[2] else found != "cannot tell"
    return "refuted" if against else "open"


@dataclass(frozen=True)
class Answer:
    """What the records say about a question.

    - ``question`` (Question): which.
    - ``effect`` (Comparison or None): None until the study's seeds are complete.
    - ``confidence`` (float): of its interval.
    - ``known`` (str): as the question says, or ``"yes"`` if it was registered after runs of its arms.
    - ``unsound`` (str): why the study gives no verdict; "" if it is sound.
    """

    question: Question
    effect: Comparison | None
    confidence: float
    known: str
    unsound: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval that decides, in the unit of the measure."""
        if self.effect is None:
            return None
        low, high = self.effect.interval(self.confidence)
        return self.question.measure.scale * low, self.question.measure.scale * high

    @property
    def finding(self) -> str | None:
        """The finding; ``"not run"`` before the seeds are complete; None if exploratory or unsound."""
        if self.interval is None:
            return "not run"
        return None if self._grey else finding(*self.interval, self.question.delta)

    @property
    def verdict(self) -> str | None:
        """The verdict on the prediction; ``"not run"`` and None as for the finding."""
        if self.interval is None:
            return "not run"
        return None if self._grey else verdict(self.question.prediction, *self.interval, self.question.delta)

    @property
    def _grey(self) -> bool:
        return bool(self.unsound) or self.question.role == "exploratory"

    def summary(self) -> dict[str, Any]:
        """Return the answer as plain values, as ``cnnhw claims --json`` prints it."""
        asked = self.question
        low, high = self.interval or (None, None)
        return {
            "id": asked.id,
            "chapter": asked.chapter,
            "role": asked.role,
            "statement": asked.statement,
            "prediction": asked.prediction,
            "finding": self.finding,
            "verdict": self.verdict,
            "effect": None if self.effect is None else asked.measure.scale * self.effect.effect,
            "low": low,
            "high": high,
            "delta": asked.delta,
            "unit": asked.measure.unit,
            "n": self.effect.seeds if self.effect else 0,
            "study": asked.study,
            "registered": asked.registered,
            "known": self.known,
        }


def answers(
    questions: Sequence[Question], records: Sequence[Record], unsound: Mapping[str, str] | None = None
) -> list[Answer]:
    """Answer questions from records.

    Parameters
    ----------
    questions : sequence of Question
        All questions of the chapters concerned: the secondary ones of a chapter have simultaneous intervals.
    records : sequence of Record
        Records of their studies, and any others.
    unsound : mapping of str to str, optional
        By study, why it gives no verdicts.

    Returns
    -------
    list of Answer
        One a question, in order. Nothing is said before a study's seeds are complete: before each of its primary and
        secondary questions is precise enough, or has the most seeds that are planned.

    Raises
    ------
    CnnhwError
        If a question was edited or dropped after runs, or records do not have its measure or are of other photos.
    """
    _check_hashes(questions, records)
    effects = {question.id: effect(question, records) for question in questions}
    running = {
        question.study
        for question in questions
        if question.role != "exploratory"
        and not precise(question, effects[question.id], confidence(question, questions))
    }
    found = []
    for question in questions:
        seen = None if question.study in running else effects[question.id]
        if seen is not None and question.role == "exploratory" and seen.seeds < EXPLORATORY:
            seen = None
        late = any(not _holds(record, question) for arm in _runs(question, records) for record in arm.values())
        known = "yes" if late else question.known
        why = (unsound or {}).get(question.study, "")
        found.append(Answer(question, seen, confidence(question, questions), known, why))
    return found


def half_width(question: Question, found: Comparison, confidence: float) -> float:
    """Return half the width of an effect's interval, in the unit of the measure."""
    low, high = found.interval(confidence)
    return question.measure.scale * (high - low) / 2


def precise(question: Question, found: Comparison | None, confidence: float) -> bool:
    """Return whether a question needs no more seeds: half-width at most delta / 2, or as many seeds as are planned."""
    if found is None:
        return False
    enough = half_width(question, found, confidence) <= question.delta / 2
    return enough or found.seeds >= question.blocks.most


def _check_hashes(questions: Sequence[Question], records: Sequence[Record]) -> None:
    now = hashes(questions)
    for record in records:
        for name, kept in record.content.get("questions", {}).items():
            if now.get(name) != kept:
                what = "was edited" if name in now else "was taken away"
                raise CnnhwError(
                    f"question {name} {what} after {record.path.name} was run: restore it, or delete the records of "
                    f"study {record.study}, plan it and run it again with other seeds"
                )


def _holds(record: Record, question: Question) -> bool:
    return question.id in record.content.get("questions", {})


def _runs(question: Question, records: Sequence[Record]) -> list[dict[int, Record]]:
    """Return the runs of each arm by seed: those made for the question, if there are any; else all that there are."""
    own = [record for record in records if record.study == question.study and record.arm in question.arms]
    made = [record for record in own if _holds(record, question)]
    return [{record.seed: record for record in made or own if record.arm == arm} for arm in question.arms]


def effect(question: Question, records: Sequence[Record]) -> Comparison | None:
    """Return a question's effect over the seeds that all its arms have, in whole blocks; None of too few."""
    runs = _runs(question, records)
    shared = set.intersection(*(set(arm) for arm in runs))
    size = FOLDS if question.pooled else 1
    rows = [
        row for row in range(max(shared, default=-1) // size + 1) if shared >= {*range(size * row, size * (row + 1))}
    ]
    blocks = question.blocks
    count = min(len(rows), blocks.most) if question.role == "exploratory" else blocks.whole(len(rows))
    if count < 2:
        return None
    seeds = [seed for row in rows[:count] for seed in range(size * row, size * (row + 1))]
    return estimate(question, [[arm[seed] for seed in seeds] for arm in runs])


def estimate(question: Question, runs: Sequence[Sequence[Record]]) -> Comparison:
    """Return a question's effect over runs of the same seeds, in the same order, by arm."""
    photos = [[run.content["data"]["test_fingerprint"] for run in arm] for arm in runs]
    if photos[0::2] != photos[1::2] and len(runs) > 1:
        raise CnnhwError(f"question {question.id}: {question.compared} were tested on different photos, seed by seed")
    apart = len(runs) == 4 and photos[0] != photos[2]
    against, measure = question.against, question.measure
    try:
        if isinstance(against, Measure):
            return contrast([_figures(question, measure, runs[0])], _figures(question, against, runs[0]))
        take = _scores if measure.by_photo else partial(_figures, measure=measure)
        return contrast([take(question, runs=arm) for arm in runs], (against or 0.0) / measure.scale, apart=apart)
    except UnknownNameError:
        raise
    except CnnhwError as error:
        raise CnnhwError(f"question {question.id}: {error}") from error


def _scores(question: Question, runs: Sequence[Record]) -> NDArray[np.float64]:
    """Return which test photos are correct, by seed or repeat."""
    return folds.pooled(runs) if question.pooled else correct(runs)


def _figures(question: Question, measure: Measure, runs: Sequence[Record]) -> NDArray[np.float64]:
    """Return a figure by seed, or by repeat, of which it is the mean over the folds."""
    values = np.array([measure(run) for run in runs], dtype=float)
    return values.reshape(-1, FOLDS).mean(1) if question.pooled else values


def resampled_t(question: Question, records: Sequence[Record]) -> Comparison | None:
    """Return Nadeau and Bengio's estimate for two cross-validated arms, to stand beside the one that decides."""
    runs = _runs(question, records)
    shared = sorted(set.intersection(*(set(arm) for arm in runs)))
    if not question.pooled or len(runs) != 2 or len(shared) < 2:
        return None
    differences = [question.measure(runs[0][seed]) - question.measure(runs[1][seed]) for seed in shared]
    photos = runs[0][shared[0]].content["data"]["photos"]
    return resampled(differences, photos["test"], photos["train"])
