"""The audit of the flower photos: what its record holds, what we saw in the photos, and how a page tells both.

``:audit:`disagreements``` renders one of the `figures`; ``.. audited-labels:: first`` (or ``test``) shows photos with
label, opinions and credit; ``.. audited-copies::`` is the table of pairs that look the same.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

from cnnhw import studies

FIRST = 12  # so many of the most suspicious labels were looked at, and those of the test photos that are listed
COLUMNS, SIDE = 6, 224  # of the sheet that holds their photos, in the order of `SEEN`
SHEET = "flowers_suspicious.jpg"
NEAR = 4  # bits: the distance up to which pairs count as near in the text

RIGHT, OTHER, NONE, UNCLEAR = "label right", "another of the five", "none of the five", "unclear"
SEEN = {  # photo: our verdict on its label, and what we see
    "tulips/5661431592_cea1108261_n.jpg": (RIGHT, "a white tulip, from close by"),
    "tulips/16265883604_92be82b973.jpg": (OTHER, "a rose on its bush"),
    "roses/17040847367_b54d05bf52.jpg": (OTHER, "a tulip"),
    "roses/14381787252_e8e12e277a_n.jpg": (OTHER, "tulips"),
    "tulips/7166552648_28b6dce578.jpg": (RIGHT, "a white double tulip before red ones"),
    "roses/5398569540_7d134c42cb_n.jpg": (RIGHT, "roses in a vase at a window"),
    "roses/5212885371_fe27c406a2_n.jpg": (NONE, "gerberas"),
    "tulips/7266196114_c2a736a15a_m.jpg": (NONE, "a garden with a bench"),
    "roses/6473543547_4fefdbd5dc.jpg": (UNCLEAR, "white blossoms on a twig"),
    "dandelion/3581252194_8c976d333a_n.jpg": (RIGHT, "dandelions in a meadow"),
    "daisy/4540555191_3254dc4608_n.jpg": (RIGHT, "a daisy from the side, against the light"),
    "dandelion/13386618495_3df1f1330d.jpg": (OTHER, "a daisy with a bee"),
    "daisy/754248840_95092de274.jpg": (RIGHT, "a daisy in the grass beside a sign"),
    "roses/6108118824_5b0231a56d.jpg": (RIGHT, "buds of roses"),
    "roses/2535466393_6556afeb2f_m.jpg": (NONE, "the bud of a lotus"),
    "tulips/3238068295_b2a7b17f48_n.jpg": (RIGHT, "double tulips, wide open"),
    "daisy/1355787476_32e9f2a30b.jpg": (UNCLEAR, "a drop of water on petals"),
    "tulips/15922772266_1167a06620.jpg": (UNCLEAR, "a bouquet of red roses and white tulips"),
}
ALARMS = {  # the first photo of each pair within the flowers that does not show the same shot
    "dandelion/14048849371_ec9dbafaeb_m.jpg",
    "dandelion/7808430998_31ba639031_n.jpg",
    "daisy/4923279674_e7f8e70794_n.jpg",
    "dandelion/4558536575_d43a611bd4_n.jpg",
    "daisy/2573240560_ff7ffdd449.jpg",
    "sunflowers/9610371852_179e7781ce.jpg",
    "dandelion/2465573725_d78caca9d4_n.jpg",
    "daisy/2579018590_74359dcf1a_m.jpg",
    "dandelion/146023167_f905574d97_m.jpg",
    "dandelion/4489359360_09db62f825.jpg",
    "dandelion/16462263826_2555edeb74_n.jpg",
}

Entry = dict[str, Any]
_GENERATED = "_static/generated/flowers"
_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@functools.cache
def record() -> dict[str, Any]:
    """Return the record of the audit."""
    return json.loads((studies.store.folder() / "audit_flowers.json").read_text(encoding="utf-8"))


def looked_at(which: str) -> list[Entry]:
    """Return the suspicious labels that we looked at: the ``first``, or those of the ``test`` photos."""
    listed = record()["suspicious"]
    if which == "first":
        return listed[:FIRST]
    if which == "test":
        return [entry for entry in listed if entry["part"] == "test"]
    raise ValueError(f"there are no labels {which!r}: give first or test")


def pairs() -> list[Entry]:
    """Return the pairs within the flowers that look the same, with what we saw: whether they are ``same``."""
    return [pair | {"same": pair["names"][0] not in ALARMS} for pair in record()["duplicates"][0]["pairs"]]


def figures() -> dict[str, str]:
    """Return all figures that a page may ask for, by name."""
    found = record()
    within, between = found["duplicates"]
    tested = found["data"]["photos"]["test"]
    same = [pair for pair in pairs() if pair["same"]]
    near = [pair for pair in pairs() if pair["distance"] <= NEAR]
    leaks = {photo for pair in same if set(pair["parts"]) == {"train", "test"} for photo in _of(pair, "test")}
    out = {
        "photos": f"{sum(found['data']['photos'].values()):,}",
        "test photos": f"{tested:,}",
        "folds": _number(found["folds"]),
        "agreement": f"{100 * found['accuracy']:.1f} %",
        "disagreements": _number(found["disagreements"]),
        "listed": _number(len(found["suspicious"])),
        "distance": _number(found["distance"]),
        "pairs": _number(within["count"]),
        "pairs copies": _number(len(same)),
        "pairs alarms": _number(within["count"] - len(same)),
        "near": _number(len(near)),
        "near copies": _number(sum(pair["same"] for pair in near)),
        "two labels": _number(sum(len(set(pair["labels"])) == 2 for pair in same)),
        "leaks": _number(len(leaks)),
        "leaks bound": f"{100 * len(leaks) / tested:.1f} points",
        "between": _number(between["count"]),
        "photo": f"{100 / tested:.2f} points",
    }
    for which in ("first", "test"):
        seen = Counter(SEEN[entry["name"]][0] for entry in looked_at(which))
        wrong = seen[OTHER] + seen[NONE]
        out |= {
            which: _number(seen.total()),
            f"{which} right": _number(seen[RIGHT]),
            f"{which} wrong": _number(wrong),
            f"{which} other": _number(seen[OTHER]),
            f"{which} none": _number(seen[NONE]),
            f"{which} unclear": _number(seen[UNCLEAR]),
            f"{which} bound": f"{100 * wrong / tested:.1f} points",
        }
    return out


def _of(pair: Entry, part: str) -> list[str]:
    """Return the names of a pair's photos that are in a part."""
    return [name for name, where in zip(pair["names"], pair["parts"], strict=True) if where == part]


def _number(count: int) -> str:
    """Write a count out, if it is small."""
    return _WORDS[count] if count < len(_WORDS) else f"{count:,}"


class AuditRole(SphinxRole):
    """``:audit:`first wrong```: one of the figures."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        known, name = figures(), " ".join(self.text.split())
        if name not in known:
            text = f":audit: there is no figure {name!r}; there are {', '.join(known)}"
            return [], [self.inliner.reporter.warning(text, line=self.lineno)]
        origin = f"audit of {record()['data']['name']}, {record()['date'][:10]}, and what we saw in its photos"
        return [nodes.abbreviation(self.rawtext, known[name], explanation=origin, classes=["record"])], []


class AuditedLabels(SphinxDirective):
    """``.. audited-labels:: first``: the photos, each with what was said of its label."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        try:
            entries = looked_at(self.arguments[0])
        except ValueError as error:
            raise self.error(f"audited-labels: {error}") from error
        docs = Path(self.env.srcdir)
        return [nodes.container("", *(_figure(docs, entry) for entry in entries), classes=["photo-grid"])]


def _figure(docs: Path, entry: Entry) -> nodes.figure:
    verdict, what = SEEN[entry["name"]]
    shares = dict(zip(record()["data"]["classes"], entry["probabilities"], strict=True))
    short = "label wrong" if verdict in (OTHER, NONE) else verdict
    caption = nodes.caption("", f"{short[0].upper()}{short[1:]}: {what}.")
    said = f"Labelled {entry['label']}; classifier: {entry['predicted']} ({shares[entry['predicted']]:.2f})."
    more = nodes.legend("", nodes.paragraph("", said), nodes.paragraph("", "", credit(entry)))
    told = f"{what[0].upper()}{what[1:]}: a photo labelled {entry['label']}, taken for {entry['predicted']}."
    image = nodes.image(uri=f"/{cut(docs, entry['name'])}", alt=told)
    return nodes.figure("", image, caption, more)


def credit(entry: Entry) -> nodes.reference:
    """Return the credit of a photo, which leads to its page."""
    words, _, address = entry["credit"].rpartition(", ")
    return nodes.reference("", f"Photo: {words}", refuri=address)


def cut(docs: Path, name: str) -> str:
    """Cut a photo out of the sheet; return the file, seen from the documentation's folder."""
    row, column = divmod(list(SEEN).index(name), COLUMNS)
    file = f"{_GENERATED}/{name.rpartition('/')[2].removesuffix('.jpg')}.webp"
    (docs / file).parent.mkdir(parents=True, exist_ok=True)
    with Image.open(docs / "_static" / SHEET) as sheet:
        box = (column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE)
        sheet.crop(box).save(docs / file, quality=90)
    return file


class AuditedCopies(SphinxDirective):
    """``.. audited-copies::``: pairs within the flowers, by the bits in which their hashes differ."""

    def run(self) -> list[nodes.Node]:
        head = ("Bits apart", "Pairs found", "The same shot", "False alarms")
        rows = []
        for distance in sorted({pair["distance"] for pair in pairs()}):
            same = [pair["same"] for pair in pairs() if pair["distance"] == distance]
            rows.append((str(distance), str(len(same)), str(sum(same)), str(len(same) - sum(same))))
        return [table(head, rows)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> nodes.table:
    """Return a table of texts."""
    made = [nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in row)) for row in (head, *rows)]
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += [nodes.thead("", made[0]), nodes.tbody("", *made[1:])]
    return nodes.table("", group)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register role and directives."""
    app.add_role("audit", AuditRole())
    app.add_directive("audited-labels", AuditedLabels)
    app.add_directive("audited-copies", AuditedCopies)
    app.connect("builder-inited", lambda _: record.cache_clear())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
