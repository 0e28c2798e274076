"""Presets are complete plans; plans within a budget keep to it."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnhw import models
from cnnhw.errors import TrainingError
from cnnhw.models.blocks import Classifier, linear_head
from cnnhw.training import clock, loop, presets
from cnnhw.training.optimizers import Update
from cnnhw.training.recipe import Recipe


def test_presets_are_models_with_recipes_of_their_own():
    assert presets.names() == ["best", "fast"]
    assert set(presets.names()) <= set(models.names())
    for name in presets.names():
        assert presets.plan(name).size == 64
        assert presets.plan(name, epochs=3).recipe.epochs == 3
        assert presets.plan(name, size=96).size == 96
    assert presets.plan("ensemble", epochs=3) == presets.Plan("fast", 64, Recipe.fast(3), 8)
    assert presets.plan("q1_deep") == presets.Plan("q1_deep", 128, Recipe(epochs=5))
    assert Recipe.best(5).changes().items() >= Recipe.fast(5).changes().items()


@pytest.fixture
def speeds(monkeypatch):
    """Two processors, of which each trains ``fast`` on 1,000 photos of 64 pixels a second, half as many in bfloat16."""

    def speed(model, photos, recipe, *, seconds):
        assert torch.get_num_threads() == 1
        each = {"fast": 1000, "best": 400}[model.name]
        return each * (64 / photos.size) ** 2 / (2 if recipe.precision == "bfloat16" else 1)

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(presets.training, "speed", speed)


def test_more_time_gives_more_networks_then_a_larger_resolution_then_larger_networks(speeds):
    plans = [presets.within(minutes, 5000) for minutes in (0.1, 0.5, 1, 3, 30, 300)]
    assert [(plan.model, plan.size, plan.members) for plan in plans] == [
        ("fast", 64, 1), ("fast", 64, 2), ("fast", 64, 4), ("fast", 128, 2), ("fast", 128, 16), ("best", 128, 16),
    ]  # fmt: skip
    assert [plan.recipe.minutes for plan in plans] == pytest.approx([0.1, 0.5, 1, 3, 30, 300], abs=0.02)
    assert plans[-1].recipe.mixup == Recipe.best().mixup


def test_a_gpu_trains_one_network(monkeypatch):
    monkeypatch.setattr(presets.training, "speed", lambda *_, **__: 1000)
    plan = presets.within(1, 5000, device=torch.device("meta"))
    assert (plan.model, plan.members) == ("best", 1)


def test_the_faster_number_format_is_taken_by_the_clock(speeds, monkeypatch):
    assert presets.within(1, 1000).recipe.precision == "float32"
    monkeypatch.setattr(presets.training, "speed", lambda m, p, recipe, **_: 2 if recipe.precision == "bfloat16" else 1)
    assert presets.faster(models.create("fast", size=32), 32, Recipe.fast()) == ("bfloat16", 2)


@pytest.mark.parametrize(("native", "side"), [(100, 96), (32, 32), (47, 46), (10, 16), (2000, 128)])
def test_photos_are_not_enlarged(speeds, native, side):
    assert presets.within(60, 1000, native=native).size == side
    assert presets.within(60, 1000, native=native, size=40).size == 40


@pytest.mark.parametrize(("minutes", "count"), [(0, 10), (-1, 10), (1, 0), (float("nan"), 5)])
def test_a_plan_needs_time_and_photos(minutes, count):
    with pytest.raises(ValueError, match="needs time and photos"):
        presets.within(minutes, count)


def test_noise_has_the_parts_of_a_data_set():
    photos = presets.noise(40, 16)
    assert (len(photos.train), len(photos.validation), len(photos.test)) == (40, 10, 10)
    assert photos.train.images.shape == (40, 3, 16, 16)
    rows = set(photos.train.index.tolist())
    assert not rows & set(photos.validation.index.tolist()) | rows & set(photos.test.index.tolist())
    assert set(photos.train.labels.tolist()) == set(range(5))


def train(monkeypatch, pace, minutes, *, epochs=100_000, **options):
    """Train by a clock of our own on which a photo takes ``pace(now)`` seconds, a third of that in validation."""
    now = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    model = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), linear_head(4, 5), 16)

    def take(module, inputs):
        now[0] += len(inputs[0]) * pace(now[0]) / (1 if module.training else 3)

    model.register_forward_pre_hook(take)
    ends = []  # of epochs, validation included

    def tell(epoch, row):
        ends.append(now[0])

    recipe = Recipe(epochs=epochs, minutes=minutes, schedule="one_cycle", resolutions=(0.5, 1.0), **options)
    return loop.fit(model, presets.noise(60, 16), recipe, progress=False, on_epoch=tell), ends


PACES = {
    "steady": lambda now: 0.05,
    "half as fast from the middle on": lambda now: 0.05 if now < 30 else 0.1,
    "twice as fast from the middle on": lambda now: 0.05 if now < 30 else 0.025,
    "stalled for a while": lambda now: 0.2 if 20 < now < 35 else 0.05,
    "slow": lambda now: 0.15,  # less than seven epochs
}


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES.keys())
def test_training_ends_in_time_whatever_the_machine_does(monkeypatch, pace):
    run, ends = train(monkeypatch, pace, minutes=1, batch_size=8)
    assert 57 <= ends[-1] <= 63
    assert len(ends) == len(run.history["loss"])
    assert run.recipe["minutes"] == 1


def test_less_time_than_an_epoch_takes_is_kept_to(monkeypatch):
    run, ends = train(monkeypatch, lambda now: 1, minutes=1, batch_size=2)  # an epoch would take a minute and more
    assert len(run.history["loss"]) == 1
    assert 57 <= ends[-1] <= 63


def test_a_run_with_time_to_spare_ends_with_its_epochs(monkeypatch):
    run, ends = train(monkeypatch, lambda now: 0.01, minutes=1, epochs=3)
    assert len(run.history["loss"]) == 3
    assert ends[-1] < 5


def test_the_rate_falls_to_zero_as_the_time_runs_out(monkeypatch):
    rates = []
    monkeypatch.setattr(Update, "set_rate", lambda self, rate: rates.append(rate))
    train(monkeypatch, PACES["half as fast from the middle on"], minutes=1, batch_size=8)
    assert max(rates) == pytest.approx(Recipe().learning_rate, rel=0.01)
    assert rates[-1] < 0.01 * max(rates)
    at = rates.index(max(rates))
    assert rates[at:] == sorted(rates[at:], reverse=True)


def test_a_resumed_run_has_the_time_that_was_left(monkeypatch, tmp_path):
    class Stop(Exception):
        pass

    now = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    ends = []

    def start(pace, until):
        model = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), linear_head(4, 5), 8)

        def take(module, inputs):
            now[0] += len(inputs[0]) * pace

        model.register_forward_pre_hook(take)

        def tell(epoch, row):
            ends.append(now[0])
            if now[0] > until:
                raise Stop

        recipe = Recipe(epochs=1000, minutes=1, batch_size=8)
        return loop.fit(
            model, presets.noise(60, 8), recipe, folder=tmp_path, resume=True, progress=False, on_epoch=tell
        )

    with pytest.raises(Stop):
        start(0.05, 30)
    used, now[0] = now[0], 5000.0
    start(0.1, math.inf)  # a slower machine
    assert 57 <= used + ends[-1] - 5000 <= 63


def test_minutes_are_for_one_process(monkeypatch):
    monkeypatch.setattr(loop.distributed, "count", lambda: 2)
    with pytest.raises(TrainingError, match="minutes are for one process"):
        loop.fit(models.create("q1_shallow", 5, size=8), presets.noise(20, 8), Recipe(minutes=1))
