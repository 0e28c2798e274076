"""Networks as lists of steps that a browser computes: what the engine ``cnnhw/web/cnn.js`` takes."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier

__all__ = ["Program", "program"]


@dataclass(frozen=True)
class Program:
    """A network, step by step.

    - ``steps`` (list of dict): each with ``op``, ``name`` (the layer it belongs to), ``inputs`` (numbers of values: 0
      is the photos, k what step k - 1 gave), ``weights`` (numbers of tensors), and settings of its own.
    - ``weights`` (list of Tensor): float32.
    - ``names`` (list of str): what the network calls each of these; ``""`` for constants.

    See Also
    --------
    program : Makes one.
    """

    steps: list[dict[str, Any]]
    weights: list[Tensor]
    names: list[str]

    def described(self, kernels: Literal["half", "whole", "single"] = "half") -> dict[str, Any]:
        """Return what the engine unpacks, as JSON holds it.

        Parameters
        ----------
        kernels : {"half", "whole", "single"}
            How kernels and matrices are written: in half precision; as whole numbers of 16 bits with a unit for each
            row, ten times as exact in the same space; or in single precision, as all else is.

        Returns
        -------
        dict
            ``steps``; ``weights``, each with ``shape``, ``start`` (in bytes), ``half`` and, for whole numbers, where
            their ``units`` start; ``data``, in base64.
        """
        listed, data = [], bytearray()

        def add(values: Tensor, kind: str) -> int:
            start = len(data)
            with np.errstate(over="ignore", invalid="ignore"):  # whoever relies on it compares what is computed
                data.extend(values.numpy().astype(kind).tobytes())
            data.extend(bytes(-len(data) % 4))  # single numbers begin at whole fours of bytes
            return start

        for weight in self.weights:
            kind = kernels if weight.dim() > 1 else "single"
            found: dict[str, Any] = {"shape": list(weight.shape), "half": kind == "half"}
            if kind == "whole":
                units = weight.flatten(1).abs().amax(1, keepdim=True).clamp_min(1e-30) / (2**15 - 1)
                found |= {"start": add((weight.flatten(1) / units).round(), "<i2"), "units": add(units, "<f4")}
            else:
                found["start"] = add(weight, "<f2" if kind == "half" else "<f4")
            listed.append(found)
        return {"steps": self.steps, "weights": listed, "data": base64.b64encode(data).decode()}


def program(model: Classifier) -> Program:
    """Return a network as steps, from photos in 0..1 to logits.

    Parameters
    ----------
    model : Classifier
        Any network of the package, in its evaluation mode.

    Returns
    -------
    Program
        For photos of the side that the network is made for.

    Raises
    ------
    ModelError
        If the network computes something that the engine has no step for.

    Examples
    --------
    >>> from cnnhw import models
    >>> found = program(models.create("q1_shallow", size=32))
    >>> [step["op"] for step in found.steps[:4]]
    ['convolution', 'max_pool', 'relu', 'convolution']
    """
    still = copy.deepcopy(model).cpu().float().eval()
    with torch.no_grad():
        exported = torch.export.export(still, (torch.zeros(1, 3, model.size, model.size),))
    held = {**exported.state_dict, **exported.constants}
    signature = exported.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    weights = {node: held[names[node]].detach() for node in names if held[names[node]].is_floating_point()}
    places: dict[str, int] = {}  # of weights
    values: dict[fx.Node, int] = {}
    steps: list[dict[str, Any]] = []
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name not in names:
            values[node] = 0
        if node.op != "call_function":
            continue
        if node.all_input_nodes and all(one.name in weights for one in node.all_input_nodes):
            weights[node.name] = _constant(node, weights)
            continue
        if (kind := _kind(node)) not in _STEPS:
            raise ModelError(
                f"{model.name or 'the network'} computes {node.target}, which the engine for browsers has no step for"
            )
        step = _STEPS[kind](node, dict(zip(_arguments(node), node.args, strict=False)) | node.kwargs)
        if step is None:
            continue
        given = [_origin(one) for one in step.pop("given", node.all_input_nodes)]
        own = [one.name for one in given if one.name in weights]
        for name in own:
            places.setdefault(name, len(places))
        steps.append(
            {
                **step,
                "name": _layer(node),
                "inputs": [values[one] for one in given if one.name not in weights],
                "weights": [places[name] for name in own],
            }
        )
        values[node] = len(steps)
    return Program(
        steps,
        [weights[name].contiguous() for name in places],
        [names[name] if names.get(name) in exported.state_dict else "" for name in places],
    )


def _arguments(node: fx.Node) -> list[str]:
    target: Any = node.target
    return [argument.name for argument in target._schema.arguments]


def _constant(node: fx.Node, weights: Mapping[str, Tensor]) -> Tensor:
    """Return what a node computes that depends on no photo."""
    target: Any = node.target
    arguments = fx.map_arg(node.args, lambda one: weights[one.name])
    return target(*arguments, **node.kwargs)


def _origin(node: fx.Node) -> fx.Node:
    """Return the node whose value a node passes on unchanged, or itself."""
    while node.op == "call_function" and _STEPS.get(_kind(node)) is _unchanged:
        (node,) = node.all_input_nodes
    return node


def _kind(node: fx.Node) -> str:
    """Return the name of an operation, in place or not."""
    return str(node.target).removeprefix("aten.").partition(".")[0].removesuffix("_")


def _layer(node: fx.Node) -> str:
    """Return the name of the innermost module that a step belongs to."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


def _shape(node: fx.Node) -> list[int]:
    return list(node.meta["val"].shape)


def _convolution(node: fx.Node, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "op": "convolution",
        "stride": list(given.get("stride", (1, 1))),
        "padding": list(given.get("padding", (0, 0))),
        "groups": given.get("groups", 1),
    }


def _batch_norm(node: fx.Node, given: Mapping[str, Any]) -> dict[str, Any]:
    own = [given[name] for name in ("input", "weight", "bias", "running_mean", "running_var")]
    return {"op": "batch_norm", "eps": given["eps"], "momentum": given["momentum"], "given": own}


def _pool(op: str) -> Callable[[fx.Node, Mapping[str, Any]], dict[str, Any]]:
    def step(node: fx.Node, given: Mapping[str, Any]) -> dict[str, Any]:
        kernel = list(given["kernel_size"]) * (2 // len(given["kernel_size"]))
        stride = list(given.get("stride") or kernel)
        return {"op": op, "kernel": kernel, "stride": stride, "padding": list(given.get("padding", (0, 0)))}

    return step


def _mean(node: fx.Node, given: Mapping[str, Any]) -> dict[str, Any]:
    kernel = _shape(given["self"])[2:]
    if _shape(node)[2:] != [1, 1]:
        raise ModelError("the engine for browsers averages whole maps only, not parts of them adaptively")
    return {"op": "average_pool", "kernel": kernel, "stride": kernel, "padding": [0, 0]}


def _reshape(node: fx.Node, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"op": "reshape", "shape": _shape(node)[1:]}


def _combine(kind: str) -> Callable[[fx.Node, Mapping[str, Any]], dict[str, Any]]:
    def step(node: fx.Node, given: Mapping[str, Any]) -> dict[str, Any]:
        other = given["other"]
        step = {"op": "combine", "kind": kind, "given": [given["self"], other]}
        return step if isinstance(other, fx.Node) else {**step, "scalar": other, "given": [given["self"]]}

    return step


def _pad(node: fx.Node, given: Mapping[str, Any]) -> dict[str, Any]:
    left, right, top, bottom = given["pad"]
    return {"op": "pad", "before": [0, 0, top, left], "beyond": [0, 0, bottom, right]}


def _slice(node: fx.Node, given: Mapping[str, Any]) -> dict[str, Any]:
    start, end = given.get("start") or 0, given.get("end")
    side = _shape(given["self"])[given["dim"]]
    return {"op": "slice", "axis": given["dim"], "start": start, "end": side if end is None else min(end, side)}


def _unchanged(node: fx.Node, given: Mapping[str, Any]) -> None:
    """Of what is the same when a network does not learn."""


def _simple(op: str, **settings: Any) -> Callable[[fx.Node, Mapping[str, Any]], dict[str, Any]]:
    return lambda node, given: {"op": op, **settings}


_STEPS: dict[str, Callable[[fx.Node, Mapping[str, Any]], dict[str, Any] | None]] = {
    "conv2d": _convolution,
    "batch_norm": _batch_norm,
    "linear": _simple("linear"),
    "relu": _simple("relu"),
    "hardtanh": lambda node, given: {"op": "clamp", "low": given["min_val"], "high": given["max_val"]},
    "relu6": _simple("clamp", low=0, high=6),
    "hardswish": _simple("hardswish"),
    "hardsigmoid": _simple("hardsigmoid"),
    "max_pool2d": _pool("max_pool"),
    "avg_pool2d": _pool("average_pool"),
    "adaptive_avg_pool2d": _mean,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "dropout": _unchanged,
    "cat": lambda node, given: {"op": "concatenate", "axis": given.get("dim", 0), "given": given["tensors"]},
    **{kind: _combine(kind) for kind in ("add", "sub", "mul", "div")},
    "neg": _simple("combine", kind="mul", scalar=-1),
    "flip": lambda node, given: {"op": "flip", "axes": list(given["dims"])},
    "slice": _slice,
    "pad": _pad,
    "upsample_bilinear2d": lambda node, given: {"op": "resample", "out": _shape(node)[2:]},
}
