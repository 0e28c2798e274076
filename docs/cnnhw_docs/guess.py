"""Guess the verdict: what ``docs/_static/guess.js`` needs to ask readers what they expect.

A question that has or will have a finding carries a place for its choices, and a chapter offers to guess before its
short answer. Without the script, and before a reader has switched it on, pages are as they would be without all this.
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

_ANSWER = "The short answer."  # before which a chapter offers to guess

ASKED = {
    "q1-final": "the accuracy of the network that the search ends with, compared with the report's deeper one",
    "q1-report": "the accuracy of the report's deeper network at 64 pixels, compared with its other one",
    "q2-depth": "the gain in accuracy from residual connections at depth 20, compared with the gain at depth 8",
    "q2-deep": "the accuracy of Q1's deeper network with residual connections, compared with that network without them",
    "q3-training": "the correlation of a 7x7 first layer's maps with edges after training, compared with before it",
    "q3-bank": "the accuracy with a frozen bank of edge and colour filters, compared with a first layer that learns",
    "q3-random": "the accuracy with a frozen random 7x7 first layer, compared with one that learns",
    "q4-modules": "the accuracy of the fast network with Inception modules of as many channels, compared with 3x3",
    "q4-modules-macs": "the accuracy of the fast network with modules of as many multiply-adds, compared with 3x3",
    "q4-mixture": "the gain from kernels of several sides where sizes are mixed, compared with where they are alike",
    "q5-head-first": "the accuracy of a transfer whose head learns first, compared with all at once, in equal steps",
    "q5-in-turn": "the accuracy of a transfer tuned from the end, compared with the beginning, in equal steps a layer",
    "q6-pays": "the accuracy of a transfer, compared with training from scratch, at equal computing in all",
    "q6-few": "the accuracy of a transfer with a tenth of the photos, compared with from scratch, in as many steps",
    "q6-hidden": "the accuracy of a head with a hidden layer on frozen features, compared with a linear head",
    "i-span": "the accuracy of 24 convolutions with residual connections over two, compared with none",
    "i-harder": "the gain of connections over six convolutions rather than two on harder scenes, compared with easier",
    "ii-average": "the accuracy with transitions that average, compared with transitions that take the maximum",
    "ii-shifts": "the share of predictions that survive a shift with averaging transitions, compared with the maximum",
    "iii-together": "the gain of widening kernels over 3x3 if the head flattens, compared with if it averages",
}
"""What the effect of each question is, in words that do not give the authors' prediction away: "how high is" them."""


def place(one: Said) -> list[nodes.Node]:
    """Return the place where a question may be guessed; none of a claim, or of a question without a finding."""
    return [nodes.raw("", _place(one), format="html")] if one.decides else []


def _place(one: Said) -> str:
    asked = f"How high is {ASKED[one.id]}?" if one.id in ASKED else f"{one.rule[0].partition('. ')[0]}."
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
        "<p>Say what you expect before you see what was found: here and on other pages, answers stay covered until you "
        "have, or ask to be shown.</p>"
        f'{"".join(map(_place, places))}<div class="guess-more">{more}</div></div>'
    )
    return nodes.raw("", html, format="html")


def board(found: Sequence[Said]) -> list[nodes.Node]:
    """Return the switch with the score, for the page that has all questions; nothing if none may be guessed."""
    score = (
        '<p class="guess-score"></p><p>Guesses are kept in this browser and sent nowhere. '
        '<button type="button" class="guess-forget">Forget them</button></p>'
    )
    return [offer((), score)] if any(one.decides for one in found) else []


def of_chapter(docname: str) -> list[Said]:
    """Return the questions of a chapter that may be guessed, by the name of its page: the primary one first."""
    asked = [one for one in said().values() if one.decides] if "/plot_" in docname else []
    pages = {chapter: f"auto_examples/{order.page(chapter)}" for chapter in {one.chapter for one in asked}}
    return sorted((one for one in asked if pages[one.chapter] == docname), key=lambda one: one.role)


def offer_to_guess(app: Sphinx, doctree: nodes.document) -> None:
    """Offer it in a chapter, before its short answer, and where it is on, on any other page that tells findings."""
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
