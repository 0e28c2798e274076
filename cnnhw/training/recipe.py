"""The recipe: all that decides how a network is trained."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Recipe"]

_OPTIMIZERS = ("adam", "adamw", "muon", "sgd")
_SCHEDULES = ("constant", "cosine", "one_cycle")
_PRECISIONS = ("float32", "bfloat16", "float16", "auto")

_KEPT = ("best", "last")


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the original report's: Adam at a constant rate, no augmentation.

    - ``epochs`` (int): passes over the training photos, 1 or more.
    - ``minutes`` (float): time for training, validation included; 0 sets no limit. With a limit, the schedule and the
      resolutions follow the share of the time that is used, whatever the speed of the machine, and ``epochs`` are the
      most that are trained. Such a run ends in other weights each time.
    - ``batch_size`` (int): photos a step, 1 or more, over all processes; the last batch of an epoch may be smaller.
    - ``optimizer`` ({"adam", "adamw", "muon", "sgd"}): update rule; ``"sgd"`` has Nesterov momentum 0.9; ``"muon"``
      orthogonalises the updates of convolution kernels (Jordan et al. 2024), scaled to the size of AdamW's, and leaves
      all else to AdamW.
    - ``learning_rate`` (float): the rate, or the highest rate of a schedule; above 0.
    - ``weight_decay`` (float): L2 penalty (decoupled for ``"adamw"`` and ``"muon"``), 0 or more.
    - ``epsilon`` (float): Adam's epsilon. The default is Keras's 1e-7; PyTorch's own is 1e-8.
    - ``schedule`` ({"constant", "cosine", "one_cycle"}): the rate over the run: constant; half a cosine down to 0; or
      linear up during the first 30 % of the steps, then half a cosine down to 0.
    - ``warmup`` (float): for ``"constant"`` and ``"cosine"``: the share of the steps, 0 to below 1, in which the rate
      first rises linearly from 0.
    - ``label_smoothing`` (float): share of the target spread evenly over all classes, 0 to 1.
    - ``flip`` (bool): mirror photos left to right at random.
    - ``shift`` (int): greatest random shift in pixels, each way.
    - ``cutout`` (float): cover a random square of each photo, of this share of its side, with grey; 0 to 1.
    - ``mixup`` (float): blend each photo and its target with another of the batch; the share is drawn from
      Beta(`mixup`, `mixup`) (Zhang et al. 2018), for each batch. 0 blends nothing.
    - ``class_weights`` (bool): weigh the loss by the inverse frequency of the classes, for unbalanced data.
    - ``whiten`` (bool): set the first convolution to the whitened principal components of the photos' patches, and
      freeze it: see :func:`cnnhw.training.whiten_`.
    - ``resolutions`` (tuple of float): progressive resizing: the epochs are cut into equal parts, and each part is
      trained on photos resized to this share of their side, above 0 to 1, or to the next side that the network can
      take. Validation and test are always at the full side.
    - ``precision`` ({"float32", "bfloat16", "float16", "auto"}): number format of convolutions in training; ``"auto"``
      is bfloat16 where the processor or GPU computes in it, float16 on older GPUs with tensor cores, else float32. With
      float16 the loss is scaled (Micikevicius et al. 2018). Validation and test are always in float32.
    - ``keep`` ({"best", "last"}): which epoch's weights the model ends with: the best by validation accuracy, or the
      last, whatever it reached.
    - ``raw`` (bool): train on pixels in 0..255 instead of 0..1, as the original report did in one of its faults; the
      model multiplies photos by 255 from then on (its `pixel_scale`).

    See Also
    --------
    cnnhw.fit : Follows it.
    cnnhw.training.presets.plan : The recipe that suits a model.

    Examples
    --------
    >>> Recipe(epochs=5, flip=True).changes()
    {'epochs': 5, 'flip': True}
    >>> [round(Recipe(learning_rate=1.0, schedule="cosine").rate(step, 4), 2) for step in range(4)]
    [0.96, 0.69, 0.31, 0.04]
    """

    epochs: int = 15
    minutes: float = 0.0
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epsilon: float = 1e-7
    schedule: str = "constant"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    flip: bool = False
    shift: int = 0
    cutout: float = 0.0
    mixup: float = 0.0
    class_weights: bool = False
    whiten: bool = False
    resolutions: tuple[float, ...] = ()
    precision: str = "float32"
    keep: str = "best"
    raw: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "resolutions", tuple(self.resolutions))  # JSON gives a list
        checks = {
            "epochs": self.epochs >= 1,
            "minutes": 0 <= self.minutes < math.inf,
            "batch_size": self.batch_size >= 1,
            "optimizer": self.optimizer in _OPTIMIZERS,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "epsilon": 0 < self.epsilon < math.inf,
            "schedule": self.schedule in _SCHEDULES,
            "warmup": 0 <= self.warmup < 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "shift": self.shift >= 0,
            "cutout": 0 <= self.cutout <= 1,
            "mixup": 0 <= self.mixup < math.inf,
            "resolutions": all(0 < share <= 1 for share in self.resolutions),
            "precision": self.precision in _PRECISIONS,
            "keep": self.keep in _KEPT,
        }
        for field, good in checks.items():
            if not good:
                raise ValueError(f"Recipe({field}={getattr(self, field)!r}) is not possible; see help(cnnhw.Recipe)")

    @classmethod
    def fast(cls, epochs: int = 8) -> Recipe:
        """Return the recipe of the smallest time to accuracy on a CPU, for the model ``fast`` at 64 pixels.

        What each of its parts contributes is measured in the chapter on speed.

        Parameters
        ----------
        epochs : int
            Passes over the training photos; 2 are enough for what the report's best network reached.

        Returns
        -------
        Recipe
            Muon on a one-cycle schedule, whitened first layer, rising resolution, flips and shifts.
        """
        return cls(
            epochs=epochs,
            batch_size=64,
            optimizer="muon",
            learning_rate=0.02,
            weight_decay=0.25,
            schedule="one_cycle",
            label_smoothing=0.1,
            flip=True,
            shift=4,
            whiten=True,
            resolutions=(0.5, 0.75, 1.0),
            precision="auto",
        )

    @classmethod
    def best(cls, epochs: int = 40) -> Recipe:
        """Return the recipe of the highest accuracy, for the model ``best``.

        Parameters
        ----------
        epochs : int
            Passes over the training photos: :func:`cnnhw.training.presets.within` finds how many there is time for.

        Returns
        -------
        Recipe
            That of :meth:`fast`, with a square of each photo covered and photos blended in pairs, so that the
            network overfits less in many epochs.
        """
        return dataclasses.replace(cls.fast(epochs), cutout=0.375, mixup=0.3)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0, of so many."""
        return self.rate_at((step + 0.5) / steps)

    def rate_at(self, share: float) -> float:
        """Return the learning rate where this share of the training is done, 0 to 1."""
        warm = 0.3 if self.schedule == "one_cycle" else self.warmup
        if share < warm:
            return self.learning_rate * share / warm
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * (share - warm) / (1 - warm))) / 2

    def side(self, epoch: int, size: int) -> int:
        """Return the side length in pixels that an epoch, counted from 1, is trained at."""
        if not self.resolutions:
            return size
        # rounded up, so that the last epoch is at the full side however few there are
        share = self.resolutions[math.ceil(epoch * len(self.resolutions) / self.epochs) - 1]
        return size if share == 1 else 2 * round(size * share / 2)

    def changes(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults, as plain values: what a record keeps of a recipe."""
        default = dataclasses.asdict(Recipe())
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
            if value != default[name]
        }
