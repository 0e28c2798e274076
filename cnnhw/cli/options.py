"""What the commands share: options, output without control characters, folders."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnhw import files, outputs
from cnnhw.data.layout import LAYOUTS
from cnnhw.training import distributed

if TYPE_CHECKING:
    import torch

    from cnnhw.data.photoset import PhotoSet

__all__ = []


def _folder(text: str, name: str = "--out", *more: str, exists: bool = False) -> Callable[[Any], Any]:
    """Return the option of a folder."""
    return click.option(name, *more, type=click.Path(file_okay=False, exists=exists, path_type=Path), help=text)


def _file(text: str, name: str = "--out", *more: str, **settings: Any) -> Callable[[Any], Any]:
    """Return the option of a file to write."""
    return click.option(name, *more, type=click.Path(dir_okay=False, path_type=Path), help=text, **settings)


_DEVICE = click.option(
    "--device", "device_name", default="auto", show_default=True, metavar="NAME",
    help="Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1, mps.",
)  # fmt: skip

_LAYOUT = click.option(
    "--layout", type=click.Choice(LAYOUTS),
    help="What the folders stand for, from above; parts are training, validation and test [default: as they look].",
)  # fmt: skip
_ROOT = _folder("Folder to look for data in first [default: $CNNHW_DATA, then the cache folder].", "--root")
_CLASS_WEIGHTS = click.option("--class-weights", is_flag=True, help="Weigh rare classes up.")
_RESUME = click.option("--resume", is_flag=True, help="Go on with an interrupted run.")

_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_PHOTO_LIMIT = 256 * 2**20


class _Plain:
    """A text stream that escapes control characters, which names of files may hold."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # nobody is to write past it
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextlib.contextmanager
def _plain_streams() -> Iterator[None]:
    """Escape control characters in all that is printed, except in line ends and progress bars."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Plain(out), _Plain(err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


class _FloatRange(click.FloatRange):
    """A number in a range, and a finite one."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        number = super().convert(value, param, ctx)
        if number - number != 0:
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_SEED = click.IntRange(0, 2**32 - 1)


@contextlib.contextmanager
def _interruptible(said: str) -> Iterator[None]:
    """When the user interrupts the block, say how to go on, and leave."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. {said}", err=True)
        sys.exit(130)


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Of several processes, let only the first write to stdout."""
    if distributed.rank() == 0:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield


def _where(device: torch.device) -> str:
    """Describe device and processes in words; "" for one process on the CPU."""
    processes = distributed.count()
    if processes == 1:
        return "" if device.type == "cpu" else f" on {device}"
    return f" on {processes} processes ({device.type})"


def _save(save: Callable[[Path], Any], folder: Path) -> Path:
    """Save to a folder, or beside it if others have written to it meanwhile; return where."""
    place = outputs.save_beside(save, folder)
    if place != folder:
        click.echo(f"warning: {folder} holds files of others by now: saved to {place}", err=True)
    return place


def _write(write: Callable[[Path], Any], path: Path) -> Path:
    """Write a file, or one beside it if there is one of this name by now; return which."""
    place = outputs.write_new(write, path)
    if place != path:
        click.echo(f"warning: {path} was made by others meanwhile: written to {place}", err=True)
    return place


def _counts(photos: PhotoSet) -> str:
    counts = (
        f"{len(getattr(photos, part)):,} photos {purpose}"
        for part, purpose in (("train", "to train on"), ("validation", "to validate with"), ("test", "to test on"))
    )
    return f"{photos.name}: {len(photos.classes)} classes, {', '.join(counts)}. {photos.note}".rstrip()


def _value(text: str) -> bool | int | float | str:
    """Return an option's value as bool, int, float or str."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show each warning as one line, without the place in the code, and none of Pillow's."""

    def show(message: Any, category: Any, filename: str, *rest: Any, **more: Any) -> None:
        if "PIL" not in (category.__module__.partition(".")[0], *Path(filename).parts):  # of photos read all the same
            click.echo(f"warning: {' '.join(str(message).split())}", err=True)

    original, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = original


def _printed_csv() -> Any:
    """Return a writer of CSV to standard output, in the form of a file unless it is a terminal."""
    if not sys.stdout.isatty():
        with contextlib.suppress(AttributeError):  # it may be replaced by another stream
            sys.stdout.reconfigure(**files.CSV)  # type: ignore[union-attr]
    return files.csv_rows(sys.stdout)
