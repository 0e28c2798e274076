"""Feature maps and top activations of any torch model.

The model runs in evaluation mode, and gets its own mode back; the gradients of its parameters stay as they were. Photos
are brought to its device and number format. A layer that two names stand for is found by either.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cnnhw.data.augment import to_float
from cnnhw.data.photoset import Split
from cnnhw.errors import CnnhwError, DataError, UnknownNameError
from cnnhw.models.blocks import evaluating, placed, single

__all__ = ["dead", "first_convolution", "layers", "maps", "resolve", "top_activations"]

_BATCH = 100
_GREY = 0.45  # about the mean of photographs


def first_convolution(model: nn.Module) -> str:
    """Return the name of the first convolution; CnnhwError if there is none."""
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
    """Return the full name of a layer; of an unknown one, UnknownNameError suggests the nearest."""
    if layer is None:
        return first_convolution(model)
    found = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    modules = list(found)
    if layer in modules:
        return layer
    ends = [name for name in modules if name.endswith(f".{layer}")]
    if len({found[name] for name in ends}) == 1:
        return ends[0]
    if ends:
        raise CnnhwError(f"layer {layer!r} is one of {', '.join(ends)}: give its full name")
    if "." in layer:
        raise UnknownNameError("layer", layer, modules)
    short = {name: name.rpartition(".")[2] for name in modules}
    often = Counter(short.values())  # names as short as the one given, so that the nearest is found
    raise UnknownNameError("layer", layer, [end if often[end] == 1 else name for name, end in short.items()])


def layers(model: nn.Module, size: int | None = None) -> list[str]:
    """Return the names of the layers whose outputs are feature maps.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    size : int, optional
        Side length S of the photos in pixels; ``model.size`` if not given, or 224 if the model has no size.

    Returns
    -------
    list of str
        The modules without submodules whose output is a map of each photo, as :func:`maps` returns it, in the order
        of their first calls.

    Examples
    --------
    >>> import cnnhw
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> cnnhw.features.layers(model)[:3]
    ['features.conv1', 'features.pool1', 'features.relu1']
    """
    return _with_maps(model, _blank(model, 1, size))


def maps(model: nn.Module, images: Tensor, layer: str | None = None) -> Tensor:
    """Return the feature maps of a layer.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    images : Tensor of shape (N, 3, H, W) or (3, H, W), uint8 or float
        Photos in 0..255, or in 0..1; or a single one.
    layer : str, optional
        Its full name, or the end of it if no other layer's ends so; by default the first convolution.

    Returns
    -------
    Tensor of shape (N, C, h, w)
        The layer's output, that of its last call if it is called more than once; on the model's device. If its channels
        come last, as in Swin and ConvNeXt, they are moved: they do after a linear layer or a layer norm, and where only
        then height and width relate as the photos' do. Half precision becomes float32.

    Raises
    ------
    UnknownNameError
        If there is no such layer, or its output is not a map of each photo.
    DataError
        If `images` are no photos.

    Examples
    --------
    >>> import cnnhw, torch
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> cnnhw.features.maps(model, torch.rand(2, 3, 32, 32), layer="conv2").shape
    torch.Size([2, 32, 16, 16])
    """
    name = resolve(model, layer)
    module = model.get_submodule(name)
    found: list[Tensor] = []
    seen: dict[str, Tensor] = {}

    images = _photos(images)

    def keep(_: nn.Module, __: Any, out: Any) -> None:
        if (channels_first := _map(module, out, part)) is not None:
            seen["map"] = single(channels_first.clone())  # a later layer may change it in place

    with evaluating(model), _hook(module, keep), torch.no_grad():
        for part in images.split(_BATCH):
            model(_input(model, part))
            if "map" not in seen:
                raise UnknownNameError("layer with maps", name, _with_maps(model, part[:1]))
            found.append(seen.pop("map"))
    return torch.cat(found)


def dead(maps: Tensor) -> Tensor:
    """Return which channels are dead: constant over all positions and photos.

    Parameters
    ----------
    maps : Tensor of shape (N, C, H, W)
        The maps of some photos.

    Returns
    -------
    Tensor of shape (C,), bool
        Whether the channel is dead.

    Examples
    --------
    >>> import cnnhw, torch
    >>> maps = torch.rand(4, 3, 8, 8)
    >>> maps[:, 1] = 0
    >>> cnnhw.features.dead(maps)
    tensor([False,  True, False])
    """
    flat = maps.transpose(0, 1).flatten(1)
    return flat.amax(1) == flat.amin(1)


def top_activations(
    model: nn.Module, photos: Split | Tensor, layer: str, channel: int, count: int = 9
) -> list[tuple[int, int, int, float]]:
    """Return the top activations of a channel: the photos and positions where it is largest.

    Parameters
    ----------
    model : nn.Module
        Any model that takes a batch of photos in 0..1.
    photos : Split or Tensor
        The photos, which are processed in batches; a tensor is as for :func:`maps`.
    layer : str
        As for :func:`maps`.
    channel : int
        Which channel, from 0.
    count : int
        How many photos to return.

    Returns
    -------
    list of (int, int, int, float)
        Number of the photo, row and column in the map, and value; the largest first. Each photo counts once, with its
        largest value.

    Raises
    ------
    UnknownNameError
        As for :func:`maps`.
    DataError
        If there is no such channel.

    Examples
    --------
    >>> import cnnhw, torch
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> photos = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> found = cnnhw.features.top_activations(model, photos, "conv1", channel=3, count=2)
    >>> len(found), found[0][3] >= found[1][3]
    (2, True)
    """
    found: list[tuple[int, int, int, float]] = []
    photos = photos if isinstance(photos, Split) else _photos(photos)
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


def _photos(images: Any) -> Tensor:
    """Return photos as a batch, a single one as a batch of one."""
    shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
    if not isinstance(images, Tensor) or images.dim() not in (3, 4) or not images.numel():
        raise DataError(f"photos are a tensor of shape (N, 3, H, W), or (3, H, W) for one, not {shape}")
    if images.shape[-1] == 3 != images.shape[-3]:
        raise DataError(f"the colours of photos of shape {shape} come last: move them, as with images.movedim(-1, -3)")
    return images if images.dim() == 4 else images[None]


def _photo(image: Any) -> Tensor:
    """Return one photo as a batch."""
    images = _photos(image)
    if len(images) != 1:
        raise DataError(f"one photo is a tensor of shape (3, H, W), not {tuple(images.shape)}: take one of the batch")
    return images


def _map(module: nn.Module, out: Any, images: Tensor) -> Tensor | None:
    """Return a module's output as maps (N, C, H, W) of N photos, or None if it is none."""
    if not isinstance(out, Tensor) or out.dim() != 4 or len(out) != len(images) or not out.numel():
        return None

    def off(high: int, wide: int) -> float:
        return abs(math.log(high * images.shape[-1] / (wide * images.shape[-2])))

    last = type(module) in (nn.Linear, nn.LayerNorm) or (
        not isinstance(module, nn.Conv2d) and off(*out.shape[1:3]) < off(*out.shape[2:])
    )
    return out.movedim(-1, 1) if last else out


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
        def hook(module: nn.Module, _: Any, out: Any) -> None:
            if _map(module, out, images) is not None:
                names[name] = None

        return hook

    with evaluating(model), contextlib.ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            if name and not any(True for _ in module.children()):
                hooks.enter_context(_hook(module, note(name)))
        model(_input(model, images))
    return list(names)


def _input(model: nn.Module, images: Tensor) -> Tensor:
    return placed(to_float(images), model)


@contextlib.contextmanager
def _hook(module: nn.Module, hook: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
