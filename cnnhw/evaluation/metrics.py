"""Logits of a whole split, accuracy, confusion matrix and intervals."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnhw.data.augment import to_float
from cnnhw.data.photoset import Split
from cnnhw.errors import DataError
from cnnhw.models.blocks import Classifier, evaluating, logits_of, placed

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "check_fits",
    "confusion_matrix",
    "loss",
    "predict",
    "wilson_interval",
]


def check_fits(model: Classifier, size: int, num_classes: int) -> None:
    """Raise DataError if the photos' side (pixels) or number of classes is not a model's."""
    if size != model.size:
        raise DataError(
            f"the photos are {size} pixels wide, the model is made for {model.size}: "
            f"load the photos with size={model.size}, or create the model with size={size}"
        )
    if num_classes != model.num_classes:
        raise DataError(
            f"the data have {num_classes} classes, the model has {model.num_classes}: "
            f"create it with num_classes={num_classes}, or call reset_classifier({num_classes})"
        )


@torch.inference_mode()
def predict(model: Classifier, split: Split, batch_size: int = 250) -> Tensor:
    """Compute the logits of every photo of a split, in evaluation mode.

    Parameters
    ----------
    model : Classifier
        The model; its mode is restored afterwards.
    split : Split
        N photos.
    batch_size : int
        Photos at a time.

    Returns
    -------
    Tensor of shape (N, num_classes), float32
        The logits, on the CPU.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw.data import scenes
    >>> photos = scenes.load(size=16, train=50, test=10, progress=False)
    >>> cnnhw.evaluation.predict(cnnhw.models.create("q1_shallow", size=16), photos.test).shape
    torch.Size([10, 5])
    """
    with evaluating(model):
        logits = [
            logits_of(model(placed(to_float(split.batch(rows)), model).to(memory_format=torch.channels_last)))
            .float()
            .cpu()
            for rows in torch.arange(len(split)).split(batch_size)
        ]
    return torch.cat(logits) if logits else torch.empty(0, model.num_classes)


def loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross-entropy, in nats, of logits (N, K) against labels (N,).

    Examples
    --------
    >>> import cnnhw, torch
    >>> round(cnnhw.evaluation.loss(torch.zeros(2, 5), torch.tensor([0, 3])), 4)  # log 5
    1.6094
    """
    return float(F.cross_entropy(logits, labels))


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Return the share of correct predictions, 0 to 1.

    Parameters
    ----------
    predictions, labels : Tensor of shape (N,), int64
        Class indices.

    Returns
    -------
    float
        Accuracy; NaN for no photos.

    Examples
    --------
    >>> import cnnhw, torch
    >>> cnnhw.evaluation.accuracy(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]))
    0.75
    """
    return float((predictions == labels).double().mean())


def confusion_matrix(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the counts of true classes (rows) and predicted ones: Tensor of shape (K, K), int64."""
    cells = labels * num_classes + predictions
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def balanced_accuracy(confusion: Tensor) -> float:
    """Return the mean recall over classes, 0 to 1, from a confusion matrix (K, K).

    Examples
    --------
    >>> import cnnhw, torch
    >>> cnnhw.evaluation.balanced_accuracy(torch.tensor([[9, 1], [1, 1]]))
    0.699999988079071
    """
    counts = confusion.sum(1)
    return float((confusion.diagonal() / counts)[counts > 0].mean())


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of an accuracy, which accounts for the sampling of photos alone.

    Parameters
    ----------
    correct, total : int
        Number of correct predictions, and of photos.
    confidence : float
        Confidence level, 0 to 1.

    Returns
    -------
    tuple of float
        Lower and upper end, 0 to 1 (Wilson 1927); 0 and 1 for no photos.

    Examples
    --------
    >>> import cnnhw
    >>> low, high = cnnhw.evaluation.wilson_interval(81, 263)
    >>> round(low, 4), round(high, 4)
    (0.2553, 0.3662)
    """
    from scipy.stats import binomtest  # takes half a second to import

    if total == 0:
        return 0.0, 1.0
    low, high = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(low), float(high)
