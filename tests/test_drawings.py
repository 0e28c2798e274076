"""Drawn ideas: each fits a phone, takes its colours from the page, says what it shows, and stands on a page."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from cnnhw import models, theory
from cnnhw.models.inception import InceptionModule

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


def told(name):
    """Return a drawing in words."""
    return ElementTree.parse(FOLDER / f"{name}.svg").find(f"{SVG}desc").text


def rows(words):
    """Return rows of numbers: numbers are divided by commas, rows by semicolons."""
    words = words.replace("minus ", "-").replace("a half", "0.5")
    return torch.tensor([[float(number) for number in row.split(",")] for row in words.split(";")])


def test_the_numbers_of_a_convolution_are_right():
    patch, total, found = re.search(r"rows (.+?)\. A .+ which is (\d+): .+ rows (.+)\.$", told("convolution")).groups()
    calculated = functional.conv2d(rows(patch)[None, None], torch.tensor([[[[-1.0, 0, 1]] * 3]]))[0, 0]
    assert torch.equal(calculated, rows(found))
    assert calculated[1, 1] == int(total)


def test_the_answers_of_sobels_kernel_are_right():
    kernel, strip, found = re.search(r"rows (.+), divided .+ values: (.+?)\. Its .+?: (.+?)\.", told("edge")).groups()
    calculated = functional.conv2d(rows(strip).expand(1, 1, 3, -1), rows(kernel)[None, None] / 8)[0, 0]
    assert torch.equal(calculated, rows(found))


def test_the_pooled_stripes_are_right():
    shifts = re.findall(r"cells (.+?); maximum (.+?); average (.+?); every second (.+?)\.", told("stripe"))
    assert len(shifts) == 3
    for shift in shifts:
        cells, maximum, average, second = map(rows, shift)
        assert torch.equal(functional.max_pool1d(cells, 2), maximum)
        assert torch.equal(functional.avg_pool1d(cells, 2), average)
        assert torch.equal(cells[:, ::2], second)


def test_the_paths_are_counted_right():
    texts = ElementTree.parse(FOLDER / "spans.svg").iter(f"{SVG}text")
    counted = [int(text.text) for text in texts if text.get("class") == "small"]
    shares = [(2 ** (6 // span), theory.path_lengths(6, span)) for span in (1, 2, 6)]
    assert counted == [paths * share for paths, found in shares for share in found.values()]


def test_the_maps_of_a_dense_block_are_those_of_the_network():
    model, maps = models.create("dense", size=32), torch.zeros(1, 3, 32, 32)
    shapes = []
    for layer in list(model.features)[:6]:
        maps = layer(maps)
        shapes.append(maps.shape[1:])
    first, *block, after = [channels for channels, *_ in shapes]
    words = told("dense")
    assert f"begins with {first} maps" in words
    assert "{}, {}, {} and {} maps".format(*block) in words
    assert f"from {block[-1]} to {after} maps" in words
    assert f"on maps of {shapes[-2][1]} by {shapes[-2][2]} cells" in words
    assert f"maps of {shapes[-1][1]} by {shapes[-1][2]} cells." in words


def test_the_maps_of_an_inception_module_are_those_of_the_module():
    x = torch.zeros(1, 64, 32, 32)
    branches = [branch(x).shape[1:] for branch in InceptionModule(64, 16).branches]
    assert branches == [(16, 32, 32)] * 4
    assert "Each branch ends in 16 maps of 32 by 32 cells." in told("inception")


def test_it_stands_on_a_page():
    pages = [*(ROOT / "examples").glob("*.py"), *(ROOT / "docs").rglob("*.rst")]
    shown = set().union(*(re.findall(r"^[# ]*\.\. drawing:: (\w+)$", page.read_text("utf-8"), re.M) for page in pages))
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
