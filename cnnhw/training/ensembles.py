"""Ensembles: several networks trained side by side, in processes of one thread each, and joined into one.

Small networks leave most of a second thread idle; two of them, each in a process of its own, do not. The members differ
in their initial weights and in the order of the photos, and so in their errors, which their mean evens out
(Lakshminarayanan et al. 2017).
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import torch
from tqdm import tqdm

from cnnhw import evaluation, models
from cnnhw.data import handover
from cnnhw.data.photoset import PhotoSet, Split
from cnnhw.errors import TrainingError
from cnnhw.models.blocks import Classifier, count_parameters
from cnnhw.models.ensemble import joined
from cnnhw.training import checkpoint
from cnnhw.training.member import folder_of, train
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run

__all__ = ["fit_ensemble"]


def fit_ensemble(
    photos: PhotoSet,
    recipe: Recipe | None = None,
    *,
    members: int = 2,
    of: str = "fast",
    processes: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Run:
    """Train several networks apart, and join them into one whose logits are the mean of theirs.

    Parameters
    ----------
    photos : PhotoSet
        The data, as for :func:`cnnhw.fit`.
    recipe : Recipe, optional
        How each member is trained; by default ``Recipe.fast()``. Its `minutes` are the time of all members together.
    members : int
        How many networks, 1 or more.
    of : {"fast", "best"}
        Their kind.
    processes : int, optional
        How many of them are trained at the same time; as many as there are processors by default.
    seed : int
        Decides initial weights, orders and augmentation of all members.
    folder : str or Path, optional
        Where to keep a checkpoint of each member, in a folder of its own.
    resume : bool
        Go on from the checkpoints in `folder`.
    progress : bool
        Show a bar with the members that are done.

    Returns
    -------
    Run
        Its model is the ensemble. The history has the mean of the members after each epoch that all of them did, and
        last, as a row of its own, the ensemble.

    Raises
    ------
    DataError, ModelError
        As for :func:`cnnhw.fit`.
    TrainingError
        As for :func:`cnnhw.fit`, or if the process of a member ended without having trained it.

    See Also
    --------
    cnnhw.models.ensemble.joined : Joins networks that are trained already.
    cnnhw.training.presets.within : Plans one for a budget of time.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw.training import presets
    >>> photos = presets.noise(count=40, side=32)  # in place of cnnhw.data.load("flowers", size=32)
    >>> run = fit_ensemble(photos, cnnhw.Recipe(epochs=1), members=2, progress=False)
    >>> run.model.name, len(run.history["loss"])
    ('ensemble', 2)
    """
    begun = time.perf_counter()
    recipe = recipe or Recipe.fast()
    with torch.device("meta"):  # all is checked, and nothing drawn
        models.create("ensemble", len(photos.classes), size=photos.size, members=members, of=of)
    count = min(processes or os.cpu_count() or 1, members)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        jobs = [list(range(number, members, count)) for number in range(count)]
        spare = _validation_seconds(photos, of) * 2 * members
        seconds = 60 * recipe.minutes - spare - (time.perf_counter() - begun) if recipe.minutes else 0.0
        shown = dataclasses.replace(photos, test=_none(photos.test))
        order: dict[str, Any] = {"of": of, "seed": seed, "resume": resume, "until": time.time() + seconds}
        if members == 1:  # a process of its own would only take time to start
            train(shown, recipe, [0], lambda *_: None, folder=place, progress=progress, **order)
        else:
            handed = Path(temporary) / "photos.safetensors"
            handover.write(shown, handed)
            order |= {"photos": str(handed), "recipe": dataclasses.asdict(recipe), "folder": str(place)}
            _train(order, jobs, members, progress)
        networks, notes = zip(*(_member(place, number, photos, of) for number in range(members)), strict=True)
    model = joined(networks)
    outputs = evaluation.predict(model, photos.validation)
    spent = time.perf_counter() - begun
    history = _history([note["history"] for note in notes], count)
    labels = photos.validation.labels
    last = {
        "loss": history["loss"][-1],
        "accuracy": history["accuracy"][-1],
        "seconds": 0.0,
        "validation_loss": evaluation.loss(outputs, labels),
        "validation_accuracy": evaluation.accuracy(outputs.argmax(1), labels),
    }
    history = {name: [*history[name], value] for name, value in last.items()}
    return Run(
        model=model,
        photos=photos,
        recipe=dataclasses.asdict(recipe) | {"members": members, "of": of},
        seed=seed,
        history=history,
        best_epoch=len(history["loss"]),
        predictions=evaluation.predict(model, photos.test).argmax(1),
        threads=notes[0]["threads"],
        processes=count,
        precision=notes[0]["settings"]["precision"],
        first_losses=notes[0]["first_losses"],
        trainable=count_parameters(model),
        seconds_total=max(spent, sum(note["clock"][0] for note in notes) / count),
    )


def _none(split: Split) -> Split:
    """Return a split without photos: the members predict no test photo, only the ensemble does."""
    return Split(split.store, split.index[:0], split.labels[:0], (), ())


def _validation_seconds(photos: PhotoSet, of: str, few: int = 64) -> float:
    """Return the seconds that a member may take for the validation photos, as measured for a few."""
    model = models.create(of, len(photos.classes), size=photos.size)
    some = dataclasses.replace(photos.validation, index=photos.validation.index[:few])
    evaluation.predict(model, some)
    start = time.perf_counter()
    evaluation.predict(model, some)
    return (time.perf_counter() - start) * max(1.0, len(photos.validation) / few)


def _train(order: dict[str, Any], jobs: Sequence[Sequence[int]], members: int, progress: bool) -> None:
    """Have each of the processes train its members; raise the first error that one of them reports."""
    threads = str(max(1, (os.cpu_count() or 1) // len(jobs)))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-m", "cnnhw.training.member"]
    with ExitStack() as stack:
        words = [stack.enter_context(tempfile.TemporaryFile()) for _ in jobs]  # a pipe that is full would hold it up
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment, "text": True}
        processes = [stack.enter_context(subprocess.Popen(command, stderr=one, **pipes)) for one in words]
        bar = stack.enter_context(tqdm(total=members, unit="network", disable=not progress))
        with ThreadPoolExecutor(len(jobs)) as pool:
            work = [
                pool.submit(_follow, process, order | {"members": numbers}, bar, said)
                for process, numbers, said in zip(processes, jobs, words, strict=True)
            ]
            try:
                for one in work:
                    one.result()
            finally:
                for process in processes:  # after an error, or a key that interrupts, none goes on
                    process.terminate()


def _follow(process: subprocess.Popen[str], order: dict[str, Any], bar: tqdm[Any], errors: IO[bytes]) -> None:
    """Send a process what it has to do, and read what it reports until it ends."""
    assert process.stdin
    assert process.stdout
    with suppress(OSError):  # of a process that has ended: its last words say why
        json.dump(order, process.stdin)
    with suppress(OSError):
        process.stdin.close()
    for line in process.stdout:
        said = json.loads(line)
        if "error" in said:
            raise TrainingError(said["error"])
        bar.set_description(f"network {said['member'] + 1}, validation {said['validation_accuracy']:.3f}")
        bar.update(said["done"])
    if process.wait():
        errors.seek(0)
        words = errors.read().decode(errors="replace").strip()
        raise TrainingError(
            f"the process that trained networks {', '.join(str(number + 1) for number in order['members'])} of the "
            f"ensemble ended with code {process.returncode}: {words.splitlines()[-1] if words else 'it said nothing'}"
        )


def _member(place: Path, number: int, photos: PhotoSet, of: str) -> tuple[Classifier, dict[str, Any]]:
    """Return a trained member with its best weights, and what its checkpoint says."""
    note, tensors = checkpoint.read(folder_of(place, number) / checkpoint.CHECKPOINT)
    with torch.device("meta"):
        model = models.builder(of)(len(photos.classes), photos.size)
    best = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
    model.load_state_dict(best, assign=True)
    model.name, model.classes = of, photos.classes
    return model.requires_grad_(), note


def _history(members: Sequence[dict[str, list[float]]], processes: int) -> dict[str, list[float]]:
    """Return the mean of the members' histories, as far as all go; of the seconds, what passed on the clock."""
    epochs = min(len(one["loss"]) for one in members)

    def rows(name: str) -> Iterator[float]:
        share = processes if name == "seconds" else len(members)
        for epoch in range(epochs):
            yield sum(one[name][epoch] for one in members) / share

    return {name: list(rows(name)) for name in members[0]}
