"""How fast the networks train here, beside the report's own recipe in Keras, and where the time goes.

``python tests/benchmarks/bench.py`` prints a table with targets, in about half an hour, on processors that have nothing
else to do. ``pip install "cnnhw[keras]"`` brings Keras, ``pip install py-spy`` the profile by function.

Each sample is taken in a fresh process. What is compared is measured in turns, so that a machine that gets slower for a
while slows down both sides; ratios are of neighbouring samples.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cnnhw import data, evaluation, files, models, system, training
from cnnhw.book.benchmarks import FLOWERS, flops, table
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import CnnhwError
from cnnhw.training.presets import noise, plan

PARTS = ("throughput", "accuracy", "transfer", "scaling", "processes", "profile")
_NETWORKS = ("q1_shallow", "q1_deep", "fast")
_KERAS_EPOCHS = 13  # what the report gave q1_deep
# the fast recipe: as short as the report's accuracy allows, as it is by default, and at the report's resolution
_SETTINGS = {
    "fast, 2 epochs, 48 px": ("--size", "48", "--epochs", "2"),
    "fast, 8 epochs, 64 px": ("--size", "64", "--epochs", "8"),
    "fast, 3 epochs, 128 px throughout": ("--size", "128", "--epochs", "3", "--one-resolution"),
}
_KERAS_SCRIPT = Path(__file__).with_name("keras_reference.py")


def peak(threads: int, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Measure the highest rate of arithmetic of this machine, by large matrix products and convolutions.

    It is the best of many tries, in billions of operations a second (GFLOP/s).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = torch.randn(2, 1024, 1024).to(dtype)
        maps = torch.randn(64, 256, 8, 8).to(dtype, memory_format=torch.channels_last)
        kernels = torch.randn(256, 256, 3, 3).to(dtype, memory_format=torch.channels_last)
        tasks: tuple[tuple[int, Callable[[], object]], ...] = (
            (2 * 1024**3, lambda: torch.mm(a, b)),
            (2 * 64 * 8**2 * 9 * 256**2, lambda: F.conv2d(maps, kernels, padding=1)),
        )
        best, end = 0.0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            for operations, task in tasks:
                start = time.perf_counter()
                task()
                best = max(best, operations / (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    return best / 1e9


def run(
    parts: Sequence[str] = PARTS,
    *,
    sets: Sequence[str] = ("tiny5",),
    root: Path | None = None,
    seconds: float = 20.0,
    repeats: int = 3,
    keras: bool = True,
    retrain: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure some of `PARTS`; return plain values: ``machine``, and one entry a part.

    The time to accuracy is measured on all `sets` of photos, all else on the first; a sample takes so many `seconds`,
    each thing is sampled `repeats` times. `keras` measures Keras, too, where it is installed. `retrain` trains the
    report's network in Keras to the end; otherwise its accuracy after each epoch is that of the book's record (it does
    not depend on the machine; the time of an epoch is measured in any case). `say` gets a line when something begins.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"unknown parts {sorted(unknown)}; there are {', '.join(PARTS)}")
    if keras and importlib.util.find_spec("keras") is None:
        say("Keras is not installed and is left out")
        keras = False
    bench = _Bench(sets, root, seconds, repeats, keras, retrain, say)
    say("peak arithmetic")
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "photos": bench.photos,
        "seconds": seconds,
    }
    for part in parts:
        result[part] = getattr(bench, part)()
    return result


class _Bench:
    """What one benchmark needs to know, with a method for each part."""

    def __init__(
        self, sets: Sequence[str], root: Path | None, seconds: float, repeats: int, keras: bool, retrain: bool,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.sets, self.root, self.seconds, self.repeats = sets, root, seconds, repeats
        self.keras, self.retrain, self.say = keras, retrain, say
        self.threads = os.cpu_count() or 1
        # decoded here, once for all processes
        self.photos = {name: len(data.load(name, size=128, root=root).train) for name in sets}

    def throughput(self) -> list[dict[str, Any]]:
        """Photos a second of each network, ours and Keras's in turns."""
        rows = []
        for name in _NETWORKS:
            sides = ["cnnhw"] if name == "fast" else ["cnnhw", "cnnhw, bfloat16"] + ["keras"] * self.keras
            samples: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
            for turn in range(self.repeats):
                for side in sides:
                    self.say(f"throughput: {name} in {side}, {turn + 1} of {self.repeats}")
                    samples[side].append(self._sample(name, side))
            operations = flops(name, plan(name).size)
            for side in sides:
                rates = [sample["photos_per_second"] for sample in samples[side]]
                rows.append(
                    {
                        "model": name,
                        "side": side,
                        "size": plan(name).size,
                        "photos_per_second": rates,
                        "gflops": [rate * operations / 1e9 for rate in rates],
                        "precision": samples[side][0].get("precision", "float32"),
                        "peak_mb": max(sample["peak_mb"] for sample in samples[side]),
                        "versions": samples[side][0].get("versions", system.versions()),
                    }
                )
        return rows

    def accuracy(self) -> dict[str, list[dict[str, Any]]]:
        """Test accuracy against seconds of training, of the fast recipe and of the report's in Keras, by data set."""
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in self.sets}
        for photos in self.sets:
            for setting, options in _SETTINGS.items():
                for seed in range(2 * self.repeats if "48" in options else self.repeats):
                    self.say(f"time to accuracy on {photos}: {setting}, seed {seed}")
                    figures = self._worker("fit", "fast", "--seed", str(seed), *options, photos=photos)
                    rows[photos].append({"setting": setting, "side": "cnnhw", "seed": seed} | figures)
            if self.keras and self.retrain:
                self.say(f"time to accuracy on {photos}: q1_deep in Keras")
                lines = self._keras("q1_deep", "--epochs", str(_KERAS_EPOCHS), photos=photos)
                curve = [(line["seconds"], line["test_accuracy"]) for line in lines]
                rows[photos].append({"setting": "q1_deep", "side": "keras", "seed": 0, "curve": curve} | lines[-1])
        return rows

    def transfer(self) -> list[dict[str, Any]]:
        """Test accuracy on flowers against seconds of training: the fast recipe, and the report's transfer in Keras."""
        rows: list[dict[str, Any]] = []
        for setting, options in _SETTINGS.items():
            for seed in range(self.repeats):
                self.say(f"time to accuracy on flowers: {setting}, seed {seed}")
                figures = self._worker("fit", "fast", "--seed", str(seed), *options, photos="flowers")
                rows.append({"setting": setting, "side": "cnnhw", "seed": seed} | figures)
        if self.keras:
            self.say("time to accuracy on flowers: q1_deep in Keras, trained on other photos and transferred")
            lines = self._keras("q1_deep", "--epochs", str(_KERAS_EPOCHS), "--level", str(FLOWERS), target="flowers")
            curve = [(line["seconds"], line["test_accuracy"]) for line in lines if line["stage"] != "source"]
            stages = [line["stage"] for line in lines]
            rows.append(
                {"setting": "transfer", "side": "keras", "seed": 0, "curve": curve, "stages": stages} | lines[-1]
            )
        return rows

    def scaling(self) -> dict[str, list[dict[str, Any]]]:
        """Photos a second against the number of photos and against their side length."""
        by_count, by_side = [], []
        for count in (1_000, 5_000, 20_000, 50_000):
            self.say(f"scaling: fast, {count:,} photos")
            by_count.append({"model": "fast", "photos": count} | self._ours("fast", "--count", str(count)))
        for name in _NETWORKS:
            for side in (32, 64, 128, 192, 256):
                self.say(f"scaling: {name} at {side} px")
                sample = self._ours(name, "--size", str(side), "--count", "1000")
                by_side.append({"model": name, "size": side, "gflop": flops(name, side) / 1e9} | sample)
        return {"photos": by_count, "side": by_side}

    def processes(self) -> list[dict[str, Any]]:
        """Photos a second of two processes with one thread each, and of one process with two threads, in turns."""
        rows = []
        for name in _NETWORKS:
            one, many = [], []
            for turn in range(self.repeats):
                self.say(f"processes: {name}, {turn + 1} of {self.repeats}")
                one.append(self._ours(name)["photos_per_second"])
                many.append(self._side_by_side(name))
            rows.append({"model": name, "size": plan(name).size, "one_process": one, "one_thread_each": many})
        return rows

    def profile(self) -> list[dict[str, Any]]:
        """Share of the training time that each kind of operation takes."""
        rows = []
        for name in _NETWORKS:
            self.say(f"profile: {name}")
            figures = self._worker("profile", name)
            rows.append({"model": name, "size": plan(name).size, "places": self._places(name)} | figures)
        return rows

    def _places(self, name: str) -> dict[str, float]:
        """Share of the time of each of our functions and all that it calls in other packages, sampled by py-spy."""
        spy = shutil.which("py-spy", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
        if spy is None:
            return {}
        command, environment = self._command("sample", name, threads=self.threads)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "stacks")
            options = ["--format", "raw", "--rate", "50", "--output", str(out), "--"]
            watched = subprocess.run(
                [spy, "record", *options, *command], env=environment, capture_output=True, text=True
            )
            if watched.returncode:
                raise CnnhwError(f"py-spy failed: {watched.stderr[-500:]}")
            return _innermost(out.read_text(encoding="utf-8"))

    def _sample(self, name: str, side: str) -> dict[str, Any]:
        if side == "keras":
            return self._keras(name, "--seconds", str(self.seconds))[-1]
        return self._ours(name, *(("--precision", "bfloat16") if side == "cnnhw, bfloat16" else ()))

    def _ours(self, name: str, *options: str) -> dict[str, Any]:
        return self._worker("sample", name, *options)

    def _side_by_side(self, name: str) -> float:
        command, environment = self._command("sample", name, threads=1)
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(self.threads)
        ]
        return sum(json.loads(process.communicate()[0])["photos_per_second"] for process in processes)

    def _worker(self, task: str, name: str, *options: str, photos: str = "") -> dict[str, Any]:
        command, environment = self._command(task, name, *options, threads=self.threads, photos=photos)
        return _json_lines(command, environment)[-1]

    def _command(
        self, task: str, name: str, *options: str, threads: int, photos: str = ""
    ) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, __file__, task, name, "--data", photos or self.sets[0]]
        command += ["--seconds", str(self.seconds), *options]
        if self.root is not None:
            command += ["--root", str(self.root)]
        return command, os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}

    def _keras(self, name: str, *options: str, photos: str = "", target: str = "") -> list[dict[str, Any]]:
        """Run the script in a process that holds no PyTorch; return what it says."""
        with tempfile.TemporaryDirectory() as folder:
            source, other = Path(folder, "source"), Path(folder, "target")
            self._write(photos or self.sets[0], source)
            command = [sys.executable, str(_KERAS_SCRIPT), name, str(source), "--threads", str(self.threads), *options]
            if target:
                self._write(target, other)
                command += ["--target", str(other)]
            return _json_lines(command, dict(os.environ))

    def _write(self, photos: str, folder: Path) -> None:
        """Write a data set as arrays that Keras can use."""
        loaded = data.load(photos, size=128, root=self.root, progress=False)
        folder.mkdir()
        for part in ("train", "validation", "test"):
            split = getattr(loaded, part)
            np.save(folder / f"{part}.npy", split.images.permute(0, 2, 3, 1).numpy())
            np.save(folder / f"{part}_labels.npy", split.labels.numpy())


def _innermost(stacks: str) -> dict[str, float]:
    """Return the share of samples within training steps by the innermost function of this package, the largest first.

    For a step itself, what it calls in other packages is told apart: ``step: backward``.
    """
    counts: dict[str, int] = {}
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.replace("\\", "/") for frame in stack.split(";")]
        ours = [number for number, frame in enumerate(frames) if "cnnhw/" in frame]
        if any(frames[number].startswith("_steps ") for number in ours):
            name, *called = (frame.partition(" ")[0] for frame in frames[ours[-1] : ours[-1] + 2])
            if name == "step" and called:
                name = f"step: {called[0]}"
            counts[name] = counts.get(name, 0) + int(count)
    total = sum(counts.values())
    return {name: count / total for name, count in sorted(counts.items(), key=lambda item: -item[1])}


def _json_lines(command: list[str], environment: dict[str, str]) -> list[dict[str, Any]]:
    """Run a command and return the JSON lines that it prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CnnhwError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _machine() -> dict[str, Any]:
    """Describe the machine and its peak rate of arithmetic."""
    threads = os.cpu_count() or 1
    formats = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return {
        "processor": system.processor(),
        "threads": threads,
        "memory_gb": system.installed_gb(),
        "peak_gflops": {name: peak(threads, dtype) for name, dtype in formats.items()},
        "peak_gflops_one_thread": {name: peak(1, dtype) for name, dtype in formats.items()},
        "versions": system.versions(),
    }


_KINDS = {
    "convolution": ("convolution", "mkldnn_conv"),
    "batch norm": ("batch_norm",),
    "pooling": ("pool",),
    "activation": ("threshold", "relu", "clamp"),
    "matrix products": ("addmm", "aten::mm", "linear"),
    "optimiser": ("_fused_adam", "newton", "aten::bmm", "_foreach"),
    "photos": ("index", "flip", "where", "pad", "div_", "upsample", "randperm", "rand"),
    "number format": ("_to_copy", "copy_"),
}


def _profile(name: str, photos: PhotoSet, seconds: float) -> dict[str, Any]:
    """Return the share of processor time of each kind of operation, and of Python between them."""
    from torch.profiler import ProfilerActivity, profile

    model = models.create(name, len(photos.classes), size=photos.size)
    training.speed(model, photos, plan(name).recipe, seconds=1)
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        rate = training.speed(model, photos, plan(name).recipe, seconds=seconds)
    wall = time.perf_counter() - start
    kinds: dict[str, float] = {}
    for event in watched.key_averages():
        kind = next((kind for kind, marks in _KINDS.items() if any(mark in event.key for mark in marks)), "other")
        kinds[kind] = kinds.get(kind, 0.0) + event.self_cpu_time_total / 1e6
    kinds["Python"] = max(0.0, wall - sum(kinds.values()))
    return {"photos_per_second": rate, "shares": {kind: value / wall for kind, value in kinds.items()}}


def main() -> None:
    """Measure, print the table, and write all figures to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write all figures to this file, which must be new")
    parser.add_argument("--data", action="append", help="a data set or folder; may be repeated [default: tiny5]")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated [default: all]")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of one sample of speed [default: 20]")
    parser.add_argument("--repeats", type=int, default=3, help="samples of each thing [default: 3]")
    parser.add_argument("--no-keras", action="store_true", help="leave Keras out even where it is installed")
    parser.add_argument("--retrain", action="store_true", help="also train the report's network in Keras to the end")
    parser.add_argument("--root", type=Path, help="folder to look for data in first")
    options = parser.parse_args()
    if options.json and options.json.exists():
        parser.error(f"{options.json} exists")
    result = run(
        options.part or PARTS, sets=options.data or ["tiny5"], root=options.root, seconds=options.seconds,
        repeats=options.repeats, keras=not options.no_keras, retrain=options.retrain,
        say=lambda text: print(text, file=sys.stderr),
    )  # fmt: skip
    print(table(result))
    if options.json:
        files.write_json(options.json, result)


_TASKS = ("sample", "fit", "profile")


def work() -> None:
    """Take one sample in this process and print it as a JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=_TASKS)
    parser.add_argument("name")
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--size", type=int)
    parser.add_argument("--count", type=int, help="measure on so many photos of noise")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--one-resolution", action="store_true")
    parser.add_argument("--precision")
    options = parser.parse_args()
    system.keep_freed()
    chosen = plan(options.name, size=options.size, epochs=options.epochs)
    recipe = replace(chosen.recipe, resolutions=()) if options.one_resolution else chosen.recipe
    recipe = replace(recipe, precision=options.precision or recipe.precision)
    photos = (
        noise(options.count, chosen.size)
        if options.count
        else data.load(options.data, size=chosen.size, root=options.root, progress=False)
    )
    model = models.create(options.name, len(photos.classes), seed=options.seed, size=chosen.size)
    if options.task == "sample":
        figures: dict[str, Any] = {"photos_per_second": training.speed(model, photos, recipe, seconds=options.seconds)}
    elif options.task == "profile":
        figures = _profile(options.name, photos, options.seconds)
    else:
        done = training.fit(model, photos, recipe, seed=options.seed, test_each_epoch=True, progress=False)
        truth = photos.test.labels
        by_epoch = [evaluation.accuracy(torch.tensor(guess), truth) for guess in done.test_predictions]
        spent = np.cumsum(done.history["seconds"]).tolist()
        figures = {"curve": list(zip(spent, by_epoch, strict=True)), "accuracy": done.accuracy}
    figures["precision"] = training.precision(recipe, torch.device("cpu"))
    figures["peak_mb"] = system.peak_mb()
    print(json.dumps(figures))


if __name__ == "__main__":
    work() if sys.argv[1:] and sys.argv[1] in _TASKS else main()
