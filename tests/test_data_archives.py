"""Archives: the named data sets in small, archives that are damaged or mean harm, and a real RAR archive."""

from __future__ import annotations

import base64
import io
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnhw.data
from cnnhw.data import sources
from cnnhw.data.archives import open_container
from cnnhw.errors import DataError, UnknownNameError

needs_reader = pytest.mark.skipif(
    not os.environ.get("CI") and not any(map(shutil.which, ("unrar", "bsdtar", "7z", "7zz"))),
    reason="no program here unpacks RAR archives",
)


def photo(seed: int, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_rar(path: Path, files: dict[str, bytes], mode: int = 0o100644) -> Path:
    """Write a RAR 4 archive that stores files as they are."""

    def block(kind: int, flags: int, body: bytes) -> bytes:
        head = struct.pack("<BHH", kind, flags, len(body) + 7) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head

    data = b"Rar!\x1a\x07\0" + block(0x73, 0, bytes(6))
    for name, content in files.items():
        size, text = len(content), name.encode()
        fields = struct.pack("<IIBIIBBHI", size, size, 3, zlib.crc32(content), 0x50000000, 20, 0x30, len(text), mode)
        data += block(0x74, 0x8000, fields + text) + content
    path.write_bytes(data + block(0x7B, 0x4000, b""))
    return path


def unpack(files: dict[str, bytes], into: Path) -> Path:
    for name, data in files.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(data)
    return into


MAKERS = {".zip": make_zip, ".tgz": make_tar, ".rar": make_rar}


def load(name, **options):
    return cnnhw.data.load(name, **{"size": 16, "progress": False, **options})


def sizes(photos):
    return len(photos.train), len(photos.validation), len(photos.test)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return an empty folder that named data sets are looked for in, without network."""

    class NoNetwork:
        def __init__(self, **_):
            pass

        def __call__(self, *_):
            raise OSError("no network in this test")

    monkeypatch.setattr("pooch.HTTPDownloader", NoNetwork)
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.setenv("CNNHW_DATA", str(folder))
    return folder


# ---------------------------------------------------------------------------------------------------- flowers

LICENCE = """All images in this archive are licensed under the Creative Commons By-Attribution License
daisy/1.jpg CC-BY by Ann O'Nym - the first - https://example.org/1/
roses/12.jpg CC-BY https://example.org/2/ - by Bob
"""
FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


def flowers(count: int = 10) -> dict[str, bytes]:
    photos = {
        f"flower_photos/{name}/{k}.jpg": photo(100 * label + k)
        for label, name in enumerate(FLOWERS)
        for k in range(count)
    }
    return {"flower_photos/LICENSE.txt": LICENCE.encode(), **photos}


def test_flowers(place):
    make_tar(place / "flower_photos.tgz", flowers())
    photos = load("flowers")
    assert photos.classes == FLOWERS
    assert sizes(photos) == (35, 5, 10)
    assert photos.note == "50 of 3,670 photos found"
    assert "CC BY 2.0" in photos.licence
    assert photos.train.names[0].startswith("daisy/")
    credit = cnnhw.data.flower_credits()
    assert credit["daisy/1.jpg"] == "Ann O'Nym - the first, CC BY 2.0, https://example.org/1/"
    assert credit["roses/12.jpg"] == "Bob, CC BY 2.0, https://example.org/2/"
    assert load("flowers").fingerprint == photos.fingerprint


def test_unpacked_flowers_are_the_same(place, tmp_path):
    make_tar(place / "flower_photos.tgz", flowers())
    unpack(flowers(), tmp_path / "other")
    packed, unpacked = load("flowers"), load("flowers", root=tmp_path / "other")
    assert packed.fingerprint == unpacked.fingerprint
    assert len(cnnhw.data.flower_credits(tmp_path / "other")) == 2


def test_complete_flowers(place, monkeypatch):
    monkeypatch.setattr(sources, "FLOWER_COUNT", 50)
    make_tar(place / "flower_photos.tgz", flowers())
    assert load("flowers").note == ""


def test_flowers_without_a_class_or_credits(place):
    files = {name: data for name, data in flowers().items() if "tulips" not in name and "LIC" not in name}
    make_tar(place / "flower_photos.tgz", files)
    with pytest.raises(DataError, match="no photos of tulips"):
        load("flowers")
    with pytest.raises(DataError, match=r"LICENSE\.txt"):
        cnnhw.data.flower_credits()


# ---------------------------------------------------------------------------------------------------- tiny5


def tiny(count: int, extra: bool = False) -> dict[str, bytes]:
    wnids = [wnid for ids in sources.TINY5.values() for wnid in ids.split()]
    files = {"tiny-imagenet-200/wnids.txt": b"", "tiny-imagenet-200/val/images/val_0.JPEG": photo(0)}
    for place, wnid in enumerate([*wnids, "n00000001"] if extra else wnids):
        for k in sorted(range(count), key=str):  # 0, 1, 10, 11, 2: as in the archive
            name = f"tiny-imagenet-200/train/{wnid}/images/{wnid}_{k}.JPEG"
            files[name] = photo(1000 * place + k)
    return files


@pytest.fixture
def small_tiny5(monkeypatch):
    monkeypatch.setattr(sources, "TINY5_COUNTS", {"train": 80, "test": 16})


def test_tiny5(place, tmp_path, small_tiny5):
    make_zip(place / "tiny-imagenet-200.zip", tiny(24))
    photos = load("tiny5")
    assert photos.classes == ("bird", "dog", "fruit", "insect", "other")
    assert sizes(photos) == (360, 40, 80)
    assert "research and education only" in photos.licence
    for part, first, last, per_class in (("test", 20, 24, 16), ("test", 10, 12, 16)):
        split = getattr(photos, part)
        others = first == 10
        chosen = [
            name for name, label in zip(split.names, split.labels.tolist(), strict=True) if (label == 4) == others
        ]
        numbers = {int(name.rpartition("_")[2].removesuffix(".JPEG")) for name in chosen}
        assert numbers == set(range(first, last))
        assert len(chosen) == per_class * (1 if others else 4)
    wnids = Counter(name.split("/")[1] for name in photos.train.names + photos.validation.names)
    assert set(wnids.values()) == {20, 10}

    complete = make_zip(tmp_path / "tiny-imagenet-200.zip", tiny(30, extra=True)).parent
    assert load("tiny5", root=complete).fingerprint == photos.fingerprint
    unpacked = unpack(tiny(30, extra=True), tmp_path / "unpacked")
    assert load("tiny5", root=unpacked).fingerprint == photos.fingerprint


def test_tiny5_with_too_few_photos(place, small_tiny5):
    make_zip(place / "tiny-imagenet-200.zip", tiny(23))
    with pytest.raises(DataError, match="holds 23 photos in train/n01855672, and tiny5 needs 24"):
        load("tiny5")


# ---------------------------------------------------------------------------------------------------- linnaeus5


def linnaeus(pixels: int = 32, train: int = 5, test: int = 2) -> dict[str, bytes]:
    return {
        f"Linnaeus 5 {pixels}X{pixels}/{part}/{name}/{k}_{pixels}.jpg": photo(
            zlib.crc32(f"{part} {label} {k}".encode())
        )
        for part, count in (("train", train), ("test", test))
        for label, name in enumerate(("berry", "bird", "dog", "flower", "other"))
        for k in range(1, count + 1)
    }


@pytest.fixture
def small_linnaeus(monkeypatch):
    monkeypatch.setattr(sources, "LINNAEUS_COUNTS", {"train": 5, "test": 2})


@needs_reader
def test_linnaeus5(place, tmp_path, small_linnaeus):
    make_rar(place / "Linnaeus 5 32X32.rar", linnaeus())
    photos = load("linnaeus5")
    assert photos.classes == ("berry", "bird", "dog", "flower", "other")
    assert sizes(photos) == (20, 5, 10)
    assert all(name.startswith("test/") for name in photos.test.names)
    assert photos.note == "from Linnaeus 5 32X32"
    unpacked = unpack(linnaeus(), tmp_path / "unpacked")
    assert load("linnaeus5", root=unpacked).fingerprint == photos.fingerprint
    twice = unpack(linnaeus(), tmp_path / "twice" / "Linnaeus 5 32X32").parent
    assert load("linnaeus5", root=twice).fingerprint == photos.fingerprint
    assert not list((tmp_path / "cache").glob("unpacked-*"))


def test_linnaeus5_takes_the_smallest_version_that_is_large_enough(place, small_linnaeus):
    for pixels in (32, 64, 256):
        unpack(linnaeus(pixels), place)
    for size, pixels in ((16, 32), (32, 32), (33, 64), (65, 256), (300, 256)):
        assert load("linnaeus5", size=size).note == f"from Linnaeus 5 {pixels}X{pixels}"
    shutil.rmtree(place / "Linnaeus 5 256X256")
    assert load("linnaeus5", size=128).note == "from Linnaeus 5 64X64"


def test_linnaeus5_incomplete(place):
    unpack(linnaeus(), place)
    with pytest.raises(DataError, match="5 in train/berry instead of 1,200"):
        load("linnaeus5")


def test_no_program_to_unpack(place, small_linnaeus, monkeypatch):
    path = make_rar(place / "Linnaeus 5 32X32.rar", linnaeus())
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(DataError, match=r"unrar, bsdtar and 7z .* unpack the archive yourself") as caught:
        load("linnaeus5")
    assert str(path) in str(caught.value)


def test_the_next_program_is_tried(tmp_path, monkeypatch):
    files = {"a/1.jpg": photo(1), "a/2.jpg": photo(2)}
    path = make_rar(tmp_path / "x.rar", files)

    def run(command, **_):
        if command[0] == "bsdtar":
            unpack(files, Path(command[-1]))
        return subprocess.CompletedProcess(command, 0 if command[0] == "bsdtar" else 3, "", "no such kind\n")

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("shutil.which", lambda name: name if name in ("unrar", "bsdtar") else None)
    assert read_all(path) == files
    files["a/2.jpg"] = photo(3)
    with pytest.raises(DataError, match=r"unrar: no such kind; bsdtar: 'a/2.jpg' is damaged"):
        read_all(path)


# rar5-solid.rar from the tests of rarfile 4.5, copyright Marko Kreen, ISC licence: two compressed files.
REAL_RAR = (
    "UmFyIRoHAQAJ78hvCwEFBwQGAQGAgIAA3vVwchwCAroABIAQtoMCoua3xYAbAQpzdGVzdDEudHh0waw3REQj+iP2l/1iU1G+"
    "TJGBQQKMwQN5XL9Ho6otoDaT3aBYAEACANRQBHb2xH8y6p8ypcTM14PfABDoLYkcAgKNAASAELaDAqLmt8XAGwEKc3Rlc3Qy"
    "LnR4dEUVCmABAAgD37f79vwdd1ZRAwUEAA=="
)


@needs_reader
def test_a_real_rar_archive(tmp_path):
    path = tmp_path / "real.rar"
    path.write_bytes(base64.b64decode(REAL_RAR))
    container = open_container(path)
    assert sorted(container.names()) == ["stest1.txt", "stest2.txt"]
    lines = b"".join(b"%03d\n" % number for number in range(512))
    assert dict(container.read(container.names())) == {"stest1.txt": lines, "stest2.txt": lines}


# rar5-evil-symlink-traversal.rar, from the same place: "up" links to "..", then comes "up/pwned.txt".
EVIL_RAR = (
    "UmFyIRoHAQAzkrXlCgEFBgAFAQGAgAAu1g9EJQIDEgAEAO3DAgAAAACAAAECdXAKAxM+UQJqEzImFwYFAQECLi5/IjYIKgID"
    "C5cABJcApIMCR30ywIAAAQx1cC9wd25lZC50eHQKAxM+UQJqrNEsF1pJUFNMSVAtVklBLVNZTUxJTkstT0sKHXdWUQMFBAA="
)


def test_a_real_rar_archive_that_means_harm(tmp_path):
    path = tmp_path / "evil.rar"
    path.write_bytes(base64.b64decode(EVIL_RAR))
    with pytest.raises(DataError, match="'up' is a link"):
        open_container(path).names()


# ---------------------------------------------------------------------------------------------------- harm


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "a/../../out.jpg", "..\\out.jpg", "C:\\out.jpg"])
def test_names_that_lead_outside(tmp_path, kind, name):
    path = MAKERS[kind](tmp_path / f"x{kind}", {"a/1.jpg": photo(1), name: photo(2)})
    with pytest.raises(DataError, match=r"is refused: member .* outside its folder") as caught:
        open_container(path).names()
    assert "out.jpg" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"x{kind}"]


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"])
def test_tar_members_that_are_no_files(tmp_path, kind):
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("a/link")
        member.type, member.linkname = getattr(tarfile, kind), "../../etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match="'a/link' is a link or a device"):
        open_container(tmp_path / "x.tgz").names()


def test_links_in_zip_and_rar(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("a/link")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    make_rar(tmp_path / "x.rar", {"a/link": b"/etc/passwd"}, mode=0o120777)
    make_rar(tmp_path / "y.rar", {"a/link": b""}, mode=0o020666)
    for name in ("x.zip", "x.rar", "y.rar"):
        with pytest.raises(DataError, match="'a/link' is a link or a device"):
            open_container(tmp_path / name).names()


@pytest.mark.parametrize("kind", MAKERS)
def test_limits(tmp_path, kind, monkeypatch):
    path = MAKERS[kind](tmp_path / f"x{kind}", {"a/1": bytes(900), "a/2": bytes(900)})
    monkeypatch.setattr("cnnhw.data.archives.TOTAL_LIMIT", 1000)
    with pytest.raises(DataError, match="'a/2' brings the total"):
        open_container(path).names()
    monkeypatch.setattr("cnnhw.data.archives.MEMBER_LIMIT", 800)
    with pytest.raises(DataError, match="'a/1' is larger than"):
        open_container(path).names()


def read_all(path: Path) -> dict[str, bytes]:
    container = open_container(path)
    return dict(container.read(container.names()))


@needs_reader
@pytest.mark.parametrize("kind", MAKERS)
def test_damaged_archives(tmp_path, kind):
    files = {f"a/{k}.jpg": photo(k) for k in range(20)}
    whole = MAKERS[kind](tmp_path / f"x{kind}", files)
    assert read_all(whole) == files
    data = whole.read_bytes()
    path = tmp_path / f"y{kind}"
    for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(DataError, match=rf"y\{kind}"):
            read_all(path)
    for start in range(40, len(data) - 40, len(data) // 7):
        path.write_bytes(data[:start] + bytes(byte ^ 0x55 for byte in data[start : start + 9]) + data[start + 9 :])
        try:
            found = read_all(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert found == files  # what was hit does not matter, such as a date
    path.write_bytes(b"this is not an archive" * 100)
    with pytest.raises(DataError, match=rf"y\{kind}"):
        read_all(path)


def test_encrypted_zip(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a/1.jpg": photo(1)})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        read_all(path)


def test_hidden_members_are_ignored(tmp_path):
    names = ["p/a/1.jpg", "__MACOSX/p/a/._1.jpg", "p/.DS_Store", "p/a/Thumbs.db", "q/2.jpg", "p/b/"]
    path = make_zip(tmp_path / "x.zip", dict.fromkeys(names, b""))
    assert open_container(path, "p").names() == ["a/1.jpg"]


# ---------------------------------------------------------------------------------------------------- download


@pytest.mark.parametrize("name", ["flowers", "tiny5", "linnaeus5"])
def test_without_network(place, tmp_path, name):
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        load(name, size=128)
    message = str(caught.value)
    version = sources.SOURCES[name].preferred(128)[0]
    assert version.archive in message
    assert version.url in message
    assert str(tmp_path / "cache" / "data") in message
    assert not list((tmp_path / "cache" / "data").iterdir())
    assert f"Not here yet: {version.url}" in cnnhw.data.describe(name)


class Server:
    """In pooch's place: gives one answer to all questions."""

    answer = b""

    def __init__(self, **_):
        pass

    def __call__(self, url, output_file, pooch):
        Path(output_file).write_bytes(self.answer)


def test_download(place, tmp_path, monkeypatch):
    data = make_tar(tmp_path / "x.tgz", flowers()).read_bytes()
    monkeypatch.setattr("pooch.HTTPDownloader", Server)
    monkeypatch.setattr(Server, "answer", data)
    with pytest.raises(DataError, match="instead of 228,813,984"):
        load("flowers")
    version = sources.SOURCES["flowers"].versions[0]._replace(length=len(data), md5="0" * 32)
    flower_source = sources.SOURCES["flowers"]
    monkeypatch.setitem(
        sources.SOURCES, "flowers", type(flower_source)(**{**vars(flower_source), "versions": (version,)})
    )
    with pytest.raises(DataError, match="MD5"):
        load("flowers")
    assert not list((tmp_path / "cache" / "data").iterdir())
    version = version._replace(md5=None)
    monkeypatch.setitem(
        sources.SOURCES, "flowers", type(flower_source)(**{**vars(flower_source), "versions": (version,)})
    )
    assert sizes(load("flowers")) == (35, 5, 10)
    assert cnnhw.data.fetch("flowers") == tmp_path / "cache" / "data" / "flower_photos.tgz"
    assert cnnhw.data.fetch("flowers", tmp_path / "new", progress=False).parent == tmp_path / "cache" / "data"
    (tmp_path / "cache" / "data" / "flower_photos.tgz").unlink()
    assert cnnhw.data.fetch("flowers", tmp_path / "new", progress=False).parent == tmp_path / "new"


def test_addresses():
    urls = {version.archive: version.url for source in sources.SOURCES.values() for version in source.versions}
    assert urls["Linnaeus 5 128X128.rar"] == "http://chaladze.com/l5/img/Linnaeus%205%20128X128.rar"
    assert len(urls) == 6


def test_names_and_descriptions(place):
    assert cnnhw.data.names() == ("scenes", "flowers", "linnaeus5", "tiny5")
    for name in cnnhw.data.names():
        assert "\n" not in cnnhw.data.describe(name)
    make_tar(place / "flower_photos.tgz", flowers())
    assert f"Here: {place / 'flower_photos.tgz'}" in cnnhw.data.describe("flowers")
    with pytest.raises(UnknownNameError):
        cnnhw.data.describe("flower")
    with pytest.raises(DataError, match="no files"):
        cnnhw.data.fetch("scenes")
