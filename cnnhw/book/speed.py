"""Speed: what each part of the fast recipe contributes, and how soon a given accuracy is reached."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from cnnhw.book.i import SIX
from cnnhw.studies.claims import Claim, alike, higher
from cnnhw.studies.measures import SECONDS
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe

RECIPE = Recipe.fast()

_claim, _higher, _alike = (partial(made, study="fast", registered="2026-11-24") for made in (Claim, higher, alike))

# the study had been run before: all post hoc
_CLAIMS = (
    _higher("speed-whitening", "fast", "no_whitening",
        "A whitened first layer raises the accuracy of the fast recipe."),
    _higher("speed-muon", "fast", "adamw",
        "Orthogonalised updates raise the accuracy of the fast recipe, compared with AdamW."),
    _alike("speed-resolutions", "fast", "one_resolution",
        "Rising resolution costs less than 2.5 points."),
    _claim("speed-resolutions-time", "fast", "one_resolution",
        "Rising resolution saves training time.",
        "as much time, or more", measure=SECONDS, direction="less"),
    _alike("speed-bfloat16", "fast", "float32",
        "Computing in bfloat16 costs less than 2.5 points."),
    _claim("speed-bfloat16-time", "fast", "float32",
        "Computing in bfloat16 saves training time.",
        "as much time, or more", measure=SECONDS, direction="less"),
    _alike("speed-cutout", "cutout", "fast",
        "In so few epochs, cutout changes less than 2.5 points."),
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
    claims=_CLAIMS,
    kept=("fast",),
)

# The targets in time, measured with two threads: least time to the report's best accuracy, two minutes, ten minutes.
_DASH = Study(
    name="dash",
    observation="it measures times, and compares nothing",
    question="How soon does the fast recipe reach what the report's best network reached?",
    data="tiny5",
    size=48,
    arms=(Arm("fast_2", "fast", Recipe.fast(2), seeds=SIX),),
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
STUDIES = (FAST, _DASH, _MINUTES)
