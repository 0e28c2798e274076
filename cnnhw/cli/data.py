"""``cnnhw data``: list, fetch, show, audit, apply."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cnnhw import outputs
from cnnhw.cli.command import cli
from cnnhw.cli.options import _LAYOUT, _ROOT, _file, _folder, _interruptible, _write
from cnnhw.errors import CnnhwError

__all__ = []

_LISTED = 24  # suspicious labels


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
@click.option("--most", type=click.IntRange(1), help="Suspicious labels to find [default: 24; for a page 200].")
@_file("Also write all findings to this file.", "--json", "as_json")
@_file("Also write a page to mark photos on (.html), or a sheet of the suspicious ones (.png), to this file.")
@_LAYOUT
@_ROOT
def data_audit(
    name_or_folder: str, against: str | None, weights: str, size: int | None, most: int | None, as_json: Path | None,
    out: Path | None, layout: Any, root: Path | None,
) -> None:  # fmt: skip
    """Look for wrong labels and for photos that are there twice.

    A label is suspicious if classifiers that have not seen the photo find another class more probable: look at it
    before you change it. Photos that look the same, one for training and one for the test, make a test accuracy too
    high; they come first. The page --out audit.html opens in any browser: there each photo is kept, moved to another
    class or put aside, and `cnnhw data apply` does with the files what was marked.
    """
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
    page = out is not None and out.suffix.lower() in (".html", ".htm")
    result = audit.run(photos, model, against=other, most=most or (200 if page else _LISTED), credits=credits)
    click.echo(audit.table(result if most else result | {"suspicious": result["suspicious"][:_LISTED]}))
    if as_json:
        as_json = _write(lambda path: files.write_json(path, result), as_json)
        click.echo(f"All findings: {as_json}")
    if out and page:
        own = name_or_folder not in data.names() and Path(name_or_folder).expanduser().is_dir()
        _page(result, photos, name_or_folder if own else None, layout, other, out)
    elif out and result["suspicious"]:
        out = _write(lambda path: _sheet(photos, result["suspicious"], path), out)
        click.echo(f"Contact sheet: {out}")
    elif out:
        click.echo("No label is suspicious: no contact sheet was drawn.")


def _page(result: Any, photos: Any, folder: str | None, layout: Any, against: Any, out: Path) -> None:
    """Write the page to mark photos on, if there are any."""
    from cnnhw import files
    from cnnhw.evaluation import audit_page

    if not result["suspicious"] and not any(section["count"] for section in result["duplicates"]):
        click.echo("No label is suspicious, and no photo is there twice: no page was written.")
        return
    text = audit_page.page(result, photos, folder=folder, layout=layout, against=against)
    click.echo(f"Page: {_write(lambda path: files.write_text(path, text), out)}")
    if folder is not None:
        click.echo("Open it, mark photos, and save marks.json; then, here: cnnhw data apply marks.json")


def _sheet(photos: Any, listed: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the photos whose labels are suspicious."""
    import torch

    from cnnhw import plots

    splits = [getattr(photos, entry["part"]) for entry in listed]
    rows = [split.names.index(entry["name"]) for split, entry in zip(splits, listed, strict=True)]
    images = torch.cat([split.batch([row]) for split, row in zip(splits, rows, strict=True)])
    captions = [f"{entry['label']}? {entry['predicted']} {max(entry['probabilities']):.2f}" for entry in listed]
    plots.save(plots.contact_sheet(images, captions), path)


@data_group.command("apply")
@click.argument("marks", required=False, type=click.Path(dir_okay=False, path_type=Path))
@_folder("The folder of the photos [default: where the marks say].", "--data", "data")
@click.option("--undo", is_flag=True, help="Take back what was applied last.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def data_apply(marks: Path | None, data: Path | None, undo: bool, dry_run: bool) -> None:
    """Move photos as they were marked on the page of `cnnhw data audit`.

    MARKS is the file that the page saves. A photo goes to the folder of its new class, or is put aside into a folder
    beside the data, FOLDER.aside, which is never read. Everything is checked first. Nothing is deleted or written
    over; what was interrupted is finished by the same command again.
    """
    from cnnhw.data import marks as marking

    if undo and dry_run:
        raise click.UsageError("--undo and --dry-run do not go together.")
    if marks is None and not (undo and data):
        raise click.UsageError(f"give {'the marks, or their folder with --data' if undo else 'the file of marks'}.")
    with _interruptible("The same command again goes on with it; --undo takes it back."):
        done = marking.undo(data, marks) if undo else marking.apply(marks or "", data, dry_run=dry_run)
    above = done.folder.parent
    for before, now in done.moved:
        click.echo(f"  {before.relative_to(above)} -> {now.relative_to(above)}")
    for photo, reason in done.left:
        click.echo(f"warning: {photo.relative_to(above)} was left: {reason}", err=True)
    aside = sum(now.is_relative_to(done.aside) for _, now in done.moved)
    said = f"{len(done.moved) - aside:,} moved to another class, {aside:,} put aside, {done.kept:,} kept"
    if done.earlier:
        said += f", {done.earlier:,} moved before"
    if undo:
        said = f"{len(done.moved):,} moved back"
    click.echo(f"{done.folder}: {said}.{' Nothing has been moved yet.' if dry_run else ''}")
    if done.moved and not undo and not dry_run:
        where = f"Put aside: {done.aside}. " if aside else ""
        click.echo(f"{where}To take it back: cnnhw data apply --undo --data {data or done.folder}")
    if done.left:
        sys.exit(1)
