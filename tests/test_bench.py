"""The benchmark counts right, reads its own record, and says what was reached."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from benchmarks import bench, keras_reference, peers
from click.testing import CliRunner
from matplotlib import pyplot as plt

from cnnhw import Recipe, studies, system
from cnnhw.book import benchmarks, registry, speed
from cnnhw.cli.command import cli
from cnnhw.errors import CnnhwError
from cnnhw.training import throughput


def test_operations_by_hand():
    # q1_shallow at 16 px: three convolutions and two dense layers; the photo needs no gradient
    convolutions = [16 * 16 * 9 * 3 * 16, 8 * 8 * 9 * 16 * 32, 4 * 4 * 9 * 32 * 64]
    dense = [64 * 2 * 2 * 64, 64 * 5]
    expected = 6 * sum(convolutions + dense) - 2 * convolutions[0]
    assert benchmarks.flops("q1_shallow", 16) == expected


def test_seconds_to_a_level():
    curve = [(1.0, 0.3), (2.0, 0.7), (3.0, 0.6), (4.0, 0.8)]
    assert benchmarks.seconds_to(0.65, curve) == 2.0
    assert benchmarks.seconds_to(0.75, curve) == 4.0
    assert benchmarks.seconds_to(0.9, curve) is None
    assert benchmarks.times_to(0.75, [curve, curve[:2], [(0.5, 0.76)]]) == [0.5, 4.0, float("inf")]


def test_peak_is_plausible():
    assert 0.5 < bench.peak(1, torch.float32, seconds=0.2) < 10_000
    assert torch.get_num_threads() == 1


def made_up():
    """Return a small benchmark with known ratios."""
    return {
        "machine": {
            "processor": "X", "threads": 2, "memory_gb": 8.0,
            "peak_gflops": {"float32": 100.0, "bfloat16": 200.0},
        },
        "photos": {"tiny5": 1000},
        "throughput": [
            {"model": "q1_deep", "side": "cnnhw", "size": 128, "photos_per_second": [130.0, 120.0, 110.0],
             "gflops": [50.0, 50.0, 50.0], "precision": "float32", "peak_mb": 1000},
            {"model": "q1_deep", "side": "keras", "size": 128, "photos_per_second": [100.0, 100.0, 100.0],
             "gflops": [40.0, 40.0, 40.0], "precision": "float32", "peak_mb": 1200},
        ],
        "accuracy": {"tiny5": [
            {"setting": "fast, 2 epochs, 48 px", "side": "cnnhw", "curve": [[1.0, 0.5], [2.0 + seed, 0.7]]}
            for seed in range(3)
        ]},
        "processes": [{"model": "fast", "size": 64, "one_process": [100.0], "one_thread_each": [150.0]}],
    }  # fmt: skip


def test_table_says_what_was_reached(monkeypatch):
    result = made_up()
    result["accuracy"]["tiny5"].append({"setting": "q1_deep", "side": "keras", "curve": [[100.0, 0.6], [240.0, 0.65]]})
    text = benchmarks.table(result)
    assert "q1_deep: cnnhw to Keras: 1.20 times (1.10 to 1.30); target 1.2: met" in text
    assert "more than 240 s; its best is 0.650" in text
    assert "3 of 3 runs, 3.0 s (2.0 to 4.0), Keras more than 80 times; target 75: met" in text
    assert "fast: one-thread processes to one process: 1.50 times (1.50 to 1.50); target 1.7: missed" in text
    assert "50%" in text


def test_without_training_keras_its_accuracies_come_from_the_record(monkeypatch):
    known = {"accuracy": {"tiny5": [{"side": "keras", "curve": [[7.0, 0.55], [14.0, 0.63]]}]}}
    goals = {"processor": "X", "threads": 2, "runs": []}
    monkeypatch.setattr(benchmarks, "record", lambda name="bench": known if name == "bench" else goals)
    assert benchmarks.keras_curve(made_up(), "tiny5") == [(10.0, 0.55), (20.0, 0.63)]  # 1,000 photos at 100 a second
    nothing = made_up() | {"throughput": []}
    assert benchmarks.keras_curve(nothing, "tiny5") == []
    assert "Keras" not in benchmarks.table(nothing)


def test_a_level_reached_by_few_runs_has_no_time():
    result = made_up()
    result["accuracy"]["tiny5"][0]["curve"] = result["accuracy"]["tiny5"][1]["curve"] = [[1.0, 0.5]]
    assert "1 of 3 runs\n" in benchmarks.table(result) + "\n"


def test_committed_benchmark_is_complete():
    result = benchmarks.record()
    assert set(bench.PARTS) <= result.keys()
    assert {row["side"] for row in result["accuracy"]["tiny5"]} == {"cnnhw", "keras"}
    for row in result["profile"]:
        assert sum(row["shares"].values()) == pytest.approx(1, abs=0.05)
    assert "target 75" in benchmarks.table(result)
    assert "target 50: met" in benchmarks.table(result)


def test_time_to_the_flowers_counts_what_came_before():
    rows = [
        {"setting": "transfer", "side": "keras", "curve": [[100.0, 0.4], [300.0, 0.66]]},
        {"setting": "fast", "side": "cnnhw", "curve": [[2.0, 0.5], [4.0, 0.7]]},
        {"setting": "slow", "side": "cnnhw", "curve": [[2.0, 0.5], [10.0, 0.7]]},
    ]
    text = benchmarks.table(made_up() | {"transfer": rows})
    assert "the report, in Keras:              300 s" in text
    assert "4.0 s (4.0 to 4.0), Keras 75 times; target 50: met" in text
    assert "Keras 30 times; target 50: missed" in text
    rows[0]["curve"] = [[100.0, 0.4], [300.0, 0.6]]
    assert "Keras more than 75 times" in benchmarks.table(made_up() | {"transfer": rows})


@pytest.mark.parametrize(
    ("begin", "epoch", "budget", "epochs"), [(0, 1, 10, 10), (20, 5, 100, 16), (40, 30, 60, 1), (0, 100, 60, 1)]
)
def test_a_peer_gets_as_many_epochs_as_fit_its_time(monkeypatch, begin, epoch, budget, epochs):
    monkeypatch.setattr(peers, "_seconds", lambda fit, model, count: begin + epoch * count)
    found, took, _ = peers._in_time(object, lambda model, count: None, budget)
    assert (found, took) == (epochs, begin + epoch * epochs)


def test_record_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmarks.studies.store, "folder", lambda: tmp_path)
    with pytest.raises(CnnhwError, match="cannot be read"):
        benchmarks.record()


def test_goals_are_told_with_what_was_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.studies.store, "folder", lambda: tmp_path)
    first, second = benchmarks.GOALS[:2]
    reached = [(first, first.accuracy + 0.01), (first, first.accuracy - 0.02), (first, first.accuracy), (second, 0.5)]
    runs = [
        {"model": goal.model, "data": goal.data, "minutes": goal.minutes, "accuracy": accuracy, "seconds": 20.6}
        for goal, accuracy in reached
    ]
    text = {"processor": "X", "threads": 2, "date": "2026-11-30T12:00:00+00:00", "runs": runs}
    (tmp_path / "goals.json").write_text(json.dumps(text))
    told = benchmarks.table({"machine": made_up()["machine"]}).splitlines()[-2:]
    assert told == [
        "  ensemble on tiny5: 0.800 (median of 3 runs, 0.780 to 0.810) in 21 s; target 0.8 in 20 s: met",
        "  ensemble on tiny5: 0.500 (one run) in 21 s; target 0.85 in 120 s: missed",
    ]
    assert benchmarks.stated("goal ensemble tiny5 120", {}) == "0.500 (one run)"
    with pytest.raises(ValueError, match="holds no"):
        benchmarks.stated("goal ensemble tiny5 180", {})


def peer(name, minutes, accuracy, **changes):
    """Return a training as ``peers.py`` writes it."""
    run = {
        "peer": name, "minutes": minutes, "seed": 0, "processor_seconds": 200.4, "accuracy": accuracy, "seconds": 119.6,
        "epochs": 3, "version": "1.2", "data": "flowers", "photos": 2318, "size": 64,
    }  # fmt: skip
    return run | changes


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Read other files of figures than the book's; return a function that writes that of the peers."""
    monkeypatch.setattr(benchmarks.studies.store, "folder", lambda: tmp_path)

    def write(*runs, **changes):
        text = {"processor": "X", "threads": 2, "date": "2026-11-29T12:00:00+00:00", "runs": runs} | changes
        (tmp_path / "peers.json").write_text(json.dumps(text))

    return write


RUNS = (
    peer("cnnhw", 2.0, 0.5), peer("<b>", 2.0, 0.75), peer("cnnhw", 5.0, 0.8), peer("<b>", 5.0, 0.8001),
    peer("Keras", 5.0, 0.3, data="small photos", photos=40_000, size=32),
)  # fmt: skip


def test_peers_are_read_and_told_by_data_and_time(beside):
    beside(*RUNS)
    found = benchmarks.peers()
    assert found["runs"] == list(RUNS)
    groups = benchmarks.together(found)
    assert {key: list(group) for key, group in groups.items()} == {
        ("flowers", 2.0): ["<b>", "cnnhw"], ("flowers", 5.0): ["<b>", "cnnhw"], ("small photos", 5.0): ["Keras"],
    }  # fmt: skip
    assert benchmarks.leaders(found) == [
        "flowers, 2 minutes: <b> reached the highest test accuracy (0.750), then cnnhw (0.500); one training each.",
        "flowers, 5 minutes: <b> and cnnhw reached the highest test accuracy (0.800); one training each.",
        "small photos, 5 minutes: Keras reached the highest test accuracy (0.300); one training each.",
    ]
    beside(*RUNS[:2], peer("cnnhw", 2.0, 1.0, seed=1))
    assert benchmarks.leaders(benchmarks.peers()) == [
        "flowers, 2 minutes: cnnhw and <b> reached the highest test accuracy (0.750); 1 to 2 trainings each."
    ]


def test_peers_have_a_table_and_a_figure(beside):
    beside(*RUNS)
    page = speed.beside_table(benchmarks.peers())._repr_html_()
    assert page.count("<tr") == 1 + 3 + len(RUNS)
    assert '<th scope="row">&lt;b&gt; 1.2</th><td>0.750</td><td>120</td><td>200</td>' in page
    assert "flowers, 2,318 photos of 64 pixels: 2 minutes" in page
    assert "<b>" not in page
    assert page.count("one training each") == 3
    figure = speed.beside(benchmarks.peers())
    assert "flowers, 2 minutes: <b> reached the highest" in figure.get_label()
    assert [len(axis.lines) for axis in figure.axes] == [2, 2]
    older = [{name: value for name, value in run.items() if name not in ("photos", "size")} for run in RUNS]
    beside(*older)
    assert "flowers: 2 minutes" in speed.beside_table(benchmarks.peers())
    plt.close("all")


@pytest.mark.parametrize(
    ("runs", "changes", "message"),
    [
        ((), {}, "no training"),
        (RUNS[:1] * 2, {}, "twice"),
        ((peer("a", 2.0, 1.5),), {}, "training of a took no time, or is not between 0 and 1"),
        ((peer("a", 2.0, math.nan),), {}, "not between 0 and 1"),
        ((peer("a", 2.0, 0.5, seconds=0),), {}, "took no time"),
        ((peer("", 2.0, 0.5),), {}, "no name"),
        ((peer("a", "two", 0.5),), {}, "not supported"),
        (({"peer": "a"},), {}, "it has no 'data'"),
        (("a",), {}, "indices must be"),
        (RUNS, {"threads": 0}, "machine"),
        (RUNS, {"processor": None}, "machine"),
        (RUNS, {"runs": 3}, "not iterable"),
    ],
)
def test_peers_that_are_broken_are_told_in_one_line(beside, runs, changes, message):
    beside(*runs, **changes)
    with pytest.raises(CnnhwError, match=rf"peers\.json cannot be read \(.*{message}.*\): restore it, or measure with"):
        benchmarks.peers()


def test_peers_that_are_missing_or_no_json(beside, tmp_path):
    again = r"peers\.json cannot be read .*measure with `python tests/benchmarks/peers\.py --json .*peers\.json`"
    with pytest.raises(CnnhwError, match=again):
        benchmarks.peers()
    for text in ("{", "[1]", "[" * 100_000, "\x00"):
        (tmp_path / "peers.json").write_text(text)
        with pytest.raises(CnnhwError, match=again):
            benchmarks.peers()


def test_what_peers_writes_is_what_is_read(monkeypatch, beside, tmp_path):
    def folder(*_):
        for number in range(3):
            (tmp_path / "photos" / "train" / "a").mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / "train" / "a" / f"{number}.jpg").touch()
        return tmp_path / "photos"

    def run(command, **_):
        said = '{"accuracy": 0.5, "seconds": 1.0, "epochs": 2, "version": "1"}'
        return subprocess.CompletedProcess(command, 0, f"a line\n{said}\n", "")

    monkeypatch.setattr(peers, "parted", folder)
    monkeypatch.setattr(peers, "small_photos", folder)
    monkeypatch.setattr(peers.subprocess, "run", run)
    monkeypatch.setattr(peers.resource, "getrusage", lambda _: next(spent))
    spent = (resource.struct_rusage((float(second), 0.5, *[0] * 14)) for second in range(100))
    out = tmp_path / "peers.json"
    monkeypatch.setattr(sys, "argv", ["peers.py", "--json", str(out), "--peer", "cnnhw", "--peer", "Keras"])
    peers.main()
    found = benchmarks.peers()
    assert {(run["data"], run["size"], run["photos"]) for run in found["runs"]} == {
        ("flowers", 64, 3), ("small photos", 32, 3)
    }  # fmt: skip
    assert {run["processor_seconds"] for run in found["runs"]} == {1.0}
    assert len(benchmarks.leaders(found)) == 4


def test_files_beside_the_records_are_no_records(beside, tmp_path):
    beside(*RUNS)
    assert studies.store.read(where=tmp_path) == []


def test_figures_of_the_benchmark_for_sentences():
    result = made_up() | {
        "profile": [{"model": "fast", "shares": {"convolution": 0.517}, "places": {"optimizer.step()": 0.2}}]
    }
    result["accuracy"]["tiny5"].append({"setting": "q1_deep", "side": "keras", "curve": [[100.0, 0.6], [240.0, 0.65]]})
    for what, expected in {
        "share fast convolution": "52 %",
        "place fast optimizer.step()": "20 %",
        "peak q1_deep cnnhw": "50 %",
        "rate q1_deep cnnhw": "120 photos a second (110 to 130)",
        "seconds tiny5 fast, 2 epochs, 48 px": "3.0 s (median of 3 runs, from 2.0 to 4.0)",
        "ratio tiny5 fast, 2 epochs, 48 px": "more than 80",
        "together fast": "1.50 (1.50 to 1.50)",
    }.items():
        assert benchmarks.stated(what, result) == expected
    for wrong in (
        "",
        "share",
        "share fast dance",
        "share slow convolution",
        "peak fast cnnhw",
        "seconds tiny5 slow",
        "x y z",
    ):
        with pytest.raises(ValueError, match="holds no"):
            benchmarks.stated(wrong, result)
    assert benchmarks.stated("share q1_deep convolution").endswith(" %")


def test_figures_of_the_chapter_tell_what_they_draw():
    result = benchmarks.record()
    figures = {
        speed.race(result): "tiny5: 0.679 in",
        speed.passes(Recipe.fast(), 64): "32 pixels (25%)",
        speed.places(result): "q1_deep, 128 pixels: convolution",
        speed.parts(studies.records("fast")): "rising resolution -",
        speed.growth(result): "fast by photos: ",
        speed.whitening(torch.randn(24, 3, 4, 4)): "24 filters of 4x4 pixels",
    }
    for figure, expected in figures.items():
        assert expected in figure.get_label()
        assert figure.get_label().startswith(figure.get_suptitle())
        assert figure.get_figwidth() < 5
    plt.close("all")
    assert '<pre tabindex="0">a &lt; b</pre>' in speed.folded("All", "a < b")


def test_parts_are_drawn_with_the_intervals_of_their_questions():
    told = speed.parts(studies.records("fast")).get_label()
    found = [one for one in registry.answers(studies.records("fast")) if one.question.study == "fast"]
    assert len(found) == 7
    for low, high in (one.interval for one in found):
        assert f"({low:+z.1f} to {high:+z.1f})" in told
    plt.close("all")


def test_samples_of_py_spy_are_told_by_place():
    stacks = (
        "main (x.py:1);_steps (cnnhw/training/loop.py:9);step (cnnhw/training/step.py:7);backward (torch/x.py:3) 6\n"
        "main (x.py:1);_steps (cnnhw\\training\\loop.py:9);augment (cnnhw\\data\\augment.py:5);flip (torch\\y.py:2) 2\n"
        "main (x.py:1);load (cnnhw/data/cache.py:5) 90\n"
    )
    assert bench._innermost(stacks) == {"step: backward": 0.75, "augment": 0.25}


def test_unknown_part():
    with pytest.raises(ValueError, match="unknown parts"):
        bench.run(["speed"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_parts_run_and_give_a_table():
    said = []
    result = bench.run(
        ("throughput", "processes", "profile"), sets=("scenes",), seconds=0.2, repeats=1, keras=False, say=said.append
    )
    assert any("throughput: fast" in line for line in said)
    assert json.loads(json.dumps(result)) == result
    text = benchmarks.table(result)
    assert "q1_deep in cnnhw" in text
    assert "one-thread processes" in text


@pytest.mark.slow
def test_script_runs_from_a_checkout(tmp_path):
    script = [sys.executable, bench.__file__]
    done = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "--retrain" in done.stdout
    sample = [*script, "sample", "q1_shallow", "--size", "32", "--count", "64", "--seconds", "0.1"]
    done = subprocess.run(sample, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout)["photos_per_second"] > 0


RATES = {("fast", 64): 1000.0, ("best", 64): 500.0, ("best", 96): 200.0, ("best", 128): 100.0}


@pytest.fixture
def machine(monkeypatch):
    """Measure what is known beforehand: half resolutions train four times as fast."""
    rates = lambda name, side, seconds: [4 * RATES[name, side], RATES[name, side]]  # noqa: E731
    monkeypatch.setattr(throughput.presets, "rates", rates)


def test_command_counts_the_epochs_that_fit_in_ten_minutes(machine, tmp_path, monkeypatch):
    load = throughput.presets.noise(300, 64)
    monkeypatch.setattr("cnnhw.data.load", lambda *_, **__: load)
    out = tmp_path / "speed.json"
    done = CliRunner().invoke(cli, ["bench", "--data", "mine", "--json", str(out), "--repeats", "2"])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert {(row["model"], row["size"]): row["photos_per_second"] for row in result["throughput"]} == {
        which: [rate, rate] for which, rate in RATES.items()
    }
    # 9 of 10 minutes, 300 photos at 400 and at 100 a second by turns
    assert result["throughput"][-1]["epochs"]["mine"] == pytest.approx([540 / 300 * 160] * 2)
    assert "mine: 300 photos to train on" in done.stdout
    assert "best at 128 pixels in" in done.stdout
    assert done.stdout.splitlines()[-2].endswith(" 288")


def test_throughput_alone_reads_no_photos(machine, monkeypatch):
    monkeypatch.setattr("cnnhw.data.load", lambda *_, **__: pytest.fail("photos are read"))
    done = CliRunner().invoke(cli, ["bench", "--part", "throughput"])
    assert done.exit_code == 0, done.output
    assert "epochs" not in done.stdout
    assert "1,000 (1,000 to 1,000)" in done.stdout


def test_command_says_where_keras_is_measured():
    done = CliRunner().invoke(cli, ["bench", "--keras"])
    assert done.exit_code == 2
    assert "tests/benchmarks/bench.py" in done.output


@pytest.mark.parametrize("name", ["q1_shallow", "q1_deep"])
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")
@pytest.mark.slow
def test_keras_script_trains_the_same_network(name, tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 64), ("validation", 10), ("test", 10)):
        np.save(tmp_path / f"{part}.npy", rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
        np.save(tmp_path / f"{part}_labels.npy", np.arange(count) % 5)
    command = [sys.executable, keras_reference.__file__, name, str(tmp_path), "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[1]["seconds"] > lines[0]["seconds"] > 0
    assert 0 <= lines[1]["test_accuracy"] <= 1


def test_peak_memory_counts_this_process_only():
    code = "from cnnhw import system; system.keep_freed(); system.keep_freed(); print(system.peak_mb())"
    block = bytearray(600 * 2**20)  # not the child's
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert system.peak_mb() > 600
    assert 50 < child < system.peak_mb()
    assert len(block)
