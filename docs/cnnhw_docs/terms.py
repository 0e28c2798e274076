"""What the glossary gives to other pages: cards of terms beside links to them, and ideas by which a search finds pages.

``site.js`` shows the cards.
"""

from __future__ import annotations

import functools
import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

GLOSSARY = "glossary"
_LONGEST = 240
_ENTRY = re.compile(r"^   (\S.*)\n((?:^      .*\n|^\n)+)", re.MULTILINE)
_LEADS_TO = re.compile(r":doc:`(?:[^<`]*<)?([^>`]+)>?`")


class Card(nodes.inline):
    """A card, as HTML; the search does not read it."""


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
        text = re.sub(r"[\s.,;]+$", ".", re.sub(r"\s+([.,:;])", r"\1", paragraph.astext()))
        for term in item.findall(nodes.term):
            found |= dict.fromkeys(term["ids"], (term.astext(), first_sentences(text)))
    return found


def add_cards(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put a card behind each link to a term."""
    if docname == GLOSSARY or app.builder.format != "html" or GLOSSARY not in app.env.found_docs:
        return
    for link in list(doctree.findall(nodes.reference)):
        page, _, anchor = link.get("refuri", "").partition("#")
        if not (link.get("internal") and page.endswith(f"{GLOSSARY}.html") and anchor in _definitions(app.env)):
            continue
        term, text = _definitions(app.env)[anchor]
        link["classes"].append("term-link")
        html = f'<span class="term-card" popover><b>{escape(term)}</b> <span>{escape(text)}</span> '
        html += f'<a href="{escape(link["refuri"])}">Glossary</a></span>'
        link.parent.insert(link.parent.index(link) + 1, Card("", html=html))


def entries(text: str) -> dict[str, str]:
    """Return the entries of a glossary's text, in one line each, by their terms."""
    _, _, listed = f"{text}\n".partition(":sorted:\n")
    return {term: " ".join(body.split()) for term, body in _ENTRY.findall(listed)}


def pages(body: str) -> list[str]:
    """Return the pages to which an entry leads."""
    return _LEADS_TO.findall(body)


def add_ideas(app: Sphinx, doctree: nodes.document) -> None:
    """Let a search for a term find the pages to which its entry leads."""
    section = next(doctree.findall(nodes.section), None)
    if section is None or GLOSSARY not in app.env.found_docs:
        return
    text = Path(app.env.doc2path(GLOSSARY)).read_text(encoding="utf-8")
    ideas = [term for term, body in entries(text).items() if app.env.docname in pages(body)]
    if ideas:
        listed = [("single", term, section["ids"][0], "main", None) for term in ideas]
        section.insert(1, addnodes.index(entries=listed))
        app.env.note_dependency(app.env.doc2path(GLOSSARY))


def depend(app: Sphinx, doctree: nodes.document) -> None:
    """Have a page with terms read again when the glossary changes."""
    if any(link.get("reftype") == "term" for link in doctree.findall(addnodes.pending_xref)):
        app.env.note_dependency(app.env.doc2path(GLOSSARY))


def visit(self: HTML5Translator, node: Card) -> None:
    """Write a card."""
    self.body.append(node["html"])
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add ideas when pages are read, and cards when it is known where links lead."""
    app.add_node(Card, html=(visit, None))
    app.connect("builder-inited", lambda _: _definitions.cache_clear())
    app.connect("doctree-read", depend)
    app.connect("doctree-read", add_ideas)
    app.connect("doctree-resolved", add_cards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
