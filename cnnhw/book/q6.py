"""Q6: when transfer pays, and how complex the new head should be."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from cnnhw import features
from cnnhw.book.q5 import EPOCHS, FROM_Q4, GROUPS, IMAGENET, Q4_NETWORK, SOURCES, flowers, probe, probe_then, tune
from cnnhw.book.rates import RATES
from cnnhw.data.photoset import PhotoSet
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head
from cnnhw.studies.claims import alike, higher
from cnnhw.studies.measures import Measure
from cnnhw.studies.study import Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage


def _map(model: Classifier, photos: PhotoSet, configuration: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return a plane through the features of the test photos: t-SNE coordinates (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    vectors = features.vectors(model, photos.test)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    plane = TSNE(random_state=0, init="pca", perplexity=min(30.0, (len(vectors) - 1) / 3)).fit_transform(
        vectors.numpy()
    )
    return {"map across": plane[:, 0].tolist(), "map up": plane[:, 1].tolist()}


# each split has other test photos, so that two runs cannot be compared photo by photo
_OVER_SPLITS = Measure("accuracy over splits", "points", 100.0, lambda run, epoch: run.accuracy(epoch))
MEASURES = (_OVER_SPLITS,)

_higher, _alike = (partial(made, study="q6", registered="2026-11-25") for made in (higher, alike))

_CLAIMS = (
    _higher("q6-steps", "transfer_100", "scratch_100",
        "With all photos and as many steps, transfer is more accurate than training from scratch."),
    _higher("q6-steps-few", "transfer_10", "scratch_10",
        "With a tenth of the photos and as many steps, transfer gains at least 5 points over training from scratch.",
        points=5),
    _higher("q6-fast", "fast_transfer_100", "fast_100",
        "By the fast recipe and with as many steps, too, transfer is more accurate than training from scratch."),
    _higher("q6-compute", "fast_transfer_100", "fast_compute_100",
        "By the fast recipe and with as much computation in all, too, transfer is more accurate than from scratch."),
    _higher("q6-imagenet", "imagenet_100", "transfer_100",
        "A head on frozen features from ImageNet gains at least 10 points over the transfer from our own network.",
        points=10),
    _higher("q6-imagenet-few", "imagenet_5", "transfer_100",
        "With a twentieth of the photos it is more accurate than our transfer with all of them."),
    _higher("q6-inception", "inception_transfer_100", "inception_scratch_100",
        "Q4's network, transferred, is more accurate than from scratch with as many steps."),
    _higher("q6-inception-frozen", "inception_transfer_100", "inception_frozen_100",
        "Q4's network, transferred, is more accurate than with a new head alone."),
)  # fmt: skip

_HEAD_CLAIMS = (
    _higher("q6-head-hidden", "hidden256_frozen_25", "linear_frozen_25",
        "On frozen features, with a quarter of the photos, a hidden layer of 256 raises the accuracy.",
        study="q6_heads"),
    _higher("q6-head-flatten", "flatten256_frozen_25", "hidden256_frozen_25",
        "On frozen features, with a quarter of the photos, a hidden layer that sees all cells of the map is "
        "more accurate than one that sees their mean.",
        study="q6_heads"),
    _alike("q6-head-full", "hidden256_full_25", "linear_full_25",
        "With all layers trained, on a quarter of the photos, a hidden layer of 256 changes less than 2.5 points.",
        study="q6_heads"),
    _alike("q6-head-flatten-full", "flatten256_full_25", "linear_full_25",
        "With all layers trained, on a quarter of the photos, one that sees all cells changes less than 2.5 points.",
        study="q6_heads"),
    _higher("q6-head-dropout", "dropout256_full_25", "hidden256_full_25",
        "With all layers trained, on a quarter of the photos, dropout before the last layer raises the accuracy.",
        study="q6_heads"),
    _alike("q6-head-gradual", "linear_gradual_25", "linear_full_25",
        "With a linear head, on a quarter of the photos, unfreezing from the end changes less than 2.5 points.",
        study="q6_heads"),
)  # fmt: skip

_SPLIT_CLAIMS = (
    _higher("q6-splits", "transfer_100", "scratch_100",
        "Over six splits of the photos, transfer is more accurate than training from scratch with as many steps.",
        measure=_OVER_SPLITS, study="q6_splits"),
)  # fmt: skip

# The ladder. From scratch also with as many multiply-adds, in epochs, as source and transfer took together; and all of
# it by the fast recipe, too, most of whose epochs are at lower resolution.
_ALL = EPOCHS[100]
_Q6 = Study(
    name="q6",
    question="When does transfer pay, against training from scratch and against features learnt on ImageNet?",
    data="flowers",
    size=64,
    arms=(
        *(
            arm
            for percent, epochs in EPOCHS.items()
            for arm in (
                flowers("scratch", percent, tune(epochs, "scratch")),
                flowers("frozen", percent, (probe(epochs),)),
                flowers("transfer", percent, probe_then(epochs)),
            )
        ),
        flowers("fast", 100, Recipe.fast(_ALL)),
        flowers("fast_compute", 100, Recipe.fast(23)),
        flowers("fast_transfer", 100, probe_then(_ALL, rest="fast")),
        *(flowers("imagenet", percent, (probe(EPOCHS[percent], "imagenet"),), **IMAGENET) for percent in (5, 100)),
        flowers("inception_scratch", 100, tune(_ALL, learning_rate=RATES["inception"]), **Q4_NETWORK),
        flowers("inception_frozen", 100, (probe(_ALL, "inception_linear"),), **FROM_Q4),
        flowers("inception_transfer", 100, probe_then(_ALL, "inception_linear", "inception_tuned"), **FROM_Q4),
    ),
    claims=_CLAIMS,
    sources=SOURCES,
)

_HEADS = {
    "linear": Head(),
    "hidden64": Head(hidden=64),
    "hidden256": Head(hidden=256),
    "dropout256": Head(hidden=256, dropout=0.5),
    "flatten256": Head(hidden=256, pool="flatten"),
}


def _ways(epochs: int, head: str) -> dict[str, tuple[Stage, ...]]:
    step = epochs // 4
    return {
        "frozen": (probe(epochs, head),),
        "full": probe_then(epochs, head),
        "gradual": (probe(step, head), *(Stage(train, tune(step)) for train, _ in GROUPS["end"])),
    }


_Q6_HEADS = Study(
    name="q6_heads",
    question="How complex should the new head be, and does that depend on what else is trained?",
    data="flowers",
    size=64,
    arms=tuple(
        flowers(f"{name}_{way}", 25, stages, head=head)
        for name, head in _HEADS.items()
        for way, stages in _ways(EPOCHS[25], "hidden" if head.hidden else "linear").items()
    ),
    claims=_HEAD_CLAIMS,
    sources=SOURCES,
)
_Q6_SPLITS = Study(
    name="q6_splits",
    question="Does the gain of the transfer hold for other splits of the photos?",
    data="flowers",
    size=64,
    arms=(
        flowers("scratch", 100, tune(_ALL, "scratch"), protocols=("fold",)),
        flowers("transfer", 100, probe_then(_ALL), protocols=("fold",)),
    ),
    claims=_SPLIT_CLAIMS,
    sources=SOURCES,
)
_Q6_MAP = Study(
    name="q6_map",
    observation="it draws one run, and compares nothing",
    question="How do the features of the flowers lie before and after they are tuned?",
    data="flowers",
    size=64,
    arms=(
        flowers("frozen", 100, (probe(_ALL),), seeds=(0,)),
        flowers("transfer", 100, probe_then(_ALL), seeds=(0,)),
    ),
    measures=(_map,),
    sources=SOURCES,
)
STUDIES = (_Q6, _Q6_HEADS, _Q6_SPLITS, _Q6_MAP)
