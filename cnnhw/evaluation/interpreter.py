"""What a described program computes, step by step: the engine of ``cnnhw/web/cnn.js`` in PyTorch, to check programs."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = []


def unpack(described: Mapping[str, Any]) -> list[Tensor]:
    """Return the weights that :meth:`cnnhw.evaluation.browser.Program.described` wrote, as float32."""
    data = base64.b64decode(described["data"])

    def numbers(kind: str, shape: list[int], start: int) -> Tensor:
        return torch.from_numpy(np.frombuffer(data, kind, math.prod(shape), start).astype(np.float32)).reshape(shape)

    def read(shape: list[int], start: int, half: bool, units: int | None = None) -> Tensor:
        if units is None:
            return numbers("<f2" if half else "<f4", shape, start)
        return numbers("<i2", shape, start) * numbers("<f4", [shape[0]] + [1] * (len(shape) - 1), units)

    return [read(**one) for one in described["weights"]]


def compute(described: Mapping[str, Any], photo: Tensor) -> Tensor:
    """Return the logits (1, K) of one photo, Tensor of shape (1, 3, S, S) in 0..1."""
    weights, values = unpack(described), [photo]
    for step in described["steps"]:
        given = [values[i] for i in step["inputs"]] + [weights[i] for i in step["weights"]]
        values.append(_STEPS[step["op"]](step, *given))
    return values[-1]


def _combine(step: Mapping[str, Any], first: Tensor, other: Tensor | None = None) -> Tensor:
    return getattr(torch, step["kind"])(first, step["scalar"] if other is None else other)


def _pad(step: Mapping[str, Any], x: Tensor) -> Tensor:
    (top, left), (bottom, right) = step["before"][2:], step["beyond"][2:]
    return F.pad(x, (left, right, top, bottom))


_STEPS: dict[str, Callable[..., Tensor]] = {
    "convolution": lambda s, x, w, b=None: F.conv2d(x, w, b, s["stride"], s["padding"], 1, s["groups"]),
    "batch_norm": lambda s, x, gamma, beta, mean, var: F.batch_norm(x, mean, var, gamma, beta, eps=s["eps"]),
    "linear": lambda s, x, *weights: F.linear(x, *weights),
    "relu": lambda s, x: F.relu(x),
    "clamp": lambda s, x: x.clamp(s["low"], s["high"]),
    "hardswish": lambda s, x: F.hardswish(x),
    "hardsigmoid": lambda s, x: F.hardsigmoid(x),
    "max_pool": lambda s, x: F.max_pool2d(x, s["kernel"], s["stride"], s["padding"]),
    "average_pool": lambda s, x: F.avg_pool2d(x, s["kernel"], s["stride"], s["padding"]),
    "reshape": lambda s, x: x.reshape(len(x), *s["shape"]),
    "concatenate": lambda s, *given: torch.cat(given, s["axis"]),
    "combine": _combine,
    "flip": lambda s, x: x.flip(s["axes"]),
    "slice": lambda s, x: x.narrow(s["axis"], s["start"], min(s["end"], x.shape[s["axis"]]) - s["start"]),
    "pad": _pad,
    "resample": lambda s, x: F.interpolate(x, s["out"], mode="bilinear"),
}
