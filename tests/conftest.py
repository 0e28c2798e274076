"""Fixtures that all tests share: no test touches the user's cache, small photos that can be learnt, noted figures."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnnhw
from cnnhw import files
from cnnhw.data.photoset import PhotoSet, Split

FIGURES = pytest.StashKey[dict[str, dict[str, float | str]]]()
STARTED = pytest.StashKey[float]()
NOTED = "figures"
SUITES = ("tests", "scale", "large", "faults", "hostile", "fuzzing", "site", "notebooks", "release", "wheel", "gpu")
"""The sections of the page "How it is tested"."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="JSON file to note the figures of this run in, suite by suite")
    parser.addoption(
        "--suite",
        choices=SUITES,
        default="tests",
        help="the suite that this run is of, and the only one that --figures writes; 'tests' writes all noted",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES], config.stash[STARTED] = {}, time.monotonic()
    # one thread, also of fixtures and of processes that tests start: several workers share the processors
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    config.pluginmanager.register(Notes(config.stash[FIGURES]))
    if config.getoption("--suite") == "wheel" and "site-packages" not in Path(cnnhw.__file__).parts:
        raise pytest.UsageError(f"--suite wheel tests an installed wheel, but cnnhw is imported from {cnnhw.__file__}")


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note figures of a suite for the page "How it is tested"; numbers noted twice in one run are added up.

    ``figures("faults", kills=120, lost=0)``; what is a text, or begins with ``worst_`` (the greatest counts), is not
    added. They travel with the report of the test, so that tests may run in several processes.
    """

    def note(suite: str, **values: float | str) -> None:
        assert suite in SUITES, suite
        plain = {name: value if isinstance(value, str | int) else float(value) for name, value in values.items()}
        request.node.user_properties.append((NOTED, [suite, plain]))

    return note


@pytest.fixture(scope="module")
def browser():
    """A browser with a camera that shows a test picture."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", *camera])
        yield opened
        opened.close()


class Notes:
    """Adds up the figures of all tests, in the process that all of them report to."""

    def __init__(self, noted: dict[str, dict[str, float | str]]) -> None:
        self.noted = noted

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":  # each report of a test says all that was noted so far
            return
        for name, noted in report.user_properties:
            if name == NOTED:
                suite, values = noted
                self.add(suite, values)

    def add(self, suite: str, values: Mapping[str, float | str]) -> None:
        section = self.noted.setdefault(suite, {})
        for name, value in values.items():
            before = section.get(name)
            if isinstance(value, str) or before is None:
                section[name] = value
            else:
                section[name] = max(before, value) if name.startswith("worst_") else before + value


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    """Merge the figures into the file that ``--figures`` names, suites that did not run left as they were."""
    path = config.getoption("--figures")
    if path is None:
        return
    noted, suite = config.stash[FIGURES], config.getoption("--suite")
    outcomes = {what: len(terminalreporter.stats.get(what, ())) for what in ("passed", "failed", "skipped", "error")}
    noted.setdefault(suite, {}).update(outcomes, seconds=round(time.monotonic() - config.stash[STARTED]))
    if suite != "tests":  # a run of one suite knows only a part of the others
        noted = {suite: noted[suite]}
    run = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cnnhw": cnnhw.__version__,
    }
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    files.write_json(path, before | {suite: values | run for suite, values in noted.items()})


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Give each test a cache folder of its own, and no data of the machine's."""
    monkeypatch.setenv("CNNHW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNHW_DATA", raising=False)


@pytest.fixture(autouse=True)
def one_thread():
    """Compute with one thread, so that results do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_photos(train: int = 60, size: int = 16, classes: int = 3, seed: int = 0) -> PhotoSet:
    """Make photos whose class is the direction of a bright stripe plus noise: learnable, but not in one step."""
    generator = torch.Generator().manual_seed(seed)
    validation, test = train // 3, train // 2
    total = train + validation + test
    labels = torch.arange(total) % classes
    images = torch.randint(0, 120, (total, 3, size, size), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        at = int(torch.randint(0, size - 1, (), generator=generator))
        if label == 0:
            images[i, :, at : at + 2, :] += 90
        elif label == 1:
            images[i, :, :, at : at + 2] += 90
        else:
            images[i, label % 3, :: label + 1] += 60

    def split(start: int, stop: int) -> Split:
        rows = torch.arange(start, stop)
        names = tuple(f"{i}.png" for i in rows.tolist())
        return Split(images, rows, labels[start:stop], names, tuple(f"{seed}-{size}-{name}" for name in names))

    return PhotoSet(
        "stripes",
        tuple(f"class {i}" for i in range(classes)),
        size,
        split(0, train),
        split(train, train + validation),
        split(train + validation, total),
    )


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of two classes of photos, and work beside it."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cats", "dogs")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            photo = rng.integers(0, 150, (16, 16, 3), dtype=np.uint8)
            photo[:: label + 2] += 60
            Image.fromarray(photo).save(tmp_path / "pets" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pets"


@pytest.fixture
def photos() -> PhotoSet:
    return make_photos()


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the ``cnnhw`` command in this process; return exit code, output and errors."""
    from cnnhw import cli

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["cnnhw", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return call
