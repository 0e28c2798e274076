"""``.. trained:: STUDY ...``: of each network of some studies, in one folded place, what the homework asks for.

That is loss and accuracy by epoch, the diagram, the confusion matrix and the time. Each line of the content names an
arm and says it in words, as in ``plain: depth 20, without shortcuts``; arms without a line are left out.
"""

from __future__ import annotations

import html
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from cnnhw import models, plots
from cnnhw.book import registry
from cnnhw.errors import CnnhwError
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Study
from cnnhw_docs import records
from cnnhw_docs.live import compact
from cnnhw_docs.provenance import per_run

_TITLE = "Each network: curves, diagram, confusion matrix, time"
_FOLDER = "_static/generated/trained"
_LINES = re.compile(r"^\.\. trained::.*\n\n((?: {3}.+\n)+)", re.MULTILINE)


class Trained(SphinxDirective):
    """``.. trained:: q2_depth q2_deep``, with a line an arm."""

    required_arguments = 1
    optional_arguments = 9
    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            arms = {arm.name: (study, arm) for study in map(registry.get, self.arguments) for arm in study.arms}
            words = _words(self.content)
            if unknown := [name for name in words if name not in arms]:
                named = " and ".join(self.arguments)
                raise CnnhwError(f"study {named} has no arm {', '.join(unknown)}; it has {', '.join(arms)}")
        except (CnnhwError, ValueError) as error:
            raise self.error(f"trained: {error}") from error
        out: list[nodes.Node] = [
            nodes.raw(
                "",
                '<details class="trained"><summary>Each network: curves, diagram, confusion matrix, time</summary>',
                format="html",
            )
        ]
        for name, said in words.items():
            study, arm = arms[name]
            runs = [one for one in records.every() if (one.study, one.arm) == (study.name, name)]
            out.append(nodes.rubric("", said))
            if not runs:
                out.append(nodes.paragraph("", "Not run yet."))
                continue
            out.append(nodes.paragraph("", summary(runs)))
            out.append(self._picture(study, arm, runs, said))
            out.append(nodes.raw("", _diagram(study, arm, runs[0]), format="html"))
        return [*out, nodes.raw("", "</details>", format="html")]

    def _picture(self, study: Study, arm: Arm, runs: Sequence[Record], said: str) -> nodes.Node:
        """Draw curves and confusion matrix; return the picture."""
        figure = plots.trained(
            [one.history for one in runs],
            [one.confusion() for one in runs],
            [one.content["seconds"] for one in runs],
            runs[0].classes,
            title=said,
        )
        path = Path(self.env.srcdir) / _FOLDER / f"{study.name}-{arm.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        words = str(figure.get_label())
        figure.suptitle("").set_in_layout(False)  # it stands above, as text
        plots.save(figure, path)
        shown = compact(path)
        path.unlink()
        return nodes.image(uri=f"/{_FOLDER}/{shown.name}", alt=words, classes=["chart"])


def _words(lines: Iterable[str]) -> dict[str, str]:
    """Return what lines say of arms, by their names."""
    return dict(line.strip().split(": ", 1) for line in lines if line.strip())


def named(source: str) -> dict[str, str]:
    """Return the words in which a page's text says its arms."""
    return _words(line for block in _LINES.findall(source) for line in block.splitlines() if ": " in line)


def summary(runs: Sequence[Record]) -> str:
    """Return accuracy, parameters and time of an arm's runs, in words."""
    shares = [one.accuracy() for one in runs]
    seconds = [one.content["seconds"] for one in runs]
    count = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    spread = f" ({min(shares):.3f} to {max(shares):.3f})" if len(runs) > 1 else ""
    took = f"{statistics.median(seconds):,.0f} s of training{' (median)' if len(runs) > 1 else ''}"
    return (
        f"Test accuracy {statistics.fmean(shares):.3f}{spread}, {count}; {runs[0].content['parameters']:,} parameters; "
        f"{took} with {per_run(runs[0])}."
    )


def _diagram(study: Study, arm: Arm, run: Record) -> str:
    """Return the folded diagram of an arm's network."""
    model = models.create(arm.model, len(run.classes), size=arm.size or study.size, **arm.options)
    name = html.escape(arm.model)
    return f'<details><summary>Diagram of {name}</summary><div class="diagram">{plots.diagram(model)}</div></details>'


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("trained", Trained)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
