"""``.. widget:: NAME``: something to try inside the argument; ``docs/_static/widgets/NAME.js`` computes and draws it.

The directive's text says what it shows. It stands on the page with and without the script.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata, OptionSpec

FOLDER = Path(__file__).parents[1] / "_static" / "widgets"


def names() -> list[str]:
    """Return the names of all widgets."""
    return sorted(path.stem for path in FOLDER.glob("*.js") if path.stem != "start")


class Widget(SphinxDirective):
    """``.. widget:: convolution``, with a title as an option and its text as content."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[OptionSpec] = {"title": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in names():
            raise self.error(f"there is no widget {name!r}; there are {', '.join(names())}")
        title = self.options.get("title", "")
        if not title or not self.content:
            raise self.error(f"widget {name} needs a title and a text: what a reader without scripts reads")
        box = nodes.container(classes=["widget"], widget=name)
        box += nodes.paragraph("", title, classes=["widget-title"])
        box += self.parse_content_to_nodes()
        box += nodes.raw(
            "",
            f'<div class="widget-place" data-widget="{name}" role="group" aria-label="{escape(title)}"></div>',
            format="html",
        )
        return [box]


def add_assets(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Load the engine, and the scripts of the widgets of a page, on that page only."""
    found = (
        []
        if doctree is None
        else sorted({box["widget"] for box in doctree.findall(nodes.container) if "widget" in box})
    )
    if not found:
        return
    app.add_css_file("widgets.css")
    for name in ("cnn.js", *(f"widgets/{one}.js" for one in found), "widgets/start.js"):
        app.add_js_file(name, loading_method="defer")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive and its assets."""
    app.add_directive("widget", Widget)
    app.connect("html-page-context", add_assets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
