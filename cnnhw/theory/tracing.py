"""A model as a graph of layers with the shapes of their outputs, for diagrams and layer budgets."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from cnnhw.models.blocks import Classifier, device_of, evaluating

__all__ = ["trace"]


def trace(model: Classifier) -> tuple[fx.Graph, dict[str, nn.Module]]:
    """Return a model's graph, with the shape for one photo in ``meta["tensor_meta"]``, and its modules by name."""
    traced = fx.GraphModule(model, _Tracer().trace(model))
    with evaluating(traced), torch.no_grad():  # whose modules are those of the model
        ShapeProp(traced).propagate(torch.zeros(1, 3, model.size, model.size, device=device_of(model)))
    return traced.graph, dict(traced.named_modules())


class _Tracer(fx.Tracer):
    """Takes a module without parts as one step, also one of our own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(True for _ in m.children())
