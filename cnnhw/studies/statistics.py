"""Paired comparison of two ways of training: the same seeds, the same test photos, and an interval for both.

The correct answers of arms A and B, photo by photo and seed by seed, give differences in a crossed layout of seeds and
photos. A repetition would use other seeds *and* other photos, so both components of variance count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnhw.errors import CnnhwError
from cnnhw.studies.store import Record

__all__ = ["Comparison", "compare", "correct", "of_arms", "of_values"]


@dataclass(frozen=True)
class Comparison:
    """An effect, estimated over seeds.

    - ``effect`` (float): mean difference, A minus B.
    - ``stderr`` (float): its standard error.
    - ``df`` (float): degrees of freedom of the standard error.
    - ``seeds`` (int): how many pairs of runs.

    Examples
    --------
    >>> found = Comparison(effect=0.03, stderr=0.01, df=5.0, seeds=6)
    >>> low, high = found.interval()
    >>> round(low, 4), round(high, 4), round(found.p_above(0), 4)
    (0.0043, 0.0557, 0.015)
    """

    effect: float
    stderr: float
    df: float
    seeds: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the lower and upper end of the effect's t interval."""
        if self.stderr == 0:
            return self.effect, self.effect
        from scipy import stats  # slow to import

        half = float(stats.t.ppf((1 + confidence) / 2, self.df)) * self.stderr
        return self.effect - half, self.effect + half

    def p_above(self, margin: float) -> float:
        """Return the one-sided p-value of the hypothesis that the effect is at most `margin`."""
        if self.stderr == 0:
            return float(self.effect <= margin)
        from scipy import stats  # slow to import

        return float(stats.t.sf((self.effect - margin) / self.stderr, self.df))

    def p_below(self, margin: float) -> float:
        """Return the one-sided p-value of the hypothesis that the effect is at least `margin`."""
        return Comparison(-self.effect, self.stderr, self.df, self.seeds).p_above(-margin)


def compare(a: NDArray[np.float64], b: NDArray[np.float64]) -> Comparison:
    """Compare two arms whose test photos were scored one by one.

    Parameters
    ----------
    a, b : array of shape (S, P)
        A score (1 if correct, 0 if not) for each of S seeds and P photos, the same in both.

    Returns
    -------
    Comparison
        The standard error has the components of seeds and of photos of a two-way layout without replication, each of
        them at least zero, and Satterthwaite's degrees of freedom.

    Raises
    ------
    CnnhwError
        If the shapes differ, or there are fewer than two seeds or photos.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])  # two seeds, four photos
    >>> b = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    >>> compare(a, b).effect
    0.375
    """
    if a.shape != b.shape or a.ndim != 2 or min(a.shape) < 2:
        raise CnnhwError(
            f"a comparison needs two or more seeds and photos, the same in both arms, not {a.shape}, {b.shape}"
        )
    d = a.astype(float) - b
    seeds, photos = d.shape
    mean, by_seed, by_photo = d.mean(), d.mean(1), d.mean(0)
    ms_seed = photos * float(by_seed.var(ddof=1))
    ms_photo = seeds * float(by_photo.var(ddof=1))
    rest = d - by_seed[:, None] - by_photo[None] + mean
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * (photos - 1))
    # a component of variance whose estimate is negative counts as zero
    means = ((ms_seed, seeds - 1), (ms_photo, photos - 1))
    kept = [(ms, df) for ms, df in means if ms > ms_rest]
    combined = sum(ms for ms, _ in kept) + (1 - len(kept)) * ms_rest
    # the residual is added once if no component is kept, and subtracted once if both are
    parts = kept + ([] if len(kept) == 1 else [(ms_rest, (seeds - 1) * (photos - 1))])
    spread = sum(ms**2 / df for ms, df in parts)
    return Comparison(
        effect=float(mean),
        stderr=math.sqrt(combined / (seeds * photos)),
        df=combined**2 / spread if spread else seeds - 1.0,
        seeds=seeds,
    )


def of_values(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Compare two arms by one figure per seed, such as a time or a number of steps.

    Parameters
    ----------
    a, b : sequence of float, length S
        The figures of the same seeds, in the same order.

    Returns
    -------
    Comparison
        With the standard error of S paired differences and S - 1 degrees of freedom.

    Raises
    ------
    CnnhwError
        If the lengths differ, or there are fewer than two seeds.

    Examples
    --------
    >>> found = of_values([3.0, 4.0, 6.0], [1.0, 3.0, 3.0])
    >>> found.effect, round(found.stderr, 3), found.df
    (2.0, 0.577, 2.0)
    """
    if len(a) != len(b) or len(a) < 2:
        raise CnnhwError(f"a comparison needs two or more seeds, the same in both arms: {len(a)}, {len(b)}")
    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    return Comparison(float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1.0, len(d))


def of_arms(records: Sequence[Record], first: str, second: str, epoch: int | None = None) -> Comparison:
    """Compare the test accuracy of two arms of a study, over the seeds that both have.

    Parameters
    ----------
    records : sequence of Record
        The study's records.
    first, second : str
        The arms' names; the effect is that of the first minus that of the second.
    epoch : int, optional
        After which epoch, from 1; by default the one that each run kept.

    Returns
    -------
    Comparison
        The difference, 1 being all photos.

    Raises
    ------
    CnnhwError
        If an arm has no records, the arms share fewer than two seeds, or they were tested on different photos.

    Examples
    --------
    >>> from cnnhw import studies
    >>> found = of_arms(studies.records("fast"), "adamw", "fast")
    >>> found.seeds
    6
    """
    arms = {name: {r.seed: r for r in records if r.arm == name} for name in (first, second)}
    if missing := [name for name, runs in arms.items() if not runs]:
        raise CnnhwError(f"there are no records of {' and '.join(missing)}")
    seeds = arms[first].keys() & arms[second].keys()
    both = correct([run for runs in arms.values() for seed, run in sorted(runs.items()) if seed in seeds], epoch)
    return compare(both[: len(seeds)], both[len(seeds) :])


def correct(records: Sequence[Record], epoch: int | None = None) -> NDArray[np.float64]:
    """Return which test photos the runs of an arm classify correctly.

    Parameters
    ----------
    records : sequence of Record
        S runs that were tested on the same photos.
    epoch : int, optional
        After which epoch, from 1; by default the one that each run kept.

    Returns
    -------
    array of shape (S, P)
        1 if correct, 0 if not, in the order given.

    Raises
    ------
    CnnhwError
        If the runs were tested on different photos.

    Examples
    --------
    >>> from cnnhw import studies
    >>> runs = [record for record in studies.records("fast") if record.arm == "fast"]
    >>> correct(runs).shape  # (seeds, photos)
    (9, 2000)
    """
    if len({record.content["data"]["test_fingerprint"] for record in records}) != 1:
        raise CnnhwError("the runs were tested on different photos, and cannot be compared photo by photo")
    return np.array([(record.predictions(epoch) == record.labels).numpy() for record in records], dtype=float)
