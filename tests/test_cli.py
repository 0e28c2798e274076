"""The command line, as a newcomer types it."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time

import pytest

import cnnhw
from cnnhw import outputs, plots
from cnnhw.book import registry
from cnnhw.errors import CnnhwError


@pytest.fixture
def folder(pets):
    return pets


TRAIN = ("train", "q1_shallow", "--data", "pets", "--size", 16, "--epochs", 2)


def test_train_then_predict(folder, run):
    code, out, err = run(*TRAIN)
    assert code == 0, err
    saved = folder.parent / "runs" / "q1_shallow-pets-0"
    assert f"runs/{saved.name}/report.html" in out
    assert f"cnnhw predict runs/{saved.name}/weights.safetensors" in out
    assert {path.name for path in saved.iterdir()} == {
        "weights.safetensors", "run.json", "curves.png", "confusion.png", "model.svg", "report.html",
    }  # fmt: skip
    summary = json.loads((saved / "run.json").read_text())
    assert f"Test accuracy {summary['accuracy']:.3f}" in out
    assert "epoch 2/2" in err

    photo = folder / "dogs" / "0.png"
    code, out, _ = run("predict", saved, photo, photo)
    assert code == 0
    assert out.count("%") == 4
    assert "cats" in out.splitlines()[0]

    code, out, _ = run("predict", "--csv", saved, "pets")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 40
    for row in rows:
        assert float(row["cats"]) + float(row["dogs"]) == pytest.approx(1, abs=2e-4)
        assert row["class"] == max(("cats", "dogs"), key=lambda name: float(row[name]))


def test_fast_and_best_are_trained_by_their_own_recipes(folder, run, monkeypatch):
    code, _, err = run("train", "fast", "--data", "pets", "--epochs", 2, "--size", 32)
    assert code == 0, err
    summary = json.loads((folder.parent / "runs/fast-pets-0/run.json").read_text())
    assert summary["recipe"]["optimizer"] == "muon"
    assert (summary["recipe"]["epochs"], summary["recipe"]["batch_size"], summary["size"]) == (2, 64, 32)
    code, _, err = run("train", "fast", "--data", "pets", "--epochs", 1, "--size", 32, "--seed", 1, "--no-augment")
    assert code == 0, err
    summary = json.loads((folder.parent / "runs/fast-pets-1/run.json").read_text())
    assert (summary["recipe"]["flip"], summary["recipe"]["shift"]) == (False, 0)


def test_best_says_what_it_tried_and_what_did_best(folder, run):
    code, out, err = run("train", "best", "--data", "pets", "--size", 32, "--minutes", 0.1)
    assert code == 0, err
    assert "The best in 6 s" in out
    assert re.search(r"On the validation photos: features from ImageNet, a new head [\d.]+, from scratch [\d.]+", out)
    summary = json.loads((folder.parent / "runs/best-pets-0/run.json").read_text())
    assert len(summary["candidates"]) == 2
    assert "features from ImageNet" in (folder.parent / "runs/best-pets-0/report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_ensemble_is_trained_and_used_as_one_network(folder, run):
    code, out, err = run("train", "ensemble", "--data", "pets", "--size", 16, "--epochs", 1)
    assert code == 0, err
    assert "8 networks fast, each" in out
    assert {path.name for path in (folder.parent / "runs/ensemble-pets-0").iterdir()} == {*outputs.RUN}
    code, out, err = run("predict", "runs/ensemble-pets-0", str(folder))
    assert code == 0, err


@pytest.mark.slow
def test_a_plan_is_kept_when_training_goes_on(folder, run, monkeypatch):
    from cnnhw import evaluation
    from cnnhw.training import presets

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "predict", interrupt)
        code, _, _ = run("train", "ensemble", "--data", "pets", "--size", 32, "--minutes", 0.1)
    assert code == 130
    monkeypatch.setattr(presets, "within", interrupt)
    code, out, err = run("train", "ensemble", "--data", "pets", "--size", 32, "--minutes", 0.1, "--resume")
    assert code == 0, err
    assert re.search(r"at 32x32 pixels, up to \d s", out)


def test_any_network_is_trained_for_minutes(folder, run):
    code, out, err = run("train", "q1_shallow", "--data", "pets", "--size", 32, "--minutes", 0.02)
    assert code == 0, err
    summary = json.loads((folder.parent / "runs/q1_shallow-pets-0/run.json").read_text())
    assert summary["seconds_total"] < 2.5
    assert summary["recipe"]["epochs"] == 60 >= len(summary["history"]["loss"]) > 1
    code, out, err = run("train", "fast", "--data", "pets", "--size", 32, "--minutes", 1, "--epochs", 2)
    assert code == 0, err
    assert "after epoch" in out
    assert len(json.loads((folder.parent / "runs/fast-pets-0/run.json").read_text())["history"]["loss"]) == 2


def test_predict_goes_on_after_a_file_that_is_no_photo(folder, run):
    run(*TRAIN)
    (folder / "dogs" / "note.txt").write_text("hello")
    code, out, err = run("predict", "runs/q1_shallow-pets-0", "pets/dogs/note.txt", "pets/dogs/1.png", "pets/none.png")
    assert code == 1
    assert len(out.splitlines()) == 1
    assert "note.txt" in err
    assert "none.png" in err


def test_a_finished_run_is_not_written_over(folder, run):
    run(*TRAIN)
    before = (folder.parent / "runs/q1_shallow-pets-0/run.json").read_bytes()
    code, _, err = run(*TRAIN)
    assert code == 2
    assert "already holds a finished run" in err
    assert (folder.parent / "runs/q1_shallow-pets-0/run.json").read_bytes() == before


SLOWLY = """
import time
from cnnhw import cli, evaluation

def slowly(*values, predict=evaluation.predict, **more):
    time.sleep(0.3)
    return predict(*values, **more)

evaluation.predict = slowly
cli.main()
"""


def test_interrupted_training_resumes(folder, run):
    long = (*TRAIN[:-1], 100)
    command = [sys.executable, "-c", SLOWLY, *map(str, long)]  # it is never done before it is interrupted

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it is ignored in whatever a shell runs in the background

    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    checkpoint = folder.parent / "runs/q1_shallow-pets-0/checkpoint.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "with --resume goes on" in err
    assert checkpoint.exists()
    code, _, err = run(*TRAIN)
    assert code == 2
    assert "add --resume" in err
    code, _, err = run(*TRAIN, "--resume")
    assert code == 2
    assert "other settings" in err  # 2 epochs now, 100 then
    code, _, err = run(*long, "--resume")
    assert code == 0, err
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "q1_shalow"), "Did you mean 'q1_shallow'"),
        (("trian", "q1_shallow"), "Did you mean one of: 'train', 'transfer'"),
        (("study", "rum", "q1"), "Did you mean 'run'"),
        (("study", "run", "q11"), "Did you mean 'q1'"),
        (("train", "q1_shallow", "--data", "flower"), "Did you mean 'flowers'"),
        (("train", "q1_deep", "--size", "8", "--data", "pets"), "at least 16 pixels, not 8"),
        (("predict", "nothing", "x.png"), "no weights at nothing"),
        (("data", "show", "pet"), "unknown data set or folder 'pet'"),
        (("train", "q1_shallow", "--epochs", "0"), "--epochs"),
        (("train", "fast", "--minutes", "0"), "--minutes"),
        (("bench", "--part", "troughput"), "Did you mean 'throughput'"),
    ],
)
def test_mistakes_get_one_clear_line(folder, run, words, message):
    code, _, err = run(*words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_data_list_and_show(folder, run):
    code, out, _ = run("data", "list")
    assert code == 0
    assert all(name in out for name in cnnhw.data.names())
    code, out, _ = run("data", "show", "pets", "--size", 16, "--out", "sheet.png")
    assert code == 0
    assert "cats" in out
    assert (folder.parent / "sheet.png").exists()
    assert [line.split()[1:] for line in out.splitlines() if line.startswith("all")] == [["28", "4", "8"]]


def test_study_list_and_status(run):
    code, out, _ = run("study", "list")
    assert code == 0
    assert "q1_deep" in out
    code, out, _ = run("study", "status")
    assert code == 0
    assert "of 9 runs have records" in out


@pytest.mark.parametrize("words", [(), ("data",), ("train",), ("predict",), ("bench",), ("study",), ("study", "run")])
def test_help_reads_well(run, words):
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert "Usage:" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.filterwarnings("default")
def test_skipped_photos_are_reported_in_one_line(folder, run):
    (folder / "cats" / "broken.png").write_bytes(b"")
    code, _, err = run("data", "show", "pets", "--size", 16)
    assert code == 0
    assert "warning: " in err
    assert "broken.png" in err


def test_errors_of_our_own_have_no_traceback(run, monkeypatch):
    def fail(self, *_, **__):
        raise CnnhwError("it is so")

    monkeypatch.setattr(plots, "save", fail)
    monkeypatch.setattr(registry, "names", fail.__get__(0))
    code, _, err = run("study", "list")
    assert (code, err) == (2, "error: it is so\n")


def test_transfer_to_own_photos_then_predict(folder, run):
    code, out, err = run("transfer", "fast", "--data", "pets", "--head-epochs", 3, "--epochs", 2)
    assert code == 0, err
    saved = folder.parent / "runs" / "fast-to-pets-0"
    assert {path.name for path in saved.iterdir()} == {
        "weights.safetensors", "run.json", "curves.png", "confusion.png", "model.svg", "report.html",
    }  # fmt: skip
    summary = json.loads((saved / "run.json").read_text())
    assert [stage["train"] for stage in summary["recipe"]["stages"]] == ["classifier", "all"]
    assert len(summary["history"]["loss"]) == summary["recipe"]["epochs"] == 3
    assert summary["classes"] == ["cats", "dogs"]
    assert "Stage 1, the head alone: 258 parameters trained" in out
    assert f"Test accuracy {summary['accuracy']:.3f}" in out
    assert "research" in summary["licence"]  # of the source's photos
    code, out, err = run("predict", saved, folder / "dogs" / "0.png")
    assert code == 0, err
    assert "dogs" in out
    code, out, err = run("transfer", saved, "--data", "pets", "--epochs", 0, "--head-epochs", 1, "--head", "own")
    assert code == 0, err
    code, out, err = run("transfer", "fast", "--data", "pets")
    assert code == 2
    assert "already holds a finished run" in err


def test_an_interrupted_transfer_goes_on(folder, run, monkeypatch):
    words = ("transfer", "fast", "--data", "pets", "--head-epochs", 2, "--epochs", 2, "--head", "hidden", "--hidden", 8)
    from cnnhw.transfer import loop

    original = loop.fit

    def interrupt(*given, on_epoch, **named):
        def stop(epoch, row):
            on_epoch(epoch, row)
            if named["rates"] == {} and given[2].flip:
                raise KeyboardInterrupt

        return original(*given, on_epoch=stop, **named)

    monkeypatch.setattr(loop, "fit", interrupt)
    code, _, err = run(*words)
    assert code == 130
    assert "--resume" in err
    monkeypatch.setattr(loop, "fit", original)
    code, _, err = run(*words)
    assert code == 2
    assert "holds an interrupted run" in err
    code, out, err = run(*words, "--resume")
    assert code == 0, err
    assert "Stage 2, all layers" in out
    assert cnnhw.load(folder.parent / "runs" / "fast-to-pets-0").new_head["hidden"] == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fsat",), "Did you mean 'fast'?"),
        (("fast", "--head", "own", "--size", 32), "leave --size out"),
        (("fast", "--size", 8), "fast takes no photos of 8 pixels; the next size that it takes is 16"),
        (("fast", "--dropout", 1), "0<=x<1"),
        (("imagenet", "--size", 16), "size=16 is too small"),
    ],
)
def test_mistakes_in_a_transfer_are_told_and_leave_nothing(folder, run, words, message):
    code, _, err = run("transfer", *words, "--data", "pets")
    assert code == 2
    assert message in err
    assert not (folder.parent / "runs").exists()


def test_a_second_stage_that_makes_it_worse_is_not_kept(folder, run, monkeypatch):
    from cnnhw.transfer import stages

    recipe = stages.recipe(1, learning_rate=30.0)
    monkeypatch.setattr(stages, "recipe", lambda *_, **__: recipe)
    code, out, err = run("transfer", "fast", "--data", "pets", "--head-epochs", 60, "--epochs", 1)
    assert code == 0, err
    assert "the features are left as they were" in out
    saved = folder.parent / "runs" / "fast-to-pets-0"
    source, ours = cnnhw.load("fast"), cnnhw.load(saved)
    assert (source.features.stage1[0].weight == ours.features.stage1[0].weight).all()
    photos = cnnhw.data.load("pets", size=64)
    guesses = cnnhw.evaluation.predict(ours, photos.test).argmax(1)
    accuracy = json.loads((saved / "run.json").read_text())["accuracy"]
    assert cnnhw.evaluation.accuracy(guesses, photos.test.labels) == accuracy
