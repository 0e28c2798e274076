"""Changes to a data set before training, each with a name: ways of splitting and ordering that a study compares.

Each takes a PhotoSet and a seed, which those that draw nothing at random ignore, and returns a PhotoSet. Some are
faults of the original report, kept so that their effect can be measured.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cnnhw.data.photoset import PhotoSet, Split, join
from cnnhw.errors import UnknownNameError

__all__ = [
    "FOLDS",
    "SHARES",
    "bgr",
    "every_fifth",
    "fold",
    "function",
    "half_train",
    "last_tenth",
    "left_out",
    "names",
    "own_cut",
    "prepare",
    "random_split",
]

SHARES = {"train_5": 0.05, "train_10": 0.1, "train_25": 0.25, "train_50": 0.5}
"""Protocols that keep a share of the training photos of each class, at random: the smaller within the larger."""
FOLDS = 5
"""How many seeds of :func:`fold` test every photo once: seed s is fold s % 5 of repeat s // 5."""


def bgr(photos: PhotoSet, seed: int = 0) -> PhotoSet:
    """Exchange red and blue, as OpenCV reads photos."""
    store = photos.train.store.flip(1)
    return _with(photos, *(dataclasses.replace(split, store=store) for split in photos.splits))


def last_tenth(photos: PhotoSet, seed: int = 0) -> PhotoSet:
    """Validate with the last tenth of the unshuffled training photos.

    That is what Keras's ``validation_split=0.1`` takes. Training and validation photos are joined in the order of
    classes and names, and cut again: the tenth is of one class only. The test photos stay.
    """
    pool = join(photos.train, photos.validation)
    order = torch.tensor(sorted(range(len(pool)), key=lambda row: (int(pool.labels[row]), int(pool.index[row]))))
    cut = len(pool) - len(pool) // 10
    return _with(photos, _take(pool, order[:cut]), _take(pool, order[cut:]), photos.test)


def own_cut(photos: PhotoSet, seed: int = 0) -> PhotoSet:
    """Draw anew which of the training and validation photos validate, as many of each class as before; the test stays.

    What protocols after it keep is a part of the seed's own training photos: ``("own_cut", "half_train")``.
    """
    pool = join(photos.train, photos.validation)
    # by row, so that the cut depends on the photos and the seed, and not on the cut that there was
    order = pool.index.argsort()[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))]
    held = torch.zeros(len(pool), dtype=torch.bool)
    for label, count in enumerate(torch.bincount(photos.validation.labels, minlength=len(photos.classes)).tolist()):
        held[order[pool.labels[order] == label][:count]] = True
    train, validation = (
        _take(pool, rows[pool.index[rows].argsort()]) for rows in ((~held).nonzero()[:, 0], held.nonzero()[:, 0])
    )
    return _with(photos, train, validation, photos.test)


def random_split(photos: PhotoSet, seed: int = 0) -> PhotoSet:
    """Split all photos at random, without regard to classes: 72 % train, 8 % validation, 20 % test."""
    pool = join(*photos.splits)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    test = round(len(pool) * 0.2)
    validation = (len(pool) - test) // 10
    parts = order.split([len(pool) - test - validation, validation, test])
    return _with(photos, *(_take(pool, rows.sort().values) for rows in parts))


def every_fifth(photos: PhotoSet, seed: int = 0) -> PhotoSet:
    """Keep every fifth photo of each class and part: enough to see that something runs."""
    return _with(photos, *(_every(split, 5) for split in photos.splits))


def half_train(photos: PhotoSet, seed: int = 0) -> PhotoSet:
    """Keep every second training photo of each class; validation and test stay."""
    return _with(photos, _every(photos.train, 2), photos.validation, photos.test)


def fold(photos: PhotoSet, seed: int = 0) -> PhotoSet:
    """Split all photos class by class: 70 % train, 10 % validation, 20 % test, with other test photos for each seed.

    The test photos of the seeds 0 to 4 are disjoint, and together are all photos; so are those of 5 to 9. So seed s is
    fold s % 5 of repeat s // 5, and the repeat decides how the photos are parted: see `cnnhw.studies.folds`.
    """
    pool = join(*photos.splits)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed // 5))
    part = torch.empty(len(pool), dtype=torch.int64)
    for label in range(len(photos.classes)):
        rows = order[pool.labels[order] == label]
        # tenths of the class: two to test, the next to validate
        tenth = (torch.arange(len(rows)) * 10 // len(rows) - 2 * (seed % 5)) % 10
        part[rows] = (tenth < 3).long() + (tenth < 2).long()
    return _with(photos, *(_take(pool, (part == which).nonzero().flatten()) for which in range(3)))


def _share(photos: PhotoSet, seed: int, share: float) -> PhotoSet:
    train = photos.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    kept = []
    for label in range(len(photos.classes)):
        rows = order[train.labels[order] == label]
        kept.append(rows[: max(1, round(share * len(rows)))])
    return _with(photos, _take(train, torch.cat(kept).sort().values), photos.validation, photos.test)


_PROTOCOLS: dict[str, Callable[[PhotoSet, int], PhotoSet]] = {
    **{
        function.__name__: function
        for function in (bgr, every_fifth, fold, half_train, last_tenth, own_cut, random_split)
    },
    **{name: functools.partial(_share, share=share) for name, share in SHARES.items()},
}


def names() -> list[str]:
    """Return the names of all protocols, sorted."""
    return sorted(_PROTOCOLS)


def function(name: str) -> Callable[[PhotoSet, int], PhotoSet]:
    """Return a protocol by its name, a function of photos and seed; UnknownNameError if there is none."""
    if name not in _PROTOCOLS:
        raise UnknownNameError("protocol", name, _PROTOCOLS)
    return _PROTOCOLS[name]


def prepare(photos: PhotoSet, protocols: Sequence[str], seed: int = 0) -> PhotoSet:
    """Return the photos after protocols by name, one after the other; `seed` is for those that depend on chance."""
    for name in protocols:
        photos = function(name)(photos, seed)
    return photos


def left_out(whole: PhotoSet, photos: PhotoSet) -> Split:
    """Return the photos that protocols leave aside: those for training and validation that no part holds any more.

    Parameters
    ----------
    whole : PhotoSet
        The data set as loaded.
    photos : PhotoSet
        The same after protocols.

    Returns
    -------
    Split
        In the order of ``whole``; none if the protocols use all photos.
    """
    pool = join(whole.train, whole.validation)
    used = torch.cat([split.index for split in photos.splits])
    return _take(pool, (~torch.isin(pool.index, used)).nonzero().flatten())


def _with(photos: PhotoSet, train: Split, validation: Split, test: Split) -> PhotoSet:
    return dataclasses.replace(photos, train=train, validation=validation, test=test)


def _every(split: Split, nth: int) -> Split:
    # by class, so that a set whose classes take turns does not lose all but one of them
    return _take(split, split.labels.argsort(stable=True)[::nth].sort().values)


def _take(split: Split, rows: Tensor) -> Split:
    chosen = rows.tolist()
    names, digests = (tuple(column[row] for row in chosen) for column in (split.names, split.digests))
    return Split(split.store, split.index[rows], split.labels[rows], names, digests)
