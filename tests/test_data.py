"""Folders of the user's own, decoding, splits and the cache."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import shutil
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnnhw.data
from cnnhw.data import cache, splits
from cnnhw.data.decode import decode
from cnnhw.errors import DataError, SkippedPhotosWarning, UnknownNameError


def picture(seed: int, size: tuple[int, int] = (20, 16)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def fill(folder: Path, classes=("cat", "dog"), count: int = 5, start: int = 0) -> Path:
    for label, name in enumerate(classes):
        for k in range(count):
            write(folder / name / f"{k}.png", encoded(picture(start + 1000 * label + k)))
    return folder


def load(path, **options):
    return cnnhw.data.load(path, **{"size": 8, "progress": False, **options})


@pytest.fixture
def place(tmp_path):
    """Return a folder beside the cache folder."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def parts(photos):
    return {name: getattr(photos, name) for name in splits.PARTS}


# ---------------------------------------------------------------------------------------------------- folders


def test_a_folder_of_class_folders(place):
    photos = load(fill(place / "pets", count=20))
    assert photos.name == "pets"
    assert photos.classes == ("cat", "dog")
    assert {name: len(part) for name, part in parts(photos).items()} == {
        "train": 28,
        "validation": 4,
        "test": 8,
    }
    assert photos.train.images.shape == (28, 3, 8, 8)
    assert photos.train.images.dtype == torch.uint8
    assert photos.train.labels.tolist() == [0] * 14 + [1] * 14
    assert photos.licence == ""
    assert photos.skipped == ()
    for part in parts(photos).values():
        for row, name in enumerate(part.names):
            data = (place / "pets" / name).read_bytes()
            assert np.array_equal(part.images[row], decode(data, 8).transpose(2, 0, 1))
            assert part.digests[row] == hashlib.sha256(data).hexdigest()[:16]


def test_photos_come_in_natural_order(place):
    photos = load(fill(place, count=15))
    numbers = [int(Path(name).stem) for name in photos.train.names]
    assert numbers[: numbers.index(max(numbers)) + 1] == sorted(numbers[: numbers.index(max(numbers)) + 1])
    assert sorted(["10.png", "9.png", "009.png", "b1", "a"], key=splits.natural) == [
        "009.png",
        "9.png",
        "10.png",
        "a",
        "b1",
    ]


def test_given_parts_are_kept(place):
    for start, part in enumerate(["train", "test", "val"]):
        fill(place / part, count=3, start=start * 100)
    photos = load(place)
    assert all(name.startswith("train/") for name in photos.train.names)
    assert all(name.startswith("test/") for name in photos.test.names)
    assert all(name.startswith("val/") for name in photos.validation.names)
    assert len(photos.train) == len(photos.test) == len(photos.validation) == 6


def test_validation_is_cut_from_train_and_test_left_alone(place):
    fill(place / "train", count=20)
    fill(place / "test", count=4, start=100)
    photos = load(place)
    assert (len(photos.train), len(photos.validation), len(photos.test)) == (36, 4, 8)
    assert all(name.startswith("train/") for name in photos.train.names + photos.validation.names)
    assert all(name.startswith("test/") for name in photos.test.names)


def test_a_class_may_be_called_train(place):
    photos = load(fill(place, classes=("car", "plane", "train")))
    assert photos.classes == ("car", "plane", "train")


def test_deeper_folders_belong_to_the_class(place):
    fill(place, count=3)
    write(place / "cat" / "2024" / "more" / "x.png", encoded(picture(77)))
    photos = load(place)
    assert sum(len(part) for part in parts(photos).values()) == 7


def test_hidden_files_are_ignored(place):
    fill(place)
    for name in (".DS_Store", "cat/Thumbs.db", "cat/desktop.ini", "dog/.hidden.png", "__MACOSX/cat/._0.png"):
        write(place / name, b"nothing")
    write(place / "README.txt", b"about my pets")
    photos = load(place)
    assert photos.classes == ("cat", "dog")
    assert photos.skipped == ()


def test_names_with_accents_are_the_same_everywhere(place):
    fill(place / "composed", classes=("caf\u00e9", "dog"))
    fill(place / "decomposed", classes=("cafe\u0301", "dog"))
    assert load(place / "composed").fingerprint == load(place / "decomposed").fingerprint


def test_names_that_are_not_text(place):
    fill(place)
    try:
        Path(os.fsdecode(os.fsencode(place) + b"/cat/\xff.png")).write_bytes(encoded(picture(99)))
    except OSError:
        pytest.skip("this file system takes only text")
    assert sum(len(part) for part in parts(load(place)).values()) == 11


@pytest.mark.filterwarnings("ignore:.*more than one:UserWarning")
def test_links(place):
    fill(place / "pets")
    fill(place / "elsewhere", classes=("bird",), start=500)
    outside = write(place / "one.png", encoded(picture(400)))
    try:
        (place / "pets" / "cat" / "link.png").symlink_to(outside)
    except OSError:
        pytest.skip("links cannot be made here")
    (place / "pets" / "bird").symlink_to(place / "elsewhere" / "bird", target_is_directory=True)
    (place / "pets" / "cat" / "loop").symlink_to(place / "pets", target_is_directory=True)
    (place / "pets" / "dog" / "up").symlink_to(place, target_is_directory=True)
    (place / "pets" / "dog" / "self.png").symlink_to(place / "pets" / "dog" / "self.png")
    with pytest.warns(SkippedPhotosWarning, match=r"self\.png"):
        photos = load(place / "pets")
    assert photos.classes == ("bird", "cat", "dog")
    assert "cat/link.png" in sum((part.names for part in parts(photos).values()), ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "no class folders"),
        (lambda path: write(path / "1.png", encoded(picture(1))), "no class folders, but 1 photos"),
        (lambda path: fill(path, classes=("cat",)), "one class only, 'cat'"),
        (lambda path: (fill(path) / "emu").mkdir(), "emu is empty"),
        (lambda path: (fill(path / "train"), fill(path / "test", ("cat",))), "the part test has no photos of dog"),
        (lambda path: (fill(path / "train"), fill(path / "extra")), "holds extra beside train"),
        (lambda path: fill(path, ("train", "test")), "no class folders, but 10 photos"),
        (lambda path: fill(path, count=2), "too few .* 2 of its 2 classes: 'cat' .2, none for train., 'dog'"),
        (lambda path: path.write_bytes(b"x"), "is a file"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_folders_that_cannot_be_used(place, make, message):
    make(place / "pets")
    with pytest.raises(DataError, match=message) as caught:
        load(place / "pets")
    assert str(place / "pets") in str(caught.value)


@pytest.mark.parametrize("size", [7, 1025, 64.5, "64", None])
def test_sizes_that_cannot_be_used(place, size):
    with pytest.raises(DataError, match="size"):
        load(fill(place), size=size)


def test_other_arguments_that_cannot_be_used(place):
    with pytest.raises(DataError, match="split_seed"):
        load(place, split_seed=0.5)
    with pytest.raises(DataError, match="on_error"):
        load(place, on_error="ignore")


def test_unknown_names():
    with pytest.raises(UnknownNameError, match=r"'flower'. Did you mean 'flowers'"):
        load("flower")
    with pytest.raises(UnknownNameError, match="Or give a folder"):
        load("no/such/folder")
    for nothing in ("", "~nobody-of-this-name/x", "x" * 5000, "a\0b", None, 3):
        with pytest.raises(UnknownNameError):
            load(nothing)


def test_scenes_are_handed_on(monkeypatch):
    monkeypatch.setattr("cnnhw.data.scenes.load", lambda **options: options)
    assert cnnhw.data.load(size=32, progress=False) == {"size": 32, "split_seed": 0, "progress": False}


def test_copies_in_several_parts_are_reported(place):
    fill(place / "train", count=10)
    fill(place / "test", count=3)
    with pytest.warns(UserWarning, match="6 photos are in more than one of train"):
        photos = load(place)
    assert "6 photos are in more than one" in photos.note


def test_copies_are_named_with_the_way_to_the_others(place):
    fill(place, count=10)
    shutil.copy(place / "cat" / "3.png", place / "dog" / "same.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        photos = load(place)
    (mixed,) = [text for text in map(str, (one.message for one in caught)) if "in more than one class" in text]
    assert "cat/3.png and dog/same.png" in mixed
    assert f"cnnhw data audit {place}" in mixed
    assert "1 photo is in more than one class" in photos.note


def test_a_sliver_of_the_range_is_told(place):
    for number in range(12):
        dark = np.random.default_rng(number).integers(0, 4096, (16, 16)).astype(np.uint16)
        write(place / "cat" / f"{number}.png", encoded(Image.fromarray(dark)))
        write(place / "dog" / f"{number}.png", encoded(Image.fromarray(dark // 2)))
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(UserWarning, match=r"use levels \d to 1\d of 0 to 255 alone"):
            load(place)


# ---------------------------------------------------------------------------------------------------- decoding


BROKEN = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"not a photo at all", "not a photo in a known format"),
    "cut.png": (encoded(picture(1, (90, 90)))[:-9000], "damaged"),
    "cut.jpg": (encoded(picture(1, (90, 90)), "JPEG")[:2000], "damaged"),
    "vector.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a photo in a known format"),
}


def bomb(edge: int) -> bytes:
    """Return a BMP whose header promises edge times edge pixels."""
    header = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    header[18:26] = edge.to_bytes(4, "little") * 2
    return bytes(header)


def test_what_is_not_a_photo_is_skipped_and_reported(place):
    fill(place)
    for name, (data, _) in BROKEN.items():
        write(place / "cat" / name, data)
    write(place / "cat" / "bomb.bmp", bomb(20_000))
    write(place / "cat" / "bomb2.bmp", bomb(10_100))
    write(place / "loose.jpg", encoded(picture(5), "JPEG"))
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(SkippedPhotosWarning, match="8 left out.*and 5 more"):
            photos = load(place)
        reasons = dict(photos.skipped)
        for name, (_, reason) in BROKEN.items():
            assert reason in reasons[f"cat/{name}"]
        assert "100 megapixels" in reasons["cat/bomb.bmp"]
        assert "100 megapixels" in reasons["cat/bomb2.bmp"]
        assert "outside the class folders" in reasons["loose.jpg"]
        assert sum(len(part) for part in parts(photos).values()) == 10
    with pytest.raises(DataError, match="not readable photos"):
        load(place, on_error="raise")


def test_refusing_names_the_file(place):
    write(fill(place) / "cat" / "empty.jpg", b"")
    with pytest.raises(DataError, match=r"cat/empty\.jpg \(empty file\)"):
        load(place, on_error="raise")


def test_a_class_without_readable_photos(place):
    fill(place)
    for path in (place / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.warns(SkippedPhotosWarning), pytest.raises(DataError, match="'dog'"):
        load(place)


def test_files_that_may_not_be_read(place, monkeypatch):
    path = fill(place) / "cat" / "0.png"
    path.chmod(0o444)

    def read_bytes(self, read=Path.read_bytes):
        if self.name == "0.png":
            raise PermissionError(13, "Permission denied")
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)  # as permissions mean nothing to an administrator
        with pytest.warns(SkippedPhotosWarning, match="2 left out: cat/0.png .cannot be read: Permission denied"):
            load(place)
    path.chmod(0o666)  # a file that may now be read is tried again
    assert load(place).skipped == ()


def test_what_is_not_a_file_is_skipped(place):
    fill(place)
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(place / "cat" / "pipe.png")
    with pytest.warns(SkippedPhotosWarning, match="not a regular file"):
        load(place)


def test_files_too_large_are_not_read(place, monkeypatch):
    monkeypatch.setattr("cnnhw.data.archives.MEMBER_LIMIT", 1500)
    write(fill(place) / "cat" / "film.png", bytes(1600))
    with pytest.warns(SkippedPhotosWarning, match="larger than"):
        load(place)


def test_grey_palette_and_bilevel_photos():
    grey = picture(0).convert("L")
    for image in (grey, grey.convert("P"), grey.convert("1")):
        pixels = decode(encoded(image), 8)
        assert pixels.shape == (8, 8, 3)
        assert (pixels[..., :1] == pixels).all()
        assert abs(pixels.mean() - np.asarray(image.convert("L")).mean()) < 4


def test_sixteen_bits_are_scaled():
    grey = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels = decode(encoded(Image.fromarray(grey), kind), 8)[..., 0]
        assert np.abs(pixels - np.round(grey / 257)).max() <= 1


def test_transparent_parts_are_white():
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 4, 8))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 255, 200, 0, 0])
    palette.paste(0, (0, 0, 4, 8))
    for data in (encoded(image), encoded(palette, transparency=0), encoded(palette, "GIF", transparency=0)):
        pixels = decode(data, 8)
        assert (pixels[:, :4] == 255).all()
        assert (pixels[:, 4:] == (200, 0, 0)).all()


def test_cmyk_photos():
    pixels = decode(encoded(Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK"), "JPEG"), 8)
    assert np.abs(pixels.astype(int) - (250, 10, 10)).max() < 6


def test_photos_are_turned_upright():
    image = Image.new("RGB", (32, 32), "black")
    image.paste("white", (0, 0, 32, 16))  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    pixels = decode(encoded(image, "JPEG", exif=exif, quality=95), 8)
    assert pixels[:, 5:].min() > 200
    assert pixels[:, :3].max() < 50
    broken = encoded(image, "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert decode(broken, 8)[:3].min() > 200


def test_names_do_not_matter(place):
    fill(place)
    write(place / "cat" / "a.jpg", encoded(picture(50), "WEBP", lossless=True))
    write(place / "cat" / "b.txt", encoded(picture(51), "BMP"))
    write(place / "cat" / "c", encoded(picture(52), "PPM"))
    assert sum(len(part) for part in parts(load(place)).values()) == 13


def test_squashed_or_cropped():
    image = Image.new("RGB", (60, 20), "black")
    image.paste("white", (20, 0, 40, 20))
    assert decode(encoded(image), 10, crop=True).min() == 255
    squashed = decode(encoded(image), 12)
    assert squashed[:, :3].max() == 0
    assert squashed[:, 5:7].min() == 255


def test_large_jpegs_shrink_to_nearly_the_same():
    ramp = np.add.outer(np.arange(800), np.arange(1200)) / 2000 * 255
    image = Image.fromarray(ramp.astype(np.uint8))
    small = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decode(encoded(image, "JPEG", quality=95), 32)[..., 0] - small).max() <= 3


def test_one_photo(place):
    path = write(place / "x.png", encoded(picture(3)))
    photo = cnnhw.data.read_photo(path, size=16)
    assert photo.shape == (3, 16, 16)
    assert photo.dtype == torch.uint8
    with pytest.raises(DataError, match="cannot be read"):
        cnnhw.data.read_photo(place / "none.png")
    with pytest.raises(DataError, match=r"y\.png cannot be used: empty file"):
        cnnhw.data.read_photo(write(place / "y.png", b""))


# ---------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("case", range(40))
def test_splits_cover_everything_once(case):
    chance = np.random.default_rng(case)
    counts = chance.integers(3, 90, size=chance.integers(2, 6))
    labels = np.repeat(np.arange(len(counts)), counts).tolist()
    names = [f"{label}/{k}.jpg" for k, label in enumerate(labels)]
    chosen = splits.split(names, labels, ["train"] * len(names), seed=case)
    for label, count in enumerate(counts):
        own = [part for part, at in zip(chosen, labels, strict=True) if at == label]
        assert own.count("test") == max(1, round(0.2 * count))
        assert own.count("validation") == max(1, round(0.1 * count))
        assert own.count("train") == count - own.count("test") - own.count("validation") > 0
    order = chance.permutation(len(names))
    shuffled = splits.split([names[i] for i in order], [labels[i] for i in order], ["train"] * len(names), case)
    assert [chosen[i] for i in order] == shuffled


def test_splits_never_change():
    names = [f"a/{k}.jpg" for k in range(10)]
    chosen = dict(zip(names, splits.split(names, [0] * 10, ["train"] * 10), strict=True))
    assert [name for name in names if chosen[name] == "validation"] == ["a/4.jpg"]
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"0/{name}".encode()).digest())
    assert [chosen[name] for name in ranked] == ["test"] * 2 + ["validation"] + ["train"] * 7


def test_split_seed(place):
    fill(place, count=20)
    first, again, other = load(place), load(place), load(place, split_seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert set(first.test.names) != set(other.test.names)
    assert len(list(cache.folder().glob("*.npy"))) == 1
    sets = [set(part.names) for part in parts(first).values()]
    assert len(set().union(*sets)) == sum(map(len, sets)) == 40


# ---------------------------------------------------------------------------------------------------- cache


def test_photos_are_decoded_once(place, monkeypatch):
    fill(place / "pets")
    first = load(place / "pets")
    with monkeypatch.context() as patch:
        patch.setattr("cnnhw.data.decode.decode", None)
        again = load(place / "pets")
    assert first.fingerprint == again.fingerprint
    assert torch.equal(first.train.images, again.train.images)
    load(place / "pets", size=9)
    load(place / "pets", crop=True)
    assert len(list(cache.folder().glob("*.npy"))) == 3
    assert not list(cache.folder().glob("*.tmp"))


def test_a_survey_counts_the_files_and_tells_their_side(place):
    for k, size in enumerate(((20, 16), (30, 24), (40, 50))):
        write(place / "a" / f"{k}.png", encoded(picture(k, size)))
        write(place / "b" / f"{k}.png", encoded(picture(k, size)))
    write(place / "b" / "broken.png", b"")
    assert cnnhw.data.survey(place) == (7, 24)


@pytest.mark.slow
def test_a_survey_counts_the_scenes_without_drawing_them():
    photos = cnnhw.data.load("scenes", size=16, progress=False)
    assert cnnhw.data.survey("scenes") == (sum(map(len, photos.splits)), 1024)


def test_the_fingerprint_does_not_depend_on_the_place(place):
    assert load(fill(place / "a")).fingerprint == load(fill(place / "b" / "c")).fingerprint


def test_changed_files_are_decoded_again(place):
    path = fill(place) / "cat" / "0.png"
    before = load(place)
    path.write_bytes(encoded(picture(4000)))
    os.utime(path, ns=(1, 1))
    assert load(place).fingerprint != before.fingerprint


@pytest.mark.parametrize("damage", ["cut", "lengthened", "other pixel", "no array", "no meta", "bad meta"])
def test_damaged_entries_are_made_again(place, damage):
    fill(place)
    before = load(place)
    expected = before.train.images.clone()
    (array,), (meta,) = cache.folder().glob("*.npy"), cache.folder().glob("*.json")
    del before
    if damage == "no array":
        array.unlink()
    elif damage == "no meta":
        meta.unlink()
    elif damage == "bad meta":
        meta.write_text('{"bytes": 3')
    else:
        data = array.read_bytes()
        array.unlink()
        damaged = {
            "cut": data[:-100],
            "lengthened": data + bytes(100),
            "other pixel": data[:-1] + bytes([data[-1] ^ 1]),
        }
        array.write_bytes(damaged[damage])
    assert torch.equal(load(place).train.images, expected)


def test_changing_photos_in_memory_leaves_the_cache_alone(place):
    photos = load(fill(place))
    expected = photos.train.images.clone()
    photos.train.store.zero_()
    assert torch.equal(load(place).train.images, expected)


def test_a_cache_that_cannot_be_written_to(place, monkeypatch):
    write(place / "file", b"")
    monkeypatch.setenv("CNNHW_CACHE", str(place / "file" / "below"))
    with pytest.raises(DataError, match="CNNHW_CACHE"):
        load(fill(place / "pets"))


def test_a_full_disk(place, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=5))
    with pytest.raises(DataError, match="free disk space: free some space"):
        load(fill(place / "pets"))


def test_building_from_memory():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    key = cache.key("drawn", {"seed": 1})
    assert cache.load(key) is None

    def fill_in(store):
        store[...] = images.numpy()
        return {"labels": [0, 1, 2, 3]}

    stored, meta = cache.build(key, tuple(images.shape), fill_in)
    assert torch.equal(stored, images)
    assert meta == {"labels": [0, 1, 2, 3]}
    assert key != cache.key("drawn", {"seed": 2})


def _load_in_process(path: str) -> str:
    return load(path).fingerprint


def test_two_processes_at_once(place):
    fill(place, count=40)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        prints = pool.map(_load_in_process, [str(place)] * 4, chunksize=1)
    assert set(prints) == {load(place).fingerprint}
    assert len(list(cache.folder().iterdir())) == 2


def test_no_other_warnings(place):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(fill(place))
