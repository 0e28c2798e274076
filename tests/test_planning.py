"""Tuning, plans and soundness of studies with questions: what is run, in which order, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import stats

from cnnhw import files
from cnnhw.book import registry
from cnnhw.cli.command import cli
from cnnhw.errors import CnnhwError, UnknownNameError
from cnnhw.studies import plan, questions, queue, soundness, store, tuning
from cnnhw.studies.measures import LOSS_AREA, measured
from cnnhw.studies.plan import Spread
from cnnhw.studies.questions import Question
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

SEEDS = tuple(range(20, 44))


def asked(**change):
    settings = {
        "id": "t-wide", "arms": ("wide", "narrow"), "statement": "Wide is better.", "chapter": "t", "study": "t",
        "prediction": "higher", "delta": 2.5, "held": "all else", "registered": "2027-01-01", "role": "primary",
    }  # fmt: skip
    return Question(**settings | change)


def study(*questions, data="scenes", recipe=None, **change):
    arms = tuple(
        Arm(name, "residual", recipe or Recipe(epochs=6, batch_size=4), SEEDS, options={"depth": 12, "width": width})
        for name, width in (("wide", 8), ("narrow", 4))
    )
    return dataclasses.replace(Study("t", "Is wider better?", data, 16, arms, questions=questions), **change)


PHOTOS = 4000


def first(job, accuracy):
    return np.arange(PHOTOS) < round(PHOTOS * accuracy)


def fake(job, accuracy, right=first, **content):
    """Make a record of a job; `right` says, of a job and its accuracy, which photos are correct."""
    text = "".join("0" if good else "1" for good in right(job, accuracy))
    own = {"test_labels": "0" * len(text), "test_predictions": {"1": text}}
    if not job.study.test:
        own = {"test_labels": "", "test_predictions": {}, "held_fingerprint": f"v{job.seed}"}
        own |= {"held_labels": "0" * len(text), "held_predictions": text}
    made = {
        "study": job.study.name,
        "arm": job.arm.name,
        "key": job.key,
        "configuration": job.configuration,
        "best_epoch": 1,
        "seconds": 30.0,
        "history": {"loss": [1.0], "validation_accuracy": [accuracy]},
        "data": {
            "test_fingerprint": "t",
            "classes": ["right", "wrong"],
            "photos": {"train": 800, "validation": 100, "test": PHOTOS},
        },
        "questions": questions.hashes(job.study.questions),
    }
    return Record(made | own | content, Path(f"{job.arm.name}-{job.seed}.json"))


def tuned(which, curves, pilot=first):
    """Do what tuning asks for, an arm's accuracy being a function of rate and length; return the records."""
    records, rounds = [], []
    while jobs := tuning.missing(which, records):
        rounds.append([str(job) for job in jobs])
        for job in jobs:
            arm, length = job.arm.name.partition("@")[0], job.arm.name.rpartition("-")[2]
            records.append(fake(job, curves[arm](job.arm.recipe.learning_rate, length), pilot))
    return records, rounds


def peak(best):
    """Return an accuracy that is highest at a rate, and half a point higher in twice the epochs."""
    return lambda rate, length: 0.8 - 0.05 * abs(np.log2(rate / best)) + (0.005 if length == "double" else 0)


def at(which, **rates):
    """Return a study whose arms have other rates."""
    return dataclasses.replace(
        which,
        arms=tuple(
            dataclasses.replace(arm, recipe=dataclasses.replace(arm.recipe, learning_rate=rates[arm.name]))
            for arm in which.arms
        ),
    )


def test_tuning_tries_five_rates_then_two_in_full_then_twice_the_epochs():
    which = study(asked())
    records, rounds = tuned(which, {"wide": peak(1.1e-3), "narrow": peak(1.1e-3)})
    assert [len(names) for names in rounds] == [10, 12, 6]
    assert {name for name in rounds[0] if "wide" in name} == {
        f"t-tune/wide@{rate}-third-100" for rate in ("0.00025", "0.0005", "0.001", "0.002", "0.004")
    }
    assert {name for name in rounds[1] if "wide" in name} == {
        f"t-tune/wide@{rate}-{seed}" for rate in ("0.001", "0.002") for seed in tuning.PILOTS
    }
    assert {name for name in rounds[2] if "wide" in name} == {f"t-tune/wide@0.001-double-{s}" for s in tuning.PILOTS}
    choice = tuning.choices(which, records)["wide"]
    assert (choice.rate, choice.at_edge, len(choice.tried)) == (1e-3, False, 5)
    assert choice.double - choice.whole[1e-3] == pytest.approx(0.005, abs=1 / PHOTOS)
    epochs = {job.arm.name.rpartition("-")[2]: job.arm.epochs for job in tuning.of(which).jobs() if "-" in job.arm.name}
    assert (epochs["third"], epochs["double"]) == (2, 12)


def test_arms_that_decide_nothing_are_not_run_with_twice_the_epochs():
    which = study(asked(role="exploratory"))
    records, rounds = tuned(which, {"wide": peak(1.1e-3), "narrow": peak(1.1e-3)})
    assert [len(names) for names in rounds] == [10, 12]
    choice = tuning.choices(which, records)["wide"]
    assert (choice.rate, choice.double) == (1e-3, None)
    checks = {one.what: one for one in soundness.check(which, records) if one.of == "wide"}
    assert (checks["learnt"].good, checks["learnt"].decides, checks["tuned alike"].good) == (None, False, True)


def test_a_best_rate_at_the_edge_widens_the_grid_on_its_side():
    which = study(asked())
    records, rounds = tuned(which, {"wide": peak(1.7e-2), "narrow": peak(1e-3)})
    choice = tuning.choices(which, records)["wide"]
    assert choice.rate == 0.016
    assert not choice.at_edge
    assert list(choice.tried) == [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032]
    assert rounds[1][0] == "t-tune/wide@0.008-third-100"
    records, _ = tuned(which, {"wide": peak(1e-9), "narrow": peak(1e-3)})
    choice = tuning.choices(which, records)["wide"]
    assert choice.at_edge
    assert choice.rate == min(choice.tried) == tuning.rates(which.arms[0])[0]
    assert "at the edge of the grid" in soundness.unsound(which, records)


def test_a_rate_at_the_edge_that_wins_in_all_epochs_alone_widens_the_grid_too():
    which = study(asked())

    def curve(rate, length):
        return peak(2.5e-3 if length == "third" else 4e-3)(rate, length)

    records, rounds = tuned(which, {"wide": curve, "narrow": peak(1.1e-3)})
    assert [name for name in rounds[2] if "wide" in name] == ["t-tune/wide@0.008-third-100"]
    assert tuning.choices(which, records)["wide"].rate == 4e-3


def test_neighbours_of_the_chosen_rate_run_in_all_epochs_where_a_study_asks_for_it():
    def curve(rate, length):
        return peak(0.9e-3 if length == "third" else 2.1e-3)(rate, length)

    curves = {"wide": curve, "narrow": peak(1.1e-3)}
    for neighbours, rate, whole in ((False, 1e-3, [5e-4, 1e-3]), (True, 2e-3, [5e-4, 1e-3, 2e-3, 4e-3])):
        which = dataclasses.replace(study(asked()), neighbours=neighbours)
        records, _ = tuned(which, curves)
        choice = tuning.choices(which, records)["wide"]
        assert (choice.rate, list(choice.whole)) == (rate, whole)
        assert choice.double is not None
        which = at(which, wide=rate, narrow=1e-3)
        said = next(c.said for c in soundness.check(which, records) if (c.what, c.of) == ("tuned alike", "wide"))
        assert (", 4 with all epochs" in said) == neighbours
    half = [record for record in records if not record.arm.startswith("wide@0.004")]
    assert tuning.choices(which, half)["wide"].rate is None


def test_the_grid_stays_when_the_chosen_rate_is_written_into_the_study():
    which = study(asked())
    records, _ = tuned(which, {"wide": peak(4.1e-3), "narrow": peak(1e-3)})
    assert tuning.pilots(which, records, "wide") == []
    later = at(which, wide=0.004, narrow=0.001)
    assert tuning.missing(later, records) == []
    assert [record.seed for record in tuning.pilots(later, records, "wide")] == list(tuning.PILOTS)
    # other epochs are another configuration: nothing of the old tuning counts
    longer = at(study(asked(), recipe=Recipe(epochs=9, batch_size=4)), wide=0.004, narrow=0.001)
    assert len(tuning.missing(longer, records)) == 10
    assert tuning.pilots(longer, records, "wide") == []


def test_stages_are_tuned_together_and_start_from_the_same_source():
    base = Arm("base", "plain", Recipe(epochs=3), (100, 101, 102, 20))
    stages = (
        Stage("classifier", Recipe(epochs=3, learning_rate=1e-3)),
        Stage("all", Recipe(epochs=6, learning_rate=1e-4)),
    )
    moved = Arm("moved", "plain", stages, (20,), source="base")
    which = Study("t", "?", "scenes", 16, (base, moved), observation="a test")
    arm = next(arm for arm in tuning.of(which).arms if arm.name == "moved@0.002-third")
    assert [(s.recipe.epochs, s.recipe.learning_rate) for s in arm.recipe] == [(1, 2e-3), (2, 2e-4)]
    job = tuning.of(which).job("moved@0.001", 101)
    assert (job.source.study.name, job.source.arm.name, job.source.seed) == ("t", "base", 101)
    assert job.key == dataclasses.replace(job, study=which, arm=moved).key


def test_half_widths_that_are_expected():
    assert Spread(1.0).half_width(8, 0.95) == pytest.approx(stats.t.ppf(0.975, 7) / 8**0.5)
    assert Spread(1.0).half_width(12, 0.975) == pytest.approx(stats.t.ppf(0.9875, 11) / 12**0.5)
    floor = Spread(0.0, 1.0).half_width(10**6, 0.95)
    assert floor == pytest.approx(1.96 * 0.1**0.5, rel=1e-3)


def pilot(luck):
    """Return a function that draws which photos a run classifies correctly: seeds differ by so many points."""

    def right(job, accuracy):
        share = accuracy + luck * (job.seed - 101) / 100 * job.arm.name.startswith("wide")
        return np.random.default_rng(job.seed).permutation(PHOTOS) < round(PHOTOS * share)

    return right


def ready(*some, luck=0.5, **change):
    which = at(study(*(some or (asked(),)), **change), wide=0.001, narrow=0.001)
    return which, tuned(which, {"wide": peak(1.1e-3), "narrow": peak(1.1e-3)}, pilot(luck))[0]


def test_the_spread_of_a_pilot_is_split_into_seeds_and_photos():
    which, records = ready(luck=3.0)
    runs = [tuning.pilots(which, records, arm) for arm in ("wide", "narrow")]
    found = plan.spread(which.questions[0], runs)
    marks = [[np.array(list(r.content["held_predictions"])) == "0" for r in arm] for arm in runs]
    d = np.array(marks[0]).astype(float) - np.array(marks[1])
    noise = d.var(1).mean() / PHOTOS
    assert found.seeds == pytest.approx(100 * (d.mean(1).var(ddof=1) - noise) ** 0.5)
    assert found.photos == pytest.approx(100 * noise**0.5)  # as many test photos
    loss = plan.spread(asked(measure=LOSS_AREA), runs)
    assert loss == Spread(0.0, 0.0)
    pooled = plan.spread(asked(pooled=True), runs)
    assert pooled.seeds == pytest.approx(found.seeds / 5**0.5)


def test_a_plan_says_seeds_runs_and_minutes_and_no_effect():
    which, records = ready(asked(), asked(id="t-more", role="exploratory"))
    made = plan.make(which, which.questions, records)
    assert made.faults == ()
    assert made.runs == {"wide": 8, "narrow": 8}
    assert made.minutes == pytest.approx(16 * 0.5)
    assert made.tuning == pytest.approx(28 * 0.5)
    text = "\n".join(made.lines())
    assert "t-wide" in text
    assert "expected of 8 seeds" in text
    assert "16 runs, 8 core-minutes; tuning and pilot 14" in text
    effect = 100 * np.mean([1, -1])
    assert f"{effect:+.2f}" not in text


def test_what_pilots_do_not_measure_can_be_explored_but_not_planned():
    drift = measured("weight distance")
    which, records = ready(asked(), asked(id="t-drift", role="exploratory", measure=drift))
    made = plan.make(which, which.questions, records)
    assert made.faults == ()
    assert "not measured in pilots, 6 seeds or more" in made.lines()[1]
    which, records = ready(asked(), asked(id="t-drift", role="secondary", measure=drift))
    with pytest.raises(UnknownNameError, match="weight distance"):
        plan.make(which, which.questions, records)


def test_before_the_pilot_a_plan_says_so_or_estimates():
    which = study(asked())
    made = plan.make(which, which.questions, [])
    assert "no pilot yet" in made.lines()[0]
    assert "not known before the pilot" in made.lines()[1]
    made = plan.make(which, which.questions, [], sd=1.5, seconds={"wide": 60.0, "narrow": 30.0})
    assert "expected of 12 seeds, estimate" in made.lines()[0]
    assert made.minutes == pytest.approx(18)
    assert made.tuning == pytest.approx(1.5 * (5 / 3 + 6 + 6))
    with pytest.raises(CnnhwError, match="arm wide has no pilot at the rate that tuning chose: run cnnhw study tune t"):
        plan.write(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": 0.2}, r"its delta of 0\.2 points is below what the most seeds can resolve"),
        ({"seeds": range(6)}, "arms wide, narrow have too few seeds for the most blocks: give them 24"),
        ({"seeds": range(90, 120)}, "seeds 100, 101, 102 are those of pilots"),
        ({"rate": 0.002}, r"arm wide has no pilot at the rate that tuning chose \(0\.001\): give it that rate"),
    ],
)
def test_plans_that_cannot_be_kept_are_refused(tmp_path, change, message):
    which, records = ready(asked(delta=change.get("delta", 2.5)))
    if "seeds" in change:
        arms = (dataclasses.replace(arm, seeds=tuple(change["seeds"])) for arm in which.arms)
        which = dataclasses.replace(which, arms=tuple(arms))
    if "rate" in change:
        which = at(which, wide=change["rate"], narrow=0.001)
    with pytest.raises(CnnhwError, match=message):
        plan.write(plan.make(which, which.questions, records), tmp_path)
    assert not (tmp_path / "plans").exists()


def test_a_study_is_run_only_as_it_was_planned(tmp_path):
    which, records = ready()
    with pytest.raises(CnnhwError, match="study t was not planned: cnnhw study plan t does it"):
        plan.run(which, which.questions, 1, tmp_path, progress=False)
    written = plan.write(plan.make(which, which.questions, records), tmp_path)
    assert written == tmp_path / "plans" / "t.json"
    assert json.loads(written.read_text())["questions"] == questions.hashes(which.questions)
    plan.check_planned(which, tmp_path)
    assert store.read(where=tmp_path) == []  # a plan is no record
    edited = dataclasses.replace(which, questions=(asked(delta=3.0),))
    with pytest.raises(CnnhwError, match=r"planned for other questions than it has now \(t-wide\)"):
        plan.check_planned(edited, tmp_path)
    added = dataclasses.replace(which, questions=(asked(), asked(id="t-new", role="secondary")))
    with pytest.raises(CnnhwError, match=r"than it has now \(t-new\)"):
        plan.check_planned(added, tmp_path)
    written.write_text("{")
    with pytest.raises(CnnhwError, match=r"t\.json is not a usable plan"):
        plan.check_planned(which, tmp_path)
    plan.check_planned(dataclasses.replace(which, questions=()), tmp_path)


@pytest.mark.parametrize(("spread", "seeds"), [(0.5, 8), (1.2, None), (6.0, 24)])
def test_seeds_are_added_in_blocks_by_half_width_alone(spread, seeds):
    which = study(asked(measure=LOSS_AREA))
    totals = set()
    for gain in (0.0, 10.0):
        rng, records, sizes = np.random.default_rng(0), [], []
        while jobs := plan.following(which, which.questions, records):
            sizes.append(len(jobs))
            for job in jobs:
                loss = gain * (job.arm.name == "wide") + rng.normal(0, spread)
                records.append(fake(job, 0.8, history={"loss": [loss], "validation_accuracy": [0.8]}))
        assert sizes[0] == 16
        assert set(sizes[1:]) <= {8}
        (answer,) = questions.answers(which.questions, records)
        assert answer.effect.seeds == sum(sizes) / 2
        for count in range(8, answer.effect.seeds, 4):
            early = [r for r in records if r.seed < 20 + count]
            assert questions.answers(which.questions, early)[0].finding == "not run"
        totals.add(answer.effect.seeds)
    assert len(totals) == 1
    assert seeds is None or totals == {seeds}


def test_other_arms_get_a_few_runs_and_exploratory_ones_six():
    third = Arm("third", "plain", Recipe(epochs=2), SEEDS)
    which = study(asked(), asked(id="t-x", role="exploratory", arms=("wide", "third")))
    which = dataclasses.replace(
        which, arms=(*which.arms, third, dataclasses.replace(third, name="extra", seeds=(1, 2)))
    )
    jobs = plan.following(which, which.questions, [])
    counts = {arm.name: sum(job.arm is arm for job in jobs) for arm in which.arms}
    assert counts == {"wide": 8, "narrow": 8, "third": 6, "extra": 2}


def test_a_study_that_has_learnt_and_was_tuned_alike_is_sound():
    which, records = ready()
    checks = soundness.check(which, records)
    assert soundness.unsound(which, records) == ""
    assert {(one.what, one.good) for one in checks} == {
        (what, True) for what in ("learnt", "above guessing", "tuned alike", "varied as named")
    }
    (varied,) = [one for one in checks if one.what == "varied as named"]
    assert varied.said == "wide and narrow: options.width 8 or 4"
    (learnt,) = [one for one in checks if (one.what, one.of) == ("learnt", "wide")]
    assert learnt.said == "twice the epochs change the accuracy by +0.5 points (less than 1.25)"


@pytest.mark.parametrize(
    ("whole", "double", "told", "good"),
    [
        (0.7, 0.7246, "+2.46", True),
        (0.7, 0.7254, "+2.5", False),
        (0.7, 0.701, "+0.1", True),
        (0.7, 0.65, "-5.0", False),
    ],
)
def test_a_change_is_told_so_that_it_can_be_compared_with_what_is_allowed(whole, double, told, good):
    choice = tuning.Choice("a", 0.1, {}, {0.1: whole}, double)
    assert soundness._learnt(choice, 0.1, 2.5) == (
        f"twice the epochs change the accuracy by {told} points (less than 2.5)",
        good,
    )


def test_an_arm_has_learnt_to_within_half_of_what_its_own_questions_care_for():
    which = study(asked(), asked(id="t-third", arms=("third", "wide"), delta=5.0, role="secondary"))
    third = dataclasses.replace(which.arms[1], name="third", options={"depth": 12, "width": 6})
    which = dataclasses.replace(which, arms=(*which.arms, third))
    records, _ = tuned(which, dict.fromkeys(("wide", "narrow", "third"), peak(1.1e-3)))
    checks = soundness.check(at(which, wide=0.001, narrow=0.001, third=0.001), records)
    margins = {one.of: one.said.partition("less than ")[2] for one in checks if one.what == "learnt"}
    assert margins == {"wide": "1.25)", "narrow": "1.25)", "third": "2.5)"}


def test_stages_are_told_apart_from_the_last_and_varied_names_all_below_it():
    head, rest = Stage("head", Recipe(epochs=3)), Stage("all", Recipe(epochs=6))
    arms = tuple(
        Arm(name, "plain", stages, SEEDS, source="base")
        for name, stages in {"wide": (head, rest), "narrow": (rest,)}.items()
    )
    which = study(asked(), arms=(*arms, Arm("base", "plain", Recipe(epochs=2), SEEDS)))
    said, good = soundness._varied(which, which.questions[0])
    assert said == "wide and narrow: a stage that trains head, or none"
    assert not good
    found = {"recipe.-1.until": ("stage2", None)}  # of a stage that both have
    assert list(soundness._in_words(found)) == ["recipe.-1.until stage2 or unset"]
    for varied, allowed in (("recipe.-2", True), ("recipe", True), ("recipe.-1", False), ("recipe.-2.train", False)):
        assert soundness._varied(which, asked(varied=(varied,)))[1] is allowed


def test_a_study_that_has_not_learnt_or_guesses_or_was_not_tuned_is_not_sound():
    which, _ = ready()

    def slow(rate, length):
        return peak(1.1e-3)(rate, length) + (0.02 if length == "double" else 0)

    records, _ = tuned(which, {"wide": slow, "narrow": peak(1.1e-3)})
    assert soundness.unsound(which, records) == (
        "learnt: wide: twice the epochs change the accuracy by +2.5 points (less than 1.25)"
    )
    records, _ = tuned(which, {"wide": peak(1.1e-3), "narrow": lambda rate, length: peak(1.1e-3)(rate, length) - 0.25})
    assert "above guessing: narrow: 3 of 3 runs, pilots included, at guessing level" in soundness.unsound(
        which, records
    )
    assert "tuned alike: wide: not tuned" in soundness.unsound(which, [])
    other = at(which, wide=0.002, narrow=0.001)
    assert "rate 0.001, of 5 from 0.00025 to 0.004, but it is run at 0.002" in soundness.unsound(other, records)
    exploratory = dataclasses.replace(which, questions=(asked(role="exploratory"),))
    assert soundness.unsound(exploratory, []) == ""


def test_a_study_whose_pilot_is_not_sound_is_not_planned_and_not_run(tmp_path, monkeypatch):
    which, records = ready()
    slow, _ = tuned(which, {"wide": lambda rate, length: peak(1.1e-3)(rate, length) + 0.02 * (length == "double"),
                            "narrow": peak(1.1e-3)})  # fmt: skip
    said = (
        r"it is not sound, and so would give no verdicts: wide: twice the epochs change the accuracy by \+2\.5 points"
    )
    with pytest.raises(CnnhwError, match=f"study t cannot be planned: {said}"):
        plan.write(plan.make(which, which.questions, slow), tmp_path)
    plan.write(plan.make(which, which.questions, records), tmp_path)
    monkeypatch.setattr(store, "read", lambda *_: slow)
    with pytest.raises(CnnhwError, match=f"study t cannot be run as it is now: {said}"):
        plan.run(which, which.questions, 1, tmp_path, progress=False)
    longer = dataclasses.replace(which.arms[0].recipe, epochs=12)
    changed = dataclasses.replace(
        which, arms=tuple(dataclasses.replace(arm, recipe=longer) for arm in which.arms)
    )  # planned, but not for these runs
    with pytest.raises(CnnhwError, match="cannot be run as it is now: arm wide has no pilot at the rate"):
        plan.run(changed, changed.questions, 1, tmp_path, progress=False)


def test_arms_that_differ_in_two_things_are_found():
    which, records = ready()
    wide = dataclasses.replace(which.arms[0], size=32)
    two = dataclasses.replace(which, arms=(wide, which.arms[1]))
    assert "options.width 8 or 4, size 32 or 16" in soundness.unsound(two, records)
    jobs = [job for job in two.jobs() if job.seed == 20]
    assert soundness.differences(*jobs) == {"options.width": (8, 4), "size": (32, 16)}
    allowed = dataclasses.replace(two, questions=(asked(varied=("size", "options.width")),))
    assert "varied as named" not in soundness.unsound(allowed, records)
    same = dataclasses.replace(which, arms=(dataclasses.replace(which.arms[1], name="wide"), which.arms[1]))
    assert "wide and narrow: nothing" in soundness.unsound(same, records)
    arms = [
        Arm(f"{width}{depth}", "plain", Recipe(epochs=2), SEEDS, options={"width": width, "depth": depth})
        for depth in (2, 3) for width in (8, 4)
    ]  # fmt: skip
    names = tuple(arm.name for arm in arms)
    square = dataclasses.replace(which, arms=tuple(arms), questions=(asked(arms=names),))
    said, good = soundness._varied(square, square.questions[0])
    assert good
    assert said == ("82 and 42: options.width 8 or 4; 83 and 43: options.width 8 or 4; 82 and 83: options.depth 2 or 3")
    crooked = dataclasses.replace(square, questions=(asked(arms=(names[0], names[1], names[2], names[0])),))
    assert not soundness._varied(crooked, crooked.questions[0])[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "residal"}, "arm wide: unknown model 'residal'. Did you mean 'residual'"),
        ({"options": {"kernel_size": 5}}, "arm wide: residual has no option kernel_size; it has"),
        ({"protocols": ("half_trian",)}, "arm wide: unknown protocol 'half_trian'. Did you mean 'half_train'"),
    ],
)
def test_an_arm_that_cannot_be_run_is_told_before_it_is_tuned(change, message):
    which = study(asked())
    wide, narrow = which.arms
    which = dataclasses.replace(which, arms=(dataclasses.replace(wide, **change), narrow))
    (fault, *_) = plan.make(which, which.questions, []).faults
    assert fault.startswith(message)


def test_the_table_of_soundness_stands_on_the_page_with_its_warning():
    sound = pytest.importorskip("cnnhw_docs.sound", reason="needs the repository")
    which, records = ready()
    checks = soundness.check(which, records)
    text = sound.table(checks, {}).astext()
    for one in checks:
        assert one.said in text
    assert "not known yet" in sound.table(soundness.check(which, []), {}).astext()
    exploratory = dataclasses.replace(which, questions=(asked(role="exploratory"),))
    assert "yes (exploratory)" in sound.table(soundness.check(exploratory, records), {}).astext()


@pytest.fixture
def photos(tmp_path):
    """Make a folder of two classes that are easy to tell apart."""
    rng = np.random.default_rng(0)
    for label in range(2):
        for number in range(30):
            photo = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8) + np.uint8(100 * label)
            path = tmp_path / "photos" / f"class {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(path)
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_study_is_tuned_planned_run_and_answered(photos, tmp_path, monkeypatch):
    """From the commands, with real runs: no test photos before the end."""
    provenance = pytest.importorskip("cnnhw_docs.provenance", reason="needs the repository")
    where = tmp_path / "records"
    monkeypatch.setattr(queue, "run", lambda jobs, *_: [queue.run_job(job, where) and None for job in jobs] and [])
    question = asked(delta=60.0)
    which = at(study(question, data=str(photos), recipe=Recipe(epochs=2, batch_size=8)), wide=0.001, narrow=0.001)
    monkeypatch.setitem(registry._STUDIES, "t", which)
    monkeypatch.setattr(registry, "QUESTIONS", (*registry.QUESTIONS, question))

    def call(*words):
        return CliRunner().invoke(cli, ["study", *words, "--records", str(where)])

    assert "study t was not planned" in str(call("run", "t").exception)
    result = call("tune", "t")
    assert result.exit_code == 0, result.output
    assert not list((files.cache_folder() / "studies").glob("weights/*"))  # of tuning runs none are kept
    rates = {name: choice.rate for name, choice in tuning.choices(which, store.read("t-tune", where)).items()}
    for record in store.read("t-tune", where):
        assert record.content["test_predictions"] == {}
        assert record.content["test_labels"] == ""
        assert len(record.content["held_predictions"]) == record.content["data"]["photos"]["validation"]
        best = record.history["validation_accuracy"][record.best_epoch - 1]
        assert record.on_held_out().accuracy() == pytest.approx(best, abs=1e-4)
    count = len(store.read("t-tune", where))
    assert call("tune", "t").exit_code == 0  # again: nothing is left to do
    assert len(store.read("t-tune", where)) == count
    assert registry.get("t-tune").job("wide@0.001", 100).key in {job.key for job in tuning.of(which).jobs()}

    which = at(which, **rates)
    monkeypatch.setitem(registry._STUDIES, "t", which)
    result = call("plan", "t")
    assert "it is not sound" in str(result.exception)  # so small are these networks
    monkeypatch.setattr(plan, "soundness", SimpleNamespace(check=lambda *_: []))
    result = call("plan", "t")
    assert result.exit_code == 0, result.output
    assert (where / "plans" / "t.json").is_file()
    assert "t-wide" in call("plan", "--all").output
    result = call("run", "t")
    assert result.exit_code == 0, result.output
    records = store.read("t", where)
    assert len(records) == 16
    assert all(record.content["questions"] == {"t-wide": question.hash} for record in records)
    assert {record.seed for record in records} == set(range(20, 28))
    assert call("run", "t").exit_code == 0
    assert len(store.read("t", where)) == 16
    assert provenance.provenance(records)["Reduced"] == "No."
    assert "wide: 8 of 8 planned" in provenance.provenance(records)["Runs"]
    assert provenance.provenance(records[1:])["Reduced"].startswith("Yes")
    monkeypatch.setattr(store, "folder", lambda: where)
    said = CliRunner().invoke(cli, ["study", "status"]).output
    assert "t: 16 of 16 runs have records; the present code matches 16" in said
    assert f"t-tune: {count} of {count} runs" in said
    result = call("check", "t")
    assert "varied as named t-wide" in result.output
    said = CliRunner().invoke(cli, ["claims", "--json", "--records", str(where)])
    answer = next(one for one in json.loads(said.stdout) if one["id"] == "t-wide")
    assert (answer["n"], answer["role"], answer["known"]) == (8, "primary", "no")
    assert answer["low"] <= answer["effect"] <= answer["high"]
    why = soundness.unsound(which, store.read(where=where))
    assert (answer["verdict"] is None) == bool(why)


def test_arms_that_nothing_compares_are_run_in_whole_repeats():
    which = study(asked())
    folded = dataclasses.replace(which.arms[0], name="third", protocols=("fold",), seeds=tuple(range(1000, 1060)))
    which = dataclasses.replace(which, arms=(*which.arms, folded))
    runs = plan.following(which, which.questions, [])
    counts = {name: sum(job.arm.name == name for job in runs) for name in ("wide", "narrow", "third")}
    assert counts == {"wide": 8, "narrow": 8, "third": 30}
