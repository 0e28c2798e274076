"""The feature explorer: ``.. feature-explorer::`` is the figure, ``:explore:`` a link that opens it at a layer."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import ReferenceRole, SphinxDirective
from sphinx.util.typing import ExtensionMetadata
from torch import nn

import cnnhw
from cnnhw.errors import CnnhwError
from cnnhw.models import weights
from cnnhw_docs.explorer_data import photos, write

logger = logging.getLogger(__name__)

LIMIT = 1_490_000
"""Bytes that the page may take with all that it loads before anything is clicked."""

OPENING = {"network": "first_layer", "layer": "conv1", "photo": "flower.jpg", "channel": 10, "row": 17, "column": 25}
"""What is shown first."""

_PARTS = ("worker", "load", "draw", "classes", "cover", "photo", "sum")
SCRIPTS = ("cnn.js", "photos.js", *(f"explorer_{part}.js" for part in _PARTS), "explorer.js")

_FOLDER = "_static/generated/networks"
_PAGE = "feature_explorer"
_SWITCHES = {"trained", "untrained", "both", "relu"}


def initial_files(described: dict[str, Any]) -> list[str]:
    """Return the names of the generated files that the figure loads before anything is chosen."""
    network = OPENING["network"]
    thumbs = [f"{photo['name']}.webp" for photo in described["photos"]]
    return [*thumbs, f"{OPENING['photo']}-photo.js", f"{network}.js", f"{network}-untrained.js"]


def _radios(group: str, labels: dict[str, str], first: str) -> str:
    return "".join(
        f'<label><input type="radio" name="explorer-{group}" value="{value}"{" checked" if value == first else ""}>'
        f"<span>{label}</span></label>"
        for value, label in labels.items()
    )


def _version(name: str) -> str:
    return f"""
<div class="explorer-version" data-version="{name}"><h2 id="explorer-{name}">{name.capitalize()}<span></span></h2>
<canvas class="explorer-map" width="480" height="480" tabindex="0" role="application"
 aria-roledescription="map of cells" aria-labelledby="explorer-{name}" aria-describedby="explorer-said"></canvas>
<div class="explorer-legend" aria-hidden="true"></div>
<p class="explorer-ends"><span></span> <span></span> <span></span></p>
<div class="explorer-grid" role="radiogroup" aria-label="All channels, {name}"></div></div>"""


def markup(described: dict[str, Any], base: str) -> str:
    """Return the figure's HTML; `base` leads from the page to the folder with the generated files."""
    pictures = "".join(
        f'<label><input type="radio" name="explorer-photo" value="{photo["name"]}">'
        f'<img src="{base}{photo["name"]}.webp" width="48" height="48" class="dark-light"'
        f' alt="{html.escape(photo["alt"])}"><span>{html.escape(photo["name"])}</span></label>'
        for photo in described["photos"]
    )
    options = "".join(f"<option>{html.escape(network['name'])}</option>" for network in described["networks"])
    data = json.dumps(described | {"opening": OPENING}, allow_nan=False).replace("<", "\\u003c")
    views = {"both": "Both", "trained": "Trained", "untrained": "Untrained"}
    sides = {"0.125": "small", "0.25": "medium", "0.4": "large"}
    return f"""
<noscript><p class="explorer-plain">This figure needs JavaScript: it computes networks in your browser. It asks no
server for anything but this site's own files. Without it, the text of this page still says what the figure
shows.</p></noscript>
<figure class="explorer" data-base="{base}" aria-label="Feature explorer" hidden>
<script type="application/json">{data}</script>
<div class="explorer-choices">
<p><label for="explorer-network">Network</label><select id="explorer-network">{options}</select></p>
<p class="explorer-which"><label for="explorer-layer">Layer</label><select id="explorer-layer"></select></p>
<fieldset class="explorer-switch"><legend>Trained?</legend>{_radios("view", views, "both")}</fieldset>
<fieldset class="explorer-switch"><legend>ReLU</legend>
{_radios("relu", {"before": "Before", "after": "After"}, "before")}</fieldset>
<fieldset class="explorer-photos"><legend>Photo</legend>{pictures}<label class="explorer-own" hidden><input type="radio"
 name="explorer-photo" value="own"><img src="data:," width="48" height="48" class="dark-light"
 alt="Your photo"><span>yours</span></label>
<span class="explorer-yours"><button type="button" id="explorer-choose">Your own photo …</button>
<button type="button" id="explorer-camera">Camera</button></span>
<input type="file" id="explorer-file" accept="image/*" aria-label="Your own photo" hidden>
<input type="file" id="explorer-capture" accept="image/*" capture="environment" aria-label="Take a photo" hidden>
<span class="explorer-note">Or drop a photo here, or paste one. It stays on your machine: this page computes everything
itself, and sends nothing.</span></fieldset>
<div class="explorer-booth" hidden><video muted playsinline aria-label="What the camera sees"></video>
<p><button type="button" id="explorer-shoot">Take it</button>
<button type="button" id="explorer-leave">Cancel</button></p></div>
</div>
<div class="explorer-panels" data-view="both">
<div class="explorer-seen"><h2 id="explorer-photo-title">What the network sees</h2>
<div class="explorer-stage"><canvas class="explorer-photo" width="480" height="480" role="img"
 aria-labelledby="explorer-photo-title"></canvas><button type="button" class="explorer-square" hidden></button></div>
<div class="explorer-covering"><button type="button" id="explorer-cover" aria-pressed="false">Cover a part</button>
<fieldset class="explorer-switch explorer-sides" hidden><legend class="explorer-hidden">Size of the grey square</legend>
{_radios("side", sides, "0.25")}</fieldset></div>
<table class="explorer-classes"><caption>What the network says, of the classes that it learnt</caption>
<thead><tr><td></td><th scope="col">trained</th><th scope="col">untrained</th></tr></thead><tbody></tbody></table></div>
{_version("trained")}{_version("untrained")}
</div>
<p class="explorer-channel"><label for="explorer-channel">Channel</label>
<input type="range" id="explorer-channel" min="0" value="0" step="1"><output for="explorer-channel"></output></p>
<p class="explorer-about"><span class="explorer-layer-is"></span> <span class="explorer-frozen">This layer was not
learnt: it was set before the first step, and is the same in both.</span> <span class="explorer-network-is"></span></p>
<section class="explorer-sum" aria-labelledby="explorer-sum-title">
<h2 id="explorer-sum-title">How this cell comes about</h2>
<div class="explorer-chosen"><p class="explorer-said" id="explorer-said" aria-live="polite"></p>
<div class="explorer-moves" role="group" aria-label="Move to another cell">
<button type="button" data-move="ArrowLeft" aria-label="one cell left">←</button>
<button type="button" data-move="ArrowUp" aria-label="one cell up">↑</button>
<button type="button" data-move="ArrowDown" aria-label="one cell down">↓</button>
<button type="button" data-move="ArrowRight" aria-label="one cell right">→</button></div></div>
<div class="explorer-arithmetic"><div>
<p class="explorer-whose"></p>
<ul class="explorer-parts"></ul><p class="explorer-end"></p>
<div class="explorer-pictures"><div><p id="explorer-patch">What it sees</p><canvas class="explorer-patch" role="img"
 aria-labelledby="explorer-patch"></canvas></div><div><p id="explorer-filter">Its filter</p>
<canvas class="explorer-filter" role="img" aria-labelledby="explorer-filter"></canvas></div></div></div>
<div><p><label for="explorer-input">Term by term, for</label><select id="explorer-input"></select></p>
<table class="explorer-terms"><caption></caption><tbody></tbody></table></div></div>
</section>
</figure>
"""


class FeatureExplorer(SphinxDirective):
    """``.. feature-explorer::``: photos, and all networks that we ship, trained and untrained, to be computed live."""

    def run(self) -> list[nodes.Node]:
        for name in weights.shipped():
            self.env.note_dependency(str(weights.SHIPPED / f"{name}.safetensors"))
        try:
            described = write(Path(self.env.srcdir) / _FOLDER)
        except CnnhwError as error:
            raise self.error(str(error)) from error
        base = "../" * self.env.docname.count("/") + f"{_FOLDER}/"
        figure = nodes.raw("", markup(described, base), format="html")
        figure["explorer"] = [f"{base}{name}" for name in initial_files(described)]
        return [figure]


class Explore(ReferenceRole):
    """``:explore:`text <network=NAME&layer=NAME&untrained>```: opens the figure there; a warning where it cannot."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        if wrong := unknown(self.target):
            logger.warning("explore: %s", wrong, location=self.get_location())
        address = "../" * self.env.docname.count("/") + f"{_PAGE}.html#{self.target}"
        return [nodes.reference(self.rawtext, self.title, refuri=address, internal=True)], []


def unknown(target: str) -> str:
    """Return what a link asks for that the figure does not have, or an empty text."""
    asked = dict(parse_qsl(target, keep_blank_values=True))
    name, layer = asked.pop("network", ""), asked.pop("layer", "")
    if name not in weights.shipped():
        return f"there is no network {name!r}"
    part = dict(cnnhw.load(name).features.named_modules()).get(layer)
    if layer and not isinstance(part, nn.Conv2d):
        return f"{name} has no convolution {layer!r}"
    if (photo := asked.pop("photo", None)) and photo not in photos():
        return f"there is no photo {photo!r}"
    channel = asked.pop("channel", "0")
    if not channel.isdecimal() or (isinstance(part, nn.Conv2d) and int(channel) >= part.out_channels):
        return f"{layer} of {name} has no channel {channel!r}"
    return f"there is no {next(iter(wrong))!r} to ask for" if (wrong := asked.keys() - _SWITCHES) else ""


def add_assets(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Load scripts and style on pages with the figure only."""
    if doctree is not None and any("explorer" in raw for raw in doctree.findall(nodes.raw)):
        app.add_css_file("explorer.css")
        for name in SCRIPTS:
            app.add_js_file(name, loading_method="defer")


def loaded(page: Path, site: Path, more: list[str]) -> int:
    """Return the bytes of a page, of the scripts, styles and families of fonts that it names, and of `more`."""
    text = page.read_text(encoding="utf-8")
    found = {path for path in site.rglob("*.woff2") if path.stem.rpartition("-")[0] in text}
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
    """Register directive and role, their assets, and the check of the page's size, which comes before the stamp."""
    app.add_directive("feature-explorer", FeatureExplorer)
    app.add_role("explore", Explore())
    app.connect("html-page-context", add_assets)
    app.connect("build-finished", check_sizes, priority=400)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
