"""Questions on pages: roles and directives that fail the build if the records say something else.

In a sentence, ``:effect:`ID``` prints effect and interval; ``:finding:`ID gain/lose/hardly change it``` says it in
words, of which the records choose, and ``:finding:`ID no difference that matters``` states it; ``:verdict:`ID``` prints
the verdict, and ``:verdict:`ID supported``` states it, too. Each has a mark with a card. ``.. question:: ID``, with
``:verdict: supported``, shows one whole; ``.. questions-index::`` shows all.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

from cnnhw.book import registry
from cnnhw_docs import forest, guess, order, records
from cnnhw_docs.marks import INDEX, mark
from cnnhw_docs.verdicts import (
    EXPLORATORY,
    NOT_RUN,
    UNSOUND,
    Said,
    checked,
    get,
    in_words,
    measured,
    said,
    short,
)

_VERDICTS = ("supported", "refuted", "open", UNSOUND, EXPLORATORY, NOT_RUN)


def box(one: Said, docname: str, *, target: bool) -> nodes.Node:
    """Return a question with all that belongs to it."""
    shown = nodes.container(classes=["question-box", one.colour])
    if target:
        shown["ids"].append(one.anchor)
    head = nodes.paragraph(classes=["question-statement"])
    head += [nodes.inline("", one.badge, classes=["verdict", one.colour]), nodes.Text(" ")]
    head += nodes.strong("", one.statement)
    shown += head
    drawn = nodes.raw("", forest.draw(one), format="html")
    shown += [*guess.place(one), nodes.paragraph("", answer(one), classes=["question-answer"]), drawn]
    notes = [note for note in (*one.rule, one.note, one.registered) if note]
    lines = [nodes.line("", note) for note in notes[:-1]]
    study = _study_link(one.study, docname)
    shown += nodes.line_block("", *lines, nodes.line("", f"{notes[-1]} ", study), classes=["question-notes"])
    return shown


def answer(one: Said) -> str:
    """Return the answer to a question, in a sentence."""
    if one.effect is None:
        return "Not run yet."
    why = {EXPLORATORY: "Exploratory, without a verdict:", UNSOUND: "No verdict, as the study is not sound:"}
    return f"{why.get(one.verdict, f'Finding: {one.finding},')} {measured(one)}."


def _study_link(study: str, docname: str) -> addnodes.pending_xref:
    """Return a link to a study's section of the index: records, command and definition."""
    link = addnodes.pending_xref(
        "", nodes.inline("", f"Study {study}"), reftype="study", refdomain="", reftarget=f"study-{study}",
        refdoc=docname, refwarn=True,
    )  # fmt: skip
    link["reftitle"] = f"Records and definition of the study {study}"
    return link


def _sources(study: str, docname: str) -> nodes.paragraph:
    """Return where a study's records and definition are."""
    count = sum(record.study == study for record in records.every())
    code = addnodes.pending_xref(
        "", nodes.literal("", "cnnhw.studies.Study"), refdomain="py", reftype="class",
        reftarget="cnnhw.studies.Study", refdoc=docname,
    )  # fmt: skip
    where = [
        nodes.Text(f"{count} records in "),
        nodes.literal("", f"docs/records/{study}"),
        nodes.Text("; defined in "),
    ]
    return nodes.paragraph(
        "", "", *(where if count else [nodes.Text("No records yet; defined in ")]),
        nodes.literal("", registry.file(study)), nodes.Text(" as a "), code,
        nodes.Text("; to run it again: " if count else "; to run it: "),
        nodes.literal("", f"cnnhw study run {study}"), nodes.Text("."),
    )  # fmt: skip


class _Whole(SphinxDirective):
    """``.. question:: ID``, with the verdict that the page goes by."""

    required_arguments = 1
    option_spec = {"verdict": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        try:
            one = get(self.arguments[0])
            if "verdict" in self.options:
                checked(one, self.options["verdict"])
        except ValueError as error:
            return [self.state.document.reporter.warning(f"{self.name}: {error}", line=self.lineno)]
        return [box(one, self.env.docname, target=False)]


class _Role(SphinxRole, abc.ABC):
    """A question in a sentence: an identifier, and what the page says of it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        identifier, _, words = " ".join(self.text.split()).partition(" ")
        try:
            return self.shown(get(identifier), words), []
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":{self.name}: {error}", line=self.lineno)]

    @abc.abstractmethod
    def shown(self, one: Said, words: str) -> list[nodes.Node]:
        """Return what is shown."""

    def marked(self, one: Said, text: str) -> list[nodes.Node]:
        """Return text with a mark, which stays on the line of the last word."""
        first, space, last = text.rpartition(" ")
        classes = ["effect", one.colour]
        return [
            *([nodes.inline("", first + space, classes=classes)] if first else []),
            nodes.inline("", "", nodes.inline("", last, classes=classes), mark(one, self.env), classes=["together"]),
        ]


class VerdictRole(_Role):
    """``:verdict:`ID```, which the records give, or ``:verdict:`ID VERDICT```, which they have to give."""

    def shown(self, one: Said, words: str) -> list[nodes.Node]:
        if words:
            checked(one, words)
        return [mark(one, self.env, word=True)]


class EffectRole(_Role):
    """``:effect:`ID```: effect and interval."""

    def shown(self, one: Said, words: str) -> list[nodes.Node]:
        return self.marked(one, short(one))


class FindingRole(_Role):
    """``:finding:`ID gain/lose/hardly change it```: the finding in words, of which the records choose."""

    def shown(self, one: Said, words: str) -> list[nodes.Node]:
        return self.marked(one, in_words(one, words))


class _Index(SphinxDirective):
    """``.. questions-index::``: all that there are, in sections."""

    def run(self) -> list[nodes.Node]:
        found = list(said().values())
        counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in _VERDICTS}
        listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        number = f"{len(found)} question{'' if len(found) == 1 else 's'}"
        deciding = [one for one in found if one.decides]
        told = sum(one.finding not in (NOT_RUN, "cannot tell") for one in deciding)
        decided = f" With a finding: {told} of the {len(deciding)} that are primary or secondary." if deciding else ""
        out: list[nodes.Node] = [nodes.paragraph("", f"{number}: {listed}.{decided}")] if found else []
        return [*out, *guess.board(found), *self.by_chapter(found)]

    def by_chapter(self, found: Sequence[Said]) -> list[nodes.Node]:
        """Return a section for each chapter, in the order of reading."""
        names = order.chapters()
        pages = {one.chapter: order.page(one.chapter) for one in found}
        out: list[nodes.Node] = []
        for chapter in sorted(pages, key=lambda one: names.index(page) if (page := pages[one]) else len(names)):
            name = pages[chapter]
            section = nodes.section(ids=[f"chapter-{chapter}"])
            section += nodes.title("", order.title(name) if name else chapter)
            if (page := f"auto_examples/{name}") in self.env.found_docs:
                link = addnodes.pending_xref(
                    "", nodes.inline("", "Read the chapter"), refdomain="std", reftype="doc", reftarget=f"/{page}",
                    refdoc=self.env.docname, refexplicit=True, refwarn=True,
                )  # fmt: skip
                section += nodes.paragraph("", "", link)
            mine = [one for one in found if one.chapter == chapter]
            for study in dict.fromkeys(one.study for one in mine):
                about = nodes.container("", ids=[f"study-{study}"], classes=["study"])
                about += nodes.paragraph("", f"Study {study}. ", nodes.emphasis("", registry.get(study).question))
                about += _sources(study, self.env.docname)
                section += about
                section += self.boxes(one for one in mine if one.study == study)
            out.append(section)
        return out

    def boxes(self, found: Iterable[Said]) -> list[nodes.Node]:
        """Return each of them whole."""
        return [box(one, self.env.docname, target=True) for one in found]


def resolve(app: Sphinx, env: object, node: addnodes.pending_xref, contnode: nodes.Node) -> nodes.Node | None:
    """Point to a study on the page of all questions."""
    if node["reftype"] != "study":
        return None
    uri = app.builder.get_relative_uri(node["refdoc"], INDEX)
    reference = nodes.reference("", "", contnode, internal=True, refuri=f"{uri}#{node['reftarget']}")
    reference["reftitle"] = node["reftitle"]
    return reference


def judge_first(app: Sphinx, env: object, pages: list[str]) -> None:
    """Judge all before pages are shared out among processes: each would do it anew for every ten of them."""
    if pages and app.parallel > 1:
        said()


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register roles and directives."""
    app.setup_extension("cnnhw_docs.marks")
    app.add_directive("question", _Whole)
    app.add_directive("questions-index", _Index)
    for name, role in {
        "effect": EffectRole,
        "finding": FindingRole,
        "verdict": VerdictRole,
    }.items():
        app.add_role(name, role())
    app.connect("missing-reference", resolve)
    app.connect("builder-inited", lambda _: said.cache_clear())
    app.connect("env-before-read-docs", judge_first)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
