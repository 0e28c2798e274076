"""Claims: what makes them supported, refuted or not resolved, and how often that is wrong."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cnnhw import book
from cnnhw.book import registry
from cnnhw.book.registry import CLAIMS, MEASURES
from cnnhw.cli.command import cli
from cnnhw.errors import CnnhwError, UnknownNameError
from cnnhw.studies import claims, queue
from cnnhw.studies.claims import alike, higher, holm, judge
from cnnhw.studies.measures import measured
from cnnhw.studies.questions import PREDICTIONS
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe


def claim(**change):
    base = higher("c", "a", "b", "A is better.", study="s", registered="2026-11-24")
    return dataclasses.replace(base, **change)


def record(arm, seed, right, known=(), **content):
    """Make a record whose test photos are right where `right` says so."""
    labels = "0" * len(right)
    return Record(
        {
            "study": "s",
            "arm": arm,
            "key": f"{arm}{seed}",
            "configuration": {"seed": seed},
            "best_epoch": 1,
            "seconds": 60.0,
            "history": {"loss": [1.0, 0.5]},
            "data": {"test_fingerprint": "t", "classes": ["wrong", "right"]},
            "test_labels": labels,
            "test_predictions": {"1": "".join("0" if good else "1" for good in right)},
            "claims": {one.id: one.hash for one in known},
            **content,
        },
        Path("x.json"),
    )


def runs(gain, seeds=6, photos=400, base=0.6, seed=0, known=(), spread=0.01, interaction=0.25):
    """Make runs of two arms; arm a is right `gain` more often; photos differ in difficulty."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 0.3, photos)
    made = []
    for number in range(seeds):
        for arm, extra in (("a", gain), ("b", 0.0)):
            luck = rng.normal(0, spread)
            score = base + extra + luck + difficulty + rng.normal(0, interaction, photos)
            made.append(record(arm, number, score > 0.5, known))
    return made


@pytest.mark.parametrize(
    ("direction", "margin", "gain", "verdict"),
    [
        ("greater", 0.0, 0.2, "supported"),
        ("greater", 0.0, -0.2, "refuted"),
        ("greater", 0.0, 0.0, "not resolved"),
        ("greater", 0.5, 0.2, "refuted"),
        ("less", 0.0, -0.2, "supported"),
        ("less", 0.0, 0.2, "refuted"),
        ("equivalent", 0.1, 0.0, "supported"),
        ("equivalent", 0.02, 0.3, "refuted"),
        ("equivalent", 0.001, 0.0, "not resolved"),
    ],
)
def test_verdicts(direction, margin, gain, verdict):
    (found,) = judge([claim(direction=direction, margin=margin)], runs(gain))
    assert found.verdict == found.plain == verdict
    assert found.seeds == 6
    summary = found.summary("q0")
    assert (summary["n"], summary["role"], summary["chapter"]) == (6, "first-edition", "q0")
    assert summary["low"] < summary["effect"] < summary["high"]
    assert summary["effect"] == pytest.approx(100 * found.effect.effect)
    assert summary["delta"] == pytest.approx(100 * margin)
    assert summary["verdict"] == verdict.replace("not resolved", "open")
    if verdict == "supported":
        assert summary["finding"] == summary["prediction"]
    if verdict == "refuted":
        assert summary["finding"] not in (summary["prediction"], "cannot tell")


def test_five_seeds_are_not_enough():
    (found,) = judge([claim()], runs(0.3, seeds=5))
    assert found.verdict == "not resolved"
    assert found.effect.interval()[0] > 0
    (nothing,) = judge([claim()], [])
    assert (nothing.verdict, nothing.effect, nothing.seeds) == ("not resolved", None, 0)
    summary = json.loads(json.dumps(nothing.summary("q0")))
    assert (summary["verdict"], summary["finding"], summary["effect"], summary["n"]) == ("not run", "not run", None, 0)
    assert found.summary("q0")["finding"] == "cannot tell"


def test_only_seeds_that_both_arms_have_count():
    some = [r for r in runs(0.3, seeds=7) if not (r.arm == "b" and r.seed == 3)]
    (found,) = judge([claim()], some)
    assert found.seeds == 6


def test_claims_about_one_study_are_corrected_together():
    values = [0.001, 0.04, 0.03, 0.012]
    assert holm(values) == [True, False, False, True]
    assert holm([]) == []
    assert holm([0.06]) == [False]
    rng = np.random.default_rng(1)
    others = [claim(id=f"o{i}", measure=measured(f"m{i}")) for i in range(20)]
    made = [
        record(arm, seed, [True] * 9 + [False], measures={f"m{i}": rng.normal() for i in range(20)} | {"close": value})
        for arm, shift in (("a", 0.75), ("b", 0.0))
        for seed, value in enumerate(shift + 0.5 * rng.normal(size=6))
    ]
    close = claim(measure=measured("close"))
    (alone,) = judge([close], made)
    assert alone.verdict == "supported"
    together = judge([close, *others], made)[0]
    assert (together.verdict, together.plain) == ("not resolved", "supported")
    elsewhere = judge([close, *(dataclasses.replace(o, study="t") for o in others)], made)[0]
    assert elsewhere.verdict == "supported"


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "interaction"), [(6, 0.05), (6, 0.25), (8, 0.25), (12, 0.25)])
def test_false_support_of_any_of_three_claims_is_rare(seeds, interaction):
    three = [claim(id=f"c{i}", study=f"{i}", first=f"a{i}", second="b") for i in range(3)]
    three = [dataclasses.replace(one, study="s") for one in three]
    rng = np.random.default_rng(seeds)
    draws, wrong = 4000, 0
    for _ in range(draws):
        difficulty = rng.normal(0, 0.3, 100)
        made = []
        for number in range(seeds):
            for arm in ("a0", "a1", "a2", "b"):
                score = 0.6 + rng.normal(0, 0.012) + difficulty + rng.normal(0, interaction, 100)
                made.append(record(arm, number, score > 0.5))
        wrong += any(found.verdict != "not resolved" for found in judge(three, made))
    assert wrong / draws <= 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5


def test_a_claim_edited_after_the_runs_is_post_hoc():
    one = claim()
    (found,) = judge([one], runs(0.2, known=[one]))
    assert found.beforehand
    (edited,) = judge([dataclasses.replace(one, margin=0.01)], runs(0.2, known=[one]))
    assert not edited.beforehand
    (late,) = judge([one], runs(0.2))
    assert not late.beforehand
    assert [one.known for one in (found, edited, late)] == ["no", "post hoc", "post hoc"]


def test_what_was_known_in_part_is_not_beforehand():
    one = claim(known_in_part=True)
    (found,) = judge([one], runs(0.2, known=[one]))
    assert (found.known, found.beforehand) == ("in part", False)
    said = {one["id"]: one for one in json.loads(CliRunner().invoke(cli, ["claims", "--json"]).stdout)}
    assert {one["known"] for one in said.values()} == {"no", "in part", "yes"}
    assert said["q2-depth"]["known"] == "in part"
    assert said["q6-steps"]["known"] == "no"
    assert said["speed-muon"]["known"] == "yes"
    assert "known in part" in CliRunner().invoke(cli, ["claims"]).stdout


def test_what_would_refute_a_claim_follows_from_its_margin():
    said = {"study": "s", "registered": "2026-11-24"}
    assert higher("c", "a", "b", "A.", **said).refuted_by == "an accuracy that is no higher"
    more = higher("c", "a", "b", "A.", points=2, **said)
    assert (more.refuted_by, more.margin) == ("a gain of less than 2 points", 0.02)
    same = alike("c", "a", "b", "A.", **said)
    assert same.refuted_by == "a difference of more than 2.5 points"
    assert (same.direction, same.margin) == ("equivalent", 0.025)


def test_a_note_on_a_claim_does_not_change_its_hash():
    assert claim(known_in_part=True).hash == claim().hash
    assert claim(margin=0.01).hash != claim().hash != claim(measure=measured("other")).hash


@pytest.mark.parametrize(("measure", "first", "second"), [("loss area", 0.9, 0.8), ("seconds", 50.0, 60.0)])
def test_figures_of_a_run(measure, first, second):
    made = [
        record(arm, seed, [True], history={"loss": [value, value]}, seconds=value + seed / 100)
        for arm, value in (("a", first), ("b", second))
        for seed in range(6)
    ]
    (found,) = judge([claim(measure=MEASURES[measure])], made)
    assert found.effect.effect == pytest.approx(first - second)
    assert found.verdict == ("supported" if first > second else "refuted")


def test_unknown_measures_and_impossible_claims_are_refused():
    with pytest.raises(UnknownNameError, match="unknown measure 'sharpness'"):
        judge([claim(measure=measured("sharpness"))], runs(0.1))
    with pytest.raises(ValueError, match="direction"):
        claim(direction="up")
    with pytest.raises(ValueError, match="margin"):
        claim(margin=-1.0)


def test_a_study_without_a_claim_is_not_run(tmp_path):
    study = Study("silent", "What?", "scenes", 16, (Arm("a", "q1_shallow", Recipe(epochs=1), seeds=(0,)),))
    with pytest.raises(CnnhwError, match="has no registered question"):
        queue.run(study.jobs(), 1, tmp_path, progress=False)


def test_registered_claims_are_sound():
    assert len({one.id for one in CLAIMS}) == len(CLAIMS)
    for one in CLAIMS:
        study = registry.get(one.study)
        arms = {arm.name: arm for arm in study.arms}
        assert {one.first, one.second} <= set(arms)
        # an arm may have more seeds, for the transfers that begin with it
        assert len(set(arms[one.first].seeds) & set(arms[one.second].seeds)) >= claims.SEEDS
        assert one.statement.endswith(".")
        assert one.first != one.second
    assert all(MEASURES[one.measure.name] is one.measure for one in CLAIMS)
    for study in map(registry.get, registry.names()):
        assert bool(study.observation) != bool(study.claims or study.questions)
        assert study.claims == claims.of_study(CLAIMS, study.name)


def test_command_prints_json():
    result = CliRunner().invoke(cli, ["claims", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [one["id"] for one in found] == [one.id for one in (*registry.QUESTIONS, *CLAIMS)]
    keys = "id chapter role statement prediction finding verdict effect low high delta unit n study registered known"
    assert all(set(one) == set(keys.split()) for one in found)
    first = [one for one in found if one["role"] == "first-edition"]
    assert len(first) == len(CLAIMS)
    assert {one["verdict"] for one in first} == {"supported", "refuted", "open"}
    assert {one["finding"] for one in first} == {*PREDICTIONS, "cannot tell"}
    assert {one["chapter"] for one in first} == {"iii", "q6"}
    text = CliRunner().invoke(cli, ["claims"]).stdout
    assert all(one.statement in text for one in CLAIMS)


CHAPTER = """
from functools import partial

from cnnhw.studies.claims import higher
from cnnhw.studies.measures import measured
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe

WIDTH = measured("width")
MEASURES = (WIDTH,)
STUDIES = (
    Study(
        "q7", "Is wider better?", "tiny5", 32,
        arms=tuple(Arm(name, "plain", Recipe(epochs=1), tuple(range(6))) for name in ("wide", "narrow")),
        claims=(higher("q7-wide", "wide", "narrow", "Wide is better.", study="q7", registered="2027-01-01"),),
    ),
)
"""


def test_a_new_chapter_is_found(tmp_path):
    (tmp_path / "q7.py").write_text(CHAPTER, encoding="utf-8")
    (tmp_path / "notes.py").write_text("raise ImportError('no chapter')\n", encoding="utf-8")
    script = (
        "import sys, cnnhw.book; cnnhw.book.__path__.append(sys.argv[1])\n"
        "from cnnhw.book import registry\n"
        "assert registry.CLAIMS[-1].id == 'q7-wide' and registry.MEASURES['width'].unit == 'points'\n"
        "assert registry.file('q7') == 'cnnhw/book/q7.py'\n"
        "from cnnhw.cli.command import cli\n"
        "cli(['study', 'list'])"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert "q7: Is wider better?\n  wide: plain, 1 epochs, 6 seeds on tiny5" in done.stdout


def test_every_module_with_studies_is_a_chapter():
    found = {chapter.__name__ for chapter in registry.chapters()}
    for module in pkgutil.iter_modules(book.__path__, "cnnhw.book."):
        assert hasattr(importlib.import_module(module.name), "STUDIES") == (module.name in found)
