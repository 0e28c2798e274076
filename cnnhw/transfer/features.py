"""Frozen layers, and what they compute of the photos, kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import DataError, UnknownNameError
from cnnhw.models.blocks import Classifier, device_of
from cnnhw.training.checks import batches
from cnnhw.transfer.stages import Stage, parts

__all__ = ["freeze", "frozen_features", "layers_from", "learning_steps"]


def layers_from(model: Classifier, name: str) -> list[nn.Module]:
    """Return a direct part of the features or head, by name, and all layers after it, in order."""
    named = [*model.features.named_children(), *model.head.named_children()]
    known = [own for own, _ in named]
    if name not in known:
        raise UnknownNameError("layer", name, known)
    return [layer for _, layer in named[known.index(name) :]]


def _features_after(model: Classifier, name: str) -> list[nn.Module]:
    names = [own for own, _ in model.features.named_children()]
    if name not in names:
        raise UnknownNameError("layer of the features", name, names)
    return [*model.features.children()][names.index(name) + 1 :]


def freeze(model: Classifier, photos: PhotoSet, stage: Stage, *, cache: bool = True) -> tuple[Classifier, PhotoSet]:
    """Freeze what a stage does not train; return what trains, and the photos or the frozen layers' outputs for them."""
    model.requires_grad_(stage.train == "all")
    if stage.train == "classifier":
        model.head[-1].requires_grad_()
    elif stage.train == "head":
        model.head.requires_grad_()
    elif stage.train != "all":
        for layer in layers_from(model, stage.train):
            layer.requires_grad_()
    if stage.until:
        for layer in _features_after(model, stage.until):
            layer.requires_grad_(False)
    if not stage.norms:
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.requires_grad_(False)
    recipe = stage.recipe
    fields = ("flip", "shift", "cutout", "mixup", "resolutions", "whiten", "raw")
    first = next(model.features.children())
    if any(p.requires_grad for p in first.parameters()) or not cache or any(getattr(recipe, name) for name in fields):
        return model, photos
    return frozen_features(model, photos)


def learning_steps(model: Classifier, photos: PhotoSet, stages: Sequence[Stage]) -> dict[str, int]:
    """Count the steps that each part of a network learns for in a transfer.

    Parameters
    ----------
    model : Classifier
        The network; it stays as it is.
    photos : PhotoSet
        The photos, whose number decides how many steps an epoch has.
    stages : sequence of Stage
        As for :func:`cnnhw.transfer.transfer`.

    Returns
    -------
    dict of str to int
        Optimiser steps of each direct part of the features that has parameters, by name and in order, and of the last
        layer, as ``"classifier"``.

    See Also
    --------
    cnnhw.transfer.in_turn : Stages that give each part as many.

    Examples
    --------
    >>> from cnnhw import Recipe, models
    >>> from cnnhw.training import presets
    >>> model, photos = models.create("q1_shallow", size=32), presets.noise(count=64, side=32)
    >>> learning_steps(model, photos, [Stage("head", Recipe(epochs=3)), Stage("conv3", Recipe(epochs=1))])
    {'conv1': 0, 'conv2': 0, 'conv3': 2, 'classifier': 8}
    """
    learnt = [parameter.requires_grad for parameter in model.parameters()]
    ends = {**{name: model.features.get_submodule(name) for name in parts(model)}, "classifier": model.head[-1]}
    found = dict.fromkeys(ends, 0)
    for stage in stages:
        freeze(model, photos, stage, cache=False)
        steps = stage.recipe.epochs * len(batches(torch.arange(len(photos.train)), stage.recipe.batch_size))
        for name, part in ends.items():
            found[name] += steps * any(parameter.requires_grad for parameter in part.parameters())
    for parameter, trains in zip(model.parameters(), learnt, strict=True):
        parameter.requires_grad_(trains)
    return found


def frozen_features(model: Classifier, photos: PhotoSet, batch_size: int = 250) -> tuple[Classifier, PhotoSet]:
    """Return a network's trainable end, and the outputs (N, C, S, S) of its frozen start for all photos."""
    layers = [*model.features, *model.head]
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    if True not in trained or trained[0]:
        raise DataError("there are no frozen layers, or nothing but them: nothing can be computed beforehand")
    random = [any(isinstance(part, nn.Dropout) for part in layer.modules()) for layer in layers]
    first = [a or b for a, b in zip(trained, random, strict=True)].index(True)
    frozen = nn.Sequential(*layers[:first]).eval()

    splits = []
    for split in (photos.train, photos.validation, photos.test):
        rows = torch.arange(len(split))
        outputs = [_outputs(frozen, model, to_float(split.batch(some))) for some in rows.split(batch_size)]
        splits.append(dataclasses.replace(split, store=torch.cat(outputs), index=rows))
    train, validation, test = splits
    side = train.store.shape[-1]
    start = [nn.Flatten()] if first > len(model.features) else []
    rest = Classifier(nn.Sequential(), nn.Sequential(*start, *layers[first:]), side)
    rest.name, rest.options = model.name, model.options
    return rest, dataclasses.replace(photos, size=side, train=train, validation=validation, test=test)


@torch.no_grad()
def _outputs(frozen: nn.Sequential, model: Classifier, x: Tensor) -> Tensor:
    x = x.to(device_of(model), memory_format=torch.channels_last) * model.pixel_scale
    out = frozen(x).cpu()
    return out if out.dim() == 4 else out[:, :, None, None]
