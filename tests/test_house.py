"""How the package is laid out: arrows run downwards only, and never in a circle."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXTENSIONS = Path(__file__).resolve().parents[1] / "docs" / "_ext"
if not EXTENSIONS.is_dir():
    pytest.skip("the documentation is not here", allow_module_level=True)
sys.path.insert(0, str(EXTENSIONS))

import house  # noqa: E402


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
