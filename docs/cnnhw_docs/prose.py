"""A check of the chapters: numbers and comparisons have to come from records, not from the keyboard.

Prose, the titles of figures and their alternative texts are read. A comparison is fine in a sentence that shows what it
rests on: a figure printed by a role, or, in a title or an alternative text, anything that is computed.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

from cnnhw import plots

logger = logging.getLogger(__name__)

_FIGURES = r"\b0\.\d\d+\b|\b\d+(?:\.\d+)?\s?(?:%|per\s?cent\b)"
_COMPARED = (
    r"\b(?:better|faster|worse|slower)\s+than\b|\b(?:more|less)\s+accurate\s+than\b"
    r"|\b(?:is|are|was|were|be)\s+(?:ahead|(?:the\s+)?(?:highest|lowest))\b"
)
# what a title or an alternative text asserts of what is drawn
_ASSERTED = (
    r"\b(?:highest|lowest|better|worse|worst|most|least|sooner|faster|slower|ahead|higher|lower|deeper"
    r"|gains?|loses?|hinders?|helps?|costs?|hardly)\b"
)
# literals, formulas (a ``math`` directive with its indented lines), and roles and citations
_LITERAL = r"``.+?``|^( *)\.\. math::[^\n]*(?:\n(?:\1 +[^\n]*|[ ]*(?=\n)))*"
_ROLE = re.compile(r":([\w:]+):`[^`]+`")
_LEFT_OUT = re.compile(rf"{_LITERAL}|{_ROLE.pattern}", re.DOTALL | re.MULTILINE)
_BACKING = ("claim", "effect", "finding", "paired", "record", "reported")
_SHOWN = "\N{BALLOT BOX WITH CHECK}"  # stands for a figure that is printed or computed
_SENTENCE = re.compile(r"[.!?](?=\s|$)|\n\s*\n|\n\s*[*#] ")


def _backed(text: str, at: int) -> bool:
    """Say whether the sentence around a place shows a figure."""
    start = max((match.end() for match in _SENTENCE.finditer(text, 0, at)), default=0)
    end = _SENTENCE.search(text, at)
    return _SHOWN in text[start : end.start() if end else len(text)]


def typed_claims(text: str) -> list[tuple[int, str]]:
    """Find percentages, figures such as 0.xx, and comparisons without a figure, outside of literals and formulas."""

    def blank(match: re.Match[str]) -> str:
        role = match.group(2)
        kept = re.sub(r"[^\n]", " ", match.group())
        return _SHOWN + kept[1:] if role in _BACKING else kept

    text = _LEFT_OUT.sub(blank, text)
    return [(text.count("\n", 0, at), what) for at, what in _flagged(text, _COMPARED)]


def _flagged(text: str, comparisons: str) -> list[tuple[int, str]]:
    """Return where figures are typed, and comparisons without one."""
    found = re.finditer(rf"(?P<figure>{_FIGURES})|{comparisons}", text, re.IGNORECASE)
    return [(one.start(), one.group()) for one in found if one["figure"] or not _backed(text, one.start())]


def asserted(code: str) -> list[tuple[int, str]]:
    """Find figures and comparisons that were typed into titles and alternative texts."""
    found = []
    for call in ast.walk(ast.parse(code)):
        if isinstance(call, ast.Call):
            for text in _captions(call):
                words = re.sub(r"lowest to (the )?highest|95 % intervals?", "", _typed(text))
                found += [(text.lineno, what) for _, what in _flagged(words, _ASSERTED)]
    return sorted(found, key=lambda one: one[0])


def _captions(call: ast.Call) -> list[ast.expr]:
    """Return the title or the alternative text that a call passes on."""
    if not isinstance(call.func, ast.Attribute):
        return []
    name = call.func.attr
    if name in ("set_label", "set_title", "suptitle"):
        return call.args[:1]
    function = getattr(plots, name, None) if isinstance(call.func.value, ast.Name) else None
    if not inspect.isfunction(function) or call.func.value.id != "plots":  # type: ignore[attr-defined]
        return []
    named = [keyword.value for keyword in call.keywords if keyword.arg == "title"]
    places = list(inspect.signature(function).parameters)
    return named or ([call.args[at]] if "title" in places and (at := places.index("title")) < len(call.args) else [])


def _typed(text: ast.expr) -> str:
    """Return what was typed of a text: string literals and the fixed parts of formatted ones, joined as they are."""
    if isinstance(text, ast.Constant):
        return text.value if isinstance(text.value, str) else ""
    if isinstance(text, ast.JoinedStr):
        return "".join(_typed(part) if isinstance(part, ast.Constant) else _SHOWN for part in text.values)
    if isinstance(text, ast.BinOp):
        return _typed(text.left) + _typed(text.right)
    return _SHOWN


def check(app: Sphinx) -> None:
    """Warn of each finding in the chapters."""
    for path in sorted((Path(app.srcdir).parent / "examples").glob("*.py")):
        _, blocks = split_code_and_text_blocks(str(path))
        for kind, content, line in blocks:
            if kind == "text":
                for offset, what in typed_claims(content):
                    logger.warning("typed by hand: %r; use a record", what, location=f"{path}:{line + offset}")
        for at, what in asserted(path.read_text(encoding="utf-8")):
            logger.warning("a caption asserts %r: compute it from what is drawn", what, location=f"{path}:{at}")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Check before anything is built."""
    app.connect("builder-inited", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
