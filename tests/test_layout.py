"""How folders of the user's own are understood: from structure, and not at all where two readings are possible."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest
from test_data import encoded, fill, load, parts, picture, write

import cnnhw.data
from cnnhw.data import archives, cache
from cnnhw.data.archives import Folder, open_container
from cnnhw.data.layout import part_of
from cnnhw.errors import DataError, SkippedPhotosWarning, UnknownNameError


@pytest.fixture
def place(tmp_path):
    """Return a folder beside the cache folder."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def lay(root: Path, **folders: int) -> Path:
    """Put so many photos into each folder, all different."""
    for number, (name, count) in enumerate(folders.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            write(root / name / f"{k}.png", encoded(picture(1000 * number + k)))
    return root


def counts(photos):
    return tuple(len(part) for part in parts(photos).values())


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Training", "train"), ("seg_train", "train"), ("training_set", "train"), ("TrainSet", "train"),
        ("train-images", "train"), ("TRAIN", "train"), ("test", "test"), ("Testing", "test"), ("imagesTest", "test"),
        ("holdout", "test"), ("val", "validation"), ("valid", "validation"), ("dev", "validation"),
        ("Validation Data", "validation"), ("train_test", ""), ("trains", ""), ("trainee", ""), ("contest", ""),
        ("valley", ""), ("images", ""), ("", ""),
    ],
)  # fmt: skip
def test_parts_by_name(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("train", "test", "validation"),
    [
        ("Training", "Testing", ""), ("seg_train/seg_train", "seg_test/seg_test", ""),
        ("training_set/training_set", "test_set/test_set", "val_set"), ("data/train", "data/test", "data/valid"),
        ("a/b/TRAIN", "a/b/TEST", ""), ("train/train/images", "test/test/images", ""),
    ],
)  # fmt: skip
def test_parts_under_other_names_and_doubled(place, train, test, validation):
    for start, part in enumerate(filter(None, (train, test, validation))):
        fill(place / part, count=10, start=100 * start)
    photos = load(place)
    assert photos.classes == ("cat", "dog")
    assert counts(photos) == ((20, 20, 20) if validation else (18, 2, 20))
    assert all(name.startswith(f"{train}/") for name in photos.train.names)
    assert all(name.startswith(f"{test}/") for name in photos.test.names)
    assert photos.note.startswith(f"training photos from {train}")
    assert f"test photos from {test}" in photos.note


def test_parts_below_the_classes(place):
    for start, part in enumerate(("train", "test")):
        for name in ("cat", "dog"):
            lay(place / name / part, x=4)
            write(place / name / part / "own.png", encoded(picture(ord(name[0]) + start)))
    with pytest.warns(UserWarning, match="more than one"):
        photos = load(place)
    assert photos.classes == ("cat", "dog")
    assert len(photos.test) == 10
    assert all("/test/" in name for name in photos.test.names)
    assert photos.note.startswith("training photos from train, test photos from test of each class")


def test_folders_around_all_of_it(place):
    photos = load(fill(place / "archive" / "pets", count=5).parents[1])
    assert photos.classes == ("cat", "dog")
    assert photos.note == "class folders in archive/pets"
    assert photos.train.names[0].startswith("archive/pets/cat/")


def test_plain_class_folders_need_no_words(place):
    fill(place)
    write(place / "README.txt", b"about my pets")
    write(place / "labels.csv", b"photo,label")
    assert load(place).note == ""


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["batch1/cat", "batch1/dog", "batch2/cat", "batch2/dog"],
         r"two ways, as batch1, batch2 all hold folders cat, dog.*--layout class .in Python.*--layout part/class"),
        (["Lernen/cat", "Lernen/dog", "Lernen/emu", "Pruefen/cat", "Pruefen/dog"], "two ways.*--layout part/class"),
        (["cat/train", "cat/test", "dog"], "two ways: .* in cat, but not in all classes.*--layout class/part"),
        (["train/cat", "train/dog", "extra/cat", "extra/dog"], "holds extra beside train: move"),
        (["train/cat", "train/dog", "eval/cat", "eval/dog"], "holds eval beside train: move"),
        (["all/cat", "all/dog", "all/Testing"], "holds all/cat, all/dog beside all/Testing: move"),
        (["cat", "dog", "test"], "holds cat, dog beside test: move.*--layout class .*if all of them are classes"),
        (["cat", "dog", "train/steam", "train/diesel"], "holds cat, dog beside train: .*--layout class"),
        (["train/cat", "train/dog", "test"], "no class folders, but 4 photos, in test: .*--layout class"),
        (["train", "test"], "no class folders, but 8 photos, in test, train: "),
        (["test/cat", "test/dog"], "no photos to train on, only for test: add a folder train"),
        (["train/cat", "train/dog", "train/emu", "test/emu", "val/cat"],
         "the part validation has no photos of dog, emu; the part test has no photos of cat, dog: each part"),
        (["images"], "one class only, 'images'"),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_not_read(place, folders, message):
    lay(place, **dict.fromkeys(folders, 4))
    with pytest.raises(DataError, match=message) as caught:
        load(place)
    assert str(place) in str(caught.value)
    assert not cache.folder().exists()


def test_the_option_decides(place):
    lay(place, **dict.fromkeys(["batch1/cat", "batch1/dog", "batch2/cat", "batch2/dog"], 4))
    assert load(place, layout="class").classes == ("batch1", "batch2")
    photos = load(place, layout="part/class")
    assert photos.classes == ("cat", "dog")
    assert counts(photos) == (10, 2, 4)
    assert cnnhw.data.survey(place, layout="class").side == 16
    with pytest.raises(UnknownNameError, match=r"layout 'classes'. Did you mean 'class'"):
        load(place, layout="classes")


def test_the_option_for_parts_in_some_classes(place):
    lay(place, **{"cat/train": 4, "cat/test": 2, "dog": 4, "dog/test": 2})
    photos = load(place, layout="class/part")
    assert counts(photos) == (6, 2, 4)
    assert {name.split("/")[1] for name in photos.test.names} == {"test"}
    assert load(place, layout="class").classes == ("cat", "dog")


@pytest.mark.parametrize(
    "folders",
    [
        ["car", "plane", "train"], ["airport", "train_station"], ["beaker", "test tube"], ["Chamonix", "Val d'Isere"],
        ["cat/2023", "cat/2024", "dog/new"], ["cat", "cat/front", "cat/back", "dog/front", "dog/back"],
        ["vehicles/car", "vehicles/train", "people"],
    ],
)  # fmt: skip
def test_classes_that_only_sound_like_parts(place, folders):
    photos = load(lay(place, **dict.fromkeys(folders, 4)))
    assert photos.classes == tuple(sorted({name.split("/")[0] for name in folders}))
    assert sum(counts(photos)) == 4 * len(folders)


# ---------------------------------------------------------------------------------------------------- what is beside


def test_photos_beside_files_that_are_none(place):
    fill(place / "images")
    for k in range(5):
        write(place / "annotations" / "xml" / f"{k}.xml", b"<a/>")
        write(place / "images" / "cat" / f"{k}.XML", b"<a/>")
    write(place / "annotations" / "list.txt", b"x")
    write(place / "images" / "dog" / "captions.json", b"{}")
    photos = load(place)
    assert (photos.classes, sum(counts(photos)), photos.skipped) == (("cat", "dog"), 10, ())
    assert photos.note == (
        "class folders in images; passed over: annotations; 6 .json, .xml files beside the photos are not read"
    )
    assert all(path.suffix == ".png" for path in cnnhw.data.photo_files([place]))


def test_labels_in_files_are_no_classes(place):
    lay(place, **{"images": 4})
    write(place / "labels.csv", b"photo,label")
    with pytest.raises(DataError, match=r"one class only, 'images'.*\.csv files are not read: only folders say"):
        load(place)


def test_photos_of_unknown_kinds_are_not_passed_over(place):
    fill(place)
    write(place / "emu" / "1.heic", b"\0\0\0\x18ftypheic")
    write(place / "emu" / "2.heic", b"\0\0\0\x18ftypheic")
    write(place / "emu" / "3.heic", b"\0\0\0\x18ftypheic")
    with pytest.warns(SkippedPhotosWarning, match=r"emu/1\.heic"), pytest.raises(DataError, match=r"'emu' .0, none"):
        load(place)


SYSTEM = (
    "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".Trash-1000",
    ".ipynb_checkpoints", "__MACOSX", ".thumbnails", "@Recycle", ".@__thumb", "__pycache__",
)  # fmt: skip


@pytest.mark.parametrize("name", SYSTEM)
def test_folders_of_systems_and_tools(place, name):
    fill(place)
    for folder in (place, place / "cat"):
        (folder / name / "empty").mkdir(parents=True)
        write(folder / name / "0.png" / "thumb.png", encoded(picture(77)))
    photos = load(place)
    assert (photos.classes, sum(counts(photos)), photos.note) == (("cat", "dog"), 10, "")
    assert len(cnnhw.data.photo_files([place])) == 10


def test_a_class_may_be_called_trash(place):
    assert load(fill(place, ("glass", "trash"))).classes == ("glass", "trash")


def test_results_of_our_own_are_no_photos(place):
    fill(place)
    results = {"versions": {"cnnhw": "0.1.0"}}
    for name, file in (("runs/fast-x-0", "run.json"), ("cat/seen", "evaluation.json"), ("dog/mine", "run.json")):
        write(place / name / file, json.dumps({} if name == "dog/mine" else results).encode())
        write(place / name / "curves.png", encoded(picture(55)))
    write(place / "runs" / "plain-x-0" / "checkpoint.safetensors", b"x")
    photos = load(place)
    assert (photos.classes, sum(counts(photos))) == (("cat", "dog"), 11)
    assert photos.note.startswith("passed over: cat/seen, runs; ")


def test_training_twice_in_the_folder_of_the_photos(pets, run, monkeypatch):
    monkeypatch.chdir(pets)
    for seed in (0, 1):
        code, out, err = run("train", "q1_shallow", "--data", ".", "--size", 16, "--epochs", 1, "--seed", seed)
        assert code == 0, err
        assert "pets: 2 classes, 28 photos to train on" in out
    code, out, err = run("evaluate", "runs/q1_shallow-pets-0", "--data", ".", "--out", "found")
    assert code == 0, err
    code, out, err = run("data", "show", ".", "--size", 16)
    assert code == 0, err
    assert "passed over: found, runs" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["cats", "dogs", "all"]


def test_a_folder_named_like_a_data_set(place, monkeypatch, run):
    monkeypatch.chdir(place)
    fill(place / "flowers")
    fill(place / "scenes")
    (place / "tiny5").mkdir()  # holds no folders: the data set is meant
    for name in ("flowers", "scenes"):
        for call in (load, cnnhw.data.survey):
            with pytest.raises(DataError, match=rf"{name} is a data set, and a folder here.*\./{name} for"):
                call(name)
        assert load(f"./{name}").classes == load(Path(name)).classes == ("cat", "dog")
        code, _, err = run("data", "show", name)
        assert (code, err.count(f"./{name}")) == (2, 1)
    monkeypatch.setattr("pooch.HTTPDownloader", lambda **_: lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(DataError, match="could not be downloaded"):
        load("tiny5")


# ---------------------------------------------------------------------------------------------------- before decoding


def test_small_classes_are_all_named_before_anything_is_decoded(place, monkeypatch):
    lay(place, **{"ant": 5, "bee": 2, "cat": 1, "dog": 5})
    monkeypatch.setattr("cnnhw.data.decode.decode_all", None)
    with pytest.raises(DataError, match=r"2 of its 4 classes: 'bee' .2, none for train., 'cat' .1, none for train and"):
        load(place)
    for name in ("emu", "fox", "gnu", "hen", "ibis", "jay"):
        (place / name).mkdir()
    with pytest.raises(DataError, match="emu, fox, gnu, hen, ibis, jay are empty: put photos there"):
        load(place)


def test_small_classes_in_given_parts(place):
    lay(place, **{"train/cat": 1, "train/dog": 5, "test/cat": 5, "test/dog": 5})
    with pytest.raises(DataError, match=r"1 of its 2 classes: 'cat' .6, none for train."):
        load(place)


def test_few_photos_will_do_for_evaluation(place):
    lay(place, **{"cat": 1, "dog": 2})
    (place / "emu").mkdir()
    photos = load(place, classes=("dog", "cat", "emu"))
    assert photos.classes == ("cat", "dog")
    assert counts(photos) == (0, 1, 2)
    with pytest.raises(DataError, match="no class folders"):
        load(place / "emu", classes=())


def test_evaluation_finds_the_split_of_training(place):
    fill(place, ("ant", "bee", "cat"), count=20)
    wanted = load(place)
    assert load(place, classes=wanted.classes).fingerprint == wanted.fingerprint
    shutil.rmtree(place / "bee")
    some = load(place, classes=wanted.classes)
    assert set(some.test.names) == {name for name in wanted.test.names if not name.startswith("bee")}


# ---------------------------------------------------------------------------------------------------- cache


def test_only_the_photos_decide_whether_they_are_decoded_again(place, monkeypatch):
    before = load(fill(place))
    write(place / "notes.txt", b"x")
    write(place / "cat" / "0.xml", b"<a/>")
    write(place / "sheet.png", encoded(picture(1)))
    write(place / "runs" / "x" / "checkpoint.safetensors", b"x")
    with monkeypatch.context() as patch:
        patch.setattr("cnnhw.data.decode.decode_all", None)
        with pytest.warns(SkippedPhotosWarning, match=r"sheet\.png .outside"):
            after = load(place)
    assert after.fingerprint == before.fingerprint
    assert "passed over: runs" in after.note
    write(place / "cat" / "9.png", encoded(picture(9)))
    with pytest.warns(SkippedPhotosWarning):
        assert sum(counts(load(place))) == 11


def test_what_photos_are_for_is_not_kept_with_them(place):
    lay(place, **dict.fromkeys(["a/cat", "a/dog", "b/cat", "b/dog"], 4))
    for _ in range(2):
        assert load(place, layout="class").classes == ("a", "b")
        assert load(place, layout="part/class").classes == ("cat", "dog")
    (place / "b").rename(place / "test")
    (place / "a").rename(place / "train")
    assert counts(load(place)) == (6, 2, 8)


# ---------------------------------------------------------------------------------------------------- names

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file systems change or refuse such names")


@on_linux
def test_files_that_differ_in_spelling_alone_are_two(place):
    fill(place)
    for number, form in enumerate(("NFC", "NFD")):
        write(place / "cat" / unicodedata.normalize(form, "\u00e9.png"), encoded(picture(90 + number)))
    photos = load(place)
    names = sum((part.names for part in parts(photos).values()), ())
    assert sum(counts(photos)) == 12
    assert {"cat/\u00e9.png", "cat/\u00e9~2.png"} < set(names)
    assert len(set(sum((part.digests for part in parts(photos).values()), ()))) == 12
    assert set(cnnhw.data.photo_files([place / "cat"])) == {*(place / "cat").iterdir()}


@on_linux
def test_folders_that_differ_in_spelling_alone_are_one_class(place):
    for number, form in enumerate(("NFC", "NFD")):
        fill(place, (unicodedata.normalize(form, "caf\u00e9"), "dog"), start=100 * number)
    photos = load(place)
    assert photos.classes == ("caf\u00e9", "dog")
    assert sum(counts(photos)) == 15


@on_linux
def test_members_that_differ_in_spelling_alone_are_two(tmp_path):
    from test_data_archives import MAKERS

    files = {f"a/{unicodedata.normalize(form, chr(233))}.jpg": form.encode() for form in ("NFC", "NFD")}
    for kind in (".zip", ".tgz"):
        container = open_container(MAKERS[kind](tmp_path / f"x{kind}", files))
        found = dict(container.read(container.names()))
        assert found == {"a/\u00e9.jpg": b"NFC", "a/\u00e9~2.jpg": b"NFD"}


@on_linux
def test_predictions_open_the_files_that_are_there(place, run, monkeypatch):
    monkeypatch.chdir(place)
    odd = [unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD")] + [os.fsdecode(b"gr\xfcn.png")]
    for name in odd:
        write(place / "mac" / name, encoded(picture(len(name))))
    (place / "link").symlink_to(place / "mac", target_is_directory=True)
    for folder in ("mac", "./mac", "link", place / "mac"):
        code, out, err = run("predict", "fast", folder, "--csv")
        assert code == 0, err
        shown = [line.split(",")[0] for line in out.splitlines()[1:]]
        top = str(Path(folder))
        assert sorted(shown) == sorted([f"{top}/caf\u00e9.png", f"{top}/caf\u00e9~2.png", f"{top}/gr\\xfcn.png"])


def test_paths_lead_to_the_files(place):
    fill(place / "a")
    folder = Folder(place / "a")
    assert all(path.is_file() for path in folder.files(folder.names()))
    assert folder.files(["cat/0.png"]) == [place / "a" / "cat" / "0.png"]


# ---------------------------------------------------------------------------------------------------- the command line


def test_every_command_for_photos_takes_a_layout(place, run, monkeypatch):
    monkeypatch.chdir(place)
    lay(place / "p", **dict.fromkeys(["a/cat", "a/dog", "b/cat", "b/dog"], 4))
    words = ("--layout", "part/class")
    for command in (
        ("train", "q1_shallow", "--data", "p", "--size", 16, "--epochs", 1, "--out", "o"),
        ("data", "show", "p", "--size", 16), ("evaluate", "o", "--data", "p"),
        ("data", "audit", "p", "--weights", "o"),
        ("transfer", "o", "--data", "p", "--head-epochs", 1, "--epochs", 0, "--out", "t"),
    ):  # fmt: skip
        code, _, err = run(*command)
        assert code == 2
        assert "--layout part/class" in err
        code, out, err = run(*command, *words)
        assert code == 0, err
        if command[0] == "train":
            assert "training photos from a, b" in out
            assert json.loads((place / "o" / "run.json").read_text())["classes"] == ["cat", "dog"]


@pytest.mark.filterwarnings("default::cnnhw.errors.SkippedPhotosWarning")
def test_files_left_out_are_in_the_report(pets, run):
    write(pets / "cats" / "broken.png", b"")
    write(pets / "dogs" / "<b>.jpg", b"no photo")
    code, _, err = run("train", "q1_shallow", "--data", "pets", "--size", 16, "--epochs", 1, "--out", "o")
    assert code == 0, err
    left_out = json.loads(Path("o/run.json").read_text())["left_out"]
    assert (left_out["photos"], left_out["reasons"]["cats/broken.png"]) == (2, "empty file")
    page = Path("o/report.html").read_text(encoding="utf-8")
    assert "2\u00a0files could not be used" in page
    assert "<li><bdi>cats/broken.png</bdi>: empty file</li>" in page
    assert "<li><bdi>dogs/&lt;b&gt;.jpg</bdi>: not a photo" in page


@pytest.mark.parametrize(
    ("name", "free"), [("a.png", "a~3.png"), ("b/a", "b/a~2"), (".", ".~2"), ("", "~2"), (".hidden", ".hidden~2")]
)
def test_a_name_that_is_taken_gets_a_number_before_its_ending(name, free):
    assert archives.unused(name, {name, "a~2.png"}) == free
    assert archives.unused(name, ()) == name
