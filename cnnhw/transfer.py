"""Transfer: a trained network goes on learning on other photos, in stages that train more and more of it.

A stage trains the last linear layer, the head, all layers from one on, or all of them. Where the photos are not changed
at random, what the frozen layers compute from them is always the same: it is computed once, kept in memory, and each
epoch trains on that.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnhw import evaluation, imagenet, models
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import DataError, UnknownNameError
from cnnhw.models.blocks import Classifier, device_of
from cnnhw.models.heads import Head, replace_head
from cnnhw.runs import Run, load
from cnnhw.training import Recipe, fit

__all__ = [
    "Head",
    "Stage",
    "begin",
    "freeze",
    "frozen_features",
    "gradual",
    "joined",
    "layers_from",
    "parts",
    "recipe",
    "source",
    "transfer",
    "two_stages",
]


@dataclass(frozen=True)
class Stage:
    """One stage of a transfer.

    Attributes
    ----------
    train : str
        What learns: ``"classifier"``, the last linear layer alone; ``"head"``, the whole head; ``"all"``, every layer;
        or the name of a layer of features or head, such as ``"conv3"``: that one and all after it.
    recipe : Recipe
        How.
    until : str
        Of the features, nothing after the layer of this name learns; the head does. By default there is no such limit.
    features_rate : float
        What the learning rate is multiplied by for the features, above 0.
    layer_decay : float
        What it is further multiplied by for each part of the features that has parameters, counted back from the head:
        once for the last of them, twice for the one before it (discriminative rates, Howard and Ruder 2018); above 0.
    """

    train: str
    recipe: Recipe = field(default_factory=Recipe)
    until: str = ""
    features_rate: float = 1.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for name in ("features_rate", "layer_decay"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"Stage({name}={getattr(self, name)!r}) is not possible: it has to be above 0")

    def changes(self) -> dict[str, Any]:
        """Return what differs from the defaults, the recipe's fields among the stage's: what a record keeps of it."""
        own = {name: getattr(self, name) for name in ("until", "features_rate", "layer_decay")}
        default = {"until": "", "features_rate": 1.0, "layer_decay": 1.0}
        different = {name: value for name, value in own.items() if value != default[name]}
        return {"train": self.train, **different, **self.recipe.changes()}

    def rates(self, model: Classifier) -> dict[nn.Parameter, float]:
        """Return what the learning rate is multiplied by for each parameter of the features.

        Parameters
        ----------
        model : Classifier
            The network.

        Returns
        -------
        dict of nn.Parameter to float
            Empty if it is 1 for all.
        """
        if self.features_rate == self.layer_decay == 1:
            return {}
        back = parts(model)[::-1]
        return {
            parameter: self.features_rate * self.layer_decay**distance
            for distance, name in enumerate(back, start=1)
            for parameter in model.features.get_submodule(name).parameters()
        }


def parts(model: Classifier) -> list[str]:
    """Return the names of the direct parts of a network's features that have parameters, in order."""
    return [name for name, part in model.features.named_children() if any(True for _ in part.parameters())]


def source(weights: str | Path, *, size: int | None = None) -> Classifier:
    """Return a trained network to start from.

    Parameters
    ----------
    weights : str or Path
        What :func:`cnnhw.load` takes; or a network trained on ImageNet: one of :func:`cnnhw.models.backbones`, or
        ``"imagenet"`` for the first of them.
    size : int, optional
        For a network trained on ImageNet, the side length in pixels of the photos that it gets; 128 by default.

    Returns
    -------
    Classifier
        The network in evaluation mode.

    Raises
    ------
    WeightsError
        As for :func:`cnnhw.load`.
    CnnhwError
        As for :func:`cnnhw.imagenet.load`.
    """
    names = models.backbones()
    if str(weights) in ("imagenet", *names) and not Path(weights).exists():
        return imagenet.load(names[0] if str(weights) == "imagenet" else str(weights), size=size or 128)
    return load(weights)


def recipe(epochs: int, **changes: Any) -> Recipe:
    """Return how features that have learnt something are best trained on, as far as the book has measured it.

    Parameters
    ----------
    epochs : int
        Passes over the training photos.
    **changes
        Other fields of :class:`cnnhw.Recipe`.

    Returns
    -------
    Recipe
        AdamW at a rate of 3e-3 that falls to 0, photos mirrored at random.
    """
    common = Recipe(
        epochs=epochs, optimizer="adamw", learning_rate=3e-3, weight_decay=0.05, schedule="cosine", flip=True
    )
    return dataclasses.replace(common, **changes)


def two_stages(
    tuning: Recipe, *, head_epochs: int = 20, head_rate: float = 3e-2, features_rate: float = 1.0
) -> tuple[Stage, Stage]:
    """Return the stages of the usual transfer: the head first, on frozen features; then all layers.

    Parameters
    ----------
    tuning : Recipe
        How the second stage trains: see :func:`recipe`.
    head_epochs : int
        Epochs of the first stage; photos are not changed at random in it, so that features are computed once.
    head_rate : float
        Its highest learning rate.
    features_rate : float
        What the learning rate of the features is multiplied by in the second stage.

    Returns
    -------
    tuple of (Stage, Stage)
        For :func:`transfer`.
    """
    head = dataclasses.replace(
        tuning, epochs=head_epochs, learning_rate=head_rate, flip=False, shift=0, cutout=0.0, mixup=0.0, resolutions=()
    )
    return Stage("head", head), Stage("all", tuning, features_rate=features_rate)


def gradual(model: Classifier, recipe: Recipe, steps: int = 3, *, reverse: bool = False) -> tuple[Stage, ...]:
    """Return stages that make the features trainable group by group, the head being trainable throughout.

    Parameters
    ----------
    model : Classifier
        The network whose features are divided.
    recipe : Recipe
        How each stage trains.
    steps : int
        Number of groups, of about as many parts with parameters each; 1 or more.
    reverse : bool
        Begin with the first group instead of the last: the order that the assignment does not ask for.

    Returns
    -------
    tuple of Stage
        One a group; the last trains all.

    Raises
    ------
    ValueError
        If there are fewer parts than `steps`, or `steps` is less than 1.
    """
    names = parts(model)
    if not 1 <= steps <= len(names):
        raise ValueError(
            f"steps={steps} is not possible: the features of {model.name} have {len(names)} parts to train"
        )
    cuts = [round(len(names) * step / steps) for step in range(steps + 1)]
    if reverse:
        partly = [Stage("all", recipe, until=names[cut - 1]) for cut in cuts[1:-1]]
    else:
        partly = [Stage(names[cut], recipe) for cut in reversed(cuts[1:-1])]
    return (*partly, Stage("all", recipe))


def transfer(
    model: Classifier,
    photos: PhotoSet,
    stages: Sequence[Stage],
    *,
    new_classifier: bool = True,
    head: Head | None = None,
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
    head : Head, optional
        Replace the whole head by this one instead. The photos may then be of another size than the network's.
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
    begin(
        model, len(photos.classes), seed,
        new_classifier=new_classifier, head=head, fresh_from=fresh_from, size=photos.size,
    )  # fmt: skip
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
            rates=stage.rates(model),
        )
        run.history["seconds"][0] += round(preparing, 3)
        runs.append(dataclasses.replace(run, model=model, photos=photos))
        before += stage.recipe.epochs
    model.classes = photos.classes
    model.requires_grad_()
    return runs


def joined(runs: Sequence[Run], stages: Sequence[Stage]) -> Run:
    """Return the stages of a transfer as one run, whose epochs are counted through.

    Parameters
    ----------
    runs : sequence of Run
        What :func:`transfer` returned.
    stages : sequence of Stage
        What it was given.

    Returns
    -------
    Run
        The last stage's run with the history of all; its recipe has the last stage's fields, the number of all epochs,
        and ``stages``: what :meth:`Stage.changes` says of each, with its epochs.
    """
    last = runs[-1]
    before = sum(len(run.history["loss"]) for run in runs[:-1])
    epochs = sum(stage.recipe.epochs for stage in stages)
    return dataclasses.replace(
        last,
        recipe=last.recipe
        | {"epochs": epochs, "stages": [stage.changes() | {"epochs": stage.recipe.epochs} for stage in stages]},
        history={name: [value for run in runs for value in run.history[name]] for name in last.history},
        best_epoch=before + last.best_epoch,
        first_losses=runs[0].first_losses,
    )


def begin(
    model: Classifier, num_classes: int, seed: int, *,
    new_classifier: bool = True, head: Head | None = None, fresh_from: str = "", size: int = 0,
) -> None:  # fmt: skip
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
    head : Head, optional
        What the whole head is replaced by instead.
    fresh_from : str
        Name of a layer: it and all after it are as :func:`cnnhw.models.create` makes them.
    size : int
        Side length in pixels of the photos that a new head is for; by default the network's.

    Raises
    ------
    ValueError
        If the old classifier is to be kept and the head to be replaced.
    UnknownNameError
        If there is no layer of that name.
    """
    if head and not new_classifier:
        raise ValueError("a new head has a new classifier: give head or new_classifier=False, not both")
    if new_classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.reset_classifier(num_classes)
    if fresh_from:
        fresh = models.create(model.name, model.num_classes, seed=seed, size=model.size, **model.options)
        if model.new_head:
            _new_head(fresh, Head(**model.new_head), model.num_classes, seed, model.size)
        for old, new in zip(layers_from(model, fresh_from), layers_from(fresh, fresh_from), strict=True):
            old.load_state_dict(new.state_dict())
    if head:
        _new_head(model, head, num_classes, seed, size)


def _new_head(model: Classifier, head: Head, num_classes: int, seed: int, size: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        replace_head(model, head, num_classes, size)


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
