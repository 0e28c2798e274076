"""Labelled photographs: one uint8 tensor, an index and labels for each of train, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cnnhw.data.cache import MappedPhotos

__all__ = ["PhotoSet", "Split", "join"]


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: train, validation or test.

    A split can be pickled and sent to another process: memory-mapped photos are then mapped there, not copied.

    - ``store`` (Tensor of shape (M, 3, S, S), uint8): all photos of the data set in RGB, usually memory-mapped; shared
      by the three splits.
    - ``index`` (Tensor of shape (N,), int64): the rows of `store` that belong to this split, in order.
    - ``labels`` (Tensor of shape (N,), int64): the class of each photo, an index into `PhotoSet.classes`.
    - ``names`` (tuple of str): the photos' names: paths inside the folder or archive.
    - ``digests`` (tuple of str): a hash of each photo's file (of its seed and settings, for generated photos).

    Examples
    --------
    >>> from cnnhw.data import scenes
    >>> photos = scenes.load(size=16, train=50, test=10, progress=False)
    >>> photos.test.images.shape, photos.test.images.dtype, photos.test.labels[:4]
    (torch.Size([10, 3, 16, 16]), torch.uint8, tensor([0, 1, 2, 3]))
    >>> photos.train.batch([0, 7]).shape
    torch.Size([2, 3, 16, 16])
    """

    store: Tensor
    index: Tensor
    labels: Tensor
    names: tuple[str, ...]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, rows: Tensor | Sequence[int]) -> Tensor:
        """Return a copy of some photos, Tensor of shape (B, 3, S, S), uint8; only these are read from the disk."""
        rows = self.index[torch.as_tensor(rows)]
        if isinstance(self.store, MappedPhotos):
            return self.store.read(rows)
        return self.store.index_select(0, rows)

    @cached_property
    def images(self) -> Tensor:
        """All photos of the split: Tensor of shape (N, 3, S, S), uint8 RGB, copied to memory when first asked for.

        They stay in memory as long as the split does. Training, evaluation and prediction take `batch` instead, and
        so should all that is meant for sets that do not fit in memory.
        """
        return self.batch(torch.arange(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "images"}

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the photos, their order and their labels."""
        digest = hashlib.sha256()
        for label, photo in zip(self.labels.tolist(), self.digests, strict=True):
            digest.update(f"{label} {photo}\n".encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """A data set of labelled photographs, split and ready to train on.

    - ``name`` (str): the data set's name, or the folder's.
    - ``classes`` (tuple of str): the class names, in the order of the labels.
    - ``size`` (int): the photos' side length S in pixels.
    - ``train``, ``validation``, ``test`` (Split): the three parts.
    - ``skipped`` (tuple of (str, str)): the files that could not be read, with the reason.
    - ``note`` (str): what a reader of results should know: how complete the data are, how they were split.
    - ``licence`` (str): what the photos, and so weights trained on them, may be used for.

    Examples
    --------
    >>> from cnnhw.data import scenes
    >>> photos = scenes.load(size=16, train=50, test=10, progress=False)
    >>> photos.classes, [len(split) for split in photos.splits]
    (('berry', 'bird', 'dog', 'flower', 'other'), [45, 5, 10])
    """

    name: str
    classes: tuple[str, ...]
    size: int
    train: Split
    validation: Split
    test: Split
    skipped: tuple[tuple[str, str], ...] = field(default=())
    note: str = ""
    licence: str = ""

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Training, validation and test photos."""
        return self.train, self.validation, self.test

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for size, classes, photos, order, labels and split."""
        parts = [str(self.size), *self.classes]
        parts += [split.fingerprint for split in self.splits]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        sizes = f"train={len(self.train)}, validation={len(self.validation)}, test={len(self.test)}"
        return f"PhotoSet({self.name!r}, classes={list(self.classes)}, size={self.size}, {sizes})"


def join(*splits: Split) -> Split:
    """Return splits of one data set, which share their store, as a single split, in the order given."""
    index, labels = (torch.cat([getattr(split, name) for split in splits]) for name in ("index", "labels"))
    names, digests = (tuple(text for split in splits for text in getattr(split, name)) for name in ("names", "digests"))
    return Split(splits[0].store, index, labels, names, digests)


def parted(
    store: Tensor, parts: Sequence[str], labels: Sequence[int], names: Sequence[str], digests: Sequence[str]
) -> tuple[Split, Split, Split]:
    """Return train, validation and test by the part of each row of a store; rows of no part are left out."""

    def split(wanted: str) -> Split:
        rows = [row for row, part in enumerate(parts) if part == wanted]
        texts = (tuple(column[row] for row in rows) for column in (names, digests))
        index, own = (torch.tensor(values, dtype=torch.int64) for values in (rows, [labels[row] for row in rows]))
        return Split(store, index, own, *texts)

    return split("train"), split("validation"), split("test")
