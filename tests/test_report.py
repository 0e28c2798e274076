"""The report's numbers agree with each other."""

from __future__ import annotations

import pytest

from cnnhw.book import original_report
from cnnhw.errors import UnknownNameError


@pytest.mark.parametrize("name", original_report.names())
def test_confusion_matrix_gives_the_stated_accuracy(name):
    experiment = original_report.get(name)
    share = experiment.confusion.trace() / experiment.confusion.sum()
    assert float(share) == pytest.approx(experiment.test_accuracy, abs=1e-6)


@pytest.mark.parametrize("name", original_report.names())
def test_test_photos_a_class(name):
    experiment = original_report.get(name)
    rows = {
        "q6_from_deep": [123, 180, 135, 131, 165],
        "q6_from_inception": [129, 180, 128, 139, 158],
    }.get(name, [400] * 5)
    assert experiment.confusion.sum(1).tolist() == rows


@pytest.mark.parametrize("name", original_report.names())
def test_every_epoch_has_its_row(name):
    experiment = original_report.get(name)
    for part in experiment.stages or (experiment,):
        assert {len(values) for values in part.history.values()} == {part.epochs}
        assert set(part.history) >= {"loss", "accuracy", "validation_loss", "validation_accuracy"}


def test_stage_confusion_gives_its_accuracy():
    stage = original_report.get("q6_from_deep").stages[0]
    assert float(stage.confusion.trace() / stage.confusion.sum()) == pytest.approx(stage.test_accuracy)


def test_unknown_experiment():
    with pytest.raises(UnknownNameError, match="Did you mean 'q1_deep'"):
        original_report.get("q1_deeep")
