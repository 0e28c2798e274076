"""What ``cnnhw transfer`` decides: what to start from, how its two stages train, and which of them is kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cnnhw import models, outputs
from cnnhw.data.photoset import PhotoSet
from cnnhw.models import pretrained
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head
from cnnhw.models.weights import load
from cnnhw.training import presets
from cnnhw.training.checkpoint import CHECKPOINT, saved_settings
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.transfer import stages
from cnnhw.transfer.loop import begin, joined, transfer
from cnnhw.transfer.probe import linear_probe, seconds_a_photo
from cnnhw.transfer.stages import Stage

__all__ = ["adapt", "fitting_side", "source"]

_LINEAR = Head()
_SIDES = (224, 192, 160, 128, 96, 64, 32)  # pixels, of networks from ImageNet
_PROBE_SHARE = 0.3  # of the time, at most, for the first stage


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
        As for :func:`cnnhw.models.pretrained.load`.

    See Also
    --------
    adapt : Trains it on other photos.

    Examples
    --------
    >>> from cnnhw import transfer
    >>> transfer.source("fast").classes
    ('bird', 'dog', 'fruit', 'insect', 'other')
    """
    names = models.backbones()
    if str(weights) in ("imagenet", *names) and not Path(weights).exists():
        return pretrained.load(names[0] if str(weights) == "imagenet" else str(weights), size=size or 128)
    return load(weights)


def fitting_side(weights: str, photos: int, *, native: int = 224, minutes: float = 0.0) -> int:
    """Return the side length that a network from ImageNet is given photos of, so that its features are had in time.

    Parameters
    ----------
    weights : str
        As for :func:`source`.
    photos : int
        Number of photos.
    native : int
        Their own side length in pixels, which is not enlarged: see :func:`cnnhw.data.survey`.
    minutes : float
        Time for both stages of :func:`adapt`; 0 sets no limit.

    Returns
    -------
    int
        Side length in pixels: 224, with which these networks were trained, or less.

    Examples
    --------
    >>> fitting_side("imagenet", 1000, native=100)
    96
    """
    sides = [side for side in _SIDES if side <= native] or list(_SIDES[-1:])
    if not minutes:
        return sides[0]
    measured = seconds_a_photo(source(weights, size=128), torch.zeros(32, 3, 128, 128, dtype=torch.uint8))
    left = _PROBE_SHARE * 60 * minutes / (2 * photos * min(measured.values()))  # two views of each photo
    return next((side for side in sides if (side / 128) ** 2 <= left), sides[-1])


def adapt(
    weights: str | Path | Classifier,
    photos: PhotoSet,
    *,
    head: Head | None = _LINEAR,
    head_epochs: int = 20,
    epochs: int = 10,
    minutes: float = 0.0,
    augment: bool = True,
    class_weights: bool = False,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Run:
    """Teach a trained network other classes, in two stages of which the better is kept.

    First a new head learns, with the features frozen: a linear one by :func:`linear_probe`. Then all layers do. If that
    made it worse on the validation photos, the network is left as it was after the first stage. This is what
    ``cnnhw transfer`` does.

    Parameters
    ----------
    weights : str, Path or Classifier
        What to start from: as for :func:`source`, at the photos' size; or a network, which is changed in place.
    photos : PhotoSet
        What it is to learn.
    head : Head or None
        Its new head, linear by default; None keeps its own head and replaces the last layer, which is only possible for
        photos of the network's size.
    head_epochs : int
        Epochs of the first stage, 1 or more, if the head has a hidden layer.
    epochs : int
        Epochs of the second stage, at most; with 0 there is none.
    minutes : float
        Time for both stages, validation included; 0 sets no limit. The second stage has what the first one leaves.
    augment : bool
        Mirror photos in the second stage, and shift them by up to a sixteenth of their side.
    class_weights : bool
        Weigh the loss by the inverse frequency of the classes, for unbalanced data.
    seed : int
        Decides the new head, the order of the photos, and augmentation.
    folder : str or Path, optional
        Where the run is to be saved: checkpoints are kept in its folder ``.cnnhw-stages`` meanwhile.
    resume : bool
        Go on from the checkpoints in `folder` if there are any.
    progress, on_epoch
        As for :func:`cnnhw.fit`; epochs are counted through both stages.

    Returns
    -------
    Run
        The stages as one run. Its ``stages`` are the runs of each, and ``kept`` is the number of the one, from 1, whose
        weights the model has.

    Raises
    ------
    DataError
        If the photos do not fit the network.
    TrainingError
        As for :func:`cnnhw.fit`.
    WeightsError
        As for :func:`source`.
    ValueError
        If the extractor leaves nothing of photos of that size.

    See Also
    --------
    transfer : Any stages, one after the other.
    cnnhw.system.keep_freed : Makes training faster on Linux.

    Notes
    -----
    Features of the book's networks learn at rates that single trials chose: a hidden or flat head at 3e-3, and so do
    the features in the second stage. Features from ImageNet learn at a tenth of that, as they forget more easily.

    Examples
    --------
    >>> from cnnhw import transfer
    >>> from cnnhw.training import presets
    >>> photos = presets.noise(count=40, side=32)  # in place of cnnhw.data.load("path/to/photos", size=32)
    >>> run = transfer.adapt("fast", photos, head_epochs=2, epochs=1, progress=False)
    >>> len(run.stages), run.kept in (1, 2)
    (2, True)
    """
    begun = time.perf_counter()
    model = weights if isinstance(weights, Classifier) else source(weights, size=photos.size)
    loading = time.perf_counter() - begun
    checkpoints = None if folder is None else Path(folder) / outputs.STAGES
    common: dict[str, Any] = {"seed": seed, "resume": resume, "progress": progress}
    if head is not None and not head.hidden:
        first, run = solve(model, photos, head=head, augment=augment, class_weights=class_weights, seed=seed)
        if on_epoch is not None:
            on_epoch(1, {name: values[0] for name, values in run.history.items()})
    else:
        first = Stage("head", stages.recipe(head_epochs, flip=False, class_weights=class_weights))
        # each stage has a folder of its own for checkpoints; the second goes on from the first one's weights
        (run,) = transfer(
            model, photos, [first], head=head, folder=checkpoints and checkpoints / "head", on_epoch=on_epoch, **common
        )
    left = minutes - (loading + run.seconds_total) / 60  # predicting the test photos is no training
    if not epochs or (minutes and left <= 0):
        return joined([run], [first])
    second = tuning(model, photos, epochs, minutes=max(left, 0.0), augment=augment, class_weights=class_weights)
    return tune(run, first, second, checkpoints=checkpoints, on_epoch=on_epoch, **common)


def solve(
    model: Classifier, photos: PhotoSet, *, head: Head = _LINEAR, augment: bool = True, class_weights: bool = False,
    seed: int = 0,
) -> tuple[Stage, Run]:  # fmt: skip
    """Take the first stage of :func:`adapt` with a linear head; return it, and its run."""
    begin(model, len(photos.classes), seed, head=head, size=photos.size)
    run = linear_probe(model, photos, mirror=augment, weighted=class_weights, seed=seed)
    strength = run.recipe["weight_decay"]
    return Stage("classifier", Recipe(epochs=1, weight_decay=strength, flip=augment, class_weights=class_weights)), run


def tune(
    run: Run, first: Stage, second: Stage, *, checkpoints: Path | None, seed: int, resume: bool, progress: bool,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Run:  # fmt: skip
    """Take the second stage of :func:`adapt` after the `run` of the first, and keep the better of both."""
    model, before = run.model, len(run.history["loss"])
    if resume and checkpoints and (checkpoints / "all" / "stage1" / CHECKPOINT).exists():
        saved = saved_settings(checkpoints / "all" / "stage1")["recipe"]
        measured = {name: saved[name] for name in ("minutes", "precision") if name in saved}
        second = dataclasses.replace(second, recipe=dataclasses.replace(second.recipe, **measured))
    after_head = {name: value.clone() for name, value in model.state_dict().items()}

    def tell(epoch: int, row: dict[str, float]) -> None:
        if on_epoch is not None:
            on_epoch(before + epoch, row)

    (tuned,) = transfer(
        model, run.photos, [second], new_classifier=False, folder=checkpoints and checkpoints / "all", on_epoch=tell,
        seed=seed, resume=resume, progress=progress,
    )  # fmt: skip
    both = joined([run, tuned], [first, second])
    if run.validation_accuracy <= tuned.validation_accuracy:
        return both
    model.load_state_dict(after_head)
    return dataclasses.replace(both, predictions=run.predictions, best_epoch=run.best_epoch, kept=1)


def tuning(
    model: Classifier, photos: PhotoSet, epochs: int, *, minutes: float = 0.0, augment: bool = True,
    class_weights: bool = False,
) -> Stage:  # fmt: skip
    """Return the stage that tunes all layers: gently where they have learnt from ImageNet, which they would forget."""
    common: dict[str, Any] = {"minutes": minutes, "flip": augment, "class_weights": class_weights}
    if model.name not in models.backbones():
        return Stage("all", stages.recipe(epochs, shift=photos.size // 16 if augment else 0, **common))
    recipe = Recipe(
        epochs=epochs, optimizer="adamw", learning_rate=3e-4, weight_decay=0.05, schedule="one_cycle",
        label_smoothing=0.1, shift=photos.size // 8 if augment else 0, **common,
    )  # fmt: skip
    # batch norms stay as they are, as the head was solved for what they give
    return Stage(
        "all", dataclasses.replace(recipe, precision=presets.faster(model, photos.size, recipe)[0]), norms=False
    )
