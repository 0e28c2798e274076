"""Files written whole or not at all, under a temporary name that is then renamed; tensors with a checksum."""

from __future__ import annotations

import contextlib
import csv
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cnnhw.errors import OccupiedError, StorageError

__all__ = [
    "CSV",
    "cache_folder",
    "check_writable",
    "csv_rows",
    "explained",
    "json_text",
    "load_tensors",
    "replacing",
    "replacing_all",
    "save_tensors",
    "temporary_for",
    "unfinished",
    "write_csv",
    "write_json",
    "write_text",
]

CSV: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
"""How streams of CSV are opened."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABANDONED = 86_400  # seconds after which a temporary file is one that a killed process left
_TEMPORARY = re.compile(r"\.(.+)\.\d+-[0-9a-f]+\.tmp", re.DOTALL)
_TEMPORARY_FOLDER = re.compile(r"\.cnnhw-\w+\.tmp")
_MANIFEST = "manifest.json"


def cache_folder() -> Path:
    """Return the folder for what can be made again, ``$CNNHW_CACHE`` or the user's cache folder; it need not exist."""
    if given := os.environ.get("CNNHW_CACHE"):
        return Path(given).expanduser()
    return Path(platformdirs.user_cache_dir("cnnhw", appauthor=False))


@contextlib.contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn errors of the system while writing to `path` into a StorageError that says what to do."""
    try:
        yield
    except SafetensorError as error:  # which has the system's error as a text only
        code = re.search(r"os error (\d+)", str(error))
        raise _storage_error(Path(path), int(code[1]) if code else 0, str(error)) from error
    except OSError as error:
        if error.errno is None:  # an error of the network, or explained already
            raise
        raise _storage_error(Path(path), error.errno, error.strerror or str(error)) from error


def _storage_error(path: Path, code: int, reason: str) -> StorageError:
    cached = cache_folder() in (path, *path.parents)
    elsewhere = "set the environment variable CNNHW_CACHE to another folder" if cached else "choose another folder"
    if code in _FULL:
        why, remedy = f"the disk is full, or a limit on its use reached ({reason})", f"Free some space, or {elsewhere}"
    elif code in _REFUSED:
        why, remedy = f"its folder is read-only or not yours ({reason})", f"Change its permissions, or {elsewhere}"
    else:
        why, remedy = reason, elsewhere[0].upper() + elsewhere[1:]
    return StorageError(f"{path} cannot be written: {why}. {remedy}")


def check_writable(folder: str | Path) -> None:
    """Make a folder if it does not exist; raise StorageError if no files can be written to it."""
    with explained(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def temporary_for(name: str) -> str | None:
    """Return the final name of a temporary file of ours; None if the name is not one.

    A temporary folder, which holds several files, gives ``""``.
    """
    if found := _TEMPORARY.fullmatch(name):
        return temporary_for(found[1]) or found[1]  # of one that was written whole for another
    return "" if _TEMPORARY_FOLDER.fullmatch(name) else None


@contextlib.contextmanager
def replacing(path: str | Path, *, new: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to it if the block succeeds; with `new`, nothing is replaced."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".*{glob.escape(path.name)}.*-*.tmp"):
            with contextlib.suppress(OSError):  # another process may have removed it
                if temporary_for(left.name) == path.name and time.time() - left.stat().st_mtime > _ABANDONED:
                    left.unlink()
        try:
            temporary.touch()
            mode = temporary.stat().st_mode  # which follows the umask; what some libraries write does not
            with _called(path, temporary):
                yield temporary
            temporary.chmod(mode)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            if new:
                _place(temporary, path)
            else:
                temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _called(path: Path, temporary: Path) -> Iterator[None]:
    """Name the final path in an error of storage that names the temporary one."""
    try:
        yield
    except StorageError as error:
        raise StorageError(str(error).replace(str(temporary), str(path))) from error.__cause__


def _place(temporary: Path, path: Path) -> None:
    """Rename a file, but replace nothing."""
    try:
        os.link(temporary, path)  # unlike renaming, it fails if there is something
    except (OSError, NotImplementedError):  # or if the file system knows no links
        if os.path.lexists(path):
            raise OccupiedError(f"{path} has been made by another program meanwhile, and is not written over") from None
        temporary.rename(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unfinished(folder: str | Path) -> dict[str, set[str]]:
    """Return the files that a process killed in :func:`replacing_all` has moved into a folder.

    By name, with the SHA-256 digests that such files may have; a file with another digest was made by somebody else.
    """
    found: dict[str, set[str]] = {}
    for manifest in Path(folder).glob(f".cnnhw-*.tmp/{_MANIFEST}"):
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            for name, digests in json.loads(manifest.read_text(encoding="utf-8")).items():
                found.setdefault(name, set()).update(digests)
    return {
        name: known
        for name, known in found.items()
        if (path := Path(folder) / name).is_file() and _digest(path) in known
    }


def _sync_folder(folder: Path) -> None:
    """Make a renaming survive a loss of power, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def replacing_all(
    folder: str | Path, last: str, own: Callable[[], Collection[str]] | None = None, drop: Collection[str] = ()
) -> Iterator[Path]:
    """Yield a folder in `folder`, whose files are moved there together if the block succeeds, `last` as the last.

    What `own` returns may be replaced; of these, those in `drop` are removed.
    """
    folder = Path(folder)
    with explained(folder), contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".cnnhw-", suffix=".tmp", dir=folder)))
        with _called(folder, temporary):
            yield temporary
            made = sorted(temporary.iterdir(), key=lambda path: path.name == last)
            there = {name for name in (*(path.name for path in made), *drop) if os.path.lexists(folder / name)}
            replaced = there if own is None else there & set(own())
            # if this process is killed, the next one sees by it whose files these are
            whose = {path.name: [_digest(path)] for path in made}
            for name in replaced:
                whose.setdefault(name, []).append(_digest(folder / name))
            write_json(temporary / _MANIFEST, whose)
        for name in (last, *drop):
            if name in replaced:
                (folder / name).unlink()
        placed: list[Path] = []
        try:
            for path in made:
                if path.name in replaced - {last}:
                    path.replace(folder / path.name)
                else:
                    _place(path, folder / path.name)
                    placed.append(folder / path.name)
        except OccupiedError:
            for path in placed:  # which were not there a moment ago
                path.unlink()
            raise
        _sync_folder(folder)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def csv_rows(stream: IO[str]) -> Any:
    """Return a writer of rows of CSV, whose lines end in a line feed; the stream is to be opened with `CSV`."""
    return csv.writer(stream, lineterminator="\n")


def write_csv(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows to `path` as CSV in UTF-8, whole or not at all; names of files that are no UTF-8 keep their bytes."""
    with replacing(path) as temporary, temporary.open("w", **CSV) as file:
        csv_rows(file).writerows(rows)


def write_json(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write `value` to `path` as JSON, whole or not at all; values that are not finite are refused."""
    write_text(path, json_text(value, indent))


def json_text(value: Any, indent: int | None = 1) -> str:
    """Return `value` as the JSON that :func:`write_json` writes."""
    return json.dumps(value, indent=indent, allow_nan=False) + "\n"


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata to a safetensors file, whole or not at all.

    The header also gets ``checksum``: 16 hexadecimal digits of a SHA-256 over everything else.
    """
    plain: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, value in tensors.items():
        plain[name] = value.detach().cpu().contiguous()
        place = plain[name].untyped_storage().data_ptr()
        if place in stored:  # of a layer under two names; the format has no words for that
            plain[name] = plain[name].clone()
        stored.add(place)
    with replacing(path) as temporary:
        save_file(plain, temporary, {**metadata, "checksum": _checksum(plain, metadata)})


def load_tensors(
    path: str | Path, *, tensors: bool = True, header_limit: int = 10**8
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return metadata and tensors (unless unwanted) of a safetensors file, its checksum verified; else a ValueError."""
    try:
        with Path(path).open("rb") as start:
            if (length := int.from_bytes(start.read(8), "little")) > header_limit:
                raise ValueError(f"its header has a length of {length:,} bytes")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # beside errors of its own, safetensors raises those of torch and of numbers too large
        raise ValueError(str(error)) from error
    checksum = metadata.pop("checksum", None)
    if tensors and checksum not in (None, _checksum(found, metadata)):
        raise ValueError(f"its content does not fit its checksum {checksum}")
    return metadata, found


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
