"""The interval of a paired comparison holds what it promises, for seeds and photos alike."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scipy import stats

from cnnhw import studies
from cnnhw.errors import CnnhwError
from cnnhw.studies import statistics
from cnnhw.studies.statistics import Comparison, compare
from cnnhw.studies.store import Record


def simulate(seeds, sd_seed, sd_photo, effect=0.0, draws=4000, photos=200):
    """Return how often the interval covers the true effect, and how often it lies above zero."""
    rng = np.random.default_rng(seeds)
    covered = above = 0
    for _ in range(draws):
        d = (
            effect
            + rng.normal(0, sd_seed, (seeds, 1))
            + rng.normal(0, sd_photo, photos)
            + rng.normal(0, 0.5, (seeds, photos))
        )
        low, high = compare(d, np.zeros_like(d)).interval()
        covered += low <= effect <= high
        above += low > 0
    return covered / draws, above / draws


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [6, 8, 12])
@pytest.mark.parametrize("sd_seed", [0.0, 0.012])
@pytest.mark.parametrize("sd_photo", [0.0, 0.1, 0.3])
def test_coverage_with_and_without_noise_of_seeds_and_photos(seeds, sd_seed, sd_photo):
    covered, above = simulate(seeds, sd_seed, sd_photo)
    assert 0.93 <= covered <= 0.99  # truncated components make it wider than need be where there are none
    assert above <= 0.025 + 3 * (0.025 * 0.975 / 4000) ** 0.5


def test_without_noise_of_photos_it_is_the_t_interval_over_seeds():
    rng = np.random.default_rng(0)
    by_seed = rng.normal(0.02, 0.01, (6, 1))
    d = np.repeat(by_seed, 50, axis=1)
    low, high = compare(d, np.zeros_like(d)).interval()
    assert (low, high) == pytest.approx(stats.ttest_1samp(by_seed[:, 0], 0).confidence_interval())


def mean_squares(d):
    """Return the mean squares of seeds, photos and the rest, with their degrees of freedom, by their definitions."""
    seeds, photos = d.shape
    rest = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    return (
        (photos * d.mean(1).var(ddof=1), seeds - 1),
        (seeds * d.mean(0).var(ddof=1), photos - 1),
        ((rest**2).sum() / ((seeds - 1) * (photos - 1)), (seeds - 1) * (photos - 1)),
    )


def test_components_that_come_out_negative_are_taken_for_zero_seeds_and_photos_alike():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (6, 40))
    alike = noise - noise.mean(1, keepdims=True) + 0.01  # all seeds have the same mean: less than chance allows
    level = noise - noise.mean(0)  # and here all photos do
    both = alike - alike.mean(0) + 0.01
    for d, kept in ((alike, [1]), (level, [0]), (both, [])):
        squares = mean_squares(d)
        assert [i for i in (0, 1) if squares[i][0] > squares[2][0]] == kept
        expected, df = squares[kept[0] if kept else 2]
        found = compare(d, np.zeros_like(d))
        assert found.stderr == pytest.approx((expected / d.size) ** 0.5)
        assert found.df == pytest.approx(df)
    d = noise + rng.normal(0, 1, (6, 1)) + rng.normal(0, 1, 40)
    (seed, f), (photo, g), (rest, h) = mean_squares(d)
    found = compare(d, np.zeros_like(d))
    assert found.stderr == pytest.approx(((seed + photo - rest) / d.size) ** 0.5)
    assert found.df == pytest.approx((seed + photo - rest) ** 2 / (seed**2 / f + photo**2 / g + rest**2 / h))


def test_shared_difficulty_of_photos_cancels():
    rng = np.random.default_rng(1)
    difficulty = rng.random(300) < 0.6
    a = difficulty ^ (rng.random((6, 300)) < 0.1)
    b = difficulty ^ (rng.random((6, 300)) < 0.1)
    shuffled = np.array([row[rng.permutation(300)] for row in b])
    assert compare(a.astype(float), b.astype(float)).stderr < compare(a.astype(float), shuffled.astype(float)).stderr


def test_an_effect_without_spread_has_an_interval_of_one_value():
    certain = Comparison(effect=0.5, stderr=0.0, df=5.0, seeds=6)
    assert certain.interval() == (0.5, 0.5)


def test_one_figure_a_seed():
    found = statistics.of_values([3.0, 4.0, 6.0], [1.0, 3.0, 3.0])
    assert found.interval() == pytest.approx(stats.ttest_rel([3, 4, 6], [1, 3, 3]).confidence_interval())


@pytest.mark.parametrize(("a", "b"), [((6, 10), (6, 9)), ((1, 10), (1, 10)), ((6, 1), (6, 1))])
def test_what_cannot_be_compared_is_refused(a, b):
    with pytest.raises(CnnhwError, match="two or more seeds and photos"):
        compare(np.zeros(a), np.zeros(b))
    with pytest.raises(CnnhwError, match="two or more seeds"):
        statistics.of_values([1.0], [1.0])


def test_arms_are_paired_by_seed_and_test_photo():
    records = studies.records("fast")
    found = statistics.of_arms(records, "adamw", "fast")
    by_seed = {name: {r.seed: r.accuracy() for r in records if r.arm == name} for name in ("adamw", "fast")}
    assert found.seeds == 6
    assert found.effect == pytest.approx(np.mean([by_seed["adamw"][s] - by_seed["fast"][s] for s in range(6)]))
    with pytest.raises(CnnhwError, match="no records of nothing"):
        statistics.of_arms(records, "nothing", "fast")
    other = copy.deepcopy(records[0].content)
    other["data"]["test_fingerprint"] = "another"
    with pytest.raises(CnnhwError, match="different photos"):
        statistics.correct([records[0], Record(other, records[0].path)])


@pytest.mark.parametrize(("sd_seed", "sd_photo"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.5), (1.0, 0.0)])
def test_the_crossed_layout_agrees_with_a_mixed_model(sd_seed, sd_photo):
    """REML of a balanced layout gives the same effect and standard error, and leaves out what is truncated."""
    import pandas as pd
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(int(10 * sd_seed + sd_photo))
    noise = rng.normal(0, 1, (8, 60))
    d = (
        0.3
        + rng.normal(0, sd_seed, (8, 1))
        + (noise + rng.normal(0, sd_photo, 60) if sd_photo else noise - noise.mean(0))
    )
    table = pd.DataFrame(
        {"d": d.ravel(), "seed": np.repeat(np.arange(8), 60), "photo": np.tile(np.arange(60), 8), "all": 1}
    )
    kinds = ("seed", "photo") if sd_photo else ("seed",)
    assert [square > mean_squares(d)[2][0] for square, _ in mean_squares(d)[:2]] == [True, bool(sd_photo)]
    model = smf.mixedlm(
        "d ~ 1", table, groups="all", vc_formula={kind: f"0 + C({kind})" for kind in kinds}, re_formula="0"
    )
    fitted = model.fit(reml=True)
    found = statistics.crossed(d)
    assert found.effect == pytest.approx(fitted.params["Intercept"], abs=1e-8)
    assert found.stderr == pytest.approx(fitted.bse["Intercept"], rel=2e-3)


def test_an_interaction_is_paired_by_seed_and_photo():
    rng = np.random.default_rng(5)
    a, b, c, d = (rng.random((6, 30)) < share for share in (0.8, 0.6, 0.7, 0.65))
    found = statistics.contrast([a, b, c, d])
    assert found == statistics.crossed((a.astype(float) - b) - (c.astype(float) - d))
    assert found.effect == pytest.approx((a.mean() - b.mean()) - (c.mean() - d.mean()))
    hard, luck = 3.0 * rng.normal(size=30), 5.0 * rng.normal(size=(6, 1))  # shared by all arms: cancels
    one = [x.astype(float) + hard + luck for x in (a, b, c, d)]
    assert statistics.contrast(one).interval() == pytest.approx(found.interval())
    figures = [x.mean(1) for x in (a, b, c, d)]
    alone = stats.ttest_1samp(figures[0] - figures[1] - figures[2] + figures[3], 0)
    assert statistics.contrast(figures).interval() == pytest.approx(alone.confidence_interval())


def test_an_interaction_over_other_photos_has_the_noise_of_both_sets():
    rng = np.random.default_rng(6)
    first = rng.normal(0, 1, (6, 40)) + rng.normal(0, 1, 40) + rng.normal(0, 1, (6, 1))
    second = rng.normal(0, 1, (6, 25)) + rng.normal(0, 1, 25)
    zeros = np.zeros_like(first), np.zeros_like(second)
    found = statistics.contrast([first, zeros[0], second, zeros[1]], apart=True)
    (seed, _), (photo, _), (rest, _) = mean_squares(first)
    (_, _), (other, _), (left, _) = mean_squares(second)
    rows = (first.mean(1) - second.mean(1)).var(ddof=1) / 6
    assert rows > rest / 240 + left / 150
    assert min(photo - rest, other - left, seed) > 0
    assert found.effect == pytest.approx(first.mean() - second.mean())
    assert found.stderr == pytest.approx((rows + (photo - rest) / 240 + (other - left) / 150) ** 0.5)
    with pytest.raises(CnnhwError, match="different seeds or photos"):
        statistics.contrast([first, zeros[0], second, zeros[1]])


def test_one_arm_against_a_fixed_value_and_its_own_start():
    rng = np.random.default_rng(7)
    right = (rng.random((6, 50)) < 0.7).astype(float)
    assert statistics.contrast([right], 0.6) == statistics.crossed(right - 0.6)
    after, start = rng.normal(1, 0.1, 6), rng.normal(0, 0.1, 6)
    found = statistics.contrast([after], start)
    assert found.interval() == pytest.approx(stats.ttest_rel(after, start).confidence_interval())
    assert statistics.contrast([after], 1.0).effect == pytest.approx(after.mean() - 1)
    with pytest.raises(CnnhwError, match="different seeds or photos"):
        statistics.contrast([after, start, after])
    with pytest.raises(CnnhwError, match="different seeds or photos"):
        statistics.contrast([right, right[:5]])


def test_degrees_of_freedom_after_truncation():
    """What is left after truncation has its own: of seeds, of photos, of the residual."""
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 1, (6, 40))
    level = noise - noise.mean(0)
    same = noise - noise.mean(1, keepdims=True)
    assert statistics.crossed(level + np.arange(6)[:, None]).df == pytest.approx(5)
    assert statistics.crossed(same + np.arange(40)).df == pytest.approx(39)
    assert statistics.crossed(level - level.mean(1, keepdims=True)).df == pytest.approx(5 * 39)
    assert statistics.crossed(np.ones((6, 40))) == Comparison(1.0, 0.0, 5.0, 6)


def test_the_corrected_resampled_t_is_that_of_nadeau_and_bengio():
    rng = np.random.default_rng(9)
    differences = rng.normal(0.02, 0.03, 30)  # six repeats of five folds
    found = statistics.resampled(list(differences), test=200, train=700)
    assert found.stderr == pytest.approx(np.sqrt((1 / 30 + 200 / 700) * differences.var(ddof=1)))
    assert (found.df, found.effect) == (29, pytest.approx(differences.mean()))
    with pytest.raises(CnnhwError, match="two folds"):
        statistics.resampled([1.0], 1, 1)
