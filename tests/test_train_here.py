"""Train it here: the scenes, the networks and the training in the reader's browser, and the page as it is used."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils
from test_docs import DOCS
from test_site import AXE, CUT, TAGS

from cnnhw.data import scenes
from cnnhw_docs import train_here

pytestmark = pytest.mark.xdist_group("train_here")  # one site for all, and one browser
SPLITS = ((0, 60), (10**6, 40))
SMALL = {
    "width": 4, "stages": 2, "blocks": 0, "kernel": 3, "shortcuts": False, "norm": True, "optimiser": "sgd",
    "rate": 0.1, "schedule": "constant", "batch": 16, "epochs": 2, "photos": 60, "mirror": True, "shift": 1, "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build a page with the figure, on few scenes, with the site's theme, styles and scripts."""
    folder = tmp_path_factory.mktemp("train_here")
    (folder / "docs").mkdir()
    (folder / "docs" / "index.rst").write_text("Train\n=====\n\n.. train-here::\n", encoding="utf-8")
    web = DOCS.parent / "cnnhw" / "web"
    styles = ["custom.css", "guess.css"]  # as on the site: those of one part must not hide another
    own = [*styles, "site.js", "favicon.svg", *(path.name for path in (DOCS / "_static").glob("train*"))]
    static = [str(DOCS / "_static" / name) for name in own] + [str(web / name) for name in ("cnn.js", "photos.js")]
    settings = {
        "extensions": ["cnnhw_docs.train_here"],
        "language": "en",
        "templates_path": [str(DOCS / "_templates")],
        "html_theme": "pydata_sphinx_theme",
        "html_title": "cnnhw",
        "html_static_path": [*static, "_static"],
        "html_favicon": str(DOCS / "_static" / "favicon.svg"),
        "html_css_files": styles,
        "html_js_files": [("site.js", {"defer": "defer"})],
        "html_show_sourcelink": False,
        "html_theme_options": {"secondary_sidebar_items": []},
        "html_sidebars": {"index": []},
    }
    (folder / "docs" / "_static").mkdir()
    warnings = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, patch_docutils(), docutils_namespace():
        patch.setattr(train_here, "SPLITS", SPLITS)
        Sphinx(
            folder / "docs", None, folder / "html", folder / "trees", "html", confoverrides=settings, status=None,
            warning=warnings,
        ).build()  # fmt: skip
    assert not warnings.getvalue()
    return folder / "html"


def told(site):
    """Return what the script with the scenes holds."""
    text = (site / train_here._FILE).read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.trainScenes = ").rstrip().removesuffix(";"))


def test_scenes_are_packed_within_one_level():
    images = train_here.drawn(train_here.SPLITS[1][0], 25)
    assert (
        images.transpose(0, 3, 1, 2) == scenes.draw(25, size=32, controls=scenes.EASY, first=10**6).images.numpy()
    ).all()
    found = train_here.packed(images)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["picture"])))).astype(int) * train_here.LEVELS
    tile = sheet[32:64, 4 * 32 : 5 * 32]  # the 25th: second row, fifth column
    assert np.abs(tile - images[24]).max() == 1
    assert found["count"] == 25


def test_every_level_is_kept_within_one():
    levels = np.arange(256)
    kept = np.rint(levels / train_here.LEVELS) * train_here.LEVELS
    assert np.abs(kept - levels).max() == 1
    assert kept.max() <= 255


@pytest.mark.slow
def test_the_figure_loads_its_scripts_and_no_scenes(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    for name in ("train.css", *train_here.SCRIPTS):
        assert f"_static/{name}" in page
        assert (site / "_static" / name).exists()
    assert "scenes.js" in page
    assert 'src="_static/generated' not in page  # not before the reader starts
    assert "train_page" not in (site / "search.html").read_text(encoding="utf-8")
    assert sum(one["count"] for one in told(site)["splits"]) == 100
    assert told(site)["classes"] == list(scenes.CLASSES)


def test_the_prose_counts_what_is_loaded():
    text = (DOCS / "train_here.rst").read_text(encoding="utf-8")
    (_, many), (_, held) = train_here.SPLITS
    assert f"{many} to train on and {held} held out" in " ".join(text.split())


# in a browser


def in_browser(test):
    """Mark a test that needs Chromium."""
    return pytest.mark.slow(pytest.mark.browser(pytest.mark.timeout(600)(test)))


@pytest.fixture
def visit(browser, site):
    """Open the page from the disk; afterwards nothing may have gone wrong, and nothing been asked of others."""
    contexts, problems = [], []

    def opened(**options):
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        context.set_default_timeout(120_000)  # other work may go on
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda asked: asked.url.startswith(("file:", "data:", "blob:")) or problems.append(asked.url)
        )
        page.goto((site / "index.html").as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


UNPACKED = """async () => {
  const script = document.createElement('script');
  script.src = document.querySelector('figure.train').dataset.scenes;
  await new Promise(done => { script.onload = done; document.head.append(script); });
  const engine = cnn(), loop = trainLoop(engine, trainNet()), scope = {};
  const found = new Promise(done => { scope.postMessage = ({data}) => done(data); });
  trainWorker(engine, loop, photoTools(), scope);
  scope.onmessage({data: {act: 'scenes', packed: trainScenes}});
  Object.assign(window, {engine, loop, data: await found});
}"""
RUN = """settings => {
  const {run, advance} = loop.start(settings, data);
  while (run.state === 'ready' || run.state === 'running') advance();
  const {losses, points, state, confusion, steps} = run;
  return {losses, points, state, confusion, steps, settings, classes: 5};
}"""
CHECK = """([name, runs]) => trainChallenges.find(one => one.name === name).met(
  runs.map(run => ({...run, losses: run.losses.map(Number)})))"""


@pytest.fixture(scope="module")
def opened(browser, site):
    """A page that has the scenes, for what is computed."""
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.evaluate(UNPACKED)
    yield page
    page.close()


def run(page, **changes):
    return page.evaluate(RUN, {**SMALL, **changes})


@in_browser
def test_the_browser_has_the_packages_scenes(opened):
    for name, (first, count) in zip(("training", "held"), SPLITS, strict=True):
        images, labels = opened.evaluate(f"[Array.from(data.{name}.images), data.{name}.labels]")
        ours = train_here.drawn(first, count).astype(int)
        assert np.abs(np.array(images).reshape(ours.shape) - ours).max() <= 1
        assert labels == scenes.draw(count, size=8, first=first).labels.tolist()


def twin(settings, weights, photos):
    """Compute in PyTorch what a network of the page should, from its weights in their order."""
    found = iter(weights)
    norm, pad = settings["norm"], settings["kernel"] // 2

    def convolution(x, pool=False):
        x = F.conv2d(x, next(found), None if norm else next(found), padding=pad)
        x = F.max_pool2d(x, 2) if pool else x
        if not norm:
            return x
        gamma, beta, mean, variance = (next(found) for _ in range(4))
        return F.batch_norm(x, mean, variance, gamma, beta, eps=1e-5)

    x = photos
    for _ in range(settings["stages"]):
        x = convolution(x, pool=True).relu()
        for _ in range(settings["blocks"]):
            y = convolution(convolution(x).relu())
            x = (x + y if settings["shortcuts"] else y).relu()
    logits = F.linear(x.mean((2, 3)), next(found), next(found))
    assert next(found, None) is None
    return logits


@in_browser
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": False, "blocks": 1, "shortcuts": True, "kernel": 5, "rate": 0.01},
        {"blocks": 2, "shortcuts": True, "stages": 3, "optimiser": "adam", "rate": 0.01},
        {"blocks": 1, "stages": 1, "kernel": 1, "width": 6},
    ],
)
def test_a_network_gives_what_pytorch_gives_for_its_weights(opened, changes):
    settings = {**SMALL, **changes}
    weights, logits, photos, count = opened.evaluate(
        """settings => {
          const {run, advance} = loop.start(settings, data);
          for (let i = 0; i < 3; i++) advance();  // so that shortcuts and batch norm have something to do
          const photos = loop.tensorOf(data.held, [0, 1, 2, 3]);
          const plain = ({shape, data}) => [shape, Array.from(data)];
          const logits = engine.forward(run.program, photos).at(-1);
          return [run.program.weights.map(plain), plain(logits), plain(photos), trainNet().convolutions(settings)];
        }""",
        settings,
    )
    weights, (logits, photos) = (
        [torch.tensor(data).view(shape) for shape, data in part] for part in (weights, (logits, photos))
    )
    theirs = twin(settings, weights, photos)
    assert float((logits - theirs).abs().max()) < 1e-4 * max(1.0, float(theirs.abs().max()))
    assert sum(one.dim() == 4 for one in weights) == count
    images = torch.from_numpy(train_here.drawn(10**6, 4)).permute(0, 3, 1, 2)
    assert float((photos - 4 * (images / 255 - 0.5)).abs().max()) < 4.01 / 255


@in_browser
def test_kernels_begin_he_normal_and_blocks_with_shortcuts_as_identity(opened):
    wide = {**SMALL, "width": 16, "stages": 2, "blocks": 1, "shortcuts": True, "kernel": 5}
    first, second = opened.evaluate(
        """settings => [false, true].map(norm => trainNet().build({...settings, norm}, 5).weights.map(
          ({shape, data}) => [shape, Array.from(data)]))""",
        wide,
    )
    for shape, data in first[:2] + second[:1]:
        if len(shape) == 4:
            assert np.std(data) == pytest.approx((2 / (25 * shape[1])) ** 0.5, rel=0.1)
            assert abs(np.mean(data)) < 0.1 * np.std(data)
    assert not np.any(first[4][1])  # the second kernel of the first block
    assert not np.any(second[11][1])  # and what its batch norm multiplies by
    assert np.any(second[10][1])


@in_browser
def test_a_run_follows_from_its_settings(opened):
    first, again, other = run(opened), run(opened), run(opened, seed=1)
    assert first == again
    assert first["losses"] != other["losses"]
    assert len(first["losses"]) == first["steps"] == 2 * 4  # epochs, and batches of 16 out of 60
    assert first["points"][-1]["seen"] == 120
    assert [sum(row) for row in first["confusion"]] == [8] * 5
    assert sum(first["confusion"][k][k] for k in range(5)) / 40 == pytest.approx(first["points"][-1]["heldAccuracy"])
    assert first["losses"][0] == pytest.approx(np.log(5), abs=0.15)  # a guess


@in_browser
def test_augmentation_mirrors_and_moves(opened):
    plain, mirrored, moved = opened.evaluate(
        """() => [[false, 0, 0], [true, 0, 0], [false, 2, -1]].map(([mirror, right, down]) =>
          Array.from(loop.tensorOf(data.held, [3], () => ({mirror, right, down})).data))"""
    )
    plain, mirrored, moved = (np.array(one).reshape(3, 32, 32) for one in (plain, mirrored, moved))
    assert (mirrored == plain[:, :, ::-1]).all()
    assert (moved[:, :31, 2:] == plain[:, 1:, :30]).all()
    assert (moved[:, :, 0] == moved[:, :, 2]).all()  # beyond the edge, the edge goes on


@in_browser
def test_rates_of_a_run(opened):
    rates = opened.evaluate(
        "['constant', 'cycle'].map(schedule => Array.from({length: 100}, (_, i) =>"
        " loop.rateAt(i, 100, {rate: 2, schedule})))"
    )
    assert set(rates[0]) == {2}
    assert max(rates[1]) == pytest.approx(2, abs=0.1)
    assert np.argmax(rates[1]) in (24, 25)
    assert rates[1][-1] < 0.02


@in_browser
def test_it_learns_overfits_and_diverges(opened):
    memorised = run(opened, width=8, stages=3, photos=25, mirror=False, shift=0, epochs=60, batch=8, schedule="cycle")
    assert memorised["points"][-1]["loss"] < 0.5 < np.log(5) < memorised["points"][-1]["heldLoss"] + 0.5
    assert opened.evaluate(CHECK, ["overfit", [memorised]])
    assert not opened.evaluate(CHECK, ["diverge", [memorised]])
    exploded = run(opened, norm=False, rate=3)
    assert opened.evaluate(CHECK, ["diverge", [exploded]])
    assert not opened.evaluate(CHECK, ["overfit", [exploded]])


@in_browser
def test_what_is_no_number_ends_a_run(opened):
    ended = run(opened, norm=False, rate=1e30)
    assert ended["state"] == "diverged"
    assert len(ended["losses"]) < ended["steps"]


def made_up(held, training=0.5, seen=2000, **settings):
    """Make a run that ended so."""
    point = {"step": 9, "seen": seen, "loss": 1, "accuracy": training, "heldLoss": 1, "heldAccuracy": held}
    return {"settings": {**SMALL, **settings}, "classes": 5, "losses": [1.6], "points": [point], "state": "done"}


DEEP = {"stages": 3, "blocks": 2}
FEW = {"photos": 25}


@in_browser
@pytest.mark.parametrize(
    ("name", "runs", "met"),
    [
        ("overfit", [made_up(0.77, 0.96)], False),
        ("overfit", [made_up(0.75, 0.96)], True),
        ("overfit", [made_up(0.5, 0.95)], False),
        ("diverge", [{**made_up(0.2), "losses": [1.6, 4.8]}], False),
        ("diverge", [{**made_up(0.2), "losses": [1.6, 4.9]}], True),
        ("rescue", [made_up(0.2, **DEEP), made_up(0.5, **DEEP, shortcuts=True)], True),
        ("rescue", [made_up(0.5, **DEEP, shortcuts=True), made_up(0.2, **DEEP)], True),
        ("rescue", [made_up(0.2, **DEEP), made_up(0.5, **DEEP, shortcuts=True, rate=0.2)], False),
        ("rescue", [made_up(0.2, **DEEP), made_up(0.35, **DEEP, shortcuts=True)], False),
        ("rescue", [made_up(0.2, **DEEP, seen=400), made_up(0.5, **DEEP, shortcuts=True, seen=400)], False),
        ("rescue", [made_up(0.2, blocks=1), made_up(0.5, blocks=1, shortcuts=True)], False),
        ("mend", [made_up(0.5, 1.0, **FEW), made_up(0.65, 0.9)], True),
        ("mend", [made_up(0.5, 1.0, **FEW), made_up(0.55, 0.9)], False),
        ("mend", [made_up(0.5, 0.8, **FEW), made_up(0.65, 0.9)], False),
        ("mend", [made_up(0.5, 1.0, **FEW), made_up(0.65, 0.9, width=8)], False),
    ],
)  # fmt: skip
def test_when_a_challenge_is_met(opened, name, runs, met):
    assert opened.evaluate(CHECK, [name, runs]) is met


def quick(page, **changes):
    """Choose a run that ends soon."""
    for name, value in {"width": "4", "stages": "1", "epochs": "2", **changes}.items():
        page.select_option(f"#train-{name}-A", value)


def said(page):
    return page.locator(".train-said").inner_text()


def wait(page, text):
    page.wait_for_function("text => document.querySelector('.train-said').textContent.includes(text)", arg=text)


DOTTED = """[...document.querySelectorAll('.train svg .level')].map(line =>
  getComputedStyle(line).display !== 'none' && getComputedStyle(line).stroke !== 'none')"""


def numbers(page):
    return [row.split("\t") for row in page.locator(".train-numbers tbody").inner_text().split("\n") if row.strip()]


def reached(page, button):
    """Reach a button by the Tab key, and press it."""
    wanted = button.element_handle()
    page.evaluate("document.querySelector('.bd-article').tabIndex = -1; document.querySelector('.bd-article').focus()")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement === wanted", wanted):
            break
    else:
        pytest.fail("the Tab key does not lead there")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Space")


@in_browser
@pytest.mark.parametrize(("width", "way", "theme"), [(1280, "keyboard", "light"), (360, "touch", "dark")])
def test_a_reader_trains(visit, width, way, theme):
    page = visit(viewport={"width": width, "height": 740}, color_scheme=theme, has_touch=way == "touch")
    button = lambda name: page.get_by_role("button", name=name, exact=True)  # noqa: E731
    use = (lambda one: reached(page, one)) if way == "keyboard" else (lambda one: one.tap())
    assert not page.locator(".train-inside").is_visible()
    quick(page)
    use(button("One step"))
    wait(page, "One step")
    page.wait_for_function(
        "document.querySelector('.train-numbers tbody').innerText.includes('0.5')"
    )  # of a batch of 32
    assert page.locator(".train-confusion td.right").count() == 5
    filters = page.evaluate("document.querySelector('.train-filters').toDataURL()")
    maps = page.evaluate("document.querySelector('.train-maps').toDataURL()")
    use(button("Start"))
    wait(page, "Done")
    assert re.search(r"held-out accuracy \d+ %", said(page))
    assert button("Start").is_visible()
    assert page.evaluate(DOTTED) == [True, True]
    assert page.evaluate("document.querySelector('.train-filters').toDataURL()") != filters
    use(button("Another photo"))
    page.wait_for_function("maps => document.querySelector('.train-maps').toDataURL() !== maps", arg=maps)
    assert page.locator(".train-true").inner_text() == "Held-out photo: bird"
    assert page.locator(".train-chances li").count() == 5
    use(button("Reset"))
    wait(page, "first step")
    assert page.evaluate(CUT, False) == []
    sizes = page.evaluate(
        "[...document.querySelectorAll('.train :is(button, select, summary)')].filter(e => e.checkVisibility())"
        ".map(e => e.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 40


@in_browser
def test_pause_keeps_the_run_and_start_goes_on(visit):
    page = visit()
    quick(page, epochs="60", photos="50")
    page.locator(".train-start").click()
    page.wait_for_function(
        "/[1-9]/.test(document.querySelector('.train-numbers tbody')?.innerText.split('of')[0] ?? '')"
    )
    page.locator(".train-start").click()
    wait(page, "Paused")
    page.wait_for_timeout(500)
    paused = numbers(page)
    page.wait_for_timeout(500)
    assert numbers(page) == paused
    page.locator(".train-start").click()
    page.wait_for_function(
        "before => document.querySelector('.train-numbers tbody').innerText !== before",
        arg=page.locator(".train-numbers tbody").inner_text(),
    )
    page.locator(".train-start").click()
    wait(page, "Paused")
    assert page.evaluate("performance.now() > 0")  # the page answers


@in_browser
def test_equal_settings_side_by_side_give_equal_numbers_and_others_do_not(visit):
    page = visit()
    quick(page)
    page.get_by_label("Compare two settings").check()
    assert page.locator("#train-width-B").input_value() == page.locator("#train-width-A").input_value()
    for rate, equal in (("0.1", True), ("0.01", False)):
        page.select_option("#train-rate-B", rate)
        page.locator(".train-start").click()
        page.wait_for_function(
            "document.querySelector('.train-numbers tbody').innerText.split('2.0 of 2').length === 3"
        )
        first, second = ([cell for k, cell in enumerate(row) if k not in (0, 2)] for row in numbers(page))
        assert (first == second) is equal
    assert page.locator(".train-loss path.line").count() == 4
    page.get_by_label("Look into").select_option("B")
    page.get_by_label("Compare two settings").uncheck()
    assert not page.locator("#train-rate-B").is_visible()


@in_browser
def test_the_page_notices_a_challenge(visit):
    page = visit()
    quick(page, rate="3", schedule="steady", batch="8", epochs="6")
    page.locator("#train-norm-A").uncheck()
    assert not page.locator(".train-met").count()
    page.locator(".train-start").click()
    page.wait_for_selector("[data-challenge=diverge].train-met")
    assert "steps were too long" in page.locator("[data-challenge=diverge] .train-why").inner_text()
    assert page.locator(".train-met").count() == 1
    wait(page, "Challenges met: 1 of 4")


def picture(colour):
    file = io.BytesIO()
    noise = np.random.default_rng(sum(colour)).integers(-20, 20, (40, 60, 3))
    Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(file, "png")
    return file.getvalue()


@in_browser
def test_a_reader_trains_on_pictures_of_their_own(visit):
    page = visit()
    quick(page, epochs="30")
    page.get_by_text("Train on your own pictures").click()
    page.locator(".train-use").click()
    assert "two classes at least" in page.locator(".train-own-said").inner_text()
    names = page.locator(".train-class input[type=text]")
    for k, (name, colour) in enumerate((("<b>red</b>", (200, 40, 40)), ("blue", (40, 40, 200)))):
        names.nth(k).fill(name)
        files = [
            {"name": f"{i}.png", "mimeType": "image/png", "buffer": picture([c + i for c in colour])} for i in range(8)
        ]
        if k:
            files = [*files, {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"}]
        else:
            page.locator(".train-class input[type=file]").nth(k).set_input_files(files[:4])
            page.wait_for_function("document.querySelector('.train-count').textContent === '4 pictures.'")
            page.locator(".train-use").click()
            files = files[4:]
        page.locator(".train-class input[type=file]").nth(k).set_input_files(files)
        page.wait_for_function(
            "k => document.querySelectorAll('.train-count')[k].textContent.startsWith('8 pictures')", arg=k
        )
    assert "1 could not be read" in page.locator(".train-count").nth(1).inner_text()
    page.locator(".train-use").click()
    assert page.locator(".train-own-said").inner_text() == "12 pictures to train on, 4 held out."
    page.locator(".train-start").click()
    wait(page, "Done")
    assert "held-out accuracy 100 %" in said(page)  # red and blue are easily told apart
    assert page.locator(".train-confusion tbody th").all_inner_texts() == ["<b>red</b>", "blue"]
    blue = {"name": "mine.png", "mimeType": "image/png", "buffer": picture((45, 50, 190))}
    page.locator(".train-try").set_input_files(blue)
    page.wait_for_function("document.querySelector('.train-true').textContent === 'Your photo'")
    page.wait_for_function("parseInt(document.querySelectorAll('.train-chances li')[1].lastChild.textContent) > 50")
    page.locator(".train-back").click()
    wait(page, "scenes again")
    page.wait_for_function("document.querySelectorAll('.train-confusion tbody th').length === 5")


@in_browser
@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (1280, "dark")])
def test_rules_of_accessibility(visit, width, theme):
    axe = Path(pytest.importorskip("axe_playwright_python").__file__).parent / "axe.min.js"
    page = visit(viewport={"width": width, "height": 740}, color_scheme=theme)
    quick(page)
    page.get_by_label("Compare two settings").check()
    page.get_by_text("Train on your own pictures").click()
    page.locator(".train-start").click()
    wait(page, "Done")
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate(AXE, [TAGS, None])
    assert {"color-contrast", "aria-allowed-attr"} <= set(found["passed"])
    assert [one for one in found["violations"] if "train" in str(one) or one[1] in ("serious", "critical")] == []
    assert page.evaluate(CUT, False) == []


@in_browser
def test_without_scripts_the_page_says_what_it_would_show(visit):
    page = visit(java_script_enabled=False)
    assert not page.locator("figure.train").is_visible()
    assert "a network would learn here" in page.locator(".train-plain").inner_text()
