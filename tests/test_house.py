"""How the package is laid out: arrows run downwards only, and never in a circle."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("the documentation is not here", allow_module_level=True)

from cnnhw_docs import house


def test_no_import_runs_up():
    assert house.upward(house.imports()) == []


def test_no_modules_import_each_other_in_a_circle():
    assert house.circles(house.imports()) == []


def test_every_room_has_a_floor():
    rooms = {name.split(".")[1] for name in house.modules() if "." in name} - {"__main__"}
    assert rooms == {room for rooms in house.FLOORS for room in rooms}


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
    inner = {found.name for found in pkgutil.iter_modules(cnnhw_docs.__path__)}
    assert {found.name for found in pkgutil.iter_modules([str(DOCS)])} == {"cnnhw_docs", "conf"}
    for name in inner:
        there = importlib.util.find_spec(name)
        assert there is None or Path(cnnhw_docs.__file__).parent not in Path(there.origin or "").parents, name
