"""Files are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnhw import files


def test_replaces_only_when_all_went_well(tmp_path):
    path = tmp_path / "new folder" / "x.txt"
    files.write_text(path, "old")

    def fail():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_json_that_no_one_could_read_is_refused(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("CNNHW_CACHE", "~/elsewhere")
    assert files.cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("CNNHW_CACHE")
    assert files.cache_folder().name == "cnnhw"
