"""Looking inside any torch model: maps, filters, and the parts of a photo that its output depends on."""

from __future__ import annotations

from cnnhw.features.extract import dead, first_convolution, layers, maps, resolve, top_activations
from cnnhw.features.filters import filters
from cnnhw.features.receptive_field import receptive_box
from cnnhw.features.saliency import occlusion, saliency
from cnnhw.features.similarity import cka, embeddings

__all__ = [
    "cka", "dead", "embeddings", "filters", "first_convolution", "layers", "maps", "occlusion", "receptive_box",
    "resolve", "saliency", "top_activations",
]  # fmt: skip
