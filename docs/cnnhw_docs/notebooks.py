"""Notebooks that can be read: sphinx-gallery's, with our roles and directives put into words and solutions folded.

A notebook knows nothing of the site. So figures from records, verdicts and links become text, and a solution, which is
folded across several blocks on the page, becomes folded cells: code cells whose source and output JupyterLab
hides until they are opened, and text in a ``<details>`` of its own.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sphinx_gallery import gen_rst
from sphinx_gallery.notebook import jupyter_notebook
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

from cnnhw.book import benchmarks
from cnnhw_docs import drawings, records, verdicts

FIRST_CELL = """\
# As the page was computed: one thread, the same seed.
import torch

torch.set_num_threads(1)
torch.manual_seed(0)"""

_ROLE = re.compile(r":([\w:]+):`([^`]+)`")
_TITLED = re.compile(r"(.+?)\s*<([^>]+)>$", re.DOTALL)
_DIRECTIVE = re.compile(
    r"^\.\. (question|provenance|soundness|trained|list-table|figure|widget|drawing|admonition|dropdown)"
    r":: *(.*)\n((?:(?: +.*)?\n)*?)(?=\S|\Z)",
    re.MULTILINE,
)
_SOLUTION = re.compile(r"\.\. (end-|)solution::\n?")


def notebook(blocks: Sequence[Any], gallery_conf: dict[str, Any], target_dir: Any) -> dict[str, Any]:
    """Make a chapter's notebook: as :func:`sphinx_gallery.notebook.jupyter_notebook`, but readable."""
    readable = [block if block.type == "code" else block._replace(content=text(block.content)) for block in blocks]
    made = jupyter_notebook(readable, gallery_conf, target_dir)
    made["cells"] = _fold(made["cells"])
    return made


def of_script(path: Path) -> dict[str, Any]:
    """Make the notebook of a script as the site offers it, without building the site."""
    conf = {"first_notebook_cell": FIRST_CELL, "last_notebook_cell": None, "notebook_images": False}
    conf |= {"promote_jupyter_magic": False, "pypandoc": False}
    return notebook(split_code_and_text_blocks(str(path))[1], conf, path.parent)


def text(rst: str) -> str:
    """Put our roles and directives into words that Markdown knows."""
    rst = _DIRECTIVE.sub(lambda m: _directive(m[1], m[2].strip(), m[3]), rst if rst.endswith("\n") else rst + "\n")
    return _ROLE.sub(lambda m: _role(m[1], " ".join(m[2].split())), rst)


def _role(name: str, content: str) -> str:
    """Return what a role says."""
    rendered: dict[str, Callable[[str], str]] = {
        "record": lambda what: records.render(what, records.every())[0],
        "paired": lambda what: records.render_paired(what, records.every())[0],
        "reported": records.render_reported,
        "bench": benchmarks.stated,
        "verdict": lambda what: f"*{_said(what).verdict}*",
        "effect": lambda what: verdicts.short(_said(what)),
        "finding": lambda what: verdicts.in_words(_said(what), what.partition(" ")[2]),
        "cite:p": lambda keys: f"({'; '.join(_citation(key) for key in keys.split(','))})",
        "cite:t": _citation,
    }
    if name == "math":
        return f":math:`{content}`"
    if name in rendered:
        return rendered[name](content)
    titled = _TITLED.match(content)
    if titled:
        return titled[1]
    if name in ("doc", "ref", "term"):
        return content.rpartition("/")[2]
    return f"``{content.rpartition('.')[2] if content.startswith('~') else content}``"


def _said(what: str) -> verdicts.Said:
    """Return the question that a role begins with."""
    return verdicts.get(what.partition(" ")[0])


def _citation(key: str) -> str:
    """Return a reference's author and year from its key, such as ``he2016deep``."""
    author, year = re.match(r"([a-z]+)(\d{4})", key.strip()).groups()  # type: ignore[union-attr]
    return f"{author.capitalize()} {year}"


def _directive(name: str, argument: str, body: str) -> str:
    """Return what a directive says."""
    if name == "question":
        found = verdicts.get(argument)
        return f"> **{found.verdict}**: {found.statement} ({verdicts.figures(found)})\n\n"
    if name in ("provenance", "soundness", "trained"):
        return ""
    if name == "admonition":
        return f"**{argument}**\n\n{textwrap.dedent(body).strip()}\n\n"
    if name == "dropdown":
        return f"<details><summary>{argument}</summary>\n\n{textwrap.dedent(body).strip()}\n\n</details>\n\n"
    if name == "figure":
        caption = body.rpartition("\n\n   ")[2].strip()
        return f"*A figure of the page, not in the notebook:* {' '.join(caption.split())}\n\n"
    if name == "drawing":
        return f"*Drawn on the page:* {drawings.description(argument)}\n\n"
    if name == "widget":
        title, _, said = body.partition("\n")
        return f"*To be tried on the page:* {title.partition(':title: ')[2]}. {' '.join(said.split())}\n\n"
    rows = [
        [" ".join(cell.split()) for cell in re.split(r"^ +- ?", f"     - {row}", flags=re.MULTILINE)[1:]]
        for row in re.split(r"^ +\* - ?", body, flags=re.MULTILINE)[1:]
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return f"**{argument}**\n\n" + "\n".join(lines) + "\n\n"


def _fold(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fold solutions: text by ``<details>`` within its cell, code by the cell's metadata."""
    inside, out = False, []
    for cell in cells:
        if cell["cell_type"] == "code":
            if inside:
                cell["metadata"] |= {
                    "jupyter": {"outputs_hidden": True, "source_hidden": True},
                    "tags": ["solution", "hide-cell"],
                }
            out.append(cell)
            continue
        parts = _SOLUTION.split("".join(cell["source"]))
        for number, part in enumerate(parts):
            if number % 2:
                inside = part == ""
                if inside:
                    out.append(_markdown("**Solution**, folded: open the cells below."))
            elif part.strip():
                words = part.strip()
                out.append(
                    _markdown(f"<details><summary>Solution, in words</summary>\n\n{words}\n\n</details>")
                    if inside
                    else _markdown(words)
                )
    return out


def _markdown(words: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": [words]}


def install(gallery_conf: dict[str, Any], fname: str) -> None:
    """Let sphinx-gallery write our notebooks, in whatever process it works: it has no hook for it."""
    gen_rst.jupyter_notebook = notebook
