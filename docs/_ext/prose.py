"""A check of the chapters' prose: numbers and comparisons have to come from records, not from the keyboard."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

logger = logging.getLogger(__name__)

_FLAGGED = re.compile(
    r"\b0\.\d\d+\b|\b\d+(?:\.\d+)?\s?(?:%|per\s?cent\b)|\b(?:better|faster|worse|slower)\s+than\b", re.IGNORECASE
)
# literals, roles and citations, and formulas: a ``math`` directive with its indented lines
_LEFT_OUT = re.compile(
    r"``.+?``|:[\w:]+:`[^`]+`|^( *)\.\. math::[^\n]*(?:\n(?:\1 +[^\n]*|[ ]*(?=\n)))*", re.DOTALL | re.MULTILINE
)


def typed_claims(text: str) -> list[tuple[int, str]]:
    """Find percentages, figures such as 0.xx and comparisons in prose, outside of roles, literals and formulas.

    Parameters
    ----------
    text : str
        reStructuredText.

    Returns
    -------
    list of (int, str)
        The line within the text, from 0, and what was found there.
    """

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group())

    text = _LEFT_OUT.sub(blank, text)
    return [(text.count("\n", 0, match.start()), match.group()) for match in _FLAGGED.finditer(text)]


def check(app: Sphinx) -> None:
    """Warn of each finding in the chapters."""
    for path in sorted((Path(app.srcdir).parent / "examples").glob("*.py")):
        _, blocks = split_code_and_text_blocks(str(path))
        for kind, content, line in blocks:
            if kind == "text":
                for offset, what in typed_claims(content):
                    logger.warning("typed by hand: %r; use a record", what, location=f"{path}:{line + offset}")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Check before anything is built."""
    app.connect("builder-inited", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
