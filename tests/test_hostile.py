"""Hostile input: files and arguments that mean harm, or none in particular, are refused in one line and in bounds."""

from __future__ import annotations

import ast
import contextlib
import csv
import gzip
import importlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

import cnnhw
from cnnhw import models, plots, training
from cnnhw.book import model_cards, rerun
from cnnhw.data import archives, cache, decode
from cnnhw.data.archives import open_container
from cnnhw.errors import CnnhwError, DataError, TrainingError, WeightsError
from cnnhw.evaluation import calibration
from cnnhw.models import weights
from cnnhw.studies import store
from cnnhw.training import findings, report_page

fuzz = importlib.import_module("fuzz") if os.name == "posix" else None
on_unix = pytest.mark.skipif(fuzz is None, reason="time and memory are limited as only Unix does")

SOURCES = sorted(Path(cnnhw.__file__).parent.rglob("*.py"))
REPEATABLE = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=60
)
THOROUGH = settings(REPEATABLE, max_examples=1500)
DEEP = "[" * 100_000


@contextlib.contextmanager
def within(megabytes: float, seconds: float = 10.0) -> Iterator[None]:
    """Fail if Python's own memory grows by more than this in the block, or it takes longer."""
    start = time.process_time()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < megabytes
    assert time.process_time() - start < seconds


# ---------------------------------------------------------------------------------------------------- no code is run


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_in_the_package_can_run_what_it_reads(path):
    """By the syntax tree: no pickles, no evaluation of text, no shell."""
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "imp", "code"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            assert not banned & {alias.name.split(".")[0] for alias in node.names}, where
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in banned, where
            assert not (node.module == "torch" and {alias.name for alias in node.names} & {"load", "save"}), where
            assert not (node.module == "os" and {alias.name for alias in node.names} & {"system", "popen"}), where
        elif isinstance(node, ast.Call):
            name, given = called(node), {word.arg: word.value for word in node.keywords}
            assert name not in ("eval", "exec", "compile", "__import__", "torch.save"), where
            assert name not in ("os.system", "os.popen", "torch.jit.load", "torch.package.PackageImporter"), where
            assert not name.startswith(("os.exec", "os.spawn")), where
            for word in ("shell", "allow_pickle"):
                assert ast.unparse(given.get(word, ast.Constant(False))) == "False", where
            if name in ("torch.load", "torch.hub.load_state_dict_from_url") or name.endswith(".get_state_dict"):
                assert ast.unparse(given.get("weights_only", ast.Constant(False))) == "True", where


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def canary(tmp_path):
    """Return a folder that unpickling `Harm` makes, and check at the end that nothing has."""
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Harm(path)))
    assert path.is_dir()  # it would work
    path.rmdir()
    yield path
    assert not path.exists()


def pickles(canary: Path) -> dict[str, bytes]:
    """Return files that run code in readers that let them."""
    file, array = io.BytesIO(), io.BytesIO()
    torch.save({"weight": Harm(canary)}, file)
    np.save(array, np.array([Harm(canary)], dtype=object), allow_pickle=True)
    return {
        "torch": file.getvalue(), "pickle": pickle.dumps(Harm(canary)), "npy": array.getvalue(),
        "yaml": f"!!python/object/apply:os.mkdir ['{canary}']".encode(),
        "python": f"__import__('os').mkdir({str(canary)!r})".encode(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["torch", "pickle", "npy", "yaml", "python"])
def test_pickles_and_code_are_refused_and_not_run(tmp_path, canary, kind):
    data = pickles(canary)[kind]
    for name in ("weights.safetensors", "weights.pt", training.CHECKPOINT, "photo.png", "x.zip", "x.tgz", "x.rar"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "a.json.gz").write_bytes(data)
    for path in (tmp_path, tmp_path / "weights.pt"):
        with pytest.raises(WeightsError, match="Pickled weights"):
            cnnhw.load(path)
    with pytest.raises(TrainingError):
        training.saved_settings(tmp_path)
    with pytest.raises(DataError):
        cnnhw.data.read_photo(tmp_path / "photo.png")
    with pytest.raises(CnnhwError):
        store.read(where=tmp_path)
    for name in ("x.tgz", "x.rar", *(["x.zip"] if kind != "torch" else [])):  # torch's files are zip archives
        with pytest.raises(DataError):
            open_container(tmp_path / name).names()


def test_pickled_arrays_in_the_cache_are_not_read(canary):
    data = pickles(canary)["npy"]
    cache.folder().mkdir(parents=True)
    (cache.folder() / "x.npy").write_bytes(data)
    (cache.folder() / "x.json").write_text(json.dumps({"bytes": len(data), "meta": {}}))
    assert cache.load("x") is None


# ---------------------------------------------------------------------------------------------------- archives

HARMFUL = (
    "../out", "a/../../out", "/etc/out", "//server/out", "..\\out", "a\\..\\..\\out", "C:\\out", "c:out",
    "\\\\server\\x",
    "\\out", "..", "a/..", "/", "./../out", "\u2025/out", "\uff0e\uff0e/out", "a/b\0c", "A/1", "a/1", "CON", "a/ ",
    "~/x",
    "x" * 5000, "d/" * 2000 + "x", "\u202egnp.1", "\x1b[2J", "a\nb", "-rf", "$(touch x)", "nul:", "a:b", ".", "é",
    "e\u0301",
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(HARMFUL),
    st.lists(st.one_of(st.sampled_from(["..", ".", "a", "b", "C:", "", "\\"]), st.text(max_size=5)), max_size=6).map(
        "/".join
    ),
).filter(lambda name: name.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in name))


def archive_of(names: list[str], suffix: str) -> bytes:
    file = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            for number, name in enumerate(names):
                archive.writestr(zipfile.ZipInfo(name), f"{number}")
    else:
        with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            for number, name in enumerate(names):
                member = tarfile.TarInfo(name)
                member.size = len(f"{number}")
                archive.addfile(member, io.BytesIO(f"{number}".encode()))
    return file.getvalue()


def check_names(names: list[str], suffix: str, folder: Path) -> None:
    """Read an archive with such names: they are refused, or stay inside; nothing is written."""
    path = folder / f"x{suffix}"
    path.write_bytes(archive_of(names, suffix))
    fuzz.refused.clear()
    with fuzz.sandbox(folder / "nowhere"):
        try:
            found = dict(open_container(path).read(open_container(path).names()))
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
            found = {}
    for name in found:
        assert not name.startswith("/")
        assert ".." not in name.replace("\\", "/").split("/")
        assert os.path.normpath(f"/safe/place/{name}").startswith("/safe/place")
    assert not fuzz.refused
    assert [inner.name for inner in folder.iterdir()] == [path.name]


@on_unix
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("suffix", [".zip", ".tgz"])
def test_archives_never_write(tmp_path, suffix, figures):
    """Zip and tar archives are only read, never unpacked; so that no name in them can lead anywhere."""
    (tmp_path / "here").mkdir()
    for name in HARMFUL:
        check_names([name, "a/1"], suffix, tmp_path / "here")
    figures("hostile", names_of_members=len(HARMFUL))


@on_unix
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name")
@THOROUGH
@given(names=st.lists(NAMES, min_size=1, max_size=4), suffix=st.sampled_from([".zip", ".tgz"]))
def test_archives_never_write_whatever_the_names(tmp_path_factory, names, suffix):
    check_names(names, suffix, tmp_path_factory.mktemp("names"))


def tar_of(*members: tarfile.TarInfo, tail: bytes = b"") -> bytes:
    return b"".join(member.tobuf(tarfile.GNU_FORMAT) for member in members) + bytes(1024) + tail


def member(name: str = "a/1.jpg", size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def packed(data: bytes, zeros: int = 0) -> bytes:
    """Return gzip of the data and then of many zeros, without having them in memory."""
    file = io.BytesIO()
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(data)
        block = bytes(2**20)
        for _ in range(zeros // 2**20):
            stream.write(block)
    return file.getvalue()


BOMBS = {
    "a long header": lambda: packed(member(size=200 * 2**20, kind=tarfile.XHDTYPE).tobuf(), 200 * 2**20),
    "a long name": lambda: packed(member(size=200 * 2**20, kind=tarfile.GNUTYPE_LONGNAME).tobuf(), 200 * 2**20),
    "a header of negative size": lambda: tar_of(member(size=-512, kind=tarfile.XHDTYPE)),
    "negative size": lambda: tar_of(member(size=-1024)),
    "a terabyte": lambda: tar_of(member(size=2**40)),
    "much after the end": lambda: packed(tar_of(member()), 400 * 2**20),
    "headers in headers": lambda: packed(b"".join(member(kind=tarfile.XHDTYPE).tobuf() for _ in range(5000))),
    "a slow header": lambda: tar_of(member(size=2**17, kind=tarfile.XHDTYPE), tail=b"9" * 2**18),
    "sparse": lambda: tar_of(member(size=512, kind=tarfile.GNUTYPE_SPARSE)),
    "a million members": lambda: packed(b"".join(member().tobuf() for _ in range(3000))),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_tar_archives_that_grow(tmp_path, monkeypatch, kind):
    path = tmp_path / "x.tgz"
    path.write_bytes(BOMBS[kind]())
    monkeypatch.setattr(archives, "RATIO_FROM", 64 * 2**20)
    monkeypatch.setattr(archives, "COUNT_LIMIT", 2000)
    with within(40), pytest.raises(DataError, match=r"x\.tgz"):
        open_container(path).names()


def test_zip_archives_that_grow(tmp_path, monkeypatch):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/1.jpg", "w") as file:
        for _ in range(200):
            file.write(bytes(2**20))
    data = path.read_bytes()
    path.write_bytes(data.replace((200 * 2**20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    container = open_container(path)
    with within(50), pytest.raises(DataError, match="damaged"):  # more than it claims is not unpacked
        dict(container.read(container.names()))
    path.write_bytes(data)
    monkeypatch.setattr(archives, "RATIO_FROM", 2**20)
    with within(50), pytest.raises(DataError, match="more than 100 times the archive's own size"):
        open_container(path).names()
    monkeypatch.undo()

    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/1.jpg", b"1")
    with pytest.raises(DataError, match="neither stored nor deflated"):
        open_container(path).names()
    path.write_bytes(archive_of([f"{number}" for number in range(100)], ".zip"))
    monkeypatch.setattr(archives, "COUNT_LIMIT", 99)
    with pytest.raises(DataError, match="member '99' is one more than 99"):
        open_container(path).names()
    monkeypatch.setattr(archives, "_DIRECTORY_LIMIT", 2000)
    with pytest.raises(DataError, match="what describes its members is too long"):
        open_container(path).names()
    path.write_bytes(archive_of(["nested.zip"], ".zip"))
    monkeypatch.undo()
    assert open_container(path).names() == ["nested.zip"]  # an archive in an archive is a file as any other


def test_a_tar_archive_with_a_damaged_header_is_not_cut_short(tmp_path):
    data = bytearray(tar_of(member("a"), member("b"), member("c")))
    data[512] ^= 1
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DataError, match="header is not readable"):
        open_container(tmp_path / "x.tar").names()


@pytest.mark.skipif(os.name != "posix", reason="needs files of kinds that only Unix has")
def test_folders_that_never_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "zero").symlink_to("/dev/zero")
    container = open_container(tmp_path)
    assert {name: type(found) for name, found in container.read(container.names())} == {
        "pipe": OSError,
        "zero": OSError,
    }
    deep = tmp_path / "deep"
    deep.mkdir()
    for _ in range(1500):
        deep = Path(f"{deep}/d")
        deep.mkdir()
    with pytest.raises(DataError, match="more than 100 folders in one another"):
        open_container(tmp_path)
    for depth in range(1500, -1, -1):  # what the test's cleaning up cannot do
        (tmp_path / ("deep" + "/d" * depth)).rmdir()


# ---------------------------------------------------------------------------------------------------- images


def test_images_that_grow():
    large = Image.new("1", (20_000, 20_000))
    for kind in ("PNG", "TIFF", "GIF"):
        file = io.BytesIO()
        large.save(file, kind, **({"compression": "group4"} if kind == "TIFF" else {}))
        assert len(file.getvalue()) < 2**20
        with within(20), pytest.raises(DataError, match="megapixels"):
            decode.decode(file.getvalue(), 32)


# ---------------------------------------------------------------------------------------------------- weights


def weights_with(path: Path, **changed: str) -> Path:
    """Write small weights with other fields in the header."""
    model = models.create("plain", 2, size=16, kernels="3-3", widths="2-4")
    weights.save_weights(model, path)
    metadata = weights.read_header(path) | changed
    path.write_bytes(save(model.state_dict(), metadata))
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"num_classes": "1000000000000"}, {"num_classes": "-1"}, {"num_classes": "9" * 30}, {"num_classes": "9" * 5000},
        {"num_classes": "nan"}, {"size": "1000000000"}, {"size": "0"}, {"size": "1"}, {"size": "9" * 30},
        {"classes": '["a"]'}, {"classes": '["a", "b", "c"]'}, {"classes": '{"a": 1}'}, {"classes": "[1, 2]"},
        {"classes": DEEP}, {"options": DEEP}, {"options": "[]"}, {"options": '{"unknown": 1}'}, {"options": "NaN"},
        {"options": '{"kernels": "' + "3-" * 500_000 + '3", "widths": "' + "1-" * 500_000 + '1"}'},
        {"options": '{"kernels": 3}'}, {"options": '{"kernels": "3-3", "kernels": "9-9"}'},
        {"model": "residual", "options": '{"depth": 12000000000, "width": 1}'},
        {"model": "resnet", "options": '{"depth": 6000000002, "width": 1}'},
        {"model": "dense", "options": '{"layers": 1000000000, "growth": 1}'},
        {"model": "inception", "options": '{"scale": 1e308}'}, {"model": "inception", "options": '{"scale": NaN}'},
        {"model": "first_layer", "options": '{"side": 1000000001, "first": "bank"}'}, {"model": "../fast"},
        {"model": "__class__"}, {"pixel_scale": "nan"}, {"pixel_scale": "inf"}, {"pixel_scale": ""},
        {"head": '{"hidden": 1000000000000}'}, {"head": '{"hidden": -1}'}, {"head": DEEP}, {"head": '{"x": 1}'},
    ],
    ids=lambda changed: " ".join(f"{name}={text[:30]}" for name, text in changed.items()),
)  # fmt: skip
def test_weights_that_ask_for_what_cannot_be(tmp_path, changed):
    path = tmp_path / "weights.safetensors"
    with contextlib.suppress(WeightsError):  # torch imports much when a head is first replaced
        cnnhw.load(weights_with(path, head="{}"))
    weights_with(path, **changed)
    with within(100), pytest.raises(WeightsError, match=r"weights\.safetensors"):
        cnnhw.load(path)


@pytest.mark.parametrize("length", [0, 2**22 + 1, 2**40, 2**63, 2**64 - 1])
def test_weights_whose_header_has_another_length(tmp_path, length):
    path = weights_with(tmp_path / "weights.safetensors")
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    for read in (cnnhw.load, weights.read_header):
        with within(20), pytest.raises(WeightsError):
            read(path)


def test_weights_by_names_that_are_no_paths(tmp_path):
    for name in ("x" * 300, "a/" * 3000, "a\0b", "", "\udcff", str(tmp_path), "\x1b[2J"):
        with pytest.raises(WeightsError):
            cnnhw.load(name)


def test_a_damaged_header_of_a_shipped_network(tmp_path, monkeypatch):
    header = weights.read_header(model_cards.path("fast"))
    for lacking in ({"options": DEEP}, {"size": "x"}, {"agreement": ""}):
        path = weights_with(tmp_path / "fast.safetensors", **(header | lacking))
        monkeypatch.setattr(model_cards, "path", lambda _, path=path: path)
        with pytest.raises(WeightsError, match=r"header of .* is damaged"):
            model_cards.card("fast")


def test_the_bound_on_parameters_holds_for_its_own_thread_only():
    """Others may build models while weights are loaded."""
    with weights._no_more_than(0):
        thread = threading.Thread(target=models.create, args=("q1_deep", 2))
        thread.start()
        thread.join()
        with pytest.raises(ValueError, match="more than the 0 tensors"):
            models.create("q1_deep", 2)
    assert models.create("q1_deep", 2).num_classes == 2


# ---------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize(
    "text",
    [
        DEEP, '{"a":' * 100_000, "null", "[]", "{}", '"x"', "1e999", "NaN", "9" * 10_000, "\0", '{"format": 1}',
        "[" * 10,
        '{"format": 1, "key": 1, "configuration": []}', " " * (16 * 2**20 + 1),
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_records_that_are_none(tmp_path, text):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.json.gz").write_bytes(gzip.compress(text.encode()))
    with within(100), pytest.raises(CnnhwError, match=r"a\.json\.gz is not a usable record"):
        store.read(where=tmp_path)


@pytest.mark.parametrize("lacking", ["study", "arm", "seed", "unlike"])
def test_records_that_lack_their_place(tmp_path, lacking):
    configuration = {"seed": 0}
    content = {"format": 1, "study": "x", "arm": "a", "configuration": configuration}
    (configuration if lacking == "seed" else content).pop(lacking, None)
    if lacking == "unlike":
        configuration["seed"] = {"a": []}
    content["key"] = store.configuration_key(configuration)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(CnnhwError, match="is not a usable record"):
        store.read(where=tmp_path)


# ---------------------------------------------------------------------------------------------------- pages and tables


class Structure(HTMLParser):
    """Notes elements and attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[object] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, [name for name, _ in attrs], [v for k, v in attrs if k in ("src", "href", "style")]))

    def handle_endtag(self, tag):
        self.elements.append(tag)

    def handle_comment(self, data):
        self.elements.append(("comment", data))

    def handle_data(self, data):
        self.text += data


MARKUP = st.one_of(
    st.sampled_from(
        (
            "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='x", "</title><script>",
            "&lt;",
            "</table></html>", "javascript:alert(1)", "<!--", "-->", "]]>", "<![CDATA[", "\x1b[2J", "\0", "&",
            "&#60;b&#62;",
            "<svg/onload=alert(1)>", "</style><b>", "{{7*7}}", "${x}", "\u202e", "<b", "</td>",
        )
    ),
    st.text(min_size=1, max_size=20),
)  # fmt: skip


def page(name: str) -> str:
    summary = {
        "accuracy": 0.5, "accuracy_interval": (0.4, 0.6), "balanced_accuracy": 0.5, "best_epoch": 1, "seconds": 1,
        "recipe": {"epochs": 1, "stages": [{"train": name, "epochs": 1}], "members": 2, "of": name}, "threads": 1,
        "parameters": 1, "trainable": 1, "size": 8, "seed": 0,
        "history": {of: [1.0, 0.5] for of in ("loss", "accuracy", "validation_loss", "validation_accuracy")},
        "candidates": {name: 0.5}, "photos": {"train": 1}, "confusion": [[1, 1], [0, 2]],
        "left_out": {"photos": 1, "reasons": {name: name}},
        "data_note": name, "data_fingerprint": name, "licence": name, "processor": name, "date": name, "model": name,
        "data": name, "classes": [name, name], "device": name, "precision": name, "versions": {name: name},
    }  # fmt: skip
    counts = {"photos": 4, "answered": 2, "correct": 1}
    found = findings.Findings(
        ({"accuracy": 0.95, "probability": 0.5, "validation": counts, "test": counts},), 4, 1,
        (findings.Mistake(name, name, name, 0.5, "data:,", name),), (calibration.Bin(0.4, 0.5, 4, 0.5, 0.75),), 0.1,
        0.5,
    )  # fmt: skip
    return report_page.page(summary, Path("runs") / name, found, "data:,")


def table(name: str) -> str:
    rows = (rerun.Row(name, name, name, name, (name, name)),)
    return rerun.Table((name,) * 4, rows, {(name, name): name})._repr_html_()


def drawing(name: str) -> str:
    model = models.create("q1_shallow", 2, size=8)
    model.name = name
    return plots.diagram(model)


@pytest.mark.parametrize("make", [page, table, drawing], ids=lambda make: make.__name__)
@REPEATABLE
@given(name=MARKUP)
def test_names_are_text_in_pages(make, name):
    """No element, attribute or address of a page comes from a name."""
    expected, found = Structure(make("plain")), Structure(make(name))
    assert found.elements == expected.elements


@pytest.fixture
def command(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return run


EVIL = ("=cmd|' /C calc'!A0", 'a"b,c', "line\nbreak", "\x1b[2Jcats", "<script>", "@SUM(1)", "a;b\tc", "'")


def evil_photos(folder: Path, count: int = 1, labels: tuple[str, ...] = ()) -> list[Path]:
    made = []
    for label in labels or ("",):
        for name in EVIL if not labels else map(str, range(count)):
            path = folder / label / f"{name.replace('/', '_')}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(len(made)).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
            made.append(path)
    return made


def test_csv_holds_whatever_the_names(tmp_path, command):
    model = models.create("plain", len(EVIL), size=16, kernels="3", widths="2")
    model.classes = EVIL
    weights.save_weights(model, tmp_path / "w.safetensors")
    names = [path.relative_to(tmp_path).name for path in evil_photos(tmp_path)]
    code, out, _ = command("predict", "--csv", "w.safetensors", *names)
    assert code == 0
    shown = [name.replace("\x1b", "\\x1b") for name in EVIL]
    rows = list(csv.reader(io.StringIO(out, newline="")))
    assert rows[0] == ["photo", "class", *shown]
    assert [row[0] for row in rows[1:]] == [name.replace("\x1b", "\\x1b") for name in names]
    assert all(len(row) == 2 + len(EVIL) and row[1] in shown for row in rows[1:])


@pytest.mark.filterwarnings("default::cnnhw.errors.SkippedPhotosWarning")
def test_names_cannot_steer_the_terminal(tmp_path, command):
    evil = "\x1b]0;owned\x07\x9b2J\u202egnp"
    evil_photos(tmp_path / "pets", 4, (evil, "dogs"))
    (tmp_path / "pets" / "dogs" / f"{evil}.png").write_bytes(b"no photo")
    model = models.create("plain", 2, size=16, kernels="3", widths="2")
    model.classes = (evil, "dogs")
    weights.save_weights(model, tmp_path / "w.safetensors", data=evil, licence=f"research {evil}")
    said = ""
    for words in (
        ("data", "show", "pets", "--size", 8), ("predict", "w.safetensors", "pets"), ("predict", evil, "x"),
        ("train", evil), (evil,), ("design", "plain", "--option", evil), ("data", "show", evil),
    ):  # fmt: skip
        _, out, err = command(*words)
        said += out + err
    assert "owned" in said
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)
    assert "\\x1b]0;owned" in said


# ---------------------------------------------------------------------------------------------------- command line

LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ("predict", LONG, "x.png"), ("predict", "fast", LONG), ("predict", "fast", "/dev/zero"), ("predict", "fast",
        "pipe"),
        ("features", "fast", "/dev/zero"), ("features", "fast", "pipe"), ("data", "show", LONG), ("data", "show",
        "\udcff"),
        ("data", "list", "--root", LONG), ("data", "show", "pets", "--size", "9" * 30), ("claims", "--records", LONG),
        ("train", "plain", "--data", "pets", "--size", 16, "--out", LONG), ("train", "plain", "--data", LONG),
        ("train", "plain", "--data", "pets", "--rate", "nan"), ("train", "plain", "--data", "pets", "--rate", "inf"),
        ("train", "best", "--data", "pets", "--minutes", "nan"), ("train", "best", "--data", "pets", "--minutes",
        "inf"),
        ("train", "plain", "--data", "pets", "--seed", -1), ("train", "plain", "--data", "pets", "--seed", 2**64),
        ("transfer", "fast", "--data", "pets", "--dropout", "nan"), ("transfer", LONG, "--data", "pets"),
        ("transfer", "fast", "--data", "pets", "--head", "hidden", "--hidden", 10**13),
        ("design", "q1_deep", "--classes", 10**13), ("design", "plain", "--option", "kernels=" + "3-" * 2000),
        ("bench", "--seconds", "nan"), ("bench", "--part", LONG), ("reproduce", "x", "--data", "pets"), (LONG,), ("",),
        ("train", "best", "--data", "pets", "--out", "deep", "--resume"),
        ("train", "best", "--data", "pets", "--out", "odd", "--resume"),
    ],
    ids=lambda words: " ".join(str(word)[:12] for word in words).encode("ascii", "replace").decode(),
)  # fmt: skip
@pytest.mark.skipif(os.name != "posix", reason="names devices of Unix")
def test_arguments_that_make_no_sense_get_one_line(tmp_path, command, words):
    evil_photos(tmp_path / "pets", 4, ("cats", "dogs"))
    os.mkfifo(tmp_path / "pipe")
    for name, note in {"deep": DEEP, "odd": '{"settings": {"recipe": {"epochs": -1}, "model": 1, "size": []}}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / training.CHECKPOINT).write_bytes(save({"x": torch.zeros(1)}, {"cnnhw": note}))
    code, _, err = command(*words)
    assert code in (1, 2)
    assert "rror: " in err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line and "%|" not in line]
    assert len([line for line in lines if not line.startswith(("Usage", "Try", "fast was trained"))]) == 1


# ---------------------------------------------------------------------------------------------------- anything at all


def sample(name: str, count: int, folder: Path, figures) -> None:
    """Read mutated inputs in this process."""
    inputs = fuzz.inputs(name, seed=1)
    trial = fuzz.Trial(name, folder)
    for _ in range(count):
        trial.read(next(inputs))
    assert not trial.faults
    figures("hostile", inputs=count, crashes=trial.counts["crashes"], worst_seconds=round(trial.worst_seconds, 2))


READERS = ("images", "zip", "tar", "rar", "weights", "checkpoints", "records")


@on_unix
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of what it reads in spite of its faults
@pytest.mark.parametrize("name", READERS)
def test_a_few_mutated_files(tmp_path, name, figures):
    sample(name, 60, tmp_path, figures)


@on_unix
@pytest.mark.slow
@pytest.mark.parametrize("name", [*READERS, "command"])
def test_mutated_files_in_processes_of_their_own(tmp_path, name, figures):
    found = fuzz.fuzz(name, "mutation", 400, 120, tmp_path / "kept", seed=1000)
    assert not found["faults"]
    assert found["inputs"] >= 400
    assert found["worst_memory_mb"] < fuzz.TARGETS[name].memory / 2**20
    figures(
        "hostile", inputs=found["inputs"], crashes=found["crashes"], worst_seconds=found["worst_seconds"],
        worst_memory_mb=found["worst_memory_mb"],
    )  # fmt: skip


def patched(data: bytes, changes: list[tuple[int, int]], kept: int) -> bytes:
    out = bytearray(data)
    for at, byte in changes:
        out[at % len(out)] = byte
    return bytes(out[: len(out) * kept // 100])


CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@on_unix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["images", "zip", "tar", "weights"])
def test_changed_bytes(tmp_path, name, figures):
    seeds, trial = fuzz.TARGETS[name].seeds(), fuzz.Trial(name, tmp_path)

    @settings(THOROUGH, max_examples=300)
    @given(which=st.integers(0, len(seeds) - 1), changes=CHANGES, kept=st.sampled_from((100, 100, 99, 50, 3, 0)))
    def check(which, changes, kept):
        trial.read(patched(seeds[which], changes, kept))
        assert not trial.faults

    check()
    figures("hostile", inputs=trial.counts["inputs"], worst_seconds=round(trial.worst_seconds, 2))


@on_unix
@pytest.mark.slow
def test_any_header_of_weights(tmp_path, figures):
    path, trial = weights_with(tmp_path / "seed.safetensors"), fuzz.Trial("weights", tmp_path)
    header, tensors = weights.read_header(path), cnnhw.load(path).state_dict()

    @settings(THOROUGH, max_examples=300)
    @given(field=st.sampled_from(sorted(header)), value=st.one_of(JSON.map(json.dumps), st.text(max_size=9)))
    def check(field, value):
        trial.read(save(tensors, header | {field: value}))
        assert not trial.faults

    check()
    figures("hostile", inputs=trial.counts["inputs"], worst_seconds=round(trial.worst_seconds, 2))


@on_unix
@pytest.mark.slow
def test_any_record(tmp_path, figures):
    content, trial = json.loads(fuzz.record_seeds()[0]), fuzz.Trial("records", tmp_path)

    @settings(THOROUGH, max_examples=1000)
    @given(field=st.sampled_from(sorted(content)), value=JSON, whole=st.booleans())
    def check(field, value, whole):
        changed = content | {field: value}
        if isinstance(changed["configuration"], dict):
            changed["key"] = store.configuration_key(changed["configuration"])
        trial.read(json.dumps(value if whole else changed).encode())
        assert not trial.faults

    check()
    figures("hostile", inputs=trial.counts["inputs"], worst_seconds=round(trial.worst_seconds, 2))


@on_unix
@pytest.mark.fuzz
@pytest.mark.timeout(3 * 3600)
def test_the_long_fuzzing_finds_nothing(tmp_path):
    """In a checkout its figures go to the page "How it is tested"."""
    docs = Path(__file__).parents[1] / "docs"
    out = (docs if docs.is_dir() else tmp_path) / "fuzzing.json"
    words = ["--minutes", "120", "--inputs", "14500", "--keep", tmp_path / "kept", "--out", out]
    assert subprocess.run([sys.executable, fuzz.__file__, *words]).returncode == 0
    assert json.loads(out.read_text(encoding="utf-8"))["inputs"] >= 200_000
