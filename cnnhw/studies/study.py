"""What a study is: arms, data and seeds, all frozen, and one job for each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cnnhw import models, training, transfer
from cnnhw.data import decode, subsets
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import CnnhwError
from cnnhw.models import pretrained, weights
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head
from cnnhw.studies.drift import Drift
from cnnhw.studies.fingerprint import fingerprint
from cnnhw.studies.questions import Question
from cnnhw.studies.store import Record, configuration_key
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

__all__ = ["Arm", "Job", "Study"]

Measurement = Callable[[Classifier, PhotoSet, Mapping[str, Any]], Mapping[str, float | list[float]]]
"""Measures a trained network: takes it, the photos and the configuration, and returns figures by name."""


@dataclass(frozen=True)
class Arm:
    """One way of training that a study compares with others.

    - ``name`` (str): the arm's name within the study.
    - ``model`` (str): a registered model.
    - ``recipe`` (Recipe, or tuple of Stage): how it is trained; the stages of a transfer.
    - ``seeds`` (tuple of int): one run a seed; the seed decides initial weights, order and augmentation.
    - ``options`` (dict): options of the model.
    - ``data`` (str): another data set than the study's.
    - ``size`` (int): another side length than the study's.
    - ``protocols`` (tuple of str): what is done to the data beforehand: see :func:`cnnhw.data.subsets.names`.
    - ``source`` (str): for a transfer, the arm whose weights, of the same seed, it starts from: of the same study, or
      of another as ``"STUDY/ARM"``.
    - ``pretrained`` (bool): for a transfer, start from weights trained on ImageNet: see
      :func:`cnnhw.models.pretrained.load`.
    - ``new_classifier``, ``head``, ``fresh_from``, ``cache``: as for :func:`cnnhw.transfer.transfer`.
    - ``folds`` (int): for a transfer, how many seeds in a row start from one run: seed s from that of the source with
      seed s // folds. With 5, the runs of one repeat do, by the protocol ``"fold"``.
    """

    name: str
    model: str
    recipe: Recipe | tuple[Stage, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    data: str = ""
    size: int = 0
    protocols: tuple[str, ...] = ()
    source: str = ""
    pretrained: bool = False
    new_classifier: bool = True
    head: Head | None = None
    fresh_from: str = ""
    cache: bool = True
    folds: int = 1

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages; one that trains all, for a recipe."""
        return (Stage("all", self.recipe),) if isinstance(self.recipe, Recipe) else self.recipe

    @property
    def epochs(self) -> int:
        """The epochs of all stages."""
        return sum(stage.recipe.epochs for stage in self.stages)


@dataclass(frozen=True)
class Study:
    """An experiment: arms, data and seeds.

    - ``name`` (str): the study's name, also the folder of its records.
    - ``question`` (str): what it is for, in one sentence.
    - ``data`` (str): a name that :func:`cnnhw.data.load` knows.
    - ``size`` (int): side length of the photos in pixels.
    - ``arms`` (tuple of Arm): what is compared.
    - ``every_epoch`` (bool): keep the test predictions of each epoch, not only of the best.
    - ``threads`` (int): threads of each run. One is the most economical; more are for studies of time itself.
    - ``measures`` (tuple of callable): what is measured on each trained network: functions that take the network, the
      photos and the configuration, and return figures, or lists of them for drawings, by name.
    - ``drift`` (bool): whether it is noted after each epoch how far the features have moved: see
      ``cnnhw.studies.drift.Drift``.
    - ``questions`` (tuple of Question): what it is to settle: see ``cnnhw.studies.questions``.
    - ``observation`` (str): why nothing is asked; a study without a question needs a reason.
    - ``sources`` (tuple of Study): other studies whose weights its transfers start from.
    - ``kept`` (tuple of str): arms whose weights transfers of other studies start from.
    - ``test`` (bool): whether records hold test predictions; if not, they hold those of the validation photos, on which
      ``measures`` are then taken, too.
    - ``neighbours`` (bool): whether a tuned rate has to do better than both of its neighbours with all epochs: for runs
      of so few steps that a third of them says little.
    """

    name: str
    question: str
    data: str
    size: int
    arms: tuple[Arm, ...]
    every_epoch: bool = False
    threads: int = 1
    measures: tuple[Measurement, ...] = ()
    drift: bool = False
    questions: tuple[Question, ...] = ()
    observation: str = ""
    sources: tuple[Study, ...] = ()
    kept: tuple[str, ...] = ()
    test: bool = True
    neighbours: bool = False

    def __post_init__(self) -> None:
        if other := [question.id for question in self.questions if question.study != self.name]:
            raise CnnhwError(f"study {self.name} is given questions to another study: {', '.join(other)}")

    def jobs(self) -> list[Job]:
        """Return all runs of the study, seed by seed so that a study cut short is still balanced."""
        pairs = [(rank, arm, seed) for arm in self.arms for rank, seed in enumerate(arm.seeds)]
        return [Job(self, arm, seed) for _, arm, seed in sorted(pairs, key=lambda pair: pair[0])]

    def earlier(self, records: Sequence[Record]) -> list[Record]:
        """Return those of the study's records that the present code does not stand for."""
        code = {job.key: job.code for job in self.jobs()}
        return [record for record in records if record.content["code"] != code.get(record.key)]

    def job(self, arm: str, seed: int) -> Job:
        """Return one run of the study, by arm and seed; CnnhwError if there is none."""
        found = next((job for job in self.jobs() if job.arm.name == arm and job.seed == seed), None)
        if found is None:
            raise CnnhwError(f"study {self.name} has no run of {arm} with seed {seed}: add the seed to the arm's")
        return found


@dataclass(frozen=True)
class Job:
    """One run of a study: an arm with a seed."""

    study: Study
    arm: Arm
    seed: int

    @property
    def data(self) -> str:
        """The data set's name."""
        return self.arm.data or self.study.data

    @property
    def size(self) -> int:
        """Side length of the photos in pixels."""
        return self.arm.size or self.study.size

    @property
    def source(self) -> Job | None:
        """The run whose weights a transfer starts from."""
        if not self.arm.source:
            return None
        name, _, arm = self.arm.source.rpartition("/")
        study = next(study for study in (self.study, *self.study.sources) if study.name == (name or self.study.name))
        return study.job(arm, self.seed // self.arm.folds)

    @property
    def is_source(self) -> bool:
        """Whether an arm of this study, or of another, starts from this run's weights."""
        own = self.arm.name
        return own in self.study.kept or any(arm.source == own for arm in self.study.arms)

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the run, as plain values; of recipes, what differs from the default."""
        source, recipe = self.source, self.arm.recipe
        optional: dict[str, Any] = {
            "options": dict(self.arm.options),
            "protocols": list(self.arm.protocols),
            "source": source.key if source else "",
            "pretrained": self.arm.pretrained,
            "keep_classifier": not self.arm.new_classifier,
            "head": asdict(self.arm.head) if self.arm.head else {},
            "fresh_from": self.arm.fresh_from,
            "uncached": not self.arm.cache,
        }
        return {
            "model": self.arm.model,
            "data": self.data,
            "size": self.size,
            "recipe": recipe.changes() if isinstance(recipe, Recipe) else [stage.changes() for stage in recipe],
            "seed": self.seed,
            **({"threads": self.study.threads} if self.study.threads > 1 else {}),
            **{name: value for name, value in optional.items() if value},
        }

    @property
    def key(self) -> str:
        """The hash of the configuration."""
        return configuration_key(self.configuration)

    @property
    def begins(self) -> list[Callable[..., object]]:
        """The functions and classes that the run's figures come from: all that they reach decides them."""
        found: list[Callable[..., object]] = [models.create, models.builder(self.arm.model), decode.decode]
        found += [training.fit] if isinstance(self.arm.recipe, Recipe) else [transfer.transfer]
        found += [pretrained.load] if self.arm.pretrained else [weights.load] if self.arm.source else []
        if self.arm.protocols:
            found += [subsets.prepare, *map(subsets.function, self.arm.protocols)]
        return [*found, *self.study.measures, *([Drift] if self.study.drift else [])]

    @property
    def code(self) -> str:
        """The fingerprint of the code that the run's figures depend on, as it is now."""
        return fingerprint(*self.begins)

    def __str__(self) -> str:
        return f"{self.study.name}/{self.arm.name}-{self.seed}"
