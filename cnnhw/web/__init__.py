"""Pages that open from a folder: style, scripts and data in one file, which asks nothing of anybody."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent
"""The folder with the scripts and styles, which the documentation uses, too."""

# nothing is loaded and nothing is sent; photos are read from memory
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src blob: mediastream:; worker-src blob:; form-action 'none'; base-uri 'none'"
)


def source(name: str) -> str:
    """Return the text of a script or a style."""
    return (SOURCES / name).read_text(encoding="utf-8")


def page(title: str, body: str, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), data: Any = None) -> str:
    """Return a whole page as HTML.

    Parameters
    ----------
    title : str
        Its title, as plain text.
    body : str
        What it shows, as HTML: names that others chose have to be escaped in it.
    styles, scripts : sequence of str
        Names of files of this folder, in order; ``page.css`` comes first of all. Scripts run once the page is there.
    data : object, optional
        Anything that JSON can hold; scripts find it as the text of the element ``data``.

    Returns
    -------
    str
        The page, in UTF-8.

    Examples
    --------
    >>> print(page("Cats & dogs", "<h1>Pets</h1>").splitlines()[5])
    <title>Cats &amp; dogs</title>
    """
    style = "\n".join(source(name) for name in ("page.css", *styles))
    held = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    kept = "" if data is None else f'<script type="application/json" id="data">{held}</script>\n'
    run = "".join(f"<script>\n{source(name)}</script>\n" for name in scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(title)}</title>
<style>
{style}</style>
<body>
{body}
{kept}{run}</body>
</html>
"""
