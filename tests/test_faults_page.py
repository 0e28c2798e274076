"""The page of the faults: each on and off the same way for every row, words from records, traces as they were named."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from matplotlib import pyplot as plt

from cnnhw import studies
from cnnhw.book import faults, rerun
from cnnhw.studies.statistics import Comparison

PAGE = Path(__file__).parents[1] / "examples" / "plot_report_faults.py"


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_all_twelve_faults_are_drawn_each_with_the_arm_that_has_it_first():
    rows = faults.differences()
    assert {int(name.split()[0]) for name in rows} == set(range(1, 13))
    arms = {arm.name: arm for study in faults.STUDIES if study.name == "faults" for arm in study.arms}
    faulty = {"last_tenth", "raw", "bgr", "head_only", "old_classifier", "bgr_target", "concat_128", "concat_raw"}
    faulty |= {"inception_raw"}
    for pair in faults._PAIRS.values():
        if isinstance(pair, tuple):
            on, off = (arms[name] for name in pair)
            assert off.name not in faulty
            # a fault is an arm of its own, or a part of the report's network that an option takes away
            assert on.name in faulty or (off.options and not on.options)


def test_what_the_short_answer_names_are_the_largest_effects():
    rows = {name: row.effect for name, row in faults.differences().items() if isinstance(row, Comparison)}
    ordered = sorted(rows, key=rows.__getitem__)
    assert ordered[:2] == ["4  Second stage: last layer only", "2  Raw pixels, Q2's network"]
    assert ordered[-1] == "7  Dense layer, Q1's network"
    if PAGE.is_file():
        answer = PAGE.read_text(encoding="utf-8").partition("**The answer.**")[2].partition('"""')[0]
        pairs = [faults._PAIRS[name] for name in (*ordered[:2], ordered[-1])]
        assert re.findall(r":paired:`faults/(\w+) (\w+)`", answer) == pairs


def test_the_drawing_says_in_words_what_it_shows():
    rows = faults.differences()
    figure = faults.forest()
    effects = [row for row in rows.values() if isinstance(row, Comparison)]
    clear = sum(not row.interval()[0] <= 0 <= row.interval()[1] for row in effects)
    assert figure.get_suptitle().endswith(f"{clear} of {len(effects)} intervals leave out zero")
    label = figure.get_label()
    for name, row in rows.items():
        number, _, words = name.partition("  ")
        assert f"{number}. {words}: {f'{100 * row.effect:+z.1f}' if isinstance(row, Comparison) else row}" in label


def test_training_to_convergence_is_drawn_the_same_way_once_all_its_runs_are_there(monkeypatch):
    read = studies.records

    def made_up(seeds):
        named = {"sound": "flattened", "averaged": "averaged"}
        change = {"study": "faults_averaged", "questions": {}}
        made = [
            dataclasses.replace(r, content=r.content | change | {"arm": named[r.arm]})
            for r in read("faults")
            if r.arm in named and r.seed < seeds
        ]
        return lambda study=None: made if study == "faults_averaged" else read(study)

    name = "7  The same, trained to convergence"
    monkeypatch.setattr(studies, "records", made_up(5))
    assert name not in faults.differences()
    monkeypatch.setattr(studies, "records", made_up(6))
    rows = faults.differences()
    assert list(rows).index(name) == list(rows).index("7  Dense layer, Q1's network") + 1
    assert rows[name] == rows["7  Dense layer, Q1's network"]


def test_each_trace_is_there_with_the_fault_and_not_without_it():
    one, sound, raw = (faults._runs(arm) for arm in ("last_tenth", "sound", "raw"))
    least = min(run.content["first_losses"][0] for run in raw)
    assert least > 5 * np.log(5) > max(run.content["first_losses"][0] for run in sound)
    off, right = (
        fmean(abs(r.history["validation_accuracy"][-1] - r.accuracy(8)) for r in runs) for runs in (one, sound)
    )
    assert off > 3 * right
    flat, learnt = (
        fmean(run.history["loss"][-1] / run.history["loss"][19] for run in faults._runs(arm))
        for arm in ("head_only", "trained")
    )
    assert flat > 0.8 > 0.5 > learnt


def test_other_figures_are_put_into_words_and_are_as_narrow_as_a_phone_can_show():
    for draw, words in (
        (faults.traces, "2. Raw pixels: training loss, nats by step"),
        (faults.swapped, "red and blue"),
    ):
        figure = draw()
        assert words in figure.get_label()
        assert figure.get_suptitle()
        assert figure.get_figwidth() <= 4.6
    lines = faults.times().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["q1_shallow", "q1_deep", "q2_concat_skip"]


def test_what_the_report_run_again_says_names_faults_of_the_page():
    named = {
        int(n) for words in rerun.WORDS.values() for m in re.findall(r"faults? ([\d, ]+)", words) for n in m.split(",")
    }
    assert named
    assert named <= {int(name.split()[0]) for name in faults.differences()}


@pytest.mark.skipif(not PAGE.is_file(), reason="needs the repository")
def test_the_drawing_of_the_idea_and_the_page_have_the_same_twelve():
    words = (PAGE.parents[1] / "docs" / "_static" / "drawings" / "faults.svg").read_text(encoding="utf-8")
    told = words.partition("<desc>")[2].partition("</desc>")[0]
    twelve = [*range(1, 13)]
    assert sorted(map(int, re.findall(r"\d+", told))) == twelve
    assert sorted(int(number) for number in re.findall(r">(\d+) ", words)) == twelve
    assert [int(n) for n in re.findall(r"^# (\d+)\. \*\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)] == twelve
