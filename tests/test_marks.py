"""What was marked is done to the files and taken back: nothing is lost, whatever the marks say and whenever it ends."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from fault_tools import Steps, fork, wait
from tqdm import tqdm

from cnnhw import data
from cnnhw.data import marks
from cnnhw.errors import CnnhwError, DataError, OccupiedError

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


def fill(root: Path, *names: str) -> None:
    """Make files that differ: to the marks, photos are what their names say."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xff\xd8\xff" + os.fsencode(name))


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    root = tmp_path / "zoo"
    fill(root, "cats/a.jpg", "cats/b.jpg", "cats/2024/c.jpg", "cats/d.jpg", "dogs/b.jpg", "dogs/e.jpg", "cows/f.jpg")
    monkeypatch.chdir(tmp_path)
    return root


def mark(root: Path, name: str, do: str = "move", to: str = "", digest: str = "") -> dict[str, str]:
    digest = digest or hashlib.sha256((root / name).read_bytes()).hexdigest()[:16]
    return {"photo": name, "digest": digest, "do": do} | ({"to": to} if to else {})


def save(*listed: dict[str, str], folder: str = "zoo", path: str = "marks.json", **more: object) -> str:
    content = {"format": marks.FORMAT, "folder": folder, "layout": None, "marks": listed} | more
    Path(path).write_text(json.dumps(content), encoding="utf-8")
    return path


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def everything(zoo: Path) -> list[bytes]:
    """Return what all photos hold, wherever they lie."""
    places = [contents(zoo), contents(zoo.with_name("zoo.aside"))]
    return sorted(held for place in places for name, held in place.items() if "journal.json" not in name)


def test_photos_go_where_the_marks_say_and_come_back(zoo):
    before = contents(zoo)
    path = save(
        mark(zoo, "cats/a.jpg", to="dogs"), mark(zoo, "cats/b.jpg", to="dogs"), mark(zoo, "cats/2024/c.jpg", to="cows"),
        mark(zoo, "dogs/e.jpg", "aside"), mark(zoo, "cats/d.jpg", "keep"),
    )  # fmt: skip
    aside = zoo.with_name("zoo.aside")
    said = marks.apply(path, dry_run=True)
    assert contents(zoo) == before
    assert not aside.exists()
    done = marks.apply(path)
    assert (done.moved, done.kept, done.left) == (said.moved, 1, ())
    assert contents(zoo) == {
        "dogs/a.jpg": before["cats/a.jpg"], "dogs/b~2.jpg": before["cats/b.jpg"], "dogs/b.jpg": before["dogs/b.jpg"],
        "cows/2024/c.jpg": before["cats/2024/c.jpg"], "cats/d.jpg": before["cats/d.jpg"],
        "cows/f.jpg": before["cows/f.jpg"],
    }  # fmt: skip
    assert (aside / "dogs" / "e.jpg").read_bytes() == before["dogs/e.jpg"]
    with pytest.raises(DataError, match="already: --undo"):
        marks.apply(path)
    undone = marks.undo("zoo", path)
    assert sorted(undone.moved) == sorted((now, old) for old, now in done.moved)
    assert contents(zoo) == before
    assert not (zoo / "cows" / "2024").exists()  # it was made for a photo
    assert not aside.exists()
    with pytest.raises(DataError, match="nothing to take back"):
        marks.undo("zoo")


def test_marks_that_grew_are_applied_again(zoo):
    """The page keeps what was marked, and saves it all again with what came to it."""
    first = [mark(zoo, "cats/a.jpg", to="dogs"), mark(zoo, "cats/b.jpg", "aside")]
    marks.apply(save(*first))
    more = mark(zoo, "cows/f.jpg", to="dogs")
    done = marks.apply(save(*first, more))
    assert (done.moved, done.earlier) == (((zoo / "cows" / "f.jpg", zoo / "dogs" / "f.jpg"),), 2)
    other = mark(zoo, "cats/d.jpg", "keep")
    for change in ({"do": "aside", "to": ""}, {"to": "cows"}, {"digest": "0" * 16}):
        with pytest.raises(DataError, match=r"1 is not in .* \(cats/a.jpg\)"):
            marks.apply(save(first[0] | change, first[1], other))
    marks.undo("zoo")
    marks.undo("zoo")
    assert (zoo / "cats" / "a.jpg").is_file()


def test_what_is_put_aside_is_not_loaded(pets):
    """Neither with the folder nor with the one above it."""
    marks.apply(save(mark(pets, "cats/7.png", "aside"), folder="pets"))
    assert (pets.with_name("pets.aside") / "cats" / "7.png").is_file()
    photos = data.load("pets", size=16, progress=False)
    assert sum(map(len, photos.splits)) == 39
    shutil.rmtree(pets.parent / "cache")
    Path("marks.json").unlink()
    (pets.parent / "all").mkdir()
    for name in ("pets", "pets.aside"):
        (pets.parent / name).rename(pets.parent / "all" / name)
    assert data.load("all", size=16, progress=False).classes == ("cats", "dogs")


def test_photos_are_found_by_the_names_that_loading_gives_them(pets):
    """Also where accents are decomposed, or the bytes of a name are no Unicode."""
    odd = "cafe\u0301.png", os.fsdecode(b"\xff.png") if os.name == "posix" else "ff.png"
    for old, new in zip(("7.png", "8.png"), odd, strict=True):
        (pets / "cats" / old).rename(pets / "cats" / new)
    photos = data.load("pets", size=16, progress=False)
    found = {
        name: digest for split in photos.splits for name, digest in zip(split.names, split.digests, strict=True)
        if name.startswith("cats/") and not name[5].isdigit()
    }  # fmt: skip
    assert len(found) == 2
    listed = [{"photo": name, "digest": digest, "do": "move", "to": "dogs"} for name, digest in found.items()]
    marks.apply(save(*listed, folder="pets"))
    assert all((pets / "dogs" / name).is_file() for name in odd)
    marks.undo("pets")
    assert all((pets / "cats" / name).is_file() for name in odd)


@pytest.mark.parametrize(
    ("layout", "photo", "goal"),
    [
        ("{part}/{label}", "train/cats/1.jpg", "train/dogs/1~2.jpg"),
        ("{part}/{label}", "test/cats/1.jpg", "test/dogs/1~2.jpg"),
        ("{label}/{part}", "cats/test/1.jpg", "dogs/test/1~2.jpg"),
        ("inner/{label}/old", "inner/cats/old/1.jpg", "inner/dogs/old/1~2.jpg"),
    ],
)
def test_a_photo_stays_in_its_part(zoo, layout, photo, goal):
    shutil.rmtree(zoo)
    for part in ("train", "test"):
        for label in ("cats", "dogs"):
            fill(zoo, *(f"{layout.format(part=part, label=label)}/{number}.jpg" for number in range(3)))
    ((_, now),) = marks.apply(save(mark(zoo, photo, to="dogs"))).moved
    assert now == zoo / goal


def test_the_layout_that_was_given_counts(zoo):
    fill(zoo, *(f"{batch}/{label}/{batch}.jpg" for batch in ("x", "y") for label in ("red", "green")))
    for name in ("cats", "dogs", "cows"):
        shutil.rmtree(zoo / name)
    with pytest.raises(DataError, match="two ways"):
        marks.apply(save(mark(zoo, "y/red/y.jpg", to="green")))
    ((_, now),) = marks.apply(save(mark(zoo, "y/red/y.jpg", to="green"), layout="part/class")).moved
    assert now == zoo / "y" / "green" / "y~2.jpg"


def test_names_that_are_taken_are_left_alone(zoo):
    """Among what is moved, in the folder of photos put aside, and by what came after the journal was written."""
    fill(zoo, "cows/b.jpg")
    before = everything(zoo)
    marks.apply(save(*(mark(zoo, f"{label}/b.jpg", to="cats") for label in ("dogs", "cows"))))
    assert {path.name for path in (zoo / "cats").glob("b*")} == {"b.jpg", "b~2.jpg", "b~3.jpg"}
    marks.apply(save(mark(zoo, "cats/b.jpg", "aside")))
    fill(zoo, "cats/b.jpg")
    (zoo / "cats/b.jpg").write_bytes(b"\xff\xd8\xffanother")
    marks.apply(save(mark(zoo, "cats/b.jpg", "aside")))
    assert {path.name for path in (zoo.with_name("zoo.aside") / "cats").iterdir()} == {"b.jpg", "b~2.jpg"}
    fill(zoo, "cats/b.jpg")
    for _ in range(3):
        assert not marks.undo("zoo").left
    assert everything(zoo) == sorted([*before, b"\xff\xd8\xffanother", b"\xff\xd8\xffcats/b.jpg"])
    assert {path.name for path in (zoo / "cats").glob("b*")} == {"b.jpg", "b~4.jpg", "b~5.jpg"}


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_at_the_last_moment(zoo, monkeypatch, links):
    real, before = marks._digest, contents(zoo)

    def digest(path):
        if (zoo.with_name("zoo.aside") / "journal.json").exists():  # when the name has been chosen
            (zoo / "dogs" / "a.jpg").write_bytes(b"mine")
        return real(path)

    monkeypatch.setattr(marks, "_digest", digest)
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    ((old, now),) = marks.apply(save(mark(zoo, "cats/a.jpg", to="dogs"))).moved
    assert (old, now) == (zoo / "cats" / "a.jpg", zoo / "dogs" / "a~2.jpg")
    assert (zoo / "dogs" / "a.jpg").read_bytes() == b"mine"
    assert now.read_bytes() == before["cats/a.jpg"]
    monkeypatch.undo()
    os.chdir(zoo.parent)
    marks.undo("zoo")
    assert contents(zoo) == before | {"dogs/a.jpg": b"mine"}


def hostile(zoo: Path) -> dict[str, tuple[dict[str, object], str]]:
    good = mark(zoo, "cats/a.jpg", to="dogs")
    return {
        "up": ({"marks": [good | {"photo": "../secret.jpg"}]}, "1 is not in"),
        "up and down": ({"marks": [good | {"photo": "cats/../cats/a.jpg"}]}, "1 is not in"),
        "absolute": ({"marks": [good | {"photo": str(zoo / "cats" / "a.jpg")}]}, "1 is not in"),
        "hidden": ({"marks": [good | {"photo": ".git/a.jpg"}]}, "1 is not in"),
        "empty": ({"marks": [good | {"photo": ""}]}, "1 is not in"),
        "nul": ({"marks": [good | {"photo": "cats/a.jpg\0"}]}, "1 is not in"),
        "class up": ({"marks": [good | {"to": ".."}]}, "no class \\.\\."),
        "class absolute": ({"marks": [good | {"to": "/tmp"}]}, "no class /tmp"),
        "class with slash": ({"marks": [good | {"to": "cats/2024"}]}, "no class cats/2024"),
        "no class": ({"marks": [{name: good[name] for name in ("photo", "digest")} | {"do": "move"}]}, "no class"),
        "changed": ({"marks": [good | {"digest": "0" * 16}]}, "cats/a.jpg changed since"),
        "two": ({"marks": [good, good | {"do": "aside"}]}, "more than one mark"),
        "deed": ({"marks": [good | {"do": "delete"}]}, "holds no marks"),
        "more": ({"marks": [good | {"and": "more"}]}, "holds no marks"),
        "type": ({"marks": [good | {"photo": 1}]}, "holds no marks"),
        "list": ({"marks": [["cats/a.jpg"]]}, "holds no marks"),
        "version": ({"format": "cnnhw marks 9"}, "another version"),
        "folder": ({"folder": "elsewhere"}, "no folder 'elsewhere'"),
        "nul folder": ({"folder": "\0"}, "no folder"),
        "file": ({"folder": "marks.json"}, "no folder"),
        "layout": ({"layout": "sideways"}, "unknown layout"),
    }


def test_what_does_not_fit_is_refused_and_nothing_moves(zoo):
    fill(zoo.parent, "secret.jpg")
    fill(zoo, ".git/a.jpg")
    good = mark(zoo, "cats/d.jpg", to="dogs")
    before = contents(zoo.parent)
    for name, (change, message) in hostile(zoo).items():
        change = change | {"marks": [good, *change.get("marks", ())]}
        path = save(**change)
        with pytest.raises(CnnhwError, match=message):
            marks.apply(path)
        Path(path).unlink()
        there = {place: held for place, held in contents(zoo.parent).items() if not place.startswith("cache")}
        assert there == before, name


@pytest.mark.parametrize("text", ["", "[]", "null", '"marks"', "{}", "[" * 100_000, "\udcff", '{"format": 1}'])
def test_files_that_are_no_marks_are_refused(zoo, text):
    Path("marks.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match="marks"):
        marks.apply("marks.json")
    with pytest.raises(DataError, match="cannot be read"):
        marks.apply("missing.json")


def test_another_folder_is_refused(zoo):
    path = save(mark(zoo, "cats/a.jpg", to="dogs"), mark(zoo, "cats/b.jpg", "aside"))
    other = zoo.with_name("other")
    fill(other, "cats/x.jpg", "dogs/y.jpg")
    with pytest.raises(DataError, match=r"of 2 photos to move, 2 are not in .*other .*--data"):
        marks.apply(path, other)
    moved = zoo.rename(zoo.with_name("moved"))
    assert len(marks.apply(path, moved).moved) == 2


@needs_links
def test_links_are_not_followed(zoo):
    outside = zoo.parent / "outside"
    fill(outside, "z.jpg", "more/y.jpg")
    (zoo / "cats" / "link.jpg").symlink_to(outside / "z.jpg")
    (zoo / "cats" / "away").symlink_to(outside / "more")
    (zoo / "birds").symlink_to(outside)
    before = contents(outside)
    for one in (
        mark(zoo, "cats/link.jpg", to="dogs"), mark(zoo, "cats/link.jpg", "aside"),
        mark(zoo, "cats/away/y.jpg", "aside"), mark(zoo, "cats/a.jpg", to="birds"), mark(zoo, "birds/z.jpg", to="dogs"),
    ):  # fmt: skip
        with pytest.raises(DataError, match="link"):
            marks.apply(save(one))
    assert contents(outside) == before
    zoo.with_name("zoo.aside").symlink_to(outside)
    with pytest.raises(OccupiedError, match="rename it"):
        marks.apply(save(mark(zoo, "cats/a.jpg", "aside")))
    assert contents(outside) == before


def test_a_folder_of_somebody_else_is_left_alone(zoo):
    fill(zoo.with_name("zoo.aside"), "mine.jpg")
    with pytest.raises(OccupiedError, match="holds something else"):
        marks.apply(save(mark(zoo, "cats/a.jpg", to="dogs")))
    assert set(contents(zoo.with_name("zoo.aside"))) == {"mine.jpg"}


@pytest.mark.parametrize(
    "change", [{"photo": "../stolen.jpg"}, {"to": "../../stolen.jpg"}, {"photo": "/stolen.jpg"}, {"to": ""}, {"to": 1}]
)
def test_a_journal_that_came_with_the_photos_leads_nowhere(zoo, change):
    marks.apply(save(mark(zoo, "cats/a.jpg", "aside")))
    journal = zoo.with_name("zoo.aside") / "journal.json"
    held = json.loads(journal.read_text())
    held["steps"][0]["moves"][0] |= change
    journal.write_text(json.dumps(held))
    before = [name for name in contents(zoo.parent) if not name.startswith("cache")]
    with pytest.raises(DataError, match=r"leads out|damaged"):
        marks.undo("zoo")
    assert [name for name in contents(zoo.parent) if not name.startswith("cache")] == before


def test_what_changed_after_it_was_moved_is_left(zoo):
    moved = (mark(zoo, f"cats/{name}.jpg", to="dogs") for name in "ab")
    marks.apply(save(*moved, mark(zoo, "cats/d.jpg", "aside")))
    (zoo / "dogs" / "a.jpg").write_bytes(b"edited")
    (zoo / "dogs" / "b~2.jpg").unlink()
    done = marks.undo("zoo")
    assert [now for _, now in done.moved] == [zoo / "cats" / "d.jpg"]
    assert {(photo.name, reason) for photo, reason in done.left} == {
        ("a.jpg", "it has changed since"), ("b~2.jpg", "it is no longer there"),
    }  # fmt: skip
    assert (zoo / "dogs" / "a.jpg").read_bytes() == b"edited"


def test_other_marks_wait_for_what_was_interrupted(zoo, monkeypatch):
    first = save(mark(zoo, "cats/a.jpg", to="dogs"), mark(zoo, "cats/b.jpg", "aside"), path="first.json")
    second = save(mark(zoo, "cows/f.jpg", to="dogs"), path="second.json")
    real, calls = os.link, []

    def link(*places):
        calls.append(places)
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        real(*places)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(KeyboardInterrupt):
        marks.apply(first)
    with pytest.raises(DataError, match="other marks was interrupted"):
        marks.apply(second)
    calls.clear()
    with pytest.raises(DataError, match="not the marks"):
        marks.undo("zoo", second)
    assert len(marks.apply(first).moved) == 2
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        marks.undo("zoo")
    with pytest.raises(DataError, match="taking back was interrupted"):
        marks.apply(second)
    calls.clear()
    marks.undo("zoo")
    calls.clear()
    marks.apply(second)


@needs_fork
@pytest.mark.parametrize("links", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_kill_at_any_step_loses_nothing(zoo, monkeypatch, links):
    """Killed at each step of applying, and then at each step of taking back; gone on with, or taken back."""
    path = save(
        mark(zoo, "cats/a.jpg", to="dogs"), mark(zoo, "cats/b.jpg", to="dogs"), mark(zoo, "cats/2024/c.jpg", "aside")
    )
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a kill leaves what was written
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    marks.apply(path)
    after, aside = contents(zoo), zoo.with_name("zoo.aside")
    marks.undo("zoo")
    before, held = contents(zoo), everything(zoo)

    def take_back():
        with contextlib.suppress(DataError):  # it had been taken back before the kill
            marks.undo("zoo")
        assert contents(zoo) == before
        assert not aside.exists() or not marks._others(aside)

    if tqdm.monitor:  # a thread of progress bars of other tests
        tqdm.monitor.exit()

    def killed(step, work):
        code, _ = wait(*fork(lambda _: (Steps(step).install(), work())))
        assert code in (0, -signal.SIGKILL)
        assert set(everything(zoo)) == set(held)  # between the two halves of a move, a file has two names
        return code != 0

    steps = itertools.takewhile(lambda step: killed(step, lambda: marks.apply(path)), itertools.count(1))
    for step in steps:
        if step % 2:
            take_back()
        with contextlib.suppress(DataError):  # it had been done before the kill
            marks.apply(path)
        assert contents(zoo) == after
        take_back()
    take_back()
    marks.apply(path)
    steps = itertools.takewhile(lambda step: killed(step, lambda: marks.undo("zoo")), itertools.count(1))
    kills = [step]
    for step in steps:
        take_back()
        marks.apply(path)
        kills.append(step)
    assert min(kills[0], kills[-1]) > 20
