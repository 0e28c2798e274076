"""The chapters' answers, a sentence each: ``ANSWER`` of a chapter's module, for the landing page and the README.

``.. answer:: q2`` gives the sentence and how long the page takes to read. ``python docs/cnnhw_docs/answers.py`` writes
all sentences into the README, between two comments; a test holds it to them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from cnnhw.book import registry
from cnnhw_docs import notebooks, order

_ROOT = Path(__file__).parents[2]
README = _ROOT / "README.md"
_BEGIN, _END = "<!-- answers, by docs/cnnhw_docs/answers.py -->", "<!-- end of the answers -->"


def answers() -> dict[str, str]:
    """Return the sentences by chapter, in the order of reading."""
    modules = {module.__name__.rpartition(".")[2]: module for module in registry.chapters()}
    found = {name: module.ANSWER for name, module in modules.items() if hasattr(module, "ANSWER")}
    pages = order.chapters()
    return dict(sorted(found.items(), key=lambda one: pages.index(str(order.page(one[0])))))


def script(chapter: str) -> Path:
    """Return the page of a chapter."""
    return _ROOT / "examples" / f"{order.page(chapter)}.py"


def minutes(chapter: str) -> str:
    """Return how long a chapter takes to read, as its page says: "Fifteen minutes"."""
    found = re.search(r"^\*([A-Z][a-z-]+ minutes)\. ", script(chapter).read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise ValueError(f"{script(chapter).name} does not say how many minutes it takes")
    return found[1]


def lines() -> str:
    """Return the answers as the README has them."""
    said = []
    for chapter, sentence in answers().items():
        words = " ".join(notebooks.text(" ".join(sentence.split())).split())
        said.append(f"- [{order.title(script(chapter).stem)}]({script(chapter).relative_to(_ROOT).as_posix()}) {words}")
    return "\n".join(said)


def written(readme: str) -> str:
    """Return the text of the README with the answers of today."""
    before, begin, rest = readme.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{README.name} has no place for the answers: {_BEGIN} and {_END}")
    return f"{before}{begin}\n{lines()}\n{end}{after}"


class Answer(SphinxDirective):
    """``.. answer:: q2``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        chapter = self.arguments[0]
        known = answers()
        if chapter not in known:
            raise self.error(f"answer: there is no answer of {chapter!r}; there are {', '.join(known)}")
        self.env.note_dependency(str(script(chapter)))
        return [
            *self.parse_text_to_nodes(" ".join(known[chapter].split())),
            nodes.paragraph("", minutes(chapter), classes=["minutes"]),
        ]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("answer", Answer)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
