"""Theory iii: how kernels, widths and head are best chosen on an equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from cnnhw import models, plots, studies, theory
from cnnhw.book import base, figures
from cnnhw.book.i import small
from cnnhw.models.blocks import Classifier
from cnnhw.studies.claims import alike, higher
from cnnhw.studies.questions import Question
from cnnhw.studies.study import Study

_PLANS = {"threes": "3-3-3-3", "widening": "3-5-7-7", "pairs": "33-33-33-33"}
_HEADS = {"average": "average", "hidden": "average-256", "flatten": "flatten-64"}

# Widths were scaled until multiply-adds (_macs) or parameters (_parameters) came within 4 % of the 3-3-3-3 plan.
_OPTIONS: dict[str, dict[str, Any]] = {
    "base": {},
    "pairs_macs": {"kernels": "33-33-33-33", "widths": "9-17-35-69"},
    "fives_macs": {"kernels": "5-5-5-5", "widths": "9-19-37-74"},
    "widening_macs": {"kernels": "3-5-7-7", "widths": "8-15-31-61"},
    "narrowing_macs": {"kernels": "7-7-5-3", "widths": "8-16-33-65"},
    "pairs_parameters": {"kernels": "33-33-33-33", "widths": "9-19-37-74"},
    "fives_parameters": {"kernels": "5-5-5-5", "widths": "10-19-38-77"},
    "widening_parameters": {"kernels": "3-5-7-7", "widths": "7-14-28-55"},
    "narrowing_parameters": {"kernels": "7-7-5-3", "widths": "13-26-51-102"},
    "constant_macs": {"widths": "32-32-32-32"},
    "slow_growth_macs": {"widths": "23-34-52-78"},
    "fast_growth_macs": {"widths": "11-28-69-172"},
    "flatten": {"head": "flatten"},
    "flatten_64": {"head": "flatten-64"},
    "flatten_256": {"head": "flatten-256"},
    "average_64": {"head": "average-64"},
    "average_256": {"head": "average-256"},
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

_higher, _alike = (partial(made, study="design", registered="2026-11-24") for made in (higher, alike))

_CLAIMS = (
    _higher("iii-widening-macs", "widening_macs", "base",
        "At equal multiply-adds, kernels that widen with depth (3-5-7-7), as the report advises, beat 3x3 throughout."),
    _higher("iii-widening-narrowing", "widening_macs", "narrowing_macs",
        "At equal multiply-adds, kernels that widen with depth are more accurate than kernels that narrow (7-7-5-3)."),
    _higher("iii-pairs-fives", "pairs_macs", "fives_macs",
        "At equal multiply-adds, pairs of 3x3 convolutions are more accurate than single 5x5 convolutions."),
    _higher("iii-widening-parameters", "widening_parameters", "base",
        "At equal parameters, kernels that widen with depth (3-5-7-7) beat 3x3 throughout."),
    _higher("iii-growth", "base", "constant_macs",
        "At equal multiply-adds, channels that double with depth are more accurate than constant ones."),
    _alike("iii-growth-rate", "fast_growth_macs", "base",
        "At equal multiply-adds, channels that grow by 2.5 a stage come within 2.5 points of channels that double."),
    _alike("iii-hidden", "average_256", "base",
        "A hidden dense layer of 256 units on the averaged map comes within 2.5 points of none."),
    _alike("iii-flatten", "flatten_256", "base",
        "A flattened map with 256 hidden units comes within 2.5 points of an average without any."),
)  # fmt: skip

_DESIGN = Study(
    name="design",
    question="How are kernels, widths and head best chosen on an equal budget?",
    data="tiny5",
    size=32,
    arms=tuple(small(name, "plain", options) for name, options in _OPTIONS.items()),
    claims=_CLAIMS,
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
    "At equal multiply-adds, kernels that widen with depth :finding:`iii-widening-macs gain/lose` against 3x3 "
    "throughout."
)
"""What the landing page says."""


def gains() -> Figure:
    """Draw how other designs compare with 3x3 kernels, doubling channels and an average, at equal multiply-adds."""
    rows: dict[str, str | tuple[str, str, str]] = {
        "kernels that widen": ("design", "widening_macs", "base"),
        "kernels that narrow": ("design", "narrowing_macs", "base"),
        "pairs of 3x3": ("design", "pairs_macs", "base"),
        "constant channels": ("design", "constant_macs", "base"),
        "a hidden layer": ("design", "average_256", "base"),
        "flattened, and a hidden layer": ("design", "flatten_256", "base"),
    }
    return figures.effects(
        rows, STUDIES, "points of test accuracy", "Other designs, against 3x3 kernels and an average"
    )


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
    """Draw the accuracy of all designs against their multiply-adds."""
    runs: dict[str, list[float]] = {}
    for run in studies.records("design"):
        runs.setdefault(run.arm, []).append(run.accuracy())
    found = {}
    for name, options in _OPTIONS.items():
        macs = sum(layer.macs for layer in theory.layers(models.create("plain", size=32, **options)))
        found[name.replace("_", " ")] = (macs / 1e6, runs[name])
    title = "Accuracy against multiply-adds, and the front of the best"
    return plots.costs(found, "million multiply-adds", "test accuracy", title)


def planned() -> figures.Html:
    """Return the networks of the second study as a table, with their parameters."""
    words = {"threes": "3x3", "widening": "3, 5, 7, 7", "pairs": "pairs of 3x3"}
    heads = {"average": "average", "hidden": "average, hidden layer", "flatten": "flattened, hidden layer"}
    rows = []
    for name, options in DESIGNS.items():
        plan, head = name.split("_")
        made: dict[str, Any] = {**options}
        count = models.count_parameters(models.create("plain", size=_TOGETHER.size, **made))
        rows.append((words[plan], heads[head], options["widths"].replace("-", ", "), f"{count:,}"))
    return figures.table(("Kernels", "Head", "Channels", "Parameters"), rows)


def advice(model: Classifier) -> list[tuple[str, str]]:
    """Return what the chapter advises against in a network, and the question or claim that each advice rests on."""
    convolutions = [layer for layer in model.features.modules() if isinstance(layer, nn.Conv2d)]
    wide = [layer for layer in convolutions if layer.kernel_size[0] > 1]
    dense = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear)]
    found = []
    if wide and wide[-1].kernel_size[0] > max(3, wide[0].kernel_size[0]):
        widest = wide[-1].kernel_size[0]
        found.append((f"kernels widen with depth, from {wide[0].kernel_size[0]} to {widest}", "iii-widening-macs"))
    if len(wide) > 2 and wide[-1].out_channels <= wide[0].out_channels:
        found.append(
            (f"channels do not grow with depth, {wide[0].out_channels} to {wide[-1].out_channels}", "iii-growth")
        )
    if len(dense) > 1 and convolutions:
        flattened = dense[0].in_features > convolutions[-1].out_channels
        found.append(
            ("the head has a hidden layer on a flattened map", "iii-flatten")
            if flattened
            else ("the head has a hidden layer", "iii-hidden")
        )
    return found
