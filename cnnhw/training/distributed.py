"""One run on several processes: started by ``torchrun``, which tells each process its place by environment variables.

Each step's batch is shared out: a process computes the gradient of its own photos, and the gradients are averaged so
that the step is that of the whole batch. All processes hold the same weights at all times; the first one writes.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cnnhw.errors import TrainingError

__all__ = [
    "average_buffers",
    "broadcast",
    "count",
    "device",
    "gathered",
    "launched",
    "local_first",
    "rank",
    "session",
    "share",
    "summed",
]

_PATIENCE = datetime.timedelta(minutes=10)
"""How long a process waits for the others; loading a data set for the first time is part of it."""

_LOST = (
    "another process of this run has ended: its own message, if it had one, says why. Training stops in all of them; "
    "the checkpoint of the last whole epoch is kept: start the same command with --resume to go on from it"
)


def launched() -> bool:
    """Return whether ``torchrun`` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def count() -> int:
    """Return how many processes train together: 1 unless inside :func:`session`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if count() > 1 else 0


def device(name: str = "auto") -> torch.device:
    """Return where to compute.

    Parameters
    ----------
    name : str
        ``"auto"``: a GPU if PyTorch finds one (CUDA or MPS), else the CPU; or the name of a device, such as ``"cpu"``,
        ``"cuda"``, ``"cuda:1"`` or ``"mps"``. Of several processes on a machine, each gets a GPU of its own.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    TrainingError
        If there is no such device here.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    here = "cpu" if found is None else f"cpu and {found.type}"
    try:
        chosen = (found or torch.device("cpu")) if name == "auto" else torch.device(name)
    except RuntimeError:
        raise TrainingError(f"{name!r} is not the name of a device; here are {here}") from None
    if chosen.type == "cpu":
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    index = local if chosen.index is None else chosen.index
    there = torch.accelerator.device_count() if found is not None and chosen.type == found.type else 0
    if index < there:
        return torch.device(chosen.type, index) if chosen.type == "cuda" else chosen
    if launched() and there:
        raise TrainingError(
            f"there is no {chosen.type} device for process {local} of this machine, which has {there}: "
            "start at most that many with --nproc-per-node"
        )
    raise TrainingError(f"there is no device {name!r} here: leave --device out, or choose among {here}")


@contextlib.contextmanager
def session(where: torch.device) -> Iterator[None]:
    """Join the processes that ``torchrun`` started; do nothing where it did not start several.

    Parameters
    ----------
    where : torch.device
        The device of this process: NCCL connects CUDA devices, gloo all others.

    Raises
    ------
    TrainingError
        If another process ends before the block does.
    """
    if not launched():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise TrainingError(_LOST)

    before = signal.signal(signal.SIGTERM, end)  # which torchrun sends to those that are left
    try:
        if where.type == "cuda":
            torch.cuda.set_device(where)
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=_PATIENCE)
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(name in str(error) for name in ("gloo", "NCCL", "peer")):
            raise TrainingError(_LOST) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if dist.is_initialized():
            dist.destroy_process_group()


@contextlib.contextmanager
def local_first() -> Iterator[None]:
    """Let the first process of each machine go ahead, so that the others find its files."""
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if count() > 1 and not first:
        dist.barrier()
    yield
    if count() > 1 and first:
        dist.barrier()


def share(total: int) -> slice:
    """Return which of `total` things, in order, are this process's.

    Parameters
    ----------
    total : int
        How many there are.

    Returns
    -------
    slice
        The shares of all processes are next to each other and differ by one at most; one may be empty.
    """
    return slice(total * rank() // count(), total * (rank() + 1) // count())


def gathered(part: Tensor) -> Tensor:
    """Return the parts of all processes, one after the other.

    Parameters
    ----------
    part : Tensor of shape (N, ...)
        This process's part, on the CPU; N may differ from process to process.

    Returns
    -------
    Tensor of shape (sum of all N, ...)
        The same in all processes.
    """
    if count() == 1:
        return part
    parts: list[Any] = [None] * count()
    dist.all_gather_object(parts, part)
    return torch.cat(parts)


def summed(values: Tensor) -> Tensor:
    """Return the sum of `values` over all processes: Tensor of the same shape."""
    if count() > 1:
        dist.all_reduce(values)
    return values


def broadcast(value: Any) -> Any:
    """Return the first process's `value` in all processes."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def average_buffers(module: nn.Module) -> None:
    """Average a module's floating-point buffers over all processes, in place.

    The running statistics of batch norms, that is: each process has seen other photos.

    Parameters
    ----------
    module : nn.Module
        The same module in all processes.
    """
    if count() == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(summed(buffer.clone()) / count())
