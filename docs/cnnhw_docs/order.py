"""The one order of the chapters: that in which the page for students tells to read them.

The gallery has it, and so have the links to the chapters before and after, which no other page has.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_CHAPTER = "plot_"
STUDENT = Path(__file__).parents[1] / "start" / "student.rst"


def chapters() -> list[str]:
    """Return the names of the chapters' scripts, without their ending, in the order of reading."""
    _, _, section = STUDENT.read_text(encoding="utf-8").partition("What to read, in which order")
    named = list(dict.fromkeys(re.findall(r"/auto_examples/(plot_\w+)", section)))
    there = {path.stem for path in (STUDENT.parents[2] / "examples").glob("plot_*.py")}
    if set(named) != there:
        raise ValueError(f"{STUDENT.name} and examples/ differ in {', '.join(sorted(set(named) ^ there))}")
    return named


def page(chapter: str) -> str | None:
    """Return the name of the script of a chapter of the book, such as ``"q2"``; None if it has none of its own."""
    return next((name for name in chapters() if f"{name}_".startswith(f"plot_{chapter}_")), None)


def title(name: str) -> str:
    """Return the title of a chapter's script: the first line of its text."""
    script = STUDENT.parents[2] / "examples" / f"{name}.py"
    return script.read_text(encoding="utf-8").removeprefix('"""').lstrip().partition("\n")[0].strip()


class ReadingOrder:
    """Sort the scripts of the gallery by the order of reading."""

    def __init__(self, src_dir: object) -> None:
        self.places = {name: place for place, name in enumerate(chapters())}

    def __call__(self, filename: str | Path) -> int:
        """Return the place of a script."""
        return self.places[Path(filename).stem]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def keep_to_chapters(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Leave the links to the pages before and after to the chapters."""
    for link in ("prev", "next"):
        if not (_CHAPTER in page and _CHAPTER in (context.get(link) or {}).get("link", "")):
            context[link] = None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Keep the links to what comes before and after to the chapters."""
    app.connect("html-page-context", keep_to_chapters)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
