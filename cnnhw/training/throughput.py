"""How fast this machine trains ``fast`` and ``best``, and how many epochs there is time for: ``cnnhw bench``."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from cnnhw import system
from cnnhw.training import loop, presets

__all__ = ["MINUTES", "measure", "table"]

MINUTES = 10
"""The budget that epochs are counted for."""


def measure(
    counts: Mapping[str, int], *, seconds: float = 5.0, repeats: int = 3, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure photos a second at each size that the presets train at, with as many threads as torch has now.

    Parameters
    ----------
    counts : mapping of str to int
        Numbers of training photos, by the name of the data set: epochs that fit in ``MINUTES`` are counted for each.
    seconds : float
        Length of a sample; all rising resolutions of a recipe share it.
    repeats : int
        Samples of each network at each size, taken in turns.
    say : callable
        Gets a line of text when a turn begins.

    Returns
    -------
    dict
        Plain values: ``date``, ``machine``, ``photos`` (the counts), ``seconds``, and the rows of ``throughput`` with
        ``model``, ``size`` (pixels), ``precision`` (the number format), ``photos_per_second`` (a list, of photos at
        their whole side) and ``epochs`` (by data set, a list).

    Examples
    --------
    >>> found = measure({"mine": 500}, seconds=0.1, repeats=1, say=lambda text: None)
    >>> [(row["model"], row["size"]) for row in found["throughput"]]
    [('fast', 64), ('best', 64), ('best', 96), ('best', 128)]
    """
    plans = [presets.plan("fast"), *(presets.plan("best", size=size) for size in presets.SIZES)]
    samples: list[list[list[float]]] = [[] for _ in plans]
    for turn in range(1, repeats + 1):
        say(f"turn {turn} of {repeats}")
        for plan, found in zip(plans, samples, strict=True):
            found.append(presets.rates(plan.model, plan.size, seconds))
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": system.processor(),
            "threads": torch.get_num_threads(),
            "memory_gb": system.installed_gb(),
            "versions": system.versions(),
        },
        "photos": dict(counts),
        "seconds": seconds,
        "throughput": [
            {
                "model": plan.model,
                "size": plan.size,
                "precision": loop.precision(plan.recipe, torch.device("cpu")),
                "photos_per_second": [rates[-1] for rates in found],
                "epochs": {
                    name: [presets.affordable(rates, count, MINUTES) for rates in found]
                    for name, count in counts.items()
                },
            }
            for plan, found in zip(plans, samples, strict=True)
        ],
    }


def table(result: Mapping[str, Any]) -> str:
    """Return what :func:`measure` found as lines of text."""
    machine = result["machine"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, {machine['memory_gb'] or 'unknown'} GB of memory",
        *(f"{name}: {count:,} photos to train on" for name, count in result["photos"].items()),
        "",
        f"{'':40}{'photos/s':>26}" + "".join(f"  epochs of {name} in {MINUTES} min" for name in result["photos"]),
    ]
    for row in result["throughput"]:
        what = f"{row['model']} at {row['size']} pixels in {row['precision']}"
        line = f"{what:40}{_spread(row['photos_per_second']):>26}"
        for name, epochs in row["epochs"].items():
            line += f"{int(statistics.median(epochs)):{len(f'  epochs of {name} in {MINUTES} min')}}"
        lines.append(line)
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
