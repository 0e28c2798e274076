"""The site's own parts: roles that render records, the check of prose, alternative texts, the stamp."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")
EXTENSIONS = Path(__file__).parents[1] / "docs" / "_ext"
if not EXTENSIONS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)
sys.path.insert(0, str(EXTENSIONS))

import cards  # noqa: E402
import inventories  # noqa: E402
import live  # noqa: E402
import order  # noqa: E402
import prose  # noqa: E402
import records  # noqa: E402
import stamp  # noqa: E402
import verdicts  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from sphinx.util.docutils import docutils_namespace, patch_docutils  # noqa: E402

from cnnhw import studies  # noqa: E402
from cnnhw.book import model_cards  # noqa: E402
from cnnhw.book.measures import MEASURES  # noqa: E402
from cnnhw.book.statements import CLAIMS  # noqa: E402
from cnnhw.models import weights  # noqa: E402
from cnnhw.studies import claims  # noqa: E402
from cnnhw.studies.claims import Claim  # noqa: E402
from cnnhw.studies.store import Record  # noqa: E402
from cnnhw.studies.study import Study  # noqa: E402


def record(arm="a", seed=0, right=(2, 3), best=2):
    """Make a record of 4 test photos, with so many right after each epoch."""
    predictions = {str(epoch): "0011"[:good] + "9" * (4 - good) for epoch, good in enumerate(right, start=1)}
    content = {
        "study": "s",
        "arm": arm,
        "key": "k",
        "configuration": {"seed": seed, "model": "q1_deep"},
        "best_epoch": best,
        "seconds": 120.0,
        "parameters": 1234,
        "history": {
            "loss": [1.0, 0.3],
            "accuracy": [0.5, 0.9],
            "validation_accuracy": [0.4, 0.6],
            "validation_loss": [1.2, 1.1],
            "seconds": [60.0, 60.0],
        },
        "data": {"photos": {"train": 600}, "classes": ["cat", "dog"]},
        "test_labels": "0011",
        "test_predictions": predictions,
    }
    return Record(content, Path("x.json"))


FOUND = [record(), record(seed=1, right=(1, 4)), record(arm="b", right=(4, 4), best=1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s/a accuracy", "0.875 (mean of 2 runs, 0.750 to 1.000)"),
        ("s/a accuracy@1", "0.375 (mean of 2 runs, 0.250 to 0.500)"),
        ("s/a+b accuracy", "0.917 (mean of 3 runs, 0.750 to 1.000)"),
        ("s/b accuracy", "1.000 (one run)"),
        ("s/a best_epoch", "2 (median of 2 runs, 2 to 2)"),
        ("s/b lowest_loss", "2 (one run)"),
        ("s/b minutes", "2.0 (one run)"),
        ("s/b seconds", "120 (one run)"),
        ("s/a last", "0.875 (mean of 2 runs, 0.750 to 1.000)"),
        ("s/b gap", "0.300 (one run)"),
        ("s/b gap@1", "0.100 (one run)"),
        ("s/b validation", "0.400 (one run)"),
        ("s/a parameters", "1,234"),
        ("s/b photos_per_second", "10 (one run)"),
    ],
)
def test_record_role(text, expected):
    assert records.render(text, FOUND)[0] == expected


def test_paired_role():
    found = [
        record(arm, seed, (right,), best=1)
        for arm, rights in (("a", (4, 3)), ("b", (2, 3)))
        for seed, right in enumerate(rights)
    ]
    for one in found:
        one.content["data"]["test_fingerprint"] = "same"
    text, origin = records.render_paired("s/a b", found)
    assert text.startswith("+25.0 points (95 % interval ")
    assert text.endswith(", 2 seeds)")
    assert origin == "study s, a minus b, seeds and test photos paired"
    assert records.render_paired("s/b a@1", found)[0].startswith("-25.0 points")
    for wrong, message in (
        ("s/a", "not of the form"),
        ("s/a c", "no records of c"),
        ("t/a b", "no records of a and b"),
        ("s/a b@7", "7"),
        ("s/a b@x", "invalid literal"),
    ):
        with pytest.raises(ValueError, match=message):
            records.render_paired(wrong, found)


def test_record_role_names_its_origin():
    assert records.render("s/a accuracy", FOUND)[1] == "study s, a seed 0, a seed 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s/a", "not of the form"),
        ("s/c accuracy", "no records of c; it has a, b"),
        ("t/a accuracy", "no records of study 't'; there are of s"),
        ("s/a speed", "unknown measure 'speed'"),
        ("s/a accuracy@3", "after epoch 3"),
        ("s/a accuracy@x", "'x' is not the number of an epoch"),
    ],
)
def test_record_role_refuses_what_does_not_exist(text, message):
    with pytest.raises(ValueError, match=message):
        records.render(text, FOUND)


def test_reported_role():
    assert records.render_reported("q1_shallow test_accuracy") == "0.621"
    assert records.render_reported("q1_deep parameters") == "2,613,925"
    assert records.render_reported("q4_inception first_epoch_loss") == "96.0"
    assert records.render_reported("q6_from_inception head_loss") == "1.2812"
    assert records.render_reported("q6_from_inception last_loss") == "1.3231"
    for text in ("q1_shallow taste", "q9 test_accuracy", "q4_inception minutes", "q1_deep head_loss", "q1_shallow"):
        with pytest.raises(ValueError, match=r"the report (has no|does not state)"):
            records.render_reported(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It reaches 0.62 of all.", [(0, "0.62")]),
        ("Fine.\nBut 12 % more,\nand 3.5%.", [(1, "12 %"), (2, "3.5%")]),
        ("This is better than that.", [(0, "better than")]),
        ("Worse\nthan 5 per cent.", [(0, "Worse\nthan"), (1, "5 per cent")]),
        (".. math:: 0.25 x\n\n   + 0.75 y\n\nAnd 0.55.", [(4, "0.55")]),
        ("After :cite:p:`wilson1927probable`, all is well.", []),
        ("See ``0.62`` and :record:`s/a accuracy` and :reported:`q1_deep parameters`.", []),
        ("Adam at 0.1, 128x128 pixels, 1,200 photos.", []),
        ("It is more accurate\nthan that.", [(0, "more accurate\nthan")]),
        ("A is ahead. By :effect:`a-b`, B is.", [(0, "is ahead")]),
        ("A is ahead\nby :effect:`a-b`.", []),
        ("A is better than :term:`b`.", [(0, "better than")]),
        ("The most accurate network so far; from the lowest to the highest run.", []),
    ],
)
def test_prose_check(text, expected):
    assert prose.typed_claims(text) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("figure.set_label('Bars from the lowest to the highest run, with 95 % intervals.')", []),
        ("figure.set_label(\n    'Six runs: A is highest. '\n    f'B is lowest: {mean:.2f}.'\n)", ["highest"]),
        ("plots.dots(groups, 'accuracy', 'The late ones hinder')", ["hinder"]),
        ("plots.dots(groups, 'accuracy of the most', title='Six runs each')", []),
        ("plots.curves(runs, title='A learns sooner, 0.91 of all')", ["sooner", "0.91"]),
        ("plots.curves(runs, title=f'{best} learns sooner')", []),
        ("axis.set_title('A is ahead')", ["ahead"]),
        ("print('A is ahead')", []),
    ],
)
def test_captions_are_checked(code, expected):
    assert [what for _, what in prose.asserted(code)] == expected


def test_chapters_have_no_typed_claims():
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    chapters = sorted((EXTENSIONS.parents[1] / "examples").glob("*.py"))
    assert chapters
    for path in chapters:
        for kind, content, _ in split_code_and_text_blocks(str(path))[1]:
            assert kind == "code" or prose.typed_claims(content) == [], path
        code = path.read_text(encoding="utf-8")
        assert prose.asserted(code) == [], path
        assert ".backward(" not in code


def test_chapters_have_one_order(tmp_path, monkeypatch):
    names = order.chapters()
    key = order.ReadingOrder("examples")
    assert sorted((f"{name}.py" for name in sorted(names)), key=key) == [f"{name}.py" for name in names]
    page = tmp_path / "docs" / "start" / "student.rst"
    page.parent.mkdir(parents=True)
    page.write_text("What to read, in which order\n:doc:`Q1 </auto_examples/plot_q1_cnn>`\n")
    monkeypatch.setattr(order, "STUDENT", page)
    with pytest.raises(ValueError, match="differ in plot_q1_cnn"):
        order.chapters()


def test_scraper_takes_the_label_as_alternative_text(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(live.logger, "warning", lambda text, **_: warnings.append(text))
    variables = {"image_path_iterator": iter([str(tmp_path / "a.png"), str(tmp_path / "b.png")]), "src_file": "x.py"}
    plt.figure().set_label("Accuracy rises and then stays.")
    assert ":alt: Accuracy rises and then stays." in live.scrape(None, variables, {"src_dir": str(tmp_path)})
    assert (tmp_path / "a.png").exists()
    assert not warnings
    plt.figure()
    live.scrape(None, variables, {"src_dir": str(tmp_path)})
    assert "no alternative text" in warnings[0]
    assert not plt.get_fignums()


def test_stamp_changes_with_the_package_and_the_records(tmp_path, monkeypatch):
    docs = tmp_path / "docs"
    for path in (docs / "records" / "r.json", tmp_path / "cnnhw" / "x.py"):
        path.parent.mkdir(parents=True)
        path.write_text("1")
    monkeypatch.setattr(stamp, "DOCS", docs)
    stamps = [stamp.current()]
    (tmp_path / "cnnhw" / "x.py").write_text("2")
    stamps.append(stamp.current())
    (docs / "records" / "r.json").write_text("2")
    stamps.append(stamp.current())
    assert len(set(stamps)) == 3


SITE = """\
T
=

It reaches :record:`q1/q1_shallow parameters`, as reported: :reported:`q1_shallow parameters`.

.. cli-help:: data list

.. changelog::

.. provenance:: {study}
"""


def build(folder, text):
    """Build a site of one page with the site's own extensions; return its HTML and the warnings."""
    source = folder / "docs"
    source.mkdir(parents=True)
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0 (unreleased)\n\n- Has `fit`.\n", encoding="utf-8")
    (source / "index.rst").write_text(text, encoding="utf-8")
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        Sphinx(
            source,
            None,
            folder / "html",
            folder / "trees",
            "html",
            confoverrides={"extensions": ["records", "live", "prose", "verdicts", "cards"]},
            status=None,
            warning=warnings,
        ).build()
    return (folder / "html" / "index.html").read_text(encoding="utf-8"), warnings.getvalue()


@pytest.fixture
def no_stamp(tmp_path, monkeypatch):
    monkeypatch.setattr(stamp, "STAMP", tmp_path / "stamp")


@pytest.mark.usefixtures("no_stamp")
def test_roles_and_directives_on_a_page(tmp_path):
    html, warnings = build(tmp_path / "fine", SITE.format(study="q1"))
    assert not warnings
    assert (tmp_path / "stamp").exists()
    for expected in (
        '<abbr class="record" title="study q1, q1_shallow seed 0',
        '<span class="reported">1,072,549</span>',
        "$ cnnhw data list --help",
        "<h2>0.1.0 (unreleased)",
        "Where the figures come from",
        "fingerprint 00cd27976272cf87",
        "1 thread a run",
    ):
        assert expected in html
    html, warnings = build(tmp_path / "live", SITE.format(study="live"))
    assert not warnings
    assert "What was computed for this page" in html


CLAIMING = """\
T
=

They differ: :claim:`a-b {role}`.

.. claim:: a-b
   :verdict: {directive}

.. claims-index::
"""


@pytest.fixture
def one_claim(monkeypatch):
    """Let the book claim one thing, which its records support."""
    claim = Claim(
        "a-b", "A is better than B.", "s", "a", "b", MEASURES["seconds"], "less", 1.0, "a slower A", "2026-11-24"
    )
    found = [
        Record(record(arm, seed).content | {"seconds": value + seed % 3}, Path("x.json"))
        for arm, value in (("a", 60.0), ("b", 90.0))
        for seed in range(6)
    ]
    for name in ("a", "b"):
        assert len([r for r in found if r.arm == name]) == 6
    monkeypatch.setattr(verdicts, "CLAIMS", (claim,))
    monkeypatch.setattr(verdicts.records.studies, "records", lambda study=None: found)
    monkeypatch.setattr(verdicts.registry, "get", lambda name: Study(name, "Which is faster?", "scenes", 16, ()))
    yield claim
    verdicts.verdicts.cache_clear()
    records.every.cache_clear()


@pytest.mark.usefixtures("no_stamp", "one_claim")
def test_a_claim_shows_all_that_belongs_to_it(tmp_path):
    html, warnings = build(tmp_path, CLAIMING.format(role="supported", directive="supported"))
    assert not warnings.replace("index.rst: WARNING: document isn't included in any toctree", "").strip()
    for expected in (
        "A is better than B.",
        "verdict-supported",
        "-30.00 s, 95 % interval -30.00 to -30.00, 6 seeds",
        "below -1 s; a slower A would refute it",
        'id="claim-a-b"',
        "post hoc",
        '<svg class="forest"',
        "1 claims: 1 supported, 0 refuted, 0 not resolved",
    ):
        assert expected in html
    assert "claims.html#claim-a-b" in html


@pytest.mark.usefixtures("no_stamp", "one_claim")
@pytest.mark.parametrize(("role", "directive"), [("refuted", "supported"), ("supported", "not resolved")])
def test_a_verdict_that_the_records_do_not_give_breaks_the_build(tmp_path, role, directive):
    _, warnings = build(tmp_path, CLAIMING.format(role=role, directive=directive))
    assert "the records say 'supported'" in warnings
    assert not (tmp_path / "stamp").exists()


@pytest.mark.usefixtures("no_stamp", "one_claim")
def test_a_finding_is_put_into_words_by_the_records(tmp_path):
    text = "T\n=\n\nA :finding:`a-b\ncosts/saves`.\n\n.. claims-index::\n"
    html, _ = build(tmp_path / "fine", text)
    assert re.search(r"A .*>saves 30\.0 s \(30\.0 to 30\.0\)<", html)
    for role, message in (("a-b saves", "not two words"), ("b-a costs/saves", "there is no claim 'b-a'")):
        _, warnings = build(tmp_path / message[:3], f"T\n=\n\nA :finding:`{role}`.\n")
        assert message in warnings


def test_a_finding_that_the_interval_leaves_open_is_refused():
    study = [one for one in CLAIMS if one.study == "q2"]
    found = {one.claim.id: one for one in claims.judge(study, studies.records("q2"))}
    assert verdicts.in_words(found["q2-twenty"], "gain/lose").startswith("gain 4.9 points (3.4 to ")
    assert "known in part, from an earlier set of runs" in verdicts.card(found["q2-twenty"], "q", target=True).astext()
    assert verdicts.hint(found["q2-twenty"]).endswith("outcome known in part")
    with pytest.raises(ValueError, match="holds zero"):
        verdicts.in_words(found["q2-accuracy"], "gain/lose")


@pytest.mark.usefixtures("no_stamp", "one_claim")
def test_an_unknown_claim_breaks_the_build(tmp_path):
    _, warnings = build(tmp_path, ":claim:`b-a supported`\n")
    assert "there is no claim 'b-a'; there are a-b" in warnings


@pytest.mark.usefixtures("no_stamp")
def test_model_cards(tmp_path, monkeypatch):
    network = dataclasses.replace(model_cards.NETWORKS["plain"], chapter="index")
    monkeypatch.setattr(model_cards, "NETWORKS", {"plain": network})
    html, warnings = build(tmp_path / "fine", "T\n=\n\n.. model-cards::\n")
    assert not warnings
    card = model_cards.card("plain")
    for expected in (
        '<section id="model-plain">',
        f"{card['accuracy']:.3f} on 2,000 test photos (95 % interval",
        f"(mean of {len(card['accuracies'])} runs, {card['lowest_accuracy']:.3f} to {card['highest_accuracy']:.3f})",
        "research and education only",
        "98,325 parameters",
        "It learnt from 64x64 originals.",
        "bird, dog, fruit, insect, other",
        'alt="Curves and confusion matrix of plain.',
        "<details><summary>The layers of plain",
        "<svg",
    ):
        assert expected in html
    text = re.sub("<[^>]+>", "", html)
    for expected in (
        'model = cnnhw.load("plain")',
        "cnnhw predict plain photo.jpg",
        "Recipe(epochs=8, batch_size=64, ",
    ):
        assert expected in text
    assert (tmp_path / "fine" / "html" / "_images" / "card-plain.png").stat().st_size > 10_000

    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    _, warnings = build(tmp_path / "missing", "T\n=\n\n.. model-cards::\n")
    assert "model-cards: no weights at" in warnings


def test_a_figure_of_a_run_is_put_into_words():
    one = record()
    one.content["data"]["classes"] = ["cat", "dog"]
    one.content["test_predictions"]["2"] = "0111"
    assert cards.seen("x", one).endswith(
        "Of the test photos, dog is found most often (1.00) and cat least often (0.50); "
        "the commonest mistake is cat taken for dog."
    )


def test_recipes_of_transfers_have_a_line_a_stage():
    lines = cards.recipe([{"train": "classifier", "epochs": 2}, {"train": "all", "keep": "last"}])
    assert [line.astext() for line in lines] == [
        "Trains classifier: Recipe(epochs=2)",
        "Trains all: Recipe(keep='last')",
    ]


@pytest.mark.usefixtures("no_stamp")
def test_what_does_not_exist_is_a_warning(tmp_path):
    _, warnings = build(
        tmp_path, ":record:`q1/q9 accuracy` :reported:`q9 accuracy`\n\n.. provenance:: q9\n\n.. cli-help:: dance\n"
    )
    for expected in ("has no records of q9", "the report has no 'q9 accuracy'", "no records of 'q9'", "Error"):
        assert expected in warnings
    assert not (tmp_path / "stamp").exists()


def test_provenance_says_what_is_missing_and_what_is_old():
    found = studies.records("q1")
    assert records.provenance(found)["Code"].startswith(f"The present code matches {len(found)} of {len(found)} runs")
    lines = records.provenance(found[:1])
    assert lines["Reduced"].startswith("Yes")
    assert "; an earlier version measured 1 of them" in lines["Code"]
    old = Record({**found[0].content, "code": "0" * 16}, found[0].path)
    assert records.provenance([old])["Code"] == "The present code matches 0 of 1 runs."


def test_inventories_are_what_sphinx_reads(tmp_path):
    from sphinx.util.inventory import InventoryFile

    mapping = inventories.write(EXTENSIONS.parent / "inventories", tmp_path)
    assert set(mapping) == {"matplotlib", "numpy", "python", "torch"}
    address, file = mapping["torch"]
    with Path(file).open("rb") as stream:
        found = InventoryFile.load(stream, address, "/".join)
    assert "torch.Tensor" in found["py:class"]
    assert inventories.aliases()["PhotoSet"] == "cnnhw.data.PhotoSet"
