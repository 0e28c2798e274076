"""A photo set for another process, as tensors and text: what is read there cannot run anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from cnnhw import files
from cnnhw.data import cache
from cnnhw.data.photoset import PhotoSet, Split

__all__ = []

_PARTS = ("train", "validation", "test")


def write(photos: PhotoSet, path: Path) -> None:
    """Write what training needs of a photo set to a file; of memory-mapped photos only where they are."""
    store = photos.train.store
    tensors: dict[str, Tensor] = {} if isinstance(store, cache.MappedPhotos) else {"store": store}
    note: dict[str, Any] = {"name": photos.name, "classes": photos.classes, "size": photos.size}
    if isinstance(store, cache.MappedPhotos):
        note["path"] = str(store.path)
    for part, split in zip(_PARTS, photos.splits, strict=True):
        tensors |= {f"{part}.index": split.index, f"{part}.labels": split.labels}
        note[part] = {"names": split.names, "digests": split.digests}
    files.save_tensors(path, tensors, {"photos": json.dumps(note)})


def read(path: Path) -> PhotoSet:
    """Read what :func:`write` wrote."""
    metadata, tensors = files.load_tensors(path)
    note = json.loads(metadata["photos"])
    store = cache.reopen(Path(note["path"])) if "path" in note else tensors["store"]
    train, validation, test = (
        Split(
            store, tensors[f"{part}.index"], tensors[f"{part}.labels"],
            tuple(note[part]["names"]), tuple(note[part]["digests"]),
        )
        for part in _PARTS
    )  # fmt: skip
    return PhotoSet(note["name"], tuple(note["classes"]), note["size"], train, validation, test)
