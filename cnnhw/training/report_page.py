"""The page that shows a run: one file, to be read by anybody and sent to them."""

from __future__ import annotations

import base64
import html
import math
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnhw import evaluation, web
from cnnhw.evaluation.calibration import Bin
from cnnhw.training.findings import Findings, Mistake, fewest
from cnnhw.web.charts import lines

__all__ = []

_LONG = 12  # classes: more are listed in a box that scrolls, the least recognised first
_MATRIX = 25  # classes, at most, of a confusion matrix that can be read
_NAMED = 10  # classes named at the top
_PAIRS = 5  # confusions that are told in words
_LISTED = 100  # files left out
_FEW = 100  # test photos
_LARGEST = 300_000  # bytes of a diagram


def page(summary: Mapping[str, Any], folder: Path, found: Findings | None = None, diagram: str = "") -> str:
    """Return the report of one run as HTML.

    `summary` is what ``run.json`` holds, `folder` where the run is saved; `diagram` is the address of a picture.
    """
    sections = [
        _top(summary, found),
        _classes(summary),
        _confusions(summary),
        *([_mistakes(found, summary), _unsure(found), _calibrated(found)] if found else []),
        _training(summary, diagram),
        _left_out(summary),
        _use(folder),
        _provenance(summary),
    ]
    body = f"<main>\n{''.join(sections)}</main>"
    title = f"{summary['data']}: report of a classifier"
    return web.page(title, body, styles=["charts.css", "report.css"])


def embedded(path: Path) -> str:
    """Return an SVG picture as an address of its own; nothing if it is not there, or large."""
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return ""
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _text(text: object) -> str:
    """Return a text as HTML; what is no Unicode in names of files becomes question marks."""
    return html.escape(str(text).encode("utf-8", "replace").decode("utf-8"))


def _name(text: object) -> str:
    """Return a name that others chose, which cannot turn the text around it."""
    return f"<bdi>{_text(text)}</bdi>"


def _names(names: Iterable[object]) -> str:
    return ", ".join(map(_name, names))


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}\u00a0%" if math.isfinite(share) else "–"


def _count(number: int, what: str) -> str:
    return f"{number:,}\u00a0{what}{'' if number == 1 else 's'}"


def _interval(correct: int, total: int) -> str:
    low, high = evaluation.wilson_interval(correct, total)
    return f"95\u00a0% interval {_percent(low)} to {_percent(high)}"


def _bar(share: float) -> str:
    """Return a share as a number with a bar."""
    width = f"{100 * share:.1f}%" if math.isfinite(share) else "0"
    return f'<span class="number">{_percent(share)}</span><span class="bar"><span style="width:{width}"></span></span>'


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{''.join(part for part in parts if part)}</section>\n"


def _paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{text}</p>\n' if kind else f"<p>{text}</p>\n"


def _box(label: str, inner: str, kind: str = "") -> str:
    """Return what may be wider or higher than the page, in a box that scrolls by keyboard, too."""
    return f'<div class="box {kind}" role="region" aria-label="{label}" tabindex="0">{inner}</div>\n'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose rows begin with their heading; all parts are HTML."""
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    lines = (
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>\n'
        for first, *rest in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody></table>\n"


def _top(summary: Mapping[str, Any], found: Findings | None) -> str:
    """Say in a few large figures how good the classifier is."""
    classes, rows = summary["classes"], [sum(row) for row in summary["confusion"]]
    total, accuracy, (low, high) = sum(rows), summary["accuracy"], summary["accuracy_interval"]
    often = max(range(len(rows)), key=rows.__getitem__)
    more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    cards = {
        "balanced accuracy: all classes count alike, however many photos they have": summary["balanced_accuracy"],
        f"would be correct if each were called {_name(classes[often])}": rows[often] / total if total else math.nan,
    }
    if found and found.threshold["test"]["answered"]:
        test = found.threshold["test"]
        share = _percent(test["answered"] / test["photos"])
        cards[f"correct if it may say “not sure”: it then answers {share} of them"] = test["correct"] / test["answered"]
    items = "".join(f"<li><strong>{_percent(share)}</strong> {what}</li>" for what, share in cards.items())
    few = " It is wide, as the photos are few." if total < _FEW else ""
    band, dot = f"left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%", f"left:{100 * accuracy:.1f}%"
    track = f'<span class="band" style="{band}"></span><span class="dot" style="{dot}"></span>'
    return f"""<header>
<h1>{_name(summary["data"])}</h1>
<p class="lead">A classifier of photos that tells {len(classes):,} classes apart: {_names(classes[:_NAMED])}{more}.
It is the network {_name(summary["model"])}, and learnt from {_count(summary["photos"]["train"], "photo")}.</p>
</header>
<section class="headline">
<h2 class="visually-hidden">Accuracy</h2>
<p class="large">{_percent(accuracy)}</p>
<p>of {_count(total, "test photo")} are classified correctly. The network had not seen them before, and nothing was
chosen by them. The 95\u00a0% interval for the choice of photos is {_percent(low)} to {_percent(high)}.{few}</p>
<div class="track" aria-hidden="true">{track}</div>
<div class="ends" aria-hidden="true"><span>0\u00a0%</span><span>100\u00a0%</span></div>
<ul class="cards">{items}</ul>
</section>
"""


def _classes(summary: Mapping[str, Any]) -> str:
    """Show recall and precision of each class."""
    matrix, names = summary["confusion"], summary["classes"]
    found = []
    for number, (row, column) in enumerate(zip(matrix, zip(*matrix, strict=True), strict=True)):
        hits, own, called = row[number], sum(row), sum(column)
        found.append((names[number], own, hits / own if own else math.nan, hits / called if called else math.nan))
    many = len(found) > _LONG
    if many:
        found.sort(key=lambda one: (math.isnan(one[2]), one[2]))
    table = _table(
        ("Class", "Photos", "Recall", "Precision"),
        ((_name(name), f"{count:,}", _bar(recall), _bar(precision)) for name, count, recall, precision in found),
    )
    order = " The least recognised classes come first." if many else ""
    return _section(
        "Each class",
        _box("Each class", table, "shares tall" if many else "shares"),
        _paragraph(
            "Measured on the test photos. Recall: of the photos of a class, the share that is recognised. Precision: "
            f"of the photos that are taken for a class, the share that is of it.{order}",
            "quiet",
        ),
    )


def _confusions(summary: Mapping[str, Any]) -> str:
    """Show which classes are taken for which."""
    matrix, names = summary["confusion"], summary["classes"]
    pairs = sorted(
        ((count, sum(row), true, other) for true, row in enumerate(matrix) for other, count in enumerate(row)
         if count and true != other),
        key=lambda one: (-one[0], one[1]),
    )  # fmt: skip
    items = "".join(
        f"<li>{count:,} of {_count(total, 'photo')} of {_name(names[true])} {'was' if count == 1 else 'were'} "
        f"taken for {_name(names[other])}</li>"
        for count, total, true, other in pairs[:_PAIRS]
    )
    if not pairs:
        told = _paragraph("Nothing: every test photo was classified correctly.")
    else:
        more = f" The {_PAIRS} most frequent of {len(pairs):,} confusions:" if len(pairs) > _PAIRS else ""
        told = (_paragraph(more.strip()) if more else "") + f"<ul>{items}</ul>\n"
    if len(names) > _MATRIX:
        note = f"With {len(names)} classes there is no table here; <code>run.json</code> has all counts."
        return _section("What is taken for what", told, _paragraph(note, "quiet"))
    return _section(
        "What is taken for what",
        told,
        _box("Confusion matrix", _matrix(matrix, names)),
        _paragraph(
            "Rows: the classes of the test photos. Columns: what they were taken for. The shade is the share of a row.",
            "quiet",
        ),
    )


def _matrix(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return the confusion matrix as a table, each cell shaded by its share of the row."""
    head = "".join(f'<th scope="col"><span>{_name(name)}</span></th>' for name in names)
    body = ""
    for true, row in enumerate(matrix):
        total = sum(row) or 1
        cells = "".join(
            f'<td class="{"hit" if true == other else "miss"}" style="--share:{count / total:.3f}">{count:,}</td>'
            for other, count in enumerate(row)
        )
        body += f'<tr><th scope="row">{_name(names[true])}</th>{cells}</tr>\n'
    return f'<table class="matrix"><thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>\n'


def _mistakes(found: Findings, summary: Mapping[str, Any]) -> str:
    """Show the photos of the most confident mistakes."""
    title = "The mistakes it was surest of"
    if not found.wrong:
        return _section(title, _paragraph("There are none: every test photo was classified correctly."))
    if found.mistakes is None:
        note = "The photos may only be shown with their photographers' names, and the list of these was not found."
        return _section(title, _paragraph(note))
    shown = (
        f"{len(found.mistakes)} of {found.wrong:,} mistakes" if found.wrong > len(found.mistakes) else "All mistakes"
    )
    told = (
        f"{shown} on test photos, the most confident first. The network sees photos as squares of {summary['size']} "
        "pixels. Where a label is wrong, and not the network, <code>cnnhw data audit</code> finds more of them."
    )
    files = "".join(
        f"<li>{_name(one.name)}{f', {_text(one.credit)}' if one.credit else ''}</li>" for one in found.mistakes
    )
    licence = f"Licence of photos and weights: {_text(summary['licence'])}." if summary["licence"] else ""
    return _section(
        title,
        _paragraph(told),
        f'<ol class="photos">\n{"".join(map(_mistake, found.mistakes))}</ol>\n',
        f"<details><summary>The files of these photos</summary><ol>{files}</ol></details>\n",
        _paragraph(licence, "quiet") if licence else "",
    )


def _mistake(one: Mistake) -> str:
    alt = _text(f"Labelled {one.given}, taken for {one.predicted}")
    by = (
        f'<p class="quiet small">{_text(one.credit.rpartition(", ")[0])}</p>' if one.credit else ""
    )  # without the address
    return (
        f'<li><img src="{one.picture}" alt="{alt}" width="160" height="160">'
        f'<p><strong class="good">{_name(one.given)}</strong>, taken for <strong class="bad">{_name(one.predicted)}'
        f"</strong> with {_percent(one.probability)}</p>{by}</li>\n"
    )


def _unsure(found: Findings) -> str:
    """Tell from which probability on the classifier can be relied upon, and what that leaves unanswered."""
    chosen = found.threshold
    wanted, test, validation = _percent(chosen["accuracy"], 0), chosen["test"], chosen["validation"]
    why = (
        "A classifier names one of its classes whatever it is shown. But it can say “not sure” where the probability "
        f"of the class is below a threshold: the lowest with which {wanted} of its answers on the validation photos "
        "are correct."
    )
    bars, photos = "", _count(validation["photos"], "validation photo")
    if chosen["probability"] is None:
        least = fewest(chosen["accuracy"])
        if validation["photos"] < least:
            told = f"There is none here: to tell such a share takes {least}, and there are {photos}."
        else:
            told = f"There is none here: at none are {least} or more of the {photos} answered with so few mistakes."
    else:
        left, correct = test["photos"] - test["answered"], test["correct"]
        told = (
            f"That is <strong>{_percent(chosen['probability'])}</strong>, chosen by {photos}. Of the "
            f"{_count(test['photos'], 'test photo')}, which had no say in it, {left:,} "
            f"({_percent(left / test['photos'])}) then stay unanswered"
        )
        if test["answered"]:
            share, interval = _percent(correct / test["answered"]), _interval(correct, test["answered"])
            told += f", and {correct:,} of {test['answered']:,} answers ({share}) are correct, {interval}"
        told += "."
        always = {"photos": found.photos, "answered": found.photos, "correct": found.photos - found.wrong}
        bars = _split_bar("Always answering", always) + _split_bar("Allowed to say “not sure”", test)
        keys = "".join(f'<span class="key {kind}">{what}</span> ' for kind, what in _PARTS.items())
        bars = f'<div class="parts" aria-hidden="true">{bars}<p class="quiet">{keys}</p></div>\n'
    return _section(
        "When it is not sure",
        _paragraph(why),
        _paragraph(told),
        bars,
        _levels(found),
        _paragraph(
            "Of photos of something else it may be sure nonetheless: a threshold helps with doubtful photos, not with "
            "things it has never learnt.",
            "quiet",
        ),
    )


_PARTS = {"right": "correct", "wrong": "wrong", "none": "not sure"}


def _split_bar(title: str, counts: Mapping[str, int]) -> str:
    """Return a bar of what is correct, wrong and unanswered."""
    parts = (counts["correct"], counts["answered"] - counts["correct"], counts["photos"] - counts["answered"])
    inner = "".join(
        f'<span class="{kind}" style="width:{100 * part / counts["photos"]:.2f}%"></span>'
        for kind, part in zip(_PARTS, parts, strict=True)
    )
    return f'<p>{title}</p><span class="split">{inner}</span>'


def _levels(found: Findings) -> str:
    def row(level: Mapping[str, Any]) -> Sequence[str]:
        test, chosen = level["test"], level["probability"]
        wanted = f"{_percent(level['accuracy'], 0)} correct"
        if chosen is None:
            return wanted, "none does", "–", "–"
        share = test["correct"] / test["answered"] if test["answered"] else math.nan
        return wanted, _percent(chosen), _percent(1 - test["answered"] / test["photos"]), _percent(share)

    always = ("always answers", "–", _percent(0), _percent(1 - found.wrong / found.photos))
    head = ("On validation photos", "Not sure below", "Test photos unanswered", "Test answers correct")
    if all(level["probability"] is None for level in found.levels):
        return ""
    table = _table(head, (always, *map(row, found.levels)))
    return f"<h3>Stricter or less strict</h3>\n{_box('Thresholds', table)}"


def _calibrated(found: Findings) -> str:
    """Tell whether probabilities are as often correct as they say."""
    correct = found.photos - found.wrong
    accuracy = correct / found.photos
    low, high = evaluation.wilson_interval(correct, found.photos)
    if low <= found.confidence <= high:
        verdict = "That is as good as these photos can tell."
    elif found.confidence > high:
        verdict = "So it sounds surer than it is."
    else:
        verdict = "So it is correct more often than it says."

    def row(one: Bin) -> Sequence[str]:
        share = f"{_percent(one.low, 0)} to {_percent(one.high, 0)}"
        return share, f"{one.count:,}", _percent(one.confidence), _bar(one.accuracy)

    filled = [row(one) for one in found.bins if one.count]
    return _section(
        "Do its probabilities mean what they say?",
        _paragraph(
            f"Of the photos for which it says 80\u00a0%, four in five should be correct. On the test photos it says "
            f"{_percent(found.confidence)} on average and is correct on {_percent(accuracy)}. {verdict} In groups of "
            f"like probability the two are {100 * found.calibration_error:.1f} points apart on average (expected "
            f"calibration error, {len(found.bins)} bins)."
        ),
        _box("Calibration", _table(("It says", "Photos", "Mean", "Correct"), filled), "shares"),
    )


def _training(summary: Mapping[str, Any], diagram: str) -> str:
    """Show how it was trained."""
    history, epochs = summary["history"], len(summary["history"]["loss"])
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    facts = {
        "Members": _members(summary["recipe"]),
        "Chosen on the validation photos": _candidates(summary),
        "Stages": _stages(summary),
        "Kept epoch, by validation": f"{summary['best_epoch']} of {epochs}",
        "Training time": f"{f'{minutes} min ' if minutes else ''}{seconds} s with "
        f"{_count(summary['threads'], 'thread')}",
        "Photos": ", ".join(f"{count:,} {_text(part)}" for part, count in summary["photos"].items()),
    }
    drawn = [
        _curve(history, "loss", "Loss (nats)", summary["best_epoch"], None),
        _curve(history, "accuracy", "Accuracy", summary["best_epoch"], 1.0),
    ]
    curves = f'<div class="curves">{"".join(drawn)}</div>\n' if any(drawn) else ""
    network = ""
    if diagram:
        alt = "The layers of the model with the shapes of their outputs and their parameters"
        picture = _box("The network", f'<img class="diagram" src="{diagram}" alt="{alt}">', "tall")
        network = f"<details><summary>The network, layer by layer</summary>{picture}</details>\n"
    return _section("How it learnt", curves, _facts(facts), network)


def _curve(history: Mapping[str, Sequence[float]], measure: str, title: str, best: int, most: float | None) -> str:
    series = {"training": history[measure], "validation": history.get(f"validation_{measure}", [])}
    told = ", ".join(f"{name} from {values[0]:.2f} to {values[-1]:.2f}" for name, values in series.items() if values)
    svg = lines(series, f"{title} by epoch: {told}; the kept epoch is {best}.", most=most, mark=best)
    if not svg:
        return ""
    keys = "".join(f'<span class="key line{number}">{name}</span> ' for number, name in enumerate(series))
    return f"<figure>{svg}<figcaption><strong>{title}</strong> by epoch: {keys}</figcaption></figure>"


def _facts(facts: Mapping[str, str]) -> str:
    """Return headings and HTML as a table of two columns, without those that are empty."""
    rows = "".join(f'<tr><th scope="row">{key}</th><td>{value}</td></tr>\n' for key, value in facts.items() if value)
    return f'<table class="facts"><tbody>\n{rows}</tbody></table>\n'


def _stage(stage: Mapping[str, Any]) -> str:
    what = {"classifier": "the last layer", "head": "the head", "all": "all layers"}
    trained = what.get(stage["train"], f"{_name(stage['train'])} and what follows")
    if stage.get("optimizer") == "lbfgs":
        return f"{trained}, by penalised logistic regression"
    return f"{trained} for {stage['epochs']} epochs"


def _stages(summary: Mapping[str, Any]) -> str:
    stages = summary["recipe"].get("stages", [])
    left_out = " (which made it worse, and is left out)"
    return "; ".join(
        _stage(stage) + (left_out if number > summary.get("kept_stage", number) else "")
        for number, stage in enumerate(stages, start=1)
    )


def _members(recipe: Mapping[str, Any]) -> str:
    if "members" not in recipe:
        return ""
    told = "whose logits are averaged; the last epoch is that of the mean"
    return f"{recipe['members']} networks {_text(recipe['of'])}, {told}"


def _candidates(summary: Mapping[str, Any]) -> str:
    found = summary.get("candidates", {})
    return "; ".join(f"{_name(name)}: {_percent(accuracy)}" for name, accuracy in found.items())


def _left_out(summary: Mapping[str, Any]) -> str:
    """List the files that were no photos."""
    count, reasons = summary["left_out"]["photos"], summary["left_out"]["reasons"]
    if not count:
        return ""
    items = "".join(f"<li>{_name(name)}: {_text(why)}</li>\n" for name, why in list(reasons.items())[:_LISTED])
    more = _paragraph("<code>run.json</code> lists more of them.", "quiet") if count > _LISTED else ""
    listed = f"<ul>\n{items}</ul>\n"
    return _section(
        "What was left out",
        _paragraph(f"{_count(count, 'file')} could not be used, and took no part."),
        _box("Files left out", listed, "tall") if min(count, _LISTED) > _LONG else listed,
        more,
    )


def _use(folder: Path) -> str:
    """Say what to do with the network."""
    place = subprocess.list2cmdline([str(folder)]) if os.name == "nt" else shlex.quote(str(folder))
    where = "" if folder.is_absolute() else " Commands are to be typed where it was trained."
    commands = {
        "Ask it about photos": ("cnnhw predict", place, "PHOTO_OR_FOLDER"),
        "Measure it on other labelled photos": ("cnnhw evaluate", place, "--data FOLDER"),
        "Hand it to other programs": ("cnnhw export", place),
        "Use it in Python": ("model =", f"cnnhw.load({str(folder)!r})"),
    }
    items = ""
    for what, parts in commands.items():
        words = " ".join(f"<span>{_text(part)}</span>" for part in parts)
        items += f"<dt>{what}</dt><dd><code>{words}</code></dd>\n"
    return _section(
        "How to use it",
        _paragraph(f"The network lies beside this page, in <code>weights.safetensors</code>.{where}"),
        f'<dl class="commands">\n{items}</dl>\n',
    )  # fmt: skip


def _provenance(summary: Mapping[str, Any]) -> str:
    """Say where all of it comes from."""
    versions = ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
    recipe = ", ".join(
        f"{name} {value}"
        for name, value in summary["recipe"].items()
        if value and name not in ("stages", "members", "of")  # what is zero or false is not done
    )
    facts = {
        "Data": ", ".join(filter(None, (_name(summary["data"]), _text(summary["data_note"])))),
        "Fingerprint of the data": _text(summary["data_fingerprint"]),
        "Licence of photos and weights": _text(summary["licence"]),
        "Network": f"{_name(summary['model'])}, {summary['parameters']:,} parameters, "
        f"{summary['trainable']:,} trained, photos of {summary['size']} pixels",
        "Recipe": _text(recipe),
        "Seed": _text(summary["seed"]),
        "Computed by": _text(f"{summary['processor']}, {summary['device']}, {summary['precision']}"),
        "Versions": _text(versions),
        "Date": _text(summary["date"].replace("T", " ").replace("+00:00", " UTC")),
    }
    return _section(
        "Where it comes from",
        _facts(facts),
        _paragraph("Made by <code>cnnhw</code>. This page is one file, asks nothing of anybody and works offline. "
                   "<code>run.json</code> has all its figures as data.", "quiet"),
    )  # fmt: skip
