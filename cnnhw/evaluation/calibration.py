"""Calibration: reliability bins, expected calibration error, Brier score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Bin", "bins", "brier_score", "expected_calibration_error"]


@dataclass(frozen=True)
class Bin:
    """The photos whose top probability lies above `low`, up to and with `high`; NaN stands for the means of none."""

    low: float
    high: float
    count: int
    confidence: float  # the mean of their top probabilities, 0 to 1
    accuracy: float  # the share of them that is predicted correctly


def bins(probabilities: Tensor, labels: Tensor, count: int = 15) -> list[Bin]:
    """Return `count` bins of equal width, of photos by top probability (Guo et al. 2017, section 2), empty ones too."""
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

    Returns
    -------
    float
        The mean over bins of ``|accuracy - confidence|``, weighted by their photos, 0 to 1; NaN for no photos. It
        depends on the number of bins, and with few photos it is above 0 even for perfect probabilities.
    """
    total = sum(one.count for one in filled)
    if not total:
        return float("nan")
    return sum(one.count * abs(one.accuracy - one.confidence) for one in filled if one.count) / total


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Return the Brier score, the mean squared error of the probabilities (Brier 1950).

    Returns
    -------
    float
        The sum over classes of squared differences, averaged over photos, as Brier defined it: from 0, all certain and
        correct, to 2, all certain and wrong. Always guessing 1 / K gives 1 - 1 / K. NaN for no photos.
    """
    true = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return float((probabilities.double() - true).square().sum(1).mean())
