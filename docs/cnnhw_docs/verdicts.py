"""Claims in words: their verdicts, judged once a build, and what a page may say of them."""

from __future__ import annotations

import functools

from cnnhw.book.registry import CLAIMS
from cnnhw.studies import claims
from cnnhw.studies.claims import Claim, Verdict
from cnnhw_docs import records


@functools.cache
def verdicts() -> dict[str, Verdict]:
    """Return the verdict of each claim, by identifier; computed once a build."""
    return {verdict.claim.id: verdict for verdict in claims.judge(CLAIMS, records.every())}


def checked(identifier: str, asserted: str, found: dict[str, Verdict]) -> Verdict:
    """Return the verdict of a claim, if it is the one that the page asserts."""
    if identifier not in found:
        raise ValueError(f"there is no claim {identifier!r}; there are {', '.join(found)}")
    if found[identifier].verdict != asserted:
        raise ValueError(f"the page says {identifier} is {asserted!r}, the records say {found[identifier].verdict!r}")
    return found[identifier]


def figures(verdict: Verdict) -> str:
    """Return the effect with its interval and the number of seeds, as text."""
    if verdict.effect is None:
        return "not measured yet"
    scale, unit = verdict.claim.measure.scale, verdict.claim.measure.unit
    low, high = (scale * end for end in verdict.effect.interval())
    return (
        f"{scale * verdict.effect.effect:+.2f} {unit}, 95 % interval {low:+.2f} to {high:+.2f}, {verdict.seeds} seeds"
    )


def short(verdict: Verdict, link: str = ", ") -> str:
    """Return the effect with its interval as a sentence holds it: "+4.9 points, 3.4 to 6.4"."""
    if verdict.effect is None:
        return "not measured yet"
    measure = verdict.claim.measure
    scale, unit, digits = measure.scale, measure.unit, measure.digits
    low, high = (round(scale * end, digits) for end in verdict.effect.interval())
    sign = "" if low > 0 else "+"
    ends = f"{low:.{digits}f} to {high:{sign}.{digits}f}"
    words = "" if unit.startswith("(") else f" {unit}"
    return f"{scale * verdict.effect.effect:+.{digits}f}{words}{link}{ends}{')' if '(' in link else ''}"


def in_words(verdict: Verdict, words: str) -> str:
    """Return the effect in words: with "gain/lose", it is "gain 4.9 points (3.4 to 6.4)" or "lose" as many."""
    more, slash, less = words.partition("/")
    if not slash:
        raise ValueError(f"{words!r} is not two words with a slash between")
    low, high = verdict.effect.interval() if verdict.effect else (0.0, 0.0)
    if low <= 0 <= high:
        raise ValueError(f"the interval of {verdict.claim.id} holds zero: neither {more!r} nor {less!r} can be said")
    measure = verdict.claim.measure
    scale, unit, digits = measure.scale, measure.unit, measure.digits
    near, far = sorted(abs(scale * end) for end in (low, high))
    size = abs(scale * verdict.effect.effect)
    words = "" if unit.startswith("(") else f" {unit}"
    return f"{more if low > 0 else less} {size:.{digits}f}{words} ({near:.{digits}f} to {far:.{digits}f})"


def hint(verdict: Verdict) -> str:
    """Return what a link to a claim says when it is pointed at."""
    known = ", outcome known in part" if verdict.known == "in part" else ""
    return f"{verdict.claim.statement} {figures(verdict)}{known}"


def wanted(claim: Claim) -> str:
    """Return in words what the effect has to be for the claim to hold."""
    scale, unit = claim.measure.scale, claim.measure.unit
    margin = f"{scale * claim.margin:g} {unit}"
    return {
        "greater": f"above {margin}",
        "less": f"below -{margin}" if claim.margin else f"below {margin}",
        "equivalent": f"between -{margin} and {margin}",
    }[claim.direction]
