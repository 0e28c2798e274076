"""What a study measures on its trained networks, beside accuracy: figures that claims can be made about."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cnnhw import evaluation, features, models, theory
from cnnhw.data import scenes
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.evaluation import robustness
from cnnhw.features import first_layer
from cnnhw.models.blocks import Classifier, evaluating
from cnnhw.models.inception import InceptionModule
from cnnhw.studies.claims import ACCURACY, Measure, measured

__all__ = ["MEASURES"]

_PHOTOS = 256  # for gradients
_DRAWS = 8  # of blocks to delete
_ROUNDS = 15  # of timing
_SCALES = {"tiny": (0.2, 0.3), "small": (0.3, 0.42), "middle": (0.45, 0.6), "large": (0.7, 0.85), "huge": (0.95, 1.2)}
_DRAWN = 500  # scenes of each scale


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


def _scales(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Test on scenes that no network was trained on, whose objects have another size and nothing else changed."""
    found = {}
    for name, scale in _SCALES.items():
        controls = dataclasses.replace(scenes.MIDDLE, scale=scale)
        drawing = scenes.draw(_DRAWN, size=photos.size, controls=controls, first=2_000_000)
        with evaluating(model), torch.inference_mode():
            logits = torch.cat([model(to_float(part)) for part in drawing.images.split(100)])
        found[f"accuracy on {name} objects"] = evaluation.accuracy(logits.argmax(1), drawing.labels)
    away = [value for name, value in found.items() if name != "accuracy on middle objects"]
    return found | {"accuracy away from the trained scale": sum(away) / len(away)}


def _cost(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Time the network by the processor's clock, which other processes do not disturb as much as the wall's."""
    images = to_float(photos.test.batch(torch.arange(min(100, len(photos.test)))))
    times = []
    with evaluating(model), torch.inference_mode():
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

    vectors = features.embeddings(model, photos.test)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    plane = TSNE(random_state=0, init="pca", perplexity=min(30.0, (len(vectors) - 1) / 3)).fit_transform(
        vectors.numpy()
    )
    return {"map across": plane[:, 0].tolist(), "map up": plane[:, 1].tolist()}


_POINTS = ("points", 100.0)
_SHARE = ("(of 0 to 1)", 1.0)
_NORM = ("% of the weights' norm", 100.0)

MEASURES = {
    measure.name: measure
    for measure in (
        ACCURACY,
        Measure("accuracy over splits", "points", 100.0, lambda record: record.accuracy()),  # of different test photos
        Measure("loss area", "nats", 1.0, lambda record: statistics.fmean(record.history["loss"])),
        Measure("final loss", "nats", 1.0, lambda record: record.history["loss"][-1]),
        Measure("seconds", "s", 1.0, lambda record: record.content["seconds"]),
        Measure("epochs to a loss of 1.2", "epochs", 1.0, lambda record: _epochs_to(record.history["loss"], 1.2)),
        measured("path length at start", "convolutions", 1.0),
        measured("path length", "convolutions", 1.0),
        measured("accuracy without 2 convolutions", *_POINTS),
        measured("shift consistency", *_POINTS),
        measured("accuracy away from the trained scale", *_POINTS),
        measured("CPU milliseconds a photo", "ms", 1.0),
        measured("accuracy on changed photos", *_POINTS),
        measured("early weight distance", *_NORM),
        measured("edge correlation", *_SHARE),
        measured("orientation selectivity", *_SHARE),
        measured("dc share", *_SHARE),
        measured("opponent share", *_SHARE),
        measured("figure-ground", *_SHARE),
        measured("feature similarity", *_SHARE),
    )
}
"""What claims are made about, by name."""


def _epochs_to(losses: Sequence[float], level: float) -> float:
    """Return when the mean training loss of an epoch falls to a level, between epochs by a straight line.

    A run that never does counts as if it did one epoch after its last.
    """
    for epoch, loss in enumerate(losses, start=1):
        if loss <= level:
            before = losses[epoch - 2] if epoch > 1 else loss
            return epoch - ((level - loss) / (before - loss) if before > level else 0.0)
    return len(losses) + 1.0
