"""The machine: its memory and processor, the allocator, and versions of packages."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["installed_gb", "keep_freed", "now", "peak_mb", "processor", "versions"]

# names and numbers from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed() -> None:
    """Make glibc keep freed memory, so that the next training step can reuse it; do nothing on other systems.

    By default glibc gives large blocks back to the system at once, and each step gets fresh pages, which the system has
    to clear first: up to a third of the time of a step. Resident memory stays at its peak instead.
    Blocks of 128 MB (2**27 bytes) or more are given back: kept ones get cut up for smaller blocks, so that memory would
    grow beyond what is ever in use at a time.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**27)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 2**28)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Have torch compute with so many threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def now() -> str:
    """Return date and time to the second, in UTC: ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def peak_mb() -> int:
    """Return the peak resident memory of this process in MB (2**20 bytes), mapped files included."""
    if sys.platform == "linux":  # ru_maxrss would count the parent's memory, too
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset // 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


def installed_gb() -> float:
    """Return the machine's memory in GB (2**30 bytes)."""
    import psutil

    return round(psutil.virtual_memory().total / 2**30, 1)


def processor() -> str:
    """Return the processor's name, if the operating system reports it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions that a result can depend on."""
    packages = ("cnnhw", "torch", "numpy", "pillow")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
