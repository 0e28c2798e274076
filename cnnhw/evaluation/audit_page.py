"""The page on which what an audit found is looked at and marked: one file that opens offline."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from cnnhw import web
from cnnhw.data import decode, marks
from cnnhw.data.archives import Folder
from cnnhw.data.photoset import PhotoSet, join
from cnnhw.errors import DataError

__all__ = ["page"]

_SIDES = {320: 120, 256: 300, 192: 600, 128: 1200}
"""The longer side of a photo in pixels, for up to so many photos: so a page has a few megabytes at most."""

_QUALITY = 78  # of JPEG
_ORIENTATION = 0x0112  # in EXIF: 5 to 8 are held sideways
_LEAD = """
<p>Look at each photo: <strong>keep</strong> it as it is, <strong>move</strong> it to another class, or put it
<strong>aside</strong>. Nothing happens to the photos yet. When you are done, save your marks, and run
<code>cnnhw data apply marks.json</code> in the folder in which you made this page. Nothing is deleted, and
<code>cnnhw data apply marks.json --undo</code> takes it back.</p>
<p id="no-storage" hidden>This browser keeps nothing here: save your marks before you close the page.</p>
<details id="shortcuts"><summary>Keyboard shortcuts</summary>
<p><kbd>K</kbd> keeps a photo, <kbd>M</kbd> moves it to the class beside the button, and <kbd>A</kbd> puts it aside;
then the next photo has the focus. Numbers move it to a class: CLASSES. <kbd>C</kbd> goes to the choice of the class,
<kbd>N</kbd> to the next photo, <kbd>B</kbd> back, and <kbd>U</kbd> undoes.</p>
<label class="switch"><input type="checkbox" id="keys" checked> Use them</label>
</details>
<label class="switch"><input type="checkbox" id="hide"> Hide what is marked</label>
"""
Key = tuple[int, str]  # of a photo: 0 for the set that was audited, 1 for the one it was compared with; its name


def page(
    result: Mapping[str, Any],
    photos: PhotoSet,
    *,
    folder: str | Path | None = None,
    layout: str | None = None,
    against: PhotoSet | None = None,
) -> str:
    """Return a page that shows suspicious labels and copies, where each photo is kept, moved to a class or put aside.

    It holds the photos, small, and all that it needs: it opens from a folder and asks nothing of anybody. What is
    marked is kept in the browser, and saved as a file that :func:`cnnhw.data.marks.apply` carries out.

    Parameters
    ----------
    result : dict
        What :func:`cnnhw.evaluation.audit.run` found.
    photos : PhotoSet
        What was audited.
    folder : str or Path, optional
        The folder it was loaded from; the file with the marks names it as it is given here. Without it, as for data
        sets from archives, nothing can be marked.
    layout : {"class", "part/class", "class/part"}, optional
        As it was given to :func:`cnnhw.data.load`.
    against : PhotoSet, optional
        The data set that it was compared with.

    Returns
    -------
    str
        HTML, to be written in UTF-8.

    See Also
    --------
    cnnhw.data.marks.apply : Carries out what was marked.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw.evaluation import audit, audit_page
    >>> photos = cnnhw.data.load("pets", size=32, progress=False)
    >>> found = audit.run(photos, cnnhw.models.create("plain", 2, size=32))
    >>> html = audit_page.page(found, photos, folder="pets")
    >>> html[:15], "http://" in html
    ('<!DOCTYPE html>', False)
    """
    facts, groups = _facts(result), [_copies(section) for section in result["duplicates"]]
    finds = [[(0, entry["name"])] for entry in result["suspicious"]] + [keys for found in groups for keys in found]
    most, numbers = max(_SIDES.values()), dict[Key, int]()
    shown = []
    for keys in finds:
        if len({*numbers, *keys}) <= most:
            shown.append([numbers.setdefault(key, len(numbers)) for key in keys])
    side = next(side for side, count in _SIDES.items() if len(numbers) <= count)
    images: dict[Key, dict[str, Any]] = {}
    for of, photo_set in enumerate(photos_of for photos_of in (photos, against) if photos_of):
        names = [name for number, name in numbers if number == of]
        small = _thumbnails(photo_set, names, None if of else folder, side)
        images |= {(of, name): found for name, found in zip(names, small, strict=True)}
    alone = [keys[0] for keys in shown if len(keys) == 1]
    listed = [facts[key] | images[key] for key in numbers]
    copies = [
        sorted(keys, key=lambda number: -listed[number]["pixels"][0] * listed[number]["pixels"][1])
        for keys in shown if len(keys) > 1
    ]  # fmt: skip
    held = {
        "id": hashlib.sha256(f"{result['data']['fingerprint']} {folder}".encode()).hexdigest()[:16],
        "format": marks.FORMAT,
        "folder": None if folder is None else str(folder),
        "layout": layout,
        "classes": list(photos.classes),
        "photos": listed,
        "suspicious": alone,
        "copies": copies,
    }
    title = f"Labels of {photos.name}"
    body = _body(title, result, folder is not None, len(alone), len(copies), len(finds) - len(shown))
    text = web.page(title, body, styles=["audit.css"], scripts=["audit.js"], data=held)
    return text.encode(errors="backslashreplace").decode()  # of folders whose names are no Unicode: JSON reads it back


def _facts(result: Mapping[str, Any]) -> dict[Key, dict[str, Any]]:
    """Return what is known of each photo that was found."""
    found: dict[Key, dict[str, Any]] = {}
    for section in result["duplicates"]:
        for pair in section["pairs"]:
            for number, key in enumerate(_keys(section, pair)):
                predicted, share = pair["predicted"][number] if key[0] == 0 else ("", None)
                found[key] = {
                    "name": key[1], "part": pair["parts"][number], "label": pair["labels"][number],
                    "predicted": predicted, "share": share, "credit": [*pair.get("credits", ()), "", ""][number],
                    "set": section["sets"][key[0]], "own": key[0] == 0,
                }  # fmt: skip
    for entry in result["suspicious"]:
        given, share = (
            entry["probabilities"][result["data"]["classes"].index(entry[of])] for of in ("label", "predicted")
        )
        kept = {name: entry[name] for name in ("name", "part", "label", "predicted", "credit")}
        found[0, entry["name"]] = kept | {"share": share, "given": given, "set": result["data"]["name"], "own": True}
    return found


def _keys(section: Mapping[str, Any], pair: Mapping[str, Any]) -> tuple[Key, Key]:
    first, second = pair["names"]
    return (0, first), (len(section["sets"]) - 1, second)


def _copies(section: Mapping[str, Any]) -> list[list[Key]]:
    """Join pairs that have a photo in common: all copies of a photo are looked at together."""
    group: dict[Key, list[Key]] = {}
    for pair in section["pairs"]:
        one, other = (group.setdefault(key, [key]) for key in _keys(section, pair))
        if one is not other:
            one += other
            group |= dict.fromkeys(other, one)
    return list({id(keys): keys for keys in group.values()}.values())


def _thumbnails(
    photos: PhotoSet, names: Sequence[str], folder: str | Path | None, side: int
) -> Iterator[dict[str, Any]]:
    """Yield digest, picture and sizes for each of some photos, from its file, or as it was loaded."""
    everything = join(*photos.splits)
    rows = {name: row for row, name in enumerate(everything.names)}
    listing = Folder(Path(folder).expanduser()) if folder is not None else None
    there = set(listing.names()) if listing else set()
    for name in names:
        content = next(listing.read([name]))[1] if listing and name in there else None
        try:
            image, pixels = _small(content if isinstance(content, bytes) else b"", side)
        except DataError:  # there is no file, or it has changed since it was loaded
            image = Image.fromarray(everything.batch([rows[name]])[0].permute(1, 2, 0).numpy())
            image.thumbnail((side, side))
            pixels = (0, 0)
        file = BytesIO()
        image.save(file, "JPEG", quality=_QUALITY, optimize=True)
        source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        yield {
            "digest": everything.digests[rows[name]], "src": source, "width": image.width, "height": image.height,
            "pixels": pixels,
        }  # fmt: skip


def _small(content: bytes, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return a photo upright, with a longer side of so many pixels at most, and the width and height it has."""
    square, (width, height) = Image.fromarray(decode.decode(content, side)), (side, side)
    with contextlib.suppress(Exception), Image.open(BytesIO(content), formats=decode.FORMATS) as image:
        sideways = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        width, height = image.size[::-1] if sideways else image.size
    scale = min(1, side / max(width, height))
    sides = max(1, round(scale * width)), max(1, round(scale * height))
    return square.resize(sides, Image.Resampling.BICUBIC), (width, height)


def _body(title: str, result: Mapping[str, Any], marking: bool, labels: int, copies: int, left_off: int) -> str:
    """Return what the page says, without the photos, which its script puts in."""
    data = result["data"]
    count = sum(data["photos"].values())
    pairs = sum(len(section["pairs"]) for section in result["duplicates"])
    found = sum(section["count"] for section in result["duplicates"])
    more = []
    if left := result["disagreements"] - labels:
        more.append(f"{left:,} less suspicious {_plural(left, 'label is', 'labels are')}")
    if found > pairs or left_off:
        more.append("some copies are")
    rest = f" For lack of room {' and '.join(more)} not shown: make the page anew when these are done." if more else ""
    against = f", and compared with {result['against']['name']}" if result["against"] else ""
    about = (
        f"{data['name']}: {count:,} photos, seen through {result['model']}{against}. Classifiers that have not seen a "
        f"photo agree with its label in {result['accuracy']:.1%} of cases. Made {result['date'][:10]}."
    )
    licence = f"<p class=quiet>Photos: {escape(data['licence'])}</p>" if data["licence"] else ""
    lead = "<p>These photos come from an archive or were drawn, so that they can be looked at here, not marked.</p>"
    if marking:
        numbered = (f"<kbd>{number}</kbd> {escape(name)}" for number, name in enumerate(data["classes"][:9], start=1))
        lead = _LEAD.replace("CLASSES", ", ".join(numbered))
    return f"""<header>
<h1>{escape(title)}</h1>
<p>{escape(about)}{escape(rest)}</p>
{licence}{lead}
</header>
<main>
<noscript><p>This page needs JavaScript, which is in the file: allow it to run.</p></noscript>
<section id="suspicious" aria-labelledby="suspicious-title"{"" if labels else " hidden"}>
<h2 id="suspicious-title">Suspicious labels <span class="quiet">({labels:,})</span></h2>
<p>The network takes these photos for another class, and says how probable it is. It is not always right.</p>
<div class="photos"></div>
</section>
<section id="copies" aria-labelledby="copies-title"{"" if copies else " hidden"}>
<h2 id="copies-title">Copies <span class="quiet">({copies:,})</span></h2>
<p>These photos look the same. Copies in training and test make a test accuracy too high; with two labels, one is
wrong. The largest one comes first.</p>
<div class="groups"></div>
</section>
</main>
"""


def _plural(count: int, one: str, more: str) -> str:
    return one if count == 1 else more
