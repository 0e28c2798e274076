"""Paired comparison of ways of training: the same seeds, the same test photos, and an interval for both.

The correct answers of arms A and B, photo by photo and seed by seed, give differences in a crossed layout of seeds and
photos. A repetition would use other seeds *and* other photos, so both components of variance count. So do differences
of differences (an interaction of four arms) and one arm less a fixed value. In pooled cross-validation a row is a
repeat, in whose folds every photo is tested once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnhw.errors import CnnhwError
from cnnhw.studies.store import Record

__all__ = [
    "Comparison",
    "compare",
    "contrast",
    "correct",
    "crossed",
    "of_arms",
    "of_values",
    "resampled",
]


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
    >>> round(low, 4), round(high, 4)
    (0.0043, 0.0557)
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


def crossed(*layouts: NDArray[np.float64]) -> Comparison:
    r"""Estimate the mean of differences in a crossed layout of seeds and photos, or the sum of several such means.

    With :math:`n` rows and :math:`P_k` photos in layout :math:`k`, the variance of the effect is estimated by

    .. math:: \frac{s^2}{n} + \sum_k \frac{M_k - R_k}{n P_k},

    where :math:`s^2` is the variance of the rows' means (added over layouts, whose seeds are the same), :math:`M_k` the
    mean square of photos and :math:`R_k` that of the residual. A component whose estimate is negative counts as zero:
    that of photos, :math:`M_k - R_k`, and that of seeds, the first term without the residual's own share

    .. math:: \sum_k \frac{R_k}{n P_k}.

    Parameters
    ----------
    *layouts : array of shape (S, P)
        Differences for each of S seeds, or repeats, and P photos. Several layouts have the same seeds and other photos.

    Returns
    -------
    Comparison
        The degrees of freedom are Satterthwaite's (1946), of the mean squares that are left after truncation: S - 1 if
        the photos' component is zero, P - 1 if the seeds' is, (S - 1)(P - 1) if both are, as the residual is left.

    Raises
    ------
    CnnhwError
        If there are fewer than two seeds or photos, or the layouts have different numbers of seeds.

    Examples
    --------
    >>> import numpy as np
    >>> found = crossed(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))  # two seeds, three photos
    >>> found.effect, round(found.stderr, 3), found.df
    (0.5, 0.289, 2.0)
    """
    if any(d.ndim != 2 or min(d.shape) < 2 for d in layouts) or len({len(d) for d in layouts}) != 1:
        shapes = ", ".join(str(d.shape) for d in layouts)
        raise CnnhwError(f"a comparison needs two or more seeds and photos, the same in all arms, not {shapes}")
    effect, variance, df = (float(value) for value in _estimate(*layouts))
    return Comparison(effect, math.sqrt(variance), df, len(layouts[0]))


def _estimate(*layouts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return effect, variance and degrees of freedom of layouts of shape (..., S, P), each of shape (...)."""
    seeds = layouts[0].shape[-2]
    rows = sum(d.mean(-1) for d in layouts)
    by_seed = np.asarray(rows.var(-1, ddof=1) / seeds)
    photo, rest = [], []
    for d in layouts:
        cells = seeds * d.shape[-1]
        by_photo = d.mean(-2)
        left = d - d.mean(-1, keepdims=True) - by_photo[..., None, :] + d.mean((-2, -1), keepdims=True)
        photo.append((seeds * by_photo.var(-1, ddof=1) / cells, d.shape[-1] - 1))
        residual = (left**2).sum((-2, -1)) / ((seeds - 1) * (d.shape[-1] - 1))
        rest.append((residual / cells, (seeds - 1) * (d.shape[-1] - 1)))
    kept = by_seed > sum(r for r, _ in rest)
    parts = [(np.where(kept, by_seed, 0.0), seeds - 1)]
    for (m, m_df), (r, r_df) in zip(photo, rest, strict=True):
        # the residual is added where the seeds' component is zero, and subtracted where the photos' is not
        parts += [(np.where(m > r, m, 0.0), m_df), (r * (1 - kept - (m > r)), r_df)]
    variance = np.asarray(sum(value for value, _ in parts))
    spread = np.asarray(sum(value**2 / df for value, df in parts))
    df = np.divide(variance**2, spread, out=np.full_like(variance, seeds - 1.0), where=spread > 0)
    return np.asarray(rows.mean(-1)), variance, df


def compare(a: NDArray[np.float64], b: NDArray[np.float64]) -> Comparison:
    """Compare two arms whose test photos were scored one by one.

    Parameters
    ----------
    a, b : array of shape (S, P)
        A score (1 if correct, 0 if not) for each of S seeds and P photos, the same in both.

    Returns
    -------
    Comparison
        As of :func:`crossed`.

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
    if a.shape != b.shape:
        raise CnnhwError(
            f"a comparison needs two or more seeds and photos, the same in both arms, not {a.shape}, {b.shape}"
        )
    return crossed(a.astype(float) - b)


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


def contrast(
    arms: Sequence[NDArray[np.float64]], against: NDArray[np.float64] | float = 0.0, *, apart: bool = False
) -> Comparison:
    """Estimate what a question is about, from scores by seed and photo or from one figure a seed.

    Parameters
    ----------
    arms : sequence of 1, 2 or 4 arrays of shape (S, P) or (S,)
        One arm: its mean minus `against`. Two: a - b. Four: the interaction (a - b) - (c - d).
    against : float or array of shape (S,)
        For one arm: a fixed value, or a figure a seed, such as the arm's own start.
    apart : bool
        Whether c and d were tested on other photos than a and b: then an interaction is paired by seed alone, and has
        the noise of both sets of photos.

    Returns
    -------
    Comparison
        As of :func:`crossed`, or, of one figure a seed, as of :func:`of_values`.

    Raises
    ------
    CnnhwError
        If the arms are of different seeds or photos, or there are fewer than two of them.

    Examples
    --------
    >>> import numpy as np
    >>> contrast([np.array([5.0, 7.0]), np.array([4.0, 4.0]), np.array([3.0, 3.0]), np.array([3.0, 2.0])]).effect
    1.5
    """
    pairs = zip(arms[::2], arms[1::2], strict=False)
    same = len({arm.shape for arm in arms}) == 1 or (apart and all(a.shape == b.shape for a, b in pairs))
    if len(arms) not in (1, 2, 4) or not same:
        raise CnnhwError(f"the arms are of different seeds or photos: {', '.join(str(arm.shape) for arm in arms)}")
    a, *others = (np.asarray(arm, dtype=float) for arm in arms)
    if not others:
        layouts = [a - against]
    elif len(others) == 1:
        layouts = [a - others[0]]
    else:
        layouts = [a - others[0], others[2] - others[1]]
        layouts = layouts if apart and a.ndim == 2 else [layouts[0] + layouts[1]]
    if a.ndim == 1:
        return of_values(list(layouts[0]), [0.0] * len(a))
    return crossed(*layouts)


def resampled(differences: Sequence[float], test: int, train: int) -> Comparison:
    r"""Return the corrected resampled t estimate of Nadeau and Bengio (2003), beside that by rows of repeats.

    Runs of cross-validation share training photos, so the variance of :math:`J` differences is multiplied by
    :math:`1/J + n_\text{test}/n_\text{train}` instead of :math:`1/J`.

    Parameters
    ----------
    differences : sequence of float, length J
        The difference of two arms in each fold of each repeat.
    test, train : int
        Photos that a fold tests and trains on.

    Returns
    -------
    Comparison
        With J - 1 degrees of freedom; its `seeds` are J.

    Raises
    ------
    CnnhwError
        If there are fewer than two differences, or no photos.

    Examples
    --------
    >>> found = resampled([1.0, 2.0, 3.0, 2.0], test=20, train=80)
    >>> found.effect, round(found.stderr, 4)  # the root of (1/4 + 20/80) times 2/3
    (2.0, 0.5774)
    """
    if len(differences) < 2 or test < 1 or train < 1:
        raise CnnhwError(f"it takes two folds and some photos: {len(differences)} folds, {test} test, {train} train")
    d = np.asarray(differences, dtype=float)
    stderr = math.sqrt((1 / len(d) + test / train) * float(d.var(ddof=1)))
    return Comparison(float(d.mean()), stderr, len(d) - 1.0, len(d))


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
