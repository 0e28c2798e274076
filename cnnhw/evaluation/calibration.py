"""Calibration: reliability bins, expected calibration error, Brier score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Bin", "bins", "brier_score", "expected_calibration_error"]


@dataclass(frozen=True)
class Bin:
    """The photos whose top probability lies within one range.

    - ``low``, ``high`` (float): the range, 0 to 1: above `low`, up to and with `high`.
    - ``count`` (int): how many photos are in it.
    - ``confidence`` (float): the mean of their top probabilities, 0 to 1; NaN if there are none.
    - ``accuracy`` (float): the share of them that is predicted correctly, 0 to 1; NaN if there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def bins(probabilities: Tensor, labels: Tensor, count: int = 15) -> list[Bin]:
    """Return reliability bins: photos by top probability, in bins of equal width (Guo et al. 2017, section 2).

    Parameters
    ----------
    probabilities : Tensor of shape (N, K), float
        The probability of each class, rows that add up to 1.
    labels : Tensor of shape (N,), int64
        The true classes.
    count : int
        How many bins there are between 0 and 1, 1 or more.

    Returns
    -------
    list of Bin
        All bins from 0 to 1, empty ones too.

    Examples
    --------
    >>> import torch
    >>> probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    >>> [(one.count, one.accuracy) for one in bins(probabilities, torch.tensor([0, 1, 1]), count=2)]
    [(0, nan), (3, 0.6666666666666666)]
    """
    confidence, predictions = probabilities.double().max(1)
    correct = (predictions == labels).double()
    edges = torch.arange(count + 1, dtype=torch.float64) / count
    where = torch.bucketize(confidence, edges[1:-1])  # an edge belongs to the bin below it
    within = [where == number for number in range(count)]
    return [
        Bin(low, high, int(chosen.sum()), float(confidence[chosen].mean()), float(correct[chosen].mean()))
        for low, high, chosen in zip(edges[:-1].tolist(), edges[1:].tolist(), within, strict=True)
    ]


def expected_calibration_error(filled: Sequence[Bin]) -> float:
    """Return the expected calibration error (Naeini et al. 2015; Guo et al. 2017, eq. 3).

    Parameters
    ----------
    filled : sequence of Bin
        The result of :func:`bins`.

    Returns
    -------
    float
        The mean over bins of ``|accuracy - confidence|``, weighted by their photos, 0 to 1; NaN for no photos. It
        depends on the number of bins, and with few photos it is above 0 even for perfect probabilities.

    Examples
    --------
    >>> expected_calibration_error([Bin(0.5, 1.0, count=10, confidence=0.75, accuracy=0.5)])
    0.25
    """
    total = sum(one.count for one in filled)
    if not total:
        return float("nan")
    return sum(one.count * abs(one.accuracy - one.confidence) for one in filled if one.count) / total


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Return the Brier score, the mean squared error of the probabilities (Brier 1950).

    Parameters
    ----------
    probabilities : Tensor of shape (N, K), float
        The probability of each class.
    labels : Tensor of shape (N,), int64
        The true classes.

    Returns
    -------
    float
        The sum over classes of squared differences, averaged over photos, as Brier defined it: from 0, all certain and
        correct, to 2, all certain and wrong. Always guessing 1 / K gives 1 - 1 / K. NaN for no photos.

    Examples
    --------
    >>> import torch
    >>> brier_score(torch.full((1, 4), 0.25), torch.tensor([2]))
    0.75
    """
    true = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return float((probabilities.double() - true).square().sum(1).mean())
