"""Looking inside any torch model: maps, filters, and what in a photo it answers to."""

from __future__ import annotations

from cnnhw.features.extract import dead, first_convolution, largest, layers, maps, resolve
from cnnhw.features.filters import filters
from cnnhw.features.receptive_field import receptive_box
from cnnhw.features.saliency import occlusion, saliency
from cnnhw.features.similarity import cka, vectors

__all__ = [
    "cka", "dead", "filters", "first_convolution", "largest", "layers", "maps", "occlusion", "receptive_box", "resolve",
    "saliency", "vectors",
]  # fmt: skip
