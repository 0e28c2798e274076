"""Models with the recipe and the size that suit them, by name, and plans that keep to a budget of time."""

from __future__ import annotations

import copy
import dataclasses
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cnnhw import models, system, training
from cnnhw.data.photoset import PhotoSet, Split
from cnnhw.models.blocks import Classifier, device_of
from cnnhw.training.recipe import Recipe

__all__ = ["SIZES", "Plan", "affordable", "faster", "fitting", "names", "noise", "plan", "rates", "within"]

_RECIPES = {"fast": Recipe.fast, "best": Recipe.best}
SIZES = (64, 96, 128)  # that `within` chooses from
_MANY = 60  # epochs: more gain nothing
_EACH, _BEST = 10, 12  # epochs of each member of an ensemble, `fast` and `best`: with fewer, take lower resolution
_USUAL, _MOST = 8, 16  # members: usual, and beyond which they gain little
_PLENTY = 3  # times as many could be trained: then larger ones are
_SHORTEST = 5.0  # seconds of a member: each takes some time to begin
_LEAST = 5  # epochs: fewer are better trained by all processors together
_RESERVE = 0.9  # of the budget, as validation takes time, too


@dataclass(frozen=True)
class Plan:
    """What is to be trained, on photos of how many pixels a side, and how; with `members` above 1, an ensemble."""

    model: str
    size: int
    recipe: Recipe
    members: int = 1


def names() -> list[str]:
    """Return the names of the models that have a recipe of their own, sorted."""
    return sorted(_RECIPES)


def plan(
    name: str, *, size: int | None = None, epochs: int | None = None, minutes: float = 0.0, native: int | None = None
) -> Plan:
    """Return how a model is trained if nothing else is said: by its preset at 64 pixels, or 5 epochs at 128.

    Photos whose own side is `native` are not enlarged. With `minutes` there are as many epochs as fit in, up to 60.
    An ensemble has eight members, trained as `fast` is.
    """
    members = 1
    if name == "ensemble":
        name, members = "fast", _USUAL
    preset = _RECIPES.get(name)
    usual = preset().epochs if preset else 5
    recipe = (preset or Recipe)(epochs or (_MANY if minutes else usual))
    side = 64 if preset else 128
    return Plan(name, size or fitting(side, native or side), dataclasses.replace(recipe, minutes=minutes), members)


def within(
    minutes: float, count: int, *, native: int = 128, size: int | None = None, device: torch.device | None = None
) -> Plan:
    """Plan for the highest accuracy within a budget of time, from a measurement of this machine.

    On a CPU the plan is an ensemble of `fast` networks, trained side by side in a process for each processor. The
    largest resolution is taken that leaves each process time for ten epochs and does not enlarge the photos; in
    what time there is beyond that, more of them are trained, up to 16, or else fewer of the larger kind, `best`. With
    less time than for five epochs each, one network is trained with all processors, and on a GPU always one: `best`.
    The schedule follows the clock, so that training ends in time whatever the machine does meanwhile. The number
    format is the one in which this machine is faster.

    Parameters
    ----------
    minutes : float
        How long training may take, validation and this measurement (a second or two) included; above 0.
    count : int
        Number of training photos.
    native : int
        Side length of the photos before they are scaled, in pixels: see :func:`cnnhw.data.survey`.
    size : int, optional
        Train at this side length, instead of choosing one.
    device : torch.device, optional
        Where training will be; the CPU by default.

    Returns
    -------
    Plan
        Model, size, number of members and recipe, whose ``minutes`` are what is left.

    Raises
    ------
    ValueError
        If `minutes` or `count` is not above 0.

    See Also
    --------
    plan : Without a budget.
    cnnhw.training.ensembles.fit_ensemble : Follows a plan of several members.
    cnnhw.training.speed : The measurement.

    Examples
    --------
    >>> plan = within(minutes=0.2, count=1000, size=32)
    >>> plan.size, plan.recipe.minutes < 0.2
    (32, True)
    """
    if not minutes > 0 or count < 1:
        raise ValueError(f"a plan needs time and photos, not {minutes} minutes and {count} photos")
    begun = time.perf_counter()
    alone = device is not None and device.type != "cpu"
    processes = 1 if alone else os.cpu_count() or 1
    sides = (size,) if size else tuple(s for s in SIZES if s <= native) or (fitting(SIZES[0], native),)

    def choose(name: str, each: float) -> tuple[Plan, float]:
        """Return the plan for members of a kind, and how many epochs each process has time for."""
        recipe, model = _RECIPES[name](), models.create(name, size=sides[0]).to(device)
        with system.threads(torch.get_num_threads() if alone else 1):
            number_format, speed = faster(model, sides[0], recipe, min(0.5, minutes / 4))  # about a hundredth
        area = statistics.fmean((recipe.side(epoch, 64) / 64) ** 2 for epoch in range(1, recipe.epochs + 1))
        epochs = {s: affordable([speed / area * (sides[0] / s) ** 2], count, minutes) for s in sides}
        side = max((s for s in sides if epochs[s] >= each), default=sides[0])
        members = processes * max(round(min(epochs[side] / each, 60 * minutes / _SHORTEST)), 1)
        recipe = dataclasses.replace(_RECIPES[name](_MANY), precision=number_format)
        return Plan(name, side, recipe, members), epochs[side]

    most = max(_MOST, processes)
    found, epochs = choose("best" if alone else "fast", _EACH)
    if not alone and found.members > _PLENTY * most:
        found, epochs = choose("best", _BEST)
    members = 1 if alone or epochs < _LEAST else min(found.members, most)
    left = max(minutes - (time.perf_counter() - begun) / 60, minutes / 2)
    return dataclasses.replace(found, members=members, recipe=dataclasses.replace(found.recipe, minutes=left))


def fitting(side: int, native: int) -> int:
    """Return a side length in pixels, or, so that photos are not enlarged, their own if that is less, down to 16."""
    return min(side, max(native // 2 * 2, 16))


def faster(model: Classifier, side: int, recipe: Recipe, seconds: float = 0.5) -> tuple[str, float]:
    """Return the number format in which a model trains faster here, and how many photos a second it takes at `side`.

    On a CPU both are timed, for at least so many `seconds` each: what a processor says of itself does not tell. The
    model, which stays as it is, is trained on noise for that, as the recipe does in its last epoch.
    """
    formats = ("float32", "bfloat16") if device_of(model).type == "cpu" else ("auto",)
    photos = noise(4 * recipe.batch_size, side, model.num_classes)
    found = {}
    for number_format in formats:
        changed = dataclasses.replace(recipe, whiten=False, minutes=0.0, precision=number_format)
        found[number_format] = training.speed(copy.deepcopy(model), photos, changed, seconds=seconds)
    best = max(found, key=found.__getitem__)
    return best, found[best]


def noise(count: int, side: int, num_classes: int = 5) -> PhotoSet:
    """Return photos of so many classes that are noise, `count` to train on, for measurements of speed alone."""
    store = torch.randint(0, 256, (count + 20, 3, side, side), dtype=torch.uint8)
    rows = torch.arange(count + 20)

    def part(index: torch.Tensor) -> Split:
        names = tuple(map(str, index.tolist()))
        return Split(store, index, index % num_classes, names, names)

    return PhotoSet(
        "noise", tuple(map(str, range(num_classes))), side, part(rows[20:]), part(rows[:10]), part(rows[10:20])
    )


def rates(name: str, side: int, seconds: float, device: torch.device | None = None) -> list[float]:
    """Measure the photos a second of a preset's training, evenly over its epochs, for so many `seconds` in all.

    The resolution rises to `side`, in pixels, so that the last rate is that of whole photos.
    """
    recipe = dataclasses.replace(_RECIPES[name](), whiten=False)
    photos = noise(4 * recipe.batch_size, side)
    parts = range(1, recipe.epochs + 1, recipe.epochs // len(recipe.resolutions))
    return [
        training.speed(
            models.create(name, size=side).to(device), photos, recipe, seconds=seconds / len(parts), epoch=at
        )
        for at in parts
    ]


def affordable(rates: Sequence[float], count: int, minutes: float) -> float:
    """Return how many epochs of `count` photos, validation included, there is time for at these :func:`rates`."""
    return 60 * minutes * _RESERVE * statistics.harmonic_mean(rates) / count
