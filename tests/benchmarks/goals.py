"""How accurate ``cnnhw train`` gets on the book's photos in a given time, and whether that was the goal.

``CNNHW_DATA=FOLDER python tests/benchmarks/goals.py --json goals.json`` trains, one network at a time, what
:data:`cnnhw.book.benchmarks.GOALS` lists, on processors that have nothing else to do; with every seed that is an hour.
The file is written after each training; started again on the same machine, the command measures what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cnnhw import files, system
from cnnhw.book import benchmarks


def measure(model: str, data: str, minutes: float, seed: int) -> dict[str, Any]:
    """Train as ``cnnhw train --minutes`` does, in a process of its own; return what it reached, and its seconds."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        command = ["train", model, "--data", data, "--minutes", minutes, "--seed", seed, "--out", out]
        subprocess.run([sys.executable, "-m", "cnnhw", *map(str, command)], check=True, capture_output=True)
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return {
        "model": model, "data": data, "minutes": minutes, "seed": seed, "accuracy": run["accuracy"],
        "seconds": run["seconds_total"],
    }  # fmt: skip


def main() -> None:
    """Measure what there are goals for, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file for all figures")
    parser.add_argument("--most", type=float, default=10, help="leave out goals of more minutes [default: 10]")
    options = parser.parse_args()
    machine = {"processor": system.processor(), "threads": os.cpu_count()}
    rows: list[dict[str, Any]] = []
    if options.json.exists():
        before = json.loads(options.json.read_text(encoding="utf-8"))
        if {name: before.get(name) for name in machine} != machine:
            parser.error(f"{options.json} is of another machine: name a new file")
        rows = before["runs"]
    done = {(row["model"], row["data"], row["minutes"], row["seed"]) for row in rows}
    for goal in benchmarks.GOALS:
        for seed in range(goal.seeds if goal.minutes <= options.most else 0):
            if (goal.model, goal.data, goal.minutes, seed) in done:
                continue
            rows.append(measure(goal.model, goal.data, goal.minutes, seed))
            print(json.dumps(rows[-1]), flush=True)
            files.write_json(options.json, machine | {"date": system.now(), "runs": rows})


if __name__ == "__main__":
    main()
