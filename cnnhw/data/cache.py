"""Decoded photos on disk: one array a data set and size, memory-mapped when it is used.

An entry is two files named after its key: ``<key>.npy`` with the photos and ``<key>.json`` with what is known
about them. Both are written under temporary names and renamed, the JSON file last, so that an entry is either
whole or not there. The folder can be deleted at any time: photos are decoded again when next asked for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnhw.errors import DataError
from cnnhw.files import cache_folder, replacing, write_json

__all__ = ["build", "folder", "key", "load"]


def folder() -> Path:
    """Return the folder of the decoded photos; it need not exist yet."""
    return cache_folder() / "decoded"


def key(*parts: Any) -> str:
    """Return the name of an entry.

    Parameters
    ----------
    *parts : anything JSON can hold
        All that the photos depend on: where they come from, the size, a version of the code.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load(key: str) -> tuple[Tensor, dict[str, Any]] | None:
    """Return an entry, or None if it is not there or not whole.

    Parameters
    ----------
    key : str
        The entry's name, from `key`.

    Returns
    -------
    images : Tensor of shape (M, 3, S, S), uint8
        The photos, memory-mapped; what is written to the tensor never reaches the disk.
    meta : dict
        What was stored beside them.
    """
    array_path, meta_path = _paths(key)
    try:
        stored = json.loads(meta_path.read_text(encoding="utf-8"))
        if array_path.stat().st_size != stored["bytes"]:
            return None
        array = np.load(array_path, mmap_mode="c")
        return torch.from_numpy(array), stored["meta"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build(
    key: str, shape: tuple[int, ...], fill: Callable[[NDArray[np.uint8]], dict[str, Any]]
) -> tuple[Tensor, dict[str, Any]]:
    """Make an entry and return it as `load` does.

    Parameters
    ----------
    key : str
        The entry's name.
    shape : tuple of int
        The shape (M, 3, S, S) of the photos.
    fill : callable
        Called once with an array of zeros of this shape, on disk; writes the photos into it and returns
        `meta`, which JSON must be able to hold. If it raises, no entry is made.

    Returns
    -------
    images : Tensor of shape (M, 3, S, S), uint8
    meta : dict

    Raises
    ------
    DataError
        If the cache folder is full or cannot be written to.
    """
    array_path, meta_path = _paths(key)
    try:
        folder().mkdir(parents=True, exist_ok=True)
        # Writing through a memory map to a full disk kills the process, so look first.
        needed = int(np.prod(shape)) + 2**20
        if (free := shutil.disk_usage(folder()).free) < needed:
            raise DataError(
                f"decoded photos need {needed / 1e6:,.0f} MB, but {folder()} has {free / 1e6:,.0f} MB left: "
                "free some space, or set the environment variable CNNHW_CACHE to another folder"
            )
        try:
            with replacing(array_path) as temporary:
                store = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
                meta = fill(store)
                store.flush()
                del store  # Windows cannot rename a file that is still mapped
                size = temporary.stat().st_size
            write_json(meta_path, {"bytes": size, "meta": meta}, indent=None)
        except PermissionError:
            # Windows refuses to replace a file that another process uses: well if it is the same entry.
            if load(key) is None:
                raise
    except OSError as error:
        raise DataError(
            f"decoded photos cannot be stored in {folder()}: {error}. "
            "Set the environment variable CNNHW_CACHE to a folder that can be written to"
        ) from error
    if (entry := load(key)) is None:
        raise DataError(f"the photos just stored in {folder()} cannot be read back: delete that folder")
    return entry


def _paths(key: str) -> tuple[Path, Path]:
    return folder() / f"{key}.npy", folder() / f"{key}.json"
