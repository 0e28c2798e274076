"""Metrics, calibration and robustness of networks, audits of photos, and export."""

from __future__ import annotations

from cnnhw.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    check_fits,
    confusion_matrix,
    loss,
    predict,
    wilson_interval,
)

__all__ = ["accuracy", "balanced_accuracy", "check_fits", "confusion_matrix", "loss", "predict", "wilson_interval"]
