"""The named data sets: where the photos are, and which of them belong to the data set."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cnnhw.data.archives import Container, open_container
from cnnhw.data.splits import natural
from cnnhw.errors import DataError, StorageError, UnknownNameError
from cnnhw.files import cache_folder, replacing

__all__ = [
    "SOURCES",
    "Photo",
    "Selection",
    "Source",
    "describe",
    "fetch",
    "flower_credits",
    "names",
]

PATIENCE = 30.0
"""Seconds without data after which a download is given up."""

LINNAEUS_COUNTS = {"train": 1200, "test": 400}
"""Photos a class in Linnaeus 5."""

FLOWER_COUNT = 3670
"""Photos in the complete flowers archive."""

TINY5 = {
    "bird": "n01855672 n02002724 n02056570 n02058221",
    "dog": "n02085620 n02099601 n02106662 n02113799",
    "fruit": "n07747607 n07749582 n07753592 n07768694",
    "insect": "n02165456 n02206856 n02268443 n02279972",
    "other": "n09193705 n04146614 n04398044 n04507155 n02793495 n07873807 n04133789 n04356056",
}
"""The WordNet ids of Tiny ImageNet that make up each class of tiny5."""

TINY5_COUNTS = {"train": 1200, "test": 400}
"""Photos a class in tiny5, taken in equal numbers from its WordNet ids."""


class Photo(NamedTuple):
    """A photo of a data set: its name, the number of its class, the part it comes in."""

    name: str
    label: int
    part: str


class Selection(NamedTuple):
    """The photos of a data set, before they are decoded."""

    classes: tuple[str, ...]
    photos: list[Photo]
    note: str = ""
    skipped: tuple[tuple[str, str], ...] = ()


class Version(NamedTuple):
    """An archive that a data set can be had from, and the folder in it; `pixels` is 0 where photos vary."""

    archive: str
    folder: str
    url: str
    length: int | None = None
    md5: str | None = None
    pixels: int = 0


@dataclass(frozen=True)
class Source:
    """A named data set that comes as an archive.

    `select` returns its photos, from an open folder or archive; `only` names the subfolders to look into.
    """

    about: str
    licence: str
    versions: tuple[Version, ...]
    select: Callable[[Container], Selection]
    only: tuple[str, ...] = ("",)

    def preferred(self, size: int) -> list[Version]:
        """Return the versions, the one best for photos of `size` pixels first."""
        return sorted(self.versions, key=lambda version: (version.pixels < size, abs(version.pixels - size)))

    def find(self, size: int, root: str | Path | None = None) -> tuple[Path, Version] | None:
        """Return the unpacked folder or the archive that is there, or None; nothing is downloaded."""
        for version in self.preferred(size):
            for place in _places(root):
                if (place / version.folder).is_dir():
                    return place / version.folder, version
                if (place / version.archive).is_file():
                    return place / version.archive, version
        return None

    def fetch(self, size: int, root: str | Path | None = None, progress: bool = True) -> tuple[Path, Version]:
        """Return what `find` finds; download it first if there is nothing."""
        if found := self.find(size, root):
            return found
        version = self.preferred(size)[0]
        path = _places(root)[0 if root is not None else -1] / version.archive
        _download(version, path, progress)
        return path, version

    def open(self, size: int, root: str | Path | None = None, progress: bool = True) -> Container:
        """Open the folder or archive, downloaded if need be."""
        path, version = self.fetch(size, root, progress)
        return open_container(path, version.folder, self.only)


def _places(root: str | Path | None) -> list[Path]:
    given = [root, os.environ.get("CNNHW_DATA")]
    return [Path(place).expanduser() for place in given if place] + [cache_folder() / "data"]


def _download(version: Version, path: Path, progress: bool) -> None:
    import pooch
    from tqdm import tqdm

    if os.path.lexists(path) and not path.is_file():  # a file was written by another process just now
        raise DataError(f"{path} is no archive, and {version.archive} cannot be downloaded to it: move it away")
    # a bar of our own is closed if the download fails, so that the error has a line of its own
    bar = tqdm(total=version.length or 1, desc=version.archive, unit="B", unit_scale=True, disable=not progress)
    try:
        with replacing(path) as temporary, bar:
            pooch.HTTPDownloader(progressbar=bar, timeout=PATIENCE)(version.url, temporary, None)
            length = temporary.stat().st_size
            if version.length not in (None, length):
                raise DataError(f"{version.url} gave {length:,} bytes instead of {version.length:,}: try again later")
            if version.md5:
                with temporary.open("rb") as file:
                    if hashlib.file_digest(file, "md5").hexdigest() != version.md5:
                        raise DataError(f"{version.url} gave a file with another MD5 sum than it should: try again")
    except StorageError:
        raise
    except OSError as error:
        reason = str(error) if len(str(error)) < 150 else type(error).__name__
        if "timed out" in str(error):
            reason = f"nothing came from the server for {PATIENCE:g} seconds"
        raise DataError(
            f"{version.archive} is not there and could not be downloaded ({reason}). Get it from "
            f"{version.url} and put it, or the folder {version.folder!r} unpacked from it, into "
            f"{path.parent}, or into a folder that the environment variable CNNHW_DATA names"
        ) from error


def _select_linnaeus(container: Container) -> Selection:
    classes = ("berry", "bird", "dog", "flower", "other")
    photos = []
    for name in container.names():
        part, *middle = PurePosixPath(name).parts[:-1] or ("",)
        if part in LINNAEUS_COUNTS and middle and middle[0] in classes:
            photos.append(Photo(name, classes.index(middle[0]), part))
    found = Counter((photo.part, classes[photo.label]) for photo in photos)
    wrong = [
        f"{found[part, label]:,} in {part}/{label} instead of {count:,}"
        for part, count in LINNAEUS_COUNTS.items()
        for label in classes
        if found[part, label] != count
    ]
    if wrong:
        raise DataError(
            f"{container.path} does not hold Linnaeus 5 as published; found {'; '.join(wrong)}. Get the "
            "archive again, or load the unpacked folder by its path to use it as it is"
        )
    return Selection(classes, photos, f"from {container.path.stem}")


def _select_flowers(container: Container) -> Selection:
    classes = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    photos = []
    for name in container.names():
        label, *rest = PurePosixPath(name).parts
        if label in classes and rest:
            photos.append(Photo(name, classes.index(label), "train"))
    found = Counter(photo.label for photo in photos)
    if missing := [name for label, name in enumerate(classes) if not found[label]]:
        raise DataError(f"{container.path} holds no photos of {', '.join(missing)}: get the archive again")
    complete = len(photos) >= FLOWER_COUNT
    return Selection(classes, photos, "" if complete else f"{len(photos):,} of {FLOWER_COUNT:,} photos found")


def _select_tiny5(container: Container) -> Selection:
    by_id: dict[str, list[str]] = {}
    for name in container.names():
        part, *rest = PurePosixPath(name).parts
        if part == "train" and len(rest) == 3:
            by_id.setdefault(rest[0], []).append(name)
    photos = []
    for label, ids in enumerate(TINY5.values()):
        for wnid in ids.split():
            train, test = (TINY5_COUNTS[part] // len(ids.split()) for part in ("train", "test"))
            there = sorted(by_id.get(wnid, []), key=natural)
            if len(there) < train + test:
                raise DataError(
                    f"{container.path} holds {len(there)} photos in train/{wnid}, and tiny5 needs "
                    f"{train + test}: get the archive again"
                )
            photos += [Photo(name, label, "train") for name in there[:train]]
            photos += [Photo(name, label, "test") for name in there[train : train + test]]
    return Selection(tuple(TINY5), photos, "64x64 originals")


SOURCES = {
    "flowers": Source(
        "five kinds of flowers: 3,670 photos of any size",
        "CC BY 2.0: photos may be shown with their photographer's credit (cnnhw.data.flower_credits)",
        (
            Version(
                "flower_photos.tgz",
                "flower_photos",
                "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
                228_813_984,
            ),
        ),
        _select_flowers,
    ),
    "linnaeus5": Source(
        "berry, bird, dog, flower, other: 6,000 photos to train, 2,000 to test (Chaladze and Kalatozishvili)",
        "see http://chaladze.com/l5/: ask the authors before using photos, or weights trained on them, for "
        "more than research and education",
        tuple(
            Version(
                f"Linnaeus 5 {pixels}X{pixels}.rar",
                f"Linnaeus 5 {pixels}X{pixels}",
                f"http://chaladze.com/l5/img/Linnaeus%205%20{pixels}X{pixels}.rar",
                138_983_573 if pixels == 128 else None,
                pixels=pixels,
            )
            for pixels in (32, 64, 128, 256)
        ),
        _select_linnaeus,
    ),
    "tiny5": Source(
        "bird, dog, fruit, insect, other from Tiny ImageNet: 6,000 photos to train, 2,000 to test, 64x64",
        "research and education only, and so are weights trained on them; the photos may not be shown",
        (
            Version(
                "tiny-imagenet-200.zip",
                "tiny-imagenet-200",
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                248_100_043,
                "90528d7ca1a48142e341f4ef8d21d0de",
            ),
        ),
        _select_tiny5,
        tuple(f"train/{wnid}/images" for ids in TINY5.values() for wnid in ids.split()),
    ),
}
"""The named data sets that come as archives."""


def names() -> tuple[str, ...]:
    """Return the names of the data sets that `cnnhw.data.load` knows."""
    return ("scenes", *SOURCES)


def _source(name: str) -> Source:
    if name == "scenes":
        raise DataError("the scenes are generated: they need no files")
    if name not in SOURCES:
        raise UnknownNameError("data set", name, names())
    return SOURCES[name]


def fetch(name: str, root: str | Path | None = None, *, size: int = 128, progress: bool = True) -> Path:
    """Download a named data set to `root` or the cache folder, unless it is there; return its archive or folder."""
    return _source(name).fetch(size, root, progress)[0]


def describe(name: str, root: str | Path | None = None, *, size: int = 128) -> str:
    """Return one line on a named data set: what it holds, what it may be used for, and where it lies or comes from."""
    if name == "scenes":
        return "berry, bird, dog, flower, other, drawn by the computer, in any number and size. Needs no files"
    source = _source(name)
    found = source.find(size, root)
    where = f"Here: {found[0]}" if found else f"Not here yet: {source.preferred(size)[0].url}"
    return f"{source.about}. Licence: {source.licence}. {where}"


def flower_credits(root: str | Path | None = None) -> dict[str, str]:
    """Return whom to credit for each photo of the flowers.

    Parameters
    ----------
    root : str or Path, optional
        The folder to look in first.

    Returns
    -------
    dict of str to str
        Photographer, licence and address by the photo's name, as in `Split.names`.

    Raises
    ------
    DataError
        If the list of photographers is missing.
    """
    container = SOURCES["flowers"].open(128, root)
    text = dict(container.read(["LICENSE.txt"])).get("LICENSE.txt") if "LICENSE.txt" in container.names() else None
    if not isinstance(text, bytes):
        raise DataError(f"{container.path} has no readable LICENSE.txt with the photographers: get the archive again")
    # Most lines say "by NAME - ADDRESS", a few "ADDRESS - by NAME".
    pattern = r"^(\S+/\S+) CC-BY (?:by (.*) - (\S+)|(\S+) - by (.*?))\s*$"
    lines = re.findall(pattern, text.decode("utf-8", "replace"), re.MULTILINE)
    return {photo: f"{one or two}, CC BY 2.0, {url or page}" for photo, one, url, page, two in lines}
