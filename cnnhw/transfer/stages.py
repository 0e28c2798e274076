"""What each stage of a transfer trains, and usual sequences of stages."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from cnnhw.models.blocks import Classifier
from cnnhw.training.recipe import Recipe

__all__ = ["Stage", "gradual", "in_turn", "parts", "recipe", "two_stages"]


@dataclass(frozen=True)
class Stage:
    """One stage of a transfer.

    - ``train`` (str): what learns: ``"classifier"``, the last linear layer alone; ``"head"``, the whole head;
      ``"all"``, every layer; or the name of a layer of features or head, such as ``"conv3"``: that one and all after
      it.
    - ``recipe`` (Recipe): how.
    - ``until`` (str): of the features, nothing after the layer of this name learns; the head does. By default there is
      no such limit.
    - ``features_rate`` (float): what the learning rate is multiplied by for the features, above 0.
    - ``layer_decay`` (float): what it is further multiplied by for each part of the features that has parameters,
      counted back from the head: once for the last of them, twice for the one before it (discriminative rates, Howard
      and Ruder 2018); above 0.
    - ``norms`` (bool): whether batch norms learn. If not, they go on with the statistics, scales and shifts that they
      have, so that the network computes in training what it computes afterwards, however small the batches are.

    See Also
    --------
    two_stages, gradual : Usual sequences.

    Examples
    --------
    >>> Stage("conv3", Recipe(epochs=2), features_rate=0.1).changes()
    {'train': 'conv3', 'features_rate': 0.1, 'epochs': 2}
    """

    train: str
    recipe: Recipe = field(default_factory=Recipe)
    until: str = ""
    features_rate: float = 1.0
    layer_decay: float = 1.0
    norms: bool = True

    def __post_init__(self) -> None:
        for name in ("features_rate", "layer_decay"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"Stage({name}={getattr(self, name)!r}) is not possible: it has to be above 0")

    def changes(self) -> dict[str, Any]:
        """Return what differs from the defaults, the recipe's fields among the stage's: what a record keeps of it."""
        own = {name: getattr(self, name) for name in ("until", "features_rate", "layer_decay", "norms")}
        default = {"until": "", "features_rate": 1.0, "layer_decay": 1.0, "norms": True}
        different = {name: value for name, value in own.items() if value != default[name]}
        return {"train": self.train, **different, **self.recipe.changes()}

    def rates(self, model: Classifier) -> dict[nn.Parameter, float]:
        """Return what the learning rate of each of the features' parameters is multiplied by; empty if by 1."""
        if self.features_rate == self.layer_decay == 1:
            return {}
        back = parts(model)[::-1]
        return {
            parameter: self.features_rate * self.layer_decay**distance
            for distance, name in enumerate(back, start=1)
            for parameter in model.features.get_submodule(name).parameters()
        }


def parts(model: Classifier) -> list[str]:
    """Return the names of the direct parts of ``model.features`` that have parameters, in order."""
    return [name for name, part in model.features.named_children() if any(True for _ in part.parameters())]


def recipe(epochs: int, **changes: Any) -> Recipe:
    """Return how features that have learnt something are best trained on, as far as the book has measured it.

    Parameters
    ----------
    epochs : int
        Passes over the training photos.
    **changes
        Other fields of :class:`cnnhw.Recipe`.

    Returns
    -------
    Recipe
        AdamW at a rate of 3e-3 that falls to 0, photos mirrored at random.

    See Also
    --------
    two_stages : Uses it.

    Examples
    --------
    >>> recipe(5, flip=False).changes()["optimizer"]
    'adamw'
    """
    common = Recipe(
        epochs=epochs, optimizer="adamw", learning_rate=3e-3, weight_decay=0.05, schedule="cosine", flip=True
    )
    return dataclasses.replace(common, **changes)


def two_stages(
    tuning: Recipe, *, head_epochs: int = 20, head_rate: float = 3e-2, features_rate: float = 1.0
) -> tuple[Stage, Stage]:
    """Return the stages of the usual transfer: the head first, on frozen features; then all layers.

    Parameters
    ----------
    tuning : Recipe
        How the second stage trains: see :func:`recipe`.
    head_epochs : int
        Epochs of the first stage; photos are not changed at random in it, so that features are computed once.
    head_rate : float
        Its highest learning rate.
    features_rate : float
        What the learning rate of the features is multiplied by in the second stage.

    Returns
    -------
    tuple of (Stage, Stage)
        For :func:`transfer`.

    See Also
    --------
    cnnhw.transfer.adapt : Chooses the rates, too.

    Examples
    --------
    >>> [stage.train for stage in two_stages(recipe(5))]
    ['head', 'all']
    """
    head = dataclasses.replace(
        tuning, epochs=head_epochs, learning_rate=head_rate, flip=False, shift=0, cutout=0.0, mixup=0.0, resolutions=()
    )
    return Stage("head", head), Stage("all", tuning, features_rate=features_rate)


def gradual(model: Classifier, recipe: Recipe, steps: int = 3, *, reverse: bool = False) -> tuple[Stage, ...]:
    """Return stages that make the features trainable group by group, the head being trainable throughout.

    Parameters
    ----------
    model : Classifier
        The network whose features are divided.
    recipe : Recipe
        How each stage trains.
    steps : int
        Number of groups, of about as many parts with parameters each; 1 or more.
    reverse : bool
        Begin with the first group instead of the last: the order that the assignment does not ask for.

    Returns
    -------
    tuple of Stage
        One a group; the last trains all.

    Raises
    ------
    ValueError
        If there are fewer parts than `steps`, or `steps` is less than 1.

    See Also
    --------
    two_stages : The usual way.
    in_turn : The same number of steps for each group.

    Examples
    --------
    >>> from cnnhw import models
    >>> [stage.train for stage in gradual(models.create("q1_shallow", size=32), recipe(2))]
    ['conv3', 'conv2', 'all']
    """
    names, cuts = _cut(model, steps)
    if reverse:
        partly = [Stage("all", recipe, until=names[cut - 1]) for cut in cuts[1:-1]]
    else:
        partly = [Stage(names[cut], recipe) for cut in reversed(cuts[1:-1])]
    return (*partly, Stage("all", recipe))


def in_turn(model: Classifier, recipe: Recipe, steps: int = 3, *, order: str = "end") -> tuple[Stage, ...]:
    """Return stages that train the features group by group, each group for as many steps, and alone.

    The head learns throughout. Whatever the order, each layer of the features learns for the recipe's epochs and the
    head for `steps` times as many, so that arms of different orders differ in the order alone. Groups that follow one
    another unfrozen, as in :func:`gradual`, would give the first of them several times the steps of the last.

    Parameters
    ----------
    model : Classifier
        The network whose features are divided.
    recipe : Recipe
        How each stage trains.
    steps : int
        Number of groups, as for :func:`gradual`.
    order : {"end", "start", "together"}
        From the last group to the first; from the first to the last; or all of them in one stage, after stages of the
        head alone.

    Returns
    -------
    tuple of Stage
        For :func:`transfer`.

    Raises
    ------
    ValueError
        If there are fewer parts than `steps`, or `steps` is less than 1, or there is no such order.

    See Also
    --------
    cnnhw.transfer.learning_steps : Counts the steps of each layer.

    Examples
    --------
    >>> from cnnhw import models
    >>> model = models.create("q1_shallow", size=32)
    >>> [(stage.train, stage.until) for stage in in_turn(model, recipe(2))]
    [('conv3', 'conv3'), ('conv2', 'conv2'), ('conv1', 'conv1')]
    >>> [stage.train for stage in in_turn(model, recipe(2), order="together")]
    ['head', 'head', 'all']
    """
    names, cuts = _cut(model, steps)
    if order == "together":
        return (*(steps - 1) * (Stage("head", recipe),), Stage("all", recipe))
    if order not in ("end", "start"):
        raise ValueError(f"order={order!r} is none of 'end', 'start', 'together'")
    groups = tuple(Stage(names[a], recipe, until=names[b - 1]) for a, b in itertools.pairwise(cuts))
    return groups if order == "start" else groups[::-1]


def _cut(model: Classifier, steps: int) -> tuple[list[str], list[int]]:
    """Return the parts of the features, and where groups of about as many begin and end."""
    names = parts(model)
    if not 1 <= steps <= len(names):
        raise ValueError(
            f"steps={steps} is not possible: the features of {model.name} have {len(names)} parts to train"
        )
    return names, [round(len(names) * step / steps) for step in range(steps + 1)]
