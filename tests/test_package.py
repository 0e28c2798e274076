"""The package as a whole: what it exports, how quickly it is imported, what it never does."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cnnhw

SOURCES = sorted(Path(cnnhw.__file__).parent.rglob("*.py"))


def test_public_names():
    assert set(cnnhw.__all__) >= {"Recipe", "Run", "data", "fit", "load", "models", "report", "studies"}
    for name in cnnhw.__all__:
        assert hasattr(cnnhw, name)


def test_version_is_that_of_the_distribution():
    assert cnnhw.__version__ == importlib.metadata.version("cnnhw")


def test_is_typed():
    assert importlib.resources.files("cnnhw").joinpath("py.typed").is_file()


def test_importing_leaves_slow_libraries_alone():
    slow = ("matplotlib", "sklearn", "torchvision", "pooch", "scipy")
    code = f"import sys, cnnhw; print([m for m in {slow} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_pickles_and_no_evaluation_of_text(path):
    text = path.read_text(encoding="utf-8")
    for word in ("import pickle", "torch.load(", "torch.save(", "eval(", "exec(", "allow_pickle=True"):
        # of files that others pickled, tensors alone are read
        safe = re.sub(r"torch\.load\([^()]*weights_only=True\)", "", text)
        assert word not in safe.replace(".eval(", "")
