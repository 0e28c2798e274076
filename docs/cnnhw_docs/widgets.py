"""``.. widget:: NAME``: something to try inside the argument; ``docs/_static/widgets/NAME.js`` computes and draws it.

The directive's text says what it shows. It stands on the page with and without the script.
"""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata, OptionSpec

import cnnhw
from cnnhw.data import scenes
from cnnhw_docs import explorer_data

FOLDER = Path(__file__).parents[1] / "_static" / "widgets"


def names() -> list[str]:
    """Return the names of all widgets."""
    return sorted(path.stem for path in FOLDER.glob("*.js") if path.stem != "start")


def first_layer() -> str:
    """Return a scene, and the weights of a first layer before and after its training, as JSON."""
    photo = scenes.draw(1, size=64, controls=scenes.EASY, first=explorer_data.FIRST + 8).images[0]  # (3, 64, 64)
    layers = [model.features.conv1 for model in (explorer_data.untrained("first_layer"), cnnhw.load("first_layer"))]
    arrays = [photo.numpy(), *(layer.weight.detach().float().numpy() for layer in layers)]
    packed = [base64.b64encode(array.tobytes()).decode() for array in arrays]
    sizes = {"side": photo.shape[-1], "kernel": layers[0].kernel_size[0]}
    return json.dumps(sizes | dict(zip(("photo", "start", "end"), packed, strict=True)))


_DATA = {"first_layer": first_layer}  # what widgets are given


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
        given = f'<script type="application/json">{_DATA[name]()}</script>' if name in _DATA else ""
        box += nodes.raw(
            "",
            f'<div class="widget-place" data-widget="{name}" role="group" aria-label="{escape(title)}">{given}</div>',
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
