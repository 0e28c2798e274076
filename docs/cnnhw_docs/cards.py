"""``.. model-cards::``: a section for each network that comes with the package, from its records and its file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from cnnhw import models, plots
from cnnhw.book import figures, model_cards
from cnnhw.errors import CnnhwError
from cnnhw.studies.store import Record

_FIGURE = "_static/generated/card-{}.png"
Cell = list[nodes.Node]


class ModelCards(SphinxDirective):
    """``.. model-cards::``."""

    def run(self) -> list[nodes.Node]:
        out: list[nodes.Node] = []
        for name in model_cards.NETWORKS:
            self.env.note_dependency(str(model_cards.path(name)))
            try:
                out.append(self.section(model_cards.card(name), model_cards.record(name)))
            except CnnhwError as error:
                out.append(self.state.document.reporter.warning(f"model-cards: {error}", line=self.lineno))
        return out

    def section(self, card: dict[str, Any], record: Record) -> nodes.section:
        """Return the section of one network."""
        name = card["name"]
        section = nodes.section(ids=[f"model-{name}"], names=[f"model-{name}"])
        section += nodes.title("", name)
        chapter = addnodes.pending_xref(
            "", nodes.inline("", "chapter"), refdomain="std", reftype="doc", reftarget=f"/{card['chapter']}",
            refdoc=self.env.docname, refexplicit=True, refwarn=True,
        )  # fmt: skip
        section += nodes.paragraph("", f"{card['description']} It belongs to this ", chapter, nodes.Text("."))
        section += table({what: cell(given) for what, given in rows(card).items()})

        file = _FIGURE.format(name)
        figure = figures.trained([record], title=name)
        section += nodes.paragraph("", f"{figure.get_suptitle()}.")
        figure.suptitle("").set_in_layout(False)
        plots.save(figure, Path(self.env.srcdir) / file)
        section += nodes.image(uri=f"/{file}", alt=seen(name, record), classes=["chart"])
        model = models.create(card["model"], len(card["classes"]), size=card["size"], **card["options"])
        summary = f"The layers of {html.escape(name)}, with their outputs and parameters"
        diagram = plots.diagram(model)._repr_html_()
        section += nodes.raw("", f"<details><summary>{summary}</summary>{diagram}</details>", format="html")
        return section


def rows(card: dict[str, Any]) -> dict[str, str | Cell]:
    """Return the lines of a card."""
    name, size, accuracies = card["name"], card["size"], card["accuracies"]
    low, high = card["accuracy_interval"]
    note = card["data_note"]
    first = note.partition(";")[0]  # such as "64x64 originals": what was scaled to `size`
    originals = f" It learnt from {first}." if "originals" in first else ""
    counts = ", ".join(f"{count:,} {part}" for part, count in card["photos"].items())
    options = ", ".join(f"{option} {value}" for option, value in card["options"].items())
    done = f" Protocols: {', '.join(card['protocols'])}." if card["protocols"] else ""
    versions = ", ".join(f"{library} {version}" for library, version in card["versions"].items())
    return {
        "Load it": code(f'model = cnnhw.load("{name}")', "python") + code(f"cnnhw predict {name} photo.jpg", "sh"),
        "Network": f"{card['model']}{f', {options}' if options else ''}",
        "Photos it takes": f"RGB, scaled to {size}x{size} pixels; cnnhw.data.read_photo does it.",
        "Classes": ", ".join(card["classes"]),
        "Data": f"{card['data']}: {counts} photos.{f' {note}.' if note else ''}{done}",
        "Licence": card["licence"] or "no photos of others were used",
        "Recipe": recipe(card["recipe"]),
        "Accuracy": f"{card['accuracy']:.3f} on {card['photos']['test']:,} test photos (95 % interval for the choice "
        f"of photos {low:.3f} to {high:.3f}); {card['shipped_accuracy']:.3f} in half precision, as it is shipped.",
        "All runs alike": f"{card['mean_accuracy']:.3f} (mean of {len(accuracies)} runs, "
        f"from {card['lowest_accuracy']:.3f} to {card['highest_accuracy']:.3f}); this is seed {card['seed']}.",
        "Size": f"{card['bytes'] / 1000:,.0f} kB, {card['parameters']:,} parameters",
        "Where it comes from": f"Study {card['study']}, arm {card['arm']}; recorded on {card['date'][:10]} with "
        f"{versions}; {card['processor']}, {card['precision']}. The weights are from a second training, which predicts "
        f"{100 * card['agreement']:.1f} % of the test photos as the recorded one does: cnnhw study weights {name}.",
        "Limits": f"{card['limits']} It takes every photo for one of its {len(card['classes'])} classes, whatever it "
        f"shows, and sees no more of it than is left at {size}x{size} pixels."
        f"{originals} Its probabilities were not calibrated, and nothing is known of its accuracy on other photos than "
        "these. It is for learning and research: not for decisions about people, health or safety, nor "
        "for anything that the licence excludes.",
    }


def recipe(given: dict[str, Any] | list[dict[str, Any]]) -> Cell:
    """Return a recipe, or the stages of a transfer."""
    stages = given if isinstance(given, list) else [given]
    out: Cell = []
    for stage in stages:
        trains = [nodes.Text(f"Trains {stage['train']}: ")] if "train" in stage else []
        fields = ", ".join(f"{field}={value!r}" for field, value in stage.items() if field != "train")
        out.append(nodes.paragraph("", "", *trains, nodes.literal("", f"Recipe({fields})")))
    return out


def code(text: str, language: str) -> Cell:
    """Return a line of code."""
    block = nodes.literal_block(text, text)
    block["language"] = language
    return [block]


def cell(given: str | Cell) -> Cell:
    """Return what stands in a cell."""
    return [nodes.paragraph("", given)] if isinstance(given, str) else given


def table(content: dict[str, Cell]) -> nodes.table:
    """Return a table of two columns, the first of which names the second."""
    group = nodes.tgroup("", nodes.colspec(colwidth=20, stub=1), nodes.colspec(colwidth=80), cols=2)
    group += nodes.tbody(
        "", *(nodes.row("", nodes.entry("", *cell(what)), nodes.entry("", *given)) for what, given in content.items())
    )
    return nodes.table("", group, classes=["model-card"])


def seen(name: str, record: Record) -> str:
    """Return in words what the figure shows."""
    matrix = record.confusion().double()
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    found, mistakes = shares.diag(), shares - torch.diag(shares.diag())
    true, taken = divmod(int(mistakes.argmax()), len(matrix))
    classes, history = record.classes, record.history
    return (
        f"Curves and confusion matrix of {name}. In {len(history['loss'])} epochs the training loss goes from "
        f"{history['loss'][0]:.2f} to {history['loss'][-1]:.2f} nats, the validation accuracy from "
        f"{history['validation_accuracy'][0]:.2f} to {history['validation_accuracy'][-1]:.2f}. Of the test photos, "
        f"{classes[int(found.argmax())]} is found most often ({found.max():.2f}) and {classes[int(found.argmin())]} "
        f"least often ({found.min():.2f}); the commonest mistake is {classes[true]} taken for {classes[taken]}."
    )


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("model-cards", ModelCards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


__all__: Sequence[str] = ["ModelCards", "recipe", "rows", "seen", "setup", "table"]
