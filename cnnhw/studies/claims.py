"""Claims: what the first edition said about accuracy or speed. New studies have questions (`cnnhw.studies.questions`).

A claim names its study, the two arms that it compares, the measure, a margin, and what would refute it. The verdict is
computed from records: supported, refuted, or not resolved. Nobody types a verdict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from cnnhw.studies.measures import ACCURACY, Measure
from cnnhw.studies.questions import PREDICTIONS, finding
from cnnhw.studies.statistics import Comparison
from cnnhw.studies.store import Record

__all__ = ["SEEDS", "Claim", "Verdict", "alike", "hashes", "higher", "holm", "judge", "of_study"]

SEEDS = 6
LEVEL = 0.05


@dataclass(frozen=True)
class Claim:
    """One statement, and how it is decided.

    - ``id`` (str): a short name, unique in the book.
    - ``first``, ``second`` (str): the arms; the effect is the measure of the first minus that of the second.
    - ``statement`` (str): what is claimed, in one sentence.
    - ``refuted_by`` (str): what would refute it, in words.
    - ``study`` (str): the study that measures it.
    - ``registered`` (str): the day, as in ``"2026-11-24"``.
    - ``measure`` (Measure): what is compared.
    - ``direction`` ({"greater", "less", "equivalent"}): what the effect should be, compared with `margin`.
    - ``margin`` (float): 0 or more, in units of the measure: how much greater, how much less, or within how much of
      each other.
    - ``known_in_part`` (bool): whether the outcome was known in part, from an earlier set of runs that is not kept.
    """

    id: str
    first: str
    second: str
    statement: str
    refuted_by: str
    _: KW_ONLY
    study: str
    registered: str
    measure: Measure = ACCURACY
    direction: str = "greater"
    margin: float = 0.0
    known_in_part: bool = False

    def __post_init__(self) -> None:
        if self.direction not in ("greater", "less", "equivalent") or self.margin < 0:
            raise ValueError(f"claim {self.id}: direction {self.direction!r} with margin {self.margin} is not possible")

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that stand for all that decides the claim."""
        said = {field.name: getattr(self, field.name) for field in fields(self)} | {"measure": self.measure.name}
        del said["known_in_part"]  # a note on the claim, which decides nothing
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def higher(id: str, first: str, second: str, statement: str, points: float = 0.0, **rest: Any) -> Claim:
    """Return the claim that an arm is more accurate than another, by so many points at least; `rest` as of `Claim`."""
    refuted_by = f"a gain of less than {points:g} points" if points else "an accuracy that is no higher"
    return Claim(id, first, second, statement, refuted_by, margin=points / 100, **rest)


def alike(id: str, first: str, second: str, statement: str, points: float = 2.5, **rest: Any) -> Claim:
    """Return the claim that the accuracies of two arms lie within so many points; `rest` as of `Claim`."""
    settings = {"refuted_by": f"a difference of more than {points:g} points", **rest}
    return Claim(id, first, second, statement, direction="equivalent", margin=points / 100, **settings)


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim."""

    claim: Claim
    verdict: str  # "supported", "refuted" or "not resolved", corrected for all claims about the study
    plain: str  # the same by the 95 % interval alone
    effect: Comparison | None  # None of fewer than two seeds
    seeds: int  # pairs of runs
    # what was known of the outcome when the claim was written down: "no", as it stood, word for word, before all runs,
    # and its hash is in their records; "in part", from earlier runs that are not kept; "post hoc", as it came later
    known: str

    @property
    def beforehand(self) -> bool:
        """Whether the claim stood before any run whose outcome could be known."""
        return self.known == "no"

    def summary(self, chapter: str) -> dict[str, Any]:
        """Return the verdict as plain values, in the terms of :class:`cnnhw.studies.questions.Answer`."""
        claim, run = self.claim, self.effect is not None
        scale, margin = claim.measure.scale, claim.margin
        low, high = self.effect.interval() if self.effect else (None, None)
        said = "cannot tell" if self.seeds < SEEDS or low is None or high is None else finding(low, high, margin)
        return {
            "id": claim.id,
            "chapter": chapter,
            "role": "first-edition",
            "statement": claim.statement,
            "prediction": {"greater": "higher", "less": "lower"}.get(claim.direction, PREDICTIONS[2]),
            "finding": said if run else "not run",
            "verdict": self.verdict.replace("not resolved", "open") if run else "not run",
            "effect": scale * self.effect.effect if self.effect else None,
            "low": None if low is None else scale * low,
            "high": None if high is None else scale * high,
            "delta": scale * margin,
            "unit": claim.measure.unit,
            "n": self.seeds,
            "study": claim.study,
            "registered": claim.registered,
            "known": self.known.replace("post hoc", "yes"),
        }


def of_study(claims: Sequence[Claim], study: str) -> tuple[Claim, ...]:
    """Return the claims about one study."""
    return tuple(claim for claim in claims if claim.study == study)


def hashes(claims: Sequence[Claim]) -> dict[str, str]:
    """Return the hash of each claim by its identifier: what a record keeps of them."""
    return {claim.id: claim.hash for claim in claims}


def judge(claims: Sequence[Claim], records: Sequence[Record]) -> list[Verdict]:
    """Decide claims from records.

    Parameters
    ----------
    claims : sequence of Claim
        All claims of the studies concerned: those of one study are corrected together.
    records : sequence of Record
        Records of these studies, and any others.

    Returns
    -------
    list of Verdict
        One a claim, in order. A claim with fewer than `SEEDS` pairs of runs is not resolved.

    Raises
    ------
    UnknownNameError
        If a record does not have a claim's measure.
    """
    effects = {claim.id: _effect(claim, records) for claim in claims}
    decided: dict[str, bool] = {}
    for study in dict.fromkeys(claim.study for claim in claims):
        enough = [c for c in of_study(claims, study) if (e := effects[c.id]) is not None and e.seeds >= SEEDS]
        p_values = [2 * min(_p_values(claim, effects[claim.id])) for claim in enough]
        decided |= zip((claim.id for claim in enough), holm(p_values), strict=True)
    verdicts = []
    for claim in claims:
        effect = effects[claim.id]
        plain = "not resolved"
        if claim.id in decided:
            support, refute = _p_values(claim, effect)
            if min(support, refute) < LEVEL / 2:
                plain = "supported" if support < refute else "refuted"
        verdicts.append(
            Verdict(
                claim=claim,
                verdict=plain if decided.get(claim.id) else "not resolved",
                plain=plain,
                effect=effect,
                seeds=effect.seeds if effect else 0,
                known=_known(claim, records),
            )
        )
    return verdicts


def _known(claim: Claim, records: Sequence[Record]) -> str:
    """Return what was known of the outcome when the claim was written down, as in :class:`Verdict`."""
    arms = [r for r in records if r.study == claim.study and r.arm in (claim.first, claim.second)]
    if any(r.content.get("claims", {}).get(claim.id) != claim.hash for r in arms):
        return "post hoc"
    return "in part" if claim.known_in_part else "no"


def holm(p_values: Sequence[float]) -> list[bool]:
    """Say which hypotheses are rejected, in order, with a familywise error of at most 5 % (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, i in enumerate(order):
        if p_values[i] > LEVEL / (len(order) - rank):
            break
        rejected[i] = True
    return rejected


def _effect(claim: Claim, records: Sequence[Record]) -> Comparison | None:
    """Return the effect over the seeds that both arms have."""
    arms = [
        {r.seed: r for r in records if r.study == claim.study and r.arm == arm} for arm in (claim.first, claim.second)
    ]
    seeds = sorted(arms[0].keys() & arms[1].keys())
    if len(seeds) < 2:
        return None
    first, second = ([arm[seed] for seed in seeds] for arm in arms)
    return claim.measure.compare(first, second)


def _p_values(claim: Claim, effect: Comparison | None) -> tuple[float, float]:
    """Return the one-sided p-values of what would speak for the claim, and of what would speak against it."""
    assert effect is not None
    m = claim.margin
    if claim.direction == "greater":
        return effect.p_above(m), effect.p_below(m)
    if claim.direction == "less":
        return effect.p_below(-m), effect.p_above(-m)
    return max(effect.p_above(-m), effect.p_below(m)), min(effect.p_above(m), effect.p_below(-m))
