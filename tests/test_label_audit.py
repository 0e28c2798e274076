"""The page of the flower photos: what it says of labels, copies and times follows from records and what was seen."""

from __future__ import annotations

import html
import io
import math
import re
from pathlib import Path

import pytest

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")
DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from cnnhw.book import benchmarks
from cnnhw_docs import label_audit, provenance, transfer_times


def test_we_looked_at_the_first_labels_and_at_those_of_all_listed_test_photos():
    first, tested = ([entry["name"] for entry in label_audit.looked_at(which)] for which in ("first", "test"))
    assert len(first) == label_audit.FIRST
    assert list(dict.fromkeys(first + tested)) == list(label_audit.SEEN)
    verdicts = {verdict for verdict, _ in label_audit.SEEN.values()}
    assert verdicts == {label_audit.RIGHT, label_audit.OTHER, label_audit.NONE, label_audit.UNCLEAR}
    with pytest.raises(ValueError, match="give first or test"):
        label_audit.looked_at("last")


def test_false_alarms_are_pairs_of_the_record():
    pairs = label_audit.pairs()
    alarms = [pair["names"][0] for pair in pairs if not pair["same"]]
    assert len(alarms) == len(set(alarms)) == len(label_audit.ALARMS)
    assert label_audit.record()["duplicates"][0]["count"] == len(pairs)  # all are listed, and so all were looked at


def test_what_the_page_says_in_words_is_so():
    one = [pair for pair in label_audit.pairs() if pair["same"] and len(set(pair["labels"])) == 2]
    assert [set(pair["labels"]) for pair in one] == [{"roses", "tulips"}]
    (bouquet,) = (name for name, (_, what) in label_audit.SEEN.items() if "bouquet" in what)
    assert bouquet in one[0]["names"]
    assert bouquet in {entry["name"] for entry in label_audit.looked_at("test")}
    known = label_audit.figures()
    assert known["near"] == known["near copies"]
    assert known["near"] != known["pairs"]
    assert label_audit.SEEN[label_audit.looked_at("first")[0]["name"]][0] == label_audit.RIGHT  # "the very first"


def test_figures_of_the_audit(monkeypatch):
    def entry(name, part):
        return {"name": name, "part": part}

    def pair(first, second, *parts, labels=("a", "a")):
        return {"names": [first, second], "parts": parts, "labels": labels, "distance": len(first)}

    same = [pair("x", "t1", "train", "test"), pair("yy", "t1", "train", "test", labels=("a", "b"))]
    found = {
        "data": {"photos": {"train": 1000, "validation": 100, "test": 200}},
        "folds": 5,
        "accuracy": 0.9,
        "disagreements": 21,
        "suspicious": [entry("x", "train"), entry("t1", "test"), entry("t2", "test")],
        "distance": 6,
        "duplicates": [{"count": 3, "pairs": [*same, pair("alarmed", "t3", "train", "test")]}, {"count": 13}],
    }
    seen = {"x": label_audit.NONE, "t1": label_audit.OTHER, "t2": label_audit.RIGHT}
    monkeypatch.setattr(label_audit, "record", lambda: found)
    monkeypatch.setattr(label_audit, "SEEN", {name: (verdict, "") for name, verdict in seen.items()})
    monkeypatch.setattr(label_audit, "ALARMS", {"alarmed"})
    monkeypatch.setattr(label_audit, "FIRST", 1)
    known = label_audit.figures()
    expected = {
        "photos": "1,300", "folds": "five", "agreement": "90.0 %", "disagreements": "21", "first": "one",
        "first wrong": "one", "first none": "one", "test": "two", "test wrong": "one", "test right": "one",
        "test bound": "0.5 points", "pairs": "three", "pairs copies": "two", "pairs alarms": "one", "near": "two",
        "two labels": "one", "leaks": "one", "leaks bound": "0.5 points", "between": "13", "photo": "0.50 points",
    }  # fmt: skip
    assert {name: known[name] for name in expected} == expected  # a test photo with two copies counts once


def test_the_sheet_holds_each_photo_and_its_credits_lie_beside_it():
    names = list(label_audit.SEEN)
    with Image.open(DOCS / "_static" / label_audit.SHEET) as sheet:
        rows = math.ceil(len(names) / label_audit.COLUMNS)
        assert sheet.size == (label_audit.COLUMNS * label_audit.SIDE, rows * label_audit.SIDE)
    known = {entry["name"]: entry["credit"] for entry in label_audit.record()["suspicious"]}
    credits = (DOCS / "_static" / label_audit.SHEET).with_suffix(".txt").read_text(encoding="utf-8")
    assert re.findall(r"^(\S+\.jpg): (.+)$", credits, re.MULTILINE) == [(name, known[name]) for name in names]
    assert all(", CC BY 2.0, https://www.flickr.com/photos/" in known[name] for name in names)


def test_times_until_a_level():
    def row(side, seed, curve):
        return {"side": side, "setting": "fast", "seed": seed, "curve": curve, "stages": ["source", "source", "all"]}

    ours = [row("cnnhw", seed, [[1.0, 0.4], [last, 0.8]]) for seed, last in enumerate((2.0, 4.0, 3.0))]
    found = transfer_times.curves({"transfer": [*ours, row("keras", 0, [[900.0, 0.5], [1234.5, 0.6]])]})
    assert transfer_times.rows(found, 0.6) == [
        ("from scratch: fast", "3", "3.0 (2.0 to 4.0)", "0.800"),
        ("the report's, in Keras: epochs 2 of the source, 0 of the head, 1 of all layers", "1", "1,234", "0.600"),
    ]
    assert transfer_times.rows(found, 0.7)[1][2] == "not reached"


PAGE = """\
T
=

The first of :audit:`photos`: :audit:`{figure}`.

.. audited-labels:: {which}

.. audited-copies::

.. transfer-times::

.. provenance:: audit
"""


def build(folder, text):
    """Build a site of one page with the page's extensions; return its HTML and the warnings."""
    source = folder / "docs"
    (source / "_static").mkdir(parents=True)
    (source / "_static" / label_audit.SHEET).write_bytes((DOCS / "_static" / label_audit.SHEET).read_bytes())
    (source / "index.rst").write_text(text, encoding="utf-8")
    extensions = [f"cnnhw_docs.{name}" for name in ("label_audit", "transfer_times", "provenance")]
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        Sphinx(
            source, None, folder / "html", folder / "trees", "html", {"extensions": extensions}, None, warnings
        ).build()
    page = (folder / "html" / "index.html").read_text(encoding="utf-8")
    return html.unescape(page), warnings.getvalue()


def test_photos_with_credits_copies_and_times_on_a_page(tmp_path):
    page, warnings = build(tmp_path, PAGE.format(figure="first\nwrong", which="first"))
    assert not warnings
    known = label_audit.figures()
    assert f">{known['photos']}</abbr>" in page
    assert f">{known['first wrong']}</abbr>" in page
    shown = label_audit.looked_at("first")
    assert page.count("<figcaption>") == len(shown)
    for entry in shown:
        verdict, what = label_audit.SEEN[entry["name"]]
        assert f"Labelled {entry['label']}; classifier: {entry['predicted']} (" in page
        short = {label_audit.RIGHT: "Label right", label_audit.UNCLEAR: "Unclear"}.get(verdict, "Label wrong")
        assert f"{short}: {what}." in page
        assert f'href="{entry["credit"].rpartition(", ")[2]}"' in page
    pictures = list((tmp_path / "html" / "_images").glob("*_*.webp"))
    assert len(pictures) == len(shown)
    for picture in pictures:
        with Image.open(picture) as photo:
            assert photo.size == (label_audit.SIDE, label_audit.SIDE)
    assert re.search(r'alt="Accuracy on flowers against seconds[^"]*" class="sheet chart"', page)
    assert f"{benchmarks.FLOWERS:.3f}" in page  # the level that is drawn
    assert "Where the audit comes from" in page
    assert provenance.audit_provenance(label_audit.record())["Audit again"] in re.sub("<[^>]+>", "", page)


@pytest.mark.parametrize(
    ("figure", "which", "message"),
    [("last wrong", "first", "there is no figure 'last wrong'"), ("photos", "last", "there are no labels 'last'")],
)
def test_what_the_audit_has_not_is_a_warning(tmp_path, figure, which, message):
    _, warnings = build(tmp_path, PAGE.format(figure=figure, which=which))
    assert message in warnings
