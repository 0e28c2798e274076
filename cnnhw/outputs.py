"""What cnnhw may write to: nothing that a user made is ever removed or written over.

Each command checks here before it does any work, and again just before it writes. A folder to write to is new or empty,
or holds only what cnnhw made itself; a file to write is new.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from cnnhw import files
from cnnhw.errors import OccupiedError

__all__ = [
    "PICTURES",
    "RUN",
    "STAGES",
    "check_file",
    "check_folder",
    "check_records",
    "check_run",
    "check_saving",
    "draw",
    "remove_checkpoints",
    "remove_stages",
    "renew",
    "save_beside",
    "write_new",
]

PICTURES = ("curves.png", "confusion.png", "model.svg")
"""The pictures of a saved run, which are drawn when all else is saved."""

RUN = ("weights.safetensors", "run.json", "report.html", *PICTURES)
"""The files of a saved run."""

STAGES = ".cnnhw-stages"
"""The folder, inside that of a run, for the checkpoints of its parts: no folder of a class begins with a dot."""

PLAN = "plan.json"
"""The file, in that folder, that says what was decided to train."""

# what systems put into every folder that somebody looks into; it is left where it is
_LITTER = {".ds_store", "thumbs.db", "desktop.ini", ".directory", "@eadir", "lost+found"}
_CHECKPOINT = "checkpoint.safetensors"  # of cnnhw.training, which needs this module
_PART = re.compile(r"head|all|member\d+")  # of a run, with checkpoints of its own
_RECORD = re.compile(r".+-\d+-[0-9a-f]{8}\.json\.gz", re.DOTALL)
_PLAN = re.compile(r"[^.].*\.json", re.DOTALL)
_RUN_LIMIT = 16 * 2**20  # bytes of run.json
_TRIES = 1000


def check_file(path: Path, option: str = "--out") -> None:
    """Raise OccupiedError if a file exists already; `option` names the option to choose another with."""
    if os.path.lexists(path):
        raise OccupiedError(f"{path} already exists: choose another file with {option}")


def check_folder(folder: Path, first: Collection[str] = (), remedy: str = "choose another --out") -> None:
    """Raise OccupiedError if a folder holds anything, naming files in `first` before others."""
    _refuse(folder, _names(folder), remedy, first)


def check_run(folder: Path, *, resume: bool, stages: bool = False) -> None:
    """Raise OccupiedError if a run cannot be saved in a folder, before any work is done for it.

    With `resume`, an interrupted run may be there; for one of several parts (`stages`) its checkpoints are in `STAGES`.
    """
    names = _names(folder)
    if "run.json" in names and _is_run(folder):
        raise OccupiedError(f"{folder} already holds a finished run: choose another folder with --out")
    own = _own(folder) | (_stages(folder) if stages else _checkpoint(folder))
    _refuse(folder, names - own, "choose another --out")
    if own and not resume:
        raise OccupiedError(
            f"{folder} holds an interrupted run: add --resume to go on with it, or choose another --out"
        )


def check_saving(folder: Path) -> set[str]:
    """Return the files in a folder that may be replaced by another run.

    Raises OccupiedError if it holds anything but a run, finished or interrupted.
    """
    own = _own(folder)
    kept = {name for name in _names(folder) if re.fullmatch(r"stage\d+", name) and _only_checkpoint(folder / name)}
    kept |= _checkpoint(folder) | _stages(folder)
    _refuse(folder, _names(folder) - own - kept, "choose another folder")
    return own


def check_records(folder: Path, option: str) -> None:
    """Raise OccupiedError if a folder holds anything but records of studies, in a folder for each study."""
    found: set[str] = set()
    for name in _names(folder):
        if _is_folder(folder / name):
            known = _PLAN if name == "plans" else _RECORD
            found |= {f"{name}/{one}" for one in _names(folder / name) if not known.fullmatch(one)}
        else:
            found.add(name)
    _refuse(folder, found, f"choose another folder with {option}")


def save_beside(save: Callable[[Path], Any], folder: Path) -> Path:
    """Save to a folder, or to ``folder-2``, ``folder-3``, ... if others have put files there meanwhile; return which.

    `save` raises OccupiedError if it cannot save to the folder it is given.
    """
    return _beside(save, folder, folder.name)


def write_new(write: Callable[[Path], Any], path: Path) -> Path:
    """Write a new file, whole or not at all, or ``name-2``, ``name-3``, ... if that name is taken; return which."""

    def new(place: Path) -> None:
        check_file(place)
        with files.replacing(place, new=True) as temporary:
            write(temporary)

    return _beside(new, path, path.stem, path.suffix)


def draw(path: Path, write: Callable[[Path], Any]) -> None:
    """Draw a picture to a new file; warn if it fails for any reason, as numbers are worth more than their pictures."""
    try:
        with files.replacing(path, new=True) as temporary:
            write(temporary)
    except Exception as error:
        _spare(path, "drawn", error)


def renew(folder: Path, before: Mapping[str, str], make: Callable[[], Mapping[str, str]]) -> None:
    """Replace texts that were written a moment ago by fuller ones, in the order in which they are made.

    Each is replaced as a whole, unless others have changed it meanwhile. If it fails for any reason, a warning says so:
    what was there before stays.
    """
    try:
        for name, text in make().items():
            if (folder / name).read_text(encoding="utf-8") == before[name]:
                files.write_text(folder / name, text)
    except Exception as error:
        _spare(folder / [*before][-1], "completed", error)


def _spare(path: Path, what: str, error: Exception) -> None:
    """Warn of what failed when all that matters had been saved."""
    reason = " ".join((str(error) or type(error).__name__).split())
    warnings.warn(f"{path} could not be {what} ({reason}); all else is saved", stacklevel=4)


def remove_checkpoints(folder: Path, more: Collection[str] = ()) -> None:
    """Remove the checkpoints of a run and its stages, and the folder unless it holds anything else.

    `more` lists names of other files that may be removed.
    """
    ours = {_CHECKPOINT, *more}
    if not _is_folder(folder):
        return
    for path in folder.iterdir():
        if path.is_dir() and re.fullmatch(r"stage\d+", path.name):
            remove_checkpoints(path)
        elif path.name in ours or files.temporary_for(path.name) in ours:
            path.unlink()
    with contextlib.suppress(OSError):  # somebody's file is in it
        folder.rmdir()


def remove_stages(folder: Path) -> None:
    """Remove the checkpoints of a run's parts, and their folders unless they hold anything else."""
    top = folder / STAGES
    for part in _names(top):
        if _PART.fullmatch(part):
            remove_checkpoints(top / part)
    if _is_plan(top / PLAN):
        (top / PLAN).unlink()
    with contextlib.suppress(OSError):
        (folder / STAGES).rmdir()


def _beside(write: Callable[[Path], Any], path: Path, stem: str, ending: str = "") -> Path:
    """Write to `path`, or to the first free name with a number."""
    try:
        write(path)
    except OccupiedError:
        base = path if stem.strip(".") else path.resolve()  # of "." and ".."
        stem = stem if stem.strip(".") else base.name
        for number in itertools.count(2):
            place = base.with_name(f"{stem}-{number}{ending}")
            if os.path.lexists(place):
                continue
            try:
                write(place)
            except OccupiedError:
                if number < _TRIES:
                    continue
                raise
            return place
    return path


def _names(folder: Path) -> set[str]:
    """Return the names in a folder, without the system's own files and our temporary ones."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        if os.path.lexists(folder):
            raise OccupiedError(f"{folder} is a link that leads nowhere: choose another --out") from None
        return set()
    except NotADirectoryError:
        raise OccupiedError(f"{folder} cannot be a folder, as it, or one above it, is a file: choose another") from None
    except OSError:  # what is wrong with it is said when it is written to
        if _is_folder(folder):
            raise
        return set()
    return {name for name in names if not (name.lower() in _LITTER or name.startswith("._") or _is_temporary(name))}


def _is_temporary(name: str) -> bool:
    """Whether a name is a temporary one of ours, left by a process that was killed."""
    final = files.temporary_for(name)
    return final is not None and (final in ("", _CHECKPOINT, PLAN, *RUN) or _RECORD.fullmatch(final) is not None)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _own(folder: Path) -> set[str]:
    """Return the files of a run in a folder that are known to be ours."""
    there = {name for name in RUN if (folder / name).is_file()} if _is_folder(folder) else set()
    if "run.json" in there and _is_run(folder):
        return there
    return there & files.unfinished(folder).keys() if there else there


def _is_run(folder: Path) -> bool:
    """Whether ``run.json`` is one that we wrote."""
    path = folder / "run.json"
    try:
        if path.stat().st_size > _RUN_LIMIT:
            return False
        content = json.loads(path.read_text(encoding="utf-8"))
        return "cnnhw" in content["versions"] and {"accuracy", "model", "recipe", "history"} <= content.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _checkpoint(folder: Path) -> set[str]:
    """Return the name of the checkpoint in a folder, if there is one of ours."""
    try:
        ours = "cnnhw" in files.load_tensors(folder / _CHECKPOINT, tensors=False)[0]
    except (OSError, ValueError):
        return set()
    return {_CHECKPOINT} if ours else set()


def _only_checkpoint(folder: Path) -> bool:
    return _is_folder(folder) and _names(folder) <= _checkpoint(folder)


def _stages(folder: Path) -> set[str]:
    """Return the name of the folder of checkpoints of a run's parts, if it exists and holds nothing else."""
    top = folder / STAGES
    if not _is_folder(top):
        return set()
    names = _names(top)
    if PLAN in names and not _is_plan(top / PLAN):
        return set()
    return {STAGES} if all(_is_part(top / name) for name in names - {PLAN}) else set()


def _is_part(folder: Path) -> bool:
    """Whether a folder is that of a stage of a transfer, or of a member of an ensemble, and holds only checkpoints."""
    if re.fullmatch(r"member\d+", folder.name):
        return _only_checkpoint(folder)
    inner = _names(folder) if folder.name in ("head", "all") and _is_folder(folder) else {""}
    return inner <= {"stage1"} and all(_only_checkpoint(folder / name) for name in inner)


def _is_plan(path: Path) -> bool:
    """Whether a file is a plan that we wrote."""
    try:
        return path.stat().st_size < _RUN_LIMIT and "cnnhw" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _refuse(folder: Path, found: Collection[str], remedy: str, first: Collection[str] = ()) -> None:
    """Raise OccupiedError with up to three of the names found, if there are any."""
    if found:
        listed = [name for name in first if name in found] + sorted(set(found) - set(first))
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        raise OccupiedError(
            f"{folder} already holds {', '.join(listed[:3])}{more}, which is not written over: {remedy}"
        )
