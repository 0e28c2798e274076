"""Figures of merit, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import make_photos

from cnnhw import evaluation, models


def test_confusion_and_accuracies_by_hand():
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    predictions = torch.tensor([0, 1, 0, 1, 2, 0])
    matrix = evaluation.confusion_matrix(predictions, labels, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert evaluation.accuracy(predictions, labels) == pytest.approx(4 / 6)
    assert evaluation.balanced_accuracy(matrix) == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)


def test_balanced_accuracy_leaves_out_absent_classes():
    assert evaluation.balanced_accuracy(torch.tensor([[3, 1], [0, 0]])) == pytest.approx(0.75)


def test_loss_of_a_uniform_guess():
    assert evaluation.loss(torch.zeros(4, 5), torch.tensor([0, 1, 2, 3])) == pytest.approx(math.log(5))


def test_wilson_interval_against_published_values():
    # Newcombe 1998, table I: 81 of 263 and 0 of 20, method 3
    assert evaluation.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert evaluation.wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert evaluation.wilson_interval(0, 0) == (0.0, 1.0)


def test_predict_does_not_depend_on_batches_and_restores_the_mode():
    photos = make_photos()
    model = models.create("q1_shallow", 3, size=16).train()
    a, b = (evaluation.predict(model, photos.test, batch_size=size) for size in (7, 100))
    assert torch.allclose(a, b, atol=1e-5)
    assert model.training
