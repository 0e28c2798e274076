"""Where photographs come from: named data sets and folders, split and decoded into a `PhotoSet`."""

from __future__ import annotations

import dataclasses
import operator
import re
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnhw.data import cache, decode, splits
from cnnhw.data import layout as layouts
from cnnhw.data.archives import Container, Folder
from cnnhw.data.decode import read_photo
from cnnhw.data.photoset import PhotoSet, Split, parted
from cnnhw.data.sources import SOURCES, Selection, describe, fetch, flower_credits, names
from cnnhw.errors import DataError, SkippedPhotosWarning, UnknownNameError

__all__ = [
    "PhotoSet",
    "Split",
    "Survey",
    "describe",
    "fetch",
    "flower_credits",
    "load",
    "names",
    "photo_files",
    "read_photo",
    "survey",
]

_ENOUGH = 10  # photos: fewer may happen to be dark
_SLIVER = 65  # levels: what 14 bits are of 16, and no photograph
_SCENES = {
    "scenes": "NORMAL", "scenes_easy": "EASY", "scenes_middle": "MIDDLE", "scenes_wide": "WIDE", "scenes_hard": "HARD"
}  # fmt: skip
_LEVEL = re.compile(r"scenes_level_([0-9]{1,3})")


def load(
    name_or_folder: str | Path = "scenes",
    *,
    size: int = 128,
    root: str | Path | None = None,
    split_seed: int = 0,
    crop: bool = False,
    progress: bool = True,
    on_error: Literal["skip", "raise"] = "skip",
    layout: Literal["class", "part/class", "class/part"] | None = None,
    classes: Iterable[str] | None = None,
) -> PhotoSet:
    """Load a data set: photos of one size, split into train, validation and test.

    Photos are decoded once for each size and kept in the cache folder. They are memory-mapped from there, so that a set
    need not fit in memory.

    Parameters
    ----------
    name_or_folder : str or Path
        One of `names`, or a folder of class folders; there may be folders for training, validation and test
        above the class folders or in them. ``"./flowers"`` is a folder of that name, ``"flowers"`` the data set.
        Beside ``"scenes"`` there are ``"scenes_easy"``, ``"scenes_middle"``, ``"scenes_wide"``, ``"scenes_hard"``, and
        ``"scenes_level_35"`` for :func:`cnnhw.data.scenes.level` in hundredths.
    size : int
        The side length S of the photos in pixels, 8 to 1024.
    root : str or Path, optional
        For named data sets: the folder to look in first and to download into. Then follow ``$CNNHW_DATA`` and
        the cache folder; archive or unpacked folder will do.
    split_seed : int
        Decides which photos go into which part, where the data set does not: 20 % of each class to the test
        (if no test part is given), 10 % to validation (likewise), each at least one.
    crop : bool
        Cut the largest centred square out of each photo; by default the whole photo is squashed to a square.
    progress : bool
        Show progress bars on stderr.
    on_error : {"skip", "raise"}
        What to do about files in class folders that are not readable photos: leave them out and warn, or
        refuse the whole data set.
    layout : {"class", "part/class", "class/part"}, optional
        What the folders of a folder of your own stand for, from above. By default their structure and names
        decide, and what may be read in two ways is refused.
    classes : iterable of str, optional
        For evaluation only: the classes of the network (none, if it does not name them). Some of them will do, with
        one photo or more, and parts may be empty.

    Returns
    -------
    PhotoSet
        Images are uint8 RGB of shape (N, 3, S, S); the photos of a split are ordered by class, then name.

    Raises
    ------
    DataError
        If the photos cannot be used; the message says what is wrong, where, and what to do.
    UnknownNameError
        If `name_or_folder` is neither a data set nor a folder, or there is no such `layout`.

    Warns
    -----
    SkippedPhotosWarning
        If files were left out.
    UserWarning
        If the same photo is in several parts or classes of a folder of your own, or nearly all photos use a sliver of
        the range of levels.

    Examples
    --------
    A folder ``pets`` holds the folders ``cats`` and ``dogs``, with 20 photos each:

    >>> import cnnhw
    >>> cnnhw.data.load("pets", size=32, progress=False)
    PhotoSet('pets', classes=['cats', 'dogs'], size=32, train=28, validation=4, test=8)
    """
    size = _whole("size", size)
    split_seed = _whole("split_seed", split_seed)
    if not 8 <= size <= 1024:
        raise DataError(f"size must be from 8 to 1024 pixels, not {size}")
    if on_error not in ("skip", "raise"):
        raise DataError(f"on_error must be 'skip' or 'raise', not {on_error!r}")
    named = _named(name_or_folder)
    if _is_scenes(named):
        from cnnhw.data import scenes

        if named == "scenes":
            return scenes.load(size=size, split_seed=split_seed, progress=progress)
        level = _LEVEL.fullmatch(named)
        controls = scenes.level(int(level[1]) / 100) if level else getattr(scenes, _SCENES[named])
        found = scenes.load(size=size, split_seed=split_seed, controls=controls, progress=progress)
        return dataclasses.replace(found, name=named)

    known = None if classes is None else tuple(classes)
    container, choose = _open(name_or_folder, size, root, progress, layout, known)
    path = container.path
    source = SOURCES.get(named)
    name, licence = (named, source.licence) if source else (path.resolve().name, "")
    own = None if source else _described(choose())
    if own and known is None:
        _parts(path, own, ["to be read"] * len(own["names"]), split_seed)
    # of a folder, the photos alone decide whether they are decoded again, not what is written beside them
    identity = container.identity(own and own["names"])
    key = cache.key(decode.VERSION, named, identity, size, bool(crop))
    images, meta = cache.load(key) or _decode(key, container, own or _described(choose()), size, bool(crop), progress)
    if own:
        meta |= own | {"skipped": [*own["skipped"], *meta["skipped"]]}

    skipped = tuple((photo, reason) for photo, reason in meta["skipped"])
    if skipped:
        some = "; ".join(f"{photo} ({reason})" for photo, reason in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        if on_error == "raise":
            raise DataError(f"{path} holds files that are not readable photos: {some}{more}. Remove them")
        warnings.warn(f"{path}: {len(skipped)} left out: {some}{more}", SkippedPhotosWarning, stacklevel=2)
    parts = _parts(path, meta, meta["digests"], split_seed, few=known is not None)
    notes = [meta["note"]] if meta["note"] else []
    across, mixed = (_copies(meta, column) for column in (parts, meta["labels"]))
    if across:
        notes.append(f"{_are(across)} in more than one of train, validation and test")
    if not source:
        audit = f"`cnnhw data audit {path}` lists copies"
        if across:
            _warn(f"{path}: {notes[-1]} ({' and '.join(across[0])}{_more(across)}): remove copies; {audit}")
        if mixed:
            notes.append(f"{_are(mixed)} in more than one class")
            _warn(f"{path}: {notes[-1]} ({' and '.join(mixed[0])}{_more(mixed)}): keep the right one; {audit}")
        low, high = meta["span"]
        if high - low < _SLIVER and len(parts) >= _ENOUGH:
            _warn(
                f"{path}: nearly all photos use levels {low} to {high} of 0 to 255 alone, a sliver of the range. If "
                "their pixels have fewer significant bits than the files have room for, say so in the files (sBIT in "
                "PNG, SMaxSampleValue in TIFF), or stretch them"
            )
    train, validation, test = parted(images, parts, *(meta[what] for what in ("labels", "names", "digests")))
    return PhotoSet(name, tuple(meta["classes"]), size, train, validation, test, skipped, "; ".join(notes), licence)


class Survey(NamedTuple):
    """What a look at a data set's files tells: how many photos, and the median of their shorter sides in pixels."""

    photos: int
    side: int


def survey(name_or_folder: str | Path, root: str | Path | None = None, layout: str | None = None) -> Survey:
    """Look at a data set before its photos are decoded, which costs little: what a plan for its training needs.

    Parameters
    ----------
    name_or_folder, root, layout
        As for :func:`load`.

    Returns
    -------
    Survey
        ``photos``, of all parts together, and ``side``, from a sample of 50.

    Raises
    ------
    DataError
        As for :func:`load`.

    Examples
    --------
    >>> from cnnhw import data
    >>> data.survey("scenes")
    Survey(photos=8000, side=1024)
    """
    if _is_scenes(_named(name_or_folder)):
        return Survey(8000, 1024)  # scenes are drawn at any size
    container, choose = _open(name_or_folder, 1024, root, False, layout)
    names = [photo.name for photo in choose().photos]
    chosen = names[:: max(1, len(names) // 50)]
    sides = [decode.shorter_side(content) for _, content in container.read(chosen)]
    known = sorted(side for side in sides if side)
    return Survey(len(names), known[len(known) // 2] if known else 1024)


def photo_files(paths: Iterable[str | Path]) -> list[Path]:
    """Return files, with those below each folder that may be photos, in natural order, in place of the folder."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            folder = Folder(path)
            below = folder.files(sorted(folder.photos(), key=splits.natural))
            if not below:
                raise DataError(f"folder {path} holds no photos")
            found += below
        else:
            found.append(path)
    return found


def _named(name_or_folder: str | Path) -> str:
    """Return the name of a named data set; "" for a folder."""
    if not isinstance(name_or_folder, str) or not (name_or_folder in SOURCES or _is_scenes(name_or_folder)):
        return ""
    folder = Path(name_or_folder)
    if folder.is_dir() and any(below.is_dir() and not below.name.startswith(".") for below in folder.iterdir()):
        raise DataError(
            f"{name_or_folder} is a data set, and a folder here holds folders: give ./{name_or_folder} for folder "
            f"{name_or_folder}; for the data set, work in another place or rename the folder"
        )
    return name_or_folder


def _is_scenes(name: str) -> bool:
    return name in _SCENES or _LEVEL.fullmatch(name) is not None


def _open(
    name_or_folder: str | Path,
    size: int,
    root: str | Path | None,
    progress: bool,
    layout: str | None,
    known: Collection[str] | None = None,
) -> tuple[Container, Callable[[], Selection]]:
    """Return where the photos lie, and a function that chooses those to be used."""
    if named := _named(name_or_folder):
        source = SOURCES[named]
        container = source.open(size, root, progress)
        return container, partial(source.select, container)
    folder = Folder(_own(name_or_folder))
    return folder, partial(layouts.read, folder, layout, known)


def _whole(what: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise DataError(f"{what} must be a whole number, not {value!r}") from None


def _own(name_or_folder: str | Path) -> Path:
    try:
        path = Path(name_or_folder or "\0").expanduser()
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (OSError, RuntimeError, TypeError, ValueError):  # not there; or no path at all: empty, too long, not text
        hint = "Or give a folder that holds a folder of photos for each class."
        raise UnknownNameError("data set or folder", str(name_or_folder), names(), hint) from None
    if not is_folder:
        raise DataError(f"{path} is a file: give a folder of class folders (unpack an archive first)")
    return path


def _described(chosen: Selection) -> dict[str, Any]:
    """Return a selection as columns, in the order of the store."""
    photos = sorted(chosen.photos, key=lambda photo: (photo.label, photo.part, splits.natural(photo.name)))
    return {
        "classes": chosen.classes,
        "names": [photo.name for photo in photos],
        "labels": [photo.label for photo in photos],
        "parts": [photo.part for photo in photos],
        "skipped": list(chosen.skipped),
        "note": chosen.note,
    }


def _decode(
    key: str, container: Container, chosen: dict[str, Any], size: int, crop: bool, progress: bool
) -> tuple[Tensor, dict[str, Any]]:
    rows = {name: row for row, name in enumerate(chosen["names"])}

    def fill(store: NDArray[np.uint8]) -> dict[str, Any]:
        digests, failures, span = decode.decode_all(container.read(rows), rows, store, crop, progress)
        return chosen | {
            "digests": [digests.get(name) for name in rows],
            "skipped": [(name, failures[name]) for name in rows if name in failures],
            "span": span,
        }

    return cache.build(key, (len(rows), 3, size, size), fill)


def _parts(
    path: Path, chosen: dict[str, Any], digests: Sequence[str | None], split_seed: int, few: bool = False
) -> list[str]:
    """Return the part of each row of the store; "" where there is no digest, as the photo could not be decoded.

    Unless `few` photos will do, each class has to have some in every part.
    """
    good = [row for row, digest in enumerate(digests) if digest]
    names, labels, given = ([chosen[what][row] for row in good] for what in ("names", "labels", "parts"))
    split = splits.split(names, labels, given, split_seed)
    here, counts = Counter(zip(labels, split, strict=True)), Counter(labels)
    small = [
        f"{name!r} ({counts[label]}, none for {' and '.join(lacking)})"
        for label, name in enumerate(chosen["classes"])
        if (lacking := [part for part in splits.PARTS if not here[label, part]])
    ]
    if small and not few:
        raise DataError(
            f"{path} has too few readable photos of {len(small)} of its {len(chosen['classes'])} classes: "
            f"{', '.join(small)}. A class needs at least 3, one each for train, validation and test"
        )
    parts = [""] * len(digests)
    for row, part in zip(good, split, strict=True):
        parts[row] = part
    return parts


def _copies(meta: dict[str, Any], column: Sequence[Any]) -> list[list[str]]:
    """Return names of the same photo, byte for byte, one for each of the several values that it has in a column."""
    found: dict[str, dict[Any, str]] = {}
    for name, digest, value in zip(meta["names"], meta["digests"], column, strict=True):
        if digest:
            found.setdefault(digest, {}).setdefault(value, name)
    return [list(names.values()) for names in found.values() if len(names) > 1]


def _are(photos: Sequence[Any]) -> str:
    return "1 photo is" if len(photos) == 1 else f"{len(photos)} photos are"


def _more(photos: Sequence[Any]) -> str:
    return f", and {len(photos) - 1} more" if len(photos) > 1 else ""


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=3)
