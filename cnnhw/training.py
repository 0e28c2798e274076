"""Training: a frozen recipe, and `fit`, which follows it and can be stopped and resumed at any moment.

Every random choice of an epoch is drawn from a generator seeded by the run's seed and the epoch's number. Nothing
random is carried over from epoch to epoch, so a run resumed from its last checkpoint ends in bitwise the same weights.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from cnnhw import evaluation, files
from cnnhw.data.augment import augment, to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import TrainingError
from cnnhw.models.blocks import Classifier, device_of
from cnnhw.runs import Run

__all__ = ["CHECKPOINT", "Recipe", "first_losses", "fit"]

CHECKPOINT = "checkpoint.safetensors"
_OPTIMIZERS = ("adam", "adamw", "sgd")
_SCHEDULES = ("constant", "cosine", "one_cycle")


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the original report's: Adam at a constant rate, no augmentation.

    Attributes
    ----------
    epochs : int
        Passes over the training photos, 1 or more.
    batch_size : int
        Photos a step, 1 or more; the last batch of an epoch may be smaller.
    optimizer : {"adam", "adamw", "sgd"}
        Update rule; ``"sgd"`` has Nesterov momentum 0.9.
    learning_rate : float
        The rate, or the highest rate of a schedule; above 0.
    weight_decay : float
        L2 penalty (decoupled for ``"adamw"``), 0 or more.
    epsilon : float
        Adam's epsilon. The default is Keras's 1e-7; PyTorch's own is 1e-8.
    schedule : {"constant", "cosine", "one_cycle"}
        The rate over the run: constant; half a cosine down to 0; or linear up during the first 30 % of the steps,
        then half a cosine down to 0.
    label_smoothing : float
        Share of the target spread evenly over all classes, 0 to 1.
    flip : bool
        Mirror photos left to right at random.
    shift : int
        Greatest random shift in pixels, each way.
    class_weights : bool
        Weigh the loss by the inverse frequency of the classes, for unbalanced data.
    """

    epochs: int = 15
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epsilon: float = 1e-7
    schedule: str = "constant"
    label_smoothing: float = 0.0
    flip: bool = False
    shift: int = 0
    class_weights: bool = False

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "optimizer": self.optimizer in _OPTIMIZERS,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "epsilon": 0 < self.epsilon < math.inf,
            "schedule": self.schedule in _SCHEDULES,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "shift": self.shift >= 0,
        }
        for field, good in checks.items():
            if not good:
                raise ValueError(f"Recipe({field}={getattr(self, field)!r}) is not possible; see help(cnnhw.Recipe)")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            Number of the step in the run, from 0.
        steps : int
            Steps of the whole run.

        Returns
        -------
        float
            The rate, 0 to `learning_rate`.
        """
        if self.schedule == "constant":
            return self.learning_rate
        share = (step + 0.5) / steps
        warm = 0.3 if self.schedule == "one_cycle" else 0.0
        if share < warm:
            return self.learning_rate * share / warm
        return self.learning_rate * (1 + math.cos(math.pi * (share - warm) / (1 - warm))) / 2


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
) -> Run:
    """Train a model and keep its best epoch by validation accuracy (the lower loss decides between equals).

    Parameters
    ----------
    model : Classifier
        Trained in place; holds the best epoch's weights afterwards.
    photos : PhotoSet
        The data; validation photos choose the epoch, test photos are only reported.
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
        Show a bar with loss, accuracy, photos/s and time left.
    on_epoch : callable, optional
        Called after each epoch with its number, from 1, and its row of the history.

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
    """
    recipe = recipe or Recipe()
    evaluation.check_fits(model, photos.size, len(photos.classes))
    if not len(photos.train) or not len(photos.validation):
        raise TrainingError(f"{photos!r} lacks photos to train on or to validate with")
    state = _State(model, photos, recipe, seed)
    checkpoint = Path(folder) / CHECKPOINT if folder is not None else None
    if checkpoint is not None and checkpoint.exists():
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
        disable=not progress,
    ) as bar:
        for epoch in range(state.epoch + 1, recipe.epochs + 1):
            row = _train_epoch(state, epoch, bar)
            logits = evaluation.predict(model, photos.validation)
            row["validation_loss"] = evaluation.loss(logits, photos.validation.labels)
            row["validation_accuracy"] = evaluation.accuracy(logits.argmax(1), photos.validation.labels)
            state.close_epoch(epoch, row)
            if test_each_epoch:
                state.test_predictions.append(evaluation.predict(model, photos.test).argmax(1).tolist())
            if checkpoint is not None:
                state.save(checkpoint)
            if on_epoch is not None:
                on_epoch(epoch, row)

    model.load_state_dict(state.best)
    model.classes = photos.classes
    predictions = evaluation.predict(model, photos.test).argmax(1)
    return Run(
        model=model,
        photos=photos,
        recipe=dataclasses.asdict(recipe),
        seed=seed,
        history=state.history,
        best_epoch=state.best_epoch,
        predictions=predictions,
        threads=torch.get_num_threads(),
        first_losses=state.first_losses,
        test_predictions=state.test_predictions,
    )


def first_losses(model: Classifier, photos: PhotoSet, recipe: Recipe, seed: int, steps: int = 20) -> list[float]:
    """Train for a few steps only and return their losses: a cheap check that training still does what it did.

    Parameters
    ----------
    model, photos, recipe, seed
        As for :func:`cnnhw.fit`; the model is trained in place.
    steps : int
        How many steps, at most one epoch's.

    Returns
    -------
    list of float
        The loss of each step, in nats.
    """
    state = _State(model, photos, recipe, seed)
    return [loss for _, (loss, _, _) in zip(range(steps), _steps(state, 1), strict=False)]


class _State:
    """Everything that a run carries from epoch to epoch."""

    def __init__(self, model: Classifier, photos: PhotoSet, recipe: Recipe, seed: int) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # 1.1 to 1.4 times faster on CPUs
        self.photos, self.recipe, self.seed = photos, recipe, seed
        self.optimizer = _optimizer(model, recipe)
        self.weights = _class_weights(photos).to(device_of(model)) if recipe.class_weights else None
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
        if scores[-1] > max(scores[:-1], default=(-1.0, 0.0)):
            self.best_epoch, self.best = epoch, _copy(self.model)

    def settings(self) -> dict[str, Any]:
        """Return what has to be the same for a run to be resumed."""
        return {
            "model": self.model.name,
            "recipe": dataclasses.asdict(self.recipe),
            "seed": self.seed,
            "data": self.photos.fingerprint,
        }

    def save(self, path: Path) -> None:
        """Write the checkpoint: tensors and, as JSON in the header, all else."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        note = {
            "settings": self.settings(),
            "threads": torch.get_num_threads(),
            "epoch": self.epoch,
            "history": self.history,
            "first_losses": self.first_losses,
            "test_predictions": self.test_predictions,
            "best_epoch": self.best_epoch,
        }
        with files.replacing(path) as temporary:
            save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, {"cnnhw": json.dumps(note)})

    def restore(self, path: Path) -> None:
        """Go back to a checkpoint, refusing one of another run."""
        try:
            with safe_open(path, framework="pt") as file:
                note = json.loads(file.metadata()["cnnhw"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            saved = note["settings"]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} is not a readable checkpoint ({error}): delete it to start anew") from error
        if saved != self.settings():
            ours = self.settings()
            differ = ", ".join(f"{k}: {saved.get(k)} there, {v} now" for k, v in ours.items() if saved.get(k) != v)
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
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            number, key = name.split(".", 1)
            moments.setdefault(int(number), {})[key] = value
        state = self.optimizer.state_dict()
        state["state"] = moments
        self.optimizer.load_state_dict(state)
        # strides are not stored: bring the restored moments back to the layout of their parameters
        for parameter, values in self.optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.dim() == 4 and parameter.dim() == 4:
                    values[key] = value.contiguous(memory_format=torch.channels_last)
        self.epoch, self.history, self.best_epoch = note["epoch"], note["history"], note["best_epoch"]
        self.first_losses, self.test_predictions = note["first_losses"], note["test_predictions"]


def _train_epoch(state: _State, epoch: int, bar: tqdm[Any]) -> dict[str, float]:
    """Train for one epoch; return its mean loss, accuracy and seconds."""
    bar.set_description(f"epoch {epoch}/{state.recipe.epochs}")
    total_loss = total_correct = seen = 0.0
    start = time.perf_counter()
    for step, (loss, correct, count) in enumerate(_steps(state, epoch)):
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in epoch {epoch}, step {step + 1}: lower the learning rate "
                f"(now {state.recipe.learning_rate:g}) and look for broken photos. "
                "The checkpoint of the last whole epoch is kept."
            )
        if epoch == 1 and len(state.first_losses) < 20:
            state.first_losses.append(loss)
        total_loss, total_correct, seen = total_loss + loss * count, total_correct + correct, seen + count
        bar.set_postfix(loss=f"{total_loss / seen:.3f}", accuracy=f"{total_correct / seen:.3f}", refresh=False)
        bar.update(count)
    seconds = time.perf_counter() - start
    return {"loss": total_loss / seen, "accuracy": total_correct / seen, "seconds": round(seconds, 3)}


def _steps(state: _State, epoch: int) -> Iterator[tuple[float, int, int]]:
    """Take the steps of one epoch, giving the loss, right predictions and photos of each."""
    model, recipe, train = state.model, state.recipe, state.photos.train
    device = device_of(model)
    generator = torch.Generator().manual_seed(state.seed * 1_000_003 + epoch)
    batches = torch.randperm(len(train), generator=generator).split(recipe.batch_size)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state.seed * 1_000_003 + epoch)  # dropout draws from the global generator
        for number, rows in enumerate(batches):
            rate = recipe.rate((epoch - 1) * len(batches) + number, recipe.epochs * len(batches))
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            x = augment(train.batch(rows), flip=recipe.flip, shift=recipe.shift, generator=generator)
            x = to_float(x).to(device, memory_format=torch.channels_last)  # (B, 3, S, S)
            y = train.labels[rows].to(device)
            logits = model(x)
            loss = F.cross_entropy(logits, y, weight=state.weights, label_smoothing=recipe.label_smoothing)
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            value = loss.item()
            if math.isfinite(value):
                state.optimizer.step()
            yield value, int((logits.argmax(1) == y).sum()), len(rows)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, recipe.learning_rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, recipe.learning_rate, eps=recipe.epsilon, weight_decay=recipe.weight_decay, fused=True)


def _class_weights(photos: PhotoSet) -> Tensor:
    counts = torch.bincount(photos.train.labels, minlength=len(photos.classes)).float()
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
