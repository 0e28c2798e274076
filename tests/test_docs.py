"""The site's own parts: roles that render records, the check of prose, alternative texts, the stamp."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from scipy import stats

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")
DOCS = Path(__file__).parents[1] / "docs"
PLACES = ("cnnhw", "examples", "docs/cnnhw_docs")
if not DOCS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

from pybtex.database import parse_file
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from cnnhw import studies
from cnnhw.book import benchmarks, model_cards, registry
from cnnhw.models import weights
from cnnhw.studies.questions import PREDICTIONS, Answer, Question
from cnnhw.studies.statistics import Comparison
from cnnhw.studies.store import Record
from cnnhw.studies.study import Study
from cnnhw_docs import (
    answers,
    cards,
    forest,
    inventories,
    live,
    marks,
    order,
    prose,
    provenance,
    records,
    stamp,
    terms,
    verdicts,
)


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
        ("s/a accuracy", "0.875 (mean of 2 runs, from 0.750 to 1.000)"),
        ("s/a accuracy@1", "0.375 (mean of 2 runs, from 0.250 to 0.500)"),
        ("s/a+b accuracy", "0.917 (mean of 3 runs, from 0.750 to 1.000)"),
        ("s/b accuracy", "1.000 (one run)"),
        ("s/a best_epoch", "2 (median of 2 runs, from 2 to 2)"),
        ("s/b lowest_loss", "2 (one run)"),
        ("s/b minutes", "2.0 (one run)"),
        ("s/b seconds", "120 (one run)"),
        ("s/a last", "0.875 (mean of 2 runs, from 0.750 to 1.000)"),
        ("s/b gap", "0.300 (one run)"),
        ("s/b gap@1", "0.100 (one run)"),
        ("s/b validation", "0.400 (one run)"),
        ("s/a parameters", "1,234"),
        ("s/a loss area", "0.650 (mean of 2 runs, from 0.650 to 0.650)"),
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
    assert text.startswith("+25.0 points (")
    assert text.endswith(", 2 seeds)")
    assert origin == "study s, a minus b, 95 % interval, seeds and test photos paired"
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
        ("s/a shift consistency", "not all runs of a have shift consistency"),
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


PEERS = {
    "processor": "X", "threads": 2, "date": "2026-11-29T12:00:00+00:00",
    "runs": [
        {"peer": name, "minutes": 2.0, "seed": 0, "processor_seconds": 200.0, "accuracy": 0.5, "seconds": 120.0,
         "epochs": 3, "version": "1.2", "data": "flowers"}
        for name in ("cnnhw", "fastai")
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("no_stamp")
def test_figures_of_benchmarks_on_a_page(tmp_path, monkeypatch):
    bench = benchmarks.record()
    monkeypatch.setattr(benchmarks, "_path", lambda name: tmp_path / f"{name}.json")
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    text = "T\n=\n\nIt takes :bench:`share q1_deep\nconvolution`.\n\n.. provenance:: bench peers\n"
    _, warnings = build(tmp_path / "missing", text)
    assert "peers.json cannot be read" in warnings
    (tmp_path / "peers.json").write_text(json.dumps(PEERS))
    html, warnings = build(tmp_path / "fine", text)
    assert not warnings
    assert re.search(r'<abbr class="record" title="benchmark of 20\d\d-\d\d-\d\d, [^"]*">\d+ %</abbr>', html)
    for expected in ("Where the figures of other libraries come from", "X, 2 threads", "cnnhw 1.2, fastai 1.2"):
        assert expected in html
    _, warnings = build(tmp_path / "wrong", "T\n=\n\n:bench:`share q1_deep dance`\n")
    assert "the benchmark holds no 'share q1_deep dance'" in warnings


FOUND_IN_PROSE = {
    "It reaches 0.62 of all.": ["0.62"],
    "Fine.\nBut 12 % more,\nand 3.5%.": ["12 %", "3.5%"],
    "This is better than that.": ["is better"],
    "Worse\nthan 5 per cent.": ["Worse\nthan", "5 per cent"],
    ".. math:: 0.25 x\n\n   + 0.75 y\n\nAnd 0.55.": ["0.55"],
    "It is more accurate\nthan that.": ["more accurate"],
    "It is the most accurate of all.": ["most accurate"],
    "A is ahead. By :effect:`a-b`, B is.": ["ahead"],
    "A is ahead of B by :effect:`a-open`.": ["ahead"],
    "A is ahead of B: :effect:`a-open`, and of C: :effect:`a-open`.": ["ahead"],
    "A is ahead of B: it :finding:`a-open gains/loses/hardly gains`.": ["ahead"],
    "A is ahead of B: :verdict:`a-b supported`.": ["ahead"],
    "A does it better than :term:`b`.": ["does it better"],
    "A is ahead: it reaches :record:`s/a accuracy`.": ["ahead"],
    "B falls far behind.": ["falls far behind"],
    "A has the lowest loss, B the highest.": ["has the lowest"],
    "B ends higher; it lies higher.": ["lies higher"],
    "A learns sooner, and B learns faster. C is slower.": ["sooner", "faster", "slower"],
    "A comes level with B.": ["level with"],
    "A is no more accurate than B, and no better than C.": ["no more accurate than", "no better than"],
    "A is the best, B was worse, C did as well.": ["is the best", "was worse", "did as well"],
    "A beats B, outperforms C and loses to D.": ["beats", "outperforms", "loses to"],
    "Averaging *costs* accuracy here, and it does no harm there.": ["costs* accuracy", "does no harm"],
    "Connections help.": ["help"],
    "Half of the errors are cats.": ["Half of"],
    "It finds two thirds, and three quarters of the dogs.": ["two thirds", "three quarters"],
    "A photo costs a third of a cent.": ["a third of"],
    "It runs three times as fast, in half the time.": ["three times as", "half the"],
    "It gains ten points; in B, half a point.": ["ten points", "half a point"],
    "That is a point and a half.": ["point and a half"],
    "A run takes about two minutes; once it took half an hour.": ["takes about two minutes", "took half an hour"],
    "The loss is even smaller there, and accuracy rises. There is no gain.": [
        "loss is even smaller",
        "accuracy rises",
        "no gain",
    ],
    "Most of the errors are cats.": ["Most of the"],
    "So that is refuted, and this is the rest.": ["is refuted"],
    "**Depth.** A is ahead.": ["ahead"],
    "* A is ahead\n* :effect:`a-b`": ["ahead"],
    "A is ahead:\n\nThat is all.": ["ahead"],
}
LEGITIMATE_IN_PROSE = (
    "After :cite:p:`wilson1927probable`, all is well.",
    "See ``0.62`` and :record:`s/a accuracy` and :reported:`q1_deep parameters`.",
    "Adam at 0.1, 128x128 pixels, 1,200 photos.",
    "A is ahead\nby :effect:`a-b`.",
    "A is ahead of B (:finding:`a-b gains/loses`), by :paired:`s/a b`.",
    "A gains two points on B: :effect:`a-open`.",
    "A is as accurate as B: :finding:`a-open no difference that matters`.",
    "A is ahead of B: it :finding:`a-b\ngains/loses/hardly gains`.",
    "A is ahead, :record:`s/a accuracy` against :record:`s/b accuracy`.",
    "In depth, A is ahead:\n\n* by :effect:`a-b`.",
    "A is ahead in theirs :cite:p:`he2016deep`.",
    "The report found that A is less accurate. The report's second network, it says, is the best.",
    'It was to show that "A is more accurate than B".',
    "With :math:`p = 1/2`, a third of all is ahead.",
    "Is A ahead? Does B lose to C?",
    "A would be ahead, B may fall behind, and whether C is faster is open.",
    "**What would have refuted it.** An A that does as well. A B that is no better than chance.",
    "**The question.** Why do connections that do harm, and modules that lose to convolutions, come about?",
    "That A gains two points was claimed.",
    "Two stages, three kernels, six runs; the second stage is the last of four.",
    "A tenth of the photos, half of the epochs, twice the steps, three times as many, four times the weights.",
    "Most of its pixels are never read, and nearly all of its parameters sit in one layer.",
    "Of each class, 20 % of the photos are for tests; intervals are 95 % intervals.",
    "Bars reach from the lowest to the highest run. It came within 2.5 points.",
    "Later layers, the best epoch by validation, a higher rate; what lies behind it; that costs time.",
    "Run ``cnnhw train best``::\n\n   is ahead, 12 %\n\nand look.",
    ".. code-block:: python\n\n   accuracy = 0.62  # is ahead\n",
)


@pytest.mark.parametrize("text", FOUND_IN_PROSE)
def test_prose_check_finds(text):
    assert [what for _, what in prose.typed_claims(text, {"a-open"})] == FOUND_IN_PROSE[text]


@pytest.mark.parametrize("text", LEGITIMATE_IN_PROSE)
def test_prose_check_lets_pass(text):
    assert prose.typed_claims(text, {"a-open"}) == []


def test_prose_check_gives_lines():
    text = "One.\n\nTwo, see :ref:`this\nplace <a>` and :ref:`<b>`, the\nlowest to\nhighest.\n\n* It is\n  ahead.\n"
    assert prose.typed_claims(text) == [(8, "ahead")]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("figure.set_label('Bars from the lowest to the highest run, with 95 % intervals.')", []),
        (
            "figure.set_label(\n    'Six runs: A is highest. '\n    f'B is lowest: {mean:.2f}.'\n)",
            ["is highest", "is lowest"],
        ),
        ("plots.strip(groups, 'accuracy', 'The late ones hinder')", ["hinder"]),
        ("plots.strip(groups, 'accuracy of the most', title='Six runs each')", ["most"]),
        ("plots.curves(runs, title='A learns sooner, 0.91 of all')", ["sooner", "0.91"]),
        ("plots.curves(runs, title=f'{best} learns sooner')", []),
        ("plots.curves(runs, title='A learns sooner' if first < second else 'B learns sooner')", []),
        ("plots.curves(runs, title=f'A learns sooner, by {gap:.1f} epochs')", ["sooner"]),
        ("plots.bars({'A, the larger one': 1})", ["larger"]),
        ("axis.set_title('A is ahead')", ["ahead"]),
        ("figure.suptitle('Deeper, and worse')", ["Deeper", "worse"]),
        ("axis.set_xlabel('epoch; the later ones cost more')", ["later", "more"]),
        ("axis.set_ylabel('accuracy, highest for A')", ["highest"]),
        ("axis.set(xlabel='higher is better', ylabel='accuracy')", ["higher", "is better"]),
        ("axis.plot(x, y, label='the best')", ["best"]),
        ("axis.legend(['A', 'B, half of the errors'])", ["half of"]),
        ("draw(figure, title='A gains two points')", ["gains", "two points"]),
        ("words = 'A is more accurate'\nfigure.set_label(words)", ["more accurate"]),
        ("figure.set_label('Of each: ' + '; '.join(f'{v:.2f}, half of the errors' for v in x))", ["half of"]),
        ("axis.set_xticks(at, ['A', 'the best'])", ["best"]),
        ("axis.set_title(f'{len(runs)} runs: A is ahead')", ["ahead"]),
        ("print('A is ahead')", ["ahead"]),
        ("print(f'A {a:.2f}, B {b:.2f}')", []),
        ("def f():\n    'Return the best, which is ahead.'\n    raise ValueError('A is ahead')", []),
        ("QUESTIONS = (base.question('a', ('b', 'c'), 'A is more accurate than B.'),)", []),
        ("plots.filters(x, 'Components, the strongest first')", []),
    ],
)
def test_texts_of_code_are_checked(code, expected):
    assert [what for _, what in prose.asserted(code)] == expected


def test_pages_have_no_findings_by_hand():
    root = DOCS.parent
    chapters = list((root / "examples").glob("*.py"))
    assert chapters
    assert all(".backward(" not in path.read_text(encoding="utf-8") for path in chapters)
    assert [
        f"{path.relative_to(root)}:{line}: {what}" for path, line, what in prose.found(root, prose.undecided())
    ] == []


def test_reviewed_exceptions_are_few_have_reasons_and_are_needed(tmp_path, monkeypatch):
    pages = [*(DOCS.parent / "examples").glob("*.py"), *DOCS.glob("**/*.rst"), *(DOCS.parent / "cnnhw").glob("book/*")]
    text = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in pages if page.is_file())
    assert len(prose.REVIEWED) <= 20
    assert all(part in text and len(reason) > 10 for part, reason in prose.REVIEWED.items())
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "a.rst"
    page.write_text("A title\n=======\n\nA is ahead\nof B. C is slower.\n", encoding="utf-8")
    assert list(prose.found(tmp_path)) == [(page, 4, "ahead"), (page, 5, "slower")]
    monkeypatch.setitem(prose.REVIEWED, "A is ahead of B", "as the rules of the game have it")
    assert list(prose.found(tmp_path)) == [(page, 5, "slower")]


def test_the_readme_has_the_answers_of_the_records():
    readme = answers.README.read_text(encoding="utf-8")
    assert answers.written(readme) == readme
    assert len(answers.answers()) == answers.lines().count("\n") + 1 == 9
    assert ":`" not in answers.lines()
    for sentence in answers.answers().values():
        assert prose.typed_claims(sentence, prose.undecided()) == []
    with pytest.raises(ValueError, match="no place for the answers"):
        answers.written("# A title\n")


def test_chapters_say_how_long_they_take():
    assert all(answers.minutes(chapter).endswith(" minutes") for chapter in answers.answers())


def test_a_card_holds_whole_sentences_of_a_definition():
    assert terms.first_sentences("One thing. Another.") == "One thing. Another."
    long = f"One thing {'more ' * 60}and no end. Another."
    assert terms.first_sentences(long) == long.removesuffix(" Another.")


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


def test_scraper_takes_the_label_as_alternative_text(tmp_path):
    variables = {"image_path_iterator": iter([str(tmp_path / "a.png"), str(tmp_path / "b.png")]), "src_file": "x.py"}
    plt.figure().set_label("Accuracy rises and then stays.")
    assert ":alt: Accuracy rises and then stays." in live.scrape(None, variables, {"src_dir": str(tmp_path)})
    assert (tmp_path / "a.png").exists()
    assert not plt.get_fignums()
    plt.figure()
    with pytest.raises(ValueError, match=r"x\.py: a figure has no alternative text"):
        live.scrape(None, variables, {"src_dir": str(tmp_path)})
    plt.close("all")


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


EXTENSIONS = ("records", "provenance", "live", "prose", "question_pages", "cards", "sound", "trained")
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
            confoverrides={"extensions": [f"cnnhw_docs.{name}" for name in EXTENSIONS]},
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


@pytest.mark.slow
@pytest.mark.usefixtures("no_stamp")
def test_soundness_of_a_study_is_a_table(tmp_path):
    html, warnings = build(tmp_path / "table", "T\n=\n\n.. soundness:: length\n")
    assert not warnings
    assert html.count("not tuned") == 14
    assert "no difference" not in html
    text = "T\n=\n\n.. soundness:: q2_depth\n\n.. trained:: q2_depth\n\n   d8_plain: depth 8, plain\n"
    assert "<p>depth 8, plain (d8_plain)</p>" in build(tmp_path / "words", text)[0]
    html, _ = build(tmp_path / "exploratory", "T\n=\n\n.. soundness:: faults_averaged\n")
    assert re.search(r"of 7 checks hold|All 7 checks hold", html)
    _, warnings = build(tmp_path / "none", "T\n=\n\n.. soundness:: lenght\n")
    assert "soundness: unknown study 'lenght'. Did you mean 'length'" in warnings


@pytest.mark.slow
@pytest.mark.usefixtures("no_stamp")
def test_each_network_of_a_study_is_in_one_folded_place(tmp_path, monkeypatch):
    text = "T\n=\n\n.. trained:: q2_depth\n\n   d8_plain: depth 8, without shortcuts\n   d8_residual: with shortcuts\n"
    html, warnings = build(tmp_path / "fine", text)
    assert not warnings
    assert html.count("<details") == 3
    runs = [one for one in studies.records("q2_depth") if one.arm == "d8_plain"]
    shares = [one.accuracy() for one in runs]
    mean, low, high = sum(shares) / len(shares), min(shares), max(shares)
    assert f"Test accuracy {mean:.3f} ({low:.3f} to {high:.3f}), {len(runs)} runs; " in html
    assert re.search('alt="[^"]*epth 8, without shortcuts[^"]*confusion matrix', html)
    assert len(list((tmp_path / "fine" / "docs" / "_static" / "generated" / "trained").iterdir())) == 2
    _, warnings = build(tmp_path / "none", "T\n=\n\n.. trained:: q2_depth\n\n   dance: dance\n")
    assert "study q2_depth has no arm dance; it has d20_residual, d20_plain," in warnings
    monkeypatch.setattr(studies, "records", lambda study=None: [])
    forget()
    html, warnings = build(tmp_path / "new", f"{text}\n.. soundness:: q2_depth\n")
    forget()
    assert not warnings
    assert html.count("Not run yet.") == 2
    assert "The runs of q2_depth are not made yet." in html


def book_of(monkeypatch, answers=(), found=()):
    """Let the book hold these answers and records, and nothing else."""
    forget()
    monkeypatch.setattr(registry, "answers", lambda records: list(answers))
    monkeypatch.setattr(studies, "records", lambda study=None: list(found))
    monkeypatch.setattr(registry, "file", lambda name: f"cnnhw/book/{name}.py")
    monkeypatch.setattr(registry, "get", lambda name: Study(name, "Which is faster?", "scenes", 16, ()))


def forget():
    verdicts.said.cache_clear()
    records.every.cache_clear()


def words_of(html):
    """Return the text of a page without its cards."""
    shown = re.sub(r'<span class="said-card".*?</a></span></span>', "", html, flags=re.DOTALL)
    return " ".join(re.sub("<[^>]+>", " ", shown).split())


NONE = PREDICTIONS[2]


def answered(effect, half=1.5, role="primary", unsound="", confidence=0.95, seeds=12, known="no", **change):
    """Make the answer to a question, whose 95 % interval has this half-width in points; None is not run."""
    asked = Question(
        "q2-deep", ("residual", "plain"), "Shortcuts <raise> the accuracy.",
        **{"chapter": "q2", "study": "s", "prediction": "higher", "delta": 2.5, "held": "all else",
           "registered": "2027-01-01", "role": role} | change,
    )  # fmt: skip
    stderr = half / 100 / float(stats.norm.ppf(0.975))
    seen = None if effect is None else Comparison(effect / 100, stderr, 1e9, seeds)
    return Answer(asked, seen, confidence, known, unsound)


FORMS = "gain/lose/gain or lose less than {delta}/cannot be told apart"


@pytest.mark.parametrize(
    ("effect", "half", "words", "expected"),
    [
        (4.9, 1.5, FORMS, "gain 4.9 points (3.4 to 6.4)"),
        (-4.9, 1.5, FORMS, "lose 4.9 points (3.4 to 6.4)"),
        (0.4, 1.2, FORMS, "gain or lose less than 2.5 points (+0.4 points, -0.8 to +1.6)"),
        (1.2, 2.0, FORMS, "cannot be told apart (+1.2 points, -0.8 to +3.2)"),
        (4.9, 1.5, "are {effect} ahead/are {effect} behind", "are 4.9 points (3.4 to 6.4) ahead"),
        (0.4, 1.2, "a/b/change it by {effect}", "change it by +0.4 points (-0.8 to +1.6)"),
        (-0.02, 0.02, NONE, "no difference that matters (+0.0 points, 0.0 to +0.0)"),
        (4.9, 1.5, "higher", "higher (+4.9 points, 3.4 to 6.4)"),
        (0.4, 1.2, NONE, "no difference that matters (+0.4 points, -0.8 to +1.6)"),
        (1.2, 2.0, "cannot tell", "cannot tell (+1.2 points, -0.8 to +3.2)"),
    ],
)
def test_records_choose_the_words_for_what_was_found(effect, half, words, expected):
    assert verdicts.in_words(verdicts.of_answer(answered(effect, half)), words) == expected


@pytest.mark.parametrize(
    ("found", "words", "message"),
    [
        (answered(0.4, 1.2), "gain/lose", "is 'no difference that matters', for which 'gain/lose' has no words"),
        (answered(1.2, 2.0), "gain/lose/change little", "is 'cannot tell', for which"),
        (answered(4.9), "a/b/c/d/e", "has no words"),
        (answered(4.9), NONE, "says q2-deep is 'no difference that matters', the records say 'higher'"),
        (answered(4.9), "gain", "'gain' is no finding: give one of higher, lower, no difference"),
        (answered(None), FORMS, "not run yet: no finding can be stated"),
        (answered(4.9, role="exploratory"), FORMS, "is exploratory: it has no finding, only an :effect:"),
        (answered(4.9, unsound="plain has not learnt"), FORMS, "is not sound: it has no finding"),
    ],
)
def test_a_finding_that_the_records_do_not_give_is_refused(found, words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        verdicts.in_words(verdicts.of_answer(found), words)


def test_the_interval_that_decides_is_the_one_that_is_shown():
    plain, wide = (verdicts.of_answer(answered(4.9, confidence=level)) for level in (0.95, 0.975))
    assert verdicts.short(plain) == "+4.9 points (3.4 to 6.4)"
    assert verdicts.short(wide) == "+4.9 points (3.2 to 6.6)"
    assert verdicts.figures(wide) == "+4.90 points, simultaneous 97.5 % interval +3.18 to +6.62, 12 seeds"
    assert "(3.2 to 6.6)" in forest.draw(wide)
    assert verdicts.figures(verdicts.of_answer(answered(4.9, pooled=True))).endswith(", 12 repeats")


@pytest.fixture
def asked(monkeypatch):
    """Let the book ask one question, with this answer."""
    yield lambda answer, found=(): book_of(monkeypatch, answers=(answer,), found=found)
    forget()


ASKING = """\
T
=

They :finding:`q2-deep
gain/lose/hardly change it`; :effect:`q2-deep`; :verdict:`q2-deep`, :verdict:`q2-deep supported`.

.. question:: q2-deep
   :verdict: supported

.. questions-index::
"""
TABLE = "T\n=\n\n.. list-table::\n\n   * - :effect:`q2-deep`\n     - :verdict:`q2-deep`\n\n.. question:: q2-deep\n"
ALONE = "index.rst: WARNING: document isn't included in any toctree"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("the accuracy with shortcuts, compared with none", "Asked: how high is the accuracy with shortcuts, compared"),
        ("", "Compared: residual minus plain, in accuracy. The same"),
    ],
)
def test_a_question_says_what_is_compared_in_words_where_it_has_them(words, expected):
    assert verdicts.of_answer(answered(4.9, asked=words)).rule[0].startswith(expected)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([3, 1, 2, 7], "1 to 3, 7"), ([20, 21], "20, 21"), ([5], "5"), ([9, 1, 2, 4, 5, 6], "1, 2, 4 to 6, 9")],
)
def test_seeds_that_follow_one_another_are_told_by_their_ends(numbers, expected):
    assert provenance.spans(numbers) == expected


@pytest.mark.usefixtures("no_stamp")
def test_a_question_shows_all_that_belongs_to_it(tmp_path, asked):
    asked(answered(4.9, known="in part"))
    html, warnings = build(tmp_path, ASKING)
    assert not warnings
    text = words_of(html)
    for expected in (
        "They gain 4.9 points (3.4 to 6.4) ; +4.9 points (3.4 to 6.4) ; supported (known in part) , supported",
        "Finding: higher, +4.9 points (3.4 to 6.4), 95 % interval, 12 seeds.",
        "Compared: residual minus plain, in accuracy. The same in all: all else.",
        "Predicted: higher. Less than 2.5 points does not matter (shaded).",
        "What would refute it: an accuracy that is lower, or surely differs by less than 2.5 points.",
        "Registered 2027-01-01, before the runs that decide it; the outcome was known in part",
        "1 question: 1 supported. With a finding: 1 of the 1 that are primary or secondary.",
        "Q2. What do residual connections change?",
        "No records yet; defined in cnnhw/book/s.py",
    ):
        assert expected in text
    for expected in (
        'id="question-q2-deep"',
        'id="study-s"',
        'aria-label="supported (known in part): show the question"><svg class="verdict-sign verdict-supported hollow"',
        'aria-label="supported (known in part): show the question">supported (known in part)</button>',
        'role="group" aria-label="Question q2-deep"><span class="said-statement">Shortcuts &lt;raise&gt;',
        "<b>Finding:</b> higher",
        "<b>Effect:</b> +4.9 points (3.4 to 6.4), 95 % interval, 12 seeds",
        "<b>What matters:</b> 2.5 points or more",
        'role="img" aria-label="Effect +4.90 points, 95 % interval +3.40 to +6.40, 12 seeds; shaded: less than 2.5',
        "claims.html#question-q2-deep",
    ):
        assert expected in html
    buttons, cards = (re.findall(f'{name}="(said-\\d+)"', html) for name in ("popovertarget", "popover id"))
    assert buttons == cards
    assert len(set(buttons)) == 4


@pytest.mark.usefixtures("no_stamp")
def test_a_question_that_is_not_run_breaks_no_table_and_any_sentence(tmp_path, asked):
    asked(answered(None))
    html, warnings = build(tmp_path / "table", TABLE)
    assert not warnings
    assert "not run not run" in words_of(html)
    assert (
        "Not run yet. Compared: residual minus plain, in accuracy. The same in all: all else. Predicted: higher. Less"
        in words_of(html)
    )
    assert 'class="forest' not in html
    _, warnings = build(tmp_path / "sentence", "T\n=\n\nThey :finding:`q2-deep gain/lose`.\n")
    assert "q2-deep is not run yet: no finding can be stated" in warnings
    _, warnings = build(tmp_path / "prose", "T\n=\n\nIt is more accurate: :effect:`q2-deep`.\n")
    assert "typed by hand: 'more accurate'" in warnings
    asked(answered(None), [record()])
    html, _ = build(tmp_path / "begun", TABLE)
    assert "Its runs have begun; nothing is said before the last." in words_of(html)


@pytest.mark.usefixtures("no_stamp")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            answered(0.4, 1.2),
            "Finding: no difference that matters, +0.4 points (-0.8 to +1.6), 95 % interval, 12 seeds.",
        ),
        (answered(1.2, 2.0), "Finding: cannot tell, +1.2 points (-0.8 to +3.2), 95 % interval, 12 seeds."),
        (answered(-4.9), "Finding: lower, -4.9 points (-6.4 to -3.4), 95 % interval, 12 seeds."),
        (answered(4.9, role="exploratory"), "Exploratory, without a verdict: +4.9 points"),
        (answered(4.9, unsound="plain has not learnt"), "No verdict, as the study is not sound: +4.9 points"),
    ],
)
def test_a_question_is_answered_in_a_sentence(tmp_path, asked, answer, expected):
    asked(answer)
    html, warnings = build(tmp_path, TABLE)
    assert not warnings
    assert expected in words_of(html.replace("&lt;raise&gt; ", ""))
    assert 'class="forest' in html


@pytest.mark.usefixtures("no_stamp")
def test_a_page_that_says_otherwise_of_a_question_breaks_the_build(tmp_path, asked):
    asked(answered(0.4, 1.2))
    _, warnings = build(tmp_path, f"{ASKING}\n.. question:: q2\n\n:finding:`q2 gain/lose`\n")
    for expected in (
        ":verdict: the page says q2-deep is 'supported', the records say 'refuted'",
        "question: the page says q2-deep is 'supported', the records say 'refuted'",
        "question: there is no question 'q2'; there are q2-deep",
        ":finding: there is no question 'q2'; there are q2-deep",
    ):
        assert expected in warnings
    assert not (tmp_path / "stamp").exists()


@pytest.mark.parametrize(
    ("answer", "backs"),
    [
        (answered(4.9), True),
        (answered(-4.9), True),
        (answered(1.2, 0.5), False),  # above zero, and no difference that matters
        (answered(1.2, 2.0), False),
        (answered(None), False),
        (answered(4.9, role="exploratory"), True),
        (answered(0.4, 1.2, role="exploratory"), False),
        (answered(4.9, unsound="plain has not learnt"), False),
    ],
)
def test_only_a_direction_that_was_found_backs_a_comparison(asked, answer, backs):
    asked(answer)
    assert prose.undecided() == (set() if backs else {"q2-deep"})


def test_a_card_says_why_there_is_no_verdict_and_what_was_known():
    said = [
        verdicts.of_answer(answered(4.9, **change))
        for change in ({}, {"role": "exploratory", "known": "yes"}, {"unsound": "plain has not learnt"})
    ]
    assert [marks.lines(one)["Verdict"] for one in said] == [
        "supported",
        "none, exploratory (known)",
        "none, not sound",
    ]
    assert ["hollow" in marks.sign(one) for one in said] == [False, True, False]
    assert verdicts.of_answer(answered(None, known="in part")).badge == "not run"


def test_a_drawing_stays_within_its_frame():
    for effect, half, delta in ((4.9, 1.5, 2.5), (-40, 3, 2.5), (0.0, 0.1, 5.0), (60, 20, 0.5)):
        drawn = forest.draw(verdicts.of_answer(answered(effect, half, delta=delta)))
        places = [float(x) for x in re.findall(r' (?:x|x1|x2|cx)="([-\d.]+)"', drawn)]
        assert len(places) > 8
        assert all(0 <= x <= 320 for x in places)
        labels = [
            (float(x), len(text)) for x, y, text in re.findall(r'<text x="([\d.]+)" y="(\d+)"[^>]*>([^<]*)', drawn)
        ]
        assert all(x - 3 * length >= 0 and x + 3 * length <= 320 for x, length in labels)
        axis = sorted(x for x, _ in labels[1:])
        assert all(second - first > 20 for first, second in pairwise(axis))


@pytest.mark.slow
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
        f"(mean of {len(card['accuracies'])} runs, from {card['lowest_accuracy']:.3f} ",
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
    assert provenance.provenance(found)["Code"].startswith(
        f"The present code matches {len(found)} of {len(found)} runs"
    )
    lines = provenance.provenance(found[:1])
    assert lines["Reduced"].startswith("Yes")
    assert "; an earlier version measured 1 of them" in lines["Code"]
    old = Record({**found[0].content, "code": "0" * 16}, found[0].path)
    assert provenance.provenance([old])["Code"] == "The present code matches 0 of 1 runs."


def test_inventories_are_what_sphinx_reads(tmp_path):
    from sphinx.util.inventory import InventoryFile

    mapping = inventories.write(DOCS / "inventories", tmp_path)
    assert set(mapping) == {"matplotlib", "numpy", "python", "torch"}
    address, file = mapping["torch"]
    with Path(file).open("rb") as stream:
        found = InventoryFile.load(stream, address, "/".join)
    assert "torch.Tensor" in found["py:class"]
    assert inventories.aliases()["PhotoSet"] == "cnnhw.data.PhotoSet"


def test_every_reference_is_cited():
    """On a page by its key, or in the package by its first author and the year."""
    root = DOCS.parent
    text = "".join(
        path.read_text(encoding="utf-8")
        for part in (DOCS.glob("*.rst"), DOCS.glob("*/*.rst"), *(root.glob(f"{one}/**/*.py") for one in PLACES))
        for path in part
    )
    keys = {key.strip() for found in re.findall(r":cite:\w+:?\w*`([^`]+)`", text) for key in found.split(",")}
    unused = []
    for key, entry in parse_file(DOCS / "references.bib").entries.items():
        author = re.escape(" ".join(entry.persons["author"][0].last_names).strip("{}"))
        if key not in keys and not re.search(rf"{author}\b[\w .,-]*\(?{entry.fields['year']}", text):
            unused.append(key)
    assert not unused
