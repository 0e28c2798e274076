"""No command removes or writes over what a user made: whatever lies where it writes, and whatever goes wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from conftest import make_photos
from PIL import Image

import cnnhw
from cnnhw import cli, data, files, models, outputs, studies, training, transfer
from cnnhw.errors import OccupiedError
from cnnhw.evaluation import export
from cnnhw.models import weights
from cnnhw.studies import queue
from cnnhw.training import checkpoint, throughput
from cnnhw.training.recipe import Recipe

RUN, FOLDER, RECORDS, ONE, FILE, READ = "run", "folder", "records", "one of a folder", "file", "read"
USES = {
    "train --out": RUN, "transfer --out": RUN, "evaluate --out": FOLDER, "reproduce --out": RECORDS,
    "study run --records": RECORDS, "study weights --out": ONE, "export --out": FILE, "features --out": FILE,
    "bench --json": FILE, "predict --out": FILE, "data show --out": FILE, "data audit --out": FILE,
    "data audit --json": FILE, "study tune --records": RECORDS, "study plan --records": RECORDS,
    "study check --records": READ,
    "data apply marks": READ, "data apply --data": READ,  # it moves what is there: see test_marks
    "predict weights": READ, "predict photos": READ, "evaluate weights": READ, "export weights": READ,
    "features photo": READ, "claims --records": READ, "study weights --records": READ,
    # data fetch writes there: an archive that is not there, under the name of its publisher
    **{f"{command} --root": READ for command in (
        "train", "transfer", "evaluate", "bench", "reproduce", "data list", "data fetch", "data show", "data audit"
    )},
}  # fmt: skip
"""What each path that can be given to a command is for. A new one has to be told here, and is then tested."""

WORDS = {
    "train": "train q1_shallow --data pets --size 32 --epochs 1",
    "transfer": "transfer w.safetensors --data pets --head hidden --head-epochs 1 --epochs 1",
    "evaluate": "evaluate w.safetensors --data pets",
    "reproduce": "reproduce q1_shallow --data scenes --quick",
    "study run": "study run q1",
    "study tune": "study tune q1",
    "study plan": "study plan q1",
    "study weights": "study weights fast",
    "export": "export w.safetensors",
    "features": "features w.safetensors pets/cat/1.png",
    "bench": "bench --part throughput --data pets",
    "data show": "data show pets --size 32",
    "data audit": "data audit pets --weights w.safetensors",
    "predict": "predict w.safetensors pets",
}
WRITING = sorted(use for use, kind in USES.items() if kind != READ)


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def test_each_path_that_a_command_takes_is_tested():
    found = {
        f"{name} {option.opts[0]}"
        for name, command in commands(cli.cli)
        for option in command.params
        if isinstance(option.type, click.Path)
    }
    assert found == set(USES)


def test_names_are_those_of_the_modules_that_write_them():
    assert outputs._CHECKPOINT == training.CHECKPOINT
    assert weights.WEIGHTS in outputs.RUN


def users_files(folder: Path) -> None:
    """Put files of a user into a folder, under all names that cnnhw writes."""
    names = [
        *outputs.RUN, training.CHECKPOINT, "evaluation.json", "errors.csv", "reliability.png", "drift.json",
        "manifest.json", "head/a.png", "all/b.png", "stage1/checkpoint.safetensors", ".hidden", ".cnnhw-stages/x",
        ".run.json.mine.tmp", ".mine.tmp", "Thesis.docx", "runs/a.txt", "q1/mine.json", "fast.safetensors.bak",
    ]  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} is mine")


def contents(folder: Path) -> dict[str, bytes | str]:
    """Return all files below a folder but those in the cache; of links, where they lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file()) and "cache" not in path.relative_to(folder).parts
    }


def kept(before: dict[str, bytes | str], folder: Path) -> None:
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Make photos and weights, and work beside them, in a folder that is full of a user's files."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            photo = rng.integers(0, 150, (40, 40, 3), dtype=np.uint8)
            photo[:: label + 2] += 60
            Image.fromarray(photo).save(tmp_path / "pets" / name / f"{number}.png")
    (tmp_path / "pets" / ".cnnhw-stages").mkdir()
    (tmp_path / "pets" / ".cnnhw-stages" / "mine").write_text("mine")
    model = models.create("q1_shallow", 2, size=32)
    model.classes = ("cat", "dog")
    weights.save_weights(model, tmp_path / "w.safetensors")
    users_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def short(monkeypatch):
    """Replace what takes long and has tests of its own."""

    def to_onnx(model, path):
        Path(path).write_bytes(b"onnx")
        return export.Check(0.0, 1.0, "nothing")

    monkeypatch.setattr(export, "to_onnx", to_onnx)
    monkeypatch.setattr(throughput, "measure", lambda *_, **__: {})
    monkeypatch.setattr(throughput, "table", lambda _: "")


OCCUPIED = {
    RUN: [
        *outputs.RUN, training.CHECKPOINT, "head/a.png", "stage1/checkpoint.safetensors", ".hidden", "a.tmp",
        ".cnnhw-stages/x", ".cnnhw-stages/head/x", ".cnnhw-stages/head/stage1/x", "runs/fast-pets-0/run.json",
        ".cnnhw-stages/head/stage1/checkpoint.safetensors",
    ],
    FOLDER: ["evaluation.json", "errors.csv", "run.json", ".hidden", "sub/mine.txt"],
    RECORDS: ["mine.txt", "reproduce/mine.txt", "reproduce/mine.json", "a/b/q1_deep-1-0123abcd.json.gz", ".hidden"],
    ONE: ["fast.safetensors"],
    FILE: [""],
}  # fmt: skip


@pytest.mark.parametrize("use", WRITING)
def test_what_is_there_is_refused_before_any_work(place, run, monkeypatch, short, use):
    def work(*_, **__):
        raise AssertionError("it works")

    for module, name in ((data, "load"), (weights, "load"), (transfer, "source"), (queue, "run_job"), (queue, "train")):
        monkeypatch.setattr(module, name, work)
    command, option = use.rsplit(" ", 1)
    for number, name in enumerate(OCCUPIED[USES[use]]):
        out = place / f"out {number}"
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
        before = contents(place)
        for more in ((), ("--resume",)) if USES[use] == RUN else ((),):
            code, _, err = run(*WORDS[command].split(), option, out.name, *more)
            assert code == 2, (name, err)
            assert "choose another" in err
            assert len([line for line in err.splitlines() if line]) == 1
            assert contents(place) == before


@pytest.mark.parametrize("use", WRITING)
def test_a_link_that_leads_nowhere_is_left_alone(place, run, short, use):
    command, option = use.rsplit(" ", 1)
    if USES[use] == ONE:
        (place / "out").mkdir()
        (place / "out" / "fast.safetensors").symlink_to("nowhere")
    else:
        (place / "out").symlink_to("nowhere")
    before = contents(place)
    code, _, err = run(*WORDS[command].split(), option, "out")
    assert code == 2, err
    assert "choose another" in err
    assert contents(place) == before


def test_all_commands_work_in_a_full_folder_and_leave_it_as_it_was(place, run, short):
    """Once with an output place that is new, once with one that is an empty folder, and once with the default."""
    before = contents(place)
    (place / "empty").mkdir()
    for words, made in [
        (f"{WORDS['train']} --out new/run", "new/run/run.json"),
        (f"{WORDS['transfer']} --out empty", "empty/run.json"),
        (f"{WORDS['evaluate']} --out found", "found/evaluation.json"),
        (f"{WORDS['export']}", "model.onnx"),
        (f"{WORDS['features']}", "1-features.conv1.png"),
        (f"{WORDS['features']} --out maps.png", "maps.png"),
        (f"{WORDS['bench']} --json bench.json", "bench.json"),
        (f"{WORDS['data show']} --out sheet.png", "sheet.png"),
        (f"{WORDS['data audit']} --out odd.png --json odd.json", "odd.json"),
        (f"{WORDS['predict']} --csv --out table.csv", "table.csv"),
    ]:
        code, _, err = run(*words.split())
        assert code == 0, (words, err)
        assert (place / made).is_file()
        kept(before, place)
        before |= contents(place)
    assert {path.name for path in (place / "empty").iterdir()} == set(outputs.RUN)
    for words in (WORDS["export"], WORDS["features"], f"{WORDS['features'].replace('cat', 'dog')}"):
        code, _, err = run(*words.split())
        assert code == 2
        assert "already exists: choose another file with --out" in err
    assert contents(place) == before


def test_two_outputs_of_one_name_are_refused(place, run):
    code, _, err = run(*WORDS["data audit"].split(), "--out", "x", "--json", "x")
    assert code == 2
    assert "give each a file of its own" in err


@contextlib.contextmanager
def interrupted(monkeypatch, epochs):
    """Interrupt after so many epochs in all."""
    save, left = checkpoint.save, [epochs + 1]

    def saving(state, path):
        save(state, path)
        left[0] -= state.epoch > 0
        if left[0] == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", saving)
        yield


@pytest.mark.parametrize(("command", "epochs"), [("train", 0), ("transfer", 0), ("transfer", 1)])
def test_an_interrupted_run_goes_on_and_only_where_nothing_else_is(place, run, monkeypatch, command, epochs):
    words = (*WORDS[command].split(), "--out", "new")
    before = contents(place)
    with interrupted(monkeypatch, epochs):
        code, _, err = run(*words)
    assert code == 130, err
    kept(before, place)
    assert "add --resume" in run(*words)[2]
    other = {"train": "transfer", "transfer": "train"}[command]
    code, _, err = run(*WORDS[other].split(), "--out", "new", "--resume")
    assert code == 2
    assert "new already holds" in err
    for name in ("mine.txt", "curves.png", ".cnnhw-stages/all/mine.txt"):
        path = place / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        held = contents(place)
        code, _, err = run(*words, "--resume")
        assert code == 2
        assert "new already holds" in err
        assert contents(place) == held
        path.unlink()
    if command == "train":
        shutil.rmtree(place / "new" / outputs.STAGES)
    code, _, err = run(*words, "--resume")
    assert code == 0, err
    kept(before, place)
    assert {path.name for path in (place / "new").iterdir()} == set(outputs.RUN)


def test_training_that_fails_leaves_all_as_it_was(place, run):
    before = contents(place)
    code, _, err = run(*WORDS["train"].split(), "--out", "new", "--rate", "1e30")
    assert code == 2
    assert "lower the learning rate" in err
    kept(before, place)
    assert {path.name for path in (place / "new").iterdir()} == {training.CHECKPOINT}


@pytest.mark.parametrize("command", ["train", "transfer", "evaluate"])
def test_what_comes_meanwhile_stays_and_the_result_is_saved_beside_it(place, run, monkeypatch, command):
    """The user puts files there while the command computes: even then nothing is lost, on neither side."""
    load = data.load

    def busy(*given, **named):
        for name in ("report.html", "evaluation.json", ".cnnhw-stages/head/mine"):
            (place / "new" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "new" / name).write_text("mine")
        return load(*given, **named)

    monkeypatch.setattr(data, "load", busy)
    (place / "new-2").write_text("mine, too")
    before = contents(place)
    code, out, err = run(*WORDS[command].split(), "--out", "new")
    assert code == 0, err
    assert "new holds files of others by now: saved to new-3" in err
    assert "new-3" in out
    kept(before, place)
    assert set(contents(place / "new")) == {"report.html", "evaluation.json", ".cnnhw-stages/head/mine"}
    assert cnnhw.load(place / "new-3") if command != "evaluate" else (place / "new-3" / "evaluation.json").is_file()


def test_a_file_that_comes_meanwhile_stays(place, run, monkeypatch, short):
    def busy(*_, **__):
        (place / "b.json").write_text("mine")
        return {}

    monkeypatch.setattr(throughput, "measure", busy)
    code, out, err = run(*WORDS["bench"].split(), "--json", "b.json")
    assert code == 0, err
    assert "b-2.json" in out
    assert (place / "b.json").read_text() == "mine"
    assert (place / "b-2.json").read_text() == "{}\n"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_comes_at_the_last_moment_stays(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not permitted")))

    def write_one():
        with files.replacing(tmp_path / "x", new=True) as temporary:
            temporary.write_text("ours")
            (tmp_path / "x").write_text("mine")

    def write_four():
        with files.replacing_all(tmp_path, "d", own) as new:
            for name in "abcd":
                (new / name).write_text("ours")

    with pytest.raises(OccupiedError, match="made by another program"):
        write_one()
    assert contents(tmp_path) == {"x": b"mine"}

    def own():
        (tmp_path / "c").write_text("mine")
        return ()

    with pytest.raises(OccupiedError, match="made by another program"):
        write_four()
    assert contents(tmp_path) == {"x": b"mine", "c": b"mine"}
    with files.replacing(tmp_path / "y", new=True) as temporary:
        temporary.write_text("ours")
    assert contents(tmp_path) == {"x": b"mine", "c": b"mine", "y": b"ours"}


@pytest.fixture
def trained(monkeypatch):
    """Return a run that is drawn in no time."""
    from matplotlib.figure import Figure

    from cnnhw import plots

    monkeypatch.setattr(plots, "curves", lambda *_, **__: Figure((2, 1)))
    monkeypatch.setattr(plots, "confusion", lambda *_, **__: Figure((2, 1)))
    return cnnhw.fit(models.create("q1_shallow", 3, size=16), make_photos(), Recipe(epochs=1), progress=False)


@pytest.mark.parametrize("name", [*outputs.RUN, "mine.txt", ".hidden", "stage1/mine", training.CHECKPOINT])
def test_a_run_is_saved_over_nothing_but_a_run(trained, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OccupiedError, match=f"already holds {name.split('/')[0]}"):
        trained.save(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_run_is_saved_beside_its_checkpoints_and_over_itself(trained, tmp_path):
    model, photos = models.create("q1_shallow", 3, size=16), make_photos()
    cnnhw.fit(model, photos, Recipe(epochs=1), progress=False, folder=tmp_path)
    cnnhw.fit(model, photos, Recipe(epochs=1), progress=False, folder=tmp_path / "stage1")
    (tmp_path / ".DS_Store").write_text("of the system")
    trained.save(tmp_path)
    trained.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*outputs.RUN, training.CHECKPOINT, "stage1", ".DS_Store"}
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OccupiedError, match=r"mine\.txt"):
        trained.save(tmp_path)
    outputs.remove_checkpoints(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*outputs.RUN, "mine.txt", ".DS_Store"}


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moved", range(3))
def test_after_a_kill_the_files_that_were_moved_are_known_to_be_ours(trained, tmp_path, monkeypatch, moved, again):
    """A copy of the folder is what a process that is killed at that moment leaves."""
    if again:
        trained.save(tmp_path / "run")
    with monkeypatch.context() as patch:
        count = [0]

        def counting(real):
            def step(path, *rest):
                if str(path).startswith(str(tmp_path / "run" / ".cnnhw-")) and Path(path).name in outputs.RUN:
                    if Path(rest[0]).parent == tmp_path / "run" and (count[0] == moved):
                        shutil.copytree(tmp_path / "run", tmp_path / "killed")
                    count[0] += Path(rest[0]).parent == tmp_path / "run"
                return real(path, *rest)

            return step

        patch.setattr(files, "_place", counting(files._place))
        patch.setattr(Path, "replace", counting(Path.replace))
        trained.save(tmp_path / "run")
    assert not (tmp_path / "killed" / "run.json").exists()
    there = set(outputs.RUN) & {path.name for path in (tmp_path / "killed").iterdir()}
    assert len(there) == (2 if again else moved)  # pictures of another run are gone
    shutil.copytree(tmp_path / "killed", tmp_path / "edited")
    trained.save(tmp_path / "killed")
    assert (tmp_path / "killed" / "run.json").exists()
    for name in there:
        (tmp_path / "edited" / name).write_text("mine")
        with pytest.raises(OccupiedError, match=name):
            trained.save(tmp_path / "edited")
        assert (tmp_path / "edited" / name).read_text() == "mine"
        (tmp_path / "edited" / name).unlink()


@pytest.mark.parametrize("again", [False, True])
def test_a_run_whose_drawing_is_interrupted_is_saved_and_may_be_saved_over(trained, tmp_path, monkeypatch, again):
    from cnnhw import plots

    if again:
        trained.save(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(plots, "confusion", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trained.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "weights.safetensors",
        "run.json",
        "report.html",
        "curves.png",
    }
    assert cnnhw.load(tmp_path).classes == trained.classes
    trained.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(outputs.RUN)


def test_what_breaks_in_a_picture_costs_that_picture_alone(trained, tmp_path, monkeypatch):
    from cnnhw import plots

    monkeypatch.setattr(plots, "confusion", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.warns(UserWarning, match=r"confusion\.png could not be drawn \(MemoryError\); all else is saved"):
        trained.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(outputs.RUN) - {"confusion.png"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_of_files_follow_the_umask(place, run, short, mask):
    old = os.umask(mask)
    try:
        for words in (
            f"{WORDS['train']} --out new", f"{WORDS['evaluate']} --out found", f"{WORDS['export']}",
            f"{WORDS['features']} --out maps.png", f"{WORDS['predict']} --out table.csv",
        ):  # fmt: skip
            code, _, err = run(*words.split())
            assert code == 0, err
    finally:
        os.umask(old)
    made = [path for name in ("new", "found") for path in (place / name).iterdir()]
    made += [place / name for name in ("model.onnx", "maps.png", "table.csv")]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o666 & ~mask}


def test_temporary_files_of_pictures_that_were_written_whole_for_others_are_ours(trained, tmp_path):
    for name in ("..curves.png.12-0a.tmp.12-0b.tmp", ".model.svg.12-0a.tmp"):
        (tmp_path / name).write_text("left by a process that was killed")
        os.utime(tmp_path / name, (0, 0))
    trained.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(outputs.RUN)


def test_old_temporary_files_of_others_are_left(tmp_path):
    for name in (".x.json.my-copy.tmp", ".x.json.1-zz.tmp", ".x.json..tmp"):
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    files.write_json(tmp_path / "x.json", 1)
    assert len(contents(tmp_path)) == 4


def test_checkpoints_of_studies_are_removed_and_nothing_else(tmp_path):
    for name in ("checkpoint.safetensors", "drift.json", "stage2/checkpoint.safetensors", "stage1/mine", "mine"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    outputs.remove_checkpoints(tmp_path, ["drift.json"])
    assert set(contents(tmp_path)) == {"stage1/mine", "mine"}
    assert not (tmp_path / "stage2").exists()


@pytest.mark.parametrize("command", ["reproduce", "study run"])
def test_records_go_into_folders_of_records(place, run, monkeypatch, command):
    """A folder of records may be gone on with; with another folder's files in it, it is refused."""
    option = {"reproduce": "--out", "study run": "--records"}[command]
    for name in ("estimate", "run"):
        monkeypatch.setattr(queue, name, lambda *_, **__: {})
    monkeypatch.setattr(queue, "run_job", lambda *_, **__: None)
    monkeypatch.setattr(data, "load", lambda *_, **__: make_photos(classes=5))
    every = studies.records()
    assert all(outputs._RECORD.fullmatch(record.path.name) for record in every)
    (place / "new" / every[0].study).mkdir(parents=True)
    shutil.copy(every[0].path, place / "new" / every[0].study)
    before = contents(place)
    code, _, err = run(*WORDS[command].split(), option, "new")
    assert code == 0, err
    assert contents(place) == before
