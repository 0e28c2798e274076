"""Training does what its recipe says, twice the same, and loses nothing when it is killed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photos
from safetensors.torch import load_file

import cnnhw
from cnnhw import evaluation, models, training
from cnnhw.errors import DataError, TrainingError
from cnnhw.training.optimizers import Update
from cnnhw.training.recipe import Recipe
from cnnhw.training.state import class_weights
from cnnhw.training.step import step

RECIPES = {
    "adam": Recipe(epochs=3, batch_size=16),
    "adamw": Recipe(epochs=3, batch_size=16, optimizer="adamw", weight_decay=0.01, schedule="one_cycle"),
    "sgd": Recipe(epochs=3, batch_size=16, optimizer="sgd", learning_rate=0.01, schedule="cosine", flip=True, shift=2),
    "weighted": Recipe(epochs=3, batch_size=7, class_weights=True, label_smoothing=0.1),
    "fast": dataclasses.replace(Recipe.fast(3), batch_size=16, precision="float32"),
    "bfloat16": Recipe(epochs=2, batch_size=16, precision="bfloat16"),
}


def fresh(photos, name="q1_shallow", seed=0):
    return models.create(name, len(photos.classes), seed=seed, size=photos.size)


def subject(kind):
    """Return photos and the name of a model to try a recipe on: not every model takes photos of any size."""
    return (make_photos(size=32), "fast") if RECIPES[kind].resolutions else (make_photos(), "q1_shallow")


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_learns_what_can_be_learnt():
    photos = make_photos(train=300, size=16)
    run = cnnhw.fit(fresh(photos), photos, Recipe(epochs=8, batch_size=16), progress=False)
    right = round(run.accuracy * len(photos.test))
    low, _ = evaluation.wilson_interval(right, len(photos.test))
    assert low > 0.6  # chance is 0.33
    assert run.history["loss"][-1] < run.history["loss"][0]
    assert int(run.confusion.sum()) == len(photos.test)
    assert run.accuracy == pytest.approx(int(run.confusion.trace()) / len(photos.test))


@pytest.mark.parametrize("kind", RECIPES)
def test_same_seed_gives_the_same_weights(kind):
    photos, name = subject(kind)
    runs = [cnnhw.fit(fresh(photos, name), photos, RECIPES[kind], seed=5, progress=False) for _ in range(2)]
    assert same(runs[0].model, runs[1].model)
    for measure in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        assert runs[0].history[measure] == runs[1].history[measure]
    other = cnnhw.fit(fresh(photos, name), photos, RECIPES[kind], seed=6, progress=False)
    assert other.history["loss"] != runs[0].history["loss"]


def test_keeps_the_last_epoch_if_told_to(photos):
    best, last = (
        cnnhw.fit(models.create("q1_shallow", 3, size=16), photos, Recipe(epochs=6, keep=keep), progress=False)
        for keep in ("best", "last")
    )
    assert last.best_epoch == 6
    assert last.history["loss"] == best.history["loss"]


def test_raw_pixels_begin_with_a_huge_loss(photos):
    raw, divided = (
        cnnhw.training.first_losses(models.create("q1_shallow", 3, size=16), photos, Recipe(raw=raw), seed=0, steps=1)[
            0
        ]
        for raw in (True, False)
    )
    assert raw > 5 * math.log(3) > divided


def test_keeps_the_best_epoch_by_validation():
    photos = make_photos(train=90, size=16)
    run = cnnhw.fit(fresh(photos), photos, Recipe(epochs=6, batch_size=16), progress=False, test_each_epoch=True)
    scores = list(zip(run.history["validation_accuracy"], (-x for x in run.history["validation_loss"]), strict=True))
    assert run.best_epoch == 1 + scores.index(max(scores))
    assert run.predictions.tolist() == run.test_predictions[run.best_epoch - 1]
    logits = evaluation.predict(run.model, photos.validation)
    assert evaluation.accuracy(logits.argmax(1), photos.validation.labels) == max(run.history["validation_accuracy"])


def test_looking_at_the_test_photos_each_epoch_changes_nothing(photos):
    plain, looked = (
        cnnhw.fit(fresh(photos), photos, RECIPES["adam"], progress=False, test_each_epoch=each)
        for each in (False, True)
    )
    assert same(plain.model, looked.model)


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", RECIPES)
def test_interrupted_and_resumed_is_bitwise_the_same(kind, tmp_path):
    photos, name = subject(kind)
    whole = cnnhw.fit(fresh(photos, name), photos, RECIPES[kind], seed=1, progress=False, test_each_epoch=True)

    def stop(epoch, row):
        if epoch == RECIPES[kind].epochs - 1:
            raise Stop

    with pytest.raises(Stop):
        cnnhw.fit(
            fresh(photos, name),
            photos,
            RECIPES[kind],
            seed=1,
            folder=tmp_path,
            progress=False,
            on_epoch=stop,
            test_each_epoch=True,
        )
    resumed = cnnhw.fit(
        fresh(photos, name, seed=99), photos, RECIPES[kind], seed=1, folder=tmp_path, resume=True, progress=False,
        test_each_epoch=True,
    )  # fmt: skip
    assert same(whole.model, resumed.model)
    assert whole.best_epoch == resumed.best_epoch
    assert whole.first_losses == resumed.first_losses
    assert whole.test_predictions == resumed.test_predictions


_CHILD = """
import sys, torch
sys.path.insert(0, {tests!r})
from conftest import make_photos
import cnnhw
torch.set_num_threads(1)
photos = make_photos(train=240, size=32)
model = cnnhw.models.create("q1_shallow", 3, size=32)
tell = lambda epoch, row: print(epoch, flush=True)
recipe = cnnhw.Recipe(epochs=20, batch_size=16)
cnnhw.fit(model, photos, recipe, folder={folder!r}, resume=True, progress=False, on_epoch=tell)
cnnhw.models.weights.save_weights(model, {folder!r} + "/done.safetensors")
"""


@pytest.mark.slow
def test_killed_at_random_moments_ends_in_the_same_weights(tmp_path):
    def start(folder):
        code = _CHILD.format(tests=str(Path(__file__).parent), folder=str(folder))
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)

    whole = start(tmp_path / "whole")
    whole.communicate()
    assert whole.returncode == 0
    expected = load_file(tmp_path / "whole/done.safetensors")
    rng = random.Random(0)
    killed = tmp_path / "killed"
    for _ in range(3):  # at most 15 of the 20 epochs, by its own word and not by the clock, which other work slows
        process = start(killed)
        for _ in range(rng.randint(1, 5)):
            assert process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))  # in the next epoch, or while it writes
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = start(killed)
    last.communicate()
    assert last.returncode == 0
    found = load_file(killed / "done.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_ctrl_c_leaves_a_usable_checkpoint(photos, tmp_path):
    def interrupt(epoch, row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cnnhw.fit(fresh(photos), photos, RECIPES["adam"], folder=tmp_path, progress=False, on_epoch=interrupt)
    with pytest.raises(TrainingError, match="already holds a run"):
        cnnhw.fit(fresh(photos), photos, RECIPES["adam"], folder=tmp_path, progress=False)
    run = cnnhw.fit(fresh(photos), photos, RECIPES["adam"], folder=tmp_path, resume=True, progress=False)
    assert len(run.history["loss"]) == 3


def test_checkpoint_of_other_settings_is_refused(photos, tmp_path):
    cnnhw.fit(fresh(photos), photos, RECIPES["adam"], folder=tmp_path, progress=False)
    with pytest.raises(TrainingError, match=r"other settings.*seed: 0 there, 1 now"):
        cnnhw.fit(fresh(photos), photos, RECIPES["adam"], seed=1, folder=tmp_path, resume=True, progress=False)
    torch.set_num_threads(2)
    with pytest.raises(TrainingError, match="1 threads, now there are 2"):
        cnnhw.fit(fresh(photos), photos, RECIPES["adam"], folder=tmp_path, resume=True, progress=False)


def test_a_refused_checkpoint_says_what_differs(photos, tmp_path):
    def stop(epoch, *_):
        raise KeyboardInterrupt

    def again(others=photos, **changes):
        recipe = dataclasses.replace(RECIPES["adam"], **changes)
        with pytest.raises(TrainingError) as caught:
            cnnhw.fit(fresh(others), others, recipe, folder=tmp_path, resume=True, progress=False)
        return str(caught.value)

    with pytest.raises(KeyboardInterrupt):
        cnnhw.fit(fresh(photos), photos, RECIPES["adam"], folder=tmp_path, progress=False, on_epoch=stop)
    said = again(learning_rate=0.5, flip=True)
    assert "other settings (learning_rate: 0.001 there, 0.5 now, flip: False there, True now): give" in said
    assert "stripes, 3 classes, 60 + 20 + 30 photos there, stripes, 3 classes, 63 + 21 + 31 photos now" in again(
        make_photos(train=63)
    )
    assert "30 photos, but others or in other classes or parts now" in again(make_photos(seed=1))


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_damaged_checkpoint_is_refused_and_kept(photos, tmp_path, content):
    path = tmp_path / training.CHECKPOINT
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        cnnhw.fit(fresh(photos), photos, RECIPES["adam"], folder=tmp_path, resume=True, progress=False)
    assert path.read_bytes() == content


def test_loss_that_is_not_finite_stops_with_a_clear_error(photos, tmp_path):
    model = fresh(photos)
    with torch.no_grad():
        model.head.dense2.bias.fill_(math.inf)
    with pytest.raises(TrainingError, match=r"loss became (nan|inf) in epoch 1, step 1: lower the learning rate"):
        cnnhw.fit(model, photos, RECIPES["adam"], folder=tmp_path, progress=False)
    assert (tmp_path / training.CHECKPOINT).exists()


def test_photos_that_do_not_fit_the_model_are_refused(photos):
    with pytest.raises(DataError, match="16 pixels wide, the model is made for 32"):
        cnnhw.fit(models.create("q1_shallow", 3, size=32), photos, progress=False)
    with pytest.raises(DataError, match="3 classes, the model has 5"):
        cnnhw.fit(models.create("q1_shallow", 5, size=16), photos, progress=False)


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": math.nan}, {"optimizer": "adm"},
            {"schedule": "linear"}, {"label_smoothing": 1.0}, {"shift": -1}, {"weight_decay": -1.0}, {"epsilon": 0.0},
            {"resolutions": (0.5, 1.5)}, {"resolutions": (0,)}, {"precision": "half"}, {"cutout": 2}, {"mixup": -1}]
)  # fmt: skip
def test_impossible_recipe_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Recipe(**bad)


def test_schedules_by_hand():
    constant, cosine, cycle = (Recipe(learning_rate=1.0, schedule=s) for s in ("constant", "cosine", "one_cycle"))
    assert [constant.rate(i, 10) for i in range(10)] == [1.0] * 10
    assert cosine.rate(0, 1) == pytest.approx(0.5)  # the middle of a run of one step
    rates = [cycle.rate(i, 1000) for i in range(1000)]
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates.index(max(rates)) == pytest.approx(300, abs=2)
    assert rates[149] == pytest.approx(0.5, abs=0.01)
    assert rates[-1] < 1e-4
    assert all(a >= b for a, b in itertools.pairwise(rates[300:]))


def test_warmup_rises_to_the_rate_and_goes_on_with_the_schedule():
    for schedule in ("constant", "cosine"):
        warm = Recipe(schedule=schedule, learning_rate=2.0, warmup=0.25)
        rates = [warm.rate(step, 8) for step in range(8)]
        assert rates[:2] == [0.5, 1.5]
        assert rates[2:] == ([2.0] * 6 if schedule == "constant" else sorted(rates[2:], reverse=True))
        assert Recipe(schedule=schedule).rate(0, 8) == pytest.approx(1e-3, rel=0.05)


def test_resolution_rises_with_the_epochs():
    recipe = Recipe(epochs=8, resolutions=(0.5, 0.75, 1.0))
    assert [recipe.side(epoch, 64) for epoch in range(1, 9)] == [32, 32, 48, 48, 48, 64, 64, 64]
    assert [Recipe.fast(2).side(epoch, 64) for epoch in (1, 2)] == [48, 64]
    assert Recipe.fast(1).side(1, 64) == 64
    assert {Recipe().side(epoch, 65) for epoch in range(1, 16)} == {65}
    assert [Recipe(epochs=2, resolutions=(0.5, 1.0)).side(epoch, 37) for epoch in (1, 2)] == [18, 37]


def test_training_at_a_lower_resolution_sees_smaller_photos():
    photos = make_photos(size=32)
    seen = []
    model = fresh(photos, "fast")
    model.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, *inputs[0].shape)))
    cnnhw.fit(model, photos, Recipe(epochs=2, resolutions=(0.5, 1.0)), progress=False)
    assert {side for training_mode, *_, side in seen if training_mode} == {16, 32}
    assert {side for training_mode, count, *_, side in seen if not training_mode and count > 1} == {32}


def test_changes_are_what_differs_from_the_defaults_and_make_the_recipe_again():
    assert Recipe().changes() == {}
    recipe = Recipe.fast(3)
    plain = json.loads(json.dumps(recipe.changes()))
    assert Recipe(**plain) == recipe
    assert plain["epochs"] == 3
    assert "epsilon" not in plain


def test_whitening_filters_whiten():
    images = make_photos(train=200, size=32).train.images.float() / 255
    model = models.create("q1_shallow", 3, size=32)
    training.whiten_(model, images)
    conv = model.features.conv1
    assert not conv.weight.requires_grad
    patches = torch.nn.functional.unfold(images, 3, stride=3).transpose(1, 2).flatten(0, 1)
    responses = patches @ conv.weight.flatten(1).T + conv.bias  # (P, 16)
    assert responses.mean(0).abs().max() < 1e-3
    covariance = torch.cov(responses.T)
    variances = torch.linalg.eigvalsh(torch.cov(patches.T)).flip(0)[:16]
    assert torch.allclose(covariance, torch.diag(variances / (variances + 0.01)), atol=1e-3)


def test_whitening_needs_as_many_components_as_filters():
    model = models.create("q1_shallow", 3, size=32)
    model.features.conv1 = torch.nn.Conv2d(3, 28, 3)
    with pytest.raises(ValueError, match="only 27 whitening filters, not 28"):
        training.whiten_(model, torch.rand(4, 3, 32, 32))


def test_muon_orthogonalises_the_updates_of_kernels_only(photos):
    model = fresh(photos)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training.first_losses(model, photos, Recipe(optimizer="muon", learning_rate=0.1), seed=0, steps=1)
    update = (model.features.conv2.weight - before["features.conv2.weight"]).detach()
    singular = torch.linalg.svdvals(update.flatten(1))
    assert singular[-1] > 0.4 * singular[0]  # Newton-Schulz gives singular values from 0.7 to 1.2 times the same
    gradient_like = (model.head.dense1.weight - before["head.dense1.weight"]).detach()
    assert gradient_like.abs().max() == pytest.approx(0.1, rel=0.01)  # AdamW's first step: the rate itself


def test_auto_precision_is_what_the_processor_computes_in(monkeypatch):
    cpu = torch.device("cpu")
    for able, expected in (({"avx512_bf16": True}, "bfloat16"), ({"amx_bf16": True}, "bfloat16"), ({}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        assert training.precision(Recipe(precision="auto"), cpu) == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert training.precision(Recipe(precision="auto"), cpu) == "float32"
    assert training.precision(Recipe(precision="bfloat16"), cpu) == "bfloat16"


def test_validation_loss_that_is_not_finite_stops_with_a_clear_error(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "loss", lambda *_: math.inf)
    with pytest.raises(TrainingError, match=r"validation loss became inf in epoch 1: lower the learning rate"):
        cnnhw.fit(fresh(photos), photos, RECIPES["adam"], folder=tmp_path, progress=False)


def test_saved_settings_are_those_of_the_interrupted_run(photos, tmp_path):
    photos = make_photos(size=32)
    cnnhw.fit(fresh(photos, "fast"), photos, RECIPES["fast"], seed=4, folder=tmp_path, progress=False)
    saved = training.saved_settings(tmp_path)
    assert (saved["model"], saved["size"], saved["seed"]) == ("fast", 32, 4)
    assert Recipe(**saved["recipe"]) == RECIPES["fast"]
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        training.saved_settings(tmp_path / "nowhere")


def test_a_model_for_one_size_only_is_not_trained_at_another(photos):
    with pytest.raises(TrainingError, match="q1_shallow cannot be trained at 8 pixels"):
        cnnhw.fit(fresh(photos), photos, Recipe(resolutions=(0.5, 1.0)), progress=False)


def test_speed_is_that_of_the_epoch_asked_for():
    photos = make_photos(size=64)
    recipe = Recipe(epochs=2, resolutions=(0.5, 1.0), batch_size=20)
    slow, quick = (training.speed(fresh(photos, "fast"), photos, recipe, seconds=0.5, epoch=e) for e in (2, 1))
    assert quick > slow > 0


def test_first_losses_are_those_of_the_run(photos):
    run = cnnhw.fit(fresh(photos), photos, RECIPES["weighted"], seed=2, progress=False)
    again = training.first_losses(fresh(photos), photos, RECIPES["weighted"], seed=2)
    assert again == run.first_losses[: len(again)]
    assert len(again) == math.ceil(len(photos.train) / 7)


def test_class_weights_balance_the_loss():
    photos = make_photos()
    rows = torch.cat([torch.arange(60)[photos.train.labels == 0], torch.arange(60)[photos.train.labels != 0][:10]])
    weights = class_weights(
        cnnhw.data.PhotoSet(
            "few", photos.classes, 16,
            cnnhw.data.Split(photos.train.store, photos.train.index[rows], photos.train.labels[rows], (), ()),
            photos.validation, photos.test,
        )
    )  # fmt: skip
    counts = torch.bincount(photos.train.labels[rows], minlength=3)
    assert torch.allclose(weights * counts, torch.full((3,), len(rows) / 3))


class Process:
    """What a process has that training could change for all others in it."""

    def __init__(self):
        self.state = {
            "torch generator": torch.get_rng_state().tolist(),
            "numpy generator": [str(part) for part in np.random.get_state()],  # noqa: NPY002
            "random generator": random.getstate(),
            "threads": torch.get_num_threads(),
            "type": torch.get_default_dtype(),
            "device": torch.get_default_device(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "gradients": torch.is_grad_enabled(),
            "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
            "matrix products": torch.get_float32_matmul_precision(),
            "oneDNN": (torch.backends.mkldnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled),
            "denormals": float(torch.tensor(1e-40) * 1.0),
            "warnings": list(warnings.filters),
            "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
            "environment": dict(os.environ),
            "folder": Path.cwd(),
        }


@pytest.mark.parametrize("kind", [*RECIPES, "mixup", "transfer"])
def test_training_changes_nothing_in_the_process(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(cnnhw.system, "keep_freed", lambda: pytest.fail("memory is for the caller to set"))
    photos, name = subject(kind) if kind in RECIPES else (make_photos(), "q1_shallow")
    recipe = RECIPES.get(kind, Recipe(epochs=1, mixup=0.4))
    model = fresh(photos, name)
    before = Process().state
    if kind == "transfer":
        head = cnnhw.transfer.Head(hidden=4, dropout=0.5)
        cnnhw.transfer.adapt(model, photos, head=head, head_epochs=1, epochs=1, progress=False)
    else:
        cnnhw.fit(model, photos, recipe, folder=tmp_path, progress=False)
    after = Process().state
    assert [part for part in before if before[part] != after[part]] == []


def test_a_step_whose_loss_is_not_finite_changes_no_weights(photos):
    model = fresh(photos)
    before = [parameter.clone() for parameter in model.parameters()]
    x, y = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    loss, logits = step(x, y, model, lambda logits, y: logits.sum() * math.inf, Update(model, Recipe()))
    assert not loss.isfinite()
    assert logits.shape == (4, 3)
    assert all(map(torch.equal, before, model.parameters()))


def test_the_model_that_comes_out_carries_the_classes(photos):
    run = cnnhw.fit(fresh(photos), photos, Recipe(epochs=1), progress=False)
    assert run.model.classes == photos.classes
    assert not torch.isnan(evaluation.predict(run.model, photos.test)).any()
