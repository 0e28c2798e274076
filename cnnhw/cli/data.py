"""``cnnhw data``: list, fetch, show, audit."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from cnnhw import outputs
from cnnhw.cli.command import cli
from cnnhw.cli.options import _LAYOUT, _ROOT, _file, _write
from cnnhw.errors import CnnhwError

__all__ = []


@cli.group("data")
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
@_file("Also draw a contact sheet to this PNG file.")
@_LAYOUT
@_ROOT
def data_show(name_or_folder: str, size: int, out: Path | None, layout: Any, root: Path | None) -> None:
    """Count the photos of a data set, class by class."""
    import torch

    from cnnhw import data

    if out:
        outputs.check_file(out)
    photos = data.load(name_or_folder, size=size, root=root, layout=layout)
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

        each = max(1, min(5, 200 // len(photos.classes)))
        rows = [
            row
            for label in range(len(photos.classes))
            for row in (photos.train.labels == label).nonzero().flatten()[:each].tolist()
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
@_file("Also write all findings to this file.", "--json", "as_json")
@_file("Also draw the suspicious photos to this PNG file.")
@_LAYOUT
@_ROOT
def data_audit(
    name_or_folder: str, against: str | None, weights: str, size: int | None, most: int, as_json: Path | None,
    out: Path | None, layout: Any, root: Path | None,
) -> None:  # fmt: skip
    """Look for wrong labels and for photos that are there twice.

    A label is suspicious if classifiers that have not seen the photo find another class more probable: look at it
    before you change it. Photos that look the same, one for training and one for the test, make a test accuracy too
    high; they come first.
    """
    import torch

    from cnnhw import data, files, transfer
    from cnnhw.evaluation import audit
    from cnnhw.models.heads import check_size

    if as_json:
        outputs.check_file(as_json, "--json")
    if out:
        outputs.check_file(out)
    if as_json and out and as_json.resolve() == out.resolve():
        raise click.UsageError(f"--json and --out are both {out}: give each a file of its own.")
    model = transfer.source(weights, size=size or 224)
    check_size(model, size or model.size)
    photos = data.load(name_or_folder, size=size or model.size, root=root, layout=layout)
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
