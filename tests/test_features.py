"""Looking into models: what is shown is what the model computes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn

import cnnhw
from cnnhw import features, models, plots, theory
from cnnhw.data import scenes
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import Split
from cnnhw.errors import CnnhwError, DataError, ModelError, UnknownNameError
from cnnhw.features import smoothness
from cnnhw.models import weights


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def stack():
    """Return three convolutions and a pooling; by hand, a unit at (r, c) sees 3 + 2 + 1 + 2 * 2 = 10 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 2, 3, padding=1),
    )


class Looks(nn.Module):
    """Knows its two classes by the four pixels from (8, 20) on alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        seen = self.conv(x)[:, :, 8:10, 20:22].mean((2, 3))
        return 20 * seen


@pytest.mark.parametrize("layer", ["features.relu2", "relu2", None])
def test_maps_are_those_of_a_forward_pass(layer):
    model = models.create("q1_shallow", size=32)
    images = scenes.draw(3, size=32).images
    found = features.maps(model, images, layer)
    names = [name for name, _ in model.features.named_children()]
    last = 1 if layer is None else names.index("relu2") + 1
    expected = model.eval().features[:last](images / 255)
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_maps_are_not_changed_by_a_later_layer_in_place():
    model = stack()
    images = torch.rand(2, 3, 8, 8)
    found = features.maps(model, images, "0")
    assert (found < 0).any()
    assert torch.equal(found, model[0](images))


def test_maps_come_in_batches_and_leave_the_model_alone():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    model[1].eval()  # frozen
    images = torch.rand(230, 3, 4, 4)
    found = features.maps(model, images, "1")
    assert found.shape == (230, 2, 2, 2)
    assert [part.training for part in model] == [True, False, True]
    assert model[1].num_batches_tracked == 0
    assert not model[1]._forward_hooks


def test_scaled_pixels_reach_the_first_layer():
    model = models.create("q1_shallow", size=32)
    images = torch.rand(1, 3, 32, 32)
    plain = features.maps(model, images)
    model.pixel_scale = 255.0
    assert torch.allclose(features.maps(model, images), 255 * plain, rtol=1e-4, atol=1e-3)


def test_any_torch_model():
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.resnet18(weights=None)
    names = features.layers(model, size=64)
    assert names[:4] == ["conv1", "bn1", "relu", "maxpool"]
    assert names[-1] == "avgpool"
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert features.maps(model, images).shape == (2, 64, 32, 32)
    assert features.maps(model, images, "layer2.0.conv2").shape == (2, 128, 8, 8)
    assert features.maps(model, images, "layer2").shape == (2, 128, 8, 8)
    assert features.filters(model).shape == (64, 3, 7, 7)
    assert features.receptive_box(model, "maxpool", 4, 4, size=64) == (16 - 5, 16 - 5, 16 + 6, 16 + 6)
    with pytest.raises(CnnhwError, match=r"one of layer1.0.conv2, .*: give its full name"):
        features.maps(model, images, "conv2")
    assert features.saliency(model, images[0], 7).shape == (64, 64)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_layers_of_our_own_models_in_order():
    names = features.layers(models.create("fast", size=32))
    assert names[:3] == ["features.standardise", "features.stem", "features.signs"]
    assert names[-1] == "head.pool"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("stm", "Did you mean 'stem'"),
        ("features.stm", "Did you mean 'features.stem'"),
        ("0", "is one of features.stage1.0, .*: give its full name"),
        ("linear", "unknown layer with maps 'head.linear'.*Known: .*features.stem"),
    ],
)
def test_a_layer_that_does_not_exist(layer, message):
    with pytest.raises(CnnhwError, match=message):
        features.maps(models.create("fast", size=32), torch.rand(1, 3, 32, 32), layer)


def test_filters_are_a_copy():
    model = models.create("q1_shallow", size=32)
    weight = features.filters(model)
    weight.zero_()
    assert features.filters(model).abs().max() > 0
    with pytest.raises(UnknownNameError, match="unknown convolution"):
        features.filters(model, "relu2")
    with pytest.raises(CnnhwError, match="name the layer"):
        features.filters(nn.Linear(2, 2))


def test_dead_channels():
    maps = torch.rand(2, 3, 4, 4)
    maps[:, 1] = 0.25
    maps[0, 2] = 0  # alive on the other photo
    assert features.dead(maps).tolist() == [False, True, False]


def test_smoothness_and_density_by_hand():
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)  # 0 1 2 3 across: deviations -1.5 -0.5 0.5 1.5
    across = 2 * (0.75 - 0.25 + 0.75) / (2 * (2.25 + 0.25 + 0.25))
    assert smoothness.autocorrelation(ramp).item() == pytest.approx((1 + across) / 2)
    checks = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    noise = torch.rand(40, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert smoothness.autocorrelation(checks.float()[None, None]).item() == pytest.approx(-1)
    assert smoothness.autocorrelation(checks.float()[None, None], lag=2).item() == pytest.approx(1)
    assert smoothness.autocorrelation(noise).item() == pytest.approx(0, abs=0.02)
    assert smoothness.autocorrelation(torch.ones(2, 1, 4, 4)).item() == 0
    both = torch.cat([noise, 5 - 3 * noise], 1)  # neither place nor size nor sign of a channel matters
    assert smoothness.autocorrelation(both)[0] == pytest.approx(smoothness.autocorrelation(both)[1].item(), abs=1e-5)
    blurred = nn.functional.avg_pool2d(noise, 2, stride=1)  # windows side by side share half of their cells
    assert smoothness.autocorrelation(blurred).item() == pytest.approx(0.5, abs=0.03)
    assert smoothness.active_share(torch.stack([checks, 0 * checks])[None]).tolist() == [0.5, 0]
    for shape, lag in (((1, 2, 1, 5), 1), ((2, 4, 4), 1), ((1, 1, 4, 4), 0), ((1, 1, 4, 4), 4)):
        with pytest.raises(DataError, match="apart in both directions"):
            smoothness.autocorrelation(torch.rand(shape), lag)


def test_largest_activations(photos):
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 0, 0], [0, -1, 0]])[:, :, None, None]
    split = photos.train
    found = features.top_activations(model, split, "0", 0, count=4)
    red = split.images[:, 0] / 255
    best = sorted(red.flatten(1).amax(1).tolist(), reverse=True)[:4]
    assert [value for *_, value in found] == pytest.approx(best)
    for index, row, column, value in found:
        assert float(red[index, row, column]) == pytest.approx(value)
    assert features.top_activations(model, split.images, "0", 0, count=4) == found
    assert len({index for index, *_ in found}) == 4
    with pytest.raises(DataError, match="channels 0 to 1, not 2"):
        features.top_activations(model, split, "0", 2)


def test_receptive_box_by_hand():
    model = stack()
    assert features.receptive_box(model, "0", 5, 6, size=16) == (4, 5, 7, 8)
    assert features.receptive_box(model, "2", 5, 6, size=16) == (3, 4, 8, 9)
    assert features.receptive_box(model, "3", 3, 4, size=16) == (4, 6, 10, 12)
    assert features.receptive_box(model, "4", 3, 4, size=16) == (2, 4, 12, 14)
    assert features.receptive_box(model, "4", 0, 7, size=16) == (0, 10, 6, 16)  # clipped
    with pytest.raises(DataError, match="8 x 8 positions"):
        features.receptive_box(model, "4", 8, 0, size=16)


def test_receptive_box_does_not_depend_on_weights():
    model = stack()
    for parameter in model.parameters():
        parameter.data.zero_()
    assert features.receptive_box(model, "4", 3, 4, size=16) == (2, 4, 12, 14)


@pytest.mark.parametrize("name", ["q1_deep", "q4_inception", "plain", "residual"])
def test_receptive_box_is_as_large_as_the_theory_says(name):
    model = models.create(name, size=128)
    found = [layer for layer in theory.layers(model) if layer.kind == "Conv2d" and layer.field < 50]
    layer = found[-1]
    middle = layer.shape[-1] // 2
    top, left, bottom, right = features.receptive_box(model, layer.name, middle, middle)
    assert (bottom - top, right - left) == (layer.field, layer.field)


def test_a_layer_that_sees_nothing():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.conv(torch.zeros(len(x), 3, 4, 4))

    with pytest.raises(DataError, match="does not depend on the photo"):
        features.receptive_box(Blind(), "conv", 0, 0, size=8)


@pytest.mark.parametrize("label", [None, 0, 1])
def test_saliency_is_confined_to_what_the_model_sees(label):
    model = Looks()
    found = features.saliency(model, torch.rand(3, 32, 32), label)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[8:10, 20:22] = True
    assert (found[~inside] == 0).all()
    weight = model.conv.weight.detach()[:, :, 0, 0].abs().amax(1)
    possible = weight.tolist() if label is None else [float(weight[label])]
    assert any(found[inside].numpy() == pytest.approx(5 * value) for value in possible)  # 20 times a mean of 4
    assert model.conv.weight.grad is None
    assert model.training


def test_gradients_are_left_as_they_were():
    model = Looks()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    features.saliency(model, torch.rand(3, 32, 32))
    features.occlusion(model, torch.rand(3, 32, 32))
    assert (model.conv.weight.grad == 1).all()


def test_saliency_works_where_gradients_are_off():
    with torch.no_grad():
        assert features.saliency(Looks(), torch.rand(3, 32, 32)).max() > 0


def test_occlusion_peaks_where_the_model_looks():
    model = Looks()
    model.conv.weight.data = torch.tensor([[1.0, 1, 1], [0, 0, 0]])[:, :, None, None]
    model.conv.bias.data = torch.tensor([-2.0, 0])
    image = torch.full((3, 32, 32), 255, dtype=torch.uint8)
    found = features.occlusion(model, image, window=4, step=2)
    assert found.argmax() in [8 * 32 + 20, 8 * 32 + 21, 9 * 32 + 20, 9 * 32 + 21]
    assert float(found.max()) == pytest.approx(1, abs=1e-3)  # from a logit of 20 to one of -13
    far = found.clone()
    far[8 - 3 : 10 + 3, 20 - 3 : 22 + 3] = 0
    assert far.abs().max() < 1e-6
    assert (features.occlusion(model, image, label=1, window=4, step=2) <= 1e-6).all()


@pytest.mark.parametrize(("window", "step"), [(7, 5), (32, 1)])
def test_every_pixel_is_covered(window, step):
    assert features.occlusion(Looks(), torch.rand(3, 32, 32), window=window, step=step).isfinite().all()


def test_bad_windows_and_labels():
    with pytest.raises(DataError, match="1 <= step <= window <= side"):
        features.occlusion(Looks(), torch.rand(3, 32, 32), window=4, step=5)
    with pytest.raises(DataError, match="classes 0 to 1, not 2"):
        features.occlusion(Looks(), torch.rand(3, 32, 32), label=2)
    with pytest.raises(DataError, match="classes 0 to 1, not -1"):
        features.saliency(Looks(), torch.rand(3, 32, 32), -1)


def test_maps_are_drawn_on_one_scale_and_dead_ones_are_marked():
    maps = torch.stack([torch.linspace(0, 2, 16).view(4, 4), torch.zeros(4, 4), torch.full((4, 4), 0.5)])
    figure = plots.feature_maps(maps, torch.rand(3, 8, 8), title="Maps", names=["a", "b", "c"])
    axis = figure.axes[0]
    photo, *drawn = axis.images
    assert photo.get_array().shape == (8, 8, 3)
    assert {one.get_clim() for one in drawn} == {(0, 2)}
    assert [text.get_text() for text in axis.texts] == ["photo", "a", "b", "c", "dead", "dead"]
    assert len(figure.axes) == 2  # with the scale


def test_the_scale_is_symmetric_if_any_value_is_negative():
    maps = torch.tensor([[[0.0, 3.0]], [[-1.0, 0.5]]])
    drawn = plots.feature_maps(maps).axes[0].images
    assert [one.get_clim() for one in drawn] == [(-3, 3)] * 2
    assert drawn[0].get_cmap().name == "RdBu_r"


def test_filters_are_drawn_around_grey():
    weight = torch.zeros(9, 3, 3, 3)
    weight[0, 0, 1, 1], weight[8, 2, 0, 0] = 2.0, -1.0
    drawn = plots.filters(weight, title="Filters").axes[0].images
    assert len(drawn) == 9
    assert drawn[0].get_array()[1, 1].tolist() == [1, 0.5, 0.5]
    assert drawn[8].get_array()[0, 0].tolist() == [0.5, 0.5, 0.25]
    left, _, bottom, _ = drawn[8].get_extent()
    assert (left, bottom > drawn[0].get_extent()[2]) == (0, True)  # the ninth begins a new row
    with pytest.raises(DataError, match="have no colours"):
        plots.filters(torch.zeros(4, 16, 3, 3))


def test_receptive_fields_frame_whole_pixels():
    figure = plots.receptive_fields(torch.rand(3, 16, 16), {"a": (2, 4, 12, 14), "b": (0, 0, 3, 5)})
    frames = [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in figure.axes[0].patches]
    assert frames == [(3.5, 1.5, 10, 10), (-0.5, -0.5, 5, 3)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


@pytest.fixture
def run(run, tmp_path, monkeypatch):
    """Run the command beside weights and a photo."""
    model = models.create("q1_shallow", size=32)
    with torch.no_grad():
        model.features[0].weight[3] = 0  # a dead channel
        model.features[0].weight[5] = 0
    weights.save_weights(model, tmp_path / "weights.safetensors")
    image = scenes.draw(1, size=48).images[0].permute(1, 2, 0).numpy()
    Image.fromarray(image[:, :40]).save(tmp_path / "my.photo.png")
    monkeypatch.chdir(tmp_path)

    return lambda *words: run("features", *words)


@pytest.mark.parametrize("more", [(), ("--crop",)])
def test_command_draws_the_first_layer(run, tmp_path, more):
    code, out, err = run("weights.safetensors", "my.photo.png", *more)
    assert code == 0, err
    first = features.first_convolution(weights.load("weights.safetensors"))
    assert out.startswith(f"{first}: ")
    assert "2 of them dead" in out
    with Image.open(tmp_path / f"my.photo-{first}.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 400


def test_command_takes_a_layer_and_a_file(run, tmp_path):
    code, out, err = run(str(tmp_path), "my.photo.png", "--layer", "relu2", "--out", "deep/maps.png")
    assert code == 0, err
    assert out.startswith("features.relu2: ")
    assert (tmp_path / "deep" / "maps.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("weights.safetensors", "my.photo.png", "--layer", "rellu2"), "Did you mean 'relu2'? Known: conv1, "),
        (("weights.safetensors", "my.photo.png", "--layer", "head"), "unknown layer with maps 'head'"),
        (("weights.safetensors", "none.png"), "none.png"),
        (("nothing", "my.photo.png"), "no weights at nothing"),
    ],
)
def test_mistakes_write_nothing(run, tmp_path, words, message):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*words)
    assert code == 2
    assert message in err
    assert not out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_figure_that_fails_leaves_no_file(run, tmp_path, monkeypatch):
    def fail(self, path, **_):
        path.write_bytes(b"half")
        raise CnnhwError("the disk is full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("weights.safetensors", "my.photo.png")
    assert (code, err) == (2, "error: the disk is full\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_similarity_of_representations_by_hand():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    assert features.cka(x, 3 * x @ rotation + 7) == pytest.approx(1)
    assert features.cka(torch.tensor([[1.0], [-1], [0], [0]]), torch.tensor([[0.0], [0], [1], [-1]])) == 0
    # two axes of equal variance, of which the other keeps one: 1 / sqrt(2)
    both = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert features.cka(both, both[:, :1]) == pytest.approx(2**-0.5)
    with pytest.raises(DataError, match="50 and of 4 photos"):
        features.cka(x, both)
    with pytest.raises(DataError, match="the same for all photos"):
        features.cka(x, torch.ones(50, 2))


def test_vectors_are_means_of_the_last_map(photos):
    model = cnnhw.models.create("q1_shallow", 3, size=16)
    found = features.embeddings(model, photos.test)
    with torch.no_grad():
        maps = model.forward_features(to_float(photos.test.batch([4])))
    assert found.shape == (len(photos.test), 64)
    assert torch.allclose(found[4], maps.mean((2, 3))[0], atol=1e-6)
    assert model.training


def test_photos_without_vectors_are_refused(photos):
    model = cnnhw.models.create("q1_deep", 3, size=64)
    tiny = dataclasses.replace(photos.train, store=photos.train.store[:, :, :2, :2])
    with pytest.raises(ModelError, match="q1_deep takes no photos of 2 pixels; the next size that it takes is 16"):
        features.embeddings(model, tiny)
    empty = Split(photos.train.store, torch.arange(0), torch.arange(0), (), ())
    with pytest.raises(DataError, match="no photos"):
        features.embeddings(model, empty)
