"""``.. train-here::``: a small network learns the package's scenes in the reader's browser.

The scenes are drawn while the site is built, and loaded when the reader starts.
``docs/_static/train_*.js`` do the rest.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from numpy.typing import NDArray
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from cnnhw.data import scenes
from cnnhw.files import write_text

SIDE = 32
"""Pixels along a scene's side."""
SPLITS = ((0, 600), (10**6, 200))
"""The first scene and how many, to train on and held out: the second from those that the package tests with."""
LEVELS = 3
"""Pixels are rounded to multiples of it, so by 1 at most, which halves what a reader has to load."""
SCRIPTS = (
    "cnn.js",
    "photos.js",
    "train_net.js",
    "train_loop.js",
    "train_worker.js",
    "train_challenges.js",
    "train_draw.js",
    "train_page.js",
)

_ACROSS = 20
_FILE = "_static/generated/train/scenes.js"


def drawn(first: int, count: int) -> NDArray[np.uint8]:
    """Return the scenes that the page shows: (N, 32, 32, 3)."""
    images = scenes.draw(count, size=SIDE, controls=scenes.EASY, first=first).images
    return images.permute(0, 2, 3, 1).numpy()


def packed(images: NDArray[np.uint8]) -> dict[str, Any]:
    """Return scenes as one picture, without loss but for the rounding."""
    rows = -(-len(images) // _ACROSS)
    filled = np.zeros((rows * _ACROSS, SIDE, SIDE, 3), np.uint8)
    filled[: len(images)] = np.rint(images / LEVELS)
    sheet = filled.reshape(rows, _ACROSS, SIDE, SIDE, 3).swapaxes(1, 2).reshape(rows * SIDE, _ACROSS * SIDE, 3)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "webp", lossless=True, method=6, quality=100)
    return {"count": len(images), "picture": base64.b64encode(file.getvalue()).decode()}


def write(path: Path) -> None:
    """Write the script that holds the scenes."""
    told: dict[str, Any] = {"classes": scenes.CLASSES, "levels": LEVELS, "across": _ACROSS}
    told["splits"] = [packed(drawn(first, count)) for first, count in SPLITS]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"window.trainScenes = {json.dumps(told)};\n")


_KEY = "".join(
    f'<span class="{hidden}"{" hidden" if hidden else ""}><svg viewBox="0 0 34 12" aria-hidden="true">'
    f'<line class="line {name} {kind}" x1="0" x2="34" y1="6" y2="6"/></svg>{name} {words}</span>'
    for name, hidden in (("A", ""), ("B", "train-b"))
    for kind, words in (("training", "training"), ("held", "held out"))
)


def markup(base: str) -> str:
    """Return the figure's HTML; `base` leads from the page to the site's root."""
    return f"""
<noscript><p class="train-plain">With JavaScript, a network would learn here, before your eyes: knobs for its design and
its training, curves of loss and accuracy on photos it learns from and on photos held out, its first filters and what
they make of a photo, and a confusion matrix. All of it is computed in your browser. Without it, the text of this page
still says what there is to see, and what comes of it.</p></noscript>
<figure class="train" data-scenes="{base}{_FILE}" aria-label="Train it here" hidden>
<div class="train-buttons">
<button type="button" class="train-start">Start</button>
<button type="button" class="train-step">One step</button>
<button type="button" class="train-reset">Reset</button>
<label><input type="checkbox" class="train-compare">Compare two settings</label>
<label>Seed <input type="number" id="train-seed" min="0" max="999999" value="0"></label>
<p class="train-said" role="status">Press Start: the network sees its first photos.</p>
</div>
<div class="train-columns">
<div class="train-knobs" role="group" aria-label="Settings"></div>
<div class="train-charts">
<div class="train-frame" role="group" tabindex="0" aria-label="Numbers"><table class="train-numbers"><thead><tr>
<th scope="col">Net</th><th scope="col">Epoch</th>
<th scope="col">Photos a second</th><th scope="col">Loss</th><th scope="col">Accuracy, training</th>
<th scope="col">Accuracy, held out</th></tr></thead><tbody></tbody></table></div>
<div><h2 id="train-loss-title">Loss</h2>
<svg class="train-loss" role="img"
 aria-label="Curves of the loss by photos seen, in training and on held-out scenes."></svg></div>
<div><h2 id="train-accuracy-title">Accuracy</h2>
<svg class="train-accuracy" role="img"
 aria-label="Curves of the accuracy by photos seen, in training and on held-out scenes."></svg></div>
<p class="train-key">{_KEY}</p>
</div>
</div>
<div class="train-inside" hidden>
<p class="train-wide train-b" hidden><label>Look into <select class="train-which"><option value="0">A</option>
<option value="1">B</option></select></label></p>
<div><h2 class="train-true" aria-live="off">Held-out photo</h2>
<div class="train-tested"><canvas class="train-photo" role="img" aria-label="The photo that is looked at"></canvas>
<ul class="train-chances" aria-label="What the network takes it for"></ul></div>
<p class="train-buttons"><button type="button" class="train-another">Another photo</button></p>
<label class="train-file">Try a photo of yours: <input type="file" class="train-try" accept="image/*"></label></div>
<div><h2>Confusion on held-out photos (true class by row)</h2>
<div class="train-frame" role="group" tabindex="0" aria-label="Confusion matrix">
<table class="train-confusion"></table></div>
</div>
<div class="train-wide"><h2 id="train-filters-title">First-layer filters</h2>
<canvas class="train-filters" role="img" aria-labelledby="train-filters-title"></canvas>
<p class="train-note">Weights for red, green and blue; mid grey is zero, and each filter has its own scale.</p></div>
<div class="train-wide"><h2 id="train-maps-title">Their maps of the photo</h2>
<canvas class="train-maps" role="img" aria-labelledby="train-maps-title"></canvas>
<p class="train-note">Each below its filter: orange where the filter answers, blue where it does so negatively.
</p></div>
</div>
<div class="train-more-parts"><h2>Challenges</h2><ol class="train-challenges"></ol></div>
<details class="train-more-parts"><summary>Train on your own pictures</summary>
<p class="train-note">Name two to six classes and give at least five pictures of each, better thirty. Every fourth is
held out. They stay in this page's memory and are sent nowhere; they are gone when you close it. A classifier to keep,
and to send to a friend, is made by one command: see <a href="start/user.html">for photos of your own</a>.</p>
<div class="train-classes"></div>
<p class="train-buttons"><button type="button" class="train-more">Another class</button>
<button type="button" class="train-use">Use these pictures</button>
<button type="button" class="train-back">Back to the scenes</button></p>
<p class="train-own-said" role="status"></p>
</details>
</figure>
"""


class TrainHere(SphinxDirective):
    """``.. train-here::``: the figure, and the scenes that it loads."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(scenes.__file__)
        write(Path(self.env.srcdir) / _FILE)
        figure = nodes.raw("", markup("../" * self.env.docname.count("/")), format="html")
        figure["train_here"] = True
        return [figure]


def add_assets(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Load scripts and style on pages with the figure only."""
    if doctree is not None and any("train_here" in raw for raw in doctree.findall(nodes.raw)):
        app.add_css_file("train.css")
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive and its assets."""
    app.add_directive("train-here", TrainHere)
    app.connect("html-page-context", add_assets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
