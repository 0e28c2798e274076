"""The trained networks that come with the package: which run of which study each is, and its model card."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnhw import evaluation, studies
from cnnhw.book import registry
from cnnhw.errors import CnnhwError, UnknownNameError, WeightsError
from cnnhw.models import weights
from cnnhw.studies.store import Record
from cnnhw.studies.study import Job

__all__ = ["NETWORKS", "Shipped", "card", "get", "job", "names", "path", "record"]


@dataclass(frozen=True)
class Shipped:
    """A trained network that comes with the package: the run of a study."""

    model: str
    study: str
    arm: str
    seed: int
    description: str  # in one sentence
    limits: str  # besides what holds for all
    chapter: str  # the page of the book that the run was made for


_HALF = "It saw half of the training photos, as all networks of its study did."
_QUARTER = "It saw a quarter of the training photos, as all networks of its study did."

NETWORKS: dict[str, Shipped] = {
    "q1_shallow": Shipped(
        "q1_shallow", "q1", "q1_shallow", 0,
        "The report's shallow network for Q1, trained as the report did: Adam at a constant rate, no augmentation.",
        "It is for comparisons with the report, not the network to start from.",
        "auto_examples/plot_q1_cnn",
    ),
    "fast": Shipped(
        "fast", "q1_final", "final", 200,
        "The small residual network that Q1's search ends with, trained by the fast recipe for 15 epochs.",
        "Its first layer is the whitening of its training photos, computed and not learnt.",
        "auto_examples/plot_q1_cnn",
    ),
    "residual": Shipped(
        "residual", "i_span", "span2", 200,
        "A residual network of 24 convolutions in two stages, each connection of which skips two, from theory i.",
        _HALF,
        "auto_examples/plot_i_residual_length",
    ),
    "dense": Shipped(
        "dense", "ii_pooling", "average", 200,
        "A small DenseNet whose transition layers average, from theory ii.",
        _QUARTER,
        "auto_examples/plot_ii_transition_pooling",
    ),
    "plain": Shipped(
        "plain", "design", "base", 0,
        "A plain network of four convolutions with averaging before its classifier, from theory iii.",
        _HALF,
        "auto_examples/plot_iii_extractor_and_classifier",
    ),
    "first_layer": Shipped(
        "first_layer", "q3_edges", "learnt_7", 200,
        "A network of three convolutions, the first with 16 kernels of 7x7 pixels that can be looked at, from Q3.",
        _HALF,
        "auto_examples/plot_q3_feature_maps",
    ),
    "inception": Shipped(
        "fast_inception", "q4_modules", "macs", 200,
        "The fast recipe's network with an Inception module of as many multiply-adds for each convolution, from Q4.",
        _QUARTER,
        "auto_examples/plot_q4_inception",
    ),
    "resnet": Shipped(
        "resnet", "q2_depth", "d8_residual", 200,
        "A residual network of depth 8 for small photos, from Q2.",
        _HALF,
        "auto_examples/plot_q2_residual",
    ),
}  # fmt: skip
"""The shipped networks by name."""


def names() -> list[str]:
    """Return the names of the shipped networks, sorted."""
    return sorted(NETWORKS)


def get(name: str) -> Shipped:
    """Return which run a shipped network is, one of :func:`names`; an UnknownNameError if there is no such network."""
    if name not in NETWORKS:
        raise UnknownNameError("shipped network", name, NETWORKS)
    return NETWORKS[name]


def path(name: str) -> Path:
    """Return the weights file of a shipped network, inside the package."""
    get(name)
    return weights.SHIPPED / f"{name}.safetensors"


def job(name: str) -> Job:
    """Return the run of a study that a shipped network comes from."""
    which = get(name)
    return registry.get(which.study).job(which.arm, which.seed)


def record(name: str, where: Path | None = None) -> Record:
    """Return the record of that run, among those of a folder or else the book's; a CnnhwError if there is none."""
    which = job(name)
    for found in studies.records(which.study.name, where):
        if found.key == which.key:
            return found
    raise CnnhwError(f"{which} has no record: run it with 'cnnhw study run {which.study.name}'")


def card(name: str) -> dict[str, Any]:
    """Return a shipped network's model card, of its file's header and its run's record, as plain values."""
    which, file = get(name), path(name)
    header, this = weights.read_header(file), record(name)
    if header.get("key") != this.key:
        raise CnnhwError(f"{file} is not of the run {job(name)}: make it again with 'cnnhw study weights {name}'")
    try:
        options, classes, size = json.loads(header["options"]), json.loads(header["classes"]), int(header["size"])
        shipped_accuracy, agreement = float(header["test_accuracy"]), float(header["agreement"])
        data, licence = header["data"], header["licence"]
    except (KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"the header of {file} is damaged ({error}): install cnnhw again") from error
    keys = {other.key for other in job(name).study.jobs() if other.arm.name == which.arm}
    all_seeds = {one.seed: one.accuracy() for one in studies.records(which.study) if one.key in keys}
    content, correct = this.content, int(this.confusion().trace())
    return {
        "name": name,
        "model": which.model,
        "options": options,
        "description": which.description,
        "limits": which.limits,
        "chapter": which.chapter,
        "study": which.study,
        "arm": which.arm,
        "seed": which.seed,
        "data": data,
        "data_note": content["data"]["note"],
        "licence": licence,
        "photos": content["data"]["photos"],
        "classes": classes,
        "size": size,
        "protocols": content["configuration"].get("protocols", []),
        "recipe": content["configuration"]["recipe"],
        "accuracy": this.accuracy(),
        "accuracy_interval": evaluation.wilson_interval(correct, len(this.labels)),
        "shipped_accuracy": shipped_accuracy,
        "agreement": agreement,
        "accuracies": all_seeds,
        "mean_accuracy": statistics.fmean(all_seeds.values()),
        "lowest_accuracy": min(all_seeds.values()),
        "highest_accuracy": max(all_seeds.values()),
        "parameters": content["parameters"],
        "bytes": file.stat().st_size,
        "date": content["date"],
        "versions": content["versions"],
        "processor": content["processor"],
        "precision": content["precision"],
    }
