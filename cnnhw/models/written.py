"""Networks of one's own in weights files: layers of ``torch.nn`` as names and numbers, never as code."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from cnnhw.models.blocks import Classifier

__all__ = []

_PLACES = ("device", "dtype")


def written(model: Classifier) -> list[Any] | None:
    """Return the two parts of a Classifier as plain values; None unless :func:`built` makes the same of them."""
    parts = [_written(part) for part in (model.features, model.head)]
    if type(model) is not Classifier or None in parts:
        return None
    try:
        with torch.device("meta"):
            again = built(parts, model.size)
    except Exception:  # layers of torch may raise almost anything for arguments that are not what they were made with
        return None
    return parts if _outline(again) == _outline(model) else None


def built(parts: list[Any], size: int) -> Classifier:
    """Return the Classifier that :func:`written` described, its weights drawn anew."""
    features, head = (_built(part) for part in parts)
    return Classifier(features, head, size)


def _outline(model: Classifier) -> tuple[str, int, dict[str, torch.Size]]:
    """Return what tells two networks apart; weights that layers share are not shared any more if made anew."""
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    return repr(model), sum(1 for _ in model.parameters()), shapes


def _written(module: nn.Module) -> list[Any] | None:
    """Return a module's class and arguments, or the parts of an nn.Sequential by name; None for any other kind."""
    kind = type(module)
    if kind is nn.Sequential:
        parts = {name: _written(part) for name, part in module._modules.items() if part is not None}  # shared ones, too
        return None if None in parts.values() else ["Sequential", parts]
    if getattr(nn, kind.__name__, None) is not kind or any(True for _ in module.children()):
        return None
    arguments = {}
    for name in inspect.signature(kind).parameters:
        value = getattr(module, name, None)
        if name not in _PLACES and hasattr(module, name):
            arguments[name] = value is not None if name == "bias" else value
    return [kind.__name__, arguments] if all(map(_plain, arguments.values())) else None


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _built(part: Any) -> Any:
    name, arguments = part
    if name == "Sequential":
        return nn.Sequential(OrderedDict((own, _built(inner)) for own, inner in arguments.items()))
    kind = getattr(nn, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"torch.nn has no layer {name!r}")
    return kind(**{own: tuple(value) if isinstance(value, list) else value for own, value in arguments.items()})
