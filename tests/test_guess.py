"""Guessing a verdict before it is shown: what the build writes for it, and the pages in a browser."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils
from test_docs import DOCS, NONE, answered, book_of, forget
from test_site import AXE, CUT, TAGS

from cnnhw.book.registry import QUESTIONS
from cnnhw_docs import guess, verdicts

KEY = "cnnhw-guess"
Q2, Q3, INDEX = "auto_examples/plot_q2_residual", "auto_examples/plot_q3_feature_maps", "claims"
pytestmark = pytest.mark.xdist_group("guess")  # one site for all, and one browser


def asked(name, effect, half=1.5, words="", **change):
    """Make the answer to one question of a chapter."""
    one = answered(effect, half, **{"chapter": name.partition("-")[0], **change})
    return dataclasses.replace(one, question=dataclasses.replace(one.question, id=name, asked=words))


ANSWERS = (
    asked("q2-deep", 4.9, role="secondary", prediction=NONE, study="deep"),
    asked("q2-depth", 4.9, words="the gain at depth 20, compared with depth 8", known="in part"),
    asked("q2-time", -4.9, role="exploratory"),
    asked("q3-training", None, prediction="lower"),
    asked("q3-random", 1.2, 2.0, role="secondary"),
    asked("q3-bank", 4.9, role="secondary", unsound="plain has not learnt"),
    asked("q9-other", 0.4, 1.2, prediction=NONE),
)
CHAPTER = """\
{title}
{line}

**The question.** What is it?

**The answer.** They {first}, and there is more to be said of it.

* In the deeper network, it is {second}.
* Of this, nothing is known beforehand.

What came out
-------------

.. question:: {primary}

.. question:: {secondary}
"""
PAGES = {
    "index": "T\n=\n\nThey :finding:`q2-depth gain/lose`.\n\n.. toctree::\n   :glob:\n\n   */*\n   claims\n",
    INDEX: "What we claim\n=============\n\nQuestions\n---------\n\n.. questions-index::\n",
    Q2: CHAPTER.format(
        title="Q2", line="==", first=":finding:`q2-depth gain/lose`", second=":effect:`q2-deep`",
        primary="q2-depth", secondary="q2-deep",
    ),
    Q3: CHAPTER.format(
        title="Q3", line="==", first=":effect:`q3-training`", second=":effect:`q3-random`",
        primary="q3-training", secondary="q3-random",
    ),
    "auto_examples/plot_speed": "Speed\n=====\n\n**The answer.** None is asked here.\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build pages of made-up answers with the site's theme, styles and scripts."""
    folder = tmp_path_factory.mktemp("guess")
    for name, text in PAGES.items():
        path = folder / "docs" / f"{name}.rst"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    static = [
        str(DOCS / "_static" / name) for name in ("custom.css", "guess.css", "site.js", "guess.js", "favicon.svg")
    ]
    settings = {
        "extensions": ["cnnhw_docs.question_pages", "cnnhw_docs.guess"],
        "language": "en",
        "templates_path": [str(DOCS / "_templates")],
        "html_theme": "pydata_sphinx_theme",
        "html_title": "cnnhw",
        "html_static_path": static,
        "html_favicon": static[-1],
        "html_css_files": ["custom.css", "guess.css"],
        "html_js_files": [("site.js", {"defer": "defer"}), "guess.js"],
        "html_show_sourcelink": False,
        "html_theme_options": {"secondary_sidebar_items": []},
    }
    warnings = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, patch_docutils(), docutils_namespace():
        book_of(patch, answers=ANSWERS)
        Sphinx(
            folder / "docs", None, folder / "html", folder / "trees", "html", confoverrides=settings, status=None,
            warning=warnings,
        ).build()  # fmt: skip
    forget()
    assert not warnings.getvalue()
    return folder / "html"


def places(site, name):
    """Return what each place of a page was told, by question; a place twice on a page was told the same."""
    html = (site / f"{name}.html").read_text(encoding="utf-8")
    found = {}
    for text in re.findall('<div class="guess" ([^>]*)></div>', html):
        told = dict(re.findall('data-([a-z]+)="([^"]*)"', text))
        assert found.setdefault(told["question"], told) == told
    return found


# what the build writes


def test_each_question_that_is_decided_has_words_that_give_nothing_away():
    for words in (one.asked for one in QUESTIONS if one.role != "exploratory"):
        assert "compared with" in words, words
        assert not re.search(r"\b(more|less|better|worse|higher|lower|raises?|alike in|does not)\b", words)


def test_a_place_holds_what_the_records_say(site):
    found = places(site, INDEX)
    assert set(found) == {"q2-deep", "q2-depth", "q3-training", "q3-random", "q9-other"}
    assert found["q2-depth"] == {
        "question": "q2-depth",
        "asked": "How high is the gain at depth 20, compared with depth 8?",
        "matters": "2.5 points",
        "predicted": "higher",
        "known": "in part",
        "finding": "higher",
        "found": "higher, +4.9 points (3.4 to 6.4), 95 % interval, 12 seeds",
    }
    assert found["q2-deep"]["predicted"] == NONE
    assert found["q3-random"]["finding"] == "cannot tell"
    assert (found["q3-training"]["finding"], found["q3-training"]["found"]) == ("", "")
    assert found["q9-other"]["asked"] == "Compared: residual minus plain, in accuracy."


def test_what_is_asked_of_a_question_is_escaped():
    one = verdicts.of_answer(asked("q9-other", 4.9))
    odd = dataclasses.replace(one, rule=('A "b" <i>. C',))
    assert 'data-asked="A &quot;b&quot; &lt;i&gt;."' in guess.place(odd)[0].astext()


def test_exploratory_and_unsound_ones_are_not_guessed():
    said = [verdicts.of_answer(one) for one in ANSWERS]
    assert [one.id for one in said if not guess.place(one)] == ["q2-time", "q3-bank"]
    assert guess.board([one for one in said if not one.decides]) == []


def test_a_chapter_offers_its_questions_before_its_short_answer(site):
    html = (site / f"{Q2}.html").read_text(encoding="utf-8")
    question, offer, depth, deep, answer, box = (
        html.index(text)
        for text in (
            "The question.", 'class="guess-offer"', 'data-question="q2-depth"', 'data-question="q2-deep"',
            "The answer.", 'class="question-statement"',
        )
    )  # fmt: skip
    assert question < offer < depth < deep < answer < box
    assert 'href="../claims.html#guess-first"' in html
    assert html.count("guess-offer") == 1
    for name, count in ((INDEX, 1), ("auto_examples/plot_speed", 0)):
        assert (site / f"{name}.html").read_text(encoding="utf-8").count("guess-offer") == count


def test_nothing_is_offered_before_any_question_was_run(monkeypatch):
    said = [verdicts.of_answer(one) for one in ANSWERS]
    run = [one for one in said if one.id in ("q2-deep", "q3-training")]
    monkeypatch.setattr(guess, "said", lambda: {one.id: one for one in run})
    assert [one.id for one in guess.of_chapter(Q2)] == ["q2-deep"]
    assert guess.of_chapter(Q3) == []  # its only question is not run
    assert guess.board(run)
    assert guess.board([one for one in run if one.id == "q3-training"]) == []


def test_a_page_that_tells_findings_of_others_has_the_switch_too(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    assert html.index("<h1>T") < html.index('class="guess-offer guess-quiet"') < html.index("data-said=")
    assert 'href="claims.html#guess-first"' in html
    assert not places(site, "index")


def test_only_marks_that_show_a_finding_may_be_covered(site):
    found = {name: (site / f"{name}.html").read_text(encoding="utf-8").count("data-said=") for name in (Q2, Q3)}
    assert found == {Q2: 2, Q3: 1}  # q3-training is not run


# in a browser


@pytest.fixture
def visit(browser, site):
    """Open a page from the disk; afterwards nothing may have gone wrong, and nothing been asked of others."""
    contexts, problems = [], []

    def opened(name=Q2, kept=None, **options):
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or problems.append(asked.url))
        if kept is not None:  # by an earlier visit
            page.goto((site / "index.html").as_uri())
            page.evaluate("([key, text]) => localStorage.setItem(key, text)", [KEY, kept])
        page.goto((site / f"{name}.html").as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def kept(page):
    """Return what the browser keeps."""
    return json.loads(page.evaluate("key => localStorage.getItem(key)", KEY))


def switch(page):
    return page.get_by_role("switch", name="Guess first")


def offered(page, name):
    """Return the place of a question at the top of a chapter."""
    return page.locator(f".guess-offer .guess[data-question={name}]")


def whole(page, name):
    """Return the box of a question."""
    return page.locator(f".question-box:has(.guess[data-question={name}])")


def seen(page):
    """Return the text that is seen of a page's article."""
    return " ".join(page.locator(".bd-article").inner_text().split())


ON = json.dumps({"on": True, "said": {}, "early": []})
browsing = [pytest.mark.slow, pytest.mark.browser]


def in_browser(test):
    """Mark a test that needs Chromium."""
    for mark in browsing:
        test = mark(test)
    return test


@in_browser
def test_nothing_is_covered_before_it_is_switched_on(visit):
    page = visit()
    assert switch(page).get_attribute("aria-checked") == "false"
    assert not page.locator(".guess:visible, .guess-more:visible").count()
    assert "They gain 4.9 points (3.4 to 6.4)" in seen(page)
    assert "Finding: higher, +4.9 points (3.4 to 6.4)" in seen(page)
    assert page.evaluate("key => localStorage.getItem(key)", KEY) is None


@in_browser
@pytest.mark.parametrize("name", [Q2, Q3, INDEX])
def test_without_scripts_a_page_is_as_it_would_be_without_guessing(visit, name):
    page, other = visit(name, java_script_enabled=False), visit(name)
    assert not page.locator(".guess-offer:visible, .guess:visible").count()
    other.evaluate("for (const one of document.querySelectorAll('.guess, .guess-offer')) one.remove()")
    assert seen(page) == seen(other)
    drawn, expected = (one.locator(".question-box svg.forest:visible").count() for one in (page, other))
    assert drawn == expected > 0


@in_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("way", ["mouse", "keyboard", "touch"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_reader_guesses(visit, width, way, theme):
    page = visit(viewport={"width": width, "height": 740}, color_scheme=theme, has_touch=way == "touch")

    def use(button):
        if way == "keyboard":
            page.evaluate("[...document.querySelectorAll('.bd-article')][0].tabIndex = -1")
            page.evaluate("document.querySelector('.bd-article').focus()")
            wanted = button.element_handle()
            for _ in range(30):
                page.keyboard.press("Tab")
                if page.evaluate("wanted => document.activeElement === wanted", wanted):
                    break
            else:
                pytest.fail("the Tab key does not lead there")
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            page.keyboard.press("Enter")
        else:
            getattr(button, "tap" if way == "touch" else "click")()

    use(switch(page))
    assert switch(page).get_attribute("aria-checked") == "true"
    text = seen(page)
    for secret in ("4.9", "Finding:", "Predicted:", "Shortcuts <raise> the accuracy", "supported", "refuted"):
        assert secret not in text
    assert "Of this, nothing is known beforehand." in text  # what gives nothing away stays
    assert "How high is the gain at depth 20" in text
    assert page.locator(".bd-article svg.forest:visible").count() == 0

    use(offered(page, "q2-depth").get_by_role("button", name="Higher"))
    assert offered(page, "q2-depth").get_by_role("status").inner_text() == (
        "✓ You expected higher: right. The authors, who knew the outcome in part, expected higher: right. "
        "Found: higher, +4.9 points (3.4 to 6.4), 95 % interval, 12 seeds."
    )
    assert offered(page, "q2-depth").get_by_role("button").count() == 0
    assert page.evaluate("document.activeElement.dataset.question") == "q2-depth"
    assert "They gain 4.9 points (3.4 to 6.4)" in seen(page)
    assert "In the deeper network, it is +4.9 points" not in seen(page)
    assert whole(page, "q2-depth").locator("svg.forest").is_visible()

    use(whole(page, "q2-deep").get_by_role("button", name="Lower"))
    box = whole(page, "q2-deep")
    assert box.locator(".guess-outcome").inner_text() == (
        "✗ You expected lower: not what was found. The authors expected no difference that matters: not what was found."
    )
    assert box.evaluate("box => document.activeElement === box")
    assert "In the deeper network, it is +4.9 points" in seen(page)
    assert kept(page) == {"on": True, "said": {"q2-depth": "higher", "q2-deep": "lower"}, "early": []}
    assert page.evaluate(CUT, False) == []

    page.reload()  # it is kept
    assert "✓ You expected higher" in seen(page)
    assert "Finding: higher" in seen(page)
    use(switch(page))
    assert "You expected" not in seen(page)
    assert "Finding: higher" in seen(page)
    page.reload()
    assert switch(page).get_attribute("aria-checked") == "false"


@in_browser
def test_one_click_shows_without_a_guess(visit):
    page = visit(kept=ON)
    offered(page, "q2-depth").get_by_role("button", name="Just show it").click()
    assert "They gain 4.9 points" in seen(page)
    assert offered(page, "q2-depth").get_by_role("status").inner_text().startswith("You did not guess. Found: higher")
    assert "Finding: higher" in whole(page, "q2-depth").inner_text()
    assert kept(page)["said"] == {"q2-depth": ""}
    page.reload()
    assert "They gain 4.9 points" in seen(page)


@in_browser
def test_a_page_that_tells_a_finding_of_another_covers_it_and_can_be_opened(visit):
    page = visit("index")
    assert "They gain 4.9 points" in seen(page)
    assert not page.locator(".guess-offer:visible").count()
    page = visit("index", kept=ON)
    assert "They gain" not in seen(page)
    switch(page).click()
    assert "They gain 4.9 points" in seen(page)
    page = visit("index", kept=json.dumps({"on": True, "said": {"q2-depth": "lower"}}))
    assert "They gain 4.9 points" in seen(page)


@in_browser
def test_the_score_is_of_the_records_and_of_the_authors(visit):
    page = visit(INDEX, kept=ON)
    score = page.locator(".guess-score")
    assert score.inner_text() == "You have guessed 0 of 5 questions."
    assert seen(page).count("Predicted:") == 2  # of those that cannot be guessed
    for name, said in (
        ("q2-depth", "Lower"),
        ("q2-deep", "Higher"),
        ("q3-training", "Higher"),
        ("q3-random", "Higher"),
        ("q9-other", "No difference that matters (less than 2.5 points)"),
    ):
        whole(page, name).get_by_role("button", name=said).click()
    assert score.inner_text() == (
        "You have guessed 5 of 5 questions. You were right in 2 of 3, the authors' registered predictions in 2. "
        "The authors knew something of the outcome in 1. The runs cannot tell in 1. Not run yet: 1."
    )
    outcomes = [page.locator(f".guess[data-question={name}] .guess-outcome") for name in ("q3-training", "q3-random")]
    assert [one.inner_text() for one in outcomes] == [
        "You expected higher, before the runs. The authors expected lower. It is not run yet.",
        "You expected higher. The authors expected higher.",
    ]
    assert kept(page)["early"] == ["q3-training"]
    assert "Predicted: lower." in whole(page, "q3-training").inner_text()

    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Forget them").click()
    assert score.inner_text().startswith("You have guessed 5 of 5")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Forget them").click()
    assert score.inner_text() == "You have guessed 0 of 5 questions."
    assert kept(page) == {"on": True, "said": {}, "early": []}


@in_browser
def test_a_guess_from_before_the_runs_waits_for_them(visit):
    early = {"on": True, "said": {"q2-depth": "higher"}, "early": ["q2-depth"]}
    page = visit(kept=json.dumps(early))
    assert "✓ You expected higher, before the runs: right." in offered(page, "q2-depth").inner_text()


@in_browser
def test_what_is_not_run_is_asked_and_its_prediction_covered(visit):
    page = visit(Q3, kept=ON)
    assert "Not run yet." in offered(page, "q3-training").inner_text()
    assert "They not run" in seen(page)  # nothing is given away
    offered(page, "q3-training").get_by_role("button", name="Lower").click()
    assert offered(page, "q3-training").get_by_role("status").inner_text() == (
        "You expected lower, before the runs. The authors expected lower. It is not run yet."
    )


@in_browser
@pytest.mark.parametrize(
    "text", ["", "{", "7", "null", "[]", '{"on": "yes", "said": 7, "early": {}}', '{"said": {"q2-depth": "<b>"}}']
)
def test_what_is_not_ours_is_passed_over(visit, text):
    page = visit(kept=text)
    assert switch(page).get_attribute("aria-checked") == "false"
    switch(page).click()
    offered(page, "q2-depth").get_by_role("button", name="Lower").click()
    assert kept(page)["said"] == {"q2-depth": "lower"}


@in_browser
def test_a_browser_that_keeps_nothing_can_guess(visit, site):
    page = visit("index")
    page.add_init_script(  # for our key alone, as the theme complains of it
        "for (const name of ['getItem', 'setItem']) {"
        "  const usual = Storage.prototype[name];"
        "  Storage.prototype[name] = function (...given) {"
        f"    if (given[0] === '{KEY}') throw new DOMException('not allowed', 'SecurityError');"
        "    return usual.apply(this, given);"
        "  };"
        "}"
    )
    page.goto((site / f"{Q2}.html").as_uri())
    switch(page).click()
    offered(page, "q2-depth").get_by_role("button", name="Higher").click()
    assert "✓ You expected higher" in seen(page)
    assert "They gain 4.9 points" in seen(page)


@in_browser
def test_another_tab_follows(visit, site):
    page = visit()
    other = page.context.new_page()
    other.goto((site / f"{INDEX}.html").as_uri())
    switch(other).click()
    page.wait_for_function("document.documentElement.dataset.guess === 'on'")
    assert switch(page).get_attribute("aria-checked") == "true"
    assert "4.9" not in seen(page)


@in_browser
def test_findings_are_hidden_from_the_first_picture_on(visit, site):
    page = visit("index", kept=ON)
    page.add_init_script(
        "document.addEventListener('readystatechange', () => {"
        "  if (document.readyState !== 'interactive') return;"  # before DOMContentLoaded, and before what is deferred
        "  const shown = [...document.querySelectorAll('.question-box, .effect, .mark')];"
        "  window.early = shown.map(one => getComputedStyle(one).visibility);"
        "})"
    )
    page.goto((site / f"{Q2}.html").as_uri())
    assert set(page.evaluate("early")) == {"hidden"}
    assert page.locator(".question-box").first.evaluate("one => getComputedStyle(one).visibility") == "visible"


@in_browser
def test_paper_shows_all_and_asks_nothing(visit):
    page = visit(kept=ON)
    assert "4.9" not in seen(page)
    page.emulate_media(media="print")
    text = seen(page)
    for shown in ("They gain 4.9 points", "In the deeper network, it is +4.9 points", "Finding: higher", "Predicted:"):
        assert shown in text
    assert not page.locator(".guess:visible, .guess-offer:visible").count()


@in_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", [Q2, INDEX])
def test_axe_finds_nothing_and_all_fits(visit, name, width, theme):
    package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    axe = Path(package.__file__).parent / "axe.min.js"
    said = {"q2-depth": "lower", "q3-random": "higher"}
    states = [None, ON, json.dumps({"on": True, "said": said, "early": []})]
    for state in states:
        page = visit(name, kept=state, viewport={"width": width, "height": 740}, color_scheme=theme)
        page.evaluate(axe.read_text(encoding="utf-8"))
        found = page.evaluate(AXE, [TAGS, None])
        assert {"color-contrast", "aria-allowed-attr"} <= set(found["passed"])
        ours = [one for one in found["violations"] if "guess" in str(one) or one[1] in ("serious", "critical")]
        assert ours == []
        assert page.evaluate(CUT, False) == []
