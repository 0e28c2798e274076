"""Networks of one's own, and others' networks: looked at, trained, saved and loaded, or refused before work begins."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
from types import SimpleNamespace

import pytest
import torch
from conftest import make_photos
from torch import nn

import cnnhw
from cnnhw import evaluation, features, files, models
from cnnhw.errors import DataError, ModelError, TrainingError, UnknownNameError, WeightsError
from cnnhw.evaluation import assessment
from cnnhw.features import first_layer
from cnnhw.models import Classifier, weights
from cnnhw.training import checks
from cnnhw.training.recipe import Recipe

ONE = Recipe(epochs=1)


@pytest.fixture(scope="module")
def photos():
    return make_photos(size=16)


class Block(nn.Module):
    """A layer that is none of torch's."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, affine=False)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


def head(inputs=4):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 3))


def plain(size=16, inner=None):
    torch.manual_seed(0)
    return Classifier(nn.Sequential(*(inner or [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()])), head(), size)


def classifier(dtype=torch.float32):
    """Return a network whose logits a test can follow."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *head()).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_number_formats_are_those_of_the_model(dtype):
    model, exact = classifier(dtype), classifier()
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    kept = torch.float64 if dtype is torch.float64 else torch.float32
    near = {"rtol": 0.05, "atol": 0.02}
    assert features.layers(model, 16) == ["0", "1", "2"]
    for found, expected in (
        (features.maps(model, images), features.maps(exact, images)),
        (features.filters(model), features.filters(exact)),
    ):
        assert found.dtype == kept
        torch.testing.assert_close(found.float(), expected, **near)
        found.numpy()  # which knows no bfloat16
    assert features.receptive_box(model, "0", 5, 5, size=16) == (4, 4, 7, 7)
    saliency = features.saliency(model, images[0], 1)
    assert saliency.dtype == torch.float32
    torch.testing.assert_close(saliency, features.saliency(exact, images[0], 1), **near)
    torch.testing.assert_close(features.occlusion(model, images[0], 1), features.occlusion(exact, images[0], 1), **near)
    scores, expected = first_layer.scores(model, images), first_layer.scores(exact, images)
    assert scores == pytest.approx(expected, abs=0.02)
    values = [value for *_, value in features.top_activations(model, images, "0", 1)]
    assert values == sorted(values, reverse=True)


def test_photos_of_another_format_than_the_model():
    image = torch.rand(1, 3, 16, 16)
    assert torch.allclose(features.maps(classifier(), image.double()), features.maps(classifier(), image))
    assert features.maps(nn.Sequential(nn.AvgPool2d(2)), image, "0").shape == (1, 3, 8, 8)  # a model without parameters


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_predictions_and_embeddings_are_float32(photos, dtype):
    model = plain().to(dtype)
    for found in (evaluation.predict(model, photos.test), features.embeddings(model, photos.test)):
        assert found.dtype == torch.float32
    model.classes = photos.classes
    assert assessment.assess(model, photos).logits.dtype == torch.float32


class Wrapped(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.inner, self.wrap = classifier(), wrap

    def forward(self, x):
        return self.wrap(self.inner(x))


@pytest.mark.parametrize("wrap", [lambda x: {"logits": x, "loss": None}, lambda x: SimpleNamespace(logits=x)])
def test_logits_inside_of_what_a_model_returns(wrap):
    model, image = Wrapped(wrap), torch.rand(3, 16, 16)
    assert torch.equal(features.saliency(model, image, 2), features.saliency(classifier(), image, 2))
    assert torch.equal(features.occlusion(model, image, 2), features.occlusion(classifier(), image, 2))
    assert features.maps(model, image, "inner.0").shape == (1, 4, 16, 16)


@pytest.mark.parametrize("look", [features.saliency, features.occlusion])
@pytest.mark.parametrize(
    ("wrap", "what"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: {"out": x}, "a dict"),
        (lambda x: x[:, :, None, None], r"a tensor of shape \(1, 3, 1, 1\)"),
    ],
)
def test_what_is_no_logits_is_told(look, wrap, what):
    with pytest.raises(ModelError, match=f"the model returns {what}, not logits of shape"):
        look(Wrapped(wrap), torch.rand(3, 16, 16))


def test_a_module_under_two_names_is_found_by_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential()
            self.first.conv = nn.Conv2d(3, 4, 1)
            self.second = self.first

        def forward(self, x):
            return self.second.conv(x)

    model, images = Twice(), torch.rand(2, 3, 8, 8)
    assert features.layers(model, 8) == ["first.conv"]
    for name in ("conv", "first.conv", "second.conv", None):
        assert torch.equal(features.maps(model, images, name), model(images))
    assert features.filters(model, "second.conv").shape == (4, 3, 1, 1)
    with pytest.raises(UnknownNameError, match="Did you mean 'second'"):
        features.maps(model, images, "secnd")


class Last(nn.Module):
    """Puts the channels last, as transformers do."""

    def forward(self, x):
        return x.movedim(1, -1)


def test_channels_that_come_last_are_moved():
    model = nn.Sequential(nn.Conv2d(3, 5, 2, stride=2), Last(), nn.LayerNorm(5), nn.Linear(5, 7), nn.GELU())
    with torch.no_grad():
        for images in (torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 32)):
            for number in range(5):
                out = model[: number + 1](images)
                expected = out.movedim(-1, 1) if number else out
                assert torch.equal(features.maps(model, images, str(number)), expected), number
    assert features.receptive_box(model, "4", 2, 3, size=16) == (4, 6, 6, 8)
    # as many channels as rows: only the layer's kind tells
    square = nn.Sequential(nn.Conv2d(3, 8, (1, 2), stride=(2, 3)))
    assert features.maps(square, torch.rand(1, 3, 16, 16), "0").shape == (1, 8, 8, 5)


def test_transformers_of_torchvision():
    torchvision = pytest.importorskip("torchvision")
    images = torch.rand(1, 3, 64, 64)
    swin = torchvision.models.swin_t(weights=None)
    assert features.maps(swin, images, "features.1").shape == (1, 96, 16, 16)
    assert features.maps(swin, images, "features.3.0.mlp.0").shape == (1, 768, 8, 8)
    convnext = torchvision.models.convnext_tiny(weights=None)
    assert features.maps(convnext, images, "features.1.0.block.3").shape == (1, 384, 16, 16)
    assert features.maps(convnext, images, "features.1.0.block.5").shape == (1, 96, 16, 16)


def test_windows_are_no_maps_of_photos():
    class Windows(nn.Module):
        def forward(self, x):
            return x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Windows())
    with pytest.raises(UnknownNameError, match=r"unknown layer with maps '1'\. .*Known: 0"):
        features.maps(model, torch.rand(2, 3, 8, 8), "1")


def test_single_photos():
    model, image = classifier(), torch.rand(3, 16, 16)
    assert torch.equal(features.maps(model, image), features.maps(model, image[None]))
    assert features.top_activations(model, image, "0", 1) == features.top_activations(model, image[None], "0", 1)
    assert first_layer.scores(model, image) == first_layer.scores(model, image[None])
    assert torch.equal(features.saliency(model, image[None]), features.saliency(model, image))
    assert torch.equal(features.occlusion(model, image[None]), features.occlusion(model, image))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(16, 16), r"not \(16, 16\)"),
        (torch.rand(0, 3, 16, 16), r"not \(0, 3, 16, 16\)"),
        (torch.rand(2, 16, 16, 3), "come last"),
        ([1], "not list"),
    ],
)
def test_what_is_no_photo_is_refused(images, message):
    for look in (features.maps, features.saliency, features.occlusion, first_layer.scores):
        with pytest.raises(DataError, match=message):
            look(classifier(), images)
    with pytest.raises(DataError, match=message):
        features.top_activations(classifier(), images, "0", 0)


def test_one_photo_is_not_two():
    for look in (features.saliency, features.occlusion):
        with pytest.raises(DataError, match="one photo"):
            look(classifier(), torch.rand(2, 3, 16, 16))


def test_other_networks_than_classifiers_are_refused(photos):
    for work in (
        lambda: cnnhw.fit(classifier(), photos, ONE),
        lambda: assessment.assess(classifier(), photos),
    ):
        with pytest.raises(ModelError, match=r"a Sequential cannot be .*, only a cnnhw\.models\.Classifier"):
            work()
    with pytest.raises(ModelError, match="a Sequential has no last map by itself"):
        features.embeddings(classifier(), photos.test)
    with pytest.raises(ModelError, match=r"last layer is an nn\.Linear"):
        Classifier(nn.Sequential(), nn.Sequential(nn.Linear(3, 3), nn.ReLU()), 16)


class Returns(Classifier):
    def forward(self, x):
        return {"logits": super().forward(x)}


def spread(model):
    model.head.to("meta")
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plain().double(), r"numbers of torch\.float64, and float32 is trained"),
        (lambda: plain().bfloat16(), r"torch\.bfloat16.*Recipe\(precision=\.\.\.\)"),
        (lambda: plain(inner=[nn.LazyConv2d(4, 3)]), r"features\.0\.weight of the network has no shape yet"),
        (lambda: plain().to("meta"), "lies on meta"),
        (lambda: spread(plain()), "lies on cpu, meta"),
        (lambda: plain().requires_grad_(False), "all parameters of the network are frozen"),
        (lambda: Returns(nn.Sequential(Block()), head(), 16), r"returns dict, not logits: a tensor of shape \(1, 3\)"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_step(photos, tmp_path, make, message):
    with pytest.raises(ModelError, match=message):
        cnnhw.fit(make(), photos, ONE, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_fault_inside_of_a_network_stays_one(photos):
    class Faulty(nn.Module):
        def forward(self, x):
            raise RuntimeError("a fault of its own")

    with pytest.raises(RuntimeError, match="a fault of its own"):
        cnnhw.fit(plain(inner=[Faulty(), nn.Conv2d(3, 4, 1)]), photos, ONE, progress=False)


def test_layers_of_torch_are_saved_with_the_weights(photos, tmp_path, caplog):
    act = nn.GELU()
    inner = [nn.Conv2d(3, 4, 3, padding="same", bias=False), nn.BatchNorm2d(4), act, nn.MaxPool2d(2), act]
    model = plain(inner=[nn.Sequential(*inner), nn.Dropout(0.2)])
    run = cnnhw.fit(model, photos, dataclasses.replace(ONE, raw=True), progress=False)
    found = cnnhw.load(run.save(tmp_path / "run"))
    assert not caplog.records
    assert repr(found) == repr(model)
    assert (found.classes, found.size, found.pixel_scale) == (photos.classes, 16, 255)
    logits = evaluation.predict(model, photos.test)
    torch.testing.assert_close(evaluation.predict(found, photos.test), logits)
    assert found.features[0][1].num_batches_tracked.dtype == torch.int64
    cnnhw.fit(found, photos, ONE, progress=False).save(tmp_path / "again")


@pytest.mark.parametrize("kind", ["own", "shared", "subclass"])
def test_other_networks_are_loaded_into_their_like(photos, tmp_path, kind, caplog):
    shared = nn.Conv2d(4, 4, 3, padding=1)

    class Own(Classifier):
        pass

    def make():
        if kind == "subclass":
            return Own(nn.Sequential(nn.Conv2d(3, 4, 1)), head(), 16)
        return plain(inner=[Block()] if kind == "own" else [nn.Conv2d(3, 4, 1), shared, nn.ReLU(), shared])

    run = cnnhw.fit(make(), photos, ONE, progress=False, folder=tmp_path / "checkpoint")
    logits = evaluation.predict(run.model, photos.test)
    with caplog.at_level(logging.WARNING, "cnnhw"):
        folder = run.save(tmp_path / "run")
    assert ["model=..." in one.getMessage() for one in caplog.records] == [True]
    with pytest.raises(WeightsError, match=r"without its code: .*cnnhw\.load\(PATH, model=\.\.\.\)"):
        cnnhw.load(folder)
    fresh = copy.deepcopy(make())
    found = cnnhw.load(folder, model=fresh)
    assert found is fresh
    assert (found.classes, found.training) == (photos.classes, False)
    torch.testing.assert_close(evaluation.predict(found, photos.test), logits)
    for other in (plain(inner=[nn.Conv2d(3, 4, 5), nn.Conv2d(4, 4, 5)]), models.create("fast", 3, size=16)):
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(WeightsError, match="does not hold the weights of the network given: of "):
            cnnhw.load(folder, model=other)
        assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    larger = make()
    larger.size = 32
    with pytest.raises(WeightsError, match="of photos, the file has"):
        cnnhw.load(folder, model=larger)


def test_a_registered_network_may_be_given_too(tmp_path):
    model = models.create("q1_shallow", 3, seed=1, size=16)
    weights.save_weights(model, tmp_path / "w.safetensors")
    found = cnnhw.load(tmp_path / "w.safetensors", model=models.create("q1_shallow", 3, seed=2, size=16).double())
    assert found.name == "q1_shallow"
    assert torch.equal(found.features.conv1.weight.float(), model.features.conv1.weight)


@pytest.mark.parametrize(
    "layers",
    [
        "1",
        '[["Sequential", {"0": ["Conv3", {}]}], ["Sequential", {}]]',
        '[["Sequential", {"0": ["functional", {}]}], ["Sequential", {}]]',
        '[["Sequential", {"0": ["Module.__init__", {}]}], ["Sequential", {}]]',
        '[["Sequential", {}], ["Sequential", {"0": ["LSTM", {"input_size": 9, "hidden_size": 9, "num_layers": 999}]}]]',
        "[" * 5000,
    ],
)
def test_layers_that_cannot_be_are_refused(tmp_path, layers):
    weights.save_weights(plain(), tmp_path / "w.safetensors")
    metadata, tensors = files.load_tensors(tmp_path / "w.safetensors")
    assert json.loads(metadata["layers"])[0][1]["1"] == ["ReLU", {"inplace": False}]
    files.save_tensors(tmp_path / "bad.safetensors", tensors, metadata | {"layers": layers})
    with pytest.raises(WeightsError, match="does not hold a model that this version knows"):
        cnnhw.load(tmp_path / "bad.safetensors")


def test_a_checkpoint_of_another_network_is_refused(photos, tmp_path):
    cnnhw.fit(plain(), photos, ONE, folder=tmp_path, progress=False)
    with pytest.raises(TrainingError, match="other settings"):
        cnnhw.fit(plain(inner=[nn.Conv2d(3, 4, 3, padding=1), nn.ELU()]), photos, ONE, folder=tmp_path, resume=True)
    named, other = (models.create("q1_shallow", 3, size=16, dense=dense) for dense in (True, False))
    cnnhw.fit(named, photos, ONE, folder=tmp_path / "named", progress=False)
    with pytest.raises(TrainingError, match="belongs to another network"):
        cnnhw.fit(other, photos, ONE, folder=tmp_path / "named", resume=True)


def test_batch_norms_without_parameters_learn_with_their_place(photos):
    model = plain(inner=[Block()])
    cnnhw.fit(model, photos, ONE, progress=False)
    assert model.features[0].norm.running_mean.abs().sum() > 0
    frozen = plain(inner=[Block()])
    frozen.features.requires_grad_(False)
    cnnhw.fit(frozen, photos, ONE, progress=False)
    assert frozen.features[0].norm.running_mean.abs().sum() == 0


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ([Block()], "no square convolution of photos to whiten"),
        ([nn.ReLU()], "no square convolution"),
        ([nn.Conv2d(3, 4, (3, 5))], "no square convolution"),
    ],
)
def test_what_cannot_be_whitened_is_refused(photos, inner, message):
    model = Classifier(nn.Sequential(*inner), head(3 if isinstance(inner[0], nn.ReLU) else 4), 16)
    with pytest.raises(ModelError, match=message):
        cnnhw.fit(model, photos, Recipe(epochs=1, whiten=True), progress=False)


@pytest.mark.parametrize(
    ("count", "size", "lengths"),
    [
        (65, 64, [65]),
        (129, 64, [64, 65]),
        (66, 64, [64, 2]),
        (64, 64, [64]),
        (3, 1, [1, 1, 1]),
        (1, 8, [1]),
        (5, 2, [2, 3]),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before_it(count, size, lengths):
    order = torch.randperm(count)
    parts = checks.batches(order, size)
    assert [len(part) for part in parts] == lengths
    assert torch.equal(torch.cat(parts), order)


@pytest.mark.parametrize("name", ["fast", "fast_inception", "resnet"])
def test_one_photo_more_than_a_batch(name):
    photos = make_photos(size=16)
    size = len(photos.train) - 1
    recipe = Recipe.fast(2) if name == "fast" else Recipe(epochs=1)
    model = models.create(name, 3, size=16)
    run = cnnhw.fit(model, photos, dataclasses.replace(recipe, batch_size=size), progress=False)
    assert all(value > 0 for value in run.history["loss"])


def test_batches_of_one_are_refused_only_where_a_norm_would_see_one_value(photos):
    recipe = Recipe(epochs=1, batch_size=1)
    with pytest.raises(TrainingError, match="a batch of one photo cannot be normalised: at 16 pixels"):
        cnnhw.fit(models.create("fast", 3, size=16), photos, recipe, progress=False)
    few = dataclasses.replace(
        photos, train=dataclasses.replace(photos.train, index=photos.train.index[:4], labels=photos.train.labels[:4],
                                          names=photos.train.names[:4], digests=photos.train.digests[:4])
    )  # fmt: skip
    cnnhw.fit(models.create("fast", 3, size=32), make_photos(size=32), dataclasses.replace(ONE), progress=False)
    cnnhw.fit(models.create("resnet", 3, size=16, depth=8), few, recipe, progress=False)


def test_a_resolution_that_is_too_low_is_raised(photos):
    model = models.create("fast", 3, size=16)
    assert [checks.side(model, side, 16) for side in (8, 12, 16)] == [16, 16, 16]
    assert [checks.side(model, side, 32) for side in (10, 16, 24, 32)] == [16, 16, 24, 32]
    cnnhw.fit(model, photos, Recipe.fast(3), progress=False)
