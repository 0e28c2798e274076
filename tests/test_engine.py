"""The engine for browsers: it computes what PyTorch does, and sees photos as the package does."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch import nn

import cnnhw
from cnnhw import models, web
from cnnhw.data import scenes
from cnnhw.data.decode import decode
from cnnhw.errors import ModelError
from cnnhw.evaluation import interpreter
from cnnhw.evaluation.browser import program
from cnnhw.models import imagenet, weights
from cnnhw.models.blocks import Classifier, linear_head

TOLERANCE = 1e-4
SLACK = 4  # other work may go on beside the tests
in_browser = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page that was opened from a folder, with engine and tools."""
    sync_api = pytest.importorskip("playwright.sync_api")
    place = tmp_path_factory.mktemp("engine") / "page.html"
    scripts = "".join(f"<script>{web.source(name)}</script>" for name in ("cnn.js", "photos.js"))
    place.write_text(f"<!DOCTYPE html><title>Engine</title>{scripts}<script>const engine = cnn();</script>")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page()
        opened.goto(place.as_uri())
        yield opened
        browser.close()


def load(page, model):
    """Make a network the page's own."""
    found = program(model)
    page.evaluate("text => { window.network = engine.unpack(JSON.parse(text)); }", json.dumps(found.described()))
    return found


def logits(page, photos):
    """Return what the page's network gives for photos, Tensor of shape (N, 3, S, S)."""
    code = """([shape, data]) => {
      const values = engine.forward(network, engine.tensor(shape, new Float32Array(data)));
      return Array.from(values.at(-1).data);
    }"""
    return torch.tensor([page.evaluate(code, [[1, *one.shape], one.flatten().tolist()]) for one in photos])


def halved(model):
    """Round kernels to half precision, as described programs hold them, and give batch norm something to remember."""
    with torch.no_grad():
        model.train()(torch.rand(4, 3, model.size, model.size))
        for weight in model.parameters():
            weight.data = weight.half().float() if weight.dim() > 1 else weight
    return model.eval()


def both(page, model, photos):
    load(page, model)
    with torch.inference_mode():
        return logits(page, photos), model(photos)


def registered():
    for name in models.names():
        yield name, lambda name=name: models.create(name, 5, seed=0, size=128 if name.startswith(("q2", "q4")) else 32)
    yield "efficientnet_lite0", lambda: imagenet.efficientnet_lite0(5, 64)
    yield "resnet18", lambda: imagenet.resnet18(5, 64)
    yield "mobilenet_v3_small", lambda: imagenet.mobilenet_v3_small(5, 65)


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, id=name, marks=() if name == "fast" else pytest.mark.slow) for name, make in registered()],
)
def test_every_network_is_a_list_of_steps(make):
    model = make()
    found = program(model)
    held = {id(one) for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)}
    assert sum(step["op"] in ("convolution", "linear") for step in found.steps) >= len(held)
    assert all(0 <= i <= k for k, step in enumerate(found.steps) for i in step["inputs"])
    assert sum(one.numel() for one in found.weights) >= sum(one.numel() for one in model.parameters())
    names = {name for name, _ in model.named_modules()}
    assert {step["name"] for step in found.steps} <= names
    described = found.described("single")
    json.dumps(described, allow_nan=False)
    photo = torch.rand(1, 3, model.size, model.size)
    with torch.inference_mode():
        torch.testing.assert_close(interpreter.compute(described, photo), model.eval()(photo), rtol=1e-4, atol=1e-5)


def test_a_step_that_the_engine_lacks_is_named():
    odd = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()), linear_head(4, 2), size=16)
    with pytest.raises(ModelError, match=r"aten\.gelu"):
        program(odd)


class TestInTheBrowser:
    pytestmark = in_browser

    @pytest.mark.parametrize("name", weights.shipped())
    def test_logits_of_shipped_networks(self, page, name, figures):
        model = cnnhw.load(name)
        photos = scenes.draw(20, size=model.size, first=10**6).images / 255
        ours, theirs = both(page, model, photos)
        worst = float((ours - theirs).abs().max())
        figures("site", networks_in_the_browser=1, worst_logit_in_the_browser=worst)
        assert worst < TOLERANCE

    @pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in registered()])
    def test_logits_of_every_kind_of_network(self, page, make):
        torch.manual_seed(0)
        model = halved(make())
        ours, theirs = both(page, model, torch.rand(1, 3, model.size, model.size))
        assert float((ours - theirs).abs().max()) < TOLERANCE * max(1.0, float(theirs.abs().max()))

    @pytest.mark.parametrize("name", ["plain", "residual", "dense", "inception", "q1_deep_residual"])
    def test_gradients_and_what_batch_norm_keeps(self, page, name):
        torch.manual_seed(0)
        model = halved(models.create(name, 3, seed=0, size=16))
        found, photos, labels = load(page, model), torch.rand(4, 3, 16, 16), [0, 2, 1, 1]
        said = page.evaluate(
            """([shape, data, labels]) => {
              const values = engine.forward(network, engine.tensor(shape, new Float32Array(data)), true);
              const { loss, slope } = engine.crossEntropy(values.at(-1), labels);
              const slopes = engine.backward(network, values, slope);
              const plain = list => list.map(one => one && Array.from(one.data));
              return [loss, plain(slopes), plain(network.weights)];
            }""",
            [list(photos.shape), photos.flatten().tolist(), labels],
        )
        model.train()
        loss = nn.functional.cross_entropy(model(photos), torch.tensor(labels))
        loss.backward()
        assert said[0] == pytest.approx(loss.item(), abs=1e-5)
        ours = dict(zip(found.names, said[1], strict=True))
        for name, theirs in model.named_parameters():
            limit = TOLERANCE * max(1.0, float(theirs.grad.abs().max()))
            assert float((torch.tensor(ours[name]) - theirs.grad.flatten()).abs().max()) < limit, name
        kept = dict(zip(found.names, said[2], strict=True))
        for name, theirs in model.named_buffers():
            if theirs.is_floating_point():
                assert kept[name] == pytest.approx(theirs.tolist(), rel=1e-4, abs=1e-5), name

    def test_photos_are_resized_as_the_package_does(self, page):
        rng = np.random.default_rng(0)
        old = int(PIL.__version__.split(".")[0]) < 13  # it rounds high photos between other steps
        sides = ((50, 40, 64), (640, 480, 64), (333, 1000, 32), (64, 64, 64), (129, 257, 64), (901, 777, 64))
        for width, height, size in sides:
            coarse = Image.fromarray(rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)).resize((width, height))
            noisy = np.asarray(coarse).astype(int) + rng.integers(-20, 21, (height, width, 3))
            pixels = np.clip(noisy, 0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "png")
            four = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
            for crop in (False, True):
                told = [width, height, base64.b64encode(four.tobytes()).decode(), size, crop]
                found = page.evaluate(
                    """([width, height, text, size, crop]) => {
                      const data = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
                      const tools = photoTools(), whole = {width, height, data};
                      return Array.from(tools.resize(crop ? tools.crop(whole) : whole, size));
                    }""",
                    told,
                )
                ours = np.array(found).reshape(size, size, 4)[:, :, :3]
                worst = np.abs(ours - decode(file.getvalue(), size, crop).astype(int)).max()
                assert worst <= (1 if old and height > width and not crop else 0)

    def test_speed(self, page, figures):
        """A photo through `fast`, and a small network's training, as the page on testing shows them."""
        load(page, cnnhw.load("fast"))
        milliseconds = page.evaluate(
            """() => {
              const photo = engine.tensor([1, 3, 64, 64]), times = [];
              for (let i = 0; i < 12; i++) {
                const start = performance.now();
                engine.forward(network, photo);
                times.push(performance.now() - start);
              }
              return Math.min(...times);
            }"""
        )
        load(page, models.create("plain", 5, seed=0, size=32, kernels="3-3-3", widths="16-32-64"))
        rate = page.evaluate(
            """() => {
              const photos = engine.tensor([16, 3, 32, 32]), labels = Array(16).fill(0), kept = {}, times = [];
              for (let i = 0; i < 8; i++) {
                const start = performance.now();
                const values = engine.forward(network, photos, true);
                const { slope } = engine.crossEntropy(values.at(-1), labels);
                engine.adam(network.weights, engine.backward(network, values, slope), kept, 1e-3);
                times.push(performance.now() - start);
              }
              return 16000 / Math.min(...times);
            }"""
        )
        figures("site", worst_milliseconds_in_the_browser=milliseconds, trained_a_second_in_the_browser=rate)
        assert milliseconds < 50 * SLACK
        assert rate > 100 / SLACK
