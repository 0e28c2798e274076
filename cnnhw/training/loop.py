"""Training: a frozen recipe, and `fit`, which follows it and can be stopped and resumed at any moment.

Every random choice of an epoch is drawn from a generator seeded by the run's seed and the epoch's number. Nothing
random is carried over from epoch to epoch, so a run resumed from its last checkpoint ends in bitwise the same weights.

Several processes inside :func:`cnnhw.training.distributed.session` train one network together: each computes the
gradient of its share of every batch. Order, augmentation and steps are those of one process.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from cnnhw import evaluation, files, system
from cnnhw.data.augment import augment, resize, to_float
from cnnhw.data.photoset import PhotoSet, Split
from cnnhw.errors import TrainingError
from cnnhw.models.blocks import Classifier, count_parameters, device_of, evaluating
from cnnhw.training import distributed
from cnnhw.training.optimizers import _matrix, _optimizers
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.training.whitening import whiten_

__all__ = ["CHECKPOINT", "first_losses", "fit", "precision", "saved_settings", "speed"]

CHECKPOINT = "checkpoint.safetensors"

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


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
    TrainingError
        If the loss stops being finite; if `folder` holds a run already and `resume` is not set; or if the checkpoint
        belongs to other settings or cannot be read.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw.data import scenes
    >>> photos = scenes.load(size=16, train=50, test=10, progress=False)
    >>> model = cnnhw.models.create("q1_shallow", num_classes=5, size=16, seed=0)
    >>> run = cnnhw.fit(model, photos, cnnhw.Recipe(epochs=2), seed=0, progress=False)
    >>> len(run.history["loss"]), run.confusion.shape
    (2, torch.Size([5, 5]))
    """
    recipe = recipe or Recipe()
    evaluation.check_fits(model, photos.size, len(photos.classes))
    if not len(photos.train) or not len(photos.validation):
        raise TrainingError(f"{photos!r} lacks photos to train on or to validate with")
    for side in {recipe.side(epoch, photos.size) for epoch in range(1, recipe.epochs + 1)} - {photos.size}:
        _check_side(model, side)
    state = _State(model, photos, recipe, seed, rates)
    checkpoint = Path(folder) / CHECKPOINT if folder is not None else None
    if checkpoint is not None and distributed.broadcast(checkpoint.exists()):
        if not resume:
            raise TrainingError(f"{folder} already holds a run: resume it, or choose another folder")
        state.restore(checkpoint)
    elif checkpoint is not None:
        state.save(checkpoint)

    total = recipe.epochs * len(photos.train)
    with tqdm(
        total=total,
        initial=state.epoch * len(photos.train),
        unit="photo",
        unit_scale=True,
        disable=not progress or distributed.rank() > 0,
    ) as bar:
        for epoch in range(state.epoch + 1, recipe.epochs + 1):
            row = _train_epoch(state, epoch, bar)
            distributed.average_buffers(model)
            logits = _predict(model, photos.validation)
            row["validation_loss"] = evaluation.loss(logits, photos.validation.labels)
            _check_finite(row["validation_loss"], f"the validation loss became {{}} in epoch {epoch}", recipe)
            row["validation_accuracy"] = evaluation.accuracy(logits.argmax(1), photos.validation.labels)
            state.close_epoch(epoch, row)
            if test_each_epoch:
                state.test_predictions.append(_predict(model, photos.test).argmax(1).tolist())
            if checkpoint is not None:
                state.save(checkpoint)
            if on_epoch is not None:
                on_epoch(epoch, row)

    model.load_state_dict(state.best)
    model.classes = photos.classes
    predictions = _predict(model, photos.test).argmax(1)
    return Run(
        model=model,
        photos=photos,
        recipe=dataclasses.asdict(recipe),
        seed=seed,
        history=state.history,
        best_epoch=state.best_epoch,
        predictions=predictions,
        threads=torch.get_num_threads(),
        processes=distributed.count(),
        device=device_of(model).type,
        precision=state.precision,
        first_losses=state.first_losses,
        test_predictions=state.test_predictions,
        trainable=count_parameters(model, trainable_only=True),
    )


def first_losses(
    model: Classifier, photos: PhotoSet, recipe: Recipe, seed: int, steps: int = 20,
    rates: Mapping[nn.Parameter, float] | None = None,
) -> list[float]:  # fmt: skip
    """Train for a few steps only and return their losses: a cheap check that training still does what it did.

    Parameters
    ----------
    model, photos, recipe, seed
        As for :func:`cnnhw.fit`; the model is trained in place.
    steps : int
        How many steps, at most one epoch's.
    rates : mapping of nn.Parameter to float, optional
        As for :func:`cnnhw.fit`.

    Returns
    -------
    list of float
        The loss of each step, in nats.
    """
    state = _State(model, photos, recipe, seed, rates)
    return [loss for _, (loss, _, _) in zip(range(steps), _steps(state, 1), strict=False)]


def speed(
    model: Classifier, photos: PhotoSet, recipe: Recipe, *, seconds: float = 5.0, epoch: int | None = None
) -> float:
    """Measure how fast a model is trained on this machine.

    Parameters
    ----------
    model, photos, recipe
        As for :func:`cnnhw.fit`; the model is trained in place.
    seconds : float
        How long to measure, after two steps to warm up.
    epoch : int, optional
        Measure as in this epoch, from 1, of a recipe whose resolution rises; by default as in the last one.

    Returns
    -------
    float
        Photos per second.
    """
    state = _State(model, photos, recipe, seed=0)
    steps = itertools.chain.from_iterable(_steps(state, epoch or recipe.epochs) for _ in itertools.count())
    for _ in range(2):
        next(steps)
    seen, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        seen += next(steps)[2]
    return seen / (time.perf_counter() - start)


def precision(recipe: Recipe, device: torch.device) -> str:
    """Return the number format that a recipe means on this machine.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    device : torch.device
        Where the model is.

    Returns
    -------
    {"float32", "bfloat16", "float16"}
        What the recipe says; for ``"auto"``, what the hardware computes in: on MPS, float32.
    """
    if recipe.precision != "auto":
        return recipe.precision
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16"
        return "float16" if torch.cuda.get_device_capability(device) >= (7, 0) else "float32"
    if device.type != "cpu":
        return "float32"
    # older versions of torch cannot tell what the processor has
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def saved_settings(folder: str | Path) -> dict[str, Any]:
    """Return what an interrupted run was started with.

    Parameters
    ----------
    folder : str or Path
        The folder given to :func:`cnnhw.fit`.

    Returns
    -------
    dict
        ``model`` and ``size``, ``recipe`` (the fields that differ from the defaults), ``seed`` and more.

    Raises
    ------
    TrainingError
        If there is no checkpoint, or it cannot be read.
    """
    return _read_checkpoint(Path(folder) / CHECKPOINT)[0]["settings"]


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON and the tensors of a checkpoint."""
    try:
        metadata, tensors = files.load_tensors(path)
        note = json.loads(metadata["cnnhw"])
        note["settings"]["recipe"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{path} is not a readable checkpoint ({error}): delete it to start anew") from error
    return note, tensors


class _State:
    """Everything that a run carries from epoch to epoch."""

    def __init__(
        self, model: Classifier, photos: PhotoSet, recipe: Recipe, seed: int,
        rates: Mapping[nn.Parameter, float] | None = None,
    ) -> None:  # fmt: skip
        system.keep_freed()
        self.model = model.to(memory_format=torch.channels_last)  # 1.1 to 1.4 times faster on CPUs
        self.photos, self.recipe, self.seed = photos, recipe, seed
        self.precision = precision(recipe, device_of(model))
        if recipe.raw:
            model.pixel_scale = 255.0
        if recipe.whiten:
            rows = torch.randperm(len(photos.train), generator=torch.Generator().manual_seed(seed))
            whiten_(model, to_float(photos.train.batch(rows[:500])))
        self.optimizers, self.kernels = _optimizers(model, recipe, rates or {})
        self.weights = _class_weights(photos).to(device_of(model)) if recipe.class_weights else None
        self.scaler = torch.amp.GradScaler(device_of(model).type, enabled=self.precision == "float16")
        # each process updates statistics of its own; `fit` averages them after each epoch
        self.network: nn.Module = (
            DistributedDataParallel(model, broadcast_buffers=False) if distributed.count() > 1 else model
        )
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self.first_losses: list[float] = []
        self.test_predictions: list[list[int]] = []
        self.best_epoch = 0
        self.best = _copy(model)

    def close_epoch(self, epoch: int, row: dict[str, float]) -> None:
        """Note an epoch's figures, and its weights if it is the best so far."""
        self.epoch = epoch
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        scores = list(
            zip(
                self.history["validation_accuracy"],
                (-x for x in self.history["validation_loss"]),
                strict=True,
            )
        )
        if self.recipe.keep == "last" or scores[-1] > max(scores[:-1], default=(-1.0, 0.0)):
            self.best_epoch, self.best = epoch, _copy(self.model)

    def settings(self) -> dict[str, Any]:
        """Return what has to be the same for a run to be resumed."""
        factors = [group["factor"] for optimizer in self.optimizers for group in optimizer.param_groups]
        return {
            "model": self.model.name,
            "recipe": self.recipe.changes(),
            "precision": self.precision,
            "size": self.photos.size,
            "seed": self.seed,
            "data": self.photos.fingerprint,
            **({"rates": factors} if set(factors) != {1.0} else {}),
            **({"processes": distributed.count()} if distributed.count() > 1 else {}),
        }

    def save(self, path: Path) -> None:
        """Write the checkpoint, in the first process: tensors and, as JSON in the header, all else."""
        if distributed.rank() > 0:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for which, optimizer in enumerate(self.optimizers):
            for number, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{which}.{number}.{name}": value for name, value in moments.items()}
        note = {
            "settings": self.settings(),
            "threads": torch.get_num_threads(),
            "epoch": self.epoch,
            "history": self.history,
            "first_losses": self.first_losses,
            "test_predictions": self.test_predictions,
            "best_epoch": self.best_epoch,
            **({"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}),
        }
        files.save_tensors(path, tensors, {"cnnhw": json.dumps(note)})

    def restore(self, path: Path) -> None:
        """Go back to a checkpoint, refusing one of another run; the first process reads it for all."""
        note, tensors = distributed.broadcast(_read_checkpoint(path) if distributed.rank() == 0 else None)
        saved, ours = note["settings"], self.settings()
        if saved != ours:
            names = dict.fromkeys([*ours, *saved])
            differ = ", ".join(
                f"{name}: {saved.get(name)} there, {ours.get(name)} now"
                for name in names
                if saved.get(name) != ours.get(name)
            )
            raise TrainingError(f"{path} belongs to a run with other settings ({differ}): choose another folder")
        if note["threads"] != torch.get_num_threads():
            raise TrainingError(
                f"{path} was trained with {note['threads']} threads, now there are {torch.get_num_threads()}: results "
                f"would differ in the last digits; call torch.set_num_threads({note['threads']}) or set OMP_NUM_THREADS"
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.best = part("best.")
        for which, optimizer in enumerate(self.optimizers):
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in part(f"optimizer{which}.").items():
                number, key = name.split(".", 1)
                moments.setdefault(int(number), {})[key] = value
            state = optimizer.state_dict()
            state["state"] = moments
            optimizer.load_state_dict(state)
            # strides are not stored: bring the restored moments back to the layout of their parameters
            for parameter, values in optimizer.state.items():
                for key, value in values.items():
                    if isinstance(value, Tensor) and value.dim() == 4 and parameter.dim() == 4:
                        values[key] = value.contiguous(memory_format=torch.channels_last)
        self.epoch, self.history, self.best_epoch = note["epoch"], note["history"], note["best_epoch"]
        self.first_losses, self.test_predictions = note["first_losses"], note["test_predictions"]
        if "scaler" in note:
            self.scaler.load_state_dict(note["scaler"])


def _train_epoch(state: _State, epoch: int, bar: tqdm[Any]) -> dict[str, float]:
    """Train for one epoch; return its mean loss, accuracy and seconds."""
    bar.set_description(f"epoch {epoch}/{state.recipe.epochs}")
    total_loss = total_correct = seen = 0.0
    start = time.perf_counter()
    for step, (loss, correct, count) in enumerate(_steps(state, epoch)):
        _check_finite(loss, f"the loss became {{}} in epoch {epoch}, step {step + 1}", state.recipe)
        if epoch == 1 and len(state.first_losses) < 20:
            state.first_losses.append(loss)
        total_loss, total_correct, seen = total_loss + loss * count, total_correct + correct, seen + count
        bar.set_postfix(loss=f"{total_loss / seen:.3f}", accuracy=f"{total_correct / seen:.3f}", refresh=False)
        bar.update(count)
    seconds = time.perf_counter() - start
    return {"loss": total_loss / seen, "accuracy": total_correct / seen, "seconds": round(seconds, 3)}


def _check_side(model: Classifier, side: int) -> None:
    try:
        with evaluating(model), torch.inference_mode():
            model(torch.zeros(1, 3, side, side, device=device_of(model)))
    except RuntimeError as error:
        raise TrainingError(
            f"{model.name} cannot be trained at {side} pixels, only at {model.size} ({error}): "
            "choose other resolutions in the recipe, or another model"
        ) from error


def _check_finite(loss: float, what: str, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"{what.format(loss)}: lower the learning rate (now {recipe.learning_rate:g}) and look for broken photos. "
            "The checkpoint of the last whole epoch is kept."
        )


def _steps(state: _State, epoch: int) -> Iterator[tuple[float, int, int]]:
    """Take the steps of one epoch, giving the loss, correct predictions and photos of each."""
    model, recipe, train = state.model, state.recipe, state.photos.train
    device = device_of(model)
    generator = torch.Generator().manual_seed(state.seed * 1_000_003 + epoch)
    batches = torch.randperm(len(train), generator=generator).split(recipe.batch_size)
    side = recipe.side(epoch, state.photos.size)
    criterion = nn.CrossEntropyLoss(state.weights, label_smoothing=recipe.label_smoothing)
    model.train()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d) and not any(p.requires_grad for p in part.parameters()):
            part.eval()
    with torch.random.fork_rng(devices=[]):
        # dropout draws from the global generator, in each process for other photos
        torch.manual_seed((state.seed * 1_000_003 + epoch) + 7_919_000_017 * distributed.rank())
        for number, rows in enumerate(batches):
            rate = recipe.rate((epoch - 1) * len(batches) + number, recipe.epochs * len(batches))
            for optimizer in state.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["factor"]
            own = distributed.share(len(rows))
            # a process without a photo in a small last batch takes part with one that does not count
            used = own if own.stop > own.start else slice(0, 1)
            held = slice(None) if recipe.mixup else used  # to blend, a process needs the others' photos
            x = augment(
                train.batch(rows[held]), flip=recipe.flip, shift=recipe.shift, cutout=recipe.cutout,
                generator=generator, rows=held, of=len(rows),
            )  # fmt: skip
            x = resize(to_float(x), side).to(device, memory_format=torch.channels_last)  # (B, 3, side, side)
            y = train.labels[rows].to(device)
            targets = [(1.0, y)]
            if recipe.mixup:
                drawn = torch.distributions.Beta(recipe.mixup, recipe.mixup).sample()
                share = distributed.broadcast(drawn).to(device)
                partner = torch.randperm(len(rows), generator=generator).to(device)
                x = (share * x + (1 - share) * x[partner])[used]
                targets = [(share, y), (1 - share, y[partner])]
            with torch.autocast(device.type, _AUTOCAST.get(state.precision), enabled=state.precision in _AUTOCAST):
                logits = state.network(x).float()
            # the mean over the batch is the sum over processes of their means, by the share of each
            loss = sum(
                weight * criterion(logits, target[used]) * _portion(state.weights, target, own)
                for weight, target in targets
            )
            model.zero_grad(set_to_none=True)
            # gradients are averaged over processes
            state.scaler.scale(loss * distributed.count()).backward()
            right = (logits.argmax(1) == y[used]).sum() if used is own else torch.zeros((), device=device)
            value, correct = distributed.summed(torch.stack([loss.detach(), right.float()])).tolist()
            if math.isfinite(value):
                for weight, matrix in state.kernels:
                    assert weight.grad is not None
                    matrix.grad = _matrix(weight.grad)
                for optimizer in state.optimizers:
                    state.scaler.step(optimizer)
                state.scaler.update()
            yield value, int(correct), len(rows)


def _portion(weights: Tensor | None, labels: Tensor, own: slice) -> float | Tensor:
    """Return the share of this process's photos in a batch's mean loss; classes may have weights."""
    if own == slice(0, len(labels)):
        return 1.0
    counted = torch.ones_like(labels, dtype=torch.float32) if weights is None else weights[labels]
    return counted[own].sum() / counted.sum()


def _predict(model: Classifier, split: Split) -> Tensor:
    """Return the logits of a split, each photo's computed by one process and known to all afterwards."""
    own = distributed.share(len(split))
    part = Split(split.store, split.index[own], split.labels[own], split.names[own], split.digests[own])
    return distributed.gathered(evaluation.predict(model, part))


def _class_weights(photos: PhotoSet) -> Tensor:
    counts = torch.bincount(photos.train.labels, minlength=len(photos.classes)).float()
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
