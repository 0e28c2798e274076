"""What the command line prints and writes for other programs, and how it warns."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnhw
import cnnhw.cli
from cnnhw.errors import DataError
from cnnhw.models.weights import save_weights


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Make weights and photos of two classes whose names are not in Latin letters."""
    for label, name in enumerate(("猫", "собака")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(12 if label else 6):
            pixels = np.random.default_rng(20 * label + number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    model = cnnhw.models.create("q1_shallow", 2, size=16)
    model.classes = ("猫", "собака")
    save_weights(model, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8", "\r\n"), ("cp1252", "\n"), ("ascii", None)])
def test_csv_is_utf8_with_line_feeds_everywhere(zoo, monkeypatch, encoding, newline):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, newline=newline))
    monkeypatch.setattr(sys, "argv", ["cnnhw", "predict", "w.safetensors", "pets", "--csv", "--out", "table.csv"])
    cnnhw.cli.main()
    sys.stdout.flush()
    text = raw.getvalue().decode("utf-8")
    assert "\r" not in text
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["photo", "class", "猫", "собака"]
    assert len(rows) == 19
    assert (zoo / "table.csv").read_bytes() == raw.getvalue()


def test_a_table_is_written_beside_what_is_printed(zoo, run):
    (zoo / "pets" / "broken.png").write_bytes(b"no photo")
    code, out, err = run("predict", "w.safetensors", "pets", "--out", "table.csv")
    assert code == 1
    assert "broken.png cannot be used" in err
    assert len(out.splitlines()) == 18
    assert all("%" in line for line in out.splitlines())
    with (zoo / "table.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 19


def test_warnings_are_one_clean_line(zoo, run, monkeypatch):
    def load(*_, **__):
        warnings.warn("first\n  second", FutureWarning, stacklevel=1)
        warnings.warn_explicit("of a reader", UserWarning, "/lib/PIL/TiffImagePlugin.py", 1)
        raise DataError("stop")

    monkeypatch.setattr(cnnhw.data, "load", load)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = run("data", "show", "pets")
    assert (code, err) == (2, "warning: first second\nerror: stop\n")


def test_copies_are_named_on_the_command_line(zoo, run):
    for number in range(6):
        shutil.copy(zoo / "pets" / "猫" / f"{number}.png", zoo / "pets" / "猫" / f"copy_{number}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = run("data", "show", "pets", "--size", 16)
    assert code == 0
    (line,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert "copy_" in line
    assert "`cnnhw data audit pets`" in line


def test_classes_of_different_size_get_balanced_accuracy(zoo, run):
    words = ("train", "q1_shallow", "--data", "pets", "--size", 16, "--epochs", 1, "--out")
    code, out, _ = run(*words, "uneven")
    assert code == 0
    balanced = json.loads((zoo / "uneven" / "run.json").read_text())["balanced_accuracy"]
    assert f"Balanced accuracy {balanced:.3f}: the classes differ in size" in out
    for number in range(6, 12):
        (zoo / "pets" / "собака" / f"{number}.png").unlink()
    assert "Balanced accuracy" not in run(*words, "even")[1]


def test_a_backend_that_does_not_exist_costs_nothing(zoo):
    environment = os.environ | {"MPLBACKEND": "nonsense", "PYTHONPATH": str(Path(cnnhw.__file__).parents[1])}
    words = ("features", "w.safetensors", "pets/猫/1.png", "--out", "x.png")
    done = subprocess.run([sys.executable, "-m", "cnnhw", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (zoo / "x.png").stat().st_size > 1000
