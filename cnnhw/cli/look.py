"""``cnnhw predict``, ``evaluate``, ``export``, ``features`` and ``design``."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cnnhw import files, models, outputs
from cnnhw.cli.command import cli
from cnnhw.cli.options import _DEVICE, _LAYOUT, _PHOTO_LIMIT, _ROOT, _file, _folder, _printed_csv, _save, _value, _write
from cnnhw.errors import CnnhwError, DataError
from cnnhw.models.blocks import Classifier
from cnnhw.models.weights import load, shipped
from cnnhw.training import distributed

__all__ = []

_CROP = click.option(
    "--crop", is_flag=True, help="Cut the middle square out instead of squashing the photo to a square."
)


@cli.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: photo, class, and one probability a class.")
@_file("Also write the CSV to this file.")
@_CROP
@_DEVICE
def predict(
    weights: Path, photos: Sequence[Path], as_csv: bool, out: Path | None, crop: bool, device_name: str
) -> None:
    """Print class probabilities for photos.

    PHOTOS are files, or folders of them. WEIGHTS is a weights file, or the folder of a saved run, or a shipped name:
    {shipped}.

    CSV is in UTF-8, its lines end in a line feed. Names are in it as they are: import it as text, as a spreadsheet may
    take one that begins with = for a formula.
    """
    import torch

    from cnnhw import data
    from cnnhw.data.archives import portable, unused
    from cnnhw.data.augment import to_float

    if out:
        outputs.check_file(out)
    device = distributed.device(device_name)
    model = load(weights).to(device)
    classes = model.classes or tuple(f"class {i}" for i in range(model.num_classes))
    rows = [("photo", "class", *classes)]
    printed = _printed_csv() if as_csv else None
    if printed:
        printed.writerow(rows[0])
    failed = 0
    names: dict[str, Path] = {}
    for path in data.photo_files(photos):
        shown = portable(str(path))
        shown = shown if names.get(shown, path) == path else unused(shown, names)
        names[shown] = path
        try:
            image = data.read_photo(_photo(path), size=model.size, crop=crop)
        except CnnhwError as error:
            click.echo(f"error: {error}", err=True)
            failed += 1
            continue
        with torch.inference_mode():
            shares = model(to_float(image[None]).to(device)).softmax(1)[0].tolist()
        ranked = sorted(zip(shares, classes, strict=True), reverse=True)
        rows.append((shown, ranked[0][1], *(f"{share:.4f}" for share in shares)))
        if printed:
            printed.writerow(rows[-1])
        else:
            click.echo(f"{shown}: " + "  ".join(f"{name} {share:.1%}" for share, name in ranked))
    if out:
        out = _write(lambda path: files.write_csv(path, rows), out)
        click.echo(f"Table: {out}", err=True)
    if failed:
        sys.exit(1)


assert predict.help is not None
predict.help = predict.help.format(shipped=", ".join(shipped()))


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
@_folder("Also write figures, pictures and the list of errors to this folder.")
@_LAYOUT
@_DEVICE
@_ROOT
def evaluate(
    weights: Path, name_or_folder: str, part: str, out: Path | None, layout: Any, device_name: str, root: Path | None
) -> None:
    """Measure how good a trained network is on labelled photos.

    Prints accuracy, each class's precision and recall, and calibration. The classes of the photos have to be among the
    network's, by name; one photo will do. WEIGHTS is as for predict.
    """
    from cnnhw import data
    from cnnhw.evaluation import assessment

    if out:
        assessment.check_unused(out)
    model = load(weights).to(distributed.device(device_name))
    photos = data.load(name_or_folder, size=model.size, root=root, layout=layout, classes=model.classes)
    found = assessment.assess(model, photos, part)
    total = sum(len(split) for split in photos.splits)
    which = "all" if part == "all" else f"the {part} part"
    click.echo(f"{photos.name}: {which}, {len(found.names):,} of {total:,} photos. {photos.note}".rstrip())
    if absent := [name for name in found.classes if name not in photos.classes]:
        click.echo(f"No photos of {len(absent)} of the network's {len(found.classes)} classes: {', '.join(absent)}.")
    if part in ("train", "all"):
        click.echo(
            "If the network was trained on these data, it has seen some of these photos: the figures are optimistic."
        )
    click.echo(found.table())
    if out:
        click.echo(f"Evaluation: {_save(found.save, out) / 'evaluation.json'}")


@cli.command()
@click.argument("weights", type=click.Path(path_type=Path))
@_file("The file, whose name ends in .onnx or .html.", default="model.onnx", show_default=True)
@click.option("--crop", is_flag=True, help="Of a page: cut the middle square out instead of squashing photos.")
def export(weights: Path, out: Path, crop: bool) -> None:
    """Write a trained network to one file, for other programs or other people.

    With --out classifier.html it is a page that classifies photos in a browser: send it to anybody. Nothing has to be
    installed, and no photo leaves the reader's device. Otherwise it is an ONNX file, which needs
    `pip install "cnnhw[onnx]"`.

    It is compared with the original on random photos before it is written. WEIGHTS is as for predict: a run, a file of
    weights, or the name of a network that comes with the package, such as fast.
    """
    outputs.check_file(out)
    kinds = {".onnx": _to_onnx, ".html": _to_html}
    kind = out.suffix.lower()
    if kind not in kinds:
        raise click.UsageError(
            f"--out {out} is of no kind that can be written: let its name end in {' or '.join(kinds)}."
        )
    if crop and kind == ".onnx":
        raise click.UsageError("--crop is for pages (.html): an ONNX file takes photos that are square already.")
    model = load(weights)
    kinds[kind](model, weights, out, crop)
    if licence := vars(model)["licence"]:
        click.echo(f"Licence of the weights: {licence}")


def _to_onnx(model: Classifier, weights: Path, out: Path, crop: bool) -> None:
    from cnnhw.evaluation.export import to_onnx

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


def _to_html(model: Classifier, weights: Path, out: Path, crop: bool) -> None:
    from cnnhw.evaluation.export import read_threshold, to_html

    threshold = read_threshold(weights)
    differences = []
    out = _write(lambda path: differences.append(to_html(model, path, crop=crop, threshold=threshold)), out)
    shown = "middle square of a photo" if crop else "photo, squashed to a square"
    click.echo(
        f"{out}: the {shown}, of {model.size}x{model.size} pixels, to {model.num_classes:,} classes; "
        f"{out.stat().st_size / 1000:,.0f} kB. Any browser opens it."
    )
    click.echo(
        f"Checked: on random photos its probabilities differ from the network's by {differences[-1]:.1e} at most."
    )
    if threshold and threshold["probability"] is not None:
        click.echo(f'It says "not sure" below {threshold["probability"]:.1%}, as the validation photos had it.')
    else:
        click.echo('Below which probability it says "not sure" is a guess: the run has chosen none.')


@cli.command()
@click.argument("weights")
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--layer", metavar="NAME", help="The layer [default: the first convolution].")
@_file("The PNG file [default: the names of photo and layer, in this folder].")
@_CROP
def features(weights: str, photo: Path, layer: str | None, out: Path | None, crop: bool) -> None:
    """Draw the feature maps of a layer for PHOTO.

    All maps share one colour scale, so that dead channels are visible. WEIGHTS is as for predict.
    """
    from cnnhw import data
    from cnnhw import features as look

    if out:
        outputs.check_file(out)
    model = load(weights)
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
@click.argument("model")
@click.option("--size", type=click.IntRange(8, 1024), default=128, show_default=True, help="Side length in pixels.")
@click.option("--classes", type=click.IntRange(1), default=5, show_default=True, help="Number of classes.")
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the model; may be repeated."
)
def design(model: str, size: int, classes: int, options: Sequence[str]) -> None:
    """Print cost and receptive field of each layer of MODEL, and warn of what the book advises against.

    For each layer: the shape of its output, parameters, multiply-adds for one photo, and the receptive field. Warnings
    of unbalanced budgets are counted; the others name the finding that they rest on: see `cnnhw claims`.
    """
    from cnnhw import theory
    from cnnhw.book import registry
    from cnnhw.book.iii import advice

    chosen: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise click.UsageError(f"--option {option!r} is not of the form NAME=VALUE.")
        chosen[name] = _value(value)
    network = models.create(model, classes, size=size, **chosen)
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
    for against, asked in advice(network):
        click.echo(f"warning: {against}; what the book found: {registry.stated(asked)}")
