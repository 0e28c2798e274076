"""The explorer: what it is given, by itself, and the page as readers use it, in a browser."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import json
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("sphinx", reason="needs the docs extra")
DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

import cnnhw
from cnnhw import models, web
from cnnhw.book import model_cards
from cnnhw.data import scenes
from cnnhw.data.decode import decode
from cnnhw.errors import WeightsError
from cnnhw.evaluation.browser import program
from cnnhw.features.extract import _GREY
from cnnhw.models import weights
from cnnhw_docs import explorer, explorer_data
from cnnhw_docs.explorer_data import Shown

SHOWN = ("first_layer", "fast")  # on the page of the tests
SIDE = 32  # pixels, of the photos that first_layer sees
pytestmark = pytest.mark.xdist_group("explorer")  # one page for all, and one browser
in_browser = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium"),
]


def shown(name):
    return Shown(name, cnnhw.load(name), explorer_data.untrained(name), f"About {name} <b>.")


def small(name="first_layer", size=16, **options):
    made = [models.create(name, size=size, seed=seed, **options).eval() for seed in (0, 1)]
    return Shown(name, *made, "Small.")


def static(folder):
    """Copy what the site serves beside the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*explorer.SCRIPTS, "explorer.css"):
        source = DOCS / "_static" / name
        shutil.copy(source if source.exists() else web.SOURCES / name, folder)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Write a page with nothing but the figure; return its folder and what the figure was told."""
    folder = tmp_path_factory.mktemp("site")
    described = explorer_data.write(folder / "data", map(shown, SHOWN))
    static(folder)
    scripts = "".join(f'<script src="{name}"></script>' for name in explorer.SCRIPTS)
    (folder / "index.html").write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="explorer.css"><title>Explorer</title></head>'
        f"<body><main><h1>Explorer</h1>{explorer.markup(described, 'data/')}</main>{scripts}</body></html>",
        encoding="utf-8",
    )
    return folder, described


def held(folder, key):
    """Read a script of a network as the page does."""
    text = (folder / "data" / f"{key}.js").read_text(encoding="utf-8")
    return json.loads(re.fullmatch(r'\(window\.cnnhwNetworks \|\|= \{\}\)\["[^"]+"\] = (.+);\n', text)[1])


# what the page is given


@pytest.mark.parametrize("name", weights.shipped())
def test_untrained_is_what_the_seed_draws(name):
    job, trained, before = model_cards.job(name), cnnhw.load(name), explorer_data.untrained(name)
    fresh = models.create(job.arm.model, trained.num_classes, seed=job.seed, size=job.size, **job.arm.options)
    whitened = {"features.stem.weight", "features.stem.bias"} if "fast" in job.arm.model else set()
    now, drawn = trained.state_dict(), fresh.state_dict()
    assert not before.training
    for key, value in before.state_dict().items():
        assert torch.equal(value, (now if key in whitened else drawn)[key]), key
        if value.dim() > 1:
            assert torch.equal(value, now[key]) == (key in whitened), key


def test_a_whitened_layer_is_the_same_before_and_after_training(photos):
    """So the trained network's is the one that its training began with."""
    network = models.create("fast", len(photos.classes), size=photos.size)
    rows = torch.randperm(len(photos.train), generator=torch.Generator().manual_seed(3))
    cnnhw.training.whiten_(network, photos.train.batch(rows[:500]) / 255)
    expected = {name: value.clone() for name, value in network.features.stem.state_dict().items()}
    trained = models.create("fast", len(photos.classes), size=photos.size)
    cnnhw.fit(trained, photos, cnnhw.Recipe.fast(2), seed=3, progress=False)
    for name, value in trained.features.stem.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-5), name


@pytest.mark.parametrize("name", weights.shipped())
def test_layers_have_names_of_their_own_in_words(name):
    parts = cnnhw.load(name).features.named_modules()
    found = explorer_data.in_words([one for one, part in parts if isinstance(part, nn.Conv2d)])
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[A-Z][a-z0-9, ]+convolution", words) for words in found)


def test_words():
    assert explorer_data.in_words(["conv1", "conv2"]) == ["First convolution", "Second convolution"]
    assert explorer_data.in_words(["stem.0", "stage2_block1.branch.0", "stage2_block1.branch.3"]) == [
        "Stem, convolution", "Stage 2, block 1, first convolution", "Stage 2, block 1, second convolution",
    ]  # fmt: skip
    assert explorer_data.in_words(["module3.branches.0.1"]) == ["Module 3, branch 1, convolution"]
    assert explorer_data.in_words(["stage1.0.branches.3.1", "residual2_1.inner.3.branches.0.0"]) == [
        "Stage 1, branch 4, convolution", "Stage 2, residual block 1, second module, branch 1, convolution",
    ]  # fmt: skip


class Twice(nn.Module):
    """Takes the place of ``Signs``: as many channels, and nothing that a sum could cancel."""

    def forward(self, x):
        return torch.cat([x, x], 1)


def softened(model):
    """Let nothing hide a pixel: no winner, no sign, no cancelling."""
    for module in model.modules():
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
    return model


def outputs(model, x, names):
    """Return what the modules of these names give."""
    kept, parts = {}, dict(model.named_modules())
    hooks = [
        parts[name].register_forward_hook(lambda _, __, out, name=name: kept.update({name: out})) for name in names
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("first_layer", SIDE),
        ("fast", 64),
        *(pytest.param(name, 32, marks=pytest.mark.slow) for name in ("dense", "resnet")),
    ],
)
def test_places_are_where_gradient_and_channel_reach(name, size):
    """Of each layer, before and after ReLU: the pixels that a cell sees, and where its channels are."""
    model = models.create(name, size=size, seed=0).eval()
    found = program(model)
    layers = explorer_data.layers(Shown(name, model, model, ""), found)
    steps = {one["name"]: found.steps[one["after"]["value"] - 1]["name"] for one in layers}
    soft = softened(models.create(name, size=size, seed=0).eval())
    for layer in layers:
        photo = torch.full((1, 3, size, size), 0.5, requires_grad=True)
        names = [f"features.{layer['name']}", steps[layer["name"]]]
        kept = outputs(soft, photo, names)
        for place, module in zip((layer["before"], layer["after"]), names, strict=True):
            maps, side = kept[module], place["side"]
            assert maps.shape[-1] == side
            for row, column in ((0, side - 1), (side // 2, side // 3)):
                (slope,) = torch.autograd.grad(maps[0, place["first"], row, column], photo, retain_graph=True)
                reached = slope[0].abs().sum(0) > 0
                for index, axis in ((row, 1), (column, 0)):
                    pixels = reached.any(axis).nonzero().flatten().tolist()
                    start = place["start"] + place["jump"] * index
                    assert [max(start, 0), min(start + place["field"], size) - 1] == [pixels[0], pixels[-1]], layer
        # a layer's channel 2 alone changes: which channels behind the ReLU do?
        with torch.no_grad():
            x = torch.rand(1, 3, size, size)
            before = outputs(model, x, names[1:])[names[1]]
            part = dict(model.named_modules())[names[0]]
            hook = part.register_forward_hook(
                lambda _, __, out: out.index_add(1, torch.tensor([2]), out[:, :1] * 0 + 99)
            )
            after = outputs(model, x, names[1:])[names[1]]
            hook.remove()
        changed = (before != after).flatten(2).any(2)[0].nonzero().flatten().tolist()
        assert layer["after"]["first"] + 2 in changed
        if type(dict(model.named_modules())[names[1]]).__name__ == "ReLU" and name != "fast":
            assert changed == [layer["after"]["first"] + 2], layer


def test_what_is_written(tmp_path):
    (tmp_path / "old.js").write_text("")
    described = explorer_data.write(tmp_path, [small()])
    assert not (tmp_path / "old.js").exists()
    assert [one["name"] for one in described["photos"]] == ["flower.jpg", "china.jpg", *scenes.CLASSES]
    assert described["networks"][0]["size"] == 16
    for name in ("first_layer.js", "first_layer-untrained.js", "dog.webp", "dog-photo.js"):
        assert (tmp_path / name).stat().st_size > 100


def test_photos_lose_nothing(tmp_path):
    explorer_data.write(tmp_path, [])
    for name, (_, pixels) in explorer_data.photos().items():
        text = re.search(r'= "(.+)";', (tmp_path / f"{name}-photo.js").read_text())[1]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), pixels)


def test_scripts_hold_the_weights(site):
    folder, _ = site
    for key, model in (("first_layer", cnnhw.load("first_layer")), ("fast-untrained", explorer_data.untrained("fast"))):
        found = held(folder, key)
        data, places = base64.b64decode(found["program"]["data"]), found["program"]["weights"]
        for layer in found["layers"]:
            one = places[found["program"]["steps"][layer["step"]]["weights"][0]]
            stored = np.frombuffer(data, "<f2", int(np.prod(one["shape"])), one["start"]).reshape(one["shape"])
            weight = dict(model.features.named_modules())[layer["name"]].weight.detach()
            assert np.array_equal(stored, weight.half().numpy())
            assert layer["kernel"] == list(weight.shape[2:])
            assert layer["inputs"] == weight.shape[1]
            assert layer["learnt"] == (layer["name"] != "stem")
            assert layer["colours"] == (layer["name"] in ("conv1", "stem"))


def test_initial_files_exist_and_are_small(site):
    folder, described = site
    sizes = [(folder / "data" / name).stat().st_size for name in explorer.initial_files(described)]
    assert sum(sizes) < 220_000
    page = folder / "index.html"
    names = ("explorer.css", *explorer.SCRIPTS)
    assert explorer.loaded(page, folder, []) == page.stat().st_size + sum(
        (folder / one).stat().st_size for one in names
    )


# while the site is built


def build(folder, monkeypatch, networks, text=""):
    """Build two pages, one of them with the figure; return their HTML and the warnings."""
    monkeypatch.setattr(explorer_data, "networks", networks)
    monkeypatch.setattr(explorer, "OPENING", explorer.OPENING | {"network": "first_layer"})
    static(folder / "docs" / "_static")
    (folder / "docs" / "index.rst").write_text(f"T\n=\n\n.. toctree::\n\n   deep/page\n\n{text}\n")
    (folder / "docs" / "deep").mkdir()
    (folder / "docs" / "deep" / "page.rst").write_text("P\n=\n\n.. feature-explorer::\n")
    warnings = io.StringIO()
    settings = {"extensions": ["cnnhw_docs.explorer"], "html_static_path": ["_static"]}
    places = (folder / "docs", None, folder / "html", folder / "trees", "html")
    with patch_docutils(), docutils_namespace():
        Sphinx(*places, confoverrides=settings, status=None, warning=warnings).build()
    pages = [(folder / "html" / f"{name}.html").read_text(encoding="utf-8") for name in ("index", "deep/page")]
    return pages, warnings.getvalue()


def test_directive_loads_its_assets_on_its_own_page_only(tmp_path, monkeypatch):
    link = ":explore:`look <network=first_layer&layer=conv2&channel=31&untrained>`"
    (index, page), warnings = build(tmp_path, monkeypatch, lambda: [small()], link)
    assert not warnings
    assert '<figure class="explorer" data-base="../_static/generated/networks/"' in page
    assert 'href="feature_explorer.html#network=first_layer&amp;layer=conv2&amp;channel=31&amp;untrained">look' in index
    for name in (*explorer.SCRIPTS, "explorer.css"):
        assert name in page
        assert name not in index
    assert (tmp_path / "html/_static/generated/networks/first_layer-untrained.js").exists()


def test_a_page_that_is_too_heavy_and_a_link_to_nothing_are_warnings(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "LIMIT", 10_000)
    _, warnings = build(tmp_path, monkeypatch, lambda: [small()], ":explore:`x <network=second_layer>`")
    assert re.search(r"page.rst: WARNING: the page loads \d{5,} bytes, more than 10000", warnings)
    assert re.search(r"index.rst:\d+: WARNING: explore: there is no network 'second_layer'", warnings)


def test_weights_that_are_missing_are_an_error_on_the_page(tmp_path, monkeypatch):
    def missing():
        raise WeightsError("no weights at all")

    (_, page), warnings = build(tmp_path, monkeypatch, missing)
    assert "ERROR: no weights at" in warnings
    assert "<figure" not in page


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        ("network=fast", ""),
        ("network=fast&layer=stem&channel=23&photo=china.jpg&both&relu", ""),
        ("network=slow", "no network 'slow'"),
        ("layer=stem", "no network ''"),
        ("network=fast&layer=relu", "no convolution 'relu'"),
        ("network=fast&layer=stem&channel=24", "no channel '24'"),
        ("network=fast&layer=stem&channel=x", "no channel 'x'"),
        ("network=fast&photo=mine", "no photo 'mine'"),
        ("network=fast&untrainned", "no 'untrainned'"),
    ],
)
def test_links_are_checked(target, wrong):
    found = explorer.unknown(target)
    assert wrong in found
    assert bool(found) == bool(wrong)


# in a browser


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
def local(site):
    return (site[0] / "index.html").as_uri()


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
        assert url.startswith(("data:", "blob:")) or urlsplit(url)[:2] == urlsplit(start)[:2]


def settle(page):
    """Wait until all is computed and drawn: a frame for what waits for one, then what the worker was asked."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 60)))")
    page.wait_for_selector("figure.explorer[aria-busy=false]")
    page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 60)))")


def said(page):
    return page.locator(".explorer-said").inner_text().replace("−", "-")


def number(text):
    return float(text.replace("−", "-"))


def pixels(page, version="trained"):
    """Read a canvas; this fails if anything from elsewhere was drawn on it."""
    return page.evaluate(f"document.querySelector('[data-version={version}] canvas.explorer-map').toDataURL()")


def halved(name, version="trained"):
    """Return a network as the page has it, kernels in half precision."""
    model = cnnhw.load(name) if version == "trained" else explorer_data.untrained(name)
    with torch.no_grad():
        for weight in model.parameters():
            weight.data = weight.half().float() if weight.dim() > 1 else weight
    return model


def seen(name, size):
    """Return a photo of the page as a network takes it: Tensor of shape (1, 3, S, S)."""
    file = io.BytesIO()
    Image.fromarray(explorer_data.photos()[name][1]).save(file, "png")
    return of_file(file.getvalue(), size)


def of_file(data, size):
    return torch.from_numpy(decode(data, size, crop=True).copy()).permute(2, 0, 1)[None] / 255


def own_picture():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((130, 90))
    file = io.BytesIO()
    coarse.save(file, "png")
    return file.getvalue()


class TestInTheBrowser:
    pytestmark = in_browser

    @pytest.mark.parametrize("version", ["trained", "untrained"])
    @pytest.mark.parametrize("name", SHOWN)
    def test_maps_of_all_layers_are_pytorchs(self, site, local, visit, name, version):
        page, model = visit(f"{local}#network={name}"), halved(name, version)
        key = name if version == "trained" else f"{name}-untrained"
        layers = held(site[0], key)["layers"]
        found = page.evaluate(
            """async ([key, size, text]) => {
              const work = explorerWorker(cnn(), photoTools());
              work.load(key, cnnhwNetworks[key].program);
              const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
              const square = await work.photo(new Blob([bytes]), size);
              const probabilities = work.run(key, square, size, null);
              const maps = cnnhwNetworks[key].layers.map(layer =>
                [layer.before, layer.after].map(place => Array.from(work.maps(key, layer, place))));
              return [Array.from(square), probabilities, maps];
            }""",
            [key, model.size, re.search(r'= "(.+)";', (site[0] / "data/china.jpg-photo.js").read_text())[1]],
        )
        x = seen("china.jpg", model.size)
        square = torch.tensor(found[0]).view(model.size, model.size, 4)[..., :3].permute(2, 0, 1)[None] / 255
        assert float((square - x).abs().max()) <= 1.01 / 255
        steps = program(model).steps
        modules = [
            (f"features.{layer['name']}", steps[layer["after"]["value"] - 1]["name"], layer["after"]["first"])
            for layer in layers
        ]
        with torch.no_grad():
            kept = outputs(model, square, {name for two in modules for name in two[:2]})
            logits = model(square)
        assert found[1] == pytest.approx(logits.softmax(1)[0].tolist(), abs=1e-4)
        for layer, (before, after, first), maps in zip(layers, modules, found[2], strict=True):
            for ours, theirs in (
                (maps[0], kept[before][0]),
                (maps[1], kept[after][0][first : first + layer["channels"]]),
            ):
                limit = 1e-4 * max(1.0, float(theirs.abs().max()))
                assert float((torch.tensor(ours).view_as(theirs) - theirs).abs().max()) < limit, layer["name"]

    def test_clicks_change_map_and_text(self, address, visit):
        page = visit(address)
        assert said(page).startswith("Channel 10, row 17, column 25: trained ")
        states = [(pixels(page), said(page))]
        page.locator(".explorer-photos label").nth(1).click()
        settle(page)
        states.append((pixels(page), said(page)))
        page.select_option("#explorer-layer", "conv2")
        settle(page)
        assert page.locator("[data-version=trained] .explorer-grid button").count() == 32
        states.append((pixels(page), said(page)))
        page.locator("[data-version=trained]").get_by_role("radio", name="channel 7", exact=True).click()
        settle(page)
        assert page.locator("#explorer-channel").input_value() == "7"
        states.append((pixels(page), said(page)))
        box = page.locator("[data-version=untrained] canvas.explorer-map").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 4.5 / (SIDE / 2), box["y"] + box["height"] * 10.5 / (SIDE / 2))
        settle(page)
        states.append((pixels(page), said(page)))
        assert len({one for one, _ in states}) == len({text for _, text in states}) == len(states)
        found = re.fullmatch(
            r"Channel 7, row 10, column 4: trained (\S+), untrained (\S+)\. "
            r"It sees pixels 3 to 14 across and 15 to 26 down\.",
            said(page),
        )
        for version, text in zip(("trained", "untrained"), found.groups(), strict=True):
            model = halved("first_layer", version)
            with torch.no_grad():
                maps = outputs(model, seen("china.jpg", SIDE), ["features.conv2"])["features.conv2"]
            assert float(text) == pytest.approx(float(maps[0, 7, 10, 4]), abs=2e-3)  # resized within 1 of 255
        assert page.locator(".explorer-whose").inner_text() == "Untrained, channel 7, row 10, column 4"

        page.select_option("#explorer-network", "fast")
        settle(page)
        assert page.locator("#explorer-layer option").count() == 8
        assert page.locator(".explorer-frozen").is_visible()
        assert re.match(r"Channel 0, row 21, column 9: trained (\S+), untrained \1\.", said(page))
        page.select_option("#explorer-layer", "stage1.0")
        settle(page)
        assert not page.locator(".explorer-frozen").is_visible()

    @pytest.mark.parametrize(
        ("start", "inputs"),
        [
            ("network=first_layer&layer=conv1&channel=3", 3),
            ("network=first_layer&layer=conv3&channel=9&relu", 32),
            ("network=fast&layer=stage2.0&channel=5&untrained", 32),
            ("network=fast&layer=stage2.0&channel=5&relu&trained", 32),
        ],
    )
    def test_the_sum_is_the_cell(self, local, visit, start, inputs):
        page = visit(f"{local}#{start}&photo=china.jpg")
        for _ in range(3):
            page.keyboard.press("Tab")
        for _ in range(2):  # somewhere, then at the corner, where the filter sees the edge
            parts = [number(text) for text in page.locator(".explorer-parts li > :last-child").all_inner_texts()]
            assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=3e-4)
            assert page.locator("#explorer-input option").count() == inputs
            caption = page.locator(".explorer-terms caption").inner_text()
            sums = [
                sum(number(cell.split("=")[1]) for cell in page.locator(".explorer-terms td").all_inner_texts()),
                number(re.search(r"Together (\S+)\.$", caption)[1]),
            ]
            assert sums[0] == pytest.approx(sums[1], abs=49 * 5e-4)
            for cell in page.locator(".explorer-terms td").all_inner_texts():
                value, weight, product = (number(one) for one in re.split(r"[×=]", cell.replace("edge", "0")))
                assert value * weight == pytest.approx(product, abs=5e-4 * (2 + abs(value)))
            shown = re.search(r": (?:un)?trained (\S+?)[.,] ", said(page))
            if "relu" in start:
                assert page.locator(".explorer-end").inner_text().replace("−", "-").endswith(f"ReLU: {shown[1]}.")
            else:
                assert parts[-1] == pytest.approx(float(shown[1]), abs=1e-4)
            page.locator("canvas.explorer-map:visible").first.click(position={"x": 2, "y": 2})
            settle(page)
        assert "row 0, column 0:" in said(page)
        if "conv1" in start:
            assert "edge" in page.locator(".explorer-terms").inner_text()

    def test_a_cell_behind_pooling_is_the_largest_of_its_window(self, local, visit):
        page, model = visit(f"{local}#network=fast&layer=stage1.0&channel=4&trained&relu"), halved("fast")
        row, column = map(
            int, re.search(r"row (\d+), column (\d+)$", page.locator(".explorer-whose").inner_text()).groups()
        )
        with torch.no_grad():
            maps = outputs(model, seen("flower.jpg", 64), ["features.stage1.0"])["features.stage1.0"][0, 4]
        top, left = map(int, re.search(r"row (\d+), column (\d+):", said(page)).groups())
        window = maps[2 * top : 2 * top + 2, 2 * left : 2 * left + 2]
        best = int(window.argmax())
        assert (row, column) == (2 * top + best // 2, 2 * left + best % 2)
        parts = page.locator(".explorer-parts li > :last-child").all_inner_texts()
        assert number(parts[-1]) == pytest.approx(float(window.max()), abs=5e-3)

    def test_an_input_is_chosen(self, local, visit):
        page = visit(f"{local}#network=first_layer&layer=conv2")
        strongest = page.locator(".explorer-parts li > :first-child").first.inner_text()
        assert page.locator(".explorer-terms caption").inner_text().startswith(f"{strongest}:")
        page.select_option("#explorer-input", "15")
        assert page.locator(".explorer-terms caption").inner_text().startswith("Input 15:")
        assert "12 other inputs" in page.locator(".explorer-parts").inner_text()

    def test_the_pointer_shows_a_cell_and_a_click_keeps_it(self, local, visit):
        page = visit(local)
        kept = said(page)
        box = page.locator("[data-version=untrained] canvas.explorer-map").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 5.5 / SIDE, box["y"] + box["height"] * 27.5 / SIDE)
        settle(page)
        assert "row 27, column 5:" in said(page)
        assert page.locator(".explorer-whose").inner_text().startswith("Untrained, channel 10, row 27, column 5")
        page.mouse.move(2, 2)
        settle(page)
        assert said(page) == kept

    def test_the_photo_chooses_the_cell_below_the_pointer(self, address, visit):
        page = visit(f"{address}#network=first_layer&layer=conv3")
        box = page.locator("canvas.explorer-photo").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.9)
        found = re.search(r"pixels (\d+) to (\d+) across and (\d+) to (\d+) down", said(page))
        left, right, top, bottom = map(int, found.groups())
        assert left < 0.3 * SIDE < right
        assert top < 0.9 * SIDE < bottom

    def test_all_channels_share_one_scale_of_colours(self, local, visit):
        page, model = visit(local), halved("first_layer")
        with torch.no_grad():
            maps = model.features.conv1(seen("flower.jpg", SIDE))[0]
        limit = float(maps.abs().flatten().sort().values[int(np.ceil(0.995 * maps.numel())) - 1])
        ends = page.locator("[data-version=trained] .explorer-ends > span").all_inner_texts()
        assert ends == [f"≤ −{limit:.2f}", "0", f"≥ {limit:.2f}"]
        low, zero, high = (np.array(list(bytes.fromhex(text))) for text in ("1763b5", "e6e6e6", "b8400a"))
        for channel, (row, column) in itertools.product((0, 7, 10, 15), ((5, 5), (20, 24))):
            colour = page.evaluate(
                """([channel, row, column]) => {
                  const grid = document.querySelector('[data-version=trained] .explorer-grid');
                  const canvas = grid.children[channel].firstChild;
                  return Array.from(canvas.getContext('2d').getImageData(column, row, 1, 1).data);
                }""",
                [channel, row, column],
            )
            share = float(maps[channel, row, column].clamp(-limit, limit)) / limit
            expected = zero + abs(share) * ((low if share < 0 else high) - zero)
            assert np.abs(np.array(colour[:3]) - expected).max() < 4

    @pytest.mark.parametrize("way", ["choose", "drop", "paste"])
    def test_a_photo_of_ones_own(self, address, visit, way):
        page, data = visit(f"{address}#network=first_layer&layer=conv1&channel=3"), own_picture()
        if way == "choose":
            page.set_input_files("#explorer-file", {"name": "own.png", "mimeType": "image/png", "buffer": data})
        else:
            page.evaluate(
                """([way, text]) => {
                  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
                  const data = new DataTransfer();
                  data.items.add(new File([bytes], 'own.png', {type: 'image/png'}));
                  const settings = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
                  const event = way === 'drop' ? new DragEvent(way, settings) : new ClipboardEvent(way, settings);
                  document.querySelector('figure.explorer').dispatchEvent(event);
                }""",
                [way, base64.b64encode(data).decode()],
            )
        page.wait_for_selector(".explorer-own:visible")
        settle(page)
        assert page.locator("input[value=own]").is_checked()
        assert "photo" not in page.url  # nobody else has it
        x = of_file(data, SIDE)
        for version in ("trained", "untrained"):
            with torch.no_grad():
                model = halved("first_layer", version)
                cell, likely = (
                    float(model.features.conv1(x)[0, 3, SIDE // 2, SIDE // 2]),
                    model(x).softmax(1)[0].tolist(),
                )
            assert float(re.search(rf"\b{version} (-?[\d.]+\d|0)", said(page))[1]) == pytest.approx(cell, abs=0.01)
            column = 0 if version == "trained" else 1
            assert probabilities(page)[column] == pytest.approx(likely, abs=0.01)

    def test_the_camera(self, local, visit):
        page = visit(local, permissions=["camera"])
        page.click("#explorer-camera")
        page.wait_for_selector(".explorer-booth:visible")
        page.wait_for_timeout(500)
        page.click("#explorer-shoot")
        page.wait_for_selector(".explorer-own:visible")
        settle(page)
        assert page.locator("input[value=own]").is_checked()
        assert not page.locator(".explorer-booth").is_visible()
        assert page.evaluate("document.querySelector('video').srcObject") is None  # and the camera is off

    def test_what_is_no_picture_is_said(self, local, visit):
        page = visit(local)
        for name, kind, words in (
            ("<b>.txt", "text/plain", "<b>.txt is not a picture"),
            ("a.png", "image/png", "cannot read that picture"),
        ):
            page.set_input_files("#explorer-file", {"name": name, "mimeType": kind, "buffer": b"no picture"})
            page.wait_for_function(
                "words => document.querySelector('.explorer-said').textContent.includes(words)", arg=words
            )
        assert not page.locator(".explorer-own").is_visible()

    def test_covering_changes_the_probabilities_as_in_pytorch(self, address, visit):
        page = visit(f"{address}#network=fast&layer=stem&photo=china.jpg")
        before = probabilities(page)
        page.click("#explorer-cover")
        settle(page)
        for key, times in (("ArrowLeft", 14), ("ArrowDown", 3)):
            for _ in range(times):
                page.keyboard.press(key)
        settle(page)
        square = page.locator(".explorer-square")
        assert square.get_attribute("aria-label").startswith("Grey square of 16 pixels, at row 27, column 10;")
        self.check_cover(page, before, 10, 27, 16)

        box, photo = square.bounding_box(), page.locator("canvas.explorer-photo").bounding_box()
        pixel = photo["width"] / 64
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        page.mouse.move(box["x"] + 5 + 20 * pixel, box["y"] + 5 - 7 * pixel, steps=4)
        page.mouse.up()
        settle(page)
        self.check_cover(page, before, 30, 20, 16)
        page.get_by_label("large").check(force=True)
        settle(page)
        assert "26 pixels" in square.get_attribute("aria-label")
        page.click("#explorer-cover")
        settle(page)
        assert probabilities(page) == before

    def check_cover(self, page, before, left, top, side):
        x = seen("china.jpg", 64)
        x[:, :, top : top + side, left : left + side] = _GREY
        for column, version in enumerate(("trained", "untrained")):
            with torch.no_grad():
                expected = halved("fast", version)(x).softmax(1)[0].tolist()
            assert probabilities(page)[column] == pytest.approx(expected, abs=5e-3)
        assert probabilities(page)[0] != pytest.approx(before[0], abs=0.02)
        was = [int(text) for text in re.findall(r"was (\d+) %", page.locator(".explorer-classes").inner_text())]
        assert was == [round(100 * one) for pair in zip(*before, strict=True) for one in pair]

    def test_links_open_the_figure_there_and_the_address_follows(self, local, visit):
        page = visit(f"{local}#network=fast&layer=stage2.0&channel=5&untrained&relu&photo=china.jpg")
        assert page.locator("#explorer-network").input_value() == "fast"
        assert page.locator("#explorer-layer").input_value() == "stage2.0"
        assert re.match(r"Channel 5, row 4, column 4: untrained \S+ It sees", said(page))
        assert page.locator("input[name=explorer-photo][value='china.jpg']").is_checked()
        assert page.locator(".explorer-layer-is").inner_text().endswith("After it: max pooling, batch norm, ReLU.")
        assert not page.locator("[data-version=trained]").is_visible()
        page.evaluate("location.hash = 'network=first_layer&layer=conv1&untrained'")
        settle(page)
        assert page.locator("#explorer-network").input_value() == "first_layer"
        page.get_by_label("Both").check(force=True)
        page.select_option("#explorer-layer", "conv3")
        settle(page)
        page.locator("#explorer-channel").fill("40")
        settle(page)
        text, again = said(page), visit(page.url)
        assert said(again)[:11] == text[:11] == "Channel 40,"
        assert again.locator("#explorer-layer").input_value() == "conv3"
        odd = visit(f"{local}#network=first_layer&layer=none&channel=-7&photo=<b>&relu=1")
        assert odd.locator("#explorer-layer").input_value() == "conv1"
        assert said(odd).startswith("Channel 0,")
        assert said(visit(f"{local}#somewhere")).startswith("Channel 10,")

    def test_keyboard_alone(self, server, visit):
        page = visit(server)

        def focused():
            return page.evaluate(
                "(e => e.id || e.name || e.getAttribute('aria-label') || [...e.classList].join())"
                "(document.activeElement)"
            )

        def tab_to(wanted):
            for _ in range(20):
                page.keyboard.press("Tab")
                style = page.evaluate(
                    "[document.activeElement, document.activeElement.nextElementSibling].some(e => e && "
                    "parseFloat(getComputedStyle(e).outlineWidth) >= 2 && getComputedStyle(e).outlineStyle !== 'none')"
                )
                assert style, f"{focused()} does not show that it has the focus"
                if focused() == wanted:
                    return
            raise AssertionError(f"Tab does not reach {wanted}")

        tab_to("explorer-layer")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        settle(page)
        tab_to("explorer-view")
        page.keyboard.press("ArrowRight")
        settle(page)
        assert not page.locator("[data-version=untrained]").is_visible()
        page.keyboard.press("ArrowLeft")
        tab_to("explorer-photo")
        page.keyboard.press("ArrowRight")
        settle(page)
        assert page.locator("input[value='china.jpg']").is_checked()
        tab_to("explorer-cover")
        page.keyboard.press("Enter")
        settle(page)
        assert focused().startswith("Grey square of 8 pixels, at row 12, column 12;")
        page.keyboard.press("ArrowUp")
        settle(page)
        assert focused().startswith("Grey square of 8 pixels, at row 11, column 12;")
        tab_to("explorer-map")
        before = said(page)
        assert before.startswith("Channel 10, row 4, column 6:")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        assert said(page).startswith("Channel 10, row 3, column 7:")
        for _ in range(14):
            page.keyboard.press("ArrowLeft")
        assert "column 0:" in said(page)  # no further
        tab_to("channel 10")  # the only small map that Tab reaches
        columns = page.evaluate(
            "getComputedStyle(document.querySelector('.explorer-grid')).gridTemplateColumns.split(' ').length"
        )
        for key, channel in (
            ("ArrowRight", 11),
            ("ArrowDown", 11 + columns),
            ("End", 63),
            ("ArrowRight", 63),
            ("Home", 0),
        ):
            page.keyboard.press(key)
            assert said(page).startswith(f"Channel {channel},")
            assert focused() == f"channel {channel}"
        assert page.locator(".explorer-grid [tabindex='0']").count() == 2  # one in each grid
        page.keyboard.press("Tab")
        assert not focused().startswith("channel")
        tab_to("explorer-channel")
        page.keyboard.press("ArrowRight")
        assert said(page).startswith("Channel 1,")

    @pytest.mark.parametrize("network", SHOWN)
    def test_on_a_phone(self, local, visit, network):
        page = visit(
            f"{local}#network={network}", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
        )
        for layer in page.evaluate("[...document.querySelectorAll('#explorer-layer option')].map(o => o.value)"):
            page.select_option("#explorer-layer", layer)
            settle(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.evaluate(
                "[...document.querySelectorAll('.explorer-terms td')].every(e => e.scrollWidth <= e.clientWidth)"
            )
        before = said(page)
        page.locator("canvas.explorer-map").first.tap(position={"x": 2, "y": 2})
        assert "row 0, column 0:" in said(page) != before
        page.get_by_role("button", name="one cell down").tap()
        assert "row 1, column 0:" in said(page)
        page.get_by_role("button", name="Cover a part").tap()
        settle(page)
        sizes = page.evaluate(
            "[...document.querySelectorAll('.explorer :is(button:not(.explorer-square), select, label:has(input))')]"
            ".map(e => e.getBoundingClientRect()).filter(r => r.width).map(r => Math.min(r.width, r.height))"
        )
        assert min(sizes) >= 40  # CSS pixels, enough for a finger
        tops = page.evaluate("[...document.querySelectorAll('.explorer-grid button')].map(e => e.offsetTop)")
        assert min(b - a for a, b in itertools.pairwise(sorted(set(tops)))) >= 40  # and no row covers another
        last = int(page.locator("#explorer-channel").get_attribute("max"))
        page.locator("#explorer-channel").fill(str(last))
        button, grid = (
            page.locator(f".explorer-grid{part}").first.bounding_box() for part in (" [aria-checked=true]", "")
        )
        assert grid["y"] <= button["y"] <= grid["y"] + grid["height"] - button["height"]  # scrolled to

    @pytest.mark.parametrize(
        ("scheme", "theme"), [("light", None), ("dark", None), ("light", "dark"), ("dark", "light")]
    )
    def test_colours_have_contrast_in_both_themes(self, server, visit, scheme, theme):
        page = visit(server, color_scheme=scheme)
        before = pixels(page)
        if theme:
            page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            settle(page)
            assert pixels(page) != before  # canvases follow
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
        terms = page.evaluate(
            "[...document.querySelectorAll('.explorer-terms td')].map(e => getComputedStyle(e))"
            ".map(s => [s.color, s.backgroundColor])"
        )
        for two in terms:
            assert contrast(*([int(part) for part in re.findall(r"\d+", text)[:3]] for text in two)) >= 4.5

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("width", [360, 1280])
    def test_axe_finds_nothing(self, local, visit, width, theme):
        package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
        page = visit(local, viewport={"width": width, "height": 900}, color_scheme=theme)
        page.click("#explorer-cover")
        settle(page)
        page.evaluate((Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")["violations"]
        assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == []

    def test_a_file_that_is_missing_is_said(self, local, browser):
        page = browser.new_page()
        page.route("**/fast.js", lambda route: route.abort())
        page.goto(local)
        settle(page)
        page.select_option("#explorer-network", "fast")
        settle(page)
        assert said(page).startswith("A file of this figure cannot be read: data/fast.js")
        page.unroute("**/fast.js")
        page.select_option("#explorer-network", "first_layer")
        settle(page)
        page.select_option("#explorer-network", "fast")
        settle(page)
        assert said(page).startswith("Channel 0, ")
        page.close()

    def test_without_scripts_a_text_stands_in(self, server, visit):
        page = visit(server, java_script_enabled=False)
        assert "needs JavaScript" in page.locator(".explorer-plain").inner_text()
        assert not page.locator("figure.explorer").is_visible()


def probabilities(page):
    """Return what the page says of each version shown: a list of probabilities each."""
    rows = page.evaluate(
        "[...document.querySelectorAll('.explorer-classes tbody tr')].map(row => "
        "[...row.querySelectorAll('td')].map(cell => Number(cell.dataset.probability)))"
    )
    return [list(column) for column in zip(*rows, strict=True)]


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
