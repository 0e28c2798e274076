"""Photos in folders and archives (zip, tar, rar), read safely.

Nothing is unpacked from zip and tar archives: their members are read one after the other. A RAR archive is unpacked by
another program into a temporary folder, after every name in it has been checked.
"""

from __future__ import annotations

import abc
import bz2
import contextlib
import gzip
import json
import lzma
import os
import posixpath
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, cast

from cnnhw.errors import DataError
from cnnhw.files import cache_folder

__all__ = ["ASIDE", "Container", "Folder", "leads_out", "open_container", "portable", "unused"]

ASIDE = ".aside"
"""How the names of folders end that photos are put aside in: nothing in them is read."""

MEMBER_LIMIT = 256 * 2**20
TOTAL_LIMIT = 64 * 2**30
RATIO_LIMIT, RATIO_FROM = 100, 2**30  # photographs hardly get smaller: what grows a hundredfold is no photographs
COUNT_LIMIT = 500_000
FOLDER_LIMIT = 100  # folders in folders
_DIRECTORY_LIMIT = 32 * 2**20  # bytes of a zip archive's list of members
_HEADER_LIMIT = 2**17  # bytes of all headers of one member of a tar archive
_LONG_NUMBER = re.compile(rb"\d{256}")  # tarfile's search for numbers takes the square of their length
_RAR_COPY, _RAR_UNIX = 5, 3  # a file stored once and named twice; file modes are those of Unix
_SPECIAL = "is a link or a device"
_IGNORED = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r",  # of systems and of Picasa
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "lost+found",
    "@eadir", "#recycle", "#snapshot", "@tmp", "@recycle", "@recently-snapshot", "@sharebin",  # of network storage
    "network trash folder", "temporary items", "__pycache__",
}  # fmt: skip
"""What systems and tools put beside photos, in lower case; names that begin with a dot are passed over as well."""

_OTHER = re.compile(
    r"\.(csv|tsv|jsonl?|xml|txt|md|rst|html?|ya?ml|toml|ini|cfg|log|pdf|docx?|xlsx?|ods|mat|np[yz]|pkl|pickle|parquet|"
    r"h5|hdf5|db|sqlite|py|ipynb|onnx|pth?|ckpt|safetensors)",
    re.IGNORECASE,
)
"""Endings of files that lie beside photos and mean no photo, unless they begin as one."""

_PHOTO_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP|P[1-6]\s|BM....\0\0\0\0", re.DOTALL
)
_RESULTS_LIMIT = 16 * 2**20  # bytes of run.json


class Container(abc.ABC):
    """A folder or an archive that holds photos."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abc.abstractmethod
    def identity(self, wanted: Iterable[str] | None = None) -> list[Any]:
        """Return what changes when the `wanted` files do, or any, in a form JSON can hold; of an archive, its own."""

    @abc.abstractmethod
    def names(self) -> list[str]:
        """Return the names of all files, relative and with ``/``, without hidden files."""

    @abc.abstractmethod
    def read(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
        """Yield name and content of the `wanted` files, in the order that is quickest.

        A file that cannot be read gives the error in place of its content; a damaged archive raises DataError.
        """


class Folder(Container):
    """The files below a folder, or only below some of its subfolders.

    Symbolic links to files are followed; those to folders if they lead out of `path`, each folder once, so that loops
    end. `folders` lists the subfolders found, relative to `path`, and `results` those that cnnhw saved a run or an
    evaluation in, of which nothing is read. A folder that cannot be listed raises DataError.

    Names are spelt the same on every system; of files that are then called the same, the later ones get a number.
    """

    def __init__(self, path: Path, only: Sequence[str] = ("",)) -> None:
        super().__init__(path)
        self.folders: dict[str, None] = {}  # two that are spelt alike are one
        self.results: list[str] = []
        self._files: dict[str, tuple[str, os.stat_result | None]] = {}
        self._seen: set[str] = set()
        self._root = os.path.realpath(path)
        for start in only:
            if (path / start).is_dir():
                self._visit(os.path.join(self._root, *start.split("/")), f"{start}/" if start else "")  # noqa: PTH118

    def _visit(self, folder: str, prefix: str) -> None:
        real = os.path.realpath(folder)
        if real in self._seen:
            return
        self._seen.add(real)
        if prefix.count("/") > FOLDER_LIMIT:
            raise DataError(f"folder {self.path} holds more than {FOLDER_LIMIT} folders in one another: give another")
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"folder {folder} cannot be listed: {error.strerror}. Check its permissions") from error
        if prefix and _holds_results(entries):
            self.results.append(prefix[:-1])
            return
        for entry in entries:
            if _ignored(entry.name):
                continue
            name = prefix + portable(entry.name)
            try:
                status = entry.stat()
            except OSError:  # a broken link
                status = None
            if status is None or not stat.S_ISDIR(status.st_mode):
                regular = status if status and stat.S_ISREG(status.st_mode) else None
                self._files[unused(name, self._files)] = (entry.path, regular)
            elif not (entry.is_symlink() and Path(os.path.realpath(entry.path)).is_relative_to(self._root)):
                self.folders[name] = None
                self._visit(entry.path, f"{name}/")

    def identity(self, wanted: Iterable[str] | None = None) -> list[Any]:
        """Return path, and name, size, time and mode of the `wanted` files, or of all."""
        found: list[list[Any]] = []
        for name in self._files if wanted is None else wanted:
            status = self._files[name][1]
            found.append([name, *((status.st_size, status.st_mtime_ns, status.st_mode) if status else ())])
        return [self._root, found]

    def photos(self) -> list[str]:
        """Return the names of the files that may be photos: neither by ending nor by content anything else."""
        return [name for name in self._files if not self._is_other(name)]

    def files(self, names: Iterable[str]) -> list[Path]:
        """Return the paths to open of files, below `path` as it was given."""
        return [self.path / Path(self._files[name][0]).relative_to(self._root) for name in names]

    def _is_other(self, name: str) -> bool:
        path, status = self._files[name]
        if status is None or not _OTHER.fullmatch(PurePosixPath(name).suffix):
            return False
        try:
            with Path(path).open("rb") as file:
                return not _PHOTO_STARTS.match(file.read(16))
        except OSError:
            return True

    def names(self) -> list[str]:
        """Return the names of all files, relative and with ``/``, without hidden files."""
        return list(self._files)

    def read(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
        """Yield name and content of the `wanted` files, or the error of those that cannot be read."""
        for name in wanted:
            path, status = self._files[name]
            if status is None:
                yield name, OSError("not a regular file, or a broken link")
            elif status.st_size > MEMBER_LIMIT:
                yield name, OSError(f"larger than {MEMBER_LIMIT // 2**20} MB")
            else:
                try:
                    yield name, Path(path).read_bytes()
                except OSError as error:
                    yield name, OSError(error.strerror or str(error))


class _Archive(Container):
    """What the three kinds of archive share; names are relative to the folder `top` inside."""

    def __init__(self, path: Path, top: str = "") -> None:
        super().__init__(path)
        self._prefix = f"{top}/" if top else ""
        self._inside: dict[str, str] | None = None

    def identity(self, wanted: Iterable[str] | None = None) -> list[Any]:
        status = self.path.stat()
        return [os.path.realpath(self.path), status.st_size, status.st_mtime_ns]

    def names(self) -> list[str]:
        return list(self._members())

    def _members(self) -> dict[str, str]:
        """Check all members, once; return the names inside the archive by their portable names."""
        if self._inside is None:
            total, inside = 0, dict[str, str]()
            most = max(RATIO_FROM, RATIO_LIMIT * self.path.stat().st_size)
            for count, (name, size, fault) in enumerate(self._list(), start=1):
                total += size
                path = PurePosixPath(name.replace("\\", "/"))
                if leads_out(name):
                    fault = "would be unpacked outside its folder"
                elif size > MEMBER_LIMIT:
                    fault = f"is larger than {MEMBER_LIMIT // 2**20} MB"
                elif total > TOTAL_LIMIT:
                    fault = f"brings the total to more than {TOTAL_LIMIT // 2**30} GB"
                elif total > most:
                    fault = f"brings the total to more than {RATIO_LIMIT} times the archive's own size"
                elif count > COUNT_LIMIT:
                    fault = f"is one more than {COUNT_LIMIT:,}"
                if fault:
                    raise DataError(
                        f"archive {self.path} is refused: member {name!r} {fault}. Get the archive from its "
                        "original source again"
                    )
                if str(path).startswith(self._prefix) and not name.endswith("/") and not any(map(_ignored, path.parts)):
                    shown = portable(str(path)[len(self._prefix) :])
                    inside[shown if inside.get(shown, name) == name else unused(shown, inside)] = name
            self._inside = inside
        return self._inside

    @abc.abstractmethod
    def _list(self) -> Iterator[tuple[str, int, str]]:
        """Yield name (ending in ``/`` for folders), size and fault (or "") of every member."""

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the readers raise almost anything on damaged archives
            raise self._broken(error or type(error).__name__) from error

    def _broken(self, error: object) -> DataError:
        return DataError(f"archive {self.path} is damaged or incomplete ({error}). Delete it and get it again")


class _Limited:
    """A file, or a decompressed stream, of which only a limited number of bytes can be read at a time.

    Archives may claim any length for the description of their members, and a small file can decompress without end. At
    most `allowed` bytes can be read between two calls of `allow`, and `most` bytes in total. Very long numbers are
    refused except in a member's content.
    """

    def __init__(self, file: BinaryIO, allowed: int, most: int | None = None) -> None:
        self._file, self._allowed, self._left, self._most = file, allowed, allowed, most
        self._last, self._content = b"", False
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def allow(self, more: int = 0) -> None:
        self._left, self._content = self._allowed + more, more > 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("what describes its members is too long")
        if self._most is not None and self.tell() > self._most:
            raise ValueError(f"it grows to more than {RATIO_LIMIT} times its size")
        if not self._content and _LONG_NUMBER.search(data):
            raise ValueError("a number in a header is too long")
        self._last = data
        return data

    def drain(self) -> None:
        """Read on to the end, where the checksum is; what was read last must not be a member's header."""
        if self._last.strip(b"\0"):
            raise ValueError("a member's header is not readable")
        while self._last:
            self.allow(2**20)
            self.read(2**20)


class _Zip(_Archive):
    def _list(self) -> Iterator[tuple[str, int, str]]:
        with self._guard(), self.path.open("rb") as file:
            limited = cast(BinaryIO, _Limited(file, _DIRECTORY_LIMIT))
            with zipfile.ZipFile(limited) as archive:
                for member in archive.infolist():
                    special = stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR)
                    usual = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                    fault = "" if usual else "is neither stored nor deflated"
                    fault = _SPECIAL if special else "is encrypted" if member.flag_bits & 1 else fault
                    yield member.filename, member.file_size, fault

    def read(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
        inside = self._members()
        with self._guard(), zipfile.ZipFile(self.path) as archive:
            for name in wanted:
                member = archive.getinfo(inside[name])
                with archive.open(member) as file:
                    yield name, file.read(member.file_size)  # without a number, it is unpacked whatever its size


class _Tar(_Archive):
    def _list(self) -> Iterator[tuple[str, int, str]]:
        with self._guard(), self._open() as (stream, archive):
            while member := archive.next():
                fault = "" if member.isreg() or member.isdir() else _SPECIAL
                fault = "is stored in pieces" if member.issparse() else "claims no size" if member.size < 0 else fault
                yield member.name + "/" * member.isdir(), member.size, fault
                stream.allow()
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all
            stream.drain()

    def read(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
        inside = self._members()
        names = {inside[name]: name for name in wanted}
        with self._guard(), self._open() as (stream, archive):
            while names and (member := archive.next()):  # in order, as going back means decompressing again
                stream.allow(member.size)
                if member.name in names and (file := archive.extractfile(member)):
                    yield names.pop(member.name), file.read()
                stream.allow()
                archive.members.clear()  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[_Limited, tarfile.TarFile]]:
        kinds = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
        with self.path.open("rb") as file:
            start = file.read(2)
        unpack: Any = kinds.get(start, open)
        with contextlib.closing(unpack(self.path, "rb")) as file:
            stream = _Limited(file, _HEADER_LIMIT, max(RATIO_FROM, RATIO_LIMIT * self.path.stat().st_size))
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as archive:
                yield stream, archive


class _Rar(_Archive):
    def _open(self) -> list[Any]:
        import rarfile

        with self._guard(), rarfile.RarFile(self.path, errors="strict") as archive:
            return archive.infolist()

    def _list(self) -> Iterator[tuple[str, int, str]]:
        for member in self._open():
            kind, _, target = member.file_redir or (None, 0, "")
            copy = kind == _RAR_COPY and not leads_out(target)
            unix = stat.S_IFMT(member.mode or 0) if member.host_os == _RAR_UNIX else 0
            plain = copy or (kind is None and unix in (0, stat.S_IFREG, stat.S_IFDIR))
            fault = "is encrypted" if member.needs_password() else "" if plain else _SPECIAL
            yield member.filename, 0 if member.is_dir() else member.file_size, fault

    def read(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
        inside = self._members()
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=cache_folder()) as temporary:
            self._unpack(temporary)
            for name in wanted:
                yield name, (Path(temporary) / inside[name]).read_bytes()

    def _unpack(self, into: str) -> None:
        path = str(self.path.resolve())
        commands = {
            "unrar": ["x", "-idq", "-p-", "-y", path, into + os.sep],
            "bsdtar": ["-x", "-f", path, "-C", into],
            "7z": ["x", "-y", "-p-", f"-o{into}", path],
            "7zz": ["x", "-y", "-p-", f"-o{into}", path],
        }
        programs = [program for program in commands if shutil.which(program)]
        if not programs:
            raise DataError(
                f"{path} is a RAR archive, and none of the programs unrar, bsdtar and 7z that can unpack it "
                "is installed. Install one, or unpack the archive yourself into the folder it lies in"
            )
        complaints = []
        for program in programs:  # bsdtar, for one, cannot unpack every kind of RAR
            command = [program, *commands[program]]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines()
                complaints.append(f"{program}: {said[0] if said else f'exit code {done.returncode}'}")
            elif faulty := self._faulty(into):
                complaints.append(f"{program}: {faulty!r} is damaged")
            else:
                return
        raise DataError(
            f"archive {path} could not be unpacked ({'; '.join(complaints)}): it is damaged or incomplete, or "
            "needs another program. Get it again, install unrar, or unpack it yourself into the folder it lies in"
        )

    def _faulty(self, into: str) -> str:
        """Return the first member that was not unpacked as the archive says, or ""."""
        for member in self._open():
            file = Path(into, member.filename)
            if not member.is_dir() and (
                file.is_symlink()
                or not file.is_file()
                or file.stat().st_size != member.file_size
                or member.CRC not in (None, zlib.crc32(file.read_bytes()))
            ):
                return member.filename
        return ""


def open_container(path: Path, top: str = "", only: Sequence[str] = ("",)) -> Container:
    """Open a folder, or a ``.zip``, ``.rar`` or tar archive.

    Names are relative to the folder `top` inside an archive; of a folder, only the subfolders `only` are read.
    """
    if path.is_dir():
        # Unpacking "photos.rar" into a folder "photos" often gives photos/photos.
        return Folder(path / path.name if (path / path.name).is_dir() else path, only)
    kind = {".zip": _Zip, ".rar": _Rar}.get(path.suffix.lower(), _Tar)
    return kind(path, top)


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED or name.lower().endswith(ASIDE)


def leads_out(name: str) -> bool:
    """Whether a name, unpacked or opened below a folder, is outside of it, on any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or bool(PureWindowsPath(name).drive)


def _holds_results(entries: Sequence[os.DirEntry[str]]) -> bool:
    """Whether a folder is one that cnnhw saved a run or an evaluation in."""
    for entry in entries:
        if entry.name in ("run.json", "evaluation.json"):
            try:
                if entry.stat().st_size <= _RESULTS_LIMIT:
                    return "cnnhw" in json.loads(Path(entry.path).read_bytes())["versions"]
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                pass
    return False


def unused(name: str, taken: Collection[str]) -> str:
    """Return a name, with a number before its ending if it is taken."""
    (stem, ending), number, free = posixpath.splitext(name), 1, name
    while free in taken:
        number += 1
        free = f"{stem}~{number}{ending}"
    return free


def portable(name: str) -> str:
    """Return a file name spelt the same on every system: composed accents, nothing that cannot be printed."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))
