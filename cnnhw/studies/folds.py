"""Repeated cross-validation: the five runs of a repeat, which together test every photo once, as one row.

Runs with the protocol :func:`cnnhw.data.subsets.fold` test other photos for each seed: seed s is fold s % 5 of repeat
s // 5. Their records note which photos those are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cnnhw.data.photoset import PhotoSet
from cnnhw.data.subsets import FOLDS
from cnnhw.errors import CnnhwError
from cnnhw.studies.store import Record

__all__ = ["pooled", "seeds"]


def seeds(repeats: Iterable[int]) -> tuple[int, ...]:
    """Return the seeds of all folds of some repeats, fold by fold.

    Parameters
    ----------
    repeats : iterable of int
        Numbers of the repeats, from 0.

    Returns
    -------
    tuple of int
        For :class:`cnnhw.studies.Arm`, with the protocol ``"fold"``.

    Examples
    --------
    >>> seeds(range(1, 3))
    (5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
    """
    return tuple(FOLDS * repeat + fold for repeat in repeats for fold in range(FOLDS))


def tested(whole: PhotoSet, photos: PhotoSet) -> dict[str, str]:
    """Return what a record keeps of its test photos, of a data set as loaded and after protocols.

    That is ``whole``, the fingerprint of the data set, and ``tested``, the photos' rows in its store, each as its
    distance from the one before.
    """
    steps = np.diff(photos.test.index.numpy(), prepend=0)
    return {"whole": whole.fingerprint, "tested": " ".join(map(str, steps.tolist()))}


def pooled(records: Sequence[Record], epoch: int | None = None) -> NDArray[np.float64]:
    """Return which photos of a data set are classified correctly in each repeat, by the run that tested them.

    Parameters
    ----------
    records : sequence of Record
        All runs of an arm with the protocol ``"fold"``, in any order: five folds of each of R repeats.
    epoch : int, optional
        After which epoch, from 1; by default the one that each run kept.

    Returns
    -------
    array of shape (R, P)
        1 if correct, 0 if not; repeats in ascending order, all P photos in the order of the data set, which is the same
        for all arms.

    Raises
    ------
    CnnhwError
        If a repeat lacks a fold or has one twice, a record does not note its photos, or the data sets differ.

    See Also
    --------
    seeds : The seeds of repeats.
    cnnhw.studies.statistics.compare : Takes two such arrays.
    """
    rows: dict[int, NDArray[np.int64]] = {}
    right: dict[int, NDArray[np.float64]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        text = record.content["data"].get("tested")
        if text is None:
            raise CnnhwError(f"{record.path.name} does not note which photos it tested: run it again, by protocol fold")
        if record.seed in rows:
            raise CnnhwError(f"seed {record.seed} is there twice: give the records of a single arm")
        rows[record.seed] = np.cumsum(np.array(text.split(), dtype=np.int64))
        right[record.seed] = (record.predictions(epoch) == record.labels).numpy().astype(float)
    if len({record.content["data"]["whole"] for record in records}) > 1:
        raise CnnhwError("the runs are of different data sets, and cannot be pooled")
    repeats = sorted({seed // FOLDS for seed in rows})
    if missing := sorted(set(seeds(repeats)) - set(rows)):
        raise CnnhwError(
            f"seeds {', '.join(map(str, missing))} have no record: a repeat is pooled when all its {FOLDS} folds are"
        )
    if not repeats:
        raise CnnhwError("there are no records to pool")
    places = np.array([np.concatenate([rows[seed] for seed in seeds([repeat])]) for repeat in repeats])
    order = places.argsort(1)
    known = np.take_along_axis(places, order, 1)
    if (np.diff(known) == 0).any() or (known != known[0]).any():
        raise CnnhwError("a repeat does not test every photo once: its runs are no folds of one partition")
    return np.take_along_axis(
        np.array([np.concatenate([right[seed] for seed in seeds([repeat])]) for repeat in repeats]), order, 1
    )
