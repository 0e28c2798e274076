"""Measure what the package promises about speed: ``python tests/benchmarks/package.py [FOLDER]``.

FOLDER holds ``tiny-imagenet-200.zip`` (else ``$CNNHW_DATA`` is searched). Nothing is asserted: a busy machine would
make such tests fail. Figures are medians of a few repeats, on otherwise idle processors.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time that `work` takes."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def importing() -> None:
    def run(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    bare, ours = seconds(run("torch")), seconds(run("cnnhw"))
    print(f"import torch {bare:.2f} s, import cnnhw {ours:.2f} s: {ours - bare:.2f} s more")


def loading(folder: str | None) -> None:
    for size in (64, 128):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["CNNHW_CACHE"] = cache
            code = (
                "import time, cnnhw, resource; t = time.perf_counter();"
                f"p = cnnhw.data.load('tiny5', size={size}, root={folder!r}, progress=False);"
                "n = len(p.train) + len(p.validation) + len(p.test); t = time.perf_counter() - t;"
                "m = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20;"
                "print(f'{n:,} photos in {t:.2f} s, {n / t:,.0f} photos/s; peak memory {m:.2f} GB')"
            )
            for what in ("first", "cached"):
                print(f"tiny5 at {size} px, {what}: ", end="", flush=True)
                subprocess.run([sys.executable, "-c", code], check=True)


def training() -> None:
    import cnnhw
    from cnnhw.data import scenes

    cnnhw.system.keep_freed()  # for both sides
    photos = scenes.load(train=1600, test=100, progress=False)
    batches = len(photos.train) // 32
    x, y = torch.rand(32, 3, 128, 128), torch.randint(0, 5, (32,))

    def bare() -> None:
        """Take the steps of one epoch on one batch, with no data handling at all."""
        model = cnnhw.models.create("q1_shallow").to(memory_format=torch.channels_last)
        batch = x.contiguous(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7, fused=True)
        for _ in range(batches):
            optimizer.zero_grad()
            F.cross_entropy(model(batch), y).backward()
            optimizer.step()

    def fit() -> float:
        run = cnnhw.fit(cnnhw.models.create("q1_shallow"), photos, cnnhw.Recipe(epochs=1), progress=False)
        return run.seconds / len(photos.train)

    bare()
    pairs = [(seconds(bare, 1) / (batches * 32), fit()) for _ in range(7)]
    ratios = sorted(ours / theirs for theirs, ours in pairs)
    print(
        f"q1_shallow at 128 px, {torch.get_num_threads()} threads: bare loop {1 / pairs[3][0]:.0f} photos/s, "
        f"fit takes {statistics.median(ratios):.3f} times as long ({ratios[0]:.3f} to {ratios[-1]:.3f}); "
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB"
    )


def drawing() -> None:
    from cnnhw.data import scenes

    print(f"8,000 scenes at 128 px drawn in {8 * seconds(lambda: scenes.draw(1000), 3):.1f} s")


if __name__ == "__main__":
    importing()
    loading(sys.argv[1] if len(sys.argv) > 1 else None)
    with tempfile.TemporaryDirectory() as own:
        os.environ["CNNHW_CACHE"] = own
        training()
    drawing()
