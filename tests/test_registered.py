"""What holds for every study of the book that asks questions, before any of its runs, and for the search of Q1."""

from __future__ import annotations

import collections
import dataclasses
import statistics

import pytest
import torch
from click.testing import CliRunner
from matplotlib import pyplot as plt

from cnnhw import models, studies, transfer
from cnnhw.book import base, q1, q5, q6, registry
from cnnhw.cli.command import cli
from cnnhw.data.subsets import FOLDS
from cnnhw.studies import folds, plan, queue, soundness, tuning
from cnnhw.studies.measures import MEASURES
from cnnhw.studies.questions import EXPLORATORY
from cnnhw.studies.study import Arm, Job
from cnnhw.training import Recipe, presets

ASKED = [study for study in map(registry.get, registry.names()) if study.questions]
CHAPTERS = ("q1", "q2", "q3", "q4", "q5", "q6", "i", "ii", "iii")
every_study = pytest.mark.parametrize("study", ASKED, ids=lambda study: study.name)
TUNED = [study for study in ASKED if any(question.known != "yes" for question in study.questions)]  # not asked after it
every_tuned = pytest.mark.parametrize("study", TUNED, ids=lambda study: study.name)


@every_study
def test_arms_differ_in_what_is_varied(study):
    checks = [one for one in soundness.check(study, []) if one.what == "varied as named"]
    assert [one.of for one in checks] == [question.id for question in study.questions]
    assert [one.said for one in checks if not one.good] == []


@every_study
def test_nothing_but_the_pilot_keeps_a_study_from_being_planned(study):
    made = plan.make(study, registry.QUESTIONS, [])
    other = [fault for fault in made.faults if not fault.endswith(f"run cnnhw study tune {study.name}")]
    assert other == []
    assert all(len(arm.seeds) >= EXPLORATORY for arm in study.arms)
    assert all(arm_runs >= EXPLORATORY for arm_runs in made.runs.values())


@every_tuned
def test_arms_can_be_tuned_and_run(study):
    """Each network can be built, each transfer has its source with all seeds, and each rate lies on its grid."""
    for arm in study.arms:
        job = Job(study, arm, arm.seeds[0])
        assert tuning.rate(study, arm.name) in tuning.rates(arm)
        if not arm.pretrained:
            models.create(arm.model, 5, size=job.size, **arm.options)
        assert ("fold" in arm.protocols) != ("own_cut" in arm.protocols)
        for seed in (*arm.seeds, *tuning.PILOTS):
            source = Job(study, arm, seed).source
            assert (source is None) == (not arm.source)
            assert source is None or (source.is_source and source.seed == seed // arm.folds)


@every_tuned
def test_a_study_has_one_number_format_and_its_folds_are_compared_fold_by_fold(study):
    formats = {stage.recipe.precision for arm in study.arms for stage in arm.stages}
    assert len(formats) == 1
    arms = {arm.name: arm for arm in study.arms}
    for question in study.questions:
        folded = {"fold" in arms[name].protocols for name in question.arms}
        assert folded == {question.pooled or question.measure is q5.OVER_SPLITS}
        assert question.role == "exploratory" or question.pooled == folded.pop()


def test_each_chapter_has_one_primary_question():
    primary = [question.chapter for question in registry.QUESTIONS if question.role == "primary"]
    assert len(primary) == len(set(primary))
    assert set(CHAPTERS) <= set(primary)
    owners = {question.id: registry.chapter(question.study) for question in registry.QUESTIONS}
    assert {question.id: question.chapter for question in registry.QUESTIONS} == owners


@pytest.mark.slow
def test_the_table_of_all_plans_has_every_question_and_every_study_of_this_edition():
    result = CliRunner().invoke(cli, ["study", "plan", "--all", "--sd", "1.5"])
    assert result.exit_code == 0, result.output
    rows = [line.split()[:2] for line in result.output.splitlines()]
    for question in registry.QUESTIONS:
        assert rows.count([question.study, question.id]) == 1
    asking = {study.name for study in ASKED}
    own = {one.name for one in map(registry.get, registry.names()) if {"own_cut", "fold"} & {*one.arms[0].protocols}}
    assert {"q1_search", "source"} < own
    assert "q1" not in own
    assert {row[0] for row in rows[:-1]} == asking | own


@pytest.mark.slow
def test_all_costs_are_measured_at_once_and_kept_for_the_table(tmp_path, monkeypatch):
    sound = pytest.importorskip("cnnhw_docs.sound", reason="needs the repository")
    monkeypatch.setattr(queue, "estimate", lambda jobs, seconds=20.0: dict.fromkeys(jobs, 60.0))
    call = ["study", "plan", "--all", "--sd", "1.5", "--records", str(tmp_path / "records")]
    result = CliRunner().invoke(cli, [*call, "--measure"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert not [line for line in lines if "not known before" in line]
    again = CliRunner().invoke(cli, call)  # with what was measured
    assert again.output.splitlines() == [line for line in lines if not line.startswith("Seconds")]
    costs = plan.costs(tmp_path / "records")
    made = [plan.make(study, registry.QUESTIONS, [], 1.5, costs[study.name]) for study in ASKED]
    for one in made:
        assert one.minutes == sum(one.runs.values())
        runs = [5 / 3 + 2 * 3 + (3 * 2 if tuning.decisive(one.study, arm.name) else 0) for arm in one.study.arms]
        assert one.tuning == pytest.approx(sum(runs))
    text = sound.planned(made).astext()
    for question in registry.QUESTIONS:
        assert question.id in text
    assert text.endswith(f"{sum(one.tuning for one in made):.0f}, {sum(one.minutes for one in made):.0f}")
    assert "not measured yet" in sound.planned([plan.make(ASKED[0], registry.QUESTIONS, [])]).astext()
    both = [registry.get("source"), registry.get("q1")]
    left = plan.account(both, registry.QUESTIONS, studies.records("q1"), None, costs)
    assert [one.study.name for one in left] == ["source"]
    assert "13 runs" in sound.planned(left).astext()
    (tmp_path / "records" / "plans" / "costs.json").write_text("[]")
    result = CliRunner().invoke(cli, call)
    assert "costs.json cannot be read" in str(result.exception)


def test_a_study_without_questions_is_counted():
    study = dataclasses.replace(registry.get("source"), name="s")
    made = plan.unasked(study, [], {"fast": 30.0})
    assert made.runs == {"fast": len(study.jobs())}
    assert made.minutes == pytest.approx(len(study.jobs()) / 2)
    assert made.lines() == [f"{'s':16} {len(study.jobs())} runs, {made.minutes:.0f} core-minutes"]
    assert plan.unasked(study, []).lines()[0].endswith("runs, not known before the first")
    done = studies.records("q1_search")
    search = plan.unasked(registry.get("q1_search"), done)
    assert search.runs == collections.Counter(one.arm for one in done)
    assert search.minutes == pytest.approx(sum(one.content["seconds"] for one in done) / 60)


def test_scratch_is_given_the_computing_of_the_source():
    """Folds are the same in all studies of the flowers, and those of a repeat test every photo once."""
    (source,), arms = q5.SOURCE.arms, {arm.name: arm for arm in registry.get("q6_pays").arms}
    runs = [run for run in studies.records("q5_first") if run.arm == "at_once"][:FOLDS]
    photos = [run.content["data"]["photos"] for run in runs]
    whole = sum(fold["test"] for fold in photos)
    train = [whole - fold["validation"] - fold["test"] for fold in photos]
    assert [run.seed for run in runs] == [*arms["transfer"].seeds[:FOLDS]]
    for run in studies.records("q6_pays"):
        if run.seed in arms["transfer"].seeds[:FOLDS]:
            assert run.content["data"]["photos"]["train"] == train[run.seed % FOLDS]
    (seen,) = {run.content["data"]["photos"]["train"] for run in studies.records("source")}
    for paid in (source.epochs * seen / count for count in train):
        assert arms["scratch"].epochs - arms["transfer"].epochs == round(paid) == q6._SOURCE_EPOCHS
    assert arms["transfer"].folds == FOLDS
    own = {"epochs", "learning_rate"}  # the rate is tuned for each
    transferred, fresh = (arms[name].stages[0].recipe.changes() for name in ("transfer", "scratch"))
    assert {name for name in transferred | fresh if transferred.get(name) != fresh.get(name)} == own


def test_the_control_keeps_the_first_layer_and_has_the_same_head():
    states = []
    for arm in registry.get("q6_pays").arms[:2]:
        model = models.create("fast", 5, seed=3, size=32)
        transfer.begin(model, 5, 7, head=arm.head, fresh_from=arm.fresh_from, size=32)
        states.append({name: value for name, value in model.state_dict().items() if value.dim() > 1})
    same = [name for name, value in states[0].items() if torch.equal(value, states[1][name])]
    assert same == ["features.stem.weight", "head.linear.weight"]
    assert len(states[0]) > len(same)


def test_what_is_registered_and_not_run_is_called_so(monkeypatch):
    records = pytest.importorskip("cnnhw_docs.records", reason="needs the repository")
    assert records.render("q6_pays/transfer accuracy", [])[0] == "not run yet"
    with pytest.raises(ValueError, match="no records of study 'q6_pays'"):
        records.render("q6_pays/dance accuracy", [])
    monkeypatch.setattr(studies, "records", lambda name: [])
    for draw in (q6.rungs, q6.heads, q6.planes):
        figure = draw()
        assert figure.get_label().endswith(": not run yet.")
        plt.close(figure)


def test_a_repeat_is_drawn_as_a_whole(monkeypatch):
    """Records of Q5 stand in for those of Q6; of its last repeat a fold is missing."""
    some = [run for run in studies.records("q5_first") if run.arm == "at_once"]
    names = [arm.name for name in ("q6_pays", "q6_frozen") for arm in registry.get(name).arms]
    lent = [dataclasses.replace(run, content=run.content | {"arm": name}) for name in names for run in some[:14]]
    monkeypatch.setattr(studies, "records", lambda name: lent)
    whole = [float(folds.pooled(some[first : first + FOLDS]).mean()) for first in (0, FOLDS)]
    said = f"{statistics.fmean(whole):.3g} ({min(whole):.3g} to {max(whole):.3g})"
    rungs, heads = q6.rungs(), q6.heads()
    assert rungs.get_label().count(said) == 4
    assert "all photos from" in heads.get_label()
    assert len(heads.axes[0].lines) == 3
    plt.close("all")


def test_in_every_order_each_part_learns_for_as_many_steps():
    photos = presets.noise(count=64, side=32)
    steps = {
        arm.name: transfer.learning_steps(models.create("fast", size=32), photos, arm.stages)
        for arm in registry.get("q5_in_turn").arms
    }
    assert steps["end"] == steps["start"] == steps["together"]
    assert len({count for name, count in steps["end"].items() if name != "classifier"}) == 1


FIRST = Arm("first", "q1_shallow", Recipe(epochs=2), (1, 2), options={"dense": False}, protocols=("half_train",))
STEPS = (
    q1.Step("flipped", "?", recipe={"flip": True}, kept=True),
    q1.Step("flattened", "?", options={"dense": True}, kept=False),
    q1.Step("plain", "?", arm={"model": "plain"}, options={"head": "average"}, kept=True),
    q1.Step("wide", "?", options={"widths": "32-32-32-32"}),
    q1.Step("more", "?", arm={"protocols": ()}),
)


def test_a_search_goes_on_from_what_was_kept_and_no_further_than_what_was_decided():
    arms, kept = q1.search(FIRST, STEPS)
    assert [arm.name for arm in arms] == ["first", "flipped", "flattened", "plain", "wide"]
    assert arms[2] == dataclasses.replace(arms[1], name="flattened", options={"dense": True})
    assert arms[3].options == {"head": "average"}  # those of another model are gone
    assert arms[3].recipe.flip
    assert arms[4].options == {"head": "average", "widths": "32-32-32-32"}
    assert kept is arms[3]
    decided = (*STEPS[:3], dataclasses.replace(STEPS[3], kept=False), dataclasses.replace(STEPS[4], kept=True))
    assert q1.search(FIRST, decided)[1] == dataclasses.replace(arms[3], name="more", protocols=())


def test_a_decision_changes_no_run_before_it():
    arms, _ = q1.search(q1._FIRST, q1.SEARCH)
    for kept in (True, False):
        steps = [dataclasses.replace(step, kept=kept if step.kept is None else step.kept) for step in q1.SEARCH]
        later = q1.search(q1._FIRST, steps)[0]
        assert later[: len(arms)] == arms
        assert len(later) == 1 + len(steps)
    steps = [dataclasses.replace(step, kept=True) for step in q1.SEARCH]
    for arm in q1.search(q1._FIRST, steps)[0]:
        models.create(arm.model, 5, size=arm.size or 48, **arm.options)


def test_steps_of_the_search_were_decided_by_their_records_and_in_their_order():
    records = studies.records("q1_search")
    value = {
        arm.name: [MEASURES["validation"](r) for r in records if r.arm == arm.name]
        for arm in registry.get("q1_search").arms
    }
    before = "reported"
    for step in q1.SEARCH:
        if step.kept is None:
            break
        assert len(value[before]) == len(value[step.name]) == len(q1.SEARCHED)
        assert step.kept == (statistics.fmean(value[step.name]) > statistics.fmean(value[before])), step.name
        before = step.name if step.kept else before
    # nothing of the test before the search has ended
    tested = [r for name in ("q1_final", "q1_final-tune") for r in studies.records(name)]
    assert not tested or all(step.kept is not None for step in q1.SEARCH)
    assert not {*q1.SEARCHED} & {*base.SEEDS, *tuning.PILOTS}
