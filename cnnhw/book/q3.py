"""Q3: whether the first layer is an edge detector, and whether the network needs the one that it has learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from cnnhw import features, models, plots, studies
from cnnhw.book import base, figures
from cnnhw.data import scenes
from cnnhw.data.augment import resize, to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.features import first_layer
from cnnhw.models.blocks import Classifier
from cnnhw.studies.measures import measured
from cnnhw.studies.study import Study

_PHOTOS = 256


def _filters(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Return what the first layer's filters and maps are like; against the objects' masks, on generated scenes."""
    rows = torch.randperm(len(photos.test), generator=torch.Generator().manual_seed(0))[:_PHOTOS]
    found = first_layer.scores(model, to_float(photos.test.batch(rows)))
    drawing = scenes.draw(100, size=photos.size, first=2_000_000)
    shown = first_layer.scores(model, to_float(drawing.images), drawing.masks)
    return found | {name: value for name, value in shown.items() if name.startswith("figure-ground")}


def at_start(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Return what the first layer was like before it learnt, in a network that was trained from scratch."""
    fresh = models.create(
        configuration["model"], len(photos.classes), seed=configuration["seed"], size=photos.size,
        **configuration.get("options", {}),
    )  # fmt: skip
    return {f"{name} at start": value for name, value in _filters(fresh, photos, configuration).items()}


_shared = partial(measured, unit="(of 0 to 1)", scale=1.0, digits=3)
_EDGES = _shared("edge correlation")
_ORIENTATION = _shared("orientation selectivity")
_DC = _shared("dc share")
_OPPONENT = _shared("opponent share")
_FIGURE_GROUND = _shared("figure-ground")
_AFTER = (_EDGES, _ORIENTATION, _DC, _OPPONENT, _FIGURE_GROUND)
MEASURES = (*_AFTER, *(_shared(f"{measure.name} at start") for measure in _AFTER))

# So long, and with such weight decay, that a filter keeps little of its start: after the run some exp(-2.6) of it, at
# a peak rate of 0.004, if the loss has no use for it.
_LONG = replace(base.RECIPE, epochs=60, optimizer="adamw", weight_decay=0.5)
# Rates that `cnnhw study tune` chose.
_TUNED = {"learnt_7": 4e-3, "bank_7": 8e-3, "random_7": 4e-3}
_EDGES_AT_START = next(measure for measure in MEASURES if measure.name == "edge correlation at start")

_EDGE = Study(
    name="q3_edges",
    question="Does a first layer become an edge detector where it is trained for long, and does that pay?",
    data="tiny5",
    size=32,
    arms=tuple(
        base.arm(name, "first_layer", rate, {"side": int(name[-1]), "first": name[:-2]}, recipe=_LONG)
        for name, rate in _TUNED.items()
    ),
    measures=(_filters, at_start),
    questions=(
        base.question(
            "q3-training", ("learnt_7",),
            "Training raises the correlation of a 7x7 first layer's maps with a photo's edges.",
            asked="the correlation of a 7x7 first layer's maps with edges after training, compared with before it",
            chapter="q3", study="q3_edges", role="primary", prediction="higher", delta=0.05, known="in part",
            held="the network, compared with itself as it was drawn", measure=_EDGES, against=_EDGES_AT_START,
        ),
        base.question(
            "q3-bank", ("bank_7", "learnt_7"),
            "A frozen bank of edge and colour filters is as accurate as a 7x7 first layer that learns.",
            asked="the accuracy with a frozen bank of edge and colour filters, compared with a first layer that learns",
            chapter="q3", study="q3_edges", prediction="no difference that matters", delta=2.5, known="in part",
            held="photos, recipe and all other layers",
        ),
        base.question(
            "q3-random", ("random_7", "learnt_7"),
            "A frozen random 7x7 first layer is less accurate than one that learns.",
            asked="the accuracy with a frozen random 7x7 first layer, compared with one that learns",
            chapter="q3", study="q3_edges", prediction="lower", delta=2.5, known="in part",
            held="photos, recipe and all other layers",
        ),
    ),
)  # fmt: skip
STUDIES = (_EDGE,)
ANSWER = (
    "An untrained network shows edges, too. Training :finding:`q3-training brings its maps closer to the edges, by "
    "{effect} in correlation/takes its maps away from the edges, by {effect} in correlation/brings its maps no closer "
    "to the edges/may or may not bring its maps closer to the edges`; filters set by hand :finding:`q3-bank are more "
    "accurate than learnt ones, by {effect}/are less accurate than learnt ones, by {effect}/do as well as learnt "
    "ones, within {delta}: {effect}/may do better or worse than learnt ones: {effect}`."
)
"""What the landing page says."""


def pictures() -> Tensor:
    """Return ``flower.jpg`` and ``china.jpg`` of scikit-learn: Tensor of shape (2, 3, 128, 128), 0 to 1."""
    from sklearn.datasets import load_sample_image

    squares = []
    for name, left in (("flower.jpg", 100), ("china.jpg", 0)):
        pixels = torch.tensor(load_sample_image(name)).permute(2, 0, 1)
        square = pixels[None, :, :, left : left + pixels.shape[1]] / 255
        squares.append(resize(square, 128)[0].clamp(0, 1))
    return torch.stack(squares)


def see(photo: Tensor, untrained: Classifier, trained: Classifier, shown: int = 2) -> Figure:
    """Draw a photo, its edges by Sobel, and how strongly the first layer answers, untrained and trained.

    Shown are the channels that follow the edges most closely *before* training, and the same ones after it.
    """
    networks = {"untrained": untrained, "trained": trained}
    both = {when: features.maps(network, photo[None], "conv1") for when, network in networks.items()}
    follows = {when: first_layer.edge_correlation(maps, photo[None])["magnitude"] for when, maps in both.items()}
    channels = follows["untrained"].topk(shown).indices.tolist()
    edges = first_layer.sobel(photo[None])[2][0]
    figure, axes = plt.subplots(3, shown, figsize=(figures.PHONE, 7.2), layout="constrained")
    axes[0, 0].imshow(photo.permute(1, 2, 0))
    axes[0, 1].imshow(edges, cmap="viridis")
    titles, most = ["photo", "its edges, by Sobel"], max(float(maps[0, channels].abs().max()) for maps in both.values())
    for row, (when, maps) in enumerate(both.items(), start=1):
        for column, channel in enumerate(channels):
            axes[row, column].imshow(maps[0, channel].abs(), cmap="viridis", vmin=0, vmax=most)
            titles.append(f"{when}, channel {channel}: {follows[when][channel]:.2f}")
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set_title(title, fontsize="medium")
        axis.set_axis_off()
    told = [
        f"channel {channel}: {follows['untrained'][channel]:.2f} untrained, {follows['trained'][channel]:.2f} trained"
        for channel in channels
    ]
    title = "A photo, its edges, and two maps before and after training"
    return figures.described(figure, title, "correlation of a map's size with the edges, by channel", *told)


def filters(before: Classifier, after: Classifier) -> Figure:
    """Draw the filters of a first layer before and after training, and tell how far they moved."""
    start, end = features.filters(before), features.filters(after)
    alike = torch.nn.functional.cosine_similarity(end.flatten(1), start.flatten(1))
    title = f"Filters before (0 to {len(start) - 1}) and after; cosines {alike.min():.2f} to {alike.max():.2f}"
    figure = figures.narrow(plots.filters(torch.cat([start, end]), title), 2.9)
    return figures.described(figure, title, "all on one scale, the cosines of each filter with itself before")


def gains() -> Figure:
    """Draw by how much a first layer that is frozen changes the accuracy, against one that learns."""
    rows: dict[str, str | tuple[str, str, str]] = {
        "by hand, not learnt (asked)": "q3-bank",
        "random, not learnt (asked)": "q3-random",
    }
    return figures.effects(rows, STUDIES, "points of test accuracy", "A frozen first layer, against one that learns")


def measures() -> Figure:
    """Draw what first layers are like, learnt, as they were drawn, and by hand: a panel a measure, a dot a run."""
    runs = studies.records("q3_edges")
    shown = (_EDGES, _ORIENTATION, _DC, _OPPONENT)
    figure, axes = figures.stacked(len(shown), 8.4)
    told = []
    for axis, measure in zip(axes, shown, strict=True):
        before = next(one for one in MEASURES if one.name == f"{measure.name} at start")
        rows = {
            "by hand": ("bank_7", measure),
            "as drawn": ("learnt_7", before),
            "after training": ("learnt_7", measure),
        }
        for height, (kind, (arm, value)) in enumerate(rows.items()):
            values = [value(run) for run in runs if run.arm == arm]
            axis.plot(values, [height] * len(values), "o", color=plots.COLOURS[height], alpha=0.6)
            told.append(f"{measure.name}, {kind} {min(values):.2f} to {max(values):.2f}")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.set_title(measure.name, fontsize="medium")
        axis.grid(axis="x", alpha=0.25)
    title = "A first layer before and after training"
    return figures.described(figure, title, "7x7 filters, and a bank set by hand, a dot a run", *told)
