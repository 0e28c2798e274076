"""What can be computed without training: layer budgets, receptive fields, paths and pooling."""

from __future__ import annotations

from cnnhw.theory.layers import Layer, layers, warnings
from cnnhw.theory.paths import delete_blocks, gradient_path_length, measured_path_length, path_lengths
from cnnhw.theory.pooling import average_signal, max_signal

__all__ = [
    "Layer", "average_signal", "delete_blocks", "gradient_path_length", "layers", "max_signal", "measured_path_length",
    "path_lengths", "warnings",
]  # fmt: skip
