"""Paths through residual networks: their lengths, and the gradient that they carry.

A residual network of n blocks is a sum over 2^n paths, each of which goes through some branches and around the others
(Veit et al. 2016).
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnhw.models.blocks import Classifier
from cnnhw.models.residual import Span

__all__ = ["delete_blocks", "gradient_path_length", "measured_path_length", "path_lengths"]


def path_lengths(depth: int, span: int) -> dict[int, float]:
    """Return the distribution of path lengths.

    Parameters
    ----------
    depth : int
        Convolutions D inside residual blocks.
    span : int
        Convolutions l a block, a divisor of `depth`.

    Returns
    -------
    dict of int to float
        The share of paths by the number of convolutions on them: l times Binomial(D/l, 1/2), with mean D/2 for every
        span and standard deviation sqrt(l D)/2.

    Examples
    --------
    >>> path_lengths(depth=4, span=2)
    {0: 0.25, 2: 0.5, 4: 0.25}
    """
    blocks = depth // span
    return {span * k: math.comb(blocks, k) / 2**blocks for k in range(blocks + 1)}


def gradient_path_length(depth: int, span: int) -> float:
    """Return the mean path length, weighted by gradient, at initialisation with batch norm.

    Parameters
    ----------
    depth : int
        Convolutions D inside residual blocks.
    span : int
        Convolutions l a block, a divisor of `depth`.

    Returns
    -------
    float
        l times the sum of a^l / (i + a^l) over i = 1 ... D/l, with a = pi/(pi - 1): pre-activation blocks with batch
        norm and ReLU. Derived for this book from fully connected networks.

    Examples
    --------
    >>> round(gradient_path_length(depth=24, span=2), 2), round(gradient_path_length(depth=24, span=12), 2)
    (7.33, 23.64)
    """
    gain = (math.pi / (math.pi - 1)) ** span
    return span * sum(gain / (i + gain) for i in range(1, depth // span + 1))


def measured_path_length(model: Classifier, images: Tensor, labels: Tensor, step: float = 0.02) -> float:
    """Measure the mean path length of a network, weighted by gradient.

    The gradient that passes through each branch is multiplied by t; a path through k branches then carries t^k. Half
    the logarithmic derivative of the squared gradient at the stem, at t = 1, is the mean of k.

    Parameters
    ----------
    model : Classifier
        A model ``residual``; it is left as it is.
    images : Tensor of shape (N, 3, S, S), float
        Photos in 0..1.
    labels : Tensor of shape (N,), int64
        Their classes.
    step : float
        How far t moves from 1, each way.

    Returns
    -------
    float
        Convolutions, 0 to the depth of the network. Without connections all paths have that depth.

    Examples
    --------
    >>> import cnnhw, torch
    >>> model = cnnhw.models.create("residual", size=32, depth=12)
    >>> images, labels = torch.rand(8, 3, 32, 32), torch.arange(8) % 5
    >>> 0 < measured_path_length(model, images, labels) < 12
    True
    """
    model = copy.deepcopy(model).train()
    spans = [part for part in model.modules() if isinstance(part, Span)]
    length = sum(isinstance(part, nn.Conv2d) for part in spans[0].modules())
    if not spans[0].skip:
        return float(length * len(spans))
    logarithms = []
    for t in (1 - step, 1 + step):

        def scale(module: nn.Module, inputs: object, out: Tensor, t: float = t) -> Tensor:
            return t * out + (1 - t) * out.detach()  # the value of `out`, t times its gradient

        hooks = [span.branch.register_forward_hook(scale) for span in spans]
        stem = model.features[0](images)
        rest = nn.Sequential(*list(model.features)[1:], *model.head)
        (gradient,) = torch.autograd.grad(F.cross_entropy(rest(stem), labels), stem)
        logarithms.append(math.log(gradient.double().square().sum().item()))
        for hook in hooks:
            hook.remove()
    derivative = (logarithms[1] - logarithms[0]) / (math.log(1 + step) - math.log(1 - step))
    return length * derivative / 2


def delete_blocks(model: Classifier, convolutions: int, seed: int) -> Classifier:
    """Return a copy of a network without some of its convolutions, not trained again.

    Parameters
    ----------
    model : Classifier
        A model ``residual``.
    convolutions : int
        How many to delete, a multiple of the span: whole blocks. Without connections, any convolutions.
    seed : int
        Decides which.

    Returns
    -------
    Classifier
        The copy, in evaluation mode. Where a block was, its input is passed on.

    Examples
    --------
    >>> import cnnhw
    >>> model = cnnhw.models.create("residual", size=32)
    >>> cut = delete_blocks(model, convolutions=4, seed=0)
    >>> cnnhw.models.count_parameters(cut) < cnnhw.models.count_parameters(model)
    True
    """
    model = copy.deepcopy(model).eval()
    spans = [part for part in model.modules() if isinstance(part, Span)]
    joined = spans[0].skip
    step = len(spans[0].branch) if joined else 3  # norm, ReLU, convolution
    units = [(span.branch, start) for span in spans for start in range(0, len(span.branch), step)]
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed))
    for i in order[: 3 * convolutions // step].tolist():
        branch, start = units[i]
        for place in range(start, start + step):
            branch[place] = nn.Identity()
        if joined:
            branch[start] = _Zero()  # the connection alone is left
    return model


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)
