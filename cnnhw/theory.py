"""Theory by hand: what a network costs and sees, layer by layer, and the paths through residual networks.

A residual network of n blocks is a sum over 2^n paths, each of which goes through some branches and around the others
(Veit et al. 2016). How long are they, and how long are those that carry the gradient?
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, fx, nn

from cnnhw.graph import trace
from cnnhw.models.blocks import Classifier
from cnnhw.models.residual import Span

__all__ = [
    "Layer",
    "average_signal",
    "delete_blocks",
    "gradient_path_length",
    "layers",
    "max_signal",
    "measured_path_length",
    "path_lengths",
    "warnings",
]


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes
    ----------
    name : str
        Its name inside the model.
    kind : str
        The class of the module, or the name of the function.
    shape : tuple of int
        Shape of its output for one photo.
    parameters : int
        Its own parameters.
    macs : int
        Multiply-adds for one photo, of convolutions and linear layers.
    field : int
        Side of the receptive field of one output cell, in pixels of the photo, at most the photo's side.
    step : float
        Pixels of the photo between neighbouring cells.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    field: int
    step: float


def layers(model: Classifier) -> list[Layer]:
    """List what each layer of a network costs and sees.

    A window of k cells that lie j pixels apart adds (k - 1) j pixels to the receptive field, and a stride of s makes
    the cells s times as far apart; where paths meet, the widest one counts. A convolution of C into K channels with
    k x k weights on an H x W map takes H W C K k^2 multiply-adds.

    Parameters
    ----------
    model : Classifier
        Any registered model.

    Returns
    -------
    list of Layer
        In the order of computation.
    """
    graph, modules = trace(model)
    seen: dict[fx.Node, tuple[float, float]] = {}
    found = []
    for node in graph.nodes:
        if node.op == "output" or "tensor_meta" not in node.meta:  # a size, not a map
            continue
        before = [seen[source] for source in node.all_input_nodes if source in seen]
        field, step = max((f for f, _ in before), default=1.0), max((j for _, j in before), default=1.0)
        shape = tuple(node.meta["tensor_meta"].shape[1:])
        module = modules[str(node.target)] if node.op == "call_module" else None
        parameters = macs = 0
        if module is not None:
            parameters = sum(p.numel() for p in module.parameters())
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride = (_side(value) for value in (module.kernel_size, module.stride))
            field, step = field + (kernel - 1) * step, step * stride
        if isinstance(module, nn.Conv2d):
            macs = math.prod(shape) * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs = module.weight.numel()
        elif node.target is F.interpolate:
            apart = node.all_input_nodes[0].meta["tensor_meta"].shape[-1] / shape[-1]
            field, step = field + step, step * apart  # two neighbours a side
        if len(shape) == 1 or isinstance(module, nn.AdaptiveAvgPool2d):
            field, step = model.size, model.size
        seen[node] = field, step
        if node.op == "placeholder":
            continue
        kind = type(module).__name__ if module is not None else str(getattr(node.target, "__name__", node.target))
        name = str(node.target) if module is not None else node.name
        found.append(Layer(name, kind, shape, parameters, macs, int(min(field, model.size)), step))
    return found


def warnings(found: list[Layer], size: int) -> list[str]:
    """Return what is lopsided about a network.

    Parameters
    ----------
    found : list of Layer
        What :func:`layers` returned.
    size : int
        The photo's side in pixels.

    Returns
    -------
    list of str
        A sentence for each finding: a layer that holds more than nine tenths of the parameters or of the
        multiply-adds, or a last map whose cells see less than a quarter of the photo's side.
    """
    out = []
    for what, name in (("parameters", "parameters"), ("macs", "multiply-adds")):
        total = sum(getattr(layer, what) for layer in found)
        largest = max(found, key=lambda layer: getattr(layer, what))
        share = getattr(largest, what) / max(total, 1)
        if share > 0.9:
            hint = ": average the map before it instead of flattening it" if largest.kind == "Linear" else ""
            out.append(f"{share:.0%} of the {name} sit in one layer, {largest.name} ({largest.kind}){hint}")
    maps = [layer for layer in found if len(layer.shape) == 3 and layer.shape[-1] > 1]
    if maps and maps[-1].field < size / 4:
        out.append(f"a cell of the last map sees {maps[-1].field} of {size} pixels: pool more, or add convolutions")
    return out


def _side(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def max_signal(active: int, amplitude: float, cells: int = 4) -> float:
    """Return how well the maximum of a window tells a signal from noise.

    Parameters
    ----------
    active : int
        In how many cells the signal is, 1 to `cells`.
    amplitude : float
        The signal in units of the noise's standard deviation; the noise is normal and independent.
    cells : int
        Cells of the window.

    Returns
    -------
    float
        d', the difference of the means with and without signal, in units of the root mean square of both standard
        deviations, by numerical integration.
    """

    def moments(shifted: int) -> tuple[float, float]:
        grid = np.linspace(-8, amplitude + 8, 8001)
        below = stats.norm.cdf(grid - amplitude) ** shifted * stats.norm.cdf(grid) ** (cells - shifted)
        density = np.gradient(below, grid)
        mean = float(np.trapezoid(grid * density, grid))
        return mean, float(np.trapezoid((grid - mean) ** 2 * density, grid))

    (mean, variance), (mean0, variance0) = moments(active), moments(0)
    return (mean - mean0) / math.sqrt((variance + variance0) / 2)


def average_signal(active: int, amplitude: float, cells: int = 4) -> float:
    """Return how well the average of a window tells a signal from noise: amplitude times active, over sqrt(cells).

    Parameters
    ----------
    active, amplitude, cells
        As for :func:`max_signal`.

    Returns
    -------
    float
        d', the difference of the means in units of the standard deviation.
    """
    return amplitude * active / math.sqrt(cells)


def path_lengths(depth: int, span: int) -> dict[int, float]:
    """Return how the lengths of all paths are distributed.

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
    """
    blocks = depth // span
    return {span * k: math.comb(blocks, k) / 2**blocks for k in range(blocks + 1)}


def gradient_path_length(depth: int, span: int) -> float:
    """Return the mean length of paths, weighted by the gradient they carry at initialisation, with batch norm.

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
        norm and ReLU. Derived for this book from fully connected networks, after a first form had failed.
    """
    gain = (math.pi / (math.pi - 1)) ** span
    return span * sum(gain / (i + gain) for i in range(1, depth // span + 1))


def measured_path_length(model: Classifier, images: Tensor, labels: Tensor, step: float = 0.02) -> float:
    """Measure the mean length of paths, weighted by the gradient they carry.

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
    """Return a copy of a network without some of its convolutions, nothing being trained again.

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
