"""Claims on pages: a directive and a role that state a verdict, and fail the build if the records give another.

``.. claim:: ID`` with ``:verdict: supported`` shows a claim whole; ``:claim:`ID supported``` is a badge that links to
it, with effect and interval beside it; ``:effect:`ID``` prints effect and interval alone, for a sentence to be written
around; ``:finding:`ID gain/lose``` says it in words; ``.. claims-index::`` shows all claims, by study.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

from cnnhw.book import registry
from cnnhw.book.statements import CLAIMS
from cnnhw.studies import claims
from cnnhw.studies.claims import Claim, Verdict
from cnnhw_docs import records

INDEX = "claims"
_DIGITS = {"points": 1, "convolutions": 1, "epochs": 1, "s": 1, "ms": 2, "% of the weights' norm": 1}
_KNOWN = {
    "no": "before the runs",
    "in part": "before these runs; the outcome was known in part, from an earlier set of runs that is not kept",
    "post hoc": "or edited, after the runs: post hoc",
}
_COLOURS = {"supported": "#00795c", "refuted": "#b34700", "not resolved": "#5c6470"}


@functools.cache
def verdicts() -> dict[str, Verdict]:
    """Return the verdict of each claim, by identifier; computed once a build."""
    return {verdict.claim.id: verdict for verdict in claims.judge(CLAIMS, records.every())}


def checked(identifier: str, asserted: str, found: dict[str, Verdict]) -> Verdict:
    """Return the verdict of a claim, if it is the one that the page asserts.

    Raises
    ------
    ValueError
        If there is no such claim, or the records give another verdict.
    """
    if identifier not in found:
        raise ValueError(f"there is no claim {identifier!r}; there are {', '.join(found)}")
    if found[identifier].verdict != asserted:
        raise ValueError(f"the page says {identifier} is {asserted!r}, the records say {found[identifier].verdict!r}")
    return found[identifier]


def figures(verdict: Verdict) -> str:
    """Return the effect with its interval and the number of seeds, as text."""
    if verdict.effect is None:
        return "not measured yet"
    scale, unit = verdict.claim.measure.scale, verdict.claim.measure.unit
    low, high = (scale * end for end in verdict.effect.interval())
    return (
        f"{scale * verdict.effect.effect:+.2f} {unit}, 95 % interval {low:+.2f} to {high:+.2f}, {verdict.seeds} seeds"
    )


def short(verdict: Verdict, link: str = ", ") -> str:
    """Return the effect with its interval as a sentence holds it: "+4.9 points, 3.4 to 6.4".

    Parameters
    ----------
    verdict : Verdict
        The verdict.
    link : str
        What stands between effect and interval; with ``" ("``, the interval is put in parentheses.
    """
    if verdict.effect is None:
        return "not measured yet"
    scale, unit = verdict.claim.measure.scale, verdict.claim.measure.unit
    digits = _DIGITS.get(unit, 3)
    low, high = (round(scale * end, digits) for end in verdict.effect.interval())
    sign = "" if low > 0 else "+"
    ends = f"{low:.{digits}f} to {high:{sign}.{digits}f}"
    words = "" if unit.startswith("(") else f" {unit}"
    return f"{scale * verdict.effect.effect:+.{digits}f}{words}{link}{ends}{')' if '(' in link else ''}"


def in_words(verdict: Verdict, words: str) -> str:
    """Return the effect in words: with "gain/lose", it is "gain 4.9 points (3.4 to 6.4)" or "lose" as many.

    Parameters
    ----------
    verdict : Verdict
        The verdict.
    words : str
        What a positive effect is called and what a negative one is, with a slash between.

    Raises
    ------
    ValueError
        If there are not two words, or the interval holds zero, so that neither of them can be said.
    """
    more, slash, less = words.partition("/")
    if not slash:
        raise ValueError(f"{words!r} is not two words with a slash between")
    low, high = verdict.effect.interval() if verdict.effect else (0.0, 0.0)
    if low <= 0 <= high:
        raise ValueError(f"the interval of {verdict.claim.id} holds zero: neither {more!r} nor {less!r} can be said")
    scale, unit = verdict.claim.measure.scale, verdict.claim.measure.unit
    digits = _DIGITS.get(unit, 3)
    near, far = sorted(abs(scale * end) for end in (low, high))
    size = abs(scale * verdict.effect.effect)
    words = "" if unit.startswith("(") else f" {unit}"
    return f"{more if low > 0 else less} {size:.{digits}f}{words} ({near:.{digits}f} to {far:.{digits}f})"


def hint(verdict: Verdict) -> str:
    """Return what a link to a claim says when it is pointed at."""
    known = ", outcome known in part" if verdict.known == "in part" else ""
    return f"{verdict.claim.statement} {figures(verdict)}{known}"


def wanted(claim: Claim) -> str:
    """Return in words what the effect has to be for the claim to hold."""
    scale, unit = claim.measure.scale, claim.measure.unit
    margin = f"{scale * claim.margin:g} {unit}"
    return {
        "greater": f"above {margin}",
        "less": f"below -{margin}" if claim.margin else f"below {margin}",
        "equivalent": f"between -{margin} and {margin}",
    }[claim.direction]


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
    """Return a claim with all that belongs to it.

    Parameters
    ----------
    verdict : Verdict
        The verdict.
    docname : str
        The page that it is on.
    target : bool
        Whether links to the claim lead here.
    """
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
        nodes.Text("; defined in "), nodes.literal("", "cnnhw/studies/plans.py"), nodes.Text(" as a "), code,
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


class ClaimRole(SphinxRole):
    """``:claim:`ID VERDICT```."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        identifier, _, asserted = " ".join(self.text.split()).partition(" ")
        try:
            verdict = checked(identifier, asserted, verdicts())
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":claim: {error}", line=self.lineno)]
        link = addnodes.pending_xref(
            "", reftype="claim", refdomain="", reftarget=identifier, refdoc=self.env.docname, refwarn=True
        )
        link += badge(verdict)
        link["reftitle"] = hint(verdict)
        return [link, nodes.inline("", f" ({short(verdict)})", classes=["effect"])], []


class EffectRole(SphinxRole):
    """``:effect:`ID```: effect and interval, without a verdict."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        if self.text not in verdicts():
            return [], [self.inliner.reporter.warning(f":effect: there is no claim {self.text!r}", line=self.lineno)]
        verdict = verdicts()[self.text]
        link = addnodes.pending_xref(
            "", reftype="claim", refdomain="", reftarget=self.text, refdoc=self.env.docname, refwarn=True
        )
        link += nodes.inline("", short(verdict, " ("), classes=["effect"])
        link["reftitle"] = hint(verdict)
        return [link], []


class FindingRole(SphinxRole):
    """``:finding:`ID gain/lose```: the effect in words, of which the records choose one."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        identifier, _, words = " ".join(self.text.split()).partition(" ")
        try:
            if identifier not in verdicts():
                raise ValueError(f"there is no claim {identifier!r}")
            verdict = verdicts()[identifier]
            text = in_words(verdict, words)
        except ValueError as error:
            return [], [self.inliner.reporter.warning(f":finding: {error}", line=self.lineno)]
        link = addnodes.pending_xref(
            "", reftype="claim", refdomain="", reftarget=identifier, refdoc=self.env.docname, refwarn=True
        )
        link += nodes.inline("", text, classes=["effect"])
        link["reftitle"] = hint(verdict)
        return [link], []


class ClaimsIndex(SphinxDirective):
    """``.. claims-index::``: all claims, by study."""

    def run(self) -> list[nodes.Node]:
        found = verdicts()
        counts = {
            kind: sum(v.verdict == kind for v in found.values()) for kind in ("supported", "refuted", "not resolved")
        }
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        out: list[nodes.Node] = [nodes.paragraph("", f"{len(found)} claims: {listed}.")]
        for study in dict.fromkeys(claim.study for claim in CLAIMS):
            section = nodes.section(ids=[f"study-{study}"])
            section += nodes.title("", study)
            section += nodes.paragraph("", registry.get(study).question)
            section += _sources(study, self.env.docname)
            for claim in claims.of_study(CLAIMS, study):
                section += card(found[claim.id], self.env.docname, target=True)
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


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register role and directives."""
    app.add_directive("claim", ClaimDirective)
    app.add_directive("claims-index", ClaimsIndex)
    app.add_role("claim", ClaimRole())
    app.add_role("effect", EffectRole())
    app.add_role("finding", FindingRole())
    app.connect("missing-reference", resolve)
    app.connect("builder-inited", lambda _: verdicts.cache_clear())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


__all__: Sequence[str] = [
    "INDEX", "card", "checked", "figures", "forest", "in_words", "setup", "short", "verdicts", "wanted",
]  # fmt: skip
