"""Claims: statements that the book makes about accuracy or speed, written down before they are measured.

A claim names its study, the two arms that it compares, the measure, a margin, and what would refute it. The verdict is
computed from records: supported, refuted, or not resolved. Nobody types a verdict.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnnhw.errors import CnnhwError, UnknownNameError
from cnnhw.studies.statistics import Comparison, compare, of_values, right
from cnnhw.studies.store import Record

__all__ = ["MEASURES", "SEEDS", "Claim", "Verdict", "hashes", "holm", "judge", "of_study", "unit"]

SEEDS = 6
# figures between 0 and 1 that are not accuracies
SHARES = (
    "edge correlation", "magnitude correlation", "orientation selectivity",
    "dc share", "opponent share", "figure-ground", "feature similarity", "early feature similarity",
)  # fmt: skip
LEVEL = 0.05
# Of these studies a first set of runs is not kept. Its outcome was known in part when their claims were written down
# again, before the runs that decide them.
KNOWN_IN_PART = frozenset({"q2", "q3", "q4", "q4_scales"})

# figures of one run that claims are made about; accuracy is compared photo by photo, and so apart from these
MEASURES: dict[str, Callable[[Record], float]] = {
    "loss area": lambda r: statistics.fmean(r.history["loss"]),  # nats: mean training loss over the epochs
    "final loss": lambda r: r.history["loss"][-1],  # nats
    "seconds": lambda r: r.content["seconds"],
    "accuracy over splits": lambda r: r.accuracy(),  # for runs that were tested on different photos
    "epochs to a loss of 1.2": lambda r: _epochs_to(r.history["loss"], 1.2),
}


def _epochs_to(losses: Sequence[float], level: float) -> float:
    """Return when the mean training loss of an epoch falls to a level, between epochs by a straight line.

    A run that never does counts as if it did one epoch after its last.
    """
    for epoch, loss in enumerate(losses, start=1):
        if loss <= level:
            before = losses[epoch - 2] if epoch > 1 else loss
            return epoch - ((level - loss) / (before - loss) if before > level else 0.0)
    return len(losses) + 1.0


def unit(measure: str) -> tuple[float, str]:
    """Return what the figures of a measure are multiplied by on a page, and in which unit they then are.

    Parameters
    ----------
    measure : str
        As in :class:`Claim`.

    Returns
    -------
    tuple of (float, str)
        Such as ``(100, "points")`` for accuracies.
    """
    if measure.startswith("accuracy") or measure.endswith("consistency"):
        return 100.0, "points"
    if measure.startswith("path length"):
        return 1.0, "convolutions"
    if measure.startswith("epochs"):
        return 1.0, "epochs"
    if measure.endswith("weight distance"):
        return 100.0, "% of the weights' norm"
    if measure.startswith("CPU"):
        return 1.0, "ms"
    if measure in SHARES:
        return 1.0, "(of 0 to 1)"
    return 1.0, "s" if measure == "seconds" else "nats"


@dataclass(frozen=True)
class Claim:
    """One statement, and how it is decided.

    Attributes
    ----------
    id : str
        A short name, unique in the book.
    statement : str
        What is claimed, in one sentence.
    study : str
        The study that measures it.
    first, second : str
        The arms; the effect is the measure of the first minus that of the second.
    measure : str
        ``"accuracy"`` (on test photos, paired one by one), one of `MEASURES`, or a figure that the study itself
        measures on its trained networks.
    direction : {"greater", "less", "equivalent"}
        What the effect should be, compared with `margin`.
    margin : float
        0 or more, in units of the measure: how much greater, how much less, or within how much of each other.
    refuted_by : str
        What would refute it, in words.
    registered : str
        The day, as in ``"2026-11-24"``.
    """

    id: str
    statement: str
    study: str
    first: str
    second: str
    measure: str
    direction: str
    margin: float
    refuted_by: str
    registered: str

    def __post_init__(self) -> None:
        if self.direction not in ("greater", "less", "equivalent") or self.margin < 0:
            raise ValueError(f"claim {self.id}: direction {self.direction!r} with margin {self.margin} is not possible")

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that stand for all that decides the claim."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim.

    Attributes
    ----------
    claim : Claim
        The claim.
    verdict : {"supported", "refuted", "not resolved"}
        After the correction for the number of claims about the same study.
    plain : {"supported", "refuted", "not resolved"}
        By the 95 % interval alone.
    effect : Comparison or None
        The effect; None if fewer than two seeds are recorded.
    seeds : int
        Pairs of runs.
    known : {"no", "in part", "post hoc"}
        What was known of the outcome when the claim was written down: nothing, as it stood, word for word, before all
        runs, and its hash is in their records; something, from an earlier set of runs that is not kept; or all, as
        it was added or edited after the runs.
    """

    claim: Claim
    verdict: str
    plain: str
    effect: Comparison | None
    seeds: int
    known: str

    @property
    def beforehand(self) -> bool:
        """Whether the claim stood before any run whose outcome could be known."""
        return self.known == "no"

    def summary(self) -> dict[str, Any]:
        """Return the verdict as plain values, as ``cnnhw claims --json`` prints it."""
        low, high = self.effect.interval() if self.effect else (None, None)
        return {
            "id": self.claim.id,
            "statement": self.claim.statement,
            "verdict": self.verdict,
            "effect": self.effect.effect if self.effect else None,
            "low": low,
            "high": high,
            "n": self.seeds,
            "study": self.claim.study,
            "registered": self.claim.registered,
            "beforehand": self.beforehand,
            "known": self.known,
            "by_interval": self.plain,
        }


def of_study(claims: Sequence[Claim], study: str) -> list[Claim]:
    """Return the claims about one study."""
    return [claim for claim in claims if claim.study == study]


def hashes(claims: Sequence[Claim], study: str) -> dict[str, str]:
    """Return the hash of each claim about a study, by its identifier: what a record keeps of them."""
    return {claim.id: claim.hash for claim in of_study(claims, study)}


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
        If a claim's measure does not exist.
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
    return "in part" if claim.study in KNOWN_IN_PART else "no"


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Say which of several hypotheses are rejected, with a familywise error of at most `level` (Holm 1979).

    Parameters
    ----------
    p_values : sequence of float
        One a hypothesis.
    level : float
        Probability of any false rejection.

    Returns
    -------
    list of bool
        One a hypothesis, in the order given.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, i in enumerate(order):
        if p_values[i] > level / (len(order) - rank):
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
    if claim.measure == "accuracy":
        both = right([*first, *second])
        return compare(both[: len(seeds)], both[len(seeds) :])
    return of_values(*([_figure(claim, record) for record in runs] for runs in (first, second)))


def _figure(claim: Claim, record: Record) -> float:
    if claim.measure in MEASURES:
        return MEASURES[claim.measure](record)
    measured = record.content.get("measures", {})
    if claim.measure not in measured:
        raise UnknownNameError("measure", claim.measure, ["accuracy", *MEASURES, *measured])
    value = measured[claim.measure]
    if not isinstance(value, int | float):
        raise CnnhwError(f"claim {claim.id}: {claim.measure} is not a single figure")
    return float(value)


def _p_values(claim: Claim, effect: Comparison | None) -> tuple[float, float]:
    """Return the one-sided p-values of what would speak for the claim, and of what would speak against it."""
    assert effect is not None
    m = claim.margin
    if claim.direction == "greater":
        return effect.p_above(m), effect.p_below(m)
    if claim.direction == "less":
        return effect.p_below(-m), effect.p_above(-m)
    return max(effect.p_above(-m), effect.p_below(m)), min(effect.p_above(m), effect.p_below(-m))
