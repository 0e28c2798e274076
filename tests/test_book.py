"""The book: its chapters are found, their questions registered, and `cnnhw claims` says what was found."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cnnhw import book
from cnnhw.book import registry
from cnnhw.cli.command import cli
from cnnhw.errors import CnnhwError
from cnnhw.studies import queue
from cnnhw.studies.questions import PREDICTIONS
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe


def test_a_study_without_a_question_is_not_run(tmp_path):
    study = Study("silent", "What?", "scenes", 16, (Arm("a", "q1_shallow", Recipe(epochs=1), seeds=(0,)),))
    with pytest.raises(CnnhwError, match="has no registered question"):
        queue.run(study.jobs(), 1, tmp_path, progress=False)


def test_a_study_asks_something_or_says_why_not():
    for study in map(registry.get, registry.names()):
        assert bool(study.observation) != bool(study.questions)


def test_command_prints_json():
    result = CliRunner().invoke(cli, ["claims", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [one["id"] for one in found] == [one.id for one in registry.QUESTIONS]
    keys = "id chapter role statement prediction finding verdict effect low high delta unit n study registered known"
    assert all(set(one) == set(keys.split()) for one in found)
    assert {one["role"] for one in found} == {"primary", "secondary", "exploratory"}
    decided = [one for one in found if one["finding"] not in (None, "not run")]
    assert {one["finding"] for one in decided} <= {*PREDICTIONS, "cannot tell"}
    assert {one["verdict"] for one in decided} == {"supported", "refuted", "open"}
    assert all(one["low"] <= one["effect"] <= one["high"] for one in decided)
    said = {one["id"]: one["known"] for one in found}
    assert (said["q2-depth"], said["speed-muon"], said["ii-smooth"]) == ("in part", "yes", "no")
    text = CliRunner().invoke(cli, ["claims"]).stdout
    assert all(one.statement in text for one in registry.QUESTIONS)
    assert "known in part" in text


CHAPTER = """
from cnnhw.book import base
from cnnhw.studies.measures import measured
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe

WIDTH = measured("width")
MEASURES = (WIDTH,)
STUDIES = (
    Study(
        "q7", "Is wider better?", "tiny5", 32,
        arms=tuple(Arm(name, "plain", Recipe(epochs=1), tuple(range(6))) for name in ("wide", "narrow")),
        questions=(
            base.question(
                "q7-wide", ("wide", "narrow"), "Wide is better.", chapter="q7", study="q7", role="primary",
                prediction="higher", delta=2.5, held="all else",
            ),
        ),
    ),
)
"""


def test_a_new_chapter_is_found(tmp_path):
    (tmp_path / "q7.py").write_text(CHAPTER, encoding="utf-8")
    (tmp_path / "notes.py").write_text("raise ImportError('no chapter')\n", encoding="utf-8")
    script = (
        "import sys, cnnhw.book; cnnhw.book.__path__.append(sys.argv[1])\n"
        "from cnnhw.book import registry\n"
        "assert 'q7-wide' in [one.id for one in registry.QUESTIONS] and registry.MEASURES['width'].unit == 'points'\n"
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
