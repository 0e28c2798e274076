"""The studies of the book, as data: what is compared, on which photos, with which seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cnnhw import transfer
from cnnhw.book import measures
from cnnhw.book.statements import CLAIMS
from cnnhw.models.heads import Head
from cnnhw.studies.claims import of_study
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

__all__ = ["RATES", "STUDIES", "TRANSFER_RATES"]

# As reported: Adam 1e-3, batches of 32, no augmentation. The run of 30 epochs is the report's own "it had converged
# near 15"; as the rate is constant, its epoch 13 is the report's 13-epoch run, so seed 0 is not run twice.
_Q1 = Study(
    name="q1",
    observation="fewer than six runs of one of its networks",
    question="How well do the report's two networks for Q1 do on photographs of five classes, and when do they stop?",
    data="tiny5",
    size=128,
    arms=(
        Arm("q1_deep_30", "q1_deep", Recipe(epochs=30), seeds=(0,)),
        Arm("q1_shallow", "q1_shallow", Recipe(epochs=15), seeds=(0, 1, 2, 3, 4, 5)),
        Arm("q1_deep", "q1_deep", Recipe(epochs=13), seeds=(1, 2)),
    ),
    every_epoch=True,
)

_SIX = (0, 1, 2, 3, 4, 5)
_FAST = Recipe.fast()

# What each part of the fast recipe contributes: each arm leaves one out, changes one, or adds one. It was chosen on
# validation photos beforehand; AdamW alone keeps the rate of the first sketch.
_FAST_PARTS = Study(
    name="fast",
    question="What does each part of the fast recipe contribute to its accuracy, and what does it cost?",
    data="tiny5",
    size=64,
    arms=tuple(
        Arm(name, "fast", recipe, seeds=(*_SIX, 6, 7, 8) if name == "fast" else _SIX)  # more for transfers
        for name, recipe in {
            "fast": _FAST,
            "no_whitening": replace(_FAST, whiten=False),
            "adamw": replace(_FAST, optimizer="adamw", learning_rate=4e-3, weight_decay=0.05),
            "one_resolution": replace(_FAST, resolutions=()),
            "float32": replace(_FAST, precision="float32"),
            "cutout": replace(_FAST, cutout=0.375),
        }.items()
    ),
    claims=of_study(CLAIMS, "fast"),
    kept=("fast",),
)

# The targets in time, measured with two threads: least time to the report's best accuracy, two minutes, ten minutes.
_DASH = Study(
    name="dash",
    observation="it measures times, and compares nothing",
    question="How soon does the fast recipe reach what the report's best network reached?",
    data="tiny5",
    size=48,
    arms=(Arm("fast_2", "fast", Recipe.fast(2), seeds=_SIX),),
    every_epoch=True,
    threads=2,
)
_MINUTES = Study(
    name="minutes",
    observation="fewer than six runs",
    question="How accurate does a network get in two and in ten minutes?",
    data="tiny5",
    size=64,
    arms=(
        Arm("two_minutes", "best", Recipe.best(12), seeds=(0, 1, 2)),
        Arm("ten_minutes", "best", Recipe.best(40), seeds=(0, 1)),
    ),
    threads=2,
)

# The report's experiments, as reported, faults included; its networks for Q1 are in the study q1, too. Two seeds, as
# its two transfers were tested on different random splits of the flowers. Only the second stage that really trains
# the transferred Inception is ours.
_LAST = Recipe(keep="last")
_HEAD_50 = Stage("classifier", replace(_LAST, epochs=50, batch_size=64))
_HEAD_10 = Stage("classifier", replace(_LAST, epochs=10, batch_size=64))
_FROM_DEEP = Arm(
    "q6_from_deep",
    "q1_deep",
    (_HEAD_10, Stage("all", replace(_LAST, epochs=20, batch_size=64))),
    seeds=(1,),
    data="flowers",
    protocols=("random_split", "bgr"),
    source="q1_deep",
)
_FROM_INCEPTION = replace(
    _FROM_DEEP,
    name="q6_from_inception",
    model="q4_inception",
    recipe=(_HEAD_50, Stage("classifier", replace(_LAST, epochs=40))),
    seeds=(0,),
    source="q4_inception",
    new_classifier=False,
)
_REPORT = Study(
    name="report",
    observation="it repeats single runs, as reported",
    question="What do the report's own experiments give, repeated as reported on photos that anyone can have?",
    data="tiny5",
    size=128,
    arms=(
        Arm("q1_deep", "q1_deep", replace(_LAST, epochs=13), seeds=(1,), protocols=("bgr",)),
        Arm(
            "q4_inception",
            "q4_inception",
            replace(_LAST, epochs=8, raw=True),
            seeds=(0,),
            protocols=("last_tenth", "bgr"),
        ),
        Arm(
            "q2_concat_skip",
            "q2_concat_skip",
            replace(_LAST, epochs=15, batch_size=128, raw=True),
            seeds=(0, 1, 2),
            protocols=("bgr",),
        ),
        _FROM_DEEP,
        _FROM_INCEPTION,
        replace(
            _FROM_INCEPTION,
            name="q6_from_inception_trained",
            recipe=(_HEAD_50, Stage("all", replace(_LAST, epochs=3))),
        ),
        replace(
            _FROM_DEEP,
            name="q6_from_deep_uncached",
            recipe=(Stage("classifier", replace(_LAST, epochs=2, batch_size=64)),),
            cache=False,
        ),
    ),
    every_epoch=True,
)

# Each fault of the report, on and off, with nothing else changed; small enough that a run takes about a minute.
_HEAD = Stage("classifier", Recipe(epochs=20, batch_size=64))
_ALL = Stage("all", Recipe(epochs=10, batch_size=64))


def _on_flowers(name: str, *stages: Stage, **change: Any) -> Arm:
    return Arm(name, "q1_shallow", stages, seeds=_SIX, data="flowers", source="sound", **change)


_FAULTS = Study(
    name="faults",
    question="What does each fault of the report do by itself?",
    data="tiny5",
    size=64,
    arms=(
        Arm("sound", "q1_shallow", Recipe(epochs=8), seeds=_SIX),
        Arm("last_tenth", "q1_shallow", Recipe(epochs=8), seeds=_SIX, protocols=("last_tenth",)),
        Arm("raw", "q1_shallow", Recipe(epochs=8, raw=True), seeds=_SIX),
        Arm("bgr", "q1_shallow", Recipe(epochs=8), seeds=_SIX, protocols=("bgr",)),
        Arm("averaged", "q1_shallow", Recipe(epochs=8), seeds=_SIX, options={"dense": False}),
        _on_flowers("head_only", _HEAD, Stage("classifier", _ALL.recipe)),
        _on_flowers("trained", _HEAD, _ALL),
        _on_flowers("old_classifier", _HEAD, _ALL, new_classifier=False),
        _on_flowers("bgr_target", _HEAD, _ALL, protocols=("bgr",)),
        _on_flowers("own_split", _HEAD, _ALL, protocols=("random_split",)),
        Arm("scratch", "q1_shallow", _ALL.recipe, seeds=_SIX, data="flowers"),
        Arm("inception", "q4_inception", Recipe(epochs=4), seeds=_SIX, size=32),
        Arm("inception_raw", "q4_inception", Recipe(epochs=4, raw=True), seeds=_SIX, size=32),
        Arm("inception_averaged", "q4_inception", Recipe(epochs=4), seeds=_SIX, size=32, options={"dense": False}),
        Arm("concat", "q2_concat_skip", Recipe(epochs=2), seeds=_SIX, size=100),
        Arm("concat_raw", "q2_concat_skip", Recipe(epochs=2, raw=True), seeds=_SIX, size=100),
        Arm("no_concat", "q2_concat_skip", Recipe(epochs=2), seeds=_SIX, size=100, options={"skips": False}),
        Arm("concat_128", "q2_concat_skip", Recipe(epochs=2, batch_size=128), seeds=_SIX, size=100),
    ),
    every_epoch=True,
    claims=of_study(CLAIMS, "faults"),
)

# Theory i. Depth counts the convolutions inside residual stages of 12. The rate was chosen on validation photos, one
# seed, for both spans 2 and 0 alike.
_LENGTH_RECIPE = Recipe(
    epochs=8, batch_size=64, optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, schedule="one_cycle", flip=True
)


def _length(name: str, **change: Any) -> Arm:
    options = {"depth": 24, **change.pop("options")}
    return Arm(name, "residual", _LENGTH_RECIPE, seeds=_SIX, options=options, protocols=("half_train",), **change)


_LENGTH = Study(
    name="length",
    question="How long should a residual connection be, at equal parameters?",
    data="tiny5",
    size=32,
    arms=(
        *(_length(f"d24_span{span}", options={"span": span}) for span in (1, 2, 3, 4, 6, 12)),
        _length("d24_plain", options={"span": 0}),
        *(_length(f"d12_span{span}", options={"depth": 12, "span": span}) for span in (1, 2, 4, 6)),
        _length("d12_plain", options={"depth": 12, "span": 0}),
        _length("d24_span2_no_norm", options={"span": 2, "norm": False}),
        _length("d24_plain_no_norm", options={"span": 0, "norm": False}),
    ),
    measures=(measures._path_length, measures._lesions),
    claims=of_study(CLAIMS, "length"),
)
_LENGTH_SCENES = Study(
    name="length_scenes",
    question="Do harder problems deserve longer residual connections, as the original report has it?",
    data="scenes_hard",
    size=32,
    arms=tuple(
        _length(f"{level}_span{span}", options={"span": span}, data=f"scenes_{level}")
        for level in ("easy", "hard")
        for span in (1, 2, 6)
    ),
    claims=of_study(CLAIMS, "length_scenes"),
)


# Theory ii and iii, with the recipe of theory i.
def _small(name: str, model: str, **options: Any) -> Arm:
    return Arm(name, model, _LENGTH_RECIPE, seeds=_SIX, options=options, protocols=("half_train",))


_TRANSITION = Study(
    name="transition",
    question="What does it change if a DenseNet's transition layers take the maximum, or every second cell?",
    data="tiny5",
    size=32,
    arms=tuple(
        _small(kind, "dense", transition=kind) for kind in ("average", "max", "max_first", "strided", "average_first")
    ),
    measures=(measures._shifts,),
    claims=of_study(CLAIMS, "transition"),
)
# Widths were scaled until multiply-adds (_macs) or parameters (_parameters) came within 4 % of the 3-3-3-3 plan.
_DESIGN = Study(
    name="design",
    question="How are kernels, widths and head best chosen on an equal budget?",
    data="tiny5",
    size=32,
    arms=(
        _small("base", "plain"),
        _small("pairs_macs", "plain", kernels="33-33-33-33", widths="9-17-35-69"),
        _small("fives_macs", "plain", kernels="5-5-5-5", widths="9-19-37-74"),
        _small("widening_macs", "plain", kernels="3-5-7-7", widths="8-15-31-61"),
        _small("narrowing_macs", "plain", kernels="7-7-5-3", widths="8-16-33-65"),
        _small("pairs_parameters", "plain", kernels="33-33-33-33", widths="9-19-37-74"),
        _small("fives_parameters", "plain", kernels="5-5-5-5", widths="10-19-38-77"),
        _small("widening_parameters", "plain", kernels="3-5-7-7", widths="7-14-28-55"),
        _small("narrowing_parameters", "plain", kernels="7-7-5-3", widths="13-26-51-102"),
        _small("constant_macs", "plain", widths="32-32-32-32"),
        _small("slow_growth_macs", "plain", widths="23-34-52-78"),
        _small("fast_growth_macs", "plain", widths="11-28-69-172"),
        _small("flatten", "plain", head="flatten"),
        _small("flatten_64", "plain", head="flatten-64"),
        _small("flatten_256", "plain", head="flatten-256"),
        _small("average_64", "plain", head="average-64"),
        _small("average_256", "plain", head="average-256"),
    ),
    claims=of_study(CLAIMS, "design"),
)

# Q2 and Q4. The rate of each arm is chosen on validation photos, with one seed and two epochs, from three.
_Q_SEEDS = (6, 7, 8, 9, 10, 11)  # seeds 0 to 5 had a first set of runs, which is not kept


def _deep(name: str, model: str, rate: float, epochs: int, **change: Any) -> Arm:
    recipe = Recipe(epochs=epochs, learning_rate=rate)
    return Arm(name, model, recipe, size=64, protocols=("half_train",), **{"seeds": _Q_SEEDS, **change})


def _resnet(name: str, rate: float, epochs: int, **change: Any) -> Arm:
    recipe = replace(_LENGTH_RECIPE, learning_rate=rate, epochs=epochs)
    return Arm(name, "resnet", recipe, protocols=("half_train",), **{"seeds": _Q_SEEDS, **change})


_RESNETS: dict[str, dict[str, Any]] = {
    f"d{depth}_{kind}{'' if norm else '_no_norm'}": {"depth": depth, "shortcuts": kind == "residual", "norm": norm}
    for depth, norm in ((8, True), (14, True), (20, True), (20, False))
    for kind in ("residual", "plain")
}
_DEEP_NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "residual": ("q1_deep_residual", {}),
    "plain": ("q1_deep", {}),
    "inception": ("inception", {}),
    "threes": ("inception", {"kernels": "3"}),
}
_RATES = Study(
    name="rates",
    observation="it chooses learning rates, by validation photos",
    question="Which of three learning rates suits each network of Q2 and Q4?",
    data="tiny5",
    size=32,
    arms=(
        *(
            _deep(f"{name}_{rate:g}", model, rate, 2, seeds=(0,), options=options)
            for name, (model, options) in _DEEP_NETWORKS.items()
            for rate in (5e-4, 1e-3, 2e-3)
        ),
        *(
            _resnet(f"{name}_{rate:g}", rate, 2, seeds=(0,), options=options)
            for name, options in _RESNETS.items()
            for rate in (1e-3, 3e-3, 9e-3)
        ),
    ),
)

RATES = {  # what the study of rates chose, by the validation accuracy after its two epochs
    "residual": 5e-4,
    "plain": 1e-3,
    "inception": 2e-3,
    "threes": 5e-4,
    "d8_residual": 3e-3,
    "d8_plain": 3e-3,
    "d14_residual": 1e-3,
    "d14_plain": 3e-3,
    "d20_residual": 1e-3,
    "d20_plain": 3e-3,
    "d20_residual_no_norm": 1e-3,
    "d20_plain_no_norm": 1e-3,
}
_Q2 = Study(
    name="q2",
    question="What do residual connections change, with everything else the same?",
    data="tiny5",
    size=32,
    arms=(
        *(_deep(name, _DEEP_NETWORKS[name][0], RATES[name], 6) for name in ("residual", "plain")),
        *(_resnet(name, RATES[name], 5, options=options) for name, options in _RESNETS.items()),
    ),
    claims=of_study(CLAIMS, "q2"),
)

# Q4. The scales of the channels bring parameters, or multiply-adds, to those of the base, q1_deep, within 1 %.
_Q4_OPTIONS: dict[str, dict[str, Any]] = {
    "channels": {},
    "parameters": {"scale": 1.68},
    "macs": {"scale": 2.5},
    "one_scale": {"kernels": "3-3-3"},
    "single": {"kernels": "3"},
    "seven": {"kernels": "1-3-5-7", "scale": 0.8},
}
_Q4 = Study(
    name="q4",
    question="Does an Inception module in place of each convolution make Q1's deeper network more accurate?",
    data="tiny5",
    size=64,
    arms=(
        _deep("base", "q1_deep", RATES["plain"], 5),
        *(
            _deep(name, "inception", RATES["threes" if name == "single" else "inception"], 5, options=options)
            for name, options in _Q4_OPTIONS.items()
        ),
    ),
    measures=(measures._cost, measures._branches),
    claims=of_study(CLAIMS, "q4"),
    kept=("seven",),
)
_Q4_FAST = Study(
    name="q4_fast",
    observation="fewer than six runs",
    question="What do Inception modules do to the most accurate small network, the one of the fast recipe?",
    data="tiny5",
    size=64,
    arms=(Arm("fast_inception", "fast_inception", _FAST, seeds=(0, 1, 2)),),
    measures=(measures._cost,),
)
_SCALE_RECIPE = replace(_LENGTH_RECIPE, epochs=4)
_Q4_SCALES = Study(
    name="q4_scales",
    question="Trained on objects of one range of sizes, which network recognises objects of other sizes?",
    data="scenes_middle",
    size=48,
    arms=tuple(
        Arm(name, "inception", _SCALE_RECIPE, _Q_SEEDS, options={"kernels": kernels}, protocols=("half_train",))
        for name, kernels in {
            "inception": "1-3-5", "one_scale": "3-3-3", "threes": "3", "fives": "5", "sevens": "7"
        }.items()
    ),
    measures=(measures._scales,),
    claims=of_study(CLAIMS, "q4_scales"),
)  # fmt: skip

# Q3. The first layer learnt; or frozen as learnt, at random, or set by hand, and all that follows trained anew.
_FIRST_RECIPE = replace(_LENGTH_RECIPE, epochs=5)


def _first(side: int, name: str, first: str, **change: Any) -> Arm:
    recipe = change.pop("recipe", _FIRST_RECIPE)
    options = {"side": side, "first": first}
    return Arm(f"{name}_{side}", "first_layer", recipe, _Q_SEEDS, options=options, protocols=("half_train",), **change)


_Q3 = Study(
    name="q3",
    question="Is the first layer an edge detector, and does the network need the one that it has learnt?",
    data="tiny5",
    size=48,
    arms=tuple(
        arm
        for side in (3, 7)
        for arm in (
            _first(side, "learnt", "learnt"),
            _first(side, "random", "random"),
            _first(side, "bank", "bank"),
            _first(
                side, "swapped", "learnt",
                recipe=(Stage("norm1", _FIRST_RECIPE),), source=f"learnt_{side}", fresh_from="norm1",
            ),
        )
    ),
    measures=(measures._filters,),
    claims=of_study(CLAIMS, "q3"),
)  # fmt: skip

# Q5 and Q6. All transfers begin with the fast recipe's network, trained on tiny5, and go on on flowers at 64 pixels.
# Sizes are percentages of the training photos; each has its number of epochs, and all its arms take as many steps.
_EIGHT = (0, 1, 2, 3, 4, 5, 6, 7)
_EPOCHS = {5: 40, 10: 24, 25: 8, 50: 8, 100: 4}
_SOURCE = "fast/fast"

TRANSFER_RATES = {  # what the study of rates chose, by validation accuracy
    "scratch": 1e-3,
    "tuned": 3e-3,
    "linear": 0.27,
    "hidden": 9e-3,
    "fast": 2e-2,
    "imagenet": 1e-2,
    "inception_linear": 0.3,
    "inception_tuned": 4.5e-3,
}


def _tune(epochs: int, kind: str = "tuned", **change: Any) -> Recipe:
    return transfer.recipe(epochs, **{"batch_size": 64, "learning_rate": TRANSFER_RATES[kind], **change})


def _tune_fast(epochs: int, **change: Any) -> Recipe:
    """Return the fast recipe for features that have learnt: what is whitened stays as it is."""
    return replace(Recipe.fast(epochs), **{"whiten": False, "learning_rate": TRANSFER_RATES["fast"], **change})


def _probe(epochs: int, kind: str = "linear", **change: Any) -> Stage:
    """Return the stage in which a head learns; on photos that are not mirrored, so that features are computed once."""
    return Stage("head", _tune(epochs, kind, flip=False, **change))


def _probe_then(epochs: int, head: str = "linear", rest: str = "tuned") -> tuple[Stage, Stage]:
    """Return the two stages of a transfer: a quarter of the epochs for the head, the rest for all."""
    first = max(1, epochs // 4)
    recipe = _tune_fast(epochs - first) if rest == "fast" else _tune(epochs - first, rest)
    return _probe(first, head), Stage("all", recipe)


def _flowers(name: str, percent: int, recipe: Recipe | tuple[Stage, ...], **change: Any) -> Arm:
    settings: dict[str, Any] = {"seeds": _SIX, "data": "flowers", **change}
    if not isinstance(recipe, Recipe):
        settings = {"head": Head(), **settings}
        if not settings.get("pretrained"):
            settings = {"source": _SOURCE, **settings}
    protocols = () if percent == 100 else (f"train_{percent}",)
    return Arm(
        f"{name}_{percent}", settings.pop("model", "fast"), recipe,
        **{"protocols": protocols, **settings},
    )  # fmt: skip


_IMAGENET: dict[str, Any] = {"model": "efficientnet_lite0", "pretrained": True, "size": 128}
_Q4_NETWORK: dict[str, Any] = {"model": "inception", "options": _Q4_OPTIONS["seven"], "seeds": _Q_SEEDS}
_FROM_Q4 = _Q4_NETWORK | {"source": "q4/seven"}


def _rate_arms() -> tuple[Arm, ...]:
    epochs = _EPOCHS[100]
    kinds: dict[str, tuple[tuple[float, ...], Callable[[float], Recipe | tuple[Stage, ...]], dict[str, Any]]] = {
        "scratch": ((1e-3, 3e-3, 9e-3), lambda rate: _tune(epochs, learning_rate=rate), {}),
        "tuned": ((1e-3, 3e-3, 9e-3), lambda rate: (Stage("all", _tune(epochs, learning_rate=rate)),), {}),
        "linear": ((0.09, 0.27, 0.8), lambda rate: (_probe(epochs, learning_rate=rate),), {}),
        "hidden": ((1e-3, 3e-3, 9e-3), lambda rate: (_probe(epochs, learning_rate=rate),), {"head": Head(hidden=256)}),
        "fast": ((6e-3, 2e-2, 6e-2), lambda rate: (Stage("all", _tune_fast(epochs, learning_rate=rate)),), {}),
        "imagenet": ((1e-3, 1e-2, 0.1), lambda rate: (_probe(epochs, learning_rate=rate),), _IMAGENET),
        "inception_linear": ((3e-3, 3e-2, 0.3), lambda rate: (_probe(epochs, learning_rate=rate),), _FROM_Q4),
        "inception_tuned": (
            (5e-4, 1.5e-3, 4.5e-3), lambda rate: (Stage("all", _tune(epochs, learning_rate=rate)),), _FROM_Q4
        ),
    }  # fmt: skip
    return tuple(
        replace(_flowers(kind, 100, recipe(rate), **(more | {"seeds": (8,)})), name=f"{kind}_{rate:g}")
        for kind, (rates, recipe, more) in kinds.items()
        for rate in rates
    )


_TRANSFER_RATES = Study(
    name="transfer_rates",
    observation="it chooses learning rates, by validation photos",
    question="Which of three rates suits training from scratch, features that go on learning, and a new head alone?",
    data="flowers",
    size=64,
    arms=_rate_arms(),
    sources=(_FAST_PARTS, _Q4),
)


def _q5_arms(percent: int) -> tuple[Arm, ...]:
    epochs = _EPOCHS[percent]
    all_at_once = _tune(epochs)
    quick_head = replace(all_at_once, learning_rate=10 * all_at_once.learning_rate)
    return (
        _flowers("frozen", percent, (_probe(epochs),), seeds=_EIGHT),
        _flowers("random", percent, (Stage("all", all_at_once),), seeds=_EIGHT),
        _flowers("probe", percent, _probe_then(epochs), seeds=_EIGHT),
        _flowers("zero", percent, (Stage("all", all_at_once),), seeds=_EIGHT, head=Head(zero=True)),
        _flowers("slow", percent, (Stage("all", quick_head, features_rate=0.1),), seeds=_EIGHT),
        _flowers("warm", percent, (Stage("all", replace(all_at_once, warmup=0.25)),), seeds=_EIGHT),
    )


_Q5 = Study(
    name="q5",
    question="What does a transfer gain by letting the new head learn first, with the features frozen?",
    data="flowers",
    size=64,
    arms=(*_q5_arms(10), *_q5_arms(50), *_q5_arms(100)),
    measures=(measures._changes,),
    drift=True,
    claims=of_study(CLAIMS, "q5"),
    sources=(_FAST_PARTS, _Q4),
)

# The features of the fast network in three groups, from the end; then in the other order; then all three times.
_GROUPS = {
    "end": (("stage3", ""), ("stage2", ""), ("all", "")),
    "start": (("all", "stage1"), ("all", "residual2_1"), ("all", "")),
    "at_once": (("all", ""), ("all", ""), ("all", "")),
}


def _order(name: str, percent: int) -> Arm:
    epochs = _EPOCHS[percent] // 4
    stages = tuple(Stage(train, _tune(epochs), until=until) for train, until in _GROUPS[name])
    return _flowers(name, percent, (_probe(epochs), *stages))


_Q5_ORDER = Study(
    name="q5_order",
    question="Does it matter in which order a transfer makes the layers trainable?",
    data="flowers",
    size=64,
    arms=tuple(_order(name, 10) for name in _GROUPS),
    claims=of_study(CLAIMS, "q5_order"),
    sources=(_FAST_PARTS, _Q4),
)

# What is kept of the source, up to a layer; all after it is drawn anew. At one rate for all arms.
_KEPT = {"stem": "stage1", "stage2": "stage3", "all": "linear"}
_LAYER_RECIPE = _tune(_EPOCHS[25])
_Q5_LAYERS = Study(
    name="q5_layers",
    question="How general is each layer: up to which one do features learnt on other photos serve?",
    data="flowers",
    size=64,
    arms=(
        _flowers("nothing", 25, (Stage("all", _LAYER_RECIPE),), head=None, fresh_from="stem"),
        *(
            _flowers(f"{kept}_{how}", 25, (Stage(train, _LAYER_RECIPE),), head=None, fresh_from=first)
            for kept, first in _KEPT.items()
            for how, train in (("frozen", first), ("tuned", "all"))
        ),
    ),
    claims=of_study(CLAIMS, "q5_layers"),
    sources=(_FAST_PARTS, _Q4),
)

# Q6, the ladder. From scratch also with as many multiply-adds, in epochs, as source and transfer took together; and all
# of it by the fast recipe, too, most of whose epochs are at lower resolution.
_Q6 = Study(
    name="q6",
    question="When does transfer pay, against training from scratch and against features learnt on ImageNet?",
    data="flowers",
    size=64,
    arms=(
        *(
            arm
            for percent, epochs in _EPOCHS.items()
            for arm in (
                _flowers("scratch", percent, _tune(epochs, "scratch")),
                _flowers("frozen", percent, (_probe(epochs),)),
                _flowers("transfer", percent, _probe_then(epochs)),
            )
        ),
        _flowers("fast", 100, Recipe.fast(_EPOCHS[100])),
        _flowers("fast_compute", 100, Recipe.fast(23)),
        _flowers("fast_transfer", 100, _probe_then(_EPOCHS[100], rest="fast")),
        *(_flowers("imagenet", percent, (_probe(_EPOCHS[percent], "imagenet"),), **_IMAGENET) for percent in (5, 100)),
        _flowers("inception_scratch", 100, _tune(_EPOCHS[100], learning_rate=RATES["inception"]), **_Q4_NETWORK),
        _flowers("inception_frozen", 100, (_probe(_EPOCHS[100], "inception_linear"),), **_FROM_Q4),
        _flowers(
            "inception_transfer", 100, _probe_then(_EPOCHS[100], "inception_linear", "inception_tuned"), **_FROM_Q4
        ),
    ),
    claims=of_study(CLAIMS, "q6"),
    sources=(_FAST_PARTS, _Q4),
)

_HEADS = {
    "linear": Head(),
    "hidden64": Head(hidden=64),
    "hidden256": Head(hidden=256),
    "dropout256": Head(hidden=256, dropout=0.5),
    "flatten256": Head(hidden=256, pool="flatten"),
}


def _ways(percent: int, head: str) -> dict[str, tuple[Stage, ...]]:
    epochs = _EPOCHS[percent]
    step = epochs // 4
    return {
        "frozen": (_probe(epochs, head),),
        "full": _probe_then(epochs, head),
        "gradual": (_probe(step, head), *(Stage(train, _tune(step)) for train, _ in _GROUPS["end"])),
    }


_Q6_HEADS = Study(
    name="q6_heads",
    question="How complex should the new head be, and does that depend on what else is trained?",
    data="flowers",
    size=64,
    arms=tuple(
        _flowers(f"{name}_{way}", 25, stages, head=head)
        for name, head in _HEADS.items()
        for way, stages in _ways(25, "hidden" if head.hidden else "linear").items()
    ),
    claims=of_study(CLAIMS, "q6_heads"),
    sources=(_FAST_PARTS, _Q4),
)
_Q6_SPLITS = Study(
    name="q6_splits",
    question="Does the gain of the transfer hold for other splits of the photos?",
    data="flowers",
    size=64,
    arms=(
        _flowers("scratch", 100, _tune(_EPOCHS[100], "scratch"), protocols=("fold",)),
        _flowers("transfer", 100, _probe_then(_EPOCHS[100]), protocols=("fold",)),
    ),
    claims=of_study(CLAIMS, "q6_splits"),
    sources=(_FAST_PARTS, _Q4),
)
_Q6_MAP = Study(
    name="q6_map",
    observation="it draws one run, and compares nothing",
    question="How do the features of the flowers lie before and after they are tuned?",
    data="flowers",
    size=64,
    arms=(
        _flowers("frozen", 100, (_probe(_EPOCHS[100]),), seeds=(0,)),
        _flowers("transfer", 100, _probe_then(_EPOCHS[100]), seeds=(0,)),
    ),
    measures=(measures._map,),
    sources=(_FAST_PARTS, _Q4),
)

STUDIES = (
    _Q1,
    _FAST_PARTS,
    _DASH,
    _MINUTES,
    _REPORT,
    _FAULTS,
    _LENGTH,
    _LENGTH_SCENES,
    _TRANSITION,
    _DESIGN,
    _RATES,
    _Q2,
    _Q4,
    _Q4_FAST,
    _Q4_SCALES,
    _Q3,
    _TRANSFER_RATES,
    _Q5,
    _Q5_ORDER,
    _Q5_LAYERS,
    _Q6,
    _Q6_HEADS,
    _Q6_SPLITS,
    _Q6_MAP,
)
