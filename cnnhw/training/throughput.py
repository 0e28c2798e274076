"""How fast this machine trains ``fast`` and ``best``, and how many epochs there is time for: ``cnnhw bench``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from cnnhw import system
from cnnhw.training import presets
from cnnhw.training.mixed_precision import precision

__all__ = ["MINUTES", "measure", "table"]

MINUTES = 10
"""The budget that epochs are counted for."""


def measure(
    counts: Mapping[str, int], *, seconds: float = 5.0, repeats: int = 3, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure photos a second at each size that the presets train at, and the epochs in ``MINUTES`` by data set."""
    plans = [presets.plan("fast"), *(presets.plan("best", size=size) for size in presets.SIZES)]
    samples: list[list[list[float]]] = [[] for _ in plans]
    for turn in range(1, repeats + 1):
        say(f"turn {turn} of {repeats}")
        for plan, found in zip(plans, samples, strict=True):
            found.append(presets.rates(plan.model, plan.size, seconds))
    machine = {"processor": system.processor(), "threads": torch.get_num_threads(), "memory_gb": system.installed_gb()}
    rows = [
        {
            "model": plan.model,
            "size": plan.size,
            "precision": precision(plan.recipe, torch.device("cpu")),
            "photos_per_second": [rates[-1] for rates in found],
            "epochs": {name: [presets.affordable(rates, n, MINUTES) for rates in found] for name, n in counts.items()},
        }
        for plan, found in zip(plans, samples, strict=True)
    ]
    return {
        "date": system.now(),
        "machine": machine | {"versions": system.versions()},
        "photos": dict(counts),
        "seconds": seconds,
        "throughput": rows,
    }


def table(result: Mapping[str, Any]) -> str:
    """Return what :func:`measure` found as lines of text."""
    machine = result["machine"]
    heads = [f"epochs of {name} in {MINUTES} min" for name in result["photos"]]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, {machine['memory_gb'] or 'unknown'} GB of memory",
        *(f"{name}: {count:,} photos to train on" for name, count in result["photos"].items()),
        "",
        "  ".join([f"{'':34}{'photos/s':>22}", *heads]),
    ]
    for row in result["throughput"]:
        what = f"{row['model']} at {row['size']} pixels in {row['precision']}"
        epochs = (int(statistics.median(values)) for values in row["epochs"].values())
        cells = [f"{number:{len(head)}}" for number, head in zip(epochs, heads, strict=True)]
        lines.append("  ".join([f"{what:34}{_spread(row['photos_per_second']):>22}", *cells]))
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
