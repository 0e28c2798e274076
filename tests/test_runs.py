"""Saved runs hold everything, load back the same, and never run code."""

from __future__ import annotations

import json
import os
import pickle
import xml.etree.ElementTree as ET

import pytest
import torch
from conftest import make_photos
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import cnnhw
from cnnhw import evaluation, files, models
from cnnhw.errors import StorageError, WeightsError
from cnnhw.models import weights
from cnnhw.training.recipe import Recipe


@pytest.fixture
def run(photos):
    return cnnhw.fit(models.create("q1_shallow", 3, size=16), photos, Recipe(epochs=2), progress=False)


def test_saved_folder_holds_everything(run, tmp_path):
    folder = run.save(tmp_path / "runs" / "first")
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png", "curves.png", "model.svg", "report.html", "run.json", "weights.safetensors",
    ]  # fmt: skip
    summary = json.loads((folder / "run.json").read_text())
    assert summary["accuracy"] == run.accuracy
    assert {"accuracy", "seconds", "model", "data", "seed"} <= set(summary)
    assert summary["confusion"] == run.confusion.tolist()
    assert summary["threshold"]["test"]["photos"] == len(run.photos.test)
    low, high = summary["accuracy_interval"]
    assert low <= run.accuracy <= high
    for name in ("curves.png", "confusion.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200
    assert ET.fromstring((folder / "model.svg").read_text()).tag.endswith("svg")


def test_report_escapes_names(run, tmp_path):
    object.__setattr__(run.photos, "name", "<script>alert(1)</script>")
    page = (run.save(tmp_path) / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_loaded_model_predicts_the_same(run, tmp_path):
    run.save(tmp_path)
    for given in (tmp_path, tmp_path / "weights.safetensors", str(tmp_path)):
        model = cnnhw.load(given)
        assert (model.name, model.size, model.classes) == ("q1_shallow", 16, run.classes)
        assert not model.training
        assert torch.equal(evaluation.predict(model, run.photos.test).argmax(1), run.predictions)
        assert all(parameter.requires_grad for parameter in model.parameters())


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("kind", ["pickle", "torch", "empty", "text", "cut"])
def test_what_is_not_ours_is_refused_and_never_executed(run, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif kind == "torch":
        torch.save({"x": Bomb()}, path)
    elif kind == "cut":
        whole = (run.save(tmp_path / "run") / "weights.safetensors").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(b"" if kind == "empty" else b"hello, I am a text file" * 10)
    with pytest.raises(WeightsError, match="not a safetensors file, or is damaged"):
        cnnhw.load(path)
    assert not (tmp_path / "exploded").exists()


def test_missing_weights(tmp_path):
    with pytest.raises(WeightsError, match="no weights at"):
        cnnhw.load(tmp_path)
    with pytest.raises(WeightsError, match="no weights at"):
        cnnhw.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"model": "resnet"},
        {"size": "many"},
        {"num_classes": "7"},
        {"classes": "[1, 2, 3]"},
        {"classes": "{"},
        {"size": "64"},
    ],
)
def test_metadata_that_do_not_fit_are_refused(run, tmp_path, change):
    path = run.save(tmp_path) / "weights.safetensors"
    metadata = {"format": "cnnhw weights 1", "model": "q1_shallow", "num_classes": "3", "size": "16"}
    metadata["classes"] = '["a", "b", "c"]'
    save_file(load_file(path), path, metadata | change)
    with pytest.raises(WeightsError, match=str(path)):
        cnnhw.load(path)


def test_weights_of_half_precision_are_read(run, tmp_path):
    path = tmp_path / "half.safetensors"
    weights.save_weights(run.model, path, half=True)
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert next(cnnhw.load(path).parameters()).dtype == torch.float32


def test_a_failure_while_saving_leaves_the_old_file(run, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    weights.save_weights(run.model, path)
    before = path.read_bytes()

    def fail(tensors, file, metadata):
        file.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files, "save_file", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        weights.save_weights(run.model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_summary_is_plain_json(run):
    assert json.loads(json.dumps(run.summary()))["photos"] == {"train": 60, "validation": 20, "test": 30}


def test_another_model_and_number_of_classes():
    photos = make_photos(classes=4)
    run = cnnhw.fit(models.create("q1_deep", 4, size=16), photos, Recipe(epochs=1), progress=False)
    assert run.confusion.shape == (4, 4)


def test_options_travel_with_the_weights(tmp_path, photos):
    model = cnnhw.models.create("q1_shallow", 3, size=16, dense=False)
    cnnhw.models.weights.save_weights(model, tmp_path / "w.safetensors")
    loaded = cnnhw.load(tmp_path / "w.safetensors")
    assert loaded.options == {"dense": False}
    assert torch.equal(cnnhw.evaluation.predict(model, photos.test), cnnhw.evaluation.predict(loaded, photos.test))


@pytest.mark.parametrize(
    "change", [{"options": '{"depth": 3}'}, {"options": "["}, {"pixel_scale": "nan"}, {"options": "3"}]
)
def test_weights_with_a_damaged_header_are_refused(tmp_path, change):
    path = tmp_path / "w.safetensors"
    cnnhw.models.weights.save_weights(cnnhw.models.create("q1_shallow", 3, size=16), path)
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata | change)
    with pytest.raises(WeightsError, match="does not fit its checksum"):
        cnnhw.load(path)
    del metadata["checksum"]  # as from an older version
    save_file(tensors, path, metadata | change)
    with pytest.raises(WeightsError, match="does not hold a model that this version knows"):
        cnnhw.load(path)
