"""Transfer: a trained network goes on learning on other photos, in stages that train more and more of it.

A stage trains the last linear layer, the head, all layers from one on, or all of them. Where the photos are not changed
at random, what the frozen layers compute from them is always the same: it is computed once, kept in memory, and each
epoch trains on that.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnhw import evaluation, models
from cnnhw.data.photoset import PhotoSet
from cnnhw.models.blocks import Classifier, seeded
from cnnhw.models.heads import Head, replace_head
from cnnhw.training.loop import fit
from cnnhw.training.run import Run
from cnnhw.transfer.features import freeze, layers_from
from cnnhw.transfer.stages import Stage

__all__ = ["begin", "joined", "transfer"]


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

    See Also
    --------
    cnnhw.transfer.adapt : The usual two stages, of which the better is kept.
    cnnhw.transfer.joined : The stages as one run.

    Examples
    --------
    >>> from cnnhw import Recipe
    >>> from cnnhw.training import presets
    >>> model = models.create("plain", num_classes=3, size=32)  # in place of a trained one
    >>> stages = [Stage("head", Recipe(epochs=2)), Stage("all", Recipe(epochs=1))]
    >>> runs = transfer(model, presets.noise(40, 32), stages, progress=False)
    >>> [run.trainable for run in runs]
    [645, 98325]
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
        runs.append(dataclasses.replace(run, model=model, photos=photos, seconds_total=run.seconds_total + preparing))
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
        The last stage's run with the history of all, and `runs` as its ``stages``, of which the last is kept. Its
        recipe has the last stage's fields, the number of all epochs, and ``stages``: what :meth:`Stage.changes` says
        of each, with its epochs.

    See Also
    --------
    transfer : Returns the stages.

    Examples
    --------
    >>> from cnnhw import Recipe
    >>> from cnnhw.training import presets
    >>> model, stages = models.create("plain", num_classes=3, size=32), [Stage("head", Recipe(epochs=2))]
    >>> run = joined(transfer(model, presets.noise(40, 32), stages, progress=False), stages)
    >>> run.kept, len(run.stages), run.recipe["epochs"]
    (1, 1, 2)
    """
    last = runs[-1]
    before = sum(len(run.history["loss"]) for run in runs[:-1])
    epochs = sum(len(run.history["loss"]) for run in runs)
    return dataclasses.replace(
        last,
        recipe=last.recipe
        | {
            "epochs": epochs,
            "stages": [
                stage.changes() | {"epochs": len(run.history["loss"]), "optimizer": run.recipe["optimizer"]}
                for stage, run in zip(stages, runs, strict=True)
            ],
        },
        history={name: [value for run in runs for value in run.history[name]] for name in last.history},
        best_epoch=before + last.best_epoch,
        first_losses=runs[0].first_losses,
        seconds_total=sum(run.seconds_total for run in runs),
        stages=list(runs),
        kept=len(runs),
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

    See Also
    --------
    transfer : Begins so.

    Examples
    --------
    >>> model = models.create("plain", num_classes=3, size=32)
    >>> begin(model, num_classes=7, seed=0)
    >>> model.num_classes
    7
    """
    if head and not new_classifier:
        raise ValueError("a new head has a new classifier: give head or new_classifier=False, not both")
    if new_classifier:
        with seeded(seed):
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
    with seeded(seed):
        replace_head(model, head, num_classes, size)
