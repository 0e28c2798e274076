"""Wrong labels are found first, photos that are there twice are found, whatever they are called."""

from __future__ import annotations

import dataclasses
import json
import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import cnnhw
from cnnhw import features
from cnnhw.data import scenes
from cnnhw.data.photoset import PhotoSet, Split
from cnnhw.errors import DataError
from cnnhw.evaluation import audit


def clusters(per_class: int = 60, classes: int = 3, apart: float = 4.0):
    """Return vectors around one corner a class, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(per_class * classes) % classes
    return torch.randn(len(labels), 6, generator=generator) + apart * F.one_hot(labels, 6), labels


def photo_set(name: str, *images: torch.Tensor, classes=("only",)) -> PhotoSet:
    """Make a data set of three tensors of photos, for training, validation and test, all of the first class."""
    store = torch.cat(images)
    splits, start = [], 0
    for part, own in zip(("train", "validation", "test"), images, strict=True):
        rows = torch.arange(start, start + len(own))
        names = tuple(f"{name}/{part}/{k}" for k in range(len(own)))
        splits.append(Split(store, rows, torch.zeros(len(own), dtype=torch.long), names, names))
        start += len(own)
    return PhotoSet(name, classes, store.shape[-1], *splits)


@pytest.fixture(scope="module")
def drawn():
    """Return 30 different scenes of 96 pixels."""
    return scenes.draw(30, size=96).images


# ------------------------------------------------------------------------------------------------------ labels


def test_margins_by_hand():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.25, 0.25, 0.5]])
    assert audit.margins(probabilities, torch.tensor([0, 0, 1])).tolist() == pytest.approx([0.5, -0.5, -0.25])


def test_swapped_labels_come_first():
    vectors, labels = clusters()
    given = labels.clone()
    swapped = [3, 50, 77, 120, 171]
    given[swapped] = (given[swapped] + 1) % 3
    found = audit.suspicious_labels(vectors, given)
    assert sorted(found.order[:5].tolist()) == swapped
    assert (found.margins[swapped] < -0.5).all()
    assert torch.equal(found.predicted[swapped], labels[swapped])
    assert found.probabilities.shape == (180, 3)
    assert torch.allclose(found.probabilities.sum(1), torch.ones(180, dtype=torch.float64))
    assert torch.equal(found.margins[found.order], found.margins.sort().values)
    assert found.accuracy == pytest.approx(float(found.confusion.trace()) / 180)
    assert found.confusion.sum(1).tolist() == torch.bincount(given).tolist()


def test_no_photo_judges_itself():
    """Vectors that say nothing about the class let no classifier agree with the labels beyond chance."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(100) % 2
    found = audit.suspicious_labels(torch.randn(100, 200, generator=generator), labels)
    assert 0.3 < found.accuracy < 0.7


def test_the_seed_decides_the_folds():
    vectors, labels = clusters(20, apart=1.0)
    one, same, other = (audit.suspicious_labels(vectors, labels, seed=seed).probabilities for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0] * 9 + [1] * 3)}, "class 1 has 3 photos, and 5 folds need 5"),
        ({"labels": torch.tensor([0] * 6 + [2] * 6)}, "class 1 has 0 photos"),
        ({"labels": torch.zeros(12, dtype=torch.long)}, "same label"),
        ({"labels": torch.arange(12) % 2 - 1}, "labels from 0"),
        ({"labels": torch.arange(10) % 2}, "give \\(N, D\\) and \\(N,\\)"),
        ({"vectors": torch.full((12, 2), math.nan)}, "not finite"),
        ({"folds": 1}, "folds is 1"),
    ],
)
def test_what_cannot_be_judged_is_refused(change, message):
    good = {"vectors": torch.zeros(12, 2), "labels": torch.arange(12) % 2}
    with pytest.raises(DataError, match=message):
        audit.suspicious_labels(**(good | change))


def test_swapped_scenes_are_found_by_a_shipped_network():
    """Of two kinds of easy scenes, which the network tells well enough although it has learnt from photographs."""
    photos = scenes.load(size=64, train=500, test=250, controls=scenes.EASY, progress=False)
    splits = (photos.train, photos.validation, photos.test)
    vectors = torch.cat([features.embeddings(cnnhw.load("resnet"), split) for split in splits])
    labels = torch.cat([split.labels for split in splits])
    berry, other = (scenes.CLASSES.index(name) for name in ("berry", "other"))
    rows = ((labels == berry) | (labels == other)).nonzero().flatten()
    given = (labels[rows] == other).long()
    swapped = torch.randperm(len(given), generator=torch.Generator().manual_seed(0))[:10]
    given[swapped] = 1 - given[swapped]
    first = audit.suspicious_labels(vectors[rows], given).order[:20].tolist()
    assert len(set(first) & set(swapped.tolist())) >= 8  # by chance it would be one


# -------------------------------------------------------------------------------------------------- duplicates


def bits_apart(one, other):
    return [bin(int(a) ^ int(b)).count("1") for a, b in zip(one, other, strict=True)]


def test_dhash_by_hand():
    rising = torch.arange(9, dtype=torch.uint8).repeat_interleave(2).expand(1, 3, 16, 18) * 10
    assert int(audit.dhash(rising.contiguous())[0]) == 2**64 - 1
    assert int(audit.dhash(rising.flip(3))[0]) == 0
    photo = torch.zeros(1, 3, 8, 9, dtype=torch.uint8)
    photo[0, :, 0, 1:] = 200  # one step up, in the first row between the first two areas
    assert int(audit.dhash(photo)[0]) == 2**63
    assert audit.dhash(photo).dtype == np.uint64


def test_areas_average_all_pixels():
    for side in (8, 9, 13, 64):
        weights = audit._areas(side, 9)
        assert torch.allclose(weights.sum(1), torch.ones(9))
        assert torch.allclose(weights.sum(0), torch.full((side,), 9 / side))


def test_dhash_survives_brightness_blur_and_scaling(drawn):
    hashes = audit.dhash(drawn)
    dark = (drawn.float() / 2).round().byte()
    assert np.mean(bits_apart(hashes, audit.dhash(dark))) < 1
    even = drawn // 2 * 2
    assert audit.dhash(even).tolist() == audit.dhash(even // 2).tolist()
    kernel = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])).div(16).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(drawn.float(), (1, 1, 1, 1), mode="reflect"), kernel, groups=3).round().byte()
    assert max(bits_apart(hashes, audit.dhash(blurred))) <= 4
    small = F.interpolate(drawn.float(), size=(48, 48), mode="area").round().byte()
    assert max(bits_apart(hashes, audit.dhash(small))) <= 4
    assert np.mean(bits_apart(hashes, np.roll(hashes, 1))) > 15


def test_dhash_refuses_what_is_no_photo(drawn):
    with pytest.raises(DataError, match="uint8"):
        audit.dhash(drawn.float())
    with pytest.raises(DataError, match="shape"):
        audit.dhash(drawn[0])
    assert audit.dhash(drawn[:0]).shape == (0,)


def test_planted_copies_within_a_set(drawn):
    train, validation, test = drawn[:14].clone(), drawn[14:18].clone(), drawn[18:24].clone()
    train[5] = train[2]
    validation[1] = train[9]
    test[3] = (train[7].float() * 0.8).byte()
    pairs = audit.near_duplicates(photo_set("set", train, validation, test), distance=2)
    found = [(pair.names, pair.parts) for pair in pairs]
    assert found == [
        (("set/train/7", "set/test/3"), ("train", "test")),
        (("set/train/9", "set/validation/1"), ("train", "validation")),
        (("set/train/2", "set/train/5"), ("train", "train")),
    ]
    assert [pair.leaks for pair in pairs] == [True, False, False]
    assert [pair.distance for pair in pairs][1:] == [0, 0]
    assert pairs[0].labels == ("only", "only")


def test_planted_copies_between_sets_of_different_size(drawn):
    first = photo_set("first", drawn[:10], drawn[10:12], drawn[12:15])
    small = F.interpolate(drawn.float(), size=(48, 48), mode="area").round().byte()
    second = photo_set("second", small[[20, 21, 13, 22]], small[23:24], small[[4, 24]])
    pairs = audit.near_duplicates(first, second, distance=4)
    assert {pair.names for pair in pairs} == {("first/train/4", "second/test/0"), ("first/test/1", "second/train/2")}
    assert all(pair.leaks for pair in pairs)


def test_greatest_distance_gives_each_pair_once(drawn):
    photos = photo_set("set", drawn[:5], drawn[5:6], drawn[6:8])
    pairs = audit.near_duplicates(photos, distance=64, alike=-1)
    assert len({frozenset(pair.names) for pair in pairs}) == len(pairs) == 8 * 7 // 2
    assert len(audit.near_duplicates(photos, photos, distance=64, alike=-1)) == 64
    for distance in (-1, 65):
        with pytest.raises(DataError, match="0 to 64"):
            audit.near_duplicates(photos, distance=distance)
    with pytest.raises(DataError, match="-1 to 1"):
        audit.near_duplicates(photos, alike=1.5)


def test_distances_are_those_of_the_hashes(drawn):
    photos = photo_set("set", drawn[:20], drawn[20:21], drawn[21:22])
    hashes = audit.dhash(drawn)
    for pair in audit.near_duplicates(photos, distance=40, alike=-1):
        row, column = (
            {"train": 0, "validation": 20, "test": 21}[part] + int(name.split("/")[-1])
            for part, name in zip(pair.parts, pair.names, strict=True)
        )
        assert bits_apart(hashes[[row]], hashes[[column]]) == [pair.distance]


def on_white(count, side=64, plain=False):
    """Make photos of small grey things on one white background, with some noise."""
    rng = np.random.default_rng(0)
    photos = np.full((count, 3, side, side), 250.0)
    y, x = np.mgrid[:side, :side]
    for photo in () if plain else photos:
        down, across, height, width = (rng.integers(low, high) for low, high in ((16, 48), (16, 48), (4, 12), (4, 12)))
        photo[:, (abs(y - down) < height) & (abs(x - across) < width)] = rng.integers(0, 200)
    return torch.from_numpy(photos.round().astype(np.uint8))


def test_things_on_a_plain_background_are_no_copies_but_copies_of_them_are():
    photos = on_white(300)
    copy = (F.interpolate(photos[7:8].float(), size=(48, 48), mode="area") * 0.9).round().byte()
    copy = F.interpolate(copy.float(), size=(64, 64), mode="bilinear").round().byte()
    found = photo_set("set", photos[:200], photos[200:250], torch.cat([photos[250:], copy]))
    alarms = audit.near_duplicates(found, alike=-1)
    pairs = audit.near_duplicates(found)
    assert ("set/train/7", "set/test/50") in {pair.names for pair in pairs}
    assert len(alarms) > 1000  # by their hashes alone
    assert len(pairs) < 20


def test_blank_photos_are_copies_only_if_their_files_are_and_pairs_grow_with_the_photos():
    blank = on_white(1500, side=16, plain=True)
    photos = photo_set("blank", blank[:1400], blank[1400:1450], blank[1450:])
    assert audit.near_duplicates(photos) == []
    splits = [dataclasses.replace(split, digests=("same",) * len(split)) for split in photos.splits]
    copies = dataclasses.replace(photos, train=splits[0], validation=splits[1], test=splits[2])
    pairs = audit.near_duplicates(copies)
    assert len(pairs) <= 20 * 1500
    assert pairs[0].leaks  # of so many, those are given that matter


def test_thousands_of_photos_take_seconds():
    generator = torch.Generator().manual_seed(0)
    first, second = (
        photo_set(name, *(torch.randint(0, 256, (n, 3, 16, 16), generator=generator, dtype=torch.uint8) for n in sizes))
        for name, sizes in (("first", (3600, 30, 40)), ("second", (7000, 500, 500)))
    )
    start = time.perf_counter()
    audit.near_duplicates(first, second, distance=2)
    assert time.perf_counter() - start < 10


# ------------------------------------------------------------------------------------------------- the command

ODD = ("$cats\\x$ “µ”", "<b>dogs &amp; co")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make two classes of striped photos with odd names; one photo is in the wrong folder, and one is there twice."""
    rng = np.random.default_rng(0)

    def photo(label):
        pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
        pixels[(slice(None), slice(None, None, 4)) if label else slice(None, None, 4)] += 120
        pixels[rng.integers(0, 24) :, rng.integers(0, 24) :] //= 2
        return Image.fromarray(pixels)

    for label, name in enumerate(ODD):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(25):
            photo(label).save(tmp_path / "pets" / name / f"a {number}.png")
    photo(1).save(tmp_path / "pets" / ODD[0] / "<i>'wrong' & \"odd\"é.png")
    for name in ODD:  # in both classes
        Image.open(tmp_path / "pets" / ODD[1] / "a 3.png").save(tmp_path / "pets" / name / "$copy$.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pets"


@pytest.fixture
def command(run):
    return lambda *words: run("data", "audit", *words)


@pytest.mark.filterwarnings("ignore:.*more than one")
def test_command(folder, command, tmp_path):
    code, out, err = command("pets", "--against", "pets", "--json", "a/audit.json", "--out", "sheet.png", "--most", 5)
    assert code == 0, err
    found = json.loads((tmp_path / "a" / "audit.json").read_text(encoding="utf-8"))
    wrong = {f"{ODD[0]}/<i>'wrong' & \"odd\"é.png", f"{ODD[0]}/$copy$.png"}
    assert {entry["name"] for entry in found["suspicious"][:2]} == wrong
    for entry in found["suspicious"][:2]:
        assert (entry["label"], entry["predicted"]) == ODD
        assert entry["probabilities"][0] - entry["probabilities"][1] == pytest.approx(entry["margin"], abs=2e-4)
        assert f"{entry['name']} ({entry['part']})" in out
    assert found["model"] == "fast"
    assert found["data"]["classes"] == list(ODD)
    assert found["data"]["fingerprint"] == cnnhw.data.load("pets", size=found["data"]["size"]).fingerprint
    total = sum(map(sum, found["confusion"]))
    assert total == sum(found["data"]["photos"].values()) == 53
    assert found["accuracy"] == pytest.approx(sum(found["confusion"][k][k] for k in (0, 1)) / total)
    assert found["disagreements"] == total - sum(found["confusion"][k][k] for k in (0, 1))
    assert {"date", "versions", "against"} <= set(found)

    within, between = found["duplicates"]
    assert (within["sets"], between["sets"]) == (["pets"], ["pets", "pets"])
    copies = {f"{ODD[1]}/a 3.png", f"{ODD[1]}/$copy$.png", f"{ODD[0]}/$copy$.png"}
    exact = [set(pair["names"]) for pair in within["pairs"] if pair["distance"] == 0]
    assert sorted(map(sorted, exact)) == sorted(sorted(copies - {one}) for one in copies)
    assert within["other_label"] == 2
    assert between["count"] >= 53
    assert f"within pets, up to 6 of 64 bits apart: {within['count']} pairs" in out
    assert f"{within['leaks']} of a training and a test photo, {within['other_label']} of two classes." in out
    assert f", labelled {ODD[0]} and {ODD[1]}" in out

    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
    assert not list(tmp_path.rglob("*.tmp"))


def test_nothing_suspicious_nothing_drawn(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(("black", "white")):
        (tmp_path / "plain" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (16, 16), (200 * label + number,) * 3).save(tmp_path / "plain" / name / f"{number}.png")
    code, out, err = command("plain", "--out", "sheet.png", "--size", 32)
    assert code == 0, err
    assert "agree with its label in 100.0% of cases" in out
    assert "No label is suspicious" in out
    assert not (tmp_path / "sheet.png").exists()


def test_mistakes(folder, command):
    for words, message in (
        (("pet",), "unknown data set or folder 'pet'"),
        (("pets", "--weights", "fats"), "Did you mean 'fast'"),
        (("pets", "--most", 0), "--most"),
    ):
        code, _, err = command(*words)
        assert code == 2
        assert message in err
        assert "Traceback" not in err


def test_small_classes_get_fewer_folds(photos):
    model = cnnhw.models.create("q1_shallow", 3, size=16)
    few = [
        dataclasses.replace(
            part, index=part.index[:3], labels=part.labels[:3], names=part.names[:3], digests=part.digests[:3]
        )
        for part in (photos.train, photos.validation, photos.test)
    ]
    small = dataclasses.replace(photos, train=few[0], validation=few[1], test=few[2])
    assert audit.run(small, model)["folds"] == 3
