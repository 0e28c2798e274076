"""Thresholds below which a classifier says "not sure", by hand-computed cases and by definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnhw.errors import DataError
from cnnhw.evaluation import selective


def photos(*given):
    """Return probabilities of two classes, and labels, for (top probability, whether it is correct)."""
    top = torch.tensor([share for share, _ in given], dtype=torch.float64)
    return torch.stack([top, 1 - top], 1), torch.tensor([0 if correct else 1 for _, correct in given])


# from the most confident on, 1/1, 2/2, 2/3, 3/4, 4/5, 4/6 are correct
SIX = ((0.9, True), (0.6, False), (0.95, True), (0.8, False), (0.75, True), (0.7, True))


@pytest.mark.parametrize(
    ("accuracy", "expected", "counts"),
    [
        (1.0, 0.9, (6, 2, 2)), (0.81, 0.9, (6, 2, 2)), (0.8, 0.7, (6, 5, 4)), (0.75, 0.7, (6, 5, 4)),
        (2 / 3, 0.6, (6, 6, 4)), (0.1, 0.6, (6, 6, 4)),
    ],
)  # fmt: skip
def test_the_threshold_is_the_lowest_that_is_correct_often_enough(accuracy, expected, counts):
    chosen = selective.threshold(*photos(*SIX), accuracy)
    assert chosen == expected
    assert selective.answered(*photos(*SIX), chosen) == selective.Answered(*counts)


def test_photos_of_the_same_probability_are_answered_together():
    same = photos((0.9, True), (0.8, True), (0.8, False))
    assert selective.threshold(*same, 1.0) == 0.9
    assert selective.threshold(*photos((0.8, True), (0.8, False)), 0.6) is None


def test_a_share_that_is_met_exactly_is_met():
    hundred = [(0.99 - number / 1000, number < 55) for number in range(100)]
    assert selective.threshold(*photos(*hundred), 0.55) == pytest.approx(0.891)  # 0.55 * 100 is above 55 in floats


def test_where_nothing_is_correct_nothing_is_answered():
    wrong = photos((0.9, False), (0.8, True))
    assert selective.threshold(*wrong, 0.95) is None
    found = selective.answered(*wrong, None)
    assert (found.answered, found.correct, found.coverage) == (0, 0, 0.0)
    assert math.isnan(found.accuracy)


@pytest.mark.parametrize(
    ("least", "lenient", "strict"), [(2, 0.7, 0.9), (3, 0.7, None), (5, 0.7, None), (6, None, None), (7, None, None)]
)
def test_so_many_photos_are_answered_at_least(least, lenient, strict):
    assert selective.threshold(*photos(*SIX), 0.8, least=least) == lenient
    assert selective.threshold(*photos(*SIX), 1.0, least=least) == strict


def test_no_photos_choose_nothing():
    none = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    assert selective.threshold(*none) is None
    assert math.isnan(selective.answered(*none, 0.5).coverage)


@given(st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9]), st.booleans()), min_size=1), st.floats(0.05, 1))
def test_it_agrees_with_the_definition(given, accuracy):
    probabilities, labels = photos(*given)

    def enough(at):
        answers = [correct for share, correct in given if share >= at]
        return sum(answers) / len(answers) >= accuracy

    tried = [share for share, _ in given if enough(share)]
    assert selective.threshold(probabilities, labels, accuracy) == (min(tried) if tried else None)


@pytest.mark.parametrize("accuracy", [0.0, -1, 1.01, math.nan])
def test_an_accuracy_that_is_none_is_refused(accuracy):
    with pytest.raises(ValueError, match="give a share above 0, up to 1"):
        selective.threshold(*photos(*SIX), accuracy)


def test_shapes_have_to_fit():
    with pytest.raises(DataError, match=r"\(2, 3\) and \(3,\): give \(N, K\) and \(N,\)"):
        selective.threshold(torch.ones(2, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="give"):
        selective.answered(torch.ones(2), torch.zeros(2, dtype=torch.int64), 0.5)
