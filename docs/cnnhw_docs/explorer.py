"""``.. feature-explorer::``: the interactive figure, computed while the site is built."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

import cnnhw
from cnnhw.errors import CnnhwError
from cnnhw_docs.explorer_maps import write

logger = logging.getLogger(__name__)

LIMIT = 1_450_000
"""Bytes that the page may take with all that it loads before anything is clicked."""

_FOLDER = "_static/generated/explorer"


def initial_files(described: dict[str, Any]) -> list[str]:
    """Return the names of the generated files that the figure loads before anything is chosen."""
    network, smallest = described["networks"][0], min(one["size"] for one in described["networks"])
    thumbs = [f"photo-{smallest}-{i}.png" for i in range(len(described["photos"]))]
    return [*thumbs, f"photo-{network['size']}-0.png", f"{network['name']}-0-{network['layers'][0]['name']}.js"]


def _radios(group: str, labels: list[str]) -> str:
    return "".join(
        f'<label><input type="radio" name="explorer-{group}" value="{i}"{" checked" if i == 0 else ""}>{label}</label>'
        for i, label in enumerate(labels)
    )


def markup(described: dict[str, Any], base: str) -> str:
    """Return the figure's HTML; `base` leads from the page to the folder with the generated files."""
    smallest = min(one["size"] for one in described["networks"])
    thumbs = [
        f'<img src="{base}photo-{smallest}-{i}.png" width="56" height="56" class="dark-light"'
        f' alt="{html.escape(photo["alt"])}">'
        f"<span>{html.escape(photo['name'])}</span>"
        for i, photo in enumerate(described["photos"])
    ]
    names = [f"<code>{html.escape(network['name'])}</code>" for network in described["networks"]]
    data = json.dumps(described, allow_nan=False).replace("<", "\\u003c")
    return f"""
<noscript><p class="explorer-plain">This figure needs JavaScript: it draws the maps of the chosen layer, which are data
and not pictures. It asks no server for anything but this site's own files. Without it, the text of this page still
says what the figure shows.</p></noscript>
<figure class="explorer" data-base="{base}" aria-label="Feature explorer" hidden>
<script type="application/json">{data}</script>
<div class="explorer-choices">
<fieldset class="explorer-networks"><legend>Network</legend>{_radios("network", names)}</fieldset>
<p><label for="explorer-layer">Layer</label><select id="explorer-layer"></select></p>
<fieldset class="explorer-photos"><legend>Photo</legend>{_radios("photo", thumbs)}</fieldset>
</div>
<div class="explorer-panels">
<div><h2 id="explorer-photo-title">Photo</h2>
<canvas class="explorer-photo" width="384" height="384" role="img" aria-labelledby="explorer-photo-title"></canvas>
</div>
<div><h2 id="explorer-map-title">Map</h2>
<canvas class="explorer-map" width="384" height="384" tabindex="0" role="application"
 aria-roledescription="map of cells" aria-labelledby="explorer-map-title" aria-describedby="explorer-said"></canvas>
</div>
<div class="explorer-chosen">
<p class="explorer-said" id="explorer-said" aria-live="polite"></p>
<div class="explorer-moves" role="group" aria-label="Move to another cell">
<button type="button" data-move="ArrowLeft" aria-label="one cell left">←</button>
<button type="button" data-move="ArrowUp" aria-label="one cell up">↑</button>
<button type="button" data-move="ArrowDown" aria-label="one cell down">↓</button>
<button type="button" data-move="ArrowRight" aria-label="one cell right">→</button></div>
</div>
<p class="explorer-channel"><label for="explorer-channel">Channel</label>
<input type="range" id="explorer-channel" min="0" value="0" step="1"><output for="explorer-channel"></output></p>
<div class="explorer-grid" role="radiogroup" aria-label="All channels of the layer"></div>
<div class="explorer-side">
<div><h2 id="explorer-filter-title">Filter</h2>
<canvas class="explorer-filter" width="192" height="192" role="img" aria-labelledby="explorer-filter-title"></canvas>
<p class="explorer-about"></p></div>
<div><h2>Scale of the layer</h2>
<div class="explorer-legend" aria-hidden="true"></div>
<p class="explorer-ends"><span></span><span>0</span><span></span></p>
<p class="explorer-thin"></p></div>
</div>
</div>
</figure>
"""


class FeatureExplorer(SphinxDirective):
    """``.. feature-explorer::``: photos, maps, filters and receptive fields of the networks that we ship."""

    def run(self) -> list[nodes.Node]:
        for weights in (Path(cnnhw.__file__).parent / "weights").glob("*.safetensors"):
            self.env.note_dependency(str(weights))
        try:
            described = write(Path(self.env.srcdir) / _FOLDER)
        except CnnhwError as error:
            raise self.error(str(error)) from error
        base = "../" * self.env.docname.count("/") + f"{_FOLDER}/"
        figure = nodes.raw("", markup(described, base), format="html")
        figure["explorer"] = [f"{base}{name}" for name in initial_files(described)]
        return [figure]


def add_assets(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Load script and style on pages with the figure only."""
    if doctree is not None and any("explorer" in raw for raw in doctree.findall(nodes.raw)):
        app.add_css_file("explorer.css")
        app.add_js_file("explorer.js", loading_method="defer")


def loaded(page: Path, site: Path, more: list[str]) -> int:
    """Return the bytes of a page, of the scripts and styles that it names, of all fonts of the site, and of `more`."""
    text = page.read_text(encoding="utf-8")
    found = set(site.rglob("*.woff2"))
    named = re.findall(r'<script[^>]* src="([^"]+)"|<link[^>]* href="([^"]+\.css[^"]*)"', text)
    found |= {page.parent / address.partition("?")[0] for address in [*more, *map("".join, named)]}
    return len(text.encode()) + sum(path.stat().st_size for path in found if path.is_file())


def check_sizes(app: Sphinx, exception: Exception | None) -> None:
    """Warn of a page that is too heavy."""
    if exception is not None or app.builder.name != "html":
        return
    for docname in sorted(app.env.found_docs):
        for raw in app.env.get_doctree(docname).findall(nodes.raw):
            if "explorer" in raw:
                page = Path(app.builder.get_outfilename(docname))
                size = loaded(page, Path(app.outdir), raw["explorer"])
                if size > LIMIT:
                    logger.warning("the page loads %d bytes, more than %d", size, LIMIT, location=docname)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive, its assets, and the check of the page's size, which comes before the stamp."""
    app.add_directive("feature-explorer", FeatureExplorer)
    app.connect("html-page-context", add_assets)
    app.connect("build-finished", check_sizes, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
