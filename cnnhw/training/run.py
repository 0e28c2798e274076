"""A finished training: its history, its test, and the folder that it is saved as."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from cnnhw import evaluation, files, models, outputs
from cnnhw.data.photoset import PhotoSet
from cnnhw.models.blocks import Classifier
from cnnhw.models.weights import WEIGHTS, save_weights
from cnnhw.system import now, processor, versions
from cnnhw.training import findings, report_page

__all__ = ["Run"]

_LISTED = 1000  # of the files left out, so many are in run.json


@dataclass(eq=False)
class Run:
    """What came out of one training.

    - ``model`` (Classifier): the trained model, with the weights of the best epoch.
    - ``photos`` (PhotoSet): the data it was trained on.
    - ``recipe`` (dict): the recipe's fields.
    - ``seed`` (int): the seed of the run.
    - ``history`` (dict of str to list of float): per epoch: ``loss`` and ``accuracy`` in training, ``validation_loss``,
      ``validation_accuracy``, and ``seconds`` of training alone. Losses are mean cross-entropies in nats, accuracies 0
      to 1.
    - ``best_epoch`` (int): the best epoch by validation, from 1.
    - ``predictions`` (Tensor of shape (N,), int64): the classes predicted for the test photos at the best epoch.
    - ``threads`` (int): threads that torch computed with.
    - ``processes`` (int): processes that trained together.
    - ``device`` (str): kind of device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    - ``precision`` (str): number format of convolutions in training: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    - ``first_losses`` (list of float): the losses of the first 20 steps, in nats.
    - ``test_predictions`` (list of list of int): the test predictions after each epoch, if they were asked for.
    - ``trainable`` (int): number of parameters that were trained.
    - ``seconds_total`` (float): seconds of training with validation and with what was computed beforehand.
    - ``stages`` (list of Run): the stages of a transfer, in order, each as a run of its own; all share the model. Empty
      for a training in one.
    - ``kept`` (int): the number, from 1, of the stage whose weights the model has; 0 for a training in one.
    - ``candidates`` (dict of str to float): where several ways of training were tried, the accuracy of each on the
      validation photos, 0 to 1.

    See Also
    --------
    cnnhw.fit, cnnhw.transfer.adapt : Return one.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw.training import presets
    >>> model = cnnhw.models.create("plain", num_classes=5, size=32)
    >>> run = cnnhw.fit(model, presets.noise(40, 32), cnnhw.Recipe(epochs=1), progress=False)
    >>> run.best_epoch, 0 <= run.accuracy <= 1
    (1, True)
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
    seconds_total: float = 0.0
    stages: list[Run] = field(default_factory=list)
    kept: int = 0
    candidates: dict[str, float] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.photos.classes

    @property
    def seconds(self) -> float:
        """Seconds of training, without validation and test."""
        return sum(self.history["seconds"])

    @property
    def validation_accuracy(self) -> float:
        """Accuracy on the validation photos at the best epoch, 0 to 1."""
        return self.history["validation_accuracy"][self.best_epoch - 1]

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
        """Return the run as plain values; ``run.json`` holds them, and ``threshold``."""
        correct = int(self.confusion.trace())
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": evaluation.wilson_interval(correct, len(self.photos.test)),
            "balanced_accuracy": evaluation.balanced_accuracy(self.confusion),
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "seconds_total": round(self.seconds_total, 3),
            "model": self.model.name,
            "parameters": models.count_parameters(self.model),
            "trainable": self.trainable,
            "data": self.photos.name,
            "data_fingerprint": self.photos.fingerprint,
            "data_note": self.photos.note,
            "licence": self.licence,
            "classes": list(self.classes),
            "size": self.photos.size,
            "left_out": {"photos": len(self.photos.skipped), "reasons": dict(self.photos.skipped[:_LISTED])},
            "photos": {part: len(getattr(self.photos, part)) for part in ("train", "validation", "test")},
            "seed": self.seed,
            "recipe": self.recipe,
            "confusion": self.confusion.tolist(),
            "history": self.history,
            "threads": self.threads,
            "processes": self.processes,
            "device": self.device,
            "precision": self.precision,
            **({"kept_stage": self.kept} if self.stages else {}),
            **({"candidates": self.candidates} if self.candidates else {}),
            "processor": processor(),
            "versions": versions(),
            "date": now(),
        }

    def save(self, path: str | Path) -> Path:
        """Save the run as a folder.

        It holds ``weights.safetensors``, ``run.json``, ``curves.png``, ``confusion.png``, ``model.svg`` and
        ``report.html``, one page that shows the run and opens anywhere. What was trained is saved first, whatever
        breaks later: weights, ``run.json`` and a page of what is known are written before the first is moved to its
        place, and ``run.json`` is moved last of them: where it is, the files beside it are of the same run, whatever
        was interrupted. A run that the folder holds already is replaced; nothing else is.

        Then pictures are drawn, and the network predicts the validation and test photos once more. ``run.json`` gets
        its ``threshold``, and the page what these predictions show: each is replaced as a whole, or stays as it was.
        ``threshold`` says from which top probability on the network is correct on 95 % of the validation photos, and
        what that does on the test photos (``cnnhw.evaluation.selective``).

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

        Warns
        -----
        UserWarning
            If a picture could not be drawn, or the page not be completed.

        Examples
        --------
        >>> import cnnhw
        >>> from cnnhw.data import scenes
        >>> photos = scenes.load(size=16, train=50, test=10, progress=False)
        >>> model = cnnhw.models.create("q1_shallow", num_classes=5, size=16, seed=0)
        >>> run = cnnhw.fit(model, photos, cnnhw.Recipe(epochs=1), seed=0, progress=False)
        >>> folder = run.save("runs/first")
        >>> (folder / "weights.safetensors").exists()
        True
        """
        folder = Path(path)
        outputs.check_saving(folder)
        summary = self.summary()
        texts = {"run.json": files.json_text(summary), "report.html": report_page.page(summary, folder)}

        def own() -> set[str]:
            return outputs.check_saving(folder)

        with files.replacing_all(folder, last="run.json", own=own, drop=outputs.PICTURES) as new:
            save_weights(self.model, new / WEIGHTS, data=self.photos.name, licence=self.licence)
            for name, text in texts.items():
                files.write_text(new / name, text)
        for name in outputs.PICTURES:
            outputs.draw(folder / name, partial(self._draw, name))
        outputs.renew(folder, texts, partial(self._completed, summary, folder))
        return folder

    def _completed(self, summary: dict[str, Any], folder: Path) -> dict[str, str]:
        """Return what a saved run's texts are once its photos have been predicted."""
        found = findings.find(self.model, self.photos)
        summary = summary | {"threshold": found.threshold}
        return {
            "run.json": files.json_text(summary),
            "report.html": report_page.page(summary, folder, found, report_page.embedded(folder / "model.svg")),
        }

    def _draw(self, name: str, path: Path) -> None:
        """Draw one of the pictures of a saved run."""
        from cnnhw import plots  # matplotlib takes half a second to import, and fails where its settings are damaged

        model = self.model.name
        match name:
            case "curves.png":
                plots.save(plots.curves({model: self.history}, best_epoch=self.best_epoch), path)
            case "confusion.png":
                plots.save(plots.confusion({model: self.confusion}, self.classes), path)
            case _:
                files.write_text(path, plots.diagram(self.model))
