"""The queue: runs the jobs of studies in processes side by side, and goes on where it stopped.

A job trains with a checkpoint in the cache folder, writes its record at the end and then deletes the checkpoint.
Whatever is killed, the next start finds either the record, or a checkpoint to go on from, or nothing; a lock keeps two
queues from running the same job.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from tqdm import tqdm

from cnnhw import data, evaluation, files, models, outputs, system, training, transfer
from cnnhw.data import subsets
from cnnhw.errors import CnnhwError, TrainingError
from cnnhw.models import pretrained
from cnnhw.models.weights import load, save_weights
from cnnhw.studies import drift, folds, questions, store
from cnnhw.studies.study import Job
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run

__all__ = ["BUSY", "CANARY_LIMIT", "canary", "estimate", "pending", "run", "run_job", "train", "weights_file"]

CANARY_LIMIT = 1e-4  # nats
BUSY = 75  # exit code of a job that another process is running: "try again later" in sysexits.h


def pending(jobs: Sequence[Job], where: Path | None = None) -> list[Job]:
    """Return the jobs of any studies that have no record in the folder `where` yet, in order."""
    done = {(record.study, record.key) for record in store.read(where=where)}
    return [job for job in jobs if (job.study.name, job.key) not in done]


def estimate(jobs: Sequence[Job], seconds: float = 20.0) -> dict[Job, float]:
    """Return the seconds that each job takes with its study's threads, from `seconds` of measuring its arms."""
    arms = {(job.study.name, job.arm): job for job in jobs}
    costs: dict[Any, float] = {}
    for kind, job in arms.items():
        with system.threads(job.study.threads):
            photos = _photos(job)
            costs[kind] = 0.0
            for stage in job.arm.stages:
                model = models.create(job.arm.model, len(photos.classes), size=job.size, **job.arm.options)
                transfer.begin(model, len(photos.classes), 0, head=job.arm.head, size=job.size)
                few = subsets.prepare(photos, ["every_fifth"]) if stage.train != "all" else photos
                network, inputs = transfer.freeze(model, few, stage, cache=job.arm.cache)
                rate = training.speed(network, inputs, stage.recipe, seconds=seconds / len(arms) / len(job.arm.stages))
                costs[kind] += stage.recipe.epochs * len(photos.train) / rate
    return {job: costs[job.study.name, job.arm] for job in jobs}


def run(
    jobs: Sequence[Job], processes: int | None = None, where: Path | None = None, progress: bool = True
) -> list[Job]:
    """Run jobs in so many processes until each has its record; return those left to another process that runs them."""
    for study in dict.fromkeys(job.study for job in jobs):
        if not (study.observation or study.questions):
            raise CnnhwError(
                f"study {study.name} has no registered question: write one into its chapter before it is run, or "
                "say in the study's `observation` why nothing is asked"
            )
    todo = pending(jobs, where)
    if todo:  # better now than after an hour
        files.check_writable(where or store.folder())
        files.check_writable(files.cache_folder() / "studies")
    for name, size in dict.fromkeys((job.data, job.size) for job in todo):
        data.load(name, size=size, progress=progress)  # decoded once, and not by all processes at the same time
    epochs = sum(job.arm.epochs for job in todo)
    running: list[subprocess.Popen[str]] = []
    with tqdm(total=epochs, unit="epoch", disable=not progress) as bar:

        def report(text: str) -> None:
            bar.set_description(text)
            bar.update()

        def work(job: Job) -> int:
            code, said = _run_process(job, where, running, report)
            if code not in (0, BUSY):
                bar.write(f"{job} failed:\n{said}", file=sys.stderr)
            return code

        codes: dict[Job, int] = {}
        for threads in sorted({job.study.threads for job in todo}):
            group = [job for job in todo if job.study.threads == threads]
            with ThreadPoolExecutor(max(1, (processes or os.cpu_count() or 1) // threads)) as pool:
                try:
                    codes |= zip(group, pool.map(work, group), strict=True)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    for process in running:
                        process.terminate()
                    raise
    failed = [job for job, code in codes.items() if code not in (0, BUSY)]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(todo)} runs failed: {', '.join(map(str, failed))}; see above")
    return [job for job, code in codes.items() if code == BUSY]


def run_job(
    job: Job,
    where: Path | None = None,
    *,
    wait: bool = False,
    progress: bool = False,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Run one job here, from its checkpoint if there is one and after its source; return its record's file."""
    checkpoints = files.cache_folder() / "studies" / job.key
    lock = FileLock(checkpoints.with_suffix(".lock"))
    with files.explained(checkpoints):
        checkpoints.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(timeout=-1 if wait else 0)
    with held:
        files.check_writable(checkpoints)  # now: another process may have finished the job, and deleted it
        done = [record for record in store.read(job.study.name, where) if record.key == job.key]
        if done and (weights_file(job).exists() or not job.is_source):
            outputs.remove_checkpoints(checkpoints, drift.FILES)
            return done[0].path
        code = job.code  # now: files may be edited while the run goes on
        while True:
            runs = train(job, where, folder=checkpoints, progress=progress, on_epoch=on_epoch)
            moved = drift.Drift.read(checkpoints)
            if len(moved) == (job.arm.epochs if job.study.drift else 0):
                break
            # killed between a checkpoint and the row of its epoch, which can only be had by starting anew
            outputs.remove_checkpoints(checkpoints, drift.FILES)
            checkpoints.mkdir(exist_ok=True)
        model, photos = runs[-1].model, runs[-1].photos
        if job.is_source or (job.study.test and job.seed == job.arm.seeds[0]):
            save_weights(model, weights_file(job), data=photos.name, licence=photos.licence)
        content = store.from_runs(
            runs, study=job.study.name, arm=job.arm.name, configuration=job.configuration, code=code
        )
        if "fold" in job.arm.protocols:
            content["data"] |= folds.tested(_whole(job), photos)
        if not job.study.test:
            # what the run has not looked at says more than the validation photos, which chose its epoch
            aside = subsets.left_out(_whole(job), photos)
            photos = dataclasses.replace(photos, test=aside if len(aside) else photos.validation)
            content = store.blind(content, photos.test, evaluation.predict(model, photos.test).argmax(1).tolist())
        if job.study.measures:
            content["measures"] = _measured(job, model, photos)
        if moved:
            heads = itertools.takewhile(lambda stage: stage.train in ("classifier", "head"), job.arm.stages)
            first = min(sum(stage.recipe.epochs for stage in heads) + 1, job.arm.epochs)
            content["drift"] = moved
            content.setdefault("measures", {}).update(drift.Drift.summary(moved, first))
        if job.study.questions:
            content["questions"] = questions.hashes(job.study.questions)
        path = done[0].path if done else store.write(content, where)
        outputs.remove_checkpoints(checkpoints, drift.FILES)
    return path


def train(
    job: Job,
    where: Path | None = None,
    *,
    folder: Path | None = None,
    progress: bool = False,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> list[Run]:
    """Train as a job says, in this process and with its study's threads; no record is written."""
    torch.set_num_threads(job.study.threads)
    photos = _photos(job)
    model = _model(job, photos, where)
    if job.study.drift and folder is not None:
        watched, tell = drift.Drift(model, photos, folder), on_epoch

        def on_epoch(epoch: int, row: dict[str, float]) -> None:
            watched.note(epoch)
            if tell is not None:
                tell(epoch, row)

    common: dict[str, Any] = {
        "seed": job.seed,
        "folder": folder,
        "resume": True,
        "test_each_epoch": job.study.every_epoch,
        "progress": progress,
        "on_epoch": on_epoch,
    }
    if isinstance(job.arm.recipe, Recipe):
        return [training.fit(model, photos, job.arm.recipe, **common)]
    return transfer.transfer(
        model,
        photos,
        job.arm.stages,
        new_classifier=job.arm.new_classifier,
        head=job.arm.head,
        fresh_from=job.arm.fresh_from,
        cache=job.arm.cache,
        **common,
    )


def canary(job: Job, record: store.Record) -> float | None:
    """Return how far, in nats, a run's first 20 losses are off; None for a transfer without its source's weights."""
    if job.source and not weights_file(job.source).exists():
        return None
    with system.threads(record.content["threads"]):
        photos = _photos(job)
        model, stage = _model(job, photos), job.arm.stages[0]
        rates = None
        if not isinstance(job.arm.recipe, Recipe):
            transfer.begin(
                model, len(photos.classes), job.seed,
                new_classifier=job.arm.new_classifier, head=job.arm.head, fresh_from=job.arm.fresh_from,
                size=photos.size,
            )  # fmt: skip
            rates = stage.rates(model)
            model, photos = transfer.freeze(model, photos, stage, cache=job.arm.cache)
        now = training.first_losses(model, photos, stage.recipe, job.seed, rates=rates)
    return max(abs(a - b) for a, b in zip(now, record.content["first_losses"], strict=True))


def _measured(job: Job, model: models.Classifier, photos: data.PhotoSet) -> dict[str, float | list[float]]:
    """Return what a study measures on a trained network: figures to six digits, lists for drawings to two."""
    found: dict[str, float | list[float]] = {}
    for measure in job.study.measures:
        found |= measure(model, photos, job.configuration)
    return {
        name: [round(one, 2) for one in value] if isinstance(value, list) else round(value, 6)
        for name, value in found.items()
    }


def _whole(job: Job) -> data.PhotoSet:
    return data.load(job.data, size=job.size, progress=False)


def _photos(job: Job) -> data.PhotoSet:
    return subsets.prepare(_whole(job), job.arm.protocols, job.seed)


def _model(job: Job, photos: data.PhotoSet, where: Path | None = None) -> models.Classifier:
    """Return a new model, or that of the job's source, which is run if its weights are not in the cache folder."""
    source = job.source
    if job.arm.pretrained:
        return pretrained.load(job.arm.model, size=job.size)
    if source is None:
        return models.create(job.arm.model, len(photos.classes), seed=job.seed, size=job.size, **job.arm.options)
    if not weights_file(source).exists():
        run_job(source, where, wait=True)
        torch.set_num_threads(job.study.threads)
    return load(weights_file(source))


def weights_file(job: Job) -> Path:
    """Return where the queue keeps the weights of a run that others start from, or of an arm's first seed."""
    return files.cache_folder() / "studies" / "weights" / f"{job.key}.safetensors"


def _run_process(
    job: Job, where: Path | None, running: list[subprocess.Popen[str]], report: Callable[[str], None]
) -> tuple[int, str]:
    """Run a job in a process of its own; return its exit code and what it said at the end."""
    command = [sys.executable, "-m", "cnnhw.book.worker", job.study.name, job.key, str(where or "")]
    threads = str(job.study.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    running.append(process)
    assert process.stdout is not None
    for line in process.stdout:
        row = json.loads(line)
        report(f"{job} validation {row['validation_accuracy']:.3f}")
    _, said = process.communicate()
    running.remove(process)
    return process.returncode, said
