"""Presets are complete plans; plans within a budget keep to it."""

from __future__ import annotations

import pytest

from cnnhw import models
from cnnhw.training import presets
from cnnhw.training.recipe import Recipe


def test_presets_are_models_with_recipes_of_their_own():
    assert presets.names() == ["best", "fast"]
    assert set(presets.names()) <= set(models.names())
    for name in presets.names():
        assert presets.plan(name).size == 64
        assert presets.plan(name, epochs=3).recipe.epochs == 3
        assert presets.plan(name, size=96).size == 96
    assert presets.plan("q1_deep") == presets.Plan("q1_deep", 128, Recipe(epochs=5))
    assert Recipe.best(5).changes().items() >= Recipe.fast(5).changes().items()


@pytest.fixture
def rates(monkeypatch):
    """Let training take a known time: 1 s for 10,000 photos of 64 pixels in ``fast``, 4 s in ``best``, by area."""

    def speed(model, photos, recipe, *, seconds, epoch):
        side = recipe.side(epoch, photos.size)
        return 10_000 * (64 / side) ** 2 / (4 if model.name == "best" else 1)

    monkeypatch.setattr(presets.training, "speed", speed)


def cost(plan, count):
    """Return the seconds that a plan takes with these rates."""
    photos = sum((plan.recipe.side(epoch, plan.size) / 64) ** 2 for epoch in range(1, plan.recipe.epochs + 1)) * count
    return photos / 10_000 * (4 if plan.model == "best" else 1)


@pytest.mark.parametrize("minutes", [0.2, 0.5, 1, 3, 10, 60])
@pytest.mark.parametrize("count", [100, 5_000, 50_000])
def test_plans_keep_to_the_budget_and_use_it(rates, minutes, count):
    plan = presets.within(minutes, count)
    if plan.recipe.epochs > 1:
        assert cost(plan, count) <= 60 * minutes
    if 1 < plan.recipe.epochs < 60:
        assert cost(plan, count) > 0.6 * 60 * minutes
    assert 1 <= plan.recipe.epochs <= 60


def test_more_time_gives_a_larger_resolution_and_network(rates):
    plans = [presets.within(minutes, 10_000) for minutes in (0.2, 1, 2, 10)]
    assert [(plan.model, plan.size) for plan in plans] == [("fast", 64), ("best", 64), ("best", 96), ("best", 128)]


def test_photos_are_not_enlarged(rates):
    assert presets.within(60, 1000, native=100).size == 96
    assert presets.within(60, 1000, native=32).size == 64
    assert presets.within(60, 1000, size=40).size == 40


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
