"""Export of trained networks to ONNX files, checked against the original network."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnnhw import files
from cnnhw.errors import CnnhwError
from cnnhw.models.blocks import Classifier

__all__ = ["TOLERANCE", "Check", "to_onnx"]

TOLERANCE = 1e-4
"""Largest difference of logits allowed, relative to the largest logit."""

_OPSET = 18  # runtimes know it since 2023
_BATCHES = (1, 3)


@dataclass(frozen=True)
class Check:
    """Comparison of an exported network with the original, on random photos."""

    difference: float  # the greatest, of logits
    largest: float  # the greatest absolute logit
    runtime: str  # "onnxruntime", or "onnx" for its reference evaluator


def to_onnx(model: Classifier, path: str | Path) -> Check:
    """Write a network to an ONNX file, and check that it computes the same.

    The input ``photos`` is of shape (N, 3, S, S), float32 RGB in 0..1, for any N; the output ``logits`` of shape
    (N, num_classes). All scaling of the photos is part of the graph. The file's metadata are ``model``, ``classes`` (a
    JSON list), ``size`` (pixels), ``normalisation``, ``licence`` and ``cnnhw`` (the version). The file is written whole
    or not at all; one that is there already is replaced.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise CnnhwError(
            f"exporting needs the packages onnx and onnxscript ({error}): install them with pip install 'cnnhw[onnx]'"
        ) from error

    still = copy.deepcopy(model).cpu().float().eval()
    sample = torch.zeros(2, 3, model.size, model.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's own insides
        try:
            program = torch.onnx.export(
                still, (sample,), dynamo=True, verbose=False, opset_version=_OPSET,
                input_names=["photos"], output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("N")},),
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).strip().splitlines()[0]
            raise CnnhwError(f"{model.name or 'the network'} cannot be exported to ONNX: {reason}") from error
    assert program is not None
    written = program.model_proto
    _forget_origin(written)
    onnx.helper.set_model_props(
        written,
        {
            "model": model.name,
            "classes": json.dumps(model.classes),
            "size": str(model.size),
            "normalisation": "RGB, divided by 255",
            "licence": vars(model).get("licence", ""),
            "cnnhw": importlib.metadata.version("cnnhw"),
        },
    )
    content = written.SerializeToString()
    check = _check(still, content)
    if not check.difference <= TOLERANCE * check.largest:  # also where one of them is NaN
        raise CnnhwError(
            f"the exported {model.name or 'network'} does not compute the same in {check.runtime}: logits differ by "
            f"{check.difference:.1e}, the greatest is {check.largest:.3g}. Nothing was written"
        )
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)
    return check


def _forget_origin(written: Any) -> None:
    """Remove the exporter's metadata: names of Python files and lines beside each node."""
    graph = written.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _check(model: Classifier, content: bytes) -> Check:
    runtime, compute = _runtime(content)
    generator = torch.Generator().manual_seed(0)
    differences, logits = [], []
    for count in _BATCHES:
        photos = torch.rand(count, 3, model.size, model.size, generator=generator)
        with torch.inference_mode():
            expected = model(photos).numpy()
        differences.append(np.abs(compute(photos.numpy()) - expected).max())
        logits.append(np.abs(expected).max())
    return Check(float(np.max(differences)), float(np.max(logits)), runtime)  # np.max keeps NaN


def _runtime(content: bytes) -> tuple[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    """Return the name of what computes the file's network, and the function that does."""
    import onnx.reference

    try:
        import onnxruntime
    except ImportError:
        evaluator: Any = onnx.reference.ReferenceEvaluator(onnx.load_from_string(content))
        return "onnx", lambda photos: evaluator.run(["logits"], {"photos": photos})[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return "onnxruntime", lambda photos: session.run(["logits"], {"photos": photos})[0]
