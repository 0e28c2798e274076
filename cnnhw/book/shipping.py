"""Weights to ship: a recorded run is trained again, compared with its record, and written in half precision."""

from __future__ import annotations

import copy
from pathlib import Path

from cnnhw import evaluation, files, outputs
from cnnhw.book import model_cards
from cnnhw.errors import CnnhwError
from cnnhw.models.weights import save_weights
from cnnhw.studies import queue

__all__ = ["AGREEMENT", "LOSS", "make"]

AGREEMENT = 0.995  # share of test photos that the run and its record have to predict alike
LOSS = 0.005  # of test accuracy, at most, by half precision


def make(name: str, where: Path | None = None, out: Path | None = None, *, progress: bool = False) -> Path:
    """Train the run of a shipped network again, as its study does, write its weights, and return their file.

    Records are read from the folder `where`, or else the book's; the file goes to the folder `out`, where there must be
    none of its name, or else into the package, where it is replaced. Nothing is written, and a CnnhwError raised, if
    the run has no record or predicts other than its record does, or if half precision costs accuracy.
    """
    job, record, target = model_cards.job(name), model_cards.record(name, where), model_cards.path(name)
    if out is not None:
        target = out / target.name
        outputs.check_file(target)
    run = queue.train(job, where, progress=progress)[-1]
    test = run.photos.test
    if test.fingerprint != record.content["data"]["test_fingerprint"]:
        raise CnnhwError(f"{job} was recorded with other test photos than those here: weights were not written")
    agreement = evaluation.accuracy(run.predictions, record.predictions())
    if agreement < AGREEMENT:
        raise CnnhwError(
            f"{job} predicts only {agreement:.1%} of the test photos as its record does: weights were not written. "
            f"Run it on a {record.content['processor']} with the record's versions, or run the study again"
        )
    half = copy.deepcopy(run.model).half().float()
    accuracy = evaluation.accuracy(evaluation.predict(half, test).argmax(1), test.labels)
    if abs(accuracy - record.accuracy()) > LOSS:
        raise CnnhwError(
            f"{job} in half precision has a test accuracy of {accuracy:.3f}, its record {record.accuracy():.3f}: "
            "weights were not written"
        )
    extra = {
        "study": job.study.name,
        "arm": job.arm.name,
        "seed": str(job.seed),
        "key": job.key,
        "agreement": str(agreement),
        "test_accuracy": str(accuracy),
    }
    with files.replacing(target, new=out is not None) as new:
        save_weights(run.model, new, data=run.photos.name, licence=run.photos.licence, half=True, extra=extra)
    return target
