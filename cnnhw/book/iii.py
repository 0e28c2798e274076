"""Theory iii: how kernels, widths and head are best chosen on an equal budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from cnnhw import models, plots, studies, theory
from cnnhw.book import base, figures
from cnnhw.book.i import small
from cnnhw.models.blocks import Classifier
from cnnhw.studies.questions import Question
from cnnhw.studies.study import Study

_PLANS = {"threes": "3-3-3-3", "widening": "3-5-7-7", "pairs": "33-33-33-33"}
_HEADS = {"average": "average", "hidden": "average-256", "flatten": "flatten-64"}

# Widths were scaled until multiply-adds came within 4 % of the first network's.
_GROWTHS: dict[str, dict[str, Any]] = {
    "base": {},
    "constant_macs": {"widths": "32-32-32-32"},
    "fast_growth_macs": {"widths": "11-28-69-172"},
}

# Extractors and heads at 64 pixels, all of as many parameters as the first of them within 1 %: what the one part of a
# network gets, the other goes without. The four of 3x3 and widening kernels, flattened and averaged, decide.
DESIGNS: dict[str, dict[str, str]] = {
    f"{plan}_{head}": {"kernels": _PLANS[plan], "widths": widths, "head": _HEADS[head]}
    for plan, by_head in {
        "threes": {"average": "16-32-64-128", "hidden": "13-27-54-107", "flatten": "9-17-34-68"},
        "widening": {"average": "7-14-28-55", "flatten": "5-10-21-42"},
        "pairs": {"average": "9-18-37-74"},
    }.items()
    for head, widths in by_head.items()
}

_DESIGN = Study(
    name="design",
    observation="of the first edition, with six seeds, one rate for all and 8 epochs, which are too few to converge",
    question="How fast should channels grow with depth, on an equal budget of multiply-adds?",
    data="tiny5",
    size=32,
    arms=tuple(small(name, "plain", options) for name, options in _GROWTHS.items()),
)

# Rates that `cnnhw study tune` chose.
_TUNED = {
    "threes_average": 0.08, "threes_hidden": 0.02, "threes_flatten": 0.02, "widening_average": 0.02,
    "widening_flatten": 0.005, "pairs_average": 0.04,
}  # fmt: skip


def _exploratory(name: str, first: str, statement: str, prediction: str, varied: tuple[str, ...]) -> Question:
    return base.question(
        name, (first, "threes_average"), statement,
        chapter="iii", study="iii_together", role="exploratory", prediction=prediction, delta=2.5, known="in part",
        held="photos, recipe, stages and all parameters together", varied=varied,
    )  # fmt: skip


_SETTINGS = base.LARGE | {"recipe": replace(base.LARGE["recipe"], precision=base.FORMAT)}
_KERNELS, _HEAD = ("options.kernels", "options.widths"), ("options.head", "options.widths")
_TOGETHER = Study(
    name="iii_together",
    question="At one number of parameters in all, does the best head depend on the kernels before it?",
    data="tiny5",
    size=64,
    arms=tuple(
        base.arm(name, "plain", _TUNED[name], options, **_SETTINGS) for name, options in DESIGNS.items()
    ),
    questions=(
        base.question(
            "iii-together", ("widening_flatten", "threes_flatten", "widening_average", "threes_average"),
            "What widening kernels gain over 3x3 does not depend on whether the head flattens or averages the map.",
            # an interaction of four networks on 2,000 photos cannot be had to 1.25 points with the most seeds
            asked="the gain of widening kernels over 3x3 if the head flattens, compared with if it averages",
            chapter="iii", study="iii_together", role="primary", prediction="no difference that matters", delta=5.0,
            held="photos, recipe, stages and all parameters together",
            varied=("options.kernels", "options.head", "options.widths"),
        ),
        _exploratory(
            "iii-together-widening", "widening_average",
            "At as many parameters, kernels that widen with depth are less accurate than 3x3 throughout.",
            "lower", _KERNELS,
        ),
        _exploratory(
            "iii-together-pairs", "pairs_average",
            "At as many parameters, pairs of 3x3 convolutions are more accurate than single ones.",
            "higher", _KERNELS,
        ),
        _exploratory(
            "iii-together-flatten", "threes_flatten",
            "At as many parameters, a flattened map with 64 hidden units is less accurate than an average.",
            "lower", _HEAD,
        ),
        _exploratory(
            "iii-together-hidden", "threes_hidden",
            "At as many parameters, 256 hidden units behind the average change less than matters.",
            "no difference that matters", _HEAD,
        ),
    ),
)  # fmt: skip
STUDIES = (_DESIGN, _TOGETHER)
ANSWER = (
    "Count the parameters and multiply-adds of both parts: what the head takes, the extractor goes without. At the "
    "same number of parameters, what kernels that widen with depth change in accuracy :finding:`iii-together is higher "
    "by {effect} before a head that flattens the last map than before one that averages it/is lower by {effect} before "
    "a head that flattens the last map than before one that averages it/is alike, within {delta}, before a head that "
    "flattens the last map and one that averages it: {effect}/may differ between a head that flattens the last map and "
    "one that averages it: {effect}`."
)
"""What the landing page says."""


def gains() -> Figure:
    """Draw what kernels change by head, and what other kernels and heads change about 3x3 kernels and an average."""
    rows: dict[str, str | tuple[str, str, str]] = {
        "widening, not 3x3 (flattened)": ("iii_together", "widening_flatten", "threes_flatten"),
        "widening, not 3x3 (average)": "iii-together-widening",
        "the first minus the second (asked)": "iii-together",
        "pairs of 3x3, not single (average)": "iii-together-pairs",
        "flattened, not average (3x3)": "iii-together-flatten",
        "hidden layer, not none (average)": "iii-together-hidden",
    }
    return figures.effects(rows, STUDIES, "points of test accuracy", "What kernels and heads change")


def places(names: Sequence[str]) -> Figure:
    """Draw where the parameters of some networks are, and where their multiply-adds."""
    found = {}
    for name in names:
        layers = [layer for layer in theory.layers(models.create(name)) if layer.parameters]
        half = sum(layer.kind == "Conv2d" for layer in layers) / 2
        for what in ("parameters", "macs"):
            counts = {"earlier convolutions": 0, "later convolutions": 0, "dense layers": 0}
            for number, layer in enumerate(layers):  # convolutions come first
                part = 2 if layer.kind != "Conv2d" else int(number >= half)
                counts[list(counts)[part]] += getattr(layer, what)
            words = f"{name}, {what.replace('macs', 'multiply-adds')}"
            found[words] = {part: count / sum(counts.values()) for part, count in counts.items()}
    return figures.narrow(plots.shares(found, "Where parameters and multiply-adds are"), 4.4)


def front() -> Figure:
    """Draw the accuracy of six networks with one number of parameters against their multiply-adds."""
    title = "Accuracy against multiply-adds"
    runs: dict[str, list[float]] = {}
    for run in studies.records(_TOGETHER.name):
        runs.setdefault(run.arm, []).append(run.accuracy())
    if not runs.keys() >= DESIGNS.keys():
        return figures.not_run(title)
    figure, (axis,) = figures.stacked(1, 4.0)
    colours = dict(zip(_PLANS, plots.COLOURS, strict=False))
    heads = {"average": ("average", "o"), "hidden": ("hidden layer", "s"), "flatten": ("flattened", "^")}
    told = []
    for name, options in DESIGNS.items():
        plan, head = name.split("_")
        words, marker = heads[head]
        said = f"{plan.replace('threes', '3x3')}, {words}"
        macs = sum(layer.macs for layer in theory.layers(_network(options))) / 1e6
        mean = fmean(runs[name])
        axis.plot((macs, macs), (min(runs[name]), max(runs[name])), color=colours[plan], alpha=0.5)
        axis.plot(macs, mean, marker, color=colours[plan], label=said)
        told.append(f"{said} {mean:.3g} at {macs:.3g}")
    axis.set_xlim(left=0)
    axis.set_xlabel("million multiply-adds")
    axis.set_ylabel("test accuracy")
    axis.grid(alpha=0.25)
    figure.legend()
    what = "test accuracy, mean and range of the runs, against million multiply-adds"
    return figures.described(figures.narrow(figure), title, what, "; ".join(told))


def planned() -> figures.Html:
    """Return the networks of the second study as a table, with their parameters."""
    words = {"threes": "3x3", "widening": "3, 5, 7, 7", "pairs": "pairs of 3x3"}
    heads = {"average": "average", "hidden": "average, hidden layer", "flatten": "flattened, hidden layer"}
    rows = []
    for name, options in DESIGNS.items():
        plan, head = name.split("_")
        count = models.count_parameters(_network(options))
        rows.append((words[plan], heads[head], options["widths"].replace("-", ", "), f"{count:,}"))
    return figures.table(("Kernels", "Head", "Channels", "Parameters"), rows)


def _network(options: Mapping[str, str]) -> Classifier:
    """Return a network of the second study."""
    made: dict[str, Any] = {**options}
    return models.create("plain", size=_TOGETHER.size, **made)


def advice(model: Classifier) -> list[tuple[str, str]]:
    """Return what the chapter advises against in a network, and the question that each advice rests on."""
    convolutions = [layer for layer in model.features.modules() if isinstance(layer, nn.Conv2d)]
    wide = [layer for layer in convolutions if layer.kernel_size[0] > 1]
    dense = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear)]
    found = []
    if wide and wide[-1].kernel_size[0] > max(3, wide[0].kernel_size[0]):
        widest = wide[-1].kernel_size[0]
        found.append((f"kernels widen with depth, from {wide[0].kernel_size[0]} to {widest}", "iii-together-widening"))
    if len(dense) > 1 and convolutions:
        flattened = dense[0].in_features > convolutions[-1].out_channels
        found.append(
            ("the head has a hidden layer on a flattened map", "iii-together-flatten")
            if flattened
            else ("the head has a hidden layer", "iii-together-hidden")
        )
    return found
