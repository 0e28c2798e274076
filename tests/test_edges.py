"""Edge scores against filters and maps whose scores are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from cnnhw import models
from cnnhw.data import scenes
from cnnhw.errors import CnnhwError, DataError
from cnnhw.features import first_layer

ACROSS = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
LUMINANCE = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


@pytest.fixture(scope="module")
def drawn():
    return scenes.draw(10, size=32)


def bank(stride=1, padding=1):
    """Return Sobel's operator both ways and an average, each of the luminance."""
    conv = nn.Conv2d(3, 3, 3, stride=stride, padding=padding, padding_mode="reflect", bias=False)
    conv.weight.data = torch.stack([ACROSS * LUMINANCE, -ACROSS.T * LUMINANCE, torch.full((3, 3), 1 / 9) * LUMINANCE])
    return conv


def gabor(theta, side=7, period=3.5, width=1.5):
    at = torch.arange(side) - (side - 1) / 2
    along = at[None] * math.cos(theta) + at[:, None] * math.sin(theta)
    envelope = torch.exp(-(at[None] ** 2 + at[:, None] ** 2) / (2 * width**2))
    return (envelope * torch.sin(2 * math.pi * along / period)).expand(1, 3, side, side)


def test_sobel_of_a_ramp():
    x = torch.arange(8.0) / 10
    ramp = (x[None, :] + 2 * x[:, None]).expand(1, 3, 8, 8)
    gx, gy, magnitude = (part[0, 1:-1, 1:-1] for part in first_layer.sobel(ramp))
    assert gx.numpy() == pytest.approx(0.8)  # 8 times 0.1
    assert gy.numpy() == pytest.approx(1.6)
    assert magnitude.numpy() == pytest.approx(0.8 * 5**0.5)


def test_sobel_weighs_colours_as_the_eye_does_and_takes_bytes():
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    image[0, 1, :, 2:] = 255  # a step of green
    gx, gy, _ = first_layer.sobel(image)
    assert gx[0, 2].tolist() == pytest.approx([0, 4 * 0.587, 4 * 0.587, 0])
    assert gy.abs().max() == pytest.approx(0, abs=1e-6)


def test_sobel_filters_correlate_fully_and_an_average_hardly(drawn):
    found = first_layer.edge_correlation(bank()(drawn.images / 255), drawn.images)
    gx, gy = found["gx"].tolist(), found["gy"].tolist()
    assert gx[0] == pytest.approx(1)
    assert gy[1] == pytest.approx(1)
    assert max(gx[1], gx[2], gy[0], gy[2]) < 0.3
    assert found["magnitude"][:2].min() > 0.5 > found["magnitude"][2]


def test_correlation_is_pearsons(drawn):
    maps = torch.rand(10, 1, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    gx, _, magnitude = first_layer.sobel(drawn.images)
    found = first_layer.edge_correlation(maps, drawn.images)
    assert float(found["gx"]) == pytest.approx(abs(np.corrcoef(maps.flatten(), gx.flatten())[0, 1]), abs=1e-6)
    expected = abs(np.corrcoef(maps.abs().flatten(), magnitude.flatten())[0, 1])
    assert float(found["magnitude"]) == pytest.approx(expected, abs=1e-6)


def test_a_constant_channel_correlates_with_nothing(drawn):
    found = first_layer.edge_correlation(torch.full((10, 1, 32, 32), 0.3), drawn.images)
    assert [float(value) for value in found.values()] == [0, 0, 0]


def test_maps_of_another_size_are_refused(drawn):
    with pytest.raises(DataError, match="must be the same"):
        first_layer.edge_correlation(torch.zeros(10, 2, 16, 16), drawn.images)


@pytest.mark.parametrize("theta", [0, 0.4, math.pi / 2, 2.5])
def test_a_gabor_is_selective(theta):
    assert float(first_layer.orientation_selectivity(gabor(theta))) > 0.65


def test_what_looks_the_same_when_turned_is_not_selective():
    at = torch.arange(7) - 3.0
    squared = at[None] ** 2 + at[:, None] ** 2
    ring = torch.exp(-squared / 4) - 0.4 * torch.exp(-squared / 8)
    point = torch.zeros(7, 7)
    point[3, 3] = 1
    weight = torch.stack([torch.exp(-squared / 4), ring, point])[:, None].expand(3, 3, 7, 7)
    assert first_layer.orientation_selectivity(weight).max() < 1e-6


def test_a_derivative_has_a_third_and_pure_colour_nothing():
    small = ACROSS.expand(1, 3, 3, 3)
    assert float(first_layer.orientation_selectivity(small)) == pytest.approx(1 / 3, abs=0.06)
    colour = small * torch.tensor([1.0, -0.9, -0.1])[:, None, None]
    assert float(first_layer.orientation_selectivity(colour)) == 0
    assert float(first_layer.opponent_share(colour)) == pytest.approx(1)


def test_shares():
    gaussian = torch.exp(-((torch.arange(5) - 2.0) ** 2) / 2)
    gaussian = (gaussian[None] * gaussian[:, None]).expand(1, 3, 5, 5)
    assert float(first_layer.dc_share(gaussian)) == pytest.approx(1)
    assert float(first_layer.dc_share(-gaussian)) == pytest.approx(1)
    assert float(first_layer.dc_share(ACROSS.expand(1, 3, 3, 3))) == 0
    assert float(first_layer.opponent_share(gaussian)) == 0
    red = torch.zeros(1, 3, 3, 3)
    red[:, 0] = 1  # a third of it is grey
    assert float(first_layer.opponent_share(red)) == pytest.approx(2 / 3)
    assert (
        float(first_layer.dc_share(torch.zeros(1, 3, 3, 3)))
        == float(first_layer.opponent_share(torch.zeros(1, 3, 3, 3)))
        == 0
    )


def test_area_under_curve_of_the_mask_of_noise_and_by_counting():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(20, 32, 32, generator=generator) < 0.3
    noise = torch.rand(20, 32, 32, generator=generator)
    maps = torch.stack([masks.float(), -masks.float(), noise, torch.zeros(20, 32, 32)], 1)
    areas = first_layer.area_under_curve(maps, masks)
    assert areas.tolist() == pytest.approx([1, 1, 0.5, 0.5], abs=0.01)
    assert float(areas[3]) == 0.5
    # object 1, 2, 2; ground 2, 3: of six pairs four are the wrong way round, two are ties
    maps = torch.tensor([1.0, 2, 2, 2, 3]).view(1, 1, 1, 5)
    masks = torch.tensor([1, 1, 1, 0, 0]).view(1, 1, 5).bool()
    assert float(first_layer.area_under_curve(maps, masks)) == pytest.approx(5 / 6)


def test_area_under_curve_needs_both_sides():
    with pytest.raises(DataError, match="some of the object"):
        first_layer.area_under_curve(torch.rand(1, 1, 4, 4), torch.ones(1, 4, 4).bool())
    with pytest.raises(DataError, match="do not fit"):
        first_layer.area_under_curve(torch.rand(1, 1, 4, 4), torch.ones(1, 8, 8).bool())


class Shifted(nn.Module):
    """Changes photos before the convolution, and has another one after it."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv
        self.later = nn.Conv2d(conv.out_channels, 3, 1)

    def forward(self, x):
        return self.later((self.conv(4 * (x - 0.45))).relu_())


@pytest.mark.parametrize("padding", [0, 1])
def test_scores_of_a_sobel_bank(drawn, padding):
    model = Shifted(bank(padding=padding))
    model.conv.weight.data = model.conv.weight.data[:2]
    model.conv.out_channels, model.later = 2, nn.Conv2d(2, 3, 1)
    found = first_layer.scores(model, drawn.images)
    assert found["edge correlation"] == pytest.approx(1)
    assert found["dc share"] == pytest.approx(0, abs=1e-6)
    assert set(found) == {
        "edge correlation", "magnitude correlation", "orientation selectivity", "dc share", "opponent share"
    }  # fmt: skip


def test_scores_with_a_stride_and_masks(drawn):
    found = first_layer.scores(Shifted(bank(stride=2)), drawn.images, drawn.masks)
    assert 0.4 < found["edge correlation"] < 1
    assert 0.5 <= found["figure-ground"] <= found["figure-ground best"] <= 1


@pytest.mark.parametrize("name", ["fast", "q1_shallow", "q4_inception"])
def test_scores_of_registered_models_are_shares(drawn, name):
    model = models.create(name, size=32)
    found = first_layer.scores(model, drawn.images, drawn.masks)
    assert len(found) == 7
    assert all(0 <= value <= 1 for value in found.values())
    assert model.training


def test_a_model_without_a_layer_for_photos():
    with pytest.raises(CnnhwError, match="has no layer with a weight of shape"):
        first_layer.scores(nn.Linear(3, 3), torch.rand(1, 3, 8, 8))
