"""Changed photos: blur and other colours."""

from __future__ import annotations

import pytest
import torch

from cnnhw.data import scenes
from cnnhw.errors import UnknownNameError
from cnnhw.evaluation import robustness


@pytest.mark.parametrize("kind", robustness.CHANGES)
def test_changed_photos_are_photos_of_the_same_things(kind):
    images = scenes.draw(8, size=40).images
    changed = robustness.changed(images, kind)
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    assert not torch.equal(changed, images)
    # blur keeps the mean colour; other colours keep the places of edges
    grey = torch.full((1, 3, 40, 40), 90, dtype=torch.uint8)
    assert (robustness.changed(grey, kind).int() - 90).abs().max() <= 1


def test_blur_spreads_a_point_as_a_gaussian_of_a_fortieth_of_the_side():
    point = torch.zeros(1, 3, 80, 80, dtype=torch.uint8)
    point[..., 40, 40] = 255
    row = robustness.changed(point.expand(1, 3, 80, 80), "blurred")[0, 0].float()
    # a Gaussian's peak is 1 / (2 pi s^2) and falls by exp(-1/2) at one deviation, here 2 pixels
    assert row[40, 40].item() == pytest.approx(255 / (2 * torch.pi * 4), rel=0.1)
    assert (row[40, 42] / row[40, 40]).item() == pytest.approx(0.607, abs=0.12)


def test_unknown_changes_are_refused():
    with pytest.raises(UnknownNameError, match="change 'blured'"):
        robustness.changed(scenes.draw(1, size=16).images, "blured")
