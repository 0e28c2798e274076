"""Augmentation moves and mirrors whole photos, each by itself, and nothing else."""

from __future__ import annotations

import torch

from cnnhw.data.augment import augment, to_float


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nothing_to_do_returns_the_same_tensor():
    x = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    assert augment(x, flip=False, shift=0, generator=generator()) is x


def test_each_photo_is_itself_or_its_mirror_image():
    x = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    y = augment(x, flip=True, shift=0, generator=generator())
    kept = (y == x).flatten(1).all(1)
    mirrored = (y == x.flip(3)).flatten(1).all(1)
    assert (kept | mirrored).all()
    assert 16 < int(mirrored.sum()) < 48


def test_each_photo_is_shifted_by_a_whole_number_of_pixels():
    x = torch.randint(0, 256, (40, 3, 12, 12), dtype=torch.uint8)
    y = augment(x, flip=False, shift=2, generator=generator())
    assert y.dtype == torch.uint8
    found = set()
    for before, after in zip(x, y, strict=True):
        shifts = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(after[:, 2:-2, 2:-2], before[:, 2 + dy : 10 + dy, 2 + dx : 10 + dx])
        ]
        assert len(shifts) == 1
        found.add(shifts[0])
    assert len(found) > 10


def test_same_generator_same_result():
    x = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)
    a, b = (augment(x, flip=True, shift=3, generator=generator(4)) for _ in range(2))
    assert torch.equal(a, b)


def test_float_range():
    x = to_float(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8))
    assert x.flatten().tolist() == [0.0, 1.0, torch.tensor(0.2).item()]


def test_cutout_covers_a_square_with_grey():
    images = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    out = augment(images, flip=False, shift=0, cutout=0.5, generator=torch.Generator().manual_seed(0))
    covered = (out == 115).all(1)  # (N, H, W)
    assert torch.equal(covered, (out != 0).any(1))  # nothing else has changed
    rows, columns = covered.any(2).sum(1), covered.any(1).sum(1)
    assert torch.equal(covered.sum((1, 2)), rows * columns)  # a rectangle
    assert rows.max() == columns.max() == 15
    assert rows.min() >= 7  # the centre is in the photo
    assert len(covered.flatten(1).unique(dim=0)) > 100
