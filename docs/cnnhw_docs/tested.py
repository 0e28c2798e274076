"""The page "How it is tested": figures of the last run of each suite, read from files that the runs write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

FILES = ("tested.json", "fuzzing.json")
"""What ``pytest --figures`` writes, a section a suite; what ``tests/fuzz.py`` writes, with a part a target."""
RUN = ("date", "python", "torch", "cnnhw", "versions")
OUTCOMES = ("passed", "skipped", "failed", "error")
NAMES = {
    "inputs": "Inputs",
    "our_errors": "Refused with one of our errors",
    "accepted": "Read as valid",
    "crashes": "Crashes",
    "timeouts": "Beyond the time allowed",
    "worst_seconds": "Slowest input",
    "worst_memory_mb": "Most memory, beyond that for valid files",
    "engine": "Engine",
    "limits": "Limits of an input",
    "seconds": "Time",
    "minutes": "Time",
    "recipes": "Recipes compared",
    "worst_gradient_difference": "Greatest difference of a gradient, relative to the greatest gradient",
    "killed_workers": "Workers killed",
    "resumed_runs": "Runs that went on afterwards",
    "machines": "Machines",
    "kills": "Kills",
    "kills_in_the_middle": "of them in the middle of an operation",
    "kills_at_every_step": "of them at a chosen step",
    "kills_download": "while downloading",
    "kills_caching": "while storing photos",
    "kills_training": "while training",
    "kills_recording": "while recording",
    "kills_saving": "while saving",
    "lost": "Files lost",
    "half_written": "Files half written",
    "silently_wrong": "Results wrong without a word",
    "damaged_files": "Damaged files",
    "damaged_files_refused": "of them noticed",
    "scenarios_together": "Rounds of two processes at once",
    "scenarios_full_disk": "Cases of a full disk",
    "scenarios_read_only": "Cases of a read-only folder",
    "scenarios_clock": "Cases of a clock that goes back",
    "scenarios_download": "Cases of a download that stalls, is cut or is wrong",
    "names_of_members": "Hostile names in archives",
    "onnx_networks": "Networks exported to ONNX",
    "worst_onnx_difference": "Their greatest difference, relative to the greatest logit",
    "photos_classified_in_the_browser": "Photos classified by exported pages as by `cnnhw predict`",
    "worst_probability_in_the_browser": "Greatest difference of a probability in an exported page",
    "blocks_of_code_run": "Blocks of code of pages that were run",
    "commands_run": "Commands of pages that were run",
    "photos": "Photos",
    "gigabytes": "Their size in GB",
    "worst_anonymous_mb": "Most memory, without the mapped files",
    "worst_pickle_kb_for_10000_photos": "Largest pickle of 10,000 photos, in kB",
    "streaming_share": "Speed of training from the mapped file over that from memory, in processor time",
    "sdist_mb": "Size of the sdist",
    "sdist_files": "Files in the sdist",
    "wheel_mb": "Size of the wheel",
    "wheel_files": "Files in the wheel",
    "foreign_requests": "Requests to other servers",
    "console_errors": "Errors in the console",
    "axe_rules_passed": "Rules of axe that apply and hold",
    "serious": "Serious findings of axe",
    "critical": "Critical findings of axe",
    "cells": "Cells of code",
    "links": "Links followed",
    "figures": "Figures with their texts",
    "screenshots": "Screenshots",
    "pages": "Pages",
    "focus_stops": "Stops of the keyboard that were looked at",
    "worst_page": "Heaviest page",
    "worst_page_kb": "Size of the heaviest page",
}
UNITS = {"seconds": "s", "ms": "ms", "minutes": "min", "kb": "kB", "mb": "MB", "gb": "GB", "percent": "%"}

Section = Mapping[str, Any]


def read(docs: Path) -> dict[str, Section]:
    """Read the sections of all suites that have run."""
    found: dict[str, Section] = {}
    tested, fuzzing = (docs / name for name in FILES)
    if tested.exists():
        found |= json.loads(tested.read_text(encoding="utf-8"))
    if fuzzing.exists():
        found["fuzzing"] = json.loads(fuzzing.read_text(encoding="utf-8"))
    return found


def targets(section: Section) -> dict[str, Section]:
    """Return the figures of the targets of fuzzing, those that are one number or text; other suites have none."""
    return {
        target: {name: figure for name, figure in figures.items() if isinstance(figure, int | float | str)}
        for target, figures in section.get("targets", {}).items()
    }


def label(name: str) -> str:
    """Put the name of a figure into words, without its unit."""
    if name in NAMES:
        return NAMES[name]
    words = name.split("_")
    if len(words) > 1 and words[-1] in UNITS:
        words.pop()
    if words[0] == "worst" and len(words) > 1:
        words[0] = "greatest"
    return " ".join(words).capitalize()


def value(name: str, figure: float | str | Section) -> str:
    """Render a figure, with the unit that its name ends with; or several that have names of their own."""
    if isinstance(figure, str):
        return figure
    if isinstance(figure, Mapping):
        return ", ".join(f"{label(each).lower()} {value(each, one)}" for each, one in figure.items())
    unit = UNITS.get(name.rsplit("_", 1)[-1])
    if unit == "s" and figure >= 120:
        return f"{figure // 60:,.0f} min {figure % 60:.0f} s"
    text = f"{figure:,}" if isinstance(figure, int) else f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
    return f"{text} {unit}" if unit else text


def run(section: Section) -> str:
    """Say when a suite ran last, and with which versions."""
    versions = section.get("versions") or {name: section[name] for name in RUN if name in section and name != "date"}
    names = {"python": "Python", "torch": "torch", "cnnhw": "cnnhw"}
    return ", ".join([section["date"][:10], *(f"{names.get(name, name)} {text}" for name, text in versions.items())])


def lines(section: Section) -> list[tuple[str, str]]:
    """Return what the page lists of a suite: outcomes, figures, the run; not the targets of fuzzing."""
    listed = []
    if "passed" in section:
        counts = {name: section.get(name, 0) for name in OUTCOMES}
        counts["failed"] += counts.pop("error")
        listed.append(("Tests", ", ".join(f"{count:,} {name}" for name, count in counts.items())))
    for name, figure in section.items():
        if name not in (*OUTCOMES, *RUN, "targets"):
            listed.append((label(name), value(name, figure)))
    return [*listed, ("Last run", run(section))]


def render(text: str, found: Mapping[str, Section]) -> tuple[str, str]:
    """Render what a ``:tested:`` role asks for."""
    suite, *target, name = text.split() if len(text.split()) > 1 else ("", text)
    section = found.get(suite)
    if section is None:
        raise ValueError(f"{text!r}: no run of the suite {suite!r}; there are of {', '.join(sorted(found))}")
    among = targets(section)
    if target:
        among = {key: of for key, of in among.items() if key == " ".join(target)}
    figures = [of[name] for of in among.values() if name in of] if target or name not in section else [section[name]]
    if not figures or isinstance(figures[0], Mapping):
        known = sorted({*section, *(key for of in among.values() for key in of)} - {*RUN, "targets"})
        raise ValueError(f"{text!r}: no such figure; there are {', '.join(known)}")
    one = figures[0] if isinstance(figures[0], str) else (max if name.startswith("worst_") else sum)(figures)
    return value(name, one), f"suite {suite}, last run {run(section)}"


class TestedRole(SphinxRole):
    """``:tested:`faults kills```: one figure of a suite."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        for name in FILES:
            self.env.note_dependency(str(Path(self.env.srcdir) / name))
        try:
            text, origin = render(self.text, read(Path(self.env.srcdir)))
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":tested: {error}", line=self.lineno)]
        return [nodes.abbreviation(self.rawtext, text, explanation=origin, classes=["record"])], []


class Tested(SphinxDirective):
    """``.. tested:: SUITE``: the figures of a suite's last run, which must have passed."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        for name in FILES:
            self.env.note_dependency(str(Path(self.env.srcdir) / name))
        suite = self.arguments[0]
        section = read(Path(self.env.srcdir)).get(suite)
        if section is None:
            return [self._warning(f"no run of the suite {suite!r}: pytest --figures=docs/tested.json notes one")]
        listed: list[nodes.Node] = [table(targets(section))] if targets(section) else []
        fields = nodes.field_list(classes=["tested"])
        for name, text in lines(section):
            fields += nodes.field("", nodes.field_name("", name), nodes.field_body("", nodes.paragraph("", text)))
        if any(section.get(name) for name in ("failed", "error", "crashes")):
            listed.append(self._warning(f"the last run of the suite {suite!r} failed"))
        return [*listed, fields]

    def _warning(self, text: str) -> nodes.system_message:
        return self.state.document.reporter.warning(f"tested: {text}", line=self.lineno)


def table(rows: Mapping[str, Section]) -> nodes.table:
    """Make a table of the targets of fuzzing, a row each, with all figures that any of them has."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [["Target", *map(label, names)]]
    cells += [
        [target, *(value(name, row[name]) if name in row else "" for name in names)] for target, row in rows.items()
    ]
    made = [nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in row)) for row in cells]
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in cells[0]), cols=len(cells[0]))
    group += [nodes.thead("", made[0]), nodes.tbody("", *made[1:])]
    return nodes.table("", group, classes=["tested"])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register role and directive."""
    app.add_role("tested", TestedRole())
    app.add_directive("tested", Tested)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
