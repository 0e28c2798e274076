"""One run on several processes: started by ``torchrun``, which tells each process its place by environment variables.

Each step's batch is shared out: a process computes the gradient of its own photos, and the gradients are averaged so
that the step is that of the whole batch. All processes hold the same weights at all times; the first one writes.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cnnhw.errors import TrainingError
from cnnhw.training.optimizers import Update
from cnnhw.training.step import Criterion, Network, Step

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
    "shared",
    "summed",
    "used",
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
    """
    if not launched():
        yield
        return

    # Its default arguments take hold of the group that exists when it is first imported, which DistributedDataParallel
    # does. A group that is held outlives its end, and its threads sometimes abort a process that exits.
    importlib.import_module("torch.distributed.nn.functional")

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
    """Return which of `total` things, in order, are this process's; shares differ by one at most and may be empty."""
    return slice(total * rank() // count(), total * (rank() + 1) // count())


def used(total: int) -> slice:
    """Return which of `total` photos of a batch this process computes: its share, and two at least for batch norm."""
    own = share(total)
    start = max(0, min(own.start, total - 2))
    return own if own.stop > own.start + 1 else slice(start, min(start + 2, total))


def shared(step: Step, weights: Tensor | None = None) -> Step:
    """Wrap a step so that each process takes its part of it, and the gradients are those of the whole batch."""

    def part(x: Tensor, y: Tensor, network: Network, criterion: Criterion, optimizer: Update) -> tuple[Tensor, Tensor]:
        own, held = share(len(y)), used(len(y))
        inner = slice(own.start - held.start, own.stop - held.start) if own.stop > own.start else slice(0, 1)
        counted = slice(held.start + inner.start, held.start + inner.stop)  # one photo of no weight, of an empty share

        def network_of_part(x: Tensor) -> Tensor:
            return network(x[held] if len(x) == len(y) else x)  # (b, K), b of B photos

        def loss_of_part(logits: Tensor, labels: Tensor) -> Tensor:
            # the mean over the batch is the sum over processes of their means, by the share of each; gradients are
            # averaged over processes
            return criterion(logits[inner], labels[counted]) * _portion(weights, labels, own) * count()

        loss, logits = step(x, y, network_of_part, loss_of_part, optimizer)
        return loss / count(), logits[inner][: own.stop - own.start]

    return part


def _portion(weights: Tensor | None, labels: Tensor, own: slice) -> Tensor:
    """Return the share of this process's photos in a batch's mean loss; classes may have weights."""
    counted = torch.ones_like(labels, dtype=torch.float32) if weights is None else weights[labels]
    return counted[own].sum() / counted.sum()


def gathered(part: Tensor) -> Tensor:
    """Return the parts of all processes, which may differ in length, one after the other."""
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
    """Average a module's floating-point buffers (running statistics of batch norms) over all processes, in place."""
    if count() == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(summed(buffer.clone()) / count())
