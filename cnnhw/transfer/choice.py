"""What ``cnnhw transfer`` decides: what to start from, how its two stages train, and which of them is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnhw import models, outputs
from cnnhw.data.photoset import PhotoSet
from cnnhw.models import pretrained
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head
from cnnhw.models.weights import load
from cnnhw.training.run import Run
from cnnhw.transfer import stages
from cnnhw.transfer.loop import joined, transfer

__all__ = ["adapt", "source"]

_LINEAR = Head()


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


def adapt(
    weights: str | Path | Classifier,
    photos: PhotoSet,
    *,
    head: Head | None = _LINEAR,
    head_epochs: int = 20,
    epochs: int = 10,
    augment: bool = True,
    class_weights: bool = False,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Run:
    """Teach a trained network other classes, in two stages of which the better is kept.

    First a new head learns, with the features frozen; then all layers do. If that made it worse on the validation
    photos, the network is left as it was after the first stage. This is what ``cnnhw transfer`` does.

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
        Epochs of the first stage, 1 or more.
    epochs : int
        Epochs of the second stage; with 0 there is none.
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
    The rates are those that chapter Q6 found best: a linear head learns at a highest rate of 3e-2, any other at 3e-3,
    and so do the features in the second stage; those of large networks, which forget more easily, at a tenth of that.

    Examples
    --------
    >>> from cnnhw import transfer
    >>> from cnnhw.training import presets
    >>> photos = presets.noise(count=40, side=32)  # in place of cnnhw.data.load("path/to/photos", size=32)
    >>> run = transfer.adapt("fast", photos, head_epochs=2, epochs=1, progress=False)
    >>> len(run.stages), run.kept in (1, 2)
    (2, True)
    """
    model = weights if isinstance(weights, Classifier) else source(weights, size=photos.size)
    recipe = stages.recipe(
        max(epochs, 1), flip=augment, shift=photos.size // 16 if augment else 0, class_weights=class_weights
    )
    linear = head is not None and not head.hidden and head.pool == "average"
    first, second = stages.two_stages(
        recipe,
        head_epochs=head_epochs,
        head_rate=3e-2 if linear else 3e-3,
        features_rate=0.1 if model.name in models.backbones() else 1.0,
    )
    checkpoints = None if folder is None else Path(folder) / outputs.STAGES
    common: dict[str, Any] = {"seed": seed, "resume": resume, "progress": progress}
    # each stage has a folder of its own for checkpoints; the second goes on from the first one's weights
    runs = transfer(
        model, photos, [first], head=head, folder=checkpoints and checkpoints / "head", on_epoch=on_epoch, **common
    )
    if not epochs:
        return joined(runs, [first])
    after_head = {name: value.clone() for name, value in model.state_dict().items()}

    def tell(epoch: int, row: dict[str, float]) -> None:
        if on_epoch is not None:
            on_epoch(head_epochs + epoch, row)

    runs += transfer(
        model, photos, [second], new_classifier=False, folder=checkpoints and checkpoints / "all", on_epoch=tell,
        **common,
    )  # fmt: skip
    run = joined(runs, [first, second])
    if runs[0].validation_accuracy <= runs[1].validation_accuracy:
        return run
    model.load_state_dict(after_head)
    return dataclasses.replace(run, predictions=runs[0].predictions, best_epoch=runs[0].best_epoch, kept=1)
