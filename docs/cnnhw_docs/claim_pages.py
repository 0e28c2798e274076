"""Claims on pages: a directive and a role that state a verdict, and fail the build if the records give another.

``.. claim:: ID`` with ``:verdict: supported`` shows a claim whole; ``:claim:`ID supported``` is a badge that links to
it, with effect and interval beside it; ``:effect:`ID``` prints effect and interval alone, for a sentence to be written
around; ``:finding:`ID gain/lose``` says it in words; ``.. claims-index::`` shows all claims, by study.
"""

from __future__ import annotations

import abc
import html

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

from cnnhw.book import registry
from cnnhw.studies.claims import Verdict
from cnnhw_docs import records
from cnnhw_docs.verdicts import checked, figures, hint, in_words, short, verdicts, wanted

INDEX = "claims"
_KNOWN = {
    "no": "before the runs",
    "in part": "before these runs; the outcome was known in part, from an earlier set of runs that is not kept",
    "post hoc": "or edited, after the runs: post hoc",
}
_COLOURS = {"supported": "#00795c", "refuted": "#b34700", "not resolved": "#5c6470"}


def forest(verdict: Verdict) -> str:
    """Draw the effect, its interval and the margin as a small SVG."""
    if verdict.effect is None:
        return ""
    claim, (low, high) = verdict.claim, verdict.effect.interval()
    edges = {"greater": (claim.margin,), "less": (-claim.margin,), "equivalent": (-claim.margin, claim.margin)}
    marks = edges[claim.direction]
    left, right = min(low, 0, *marks), max(high, 0, *marks)
    left, right = left - 0.08 * (right - left or 1), right + 0.08 * (right - left or 1)

    def x(value: float) -> float:
        return round(300 * (value - left) / (right - left), 1)

    spans = {"greater": (x(marks[0]), 300.0), "less": (0.0, x(marks[0])), "equivalent": (x(marks[0]), x(marks[-1]))}
    start, stop = spans[claim.direction]
    colour = _COLOURS[verdict.verdict]
    label = html.escape(f"Effect {figures(verdict)}; the claim holds where it is {wanted(claim)}.", quote=True)
    return (
        f'<svg class="forest" viewBox="0 0 300 34" role="img" aria-label="{label}">'
        f'<rect x="{start}" y="2" width="{round(stop - start, 1)}" height="22" fill="{colour}" opacity="0.13"/>'
        f'<line x1="{x(0)}" x2="{x(0)}" y1="2" y2="24" stroke="currentColor" stroke-dasharray="2 2"/>'
        f'<line x1="{x(low)}" x2="{x(high)}" y1="13" y2="13" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{x(verdict.effect.effect)}" cy="13" r="5" fill="{colour}"/>'
        f'<text x="{x(0)}" y="33" font-size="9" text-anchor="middle" fill="currentColor">0</text></svg>'
    )


def badge(verdict: Verdict) -> nodes.inline:
    """Return the verdict as a badge."""
    kind = verdict.verdict.replace(" ", "-")
    return nodes.inline("", verdict.verdict, classes=["verdict", f"verdict-{kind}"])


def card(verdict: Verdict, docname: str, *, target: bool) -> nodes.Node:
    """Return a claim with all that belongs to it."""
    claim = verdict.claim
    box = nodes.container(classes=["claim", f"claim-{verdict.verdict.replace(' ', '-')}"])
    if target:
        box["ids"].append(f"claim-{claim.id}")
    head = nodes.paragraph(classes=["claim-statement"])
    head += [badge(verdict), nodes.Text(" "), nodes.strong("", claim.statement)]
    box += head
    box += nodes.raw("", forest(verdict), format="html")
    notes = [f"{claim.first} minus {claim.second}, {claim.measure.name}: {figures(verdict)}."]
    notes.append(f"It holds if that is {wanted(claim)}; {claim.refuted_by} would refute it.")
    notes.append(f"Registered {claim.registered}, {_KNOWN[verdict.known]}.")
    if verdict.plain != verdict.verdict:
        notes.append(
            f"The interval alone would say {verdict.plain}; the correction for several claims about one study (Holm) "
            "decides otherwise."
        )
    box += nodes.paragraph("", " ".join(notes) + " ", _study_link(claim.study, docname), classes=["claim-notes"])
    return box


def _study_link(study: str, docname: str) -> addnodes.pending_xref:
    """Return a link to a study's section of the index: records, command and definition."""
    link = addnodes.pending_xref(
        "", nodes.inline("", f"Study {study}"), reftype="claim", refdomain="", reftarget=f"study-{study}",
        refdoc=docname, refwarn=True,
    )  # fmt: skip
    link["reftitle"] = f"Claims, records and definition of the study {study}"
    return link


def _sources(study: str, docname: str) -> nodes.paragraph:
    """Return where a study's records and definition are."""
    count = sum(record.study == study for record in records.every())
    code = addnodes.pending_xref(
        "", nodes.literal("", "cnnhw.studies.Study"), refdomain="py", reftype="class",
        reftarget="cnnhw.studies.Study", refdoc=docname,
    )  # fmt: skip
    return nodes.paragraph(
        "", "", nodes.Text(f"{count} records in "), nodes.literal("", f"docs/records/{study}"),
        nodes.Text("; defined in "), nodes.literal("", registry.file(study)), nodes.Text(" as a "), code,
        nodes.Text("; to run it again: "), nodes.literal("", f"cnnhw study run {study}"), nodes.Text("."),
    )  # fmt: skip


class ClaimDirective(SphinxDirective):
    """``.. claim:: ID``, with the verdict that the page goes by."""

    required_arguments = 1
    option_spec = {"verdict": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        try:
            verdict = checked(self.arguments[0], self.options.get("verdict", ""), verdicts())
        except ValueError as error:
            return [self.state.document.reporter.warning(f"claim: {error}", line=self.lineno)]
        return [card(verdict, self.env.docname, target=False)]


class _Role(SphinxRole, abc.ABC):
    """A claim in a sentence: an identifier, and what the page says of it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        identifier, _, said = " ".join(self.text.split()).partition(" ")
        try:
            if identifier not in verdicts():
                raise ValueError(f"there is no claim {identifier!r}; there are {', '.join(verdicts())}")
            shown = self.shown(verdicts()[identifier], said)
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":{self.name}: {error}", line=self.lineno)]
        link = addnodes.pending_xref(
            "", shown[0], reftype="claim", refdomain="", reftarget=identifier, refdoc=self.env.docname, refwarn=True
        )
        link["reftitle"] = hint(verdicts()[identifier])
        return [link, *shown[1:]], []

    @abc.abstractmethod
    def shown(self, verdict: Verdict, said: str) -> list[nodes.Node]:
        """Return what is shown: the first is a link."""


class ClaimRole(_Role):
    """``:claim:`ID VERDICT```."""

    def shown(self, verdict: Verdict, said: str) -> list[nodes.Node]:
        checked(verdict.claim.id, said, verdicts())
        return [badge(verdict), _effect(f" ({short(verdict)})")]


class EffectRole(_Role):
    """``:effect:`ID```: effect and interval, without a verdict."""

    def shown(self, verdict: Verdict, said: str) -> list[nodes.Node]:
        return [_effect(short(verdict, " ("))]


class FindingRole(_Role):
    """``:finding:`ID gain/lose```: the effect in words, of which the records choose one."""

    def shown(self, verdict: Verdict, said: str) -> list[nodes.Node]:
        return [_effect(in_words(verdict, said))]


def _effect(text: str) -> nodes.inline:
    return nodes.inline("", text, classes=["effect"])


class ClaimsIndex(SphinxDirective):
    """``.. claims-index::``: all claims, by study."""

    def run(self) -> list[nodes.Node]:
        found = verdicts()
        counts = {
            kind: sum(v.verdict == kind for v in found.values()) for kind in ("supported", "refuted", "not resolved")
        }
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        out: list[nodes.Node] = [nodes.paragraph("", f"{len(found)} claims: {listed}.")]
        for study in dict.fromkeys(verdict.claim.study for verdict in found.values()):
            section = nodes.section(ids=[f"study-{study}"])
            section += nodes.title("", study)
            section += nodes.paragraph("", registry.get(study).question)
            section += _sources(study, self.env.docname)
            section += [
                card(verdict, self.env.docname, target=True)
                for verdict in found.values()
                if verdict.claim.study == study
            ]
            out.append(section)
        return out


def resolve(app: Sphinx, env: object, node: addnodes.pending_xref, contnode: nodes.Node) -> nodes.Node | None:
    """Point the badge of a claim to the index of claims."""
    if node["reftype"] != "claim":
        return None
    uri = app.builder.get_relative_uri(node["refdoc"], INDEX)
    target = node["reftarget"] if node["reftarget"].startswith("study-") else f"claim-{node['reftarget']}"
    reference = nodes.reference("", "", contnode, internal=True, refuri=f"{uri}#{target}")
    reference["reftitle"] = node["reftitle"]
    return reference


def judge_first(app: Sphinx, env: object, pages: list[str]) -> None:
    """Judge all claims before pages are shared out among processes: each would do it anew for every ten of them."""
    if pages and app.parallel > 1:
        verdicts()


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register role and directives."""
    app.add_directive("claim", ClaimDirective)
    app.add_directive("claims-index", ClaimsIndex)
    app.add_role("claim", ClaimRole())
    app.add_role("effect", EffectRole())
    app.add_role("finding", FindingRole())
    app.connect("missing-reference", resolve)
    app.connect("builder-inited", lambda _: verdicts.cache_clear())
    app.connect("env-before-read-docs", judge_first)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
