"""`cnnhw export`: ONNX files that compute the same, say what they are, and are whole or not there."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnnhw
from cnnhw import models
from cnnhw.book import model_cards
from cnnhw.data.augment import to_float
from cnnhw.errors import CnnhwError
from cnnhw.evaluation import export
from cnnhw.evaluation.export import to_onnx
from cnnhw.models import weights
from cnnhw.models.heads import Head, replace_head

SHIPPED_MODELS = {which.model for which in model_cards.NETWORKS.values()}
CLASSES = ("cat", "dög", 'a "b"')
needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="needs onnx, onnxscript and onnxruntime",
)


def small(name="q1_shallow", size=16, **options):
    model = models.create(name, 3, size=size, **options)
    model.classes = CLASSES
    return model.eval()


def computed(path, photos):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return torch.from_numpy(session.run(["logits"], {"photos": photos.numpy()})[0])


def logits(model, photos):
    with torch.inference_mode():
        return model(photos)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write one small network, whose photos are for research only, once for all tests."""
    folder = tmp_path_factory.mktemp("written")
    model = small()
    model.licence = "for research"
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    check = to_onnx(model, folder / "deep" / "small.onnx")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return model.eval(), folder / "deep" / "small.onnx", check


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_extra_is_told(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CnnhwError, match=r"needs the packages onnx and onnxscript .*pip install 'cnnhw\[onnx\]'"):
        to_onnx(small(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@needs_onnx
@pytest.mark.slow
def test_the_file_says_what_it_is(written):
    import onnx

    _, path, _ = written
    assert [one.name for one in path.parent.iterdir()] == ["small.onnx"]
    found = onnx.load(path)
    onnx.checker.check_model(found, full_check=True)
    (photos,), (answers,) = found.graph.input, found.graph.output
    shapes = [[d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in (photos, answers)]
    assert (photos.name, answers.name) == ("photos", "logits")
    assert shapes == [["N", 3, 16, 16], ["N", 3]]
    about = {one.key: one.value for one in found.metadata_props}
    assert json.loads(about.pop("classes")) == list(CLASSES)
    assert about == {
        "model": "q1_shallow", "size": "16", "normalisation": "RGB, divided by 255", "licence": "for research",
        "cnnhw": cnnhw.__version__,
    }  # fmt: skip
    # nothing of the machine that it was made on
    content = path.read_bytes()
    assert str(Path(cnnhw.__file__).parent).encode() not in content
    assert b"site-packages" not in content
    assert b'File "' not in content


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_any_number_of_photos(written, count):
    model, path, check = written
    photos = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(count))
    torch.testing.assert_close(computed(path, photos), logits(model, photos), rtol=0, atol=1e-4 * check.largest)
    assert check.runtime == "onnxruntime"
    assert check.difference <= export.TOLERANCE * check.largest


def every_network():
    """Return functions that give every registered network: with trained weights where there are some."""
    for name in model_cards.names():
        yield pytest.param(lambda name=name: cnnhw.load(name), id=f"shipped {name}")
    for name in sorted((set(models.names()) | set(models.backbones())) - SHIPPED_MODELS):
        size = 100 if name == "q2_concat_skip" else 32
        yield pytest.param(lambda name=name, size=size: small(name, size), id=name)
    yield pytest.param(lambda: small().bfloat16(), id="weights in bfloat16")
    yield pytest.param(raw_pixels, id="raw pixels")
    yield pytest.param(other_head, id="another head")


def raw_pixels():
    model = small()
    model.pixel_scale = 255.0
    return model


def other_head():
    model = small("fast", 32)
    replace_head(model, Head(hidden=8, dropout=0.5, pool="flatten"), 3)
    return model.eval()


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("make", list(every_network()))
def test_every_network_computes_the_same(make, tmp_path, figures):
    model = make()
    check = to_onnx(model, tmp_path / "model.onnx")
    assert check.largest > 0
    assert check.difference <= 1e-4 * check.largest
    photos = torch.rand(2, 3, model.size, model.size)
    expected = logits(model.float(), photos)
    torch.testing.assert_close(computed(tmp_path / "model.onnx", photos), expected, rtol=0, atol=2e-4 * check.largest)
    figures("tests", onnx_networks=1, worst_onnx_difference=check.difference / check.largest)


@needs_onnx
@pytest.mark.slow
def test_without_onnxruntime_the_reference_evaluator_checks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    check = to_onnx(small(), tmp_path / "model.onnx")
    assert check.runtime == "onnx"
    assert 0 < check.difference <= 1e-4 * check.largest


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("error", [1e-2, np.nan])
def test_a_network_that_computes_otherwise_is_not_written(tmp_path, monkeypatch, error):
    true = export._runtime

    def other(content):
        runtime, compute = true(content)
        return runtime, lambda photos: compute(photos) + np.float32(error)

    monkeypatch.setattr(export, "_runtime", other)
    with pytest.raises(CnnhwError, match="does not compute the same in onnxruntime"):
        to_onnx(small(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@needs_onnx
def test_what_the_exporter_cannot_do_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.onnx.errors.OnnxExporterError("no such operator\nmuch more\n")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(CnnhwError, match=r"q1_shallow cannot be exported to ONNX: no such operator$"):
        to_onnx(small(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def command(*words, folder):
    words = [sys.executable, "-m", "cnnhw", "export", *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)


def test_the_command_does_not_write_over(tmp_path):
    weights.save_weights(small(), tmp_path / "own.safetensors")
    (tmp_path / "model.onnx").write_text("mine")
    done = command("own.safetensors", folder=tmp_path)
    assert done.returncode == 2
    assert "model.onnx already exists: choose another file with --out" in done.stderr
    assert (tmp_path / "model.onnx").read_text() == "mine"


@needs_onnx
@pytest.mark.slow
def test_the_command_prints_its_lines_and_nothing_else(tmp_path):
    weights.save_weights(small(), tmp_path / "own.safetensors", licence="CC BY 2.0")
    done = command("own.safetensors", "--out", "new/own.onnx", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, second, third = done.stdout.splitlines()
    assert first.startswith("new/own.onnx: photos (N, 3, 16, 16), RGB in 0..1, to logits (N, 3); ")
    assert second.startswith("Checked with onnxruntime: logits of up to ")
    assert third == "Licence of the weights: CC BY 2.0"


@needs_onnx
@pytest.mark.slow
def test_the_example_of_the_guide_reads_photos_as_cnnhw_does(written, tmp_path, monkeypatch):
    guide = Path(cnnhw.__file__).parents[1] / "docs" / "guide" / "command_line.rst"
    if not guide.is_file():
        pytest.skip("needs the repository")
    text = guide.read_text(encoding="utf-8").split("Export\n------", 1)[1].split(".. code-block:: python\n", 1)[1]
    lines = text.split("\n\nThese are", 1)[0]
    model, path, _ = written
    (tmp_path / "model.onnx").write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (90, 200, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # held sideways
    photo.save("photo.jpg", exif=exif)
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(lines) + "\nnumpy.save('pixels.npy', pixels)\nnumpy.save('logits.npy', logits)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = to_float(cnnhw.data.read_photo("photo.jpg", size=16)[None])
    assert np.array_equal(np.load("pixels.npy"), expected.numpy())
    assert done.stdout.strip() == CLASSES[int(logits(model, expected).argmax())]
