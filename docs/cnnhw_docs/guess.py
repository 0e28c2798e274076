"""Guess the verdict: what ``docs/_static/guess.js`` needs to ask readers what they expect.

A question that has or will have a finding carries a place for its choices. A chapter offers to guess before its short
answer, once anything of it has been run. Without the script, and before a reader has switched it on, pages are as they
would be without all this.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri
from sphinx.util.typing import ExtensionMetadata

from cnnhw_docs import order
from cnnhw_docs.marks import INDEX, Mark
from cnnhw_docs.verdicts import NOT_RUN, Said, measured, said

_ANSWER = "The answer."  # before which a chapter offers to guess


def place(one: Said) -> list[nodes.Node]:
    """Return the place where a question may be guessed; none of one without a finding."""
    return [nodes.raw("", _place(one), format="html")] if one.decides else []


def _place(one: Said) -> str:
    asked = f"How high is {one.asked}?" if one.asked else f"{one.rule[0].partition('. ')[0]}."
    run = one.finding != NOT_RUN
    data = {
        "question": one.id,
        "asked": asked,
        "matters": one.amount(one.delta, "g"),
        "predicted": one.prediction,
        "known": {"known in part": "in part", "known": "beforehand"}.get(one.known, ""),
        "finding": one.finding if run else "",
        "found": f"{one.finding}, {measured(one)}" if run else "",
    }
    written = " ".join(f'data-{name}="{escape(text or "")}"' for name, text in data.items())
    return f'<div class="guess" {written}></div>'


def offer(places: Sequence[Said], more: str, kind: str = "guess-offer") -> nodes.Node:
    """Return the switch, and below it places of these questions and what else is shown while guessing is on."""
    html = (
        f'<div class="{kind}" id="guess-first" role="group" aria-label="Guess first" hidden>'
        '<button type="button" role="switch" aria-checked="false">Guess first</button>'
        "<p>Switch this on, and answers here and on other pages stay covered until you say what you expect, or ask to "
        "be shown.</p>"
        f'{"".join(map(_place, places))}<div class="guess-more">{more}</div></div>'
    )
    return nodes.raw("", html, format="html")


def board(found: Sequence[Said]) -> list[nodes.Node]:
    """Return the switch with the score, for the page that has all questions; nothing if none may be guessed."""
    score = (
        '<p class="guess-score"></p><p>Guesses are kept in this browser and sent nowhere. '
        '<button type="button" class="guess-forget">Forget them</button></p>'
    )
    return [offer((), score)] if any(one.decides and one.finding != NOT_RUN for one in found) else []


def of_chapter(docname: str) -> list[Said]:
    """Return the questions of a page's chapter that may be guessed, the primary one first; none before any was run."""
    asked = [one for one in said().values() if one.decides] if "/plot_" in docname else []
    pages = {chapter: f"auto_examples/{order.page(chapter)}" for chapter in {one.chapter for one in asked}}
    own = sorted((one for one in asked if pages[one.chapter] == docname), key=lambda one: one.role)
    return own if any(one.finding != NOT_RUN for one in own) else []


def offer_to_guess(app: Sphinx, doctree: nodes.document) -> None:
    """Offer it in a chapter, before its answer, and where it is on, on any other page that tells findings."""
    docname = app.env.docname
    asked = of_chapter(docname)
    telling = next((node for node in doctree.findall(Mark) if node["tells"]), None)
    if docname == INDEX or not (asked or telling):
        return
    words = "Your score, and that of the authors" if asked else "Guess them"
    link = f'<p><a href="{relative_uri(f"{docname}.html", f"{INDEX}.html")}#guess-first">{words}</a></p>'
    made = offer(asked, link, "guess-offer" if asked else "guess-offer guess-quiet")
    for paragraph in doctree.findall(nodes.paragraph):
        if asked and paragraph.astext().startswith(_ANSWER):
            paragraph.parent.insert(paragraph.parent.index(paragraph), made)
            return
    section: nodes.Element = telling or next(doctree.findall(nodes.title))
    while not isinstance(section, nodes.section | nodes.document):
        section = section.parent
    section.insert(1, made)  # below its title


def setup(app: Sphinx) -> ExtensionMetadata:
    """Offer it."""
    app.connect("doctree-read", offer_to_guess)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
