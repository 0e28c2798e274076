"""Drawn ideas: each fits a phone, takes its colours from the page, says what it shows, and stands on a page."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "_static" / "drawings"
if not FOLDER.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = set(re.findall(r"\.([a-z][a-z-]*)", (ROOT / "docs" / "_static" / "custom.css").read_text(encoding="utf-8")))


@pytest.fixture(params=sorted(FOLDER.glob("*.svg")), ids=lambda path: path.stem)
def drawing(request):
    return ElementTree.parse(request.param).getroot()


def test_it_is_no_wider_than_a_phone(drawing):
    left, top, width, height = map(float, drawing.get("viewBox").split())
    assert (left, top) == (0, 0)
    assert width <= 360
    assert height <= 480
    for text in drawing.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width
        assert 0 < float(text.get("y")) <= height


def test_its_colours_and_letters_are_the_pages(drawing):
    for part in drawing.iter():
        assert not {"fill", "stroke", "style", "font-size", "font-family"} & set(part.attrib)
        assert set((part.get("class") or "").split()) <= CLASSES


def test_it_says_what_it_shows(drawing):
    title, description = drawing.find(f"{SVG}title"), drawing.find(f"{SVG}desc")
    assert title is not None
    assert title.text
    assert description is not None
    assert len(description.text) > 80


def test_it_stands_on_a_page():
    pages = [*(ROOT / "examples").glob("*.py"), *(ROOT / "docs").rglob("*.rst")]
    shown = set().union(*(re.findall(r"\.\. drawing:: (\S+)", page.read_text(encoding="utf-8")) for page in pages))
    assert shown == {path.stem for path in FOLDER.glob("*.svg")}


def test_two_drawings_on_one_page_do_not_share_names():
    pytest.importorskip("sphinx", reason="needs the docs extra")
    from cnnhw_docs import drawings

    name = drawings.names()[0]
    first, second = (drawings.inline(name, identifier) for identifier in ("a", "b"))
    found = [set(re.findall(r'id="([^"]+)"', one)) for one in (first, second)]
    assert found[0]
    assert not found[0] & found[1]
    for one, ids in zip((first, second), found, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", one)) <= ids
