"""The built site as its readers use it: every page in a browser, in both themes, on a phone, by keyboard, on paper.

It is built first: ``make -C docs html``; the environment variable ``CNNHW_SITE`` names another folder with a site.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import re
import shutil
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
SITE = Path(os.environ.get("CNNHW_SITE", ROOT / "docs" / "_build" / "html"))
SCREENSHOTS = SITE.parent / "screenshots"
WIDTHS = (360, 768, 1280)
PAPER = 718  # CSS pixels between margins of 1 cm on A4
LIMIT = 1_500_000  # bytes a page, without what all pages share
# what all pages share: scripts, styles and fonts of the theme and its kind, and formulas
SHARED = re.compile(r"_static/(mathjax/|vendor/|(?!generated/|.*explorer|train).*\.(js|css|woff2)$)|searchindex\.js$")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("site"),  # all look at what one visit of the pages found
]

# words that a reader would look for, and the page that has to be found
SEARCHES = {
    "augmentation": "auto_examples/plot_q1_cnn",
    "one cycle": "auto_examples/plot_q1_cnn",
    "saliency": "auto_examples/plot_q3_feature_maps",
    "batch normalisation": "auto_examples/plot_q2_residual",
    "growth rate": "auto_examples/plot_ii_transition_pooling",
    "multiply-adds": "auto_examples/plot_iii_extractor_and_classifier",
    "cross-entropy": "auto_examples/plot_q5_freeze_first",
    "confusion matrix": "auto_examples/plot_q6_flowers",
    "whitening": "auto_examples/plot_speed",
    "residual": "auto_examples/plot_q2_residual",
    "overfitting": "auto_examples/plot_q1_cnn",
    "aliasing": "auto_examples/plot_ii_transition_pooling",
    "kernel sizes": "auto_examples/plot_q4_inception",
    "path length": "auto_examples/plot_i_residual_length",
    "pooling": "auto_examples/plot_ii_transition_pooling",
    "extractor classifier": "auto_examples/plot_iii_extractor_and_classifier",
    "validation loss": "auto_examples/plot_q1_cnn",
    "feature maps": "auto_examples/plot_q3_feature_maps",
    "inception": "auto_examples/plot_q4_inception",
    "freeze": "auto_examples/plot_q5_freeze_first",
    "flowers": "auto_examples/plot_q6_flowers",
    "wrong labels": "guide/flowers",
    "faults": "auto_examples/plot_report_faults",
    "report": "auto_examples/plot_report_rerun",
    "speed": "auto_examples/plot_speed",
    "install": "getting_started",
    "own photos": "guide/own_photos",
    "data": "guide/data",
    "transfer": "guide/transfer",
    "records": "guide/records",
    "command line": "guide/command_line",
    "model cards": "model_cards",
    "claims": "claims",
    "feature explorer": "feature_explorer",
    "overfit browser": "train_here",
}

SETTLE = """async () => {
  document.querySelectorAll('img[loading=lazy]').forEach(image => { image.loading = 'eager' });
  await document.fonts.ready;
  if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
  const busy = () => document.querySelector('figure.explorer:not([aria-busy=false])');
  while (busy()) await new Promise(done => setTimeout(done, 50));
}"""

AXE = """async ([tags, rules]) => {
  const options = {resultTypes: ['violations', 'passes'], preload: false};
  options.runOnly = rules ? {type: 'rule', values: rules} : {type: 'tag', values: tags};
  const found = await axe.run(document, options);
  return {
    violations: found.violations.map(({id, impact, nodes}) => [id, impact, nodes.map(node => node.target.join(' '))]),
    passed: found.passes.map(({id}) => id),
  };
}"""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

# what leaves its page sideways, or is cut off where it cannot be scrolled to
CUT = """paper => {
  const name = e => `${e.tagName.toLowerCase()}${e.id ? '#' + e.id : ''}.${[...e.classList].join('.')}`;
  const hidden = e => !e.checkVisibility({visibilityProperty: true, opacityProperty: true})
    || e.closest('.visually-hidden, .skip-link, mjx-assistive-mml, dialog:not([open])');
  const wide = document.scrollingElement.clientWidth, found = [];
  if (document.scrollingElement.scrollWidth > wide) found.push(`page of ${document.scrollingElement.scrollWidth} px`);
  for (const e of document.body.querySelectorAll('*')) {
    const {left, right, width, height} = e.getBoundingClientRect();
    if (width < 2 || height < 2 || (left >= 0 && right <= wide + 1)) {
      const style = getComputedStyle(e), clips = paper ? /hidden|clip|auto|scroll/ : /hidden|clip/;
      if (width > 1 && e.scrollWidth > e.clientWidth + 2 && clips.test(style.overflowX) && !hidden(e)
        && e.tagName !== 'SELECT' && style.textOverflow !== 'ellipsis') found.push(`${name(e)} cut off`);
      continue;
    }
    let scrolls = false;
    for (let up = e.parentElement; up && up !== document.body; up = up.parentElement) {
      if (/auto|scroll/.test(getComputedStyle(up).overflowX)) scrolls = true;
    }
    if ((scrolls && !paper) || e.closest('svg, mjx-container') || hidden(e)) continue;
    found.push(`${name(e)} beyond the edge`);
  }
  return [...new Set(found)];
}"""

# figures with their alternative texts; controls and links name themselves beside their picture
FIGURES = """() => {
  const found = [];
  for (const image of document.querySelectorAll('img')) {
    const named = image.closest('label, .sphx-glr-thumbcontainer, a:not(.image-reference)')?.textContent.trim();
    found.push([image.getAttribute('src'), image.getAttribute('alt'), Boolean(named)]);
  }
  for (const drawing of document.querySelectorAll('.bd-article svg')) {
    if (drawing.closest('mjx-container, a, button, [aria-hidden=true]')) continue;
    const title = drawing.getAttribute('aria-label') ?? drawing.querySelector('title')?.textContent ?? null;
    const role = drawing.getAttribute('role') === 'img';
    found.push(['svg', role ? title : null, false]);
  }
  return found;
}"""

# the look of what may be focused, and of what stands for it
LOOK = """
  const parts = e => [e, e.parentElement, e.nextElementSibling].filter(Boolean).flatMap(
    part => [null, '::before', '::after'].map(pseudo => getComputedStyle(part, pseudo)));
  const outline = s => s.outlineStyle === 'none' ? 'none' : `${s.outlineStyle} ${s.outlineWidth} ${s.outlineColor}`;
  const look = e => parts(e).map(s => `${outline(s)} ${s.boxShadow} ${s.borderColor} ${s.borderWidth}`).join('|');
"""
TABS = 30  # stops a page

MOVING = "document.getAnimations().map(one => one.finished.catch(() => null))"

REMEMBER = f"""() => {{ {LOOK}
  window.looks = new Map();
  const stops = [...document.querySelectorAll('a[href], button, input, select, summary, textarea, [tabindex]')];
  for (const e of stops.filter(stop => stop.checkVisibility()).slice(0, {3 * TABS})) window.looks.set(e, look(e));
}}"""
FOCUSED = f"""async () => {{ {LOOK}
  await Promise.all({MOVING});
  const e = document.activeElement;
  if (e === document.body) return null;
  const {{width, top, bottom}} = e.getBoundingClientRect();
  const name = `${{e.tagName.toLowerCase()}}.${{[...e.classList].join('.')}} ${{e.textContent.trim().slice(0, 30)}}`;
  if (!window.looks.has(e)) return [name, true];
  return [name, look(e) !== window.looks.get(e) && (width > 0 && bottom > 0 && top < innerHeight)];
}}"""
PRINT = """() => {
  const seen = e => e.checkVisibility({visibilityProperty: true}) && e.getBoundingClientRect().height > 0;
  const found = [];
  const screen = '.bd-header, .bd-header-article, .bd-sidebar-primary, .bd-sidebar-secondary, '
    + '.prev-next-footer, .headerlink, .skip-link, .sphx-glr-footer, dialog, input, select, '
    + 'button:not([role=radio], .verdict)';
  for (const e of document.querySelectorAll(screen)) {
    if (seen(e)) found.push(`${e.tagName.toLowerCase()}.${[...e.classList].join('.')} is printed`);
  }
  for (const e of document.querySelectorAll('details')) {
    const inside = [...e.children].filter(child => child.tagName !== 'SUMMARY');
    if (seen(e) && !inside.every(seen)) found.push(`${e.textContent.trim().slice(0, 30)} stays closed`);
  }
  for (const e of document.querySelectorAll('.bd-article img, .bd-article figure, .diagram svg, .bd-article tr')) {
    if (seen(e) && getComputedStyle(e).breakInside !== 'avoid') found.push(`${e.tagName} may be split`);
  }
  return [...new Set(found)];
}"""


@dataclass
class Visit:
    """What was found on one page; each list holds what is wrong."""

    name: str
    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    axe: list[str] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)
    impacts: Counter[str] = field(default_factory=Counter)
    pictures: list[tuple[str, str | None, bool]] = field(default_factory=list)
    focus: list[str] = field(default_factory=list)
    focused: int = 0
    printed: list[str] = field(default_factory=list)
    weight: int = 0
    screenshots: int = 0


def pages() -> list[str]:
    """Return the pages by their path in the site, the theme's own template left out."""
    found = (path.relative_to(SITE) for path in SITE.rglob("*.html"))
    return sorted(path.as_posix() for path in found if path.parts[0] != "_static")


@pytest.fixture(scope="module")
def site():
    if not (SITE / "index.html").exists():
        pytest.skip(f"needs a built site in {SITE}: make -C docs html")
    return SITE


@pytest.fixture(scope="module")
def axe():
    package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(site):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture(scope="module")
def launch():
    """Start Chromium; each thread needs its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update"]
    options += ["--disable-background-networking", "--disable-sync"]
    # nothing but the server is reached: what is asked of others fails, and is noted
    options.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    return playwright.sync_playwright, {"executable_path": chromium, "args": options}


@contextlib.contextmanager
def listening(page, server: str, visit: Visit):
    """Note what the console says, what fails, and what is asked of others."""

    def console(message):
        policy = re.search(r"Content.Security|Mixed Content", message.text, re.IGNORECASE)
        if message.type == "error" or (message.type == "warning" and policy):
            visit.console.append(message.text)

    def request(asked):
        if not asked.url.startswith((server, "data:", "blob:")):
            visit.foreign.append(asked.url)

    handlers = {
        "console": console,
        "request": request,
        "pageerror": lambda error: visit.console.append(str(error)),
        "requestfailed": lambda failed: visit.console.append(f"failed: {failed.url}"),
        "response": lambda got: visit.console.append(f"{got.status}: {got.url}") if got.status >= 400 else None,
    }
    for event, handler in handlers.items():
        page.on(event, handler)
    yield
    for event, handler in handlers.items():
        page.remove_listener(event, handler)


def look_at(page, server: str, name: str, axe: str) -> Visit:
    """Load a page once, and see it with a wide window, by keyboard, in both themes, on a phone and on paper."""
    visit = Visit(name)
    with listening(page, server, visit):
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(media="screen", color_scheme="light")
        page.goto(server + name)
        page.evaluate(SETTLE)
        loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        visit.weight = weight(name, {urlsplit(one).path for one in loaded if one.startswith(server)})
        visit.pictures = [tuple(one) for one in page.evaluate(FIGURES)]
        step_through(page, visit)
        audit(page, visit, axe)
        generated = name.startswith(("api/generated/", "genindex"))
        for width in WIDTHS[:1] if generated else WIDTHS:
            page.set_viewport_size({"width": width, "height": 740})
            if width == WIDTHS[0]:
                visit.cut = page.evaluate(CUT, False)
            if not generated:
                path = SCREENSHOTS / f"{name.removesuffix('.html').replace('/', '-')}-{width}.jpg"
                page.screenshot(path=path, full_page=True, type="jpeg", quality=60)
                visit.screenshots += 1
        page.set_viewport_size({"width": PAPER, "height": 1050})
        page.emulate_media(media="print")
        visit.printed = page.evaluate(PRINT) + page.evaluate(CUT, True)
    return visit


def step_through(page, visit: Visit) -> None:
    """Press Tab from the top of the page on, and note stops that do not show that they have the focus."""
    page.evaluate(REMEMBER)
    for _ in range(TABS):
        page.keyboard.press("Tab")
        shown = page.evaluate(FOCUSED)
        if shown is None:
            break
        visit.focused += 1
        if not shown[1]:
            visit.focus.append(shown[0])
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


def audit(page, visit: Visit, axe: str) -> None:
    """Run axe-core in both themes; leave the page in the light one."""
    page.evaluate(axe)
    # only colours depend on the theme, and only what scrolls and what can be touched on the width
    for theme, width, rules in (
        ("light", 1280, None),
        ("dark", 1280, ["color-contrast", "link-in-text-block"]),
        ("dark", 360, ["scrollable-region-focusable", "target-size"]),
    ):
        page.emulate_media(color_scheme=theme)
        page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
        if width != page.viewport_size["width"]:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(600)  # the theme looks for what scrolls a while after the width has changed
        found = page.evaluate(AXE, [TAGS, rules])
        visit.passed |= set(found["passed"])
        for rule, impact, nodes in found["violations"]:
            visit.impacts[impact] += 1
            if impact in ("serious", "critical"):
                visit.axe.append(f"{theme}, {width} px: {rule} {impact}, {len(nodes)} times: {'; '.join(nodes[:3])}")
    page.emulate_media(color_scheme="light")


def weight(name: str, paths: set[str]) -> int:
    """Return the bytes of a page with what it loads, without what all pages share."""
    own = {unquote(path).lstrip("/") for path in paths} | {name}
    files = (SITE / one for one in own if not SHARED.match(one))
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.fixture(scope="module")
def visits(site, server, launch, axe):
    """Look at every page, with as many browsers as there are cores."""
    start, options = launch
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in sorted(pages(), key=lambda one: one.startswith("api/generated/")):  # the long ones first
        waiting.put(name)

    def work(_: int) -> list[Visit]:
        found = []
        with start() as started:
            browser = started.chromium.launch(**options)
            page = browser.new_context(reduced_motion="reduce").new_page()
            page.set_default_timeout(120_000)
            while True:
                try:
                    name = waiting.get_nowait()
                except queue.Empty:
                    break
                found.append(look_at(page, server, name, axe))
            browser.close()
        return found

    count = os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        return sorted((visit for done in pool.map(work, range(count)) for visit in done), key=lambda visit: visit.name)


def report(found: dict[str, list[str]]) -> None:
    """Fail with all findings, if there are any, and the pages that they are on."""
    where = defaultdict(list)
    for page, findings in found.items():
        for finding in findings:
            where[finding].append(page)
    lines = [
        f"{finding} [{len(names)} times: {', '.join(dict.fromkeys(names[:4]))}]"
        for finding, names in sorted(where.items(), key=lambda one: -len(one[1]))
    ]
    assert not lines, "\n".join(["", *lines])


def test_nothing_fails_and_nothing_is_asked_of_others(visits, figures):
    assert len(visits) == len(pages()) > 30
    wrong = {visit.name: visit.console + visit.foreign for visit in visits}
    figures(
        "site",
        pages=len(visits),
        console_errors=sum(len(visit.console) for visit in visits),
        foreign_requests=sum(len(visit.foreign) for visit in visits),
    )
    report(wrong)


def test_pages_fit_a_phone(visits):
    report({visit.name: visit.cut for visit in visits})


def test_axe_finds_nothing_serious(visits, figures):
    impacts = sum((visit.impacts for visit in visits), Counter())
    passed = set().union(*(visit.passed for visit in visits))
    assert {"color-contrast", "image-alt", "html-has-lang", "link-name"} <= passed  # it did look
    figures("site", axe_rules_passed=len(passed), serious=impacts["serious"], critical=impacts["critical"])
    report({visit.name: visit.axe for visit in visits})


def test_figures_say_what_they_show(visits, figures):
    wrong, shown = defaultdict(list), 0
    for visit in visits:
        for source, text, named in visit.pictures:
            if text is None:
                wrong[visit.name].append(f"{source} has no alternative text")
            elif not named:
                shown += 1
                words = text.split()
                if len(text) < 40 or len(words) < 7 or re.search(r"\.(png|jpe?g|svg)\b", text):
                    wrong[visit.name].append(f"{source} says no more than {text!r}")
                elif "  " in text or text != text.strip() or not text.rstrip("?").endswith("."):
                    wrong[visit.name].append(f"{source} has no sentence: {text!r}")
    figures("site", figures=shown)
    assert shown > 50
    report(wrong)


def test_focus_is_seen(visits, figures):
    figures("site", focus_stops=sum(visit.focused for visit in visits))
    assert all(visit.focused > 5 for visit in visits)
    report({visit.name: visit.focus for visit in visits})


def test_pages_are_light(visits, figures):
    worst = max(visits, key=lambda visit: visit.weight)
    figures("site", worst_page_kb=round(worst.weight / 1000), worst_page=worst.name)
    assert {visit.name: visit.weight for visit in visits if visit.weight > LIMIT} == {}


def test_pages_print_well(visits):
    report({visit.name: visit.printed for visit in visits})


def test_a_dark_page_is_printed_in_light_colours(page, server):
    page.emulate_media(color_scheme="dark")
    page.goto(f"{server}guide/records.html")
    page.evaluate("addEventListener('beforeprint', () => { window.printed = document.documentElement.dataset.theme })")
    page.pdf()
    assert page.evaluate("[window.printed, document.documentElement.dataset.theme]") == ["light", "dark"]


def test_charts_turn_dark_with_the_page_and_photos_do_not(page, server):
    page.emulate_media(color_scheme="dark")
    page.goto(f"{server}auto_examples/plot_q3_feature_maps.html")
    shown = ".bd-article .sheet-frame"
    charts, photos = page.locator(f"{shown}.chart img"), page.locator(f"{shown}:not(.chart) img")
    for images, turned in ((charts, True), (photos, False)):
        assert images.count() >= 1
        filters = images.evaluate_all("all => all.map(image => getComputedStyle(image).filter)")
        assert {"invert" in one for one in filters} == {turned}


def test_screenshots_are_kept(visits, figures):
    kept = list(SCREENSHOTS.glob("*.jpg"))
    assert len(kept) == sum(visit.screenshots for visit in visits) > 60
    figures("site", screenshots=len(kept))


@pytest.fixture
def page(server, launch):
    start, options = launch
    with start() as started:
        browser = started.chromium.launch(**options)
        opened = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def results(page) -> list[str]:
    """Return the pages that a search lists, without anchors, the first first."""
    done = "/Search finished|did not match/.test(document.querySelector('#search-results').textContent)"
    page.wait_for_function(done)
    links = page.locator("#search-results ul.search a").evaluate_all("all => all.map(link => link.pathname)")
    return list(dict.fromkeys(link.strip("/").removesuffix(".html") for link in links))


def test_search_finds_each_chapter(page, server, figures):
    chapters = {one.removesuffix(".html") for one in pages() if one.startswith("auto_examples/plot_")}
    assert chapters <= set(SEARCHES.values())
    missed = {}
    for words, wanted in SEARCHES.items():
        page.goto(f"{server}search.html?q={quote(words)}")
        found = results(page)
        if wanted not in found[:12]:
            missed[words] = found[:12]
    figures("site", searches=len(SEARCHES))
    assert missed == {}


def test_search_by_keyboard(page, server):
    page.goto(f"{server}index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("residual connections")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    assert "auto_examples/plot_q2_residual" in results(page)


def test_the_skip_link_leads_past_the_navigation(page, server):
    for name in ("index.html", "auto_examples/plot_q1_cnn.html", "api/index.html"):
        page.goto(server + name)
        page.keyboard.press("Tab")
        page.evaluate(f"Promise.all({MOVING})")
        link = page.locator(":focus")
        assert link.get_attribute("href") == "#main-content"
        assert link.bounding_box()["y"] >= 0  # and it is in sight
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("Boolean(document.activeElement.closest('#main-content'))")


def test_chapters_lead_to_those_before_and_after(site):
    from cnnhw_docs import order

    names, found = order.chapters(), []
    for name in names:
        html = (SITE / "auto_examples" / f"{name}.html").read_text(encoding="utf-8")
        found.append([re.findall(rf'class="{side}"\s+href="(\S+)\.html', html) for side in ("left-prev", "right-next")])
    assert found == [
        [[one] if one else [] for one in (before, after)]
        for before, after in zip([None, *names[:-1]], [*names[1:], None], strict=True)
    ]
    assert "left-prev" not in (SITE / "glossary.html").read_text(encoding="utf-8")


def test_the_card_of_a_verdict_opens_by_pointer_and_keyboard(page, server):
    page.goto(f"{server}start/student.html")
    mark = page.locator("button[popovertarget]").first
    card = page.locator(f"#{mark.get_attribute('popovertarget')}")
    assert not card.is_visible()
    mark.hover()
    card.wait_for(state="visible")
    near, there = mark.bounding_box(), card.bounding_box()
    assert abs(there["y"] - near["y"] - near["height"]) < 20  # beside the mark
    card.hover()
    page.wait_for_timeout(500)
    assert card.is_visible()  # it stays while it is pointed at
    page.mouse.move(5, 5)
    card.wait_for(state="hidden")

    mark.evaluate("mark => { mark.parentNode.tabIndex = -1; mark.parentNode.focus() }")
    page.keyboard.press("Tab")
    card.wait_for(state="visible")
    page.keyboard.press("Tab")
    assert page.locator(":focus").get_attribute("href").startswith("../claims.html#question-")
    page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    page.keyboard.press("Enter")
    card.wait_for(state="visible")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    card.wait_for(state="hidden")


@pytest.mark.parametrize("scripts", [True, False])
def test_the_card_of_a_verdict_opens_by_a_tap_and_without_scripts(server, launch, scripts):
    start, options = launch
    with start() as started:
        browser = started.chromium.launch(**options)
        phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "java_script_enabled": scripts}
        opened = browser.new_context(**phone).new_page()
        opened.goto(f"{server}start/student.html")
        mark = opened.locator("button[popovertarget]").first
        card = opened.locator(f"#{mark.get_attribute('popovertarget')}")
        assert not card.is_visible()
        mark.tap()
        card.wait_for(state="visible")
        place = card.bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= 360
        card.get_by_role("link").tap()
        opened.wait_for_url("**/claims.html#question-*")
        browser.close()


def test_the_card_of_a_term_opens_by_pointer_keyboard_and_tap(page, server):
    address = f"{server}auto_examples/plot_q1_cnn.html"
    page.goto(address)
    link = page.locator("a.term-link").first
    card = page.locator(".term-card").first
    assert not card.is_visible()
    link.hover()
    card.wait_for(state="visible")
    assert len(card.inner_text()) > 40
    page.mouse.move(5, 5)
    card.wait_for(state="hidden")
    link.evaluate("link => { link.parentNode.tabIndex = -1; link.parentNode.focus() }")
    while page.evaluate("!document.activeElement.matches('a.term-link')"):
        page.keyboard.press("Tab")
    page.locator(".term-card:popover-open").wait_for(state="visible")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_url("**/glossary.html#term-*")

    phone = page.context.browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True).new_page()
    phone.goto(address)
    phone.locator("a.term-link").first.tap()
    shown = phone.locator(".term-card:popover-open")
    shown.wait_for(state="visible")
    assert phone.url == address
    assert shown.bounding_box()["x"] + shown.bounding_box()["width"] <= 360
    phone.locator("a.term-link").first.tap()
    phone.wait_for_url("**/glossary.html#term-*")


def test_a_chapter_is_printed_without_its_code(page, server):
    page.goto(f"{server}auto_examples/plot_q1_cnn.html")
    page.evaluate("window.print = () => { window.printed = document.documentElement.className }")
    page.get_by_role("button", name="Print without code").click()
    assert "without-code" in page.evaluate("window.printed")
    page.emulate_media(media="print")
    code = page.locator("div.highlight-Python").first
    assert not code.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert code.is_visible()


def test_a_chapter_offers_to_guess_once_a_question_of_it_was_run(page, server, site):
    from cnnhw.book.registry import QUESTIONS
    from cnnhw_docs import order, verdicts

    run = {one.chapter for one in verdicts.said().values() if one.decides and one.finding != verdicts.NOT_RUN}
    asked = {one.chapter for one in QUESTIONS if one.role != "exploratory"}
    names = {f"auto_examples/{order.page(chapter)}.html": chapter in run for chapter in asked | run}
    for name, offered in (names | {"claims.html": bool(run)}).items():
        page.goto(server + name)
        assert page.locator("#guess-first:not(.guess-quiet)").count() == offered, name
        if offered:
            switch = page.get_by_role("switch", name="Guess first")
            switch.click()
            assert page.locator(".guess:visible").count()
            switch.click()
        # what would be covered has its class all the time; the switch covers it
        assert not page.locator(".guess:visible, html[data-guess=on] .guess-covered").count()


class Links(HTMLParser):
    """Addresses and targets of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.targets: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.targets |= {given[name] for name in ("id", "name") if name in given}
        self.addresses |= {given[name] for name in ("href", "src") if name in given}


def test_every_link_resolves(site, figures):
    parsed = {name: Links(site / name) for name in pages()}
    wrong, count = defaultdict(list), 0
    for name, links in parsed.items():
        for address in links.addresses:
            count += 1
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                well = re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc) and parts.scheme in ("http", "https")
                if not well and parts.scheme not in ("data", "mailto"):
                    wrong[name].append(f"{address} is not well-formed")
                continue
            target = ((site / name).parent / unquote(parts.path)).resolve() if parts.path else site / name
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                wrong[name].append(f"{address} leads nowhere")
            elif parts.fragment.startswith("network="):  # of the explorer, and checked when the site is built
                continue
            elif parts.fragment and target.suffix == ".html":
                there = target.relative_to(site.resolve()).as_posix()
                if there in parsed and unquote(parts.fragment) not in parsed[there].targets:
                    wrong[name].append(f"{address} has no such place")
    figures("site", links=count)
    assert count > 1000
    report(wrong)
