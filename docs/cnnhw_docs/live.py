"""What is computed while the site is built: figures with alternative texts, help texts, sheets of scenes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from click.testing import CliRunner
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata
from sphinx_gallery.scrapers import figure_rst

from cnnhw import files, plots
from cnnhw.cli.command import cli
from cnnhw.data import scenes
from cnnhw_docs import stamp

_SHEET = "_static/generated/scenes-{}.png"
_SINGLE = ":class: sphx-glr-single-img"
_LARGE = 100_000  # bytes
_ESCAPED = r"\\\g<0>"
_MARKUP = re.compile(r"[\\*`|_:]")


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save each open figure; its label becomes the alternative text, and its title text of the page, above it."""
    pictures = []
    for number, path in zip(plt.get_fignums(), block_vars["image_path_iterator"], strict=False):
        figure = plt.figure(number)
        if not figure.get_label():
            # an error, as a warning would be lost: chapters are computed in processes of their own
            raise ValueError(f"{block_vars['src_file']}: a figure has no alternative text: call figure.set_label(...)")
        if title := figure.get_suptitle():
            figure.suptitle("").set_in_layout(False)
            pictures.append(f".. rst-class:: figure-title\n\n{_MARKUP.sub(_ESCAPED, title)}\n")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a figure that cannot be laid out
            try:
                figure.savefig(path, dpi=110, facecolor="white")  # the gallery makes its thumbnail from it
            except UserWarning as warning:
                raise ValueError(f"{block_vars['src_file']}: {figure.get_label()!r}: {warning}") from warning
        shown = figure_rst([str(compact(Path(path)))], gallery_conf["src_dir"], str(figure.get_label()))
        if not any(axis.images for axis in figure.axes):  # no photo, and no map: dark pages may turn it dark
            shown = shown.replace(_SINGLE, f"{_SINGLE} chart")
        pictures.append(shown)
    plt.close("all")
    return "\n".join(pictures)


def compact(path: Path) -> Path:
    """Write a picture as WebP beside its PNG, which takes several times the bytes; return the path of the former.

    Drawings keep each pixel; photographs and maps, which stay large that way, lose what the eye does not miss.
    """
    small = path.with_suffix(".webp")
    with Image.open(path) as picture, files.replacing(small) as temporary:
        picture = picture.convert("RGB")
        picture.save(temporary, format="webp", lossless=True)
        if temporary.stat().st_size > _LARGE:
            picture.save(temporary, format="webp", quality=90)
    return small


def reset(gallery_conf: dict[str, Any], fname: str) -> None:
    """Start each chapter alike: one thread, the same seed, no figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plt.close("all")


class CliHelp(SphinxDirective):
    """``.. cli-help:: train``: what ``cnnhw train --help`` prints."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        words = self.arguments[0].split() if self.arguments else []
        result = CliRunner().invoke(cli, [*words, "--help"], prog_name="cnnhw")
        if result.exit_code:
            return [self.state.document.reporter.warning(result.output, line=self.lineno)]
        shown = nodes.literal_block(text=f"$ cnnhw {' '.join([*words, '--help'])}\n{result.output}")
        shown["language"] = "none"
        return [shown]


class ScenesSheet(SphinxDirective):
    """``.. scenes-sheet:: ROWS``: a contact sheet of generated scenes, one of each class a row."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        rows = int(self.arguments[0])
        classes = len(scenes.CLASSES)
        path = Path(self.env.srcdir) / _SHEET.format(rows)
        drawing = scenes.draw(rows * classes, seed=4, size=192)
        captions = [scenes.CLASSES[label] for label in drawing.labels.tolist()]
        plots.save(plots.contact_sheet(drawing.images, captions), path, dpi=110)
        small = compact(path).relative_to(self.env.srcdir)
        picture = nodes.image(
            uri=f"/{small.as_posix()}",
            alt=f"{rows * classes} generated scenes on grounds strewn with leaves, a class a column: clusters of "
            "berries, birds, dogs, flowers, and other things such as wheels, crates and mugs.",
            classes=["sheet"],
        )
        return [nodes.container("", picture, classes=["sheet-frame"])]


class Changelog(SphinxDirective):
    """``.. changelog::``: the repository's changelog; its second-level headings become sections."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir).parent / "CHANGELOG.md"
        self.env.note_dependency(str(path))
        text = re.sub(
            r"^## (.+)$", lambda found: f"{found[1]}\n{'-' * len(found[1])}", path.read_text("utf-8"), flags=re.M
        )
        text = re.sub(r"(?<!`)`([^`\n]+)`(?!`)", r"``\1``", text.partition("\n")[2])
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def write_stamp(app: Sphinx, exception: Exception | None) -> None:
    """Remember what the pages were built from, unless something was wrong with them."""
    if exception is None and app._warncount == 0 and app.builder.name == "html":
        stamp.STAMP.parent.mkdir(parents=True, exist_ok=True)
        stamp.STAMP.write_text(app.config.cnnhw_stamp, encoding="utf-8")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register directives and the stamp; a changed stamp re-reads all pages."""
    torch.set_num_threads(1)  # as in chapters: what pages compute, they say
    app.add_config_value("cnnhw_stamp", "", "env", (str,))
    app.add_directive("cli-help", CliHelp)
    app.add_directive("scenes-sheet", ScenesSheet)
    app.add_directive("changelog", Changelog)
    app.connect("build-finished", write_stamp)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
