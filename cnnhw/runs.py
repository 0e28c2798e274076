"""A finished run: its figures, the folder it is saved in, and models loaded back from such folders."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import html
import importlib.metadata
import json
import logging
import math
import platform
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from cnnhw import evaluation, files, models, outputs
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import WeightsError
from cnnhw.models.blocks import Classifier
from cnnhw.models.heads import Head, replace_head

__all__ = ["WEIGHTS", "Run", "load", "processor", "read_header", "save_weights", "versions"]

WEIGHTS = "weights.safetensors"
_FORMAT = "cnnhw weights 1"
_HEADER_LIMIT = 2**22  # bytes; a header has about 100 a tensor
_OPTION_LIMIT = 10**6
_SIZE_LIMIT = 1024  # pixels, as of `cnnhw.data.load`
_told: set[Path] = set()  # files whose licence was logged


@dataclass(eq=False)
class Run:
    """What came out of one training.

    Attributes
    ----------
    model : Classifier
        The trained model, with the weights of the best epoch.
    photos : PhotoSet
        The data it was trained on.
    recipe : dict
        The recipe's fields.
    seed : int
        The seed of the run.
    history : dict of str to list of float
        Per epoch: ``loss`` and ``accuracy`` in training, ``validation_loss``, ``validation_accuracy``, and ``seconds``
        of training alone. Losses are mean cross-entropies in nats, accuracies 0 to 1.
    best_epoch : int
        The best epoch by validation, from 1.
    predictions : Tensor of shape (N,), int64
        The classes predicted for the test photos at the best epoch.
    threads : int
        Threads that torch computed with.
    processes : int
        Processes that trained together.
    device : str
        Kind of device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    precision : str
        Number format of convolutions in training: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    first_losses : list of float
        The losses of the first 20 steps, in nats.
    test_predictions : list of list of int
        The test predictions after each epoch, if they were asked for.
    trainable : int
        Number of parameters that were trained.
    """

    model: Classifier
    photos: PhotoSet
    recipe: dict[str, Any]
    seed: int
    history: dict[str, list[float]]
    best_epoch: int
    predictions: Tensor
    threads: int
    processes: int = 1
    device: str = "cpu"
    precision: str = "float32"
    first_losses: list[float] = field(default_factory=list)
    test_predictions: list[list[int]] = field(default_factory=list)
    trainable: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.photos.classes

    @property
    def seconds(self) -> float:
        """Seconds of training, without validation and test."""
        return sum(self.history["seconds"])

    @property
    def licence(self) -> str:
        """What the weights may be used for: the photos' licence, and that of the weights that training began with."""
        return "; ".join(dict.fromkeys(filter(None, (self.photos.licence, vars(self.model).get("licence", "")))))

    @cached_property
    def accuracy(self) -> float:
        """Test accuracy at the best epoch by validation, 0 to 1."""
        return evaluation.accuracy(self.predictions, self.photos.test.labels)

    @cached_property
    def confusion(self) -> Tensor:
        """Test confusion matrix: Tensor of shape (K, K), int64; rows are the true classes."""
        return evaluation.confusion_matrix(self.predictions, self.photos.test.labels, len(self.classes))

    def summary(self) -> dict[str, Any]:
        """Return the run as plain values, as ``run.json`` holds it.

        Returns
        -------
        dict
            ``accuracy``, ``seconds``, ``model``, ``data``, ``seed`` and more.
        """
        right = int(self.confusion.trace())
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": evaluation.wilson_interval(right, len(self.photos.test)),
            "balanced_accuracy": evaluation.balanced_accuracy(self.confusion),
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "model": self.model.name,
            "parameters": models.count_parameters(self.model),
            "trainable": self.trainable,
            "data": self.photos.name,
            "data_fingerprint": self.photos.fingerprint,
            "data_note": self.photos.note,
            "licence": self.licence,
            "classes": list(self.classes),
            "size": self.photos.size,
            "photos": {part: len(getattr(self.photos, part)) for part in ("train", "validation", "test")},
            "seed": self.seed,
            "recipe": self.recipe,
            "confusion": self.confusion.tolist(),
            "history": self.history,
            "threads": self.threads,
            "processes": self.processes,
            "device": self.device,
            "precision": self.precision,
            "processor": processor(),
            "versions": versions(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def save(self, path: str | Path) -> Path:
        """Save the run as a folder.

        It holds ``weights.safetensors``, ``run.json``, ``curves.png``, ``confusion.png``, ``model.svg`` and
        ``report.html``, which shows them on one page. All are written before the first is moved to its place, and
        ``run.json`` is moved last: where it is, the files beside it are of the same run, whatever was interrupted.
        A run that the folder holds already is replaced; nothing else is.

        Parameters
        ----------
        path : str or Path
            The folder; made if it does not exist.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        StorageError
            If the disk is full or the folder cannot be written to; what was there before is left as it was.
        OccupiedError
            If the folder holds anything but a run and its checkpoints: choose a folder of its own.
        """
        from cnnhw import plots  # matplotlib takes half a second to import

        folder = Path(path)
        outputs.check_saving(folder)
        summary = self.summary()
        with files.replacing_all(folder, last="run.json", own=lambda: outputs.check_saving(folder)) as new:
            save_weights(self.model, new / WEIGHTS, data=self.photos.name, licence=self.licence)
            plots.save(plots.curves({self.model.name: self.history}, best_epoch=self.best_epoch), new / "curves.png")
            plots.save(plots.confusion({self.model.name: self.confusion}, self.classes), new / "confusion.png")
            files.write_text(new / "model.svg", plots.diagram(self.model))
            files.write_text(new / "report.html", _page(summary))
            files.write_json(new / "run.json", summary)
        return folder


def save_weights(
    model: Classifier,
    path: str | Path,
    *,
    data: str = "",
    licence: str = "",
    half: bool = False,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a model's weights, and all that is needed to use them, to one safetensors file.

    Parameters
    ----------
    model : Classifier
        A model made by :func:`cnnhw.models.create`.
    path : str or Path
        The file.
    data, licence : str
        What the model was trained on, and what such weights may be used for.
    half : bool
        Write float16 instead of float32: half the size, with three digits. :func:`cnnhw.load` gives float32 again.
    extra : mapping of str to str, optional
        More for the file's header.

    Raises
    ------
    WeightsError
        If a weight is too large for half precision.
    StorageError
        If the disk is full or the folder cannot be written to.
    """
    metadata = dict(extra or {}) | {
        "format": _FORMAT,
        "model": model.name,
        "num_classes": str(model.num_classes),
        "classes": json.dumps(model.classes),
        "size": str(model.size),
        "options": json.dumps(model.options),
        **({"head": json.dumps(model.new_head)} if model.new_head else {}),
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


def load(weights: str | Path) -> Classifier:
    """Load a trained model.

    Nothing in the file is executed: weights are safetensors, never pickles. If the photos that it was trained on are
    for research only, that is logged under the name ``cnnhw``, as one line and once a file.

    Parameters
    ----------
    weights : str or Path
        A ``weights.safetensors`` file, or the folder of a saved run that holds one, or else the name of a network that
        comes with cnnhw: one of :func:`cnnhw.shipped.names`.

    Returns
    -------
    Classifier
        The model in evaluation mode, with its ``classes``, ``size`` and ``name``; its attribute ``licence`` says what
        the weights may be used for, and is empty where nothing is known.

    Raises
    ------
    WeightsError
        If there is neither such a file nor such a name, or the file was not written by cnnhw, or it is damaged.
    """
    path = _find(weights)
    metadata, tensors = _read(path)
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
        with torch.device("meta"), _no_more_than(len(tensors)):
            build = models.builder(metadata["model"])
            model = build(num_classes, size, **options)
            if "head" in metadata:
                replace_head(model, Head(**json.loads(metadata["head"])), num_classes)
        model.load_state_dict(tensors, assign=True)
        with torch.no_grad():
            model.eval()(torch.zeros(0, 3, size, size))  # no photos take no time, and tell whether the size fits
    except Exception as error:  # options of any kind and size make the models raise almost anything
        raise WeightsError(f"{path} does not hold a model that this version knows: {error}") from error
    model.name, model.options, model.classes, model.pixel_scale = metadata["model"], options, tuple(classes), scale
    licence = metadata.get("licence", "")
    vars(model)["licence"] = licence
    if "research" in licence and path.resolve() not in _told:
        _told.add(path.resolve())
        logging.getLogger("cnnhw").warning("%s was trained on %s: %s", weights, metadata.get("data"), licence)
    return model.requires_grad_().eval()


def read_header(path: Path) -> dict[str, str]:
    """Return what a weights file says of itself, without its tensors.

    Parameters
    ----------
    path : Path
        A file that :func:`cnnhw.runs.save_weights` wrote.

    Returns
    -------
    dict of str to str
        Model, classes, size, data, licence and more.

    Raises
    ------
    WeightsError
        If the file is not there, or was not written by cnnhw, or is damaged.
    """
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
    from cnnhw import shipped  # it knows of studies, which need this module

    path, known = Path(weights), str(weights) in shipped.NETWORKS
    if known and not path.exists():
        path = shipped.path(str(weights))
    elif _is_file(path / WEIGHTS):
        path = path / WEIGHTS
    if not _is_file(path):
        near = [] if known else difflib.get_close_matches(str(weights), shipped.names(), n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        if known and Path(weights).exists():
            guess = " What lies under that name here comes before the shipped network."
        raise WeightsError(
            f"no weights at {path}: give a {WEIGHTS} file, the folder of a saved run, or the name of a shipped "
            f"network.{guess} Shipped: {', '.join(shipped.names())}"
        )
    return path


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return a weights file's header and, if wanted, its tensors as float32."""
    try:
        metadata, read = files.load_tensors(path, tensors=tensors, header_limit=_HEADER_LIMIT)
        found = {name: value.float() for name, value in read.items()}
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a safetensors file, or is damaged ({error}). Pickled weights (.pt, .pth) are not read, "
            "as opening them can run code"
        ) from error
    if metadata.get("format") != _FORMAT:
        raise WeightsError(f"{path} was not written by cnnhw (its header lacks the format {_FORMAT!r})")
    return metadata, found


def processor() -> str:
    """Return the processor's name, as far as the operating system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions that a result can depend on."""
    packages = ("cnnhw", "torch", "numpy", "pillow")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def _stage(stage: Mapping[str, Any]) -> str:
    what = {"classifier": "the last layer", "head": "the head", "all": "all layers"}
    trained = what.get(stage["train"], f"{stage['train']} and what follows")
    return f"{trained} for {stage['epochs']} epochs"


def _page(summary: dict[str, Any]) -> str:
    """Return the report of one run as an HTML page that stands beside its pictures."""
    low, high = summary["accuracy_interval"]
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    facts = {
        "Test accuracy": f"{summary['accuracy']:.3f} (95 % interval for the choice of photos {low:.3f} to {high:.3f})",
        "Balanced accuracy": f"{summary['balanced_accuracy']:.3f}",
        "Best epoch, by validation": f"{summary['best_epoch']} of {summary['recipe']['epochs']}",
        "Stages": "; ".join(_stage(stage) for stage in summary["recipe"].get("stages", [])),
        "Training time": f"{minutes} min {seconds} s with {summary['threads']} threads",
        "Parameters": f"{summary['parameters']:,}",
        "Photos": ", ".join(f"{count:,} {part}" for part, count in summary["photos"].items()),
        "Data": summary["data_note"],
        "Licence of photos and weights": summary["licence"],
        "Processor": summary["processor"],
        "Date": summary["date"],
    }
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items() if v)
    title = html.escape(f"{summary['model']} on {summary['data']}")
    pictures = {
        "curves.png": "Loss and accuracy by epoch, in training and validation",
        "confusion.png": "Test confusion matrix: true classes in rows, predicted classes in columns",
        "model.svg": "The layers of the model with the shapes of their outputs and their parameters",
    }
    figures = "".join(f'<figure><img src="{name}" alt="{alt}"></figure>' for name, alt in pictures.items())
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "th{text-align:left;padding-right:1rem;vertical-align:top;font-weight:600}figure{margin:2rem 0}"
        "img{max-width:100%;background:#fff}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{style}</style><h1>{title}</h1><table>{rows}</table>{figures}</html>\n"
    )
