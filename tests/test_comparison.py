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


def test_p_values_agree_with_the_interval():
    found = Comparison(effect=0.03, stderr=0.01, df=5.0, seeds=6)
    low, high = found.interval()
    assert found.p_above(low) == pytest.approx(0.025)
    assert found.p_below(high) == pytest.approx(0.025)
    assert found.p_above(0) < 0.025 < found.p_above(0.02)
    certain = Comparison(effect=0.5, stderr=0.0, df=5.0, seeds=6)
    assert certain.interval() == (0.5, 0.5)
    assert (certain.p_above(0.4), certain.p_above(0.5), certain.p_below(0.6)) == (0.0, 1.0, 0.0)


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
