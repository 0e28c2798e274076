"""Transfer: a trained network goes on learning on other photos, in stages that train more and more of it.

A stage trains the last linear layer, all layers from one on, or all of them. Where the photos are not changed at
random, what the frozen layers compute from them is always the same: it is computed once, kept in memory, and each epoch
trains on that.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnhw import evaluation, models
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import DataError, UnknownNameError
from cnnhw.models.blocks import Classifier, device_of
from cnnhw.runs import Run
from cnnhw.training import Recipe, fit

__all__ = ["Stage", "begin", "freeze", "frozen_features", "layers_from", "transfer"]


@dataclass(frozen=True)
class Stage:
    """One stage of a transfer.

    Attributes
    ----------
    train : str
        What learns: ``"classifier"``, the last linear layer alone; ``"all"``, every layer; or the name of a layer of
        features or head, such as ``"conv3"``: that one and all after it.
    recipe : Recipe
        How.
    """

    train: str
    recipe: Recipe = field(default_factory=Recipe)


def transfer(
    model: Classifier,
    photos: PhotoSet,
    stages: Sequence[Stage],
    *,
    new_classifier: bool = True,
    fresh_from: str = "",
    seed: int = 0,
    cache: bool = True,
    folder: str | Path | None = None,
    resume: bool = False,
    test_each_epoch: bool = False,
    progress: bool = True,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> list[Run]:
    """Train a network that has learnt something else, stage by stage.

    Parameters
    ----------
    model : Classifier
        The trained network; changed in place.
    photos : PhotoSet
        What it is to learn now.
    stages : sequence of Stage
        One after the other; each starts from the weights that the one before it kept, with a new optimiser.
    new_classifier : bool
        Replace the last linear layer by a new one, initialised from `seed`. If not, it is kept as it is, which is only
        possible for as many classes as before, and is a fault: its outputs stand for other classes.
    fresh_from : str
        Name of a layer: it and all after it are drawn anew from `seed`, too, so that only the layers before are
        transferred (Yosinski et al. 2014).
    seed : int
        As for :func:`cnnhw.fit`; also decides the new classifier.
    cache : bool
        Compute the outputs of frozen layers once, where the recipe allows it: the result is the same to rounding.
    folder, resume, test_each_epoch, progress, on_epoch
        As for :func:`cnnhw.fit`; the checkpoint of each stage is in a folder of its own, ``stage1`` and so on, and
        epochs are counted through all stages.

    Returns
    -------
    list of Run
        One a stage. All share the model, which ends with the weights of the last one. The seconds of a stage's first
        epoch include the time for what was computed beforehand.

    Raises
    ------
    DataError
        If the photos do not fit the model.
    UnknownNameError
        If there is no layer of a given name.
    TrainingError
        As for :func:`cnnhw.fit`.
    """
    begin(model, len(photos.classes), seed, new_classifier=new_classifier, fresh_from=fresh_from)
    evaluation.check_fits(model, photos.size, len(photos.classes))
    runs: list[Run] = []
    before = 0
    for number, stage in enumerate(stages, start=1):
        start = time.perf_counter()
        network, inputs = freeze(model, photos, stage, cache=cache)
        preparing = time.perf_counter() - start

        def tell(epoch: int, row: dict[str, float], before: int = before) -> None:
            if on_epoch is not None:
                on_epoch(before + epoch, row)

        run = fit(
            network,
            inputs,
            stage.recipe,
            seed=seed,
            folder=None if folder is None else Path(folder) / f"stage{number}",
            resume=resume,
            test_each_epoch=test_each_epoch,
            progress=progress,
            on_epoch=tell,
        )
        run.history["seconds"][0] += round(preparing, 3)
        runs.append(dataclasses.replace(run, model=model, photos=photos))
        before += stage.recipe.epochs
    model.classes = photos.classes
    model.requires_grad_()
    return runs


def begin(model: Classifier, num_classes: int, seed: int, *, new_classifier: bool = True, fresh_from: str = "") -> None:
    """Make a trained network ready for a transfer, in place: draw anew what is not to be transferred.

    Parameters
    ----------
    model : Classifier
        The network.
    num_classes : int
        Number of logits of a new classifier.
    seed : int
        Decides the new weights; torch's global generator is left as it was.
    new_classifier : bool
        Whether the last linear layer is replaced.
    fresh_from : str
        Name of a layer: it and all after it are as :func:`cnnhw.models.create` makes them.

    Raises
    ------
    UnknownNameError
        If there is no layer of that name.
    """
    if new_classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.reset_classifier(num_classes)
    if fresh_from:
        fresh = models.create(model.name, model.num_classes, seed=seed, size=model.size, **model.options)
        for old, new in zip(layers_from(model, fresh_from), layers_from(fresh, fresh_from), strict=True):
            old.load_state_dict(new.state_dict())


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
    """
    named = [*model.features.named_children(), *model.head.named_children()]
    known = [own for own, _ in named]
    if name not in known:
        raise UnknownNameError("layer", name, known)
    return [layer for _, layer in named[known.index(name) :]]


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
    """
    model.requires_grad_(stage.train == "all")
    if stage.train == "classifier":
        model.head[-1].requires_grad_()
    elif stage.train != "all":
        for layer in layers_from(model, stage.train):
            layer.requires_grad_()
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
    """
    layers = [*model.features, *model.head]
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    if True not in trained or trained[0]:
        raise DataError("there are no frozen layers, or nothing but them: nothing can be computed beforehand")
    first = trained.index(True)
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
