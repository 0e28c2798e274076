"""The exercises of the chapters, read from their scripts: what each must have, a list of them, and what studies cost.

An exercise and its solution are one place in one script: its text, then the solution, whose code the build executes,
between ``.. solution::`` and ``.. end-solution::``, which fold it. ``.. exercises-index::`` lists them all;
``.. study-times::`` lists the training time of each study, from its records.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri
from sphinx.util.typing import ExtensionMetadata
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

from cnnhw_docs import order, records

logger = logging.getLogger(__name__)

LEAST = 3
"""Exercises that each chapter has at the least."""

_HEAD = re.compile(r"^\*\*(\d+)\. (.+?)\*\* (★{1,3}) ", re.MULTILINE)
_SECTION = re.compile(r"^Exercises\n-+\n", re.MULTILINE)
_OPEN, _CLOSE = ".. solution::\n", ".. end-solution::\n"
_HTML = {
    "solution": '<details class="solution"><summary>Solution</summary>',
    "end-solution": "</details>",
}
_MARK = re.compile(rf"(?P<head>{_HEAD.pattern})|(?P<open>{re.escape(_OPEN)})|(?P<close>{re.escape(_CLOSE)})", re.M)


@dataclass
class Exercise:
    """One exercise: number, title, one to three stars, and the code of its solution, block by block."""

    number: int
    title: str
    stars: int
    solution: list[str] = field(default_factory=list)


def read(path: Path) -> list[Exercise]:
    """Read the exercises of a chapter."""
    found: list[Exercise] = []
    started, state = False, "closed"
    for kind, content, line in split_code_and_text_blocks(str(path))[1]:
        if kind == "code":
            if state == "open":
                found[-1].solution.append(content)
            elif started:
                raise ValueError(f"{path.name}:{line}: code outside of a solution")
            continue
        section = _SECTION.search(content)
        started = started or section is not None
        for mark in _MARK.finditer(content + "\n", section.end() if section else 0):
            what = mark.lastgroup if mark.lastgroup in ("open", "close") else "head"
            if not started:
                raise ValueError(f"{path.name}: a solution before the heading 'Exercises'")
            if (what, state) not in (("head", "closed"), ("open", "asked"), ("close", "open")):
                raise ValueError(f"{path.name}: {what} while {state}, after exercise {len(found)}")
            if what == "head":
                number, title, stars = (mark[i] for i in (2, 3, 4))
                found.append(Exercise(int(number), title, len(stars)))
            state = {"head": "asked", "open": "open", "close": "closed"}[what]
    if state != "closed":
        raise ValueError(f"{path.name}: the last solution is {state}")
    if [one.number for one in found] != list(range(1, len(found) + 1)) or len(found) < LEAST:
        raise ValueError(f"{path.name}: exercises {[one.number for one in found]}, at least 1 to {LEAST} are wanted")
    stars = [one.stars for one in found]
    if stars != sorted(stars) or stars[0] == stars[-1]:
        raise ValueError(f"{path.name}: difficulties {stars} do not rise")
    for one in found:
        if not any("assert " in code for code in one.solution):
            raise ValueError(f"{path.name}: the solution of exercise {one.number} does not check its answer")
    return found


def chapters(docs: Path) -> dict[str, list[Exercise]]:
    """Return the exercises of all chapters, in the order of reading, by the script's name without its ending."""
    return {name: read(docs.parent / "examples" / f"{name}.py") for name in order.chapters()}


def table(head: tuple[str, ...], rows: list[list[nodes.Node]]) -> nodes.table:
    """Make a table of cells, each with one inline node."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    parts: list[tuple[nodes.Element, list[list[nodes.Node]]]] = [
        (nodes.thead(), [[nodes.Text(word) for word in head]]),
        (nodes.tbody(), rows),
    ]
    for part, lines in parts:
        for line in lines:
            part += nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in line))
        group += part
    return nodes.table("", group)


class ExercisesIndex(SphinxDirective):
    """``.. exercises-index::``: the exercises of all chapters with their stars, each a link to its page."""

    def run(self) -> list[nodes.Node]:
        docs, rows = Path(self.env.srcdir), []
        for name, found in chapters(docs).items():
            path = docs.parent / "examples" / f"{name}.py"
            self.env.note_dependency(str(path))
            title = split_code_and_text_blocks(str(path))[1][0][1].strip().splitlines()[0]
            uri = relative_uri(f"{self.env.docname}.html", f"auto_examples/{name}.html")
            listed = nodes.inline()
            for one in found:
                listed += nodes.reference("", one.title, internal=True, refuri=f"{uri}#exercises")
                listed += nodes.Text(f" {'★' * one.stars}" + ("; " if one is not found[-1] else ""))
            rows.append([nodes.Text(title), listed])
        return [table(("Chapter", "Exercises and their difficulty"), rows)]


class StudyTimes(SphinxDirective):
    """``.. study-times::``: runs of each study, how long one took, and on which processor, from the records."""

    def run(self) -> list[nodes.Node]:
        rows = []
        for name in sorted({record.study for record in records.every()}):
            found = [record for record in records.every() if record.study == name]
            seconds = sorted(record.content["seconds"] for record in found)
            machines = sorted({f"{r.content['processor']}, {r.content['threads']} thread a run" for r in found})
            cells = (
                name,
                f"{len(found)}",
                f"{statistics.median(seconds):,.0f} ({seconds[0]:,.0f} to {seconds[-1]:,.0f})",
                f"{sum(seconds) / 3600:.1f}",
                "; ".join(machines),
            )
            rows.append([nodes.Text(cell) for cell in cells])
        return [table(("Study", "Runs", "Seconds a run, median (range)", "Hours in all", "Machine"), rows)]


def check(app: Sphinx) -> None:
    """Warn of chapters whose exercises are not as they should be."""
    for path in sorted((Path(app.srcdir).parent / "examples").glob("plot_*.py")):
        try:
            read(path)
        except ValueError as error:
            logger.warning("exercises: %s", error)


class Solution(SphinxDirective):
    """``.. solution::`` and ``.. end-solution::``, between which a solution is folded."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", _HTML[self.name], format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives; check before anything is built."""
    app.add_directive("exercises-index", ExercisesIndex)
    app.add_directive("study-times", StudyTimes)
    for name in _HTML:
        app.add_directive(name, Solution)
    app.connect("builder-inited", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
