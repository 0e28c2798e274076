"""`cnnhw evaluate`: figures against other ways to compute them, classes matched by name, the folder of results."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import shutil

import numpy as np
import pytest
import torch
from conftest import make_photos
from matplotlib import pyplot as plt
from PIL import Image

from cnnhw import cli, evaluation, models, plots
from cnnhw.errors import CnnhwError, DataError, UnknownNameError, WeightsError
from cnnhw.evaluation import assessment, calibration
from cnnhw.evaluation.assessment import assess

FILES = {"evaluation.json", "errors.csv", "confusion.png", "reliability.png"}


@pytest.fixture
def model(photos):
    """Make a network that is right sometimes, for classes in another order than the data's."""
    model = models.create("q1_shallow", 3, size=16).eval()
    model.classes = (photos.classes[2], photos.classes[0], photos.classes[1])
    return model


def certain(*rows):
    """Return probabilities of two classes, the first of which has these."""
    first = torch.tensor(rows, dtype=torch.float64)
    return torch.stack([first, 1 - first], 1)


def test_bins_by_hand():
    probabilities = certain(0.95, 0.9, 0.65, 0.3, 0.5)
    labels = torch.tensor([0, 1, 0, 1, 0])
    found = calibration.bins(probabilities, labels, 10)
    assert [(one.low, one.high) for one in found] == [(i / 10, (i + 1) / 10) for i in range(10)]
    assert [one.count for one in found] == [0, 0, 0, 0, 1, 0, 2, 0, 1, 1]  # 0.5 and 0.9 are in the bins below
    assert found[6].confidence == pytest.approx((0.65 + 0.7) / 2)
    assert [one.accuracy for one in found if one.count] == [1, 1, 0, 1]
    assert math.isnan(found[0].accuracy)
    by_hand = (0.5 + 2 * (1 - 0.675) + 0.9 + 0.05) / 5
    assert calibration.expected_calibration_error(found) == pytest.approx(by_hand)


def test_brier_score_by_hand_and_at_its_ends():
    labels = torch.tensor([0, 1])
    assert calibration.brier_score(certain(1, 0), labels) == 0
    assert calibration.brier_score(certain(0, 1), labels) == 2
    assert calibration.brier_score(certain(0.8, 0.8), labels) == pytest.approx((2 * 0.04 + 2 * 0.64) / 2)
    assert calibration.brier_score(torch.full((4, 5), 0.2), torch.tensor([0, 1, 2, 4])) == pytest.approx(1 - 1 / 5)


@pytest.mark.parametrize("seed", range(20))
def test_calibration_against_a_plain_loop(seed, figures):
    generator = torch.Generator().manual_seed(seed)
    count, classes = int(torch.randint(1, 200, (), generator=generator)), 2 + seed % 5
    probabilities = (3 * torch.randn(count, classes, generator=generator)).softmax(1)
    labels = torch.randint(0, classes, (count,), generator=generator)
    error = brier = 0.0
    for number in range(15):
        rows = [
            (max(row), row.index(max(row)) == label)
            for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            if number / 15 < max(row) <= (number + 1) / 15
        ]
        error += abs(sum(right for _, right in rows) - sum(confidence for confidence, _ in rows)) / count
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        brier += sum((share - (place == label)) ** 2 for place, share in enumerate(row)) / count
    found = calibration.bins(probabilities, labels)
    assert sum(one.count for one in found) == count
    assert calibration.expected_calibration_error(found) == pytest.approx(error)
    assert calibration.brier_score(probabilities, labels) == pytest.approx(brier)
    order = torch.randperm(count, generator=generator)
    again = calibration.expected_calibration_error(calibration.bins(probabilities[order], labels[order]))
    assert again == pytest.approx(error)
    figures("tests", calibrations_checked=1)


def test_probabilities_that_mean_what_they_say_have_hardly_any_error():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(50_000, 4, generator=generator).softmax(1)
    labels = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    assert calibration.expected_calibration_error(calibration.bins(probabilities, labels)) < 0.01
    sharpened = (3 * probabilities.log()).softmax(1)
    assert calibration.expected_calibration_error(calibration.bins(sharpened, labels)) > 0.1


def test_no_photos_have_no_figures():
    nothing, labels = torch.empty(0, 3), torch.empty(0, dtype=torch.int64)
    assert math.isnan(calibration.expected_calibration_error(calibration.bins(nothing, labels)))
    assert math.isnan(calibration.brier_score(nothing, labels))


def test_classes_are_matched_by_name(photos, model):
    found = assess(model, photos)
    logits = evaluation.predict(model, photos.test)
    names = [model.classes[place] for place in logits.argmax(1).tolist()]
    true = [photos.classes[label] for label in photos.test.labels.tolist()]
    right = sum(one == other for one, other in zip(names, true, strict=True))
    summary = found.summary()
    assert 0 < right < len(true)
    assert summary["accuracy"] == pytest.approx(right / len(true))
    assert summary["errors"] == len(true) - right
    assert [one["name"] for one in summary["per_class"]] == list(model.classes)
    for one in summary["per_class"]:
        both = sum(a == b == one["name"] for a, b in zip(names, true, strict=True))
        assert one["photos"] == true.count(one["name"])
        assert one["recall"] == pytest.approx(both / true.count(one["name"]))
        if taken := names.count(one["name"]):
            assert one["precision"] == pytest.approx(both / taken)
        else:
            assert one["precision"] is None
        assert one["f1"] == pytest.approx(2 * both / (true.count(one["name"]) + taken))
    places = torch.tensor([model.classes.index(name) for name in true])
    assert summary["negative_log_likelihood"] == pytest.approx(evaluation.loss(logits, places), rel=1e-5)
    assert sum(one["count"] for one in summary["bins"]) == len(true)
    json.dumps(summary, allow_nan=False)


def test_a_network_without_names_is_matched_by_number(photos, model):
    model.classes = ()
    found = assess(model, photos)
    assert found.classes == photos.classes
    assert torch.equal(found.labels, photos.test.labels)
    with pytest.raises(DataError, match="the network has 3 classes without names, stripes has 4"):
        assess(model, make_photos(classes=4))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("class 0", "class 1", "Class 2"), "it lacks 'class 2' and has 'Class 2', unknown to the network"),
        (("class 0", "class 1", "class 2", "a", "b"), "it has 'a', 'b', unknown to the network. Name"),
    ],
)
def test_other_classes_are_refused_by_name(photos, model, classes, message):
    with pytest.raises(DataError, match=message):
        assess(model, dataclasses.replace(photos, classes=classes))


def test_some_of_the_classes_will_do(photos, model):
    rows = photos.test.labels < 2
    test = dataclasses.replace(photos.test, index=photos.test.index[rows], labels=photos.test.labels[rows])
    test = dataclasses.replace(test, names=test.names[: len(test)], digests=test.digests[: len(test)])
    found = assess(model, dataclasses.replace(photos, classes=photos.classes[:2], test=test))
    assert found.classes == model.classes
    assert found.labels.tolist() == [model.classes.index(f"class {label}") for label in test.labels.tolist()]
    absent = found.summary()["per_class"][model.classes.index("class 2")]
    assert (absent["photos"], absent["recall"]) == (0, None)
    assert found.summary()["balanced_accuracy"] == pytest.approx(
        np.mean([one["recall"] for one in found.summary()["per_class"] if one["photos"]])
    )


def test_a_part_without_photos_is_refused_by_name(photos, model):
    nothing = dataclasses.replace(photos.test, index=photos.test.index[:0], labels=photos.test.labels[:0], names=())
    with pytest.raises(DataError, match=r"no photos in the part test .train 60, validation 20, test 0.: choose"):
        assess(model, dataclasses.replace(photos, test=nothing))


def test_what_cannot_be_assessed_is_refused(photos, model):
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        assess(model, photos, "trian")
    with pytest.raises(DataError, match="8 pixels wide"):
        assess(model, make_photos(size=8))
    with torch.no_grad():
        model.head[-1].weight.fill_(math.nan)
    with pytest.raises(WeightsError, match="not finite"):
        assess(model, photos)


def test_all_photos_are_the_three_parts(photos, model):
    parts = [assess(model, photos, part) for part in ("train", "validation", "test")]
    found = assess(model, photos, "all")
    assert found.names == sum((part.names for part in parts), ())
    assert torch.equal(found.confusion, sum(part.confusion for part in parts))
    torch.testing.assert_close(found.logits, torch.cat([part.logits for part in parts]))


def test_a_class_that_is_never_predicted_has_no_precision(photos, model, tmp_path):
    with torch.no_grad():
        model.head[-1].bias[:] = torch.tensor([-1e3, 0, 0])
    found = assess(model, photos)
    first = found.summary()["per_class"][0]
    assert (first["precision"], first["recall"], first["f1"]) == (None, 0, 0)
    line = found.table().splitlines()[3]
    assert line.split() == ["class", "2", "-", "0.000", "0.000", "10"]
    assert json.loads((found.save(tmp_path) / "evaluation.json").read_text())["per_class"][0] == first


def test_errors_are_listed_the_surest_first_whatever_photos_are_called(photos, model, tmp_path):
    odd = ('a, "b".png', "two\nlines.png", os.fsdecode(b"caf\xe9.png"), "日本.png", "=1+1.png")
    photos = dataclasses.replace(photos, test=dataclasses.replace(photos.test, names=odd + photos.test.names[5:]))
    found = assess(model, photos)
    found.save(tmp_path)
    with (tmp_path / "errors.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *rows = csv.reader(file)
    assert header == ["photo", "true", "predicted", *model.classes]
    assert [row[0] for row in rows] == [found.names[place] for place in found.errors]
    tops = [max(map(float, row[3:])) for row in rows]
    assert tops == sorted(tops, reverse=True)
    for row in rows:
        assert row[1] != row[2]
        assert row[2] == model.classes[int(np.argmax([float(share) for share in row[3:]]))]
    wrong = (found.predictions != found.labels).nonzero().flatten().tolist()
    assert sorted(found.errors) == wrong


def test_names_with_dollars_are_no_formulas(photos, model, tmp_path):
    photos = dataclasses.replace(photos, name="$\\frac$", classes=("$\\x$", "a$b$", "$"))
    model.classes = photos.classes
    assert {path.name for path in assess(model, photos).save(tmp_path / "new").iterdir()} == FILES


def test_files_of_others_are_not_written_over(photos, model, tmp_path):
    found = assess(model, photos)
    for name in sorted(FILES):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(CnnhwError, match=f"already holds {name}"):
            found.save(folder)
        assert [path.read_text() for path in folder.iterdir()] == ["mine"]


def test_figures_come_last_and_lose_nothing(photos, model, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("broken")

    monkeypatch.setattr(plots, "reliability", fail)
    with pytest.warns(UserWarning, match=r"reliability\.png could not be drawn \(broken\)"):
        assess(model, photos).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"reliability.png"}


def test_reliability_shows_bins_that_hold_photos():
    found = calibration.bins(certain(0.95, 0.9, 0.65, 0.7, 0.5), torch.tensor([0, 1, 0, 1, 0]))
    figure = plots.reliability(found, "title")
    above, below = figure.axes
    filled = [one for one in found if one.count]
    assert [bar.get_height() for bar in above.patches] == [one.accuracy for one in filled]
    assert [bar.get_height() for bar in below.patches] == [one.count for one in filled]
    assert [bar.get_x() for bar in below.patches] == [one.low for one in filled]
    plt.close(figure)


@pytest.fixture
def trained(tmp_path, monkeypatch, run):
    """Make a folder of two classes of photos and train on it, and work beside both."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cats", "dogs")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            photo = rng.integers(0, 150, (16, 16, 3), dtype=np.uint8)
            photo[:: label + 2] += 60
            Image.fromarray(photo).save(tmp_path / "pets" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    code, _, err = run("train", "q1_shallow", "--data", "pets", "--size", 16, "--epochs", 1)
    assert code == 0, err
    return tmp_path / "runs" / "q1_shallow-pets-0"


def test_the_command_gives_the_runs_own_accuracy(trained, run):
    code, out, err = run("evaluate", trained, "--data", "pets", "--out", "found")
    assert code == 0, err
    expected = json.loads((trained / "run.json").read_text())
    found = json.loads((trained.parents[1] / "found" / "evaluation.json").read_text())
    for what in ("accuracy", "accuracy_interval", "balanced_accuracy", "confusion", "data_fingerprint", "classes"):
        assert found[what] == expected[what], what
    assert {path.name for path in (trained.parents[1] / "found").iterdir()} == FILES
    assert "pets: the test part, 8 of 40 photos." in out
    assert f"Accuracy {expected['accuracy']:.3f} (95 % interval" in out
    assert f"{found['errors']} of 8 wrong" in out
    assert "optimistic" not in out

    code, out, err = run("evaluate", trained, "--data", "pets", "--out", "found")
    assert code == 2
    assert "found already holds evaluation.json" in err
    code, out, err = run("evaluate", trained, "--data", "pets", "--out", trained)
    assert code == 2
    assert "already holds confusion.png" in err


def test_the_command_says_which_photos_it_used(trained, run):
    code, out, err = run("evaluate", trained / "weights.safetensors", "--data", "pets", "--part", "all")
    assert code == 0, err
    assert "pets: all, 40 of 40 photos." in out
    assert "the figures are optimistic" in out
    assert out.rstrip().endswith("20")
    shutil.move("pets/dogs", "pets/wolves")
    code, _, err = run("evaluate", trained, "--data", "pets")
    assert code == 2
    assert "lacks 'dogs' and has 'wolves', unknown to the network" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("photos", "words", "said"),
    [
        ({"cats": 2, "dogs": 2}, ("--part", "all"), "all, 4 of 4 photos."),
        ({"dogs": 1}, ("--part", "all"), "No photos of 1 of the network's 2 classes: cats."),
        ({"dogs": 1}, (), "the test part, 1 of 1 photos."),
        ({"test/cats": 2, "test/dogs": 1}, (), "the test part, 3 of 3 photos."),
        ({"valid/cats": 2}, ("--part", "validation"), "the validation part, 2 of 2 photos."),
        ({"cats/test": 2, "dogs/test": 1}, (), "the test part, 3 of 3 photos."),
        ({"a/cats": 2, "b/cats": 1, "a/dogs": 1, "b/dogs": 1}, ("--layout", "part/class", "--part", "all"), "5 of 5"),
        ({"cats/2023": 2, "cats/2024": 2, "dogs": 1}, ("--part", "all"), "5 of 5"),
        ({"cats/2023": 2, "cats/2024": 2}, ("--part", "all"), "4 of 4"),
    ],
)
def test_evaluation_is_not_training(trained, run, photos, words, said):
    for number, (place, count) in enumerate(photos.items()):
        folder = trained.parents[1] / "held" / place
        folder.mkdir(parents=True)
        for k in range(count):
            Image.fromarray(np.full((16, 16, 3), 20 * number + k, np.uint8)).save(folder / f"{k}.png")
    code, out, err = run("evaluate", trained, "--data", "held", *words)
    assert code == 0, err
    assert said in out


def test_parts_of_the_command_are_those_of_the_function():
    (option,) = [one for one in cli.cli.commands["evaluate"].params if one.name == "part"]
    assert tuple(option.type.choices) == assessment.PARTS


def test_the_table_has_a_line_a_class(photos, model):
    lines = assess(model, photos).table().splitlines()
    assert len(lines) == 3 + 3
    assert len({len(line) for line in lines[2:]}) == 1
