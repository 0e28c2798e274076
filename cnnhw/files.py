"""Where cnnhw keeps files, and how it writes them: under a temporary name first, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

__all__ = ["cache_folder", "replacing", "write_json", "write_text"]


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``$CNNHW_CACHE``, or the user's cache folder.

    Returns
    -------
    Path
        The folder; it need not exist yet.
    """
    if given := os.environ.get("CNNHW_CACHE"):
        return Path(given).expanduser()
    return Path(platformdirs.user_cache_dir("cnnhw", appauthor=False))


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it to `path` if all went well.

    Parameters
    ----------
    path : str or Path
        The file wanted in the end; its folder is made if it does not exist.

    Yields
    ------
    Path
        The temporary name. It is removed if the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write `value` to `path` as JSON, whole or not at all; values that are not finite are refused."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")
