"""The networks of the original report, exactly as reported: structure, initialisation and parameter counts.

Three things differ from the report's Keras code without changing what is computed: the division by 255 belongs to the
data, and the closing softmax belongs to the loss, so every model takes photos in 0..1 and returns logits. And ReLU
comes after max pooling, not before: the two can be exchanged, and so it has a quarter of the work.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from cnnhw.models.blocks import Classifier

__all__ = ["q1_deep", "q1_shallow"]


def q1_shallow(num_classes: int = 5, size: int = 128) -> Classifier:
    """Build the report's first network for Q1: three 3x3 convolutions and one hidden layer.

    With 5 classes and 128x128 photos it has 1,072,549 parameters, of which 97.8 % lie in the hidden dense layer.

    Parameters
    ----------
    num_classes : int
        Number of logits.
    size : int
        Side length S of the photos in pixels, 8 or more.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 64, S/8, S/8).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i, out in enumerate((16, 32, 64), start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, out, 3, padding=1)  # (N, out, S/2^(i-1), S/2^(i-1))
        layers[f"pool{i}"] = nn.MaxPool2d(2)  # (N, out, S/2^i, S/2^i)
        layers[f"relu{i}"] = nn.ReLU()
        channels = out
    return _with_dense_head(layers, channels, size // 8, 64, num_classes, size)


def q1_deep(num_classes: int = 5, size: int = 128) -> Classifier:
    """Build the report's second network for Q1: kernels of 3, 5, 7 and 7 pixels and average pooling.

    With 5 classes and 128x128 photos it has 2,613,925 parameters, of which 80 % lie in the hidden dense layer.

    Parameters
    ----------
    num_classes : int
        Number of logits.
    size : int
        Side length S of the photos in pixels, 16 or more.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, 128, S/16, S/16).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i, (kernel, out) in enumerate(((3, 16), (5, 32), (7, 64), (7, 128)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"pool{i}"] = nn.AvgPool2d(2)  # (N, out, S/2^i, S/2^i)
        channels = out
    return _with_dense_head(layers, channels, size // 16, 256, num_classes, size)


def _with_dense_head(
    layers: OrderedDict[str, nn.Module], channels: int, side: int, hidden: int, num_classes: int, size: int
) -> Classifier:
    if side < 1:
        raise ValueError(f"size={size} is too small: nothing is left after the last pooling")
    head = nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),  # (N, channels * side * side)
            dense1=nn.Linear(channels * side * side, hidden),
            relu=nn.ReLU(),
            dense2=nn.Linear(hidden, num_classes),
        )
    )
    return Classifier(nn.Sequential(layers), head, size)
