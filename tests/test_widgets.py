"""What may be tried inside the pages: it computes what PyTorch and the package do, by mouse, keyboard and touch."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")
DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

import cnnhw
from cnnhw import features, models, theory
from cnnhw_docs import notebooks, widgets

PAGES = {
    "convolution": "q1_cnn",
    "gradient": "q2_residual",
    "shift": "ii_transition_pooling",
    "budget": "iii_extractor",
    "first_layer": "q3_feature_maps",
}
WIDGET = """.. widget:: {name}
   :title: Try {name}

   What it shows.
"""


def built(folder, text):
    """Build a page in the site's theme; return its warnings."""
    (folder / "docs").mkdir()
    (folder / "docs" / "index.rst").write_text(f"Page\n====\n\n{text}", encoding="utf-8")
    said = io.StringIO()
    settings = {
        "extensions": ["cnnhw_docs.widgets"],
        "html_theme": "pydata_sphinx_theme",
        "html_static_path": [str(DOCS / "_static"), str(DOCS.parent / "cnnhw" / "web" / "cnn.js")],
    }
    with patch_docutils(), docutils_namespace():
        Sphinx(
            folder / "docs", None, folder / "html", folder / "trees", "html", confoverrides=settings, status=None,
            warning=said,
        ).build()  # fmt: skip
    return said.getvalue()


def test_each_widget_is_on_its_page_with_a_text():
    assert set(PAGES) == set(widgets.names())
    for name, page in PAGES.items():
        (path,) = (DOCS.parent / "examples").glob(f"plot_{page}*.py")
        assert f".. widget:: {name}\n" in path.read_text(encoding="utf-8")


def test_a_notebook_says_what_the_page_has():
    said = notebooks.text("Before.\n\n" + WIDGET.format(name="shift") + "\nAfter.\n")
    assert said == "Before.\n\n*To be tried on the page:* Try shift. What it shows.\n\nAfter.\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            WIDGET.format(name="shifts"),
            "there is no widget 'shifts'; there are budget, convolution, first_layer,",
        ),
        (".. widget:: shift\n\n   What it shows.\n", "widget shift needs a title and a text"),
        (".. widget:: shift\n   :title: Try\n", "widget shift needs a title and a text"),
    ],
)
def test_a_widget_that_cannot_be_shown_is_an_error(tmp_path, text, message):
    assert message in built(tmp_path, text)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widgets")
    assert not built(folder, "\n".join(WIDGET.format(name=name) for name in widgets.names()))
    return folder / "html" / "index.html"


@pytest.fixture
def page(browser, site, request):
    settings = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
    page = browser.new_page(**settings | getattr(request, "param", {}))
    asked, errors = [], []
    page.on("request", lambda one: asked.append(one.url))
    page.on("pageerror", lambda one: errors.append(str(one)))
    page.goto(site.as_uri())
    for place in page.locator(".widget-place").all():
        place.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelectorAll('.widget-place[data-started]').length === 5")
    yield page
    page.close()
    assert not errors
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
class TestInTheBrowser:
    def place(self, page, name):
        return page.locator(f"[data-widget={name}]")

    def test_a_convolution_by_hand(self, page):
        place = self.place(page, "convolution")
        picture, sums = place.locator(".widget-grid").first.locator("button"), place.locator(".widget-grid").last
        weights = place.locator(".widget-grid input")

        def shown():
            cells, kernel, found = (
                [float(text.replace("−", "-")) for text in texts]
                for texts in (
                    picture.all_inner_texts(),
                    [one.input_value() for one in weights.all()],
                    sums.locator("button").all_inner_texts(),
                )
            )
            given = torch.tensor(cells).view(1, 1, 7, 7), torch.tensor(kernel).view(1, 1, 3, 3)
            assert functional.conv2d(*given).flatten().tolist() == found
            return found

        before = shown()
        picture.nth(24).click()
        assert shown() != before
        place.get_by_role("button", name="spots").click()
        weights.nth(4).fill("-3")
        found = shown()
        sums.locator("button").nth(7).focus()  # by keyboard
        said = place.locator(".widget-said").inner_text().replace("−", "-").replace("·", "*")
        terms, _, total = said.partition(" = ")
        assert eval(terms) == float(total) == found[7]

    def test_a_texture_disappears_and_only_subsampling_shows_its_shift(self, page):
        place = self.place(page, "shift")
        place.get_by_role("button", name="texture").click()
        place.locator("input[type=range]").fill("1")
        said = place.locator(".widget-said").inner_text()
        assert said.startswith(
            "Moved by 1: average changed by 0 %, maximum changed by 0 %, every second cell changed by 100 %"
        )
        place.get_by_role("button", name="spot").click()
        place.locator("input[type=range]").fill("2")
        assert (
            "average changed by 0 %, maximum changed by 0 %, every second cell changed by 0 %"
            in place.locator(".widget-said").inner_text()
        )
        place.get_by_role("button", name="blob").click()
        place.locator("input[type=range]").fill("1")
        percents = [int(one) for one in re.findall(r"(\d+) %", place.locator(".widget-said").inner_text())]
        at = np.arange(12)
        blob = np.exp(-((at[:, None] - 5.5) ** 2 + (at[None] - 5.5) ** 2) / 6)
        pool = {
            "average": lambda x: x.reshape(6, 2, 6, 2).mean((1, 3)),
            "maximum": lambda x: x.reshape(6, 2, 6, 2).max((1, 3)),
            "second": lambda x: x[::2, ::2],
        }
        for percent, reduce in zip(percents, pool.values(), strict=True):
            old, new = reduce(blob), reduce(np.roll(blob, 1, 1))
            least = min(((new - np.roll(old, by, 1)) ** 2).sum() for by in range(6))
            assert percent == pytest.approx(100 * (least / (old**2).sum()) ** 0.5, abs=0.51)

    def test_budget_and_field_are_those_of_the_package(self, page):
        place = self.place(page, "budget")
        sliders = place.locator("input[type=range]")
        for side, stages, each, kernel, width, head in (
            (64, 4, 1, 3, 16, "average"),
            (96, 3, 2, 5, 8, "flatten"),
            (128, 5, 3, 7, 24, "flatten, hidden layer"),
        ):
            for number, value in enumerate((side, stages, each, width)):
                sliders.nth(number).fill(str(value))
            place.get_by_role("button", name=str(kernel), exact=True).click()
            place.get_by_role("button", name=head, exact=True).click()
            options = dict(re.findall(r"--option (\w+)=(\S+)", place.locator("code").inner_text()))
            model = models.create("plain", 5, size=side, **options)
            layers = theory.layers(model)
            said = place.inner_text()
            for what, title in (("parameters", "Parameters"), ("macs", "Multiply-adds")):
                assert f"{title}: {sum(getattr(layer, what) for layer in layers):,}," in said
            wide = theory.layers(models.create("plain", 5, size=1024, **options | {"head": "average"}))
            field = max(layer.field for layer in wide if layer.name.startswith("features."))
            assert f"receptive field {field} of {side} pixels" in said

    def test_a_first_layer_is_that_of_the_package_before_and_after_its_training(self, page):
        place = self.place(page, "first_layer")
        given = json.loads(widgets.first_layer())
        side, size = given["kernel"], given["side"]
        photo = torch.frombuffer(bytearray(base64.b64decode(given["photo"])), dtype=torch.uint8).view(1, 3, size, size)
        ends = [
            torch.frombuffer(bytearray(base64.b64decode(given[end])), dtype=torch.float32).view(-1, 3, side, side)
            for end in ("start", "end")
        ]
        assert torch.equal(ends[1], cnnhw.load("first_layer").features.conv1.weight.float())
        for share, words in ((0, "Untrained"), (0.5, "50 % of the way"), (1, "Trained")):
            place.locator("input[type=range]").fill(str(share))
            maps = functional.conv2d(photo / 255, ends[0] + share * (ends[1] - ends[0]), padding=side // 2)
            mean = float(features.first_layer.edge_correlation(maps, photo)["magnitude"].mean())
            assert place.locator(".widget-said").inner_text().startswith(f"{words}: ")
            found = float(re.search(r"by (\d\.\d\d)", place.locator(".widget-said").inner_text())[1])
            assert found == pytest.approx(mean, abs=0.0051)
        assert place.locator("canvas").count() == 10

    def test_shortcuts_keep_the_gradient_of_a_deep_network(self, page):
        place = self.place(page, "gradient")
        place.locator("input[type=range]").first.fill("40")
        said = place.locator(".widget-said").inner_text()
        assert re.search("without: 10⁻[⁰¹²³⁴⁵⁶⁷⁸⁹]+ times", said)
        assert re.search("with shortcuts: ([\\d.]+|10[⁰¹²³⁴⁵⁶⁷⁸⁹]+) times", said)
        place.get_by_role("button", name="batch norm").click()
        normed = place.locator(".widget-said").inner_text()
        assert normed != said
        place.get_by_role("button", name="Other random weights").click()
        assert place.locator(".widget-said").inner_text() != normed

    @pytest.mark.parametrize(
        "page",
        [
            {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"},
            {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
        ],
        indirect=True,
        ids=["phone", "desktop"],
    )
    def test_it_fits_and_can_be_read_by_all(self, page):
        package = pytest.importorskip("axe_playwright_python")
        wide = page.viewport_size["width"]
        rights = "[...document.querySelectorAll('.widget *')].map(one => one.getBoundingClientRect().right)"
        assert max(page.evaluate(rights)) <= wide
        page.evaluate((Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = page.evaluate(
            "axe.run('.widget').then(found => found.violations.map(one => [one.id, one.nodes[0].html]))"
        )
        assert found == []

    def test_it_waits_to_be_seen_and_reads_without_script(self, browser, site):
        page = browser.new_page(java_script_enabled=False)
        page.goto(site.as_uri())
        assert page.get_by_text("What it shows.").count() == 5
        page.close()
        page = browser.new_page(viewport={"width": 400, "height": 300})
        page.goto(site.as_uri())
        page.wait_for_selector("[data-widget=budget][data-started]", state="attached")
        assert page.locator("[data-started]").count() < 5
        page.close()
