"""Layer budgets: shapes, parameters, multiply-adds and receptive fields, and warnings about them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import fx, nn

from cnnhw.models.blocks import Classifier
from cnnhw.theory.tracing import trace

__all__ = ["Layer", "layers", "warnings"]


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    - ``name`` (str): its name inside the model.
    - ``kind`` (str): the class of the module, or the name of the function.
    - ``shape`` (tuple of int): shape of its output for one photo.
    - ``parameters`` (int): its own parameters.
    - ``macs`` (int): multiply-adds for one photo, of convolutions and linear layers.
    - ``field`` (int): side of the receptive field of one output cell, in pixels of the photo, at most the photo's side.
    - ``step`` (float): pixels of the photo between neighbouring cells.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    field: int
    step: float


def layers(model: Classifier) -> list[Layer]:
    """List cost and receptive field of each layer of a network.

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

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw import theory
    >>> first = theory.layers(cnnhw.models.create("q1_shallow"))[0]
    >>> first.name, first.shape, first.parameters, first.macs
    ('features.conv1', (16, 128, 128), 448, 7077888)
    """
    graph, modules = trace(model)
    seen: dict[fx.Node, tuple[float, float]] = {}
    found = []
    for node in graph.nodes:
        if node.op == "output" or "tensor_meta" not in node.meta:  # a size, not a map
            continue
        before = [seen[source] for source in node.all_input_nodes if source in seen]
        field, step = max((f for f, _ in before), default=1.0), max((j for _, j in before), default=1.0)
        views, *sides = node.meta["tensor_meta"].shape  # of one photo, an ensemble sees several
        shape = tuple(sides)
        module = modules[str(node.target)] if node.op == "call_module" else None
        parameters = macs = 0
        if module is not None:
            parameters = sum(p.numel() for p in module.parameters())
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride = (_side(value) for value in (module.kernel_size, module.stride))
            field, step = field + (kernel - 1) * step, step * stride
        if isinstance(module, nn.Conv2d):
            macs = views * math.prod(shape) * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs = views * module.weight.numel()
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
    """Return warnings about unbalanced budgets.

    Parameters
    ----------
    found : list of Layer
        The result of :func:`layers`.
    size : int
        The photo's side in pixels.

    Returns
    -------
    list of str
        A sentence for each finding: a layer that holds more than nine tenths of the parameters or of the
        multiply-adds, or a last map whose cells see less than a quarter of the photo's side.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw import theory
    >>> theory.warnings(theory.layers(cnnhw.models.create("q1_shallow")), size=128)[0][:45]
    '98% of the parameters sit in one layer, head.'
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
