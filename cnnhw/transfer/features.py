"""Frozen layers, and what they compute of the photos, kept."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import DataError, UnknownNameError
from cnnhw.models.blocks import Classifier, device_of
from cnnhw.transfer.stages import Stage

__all__ = ["freeze", "frozen_features", "layers_from"]


def layers_from(model: Classifier, name: str) -> list[nn.Module]:
    """Return a layer and all after it.

    Parameters
    ----------
    model : Classifier
        The network.
    name : str
        The name of a direct part of its features or head, such as ``"conv2"``.

    Returns
    -------
    list of nn.Module
        The layers, in order.

    Raises
    ------
    UnknownNameError
        If there is no such layer; the message suggests the nearest name.

    See Also
    --------
    cnnhw.transfer.parts : The names of those with parameters.

    Examples
    --------
    >>> from cnnhw import models
    >>> [type(layer).__name__ for layer in layers_from(models.create("q1_shallow", size=32), "relu3")]
    ['ReLU', 'Flatten', 'Linear', 'ReLU', 'Linear']
    """
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
    """Freeze what a stage does not train, and compute what the frozen layers say of the photos.

    Parameters
    ----------
    model : Classifier
        The network; its parameters' ``requires_grad`` is set.
    photos : PhotoSet
        The photos.
    stage : Stage
        What is to be trained, and how.
    cache : bool
        Whether frozen outputs may be computed beforehand.

    Returns
    -------
    Classifier
        What is to be trained: `model` itself, or its layers after the frozen ones, which share their parameters
        with it.
    PhotoSet
        What to train it on: `photos`, or the frozen layers' outputs for them.

    Raises
    ------
    UnknownNameError
        If the stage names a layer that the network does not have.

    See Also
    --------
    frozen_features : What frozen layers compute.
    cnnhw.transfer.transfer : Uses it for each stage.

    Examples
    --------
    >>> from cnnhw import models
    >>> from cnnhw.training import presets
    >>> rest, inputs = freeze(models.create("plain", size=32), presets.noise(40, 32), Stage("head"))
    >>> [name for name, layer in rest.head.named_children()], inputs.train.store.shape
    (['0', '1'], torch.Size([40, 128, 1, 1]))
    """
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
    recipe = stage.recipe
    fields = ("flip", "shift", "cutout", "mixup", "resolutions", "whiten", "raw")
    first = next(model.features.children())
    if any(p.requires_grad for p in first.parameters()) or not cache or any(getattr(recipe, name) for name in fields):
        return model, photos
    return frozen_features(model, photos)


def frozen_features(model: Classifier, photos: PhotoSet, batch_size: int = 250) -> tuple[Classifier, PhotoSet]:
    """Compute the outputs of a network's leading frozen layers for all photos, once.

    Parameters
    ----------
    model : Classifier
        Its first layers have no parameter that requires a gradient.
    photos : PhotoSet
        The photos.
    batch_size : int
        Photos at a time.

    Returns
    -------
    Classifier
        The remaining layers, which share their parameters with `model`.
    PhotoSet
        The outputs, float32 of shape (N, C, S, S), or (N, D, 1, 1) for vectors, under the photos' own labels and
        names; its size is S, or 1.

    Raises
    ------
    DataError
        If every layer or none is frozen.

    See Also
    --------
    freeze : Decides whether that is possible.

    Examples
    --------
    >>> from cnnhw import models
    >>> from cnnhw.training import presets
    >>> model = models.create("plain", size=32)
    >>> features = model.features.requires_grad_(False)
    >>> rest, outputs = frozen_features(model, presets.noise(40, 32))
    >>> outputs.test.store.shape
    torch.Size([10, 128, 1, 1])
    """
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
