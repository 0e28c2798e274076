"""The release: one version everywhere, and a wheel and an sdist that hold what they should, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import cnnhw

ROOT = Path(__file__).parents[1]
if not (ROOT / "CHANGELOG.md").exists():
    pytest.skip("needs the repository", allow_module_level=True)
pytestmark = pytest.mark.xdist_group("release")  # sdist and wheel are built once
VERSION = cnnhw.__version__
TRASH = (
    "docs/_build/html/index.html",
    "docs/_static/generated/scenes-1.png",
    "docs/api/generated/cnnhw.fit.rst",
    "docs/auto_examples/plot_x.rst",
    "docs/sg_execution_times.rst",
    "docs/cnnhw_docs/__pycache__/x.cpython-311.pyc",
    "cnnhw/__pycache__/x.cpython-311.pyc",
    "tests/__pycache__/x.cpython-311.pyc",
    ".mypy_cache/x.json",
    ".pytest_cache/README.md",
    ".ruff_cache/x",
    "build/lib/cnnhw/x.py",
    "dist/cnnhw-0.0.1.tar.gz",
    "runs/fast-scenes-0/weights.safetensors",
)
"""What work leaves behind in a checkout."""
MEGABYTES = 20
"""Limit of either file: there are at most 12 MB of weights, and the records."""


def headings() -> list[str]:
    return re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = dict(re.findall(r"^(\S+): +(.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE))
    assert project["version"] == VERSION
    assert citation["version"] == VERSION
    assert headings()[0].split()[0] == VERSION
    assert project["license"] == citation["license"]


def test_changelog_heads_versions_newest_first():
    versions = []
    for number, heading in enumerate(headings()):
        found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \((\d{4}-\d\d-\d\d|unreleased)\)", heading)
        assert found, heading
        assert number == 0 or found[4] != "unreleased", heading
        versions.append(tuple(map(int, found.groups()[:3])))
    assert versions == sorted(set(versions), reverse=True)


def test_citation_has_the_date_of_the_release():
    date = re.search(r'^date-released: "(\d{4}-\d\d-\d\d)"$', (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert date
    assert headings()[0].endswith((f"({date[1]})", "(unreleased)"))


def in_git(*places: str) -> set[str]:
    """Return what is, or would be, committed."""
    listing = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *places]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel, from a copy of the repository that has been worked in."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs the git repository")
    for library in ("build", "hatchling"):
        pytest.importorskip(library)
    copy, out = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("dist")
    for name in in_git():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for name in TRASH:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("left behind")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / f"cnnhw-{VERSION}.tar.gz", out / f"cnnhw-{VERSION}-py3-none-any.whl"


@pytest.mark.slow
def test_sdist_holds_what_is_in_git_and_no_more(built, figures):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    places = ("cnnhw", "docs", "examples", "tests", "README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md")
    assert names == in_git(*places) | {"pyproject.toml", ".gitignore", "PKG-INFO"}
    assert built[0].stat().st_size < MEGABYTES * 1e6
    figures("release", sdist_files=len(names), sdist_mb=round(built[0].stat().st_size / 1e6, 1))


@pytest.mark.slow
def test_wheel_holds_the_package_and_no_more(built, figures):
    with zipfile.ZipFile(built[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(f"cnnhw-{VERSION}.dist-info/METADATA").decode()
    records = {f"cnnhw/{name.removeprefix('docs/')}" for name in in_git("docs/records")}
    assert names == in_git("cnnhw") | records
    assert {"cnnhw/py.typed", "cnnhw/book/original_report.json", "cnnhw/weights/fast.safetensors"} < names
    assert "\n# cnnhw: convolutional networks, questioned\n" in metadata
    assert built[1].stat().st_size < MEGABYTES * 1e6
    figures("release", wheel_files=len(names), wheel_mb=round(built[1].stat().st_size / 1e6, 1))


@pytest.mark.slow
def test_metadata_are_accepted_by_package_indexes(built):
    pytest.importorskip("twine")
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *built], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
