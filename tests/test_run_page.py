"""The page of a run: what it shows of runs of all kinds, that nothing is lost for it, and how it looks in a browser."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from conftest import make_photos
from PIL import Image

import cnnhw
from cnnhw import data, evaluation, models, outputs
from cnnhw.errors import DataError
from cnnhw.training import findings, report_page
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.web import charts


class Read(HTMLParser):
    """Notes the rows of all tables, the pictures, and all text."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.pictures, self.headings, self.text, self.within = [], [], [], "", []
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.within.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "img":
            self.pictures.append(dict(attrs))
        elif tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag):
        while self.within and self.within.pop() != tag:
            pass

    def handle_data(self, text):
        if {"style", "title"} & {*self.within}:
            return
        self.text += text
        if {"td", "th"} & {*self.within}:
            self.rows[-1][-1] += text
        if "h2" in self.within:
            self.headings[-1] += text


def make_run(photos, logits=None, epochs=3, **more):
    """Return a run of a network that has not learnt anything."""
    model = models.create("q1_shallow", len(photos.classes), size=photos.size)
    model.classes = photos.classes
    history = {
        name: [1 / epoch for epoch in range(1, epochs + 1)]
        for name in ("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds")
    }
    predictions = (evaluation.predict(model, photos.test) if logits is None else logits).argmax(1)
    return Run(model, photos, dataclasses.asdict(Recipe(epochs=epochs)), 0, history, epochs, predictions, 2, **more)


def certain(part, top, correct, classes=3):
    """Return logits whose most probable class, of this probability, is that of each label, or the next one."""
    labels = part.labels.tolist()
    chosen = [label if right else (label + 1) % classes for label, right in zip(labels, correct, strict=True)]
    shares = torch.tensor([[(1 - share) / (classes - 1)] * classes for share in top], dtype=torch.float64)
    shares[torch.arange(len(top)), chosen] = torch.tensor(top, dtype=torch.float64)
    return shares.log()


def known(photos):
    """Return what a network says of 40 validation and 60 test photos, by their number."""
    # 30 are correct, then 10 that are wrong: the first 31 are correct in 30 / 31 = 96.8 %, the first 32 in 93.8 %
    shares, classes = [0.99 - number / 100 for number in range(40)], len(photos.classes)
    says = {40: certain(photos.validation, shares, [number < 30 for number in range(40)], classes)}
    # the 50 surest are correct, and of 5 of the 10 others it is nearly as sure
    shares = [0.9] * 50 + [0.8, 0.79, 0.78, 0.77, 0.76] + [0.5] * 5
    return says | {60: certain(photos.test, shares, [number < 50 for number in range(60)], classes)}


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Save a run whose network says what is known beforehand; return its folder and its run."""
    photos = make_photos(train=120)
    says = known(photos)
    monkeypatch.setattr(evaluation, "predict", lambda model, split: says[len(split)])
    run = make_run(photos, says[60])
    return run.save(tmp_path / "run"), run


def test_the_threshold_is_chosen_by_validation_photos_and_told_for_test_photos(saved):
    folder, run = saved
    summary = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    found = summary.pop("threshold")
    assert summary == json.loads(json.dumps(run.summary())) | {"date": summary["date"]}
    assert found["probability"] == pytest.approx(0.99 - 0.30)
    assert (found["accuracy"], found["validation"]) == (0.95, {"photos": 40, "answered": 31, "correct": 30})
    assert found["test"] == {"photos": 60, "answered": 55, "correct": 50}
    page = Read((folder / "report.html").read_text(encoding="utf-8"))
    assert "That is 69.0 %, chosen by 40 validation photos. Of the 60 test photos" in page.text
    assert "5 (8.3 %) then stay unanswered, and 50 of 55 answers (90.9 %) are correct" in page.text
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["95\u00a0% correct"] == ["69.0\u00a0%", "8.3\u00a0%", "90.9\u00a0%"]
    assert rows["99\u00a0% correct"] == ["none does", "–", "–"]  # 40 photos are too few for that
    assert rows["always answers"] == ["–", "0.0\u00a0%", "83.3\u00a0%"]


def test_the_page_shows_the_photos_of_the_surest_mistakes(saved):
    folder, run = saved
    page = Read((folder / "report.html").read_text(encoding="utf-8"))
    photos = [one for one in page.pictures if one["src"].startswith("data:image/jpeg")]
    assert len(photos) == 10
    for row, one in zip(range(50, 60), photos, strict=True):
        label = int(run.photos.test.labels[row])
        assert one["alt"] == f"Labelled class {label}, taken for class {(label + 1) % 3}"
        with Image.open(io.BytesIO(base64.b64decode(one["src"].partition(",")[2]))) as picture:
            shown = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(16, 16, 3)
        assert (shown.permute(2, 0, 1).float() - run.photos.test.batch([row])[0]).abs().mean() < 30
    assert "class 0, taken for class 1 with 80.0 %" in page.text
    assert f"{run.photos.test.names[50]}{run.photos.test.names[51]}" in page.text
    assert "All mistakes on test photos" in page.text


def test_classes_confusions_and_calibration_are_as_counted(saved):
    folder, run = saved
    page = Read((folder / "report.html").read_text(encoding="utf-8"))
    rows = [[cell.replace("\u00a0", " ") for cell in row] for row in page.rows]
    for label, counts in enumerate(run.confusion.tolist()):
        assert [f"class {label}", *map(str, counts)] in rows
        totals = sum(counts), int(run.confusion[:, label].sum())
        shares = [f"{counts[label] / total:.1%}".replace("%", " %") for total in totals]
        assert [f"class {label}", str(totals[0]), *shares] in rows
    assert ["80 % to 90 %", "50", "90.0 %", "100.0 %"] in rows
    assert ["70 % to 80 %", "5", "78.0 %", "0.0 %"] in rows
    # means: (50 * 0.9 + 3.9 + 2.5) / 60 = 0.857 against 50 / 60; gaps: (50 * 0.1 + 5 * 0.78 + 5 * 0.5) / 60 = 0.19
    assert "it says 85.7 % on average and is correct on 83.3 %" in page.text
    assert "19.0 points apart on average" in page.text


def test_the_page_is_one_file_in_which_nothing_runs_and_that_says_how_to_go_on(saved):
    folder, _ = saved
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<iframe|http-equiv=.refresh|\bon\w+=", text)
    assert all(address.startswith("data:image/") for address in re.findall(r'(?:src|href)="([^"]*)"', text))
    assert f"cnnhw predict {folder} PHOTO_OR_FOLDER" in Read(text).text
    assert "image/svg+xml" in text
    assert len(text) < 200_000


def test_a_page_that_cannot_be_completed_costs_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "find", lambda *_: (_ for _ in ()).throw(MemoryError))
    run = make_run(make_photos())
    with pytest.warns(UserWarning, match=r"report\.html could not be completed \(MemoryError\); all else is saved"):
        run.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*outputs.RUN}
    assert "threshold" not in json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    page = Read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.headings == [
        "Accuracy", "Each class", "What is taken for what", "How it learnt", "How to use it", "Where it comes from",
    ]  # fmt: skip
    assert page.pictures == []


def test_an_interruption_leaves_the_run_and_its_plain_page(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(findings, "find", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_run(make_photos()).save(tmp_path)
    assert cnnhw.load(tmp_path).classes == ("class 0", "class 1", "class 2")
    assert "How to use it" in Read((tmp_path / "report.html").read_text(encoding="utf-8")).headings
    make_run(make_photos()).save(tmp_path)
    assert "threshold" in json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["run.json", "report.html"])
def test_what_others_write_while_photos_are_predicted_stays(tmp_path, monkeypatch, name):
    find = findings.find

    def busy(*given):
        (tmp_path / name).write_text("mine")
        return find(*given)

    monkeypatch.setattr(findings, "find", busy)
    make_run(make_photos()).save(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    other = {"run.json": "report.html", "report.html": "run.json"}[name]
    assert "threshold" in (tmp_path / other).read_text(encoding="utf-8")


def test_a_run_without_mistakes_says_so(tmp_path, monkeypatch):
    photos = make_photos(classes=2)
    says = {len(part): certain(part, [0.9] * len(part), [True] * len(part), 2) for part in photos.splits}
    monkeypatch.setattr(evaluation, "predict", lambda model, split: says[len(split)])
    page = Read((make_run(photos, says[30], epochs=1).save(tmp_path) / "report.html").read_text(encoding="utf-8"))
    assert "There are none: every test photo was classified correctly." in page.text
    assert "100.0 %" in page.text
    assert [one for one in page.pictures if "jpeg" in one["src"]] == []


def test_few_validation_photos_choose_no_threshold(tmp_path):
    photos = make_photos(train=15)  # 5 validation photos
    page = Read((make_run(photos).save(tmp_path) / "report.html").read_text(encoding="utf-8"))
    assert "There is none here: to tell such a share takes 20, and there are 5 validation photos." in page.text
    found = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["threshold"]
    assert (found["probability"], found["test"]) == (None, {"photos": 7, "answered": 0, "correct": 0})


@pytest.mark.parametrize(("classes", "matrix"), [(25, True), (26, False), (300, False)])
def test_many_classes_still_make_a_page_that_can_be_read(tmp_path, classes, matrix):
    photos = make_photos(train=2 * classes + 60, classes=3)
    photos = dataclasses.replace(photos, classes=tuple(f"kind {number}" for number in range(classes)))
    folder = make_run(photos).save(tmp_path)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert ('class="matrix"' in text) == matrix
    assert ("there is no table here" in text) == (not matrix)
    assert f"and {classes - 10} more" in text
    assert len(text) < 500_000


def test_all_kinds_of_runs_have_a_page():
    summary = make_run(make_photos()).summary()
    for more, told in [
        ({"candidates": {"from scratch": 0.5, "a new head": 0.75}}, "from scratch: 50.0 %; a new head: 75.0 %"),
        ({"recipe": summary["recipe"] | {"members": 4, "of": "fast"}}, "4 networks fast, whose logits are averaged"),
        ({"recipe": summary["recipe"] | {"stages": [{"train": "classifier", "optimizer": "lbfgs"}]}}, "regression"),
        ({"seconds": 61.4, "threads": 1}, "1 min 1 s with 1 thread"),
        ({"licence": "for my family"}, "for my family"),
        ({"data_note": "many are blurred"}, "many are blurred"),
        ({"left_out": {"photos": 500, "reasons": {f"{n}.jpg": "empty" for n in range(500)}}}, "99.jpg: empty"),
    ]:  # fmt: skip
        assert told in Read(report_page.page(summary | more, Path("runs/one"))).text.replace("\u00a0", " ")


def test_names_of_files_and_places_are_shown_as_they_can_be():
    summary = make_run(make_photos()).summary() | {"left_out": {"photos": 1, "reasons": {"a\udcff.jpg": "no photo"}}}
    page = report_page.page(summary, Path("my runs/it's one"))
    assert "a?.jpg" in page.encode("utf-8").decode("utf-8")
    if os.name != "nt":
        assert """cnnhw export 'my runs/it'"'"'s one'""" in Read(page).text
    assert "where it was trained" in page
    assert "where it was trained" not in report_page.page(summary, Path("/runs/one").absolute())


def test_flowers_are_shown_with_their_photographers_or_not_at_all(tmp_path, monkeypatch):
    photos = dataclasses.replace(make_photos(), licence=data.SOURCES["flowers"].licence)
    assert findings.find(make_run(photos).model, photos).mistakes is None  # there is no list
    monkeypatch.setattr(type(data.SOURCES["flowers"]), "find", lambda *_: True)
    monkeypatch.setattr(data, "flower_credits", lambda: {name: f"Ann, CC BY 2.0, {name}" for name in photos.test.names})
    found = findings.find(make_run(photos).model, photos).mistakes
    assert found[0].credit == f"Ann, CC BY 2.0, {found[0].name}"
    page = Read((make_run(photos).save(tmp_path) / "report.html").read_text(encoding="utf-8"))
    assert "Ann, CC BY 2.0 " in f"{page.text} "
    monkeypatch.setattr(data, "flower_credits", lambda: (_ for _ in ()).throw(DataError("no list")))
    assert findings.find(make_run(photos).model, photos).mistakes is None


def test_thumbnails_are_small_and_diagrams_are_not_large(tmp_path):
    pixels = torch.randint(0, 255, (400, 400, 3), dtype=torch.uint8).numpy()
    with Image.open(io.BytesIO(base64.b64decode(findings._thumbnail(pixels).partition(",")[2]))) as picture:
        assert picture.size == (160, 160)
    (tmp_path / "large.svg").write_text("x" * 400_000)
    assert report_page.embedded(tmp_path / "large.svg") == report_page.embedded(tmp_path / "none.svg") == ""


def test_lines_go_where_their_values_are():
    svg = charts.lines({"a": [0.0, 1.0, 2.0], "b": [2.0, 2.0]}, 'loss "by" epoch', mark=2)
    first, second = re.findall(r'points="([^"]*)"', svg)
    assert first == "38.0,166.0 175.0,87.0 312.0,8.0"
    assert second.startswith("38.0,8.0")
    assert 'aria-label="loss &quot;by&quot; epoch"' in svg
    assert re.findall(r">([\d.]+)</text>", svg) == ["0", "0.5", "1", "1.5", "2", "1", "2", "3"]
    assert 'class="mark" x1="175.0"' in svg
    assert charts.lines({"a": [1.0]}, "one epoch") == charts.lines({}, "none") == ""
    assert charts.lines({"a": [0.0, 0.0]}, "zeros")


@pytest.mark.parametrize(("epochs", "ticks"), [(2, "12"), (8, "12468"), (60, "1 20 40 60"), (15, "1 5 10 15")])
def test_epochs_are_counted_in_round_steps(epochs, ticks):
    found = charts._ticks(1, epochs, 6, whole=True)
    assert [f"{tick:g}" for tick in found] == (ticks.split() if " " in ticks else list(ticks))


# --------------------------------------------------------------------------------------------------------- in a browser

AXE = """async () => {
  const found = await axe.run(document, {resultTypes: ['violations']});
  return found.violations.map(({id, nodes}) => [id, nodes[0].target.join(' ')]);
}"""
FOCUSED = "document.activeElement.getAttribute('aria-label') || document.activeElement.tagName"
REACHED = "[...document.querySelectorAll('[tabindex], summary')].filter(e => e.checkVisibility()).length"


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("classes", [3, 30])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_read_from_a_folder_on_any_screen(tmp_path, monkeypatch, browser, classes, theme):
    package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    axe = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    photos = make_photos(train=120)
    names = ["<b>cats</b> & dogs", "a very long name of a class of photographs", "x" * 60]
    names += [f"class {number}" for number in range(3, classes)]
    skipped = tuple((f"{number}.jpg", "empty file") for number in range(20))
    photos = dataclasses.replace(photos, classes=tuple(names), name="p" * 80, skipped=skipped)
    says = known(photos)
    monkeypatch.setattr(evaluation, "predict", lambda model, split: says[len(split)])
    folder = make_run(photos, says[60], epochs=5).save(tmp_path / "run")
    for width in (1280, 360):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
        asked, said = [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto((folder / "report.html").as_uri())
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        assert [url for url in asked if not url.startswith("data:")] == [(folder / "report.html").as_uri()]
        assert page.evaluate("document.scrollingElement.scrollWidth") == width
        page.evaluate(axe)
        assert page.evaluate(AXE) == []
        assert said == []
        stops = set()
        for _ in range(page.evaluate(REACHED)):
            page.keyboard.press("Tab")
            stops.add(page.evaluate(FOCUSED))
        assert {"Each class", "Thresholds", "Calibration", "Files left out", "The network", "SUMMARY"} <= stops
        page.close()
