"""Export of trained networks, checked against the original: as ONNX files, and as pages that classify in a browser."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnnhw import files, web
from cnnhw.data import scenes
from cnnhw.data.augment import to_float
from cnnhw.errors import CnnhwError
from cnnhw.evaluation import browser, interpreter
from cnnhw.models.blocks import Classifier
from cnnhw.models.weights import WEIGHTS

__all__ = ["TOLERANCE", "Check", "read_threshold", "to_html", "to_onnx"]

TOLERANCE = 1e-4
"""Largest difference of logits allowed, relative to the largest logit."""

_CLOSE = 2e-3  # of probabilities, where a page rounds the kernels
_CHECKED = 4  # photos of each kind
_TITLE = 60  # letters
_RUN_LIMIT = 16 * 2**20  # bytes of run.json
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


def to_html(
    model: Classifier, path: str | Path, *, crop: bool = False, threshold: Mapping[str, Any] | None = None
) -> float:
    """Write a network as one page that classifies photos in a browser, and check that it computes the same.

    The page holds the weights, kernels in 16 bits unless that changes a probability by more than 0.002, and all that
    reads, computes and shows. It opens from a folder, and asks no server for anything. The file is written whole or not
    at all; one that is there already is replaced.

    Parameters
    ----------
    model : Classifier
        Any network of the package; its ``classes`` are what the page answers.
    path : str or Path
        The file.
    crop : bool
        The page cuts the middle square out of a photo; otherwise it squashes the photo to a square, as
        :func:`cnnhw.data.read_photo` does.
    threshold : mapping, optional
        Below which probability the page says "not sure": what :func:`read_threshold` returns.

    Returns
    -------
    float
        The greatest difference of a probability from the network's, on generated photos and noise: 0.002 at most.

    Raises
    ------
    ModelError
        If the network computes something that the page cannot.
    CnnhwError
        If what the page computes differs by more; nothing is written then.
    StorageError
        If the file cannot be written.

    See Also
    --------
    to_onnx : For other programs.

    Examples
    --------
    >>> import cnnhw
    >>> to_html(cnnhw.load("fast"), "classifier.html") < 0.002
    True
    """
    still = copy.deepcopy(model).cpu().float().eval()
    found = browser.program(still)
    for kernels in ("whole", "single"):
        described = found.described(kernels)
        if (difference := _differing(still, described)) <= _CLOSE:
            break
    else:
        raise CnnhwError(
            f"the page's {model.name or 'network'} does not compute the same: probabilities differ by "
            f"{difference:.1e}. Nothing was written"
        )
    # names may hold what is no Unicode, which no file in UTF-8 can
    classes = [name.encode(errors="replace").decode() for name in model.classes or _numbered(model)]
    about = {
        "classes": classes,
        "size": model.size,
        "crop": crop,
        "threshold": threshold,
        "licence": vars(model).get("licence", ""),
        "network": model.name,
        "difference": difference,
        "version": importlib.metadata.version("cnnhw"),
    }
    page = web.page(
        _title(classes), web.source("classifier.html"), styles=["classifier.css"],
        scripts=["cnn.js", "photos.js", "classifier.js"], data={"about": about, "program": described},
    )  # fmt: skip
    files.write_text(path, page)
    return difference


def read_threshold(weights: str | Path) -> dict[str, Any] | None:
    """Return the threshold that a run has chosen on its validation photos.

    Parameters
    ----------
    weights : str or Path
        The folder of a saved run, or its ``weights.safetensors``.

    Returns
    -------
    dict or None
        ``probability`` (0 to 1, or None where none is good enough), ``accuracy`` (what it was chosen for), and
        ``validation``, with the numbers of ``photos``, of those ``answered`` and of the ``correct`` answers. None if
        there is no ``run.json`` beside the weights, or no threshold in it.

    Examples
    --------
    >>> read_threshold("fast") is None  # a network that comes with the package
    True
    """
    weights = Path(weights)
    path = (weights.parent if weights.name == WEIGHTS else weights) / "run.json"
    try:
        if path.stat().st_size > _RUN_LIMIT:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))["threshold"]
        kept = {name: found[name] for name in ("probability", "accuracy")}
        kept["validation"] = {name: int(found["validation"][name]) for name in ("photos", "answered", "correct")}
        known = 0 <= kept["accuracy"] <= 1 and (kept["probability"] is None or 0 <= kept["probability"] <= 1)
        return kept if known else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _numbered(model: Classifier) -> list[str]:
    return [f"class {number}" for number in range(model.num_classes)]


def _title(classes: list[str]) -> str:
    """Ask which class it is, by name if there are few."""
    asked = " or ".join(filter(None, (", ".join(classes[:-1]), classes[-1]))) + "?"
    return asked if len(asked) <= _TITLE else f"Which of {len(classes):,} classes?"


def _differing(model: Classifier, described: Mapping[str, Any]) -> float:
    """Return the greatest difference of a probability between a network and what a page holds of it."""
    noise = torch.rand(_CHECKED, 3, model.size, model.size, generator=torch.Generator().manual_seed(0))
    generated = to_float(scenes.draw(_CHECKED, size=model.size).images)
    with torch.inference_mode():
        pairs = [
            (model(photo).softmax(1), interpreter.compute(described, photo).softmax(1))
            for photo in torch.cat([noise, generated]).split(1)
        ]
    return float(np.max([(ours - theirs).abs().max() for ours, theirs in pairs]))  # np.max keeps NaN


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
