"""The networks: a registry by name, one file an idea.

Every model takes RGB photos, Tensor of shape (N, 3, S, S), float in 0..1, and returns logits, Tensor of shape
(N, num_classes). Every model has ``forward_features``, ``forward_head`` and ``reset_classifier``.
"""

from __future__ import annotations

from cnnhw.models.blocks import Classifier, count_parameters
from cnnhw.models.registry import backbones, builder, create, names

__all__ = ["Classifier", "backbones", "builder", "count_parameters", "create", "names"]
