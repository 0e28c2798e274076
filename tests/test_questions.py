"""Questions: findings and verdicts, what they are decided by, and how often that is wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cnnhw.data.subsets import FOLDS
from cnnhw.errors import CnnhwError, UnknownNameError
from cnnhw.studies import questions
from cnnhw.studies.measures import ACCURACY, LOSS_AREA, Measure, measured
from cnnhw.studies.questions import BLOCKS, PREDICTIONS, REPEATS, Question, answers, finding, verdict
from cnnhw.studies.statistics import _estimate, compare
from cnnhw.studies.store import Record
from cnnhw.studies.study import Study

PAGE = Path(__file__).parents[1] / "docs" / "developer.rst"
NONE = PREDICTIONS[2]
DELTA = 2.5


def question(**change):
    settings = {
        "id": "q", "arms": ("a", "b"), "statement": "A is better.", "chapter": "q0", "study": "s",
        "prediction": "higher", "delta": 2.5, "held": "all else", "registered": "2027-01-01", "role": "primary",
    }  # fmt: skip
    return Question(**settings | change)


def record(arm, seed, right, known=(), photos="t", **content):
    """Make a record whose test photos are right where `right` says so."""
    made = {
        "study": "s",
        "arm": arm,
        "key": f"{arm}{seed}",
        "configuration": {"seed": seed},
        "best_epoch": 1,
        "history": {"loss": [1.0, 0.5]},
        "data": {"test_fingerprint": photos, "classes": ["wrong", "right"], "photos": {"train": 70, "test": 20}},
        "test_labels": "0" * len(right),
        "test_predictions": {"1": "".join("0" if good else "1" for good in right)},
        "questions": {one.id: one.hash for one in known},
    }
    return Record(made | content, Path(f"{arm}-{seed}.json"))


def runs(shares, seeds=range(20, 28), photos=1000, known=(), spread=0.002, seed=0):
    """Make runs of arms by their accuracy, which varies a little from seed to seed; they agree on easy photos."""
    rng = np.random.default_rng(seed)
    made = []
    for number in seeds:
        luck = rng.random(photos)  # paired: the arms differ only as far as their shares do
        for arm, share in shares.items():
            made.append(record(arm, number, luck < share + rng.normal(0, spread), known))
    return made


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (-2.4, 2.4, NONE), (0.1, 2.4, NONE), (-2.4, -0.1, NONE), (0.1, 2.5, "higher"), (3, 9, "higher"),
        (-2.5, -0.1, "lower"), (-9, -3, "lower"), (-2.5, 1, "cannot tell"), (-1, 2.5, "cannot tell"),
        (-9, 9, "cannot tell"), (0, 2.5, "cannot tell"), (1, 1, NONE), (5, 5, "higher"),
    ],
)  # fmt: skip
def test_findings(low, high, found):
    assert finding(low, high, 2.5) == found
    mirrored = {"higher": "lower", "lower": "higher"}.get(found, found)
    assert finding(-high, -low, 2.5) == mirrored


@pytest.mark.parametrize(
    ("prediction", "low", "high", "said"),
    [
        ("higher", 0.1, 3, "supported"), ("higher", -1, 2, "refuted"), ("higher", -4, -1, "refuted"),
        ("higher", -1, 3, "open"), ("lower", -3, -0.1, "supported"), ("lower", 1, 4, "refuted"),
        ("lower", 0, 1, "refuted"), (NONE, -1, 2, "supported"), (NONE, 0.1, 3, "open"), (NONE, -1, 3, "open"),
        (NONE, 2.6, 4, "refuted"), (NONE, -4, -2.6, "refuted"), (NONE, -4, -2, "open"),
    ],
)  # fmt: skip
def test_verdicts(prediction, low, high, said):
    assert verdict(prediction, low, high, 2.5) == said


def test_a_half_width_of_half_delta_decides_whatever_the_effect():
    for middle in np.linspace(-10, 10, 401):
        assert finding(middle - 1.2499, middle + 1.2499, 2.5) != "cannot tell"


def test_an_answer_is_read_off_the_interval_that_is_drawn():
    asked = question()
    made = runs({"a": 0.8, "b": 0.7}, known=[asked])
    (answer,) = answers([asked], made)
    scores = [np.array([(r.predictions() == r.labels).numpy() for r in made if r.arm == arm]) for arm in "ab"]
    low, high = compare(*(one.astype(float) for one in scores)).interval()
    assert answer.interval == pytest.approx((100 * low, 100 * high))
    assert (answer.finding, answer.verdict, answer.known) == ("higher", "supported", "no")
    summary = json.loads(json.dumps(answer.summary()))
    assert (summary["n"], summary["unit"], summary["delta"], summary["role"]) == (8, "points", 2.5, "primary")
    assert summary["low"] < summary["effect"] < summary["high"]
    assert summary["effect"] == pytest.approx(10, abs=1)


def test_secondary_questions_of_a_chapter_have_simultaneous_intervals():
    one, two = (question(id=name, role="secondary", arms=("a", name)) for name in "bc")
    made = runs({"a": 0.8, "b": 0.7, "c": 0.6}, known=[one, two])
    both = answers([one, two], made)
    (alone,) = answers([one], [dataclasses.replace(r, content=r.content | {"questions": {}}) for r in made])
    assert [answer.confidence for answer in (*both, alone)] == [0.975, 0.975, 0.95]
    assert both[0].interval[0] < alone.interval[0]
    elsewhere = dataclasses.replace(two, chapter="q1")
    assert questions.confidence(one, [one, elsewhere, question(), question(role="exploratory")]) == 0.95


def test_nothing_is_said_before_the_last_seed_of_a_study():
    asked = question()
    assert BLOCKS.whole(7) == 0
    assert [BLOCKS.whole(n) for n in (8, 11, 12, 23, 24, 30)] == [8, 8, 12, 20, 24, 24]
    for made in ([], runs({"a": 0.8, "b": 0.7}, range(20, 27), known=[asked])):
        (answer,) = answers([asked], made)
        assert (answer.finding, answer.verdict, answer.effect, answer.interval) == ("not run", "not run", None, None)
        assert answer.summary() | {"n": 0, "low": None, "effect": None} == answer.summary()
    wide = runs({"a": 0.8, "b": 0.7}, range(20, 28), known=[asked], spread=0.05)
    assert answers([asked], wide)[0].effect is None  # eight, and not precise: more are to come
    most = runs({"a": 0.8, "b": 0.7}, range(20, 44), known=[asked], spread=0.06)
    (answer,) = answers([asked], most)
    assert answer.effect.seeds == 24
    assert (answer.interval[1] - answer.interval[0]) / 2 > 1.25
    # one question that is not precise keeps back the other of its study
    other = question(id="p", role="secondary", arms=("a", "c"))
    three = [*runs({"a": 0.8, "b": 0.7}, known=[asked, other]), *runs({"c": 0.7}, known=[asked, other], spread=0.1)]
    assert [answer.effect for answer in answers([asked, other], three)] == [None, None]


def test_exploratory_questions_have_an_interval_and_no_verdict():
    asked = question(role="exploratory")
    (answer,) = answers([asked], runs({"a": 0.8, "b": 0.7}, range(6), known=[asked]))
    assert (answer.finding, answer.verdict, answer.effect.seeds) == (None, None, 6)
    (answer,) = answers([asked], runs({"a": 0.8, "b": 0.7}, range(5), known=[asked]))
    assert answer.finding == "not run"


def test_a_study_that_is_not_sound_gives_no_verdict():
    asked = question()
    made = runs({"a": 0.8, "b": 0.7}, known=[asked])
    (answer,) = answers([asked], made, {"s": "arm a has not learnt"})
    assert (answer.finding, answer.verdict, answer.unsound) == (None, None, "arm a has not learnt")
    assert answer.interval is not None


def test_interactions_and_single_arms():
    shares = {"a": 0.8, "b": 0.7, "c": 0.6, "d": 0.6}
    asked = question(arms=tuple("abcd"))
    (answer,) = answers([asked], runs(shares, known=[asked]))
    assert answer.effect.effect == pytest.approx(0.1, abs=0.02)
    assert (answer.finding, asked.compared) == ("higher", "(a minus b) minus (c minus d)")
    fixed = question(arms=("a",), against=61.0, delta=5.0)
    (answer,) = answers([fixed], runs({"a": 0.8}, known=[fixed]))
    assert answer.summary()["effect"] == pytest.approx(19, abs=2)
    assert fixed.compared == "a minus 61 points"
    after, start = measured("edges", "correlation", 1.0), measured("edges at start", "correlation", 1.0)
    own = question(arms=("a",), against=start, measure=after, delta=0.05)
    rng = np.random.default_rng(1)
    figures = rng.normal(0.2, 0.1, 8), rng.normal(0.004, 0.01, 8)
    made = [
        record("a", n, [True], [own], measures={"edges": base + gain, "edges at start": base})
        for n, (base, gain) in enumerate(zip(*figures, strict=True))
    ]
    (answer,) = answers([own], made)
    assert answer.interval == pytest.approx(stats.ttest_1samp(figures[1], 0).confidence_interval())
    assert answer.finding == NONE
    with pytest.raises(UnknownNameError, match="unknown measure 'edges'"):
        answers([own], runs({"a": 0.8}, known=[own]))


def test_pooled_cross_validation_has_a_row_a_repeat():
    asked = question(pooled=True, delta=5.0)
    rng = np.random.default_rng(2)
    made, sums = [], {"a": 0, "b": 0}
    for repeat in range(6):
        order = rng.permutation(100).reshape(FOLDS, 20)
        for fold, rows in enumerate(np.sort(order, 1)):
            for arm, share in (("a", 0.9), ("b", 0.6)):
                right = rng.random(20) < share
                sums[arm] += right.sum()
                steps = " ".join(map(str, np.diff(rows, prepend=0)))
                made.append(record(arm, FOLDS * repeat + fold, right, [asked]))
                made[-1].content["data"] |= {"whole": "w", "tested": steps, "test_fingerprint": f"{repeat} {fold}"}
    found = questions.effect(asked, made)
    assert found.seeds == REPEATS.least == 6
    assert found.effect == pytest.approx((sums["a"] - sums["b"]) / 600)
    other = questions.resampled_t(asked, made)
    assert other.seeds == 30
    assert other.effect == pytest.approx(found.effect)
    assert questions.effect(asked, made[:-1]) is None  # the last repeat lacks a fold
    loss = question(pooled=True, measure=LOSS_AREA)
    assert questions.effect(loss, made).effect == 0
    assert questions.resampled_t(question(), made) is None


def test_arms_of_other_photos_are_refused_but_for_an_interaction_of_two_sets():
    asked = question()
    made = runs({"a": 0.8, "b": 0.7}, known=[asked])
    made[1].content["data"]["test_fingerprint"] = "another"
    with pytest.raises(CnnhwError, match="question q: a minus b were tested on different photos"):
        answers([asked], made)
    asked = question(arms=tuple("abcd"))
    two = runs({"a": 0.8, "b": 0.7}, known=[asked]) + runs({"c": 0.6, "d": 0.6}, known=[asked], photos=500)
    for one in two:
        one.content["data"]["test_fingerprint"] = "ab" if one.arm in "ab" else "cd"
    (answer,) = answers([asked], two)
    assert answer.effect.effect == pytest.approx(0.1, abs=0.03)


def test_a_question_that_was_edited_or_taken_away_after_its_runs_is_an_error():
    asked = question()
    made = runs({"a": 0.8, "b": 0.7}, known=[asked])
    for change in ({"delta": 3.0}, {"prediction": "lower"}, {"role": "exploratory"}, {"statement": "B."}):
        with pytest.raises(CnnhwError, match=r"question q was edited after a-20\.json was run"):
            answers([dataclasses.replace(asked, **change)], made)
    with pytest.raises(CnnhwError, match="question q was taken away after"):
        answers([dataclasses.replace(asked, id="other")], made)
    answers([dataclasses.replace(asked, known="in part")], made)
    hashes = {
        dataclasses.replace(asked, **change).hash for change in ({}, {"measure": LOSS_AREA}, {"arms": ("b", "a")})
    }
    assert len(hashes) == 3


def test_what_was_registered_after_runs_of_its_arms_was_known():
    asked = question()
    (answer,) = answers([asked], runs({"a": 0.8, "b": 0.7}))
    assert answer.known == answer.summary()["known"] == "yes"
    noted = question(known="in part")
    assert answers([noted], runs({"a": 0.8, "b": 0.7}, known=[noted]))[0].known == "in part"


def test_runs_made_for_a_question_decide_it_and_not_those_that_were_there_before():
    asked = question()
    old, new = runs({"a": 0.6, "b": 0.7}, range(6)), runs({"a": 0.8, "b": 0.7}, known=[asked])
    (answer,) = answers([asked], [*old, *new])
    assert (answer.known, answer.finding, answer.effect.seeds) == ("no", "higher", 8)
    assert answer == answers([asked], new)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": "greater"}, "question q: prediction 'greater' is none of higher, lower"),
        ({"role": "main"}, "role 'main' is none of primary"),
        ({"known": "maybe"}, "known 'maybe' is none of no, in part, yes"),
        ({"delta": 0.0}, "delta is 0.0; it is above 0, in points"),
        ({"delta": float("nan")}, "delta is nan"),
        ({"arms": ("a", "b", "c")}, "has 3 arms"),
        ({"arms": ("a",)}, "has 1 arms: it takes two, four for an interaction, or one and `against`"),
        ({"against": 5.0}, "has 2 arms"),
        ({"arms": ("a", "a")}, "question q compares a with itself"),
        ({"measure": "gap"}, "measure is 'gap', not a Measure, as cnnhw.studies.measures.MEASURES holds them"),
        ({"registered": "soon"}, "registered 'soon' is no day like 2026-11-24"),
    ],
)
def test_impossible_questions_are_refused(change, message):
    with pytest.raises(CnnhwError, match=message):
        question(**change)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([question(study="t")], "question q is about 't', which is no study"),
        ([question(arms=("a", "z"))], "is about z: study s has no such arm, only a, b, c"),
        ([question(measure=measured("sharpness"))], "is about 'sharpness', which is no registered measure"),
        ([question(), question(arms=("a", "c"))], "two questions q"),
        ([question(), question(id="p")], r"chapter q0 has 2 primary questions \(q, p\), and may have 1"),
        ([question(id=i, role="secondary") for i in "pqr"], r"has 3 secondary questions \(p, q, r\), and may have 2"),
    ],
)
def test_questions_that_fit_nothing_are_refused(asked, message):
    with pytest.raises(CnnhwError, match=message):
        questions.check(asked, {"s": ["a", "b", "c"]}, {"accuracy": ACCURACY})


def test_a_study_is_given_its_own_questions():
    with pytest.raises(CnnhwError, match="study t is given questions to another study: q"):
        Study("t", "What?", "scenes", 16, (), questions=(question(),))


def test_what_would_refute_it_follows():
    assert question().refuted_by == "an accuracy that is lower, or surely differs by less than 2.5 points"
    assert question(prediction=NONE).refuted_by == "a difference in accuracy that is surely larger than 2.5 points"
    four = question(arms=tuple("abcd"), prediction="lower").refuted_by
    assert four == "a gain in accuracy that is higher, or surely differs by less than 2.5 points"
    assert isinstance(question(arms=("a",), against=ACCURACY).against, Measure)


@pytest.mark.skipif(not PAGE.exists(), reason="needs the repository")
def test_a_question_can_be_registered_from_the_developer_page_alone(tmp_path):
    """The page's own example, as a chapter."""
    page = PAGE.read_text(encoding="utf-8")
    section = page[page.index("Registering a question\n---") :]
    block = section[section.index(".. code-block:: python") :].split("\n\n   ", 1)[1]
    code = textwrap.dedent("   " + block[: block.index("\n``measure`` is")])
    (tmp_path / "q7.py").write_text(code, encoding="utf-8")
    script = (
        "import sys, cnnhw.book; cnnhw.book.__path__.append(sys.argv[1])\n"
        "from cnnhw.book import registry\n"
        "assert ('q7-wide', 'q7') in [(q.id, q.chapter) for q in registry.QUESTIONS]\n"
        "assert registry.chapter('q7-tune') == 'q7'\n"
        "from cnnhw.cli.command import cli\n"
        "cli(['study', 'plan', 'q7'], standalone_mode=False)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    assert "q7-wide" in done.stdout, done.stderr
    assert "no pilot yet" in done.stdout
    assert "run cnnhw study tune q7" in done.stderr


# what a simulated study has: in points, the SD of an effect from seed to seed, and the photos' share of its stderr
CASES = [(sd, floor) for floor in (0.0, 0.22, 0.5) for sd in (1.0, 1.5, 2.0, 3.0)]
DRAWS, CELLS, NOISE = 4000, 100, 10.0  # a hundred photos, as noisy in all as some thousands


def simulated(sd, floor):
    """Draw effects without a true difference, a thousand at a time: an array of shape (1000, seeds, photos)."""
    rng = np.random.default_rng([int(100 * sd), int(100 * floor)])
    for _ in range(DRAWS // 1000):
        d = rng.normal(0, NOISE, (1000, BLOCKS.most, CELLS))
        d += rng.normal(0, (sd**2 - NOISE**2 / CELLS) ** 0.5, (1000, BLOCKS.most, 1))
        yield d + rng.normal(0, floor * CELLS**0.5, (1000, 1, CELLS))


def interval(d):
    effect, variance, df = _estimate(d)
    return effect, stats.t.ppf(0.975, df) * variance**0.5


def limit(share):
    return share + 3 * (share * (1 - share) / DRAWS) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("sd", "floor"), CASES)
def test_intervals_of_six_twelve_and_twenty_four_seeds_cover(sd, floor):
    covered = dict.fromkeys((6, 12, 24), 0)
    for d in simulated(sd, floor):
        for seeds in covered:
            effect, half = interval(d[:, :seeds])
            covered[seeds] += int((abs(effect) <= half).sum())
    assert all(count / DRAWS >= 0.93 for count in covered.values())


@pytest.mark.slow
@pytest.mark.parametrize(("sd", "floor"), CASES)
def test_the_rule_of_blocks_decides_and_is_seldom_wrong(sd, floor):
    """Seeds are added by half-width alone: what stops is seen to cover, whatever the effect."""
    effects, halves = [], []
    for d in simulated(sd, floor):
        looks = [interval(d[:, :seeds]) for seeds in range(BLOCKS.least, BLOCKS.most + 1, BLOCKS.step)]
        effect, half = (np.stack(parts) for parts in zip(*looks, strict=True))
        enough = half <= DELTA / 2
        enough[-1] = True
        first = enough.argmax(0), np.arange(len(d))
        effects.append(effect[first])
        halves.append(half[first])
    effect, half = np.concatenate(effects), np.concatenate(halves)
    assert (abs(effect) <= half).mean() >= 0.93
    undecided = []
    for truth in DELTA * np.array([0, 0.25, 0.5, 0.75, 1, 1.5, 2]):
        low, high = effect + truth - half, effect + truth + half
        none = (low > -DELTA) & (high < DELTA)
        higher, lower = ~none & (low > 0), ~none & (high < 0)
        wrong = (higher & (truth <= 0)) | (lower & (truth >= 0)) | (none & (truth >= DELTA))
        assert wrong.mean() <= limit(0.05)
        undecided.append((~none & ~higher & ~lower).mean())
    # what could not be decided with the most seeds is refused when it is planned
    if planned := stats.t.ppf(0.975, BLOCKS.most - 1) * (sd**2 / BLOCKS.most + floor**2) ** 0.5 <= DELTA / 2:
        assert max(undecided) <= 0.10
    assert planned == (sd < 2 or (sd == 2 and floor < 0.5))
