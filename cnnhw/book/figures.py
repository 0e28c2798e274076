"""Figures that several chapters draw from records, and tables."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnhw import plots, studies
from cnnhw.plots.figures import _names_below
from cnnhw.studies import questions
from cnnhw.studies.statistics import of_arms
from cnnhw.studies.store import Record
from cnnhw.studies.study import Study

__all__ = ["PHONE", "Html", "code", "described", "effects", "narrow", "not_run", "stacked", "table", "trained"]

PHONE = 4.6  # inches: what a phone shows without making its letters too small


class Html(str):
    """The text of HTML, shown as such on a page and in notebooks."""

    def _repr_html_(self) -> str:
        return str(self)


def code(text: str) -> Html:
    """Return text in the letters of code."""
    return Html(f"<code>{html.escape(text)}</code>" if text else "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """Return a table whose first column names its rows; what is HTML already stays as it is.

    A row of one cell heads those below it.
    """

    def shown(text: str) -> str:
        return text if isinstance(text, Html) else html.escape(text)

    titles = "".join(f'<th scope="col">{shown(title)}</th>' if title else "<td></td>" for title in head)
    body = "".join(
        f'<tr><th scope="row">{shown(first)}</th>{"".join(f"<td>{shown(cell)}</td>" for cell in rest)}</tr>'
        if rest
        else f'<tr class="group"><th scope="rowgroup" colspan="{len(head)}">{shown(first)}</th></tr>'
        for first, *rest in rows
    )
    return Html(
        '<div class="pst-scrollable-table-container" tabindex="0"><table class="table report-table">'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def trained(records: Sequence[Record], classes: Sequence[str] | None = None, title: str = "") -> Figure:
    """Draw curves, confusion matrix and time of one arm's runs; the best epoch is marked if there is one run."""
    return plots.trained(
        [record.history for record in records],
        [record.confusion() for record in records],
        [record.content["seconds"] for record in records],
        classes or (records[0].classes if records else ()),
        best_epoch=records[0].best_epoch if len(records) == 1 else None,
        title=title,
    )


def effects(
    rows: Mapping[str, str | tuple[str, str, str]], chapter: Sequence[Study], axis_label: str, title: str = ""
) -> Figure:
    """Draw effects on accuracy with their intervals, on a figure for phones.

    Each row, by the words that name it, is a question of the chapter's studies, with the interval that decides it; or
    study and two arms of which nothing is asked. What decides nothing is grey. Before a question is run, there is
    only a place for the figure.
    """
    found = studies.records()
    asked = [question for study in chapter for question in study.questions]
    own = [record for record in found if record.study in {study.name for study in chapter}]
    answers = {answer.question.id: answer for answer in questions.answers(asked, own)}
    if any(isinstance(what, str) and answers[what].interval is None for what in rows.values()):
        return not_run(title)
    drawn = {}
    for words, what in rows.items():
        if isinstance(what, str):
            scale, effect, interval = answers[what].question.measure.scale, answers[what].effect, answers[what].interval
            assert effect is not None
            assert interval is not None
            drawn[words] = (scale * effect.effect, *interval)
        else:
            study, first, second = what
            between = of_arms([record for record in found if record.study == study], first, second)
            low, high = between.interval()
            drawn[words] = (100 * between.effect, 100 * low, 100 * high)
    grey = [
        words
        for words, what in rows.items()
        if not isinstance(what, str) or answers[what].question.role == "exploratory"
    ]
    return narrow(plots.forest(drawn, axis_label, title, grey=grey))


def not_run(title: str) -> Figure:
    """Return the place for a figure of runs that are still to be made."""
    figure, (axis,) = stacked(1, 1.2)
    axis.text(0.5, 0.5, "Not run yet.", ha="center", va="center", color="0.4")
    axis.set_axis_off()
    return described(figure, title, "not run yet")


def narrow(figure: Figure, height: float | None = None) -> Figure:
    """Make a figure as narrow as a phone can show, and as high as told, in inches."""
    figure.set_size_inches(PHONE, height or figure.get_figheight())
    if figure.legends:
        _names_below(figure)
    return figure


def stacked(count: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Return an empty figure for phones, of so many panels, one below the other, and the panels."""
    figure, axes = plt.subplots(count, 1, figsize=(PHONE, height), layout="constrained", squeeze=False)
    return figure, list(axes[:, 0])


def described(figure: Figure, title: str, what: str, *lines: str) -> Figure:
    """Give a figure its title and its alternative text."""
    figure.suptitle(title, fontsize="medium")
    figure.set_label(". ".join(part.rstrip(".") for part in (f"{title}: {what}", *lines)) + ".")
    return figure
