"""The process that runs one job of a study: ``python -m cnnhw.book.worker STUDY KEY [FOLDER]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from filelock import Timeout

from cnnhw import system
from cnnhw.book.registry import get
from cnnhw.errors import CnnhwError
from cnnhw.studies.queue import BUSY, run_job


def main(study: str, key: str, where: str = "") -> int:
    """Run the job of `study` with that `key`; return the exit code."""
    system.keep_freed()
    job = next(job for job in get(study).jobs() if job.key == key)
    try:
        run_job(job, Path(where) if where else None, on_epoch=_tell)
    except Timeout:
        return BUSY
    except CnnhwError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _tell(epoch: int, row: dict[str, float]) -> None:
    print(json.dumps({"epoch": epoch, **row}), flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
