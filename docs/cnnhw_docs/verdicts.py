"""What the records say of questions, worked out once a build, and how a page may put it into words."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from cnnhw.book import registry
from cnnhw.studies.measures import Measure
from cnnhw.studies.questions import PREDICTIONS, Answer
from cnnhw.studies.store import Record
from cnnhw_docs import records

FINDINGS = (*PREDICTIONS, "cannot tell")
NOT_RUN, EXPLORATORY, UNSOUND = "not run", "exploratory", "not sound"
_BEFORE = {
    "no": "before any run that decides it",
    "in part": "before the runs that decide it; the outcome was known in part, from earlier runs",
    "yes": "after runs of its arms: the outcome was known",
}


@dataclass(frozen=True)
class Said:
    """What records say of a question, in the unit of its measure."""

    id: str
    study: str
    chapter: str
    statement: str
    measure: Measure
    effect: float | None  # None before the runs are complete; so are `low` and `high`
    low: float | None
    high: float | None
    interval: str  # what it is called
    runs: str  # how many, in words
    finding: str | None  # one of FINDINGS or NOT_RUN; None where none may be stated
    verdict: str  # or why there is none: NOT_RUN, EXPLORATORY, UNSOUND
    prediction: str
    delta: float
    rule: tuple[str, ...]  # what is compared and predicted, and what would refute it
    registered: str
    role: str
    asked: str  # its effect, in words that do not give the prediction away
    known: str  # what its badge says if the outcome was known beforehand
    note: str  # why there is no verdict

    @property
    def anchor(self) -> str:
        """Where it is on the page of all questions."""
        return f"question-{self.id}"

    @property
    def decides(self) -> bool:
        """Whether it is a question that has a finding, or will have one."""
        return self.role in ("primary", "secondary") and self.finding is not None

    @property
    def badge(self) -> str:
        """The verdict, and whether the outcome was known."""
        return f"{self.verdict} ({self.known})" if self.known and self.effect is not None else self.verdict

    @property
    def colour(self) -> str:
        """The class of its mark."""
        return f"verdict-{self.verdict.replace(' ', '-')}"

    def amount(self, value: float, form: str) -> str:
        """Return a figure with its unit; one in brackets, such as "(of 1)", is for tables."""
        unit = self.measure.unit
        return f"{value:{form}}" + ("" if unit.startswith("(") else f" {unit}")


@functools.cache
def said() -> dict[str, Said]:
    """Return what there is to say of questions, by identifier; worked out once a build."""
    found = records.every()
    return {answer.question.id: of_answer(answer, found) for answer in registry.answers(found)}


def get(identifier: str) -> Said:
    """Return what is said of a question; ValueError if there is none."""
    if identifier not in said():
        raise ValueError(f"there is no question {identifier!r}; there are {', '.join(said())}")
    return said()[identifier]


def checked(one: Said, asserted: str) -> None:
    """Raise ValueError if the records give another verdict than the page asserts."""
    if one.verdict != asserted:
        raise ValueError(f"the page says {one.id} is {asserted!r}, the records say {one.verdict!r}")


def of_answer(answer: Answer, found: Sequence[Record] = ()) -> Said:
    """Return what is said of a question; `found` are the records, which tell whether its runs have begun."""
    asked, (low, high) = answer.question, answer.interval or (None, None)
    level = f"{100 * answer.confidence:g} % interval"
    margin = f"{asked.delta:g} {asked.measure.unit}"
    compared = (
        f"Asked: how high is {asked.asked}?" if asked.asked else f"Compared: {asked.compared}, in {asked.measure.name}."
    )
    note = ""
    if low is None and any(record.study == asked.study for record in found):
        note = "Its runs have begun; nothing is said before the last."
    elif low is not None and answer.unsound:
        note = f"Not sound: {answer.unsound}."
    return Said(
        asked.id, asked.study, asked.chapter, asked.statement, asked.measure,
        effect=None if answer.effect is None else asked.measure.scale * answer.effect.effect,
        low=low, high=high,
        interval=level if answer.confidence <= 0.95 else f"simultaneous {level}",
        runs=f"{answer.effect.seeds if answer.effect else 0} {asked.counted}",
        finding=answer.finding,
        verdict=answer.verdict or (EXPLORATORY if asked.role == "exploratory" else UNSOUND),
        prediction=asked.prediction,
        delta=asked.delta,
        rule=(
            f"{compared} The same in all: {asked.held}.",
            f"Predicted: {asked.prediction}. Less than {margin} does not matter{'' if low is None else ' (shaded)'}.",
            f"What would refute it: {asked.refuted_by}.",
        ),
        registered=f"Registered {asked.registered}, {_BEFORE[answer.known]}.",
        role=asked.role,
        asked=asked.asked,
        known={"no": "", "in part": "known in part", "yes": "known"}[answer.known],
        note=note,
    )  # fmt: skip


def figures(one: Said) -> str:
    """Return the effect with its interval and the number of seeds, as a table holds them."""
    if one.effect is None:
        return "not measured yet"
    unit = one.measure.unit
    return f"{one.effect:+z.2f} {unit}, {one.interval} {one.low:+z.2f} to {one.high:+z.2f}, {one.runs}"


def short(one: Said, link: str = " (") -> str:
    """Return the effect with its interval as a sentence holds it: "+4.9 points (3.4 to 6.4)"; or that it is not run."""
    if one.effect is None or one.low is None:
        return NOT_RUN
    digits = one.measure.digits
    sign = "" if round(one.low, digits) > 0 else "+"
    ends = f"{one.low:z.{digits}f} to {one.high:{sign}z.{digits}f}"
    return f"{one.amount(one.effect, f'+z.{digits}f')}{link}{ends}{')' if '(' in link else ''}"


def measured(one: Said) -> str:
    """Return the effect with its interval, what that is called, and the number of seeds; or that it is not run."""
    return short(one) if one.effect is None else f"{short(one)}, {one.interval}, {one.runs}"


def in_words(one: Said, words: str) -> str:
    """Return the finding in words that fit into a sentence, of which the records choose.

    ``"gain/lose/change little/cannot be told"`` are for *higher*, *lower*, *no difference that matters* and *cannot
    tell*; the last may be missing. The first two are followed by the effect's size, the others by effect and interval,
    unless ``{effect}`` says where they go; ``{delta}`` is the effect that matters. Without a slash the words are the
    finding itself. Raises ValueError if the records give another finding, or none.
    """
    forms = [form.strip() for form in words.split("/")]
    if one.finding == NOT_RUN:
        raise ValueError(f"{one.id} is not run yet: no finding can be stated")
    if one.finding is None or one.effect is None or one.low is None or one.high is None:
        raise ValueError(f"{one.id} is {one.verdict}: it has no finding, only an :effect:")
    if len(forms) == 1:
        if forms[0] not in FINDINGS:
            raise ValueError(
                f"{words!r} is no finding: give one of {', '.join(FINDINGS)}, or words for each, with slashes between"
            )
        if forms[0] != one.finding:
            raise ValueError(f"the page says {one.id} is {forms[0]!r}, the records say {one.finding!r}")
        return f"{one.finding} ({short(one, ', ')})"
    place = FINDINGS.index(one.finding)
    if place >= len(forms) or len(forms) > len(FINDINGS):
        raise ValueError(f"the records say {one.id} is {one.finding!r}, for which {words!r} has no words")
    digits, form = one.measure.digits, forms[place]
    near, far = sorted((abs(one.low), abs(one.high)))
    size = f"{one.amount(abs(one.effect), f'.{digits}f')} ({near:.{digits}f} to {far:.{digits}f})"
    shown = size if place < 2 else short(one) if "{effect}" in form else f"({short(one, ', ')})"
    whole = form if "{effect}" in form else f"{form} {{effect}}"
    return whole.replace("{effect}", shown).replace("{delta}", one.amount(one.delta, "g"))
