"""Q4: whether an Inception module in place of each convolution makes a network more accurate, and at which scales."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cnnhw import features, models, plots
from cnnhw.book import base, figures, speed
from cnnhw.data import scenes
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet
from cnnhw.models.blocks import Classifier, evaluating
from cnnhw.studies.measures import measured
from cnnhw.studies.study import Arm, Study

BRANCHES = ("1x1", "1x1, 3x3", "1x1, 5x5", "maximum, 1x1")
_ROUNDS = 15  # of timing


def _cost(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, float]:
    """Time the network by the processor's clock, which other processes do not disturb as much as the wall's."""
    images = to_float(photos.test.batch(torch.arange(min(100, len(photos.test)))))
    times = []
    with evaluating(model), torch.inference_mode():
        for _ in range(_ROUNDS):
            start = time.process_time()
            model(images)
            times.append(time.process_time() - start)
    return {"CPU milliseconds a photo": 1000 * sorted(times)[_ROUNDS // 2] / len(images)}


_CPU = measured("CPU milliseconds a photo", "ms", 1.0, form=".2f", digits=2)
MEASURES = (_CPU,)

# Of fast_inception: channels, or multiply-adds within 1 %, of `fast`; and, for the argument about scales, modules of
# narrow and mixed kernels, both with its multiply-adds.
FAST_OPTIONS: dict[str, dict[str, Any]] = {
    "channels": {},
    "macs": {"widths": "52-108-212"},
}
SCALES: dict[str, dict[str, Any]] = {
    "narrow": {"kernels": "3-3-3", "widths": "48-100-196"},
    "mixed": {"kernels": "3-5-7", "widths": "32-68-136"},
}

# Rates that `cnnhw study tune` chose.
_TUNED = {
    "threes": 0.04, "channels": 0.02, "macs": 0.04,
    "narrow_on_wide": 0.16, "narrow_on_narrow": 0.08, "mixed_on_wide": 0.08, "mixed_on_narrow": 0.16,
}  # fmt: skip
_MODULES_RECIPE = dataclasses.replace(speed.RECIPE, epochs=48, shift=3, precision=base.FORMAT)
_MIXTURE_RECIPE = dataclasses.replace(_MODULES_RECIPE, epochs=40, precision="bfloat16")


def _fast(name: str, model: str, options: Mapping[str, Any] = {}, **change: Any) -> Arm:
    """Return an arm of the fast recipe with a quarter of the photos, each seed's own cut."""
    settings = {"recipe": _MODULES_RECIPE, "protocols": base.LARGE["protocols"], **change}
    return base.arm(name, model, _TUNED[name], options, **settings)


_MODULES = Study(
    name="q4_modules",
    question="What do Inception modules do to the network of the fast recipe, with each 3x3 convolution a module?",
    data="tiny5",
    size=48,
    neighbours=True,
    arms=(
        _fast("threes", "fast"),
        *(_fast(name, "fast_inception", options) for name, options in FAST_OPTIONS.items()),
    ),
    measures=(_cost,),
    questions=(
        base.again(
            "q4-modules", ("channels", "threes"),
            "With each 3x3 convolution an Inception module of as many channels, the fast network is less accurate.",
            asked="the accuracy of the fast network with Inception modules of as many channels, compared with 3x3",
            chapter="q4", study="q4_modules", role="primary", prediction="lower", delta=2.5, known="in part",
            held="photos, recipe, stages and channels",
        ),
        base.again(
            "q4-modules-macs", ("macs", "threes"),
            "With modules of as many multiply-adds, the fast network's accuracy changes less than matters.",
            asked="the accuracy of the fast network with modules of as many multiply-adds, compared with 3x3",
            chapter="q4", study="q4_modules", prediction="no difference that matters", delta=2.5, known="in part",
            held="photos, recipe, stages and multiply-adds", varied=("model", "options.widths"),
        ),
    ),
)  # fmt: skip
_MIXTURE = Study(
    name="q4_mixture",
    question="Do kernels of several sizes pay where objects of many sizes are mixed?",
    data="scenes_wide",
    size=48,
    neighbours=True,
    arms=tuple(
        _fast(
            f"{plan}_on_{mixture}", "fast_inception", SCALES[plan], recipe=_MIXTURE_RECIPE, data=data,
            protocols=("own_cut", "train_10"),
        )
        for plan in SCALES
        for mixture, data in {"wide": "scenes_wide", "narrow": "scenes_middle"}.items()
    ),
    questions=(
        base.question(
            "q4-mixture", ("mixed_on_wide", "narrow_on_wide", "mixed_on_narrow", "narrow_on_narrow"),
            "Kernels of several sides gain more over 3x3 where sizes are mixed than where they are alike.",
            asked="the gain from mixed kernel sizes on objects of many sizes, compared with objects of one size",
            # an interaction of four networks on 2,000 photos cannot be had to 1.25 points with the most seeds
            chapter="q4", study="q4_mixture", prediction="higher", delta=5.0, known="in part", registered="2026-11-30",
            held="recipe, topology, multiply-adds and the number of scenes",
            varied=("options.kernels", "options.widths", "data"),
        ),
    ),
)  # fmt: skip
STUDIES = (_MODULES, _MIXTURE)
ANSWER = (
    "Where each 3x3 convolution of this book's fast network becomes an Inception module, its accuracy "
    ":finding:`q4-modules rises by {effect}/falls by {effect}/changes by less than {delta}: {effect}/may rise or fall: "
    "{effect}` with as many channels; with as many multiply-adds it :finding:`q4-modules-macs rises by {effect}/falls "
    "by {effect}/changes by less than {delta}: {effect}/may rise or fall: {effect}`."
)
"""What the landing page says."""


def gains() -> Figure:
    """Draw by how much modules change the accuracy, and what kernels of several sizes gain by mixture of objects."""
    rows: dict[str, str | tuple[str, str, str]] = {
        "as many channels (asked)": "q4-modules",
        "as many multiply-adds (asked)": "q4-modules-macs",
        "3x3, 5x5, 7x7: sizes alike": ("q4_mixture", "mixed_on_narrow", "narrow_on_narrow"),
        "3x3, 5x5, 7x7: sizes mixed": ("q4_mixture", "mixed_on_wide", "narrow_on_wide"),
        "mixed minus alike (asked)": "q4-mixture",
    }
    return figures.effects(rows, STUDIES, "points of test accuracy", "What modules, and kernels of several sizes, add")


def networks() -> dict[str, Classifier]:
    """Return the fast recipe's network, and it with modules of as many channels or multiply-adds."""
    words = "3x3 convolutions", "modules, as many channels", "modules, as many multiply-adds"
    return {
        said: models.create(arm.model, size=_MODULES.size, **arm.options)
        for said, arm in zip(words, _MODULES.arms, strict=True)
    }


def mixtures() -> Figure:
    """Draw scenes whose objects are alike in size, and scenes of five sizes."""
    rows = {"alike": [scenes.MIDDLE] * 5, "mixed": list(scenes.WIDE)}
    drawn = [
        (scenes.draw(1, size=96, controls=controls, first=first).images, words)
        for words, row in rows.items()
        for first, controls in enumerate(row)
    ]
    title = "Scenes whose objects are alike in size, and mixed"
    figure = plots.contact_sheet(torch.cat([image for image, _ in drawn]), [words for _, words in drawn], title=title)
    low, high = scenes.MIDDLE.scale
    least, most = scenes.WIDE[0].scale[0], scenes.WIDE[-1].scale[1]
    return figures.described(
        figures.narrow(figure, 2.4), title, "two rows of five",
        f"Above, objects take {low:g} to {high:g} of the picture's side, below, {least:g} to {most:g}",
    )  # fmt: skip


def branches(model: Classifier, image: Tensor) -> Figure:
    """Draw what the branches of the first module make of a photo, Tensor of shape (1, 3, S, S), uint8."""
    maps = features.maps(model, image, "features.module1")[0]
    short = [branch.replace("maximum", "max") for branch in BRANCHES]
    names = [f"{branch} ({number})" for branch in short for number in range(1, len(maps) // 4 + 1)]
    title = "Sixteen maps of the first module, on one scale"
    figure = figures.narrow(plots.feature_maps(maps, image[0], title, names=names, columns=4), 4.6)
    brightest = BRANCHES[int(maps.flatten(1).max(1).values.argmax()) * 4 // len(maps)]
    figure.set_label(f"{title}, four a branch, beside the scene they come from. The largest value is of {brightest}.")
    return figure
