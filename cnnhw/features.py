"""Looking into any torch model: the maps of its layers, its filters, and what in a photo it answers to.

The model is put into evaluation mode and back; its parameters' gradients are left as they were.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cnnhw.data.augment import to_float
from cnnhw.data.photoset import Split
from cnnhw.errors import CnnhwError, DataError, UnknownNameError
from cnnhw.models.blocks import Classifier, device_of

__all__ = [
    "cka",
    "dead",
    "filters",
    "first_convolution",
    "largest",
    "layers",
    "maps",
    "occlusion",
    "receptive_box",
    "resolve",
    "saliency",
    "vectors",
]

_BATCH = 100
_GREY = 0.45  # about the mean of photographs


def cka(first: Tensor, second: Tensor) -> float:
    """Return how alike two representations of the same photos are, up to rotation and scale.

    Parameters
    ----------
    first : Tensor of shape (N, D)
        What one network says of N photos.
    second : Tensor of shape (N, E)
        What another says of them.

    Returns
    -------
    float
        Linear centred kernel alignment (Kornblith et al. 2019, eq. 4), 0 to 1; 1 for representations that differ by a
        rotation and a factor alone. It is biased upwards where N is not much larger than D and E.

    Raises
    ------
    DataError
        If they are of other numbers of photos, or one of them is the same for all photos.
    """
    if len(first) != len(second):
        raise DataError(f"representations of {len(first)} and of {len(second)} photos cannot be compared")
    x, y = (values.detach().double() - values.detach().double().mean(0) for values in (first, second))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    if scale == 0:
        raise DataError("a representation that is the same for all photos cannot be compared")
    return float((y.T @ x).square().sum() / scale)


def vectors(model: Classifier, split: Split) -> Tensor:
    """Return what the extractor says of photos: the mean of each channel of its last map.

    Parameters
    ----------
    model : Classifier
        The network.
    split : Split
        N photos, best of the side that the network was trained with.

    Returns
    -------
    Tensor of shape (N, C), float32
        A vector a photo, on the CPU.

    Raises
    ------
    DataError
        If there are no photos, or they are too small for the network.
    """
    if not len(split):
        raise DataError("there are no photos to compute vectors of: give a split that holds some")
    device, side = device_of(model), split.store.shape[-1]
    found = []
    with _evaluation(model), torch.no_grad():
        for rows in torch.arange(len(split)).split(_BATCH):
            photos = to_float(split.batch(rows)).to(device, memory_format=torch.channels_last)
            try:
                found.append(model.forward_features(photos).mean((2, 3)).cpu())
            except RuntimeError as error:
                if side >= model.size:
                    raise
                name = model.name or "the network"
                raise DataError(
                    f"photos of {side} pixels are too small for {name}: load them with size={model.size}"
                ) from error
    return torch.cat(found)


def first_convolution(model: nn.Module) -> str:
    """Return the name of the layer that sees the photo.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Returns
    -------
    str
        The first module with a ``weight`` of shape (C, 3, k, k); one that is called ``conv1`` goes before others.

    Raises
    ------
    CnnhwError
        If there is none.
    """
    found = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 4 and weight.shape[1] == 3:
            found.append(name)
    if not found:
        raise CnnhwError(
            f"{type(model).__name__} has no layer with a weight of shape (C, 3, k, k); name the layer to look at"
        )
    return next((name for name in found if name.rpartition(".")[2] == "conv1"), found[0])


def resolve(model: nn.Module, layer: str | None = None) -> str:
    """Return the full name of a layer.

    Parameters
    ----------
    model : nn.Module
        Any model.
    layer : str, optional
        Name of a module, as ``model.named_modules()`` has it, or its last part if no other name ends like it. Not
        given, the first convolution is meant.

    Returns
    -------
    str
        The name, for ``model.get_submodule``.

    Raises
    ------
    UnknownNameError
        If there is no such layer; the message suggests the nearest name.
    CnnhwError
        If the name could mean more than one layer, or no layer is given and there is no such convolution.
    """
    if layer is None:
        return first_convolution(model)
    modules = [name for name, _ in model.named_modules() if name]
    if layer in modules:
        return layer
    ends = [name for name in modules if name.endswith(f".{layer}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise CnnhwError(f"layer {layer!r} is one of {', '.join(ends)}: give its full name")
    if "." in layer:
        raise UnknownNameError("layer", layer, modules)
    short = {name: name.rpartition(".")[2] for name in modules}
    often = Counter(short.values())  # names as short as the one given, so that the nearest is found
    raise UnknownNameError("layer", layer, [end if often[end] == 1 else name for name, end in short.items()])


def layers(model: nn.Module, size: int | None = None) -> list[str]:
    """Return the names of the layers that have maps.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    size : int, optional
        Side length S of the photos in pixels; ``model.size`` if not given, or 224 if the model has no size.

    Returns
    -------
    list of str
        The modules without parts whose output has shape (N, C, H, W), in the order of their first calls.
    """
    return _with_maps(model, _blank(model, 1, size))


def maps(model: nn.Module, images: Tensor, layer: str | None = None) -> Tensor:
    """Return what a layer makes of photos.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    images : Tensor of shape (N, 3, S, S), uint8 or float
        Photos in 0..255, or in 0..1.
    layer : str, optional
        As for :func:`resolve`.

    Returns
    -------
    Tensor of shape (N, C, H, W)
        The layer's output, that of its last call if it is called more than once; on the model's device.

    Raises
    ------
    UnknownNameError
        If there is no such layer, or its output is not a map.
    """
    name = resolve(model, layer)
    module = model.get_submodule(name)
    found: list[Tensor] = []
    seen: dict[str, Tensor] = {}

    def keep(_: nn.Module, __: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.dim() == 4:
            seen["map"] = out.clone()  # a later layer may work in place

    with _evaluation(model), _hook(module, keep), torch.no_grad():
        for part in images.split(_BATCH):
            model(_input(model, part))
            if "map" not in seen:
                raise UnknownNameError("layer with maps", name, _with_maps(model, part[:1]))
            found.append(seen.pop("map"))
    return torch.cat(found)


def dead(maps: Tensor) -> Tensor:
    """Say which channels tell nothing.

    Parameters
    ----------
    maps : Tensor of shape (N, C, H, W)
        The maps of some photos.

    Returns
    -------
    Tensor of shape (C,), bool
        Whether the channel has the same value at all positions of all photos.
    """
    flat = maps.transpose(0, 1).flatten(1)
    return flat.amax(1) == flat.amin(1)


def filters(model: nn.Module, layer: str | None = None) -> Tensor:
    """Return the filters of a convolution.

    Parameters
    ----------
    model : nn.Module
        Any model.
    layer : str, optional
        As for :func:`resolve`.

    Returns
    -------
    Tensor of shape (K, C, k, k)
        A copy of the weights, on the CPU.

    Raises
    ------
    UnknownNameError
        If there is no such layer, or it is no convolution.
    """
    name = resolve(model, layer)
    module = model.get_submodule(name)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 4:
        known = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
        raise UnknownNameError("convolution", name, known)
    return weight.detach().cpu().clone()


def largest(
    model: nn.Module, photos: Split | Tensor, layer: str, channel: int, count: int = 9
) -> list[tuple[int, int, int, float]]:
    """Return where in a data set a channel is largest.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    photos : Split or Tensor of shape (N, 3, S, S)
        The photos, which are looked at in batches.
    layer : str
        As for :func:`resolve`.
    channel : int
        Which channel, from 0.
    count : int
        How many places.

    Returns
    -------
    list of (int, int, int, float)
        Number of the photo, row and column in the map, and value; the largest first. Each photo counts once, with its
        largest value: otherwise one photo and its neighbouring positions might fill the list.

    Raises
    ------
    UnknownNameError
        As for :func:`maps`.
    DataError
        If there is no such channel.
    """
    found: list[tuple[int, int, int, float]] = []
    for rows in torch.arange(len(photos)).split(_BATCH):
        seen = maps(model, photos.batch(rows) if isinstance(photos, Split) else photos[rows], layer)
        if not 0 <= channel < seen.shape[1]:
            raise DataError(f"layer {layer!r} has channels 0 to {seen.shape[1] - 1}, not {channel}")
        values, places = seen[:, channel].flatten(1).max(1)
        width = seen.shape[-1]
        found += [
            (row, place // width, place % width, value)
            for row, place, value in zip(rows.tolist(), places.tolist(), values.tolist(), strict=True)
        ]
        found = sorted(found, key=lambda place: -place[3])[:count]
    return found


def receptive_box(
    model: nn.Module, layer: str | None, row: int, column: int, size: int | None = None
) -> tuple[int, int, int, int]:
    """Return the part of the photo that a unit sees.

    Pixels are made "not a number", which all arithmetic passes on, whatever the weights are: the box ends where more
    of such pixels, from that side, would reach the unit. This is exact for any model made of convolutions, poolings,
    norms and activations, and needs no gradient. Whole rows and columns are tried by bisection.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    layer : str, optional
        As for :func:`resolve`.
    row, column : int
        The unit's position in the map, from 0.
    size : int, optional
        As for :func:`layers`.

    Returns
    -------
    tuple of int
        Top, left, bottom and right in pixels, so that the unit sees ``photo[:, top:bottom, left:right]``; clipped to
        the photo.

    Raises
    ------
    UnknownNameError
        As for :func:`maps`.
    DataError
        If the map has no such position, or it does not depend on the photo.
    """
    photos = _blank(model, 4, size)
    side = photos.shape[-1]
    height, width = maps(model, photos[:1], layer).shape[-2:]
    if not (0 <= row < height and 0 <= column < width):
        raise DataError(f"the map has {height} x {width} positions; there is no ({row}, {column})")

    def reached(covered: list[int]) -> list[bool]:
        """Say whether the unit sees the first so many rows, columns, last rows, last columns."""
        tried = photos.clone()
        top, left, bottom, right = covered
        tried[0, :, :top] = tried[1, :, :, :left] = torch.nan
        tried[2, :, side - bottom :] = tried[3, :, :, side - right :] = torch.nan
        with torch.backends.nnpack.flags(enabled=False):  # its tiles would pass "not a number" on to neighbours
            return maps(model, tried, layer)[:, :, row, column].isnan().any(1).tolist()

    few, many = [0] * 4, [side] * 4  # the unit is not reached by `few`, and is by `many`
    if not all(reached(many)):
        raise DataError(f"layer {layer!r} does not depend on the photo at ({row}, {column})")
    while any(b - a > 1 for a, b in zip(few, many, strict=True)):
        middle = [(a + b) // 2 if b - a > 1 else b for a, b in zip(few, many, strict=True)]
        for i, hit in enumerate(reached(middle)):
            if hit:
                many[i] = middle[i]
            else:
                few[i] = middle[i]
    top, left, bottom, right = many
    return top - 1, left - 1, side - bottom + 1, side - right + 1


def saliency(model: nn.Module, image: Tensor, label: int | None = None) -> Tensor:
    """Return how strongly each pixel moves a class's logit, by its gradient (Simonyan et al. 2014).

    Parameters
    ----------
    model : nn.Module
        Any classifier that takes a batch of photos in 0..1.
    image : Tensor of shape (3, H, W), uint8 or float
        One photo.
    label : int, optional
        The class; the predicted one if not given.

    Returns
    -------
    Tensor of shape (H, W), float32
        The largest absolute value over the three colours of the gradient of the logit, with pixels in 0..1.

    Raises
    ------
    DataError
        If there is no such class.
    """
    with _evaluation(model), torch.enable_grad():
        pixels = _input(model, image[None]).detach().clone().requires_grad_()
        logits = model(pixels)
        (gradient,) = torch.autograd.grad(logits[0, _label(logits, label)], pixels)
    return gradient[0].abs().amax(0).cpu()


def occlusion(model: nn.Module, image: Tensor, label: int | None = None, window: int = 8, step: int = 4) -> Tensor:
    """Return how much each part of a photo matters to a class, by covering it (Zeiler and Fergus 2014).

    Parameters
    ----------
    model : nn.Module
        Any classifier that takes a batch of photos in 0..1.
    image : Tensor of shape (3, H, W), uint8 or float
        One photo.
    label : int, optional
        The class; the predicted one if not given.
    window : int
        Side of the grey square that covers, in pixels.
    step : int
        Pixels from one square to the next, 1 to `window`; the last ones end at the photo's edge.

    Returns
    -------
    Tensor of shape (H, W), float32
        By how much the class's probability drops, the mean over the squares that cover the pixel: -1 to 1.

    Raises
    ------
    DataError
        If there is no such class, or the squares do not fit.
    """
    height, width = image.shape[-2:]
    if not 1 <= step <= window <= min(height, width):
        raise DataError(
            f"window={window}, step={step} for a photo of {width} x {height}: give 1 <= step <= window <= side"
        )
    tops, lefts = (sorted({*range(0, side - window + 1, step), side - window}) for side in (height, width))
    corners = [(top, left) for top in tops for left in lefts]
    drops, covers = torch.zeros(height, width), torch.zeros(height, width)
    with _evaluation(model), torch.no_grad():
        pixels = _input(model, image[None])
        logits = model(pixels)
        label = _label(logits, label)
        whole = logits.softmax(1)[0, label]
        for start in range(0, len(corners), _BATCH):
            part = corners[start : start + _BATCH]
            covered = pixels.repeat(len(part), 1, 1, 1)
            for one, (top, left) in zip(covered, part, strict=True):
                one[:, top : top + window, left : left + window] = _GREY
            lost = (whole - model(covered).softmax(1)[:, label]).tolist()
            for drop, (top, left) in zip(lost, part, strict=True):
                drops[top : top + window, left : left + window] += drop
                covers[top : top + window, left : left + window] += 1
    return drops / covers


def _label(logits: Tensor, label: int | None) -> int:
    if label is None:
        return int(logits[0].argmax())
    if not 0 <= label < logits.shape[1]:
        raise DataError(f"the model has classes 0 to {logits.shape[1] - 1}, not {label}")
    return label


def _blank(model: nn.Module, count: int, size: int | None) -> Tensor:
    own = getattr(model, "size", None)
    side = size or (own if isinstance(own, int) else 224)
    return torch.zeros(count, 3, side, side)


def _with_maps(model: nn.Module, images: Tensor) -> list[str]:
    names: dict[str, None] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.dim() == 4:
                names[name] = None

        return hook

    with _evaluation(model), contextlib.ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            if name and not any(True for _ in module.children()):
                hooks.enter_context(_hook(module, note(name)))
        model(_input(model, images))
    return list(names)


def _input(model: nn.Module, images: Tensor) -> Tensor:
    parameter = next(model.parameters(), None)
    return to_float(images) if parameter is None else to_float(images).to(parameter.device)


@contextlib.contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:  # one by one, as some may have been frozen
            module.training = training


@contextlib.contextmanager
def _hook(module: nn.Module, hook: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
