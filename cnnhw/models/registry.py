"""The networks by name, and how they are initialised."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable

import torch

from cnnhw.errors import ModelError, UnknownNameError
from cnnhw.models import dense, ensemble, fast, first_layer, imagenet, inception, original, plain, residual, resnet
from cnnhw.models.blocks import Classifier, glorot_, seeded

__all__ = ["backbones", "builder", "create", "names"]

_BUILDERS: dict[str, Callable[..., Classifier]] = {
    "fast": fast.fast,
    "best": fast.best,
    "ensemble": ensemble.ensemble,
    "plain": plain.plain,
    "residual": residual.residual,
    "resnet": resnet.resnet,
    "dense": dense.dense,
    "inception": inception.inception,
    "fast_inception": inception.fast_inception,
    "first_layer": first_layer.first_layer,
    "q1_shallow": original.q1_shallow,
    "q1_deep": original.q1_deep,
    "q1_deep_residual": resnet.q1_deep_residual,
    "q2_concat_skip": original.q2_concat_skip,
    "q4_inception": original.q4_inception,
}

# networks of others, which no study of the book trains from scratch
_BACKBONES: dict[str, Callable[..., Classifier]] = {
    "efficientnet_lite0": imagenet.efficientnet_lite0,
    "efficientnet_lite2": imagenet.efficientnet_lite2,
    "mobilenet_v3_small": imagenet.mobilenet_v3_small,
    "resnet18": imagenet.resnet18,
}

# twice the variance, so that signals keep their size through many ReLUs (He et al. 2015)
_DEEP = ("residual", "resnet")


def names() -> list[str]:
    """Return the names of all the book's own models, sorted.

    Returns
    -------
    list of str
        For :func:`create`.

    See Also
    --------
    backbones : Networks of others.

    Examples
    --------
    >>> "q1_shallow" in names()
    True
    """
    return sorted(_BUILDERS)


def backbones() -> list[str]:
    """Return the names of the networks that :func:`cnnhw.models.pretrained.load` has weights for, sorted."""
    return sorted(_BACKBONES)


def builder(name: str) -> Callable[..., Classifier]:
    """Return the function that builds a registered model; of an unknown one, UnknownNameError suggests the nearest."""
    known = _BUILDERS | _BACKBONES
    if name not in known:
        raise UnknownNameError("model", name, known)
    return known[name]


def least_size(name: str, **options: bool | int | float | str) -> int:
    """Return the smallest side length in pixels that a registered model can be built for; 0 if there is none."""
    build = builder(name)
    for size in range(1, 129):
        with torch.device("meta"), contextlib.suppress(ModelError):
            build(num_classes=1, size=size, **options)
            return size
    return 0


def create(
    name: str, num_classes: int = 5, seed: int = 0, size: int = 128, **options: bool | int | float | str
) -> Classifier:
    """Build a registered model with freshly initialised weights.

    Parameters
    ----------
    name : str
        One of :func:`names` or :func:`backbones`.
    num_classes : int
        Number of logits, 1 or more.
    seed : int
        Decides the initial weights; torch's global generator is left as it was.
    size : int
        The photos' side length S in pixels.
    **options
        What the function that builds the model takes beside these: see :func:`builder`.

    Returns
    -------
    Classifier
        The model, in training mode.

    Raises
    ------
    UnknownNameError
        If there is no such model.
    ModelError
        If the model cannot be built for that `size` or `num_classes`, or has no such option.

    See Also
    --------
    cnnhw.load : A trained model.
    names : What there is.

    Examples
    --------
    >>> import torch
    >>> model = create("resnet", num_classes=5, seed=0, size=32, depth=8)
    >>> model(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    build = builder(name)
    known = {one.name: one.default for one in list(inspect.signature(build).parameters.values())[2:]}
    if unknown := set(options) - set(known):
        raise ModelError(f"{name} has no option {', '.join(sorted(unknown))}; it has {', '.join(known) or 'none'}")
    for option, value in options.items():
        kind = type(known[option])
        if type(value) not in (kind, int if kind is float else kind):
            raise ModelError(f"{name}: {option}={value!r} is not possible, it has to be of type {kind.__name__}")
    if num_classes < 1:
        raise ModelError(f"num_classes must be 1 or more, got {num_classes}")
    with seeded(seed):
        try:
            model = build(num_classes=num_classes, size=size, **options)
        except ModelError as error:
            least = least_size(name, **options)
            reason = f"it takes photos of at least {least} pixels, not {size}" if size < least else error
            raise ModelError(f"{name}: {reason}") from error
        glorot_(model)
    if name in _DEEP:
        with torch.no_grad():
            for part in model.modules():
                if isinstance(part, torch.nn.Conv2d):
                    part.weight.mul_(2**0.5)
    model.name, model.options = name, options
    return model
