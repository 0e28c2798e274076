"""Figures show what they are given."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

import cnnhw
from cnnhw import models, plots
from cnnhw.book import figures, original_report
from cnnhw.plots import figures as drawing
from cnnhw.studies.store import Record

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "q1_shallow.svg"


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def history(epochs, level):
    return {
        name: [level] * epochs for name in ("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds")
    }


def test_curves_show_means_bands_and_the_report():
    runs = {"q1_shallow": [history(15, 0.4), history(15, 0.6)], "q1_deep": history(13, 0.7)}
    figure = plots.curves(runs, reported={name: original_report.get(name).history for name in runs}, title="Curves")
    loss, accuracy = figure.axes
    lines = {line.get_label(): line for line in accuracy.get_lines()}
    assert np.allclose(lines["q1_shallow, validation"].get_ydata(), 0.5)
    assert len(accuracy.collections) == 2  # one band for training and one for validation, of the arm with two runs
    shown = lines["q1_deep, validation, report"].get_ydata()
    assert list(shown) == original_report.get("q1_deep").history["validation_accuracy"]
    assert figure.get_suptitle() == "Curves"
    assert loss.get_ylim()[0] == 0


def test_confusion_shows_counts():
    matrix = torch.tensor([[3, 1], [0, 4]])
    figure = plots.confusion({"ours": matrix, "theirs": matrix.T}, {"ours": ["a", "b"], "theirs": ["c", "d"]})
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [["3", "1", "0", "4"], ["3", "0", "1", "4"]]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["c", "d"]


def record(seed, seconds, predictions="001", epochs=3):
    content = {
        "best_epoch": 2,
        "seconds": seconds,
        "history": history(epochs, 0.2 + 0.4 * seed),
        "data": {"classes": ["a", "b"]},
        "test_labels": "011",
        "test_predictions": {"2": predictions},
    }
    return Record(content, Path("x.json"))


def test_trained_shows_curves_mean_confusion_and_time():
    figure = figures.trained([record(0, 10.0), record(1, 40.0, "011"), record(0, 12.0)], title="small")
    loss, accuracy, matrix = figure.axes
    assert figure.get_figwidth() <= figures.PHONE
    assert figure.get_suptitle() == "small: training took 12 s (median of 3 runs, 10 to 40 s)"
    for axis in (loss, accuracy):
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert set(lines) == {"training", "validation"}
        assert np.allclose(lines["validation"].get_ydata(), (0.2 + 0.6 + 0.2) / 3)
        bands = [band.get_paths()[0].get_extents() for band in axis.collections]
        assert np.allclose([[band.y0, band.y1] for band in bands], [0.2, 0.6])
    assert [text.get_text() for text in matrix.texts] == ["1", "0", "1", "1"]  # 2/3 and 4/3, rounded
    assert np.allclose(matrix.images[0].get_array(), [[1, 0], [1 / 3, 2 / 3]])
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["a", "b"]


def test_trained_marks_the_epoch_of_a_single_run():
    figure = figures.trained([record(0, 10.0)], classes=["x", "y"])
    assert figure.get_suptitle() == "Training took 10 s (one run)"
    marks = [line for line in figure.axes[0].get_lines() if line.get_label() == "best by validation"]
    assert [list(mark.get_xdata()) for mark in marks] == [[2, 2]]
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == ["x", "y"]


def test_trained_refuses_what_does_not_go_together():
    for records in ([], [record(0, 1.0), record(1, 1.0, epochs=4)]):
        with pytest.raises(ValueError, match="runs with the same epochs and classes"):
            figures.trained(records)


def test_per_class_draws_a_dot_a_run():
    figure = plots.per_class({"x": [[0.1, 0.9], [0.3, 0.7]]}, ["a", "b"])
    (axis,) = figure.axes
    assert np.allclose([bar.get_height() for bar in axis.patches], [0.2, 0.8])
    assert len(axis.get_lines()) == 2


def test_test_accuracy_rings_the_chosen_epoch():
    figure = plots.accuracy_by_epoch({"x": [([0.1, 0.5, 0.4], 2), ([0.2, 0.3], 1)]})
    lines = figure.axes[0].get_lines()
    assert [list(line.get_ydata()) for line in lines[:4]] == [[0.1, 0.5, 0.4], [0.5], [0.2, 0.3], [0.2]]
    assert lines[1].get_xdata()[0] == 2


def test_contact_sheet_shows_each_photo():
    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8)
    figure = plots.contact_sheet(images, [str(i) for i in range(7)], columns=3)
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == [str(i) for i in range(7)]
    for one, image in zip(axis.images, images, strict=True):
        assert np.array_equal(one.get_array(), image.permute(1, 2, 0))


def pixels(figure, tmp_path):
    plots.save(figure, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_one_epoch_is_drawn_and_accuracy_one_lies_on_the_frame(tmp_path):
    for epochs in (1, 4):
        figure = plots.curves({"fast": history(epochs, 1.0)}, best_epoch=1)
        shown = pixels(figure, tmp_path)
        height, width, _ = shown.shape
        right = shown[:, width // 2 :]
        blue = abs(right - (0x00, 0x72, 0xB2)).sum(2) < 40
        assert blue.sum() > (30 if epochs == 1 else 300)
        assert all(tick == int(tick) for tick in figure.axes[1].get_xticks())
        frame = figure.axes[1].get_window_extent()
        assert abs(blue.any(1).nonzero()[0].mean() - (height - frame.y1 * 110 / figure.dpi)) < 4  # its upper edge


NAMES = ["قطة", "猫", "😀", "cat\n", "\x1b[2J", "$a$b", "x" * 300, " "]


def test_names_in_any_script_are_drawn_or_numbered(tmp_path):
    figure = plots.confusion({"$5 猫": torch.eye(8)}, NAMES)
    drawn = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert drawn[3] == "cat"
    assert (drawn[4], drawn[7]) == ("class 5", "class 8")
    assert drawn[5] == "$a$b"
    assert len(drawn[6]) == 20
    for number in (1, 2, 3):
        assert drawn[number - 1] in (NAMES[number - 1], f"class {number}")
    pixels(figure, tmp_path)
    assert "猫" in plots.confusion({"猫": torch.eye(8)}, NAMES).get_label()


def test_a_font_that_has_the_letters_is_used_and_boxes_are_no_letters(monkeypatch):
    known = {"DejaVu Sans": "ab", "Last Resort": "ab猫犬", "Cats": "猫"}
    monkeypatch.setattr(drawing, "_path", lambda name: name)
    monkeypatch.setattr(drawing, "_letters", lambda name: {ord(letter) for letter in known[name]})
    fonts = [SimpleNamespace(name=name, fname=name, style="normal") for name in known]
    monkeypatch.setattr(drawing.font_manager.fontManager, "ttflist", fonts)
    drawing._fonts.cache_clear()
    try:
        with matplotlib.rc_context():
            assert drawing._names(["a", "猫", "犬"]) == ["a", "猫", "class 3"]
            assert matplotlib.rcParams["font.family"] == ["sans-serif", "Cats"]
    finally:
        drawing._fonts.cache_clear()


@pytest.mark.parametrize(("classes", "texts", "ticks"), [(20, 400, 20), (40, 0, 40), (1000, 0, None)])
def test_many_classes_are_drawn_in_bounds(tmp_path, classes, texts, ticks):
    start = time.perf_counter()
    figure = plots.confusion({"x": torch.eye(classes)}, [f"class number {number}" for number in range(classes)])
    (axis,) = figure.axes
    assert len(axis.texts) == texts
    assert len(axis.get_yticks()) == (ticks or pytest.approx(8, abs=5))
    if not ticks:
        assert axis.get_ylabel() == "true, numbers of classes"
        assert axis.yaxis.get_major_formatter()(0, 0) == "1"
    assert max(pixels(figure, tmp_path).shape) < 2000
    assert time.perf_counter() - start < 20


def test_many_pictures_are_drawn_in_bounds():
    figure = plots.contact_sheet(torch.zeros(1200, 3, 8, 8, dtype=torch.uint8), ["a"] * 1200)
    assert len(figure.axes[0].images) == 1000
    assert figure.get_suptitle() == "the first 1,000 of 1,200 pictures"
    assert figure.get_figheight() * 110 < 2**16  # which Agg can draw


def test_settings_of_the_user_change_nothing(tmp_path):
    def draw():
        return pixels(plots.trained([history(3, 0.5)], [torch.eye(2)], [1.0], ["a", "b$"], title="x"), tmp_path)

    expected = draw()
    odd = {"text.usetex": True, "font.family": "no such font", "axes.grid": True, "figure.dpi": 500, "font.size": 60}
    odd |= {"savefig.bbox": "tight", "lines.linewidth": 9, "savefig.facecolor": "black", "axes.facecolor": "red"}
    with matplotlib.rc_context(odd):
        assert np.array_equal(draw(), expected)
        assert matplotlib.rcParams["font.family"] == ["no such font"]


@pytest.mark.parametrize("backend", ["tkagg", "module://nothing.like.this"])
def test_backends_that_do_not_work_are_not_needed(tmp_path, backend):
    code = (
        "import torch; from cnnhw import plots; "
        "plots.save(plots.confusion({'x': torch.eye(2)}, ['a', 'b']), 'x.png'); assert len(open('x.png', 'rb').read())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"} | {"MPLBACKEND": backend}
    environment["PYTHONPATH"] = str(Path(cnnhw.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize("name", models.names())
def test_diagram_shows_every_layer_with_weights(name):
    model = models.create(name)
    picture = plots.diagram(model)
    root = ET.fromstring(picture)
    texts = list(root.iter("{http://www.w3.org/2000/svg}text"))
    counts = [int(text.text.replace(",", "")) for text in texts if text.get("font-size") == "12" and text.text]
    assert sum(counts) == models.count_parameters(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            assert models.count_parameters(module) in counts
    weighty = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len([text for text in texts if text.text and ("conv" in text.text or "linear" in text.text)]) == len(weighty)
    assert f"{models.count_parameters(model):,} parameters" in picture
    assert model.training  # left as it was


def test_diagram_draws_connections_that_skip_layers():
    assert plots.diagram(models.create("fast", size=64)).count("<path d") == 1 + 2  # the arrow's tip, two blocks
    assert plots.diagram(models.create("q1_deep", size=64)).count("<path d") == 1


def test_diagram_shows_branches_side_by_side():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Conv2d(3, 3, 1)
            self.b = torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.a(x) + self.b(x)

    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    model = models.Classifier(torch.nn.Sequential(Block()), head, 8)
    root = ET.fromstring(plots.diagram(model))
    boxes = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("rx")]
    places = [(box.get("x"), box.get("y")) for box in boxes]
    assert len(set(places)) == len(boxes)
    assert len({x for x, _ in places}) == 2


def test_saving_closes_the_figure(tmp_path):
    plots.save(plots.per_class({"x": [[0.5]]}, ["a"]), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert not plt.get_fignums()


@pytest.mark.skipif(not PICTURE.exists(), reason="needs the repository")
def test_picture_of_the_readme_is_up_to_date():
    assert PICTURE.read_text(encoding="utf-8") == plots.diagram(models.create("q1_shallow"))


def test_lines_may_have_named_places():
    figure = plots.lines({"a": [[0.1, 0.3], [0.3, 0.5]]}, "accuracy", start=0, ticks=["few", "many"])
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["few", "many"]
    assert np.allclose(axis.get_lines()[0].get_ydata(), [0.2, 0.4])


def test_maps_show_each_photo_once_in_the_colour_of_its_class():
    labels = torch.tensor([0, 1, 1])
    figure = plots.maps({"before": ([0, 1, 2], [3, 4, 5]), "after": ([0, 0, 0], [1, 1, 1])}, labels, ["a", "b"])
    before, after = figure.axes
    assert [list(line.get_xdata()) for line in before.get_lines()] == [[0], [1, 2]]
    assert [list(line.get_ydata()) for line in after.get_lines()] == [[1], [1, 1]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_names_are_drawn_as_they_are_and_never_read_as_formulas(tmp_path):
    names = (r"$\frac{$", "a$b$c")
    photos = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    figures = (
        plots.confusion({names[0]: torch.eye(2)}, names),
        plots.contact_sheet(photos, names, title=names[0]),
        plots.per_class({"a": [[0.5, 0.5]]}, names),
    )
    for number, figure in enumerate(figures):
        plots.save(figure, tmp_path / f"{number}.png")


def test_figures_say_what_they_show():
    assert plots.strip({"a": [0.5, 0.7], "b": [0.4]}, "accuracy", "Two arms").get_label() == (
        "Two arms: accuracy of each run, means and ranges. a 0.6 (0.5 to 0.7), b 0.4 (0.4 to 0.4)."
    )
    assert plots.lines({"a": [[2.0, 1.0], [4.0, 2.0]]}, "loss").get_label() == (
        "Loss by epoch, means at the first and the last. a from 3 to 1.5."
    )
    assert "a lowest at 1 with 0.2 and highest at 2 with 0.8" in (
        plots.against({"a": [[(1, 0.2), (2, 0.8), (3, 0.5)]]}, "size", "accuracy").get_label()
    )
    assert "m: x 25%, y 75%" in plots.shares({"m": {"x": 0.25, "y": 0.75}}).get_label()
    assert plots.forest({"a": (1.5, -0.5, 3.5)}, "points").get_label().endswith("a +1.5 (-0.5 to +3.5).")
    curves = {"a": [[(1.0, 0.3), (2.0, 0.5)], [(1.0, 0.2), (4.0, 0.7)]]}
    assert plots.time_to_accuracy(curves, [0.4]).get_label().endswith("a to 0.600 in 3 s. Marked: 0.400.")
    assert "a from 2 at 1 to 8 at 4" in plots.scaling({"photos": {"a": ([1, 2, 4], [2.0, 4.0, 8.0])}}, "s").get_label()
    assert plots.confusion({"m": torch.tensor([[3, 1], [0, 4]])}, "ab").get_label().endswith("m 0.88.")
    history = {"loss": [2.0, 1.0], "validation_loss": [1.0, 1.5], "accuracy": [0.2, 0.9]} | {
        "validation_accuracy": [0.3, 0.4]
    }
    assert "validation loss from 1.00 to 1.50 (lowest after epoch 1)" in plots.curves({"a": history}).get_label()


def test_figures_of_classes_and_epochs_say_what_they_show():
    shown = plots.per_class({"m": [[0.5, 0.7], [0.6, 0.9]]}, ["cat", "dog"], "Recall").get_label()
    assert shown.endswith("m: cat 0.50 to 0.60, dog 0.70 to 0.90.")
    shown = plots.accuracy_by_epoch({"m": [([0.2, 0.6], 2), ([0.3, 0.5], 1)]}).get_label()
    assert shown.endswith("Chosen: m after 1 to 2 epochs, with 0.30 to 0.60.")


def test_each_panel_of_a_scaling_has_its_own_names():
    """As one colour may stand for another name in the next panel."""
    by_count = {"fast, power 1.0": ([1000, 5000], [1, 4])}
    by_side = {"plain, power 1.9": ([32, 64], [0.1, 0.5]), "fast, power 1.5": ([32, 64], [0.4, 0.8])}
    figure = plots.scaling({"photos": by_count, "pixels": by_side}, "seconds")
    named = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in figure.axes]
    assert named == [[*by_count], [*by_side]]
