"""``.. soundness:: STUDY``: whether a study's arms have learnt, were tuned alike, and differ in the one thing named."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from cnnhw.book import registry
from cnnhw.errors import CnnhwError
from cnnhw.studies import soundness
from cnnhw_docs import records

_MARKS = {True: "yes", False: "no", None: "not known yet"}
_HEAD = ("Is it so?", "Arm or question", "What was found", "")


class Soundness(SphinxDirective):
    """``.. soundness:: STUDY``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        try:
            study = registry.get(name)
        except CnnhwError as error:
            return [self.state.document.reporter.warning(f"soundness: {error}", line=self.lineno)]
        found = [record for record in records.every() if record.study.startswith(name)]
        out: list[nodes.Node] = [table(soundness.check(study, found))]
        if why := soundness.unsound(study, found):
            out.insert(0, nodes.warning("", nodes.paragraph("", f"No verdicts are given: {why}.")))
        return out


def table(checks: list[soundness.Check]) -> nodes.table:
    """Return the checks as a table; what verdicts do not depend on is marked as exploratory."""
    rows = [
        (one.what, one.of, one.said, _MARKS[one.good] + ("" if one.decides else " (exploratory)")) for one in checks
    ]
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (18, 20, 50, 12)), cols=len(_HEAD))
    group += nodes.thead("", _row(_HEAD))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group, classes=["soundness"])


def _row(cells: tuple[str, ...]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("soundness", Soundness)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
