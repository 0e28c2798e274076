"""``.. soundness:: STUDY ...``: whether arms have learnt, were tuned alike, and differ in the one thing named; folded.

Arms are said in the words that ``.. trained::`` has for them on the same page.

``.. plans::`` is what ``cnnhw study plan --all`` says: half-widths and costs of all studies that are to be run.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from cnnhw.book import registry
from cnnhw.errors import CnnhwError
from cnnhw.studies import plan, soundness
from cnnhw_docs import records, trained

_MARKS = {True: "yes", False: "no", None: "not known yet"}
_HEAD = ("Is it so?", "Arm or question", "What was found", "")
_PLANNED = ("Study", "Question", "Role", "Half-width wanted", "Expected", "Core-minutes: tuning, runs")
_SD = 1.5  # points


class Soundness(SphinxDirective):
    """``.. soundness:: STUDY``, or several."""

    required_arguments = 1
    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        out: list[nodes.Node] = []
        words = trained.named(Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf-8"))
        for name in self.arguments:
            try:
                study = registry.get(name)
            except CnnhwError as error:
                return [self.state.document.reporter.warning(f"soundness: {error}", line=self.lineno)]
            found = [record for record in records.every() if record.study.startswith(name)]
            if not any(record.study == name for record in found):
                out.append(nodes.paragraph("", f"The runs of {name} are not made yet."))
                continue
            if why := soundness.unsound(study, found):
                out.append(nodes.warning("", nodes.paragraph("", f"No verdicts are given: {why}.")))
            checks = soundness.check(study, found)
            out.append(_fold(f"Were the runs of {name} sound? {_summary(checks)}"))
            out += [table(checks, words), nodes.raw("", "</details>", format="html")]
        return out


def _summary(checks: list[soundness.Check]) -> str:
    """Say how many of the checks that decide hold; how many of all, if a study's questions are all exploratory."""
    decide = [one for one in checks if one.decides] or checks
    good = sum(one.good is True for one in decide)
    return f"{'All' if good == len(decide) else f'{good} of'} {len(decide)} checks hold."


def _fold(words: str) -> nodes.raw:
    """Begin what is folded under some words."""
    return nodes.raw("", f'<details class="soundness"><summary>{html.escape(words)}</summary>', format="html")


def table(checks: list[soundness.Check], words: Mapping[str, str]) -> nodes.table:
    """Return the checks as a table; what verdicts do not depend on is marked as exploratory."""
    rows = [
        (
            one.what,
            f"{words[one.of]} ({one.of})" if one.of in words else one.of,
            one.said,
            _MARKS[one.good] + ("" if one.decides else " (exploratory)"),
        )
        for one in checks
    ]
    return _table(_HEAD, rows, (18, 20, 50, 12))


class Plans(SphinxDirective):
    """``.. plans::``."""

    def run(self) -> list[nodes.Node]:
        every = [registry.get(name) for name in registry.names()]
        return [planned(plan.account(every, registry.QUESTIONS, records.every(), _SD, plan.costs()))]


def planned(made: list[plan.Plan]) -> nodes.table:
    """Return plans as a table, a row a question, with what they cost together at its foot."""
    rows = []
    for one in made:
        cost = "not measured yet" if one.minutes is None else f"{one.tuning:.0f}, {one.minutes:.0f}"
        for look in one.outlooks:
            asked = look.question
            half = "not known yet" if look.half_width is None else f"{look.half_width:.2g}"
            count = f"with {look.seeds or asked.blocks.most} {asked.counted}"
            guess = ", assumed" if look.half_width is not None and look.basis != "pilot" else ""
            wanted = "" if asked.role == "exploratory" else f"{asked.delta / 2:g} {asked.measure.unit}"
            rows.append((one.study.name, asked.id, asked.role, wanted, f"{half} {count}{guess}", cost))
            cost = ""
        if not one.outlooks:
            rows.append((one.study.name, "", "", "", f"{sum(one.runs.values())} runs", cost))
    tuned, runs = sum(one.tuning for one in made), sum(one.minutes or 0.0 for one in made)
    rows.append(("all", "", "", "", "", f"{tuned:.0f}, {runs:.0f}"))
    return _table(_PLANNED, rows, (14, 22, 12, 14, 22, 16))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], widths: tuple[int, ...]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(head))
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group, classes=["soundness"])


def _row(cells: tuple[str, ...]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    app.add_directive("soundness", Soundness)
    app.add_directive("plans", Plans)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
