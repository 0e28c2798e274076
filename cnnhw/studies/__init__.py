"""Studies: experiments as data, run by a resumable queue, each run kept as a record.

A study is a frozen configuration: arms, data and seeds. Each pair of arm and seed gives one record, a JSON file; what
is shown in the book is computed from records alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cnnhw.errors import UnknownNameError
from cnnhw.studies.store import Record, configuration_key
from cnnhw.studies.store import read as records
from cnnhw.training import Recipe

__all__ = ["Arm", "Job", "Record", "Study", "get", "names", "records"]


@dataclass(frozen=True)
class Arm:
    """One way of training that a study compares with others.

    Attributes
    ----------
    name : str
        The arm's name within the study.
    model : str
        A registered model.
    recipe : Recipe
        How it is trained.
    seeds : tuple of int
        One run a seed; the seed decides initial weights, order and augmentation.
    """

    name: str
    model: str
    recipe: Recipe
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Study:
    """An experiment: arms, data and seeds.

    Attributes
    ----------
    name : str
        The study's name, also the folder of its records.
    question : str
        What it is for, in one sentence.
    data : str
        A name that :func:`cnnhw.data.load` knows.
    size : int
        Side length of the photos in pixels.
    arms : tuple of Arm
        What is compared.
    every_epoch : bool
        Keep the test predictions of each epoch, not only of the best.
    threads : int
        Threads of each run. One is the most economical; more are for studies of time itself.
    """

    name: str
    question: str
    data: str
    size: int
    arms: tuple[Arm, ...]
    every_epoch: bool = False
    threads: int = 1

    def jobs(self) -> list[Job]:
        """Return all runs of the study, seed by seed so that a study cut short is still balanced."""
        pairs = [(rank, arm, seed) for arm in self.arms for rank, seed in enumerate(arm.seeds)]
        return [Job(self, arm, seed) for _, arm, seed in sorted(pairs, key=lambda pair: pair[0])]


@dataclass(frozen=True)
class Job:
    """One run of a study: an arm with a seed."""

    study: Study
    arm: Arm
    seed: int

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the run, as plain values; of the recipe, what differs from the default."""
        return {
            "model": self.arm.model,
            "data": self.study.data,
            "size": self.study.size,
            "recipe": self.arm.recipe.changes(),
            "seed": self.seed,
            **({"threads": self.study.threads} if self.study.threads > 1 else {}),
        }

    @property
    def key(self) -> str:
        """The hash of the configuration."""
        return configuration_key(self.configuration)

    def __str__(self) -> str:
        return f"{self.study.name}/{self.arm.name}-{self.seed}"


# As reported: Adam 1e-3, batches of 32, no augmentation. The run of 30 epochs is the report's own "it had converged
# near 15"; as the rate is constant, its epoch 13 is the report's 13-epoch run, so seed 0 is not run twice.
_Q1 = Study(
    name="q1",
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
        Arm(name, "fast", recipe, seeds=_SIX)
        for name, recipe in {
            "fast": _FAST,
            "no_whitening": replace(_FAST, whiten=False),
            "adamw": replace(_FAST, optimizer="adamw", learning_rate=4e-3, weight_decay=0.05),
            "one_resolution": replace(_FAST, resolutions=()),
            "float32": replace(_FAST, precision="float32"),
            "cutout": replace(_FAST, cutout=0.375),
        }.items()
    ),
)

# The targets in time, measured with two threads: least time to the report's best accuracy, two minutes, ten minutes.
_DASH = Study(
    name="dash",
    question="How soon does the fast recipe reach what the report's best network reached?",
    data="tiny5",
    size=48,
    arms=(Arm("fast_2", "fast", Recipe.fast(2), seeds=_SIX),),
    every_epoch=True,
    threads=2,
)
_MINUTES = Study(
    name="minutes",
    question="How accurate does a network get in two and in ten minutes?",
    data="tiny5",
    size=64,
    arms=(
        Arm("two_minutes", "best", Recipe.best(12), seeds=(0, 1, 2)),
        Arm("ten_minutes", "best", Recipe.best(40), seeds=(0, 1)),
    ),
    threads=2,
)

_STUDIES = {study.name: study for study in (_Q1, _FAST_PARTS, _DASH, _MINUTES)}


def names() -> list[str]:
    """Return the names of all studies, sorted."""
    return sorted(_STUDIES)


def get(name: str) -> Study:
    """Return a study by name.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Returns
    -------
    Study
        The study.

    Raises
    ------
    UnknownNameError
        If there is no such study.
    """
    if name not in _STUDIES:
        raise UnknownNameError("study", name, _STUDIES)
    return _STUDIES[name]
