"""``cnnhw train`` and ``cnnhw transfer``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnhw import models, outputs, system
from cnnhw.cli.command import cli
from cnnhw.cli.options import (
    _CLASS_WEIGHTS,
    _DEVICE,
    _LAYOUT,
    _RESUME,
    _ROOT,
    _SEED,
    _counts,
    _FloatRange,
    _folder,
    _interruptible,
    _one_voice,
    _save,
    _where,
)  # fmt: skip
from cnnhw.errors import UnknownNameError
from cnnhw.models.heads import check_size
from cnnhw.models.weights import shipped
from cnnhw.training import distributed
from cnnhw.training.checkpoint import CHECKPOINT

if TYPE_CHECKING:
    import torch

    from cnnhw.data.photoset import PhotoSet
    from cnnhw.training.presets import Plan
    from cnnhw.training.run import Run

__all__ = []

_TRAINED = 0.7  # of the photos, if they do not come split
_KEPT = "The last whole epoch is kept: the same command with --resume goes on from it."


@cli.command()
@click.argument("model")
@click.option(
    "--data",
    "name_or_folder",
    default="scenes",
    show_default=True,
    metavar="NAME_OR_FOLDER",
    help="A data set's name, or a folder of class folders.",
)
@click.option(
    "--minutes",
    type=_FloatRange(0, min_open=True),
    help="Time for training, validation included [default: best and ensemble 10].",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="Passes over the training photos, with --minutes at most [default: 5; fast 8; with --minutes 60].",
)
@click.option(
    "--size",
    type=click.IntRange(8, 1024),
    help="Side length in pixels [default: 128; fast 64; the photos' own if that is less].",
)
@click.option(
    "--seed", type=_SEED, default=0, show_default=True, help="Decides initial weights and the order of photos."
)
@click.option("--batch-size", type=click.IntRange(1), help="Photos a step [default: 32; fast and best 64].")
@click.option("--rate", type=_FloatRange(0, min_open=True), help="Learning rate [default: 0.001; fast, best 0.02].")
@click.option(
    "--augment/--no-augment", default=None, help="Mirror and shift photos at random [default: fast and best only]."
)
@_CLASS_WEIGHTS
@_folder("Folder for the result [default: runs/MODEL-DATA-SEED].")
@_RESUME
@_LAYOUT
@_DEVICE
@_ROOT
def train(
    model: str, name_or_folder: str, minutes: float | None, epochs: int | None, size: int | None, seed: int,
    batch_size: int | None, rate: float | None, augment: bool | None, class_weights: bool, out: Path | None,
    resume: bool, layout: Any, device_name: str, root: Path | None,
) -> None:  # fmt: skip
    """Train MODEL on photos and save a report.

    It is saved in a folder, with weights, curves, confusion matrix and a diagram. The epoch that does best on the
    validation photos is kept; the test photos are looked at once, at the end.

    MODEL is fast (a good network in seconds), best (the highest accuracy within --minutes: features from ImageNet and
    networks from scratch are tried, and what does better goes on), ensemble (several fast ones from scratch, whose
    mean answers), or one of the book's networks, trained as the original report did: {networks}.

    Several GPUs or machines train one network together: `torchrun --nproc-per-node 2 -m cnnhw train ...`.
    """
    import torch

    from cnnhw import data
    from cnnhw.training import presets

    if model not in models.names():
        raise UnknownNameError("model", model, models.names())
    if size:  # too small a one is told of before photos are decoded
        with torch.device("meta"):
            models.create(model, size=size)
    searched = model in ("best", "ensemble") and not epochs
    if distributed.launched() and (minutes or searched or model == "ensemble"):
        raise click.UsageError(
            "Time is measured, and ensembles are trained, in one process: with several, give --epochs, not --minutes."
        )
    system.keep_freed()
    folder = out or Path("runs") / f"{model}-{Path(name_or_folder).resolve().name}-{seed}"
    device = distributed.device(device_name)
    wanted: dict[str, Any] = {"batch_size": batch_size, "learning_rate": rate, "class_weights": class_weights or None}
    if augment is not None:
        wanted |= {"flip": augment} | ({} if augment else {"shift": 0})
    changes = {name: value for name, value in wanted.items() if value is not None}
    with distributed.session(device), _one_voice():
        if distributed.rank() == 0:
            outputs.check_run(folder, resume=resume, stages=searched or model == "ensemble")
        load = partial(data.load, name_or_folder, root=root, layout=layout)
        if searched:
            count, native = data.survey(name_or_folder, root=root, layout=layout)
            with _interruptible(_KEPT):
                run = _search(
                    load, round(_TRAINED * count), minutes=minutes or 10, native=native, size=size, changes=changes,
                    scratch=model == "ensemble", seed=seed, folder=folder, resume=resume, device=device,
                )  # fmt: skip
        else:
            own = None if size else data.survey(name_or_folder, root=root, layout=layout).side
            plan = presets.plan(model, size=size, epochs=epochs, minutes=minutes or 0.0, native=own)
            if changes.get("flip"):
                changes["shift"] = plan.size // 16
            plan = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, **changes))
            run = _fit(load, plan, seed=seed, folder=folder, resume=resume, device=device)
        if distributed.rank() == 0:
            place = _save(run.save, folder)
            (folder / CHECKPOINT).unlink(missing_ok=True)
            outputs.remove_stages(folder)
            _tell_result(run, place)


def _search(load: Callable[..., PhotoSet], count: int, **options: Any) -> Run:
    """Look for the best classifier in a time, and tell of it."""
    from cnnhw import transfer as transfers

    told: set[int] = set()

    def loaded(size: int) -> PhotoSet:
        photos = load(size=size)
        if not told:
            click.echo(_counts(photos))
        told.add(size)
        return photos

    click.echo(f"The best in {60 * options['minutes']:.0f} s{_where(options['device'])}:")
    return transfers.search(loaded, count, say=click.echo, **options)


def _fit(
    load: Callable[..., PhotoSet], plan: Plan, *, seed: int, folder: Path, resume: bool, device: torch.device
) -> Run:
    """Follow a plan, and tell of it."""
    from cnnhw.training import presets
    from cnnhw.training.checkpoint import saved_settings
    from cnnhw.training.ensembles import fit_ensemble
    from cnnhw.training.loop import fit

    recipe, size = plan.recipe, plan.size
    with distributed.local_first():
        photos = load(size=size)
    network = models.create(plan.model, len(photos.classes), seed=seed, size=size).to(device)
    if recipe.precision == "auto" and not distributed.launched():
        saved = saved_settings(folder) if resume and (folder / CHECKPOINT).exists() else {}
        measured = saved.get("precision") or presets.faster(network, size, recipe)[0]
        recipe = dataclasses.replace(recipe, precision=measured)
    limit = f"{recipe.epochs} epochs" if not recipe.minutes else f"up to {60 * recipe.minutes:.0f} s"
    each = f"{plan.members} networks {plan.model}, each" if plan.members > 1 else f"{plan.model}:"
    click.echo(
        f"{each} {models.count_parameters(network):,} parameters; {limit} at {size}x{size} pixels{_where(device)}."
    )
    click.echo(_counts(photos))
    with _interruptible(_KEPT):
        if plan.members > 1:
            return fit_ensemble(
                photos, recipe, members=plan.members, of=plan.model, seed=seed, folder=folder / outputs.STAGES,
                resume=resume,
            )  # fmt: skip
        return fit(network, photos, recipe, seed=seed, folder=folder, resume=resume)


def _tell_result(run: Run, folder: Path) -> None:
    """Say how a saved run did, and what can be done with it."""
    import torch

    from cnnhw.models import weights

    if run.candidates:
        found = ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in run.candidates.items())
        click.echo(f"On the validation photos: {found}.")
    low, high = run.summary()["accuracy_interval"]
    epochs = len(run.history["loss"])
    click.echo(
        f"Test accuracy {run.accuracy:.3f} (95 % interval for the choice of photos {low:.3f} to {high:.3f}) "
        f"after epoch {run.best_epoch} of {epochs}, the best on the validation photos; "
        f"{run.seconds:.0f} s of training."
    )
    counts = torch.bincount(run.photos.test.labels, minlength=len(run.classes))
    if counts.max() > 1.5 * counts.min():
        balanced = run.summary()["balanced_accuracy"]
        click.echo(f"Balanced accuracy {balanced:.3f}: the classes differ in size, and all count alike in it.")
    if run.best_epoch == epochs and run.recipe["schedule"] == "constant":
        click.echo("The last epoch was the best one: more epochs (--epochs) may do better.")
    if run.licence:
        click.echo(f"Licence of photos and weights: {run.licence}")
    click.echo(f"Report:  {folder / 'report.html'}")
    click.echo(f"Next:    cnnhw predict {folder / weights.WEIGHTS} PHOTO...")


assert train.help is not None
train.help = train.help.format(
    networks=", ".join(name for name in models.names() if name not in ("best", "ensemble", "fast"))
)


@cli.command()
@click.argument("weights", default="fast")
@click.option(
    "--data",
    "name_or_folder",
    required=True,
    metavar="NAME_OR_FOLDER",
    help="Your photos: a folder of class folders, or a data set's name.",
)
@click.option(
    "--head",
    "kind",
    type=click.Choice(["linear", "hidden", "flatten", "own"]),
    default="linear",
    show_default=True,
    help="The new head: linear, or with a hidden layer, on the mean of each map or (flatten) on all its cells; or the "
    "network's own with a new last layer.",
)
@click.option("--hidden", type=click.IntRange(1), default=256, show_default=True, help="Units of the hidden layer.")
@click.option(
    "--dropout",
    type=_FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the last layer's inputs that are left out at random.",
)
@click.option(
    "--head-epochs",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Epochs of a head with a hidden layer, stage one.",
)
@click.option("--minutes", type=_FloatRange(0, min_open=True), help="Time for both stages, validation included.")
@click.option(
    "--epochs",
    type=click.IntRange(0),
    help="Epochs of all layers, stage two, with --minutes at most [default: 10; with --minutes 60].",
)
@click.option(
    "--size",
    type=click.IntRange(8, 1024),
    help="Side length in pixels [default: the network's; from ImageNet up to 224, as photos and --minutes allow].",
)
@click.option("--seed", type=_SEED, default=0, show_default=True, help="Decides the new head and the order of photos.")
@click.option("--augment/--no-augment", default=True, help="Mirror and shift photos in stage two [default: yes].")
@_CLASS_WEIGHTS
@_folder("Folder for the result [default: runs/WEIGHTS-to-DATA-SEED].")
@_RESUME
@_LAYOUT
@_DEVICE
@_ROOT
def transfer(
    weights: str, name_or_folder: str, kind: str, hidden: int, dropout: float, head_epochs: int,
    minutes: float | None, epochs: int | None, size: int | None, seed: int, augment: bool, class_weights: bool,
    out: Path | None, resume: bool, layout: Any, device_name: str, root: Path | None,
) -> None:  # fmt: skip
    """Teach a trained network the classes of your own photos, and save a report.

    First a new head learns, with the features frozen (a linear one is solved for, in seconds); then all layers do. What
    does best on the validation photos is kept; with --epochs 0 there is only stage one.

    WEIGHTS is a weights file, the folder of a saved run, a shipped network ({shipped}), or features learnt on ImageNet
    ({backbones}; imagenet stands for the first) [default: fast].
    """
    from cnnhw import data
    from cnnhw import transfer as transfers

    system.keep_freed()
    folder = out or Path("runs") / f"{Path(weights).stem}-to-{Path(name_or_folder).resolve().name}-{seed}"
    outputs.check_run(folder, resume=resume, stages=True)
    device = distributed.device(device_name)
    if not size and weights in ("imagenet", *models.backbones()) and not Path(weights).exists():
        count, native = data.survey(name_or_folder, root=root, layout=layout)
        size = transfers.fitting_side(weights, count, native=native, minutes=minutes or 0.0)
    model = transfers.source(weights, size=size).to(device)
    if kind == "own" and size not in (None, model.size):
        raise click.UsageError(f"the network's own head is for photos of {model.size} pixels: leave --size out.")
    check_size(model, size or model.size)
    photos = data.load(name_or_folder, size=size or model.size, root=root, layout=layout)
    head = None if kind == "own" else transfers.Head(
        hidden=0 if kind == "linear" else hidden, dropout=dropout, pool="flatten" if kind == "flatten" else "average"
    )  # fmt: skip
    parameters = models.count_parameters(model.features)
    click.echo(f"{weights}: {parameters:,} parameters of features, {photos.size} pixels{_where(device)}.")
    click.echo(_counts(photos))
    with _interruptible(_KEPT):
        run = transfers.adapt(
            model, photos, head=head, head_epochs=head_epochs,
            epochs=(60 if minutes else 10) if epochs is None else epochs, minutes=minutes or 0.0, augment=augment,
            class_weights=class_weights, seed=seed, folder=folder, resume=resume,
        )  # fmt: skip
    for number, stage in enumerate(run.stages, start=1):
        what = "all layers" if number == 2 else "the head alone"
        click.echo(
            f"Stage {number}, {what}: {stage.trainable:,} parameters trained; "
            f"validation accuracy {stage.validation_accuracy:.3f}."
        )
    if run.kept < len(run.stages):
        click.echo("Training all layers made it worse on the validation photos: the features are left as they were.")
    place = _save(run.save, folder)
    outputs.remove_stages(folder)
    _tell_result(run, place)


assert transfer.help is not None
transfer.help = transfer.help.format(shipped=", ".join(shipped()), backbones=", ".join(models.backbones()))
