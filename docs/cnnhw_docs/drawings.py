"""``.. drawing:: NAME``: the drawing ``docs/_static/drawings/NAME.svg``, set into the page, whose theme it takes on.

A drawing names itself by its ``<title>`` and is told in words by its ``<desc>``; readers who cannot see it hear both.
The directive's content, if there is any, is the caption.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

FOLDER = Path(__file__).parents[1] / "_static" / "drawings"
_NAMED = re.compile(r"\s*<(title|desc)>(.*?)</\1>", re.DOTALL)


def names() -> list[str]:
    """Return the names of all drawings."""
    return sorted(path.stem for path in FOLDER.glob("*.svg"))


def inline(name: str, identifier: str) -> str:
    """Return a drawing as a part of a page; the identifier keeps apart the arrows of several drawings on one page."""
    svg = _NAMED.sub("", (FOLDER / f"{name}.svg").read_text(encoding="utf-8").strip())
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description(name))}" ', 1)
    return svg.replace('"arrow"', f'"{identifier}-arrow"').replace("(#arrow)", f"(#{identifier}-arrow)")


def description(name: str) -> str:
    """Return a drawing in words: its title, and what it shows."""
    found = _NAMED.findall((FOLDER / f"{name}.svg").read_text(encoding="utf-8"))
    return ". ".join(" ".join(words.split()) for _, words in found)


class Drawing(SphinxDirective):
    """``.. drawing:: shortcuts``."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in names():
            raise self.error(f"there is no drawing {name!r}; there are {', '.join(names())}")
        self.env.note_dependency(str(FOLDER / f"{name}.svg"))
        box = nodes.container(classes=["drawing"])
        identifier = f"drawing-{self.env.new_serialno('drawing')}"
        box += nodes.raw("", inline(name, identifier), format="html")
        if self.content:
            caption = nodes.container(classes=["drawing-caption"])
            caption += self.parse_content_to_nodes()
            box += caption
        return [box]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("drawing", Drawing)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
