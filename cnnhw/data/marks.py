"""What somebody decided about the labels of photos, carried out on the files, and taken back.

A photo is moved to the folder of another class, or put aside into a folder beside the data that is never read. Nothing
is deleted or written over. A journal is written before anything moves, and the disk itself says how far it got: what a
kill interrupted is finished by the same call again, or taken back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import unicodedata
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from cnnhw import files, system
from cnnhw.data import layout as layouts
from cnnhw.data.archives import ASIDE, Folder, leads_out, portable
from cnnhw.errors import DataError, OccupiedError

__all__ = ["FORMAT", "Outcome", "apply", "undo"]

FORMAT = "cnnhw marks 1"
"""What a file of marks says that it is."""

_JOURNAL = "journal.json"
_LIMIT = 64 * 2**20  # bytes of marks or of a journal
_GONE, _CHANGED = "it is no longer there", "it has changed since"


class _Mark(NamedTuple):
    photo: str  # its name below the folder, as `Split.names` has it
    digest: str  # of its file, as in `Split.digests`
    do: Literal["keep", "move", "aside"]
    to: str = ""  # a class


@dataclass(frozen=True)
class _Marks:
    key: str  # stands for all that they say
    folder: str
    layout: str | None
    marks: list[_Mark]


@dataclass
class _Move:
    photo: str  # where it was, below the folder
    to: str  # where it goes, below the folder or that for photos put aside
    aside: bool
    digest: str
    label: str  # its new class, or ""


@dataclass
class _Step:
    """What is done, or was, by one call."""

    marks: str  # the key
    date: str
    state: Literal["applying", "applied", "undoing"]
    moves: list[_Move]
    made: list[str] = field(default_factory=list)  # folders that were not there, below the folder


@dataclass(frozen=True)
class Outcome:
    """What became of the photos."""

    folder: Path  # that of the classes
    aside: Path  # that of photos put aside
    moved: tuple[tuple[Path, Path], ...]  # from and to
    kept: int
    earlier: int  # that were moved by marks applied before
    left: tuple[tuple[Path, str], ...]  # photos that were not moved, and why


def apply(marks: str | Path, folder: str | Path | None = None, *, dry_run: bool = False) -> Outcome:
    """Do with photos what a file of marks says: leave them, move them to another class, or put them aside.

    First everything is checked: if a single mark does not fit, nothing is moved. Photos put aside go to a folder beside
    the data, which is called like it and ends in ``.aside``; loading passes over it. Where a name is taken, the photo
    gets another one, such as ``tom~2.jpg``.

    Parameters
    ----------
    marks : str or Path
        The file ``marks.json`` that the page of ``cnnhw data audit`` saves.
    folder : str or Path, optional
        Where the photos are; by default, where the file says.
    dry_run : bool
        Only say what would be done.

    Returns
    -------
    Outcome
        What was moved, from where and to where.

    Raises
    ------
    DataError
        If the file is none of marks, or does not fit the folder: photos that are not there, were changed, or lie behind
        links; classes that do not exist; marks that were applied before.
    OccupiedError
        If the folder for photos put aside holds something else.
    StorageError
        If it cannot be made.

    See Also
    --------
    undo : Takes it back.

    Examples
    --------
    >>> import hashlib, json, pathlib
    >>> from cnnhw.data import marks
    >>> digest = hashlib.sha256(pathlib.Path("pets/cats/7.png").read_bytes()).hexdigest()[:16]
    >>> mark = {"photo": "cats/7.png", "digest": digest, "do": "move", "to": "dogs"}
    >>> content = {"format": marks.FORMAT, "folder": "pets", "marks": [mark]}
    >>> _ = pathlib.Path("marks.json").write_text(json.dumps(content))
    >>> ((before, now),) = marks.apply("marks.json").moved
    >>> now.name  # dogs has a photo of that name already
    '7~2.png'
    >>> _ = marks.undo("pets")
    >>> before.exists(), now.exists()
    (True, False)
    """
    read = _read(Path(marks))
    root, aside = _folders(read.folder if folder is None else folder)
    kept = sum(mark.do == "keep" for mark in read.marks)
    with _alone(root):
        steps = _steps(aside)
        last = steps[-1] if steps else None
        if last and last.state == "undoing":
            raise DataError(f"taking back was interrupted in {root}: finish that first, with --undo")
        if last and last.marks == read.key and last.state == "applied":
            raise DataError(f"these marks have been applied to {root} already: --undo takes them back")
        if last and last.state == "applying" and last.marks != read.key:
            raise DataError(f"applying other marks was interrupted in {root}: apply them again, or give --undo, first")
        earlier = 0
        if last is None or last.state == "applied":
            earlier, last = _plan(read, root, aside, steps)
            steps.append(last)
        if dry_run or not last.moves:
            moved = tuple(_ends(move, root, aside) for move in last.moves)
            return Outcome(root, aside, moved, kept, earlier, ())
        moved, left = _carry_out(steps, root, aside)
        last.state = "applied"
        _write(steps, aside)
    return Outcome(root, aside, moved, kept, earlier, left)


def undo(folder: str | Path | None = None, marks: str | Path | None = None) -> Outcome:
    """Take back what `apply` did last in a folder; called again, what it did before that.

    Parameters
    ----------
    folder : str or Path, optional
        Where the photos are; by default, where the marks say.
    marks : str or Path, optional
        The marks to take back: they must be the last ones.

    Returns
    -------
    Outcome
        What was moved back. Photos that were changed or moved since are left where they are.

    Raises
    ------
    DataError
        If nothing was applied there, or other marks were, or neither folder nor marks are given.

    See Also
    --------
    apply : Does what is taken back.
    """
    read = _read(Path(marks)) if marks else None
    root, aside = _folders(folder or (read.folder if read else ""))
    with _alone(root):
        steps = _steps(aside)
        if not steps:
            raise DataError(f"no marks are applied to {root}: there is nothing to take back")
        if read and read.key != steps[-1].marks:
            raise DataError(f"these are not the marks that were applied last to {root}: give --undo without the file")
        steps[-1].state = "undoing"
        _write(steps, aside)
        moved, left = _carry_out(steps, root, aside)
        step = steps.pop()
        ours = [_below(root, name) for name in step.made]
        ours += [aside / above for move in step.moves if move.aside for above in PurePosixPath(move.to).parents[:-1]]
        for path in sorted(set(ours), key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # it holds something
                path.rmdir()
        _write(steps, aside)
        if not steps and not _others(aside):
            for path in aside.iterdir():
                path.unlink()
            aside.rmdir()
    return Outcome(root, aside, moved, 0, 0, left)


def _read(path: Path) -> _Marks:
    """Read a file of marks, which anybody may have written."""
    content = _json(path)
    try:
        if content["format"] != FORMAT:
            raise DataError(f"{path} is of another version, {content['format']!r}: make the page anew")
        marks = [_Mark(**mark) for mark in content["marks"]]
        folder, layout = content["folder"], content.get("layout")
        texts = [folder, layout or "", *(text for mark in marks for text in mark)]
        if not all(isinstance(text, str) for text in texts) or not {mark.do for mark in marks} <= {
            "keep", "move", "aside"
        }:  # fmt: skip
            raise ValueError
    except DataError:
        raise
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} holds no marks: give the file that the page of cnnhw data audit saves") from None
    if twice := len(marks) - len({mark.photo for mark in marks}):
        raise DataError(f"{path} has more than one mark for {twice} of its photos: save the marks anew from the page")
    key = hashlib.sha256(json.dumps(sorted(marks)).encode()).hexdigest()[:16]
    return _Marks(key, folder, layout, marks)


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _LIMIT:
            raise DataError(f"{path} is larger than {_LIMIT // 2**20} MB: it cannot be what cnnhw wrote")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged, or no JSON: give a file of marks as the page saves it") from error


def _folders(folder: str | Path) -> tuple[Path, Path]:
    """Return the folder of the photos and that for those put aside, without links."""
    try:
        root = Path(os.path.realpath(Path(folder or "\0").expanduser()))
        there = root.is_dir()
    except (OSError, RuntimeError, ValueError):
        there = False
    if not there:
        raise DataError(
            f"there is no folder {str(folder)!r} here: go to where the audit was made, or give the folder with --data"
        )
    aside = root.with_name(root.name + ASIDE)
    if root == root.parent or root.parent.stat().st_dev != root.stat().st_dev:
        raise DataError(f"{root} is a whole disk: put the photos into a folder on it, and give that")
    return root, aside


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep other processes from moving photos of the same folder."""
    locks = files.cache_folder() / "locks"
    with files.explained(locks):
        locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.lock", timeout=0):
            yield
    except Timeout:
        raise DataError(f"another process moves photos of {root}: wait until it is done") from None


def _steps(aside: Path) -> list[_Step]:
    """Read the journal, which may have come with photos from anywhere."""
    path = aside / _JOURNAL
    if aside.is_symlink() or (os.path.lexists(aside) and not aside.is_dir()):
        raise OccupiedError(f"{aside} is no folder, and photos would be put aside there: rename it")
    if not path.is_file() or path.is_symlink():
        if aside.is_dir() and _others(aside):
            raise OccupiedError(f"{aside} holds something else, and photos would be put aside there: rename it")
        return []
    try:
        steps = [_Step(**(step | {"moves": [_Move(**one) for one in step["moves"]]})) for step in _json(path)["steps"]]
        texts = [text for step in steps for text in (step.marks, step.state, *step.made)]
        texts += [
            text for step in steps for move in step.moves for text in (move.photo, move.to, move.digest, move.label)
        ]
        if all(isinstance(text, str) for text in texts):
            return steps
        raise TypeError
    except (KeyError, TypeError):
        raise DataError(f"{path} is damaged: what was moved cannot be told. Move it away to go on") from None


def _others(aside: Path) -> list[Path]:
    """Return what there is beside the journal, and what is left of one that a kill interrupted."""
    return [path for path in aside.iterdir() if _JOURNAL not in (path.name, files.temporary_for(path.name))]


def _write(steps: list[_Step], aside: Path) -> None:
    with files.explained(aside):
        aside.mkdir(exist_ok=True)
    files.write_json(aside / _JOURNAL, {"cnnhw": FORMAT, "steps": [asdict(step) for step in steps]})


def _below(base: Path, name: str) -> Path:
    """Return the path of a name below a folder; DataError if it leads out of it, by itself or by a link."""
    path = base / name
    inside = PurePosixPath(name).parts and "\0" not in name and not leads_out(name)
    if not inside or Path(os.path.realpath(path.parent)) != path.parent:
        raise DataError(f"{name!r} leads out of {base}, or lies behind a link: only what is in the folder is moved")
    return path


def _plan(read: _Marks, root: Path, aside: Path, steps: Sequence[_Step]) -> tuple[int, _Step]:
    """Check that all marks fit, and decide where each photo goes; return also how many were done before."""
    listing = Folder(root)
    there, spots = dict.fromkeys(listing.photos()), layouts.places(listing, read.layout)
    before = {(portable(move.photo), move.digest, move.label) for step in steps for move in step.moves}
    wanted = [mark for mark in read.marks if mark.do != "keep"]
    acted = [mark for mark in wanted if mark.photo in there or (mark.photo, mark.digest, mark.to) not in before]
    if lost := [mark.photo for mark in acted if mark.photo not in there]:
        raise DataError(
            f"of {len(acted)} photos to move, {len(lost)} {'is' if len(lost) == 1 else 'are'} not in {root} "
            f"({_some(lost)}): give the folder that was audited with --data, or make the audit anew"
        )
    paths = dict(zip(there, listing.files(there), strict=True))
    if changed := [mark.photo for mark in acted if _digest(paths[mark.photo]) != mark.digest]:
        raise DataError(f"in {root}, {_some(changed)} changed since the audit: make it anew")
    if unknown := {mark.to for mark in acted if mark.do == "move"} - {label for label, _ in spots.values()}:
        raise DataError(f"{root} has no class {_some(sorted(unknown))}: make a folder of that name, or the audit anew")
    step = _Step(read.key, system.now(), "applying", [])
    taken: set[Path] = set()
    for mark in acted:
        name = paths[mark.photo].relative_to(root).as_posix()
        if _below(root, name).is_symlink():
            raise DataError(f"{mark.photo} in {root} is a link: put the photo itself there, or mark it to be kept")
        base, place = aside, name
        if mark.do == "move":
            spot = next((str(above) for above in PurePosixPath(mark.photo).parents if str(above) in spots), None)
            if spot is None:
                raise DataError(f"{mark.photo} lies outside the class folders of {root}: it cannot change its class")
            if spots[spot][0] == mark.to:
                continue
            goal = _goal(spots, spot, mark.to)
            depth = goal.count("/") + 1
            spelt = next((paths[one] for one in there if one.startswith(f"{goal}/")), root / goal / "x")
            below = PurePosixPath(name).parts[spot.count("/") + 1 :]
            base, place = root, "/".join((*spelt.relative_to(root).parts[:depth], *below))
        path = _free(_below(base, place), taken)
        taken.add(_folded(path))
        free = path.relative_to(base).as_posix()
        if base == root:
            step.made += [str(up) for up in PurePosixPath(free).parents if not os.path.lexists(root / up)]
        step.moves.append(_Move(name, free, base == aside, mark.digest, mark.to))
    return len(wanted) - len(acted), step


def _goal(spots: layouts.Places, spot: str, label: str) -> str:
    """Return the folder of another class for a photo that lies in folder `spot`."""
    wanted = [place for place, found in spots.items() if found == (label, spots[spot][1])]
    if not wanted:
        raise DataError(f"there is no folder of class {label!r} for what lies in {spot}: make one")
    above, last = PurePosixPath(spot).parent, PurePosixPath(spot).name
    # beside this one, or called like it where parts are below the classes
    near = [place for place in wanted if PurePosixPath(place).parent == above]
    return (near or [place for place in wanted if PurePosixPath(place).name == last] or wanted)[0]


def _free(path: Path, taken: Container[Path] = ()) -> Path:
    """Return a path that nothing has yet, nor will have."""
    number, free = 1, path
    while os.path.lexists(free) or _folded(free) in taken:
        number += 1
        free = path.with_name(f"{path.stem}~{number}{path.suffix}")
    return free


def _folded(path: Path) -> Path:
    """Return what is the same for names that some file systems take for one."""
    return Path(unicodedata.normalize("NFC", str(path)).casefold())


def _ends(move: _Move, root: Path, aside: Path) -> tuple[Path, Path]:
    return root / move.photo, (aside if move.aside else root) / move.to


def _carry_out(
    steps: list[_Step], root: Path, aside: Path
) -> tuple[tuple[tuple[Path, Path], ...], tuple[tuple[Path, str], ...]]:
    """Do the last step, or take it back, from wherever it got to; return what was moved, and what was left and why."""
    step, moved, left = steps[-1], list[tuple[Path, Path]](), list[tuple[Path, str]]()
    back = step.state == "undoing"
    _write(steps, aside)
    bases = (root, aside)
    for move in reversed(step.moves) if back else step.moves:
        here, there = _below(root, move.photo), _below(bases[move.aside], move.to)
        source, target = (there, here) if back else (here, there)
        while True:
            reason = _move(source, target, move.digest)
            if reason != "taken":
                break
            target = _free(target)
            name = target.relative_to(root if back else bases[move.aside]).as_posix()
            move.photo, move.to = (name, move.to) if back else (move.photo, name)
            _write(steps, aside)
        if reason in ("", "done"):
            if not (back and reason == "done"):
                moved.append((source, target))
        else:
            left.append((source, reason))
    return tuple(moved), tuple(left)


def _move(source: Path, target: Path, digest: str) -> str:
    """Move a file to a name that is free; return "", "done" if it is there already, "taken", or why it was left."""
    if not os.path.lexists(source):
        return "done" if os.path.lexists(target) else _GONE
    if os.path.lexists(target):
        one = os.lstat(source)
        if one.st_nlink < 2 or not os.path.samestat(one, os.lstat(target)):
            return "taken"
        source.unlink()  # a kill came between the two halves of the move: it is one file under two names
        return ""
    if source.is_symlink() or not source.is_file() or _digest(source) != digest:
        return _CHANGED
    with files.explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)  # unlike renaming, it never replaces anything
        except FileExistsError:
            return "taken"
        except (OSError, NotImplementedError):  # the file system knows no links
            if os.path.lexists(target):
                return "taken"
            source.rename(target)
        else:
            source.unlink()
    return ""


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
