"""The interactive figure: its data by themselves, and the page as readers use it, in a browser."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("sphinx", reason="needs the docs extra")
DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

import cnnhw
from cnnhw import models
from cnnhw_docs import explorer, explorer_maps

SIZES = {"q1_shallow": 128, "fast": 64}
pytestmark = pytest.mark.xdist_group("explorer")  # one page for all, and one browser


def make_networks():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {name: models.create(name, size=size).eval() for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def networks():
    return make_networks()


@pytest.fixture(scope="module")
def site(tmp_path_factory, networks):
    """Write a page with nothing but the figure; return its folder and what the figure was told."""
    folder = tmp_path_factory.mktemp("site")
    described = explorer_maps.write(folder / "data", networks)
    for name in ("explorer.js", "explorer.css"):
        shutil.copy(DOCS / "_static" / name, folder)
    (folder / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="explorer.css">'
        f"<title>Explorer</title>{explorer.markup(described, 'data/')}"
        '<script src="explorer.js"></script></html>',
        encoding="utf-8",
    )
    return folder, described


def layer_of(described, network, name):
    (found,) = (one for one in described["networks"] if one["name"] == network)
    (layer,) = (one for one in found["layers"] if one["name"] == name)
    return explorer_maps.Shown(**layer)


def codes_of(folder, network, photo, layer):
    """Read a file of maps as the page does."""
    text = (folder / "data" / f"{network}-{photo}-{layer.name}.js").read_text()
    raw = base64.b64decode(re.fullmatch(r'cnnhwMaps\["[^"]+"\]="([^"]+)"\n', text)[1])
    return np.frombuffer(raw, np.uint8).reshape(layer.channels, layer.cells, layer.cells)


def test_every_convolution_and_at_least_six_photos(site, networks):
    _, described = site
    assert len(described["photos"]) >= 6
    for network in described["networks"]:
        convolutions = sum(isinstance(part, nn.Conv2d) for part in networks[network["name"]].modules())
        assert len(network["layers"]) == convolutions
        assert all(layer["cells"] <= explorer_maps.SIDE for layer in network["layers"])


@pytest.mark.parametrize(("network", "name"), [("q1_shallow", "conv1"), ("q1_shallow", "conv3"), ("fast", "stage3.0")])
def test_files_give_back_the_maps(site, networks, network, name):
    folder, described = site
    layer = layer_of(described, network, name)
    model = networks[network]
    images = torch.stack([photo.pixels[model.size] for photo in explorer_maps.photos({model.size})]) / 255
    maps = explorer_maps.convolution_outputs(model, images)[name]
    assert float(maps.abs().max()) == pytest.approx(layer.scale)  # one scale for all photos and channels
    for photo in range(len(images)):
        found = explorer_maps.restore(codes_of(folder, network, photo, layer), layer.scale)
        rows = [layer.first + layer.every * i for i in range(layer.cells)]
        expected = maps[photo][:, rows][:, :, rows]
        assert float((found - expected).abs().max()) <= 2 * layer.scale / 255


def test_filters_are_the_weights(site, networks):
    for network, name, shape in (("fast", "stem", (24, 4, 4, 3)), ("q1_shallow", "conv2", (32, 3, 3))):
        layer = layer_of(site[1], network, name)
        codes = np.frombuffer(base64.b64decode(layer.filters), np.uint8).reshape(shape)
        weights = dict(networks[network].features.named_modules())[name].weight.detach()
        expected = weights.permute(0, 2, 3, 1) if len(shape) == 4 else weights.mean(1)
        for one, scale, wanted in zip(codes, layer.weights, expected, strict=True):
            assert float((explorer_maps.restore(one, scale) - wanted).abs().max()) <= scale / 100
            assert set(one.flatten().tolist()) & {0, 254}  # the largest weight ends the scale


def test_zero_has_a_code_of_its_own():
    values = torch.tensor([-2.0, 0.0, 2.0])
    assert explorer_maps.quantise(values, 2.0).tolist() == [0, 127, 254]
    assert explorer_maps.restore(explorer_maps.quantise(values, 2.0), 2.0).tolist() == [-2, 0, 2]
    assert explorer_maps.quantise(torch.zeros(3), 0.0).tolist() == [127] * 3  # a layer that does nothing


def test_a_dead_channel_is_uniform(tmp_path):
    model = models.create("q1_shallow", size=32).eval()
    with torch.no_grad():
        model.features.conv2.weight[3] = 0
        model.features.conv2.bias[3] = 0
    described = explorer_maps.write(tmp_path / "data", {"q1_shallow": model})
    layer = layer_of(described, "q1_shallow", "conv2")
    for photo in range(len(described["photos"])):
        codes = codes_of(tmp_path, "q1_shallow", photo, layer)
        assert set(codes[3].flatten().tolist()) == {127}
        assert len(set(codes[4].flatten().tolist())) > 10


@pytest.mark.parametrize("network", ["q1_shallow", "fast"])
def test_boxes_are_where_the_gradient_reaches(site, network):
    _, described = site
    model = make_networks()[network]
    for module in model.modules():  # nothing may hide a pixel: no winner, no sign, no cancelling
        for name, part in list(module.named_children()):
            if isinstance(part, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(part.kernel_size))
            elif isinstance(part, nn.ReLU):
                setattr(module, name, nn.Identity())
            elif type(part).__name__ == "Signs":
                setattr(module, name, Twice())
    with torch.no_grad():
        for parameter in model.features.parameters():
            parameter.copy_(parameter.abs() + 0.01)
    parts = dict(model.features.named_modules())
    (layers,) = (one["layers"] for one in described["networks"] if one["name"] == network)
    for described_layer in layers:
        layer = explorer_maps.Shown(**described_layer)
        for row, column in ((0, layer.side - 1), (layer.side // 2, layer.side // 3)):
            kept = []
            hook = parts[layer.name].register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
            photo = torch.full((1, 3, model.size, model.size), 0.5, requires_grad=True)
            model.forward_features(photo)
            hook.remove()
            (gradient,) = torch.autograd.grad(kept[0][0, 0, row, column], photo)
            reached = gradient[0].abs().sum(0) > 0
            for index, axis in ((row, 1), (column, 0)):
                pixels = reached.any(axis).nonzero().flatten().tolist()
                assert explorer_maps.box(layer, index, model.size) == (pixels[0], pixels[-1]), layer.name


class Twice(nn.Module):
    """Takes the place of ``Signs``: as many channels, and nothing that a sum could cancel."""

    def forward(self, x):
        return torch.cat([x, x], 1)


def test_the_last_cells_of_fast_see_the_whole_photo(site):
    layer = layer_of(site[1], "fast", "residual3_1.inner.3")
    assert {explorer_maps.box(layer, i, 64) for i in range(layer.side)} == {(0, 63)}


def test_what_is_no_longer_needed_is_removed(tmp_path):
    (tmp_path / "old-0-conv1.js").write_text("")
    explorer_maps.write(tmp_path, {"q1_shallow": models.create("q1_shallow", size=16)})
    assert not (tmp_path / "old-0-conv1.js").exists()
    assert (tmp_path / "q1_shallow-6-conv3.js").exists()


def test_initial_files_exist_and_are_small(site):
    folder, described = site
    sizes = [(folder / "data" / name).stat().st_size for name in explorer.initial_files(described)]
    assert sum(sizes) < 300_000
    page = folder / "index.html"
    assert explorer.loaded(page, folder, []) == page.stat().st_size + sum(
        (folder / name).stat().st_size for name in ("explorer.css", "explorer.js")
    )


def build(folder, monkeypatch, load):
    """Build two pages, one of them with the figure; return their HTML and the warnings."""
    monkeypatch.setattr(explorer_maps, "load_networks", load)
    (folder / "docs" / "_static").mkdir(parents=True)
    for name in ("explorer.js", "explorer.css"):
        shutil.copy(DOCS / "_static" / name, folder / "docs" / "_static")
    (folder / "docs" / "index.rst").write_text("T\n=\n\n.. toctree::\n\n   deep/page\n")
    (folder / "docs" / "deep").mkdir()
    (folder / "docs" / "deep" / "page.rst").write_text("P\n=\n\n.. feature-explorer::\n")
    warnings = io.StringIO()
    settings = {"extensions": ["cnnhw_docs.explorer"], "html_static_path": ["_static"]}
    places = (folder / "docs", None, folder / "html", folder / "trees", "html")
    with patch_docutils(), docutils_namespace():
        Sphinx(*places, confoverrides=settings, status=None, warning=warnings).build()
    pages = [(folder / "html" / f"{name}.html").read_text(encoding="utf-8") for name in ("index", "deep/page")]
    return pages, warnings.getvalue()


def small():
    return {"q1_shallow": models.create("q1_shallow", size=16)}


def test_directive_loads_its_assets_on_its_own_page_only(tmp_path, monkeypatch):
    (index, page), warnings = build(tmp_path, monkeypatch, small)
    assert not warnings
    assert '<figure class="explorer" data-base="../_static/generated/explorer/"' in page
    for name in ("explorer.js", "explorer.css"):
        assert name in page
        assert name not in index
    assert (tmp_path / "html/_static/generated/explorer/q1_shallow-6-conv3.js").exists()


def test_a_page_that_is_too_heavy_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "LIMIT", 10_000)
    _, warnings = build(tmp_path, monkeypatch, small)
    assert re.search(r"page.rst: WARNING: the page loads \d{5,} bytes, more than 10000", warnings)


def test_weights_that_are_missing_are_an_error_on_the_page(tmp_path, monkeypatch):
    (_, page), warnings = build(tmp_path, monkeypatch, lambda: {"none": cnnhw.load(tmp_path / "none")})
    assert "ERROR: no weights at" in warnings
    assert "<figure" not in page


# in a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(site):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site[0]))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/index.html"
        running.shutdown()


@pytest.fixture(params=["http", "file"])
def address(request, site):
    """Give the page from a server, and from a folder, where scripts may not read pictures."""
    return request.getfixturevalue("server") if request.param == "http" else (site[0] / "index.html").as_uri()


@pytest.fixture
def visit(browser):
    """Open a page; afterwards, nothing may have gone wrong, and no request may have left the site."""
    contexts, problems, requests = [], [], []

    def opened(address, **options):
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)  # also on a machine that has other things to do
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.on("request", lambda request: requests.append((address, request.url)))
        page.goto(address)
        if options.get("java_script_enabled", True):
            settle(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
    assert requests
    for start, url in requests:
        assert url.startswith("data:") or urlsplit(url)[:2] == urlsplit(start)[:2]


def settle(page):
    page.wait_for_selector("figure.explorer[aria-busy=false]")


def said(page):
    return page.locator(".explorer-said").inner_text()


def pixels(page, what):
    """Read a canvas; this fails if anything from elsewhere was drawn on it."""
    return page.evaluate(f"document.querySelector('canvas.explorer-{what}').toDataURL()")


@pytest.mark.browser
def test_clicks_change_map_and_text(site, address, visit):
    folder, described = site
    page = visit(address)
    seen = [(pixels(page, "map"), said(page))]
    assert seen[0][1].startswith("Layer conv1, channel 0, row 66, column 66: value ")

    page.locator(".explorer-photos label").nth(5).click()
    settle(page)
    assert page.locator("#explorer-photo-title").inner_text() == "Photo china.jpg"
    seen.append((pixels(page, "map"), said(page)))
    page.select_option("#explorer-layer", "1")
    settle(page)
    assert page.locator(".explorer-grid button").count() == 32
    seen.append((pixels(page, "map"), said(page)))
    page.get_by_role("radio", name="channel 7", exact=True).click()
    assert page.locator("#explorer-channel").input_value() == "7"
    seen.append((pixels(page, "map"), said(page)))
    box = page.locator("canvas.explorer-map").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 4.5 / 32, box["y"] + box["height"] * 10.5 / 32)
    seen.append((pixels(page, "map"), said(page)))
    assert len({one for one, _ in seen}) == len({text for _, text in seen}) == len(seen)

    layer = layer_of(described, "q1_shallow", "conv2")
    value = explorer_maps.restore(codes_of(folder, "q1_shallow", 5, layer), layer.scale)[7, 10, 4]
    row, column = (layer.first + layer.every * cell for cell in (10, 4))
    (left, right), (top, bottom) = (explorer_maps.box(layer, index, 128) for index in (column, row))
    text = said(page).replace("−", "-")
    assert re.sub(r"value -?[\d.]+", "value V", text) == (
        f"Layer conv2, channel 7, row {row}, column {column}: value V; "
        f"sees pixels {left} to {right} across and {top} to {bottom} down."
    )
    assert float(re.search(r"value (-?[\d.]+)", text)[1]) == pytest.approx(float(value), abs=layer.scale / 127)

    page.get_by_label("fast").check()
    settle(page)
    assert page.locator("#explorer-layer option").count() == 8
    assert said(page).startswith("Layer stage1.0, channel 7, row 10, column 4: ")


@pytest.mark.browser
def test_the_photo_chooses_the_cell_below_the_pointer(address, visit):
    page = visit(address)
    page.select_option("#explorer-layer", "2")
    settle(page)
    box = page.locator("canvas.explorer-photo").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.9)
    found = re.search(r"pixels (\d+) to (\d+) across and (\d+) to (\d+) down", said(page))
    left, right, top, bottom = map(int, found.groups())
    assert left < 0.3 * 128 < right
    assert top < 0.9 * 128 < bottom


@pytest.mark.browser
def test_keyboard_alone(server, visit):
    page = visit(server)

    def focused():
        return page.evaluate(
            "(e => e.id || e.name || e.getAttribute('aria-label') || [...e.classList].join())(document.activeElement)"
        )

    def tab_to(wanted):
        for _ in range(12):
            page.keyboard.press("Tab")
            style = page.evaluate(
                "(e => [e, e.nextElementSibling || e].some(x => parseFloat(getComputedStyle(x).outlineWidth) >= 2 && "
                "getComputedStyle(x).outlineStyle !== 'none'))(document.activeElement)"
            )
            assert style, f"{focused()} does not show that it has the focus"
            if focused() == wanted:
                return
        raise AssertionError(f"Tab does not reach {wanted}")

    tab_to("explorer-layer")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    settle(page)
    tab_to("explorer-photo")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator("#explorer-photo-title").inner_text() == "Photo bird"
    tab_to("explorer-map")
    before = said(page)
    assert before.startswith("Layer conv3, channel 0, row 16, column 16:")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert said(page).startswith("Layer conv3, channel 0, row 15, column 17:")
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    assert "column 0:" in said(page)  # no further
    tab_to("explorer-channel")
    page.keyboard.press("ArrowRight")
    assert "channel 1," in said(page)
    tab_to("channel 1")  # the only small map that Tab reaches
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('.explorer-grid')).gridTemplateColumns.split(' ').length"
    )
    for key, channel in (("ArrowRight", 2), ("ArrowDown", 2 + columns), ("End", 63), ("ArrowRight", 63), ("Home", 0)):
        page.keyboard.press(key)
        assert f"channel {channel}," in said(page)
        assert focused() == f"channel {channel}"
    assert page.locator(".explorer-grid [tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    assert not focused().startswith("channel")


@pytest.mark.browser
@pytest.mark.parametrize("network", ["q1_shallow", "fast"])
def test_on_a_phone(server, visit, network):
    page = visit(server, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.get_by_label(network).check()
    for layer in range(page.locator("#explorer-layer option").count()):
        page.select_option("#explorer-layer", str(layer))
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    before = said(page)
    page.locator("canvas.explorer-map").tap(position={"x": 2, "y": 2})
    assert "row 0, column 0:" in said(page) != before
    page.get_by_role("button", name="one cell down").tap()
    assert "row 1, column 0:" in said(page)
    sizes = page.evaluate(
        "[...document.querySelectorAll('.explorer button, .explorer select, .explorer label:has(input)')]"
        ".map(e => e.getBoundingClientRect()).map(r => Math.min(r.width, r.height))"
    )
    assert min(sizes) >= 40  # CSS pixels, enough for a finger
    tops = page.evaluate("[...document.querySelectorAll('.explorer-grid button')].map(e => e.offsetTop)")
    assert min(b - a for a, b in itertools.pairwise(sorted(set(tops)))) >= 40  # and no row covers another
    last = int(page.locator("#explorer-channel").get_attribute("max"))
    page.locator("#explorer-channel").fill(str(last))
    button, grid = (page.locator(f".explorer-grid{part}").bounding_box() for part in (" [aria-checked=true]", ""))
    assert grid["y"] <= button["y"] <= grid["y"] + grid["height"] - button["height"]  # scrolled to


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "theme"), [("light", None), ("dark", None), ("light", "dark"), ("dark", "light")])
def test_colours_have_contrast_in_both_themes(server, visit, scheme, theme):
    page = visit(server, color_scheme=scheme)
    before = pixels(page, "map")
    if theme:
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        page.wait_for_timeout(200)
        assert pixels(page, "map") != before  # canvases follow
    named = page.evaluate(
        "['back', 'text', 'quiet', 'line', 'accent', 'low', 'zero', 'high'].map(name => [name, "
        "getComputedStyle(document.querySelector('.explorer')).getPropertyValue('--ex-' + name).trim()])"
    )
    colours = {name: bytes.fromhex(text[1:]) for name, text in named}
    dark = (theme or scheme) == "dark"
    assert (luminance(colours["back"]) < luminance(colours["text"])) == dark
    for text in ("text", "quiet"):
        assert contrast(colours[text], colours["back"]) >= 4.5  # WCAG 2.2, 1.4.3
    for line in ("line", "accent"):
        assert contrast(colours[line], colours["back"]) >= 3  # 1.4.11
    for end in ("low", "high"):
        assert contrast(colours[end], colours["zero"]) >= 3
    shown = page.evaluate(
        "[...document.querySelectorAll('.explorer :is(p, h2, legend, label, select, button, output)')]"
        ".map(e => getComputedStyle(e).color)"
    )
    for text in set(shown):
        assert contrast([int(part) for part in re.findall(r"\d+", text)[:3]], colours["back"]) >= 4.5


@pytest.mark.browser
def test_without_scripts_a_text_stands_in(server, visit):
    page = visit(server, java_script_enabled=False)
    assert "needs JavaScript" in page.locator(".explorer-plain").inner_text()
    assert not page.locator("figure.explorer").is_visible()
