"""Training: a frozen recipe, and `fit`, which follows it and can be stopped and resumed at any moment.

Every random choice of an epoch is drawn from a generator seeded by the run's seed and the epoch's number. Nothing
random is carried over from epoch to epoch, so a run resumed from its last checkpoint ends in bitwise the same weights.

Several processes inside ``cnnhw.training.distributed.session`` train one network together: each computes the
gradient of its share of every batch. Order, augmentation and steps are those of one process.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cnnhw import evaluation
from cnnhw.data.augment import augment
from cnnhw.data.photoset import PhotoSet, Split
from cnnhw.errors import TrainingError
from cnnhw.models.blocks import Classifier, count_parameters, device_of, seeded
from cnnhw.training import checkpoint, checks, distributed
from cnnhw.training.mixed_precision import mixed
from cnnhw.training.mixup import mixup
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.training.state import State
from cnnhw.training.step import Step, prepare, step

__all__ = ["first_losses", "fit", "speed"]

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def fit(
    model: Classifier,
    photos: PhotoSet,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    test_each_epoch: bool = False,
    progress: bool = True,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    rates: Mapping[nn.Parameter, float] | None = None,
) -> Run:
    """Train a model and keep its best epoch by validation accuracy (the lower loss decides between equals).

    Layers whose parameters do not require gradients stay as they are, the statistics of their batch norms included.

    Parameters
    ----------
    model : Classifier
        Trained in place; holds the kept epoch's weights afterwards.
    photos : PhotoSet
        The data; validation photos choose the epoch (unless the recipe keeps the last one), test photos are only
        reported.
    recipe : Recipe, optional
        How to train; by default ``Recipe()``.
    seed : int
        Decides the order of the photos, augmentation and dropout (not the initial weights: see
        :func:`cnnhw.models.create`). Two runs with the same seed and number of threads give identical weights.
    folder : str or Path, optional
        Where to keep a checkpoint, written before the first and after each epoch.
    resume : bool
        Go on from the checkpoint in `folder` if there is one.
    test_each_epoch : bool
        Also record the test predictions after every epoch. No choice is made by them.
    progress : bool
        Show a bar with loss, accuracy, photos/s and time left; of several processes, only the first shows it.
    on_epoch : callable, optional
        Called after each epoch with its number, from 1, and its row of the history.
    rates : mapping of nn.Parameter to float, optional
        What the recipe's learning rate is multiplied by for some parameters, above 0; for all others it is 1.

    Returns
    -------
    Run
        History, test accuracy and confusion matrix at the best epoch, seconds, and the model.

    Raises
    ------
    DataError
        If the photos do not fit the model.
    ModelError
        If the model is no `Classifier` of float32 numbers on one device, or does not return logits.
    TrainingError
        If the loss stops being finite; if `folder` holds a run already and `resume` is not set; or if the checkpoint
        belongs to other settings or cannot be read.

    See Also
    --------
    cnnhw.training.step.step : One step of it.
    cnnhw.transfer.adapt : Goes on with a network that is trained already.
    cnnhw.Run.save : Saves the result.

    Notes
    -----
    Nothing of the process is changed but the model: torch's global generators, for example, are left as they were. One
    setting that would gain time is therefore left to the caller: with :func:`cnnhw.system.keep_freed`, called once
    before, memory that a step has freed is kept for the next one, which takes up to a third less time on Linux. The
    commands do so.

    A last batch of a single photo, which batch norm could not normalise, joins the one before it. Where a resolution of
    the recipe is too low for the network, the next one that it can take is trained at.

    In memory the model's kernels lie channels last afterwards. With ``whiten`` its first convolution is frozen, with
    ``raw`` its `pixel_scale` is 255.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw.training import presets
    >>> photos = presets.noise(count=40, side=32)  # in place of cnnhw.data.load("flowers", size=32)
    >>> model = cnnhw.models.create("plain", num_classes=5, size=32)
    >>> run = cnnhw.fit(model, photos, cnnhw.Recipe(epochs=2), progress=False)
    >>> len(run.history["loss"]), run.confusion.shape
    (2, torch.Size([5, 5]))
    """
    recipe = recipe or Recipe()
    checks.check_possible(model, photos, recipe)
    state = State(model, photos, recipe, seed, rates)
    place = None if folder is None else Path(folder) / checkpoint.CHECKPOINT
    if place is not None and distributed.broadcast(place.exists()):
        if not resume:
            raise TrainingError(f"{folder} already holds a run: resume it, or choose another folder")
        checkpoint.restore(state, place)
    elif place is not None:
        checkpoint.save(state, place)
    if recipe.minutes and not state.clock.validation:
        state.clock.validation = _expected_validation(state)

    total, done = recipe.epochs * len(photos.train), state.epoch * len(photos.train)
    hidden = not progress or distributed.rank() > 0
    with tqdm(total=total, initial=done, unit="photo", unit_scale=True, disable=hidden) as bar:
        for epoch in range(state.epoch + 1, recipe.epochs + 1):
            if state.epoch and state.clock.share >= 1:
                break
            row = _train_epoch(state, epoch, bar) | _validate(state, epoch)
            state.close_epoch(epoch, row)  # keeps the weights, if they are the best so far
            if test_each_epoch:
                state.test_predictions.append(_predict(model, photos.test).argmax(1).tolist())
            if place is not None:
                checkpoint.save(state, place)
            if on_epoch is not None:
                on_epoch(epoch, row)

    spent = state.clock.spent
    model.load_state_dict(state.best)
    model.classes = photos.classes
    return Run(
        model=model,
        photos=photos,
        recipe=dataclasses.asdict(recipe),
        seed=seed,
        history=state.history,
        best_epoch=state.best_epoch,
        predictions=_predict(model, photos.test).argmax(1),
        threads=torch.get_num_threads(),
        processes=distributed.count(),
        device=device_of(model).type,
        precision=state.precision,
        first_losses=state.first_losses,
        test_predictions=state.test_predictions,
        trainable=count_parameters(model, trainable_only=True),
        seconds_total=spent,
    )


def _train_epoch(state: State, epoch: int, bar: tqdm[Any]) -> dict[str, float]:
    """Train for one epoch; return its mean loss, accuracy and seconds."""
    bar.set_description(f"epoch {epoch}/{state.recipe.epochs}")
    total_loss = total_correct = seen = 0.0
    start = time.perf_counter()
    for number, (loss, correct, count) in enumerate(_steps(state, epoch), start=1):
        _check_finite(loss, f"the loss became {{}} in epoch {epoch}, step {number}", state.recipe)
        if epoch == 1 and len(state.first_losses) < 20:
            state.first_losses.append(loss)
        total_loss, total_correct, seen = total_loss + loss * count, total_correct + correct, seen + count
        bar.set_postfix(loss=f"{total_loss / seen:.3f}", accuracy=f"{total_correct / seen:.3f}", refresh=False)
        bar.update(count)
    seconds = time.perf_counter() - start
    return {"loss": total_loss / seen, "accuracy": total_correct / seen, "seconds": round(seconds, 3)}


def _steps(state: State, epoch: int) -> Iterator[tuple[float, int, int]]:
    """Take the steps of one epoch, giving the loss, correct predictions and photos of each."""
    recipe, train, device = state.recipe, state.photos.train, device_of(state.model)
    generator = torch.Generator().manual_seed(state.seed * 1_000_003 + epoch)
    batches = checks.batches(torch.randperm(len(train), generator=generator), recipe.batch_size)
    fitting = functools.cache(lambda side: checks.side(state.model, side, state.photos.size))
    take = _wrapped(state, generator)
    _train_mode(state.model)
    # dropout draws from the global generator, in each process for other photos
    with seeded(state.seed * 1_000_003 + epoch + 7_919_000_017 * distributed.rank(), device):
        for number, rows in enumerate(batches):  # rows: (B,)
            share = state.share(epoch, number, len(batches))
            if share >= 1 and number:
                return
            state.optimizer.set_rate(recipe.rate_at(min(share, 1.0)))
            now = min(math.ceil(share * recipe.epochs), recipe.epochs)  # the epoch of a run without a clock
            side = fitting(recipe.side(now, state.photos.size))
            # of several processes, each loads its own photos alone; to blend, it needs the others', too
            held = slice(None) if recipe.mixup else distributed.used(len(rows))
            change = functools.partial(
                augment, flip=recipe.flip, shift=recipe.shift, cutout=recipe.cutout,
                generator=generator, rows=held, of=len(rows),
            )  # fmt: skip
            x = prepare(train.batch(rows[held]), change, side, device)  # (B, 3, s, s)
            y = train.labels[rows].to(device)  # (B,)
            loss, logits = take(x, y, state.network, state.criterion, state.optimizer)  # (), (B, K)
            correct = (logits.argmax(1) == y[distributed.share(len(y))]).sum()  # ()
            figures = distributed.summed(torch.stack([loss, correct.float()])).tolist()
            yield figures[0], int(figures[1]), len(rows)


def _wrapped(state: State, generator: torch.Generator) -> Step:
    """Return the step, wrapped in what the recipe and the machine ask for."""
    take: Step = step
    if state.precision in _HALF:
        take = mixed(take, _HALF[state.precision], state.scaler)
    if state.recipe.mixup:
        take = mixup(take, state.recipe.mixup, generator)
    if distributed.count() > 1:
        take = distributed.shared(take, state.weights)
    return take


def _train_mode(model: Classifier) -> None:
    """Let a model train, but not the statistics of batch norms that are frozen."""
    model.train()
    learning = set(checks.learning_norms(model))
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part not in learning:
            part.eval()


def _validate(state: State, epoch: int) -> dict[str, float]:
    """Return loss and accuracy on the validation photos."""
    distributed.average_buffers(state.model)
    start = time.perf_counter()
    logits, labels = _predict(state.model, state.photos.validation), state.photos.validation.labels
    state.clock.validation = time.perf_counter() - start
    loss = evaluation.loss(logits, labels)
    _check_finite(loss, f"the validation loss became {{}} in epoch {epoch}", state.recipe)
    return {"validation_loss": loss, "validation_accuracy": evaluation.accuracy(logits.argmax(1), labels)}


def _expected_validation(state: State, photos: int = 64) -> float:
    """Return the seconds that a validation may take, as measured for a few photos."""
    start = time.perf_counter()
    evaluation.predict(state.model, _some(state.photos.validation, slice(photos)))
    return (time.perf_counter() - start) * max(1.0, len(state.photos.validation) / photos)


def _predict(model: Classifier, split: Split) -> Tensor:
    """Return the logits of a split, each photo's computed by one process and known to all afterwards."""
    return distributed.gathered(evaluation.predict(model, _some(split, distributed.share(len(split)))))


def _some(split: Split, rows: slice) -> Split:
    return Split(split.store, split.index[rows], split.labels[rows], split.names[rows], split.digests[rows])


def _check_finite(loss: float, what: str, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"{what.format(loss)}: lower the learning rate (now {recipe.learning_rate:g}) and look for broken photos. "
            "The checkpoint of the last whole epoch is kept."
        )


def first_losses(
    model: Classifier, photos: PhotoSet, recipe: Recipe, seed: int, steps: int = 20,
    rates: Mapping[nn.Parameter, float] | None = None,
) -> list[float]:  # fmt: skip
    """Return the losses, in nats, of a few steps: a cheap check that training still does what it did."""
    state = State(model, photos, recipe, seed, rates)
    return [loss for loss, _, _ in itertools.islice(_steps(state, 1), steps)]


def speed(
    model: Classifier, photos: PhotoSet, recipe: Recipe, *, seconds: float = 5.0, epoch: int | None = None
) -> float:
    """Return how many photos a second a model is trained on here, as measured for so many `seconds`."""
    state = State(model, photos, recipe, seed=0)
    endless = itertools.chain.from_iterable(_steps(state, epoch or recipe.epochs) for _ in itertools.count())
    for _ in range(2):
        next(endless)
    seen, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        seen += next(endless)[2]
    return seen / (time.perf_counter() - start)
