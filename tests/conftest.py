"""Fixtures that all tests share: no test touches the user's cache, and small photos that can be learnt."""

from __future__ import annotations

import pytest
import torch

from cnnhw.data.photoset import PhotoSet, Split


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Give each test a cache folder of its own, and no data of the machine's."""
    monkeypatch.setenv("CNNHW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNHW_DATA", raising=False)


@pytest.fixture(autouse=True)
def one_thread():
    """Compute with one thread, so that results do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_photos(train: int = 60, size: int = 16, classes: int = 3, seed: int = 0) -> PhotoSet:
    """Make photos whose class is the direction of a bright stripe plus noise: learnable, but not in one step."""
    generator = torch.Generator().manual_seed(seed)
    validation, test = train // 3, train // 2
    total = train + validation + test
    labels = torch.arange(total) % classes
    images = torch.randint(0, 120, (total, 3, size, size), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        at = int(torch.randint(0, size - 1, (), generator=generator))
        if label == 0:
            images[i, :, at : at + 2, :] += 90
        elif label == 1:
            images[i, :, :, at : at + 2] += 90
        else:
            images[i, label % 3, :: label + 1] += 60

    def split(start: int, stop: int) -> Split:
        rows = torch.arange(start, stop)
        names = tuple(f"{i}.png" for i in rows.tolist())
        return Split(images, rows, labels[start:stop], names, tuple(f"{seed}-{size}-{name}" for name in names))

    return PhotoSet(
        "stripes",
        tuple(f"class {i}" for i in range(classes)),
        size,
        split(0, train),
        split(train, train + validation),
        split(train + validation, total),
    )


@pytest.fixture
def photos() -> PhotoSet:
    return make_photos()
