"""The learner's side of the book: exercises, glossary, the pages to start from and their code, readable notebooks."""

import re
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")
ROOT = Path(__file__).parents[1]
DOCS, EXAMPLES = ROOT / "docs", ROOT / "examples"
if not DOCS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

import cnnhw
from cnnhw.cli.command import cli
from cnnhw.data import scenes
from cnnhw.errors import OccupiedError
from cnnhw_docs import exercises, notebooks, order, terms

CHAPTERS = sorted(EXAMPLES.glob("plot_*.py"))
PAGES = [DOCS / "getting_started.rst", *sorted((DOCS / "start").glob("*.rst"))]
TERM = re.compile(r":term:`(?:[^`<]+<)?([^`>]+)>?`")


def named(path):
    return path.stem.removeprefix("plot_")


@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_each_chapter_has_exercises_of_rising_difficulty(path):
    found = exercises.read(path)
    assert len(found) >= 3
    assert found[0].stars == 1
    assert found[-1].stars == 3
    assert len({one.title for one in found}) == len(found)


SOLVED = """
# %%
# .. end-solution::
#
"""
ASKED = """# **{}. Add** {} Add one and one.
#
# .. solution::

{}
"""


def chapter(*asked, heading="# %%\n# Exercises\n# ---------\n#\n", solved=SOLVED):
    """Write a chapter with some exercises: number, stars, code."""
    parts = [ASKED.format(*one) + solved for one in asked]
    return '"""\nT\n=\n"""\n\n' + heading + "".join(parts)


RIGHT = [(1, "★", "assert 1 + 1 == 2"), (2, "★★", "assert 1"), (3, "★★★", "x = 2\nassert x")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (chapter(*RIGHT[:2]), "at least"),
        (chapter(RIGHT[0], RIGHT[2], RIGHT[1]), r"\[1, 3, 2\]"),
        (chapter(*((n, "★", code) for n, _, code in RIGHT)), "do not rise"),
        (chapter((1, "★★★", "assert 1"), (2, "★", "assert 1"), RIGHT[2]), "do not rise"),
        (chapter(*RIGHT[:2], (3, "★★★", "print(2)")), "exercise 3 does not check"),
        (chapter(*RIGHT, solved="\n# %%\n# \n"), "head while open"),
        (chapter(*RIGHT).replace(".. end-solution::", ".. end-solution:", 3), "head while open"),
        (chapter(*RIGHT, heading="# %%\n# Text\n# ----\n#\n"), "before the heading"),
        (chapter(*RIGHT) + "# Text.\n\nx = 1\n", "outside of a solution"),
    ],
)
def test_exercises_that_are_not_as_they_should_be_are_refused(tmp_path, text, message):
    path = tmp_path / "plot_x.py"
    path.write_text(chapter(*RIGHT), encoding="utf-8")
    assert [one.stars for one in exercises.read(path)] == [1, 2, 3]
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        exercises.read(path)


def test_the_index_of_exercises_and_the_times_of_studies(tmp_path, monkeypatch):
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    monkeypatch.setattr(exercises.order, "chapters", lambda: ["plot_x"])
    source = tmp_path / "docs"
    source.mkdir()
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "plot_x.py").write_text(chapter(*RIGHT), encoding="utf-8")
    (source / "index.rst").write_text("T\n=\n\n.. exercises-index::\n\n.. study-times::\n", encoding="utf-8")
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            source, None, tmp_path / "html", tmp_path / "trees", "html", {"extensions": ["cnnhw_docs.exercises"]}, None
        )
        app.build()
    listed, times = app.env.get_doctree("index").findall(nodes.table)
    assert "Add ★; Add ★★; Add ★★★" in listed.astext()
    links = [link["refuri"] for link in listed.findall(nodes.reference)]
    assert links == ["auto_examples/plot_x.html#exercises"] * 3
    studies = {record.study for record in cnnhw.studies.records()}
    assert len(list(times.findall(nodes.row))) == len(studies) + 1


def test_the_landing_page_leads_to_the_chapters_in_the_order_of_reading():
    text = (DOCS / "index.rst").read_text(encoding="utf-8")
    assert (
        list(dict.fromkeys(re.findall(r"auto_examples/(plot_\w+)", text.partition("The questions\n")[2])))
        == order.chapters()
    )


def glossary():
    """Return the entries of the glossary."""
    return terms.entries((DOCS / "glossary.rst").read_text(encoding="utf-8"))


def test_the_glossary_is_sorted_short_and_leads_to_the_chapters():
    entries = glossary()
    assert 50 <= len(entries) <= 100
    assert list(entries) == sorted(entries, key=str.casefold)
    for term, body in entries.items():
        assert ":doc:" in body or ":func:" in body, term
        plain = re.sub(r":[\w:]+:`[^`]*`", "x", body)
        assert 1 <= len(re.findall(r"\.(?: |$)", plain)) <= 5, f"{term}: {plain}"  # one to three, and the links


def test_an_entry_leads_to_pages_that_speak_of_it():
    missed = []
    for term, body in glossary().items():
        for page in terms.pages(body):
            path = EXAMPLES / f"{Path(page).name}.py" if page.startswith("auto_examples/") else DOCS / f"{page}.rst"
            text = re.sub(r"\s+(?:# )?", " ", path.read_text(encoding="utf-8"))
            if term.casefold() not in text.casefold():
                missed.append((term, page))
    assert missed == []


def test_every_term_is_defined_and_every_entry_is_linked():
    defined = {term.casefold() for term in glossary()}
    pages = [*DOCS.glob("*.rst"), *DOCS.glob("guide/*.rst"), *DOCS.glob("start/*.rst"), *CHAPTERS]
    used = {" ".join(t.split()).casefold() for page in pages for t in TERM.findall(page.read_text(encoding="utf-8"))}
    assert used <= defined
    assert sorted(defined - used) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_each_chapter_links_to_terms(path):
    assert len(set(TERM.findall(path.read_text(encoding="utf-8")))) >= 2


def code_blocks(path, language):
    """Return the code blocks of a page."""
    pattern = rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)"
    return [textwrap.dedent(block) for block in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a folder with photos in classes and a photo beside, and with few scenes."""
    drawing = scenes.draw(60, size=48, controls=scenes.EASY)
    for number, (image, label) in enumerate(zip(drawing.images, drawing.labels.tolist(), strict=True)):
        path = tmp_path / "pets" / ("cats", "dogs")[label % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    Image.fromarray(drawing.images[0].permute(1, 2, 0).numpy()).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    load = cnnhw.data.load

    def few(name, *args, **kwargs):
        if name == "scenes":
            return scenes.load(size=kwargs["size"], train=100, test=30, progress=False)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(cnnhw.data, "load", few)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_code_of_the_first_pages_runs_as_it_stands(path, folder, figures):
    blocks = code_blocks(path, "python")
    for block in blocks:
        exec(compile(block, str(path), "exec"), {"__name__": "__main__"})
    figures("tests", blocks_of_code_run=len(blocks))
    if path.stem in ("user", "getting_started"):
        assert (folder / "runs").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_the_first_pages_run(path, folder, figures):
    lines = [line for block in code_blocks(path, "sh") for line in block.splitlines() if line.startswith("cnnhw ")]
    for line in lines:
        words = line.partition("#")[0].replace("--minutes 10", "--minutes 0.05").split()
        result = CliRunner().invoke(cli, words[1:])
        finished = "--resume" in words  # shown for a run that was interrupted; here it was not
        if finished:
            assert isinstance(result.exception, OccupiedError)  # which the command prints as one line
        else:
            assert result.exit_code == 0, f"{line}: {result.output}"
    figures("tests", commands_run=len(lines))


@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_notebooks_can_be_read(path):
    made = notebooks.of_script(path)
    text = "\n".join("".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "markdown")
    assert not re.findall(r"^\.\. .*|:[\w:]+:`[^`]*`", text, re.MULTILINE)
    assert text.count("<details>") == text.count("</details>")
    hidden = [
        c for c in made["cells"] if c["metadata"].get("jupyter") == {"outputs_hidden": True, "source_hidden": True}
    ]
    assert len(hidden) == sum(len(one.solution) for one in exercises.read(path))


def test_roles_and_directives_become_words():
    assert notebooks.text("Take :term:`heads <head>` of :class:`~torch.nn.Module`, :doc:`/guide/data`.") == (
        "Take heads of ``Module``, data.\n"
    )
    assert notebooks.text("So says :cite:p:`he2016deep,veit2016residual`: :math:`x + 1`.") == (
        "So says (He 2016; Veit 2016): :math:`x + 1`.\n"  # sphinx-gallery knows formulas
    )
    assert notebooks.text(":reported:`q1_shallow parameters` and :effect:`q2-depth`") == (
        "1,072,549 and +4.4 points (3.5 to 5.4)\n"
    )
    asked = notebooks.text("Text.\n\n.. question:: q2-depth\n   :verdict: supported\n\nMore.")
    assert re.match(r"Text\.\n\n> \*\*supported\*\*: .+ seeds\)\n\nMore\.\n", asked)
    assert notebooks.text("The table says:\n\n.. soundness:: q2_depth\n\nMore.") == "The table says:\n\nMore.\n"
    assert notebooks.text("So.\n\n.. trained:: report\n\n   q4_inception: Q4\n\nMore.") == "So.\n\nMore.\n"
    box = ".. admonition:: Misconceptions\n\n   * One :term:`arm`.\n\n   * Two.\n\nEnd."
    assert notebooks.text(box) == "**Misconceptions**\n\n* One arm.\n\n* Two.\n\nEnd.\n"
    folded = ".. dropdown:: Why?\n\n   As it is.\n\nEnd."
    assert notebooks.text(folded) == "<details><summary>Why?</summary>\n\nAs it is.\n\n</details>\n\nEnd.\n"
    assert re.fullmatch(r"It takes \d+ %\.\n", notebooks.text("It takes :bench:`share q1_deep convolution`."))
    table = (
        ".. list-table:: Ways\n   :header-rows: 1\n\n   * - A\n     - B\n   * - one\n     - two\n       lines\n\nEnd."
    )
    assert notebooks.text(table) == "**Ways**\n\n| A | B |\n| --- | --- |\n| one | two lines |\n\nEnd.\n"
