"""The encoder and decoder that finds objects in scenes."""

from __future__ import annotations

import pytest
import torch

from cnnhw.data import scenes
from cnnhw.evaluation import segmentation
from cnnhw.models import unet


def test_both_kinds_have_the_same_parameters_and_only_one_sees_the_encoder():
    torch.manual_seed(0)
    with_it, without = unet.EncoderDecoder(True).eval(), unet.EncoderDecoder(False).eval()
    without.load_state_dict(with_it.state_dict())
    x = torch.rand(2, 3, 16, 16)
    assert with_it(x).shape == (2, 16, 16)
    assert not torch.allclose(with_it(x), without(x))
    with torch.no_grad():
        for part in (with_it.up1, with_it.up2):
            half = part[0].weight.shape[1] // 2
            part[0].weight[:, half:] = 0
    without.load_state_dict(with_it.state_dict())
    assert torch.equal(with_it(x), without(x))


def test_edge_is_within_reach_on_both_sides():
    mask = torch.zeros(1, 12, 12, dtype=torch.bool)
    mask[0, :, 6:] = True
    assert segmentation._near_edge(mask)[0, 5].nonzero().flatten().tolist() == [4, 5, 6, 7]


@pytest.mark.slow
def test_it_finds_objects_better_than_chance():
    train = scenes.draw(300, size=32, controls=scenes.EASY)
    test = scenes.draw(50, size=32, controls=scenes.EASY, first=100000)
    found, same = (segmentation.find_objects(train, test, long=True, seed=1) for _ in range(2))
    everything = float(test.masks.double().mean())
    assert found.overlap > everything + 0.1
    assert 0.5 < found.edge <= 1
    assert torch.equal(found.masks, same.masks)
