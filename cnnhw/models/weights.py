"""Weights: one safetensors file a network, with all that is needed to use it; those that come with the package."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from cnnhw import files, models
from cnnhw.errors import WeightsError, did_you_mean
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head, replace_head
from cnnhw.models.written import built, written

__all__ = ["SHIPPED", "WEIGHTS", "load", "read_header", "save_weights", "shipped"]

WEIGHTS = "weights.safetensors"
SHIPPED = Path(__file__).resolve().parents[1] / "weights"
"""The folder of the networks that come with the package."""
_FORMAT = "cnnhw weights 1"
_HEADER_LIMIT = 2**22  # bytes; a header has about 100 a tensor
_OPTION_LIMIT = 10**6
_SIZE_LIMIT = 1024  # pixels, as of `cnnhw.data.load`
_told: set[Path] = set()  # files whose licence was logged


def save_weights(
    model: Classifier,
    path: str | Path,
    *,
    data: str = "",
    licence: str = "",
    half: bool = False,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a model's weights, as float16 if `half`, and all that is needed to use them, to one safetensors file."""
    layers = None if model.name else written(model)
    if not (model.name or layers):
        logging.getLogger("cnnhw").warning(
            "the weights are saved, but not the code of a network of one's own: to load them, make the same network "
            "and give it as cnnhw.load(PATH, model=...)"
        )
    metadata = dict(extra or {}) | {
        "format": _FORMAT,
        "model": model.name,
        "num_classes": str(model.num_classes),
        "classes": json.dumps(model.classes),
        "size": str(model.size),
        "options": json.dumps(model.options),
        **({"head": json.dumps(model.new_head)} if model.new_head and not layers else {}),
        **({"layers": json.dumps(layers)} if layers else {}),
        "normalisation": "RGB, divided by 255" if model.pixel_scale == 1 else "RGB",
        "pixel_scale": str(model.pixel_scale),
        "data": data,
        "licence": licence,
    }
    tensors = model.state_dict()
    if half:
        # counts of steps, which batch norms keep, are integers and stay so
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        if wrong := [name for name, value in tensors.items() if not value.isfinite().all()]:
            raise WeightsError(f"{wrong[0]} of {model.name} is too large for half precision: save it without")
    files.save_tensors(path, tensors, metadata)


def load(weights: str | Path, *, model: Classifier | None = None) -> Classifier:
    """Load a trained model.

    Nothing in the file is executed: weights are safetensors, never pickles. If the photos that it was trained on are
    for research only, that is logged under the name ``cnnhw``, as one line and once a file.

    Parameters
    ----------
    weights : str or Path
        A ``weights.safetensors`` file, or the folder of a saved run that holds one, or else the name of a network that
        comes with cnnhw: one of :func:`cnnhw.models.weights.shipped`.
    model : Classifier, optional
        A network like the saved one, which gets the weights in place. It is needed for a network of one's own that has
        other layers than those of ``torch.nn`` in ``nn.Sequential``, as no code is saved.

    Returns
    -------
    Classifier
        The model in evaluation mode, with its ``classes``, ``size`` and ``name``; its attribute ``licence`` says what
        the weights may be used for, and is empty where nothing is known.

    Raises
    ------
    WeightsError
        If there is neither such a file nor such a name, or the file was not written by cnnhw, or it is damaged, or it
        holds the weights of another network than `model`, or of one that has to be given.

    See Also
    --------
    cnnhw.models.weights.shipped : The names of the networks that come with the package.
    cnnhw.transfer.source : Takes networks trained on ImageNet, too.

    Examples
    --------
    >>> model = load("fast")
    >>> model.size, model.training
    (64, False)
    """
    path = _find(weights)
    metadata, tensors = _read(path)
    if model is None and not (metadata.get("model") or "layers" in metadata):
        raise WeightsError(
            f"{path} holds the weights of a network of somebody's own, without its code: make the same network, and "
            "give it as cnnhw.load(PATH, model=...)"
        )
    what = "a model that this version knows" if model is None else "the weights of the network given"
    try:
        classes = json.loads(metadata["classes"])
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError("the class names are not a list of strings")
        options = json.loads(metadata.get("options", "{}"))
        if any(isinstance(value, int | float) and not abs(value) <= _OPTION_LIMIT for value in options.values()):
            raise ValueError(f"an option is larger than {_OPTION_LIMIT:,}")
        scale = float(metadata.get("pixel_scale", "1"))
        if not math.isfinite(scale):
            raise ValueError("the scale of the pixels is not a number")
        num_classes, size = int(metadata["num_classes"]), int(metadata["size"])
        if classes and len(classes) != num_classes:
            raise ValueError(f"it names {len(classes)} classes, and its model has {num_classes}")
        if not 1 <= size <= _SIZE_LIMIT:
            raise ValueError(f"it asks for photos of {size} pixels, and at most {_SIZE_LIMIT} are possible")
        if model is None:
            with torch.device("meta"), _no_more_than(len(tensors)):
                model = _built(metadata, num_classes, size, options)
            model.load_state_dict(tensors, assign=True)
            with torch.no_grad():
                model.eval()(torch.zeros(0, 3, size, size))  # no photos take no time, and tell whether the size fits
        else:
            _check_same(model, tensors, num_classes, size)
            model.load_state_dict(tensors)
    except Exception as error:  # options of any kind and size make the models raise almost anything
        raise WeightsError(f"{path} does not hold {what}: {error}") from error
    model.name, model.options, model.classes, model.pixel_scale = metadata["model"], options, tuple(classes), scale
    licence = metadata.get("licence", "")
    vars(model)["licence"] = licence
    if "research" in licence and path.resolve() not in _told:
        _told.add(path.resolve())
        logging.getLogger("cnnhw").warning("%s was trained on %s: %s", weights, metadata.get("data"), licence)
    return model.requires_grad_().eval()


def _built(metadata: Mapping[str, str], num_classes: int, size: int, options: Mapping[str, Any]) -> Classifier:
    """Return the network that a header describes, its weights drawn anew."""
    if "layers" in metadata:
        return built(json.loads(metadata["layers"]), size)
    model = models.builder(metadata["model"])(num_classes, size, **options)
    if "head" in metadata:
        replace_head(model, Head(**json.loads(metadata["head"])), num_classes)
    return model


def _check_same(model: Classifier, tensors: Mapping[str, Tensor], num_classes: int, size: int) -> None:
    """Raise ValueError if a file's weights are not those of a network."""
    ours, theirs = ({name: tuple(value.shape) for name, value in one.items()} for one in (model.state_dict(), tensors))
    ours["photos"], theirs["photos"] = (3, model.size, model.size), (3, size, size)
    for name in [*theirs, *ours]:
        if ours.get(name) != theirs.get(name):
            raise ValueError(f"of {name}, the file has {theirs.get(name)}, and the network given {ours.get(name)}")


def shipped() -> list[str]:
    """Return the names of the networks that come with the package, sorted; the documentation has a card of each."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def read_header(path: Path) -> dict[str, str]:
    """Return what a weights file says of itself, without its tensors."""
    if not _is_file(path):
        raise WeightsError(f"no weights at {path}")
    return _read(path, tensors=False)[0]


def _is_file(path: Path) -> bool:
    """Whether there is such a file; not where a name is too long, or a folder may not be looked into."""
    try:
        return path.is_file()
    except OSError:
        return False


@contextlib.contextmanager
def _no_more_than(tensors: int) -> Iterator[None]:
    """Stop building a model that has more parameters than its file has tensors: options may ask for any depth."""
    left, thread = tensors + 8, threading.get_ident()  # a replaced head comes after its first one

    def count(*_: Any) -> None:
        nonlocal left
        if threading.get_ident() == thread:
            left -= 1
            if left < 0:
                raise ValueError(f"its options ask for more than the {tensors} tensors that it holds")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _find(weights: str | Path) -> Path:
    """Return the file that is meant: what lies in the file system comes before what is shipped."""
    path, known = Path(weights), str(weights) in shipped()
    if known and not path.exists():
        path = SHIPPED / f"{weights}.safetensors"
    elif _is_file(path / WEIGHTS):
        path = path / WEIGHTS
    if not _is_file(path):
        guess = "" if known else did_you_mean(str(weights), shipped())
        if known and Path(weights).exists():
            guess = " What lies under that name here comes before the shipped network."
        raise WeightsError(
            f"no weights at {path}: give a {WEIGHTS} file, the folder of a saved run, or the name of a shipped "
            f"network.{guess} Shipped: {', '.join(shipped())}"
        )
    return path


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return a weights file's header and, if wanted, its tensors, floating-point ones as float32."""
    try:
        metadata, read = files.load_tensors(path, tensors=tensors, header_limit=_HEADER_LIMIT)
        found = {name: value.float() if value.is_floating_point() else value for name, value in read.items()}
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a safetensors file, or is damaged ({error}). Pickled weights (.pt, .pth) are not read, "
            "as opening them can run code"
        ) from error
    if metadata.get("format") != _FORMAT:
        raise WeightsError(f"{path} was not written by cnnhw (its header lacks the format {_FORMAT!r})")
    return metadata, found
