"""Kills processes at random moments, and at every step that changes the disk, and looks at what they leave.

A program for test_faults: ``python fault_tools.py REQUEST`` prints what it found, as JSON. It has imported everything,
never computes itself, and forks each process that it kills: a kill takes hundredths of a second.
"""

from __future__ import annotations

import abc
import builtins
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import io
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import statistics
import sys
import threading
import time
import traceback
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import make_photos
from filelock import Timeout
from PIL import Image

import cnnhw
from cnnhw import files, models, training
from cnnhw.book import registry
from cnnhw.data import decode, sources
from cnnhw.models import weights
from cnnhw.studies import queue, store
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.transfer.stages import Stage

Findings = list[tuple[str, str]]
LOST, HALF, WRONG = "lost", "half_written", "silently_wrong"


# ------------------------------------------------------------------------------------------------------- a web server


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        with contextlib.suppress(ConnectionError):  # the client may have been killed
            self.server.answer(self)

    def log_message(self, *_):
        pass

    def give(self, content: bytes, pause: float = 0.0, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        part = len(content) // 16 + 1
        for start in range(0, len(content), part):
            self.wfile.write(content[start : start + part])
            time.sleep(pause)


@contextlib.contextmanager
def serving(answer: Callable[[Handler], None]) -> Iterator[str]:
    """Answer requests as told; give the server's address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answer, server.daemon_threads, server.block_on_close = answer, True, False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def body(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def give_slowly(handler: Handler) -> None:
    """Give the archive that an address of the form ``/NUMBER/SIZE`` names."""
    handler.give(body(*map(int, handler.path.strip("/").split("/"))), pause=0.003)


def archive(url: str, content: bytes, **change: Any) -> sources.Source:
    """Return a data set of which the archive comes from `url`."""
    version = sources.Version("archive.tgz", "folder", url, len(content), hashlib.md5(content).hexdigest())
    return sources.Source("about", "licence", (version._replace(**change),), lambda container: None)


# ---------------------------------------------------------------------------------------------- what is done and killed


class Download:
    """Archives are downloaded."""

    name, stepped = "download", range(1, 2)

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url

    def work(self, state: Path, number: int) -> None:
        size = self.size(number)
        archive(f"{self.url}/{number}/{size}", body(number, size)).fetch(128, state / str(number), progress=False)

    @staticmethod
    def size(number: int) -> int:
        return 4_000 if number == 1 else 200_000  # of the first one, each write is a step

    def check(self, state: Path, number: int, finished: bool) -> Findings:
        path = state / str(number) / "archive.tgz"
        if not path.exists():
            return [(LOST, f"{path} is not there")] if finished else []
        return [] if path.read_bytes() == body(number, self.size(number)) else [(HALF, f"{path} is not what was sent")]


class Caching:
    """A folder of photos is decoded into the cache, each time to another size."""

    name, stepped = "caching", range(1, 2)

    def __init__(self, folder: Path, url: str) -> None:
        self.photos = make_folder(folder / "photos", 12)

    def load(self, state: Path, number: int) -> cnnhw.data.PhotoSet:
        os.environ["CNNHW_CACHE"] = str(state)
        return cnnhw.data.load(self.photos, size=16 + number, progress=False)

    def work(self, state: Path, number: int) -> None:
        self.load(state, number)

    def check(self, state: Path, number: int, finished: bool) -> Findings:
        found: Findings = []
        for path in (state / "decoded").glob("[!.]*"):
            try:
                json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)
            except ValueError as error:
                found.append((HALF, f"{path}: {error}"))
        decoded: list[int] = []
        real = decode.decode
        decode.decode = lambda *values: decoded.append(1) or real(*values)
        photos = self.load(state, number)
        decode.decode = real
        for split in (photos.train, photos.validation, photos.test):
            expected = [decode.read_photo(self.photos / name, photos.size) for name in split.names]
            if not torch.equal(split.batch(torch.arange(len(split))), torch.stack(expected)):
                found.append((WRONG, f"photos of {photos.size} pixels differ"))
        if decoded and finished:
            found.append((LOST, f"photos of {photos.size} pixels were decoded again"))
        return found


class Training:
    """A small network is trained with a checkpoint after each epoch, and resumed from it."""

    name, stepped = "training", range(1, 2)

    def __init__(self, folder: Path, url: str) -> None:
        self.photos = make_photos(train=24)
        self.expected = in_child(lambda: [self.fit(folder / "whole" / str(seed), seed) for seed in range(2)])

    def fit(self, folder: Path, seed: int) -> Any:
        model = models.create("q1_shallow", 3, seed=seed, size=16)
        run = cnnhw.fit(
            model, self.photos, Recipe(epochs=3, batch_size=8), seed=seed, folder=folder, resume=True,
            progress=False,
        )  # fmt: skip
        weights.save_weights(run.model, folder / "done.safetensors")
        files.write_json(folder / "done.json", [run.history["loss"], run.predictions.tolist()])
        return self.outcome(folder)

    @staticmethod
    def outcome(folder: Path) -> Any:
        weights = cnnhw.load(folder / "done.safetensors").state_dict()
        rest = json.loads((folder / "done.json").read_text())
        return rest, {name: value.numpy().tobytes() for name, value in weights.items()}

    def work(self, state: Path, number: int) -> None:
        self.fit(state / str(number), number % 2)

    def check(self, state: Path, number: int, finished: bool) -> Findings:
        folder = state / str(number)
        try:
            if (folder / training.CHECKPOINT).exists():
                training.saved_settings(folder)
            if (folder / "done.json").exists() and self.outcome(folder) != self.expected[number % 2]:
                return [(WRONG, f"{folder} does not end in the weights of an undisturbed run")]
        except (cnnhw.errors.CnnhwError, ValueError) as error:
            return [(HALF, str(error))]
        return [(LOST, f"{folder} has no weights")] if finished and not (folder / "done.json").exists() else []


class Recording:
    """Jobs of a study are run, with checkpoints, weights that other jobs start from, and records."""

    name, stepped = "recording", range(1, 2)

    def __init__(self, folder: Path, url: str) -> None:
        photos = make_folder(folder / "photos", 6)
        recipe = Recipe(epochs=1, batch_size=4)
        stages = (Stage("classifier", recipe), Stage("all", recipe))
        arms = (
            Arm("base", "q1_shallow", recipe, seeds=(0, 1)),
            Arm("moved", "q1_shallow", stages, seeds=(0, 1), source="base"),
        )
        study = Study("killed", "Is anything lost?", str(photos), 16, arms, every_epoch=True, drift=True)
        registry._STUDIES["killed"] = study
        self.jobs = study.jobs()
        whole = folder / "whole"
        in_child(lambda: [self.work(whole, number) for number in range(len(self.jobs))])
        self.expected = [self.figures(whole / "records 0", job) for job in self.jobs]

    @staticmethod
    def figures(where: Path, job: Any) -> list[Any]:
        """Return what must not depend on kills, of each record of a job."""
        varying = {"date", "seconds", "history", "checksum"}
        return [
            [
                {name: value for name, value in record.content.items() if name not in varying},
                {name: value for name, value in record.history.items() if name != "seconds"},
            ]
            for record in store.read("killed", where)
            if record.key == job.key
        ]

    def where(self, state: Path, number: int) -> Path:
        return state / f"records {number // len(self.jobs)}"

    def work(self, state: Path, number: int) -> None:
        os.environ["CNNHW_CACHE"] = str(state / "cache")
        queue.run_job(self.jobs[number % len(self.jobs)], self.where(state, number))

    def check(self, state: Path, number: int, finished: bool) -> Findings:
        job, where = number % len(self.jobs), self.where(state, number)
        try:
            found = self.figures(where, self.jobs[job])
        except cnnhw.errors.CnnhwError as error:
            return [(HALF, str(error))]
        if len(found) != 1 and (found or finished):
            return [(LOST if not found else WRONG, f"{self.jobs[job]} has {len(found)} records")]
        return [] if found in ([], self.expected[job]) else [(WRONG, f"the record of {self.jobs[job]} differs")]


class Saving(abc.ABC):
    """Something is saved under a name that is new for even numbers, and holds the number before for odd ones."""

    def __init__(self, folder: Path, url: str) -> None:
        self.photos = make_photos()
        self.model = models.create("q1_shallow", 3, size=16)
        self.model.classes = self.photos.classes

    stepped = range(1, 3)

    def versioned(self, number: int) -> models.Classifier:
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(number)
        return self.model

    @staticmethod
    def version(path: Path) -> int:
        """Return the number that a weights file was saved with."""
        (only,) = torch.cat([value.flatten() for value in cnnhw.load(path).state_dict().values()]).unique().tolist()
        return int(only)

    @abc.abstractmethod
    def read(self, path: Path) -> set[int]:
        """Return the numbers that the files were saved with, and raise if one is damaged."""

    @abc.abstractmethod
    def work(self, state: Path, number: int) -> None:
        """Save, under the name of `number`, what holds it."""

    def check(self, state: Path, number: int, finished: bool) -> Findings:
        path = state / str(number // 2)
        if not path.exists():
            return [(LOST, f"{path} is not there")] if finished or number % 2 else []
        try:
            found = self.read(path)
        except Exception as error:
            return [(HALF, f"{path}: {error!r}")]
        allowed = [{number}] if finished else [{number}, {number - 1} if number % 2 else set(), set()]
        return [] if found in allowed else [(WRONG, f"{path} is of {found} instead of {allowed}")]


class SavingJson(Saving):
    name = "saving json"

    def work(self, state: Path, number: int) -> None:
        files.write_json(state / str(number // 2), [number] * 50_000)

    def read(self, path: Path) -> set[int]:
        return set(json.loads(path.read_text()))


class SavingWeights(Saving):
    name = "saving weights"

    def work(self, state: Path, number: int) -> None:
        weights.save_weights(self.versioned(number), state / str(number // 2))

    def read(self, path: Path) -> set[int]:
        return {self.version(path)}


class SavingRun(Saving):
    name = "saving runs"

    stepped = range(1, 2)

    def __init__(self, folder: Path, url: str) -> None:
        from matplotlib.figure import Figure

        from cnnhw import plots

        super().__init__(folder, url)
        plots.curves = plots.confusion = lambda *_, **__: Figure((2, 1))  # drawn in a fraction of the time

    def work(self, state: Path, number: int) -> None:
        history = {name: [1.0] for name in ("loss", "accuracy", "validation_loss", "validation_accuracy", "seconds")}
        photos = dataclasses.replace(self.photos, name=f"photos {number}!")
        run = Run(
            self.versioned(number), photos, dataclasses.asdict(Recipe(epochs=1)), number, history, 1,
            photos.test.labels, 1,
        )  # fmt: skip
        run.save(state / str(number // 2))

    def read(self, path: Path) -> set[int]:
        names = {file.name for file in path.iterdir() if not file.name.startswith(".")}
        for file in (path / name for name in names):
            if file.suffix == ".png":
                with Image.open(file) as image:
                    image.load()
            elif file.suffix == ".svg":
                ET.fromstring(file.read_text())
            elif file.suffix == ".html" and not file.read_text(encoding="utf-8").endswith("</html>\n"):
                raise ValueError(f"{file} is cut")
        if "run.json" not in names:
            return set()  # not finished, as can be seen
        summary = json.loads((path / "run.json").read_text())
        if summary["data"] not in (path / "report.html").read_text(encoding="utf-8"):
            return {summary["seed"], -1}
        return {summary["seed"], self.version(path / weights.WEIGHTS)}


def make_folder(folder: Path, count: int) -> Path:
    """Make a folder of two classes of striped photos."""
    rng = np.random.default_rng(0)
    for label, number in itertools.product(range(2), range(count)):
        photo = rng.integers(0, 150, (16, 16, 3), dtype=np.uint8)
        photo[:: label + 2] += 60
        path = folder / f"class {label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(path)
    return folder


# ---------------------------------------------------------------------------------------------------- forks and kills


def fork(work: Callable[[int], Any]) -> tuple[int, int]:
    """Do something in a child, which is given the end of a pipe to write to; return its id and the other end."""
    resource_sharer.stop(timeout=10)  # of tests that hand tensors to other processes
    for thread in threading.enumerate():  # it could hold a lock that the child would wait for
        if thread is not threading.current_thread():
            thread.join(timeout=10)
            assert not thread.is_alive(), f"{thread} is running"
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        return child, reading
    code = 1
    try:
        os.close(reading)
        work(writing)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, reading: int) -> tuple[int, bytes]:
    """Return how a child ended, negative for a signal, and what it wrote."""
    with open(reading, "rb") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def in_child(work: Callable[[], Any]) -> Any:
    """Return what `work` does in a child that is left alone; import what it did, so that no other child has to."""
    code, said = wait(*fork(lambda writing: write(writing, pickle.dumps([work(), *sys.modules]))))
    assert code == 0, "a process that was not killed failed: see above"
    result, *modules = pickle.loads(said)
    for name in modules:
        if name not in sys.modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    return result


def write(pipe: int, content: bytes) -> None:
    with open(pipe, "wb") as file:
        file.write(content)


def going_on(subject: Any, state: Path, numbers: Iterable[int], fatal: int, writing: int) -> None:
    """Do one thing after the other, if wanted with a kill at the step `fatal`; say when each begins and ends."""
    if fatal:
        Steps(fatal).install()
    for number in numbers:
        real_write(writing, b"b")
        subject.work(state, number)
        real_write(writing, b"e")


real_write = os.write


class Steps:
    """Counts what is done to the disk; kills its own process before the step `fatal`, or in the middle if it writes."""

    def __init__(self, fatal: int) -> None:
        self.fatal, self.numbers = fatal, itertools.count(1)

    def step(self, half: Callable[[], Any] = lambda: None) -> None:
        if next(self.numbers) == self.fatal:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, real: Callable[..., Any], matters: Callable[..., bool] = lambda *_, **__: True) -> Any:
        @functools.wraps(real)
        def stepping(*values, **more):
            if matters(*values, **more):
                self.step()
            return real(*values, **more)

        return stepping

    def install(self) -> None:
        for name in ("replace", "rename", "link", "fsync", "unlink", "remove", "mkdir", "rmdir", "ftruncate"):
            setattr(os, name, self.before(getattr(os, name)))
        os.open = self.before(os.open, lambda path, flags, *_, **__: flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        decode.decode = self.before(decode.decode)
        for module in (files, training):
            if hasattr(module, "save_file"):
                module.save_file = self.saving(module.save_file)
        real = io.open

        def opening(file, mode="r", *values, **more):
            if set(mode) <= set("rbt"):
                return real(file, mode, *values, **more)
            self.step()
            return Written(real(file, mode, *values, **more), self)

        io.open = builtins.open = opening

    def saving(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def save(tensors, path, metadata):
            def half():
                real(tensors, path, metadata)
                os.truncate(path, Path(path).stat().st_size // 2)

            self.step(half)
            real(tensors, path, metadata)

        return save


class Written:
    """A file of which each write is a step."""

    def __init__(self, file: Any, steps: Steps) -> None:
        self._file, self._steps = file, steps

    def write(self, content: Any) -> int:
        def half():
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        self._steps.step(half)
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def look(subject: Any, folder: Path, state: Path, number: int) -> Findings:
    """Look at what a process left that was killed in doing thing `number`, and go on in a copy."""

    def judge() -> Findings:
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(state, copy)
        earlier = number - (2 if number % 2 and isinstance(subject, Saving) else 1)
        found = subject.check(copy, earlier, True) if earlier >= 0 else []
        found += subject.check(copy, number, False)
        subject.work(copy, number)
        return found + subject.check(copy, number, True)

    return in_child(judge)


def kill(kind: type, folder: Path, url: str, kills: int, every_step: bool, rng: random.Random) -> dict[str, Any]:
    """Kill at `kills` random moments, and if wanted at every step; return counts and what was found."""
    folder.mkdir(parents=True)
    subject = kind(folder, url)
    state, template = folder / "state", folder / "template"
    in_child(lambda: subject.work(template, 0))
    shutil.copytree(template, state)
    found: list[tuple[str, str]] = []
    middle = steps = 0
    number = 1
    duration = 0.0
    if kills:
        trial = folder / "trial"
        shutil.copytree(template, trial)

        def measure() -> float:
            times = []
            for number in range(1, 5):
                start = time.perf_counter()
                subject.work(trial, number)
                times.append(time.perf_counter() - start)
            return statistics.median(times)

        duration = in_child(measure)
    for _ in range(kills):
        child, reading = fork(functools.partial(going_on, subject, state, itertools.count(number), 0))
        begun = os.read(reading, 1)
        time.sleep(rng.uniform(0, 1.2 * duration))
        os.kill(child, signal.SIGKILL)
        code, said = wait(child, reading)
        assert code == -signal.SIGKILL, f"{subject.name} failed before it was killed: see above"
        begins, ends = (begun + said).count(b"b"), said.count(b"e")
        middle += begins > ends
        number += begins - 1
        found += look(subject, folder, state, number)
        number += begins == ends
    if every_step:
        for fatal in itertools.count(1):
            shutil.rmtree(state)
            shutil.copytree(template, state)
            code, said = wait(*fork(functools.partial(going_on, subject, state, subject.stepped, fatal)))
            if code == 0:
                break
            assert code == -signal.SIGKILL, f"{subject.name} failed at step {fatal}: see above"
            steps += 1
            found += [(kind, f"{text} (step {fatal})") for kind, text in look(subject, folder, state, said.count(b"b"))]
    return {
        "kills": kills + steps, "middle": middle, "steps": steps, "duration": duration,
        "found": found,
    }  # fmt: skip


def together(folder: Path, rounds: int) -> dict[str, Any]:
    """Let two processes use one cache and run the jobs of one study at once."""
    folder.mkdir(parents=True)
    caching, recording = Caching(folder / "caching", ""), Recording(folder / "recording", "")
    found: list[tuple[str, str]] = []
    for number in range(rounds):
        state = folder / f"state {number}"

        def work(writing: int, state: Path = state) -> None:
            for size in range(3):
                caching.work(state / "photos", size)
            busy = []
            for job in range(len(recording.jobs)):
                try:
                    recording.work(state, job)
                except Timeout:
                    busy.append(job)
            write(writing, pickle.dumps(busy))

        ends = [wait(*child) for child in [fork(work), fork(work)]]
        found += [(WRONG, "one of two processes failed: see above") for code, _ in ends if code]

        def judge(state: Path = state) -> Findings:
            seen = [finding for size in range(3) for finding in caching.check(state / "photos", size, True)]
            jobs = range(len(recording.jobs))
            return seen + [finding for job in jobs for finding in recording.check(state, job, True)]

        found += in_child(judge)
    return {"rounds": rounds, "found": found}


KINDS = {kind.name: kind for kind in (Download, Caching, Training, Recording, SavingJson, SavingWeights, SavingRun)}


def main(request: str) -> None:
    asked = json.loads(request)
    torch.set_num_threads(1)
    rng = random.Random(asked["seed"])
    folder = Path(asked["folder"])
    found = {}
    for name, kills in asked["kills"].items():
        found[name] = kill(KINDS[name], folder / name, asked["url"], kills, asked["every_step"], rng)
    if asked.get("together"):
        found["together"] = together(folder / "together", asked["together"])
    for result in found.values():
        result |= Counter(kind for kind, _ in result["found"])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
