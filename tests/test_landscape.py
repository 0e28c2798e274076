"""Gradients by layer, and the loss on lines and planes through networks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import nn

from cnnhw import models, plots
from cnnhw.errors import CnnhwError
from cnnhw.theory import loss_landscape


def small(seed, **options):
    return models.create("residual", size=16, seed=seed, depth=12, width=4, **options)


def linear(rows):
    """Make a network of one linear layer without bias, on photos of one pixel."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        head[1].weight.copy_(torch.tensor(rows))
    return models.Classifier(nn.Sequential(nn.Identity()), head, 1)


@pytest.fixture(scope="module")
def photos():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(40, 3, 16, 16, generator=generator), torch.arange(40) % 5


def test_norms_are_those_of_autograd(photos):
    model = small(0).eval()
    for part in model.parameters():
        part.grad = torch.full_like(part, 7.0)
    before = copy.deepcopy(model.state_dict())
    found = loss_landscape.gradient_norms(model, *photos)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all((part.grad == 7).all() for part in model.parameters())
    model.train().zero_grad()
    F.cross_entropy(model(photos[0]), photos[1]).backward()
    convolutions = {name: part for name, part in model.named_modules() if isinstance(part, nn.Conv2d)}
    assert list(found) == list(convolutions)
    assert len(found) == 13
    for name, part in convolutions.items():
        assert found[name] == pytest.approx(part.weight.grad.square().sum().sqrt().item(), rel=1e-5)


def test_norms_by_hand():
    """A 1x1 convolution with weights w on pixels x, averaged: logits w x, and the gradient is (p - onehot) x."""
    features = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        features[0].weight.zero_()
        head[2].weight.copy_(torch.eye(2))
    model = models.Classifier(features, head, 1).requires_grad_(requires_grad=False)
    found = loss_landscape.gradient_norms(model, torch.tensor([2.0, 3.0, 6.0]).reshape(1, 3, 1, 1), torch.tensor([0]))
    assert found == {"features.0": pytest.approx((2 * 0.5**2) ** 0.5 * 7)}
    assert not features[0].weight.requires_grad


def test_networks_lie_on_their_plane_with_their_own_losses(photos):
    networks = [small(seed) for seed in range(3)]
    networks[1].to(memory_format=torch.channels_last)  # as after training
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    found = loss_landscape.plane(*networks, *photos, steps=3, margin=0.0)
    for network, states in zip(networks, before, strict=True):
        assert network.training
        assert all(torch.equal(value, states[name]) for name, value in network.state_dict().items())
    own = [F.cross_entropy(network(photos[0]), photos[1]).item() for network in networks]  # in training mode
    assert found.heights == pytest.approx(own, rel=1e-4)
    assert found.losses.shape == (3, 3)
    assert found.losses[0, 0] == pytest.approx(own[0], rel=1e-4)
    assert found.losses[0, -1] == pytest.approx(own[1], rel=1e-4)

    def distance(a, b):
        pairs = zip(networks[a].parameters(), networks[b].parameters(), strict=True)
        return sum((x - y).square().sum().item() for x, y in pairs) ** 0.5

    places = np.array(found.places)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(places[a] - places[b]) == pytest.approx(distance(a, b), rel=1e-4)


def test_margin_reaches_beyond_the_networks(photos):
    found = loss_landscape.plane(*(small(seed, norm=False) for seed in range(3)), *photos, steps=2, margin=0.5)
    extent = found.places[1][0]
    assert found.across.tolist() == pytest.approx([-0.5 * extent, 1.5 * extent])
    assert found.up[1] - found.up[0] == pytest.approx(2 * found.places[2][1])


def test_plane_and_line_of_a_symmetrical_problem():
    """Each photo bears both labels, so exchanging the rows of the weights changes nothing; and the loss is convex."""
    images = torch.rand(10, 3, 1, 1).repeat(2, 1, 1, 1)
    labels = torch.arange(2).repeat_interleave(10)
    first, second = linear([[4.0, -1.0, 2.0], [0.0, 3.0, 1.0]]), linear([[0.0, 3.0, 1.0], [4.0, -1.0, 2.0]])
    found = loss_landscape.plane(first, second, linear([[9.0, 9.0, 0.0]] * 2), images, labels, steps=5)
    assert found.places[2][0] == pytest.approx(found.places[1][0] / 2)
    assert np.allclose(found.losses, found.losses[:, ::-1], atol=1e-6)
    line = loss_landscape.barrier(first, second, images, labels)
    assert line == pytest.approx(line[::-1], abs=1e-6)
    assert line[5] == pytest.approx(np.log(2), abs=1e-6)  # in the middle both logits are equal
    assert line[0] > line[3] > line[5]


def test_what_has_no_plane_is_refused(photos):
    first, second = small(0), small(1)
    with pytest.raises(CnnhwError, match="on a line"):
        loss_landscape.plane(first, second, first, *photos)
    with pytest.raises(CnnhwError, match="on a line"):
        loss_landscape.plane(first, first, second, *photos)
    with pytest.raises(CnnhwError, match="differ in structure"):
        loss_landscape.barrier(first, models.create("residual", size=16, depth=12), *photos)


def test_figure_has_one_scale_for_all_planes(photos):
    plane = loss_landscape.plane(*(small(seed) for seed in range(3)), *photos, steps=3)
    higher = loss_landscape.Plane(10 * plane.losses, plane.across, plane.up, plane.places, plane.heights)
    figure = plots.plane({"low": plane, "high": higher}, "Two planes", ("one", "two", "start"))
    low, high, scale = figure.axes
    assert [axis.get_title() for axis in (low, high)] == ["low", "high"]
    drawn = [axis.collections[0].norm for axis in (low, high)]
    assert drawn[0].vmin == drawn[1].vmin == pytest.approx(plane.losses.min())
    assert drawn[0].vmax == drawn[1].vmax == pytest.approx(higher.losses.max())
    assert scale.get_yscale() == "log"
    assert [line.get_label() for line in low.get_lines()] == ["one", "two", "start"]
    assert [line.get_xdata()[0] for line in low.get_lines()] == [place[0] for place in plane.places]
    plt.close(figure)
