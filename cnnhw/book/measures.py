"""What a study measures on its trained networks, beside accuracy: figures that claims can be made about."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cnnhw import evaluation, features, files, models, theory
from cnnhw.data import scenes
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import UnknownNameError
from cnnhw.evaluation import robustness
from cnnhw.features import first_layer
from cnnhw.models.blocks import Classifier
from cnnhw.models.inception import InceptionModule

__all__ = ["Drift", "compute", "function", "names"]

_Measurement = Callable[[Classifier, PhotoSet, Mapping[str, Any]], Mapping[str, float | list[float]]]
_PHOTOS = 256  # for gradients
_DRAWS = 8  # of blocks to delete
_ROUNDS = 15  # of timing
_SCALES = {"tiny": (0.2, 0.3), "small": (0.3, 0.42), "middle": (0.45, 0.6), "large": (0.7, 0.85), "huge": (0.95, 1.2)}
_DRAWN = 500  # scenes of each scale


def names() -> list[str]:
    """Return the names of all groups of measures, sorted."""
    return sorted(_GROUPS)


def function(group: str) -> _Measurement:
    """Return the function that measures a group.

    Parameters
    ----------
    group : str
        One of :func:`names`.

    Returns
    -------
    callable
        Takes the network, the photos and the configuration; returns figures by name.

    Raises
    ------
    UnknownNameError
        If there is no such group.
    """
    if group not in _GROUPS:
        raise UnknownNameError("group of measures", group, _GROUPS)
    return _GROUPS[group]


def compute(
    groups: Sequence[str], model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]
) -> dict[str, float | list[float]]:
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
    dict of str to float or list of float
        One or more figures for each group, rounded to six digits; lists for drawings.

    Raises
    ------
    UnknownNameError
        If there is no such group.
    """
    found: dict[str, Any] = {}
    for group in groups:
        found |= function(group)(model, photos, configuration)
    return {
        name: [round(one, 2) for one in value] if isinstance(value, list) else round(value, 6)
        for name, value in found.items()
    }


class Drift:
    """How far the features of a network that goes on learning have moved from where they began.

    It is noted after each epoch, in a file beside the checkpoint, so that an interruption loses nothing.

    Parameters
    ----------
    model : Classifier
        The network, before it goes on learning.
    photos : PhotoSet
        The photos: up to 256 of those to validate with are looked at.
    folder : Path
        Where the file is.
    """

    _FILE = "drift.json"

    def __init__(self, model: Classifier, photos: PhotoSet, folder: Path) -> None:
        self.model, self.path = model, folder / self._FILE
        rows = torch.arange(min(_PHOTOS, len(photos.validation)))
        self.photos = dataclasses.replace(photos.validation, index=photos.validation.index[rows], labels=rows)
        self.vectors = features.vectors(model, self.photos)
        self.weights = self._weights()

    def _weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.features.parameters()])

    def note(self, epoch: int) -> None:
        """Add a row: linear CKA with the first features, and the distance of the weights relative to their norm."""
        moved = (self._weights() - self.weights).norm() / self.weights.norm()
        row = {
            "similarity": round(features.cka(features.vectors(self.model, self.photos), self.vectors), 6),
            "distance": round(float(moved), 6),
        }
        files.write_json(self.path, self.read(self.path.parent) | {str(epoch): row})

    @classmethod
    def read(cls, folder: Path) -> dict[str, dict[str, float]]:
        """Return the rows by epoch, from 1: ``similarity`` (CKA, 0 to 1) and ``distance``; empty if there are none."""
        path = folder / cls._FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @staticmethod
    def summary(rows: Mapping[str, Mapping[str, float]], first: int) -> dict[str, float]:
        """Return the figures that claims are made about.

        Parameters
        ----------
        rows : mapping
            As :meth:`read` returns them.
        first : int
            The first epoch in which the features were trained.

        Returns
        -------
        dict of str to float
            Similarity and distance after that epoch, and after the last.
        """
        found: dict[str, float] = {}
        for when, epoch in (("early ", first), ("", len(rows))):
            found |= {f"{when}feature similarity": rows[str(epoch)]["similarity"]}
            found |= {f"{when}weight distance": rows[str(epoch)]["distance"]}
        return found


FILES = (Drift._FILE,)
"""What :class:`Drift` leaves in its folder."""


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


@contextlib.contextmanager
def _evaluating(model: Classifier) -> Iterator[None]:
    """Put a network in evaluation mode for as long as it takes."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _scales(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Test on scenes that no network was trained on, whose objects have another size and nothing else changed."""
    found = {}
    for name, scale in _SCALES.items():
        controls = dataclasses.replace(scenes.MIDDLE, scale=scale)
        drawing = scenes.draw(_DRAWN, size=photos.size, controls=controls, first=2_000_000)
        with _evaluating(model):
            logits = torch.cat([model(to_float(part)) for part in drawing.images.split(100)])
        found[f"accuracy on {name} objects"] = evaluation.accuracy(logits.argmax(1), drawing.labels)
    away = [value for name, value in found.items() if name != "accuracy on middle objects"]
    return found | {"accuracy away from the trained scale": sum(away) / len(away)}


def _cost(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Time the network by the processor's clock, which other processes do not disturb as much as the wall's."""
    images = to_float(photos.test.batch(torch.arange(min(100, len(photos.test)))))
    times = []
    with _evaluating(model):
        for _ in range(_ROUNDS):
            start = time.process_time()
            model(images)
            times.append(time.process_time() - start)
    return {"CPU milliseconds a photo": 1000 * sorted(times)[_ROUNDS // 2] / len(images)}


def _branches(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Return each branch's share of the squared norm of its module's output, over some test photos."""
    images = to_float(photos.test.batch(torch.arange(min(_PHOTOS, len(photos.test)))))
    found: dict[str, float] = {}
    for name, module in model.features.named_children():
        if isinstance(module, InceptionModule):
            outputs = features.maps(model, images, f"features.{name}").chunk(len(module.branches), 1)
            power = torch.stack([part.square().sum() for part in outputs])
            for number, share in enumerate((power / power.sum()).tolist(), start=1):
                found[f"share of {name} branch {number}"] = share
    return found


def _filters(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Return what the first layer's filters and maps are like; against the objects' masks, on generated scenes."""
    rows = torch.randperm(len(photos.test), generator=torch.Generator().manual_seed(0))[:_PHOTOS]
    found = first_layer.scores(model, to_float(photos.test.batch(rows)))
    drawing = scenes.draw(100, size=photos.size, first=2_000_000)
    shown = first_layer.scores(model, to_float(drawing.images), drawing.masks)
    return found | {name: value for name, value in shown.items() if name.startswith("figure-ground")}


def _changes(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracy on test photos that are changed in ways that the network was not trained for."""
    found = {}
    rows = torch.arange(len(photos.test))
    for kind in robustness.CHANGES:
        store = robustness.changed(photos.test.images, kind)
        split = dataclasses.replace(photos.test, store=store, index=rows)
        guesses = evaluation.predict(model, split).argmax(1)
        found[f"accuracy on {kind} photos"] = evaluation.accuracy(guesses, split.labels)
    found["accuracy on changed photos"] = sum(found.values()) / len(found)
    return found


def _map(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return a plane through the features of the test photos: t-SNE coordinates (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    vectors = features.vectors(model, photos.test)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    plane = TSNE(random_state=0, init="pca", perplexity=min(30.0, (len(vectors) - 1) / 3)).fit_transform(
        vectors.numpy()
    )
    return {"map across": plane[:, 0].tolist(), "map up": plane[:, 1].tolist()}


_GROUPS: dict[str, _Measurement] = {
    "path length": _path_length,
    "lesions": _lesions,
    "shift consistency": _shifts,
    "scales": _scales,
    "cost": _cost,
    "branches": _branches,
    "filters": _filters,
    "changes": _changes,
    "map": _map,
}
