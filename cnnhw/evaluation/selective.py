"""Selective prediction: a classifier that says "not sure" where its top probability is low (Chow 1970)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnhw.errors import DataError

__all__ = ["Answered", "answered", "threshold"]


@dataclass(frozen=True)
class Answered:
    """What a threshold does to labelled photos.

    - ``photos`` (int): how many there are.
    - ``answered`` (int): those whose top probability is the threshold or more.
    - ``correct`` (int): those of the answered ones whose most probable class is their own.
    """

    photos: int
    answered: int
    correct: int

    @property
    def coverage(self) -> float:
        """The share of photos that is answered, 0 to 1; NaN for no photos."""
        return self.answered / self.photos if self.photos else float("nan")

    @property
    def accuracy(self) -> float:
        """The share of answers that is correct, 0 to 1; NaN for no answers."""
        return self.correct / self.answered if self.answered else float("nan")


def threshold(probabilities: Tensor, labels: Tensor, accuracy: float = 0.95, *, least: int = 1) -> float | None:
    """Return the lowest top probability from which on a classifier is correct often enough.

    It is chosen on validation photos. How often the classifier then answers, and how often it is correct, is to be read
    off other photos (:func:`answered`): the choice makes the figures of its own photos a little too good.

    Parameters
    ----------
    probabilities : Tensor of shape (N, K)
        The probability of each class for N photos.
    labels : Tensor of shape (N,), int64
        Their true classes.
    accuracy : float
        The share of answers that has to be correct, above 0, up to 1.
    least : int
        How many photos have to be answered. A share of 95 % can only be told from one of 100 % by 20 or more.

    Returns
    -------
    float or None
        One of the N top probabilities: of the photos with this one or more, the wanted share is classified correctly,
        and no lower one does so. So nothing is answered with less than was seen here. None if there is no such one.

    Raises
    ------
    DataError
        If the shapes do not fit.
    ValueError
        If the wanted accuracy is not possible.

    See Also
    --------
    answered : What a threshold does.

    Notes
    -----
    The trade of coverage for accuracy is that of El-Yaniv and Wiener (2010). The top probability of the softmax as what
    decides is a hard baseline to beat (Geifman and El-Yaniv 2017).

    Examples
    --------
    >>> probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    >>> threshold(probabilities.double(), torch.tensor([0, 1, 1, 1]), accuracy=1.0)  # the third one is wrong
    0.800000011920929
    """
    if not 0 < accuracy <= 1:
        raise ValueError(f"accuracy is {accuracy}: give a share above 0, up to 1")
    confidence, correct = _top(probabilities, labels)
    if len(labels) < max(1, least):
        return None
    order = confidence.argsort(descending=True)
    confidence, hits = confidence[order], correct[order].cumsum(0)  # (N,), (N,)
    # photos with the same probability are answered together
    last = torch.cat([confidence[1:] < confidence[:-1], torch.tensor([True])])
    count = torch.arange(1, len(hits) + 1)
    enough = (last & (count >= least) & (hits / count >= accuracy)).nonzero()
    return float(confidence[enough[-1]]) if len(enough) else None


def answered(probabilities: Tensor, labels: Tensor, threshold: float | None) -> Answered:
    """Count the photos that are answered at a threshold, and the correct answers.

    Parameters
    ----------
    probabilities, labels : Tensor
        As for :func:`threshold`.
    threshold : float or None
        Photos are answered whose top probability is this or more; none are at None.

    Returns
    -------
    Answered
        The counts.

    Raises
    ------
    DataError
        If the shapes do not fit.

    Examples
    --------
    >>> probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    >>> found = answered(probabilities, torch.tensor([0, 1, 1, 1]), 0.65)
    >>> found.answered, found.correct, found.coverage
    (3, 2, 0.75)
    """
    confidence, correct = _top(probabilities, labels)
    sure = torch.zeros_like(correct, dtype=torch.bool) if threshold is None else confidence >= threshold
    return Answered(len(labels), int(sure.sum()), int(correct[sure].sum()))


def _top(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return top probabilities, and whether they are of the true class: Tensors of shape (N,), both float64."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        shapes = tuple(probabilities.shape), tuple(labels.shape)
        raise DataError(f"probabilities and labels have the shapes {shapes[0]} and {shapes[1]}: give (N, K) and (N,)")
    confidence, predictions = probabilities.double().max(1)
    return confidence, (predictions == labels).double()
