"""The networks that come with the package are there, small, the ones that they say they are, and say their licence."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

import cnnhw
from cnnhw import models, studies
from cnnhw.book import model_cards, registry, shipping
from cnnhw.book.model_cards import NETWORKS, Shipped
from cnnhw.cli.command import cli
from cnnhw.errors import CnnhwError, UnknownNameError, WeightsError
from cnnhw.models import weights
from cnnhw.studies import queue, store
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe

LICENCE = "research and education only, and so are weights trained on them; the photos may not be shown"


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    """Let no test depend on what was loaded before it."""
    monkeypatch.setattr(weights, "_told", set())


def tensors(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


ALONE = """
import socket, sys
def refuse(*args, **more):
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
import torch, cnnhw
from cnnhw.models import weights
models = {name: cnnhw.load(name) for name in weights.shipped()}
for name, model in models.items():
    with torch.inference_mode():
        out = model(torch.rand(2, 3, model.size, model.size))
    assert out.shape == (2, len(model.classes)) and out.isfinite().all(), name
    assert not model.training, name
assert "matplotlib" not in sys.modules
from cnnhw.book import model_cards
for name, which in model_cards.NETWORKS.items():
    assert models[name].name == which.model
    assert model_cards.card(name)["licence"] == models[name].licence != "", name
    print(name)
"""


def test_all_load_without_data_and_network(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "CNNHW_DATA"}
    environment |= {"PYTHONPATH": str(Path(cnnhw.__file__).parents[1]), "CNNHW_CACHE": str(tmp_path / "nothing")}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(NETWORKS)
    assert done.stderr.count(LICENCE) == len(NETWORKS)  # seen by those who have set up no logging
    assert not (tmp_path / "nothing").exists()


def test_all_are_half_precision_and_small():
    total = 0
    for name in model_cards.names():
        found, _ = tensors(model_cards.path(name))
        assert {value.dtype for value in found.values()} <= {torch.float16, torch.int64}
        assert next(iter(found.values())).dtype == torch.float16
        total += model_cards.path(name).stat().st_size
    assert total <= 12_000_000
    assert {path.stem for path in model_cards.path("fast").parent.iterdir()} == set(NETWORKS)


@pytest.mark.parametrize("name", model_cards.names())
def test_each_is_the_run_that_it_says_it_is(name):
    which, job, card = NETWORKS[name], model_cards.job(name), model_cards.card(name)
    _, header = tensors(model_cards.path(name))
    assert (header["key"], header["study"], header["arm"]) == (job.key, which.study, which.arm)
    assert which.model == job.arm.model
    assert job.seed == job.arm.seeds[0]
    record = model_cards.record(name)
    assert card["accuracy"] == record.accuracy()
    low, high = card["accuracy_interval"]
    assert low < card["accuracy"] < high
    assert set(card["accuracies"]) == {one.seed for one in studies.records(which.study) if one.arm == which.arm}
    assert card["accuracies"][job.seed] == card["accuracy"]
    assert card["lowest_accuracy"] <= card["mean_accuracy"] <= card["highest_accuracy"]
    assert abs(card["shipped_accuracy"] - card["accuracy"]) <= shipping.LOSS
    assert card["agreement"] >= shipping.AGREEMENT
    assert card["licence"] == record.content["data"]["licence"]
    assert card["parameters"] == models.count_parameters(cnnhw.load(name))
    assert json.loads(json.dumps(card))["name"] == name


def test_the_chapter_of_each_is_there():
    examples = Path(cnnhw.__file__).parents[1] / "examples"
    if not examples.is_dir():
        pytest.skip("needs the repository")
    for which in NETWORKS.values():
        assert (examples / f"{Path(which.chapter).name}.py").exists()


def test_the_licence_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, logger="cnnhw"):
        first, second = cnnhw.load("plain"), cnnhw.load("plain")
        cnnhw.load(model_cards.path("plain"))
    (message,) = [record.getMessage() for record in caplog.records if record.name == "cnnhw"]
    assert message == f"plain was trained on tiny5: {LICENCE}"
    assert first.licence == second.licence == LICENCE


def test_weights_without_restriction_are_silent(tmp_path, caplog):
    path = tmp_path / "own.safetensors"
    weights.save_weights(models.create("q1_shallow", 3, size=16), path, licence="CC BY 2.0")
    assert cnnhw.load(path).licence == "CC BY 2.0"
    weights.save_weights(models.create("q1_shallow", 3, size=16), path)
    assert cnnhw.load(path).licence == ""
    assert not caplog.records


def test_wrong_names_are_told_what_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"no weights at fasst.* Did you mean 'fast'\? Shipped: dense, fast, "):
        cnnhw.load("fasst")
    for function in (model_cards.get, model_cards.path, model_cards.job, model_cards.record, model_cards.card):
        with pytest.raises(UnknownNameError, match=r"unknown shipped network 'fasst'.*'fast'"):
            function("fasst")


def test_what_lies_here_comes_before_what_is_shipped(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    assert cnnhw.load("plain").name == "plain"
    Path("plain").mkdir()
    with pytest.raises(WeightsError, match=r"no weights at plain.*What lies under that name here comes before"):
        cnnhw.load("plain")
    weights.save_weights(models.create("q1_shallow", 3, size=16), Path("plain") / weights.WEIGHTS)
    assert cnnhw.load("plain").name == "q1_shallow"
    weights.save_weights(models.create("q1_deep", 3, size=16), "fast")
    assert cnnhw.load(Path("fast")).name == "q1_deep"


def test_predict_takes_a_shipped_name(tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(photo)
    result = CliRunner().invoke(cli, ["predict", "plain", str(photo), "--csv"])
    assert result.exit_code == 0, result.output
    assert "photo,class,bird,dog,fruit,insect,other" in result.output
    assert sum(map(float, result.output.strip().splitlines()[-1].split(",")[2:])) == pytest.approx(1, abs=1e-3)


def test_half_precision_keeps_whole_numbers_and_refuses_what_is_too_large(tmp_path):
    path, model = tmp_path / "w.safetensors", models.create("plain", 3, size=16)
    weights.save_weights(model, path, half=True, extra={"study": "s"})
    found, header = tensors(path)
    assert header["study"] == "s"
    assert header["model"] == "plain"
    assert {name: value.dtype for name, value in found.items()} == {
        name: torch.float16 if value.is_floating_point() else value.dtype for name, value in model.state_dict().items()
    }
    with torch.no_grad():
        next(model.parameters())[0] = 1e6
    with pytest.raises(WeightsError, match="too large for half precision"):
        weights.save_weights(model, tmp_path / "other.safetensors", half=True)
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_headers_of_other_files_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no weights at"):
        weights.read_header(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello" * 10)
    with pytest.raises(WeightsError, match="not a safetensors file, or is damaged"):
        weights.read_header(tmp_path / "text.safetensors")


@pytest.fixture
def tiny(tmp_path, monkeypatch, photos):
    """Ship a network of a study of seconds, whose one run has a record."""
    arm = Arm("a", "q1_shallow", Recipe(epochs=2, batch_size=8), seeds=(0, 1))
    study = Study("tiny", "Does it work?", "stripes", 16, (arm,), observation="a test")
    photos = dataclasses.replace(photos, licence="for research only")
    monkeypatch.setitem(registry._STUDIES, "tiny", study)
    monkeypatch.setitem(NETWORKS, "small", Shipped("q1_shallow", "tiny", "a", 0, "Small.", "None.", "index"))
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(queue.data, "load", lambda *args, **more: photos)
    where = tmp_path / "records"
    queue.run_job(study.job("a", 0), where)
    return where


def change(where, **fields):
    (record,) = store.read("tiny", where)
    content = record.content | fields
    return Record(content, store.write(content, where))


def test_weights_are_made_again_and_are_those_of_the_record(tiny, tmp_path, photos):
    path = shipping.make("small", tiny)
    assert path == tmp_path / "weights" / "small.safetensors"
    again = shipping.make("small", tiny, tmp_path / "out")
    assert again == tmp_path / "out" / "small.safetensors"
    (first, first_header), (second, second_header) = tensors(path), tensors(again)
    assert first_header == second_header
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    (record,) = store.read("tiny", tiny)
    model = cnnhw.load("small")
    agreement = cnnhw.evaluation.predict(model, photos.test).argmax(1) == record.predictions()
    assert agreement.float().mean() > 0.9
    assert model.licence == "for research only"
    _, header = tensors(path)
    assert (header["seed"], header["key"], header["agreement"]) == ("0", record.key, "1.0")


def test_weights_that_predict_otherwise_are_refused(tiny, tmp_path):
    (record,) = store.read("tiny", tiny)
    best = str(record.best_epoch)
    digits = record.content["test_predictions"][best]
    change(tiny, test_predictions={best: str((int(digits[0]) + 1) % 3) + digits[1:]})  # 1 of 30 photos
    with pytest.raises(CnnhwError, match=r"predicts only 96.7% of the test photos as its record does"):
        shipping.make("small", tiny)
    assert not (tmp_path / "weights").exists()


def test_weights_that_lose_accuracy_in_half_precision_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "half", lambda self: self.requires_grad_(False).apply(zero))
    with pytest.raises(CnnhwError, match="in half precision has a test accuracy of"):
        shipping.make("small", tiny)
    assert not (tmp_path / "weights").exists()


def zero(module):
    for parameter in module.parameters(recurse=False):
        parameter.zero_()


def test_weights_of_other_photos_or_without_a_record_are_refused(tiny, tmp_path):
    (record,) = store.read("tiny", tiny)
    change(tiny, data=record.content["data"] | {"test_fingerprint": "0" * 16})
    with pytest.raises(CnnhwError, match="recorded with other test photos"):
        shipping.make("small", tiny)
    with pytest.raises(CnnhwError, match="tiny/a-0 has no record: run it with 'cnnhw study run tiny'"):
        shipping.make("small", tmp_path / "nothing")
    assert not (tmp_path / "weights").exists()


def test_a_card_of_another_run_is_refused(tiny, monkeypatch):
    path = shipping.make("small", tiny)
    monkeypatch.setattr(store, "folder", lambda: tiny)
    assert model_cards.card("small")["accuracies"].keys() == {0}
    weights.save_weights(cnnhw.load("small"), path, half=True, extra={"key": "0" * 16})
    with pytest.raises(CnnhwError, match=r"is not of the run tiny/a-0: make it again with 'cnnhw study weights small'"):
        model_cards.card("small")


def test_command_refuses_wrong_names_before_it_trains(monkeypatch):
    monkeypatch.setattr(queue, "train", lambda *args, **more: pytest.fail("it trains"))
    result = CliRunner().invoke(cli, ["study", "weights", "plain", "plan"])
    assert isinstance(result.exception, UnknownNameError)


def test_command_writes_where_it_is_told(tiny, tmp_path):
    words = ["study", "weights", "small", "--records", str(tiny), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert f"small: {tmp_path / 'out' / 'small.safetensors'}, " in result.output
