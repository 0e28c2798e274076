"""Stamp the first edition's records anew, once: the fingerprint of definitions takes the place of that of files.

A record gets the stamp of the present code where all of this holds:

* its old stamp, computed by the old code on Python 3.11, says that the canary repeated its arm with the old code;
* of what the new fingerprint covers and the old one did not, nothing has changed since the canary's commit;
* of the functions that measured its networks, nothing that the canary does not cover has changed since the commit
  that the record came with; or a whole run of the study, repeated, gave the record's figures again (see REPEATED).

All others stay as they are, and are said to be measured with other code. Give the last commit with the old stamps:
``python tools/stamp.py 3b7404f 870b00c``: that commit, and the one of the canaries.
"""

from __future__ import annotations

import collections
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cnnhw import studies
from cnnhw.studies import measures, store
from cnnhw.studies.fingerprint import Code

NOW = Code()
# studies whose records came on another branch than the functions that measured them: the functions' first commit
MEASURED = {"length": "232ba77", "transition": "2713872"}
# a whole run of each, repeated by the present code, gave the same predictions and figures: q4's channels, seed 11
REPEATED = ("q4",)
ROOT = Path(__file__).resolve().parents[1]
OLD_STAMPS = """
import json
from cnnhw import studies
print(json.dumps([f"{r.study}/{r.path.name}" for r in studies.records() if r.repeated_by_present_code()]))
"""


def git(*words: str) -> str:
    """Return what git says."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def old_stamps(commit: str) -> set[str]:
    """Return the records whose arm the code of a commit was seen to repeat, by that code itself."""
    with tempfile.TemporaryDirectory() as folder:
        git("worktree", "add", "--detach", folder, commit)
        try:
            found = subprocess.run(
                [sys.executable, "-c", OLD_STAMPS], cwd=folder, env={"PYTHONPATH": folder, "HOME": folder},
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        finally:
            git("worktree", "remove", "--force", folder)
    return set(json.loads(found.stdout))


def dotted(function: Callable[..., object]) -> str:
    """Return the dotted name of a function, or of what a partial one calls."""
    function = getattr(function, "func", function)
    return f"{function.__module__}.{function.__qualname__}"


@functools.cache
def code_at(commit: str) -> Code:
    """Return the package's code as it was."""
    there = set(git("ls-tree", "-r", "--name-only", commit, "cnnhw").split())

    def source(module: str) -> str | None:
        place = module.replace(".", "/")
        path = next((path for path in (f"{place}.py", f"{place}/__init__.py") if path in there), None)
        return git("show", f"{commit}:{path}") if path else None

    return Code(source)


@functools.cache
def reached(roots: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """Return what the roots reach now."""
    return NOW.reached(roots)


@functools.cache
def changed(roots: tuple[str, ...], commit: str) -> list[str]:
    """Return what the roots reach now that was not the same at a commit."""
    now = reached(roots)
    try:
        before = code_at(commit).reached(roots)
    except LookupError as error:
        return [str(error)]
    return [".".join(key) for key, text in now.items() if before.get(key) != text]


def main(old: str, canaries: str) -> None:
    """Stamp the records of the checkout."""
    if sys.version_info[:2] != (3, 11):
        sys.exit("the old stamps hold on Python 3.11 alone")
    repeated = old_stamps(old)
    added: dict[str, str] = {}
    for line in git(
        "log", "-m", "--reverse", "--format=@%H", "--name-only", "--no-renames", "--diff-filter=A", "--", "docs/records"
    ).splitlines():
        if line.startswith("@"):
            commit = line[1:]
        elif line:
            added.setdefault("/".join(line.split("/")[-2:]), commit)
    said: collections.Counter[str] = collections.Counter()
    for name in studies.names():
        study = studies.get(name)
        jobs = {job.key: job for job in study.jobs()}
        measured = tuple(map(dotted, map(measures.function, study.measures)))
        measured += ("cnnhw.studies.measures.Drift",) if study.drift else ()
        for record in studies.records(name):
            own, job = f"{name}/{record.path.name}", jobs[record.key]
            begins = tuple(name for name in map(dotted, job.begins) if name not in measured)
            run = {".".join(key) for key in reached(begins)}
            why = []
            if own not in repeated:
                why = ["the canary never covered it"]
            elif different := changed(begins, canaries):
                why = [f"changed since the canary: {', '.join(different)}"]
            elif name not in REPEATED and (
                different := [x for x in changed(measured, MEASURED.get(name, added[own])) if x not in run]
            ):
                why = [f"changed since it was measured: {', '.join(different)}"]
            said[f"{name}: {why[0] if why else 'stamped'}"] += 1
            if not why and "--write" in sys.argv:
                note = record.content["canary"]
                store.write_canary(record, job.code, note["difference"], note["seed"])
    for text, count in sorted(said.items()):
        print(f"{count:5} {text}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
