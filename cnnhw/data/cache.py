"""Decoded photos on disk: one array for each data set and size, memory-mapped when it is used.

An entry is two files: ``<key>.npy`` with the photos and ``<key>.json`` with what is known about them, renamed last, so
that an entry is whole or absent. The folder can be deleted at any time.

The JSON file holds CRC-32 checksums of its own content, of the array's header and of each photo. On loading, the JSON
file, the array's size and its header are checked, and the photos of arrays of up to `CHECKED_WHOLE` bytes; the photos
of larger arrays are checked one by one, when `MappedPhotos.read` first reads them in a process. An entry found damaged
on loading, or without checksums, is made again; a photo found damaged later is a DataError, and the entry is removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import mmap
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnhw.errors import DataError, StorageError
from cnnhw.files import cache_folder, explained, replacing, temporary_for, write_json

if sys.platform != "win32":
    import fcntl

__all__ = ["MappedPhotos", "build", "folder", "key", "load"]

CHECKED_WHOLE = 2**30
"""Arrays of up to so many bytes are checked whole when they are loaded."""

_LEFT_BEHIND = 60
"""Temporary files not written to for so many seconds may be leftovers of processes that were killed."""

_NORESERVE = 0x4000  # Linux's MAP_NORESERVE, which the module mmap has from Python 3.13 on


class _DamageError(Exception):
    """An entry that cannot be used, and why."""


class MappedPhotos(Tensor):
    """The photos of an entry: a memory-mapped tensor (M, 3, S, S), uint8.

    Only what is used is read from disk. Writes stay in this process. Pickles and deep copies name the file instead of
    holding the photos. Operations give plain tensors.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    path: Path
    _mapped: mmap.mmap
    _offset: int
    _sums: NDArray[np.uint32]
    _original: memoryview | None  # the file as it is, for arrays that are checked photo by photo
    _unchecked: NDArray[np.bool_]

    def read(self, rows: Tensor) -> Tensor:
        """Return a copy of some photos, each verified when it is first read; a wrong one gives DataError."""
        if self._original is not None:
            self._announce(rows)
            self._check(rows.numpy())
        return self.index_select(0, rows)

    def _announce(self, rows: Tensor) -> None:
        """Ask the system to read photos in parallel, instead of page by page as they are used."""
        if not hasattr(self._mapped, "madvise"):  # Windows
            return
        length = self[0].numel()
        for row in rows.tolist():
            start = self._offset + row * length
            page = start - start % mmap.PAGESIZE
            self._mapped.madvise(mmap.MADV_WILLNEED, page, start + length - page)

    def _check(self, rows: NDArray[np.int64]) -> None:
        assert self._original is not None
        length = self[0].numel()
        for row in rows[self._unchecked[rows]].tolist():
            start = self._offset + row * length
            if zlib.crc32(self._original[start : start + length]) != self._sums[row]:
                with contextlib.suppress(OSError):
                    self.path.with_suffix(".json").unlink()
                raise DataError(
                    f"{self.path} is damaged: photo {row} in it is not what was stored. Load the photos again, which "
                    "decodes them anew (if the same is said then, delete the file and check the disk)"
                )
            self._unchecked[row] = False

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[[Path], Tensor], tuple[Path]]:
        return reopen, (self.path,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return reopen(self.path)


def folder() -> Path:
    """Return the folder of the decoded photos; it need not exist yet."""
    return cache_folder() / "decoded"


def key(*parts: Any) -> str:
    """Return the name of an entry, from all that its photos depend on: source, size, version of the code."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load(key: str) -> tuple[MappedPhotos, dict[str, Any]] | None:
    """Return photos and metadata of an entry, or None if it is absent or damaged; damage is logged."""
    path = _array_path(key)
    try:
        return _open(path)
    except FileNotFoundError:
        return None
    except _DamageError as damage:
        logging.getLogger("cnnhw").warning("stored photos %s cannot be used and are made again: %s", path, damage)
        return None


def build(
    key: str, shape: tuple[int, ...], fill: Callable[[NDArray[np.uint8]], dict[str, Any]]
) -> tuple[MappedPhotos, dict[str, Any]]:
    """Make an entry (M, 3, S, S), whole or not at all: `fill` writes to its array and returns metadata for JSON."""
    path = _array_path(key)
    try:
        with explained(path):
            folder().mkdir(parents=True, exist_ok=True)
            _remove_leftovers()
            needed = math.prod(shape) + 2**20
            if (free := shutil.disk_usage(folder()).free) < needed:
                raise DataError(
                    f"decoded photos need {needed / 1e6:,.0f} MB, but {folder()} has {free / 1e6:,.0f} MB of free disk "
                    "space: free some space, or set the environment variable CNNHW_CACHE to another folder"
                )
            with replacing(path) as temporary:
                content = _write(temporary, shape, fill)
            write_json(path.with_suffix(".json"), {"crc32": _checksum(content), "content": content}, indent=None)
    except StorageError as error:
        # Windows refuses to replace a file that another process uses, which may be the same entry
        if load(key) is None:
            raise DataError(f"decoded photos cannot be stored: {error}") from error
    if (entry := load(key)) is None:
        raise DataError(f"the photos just stored in {folder()} cannot be read back: delete that folder")
    return entry


def _write(
    temporary: Path, shape: tuple[int, ...], fill: Callable[[NDArray[np.uint8]], dict[str, Any]]
) -> dict[str, Any]:
    """Write the array's file; return what belongs into the JSON file."""
    store = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
    with temporary.open("rb+") as file:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            _lock(file)
        size = temporary.stat().st_size
        _reserve(file, size)
        meta = fill(store)
        store.flush()
        rows = [zlib.crc32(photo) for photo in store]
        header = file.read(size - math.prod(shape))
        del store  # Windows cannot rename a file that is still mapped
    return {"shape": shape, "bytes": size, "header": zlib.crc32(header), "rows": rows, "meta": meta}


def _open(path: Path) -> tuple[MappedPhotos, dict[str, Any]]:
    """Map an entry's array; raise FileNotFoundError if there is no JSON file, _DamageError for all other faults."""
    try:
        stored = json.loads(path.with_suffix(".json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path.with_suffix('.json')} is not there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _DamageError(f"the JSON file cannot be read: {error}") from error
    try:
        content = stored["content"]
        if stored["crc32"] != _checksum(content):
            raise _DamageError("checksum of the JSON file")
        shape, sums, offset = content["shape"], content["rows"], content["bytes"] - math.prod(content["shape"])
        with path.open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) != content["bytes"]:
                raise _DamageError(f"{size} bytes in place of {content['bytes']}")
            if zlib.crc32(file.read(offset)) != content["header"]:
                raise _DamageError("checksum of the header")
            mapped = _map(file)
            photos = torch.frombuffer(mapped, dtype=torch.uint8, offset=offset).view(shape).as_subclass(MappedPhotos)
            if size <= CHECKED_WHOLE:
                # by reading, as a bad block met through a memory map kills the process
                if bad := [row for row, known in enumerate(sums) if zlib.crc32(file.read(photos[0].numel())) != known]:
                    raise _DamageError(f"checksums of {len(bad)} photos, the first of them photo {bad[0]}")
                original = None
            else:
                original = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamageError(f"not whole, or stored by another version ({error!r})") from error
    photos.path, photos._mapped, photos._offset, photos._original = path, mapped, offset, original
    photos._sums, photos._unchecked = np.array(sums, np.uint32), np.ones(len(sums), bool)
    return photos, content["meta"]


def reopen(path: Path) -> MappedPhotos:
    """Map the array of an entry that another process has loaded."""
    try:
        return _open(path)[0]
    except (OSError, _DamageError) as error:
        raise DataError(f"stored photos {path} cannot be used any more: {error}. Load the photos again") from error


def _map(file: BinaryIO) -> mmap.mmap:
    """Map a file so that what is written to the memory does not reach the file."""
    if sys.platform == "linux":
        # By default Linux refuses maps that may be written to if, wholly written, they would not fit in memory.
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | _NORESERVE, prot=protection)
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _reserve(file: BinaryIO, size: int) -> None:
    """Reserve disk space, where the system can: writing through a memory map to a full disk kills the process."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise


def _lock(file: BinaryIO) -> None:
    """Mark a file as in use until it is closed; raise BlockingIOError if it is in use already.

    Windows refuses to remove open files, so that no lock is needed there.
    """
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_leftovers() -> None:
    for path in folder().glob(".*.tmp"):
        with contextlib.suppress(OSError):  # in use, or not to be locked here, or another process was quicker
            if temporary_for(path.name) and time.time() - path.stat().st_mtime > _LEFT_BEHIND:
                with path.open("rb+") as file:
                    _lock(file)
                path.unlink()


def _checksum(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())


def _array_path(key: str) -> Path:
    return folder() / f"{key}.npy"
