"""What the interactive figure shows: photos, and what each convolution of a network makes of them.

The page holds the photos' names, the layers and the filters. The maps of one layer and photo are a small script, loaded
when they are asked for: unlike pictures, scripts can be read by a page that was opened from a folder.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import cnnhw
from cnnhw import files, theory
from cnnhw.data import scenes
from cnnhw.data.decode import decode
from cnnhw.models.blocks import Classifier

NETWORKS = ("q1_shallow", "fast")
SIDE = 32
"""Cells a side that are shown of a map; larger maps are thinned out to it."""

_FIRST = 1_000_000  # the number of the first test scene: no network is trained on it
_ZERO = 127  # the code of the value 0; codes run from 0 to 254


@dataclass(frozen=True)
class Photo:
    """One photo: its name, what is to be seen, and its pixels by the side S: Tensor of shape (3, S, S), uint8."""

    name: str
    alt: str
    pixels: dict[int, Tensor]


@dataclass(frozen=True)
class Shown:
    """One convolution as the page has it; `every`, `first`, `offset` and `step` place the cells that are shown."""

    name: str
    channels: int
    side: int
    cells: int
    every: int
    first: int
    field: int
    offset: float
    step: float
    scale: float
    limit: float
    inputs: int
    kernel: int
    filters: str
    weights: list[float]


def load_networks() -> dict[str, Classifier]:
    """Return the networks that are shown, with the weights that the package brings along."""
    return {name: cnnhw.load(name) for name in NETWORKS}


def photos(sizes: set[int]) -> list[Photo]:
    """Return the photos at each of the sides: a test scene of each class, and both photos of scikit-learn."""
    import sklearn.datasets

    drawn = {size: scenes.draw(len(scenes.CLASSES), size=size, first=_FIRST).images for size in sizes}
    found = [
        Photo(name, f"Generated scene of the class {name}", {size: images[i] for size, images in drawn.items()})
        for i, name in enumerate(scenes.CLASSES)
    ]
    folder = Path(sklearn.datasets.__file__).parent / "images"
    for name, alt in (
        ("china.jpg", "Photo of a Chinese palace with curved roofs under a clear sky"),
        ("flower.jpg", "Photo of an orange flower on a blurred ground"),
    ):
        data = (folder / name).read_bytes()
        pixels = {size: torch.from_numpy(decode(data, size, crop=True).copy()).permute(2, 0, 1) for size in sizes}
        found.append(Photo(name, alt, pixels))
    return found


def quantise(values: Tensor, scale: float) -> NDArray[np.uint8]:
    """Return codes 0..254 for values within ±scale; 127 is the value 0, exactly."""
    return (values.double() * (_ZERO / (scale or 1)) + _ZERO).round().clamp(0, 2 * _ZERO).to(torch.uint8).numpy()


def restore(codes: NDArray[np.uint8], scale: float) -> Tensor:
    """Return the values of codes, as the page computes them."""
    return (torch.from_numpy(codes.astype(np.float32)) - _ZERO) * (scale / _ZERO)


def convolution_outputs(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    """Return what each convolution of the extractor gives, before anything that follows."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: found.update({name: out.clone()}))
        for name, module in model.features.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        model.forward_features(images)
    for hook in hooks:
        hook.remove()
    return found


def fields(model: Classifier) -> dict[str, theory.Layer]:
    """Return field and step of each convolution of the extractor, where no photo's edge clips the field."""
    channels = model.forward_features(torch.zeros(1, 3, model.size, model.size)).shape[1]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1))
    wide = Classifier(model.features, head, 4 * model.size)
    prefix = "features."
    return {layer.name.removeprefix(prefix): layer for layer in theory.layers(wide) if layer.kind == "Conv2d"}


def box(layer: Shown, index: int, size: int) -> tuple[int, int]:
    """Return the first and the last row of pixels that row `index` of a map sees; columns are alike."""
    start = round(layer.offset + layer.step * index)
    return max(start, 0), min(start + layer.field, size) - 1


def _base64(codes: NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(codes).tobytes()).decode()


def _limit(values: Tensor) -> float:
    """Return where colours end: 99.5 % of the cells lie below, so that a few extremes do not make all others pale."""
    flat = values.abs().flatten().sort().values
    return float(flat[math.ceil(0.995 * len(flat)) - 1])


def _shown(name: str, convolution: nn.Conv2d, maps: Tensor, seen: theory.Layer, size: int) -> Shown:
    side = maps.shape[-1]
    every = -(-side // SIDE)
    first = every // 2
    weights = convolution.weight.detach()
    colour = weights.shape[1] == 3
    filters = weights.permute(0, 2, 3, 1) if colour else weights.mean(1)
    largest = filters.abs().flatten(1).amax(1).tolist()
    codes = [quantise(one, scale) for one, scale in zip(filters, largest, strict=True)]
    return Shown(
        name=name,
        channels=maps.shape[1],
        side=side,
        cells=len(range(first, side, every)),
        every=every,
        first=first,
        field=seen.field,
        # padding is the same on all sides, so the fields of all cells lie evenly about the photo's centre
        offset=size / 2 - (side - 1) / 2 * seen.step - seen.field / 2,
        step=seen.step,
        scale=float(maps.abs().max()),
        limit=_limit(maps),
        inputs=weights.shape[1],
        kernel=weights.shape[-1],
        filters=_base64(np.stack(codes)),
        weights=[float(f"{one:.3g}") for one in largest],
    )


def write(folder: Path, networks: Mapping[str, Classifier] | None = None) -> dict[str, Any]:
    """Write photos and maps."""
    networks = load_networks() if networks is None else networks
    pictures = photos({model.size for model in networks.values()})
    written = set()
    for size in {model.size for model in networks.values()}:
        for i, photo in enumerate(pictures):
            path = folder / f"photo-{size}-{i}.png"
            with files.replacing(path) as temporary:
                image = Image.fromarray(photo.pixels[size].permute(1, 2, 0).numpy())
                image.save(temporary, format="png", optimize=True)
            written.add(path)
    described = []
    for name, model in networks.items():
        seen, modules = fields(model.eval()), dict(model.features.named_modules())
        images = torch.stack([photo.pixels[model.size] for photo in pictures]) / 255
        layers = []
        for layer_name, maps in convolution_outputs(model, images).items():
            layer = _shown(layer_name, modules[layer_name], maps, seen[layer_name], model.size)
            thin = maps[:, :, layer.first :: layer.every, layer.first :: layer.every]
            for i, codes in enumerate(quantise(thin, layer.scale)):
                key = f"{name}-{i}-{layer_name}"
                files.write_text(folder / f"{key}.js", f'cnnhwMaps["{key}"]="{_base64(codes)}"\n')
                written.add(folder / f"{key}.js")
            layers.append(asdict(layer))
        described.append({"name": name, "size": model.size, "layers": layers})
    for path in set(folder.iterdir()) - written:
        path.unlink()
    return {"photos": [{"name": p.name, "alt": p.alt} for p in pictures], "networks": described}
