"""Q1: how well the report's two plain networks do, and when they stop."""

from __future__ import annotations

from cnnhw.book.i import SIX
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe

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
        Arm("q1_shallow", "q1_shallow", Recipe(epochs=15), seeds=SIX),
        Arm("q1_deep", "q1_deep", Recipe(epochs=13), seeds=(1, 2)),
    ),
    every_epoch=True,
)
STUDIES = (_Q1,)
