"""Fuzzing of all that reads what others have made: ``python tests/fuzz.py --minutes 30 --out docs/fuzzing.json``.

Valid small files, made by code, are mutated and read. What is read may be refused, but only with an error of our own,
and in bounded time and memory; nothing may be written outside the folder of the run. Inputs are tried in processes of
their own, so that one that ends the interpreter is found, too: it is kept in ``--keep``. There are two engines: plain
mutation, and atheris, which looks for inputs that reach new lines of Python (Linux and CPython only; without it, the
first is alone).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import faulthandler
import functools
import gzip
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10.0
MEMORY = 2**30
IMAGE_MEMORY = 2 * 2**30  # 100 megapixels with transparency are there four times while they are laid on white
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
NUMBERS = (b"0", b"-1", b"1e999", b"NaN", b"-0", b"1000000000000", b"9" * 5000, b"1.5", b"null", b'""', b"[]", b"{}")


class Slow(BaseException):
    """An input took longer than it may."""


class Enough(BaseException):
    """A command has understood its arguments and would now train or download."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes
    ----------
    seeds : callable
        Returns valid inputs.
    read : callable
        Reads an input in a folder; raises errors of our own, or returns.
    mutate : callable
        Takes an input, a generator and the seeds; returns another input.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], None]
    mutate: Callable[[bytes, random.Random, list[bytes]], bytes]
    memory: int = MEMORY


# ---------------------------------------------------------------------------------------------------- mutations


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Return the data with up to eight things changed."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(9):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.randrange(256)
            case 2:
                del out[at:]
            case 3:
                del out[at : at + rng.choice((1, 2, 4, 16, 512))]
            case 4:
                out[at:at] = out[at : at + rng.choice((1, 4, 16, 512, 2048))]
            case 5:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                out[at:] = other[start:]
            case 6:
                code = rng.choice("<>") + rng.choice("BHIQ")
                word = struct.pack(code, rng.choice(EXTREMES) % 2 ** (8 * struct.calcsize(code)))
                out[at : at + len(word)] = word
            case 7:
                out[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
            case 8:
                numbers = list(re.finditer(rb"\d+", out))
                if numbers:
                    found = rng.choice(numbers)
                    out[found.start() : found.end()] = rng.choice(NUMBERS)
        if len(out) > 2**20:
            del out[2**20 :]
    return bytes(out)


def mutate_json(value: object, rng: random.Random) -> object:
    """Return plain values with one of them changed."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {other: inner for other, inner in value.items() if other != key}
        if rng.random() < 0.1:
            return value | {rng.choice((key + "x", "width", "depth", "layers", "")): rng.choice((value[key], 10**9))}
        return value | {key: mutate_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], mutate_json(value[at], rng), *value[at + 1 :]]
    if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.7:
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(mutate_json(json.loads(value), rng))
    nested = rng.choice((100, 5000))
    return rng.choice(
        (
            None, True, 0, -1, 1, 10**9, 10**12, 10**30, -(10**12), 0.5, float("nan"), float("inf"), "", "x", "\0",
            "1" * 5000, "1000000000000", "-1", "nan", "[" * nested + "]" * nested, '{"a":' * nested, [], {}, [[]],
            "3-" * nested + "3", "\ud800", "fast", "residual", "plain", '{"depth": 12000000, "width": 1}', "<script>",
        )
    )  # fmt: skip


def mutate_weights(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Return a safetensors file with other fields in its header, or other bytes."""
    if rng.random() < 0.3:
        return mutate(data, rng, others)
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return mutate(data, rng, others)
    if rng.random() < 0.7 and isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        metadata = mutate_json(header["__metadata__"], rng)
        if isinstance(metadata, dict) and rng.random() < 0.9:
            metadata = {
                name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()
            }
        header["__metadata__"] = metadata
    else:
        header = mutate_json(header, rng)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    claimed = rng.choice((*EXTREMES, len(text) + 1)) if rng.random() < 0.05 else len(text)
    return claimed.to_bytes(8, "little") + text + data[8 + length :]


def mutate_record(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Return a record with other values, mostly with the key that fits them, or other bytes."""
    from cnnhw.studies import store

    if rng.random() < 0.3:
        return mutate(data, rng, others)
    try:
        content = mutate_json(json.loads(data), rng)
        if isinstance(content, dict) and rng.random() < 0.8:
            content["key"] = store.configuration_key(content["configuration"])
        return json.dumps(content).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return mutate(data, rng, others)


def mutate_tar(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Return a tar archive with other bytes, its headers' checksums mostly right again, compressed or not."""
    packed = data[:2] == b"\x1f\x8b"
    if packed and rng.random() < 0.8:
        try:
            data = gzip.decompress(data)
        except Exception:  # mutated before
            packed = False
    out = bytearray(mutate(data, rng, others))
    if rng.random() < 0.8 and out[:2] != b"\x1f\x8b":
        for start in range(0, len(out) - 511, 512):
            if out[start + 257 : start + 262] == b"ustar":
                if rng.random() < 0.1:
                    out[start + 124 : start + 136] = rng.choice(
                        (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0", b"-0000000001\0", b"\xff" * 11 + b"\0")
                    )
                if rng.random() < 0.1:
                    out[start + 156] = rng.choice(b"0123456 7xgLKSVMD")
                out[start + 148 : start + 156] = b" " * 8
                out[start + 148 : start + 156] = b"%06o\0 " % sum(out[start : start + 512])
    return gzip.compress(bytes(out), 1) if packed and out[:2] != b"\x1f\x8b" else bytes(out)


def mutate_zip(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Return a zip archive with other fields in its list of members or in their headers, or other bytes."""
    starts = [found.start() for found in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", data)]
    if rng.random() < 0.3 or not starts:
        return mutate(data, rng, others)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.choice(starts)
        fields = {1: (8, 10, 16, 20, 24, 28, 30, 32, 38, 42, 46, 48), 3: (6, 8, 14, 18, 22, 26, 28, 30)}
        at += rng.choice(fields.get(data[at + 2], (8, 10, 12, 16, 20)))
        word = rng.choice(
            (struct.pack("<H", rng.choice(EXTREMES) % 2**16), struct.pack("<I", rng.choice(EXTREMES) % 2**32),
             rng.randbytes(2), b"../", b"/", b"\\\\a", b"C:", b"\0", b"\xff\xff\xa0\xed")
        )  # fmt: skip
        out[at : at + len(word)] = word
    return bytes(out)


WORDS = (
    "--", "-h", "--help", "--size", "--epochs", "--seed", "--data", "--out", "--rate", "--minutes", "--batch-size",
    "--csv", "--json", "--option", "--records", "--root", "--resume", "--augment", "--dropout", "--hidden", "--head",
    "--layer", "--crop", "--weights", "--against", "--part", "--plan", "--quick", "--target", "--classes", "--most",
    "pets", "photo.png", "note.txt", "fast", "plain", "residual", "first_layer", "q1_deep", "resnet18", "imagenet",
    "scenes", "flowers", "q1", "all", "weights.safetensors", "broken.safetensors", "run", "out", ".", "..", "/", "",
    "/dev/zero", "/dev/null", "/proc/self/mem", "~", "~nobody", "\x1b[31m", "\udcff", "x" * 300, "a/" * 3000, "$",
    "0", "-1", "1", "8", "16", "nan", "inf", "-inf", "1e400", "9" * 30, "4294967296", "side=3", "depth=12", "=", "a=",
    "width=-1", "kernels=3-3", "=1", "true", "{}", "%s", "%n", "{0}", "[/]", "名前", "\u202egnp", "'", '"', "\n", "\\",
)  # fmt: skip


def mutate_words(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Return other words of a command line; they are divided by NUL, as in ``/proc``."""
    words = data.split(b"\0")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(words) + 1)
        new = rng.choice(WORDS).encode("utf-8", "surrogateescape")
        match rng.randrange(5):
            case 0 | 1 if at < len(words):
                words[at] = new
            case 2:
                words[at:at] = [new]
            case 3:
                del words[at : at + 1]
            case 4:
                at = at % (len(words) or 1)
                words[at : at + 1] = [mutate(words[at], rng, others).replace(b"\0", b"")] if words else [new]
    return b"\0".join(words[:30])


# ---------------------------------------------------------------------------------------------------- images


def image_seeds() -> list[bytes]:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8)
    rgba = Image.fromarray(pixels)
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    palette = rgb.quantize(16)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    wanted = [
        (rgb, "JPEG", {"exif": exif}), (rgb, "JPEG", {"progressive": True}), (grey, "JPEG", {}),
        (rgb.convert("CMYK"), "JPEG", {}), (rgba, "PNG", {}), (palette, "PNG", {"transparency": 3}), (deep, "PNG", {}),
        (grey.convert("1"), "PNG", {}), (palette, "GIF", {}), (rgb, "GIF", {"save_all": True, "append_images": [grey]}),
        (rgb, "BMP", {}), (palette, "BMP", {}), (rgba, "TIFF", {}), (rgb, "TIFF", {"compression": "tiff_lzw"}),
        (rgb, "TIFF", {"compression": "jpeg"}), (rgb, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (deep, "TIFF", {}), (grey.convert("1"), "TIFF", {"compression": "group4"}), (rgb, "WEBP", {}),
        (rgba, "WEBP", {"lossless": True}), (rgb, "PPM", {}), (grey, "PPM", {}),
    ]  # fmt: skip
    seeds = [b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12\n"]
    for image, kind, options in wanted:
        file = io.BytesIO()
        image.save(file, kind, **options)
        seeds.append(file.getvalue())
    return seeds


def read_image(data: bytes, folder: Path) -> None:
    from cnnhw.data import decode

    decode.shorter_side(data)
    if len(data) % 8:
        decode.decode(data, 24, crop=bool(len(data) % 2))
    else:
        (folder / "photo").write_bytes(data)
        decode.read_photo(folder / "photo", 24)


# ---------------------------------------------------------------------------------------------------- archives

FILES = {"p/a/1.jpg": b"one" * 100, "p/a/2.jpg": b"two" * 300, "p/b/ü.jpg": bytes(700), "p/b/deep/4.png": b"4"}


def zip_seeds() -> list[bytes]:
    seeds = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            archive.writestr("p/", b"")
            for name, data in FILES.items():
                archive.writestr(name, data)
            archive.comment = b"a comment"
            with archive.open(zipfile.ZipInfo("p/a/large.jpg"), "w", force_zip64=True) as member:
                member.write(b"large")
        seeds.append(file.getvalue())
    return seeds


def tar_seeds() -> list[bytes]:
    seeds = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind, pax_headers={"comment": "x"}) as archive:
            for name, data in {**FILES, f"p/c/{'long' * 40}.jpg": b"long"}.items():
                member = tarfile.TarInfo(name if kind != tarfile.USTAR_FORMAT else name[-90:])
                member.size = len(data)
                if kind == tarfile.PAX_FORMAT:
                    member.pax_headers = {"mtime": "1.5", "SCHILY.xattr.user.x": "y"}
                archive.addfile(member, io.BytesIO(data))
            folder = tarfile.TarInfo("p/d")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        seeds += [file.getvalue(), gzip.compress(file.getvalue(), 1)]
    for name, value in (("GNU.sparse.map", "0,1,5,1"), ("GNU.sparse.size", "10"), ("size", "99"), ("path", "../x")):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            member = tarfile.TarInfo("s.jpg")
            member.size, member.pax_headers = 2, {name: value}
            archive.addfile(member, io.BytesIO(b"ab"))
        seeds.append(file.getvalue())
    return seeds


def rar_seeds() -> list[bytes]:
    import base64

    import test_data_archives as archives

    with tempfile.TemporaryDirectory() as folder:
        stored = archives.make_rar(Path(folder) / "x.rar", FILES).read_bytes()
    return [stored, base64.b64decode(archives.REAL_RAR), base64.b64decode(archives.EVIL_RAR)]


def read_archive(suffix: str, contents: bool = True) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from cnnhw.data.archives import open_container

        path = folder / f"archive{suffix}"
        path.write_bytes(data)
        container = open_container(path)
        names = container.names()
        container.identity()
        if contents:
            for _ in container.read(names):
                pass

    return read


# ---------------------------------------------------------------------------------------------------- weights, records


@functools.cache
def weights_seeds() -> list[bytes]:
    from cnnhw import models
    from cnnhw.models.heads import Head, replace_head
    from cnnhw.models.weights import save_weights

    wanted = [
        models.create("plain", 3, size=16, kernels="3-3", widths="2-4"), models.create("q1_shallow", 2, size=8),
        models.create("residual", 2, size=32, depth=12, width=2), models.create("first_layer", 2, size=8, side=5),
        models.create("dense", 2, size=32, growth=2, layers=1), models.create("resnet", 2, size=16, depth=8, width=2),
    ]  # fmt: skip
    wanted[0].classes = ("a", "b", "c")
    replace_head(wanted[2], Head(hidden=4, dropout=0.5), 2)
    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(wanted):
            path = Path(folder) / "weights.safetensors"
            save_weights(model, path, data="pets", licence="research only", half=number % 2 == 0)
            seeds.append(path.read_bytes())
    return [seed for seed in seeds if len(seed) < 300_000]


def read_weights(data: bytes, folder: Path) -> None:
    import torch

    from cnnhw import errors
    from cnnhw.models import weights

    path = folder / "weights.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(errors.WeightsError):
        weights.read_header(path)
    model = weights.load(folder if len(data) % 2 else path)
    if model.size <= 64:
        model(torch.zeros(1, 3, model.size, model.size))


def checkpoint_seeds() -> list[bytes]:
    import torch
    from safetensors.torch import save

    note = {
        "settings": {
            "model": "fast", "recipe": {"epochs": 3}, "precision": "float32", "size": 16, "seed": 0, "data": "x"
        },
        "threads": 1, "epoch": 1, "history": {"loss": [1.0]}, "first_losses": [1.0], "test_predictions": [],
        "best_epoch": 1,
    }  # fmt: skip
    return [save({"model.x": torch.zeros(2, 3), "best.x": torch.zeros(2, 3)}, {"cnnhw": json.dumps(note)})]


def read_checkpoint(data: bytes, folder: Path) -> None:
    from cnnhw import training

    (folder / training.CHECKPOINT).write_bytes(data)
    training.saved_settings(folder)


def record_seeds() -> list[bytes]:
    from cnnhw.studies import store

    configuration = {"model": "fast", "seed": 3, "recipe": {"epochs": 2}, "size": 16}
    content = {
        "format": 1, "study": "x", "arm": "a", "key": store.configuration_key(configuration),
        "configuration": configuration, "recipe": {}, "code": "0" * 16, "best_epoch": 1, "seconds": 1.5,
        "data": {"name": "pets", "classes": ["a", "b"], "test_fingerprint": "0", "photos": {"test": 4}},
        "history": {"loss": [1.0, 0.5]}, "test_labels": "0101", "test_predictions": {"1": "0100"},
    }  # fmt: skip
    return [json.dumps(content).encode()]


def read_record(data: bytes, folder: Path) -> None:
    from cnnhw.studies import store

    (folder / "x").mkdir(exist_ok=True)
    packed = gzip.compress(data)
    (folder / "x" / "a.json.gz").write_bytes(packed[: -1 - len(data) % 99] if len(data) % 4 == 0 else packed)
    store.read(where=folder)
    store.read("x", folder)


# ---------------------------------------------------------------------------------------------------- command line


def word_seeds() -> list[bytes]:
    lines = (
        "data list", "data show pets --size 16 --out sheet.png", "data audit pets --size 16 --weights fast --json a",
        "data fetch flowers --root .", "data apply marks.json --data pets --dry-run", "data apply --undo --data pets",
        "train plain --data pets --size 16 --epochs 1 --batch-size 4 --out out --seed 1",
        "train best --data pets --minutes 0.1", "train best --data pets --out run --resume", "train fast --data pets",
        "transfer fast --data pets --head hidden --hidden 8 --dropout 0.5 --head-epochs 1 --epochs 1 --out out",
        "predict fast photo.png", "predict --csv --crop weights.safetensors pets", "predict run photo.png note.txt",
        "features fast photo.png --layer stage1 --out maps.png", "bench --part throughput --seconds 1 --data pets",
        "reproduce q1_shallow --data pets --quick --out out", "design first_layer --size 16 --option side=5",
        "design plain --size 16", "claims --records records", "claims --json", "study list", "study run q1 --plan",
        "study weights fast --out out", "--version", "-h", "predict -h",
    )  # fmt: skip
    weights_seeds()  # are made while files may still be written anywhere
    return [line.replace(" ", "\0").encode() for line in lines]


def command_place(folder: Path) -> None:
    """Put into `folder` what the command lines name."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in ("cats", "=dogs", "$\\frac{$\x1b[2J"):
        (folder / "pets" / label).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
                folder / "pets" / label / f"{number}.png"
            )
    (folder / "photo.png").write_bytes((folder / "pets" / "cats" / "0.png").read_bytes())
    (folder / "note.txt").write_text("no photo")
    seeds = weights_seeds()
    (folder / "weights.safetensors").write_bytes(seeds[0])
    (folder / "broken.safetensors").write_bytes(seeds[0][:-9])
    (folder / "run").mkdir()
    (folder / "run" / "checkpoint.safetensors").write_bytes(checkpoint_seeds()[0])
    (folder / "records" / "x").mkdir(parents=True)
    (folder / "records" / "x" / "a.json.gz").write_bytes(gzip.compress(record_seeds()[0]))


def no_work() -> None:
    """Let commands stop where they would train, draw or download: what comes before is what is fuzzed."""
    from cnnhw import models, plots, training, transfer
    from cnnhw.book import shipping
    from cnnhw.data import scenes, sources
    from cnnhw.evaluation import audit
    from cnnhw.studies import queue
    from cnnhw.training import presets, throughput

    def enough(*_: object, **__: object) -> None:
        raise Enough

    for place, names in {
        audit: ("run",), throughput: ("measure",), training: ("fit",), transfer: ("transfer",), presets: ("within",),
        scenes: ("load",), queue: ("run", "run_job", "estimate", "canary"), shipping: ("make",), plots: ("save",),
        sources.Source: ("fetch", "open"),
    }.items():  # fmt: skip
        for name in names:
            setattr(place, name, enough)
    create = models.create

    def create_small(name: str, num_classes: int = 5, seed: int = 0, size: int = 128, **options: object):
        if any(isinstance(value, int) and value > 200 for value in options.values()):
            raise Enough
        return create(name, num_classes, seed, size, **options)

    models.create = create_small


def read_command(data: bytes, folder: Path) -> None:
    """Run a command line; what goes against its rules is an AssertionError."""
    from cnnhw import cli
    from cnnhw.errors import CnnhwError

    if not (folder / "pets").exists():
        command_place(folder)
        no_work()
    before = sys.argv, sys.stdout, sys.stderr, Path.cwd(), os.environ.get("CNNHW_DATA")
    words = [word.decode("utf-8", "surrogateescape") for word in data.split(b"\0")]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    sys.argv, (sys.stdout, sys.stderr) = ["cnnhw", *words], streams
    code: object = 0
    os.chdir(folder)
    try:
        cli.main()
    except Enough:
        pass
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv, sys.stdout, sys.stderr, here, root = before
        os.chdir(here)
        if root is None:
            os.environ.pop("CNNHW_DATA", None)
    for stream in streams:
        stream.flush()
    said = streams[1].buffer.getvalue().decode()
    assert code in (None, 0, 1, 2), f"exit code {code!r}"
    assert "Traceback" not in said
    assert "\x1b" not in said + streams[0].buffer.getvalue().decode()
    if code in (1, 2):
        assert said.strip(), "no word of what is wrong"
        raise CnnhwError(said)


TARGETS = {
    "images": Target(image_seeds, read_image, mutate, IMAGE_MEMORY),
    "zip": Target(zip_seeds, read_archive(".zip"), mutate_zip),
    "tar": Target(tar_seeds, read_archive(".tgz"), mutate_tar),
    "rar": Target(rar_seeds, read_archive(".rar", contents=False), mutate),
    "weights": Target(weights_seeds, read_weights, mutate_weights),
    "checkpoints": Target(checkpoint_seeds, read_checkpoint, mutate_weights),
    "records": Target(record_seeds, read_record, mutate_record),
    "command": Target(word_seeds, read_command, mutate_words),
}
COUNTS = ("inputs", "our_errors", "accepted", "crashes", "timeouts")


# ---------------------------------------------------------------------------------------------------- one process

_sandbox: list[Path] = []
refused: list[str] = []
"""What was to be written outside the sandbox, as the error may be taken for another."""
_WRITES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


def _watch(event: str, arguments: tuple) -> None:
    """Refuse, as an audit hook, to change anything outside the sandbox."""
    if not _sandbox or (event not in _WRITES and event != "open"):
        return
    path = arguments[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if mode is None else set(str(mode)) & set("wax+")
        if not writes:
            return
    place = os.path.realpath(os.fsdecode(path))
    if place != "/dev/null" and not Path(place).is_relative_to(_sandbox[0]):
        refused.append(place)
        raise PermissionError(13, "outside the sandbox", place)


@contextlib.contextmanager
def sandbox(folder: Path) -> Iterator[None]:
    """Let nothing be written outside `folder`."""
    if not hasattr(sandbox, "hooked"):
        sys.addaudithook(_watch)
        sandbox.hooked = True  # type: ignore[attr-defined]
    _sandbox[:] = [Path(os.path.realpath(folder))]
    try:
        yield
    finally:
        _sandbox.clear()


class Trial:
    """Reads inputs and counts what comes of them.

    Parameters
    ----------
    name : str
        One of `TARGETS`.
    folder : Path
        An empty folder, the only one that may be written to.
    keep : Path, optional
        Where inputs go that break the rules.
    """

    def __init__(self, name: str, folder: Path, keep: Path | None = None) -> None:
        self.name, self.target, self.folder, self.keep = name, TARGETS[name], folder, keep
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.worst_seconds, self.base, self.faults = 0.0, 0, []
        self.seen: set[str] = set()

    def alarm(self, *_: object) -> None:
        raise Slow

    def read(self, data: bytes) -> None:
        from cnnhw.errors import CnnhwError

        self.counts["inputs"] += 1
        start, fault = time.process_time(), ""
        signal.signal(signal.SIGPROF, self.alarm)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor: others may use it, too
        try:
            with sandbox(self.folder):
                self.target.read(data, self.folder)
            self.counts["accepted"] += 1
        except CnnhwError:
            self.counts["our_errors"] += 1
        except Slow:
            self.counts["timeouts"] += 1
            fault = "timeout"
        except Exception as error:
            self.counts["crashes"] += 1
            trace, line = error.__traceback__, ""
            while trace:
                line = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
                trace = trace.tb_next
            fault = f"{type(error).__name__} at {line}: {error}"[:300]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        self.worst_seconds = max(self.worst_seconds, time.process_time() - start)
        if self.base and self.memory() > self.target.memory and "memory" not in self.seen:
            self.counts["crashes"] += 1
            fault = "memory"
        if fault:
            self.note(fault, data)

    def note(self, fault: str, data: bytes) -> None:
        kind = fault.split(": ")[0]
        if kind in self.seen:
            return
        self.seen.add(kind)
        self.faults.append(fault)
        if self.keep:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{self.name}-{len(self.faults)}-{os.getpid()}").write_bytes(data)

    def memory(self) -> int:
        """Return by how many bytes the process has grown at most since all seeds were read."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self.base

    def summary(self) -> dict[str, object]:
        return {
            **self.counts,
            "worst_seconds": round(self.worst_seconds, 3),
            "worst_memory_mb": round(self.memory() / 2**20) if self.base else 0,
            "faults": self.faults,
        }


def inputs(name: str, seed: int) -> Iterator[bytes]:
    """Yield mutated inputs of a target without end, the same for the same seed."""
    target, rng = TARGETS[name], random.Random(seed)
    seeds = target.seeds()
    pool = list(seeds)
    while True:
        data = target.mutate(rng.choice(pool), rng, seeds)
        if rng.random() < 0.02:  # changes add up in some
            pool.append(data)
            if len(pool) > 20 * len(seeds):
                del pool[len(seeds)]
        yield data


def work(name: str, engine: str, seed: int, count: int, seconds: float, folder: Path, keep: Path) -> None:
    """Read inputs in this process; leave the counts in ``status`` and the last input in ``current``."""
    if engine == "atheris":
        import atheris

        for module in ("zipfile", "tarfile", "gzip", "rarfile"):
            sys.modules.pop(module, None)
        with atheris.instrument_imports(include=["cnnhw", "zipfile", "tarfile", "gzip", "rarfile", "PIL", "click"]):
            for module in ("gzip", "tarfile", "zipfile", "rarfile", "PIL.Image", "cnnhw.cli"):
                importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    os.environ["CNNHW_CACHE"] = str(folder / "cache")
    faulthandler.enable()
    if engine == "mutation":
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    place = folder / "place"
    place.mkdir(exist_ok=True)
    trial = Trial(name, place, keep)
    seeds = trial.target.seeds()
    for data in seeds:
        trial.read(data)
    trial.base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30,) * 2)
    end, said = time.monotonic() + seconds, 0.0

    def one(data: bytes) -> None:
        nonlocal said
        (folder / "current").write_bytes(data)
        trial.read(data)
        now = time.monotonic()
        done = trial.counts["inputs"] >= count or now > end
        if done or now - said > 1:
            said = now
            (folder / "status.new").write_text(json.dumps(trial.summary()))
            (folder / "status.new").replace(folder / "status")
        if done:
            os._exit(0)

    if engine == "atheris":
        corpus = folder / "corpus"
        corpus.mkdir(exist_ok=True)
        for number, data in enumerate(seeds):
            (corpus / str(number)).write_bytes(data)
        words = [
            "atheris", f"-seed={seed + 1}", "-timeout=300", "-rss_limit_mb=0", "-max_len=65536",
            *(f"-handle_{name}=0" for name in ("segv", "bus", "abrt", "ill", "fpe")),  # faulthandler says more
            "-verbosity=0", f"-artifact_prefix={folder}/", str(corpus),
        ]  # fmt: skip

        def change(data: bytes, most: int, number: int) -> bytes:
            rng = random.Random(number)
            return trial.target.mutate(data, rng, seeds)[:most] if rng.random() < 0.5 else atheris.Mutate(data, most)

        atheris.Setup(words, one, custom_mutator=change)
        atheris.Fuzz()
    for data in inputs(name, seed):
        one(data)


# ---------------------------------------------------------------------------------------------------- all of it


def fuzz(name: str, engine: str, count: int, seconds: float, keep: Path, seed: int = 0) -> dict[str, object]:
    """Fuzz a target in processes of its own, a new one whenever one ends or hangs."""
    total: Counter[str] = Counter()
    worst, faults = {"worst_seconds": 0.0, "worst_memory_mb": 0.0}, []
    end = time.monotonic() + seconds
    attempt = 0
    while total["inputs"] < count and (left := end - time.monotonic()) > 1 and attempt < 50:
        with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as temporary:
            folder = Path(temporary)
            words = [name, engine, str(seed + attempt), str(count - total["inputs"]), str(left), str(folder), str(keep)]
            with (folder / "errors").open("wb") as errors:
                command = [sys.executable, __file__, "--work", *words]
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
            code = _wait(process, folder, left)
            if (folder / "status").exists():
                status = json.loads((folder / "status").read_text())
                total.update({what: status[what] for what in COUNTS})
                worst = {what: max(value, status[what]) for what, value in worst.items()}
                faults += status["faults"]
            if code:
                said = (folder / "errors").read_text(errors="replace").strip().splitlines()
                faults.append(f"the process ended with {code}")
                total["timeouts" if code == "hung" else "crashes"] += 1
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-died-{seed + attempt}.txt").write_text("\n".join(said[-60:]))
                if (folder / "current").exists():
                    (keep / f"{name}-died-{seed + attempt}").write_bytes((folder / "current").read_bytes())
        attempt += 1
    return {**total, **worst, "engine": engine, "faults": sorted(set(faults))}


def _wait(process: subprocess.Popen, folder: Path, seconds: float) -> int | str:
    """Wait for a process to end; kill it if it has not begun another input for long."""
    current, started = folder / "current", time.time()
    while True:
        try:
            return process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            seen = current.stat().st_mtime if current.exists() else started + 120
            if time.time() - max(seen, started) > 60:
                process.kill()
                process.wait()
                return "hung"


def together(parts: list[dict]) -> dict[str, object]:
    """Return the figures of several runs of one target."""
    by_engine: Counter[str] = Counter()
    for part in parts:
        by_engine.update(part["inputs_by_engine"])
    return {
        **{what: sum(part.get(what, 0) for part in parts) for what in COUNTS},
        **{what: max(part[what] for part in parts) for what in ("worst_seconds", "worst_memory_mb")},
        "engine": ", ".join(by_engine),
        "inputs_by_engine": by_engine,
        "faults": sorted({fault for part in parts for fault in part["faults"]}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="for all targets together")
    parser.add_argument("--inputs", type=int, default=40_000, help="at most, a target and engine")
    parser.add_argument("--target", action="append", choices=TARGETS, help="this one only; may be repeated")
    parser.add_argument("--engine", action="append", choices=("mutation", "atheris"), help="this one only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "cnnhw-fuzzing")
    parser.add_argument(
        "--add", type=Path, action="append", default=[], help="JSON file of another run, whose figures are added"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--work", nargs=7, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        name, engine, seed, count, seconds, folder, keep = given.work
        work(name, engine, int(seed), int(count), float(seconds), Path(folder), Path(keep))
    from cnnhw import files, system

    engines = given.engine or ["mutation", *(["atheris"] if importlib.util.find_spec("atheris") else [])]
    pairs = [(name, engine) for name in given.target or TARGETS for engine in engines]
    earlier = [json.loads(path.read_text(encoding="utf-8")) for path in given.add]
    start, parts = time.monotonic(), [target for run in earlier for target in run["targets"].items()]
    for number, (name, engine) in enumerate(pairs):
        left = 60 * given.minutes - (time.monotonic() - start)
        result = fuzz(name, engine, given.inputs, left / (len(pairs) - number), given.keep, given.seed)
        print(name, json.dumps(result), flush=True)
        parts.append((name, result | {"inputs_by_engine": {engine: result.get("inputs", 0)}}))
    targets = {name: together([part for which, part in parts if which == name]) for name in dict(parts)}
    versions = system.versions() | {"safetensors": importlib.metadata.version("safetensors")}
    if "atheris" in engines:
        versions["atheris"] = importlib.metadata.version("atheris")
    found = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "platform": platform.system(),
        "minutes": round(sum(run["minutes"] for run in earlier) + (time.monotonic() - start) / 60, 1),
        "inputs": sum(target["inputs"] for target in targets.values()),
        "crashes": sum(target["crashes"] for target in targets.values()),
        "timeouts": sum(target["timeouts"] for target in targets.values()),
        "limits": {"seconds": SECONDS, "memory_mb": MEMORY // 2**20, "image_memory_mb": IMAGE_MEMORY // 2**20},
        "targets": targets,
    }
    if given.out:
        files.write_json(given.out, found)
    sys.exit(1 if found["crashes"] or found["timeouts"] else 0)


if __name__ == "__main__":
    main()
