"""A check of the pages: findings have to come from records, not from the keyboard.

A finding is a typed figure (``0.62``, 12 %, two points, a third of the errors, three times as fast) or a comparison of
outcomes (more accurate, ahead, lowest, sooner, level with, no better than). Prose is read, and so is every text in
code: titles, axis labels, legends, alternative texts, what is printed. A sentence may hold one if it

* shows what it rests on: a role prints a difference whose interval leaves out zero, or roles print two figures; in
  code, an expression supplies words (``f"{best} is ahead"``; ``f"A is ahead by {gap:.1f}"`` says it whatever the gap);
* cites: it has a ``:cite:`` role, says what the original report found, or quotes;
* is theory: it holds a formula, or speaks of parts of what the experimenter sets ("half of the photos", "three times
  the weights") and not of what came out;
* asks or supposes: it ends with a question mark, or says would, may, whether, was claimed;
* or is one of the `REVIEWED`.

The bold words that begin a paragraph ("**What would have refuted it.**") count for each of its sentences; one that ends
with a colon rests on what follows it. Ordinals and counts ("two stages", "six runs") are no findings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

from cnnhw_docs.verdicts import EXPLORATORY, Said, said

logger = logging.getLogger(__name__)

# A part of a sentence that may stand although it looks like a finding typed by hand, and why; at most 20.
REVIEWED = {
    "training accuracy goes on rising while validation loss rises": "defines overfitting",
    "the plain network's gradient shrinks with depth": "the code above computes it live and asserts it",
    "Training loss falls smoothly while validation accuracy jumps": "a solution, whose code computes and asserts it",
}

_COUNT = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty"
    r"|seventy|eighty|ninety|hundred|thousand|several|many|\d[\d.,]*)"
)
_PART = r"(?:half|third|quarter|fifth|sixth|seventh|eighth|ninth|tenth|twentieth|fiftieth|hundredth|thousandth)"
# shares and multiples: findings unless they are of something that an experimenter sets
_SHARES = (
    rf"\b\d+(?:\.\d+)?\s?(?:%|per\s?cent\b)|\b{_COUNT}[ -](?:{_PART}s?|halves)\b|\ba\s(?:half|quarter)\b"
    rf"|\b(?:an?\s)?(?:{_PART}\s(?:of|more|fewer|less|as))\b|\bhalf\s(?:the|its|their|that|are|were|is|was)\b"
    rf"|\b(?:twice|thrice|half|{_COUNT}\stimes|{_COUNT}-?fold)\s(?:as(?!\smany)|the|that|more|less|fewer|larger|longer)\b"
    r"|\b(?:most|nearly\sall|almost\sall|hardly\sany)\sof\s(?:the|its|their|them)\b"
)
_UNITS = r"(?:percentage\s)?points?|cents?"
_FIGURES = (
    rf"\b0\.\d\d+\b|(?<![\d.])\b(?:{_COUNT}|half\san?)\s(?:{_UNITS})\b|\b(?:{_UNITS})\sand\sa\s{_PART}\b"
    rf"|\b(?:takes?|took|lasts?|lasted)\s(?:\w+\s){{0,2}}(?:an?|half\san?|{_COUNT})\s(?:seconds?|minutes?|hours?|days?)\b"
)
_IS = r"(?:is|are|was|were|be|been|lies|lie|lay|has|have|had|stays?|falls?|fell|comes?|came|runs?)\s(?:\w+\s){0,2}"
_DOES = r"(?:do|does|did|done|fares?|fared|serves?|served|works?|worked)\s(?:\w+\s){0,2}"
_OUTCOME = r"(?:accurac(?:y|ies)|loss(?:es)?|errors?|gains?|gradients?|effects?|differences?)"
_COMPARED = (
    r"\b(?:more|less|most|least|as)\saccurate\b|\b(?:better|worse|later|earlier)\sthan\b|\bahead\b|\blevel\swith\b"
    rf"|\b(?:faster|slower|quicker|sooner)(?:st)?\b|\b(?:fastest|slowest|quickest|soonest)\b|\b{_IS}behind\b(?!\s(?:it|this|that|them)\b)"
    rf"|\b{_IS}(?:high|low)(?:er|est)\b|\b{_IS}(?:the\s)?(?:best|worst|better|worse)\b"
    rf"|\b{_DOES}(?:as\swell|better|worse|best|worst|no\sharm|harm)\b|\bas\sgood\sas\b"
    r"|\bno\s(?:more|less|better|worse|fewer|larger|smaller|higher|lower)(?:\s\w+)?\sthan\b"
    r"|\b(?:beats?|beaten|outperform(?:s|ed)?|outdo(?:es)?|overtakes?|overtook|surpass(?:es|ed)?)\b"
    r"|\b(?:wins?|won|los(?:es?|t))\s(?:to|against|over)\b|(?<![-\w])(?<!to )help(?:s|ed)?\b(?!\s(?:to|of)\b)"
    r"|\b(?:pays?|paid)\b(?!\sfor\b)|\b(?:harms|harmed)\b|\b(?:is|are)\s(?:supported|refuted)\b"
    r"|\b(?:costs?|gains?|gained|loses?|lost)\W+(?:accuracy|points|little|much|nothing)\b|\bno\sgains?\b"
    rf"|\b{_OUTCOME}\s(?:\w+\s)?(?:rises?|rose|falls?|fell|grows?|grew|shrinks?|shrank|drops?|climbs?)\b"
    rf"|\b{_OUTCOME}\s(?:is|are|was|were)\s(?:\w+\s)?(?:larger|smaller|greater|stronger|weaker|longer|shorter)\b"
)
# what a short text over, beside or for a figure asserts of what is drawn
_ASSERTED = (
    r"\b(?:better|worse|more|less|most|least|larger|smaller|longer|shorter|fewer|stronger|weaker|nearer|closer"
    r"|(?:high|low|deep|strong|weak|clos|near|larg|small|few|good|hard|eas)(?:er|est|ier|iest)|best|worst"
    r"|gains?|loses?|hinders?|costs|hardly|nearly|rises?|falls?|grows?|shrinks?|behind|later|earlier)\b"
)
_STRUCTURE = (
    r"\b(?:photos?|pictures?|pixels?|scenes|cells?|sides?|widths?|sizes?|lengths?|areas?|maps?|windows?|channels?|layers?"
    r"|kernels?|weights?|parameters?|units?|paths?|branch(?:es)?|class(?:es)?|arrays?|epochs?|steps?|pass(?:es)?|rates?"
    r"|batch(?:es)?|folds?|multiply-adds|operations|multiplications|arithmetic|precision|range|positions?|budget|intervals?|confidence)\b"
)
_SUPPOSED = (
    r"^the question\b|\b(?:would|could|might|may|whether|should|must|suppose[ds]?|assum(?:e|es|ing)|predict(?:s|ed)?"
    r"|expect(?:s|ed)?|need\snot|hypothes[ie]s|claimed|registered|asks?)\b|\?\W*$"
)
_REPORTED = r"\breport(?:'s)?\b[^.]*\b(?:found|finds|conclu\w+|says?|said|argued|blamed|took|called|names?|figures)\b"

# ranges, levels of confidence, margins and orders that are drawn are no findings
_NEUTRAL = (
    r"\b(?:from\s)?(?:the\s)?lowest\sto\s(?:the\s)?highest\b|\b9[59]\s%(?:\sconfidence)?\sintervals?"
    rf"|\bwithin\s{_COUNT}\spoints?\b|\b(?:larg|small|high|low|strong|quick)est(?:\s\w+){{0,2}}\sfirst\b"
)
_COMPUTED = re.compile(r"<!-- answers, .*<!-- end of the answers -->", re.DOTALL)  # of the README
_PAGES = ("README.md", "docs/*.rst", "docs/guide/*.rst", "docs/start/*.rst")

# formulas and code with their indented lines, literals, and roles and citations
_LITERAL = (
    r"``.+?``|^( *)(?:\.\. (?:math|code-block|code|raw|cli-help|toctree|mermaid)::[^\n]*|[^\n]*::(?=\n *\n))"
    r"(?:\n(?:\1 +[^\n]*|[ ]*(?=\n)))*"
)
_ROLE = r":(?P<role>[\w:]+):`(?P<words>[^`<]*)(?:<[^`]*>)?`"
_QUOTED = r"\"[^\"]{1,300}\"|“[^”]{1,300}”"
_NAMES = r"^\.\. (?:question|soundness|trained|provenance|answer)::[^\n]*$"
_LEFT_OUT = re.compile(rf"{_NAMES}|{_LITERAL}|{_ROLE}|{_QUOTED}", re.DOTALL | re.MULTILINE)
_DIFFERENCES, _FIGURES_OF = ("effect", "finding", "paired"), ("record", "reported", "bench")
# what is left of a role: a difference (or a word that code computes), one that is open, a figure, a citation, a formula
_SHOWN, _OPEN = "\N{BALLOT BOX WITH CHECK}", "\N{BALLOT BOX}"
_FIGURE, _CITED, _FORMULA = "\N{CURRENCY SIGN}", "\N{SECTION SIGN}", "\N{INTEGRAL}"
_PARAGRAPH = re.compile(r"\n[ ]*(?:\n[ ]*)+")
_SENTENCE = re.compile(r"[.!?](?=\s|$)|\n\s*(?:[*#-]|\d+\.)\s")
_LEAD = re.compile(r"\s*(?:\d+\.\s|[*#-]\s)?\*\*(.+?)\*\*", re.DOTALL)


def _blank(match: re.Match[str], open_: Collection[str]) -> str:
    """Keep lines and length of what is left out, and a mark of what stood there; a term or a page keeps its words."""
    text, role, words = match.group(), match["role"], match["words"]
    if role in _DIFFERENCES:
        # a finding without a slash is stated, and checked when the page is built
        chosen = role == "effect" or (role == "finding" and "/" in words)
        mark = _OPEN if chosen and next(iter(words.split()), "") in open_ else _SHOWN
    elif role in _FIGURES_OF:
        mark = _FIGURE
    elif role == "math" or (role is None and ".. math::" in text):
        mark = _FORMULA
    elif role is None or role == "verdict":
        mark = ""
    elif role.startswith("cite"):
        mark = _CITED
    else:
        start = match.start("words") - match.start()
        return _white(text[:start]) + words + _white(text[start + len(words) :])
    return mark + _white(text)[len(mark) :]


def _white(text: str) -> str:
    """Return as many spaces, with the same ends of lines."""
    return re.sub(r"[^\n]", " ", text)


def _spans(pattern: re.Pattern[str], text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of what lies between the matches of a pattern, with the first sign of the match."""
    for match in pattern.finditer(text, start, stop):
        yield start, match.start() + 1
        start = match.end()
    yield start, stop


def _findings(text: str, compared: str) -> list[tuple[int, str]]:
    """Return place and words of each finding that a sentence of the text may not hold."""
    words = re.compile(rf"(?P<figure>{_FIGURES})|(?P<share>{_SHARES})|{compared}", re.IGNORECASE)
    paragraphs = list(_spans(_PARAGRAPH, text, 0, len(text)))
    found = []
    for number, (first, last) in enumerate(paragraphs):
        lead = match[1] if (match := _LEAD.match(text, first, last)) else ""
        for start, stop in _spans(_SENTENCE, text, first, last):
            context = f"{lead} {text[start:stop]}"
            if text[start:stop].rstrip().endswith(":") and stop == last and number + 1 < len(paragraphs):
                context += "".join(re.findall(f"[{_SHOWN}{_OPEN}{_FIGURE}]", text[slice(*paragraphs[number + 1])]))
            basis = _basis(" ".join(context.split()))
            for one in words.finditer(text, start, stop):
                after = text[one.end() : min(stop, one.end() + 60)]
                set_by_us = one["share"] and re.search(_STRUCTURE, after, re.IGNORECASE)
                if not set_by_us and basis < (1 if one["share"] or one["figure"] else 2):
                    found.append((one.start(), one.group()))
    return found


def _basis(sentence: str) -> int:
    """Say what a sentence, with the lead of its paragraph, may hold: nothing, 1: numbers, 2: comparisons, too."""
    if (
        any(mark in sentence for mark in (_SHOWN, _CITED, _FORMULA))
        or re.search(_SUPPOSED, sentence, re.IGNORECASE)
        or re.search(_REPORTED, sentence)
        or any(part in sentence for part in REVIEWED)
    ):
        return 2
    return max(min(sentence.count(_FIGURE), 2), int(_OPEN in sentence))


def typed_claims(text: str, open_: Collection[str] = ()) -> list[tuple[int, str]]:
    """Find typed figures and comparisons in prose; give the line of each, from 0, and its words.

    An effect whose interval holds zero (``open_``, by identifier) backs no comparison.
    """
    text = _LEFT_OUT.sub(partial(_blank, open_=open_), text)
    text = re.sub(_NEUTRAL, lambda match: _white(match.group()), text)
    return [(text.count("\n", 0, at), what) for at, what in _findings(text, _COMPARED)]


def asserted(code: str) -> list[tuple[int, str]]:
    """Find typed figures and comparisons in the texts of code: titles, axes, legends, alternative texts, prints."""
    found = []
    for text, shown in _texts(ast.parse(code), False):
        words = re.sub(f"{_NEUTRAL}|{_QUOTED}", "", _typed(text))
        compared = f"{_COMPARED}|{_ASSERTED}" if shown else _COMPARED
        found += [(text.lineno, what) for _, what in _findings(words, compared)]
    return sorted(found, key=lambda one: one[0])


_DRAWS = re.compile(r"annotate|legend|text|suptitle|set_title|set_label|(?:set_|sup)[xy]label|set_[xy]tick(?:label)?s")
_COUNTS = ("len(", "round(", "sum(")
_NAMED = ("title", "xlabel", "ylabel", "label", "labels")
_REGISTERS = ("Question", "Study", "again", "question")


def _texts(node: ast.AST, shown: bool) -> Iterator[tuple[ast.expr, bool]]:
    """Yield each text of a syntax tree, and whether a figure shows it; no docstrings, errors, questions, choices."""
    if isinstance(node, ast.Constant | ast.JoinedStr):
        yield node, shown
    elif isinstance(node, ast.BinOp):
        yield node, shown
        for part in (node.left, node.right):
            if not isinstance(part, ast.Constant | ast.JoinedStr | ast.BinOp):
                yield from _texts(part, shown)
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name.lstrip("_") not in _REGISTERS:
            drawn = (
                bool(_DRAWS.fullmatch(name))
                or ast.unparse(node.func).startswith("plots.")
                or (shown and name == "join")
            )
            yield from _texts(node.func, shown)
            for argument in node.args:
                yield from _texts(argument, drawn)
            for keyword in node.keywords:
                yield from _texts(keyword.value, drawn or keyword.arg in _NAMED)
    elif not isinstance(node, ast.Raise | ast.Assert | ast.Compare | ast.Subscript | ast.IfExp) and not (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ):
        for child in ast.iter_child_nodes(node):
            yield from _texts(child, shown)


def _typed(text: ast.expr) -> str:
    """Return what was typed of a text, with a mark for each word that is computed: what is no figure."""
    if isinstance(text, ast.Constant):
        return text.value if isinstance(text.value, str) else ""
    if isinstance(text, ast.JoinedStr):
        return "".join(map(_typed, text.values))
    if isinstance(text, ast.BinOp):
        return _typed(text.left) + _typed(text.right)
    if isinstance(text, ast.FormattedValue) and (text.format_spec or ast.unparse(text.value).startswith(_COUNTS)):
        return ""
    return _SHOWN


def found(root: Path, open_: Collection[str] = ()) -> Iterator[tuple[Path, int, str]]:
    """Yield file, line and words of each finding that was typed into the pages of a repository."""
    for path in (path for place in _PAGES for path in sorted(root.glob(place))):
        text = _COMPUTED.sub(lambda part: "\n" * part[0].count("\n"), path.read_text(encoding="utf-8"))
        for line, what in typed_claims(text, open_):
            yield path, line + 1, what
    for path in sorted((root / "examples").glob("*.py")):
        for kind, content, line in split_code_and_text_blocks(str(path))[1]:
            if kind == "text":
                for offset, what in typed_claims(content, open_):
                    yield path, line + offset, what
    for path in sorted([*(root / "examples").glob("*.py"), *(root / "cnnhw" / "book").glob("*.py")]):
        for at, what in asserted(path.read_text(encoding="utf-8")):
            yield path, at, what


def undecided() -> set[str]:
    """Return what backs no comparison: questions without a direction found, and intervals that hold zero."""
    return {one.id for one in said().values() if not _decided(one)}


def _decided(one: Said) -> bool:
    if one.verdict == EXPLORATORY:  # there is an interval, and no more
        return one.low is not None and one.high is not None and not one.low <= 0 <= one.high
    return one.finding in ("higher", "lower")


def check(app: Sphinx) -> None:
    """Warn of each finding that was typed by hand."""
    for path, line, what in found(Path(app.srcdir).parent, undecided()):
        logger.warning("typed by hand: %r; take it from a record", what, location=f"{path}:{line}")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Check before anything is built."""
    app.connect("builder-inited", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
