"""Cards of terms: what the glossary says of a term, beside the link to it; ``site.js`` shows it where it is pointed at."""

from __future__ import annotations

import functools
import re
from html import escape

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata

GLOSSARY = "glossary"
_LONGEST = 240


def first_sentences(text: str) -> str:
    """Return as many whole sentences of a definition as a card holds, one at least."""
    sentences = re.split(r"(?<=[.:])\s+(?=[A-Z*])", " ".join(text.split()))
    said = sentences[0]
    for sentence in sentences[1:]:
        if len(said) + len(sentence) > _LONGEST:
            break
        said += f" {sentence}"
    return said


@functools.cache
def _definitions(env: BuildEnvironment) -> dict[str, tuple[str, str]]:
    """Return term and definition by anchor; the links that end a definition are left out."""
    found = {}
    for item in env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        for link in list(item.findall(addnodes.pending_xref)):
            if link.get("reftype") != "term":  # citations, and links to where it matters
                link.parent.remove(link)
        paragraph = next(item.findall(nodes.paragraph), None)
        if paragraph is None:
            continue
        text = re.sub(r"[\s.,]+$", ".", re.sub(r"\s+([.,:])", r"\1", paragraph.astext()))
        for term in item.findall(nodes.term):
            found |= dict.fromkeys(term["ids"], (term.astext(), first_sentences(text)))
    return found


def add_cards(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put a card behind each link to a term."""
    if docname == GLOSSARY or app.builder.format != "html" or GLOSSARY not in app.env.found_docs:
        return
    for link in list(doctree.findall(nodes.reference)):
        page, _, anchor = link.get("refuri", "").partition("#")
        if not page.endswith(f"{GLOSSARY}.html") or anchor not in _definitions(app.env):
            continue
        term, text = _definitions(app.env)[anchor]
        link["classes"].append("term-link")
        card = f'<span class="term-card" popover><b>{escape(term)}</b> <span>{escape(text)}</span> '
        card += f'<a href="{escape(link["refuri"])}">Glossary</a></span>'
        link.parent.insert(link.parent.index(link) + 1, nodes.raw("", card, format="html"))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add cards when links are known."""
    app.connect("doctree-resolved", add_cards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
