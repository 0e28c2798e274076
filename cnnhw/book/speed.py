"""Speed: what each part of the fast recipe contributes, how soon an accuracy is reached, and what is shown of it."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from cnnhw import plots
from cnnhw.book import benchmarks, figures
from cnnhw.book.i import SIX
from cnnhw.studies.measures import ACCURACY, SECONDS
from cnnhw.studies.questions import Question
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe

RECIPE = Recipe.fast()

_LIKE = "no difference that matters"
# the study had been run before they were asked, so that none has a verdict
_QUESTIONS = tuple(
    Question(
        identifier, arms, statement, chapter="speed", study="fast", role="exploratory", prediction=prediction,
        delta=delta, known="yes", registered="2026-11-24", held="photos, passes and network", measure=measure,
        varied=("recipe",),
    )
    for identifier, arms, prediction, delta, measure, statement in (
        ("speed-whitening", ("fast", "no_whitening"), "higher", 2.5, ACCURACY,
         "A whitened first layer raises the accuracy of the fast recipe."),
        ("speed-muon", ("fast", "adamw"), "higher", 2.5, ACCURACY,
         "Orthogonalised updates raise the accuracy of the fast recipe, compared with AdamW."),
        ("speed-resolutions", ("fast", "one_resolution"), _LIKE, 2.5, ACCURACY,
         "Rising resolution changes the accuracy less than matters."),
        ("speed-resolutions-time", ("fast", "one_resolution"), "lower", 1.0, SECONDS,
         "Rising resolution saves training time."),
        ("speed-bfloat16", ("fast", "float32"), _LIKE, 2.5, ACCURACY,
         "Computing in bfloat16 changes the accuracy less than matters."),
        ("speed-bfloat16-time", ("fast", "float32"), "lower", 1.0, SECONDS,
         "Computing in bfloat16 saves training time."),
        ("speed-cutout", ("cutout", "fast"), _LIKE, 2.5, ACCURACY,
         "In so few epochs, cutout changes the accuracy less than matters."),
    )
)  # fmt: skip

# Each arm leaves one part out, changes one, or adds one. The recipe was chosen on validation photos beforehand; AdamW
# alone keeps the rate of the first sketch.
FAST = Study(
    name="fast",
    question="What does each part of the fast recipe contribute to its accuracy, and what does it cost?",
    data="tiny5",
    size=64,
    arms=tuple(
        Arm(name, "fast", recipe, seeds=(*SIX, 6, 7, 8) if name == "fast" else SIX)  # more for transfers
        for name, recipe in {
            "fast": RECIPE,
            "no_whitening": replace(RECIPE, whiten=False),
            "adamw": replace(RECIPE, optimizer="adamw", learning_rate=4e-3, weight_decay=0.05),
            "one_resolution": replace(RECIPE, resolutions=()),
            "float32": replace(RECIPE, precision="float32"),
            "cutout": replace(RECIPE, cutout=0.375),
        }.items()
    ),
    questions=_QUESTIONS,
)

STUDIES = (FAST,)

_GREY, _PALE = "#767676", "#bbbbbb"
_KERAS = "the report's recipe in Keras"
_BELOW: dict[str, Any] = {"frameon": False, "loc": "outside lower center"}
# what a part of the recipe is, the arm with it, and the arm without
_PARTS = (
    ("whitened first layer", "fast", "no_whitening"),
    ("Muon, not AdamW", "fast", "adamw"),
    ("rising resolution", "fast", "one_resolution"),
    ("bfloat16, not float32", "fast", "float32"),
    ("a covered square (cutout)", "cutout", "fast"),
)


def race(result: dict[str, Any]) -> Figure:
    """Draw test accuracy against seconds of training, a panel a data set of a benchmark, a line a run."""
    sets = result["accuracy"]
    settings = list(dict.fromkeys(row["setting"] for rows in sets.values() for row in rows if row["side"] == "cnnhw"))
    colours = dict(zip(settings, (plots.COLOURS[0], *plots.COLOURS[2:]), strict=False)) | {_KERAS: plots.COLOURS[1]}
    figure, axes = figures.stacked(len(sets), 2.9 * len(sets) + 0.9)
    told = []
    for axis, (photos, rows) in zip(axes, sets.items(), strict=True):
        level, first = benchmarks.levels(result, photos)[-1], photos == next(iter(sets))
        reached = {}
        for name, colour in colours.items():
            curves = [row["curve"] for row in rows if name == (_KERAS if row["side"] == "keras" else row["setting"])]
            for number, curve in enumerate(curves):
                label = name if first and not number else None
                axis.plot(*zip(*curve, strict=True), ".-", color=colour, lw=1, label=label)
            if curves:
                middle = statistics.median_high(benchmarks.times_to(level, curves))
                never = f"not in {curves[0][-1][0]:,.0f} s"
                reached[name] = f"in {middle:,.1f} s" if math.isfinite(middle) else never
        axis.axhline(level, color=_GREY, lw=1, zorder=0)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_ylabel("test accuracy")
        axis.set_title(f"{photos}: {level:.3f} {reached[settings[0]]}, in Keras {reached[_KERAS]}", fontsize="medium")
        axis.grid(alpha=0.25)
        told.append(f"{axis.get_title()}; " + ", ".join(f"{name} {time}" for name, time in reached.items()))
    axes[-1].set_xlabel("seconds of training, from random weights")
    figure.legend(ncols=1, **_BELOW)
    return figures.described(
        figure, "Test accuracy against seconds of training", "a line marks the accuracy to be reached", *told
    )


def passes(recipe: Recipe, size: int) -> Figure:
    """Draw the photo of each pass of a recipe to scale, with the share of a full pass that its area is."""
    sides = [recipe.side(epoch, size) for epoch in range(1, recipe.epochs + 1)]
    shares = [(side / size) ** 2 for side in sides]
    figure, axis = plt.subplots(figsize=(figures.PHONE, 1.3), layout="constrained")
    for place, (side, share) in enumerate(zip(sides, shares, strict=True)):
        left = place * 1.15 * size
        axis.add_patch(Rectangle((left, 0), size, size, fill=False, edgecolor=_PALE))
        axis.add_patch(Rectangle((left, 0), side, side, color=plots.COLOURS[0], lw=0))
        axis.text(left + size / 2, -0.28 * size, f"{share:.0%}", ha="center")
    axis.set_xlim(0, (len(sides) - 1) * 1.15 * size + size)
    axis.set_ylim(-0.4 * size, size)
    axis.set_aspect("equal")
    axis.axis("off")
    total = sum(shares)
    title = f"{len(sides)} passes over the photos, with the pixels of {total:.1f}"
    listed = ", ".join(f"{side} pixels ({share:.0%})" for side, share in zip(sides, shares, strict=True))
    return figures.described(figure, title, "the photo in each pass, to scale, and its share of the whole area", listed)


def places(result: dict[str, Any]) -> Figure:
    """Draw the share of training time that kinds of operation take, by network, the largest kinds apart."""
    rows = {f"{row['model']},\n{row['size']} pixels": row["shares"] for row in result["profile"]}
    large = [kind for kind in next(iter(rows.values())) if max(row.get(kind, 0) for row in rows.values()) > 0.1]
    drawn = {
        name: {kind: row.get(kind, 0.0) for kind in large if kind != "other"}
        | {"all else": sum(share for kind, share in row.items() if kind not in large or kind == "other")}
        for name, row in rows.items()
    }
    kind = max(large, key=lambda kind: sum(row.get(kind, 0.0) for row in rows.values()))
    most = [row.get(kind, 0.0) for row in rows.values()]
    title = f"Time of training: {kind} takes {min(most):.0%} to {max(most):.0%}"
    return figures.narrow(plots.shares(drawn, title), 3.4)


def parts(records: Sequence[Record]) -> Figure:
    """Draw what each part of the fast recipe changes: accuracy and time with it, minus those without it."""
    runs = {(record.arm, record.seed): record for record in records if record.study == FAST.name}
    figure, axes = figures.stacked(2, 4.6)
    told = []
    for axis, measure in zip(axes, (ACCURACY, SECONDS), strict=True):
        listed = []
        for height, (name, first, second) in enumerate(reversed(_PARTS)):
            seeds = sorted({seed for arm, seed in runs if arm == first} & {seed for arm, seed in runs if arm == second})
            effect = measure.compare([runs[first, seed] for seed in seeds], [runs[second, seed] for seed in seeds])
            middle, low, high = (measure.scale * value for value in (effect.effect, *effect.interval()))
            axis.plot((low, high), (height, height), color=_GREY, lw=2)
            axis.plot(middle, height, "o", color=_GREY)
            listed.append(f"{name} {middle:+z.1f} ({low:+z.1f} to {high:+z.1f})")
        axis.axvline(0, color=_GREY, lw=1, zorder=0)
        axis.set_yticks(range(len(_PARTS)), [name for name, _, _ in reversed(_PARTS)])
        axis.set_ylim(-0.6, len(_PARTS) - 0.4)
        axis.set_xlabel({"points": "test accuracy, points", "s": "training time, seconds"}[measure.unit])
        axis.grid(axis="x", alpha=0.25)
        told.append(f"{axis.get_xlabel()}: {'; '.join(reversed(listed))}")
    return figures.described(figure, "Each part of the recipe: with it, minus without it", "95 % intervals", *told)


def whitening(filters: Tensor) -> Figure:
    """Draw whitening filters, Tensor of shape (24, 3, h, w), each scaled to its own range."""
    shown = (filters / filters.abs().amax((1, 2, 3), keepdim=True) + 1) / 2
    figure, axes = plt.subplots(3, 8, figsize=(figures.PHONE, 2.0), layout="constrained")
    for axis, filter_ in zip(axes.flat, shown, strict=True):
        axis.imshow(filter_.permute(1, 2, 0).numpy())
        axis.axis("off")
    h, w = filters.shape[2:]
    title = "Whitening filters, the largest variance of patches first"
    return figures.described(
        figure, title, f"{len(filters)} filters of {h}x{w} pixels in colour, each scaled to its own range"
    )


def growth(result: dict[str, Any]) -> Figure:
    """Draw the seconds of an epoch against the number of photos and against their side, with the power that fits."""
    scaling = result["scaling"]
    by_count = {"fast": [(row["photos"], row["photos"] / row["photos_per_second"]) for row in scaling["photos"]]}
    by_side: dict[str, list[tuple[float, float]]] = {}
    for row in scaling["side"]:
        by_side.setdefault(row["model"], []).append((row["size"], 1000 / row["photos_per_second"]))
    told, powers = [], []
    panels: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {}
    for across, lines in {"photos": by_count, "side of 1,000 photos, pixels": by_side}.items():
        panels[across] = {}
        for name, points in lines.items():
            along, up = zip(*points, strict=True)
            power = float(np.polyfit(np.log(along), np.log(up), 1)[0])
            panels[across][f"{name}, power {power:.1f}"] = along, up
            told.append(f"{name} by {across}: {up[0]:.3g} s at {along[0]:,} to {up[-1]:.3g} s at {along[-1]:,}")
            powers.append(power)
    figure = figures.narrow(plots.scaling(panels, "seconds an epoch"), 5.4)
    sides = f"{min(powers[1:]):.1f} to {max(powers[1:]):.1f}"
    title = f"Seconds an epoch: photos to the power {powers[0]:.1f}, side to {sides}"
    return figures.described(figure, title, "on logarithmic scales", *told)


def beside(found: Mapping[str, Any]) -> Figure:
    """Draw the test accuracy of each training of :func:`benchmarks.peers`, a panel a data set, a mark a budget."""
    groups = benchmarks.together(found)
    sets = list(dict.fromkeys(data for data, _ in groups))
    budgets = sorted({minutes for _, minutes in groups})
    peers = list(dict.fromkeys(peer for group in groups.values() for peer in group))
    figure, axes = figures.stacked(len(sets), 0.6 + len(sets) * (0.8 + 0.3 * len(peers)))
    for axis, data in zip(axes, sets, strict=True):
        for minutes, marker, colour in zip(budgets, "osD^", plots.COLOURS, strict=False):
            runs = [(run["accuracy"], peer) for peer, group in groups.get((data, minutes), {}).items() for run in group]
            axis.plot(
                [accuracy for accuracy, _ in runs], [peers[::-1].index(peer) for _, peer in runs], marker,
                color=colour, label=f"{minutes:g} minutes" if data == sets[0] else None,
            )  # fmt: skip
        axis.set_yticks(range(len(peers)), peers[::-1])
        axis.set_ylim(-0.6, len(peers) - 0.4)
        axis.set_xlabel(f"test accuracy on {data}")
        axis.grid(alpha=0.25)
    figure.legend(ncols=len(budgets), **_BELOW)
    return figures.described(
        figure, "Test accuracy in the same time, a mark a training", "by library", *benchmarks.leaders(found)
    )


def beside_table(found: Mapping[str, Any]) -> figures.Html:
    """Return the trainings of :func:`benchmarks.peers` as a table, and below it who led, computed from all."""
    head = ("", "test accuracy", "seconds of training", "processor seconds")
    rows: list[tuple[str, ...]] = []
    for (data, minutes), group in benchmarks.together(found).items():
        some = next(iter(group.values()))[0]
        about = f", {some['photos']:,} photos of {some['size']} pixels" if {"photos", "size"} <= some.keys() else ""
        rows.append((f"{data}{about}: {minutes:g} minutes",))
        for run in (run for runs in group.values() for run in runs):
            name = f"{run['peer']} {run['version']}"
            rows.append((name, f"{run['accuracy']:.3f}", f"{run['seconds']:,.0f}", f"{run['processor_seconds']:,.0f}"))
    said = "".join(f"<li>{html.escape(line)}</li>" for line in benchmarks.leaders(found))
    return figures.Html(f"{figures.table(head, rows)}<ul>{said}</ul>")


def folded(summary: str, text: str) -> figures.Html:
    """Return lines of text in a place that opens."""
    lines = f'<pre tabindex="0">{html.escape(text)}</pre>'  # which may be wider than the page, and scroll
    return figures.Html(f"<details><summary>{html.escape(summary)}</summary>{lines}</details>")
