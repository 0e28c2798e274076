from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import cnnhw
from cnnhw.data import scenes
from cnnhw.data.scenes import CLASSES, EASY, HARD, NORMAL, Controls, Drawing, draw, load
from cnnhw.errors import DataError, UnknownNameError

OPEN = replace(NORMAL, occlusion=0)
MEANS = [146.8, 126.5, 114.3, 119.5, 146.4]
FINGERPRINT = "dbbd747277ed5837"


@pytest.fixture(scope="module")
def some() -> Drawing:
    return draw(50, size=64, controls=OPEN)


def centres(drawing: Drawing) -> torch.Tensor:
    """Return the middle of each mask's bounding box, as a share of the picture."""
    size = drawing.masks.shape[-1]
    sides = []
    for along in (1, 2):
        seen = drawing.masks.any(along).float()
        first, last = seen.argmax(1), size - 1 - seen.flip(1).argmax(1)
        sides.append((first + last) / 2 / size)
    return torch.stack(sides, 1)


def test_shapes_types_and_balance() -> None:
    drawing = draw(23, size=48)
    assert drawing.images.shape == (23, 3, 48, 48)
    assert drawing.masks.shape == (23, 48, 48)
    assert drawing.scales.shape == (23,)
    kinds = (drawing.images.dtype, drawing.labels.dtype, drawing.masks.dtype, drawing.scales.dtype)
    assert kinds == (torch.uint8, torch.int64, torch.bool, torch.float32)
    assert drawing.labels.tolist() == [k % len(CLASSES) for k in range(23)]


def test_a_scene_depends_on_seed_and_number_only(some: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    few = draw(7, size=64, controls=OPEN, first=9)
    monkeypatch.setattr(scenes, "_CHUNK", 3)
    for other in (few, draw(7, size=64, controls=OPEN, first=9)):
        for column in (field.name for field in fields(Drawing)):
            assert torch.equal(getattr(other, column), getattr(some, column)[9:16])
    assert not torch.equal(draw(7, size=64, controls=OPEN, first=9, seed=1).images, few.images)


def test_no_two_scenes_are_the_same(some: Drawing) -> None:
    assert len(some.images.flatten(1).unique(dim=0)) == 50
    assert len(some.scales.unique()) == 50


def test_the_pictures_stay_as_they_were(some: Drawing) -> None:
    # A change of what is drawn needs a new VERSION: kept pictures and fingerprints depend on it.
    assert scenes.VERSION == 1
    means = some.images[:5].float().mean((1, 2, 3))
    assert means.tolist() == pytest.approx(MEANS, abs=0.2)


@pytest.mark.parametrize("small", [32, 64])
def test_the_same_scene_at_another_size(small: int) -> None:
    quiet = replace(NORMAL, noise=0)
    large, drawing = draw(20, controls=quiet), draw(20, size=small, controls=quiet)
    shrunk = F.adaptive_avg_pool2d(large.images.float(), small)
    assert (shrunk - drawing.images).abs().mean() < 9
    for one, two in zip(shrunk.flatten(1), drawing.images.float().flatten(1), strict=True):
        assert torch.corrcoef(torch.stack([one, two]))[0, 1] > 0.9
    masks = F.adaptive_avg_pool2d(large.masks.float(), small) > 0.5
    assert (masks == drawing.masks).float().mean() > 0.99
    assert torch.equal(large.scales, drawing.scales)


def test_masks_are_where_the_object_is() -> None:
    # The same scenes without and with another object colour, position or clutter differ only where they should.
    bare = replace(OPEN, noise=0, clutter=0, light=0)
    drawing = draw(20, size=64, controls=bare)
    assert all(0.03 < share < 0.6 for share in drawing.masks.float().mean((1, 2)).tolist())
    moved = draw(20, size=64, controls=replace(bare, clutter=1))
    change = (drawing.images.float() - moved.images).abs().sum(1)
    assert change[drawing.masks].mean() < 2
    assert change[~drawing.masks].mean() > 20


def test_scale_sets_the_area() -> None:
    fixed = replace(OPEN, position=0)
    small, large = (draw(50, size=64, controls=replace(fixed, scale=(s, s))) for s in (0.4, 0.8))
    assert small.scales.unique().tolist() == pytest.approx([0.4])
    ratio = large.masks.sum((1, 2)) / small.masks.sum((1, 2))
    assert ratio.mean().item() == pytest.approx(4, rel=0.1)
    spread = draw(50, size=64)
    assert spread.scales.min() >= NORMAL.scale[0]
    assert spread.scales.max() <= NORMAL.scale[1]


def test_position_and_rotation(some: Drawing) -> None:
    central = draw(50, size=64, controls=replace(OPEN, position=0))
    assert (centres(central) - 0.5).abs().mean() < 0.04
    assert (centres(some) - 0.5).abs().mean() > 0.06
    upright = replace(OPEN, position=0, rotation=0, scale=(0.8, 0.8))
    still, turned = draw(50, size=64, controls=upright), draw(50, size=64, controls=replace(upright, rotation=90))
    assert not torch.equal(still.masks, turned.masks)
    assert torch.equal(still.scales, turned.scales)


@pytest.mark.parametrize(
    "change", [{"clutter": 0.3}, {"colour": 0.2}, {"noise": 0}, {"light": 0}, {"clutter": 2, "light": 0.5, "noise": 30}]
)
def test_other_factors_leave_the_object_in_place(some: Drawing, change: dict[str, Any]) -> None:
    drawing = draw(50, size=64, controls=replace(OPEN, **change))
    assert torch.equal(drawing.masks, some.masks)
    assert torch.equal(drawing.scales, some.scales)
    assert not torch.equal(drawing.images, some.images)


def test_scale_leaves_ground_and_place_alone() -> None:
    quiet = replace(OPEN, noise=0)
    one, two = (draw(20, size=64, controls=replace(quiet, scale=(s, s))) for s in (0.3, 0.5))
    assert (centres(one) - centres(two)).abs().mean() < 0.03
    far = ~(F.max_pool2d((one.masks | two.masks).float()[:, None], 19, 1, 9)[:, 0] > 0)
    same = (one.images == two.images).all(1)[far].float().mean()
    assert same > 0.95


def test_occlusion_hides_its_share() -> None:
    bare = draw(300, size=32, controls=OPEN).masks
    for share in (0.1, 0.3):
        masks = draw(300, size=32, controls=replace(NORMAL, occlusion=share)).masks
        assert not (masks & ~bare).any()
        assert 1 - (masks.sum() / bare.sum()).item() == pytest.approx(share, abs=0.04)


def test_without_colour_pictures_are_grey() -> None:
    images = draw(10, size=64, controls=replace(NORMAL, colour=0)).images.int()
    assert (images - images[:, :1]).abs().max() <= 1
    images = draw(10, size=64).images.float()
    assert images.std(1).mean() > 10


def test_noise_has_the_deviation_asked_for() -> None:
    quiet = draw(20, size=64, controls=replace(NORMAL, noise=0)).images.float()
    noisy = draw(20, size=64, controls=replace(NORMAL, noise=10)).images.float()
    middle = ((quiet > 50) & (quiet < 205)).all(1)[:, None].expand_as(quiet)
    assert (noisy - quiet)[middle].std().item() == pytest.approx(10, rel=0.05)


def test_light_varies_brightness() -> None:
    steady, varied = (draw(50, size=32, controls=replace(NORMAL, light=light)).images.float() for light in (0, 1))
    ratio = varied.mean((1, 2, 3)) / steady.mean((1, 2, 3))
    assert ratio.mean().item() == pytest.approx(1, abs=0.1)
    assert ratio.std() > 0.1


def test_classes_do_not_differ_in_mean_colour() -> None:
    train, test = draw(1500, size=32), draw(500, size=32, first=10_000)
    train_colours, test_colours = (drawing.images.float().mean((2, 3)) for drawing in (train, test))
    means = torch.stack([train_colours[train.labels == k].mean(0) for k in range(len(CLASSES))])
    nearest = torch.cdist(test_colours, means).argmin(1)
    assert (nearest == test.labels).float().mean() < 0.30


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0.8, 0.4)},
        {"scale": (0, 0.4)},
        {"scale": (0.4, 3)},
        {"scale": 0.5},
        {"scale": (0.3, 0.4, 0.5)},
        {"scale": (0.4, float("nan"))},
        {"position": -0.1},
        {"rotation": 181},
        {"clutter": 2.1},
        {"occlusion": 0.5},
        {"colour": 1.5},
        {"noise": float("nan")},
        {"noise": "much"},
        {"light": -1},
    ],
)
def test_bad_controls(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        Controls(**wrong)  # type: ignore[arg-type]


def test_equal_controls_are_equal_however_they_are_written() -> None:
    assert repr(Controls(scale=[1, 1], noise=8)) == repr(Controls(scale=(1.0, 1.0), noise=8.0))  # type: ignore[arg-type]
    assert len({EASY, NORMAL, HARD, Controls()}) == 3


def test_bad_requests() -> None:
    with pytest.raises(DataError, match="0 scenes"):
        draw(0)
    with pytest.raises(DataError, match="number -1"):
        draw(5, first=-1)
    with pytest.raises(DataError, match="size"):
        draw(5, size=4)
    for train, test in ((30, 10), (101, 10), (100, 0), (100, 7)):
        with pytest.raises(DataError, match="multiple"):
            load(size=16, train=train, test=test, progress=False)


def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNHW_CACHE", str(tmp_path))
    photos = load(size=16, train=100, test=50, progress=False)
    assert photos.classes == CLASSES
    parts = (photos.train, photos.validation, photos.test)
    assert [len(part) for part in parts] == [90, 10, 50]
    for part in parts:
        assert part.labels.bincount().tolist() == [len(part) // 5] * 5
    assert len({name for part in parts for name in part.names}) == 150
    assert len({digest for part in parts for digest in part.digests}) == 150
    numbers = torch.tensor([int(name[-7:]) for name in photos.validation.names])
    assert torch.equal(photos.validation.images, draw(100, size=16).images[numbers])
    assert torch.equal(photos.test.images, draw(50, size=16, first=1_000_000).images)

    def never(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(scenes, "_paint", never)
    again = load(size=16, train=100, test=50, progress=False)
    assert torch.equal(again.train.images, photos.train.images)
    assert again.fingerprint == photos.fingerprint == FINGERPRINT
    split = load(size=16, train=100, test=50, split_seed=1, progress=False)
    assert split.test.fingerprint == photos.test.fingerprint
    assert split.validation.fingerprint != photos.validation.fingerprint


def test_load_tells_settings_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNHW_CACHE", str(tmp_path))
    usual = partial(load, train=50, test=5, progress=False)
    sets = [usual(size=16), usual(size=16, seed=1), usual(size=24), usual(size=16, controls=EASY)]
    assert len({photos.fingerprint for photos in sets}) == 4
    assert len({photos.validation.names for photos in sets}) == 1


def test_a_mixture_takes_turns_and_holds_the_scenes_of_each() -> None:
    small, large = (replace(EASY, scale=(s, s)) for s in (0.3, 0.8))
    mixed = load(size=16, train=100, test=20, controls=(small, large), progress=False)
    each = [load(size=16, train=100, test=20, controls=one, progress=False) for one in (small, large)]
    for split, *alone in zip(mixed.splits, *(one.splits for one in each), strict=True):
        turns = (split.index // 5 % 2).tolist()
        assert split.names == alone[0].names == alone[1].names
        assert split.digests == tuple(alone[turn].digests[row] for row, turn in enumerate(turns))
        assert all(torch.equal(split.images[row], alone[turn].images[row]) for row, turn in enumerate(turns))
    assert torch.bincount(mixed.test.labels[mixed.test.index // 5 % 2 == 0]).tolist() == [2] * 5
    assert len({mixed.fingerprint, *(one.fingerprint for one in each)}) == 3
    (one,) = (load(size=16, train=100, test=20, controls=(small,), progress=False),)
    assert one.fingerprint == each[0].fingerprint
    with pytest.raises(DataError, match="controls is empty"):
        load(controls=(), progress=False)


def test_difficulty_rises_from_easy_to_hard() -> None:
    assert (scenes.level(0), scenes.level(1)) == (EASY, HARD)
    half = scenes.level(0.5)
    assert half.scale == pytest.approx((0.5, 0.875))
    for name in ("position", "rotation", "clutter", "occlusion", "noise", "light", "colour"):
        assert getattr(half, name) == pytest.approx((getattr(EASY, name) + getattr(HARD, name)) / 2)
    for wrong in (-0.1, 1.01, float("nan")):
        with pytest.raises(DataError, match="from 0 to 1"):
            scenes.level(wrong)


def test_mixtures_and_difficulties_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "load", partial(load, train=50, test=10))
    expected = {"scenes_wide": scenes.WIDE, "scenes_level_35": scenes.level(0.35), "scenes_level_100": HARD}
    for name, controls in expected.items():
        photos = cnnhw.data.load(name, size=16, progress=False)
        assert photos.name == name
        assert photos.fingerprint == scenes.load(size=16, controls=controls, progress=False).fingerprint
    with pytest.raises(DataError, match="from 0 to 1"):
        cnnhw.data.load("scenes_level_101", size=16)
    with pytest.raises(UnknownNameError):
        cnnhw.data.load("scenes_level_x", size=16)
