"""What a folder of the user's own holds: which of its folders are classes, and which are training, validation or test.

Structure decides; names only where they say what a part is for. Where two readings are possible, none is chosen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from cnnhw.data.archives import Folder
from cnnhw.data.sources import Photo, Selection
from cnnhw.data.splits import PARTS, natural
from cnnhw.errors import DataError, UnknownNameError

__all__ = ["LAYOUTS", "part_of", "places", "read"]

LAYOUTS = ("class", "part/class", "class/part")
"""What the folders may stand for, from above: classes; parts and in each the classes; classes and in each the parts."""

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_WORDS = {"train": "train(?:ing)?", "validation": "val(?:id(?:ation)?)?|dev", "test": "test(?:ing)?|holdout|heldout"}
_PART = re.compile(
    f"(?:{'|'.join(f'(?P<{part}>{words})' for part, words in _WORDS.items())})(?:set|data|images?|photos?|pics)?"
)
Places = dict[str, tuple[str, str]]  # class and part of the photos below a folder
_PUT = "put the photos of each class into a folder named after the class"


def part_of(name: str) -> str:
    """Return the part that the name of a folder speaks of, such as ``seg_train`` or ``TestSet``, or ""."""
    words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower())
    found = {match.lastgroup or "" for word in words if (match := _PART.fullmatch(word))}
    return found.pop() if len(found) == 1 else ""


def read(folder: Folder, layout: str | None = None, known: Collection[str] | None = None) -> Selection:
    """Return the photos of a folder, and a note on how it was understood.

    With a `layout`, one of `LAYOUTS`, that is how it is read. For evaluation, `known` has the names of a network's
    classes, if it has any: then some classes and some parts will do. Raises DataError if it cannot be used, or may be
    read in two ways.
    """
    tree, base, layout, places = _understood(folder, layout, known or ())
    tops = tree.kids[base]
    classes = sorted({label for label, _ in places.values()}, key=natural)
    if known is not None:
        there = {label for place, (label, _) in places.items() if place in tree.filled}
        classes = [label for label in classes if label in there]
    numbers = {label: number for number, label in enumerate(classes)}
    photos, skipped = [], []
    for name in tree.photos:
        place = next((above for above in _above(name) if above in places), None)
        if place is not None:
            label, part = places[place]
            photos.append(Photo(name, numbers[label], part))
        elif PurePosixPath(name).suffix.lower() in _SUFFIXES:
            skipped.append((name, "outside the class folders"))
    if not classes:
        loose = f", but {len(skipped)} photos" if skipped else ""
        raise DataError(f"{folder.path} holds no class folders{loose}: {_PUT}{tree.hint}")
    if known is None:
        _check(tree, tops, classes, places, photos)
    return Selection(tuple(classes), photos, _note(tree, base, tops, layout, places), tuple(skipped))


def places(folder: Folder, layout: str | None = None) -> Places:
    """Return class and part that each folder stands for, as `read` reads them; of nested ones, the inner counts."""
    return _understood(folder, layout, ())[-1]


def _understood(folder: Folder, layout: str | None, known: Collection[str]) -> tuple[_Tree, str, str, Places]:
    """Return what lies in a folder, where in it the classes or parts begin, the layout, and what each folder is."""
    if layout not in (None, *LAYOUTS):
        raise UnknownNameError("layout", str(layout), LAYOUTS)
    tree = _Tree(folder)
    base = tree.unwrapped("", known)
    layout = layout or _told(tree, tree.kids[base], known)
    return tree, base, layout, _places(tree, tree.kids[base], layout, known)


class _Tree:
    """The folders of a folder: what lies in each, names relative to it and "" for itself."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.photos = folder, folder.photos()
        self.direct = Counter(_parent(name) for name in self.photos)
        self.filled = {above for name in self.photos for above in _above(name)}
        self.other = set(folder.names()).difference(self.photos)
        used = {above for name in (*self.other, *folder.results) for above in _above(name)} | {*folder.results}
        self.without = [name for name in folder.folders if name in used and name not in self.filled]
        """Folders that hold something, but no photos: they are no classes."""
        self.kids: dict[str, list[str]] = {name: [] for name in ("", *folder.folders)}
        for name in folder.folders:
            if name not in used or name in self.filled:
                self.kids[_parent(name)].append(name)

    def unwrapped(self, folder: str, known: Collection[str]) -> str:
        """Return a folder, or, if it holds nothing but one that holds the classes or parts, that one."""
        while not self.direct[folder] and len(self.kids[folder]) == 1:
            (only,) = self.kids[folder]
            inner = [kid for kid in self.kids[only] if kid in self.filled]
            if not inner or self.direct[only] or _last(only) in known or (not folder and part_of(_last(only))):
                break
            folder = only
        return folder

    @property
    def hint(self) -> str:
        """What to say where classes may be in files instead of folders."""
        kinds = _kinds(self.other)
        return f" ({kinds} files are not read: only folders say what the classes are)" if kinds else ""


def _told(tree: _Tree, tops: Sequence[str], known: Collection[str]) -> str:
    """Return the layout that structure and names speak of."""
    path, sure = tree.folder.path, {_last(top) for top in tops} <= {*known}
    spoken = [] if sure else [top for top in tops if part_of(_last(top))]
    others = [top for top in tops if top not in spoken]
    flat = [top for top in spoken if tree.direct[top]]
    if spoken and not others:
        if not flat:
            return "part/class"
        count = sum(tree.direct[top] for top in flat)
        raise DataError(
            f"{path} has no class folders, but {count} photos, in {_listed(flat)}: {_PUT}, or move photos of unknown "
            f"class away.{_decide('class', f'if {_listed(spoken)} are the classes')}"
        )
    nested = [top for top in spoken if top not in flat and top in tree.filled]
    if nested or any(part_of(_last(top)) != "train" and re.fullmatch("[a-z]+", _last(top).lower()) for top in flat):
        raise DataError(
            f"{path} holds {_listed(others)} beside {_listed(spoken)}: move away what is not train, test or validation,"
            f" or class folders into train.{_decide('class', 'if all of them are classes')}"
        )
    inner = {top: [kid for kid in tree.kids[top] if kid in tree.filled] for top in tops if top in tree.filled}
    parted = [
        top for top, kids in inner.items()
        if kids and not tree.direct[top] and all(part_of(_last(kid)) for kid in kids)
    ]  # fmt: skip
    if parted and len(parted) == len(inner):
        return "class/part"
    if mixed := [top for top in inner if {"train", "test"} <= {part_of(_last(kid)) for kid in inner[top]}]:
        raise DataError(
            f"{path} can be read in two ways: there are folders for training and test in {_listed(mixed)}, but not in "
            f"all classes.{_decide('class/part', 'if these are parts')}{_decide('class', 'if they are of no account')}"
        )
    shared = set.intersection(*({_last(kid) for kid in kids} for kids in inner.values())) if len(inner) > 1 else set()
    if len(shared) > 1 and not any(tree.direct[top] for top in inner) and not sure:
        raise DataError(
            f"{path} can be read in two ways, as {_listed(inner)} all hold folders {_listed(sorted(shared))}."
            f"{_decide('class', 'if the classes are the former')}{_decide('part/class', 'if they are the latter')}"
        )
    return "class"


def _places(tree: _Tree, tops: Sequence[str], layout: str, known: Collection[str]) -> Places:
    """Return class and part of the photos below each folder."""
    if layout == "class":
        return {top: (_last(top), "train") for top in tops}
    if layout == "class/part":
        parts = {
            kid: (_last(top), part) for top in tops for kid in tree.kids[top] if (part := part_of(_last(kid)))
        }  # fmt: skip
        return {top: (_last(top), "train") for top in tops} | parts
    spoken = {top: part_of(_last(top)) for top in tops}
    if any(spoken.values()) and (others := [top for top in tops if not spoken[top]]):
        raise DataError(
            f"{tree.folder.path} holds {_listed(others)} beside {_listed([top for top in tops if spoken[top]])}: move "
            "away what is not train, test or validation"
        )
    return {kid: (_last(kid), spoken[top] or "train") for top in tops for kid in tree.kids[tree.unwrapped(top, known)]}


def _check(tree: _Tree, tops: Sequence[str], classes: Sequence[str], places: Places, photos: Sequence[Photo]) -> None:
    """Refuse what cannot be trained on."""
    path = tree.folder.path
    if empty := [name for name in dict.fromkeys((*tops, *places)) if name not in tree.filled]:
        raise DataError(
            f"in {path}, {', '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty: put photos there, or remove it"
        )
    there = {(photo.part, photo.label) for photo in photos}
    parts = [part for part in PARTS if any((part, number) in there for number in range(len(classes)))]
    if "train" not in parts:
        raise DataError(f"{path} holds no photos to train on, only for {' and '.join(parts)}: add a folder train")
    if len(classes) == 1:
        raise DataError(f"{path} holds one class only, {classes[0]!r}: at least two are needed; {_PUT}{tree.hint}")
    lacking = [
        f"the part {part} has no photos of {', '.join(missing)}"
        for part in parts
        if (missing := [label for number, label in enumerate(classes) if (part, number) not in there])
    ]
    if lacking:
        raise DataError(f"in {path}, {'; '.join(lacking)}: each part needs every class")


def _note(tree: _Tree, base: str, tops: Sequence[str], layout: str, places: Places) -> str:
    """Say in a line how a folder was understood, unless it holds class folders and nothing else."""
    said = []
    if layout == "class" and base:
        said.append(f"class folders in {base}")
    elif layout != "class":
        by_part: dict[str, dict[str, None]] = {}
        for place, (_, part) in places.items():
            if layout == "part/class" or place not in tops:
                by_part.setdefault(part, {})[_parent(place) if layout == "part/class" else _last(place)] = None
        words = {"train": "training photos", "validation": "validation photos", "test": "test photos"}
        each = "" if layout == "part/class" else " of each class"
        found = [f"{words[part]} from {_listed(by_part[part])}" for part in PARTS if part in by_part]
        said.append(", ".join(found) + each)
    passed = [name for name in (*tree.without, *tree.folder.results) if _parent(name) not in tree.without]
    if passed:
        said.append(f"passed over: {_listed(dict.fromkeys(passed))}")
    if beside := [name for name in tree.other if any(above in places for above in _above(name))]:
        said.append(f"{len(beside):,} {_kinds(beside)} files beside the photos are not read")
    return "; ".join(said)


def _decide(layout: str, case: str) -> str:
    return f" Give --layout {layout} (in Python layout={layout!r}) {case}."


def _kinds(names: Collection[str]) -> str:
    return ", ".join(sorted({PurePosixPath(name).suffix.lower() for name in names}))


def _listed(names: Collection[str]) -> str:
    some = list(names)
    return ", ".join(some[:5]) + (f" and {len(some) - 5} more" if len(some) > 5 else "")


def _above(name: str) -> list[str]:
    """Return the folders that a file or folder lies in, the nearest first, without ""."""
    found = []
    while name := _parent(name):
        found.append(name)
    return found


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _last(name: str) -> str:
    return name.rpartition("/")[2]
