"""How the package is laid out: arrows run downwards only, and never in a circle."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import pkgutil
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("sphinx", reason="needs the docs extra")
DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("the documentation is not here", allow_module_level=True)

import cnnhw
from cnnhw_docs import house, house_picture

SITE = DOCS / "cnnhw_docs"


def test_no_import_runs_up():
    assert house.upward(house.imports()) == []


@pytest.mark.parametrize("package", [house.PACKAGE, SITE], ids=["cnnhw", "cnnhw_docs"])
def test_no_modules_import_each_other_in_a_circle(package):
    assert house.circles(house.imports(package)) == []


def test_every_room_has_a_floor():
    rooms = {name.split(".")[1] for name in house.modules() if "." in name} - {"__main__"}
    assert rooms == {room for rooms in house.FLOORS for room in rooms}


PAGES = sorted((DOCS.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_directive_stands_apart_from_the_text_before_it(page):
    # glued to a paragraph it would be shown as text, and below an empty line as a comment of code, without a warning
    lines = page.read_text(encoding="utf-8").splitlines()
    glued = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"# +\.\. [a-z-]+::", line) and before.strip() not in ("#", "# %%")
    ]
    assert not glued


def test_no_signed_number_shows_a_minus_before_a_zero():
    # "z" in a format turns -0.0 into +0.0
    sources = [*house.PACKAGE.rglob("*.py"), *SITE.glob("*.py"), *PAGES]
    assert not [path.name for path in sources if re.search(r":\+\.\d", path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_pages_use_what_they_import(page):
    # a module that the package does not import is there on the site, as another page has imported it, and nowhere else
    used = {
        node.attr
        for node in ast.walk(ast.parse(page.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cnnhw"
    }
    assert used <= {*cnnhw.__all__, "__version__"}


def test_what_is_not_allowed_is_found(tmp_path):
    package = tmp_path / "cnnhw"
    for name, text in {
        "__init__": "",
        "data/__init__": "",
        "data/a": "def f():\n    from cnnhw.data import b\n",
        "data/b": "from cnnhw.data.a import f\n",
        "errors": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import cnnhw.data\n",
    }.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    arrows = house.imports(package)
    assert house.circles(arrows) == [["cnnhw.data.a", "cnnhw.data.b"]]
    assert house.upward(arrows) == [("cnnhw.errors", "cnnhw.data")]


def test_the_site_adds_one_name_to_what_can_be_imported():
    inner = {found.name for found in pkgutil.iter_modules([str(SITE)])}
    assert {found.name for found in pkgutil.iter_modules([str(DOCS)])} == {"cnnhw_docs", "conf"}
    for name in inner:
        there = importlib.util.find_spec(name)
        assert there is None or SITE not in Path(there.origin or "").parents, name


def test_the_picture_shows_every_room_and_its_arrows():
    rooms, arrows = house_picture.rooms(), house_picture.arrows()
    assert list(rooms) == [name for floor in reversed(house.FLOORS) for name in reversed(floor)]
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in house.modules().items()}
    counted = sum(sum(room.modules.values()) for room in rooms.values())
    assert counted == sum(lines.values()) - lines["cnnhw"] - lines["cnnhw.__main__"]
    assert arrows["book", "studies"] > 0
    assert all(house.floor(f"cnnhw.{one}") >= house.floor(f"cnnhw.{other}") > 0 for one, other in arrows)
    for width, bulge in ((860, 260), (350, 126)):
        picture = ElementTree.fromstring(house_picture.draw(rooms, arrows, width, bulge, "wide"))
        assert picture.get("aria-label").endswith("imports).")
        assert len(picture.findall("g")) == len(arrows)
        _, _, right, bottom = map(float, picture.get("viewBox").split())
        for box in picture.findall("rect"):
            assert float(box.get("x")) + float(box.get("width")) <= right - bulge
            assert float(box.get("y")) + float(box.get("height")) <= bottom


def test_the_picture_says_what_runs_up():
    rooms = {name: house_picture.Room(name, floor, {"a": 1}) for floor, name in enumerate(("data", "book"))}
    assert "1 of them leads to a higher floor" in house_picture.in_words(rooms, {("data", "book"): 1})
    assert "none of them leads" in house_picture.in_words(rooms, {("book", "data"): 1})
