"""What a study measures on its trained networks, beside accuracy: figures that claims can be made about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from cnnhw import evaluation, models, robustness, theory
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import UnknownNameError
from cnnhw.models.blocks import Classifier

__all__ = ["compute", "names"]

_PHOTOS = 256  # for gradients
_DRAWS = 8  # of blocks to delete


def names() -> list[str]:
    """Return the names of all groups of measures, sorted."""
    return sorted(_GROUPS)


def compute(
    groups: Sequence[str], model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]
) -> dict[str, float]:
    """Measure a trained network.

    Parameters
    ----------
    groups : sequence of str
        Any of :func:`names`.
    model : Classifier
        The network.
    photos : PhotoSet
        What it was trained on.
    configuration : mapping
        What it was trained with: model, options and seed give the network as it was at the start.

    Returns
    -------
    dict of str to float
        One or more figures for each group.

    Raises
    ------
    UnknownNameError
        If there is no such group.
    """
    found: dict[str, float] = {}
    for group in groups:
        if group not in _GROUPS:
            raise UnknownNameError("group of measures", group, _GROUPS)
        found |= _GROUPS[group](model, photos, configuration)
    return {name: round(value, 6) for name, value in found.items()}


def _path_length(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    order = torch.randperm(len(photos.train), generator=torch.Generator().manual_seed(0))[:_PHOTOS]
    images, labels = to_float(photos.train.batch(order)), photos.train.labels[order]
    fresh = models.create(
        configuration["model"], len(photos.classes), seed=configuration["seed"], size=photos.size,
        **configuration.get("options", {}),
    )  # fmt: skip
    return {
        "path length at start": theory.measured_path_length(fresh, images, labels),
        "path length": theory.measured_path_length(model, images, labels),
    }


def _lesions(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    span = configuration.get("options", {}).get("span", 2)
    found = {}
    for count in (2, 4, 6, 12):
        if span and count % span:
            continue
        cut = [theory.delete_blocks(model, count, draw) for draw in range(_DRAWS)]
        right = [evaluation.accuracy(evaluation.predict(one, photos.test).argmax(1), photos.test.labels) for one in cut]
        found[f"accuracy without {count} convolutions"] = sum(right) / _DRAWS
    return found


def _shifts(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    return {"shift consistency": robustness.shift_consistency(model, photos.test)}


_GROUPS: dict[str, Callable[[Classifier, PhotoSet, Mapping[str, Any]], dict[str, float]]] = {
    "path length": _path_length,
    "lesions": _lesions,
    "shift consistency": _shifts,
}
