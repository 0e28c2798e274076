"""The page "How it is tested": it shows the figures of the last runs, and breaks the build where there are none."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx_gallery", reason="needs the docs extra")
DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from cnnhw_docs import stamp, tested

RUN = {"date": "2026-11-25T10:11:12+00:00", "python": "3.11.7", "torch": "2.14.1", "cnnhw": "0.1.0"}
TESTED = {
    "tests": {"passed": 1200, "failed": 0, "skipped": 3, "error": 0, "seconds": 545} | RUN,
    "faults": {"kills": 120, "lost": 0, "worst_resume_seconds": 1.25, "signal": "SIGKILL"} | RUN,
}
FUZZING = {
    "date": "2026-11-24T01:02:03+00:00",
    "versions": {"python": "3.11.7", "atheris": "3.0.0"},
    "minutes": 30.0,
    "inputs": 3_000_000,
    "crashes": 0,
    "limits": {"seconds": 10.0, "memory_mb": 1024},
    "targets": {
        "zip": {
            "inputs": 1_000_000,
            "crashes": 0,
            "worst_seconds": 0.5,
            "worst_memory_mb": 120.0,
            "engine": "atheris",
            "faults": [],
            "inputs_by_engine": {"atheris": 1_000_000},
        },
        "weights": {"inputs": 2_000_000, "crashes": 0, "worst_seconds": 0.25},
    },
}
FOUND = TESTED | {"fuzzing": FUZZING}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("faults kills", "120"),
        ("faults worst_resume_seconds", "1.25 s"),
        ("faults signal", "SIGKILL"),
        ("tests passed", "1,200"),
        ("tests seconds", "9 min 5 s"),
        ("fuzzing zip inputs", "1,000,000"),
        ("fuzzing inputs", "3,000,000"),
        ("fuzzing minutes", "30 min"),
        ("fuzzing worst_seconds", "0.5 s"),
        ("fuzzing worst_memory_mb", "120 MB"),
        ("fuzzing zip engine", "atheris"),
    ],
)
def test_role(text, expected):
    assert tested.render(text, FOUND)[0] == expected


def test_role_says_which_run():
    assert tested.render("faults kills", FOUND)[1] == (
        "suite faults, last run 2026-11-25, Python 3.11.7, torch 2.14.1, cnnhw 0.1.0"
    )
    assert tested.render("fuzzing inputs", FOUND)[1] == (
        "suite fuzzing, last run 2026-11-24, Python 3.11.7, atheris 3.0.0"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kills", "no run of the suite"),
        ("large kills", "no run of the suite 'large'; there are of faults, fuzzing, tests"),
        ("faults deaths", "no such figure; there are kills, lost, signal, worst_resume_seconds"),
        ("fuzzing tar inputs", "no such figure"),
        ("fuzzing zip", "no such figure; there are crashes, engine, inputs"),
        ("fuzzing weights engine", "no such figure; there are crashes, inputs, limits, minutes, worst_seconds"),
        ("fuzzing limits", "no such figure"),
    ],
)
def test_role_refuses_what_does_not_exist(text, message):
    with pytest.raises(ValueError, match=message):
        tested.render(text, FOUND)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inputs", "Inputs"),
        ("files_read", "Files read"),
        ("worst_resume_seconds", "Greatest resume"),
        ("read_mb", "Read"),
        ("worst", "Worst"),
    ],
)
def test_names_in_words(name, words):
    assert tested.label(name) == words


def site(folder: Path, text: str, **files: dict) -> tuple[str, str]:
    """Build a site of one page anew or once more; return its HTML and the warnings."""
    source = folder / "docs"
    source.mkdir(parents=True, exist_ok=True)
    page = source / "index.rst"
    if not page.exists():
        page.write_text(text, encoding="utf-8")
    for name, content in files.items():
        path = source / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        after = page.stat().st_mtime + 1 + len(content)
        os.utime(path, (after, after))
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        places = (source, None, folder / "html", folder / "trees", "html")
        overrides = {"extensions": ["cnnhw_docs.tested"], "html_theme": "basic"}
        Sphinx(*places, confoverrides=overrides, status=None, warning=warnings).build()
    return (folder / "html" / "index.html").read_text(encoding="utf-8"), warnings.getvalue()


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", html).split())


def test_page_shows_figures_and_run(tmp_path):
    text = "T\n=\n\nKilled :tested:`faults kills` times.\n\n.. tested:: tests\n\n.. tested:: fuzzing\n"
    html, warnings = site(tmp_path, text, tested=TESTED, fuzzing=FUZZING)
    assert not warnings
    assert '<abbr class="record" title="suite faults, last run 2026-11-25' in html
    shown = words(html)
    for expected in (
        "Killed 120 times.",
        "Tests : 1,200 passed, 3 skipped, 0 failed Time : 9 min 5 s",
        "Last run : 2026-11-25, Python 3.11.7, torch 2.14.1, cnnhw 0.1.0",
        "Target Inputs Crashes Slowest input Most memory, beyond that for valid files Engine",
        "zip 1,000,000 0 0.5 s 120 MB atheris",
        "weights 2,000,000 0 0.25 s",
        "Inputs : 3,000,000 Crashes : 0 Limits of an input : time 10 s, memory 1,024 MB Last run",
        "Last run : 2026-11-24, Python 3.11.7, atheris 3.0.0",
    ):
        assert expected in shown


def test_page_is_never_stale(tmp_path):
    text = "T\n=\n\nKilled :tested:`faults kills` times.\n"
    assert "Killed 120 times." in words(site(tmp_path, text, tested=TESTED)[0])
    changed = TESTED | {"faults": TESTED["faults"] | {"kills": 7}, "large": RUN}
    assert "Killed 7 times." in words(site(tmp_path, text, tested=changed)[0])


def test_missing_and_failed_suites_are_warnings(tmp_path):
    text = "T\n=\n\n.. tested:: large\n\n.. tested:: tests\n\n:tested:`faults x`\n"
    text += "\n.. tested:: fuzzing\n"
    failed = TESTED | {"tests": TESTED["tests"] | {"failed": 2}}
    crashed = FUZZING | {"crashes": 1}
    html, warnings = site(tmp_path, text, tested=failed, fuzzing=crashed)
    assert "no run of the suite 'large'" in warnings
    assert "no such figure" in warnings
    for suite in ("tests", "fuzzing"):
        assert f"the last run of the suite {suite!r} failed" in warnings
    assert "1,200 passed, 3 skipped, 2 failed" in words(html)


def test_new_figures_do_not_rebuild_the_whole_site(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(stamp, "DOCS", tmp_path / "docs")
    before = stamp.current()
    for name in tested.FILES:
        (tmp_path / "docs" / name).write_text("{}")
    assert stamp.current() == before


SUITE = """\
import pytest

def test_one(figures):
    figures("faults", kills=2, worst_seconds=3.0)

def test_two(figures):
    figures("faults", kills=3, worst_seconds=1.0, signal="SIGKILL")
    figures("wheel", files=1)

def test_three():
    pytest.skip("no reason")
"""


@pytest.mark.slow
def test_figures_of_a_run_are_noted(tmp_path):
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text(encoding="utf-8"))
    (folder / "test_some.py").write_text(SUITE)
    noted = tmp_path / "noted.json"
    noted.write_text(json.dumps({"large": {"files": 9}, "faults": {"old": 1}}))
    run = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(folder), str(folder)]

    # by two processes, which report to a third
    subprocess.run([*run, "--figures", noted, "-n", "2"], check=True, capture_output=True)
    found = json.loads(noted.read_text())
    assert found["large"] == {"files": 9}
    faults = found["faults"]
    assert "old" not in faults
    assert (faults["kills"], faults["worst_seconds"], faults["signal"]) == (5, 3.0, "SIGKILL")
    assert (found["tests"]["passed"], found["tests"]["skipped"], found["tests"]["failed"]) == (2, 1, 0)
    assert found["wheel"]["files"] == 1
    assert set(RUN) < set(faults)

    # a run of one suite replaces its own section only
    noted.write_text(json.dumps({"tests": {"passed": 900}, "faults": {"kills": 120}}))
    subprocess.run([*run, "--figures", noted, "--suite", "site"], check=True, capture_output=True)
    found = json.loads(noted.read_text())
    assert found["tests"] == {"passed": 900}
    assert found["faults"] == {"kills": 120}
    assert found["site"]["passed"] == 2
