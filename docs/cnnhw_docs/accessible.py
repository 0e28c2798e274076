"""What pages need to be read on phones, by keyboard and by ear, where their parts' own markup falls short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from sphinx_gallery.directives import imgsgnode

_NARROW = 520  # pixels: what can be read on a phone when it is scaled down to its width


def frame_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Put figures of chapters into frames, in which wide ones scroll where they would be too small to read.

    Frames tell narrow figures, and charts without photos, which turn dark with the page.
    """
    for figure in list(doctree.findall(imgsgnode)):
        with Image.open(Path(app.srcdir) / figure["uri"].lstrip("/")) as picture:
            narrow = ["narrow"] if picture.width <= _NARROW else []
        chart = ["chart"] if "chart" in (figure["class"] or ()) else []
        figure.replace_self(nodes.container("", figure.deepcopy(), classes=["sheet-frame", *narrow, *chart]))


def list_citations(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Make the entries of a bibliography items of its list: docutils gives them a role that ARIA has given up."""
    if 'role="doc-biblioentry"' in context.get("body", ""):
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> ExtensionMetadata:
    """Mend pages after they are read, and before they are written."""
    app.connect("doctree-read", frame_figures)
    app.connect("html-page-context", list_citations)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
