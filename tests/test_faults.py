"""Kills, full disks, read-only folders, flipped bytes, wrong clocks, bad servers: nothing is lost or silently wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import itertools
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fault_tools
import pytest
import torch
from conftest import make_photos
from fault_tools import archive, body, serving
from PIL import Image

import cnnhw
from cnnhw import cli, files, models
from cnnhw.book import registry, worker
from cnnhw.data import sources
from cnnhw.errors import CnnhwError, DataError, WeightsError
from cnnhw.models import weights
from cnnhw.studies import queue, store
from cnnhw.studies.study import Arm, Study
from cnnhw.training import run
from cnnhw.training.recipe import Recipe

SEED = int(os.environ.get("CNNHW_FAULTS_SEED") or secrets.randbelow(10**6))
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# --------------------------------------------------------------------------------------------------------------- kills


def faults(folder, kills, every_step=False, together=0):
    """Let a process kill others; return what it found."""
    with serving(fault_tools.give_slowly) as url:
        request = {
            "seed": SEED, "folder": str(folder), "url": url, "kills": kills, "every_step": every_step,
            "together": together,
        }  # fmt: skip
        path = os.pathsep.join(filter(None, (str(Path(cnnhw.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, fault_tools.__file__, json.dumps(request)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, f"seed {SEED}: {done.stderr[-4000:]}"
    found = json.loads(done.stdout)
    for name, result in found.items():
        assert not result["found"], f"seed {SEED}, {name}: {result['found'][:5]}"
    return found


def note(figures, found):
    for name, result in found.items():
        figures(
            "faults",
            kills=result["kills"],
            kills_in_the_middle=result["middle"] + result["steps"],
            kills_at_every_step=result["steps"],
            **{f"kills_{name.split()[0]}": result["kills"]},
            **{kind: result.get(kind, 0) for kind in (fault_tools.LOST, fault_tools.HALF, fault_tools.WRONG)},
        )


@forks
def test_a_few_kills(tmp_path, figures):
    kills = {"download": 2, "caching": 2, "training": 2, "recording": 2, "saving json": 1, "saving weights": 1}
    found = faults(tmp_path, kills)
    assert sum(result["kills"] for result in found.values()) == 10
    note(figures, found)


@forks
@pytest.mark.slow
@pytest.mark.parametrize(
    "kills",
    [
        {"download": 60, "caching": 40},
        {"training": 40},
        {"recording": 30},
        {"saving json": 20, "saving weights": 20, "saving runs": 10},
    ],
    ids="/".join,
)
def test_kills_at_random_moments_and_at_every_step(tmp_path, figures, kills):
    found = faults(tmp_path, kills, every_step=True)
    for name, result in found.items():
        assert result["steps"] >= 5, f"{name} is said to change the disk in {result['steps']} steps only"
        assert result["middle"] >= 0.5 * (result["kills"] - result["steps"]), f"{name} was hardly interrupted"
    note(figures, found)


@forks
@pytest.mark.slow
def test_two_processes_on_one_cache_and_one_queue(tmp_path, figures):
    found = faults(tmp_path, {}, together=5)
    figures("faults", scenarios_together=found["together"]["rounds"])


# ---------------------------------------------------------------------------------- disks that are full, or read-only


def resource_limits():
    return pytest.importorskip("resource", reason="file sizes cannot be limited here")


def mount(folder, options):
    """Mount a small file system in memory, or skip."""
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")


def unmount(folder):
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # weights that were read may still be mapped


@pytest.fixture(params=["limit", "disk"])
def disk(request, tmp_path):
    """Give a folder, and a context in which hardly anything can be written to it."""
    folder = tmp_path / "disk"
    if request.param == "limit":
        resource = resource_limits()
        folder.mkdir()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)

        @contextlib.contextmanager
        def full():
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        yield folder, full
        return
    mount(folder, "size=2m")

    @contextlib.contextmanager
    def full():
        with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        try:
            yield
        finally:
            (folder / "ballast").unlink()

    yield folder, full
    unmount(folder)


@pytest.fixture
def read_only(tmp_path):
    """Give a folder, and a context in which nothing can be written to it, not even by root."""
    folder = tmp_path / "read-only"
    if not hasattr(os, "geteuid"):
        pytest.skip("folders cannot be made read-only here")
    root = os.geteuid() == 0
    if root:
        mount(folder, "size=8m")
    else:
        folder.mkdir()

    @contextlib.contextmanager
    def closed():
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        if root:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        else:
            for path in folders:
                path.chmod(0o555)
        try:
            yield
        finally:
            if root:
                subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
            else:
                for path in folders:
                    path.chmod(0o755)

    yield folder, closed
    if root:
        unmount(folder)


def small_study(monkeypatch, tmp_path):
    arms = (Arm("arm", "q1_shallow", Recipe(epochs=1, batch_size=8), seeds=(0, 1)),)
    photos = fault_tools.make_folder(tmp_path / "photos", 6)
    study = Study("tiny", "?", str(photos), 16, arms, observation="a test")
    monkeypatch.setitem(registry._STUDIES, "tiny", study)
    return study


class Writers:
    """All that cnnhw writes: each is done once while the disk has space, and is then tried when it has not."""

    def __init__(self, folder, tmp_path, monkeypatch, url):
        self.folder, self.tmp_path, self.monkeypatch, self.url = folder, tmp_path, monkeypatch, url
        self.version = 0

    def download(self):
        archive(f"{self.url}/{self.version}", body(0, 40_000)).fetch(64, self.folder / str(self.version), False)

    def cache(self):
        self.monkeypatch.setenv("CNNHW_CACHE", str(self.folder / "cache"))
        photos = fault_tools.make_folder(self.tmp_path / "photos", 6)
        cnnhw.data.load(photos, size=32 + self.version, progress=False)

    def run(self):
        model, photos = models.create("q1_shallow", 3, seed=self.version, size=16), make_photos()
        history = {name: [1.0] for name in ("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds")}
        return run.Run(
            model, photos, dataclasses.asdict(Recipe(epochs=1)), self.version, history, 1, photos.test.labels, 1
        )

    def saving(self):
        self.run().save(self.folder / "run")

    def weights(self):
        weights.save_weights(self.run().model, self.folder / "weights.safetensors")

    def checkpoint(self):
        def stop(epoch, row):
            if epoch == 1 and not self.version:
                raise KeyboardInterrupt

        model = models.create("q1_shallow", 3, size=16)
        with contextlib.suppress(KeyboardInterrupt):
            cnnhw.fit(
                model, make_photos(train=24), Recipe(epochs=2), folder=self.folder / "training", resume=True,
                progress=False, on_epoch=stop,
            )  # fmt: skip

    def record(self):
        configuration = {"seed": self.version}
        content = {
            "format": 1, "study": "tiny", "arm": "a", "key": store.configuration_key(configuration),
            "configuration": configuration, "test_labels": f"{random.Random(self.version).getrandbits(80_000):x}",
        }  # fmt: skip
        store.write(content, self.folder / "records")

    def json(self):
        files.write_json(self.folder / "x.json", [self.version] * 5000)


WRITERS = ["download", "cache", "saving", "weights", "checkpoint", "record", "json"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "ballast"}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_one_clear_error_and_changes_nothing(disk, tmp_path, monkeypatch, figures, what):
    folder, full = disk
    with serving(lambda handler: handler.give(body(0, 40_000))) as url:
        writers = Writers(folder, tmp_path, monkeypatch, url)
        write = getattr(writers, what)
        write()
        before = contents(folder)
        assert before
        writers.version = 1
        with full(), pytest.raises(CnnhwError, match=r"disk is full|free disk space") as caught:
            write()
        assert str(folder) in str(caught.value)
        assert "ree some space" in str(caught.value)
        assert contents(folder) == before
        write()  # now there is space
    assert contents(folder) != before
    figures("faults", scenarios_full_disk=1)


@pytest.mark.parametrize("what", WRITERS)
def test_a_read_only_folder_is_one_clear_error_and_changes_nothing(read_only, tmp_path, monkeypatch, figures, what):
    folder, closed = read_only
    with serving(lambda handler: handler.give(body(0, 40_000))) as url:
        writers = Writers(folder, tmp_path, monkeypatch, url)
        write = getattr(writers, what)
        write()
        before = contents(folder)
        writers.version = 1
        with closed(), pytest.raises(CnnhwError, match=r"[Rr]ead-only|[Pp]ermission") as caught:
            write()
        assert str(folder) in str(caught.value)
        assert contents(folder) == before
    figures("faults", scenarios_read_only=1)


def command(monkeypatch, capsys, *arguments):
    """Run the command line; return its exit code and the last line of what it says of errors."""
    monkeypatch.setattr(sys, "argv", ["cnnhw", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert sum(line.startswith("error:") for line in said.splitlines()) == bool(code)
    return code, said.strip().splitlines()[-1] if said.strip() else ""


def test_the_command_line_says_in_one_line_that_the_disk_is_full(disk, tmp_path, monkeypatch, capsys, figures):
    folder, full = disk
    photos = fault_tools.make_folder(tmp_path / "photos", 6)
    cnnhw.data.load(photos, size=16, progress=False)
    content = body(0, 40_000)
    with serving(lambda handler: handler.give(content)) as url:
        monkeypatch.setitem(sources.SOURCES, "flowers", archive(url, content))
        train = ["train", "q1_shallow", "--data", photos, "--size", 16, "--epochs", 1, "--out", folder / "run"]
        for arguments in (["data", "fetch", "flowers", "--root", folder], train):
            with full():
                code, said = command(monkeypatch, capsys, *arguments)
            assert code == 2
            assert said.startswith("error: ")
            assert str(folder) in said
            assert "the disk is full" in said
            assert contents(folder) == {}
    study = small_study(monkeypatch, tmp_path)
    with full():
        monkeypatch.setenv("CNNHW_CACHE", str(folder / "cache"))
        assert worker.main("tiny", study.jobs()[0].key, str(tmp_path / "records")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "full" in said or "free disk space" in said
    figures("faults", scenarios_full_disk=3)


def test_the_queue_refuses_a_read_only_folder_before_it_trains(read_only, tmp_path, monkeypatch, capsys, figures):
    folder, closed = read_only
    small_study(monkeypatch, tmp_path)
    monkeypatch.setattr(queue, "_run_process", None)
    for cache, records in ((tmp_path / "cache", folder / "records"), (folder / "cache", tmp_path / "records")):
        monkeypatch.setenv("CNNHW_CACHE", str(cache))
        with closed():
            code, said = command(monkeypatch, capsys, "study", "run", "tiny", "--records", records)
        assert code == 2
        assert str(folder) in said
        assert "cannot be written: " in said
    figures("faults", scenarios_read_only=2)


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path):
    names = {".x.json.1-ab.tmp": -86_401, ".x.json.2-ab.tmp": -3600, ".x.json.3-ab.tmp": 86_401, ".y.1-ab.tmp": -1e6}
    for name, age in names.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() + age, time.time() + age))
    files.write_json(tmp_path / "x.json", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", *names} - {".x.json.1-ab.tmp"}


# ------------------------------------------------------------------------------------------------------- flipped bytes


def damaged(content, count, seed=0):
    """Yield copies of some bytes, each with one bit flipped, or cut."""
    rng = random.Random(seed)
    for _ in range(count):
        copy = bytearray(content)
        copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        yield bytes(copy)
    for _ in range(count // 4):
        yield content[: rng.randrange(len(content))]


def test_a_record_with_a_flipped_byte_is_refused(tmp_path, figures):
    original = min(store.folder().glob("q1/*.json.gz"))
    path = tmp_path / "q1" / original.name
    path.parent.mkdir()
    packed, count = original.read_bytes(), 0
    for copy in damaged(gzip.decompress(packed), 400):
        path.write_bytes(gzip.compress(copy))
        with pytest.raises(CnnhwError, match="is not a usable record") as caught:
            store.read("q1", tmp_path)
        assert str(path) in str(caught.value)
        assert "restore it, or delete it and run it again" in str(caught.value)
        count += 1
    path.write_bytes(packed)
    (whole,) = store.read("q1", tmp_path)
    unnoticed = 0
    for copy in damaged(packed, 400):  # a bit of the packing that carries nothing, such as its date, may go unnoticed
        path.write_bytes(copy)
        try:
            (found,) = store.read("q1", tmp_path)
        except CnnhwError:
            continue
        unnoticed += 1
        assert found.content == whole.content
    assert unnoticed < 20
    figures("faults", damaged_files=count, damaged_files_refused=count)


def test_a_flipped_digit_of_a_prediction_and_a_missing_checksum_are_told(tmp_path):
    record = min(store.read("q1"), key=lambda record: record.path)
    path = tmp_path / "q1" / record.path.name
    digits = record.content["test_predictions"][str(record.best_epoch)]
    packed = record.path.read_bytes()
    flipped = str((int(digits[0]) + 1) % 5) + digits[1:]
    path.parent.mkdir()
    path.write_bytes(gzip.compress(gzip.decompress(packed).replace(digits.encode(), flipped.encode())))
    with pytest.raises(CnnhwError, match="does not fit its checksum: it was changed after it was written"):
        store.read(where=tmp_path)
    unsealed = {name: value for name, value in record.content.items() if name != "checksum"}
    path.write_bytes(gzip.compress(json.dumps(unsealed).encode()))
    with pytest.raises(CnnhwError, match="it has no checksum"):
        store.read(where=tmp_path)
    assert store.write(record.content, tmp_path) == path
    assert gzip.decompress(path.read_bytes()) == gzip.decompress(packed)
    store.write_canary(store.read(where=tmp_path)[0], "0" * 16, 1e-7, 0)
    assert store.read(where=tmp_path)[0].repeated


def test_weights_with_a_flipped_byte_are_refused(tmp_path, figures):
    path = tmp_path / "w.safetensors"
    model = models.create("q1_shallow", 3, size=16)
    weights.save_weights(model, path, data="photos", licence="free")
    content, refused, count = path.read_bytes(), 0, 0
    for copy in damaged(content, 200):
        path.write_bytes(copy)
        count += 1
        try:
            found = cnnhw.load(path)
        except WeightsError:
            refused += 1
        else:  # it was padding, or the name of the checksum
            assert (found.name, found.classes, vars(found)["licence"]) == (model.name, model.classes, "free")
            assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.state_dict().items())
    assert refused >= 0.95 * count
    figures("faults", damaged_files=count, damaged_files_refused=refused)


def test_tensors_of_any_type_and_shape_come_back_and_are_verified(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 2),
        "half": torch.randn(3, 2).to(torch.bfloat16),
        "turned": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "true": torch.tensor([True, False]),
    }
    files.save_tensors(path, tensors, {"a": "b"})
    metadata, found = files.load_tensors(path)
    assert metadata == {"a": "b"}
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not fit its checksum"):
        files.load_tensors(path)


# -------------------------------------------------------------------------------------------------------------- clocks


def test_a_clock_that_goes_back_loses_nothing(tmp_path, monkeypatch, figures):
    clock = itertools.count(2e9, -3600.0)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    study = small_study(monkeypatch, tmp_path)
    for job in study.jobs():
        queue.run_job(job, tmp_path / "records", progress=True)
    assert queue.pending(study.jobs(), tmp_path / "records") == []
    for record in store.read("tiny", tmp_path / "records"):
        assert record.content["seconds"] >= 0
        assert min(record.history["seconds"]) >= 0
    figures("faults", scenarios_clock=1)


@pytest.mark.parametrize("when", [0, 4e9], ids=["1970", "2096"])
def test_photos_changed_after_the_clock_was_set_are_decoded_anew(tmp_path, figures, when):
    photos = fault_tools.make_folder(tmp_path / "photos", 6)
    first = cnnhw.data.load(photos, size=16, progress=False)
    changed = photos / "class 0" / "0.png"
    with Image.open(changed) as photo:
        photo.rotate(90).save(changed)
    os.utime(changed, (when, when))
    second = cnnhw.data.load(photos, size=16, progress=False)
    assert first.fingerprint != second.fingerprint
    figures("faults", scenarios_clock=1)


# ----------------------------------------------------------------------------------------------------------- downloads


def stall_at_once(handler):
    time.sleep(1.5)


def stall_in_the_middle(handler):
    handler.give(body(0, 20_000), length=40_000)
    time.sleep(1.5)


def redirect(handler):
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/hostname")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


BAD = {
    "stalls at once": (stall_at_once, "nothing came from the server for 0.5 seconds"),
    "stalls in the middle": (stall_in_the_middle, "nothing came from the server for 0.5 seconds"),
    "is cut": (lambda handler: handler.give(body(0, 20_000), length=40_000), "could not be downloaded"),
    "is short": (lambda handler: handler.give(body(0, 20_000)), "gave 20,000 bytes instead of 40,000"),
    "is long": (lambda handler: handler.give(body(0, 40_001)), "gave 40,001 bytes instead of 40,000"),
    "is another file": (lambda handler: handler.give(body(1, 40_000)), "another MD5 sum"),
    "is not found": (lambda handler: handler.send_error(404), "404 Client Error"),
    "fails": (lambda handler: handler.send_error(500), "500 Server Error"),
    "is elsewhere": (redirect, "could not be downloaded"),
    "hangs up": (lambda handler: None, "could not be downloaded"),
    "talks nonsense": (lambda handler: handler.wfile.write(b"hello\r\n\r\n"), "could not be downloaded"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_download_is_one_clear_error_and_leaves_nothing(tmp_path, monkeypatch, figures, what):
    monkeypatch.setattr(sources, "PATIENCE", 0.5)
    content = body(0, 40_000)
    answers = iter([BAD[what][0], lambda handler: handler.give(content)])
    with serving(lambda handler: next(answers)(handler)) as url:
        source = archive(url, content)
        with pytest.raises(DataError, match=BAD[what][1]) as caught:
            source.fetch(64, tmp_path / "data", progress=False)
        assert url in str(caught.value)
        assert "\n" not in str(caught.value)
        assert list((tmp_path / "data").iterdir()) == []
        path, _ = source.fetch(64, tmp_path / "data", progress=False)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert [file.name for file in path.parent.iterdir()] == ["archive.tgz"]
    figures("faults", scenarios_download=1)
