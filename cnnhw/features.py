"""Looking into any torch model: the maps of its layers, its filters, and what in a photo it answers to.

The model is put into evaluation mode and back; its parameters' gradients are left as they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cnnhw.data.augment import to_float
from cnnhw.errors import CnnhwError, UnknownNameError

__all__ = ["first_convolution", "maps"]

_BATCH = 100


def first_convolution(model: nn.Module) -> str:
    """Return the name of the layer that sees the photo.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Returns
    -------
    str
        The first module with a ``weight`` of shape (C, 3, k, k); one that is called ``conv1`` goes before others.

    Raises
    ------
    CnnhwError
        If there is none.
    """
    found = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 4 and weight.shape[1] == 3:
            found.append(name)
    if not found:
        raise CnnhwError(
            f"{type(model).__name__} has no layer with a weight of shape (C, 3, k, k); name the layer to look at"
        )
    return next((name for name in found if name.rpartition(".")[2] == "conv1"), found[0])


def maps(model: nn.Module, images: Tensor, layer: str | None = None) -> Tensor:
    """Return what a layer makes of photos.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    images : Tensor of shape (N, 3, S, S), uint8 or float
        Photos in 0..255, or in 0..1.
    layer : str, optional
        Name of a module, as ``model.named_modules()`` has it, or its end if that is the end of no other name; the
        first convolution if not given.

    Returns
    -------
    Tensor of shape (N, C, H, W)
        The layer's output, that of its last call if it is called more than once; on the model's device.

    Raises
    ------
    UnknownNameError
        If there is no such layer, or more than one, or its output is not a map.
    """
    name, module = _find(model, layer)
    found: list[Tensor] = []
    seen: dict[str, Tensor] = {}

    def keep(_: nn.Module, __: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.dim() == 4:
            seen["map"] = out.clone()  # a later layer may work in place

    with _evaluation(model), _hook(module, keep), torch.no_grad():
        for part in images.split(_BATCH):
            model(_input(model, part))
            if "map" not in seen:
                raise UnknownNameError("layer with maps", name, _with_maps(model, images[:1]))
            found.append(seen.pop("map"))
    return torch.cat(found)


def _with_maps(model: nn.Module, images: Tensor) -> list[str]:
    """Return the names of the modules without parts whose output is a map, in the order of their first calls."""
    names: dict[str, None] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.dim() == 4:
                names[name] = None

        return hook

    with _evaluation(model), contextlib.ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            if name and not any(True for _ in module.children()):
                hooks.enter_context(_hook(module, note(name)))
        model(_input(model, images))
    return list(names)


def _find(model: nn.Module, layer: str | None) -> tuple[str, nn.Module]:
    modules = {name: module for name, module in model.named_modules() if name}
    name = first_convolution(model) if layer is None else layer
    if name == "":  # the model is the convolution
        return name, model
    if name in modules:
        return name, modules[name]
    ends = [known for known in modules if known.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0], modules[ends[0]]
    if ends:
        raise UnknownNameError("layer", name, ends, "Several names end like this: give one in full.")
    # short names, too, so that a misspelt one finds its like
    raise UnknownNameError("layer", name, modules)


def _input(model: nn.Module, images: Tensor) -> Tensor:
    parameter = next(model.parameters(), None)
    return to_float(images) if parameter is None else to_float(images).to(parameter.device)


@contextlib.contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:  # one by one, as some may have been frozen
            module.training = training


@contextlib.contextmanager
def _hook(module: nn.Module, hook: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
