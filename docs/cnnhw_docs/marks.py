"""Marks of verdicts: a small sign, or the word, with a card that shows when it is pointed at, focused, or tapped.

The card is a popover: a click or the Enter key opens it and Escape closes it without any script; ``site.js`` also opens
it where the mark is pointed at or focused.
"""

from __future__ import annotations

from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

from cnnhw_docs.verdicts import NOT_RUN, Said, measured

INDEX = "claims"
_SIGNS = {
    "supported": '<path d="M4.2 8.4l2.6 2.6 5-5.6"/>',
    "refuted": '<path d="M5 5l6 6M11 5l-6 6"/>',
    NOT_RUN: '<path d="M4 8h.1M8 8h.1M12 8h.1"/>',
}
_OPEN = '<path d="M6 6.4a2 2 0 1 1 2.9 1.8q-.9.5-.9 1.4M8 11.7v.1"/>'
_EXPLORATORY = '<path d="M4.6 8h6.8"/>'


_PAGE = "[questions page]"  # the address of which is known when a page is written


class Mark(nodes.inline):
    """A button and the popover that it opens, as HTML."""


def mark(one: Said, env: BuildEnvironment, *, word: bool = False) -> Mark:
    """Return the mark of a question, a sign or a word, with its card."""
    target = f"said-{env.new_serialno('said')}"
    kind, shown = (f"verdict {one.colour}", escape(one.badge)) if word else ("mark", sign(one))
    tells = one.decides and one.effect is not None  # what a reader who guesses is not to see before
    named = f'data-said="{one.id}" ' if tells else ""
    html = (
        f'<button type="button" class="{kind}" popovertarget="{target}" popovertargetaction="show" '
        f'{named}aria-label="{escape(one.badge)}: show the question">{shown}</button>'
        f'<span class="said-card" popover id="{target}" role="group" aria-label="Question '
        f'{escape(one.id)}">{card(one)}</span>'
    )
    return Mark("", html=html, tells=tells)


def sign(one: Said) -> str:
    """Draw the sign of a verdict, hollow if the outcome was known."""
    hollow = " hollow" if one.badge != one.verdict else ""
    other = _OPEN if one.verdict == "open" else _EXPLORATORY
    return (
        f'<svg class="verdict-sign {one.colour}{hollow}" viewBox="0 0 16 16" aria-hidden="true">'
        f'<circle cx="8" cy="8" r="7.2"/>'
        f"{_SIGNS.get(one.verdict, other)}</svg>"
    )


def lines(one: Said) -> dict[str, str]:
    """Return the lines of a card."""
    finding = {"Finding": one.finding} if one.finding else {}
    return {
        "Verdict": one.badge if one.finding else f"none, {one.badge}",
        **finding,
        "Effect": measured(one),
        "Predicted": one.prediction,
        "What matters": f"{one.delta:g} {one.measure.unit} or more",
        "Registered": one.registered.removeprefix("Registered ").rstrip("."),
    }


def card(one: Said) -> str:
    """Return the card of a mark."""
    rows = "".join(f"<span><b>{what}:</b> {escape(text)}</span>" for what, text in lines(one).items())
    more = f'<a href="{_PAGE}#{one.anchor}">All about this question</a>'
    return f'<span class="said-statement">{escape(one.statement)}</span>{rows}<span>{more}</span>'


def visit(self: HTML5Translator, node: Mark) -> None:
    """Write it."""
    uri = self.builder.get_relative_uri(self.builder.current_docname, INDEX)
    self.body.append(node["html"].replace(_PAGE, uri))
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the node."""
    app.add_node(Mark, html=(visit, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
