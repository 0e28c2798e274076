"""How good a network is: logits of a whole split, accuracy, confusion matrix and intervals."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnhw.data.augment import to_float
from cnnhw.data.photoset import Split
from cnnhw.errors import DataError
from cnnhw.models.blocks import Classifier, device_of, evaluating

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
    """Refuse photos or classes that a model is not made for.

    Parameters
    ----------
    model : Classifier
        The model.
    size : int
        The photos' side length in pixels.
    num_classes : int
        The number of classes in the data.

    Raises
    ------
    DataError
        If either differs from the model's.
    """
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
    """
    device = device_of(model)
    with evaluating(model):
        logits = [
            model(to_float(split.batch(rows)).to(device, memory_format=torch.channels_last)).cpu()
            for rows in torch.arange(len(split)).split(batch_size)
        ]
    return torch.cat(logits) if logits else torch.empty(0, model.num_classes)


def loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross-entropy, in nats, of logits (N, K) against labels (N,)."""
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
    """
    return float((predictions == labels).double().mean())


def confusion_matrix(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count how often each class was taken for each.

    Parameters
    ----------
    predictions, labels : Tensor of shape (N,), int64
        Class indices, 0 to `num_classes` - 1.
    num_classes : int
        Number of classes K.

    Returns
    -------
    Tensor of shape (K, K), int64
        Rows are the true classes, columns the predicted ones.
    """
    cells = labels * num_classes + predictions
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def balanced_accuracy(confusion: Tensor) -> float:
    """Return the mean over classes of the share of its photos found, 0 to 1, from a confusion matrix (K, K)."""
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
    """
    from scipy.stats import binomtest  # takes half a second to import

    if total == 0:
        return 0.0, 1.0
    low, high = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(low), float(high)
