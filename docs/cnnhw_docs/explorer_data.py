"""What the interactive figure is given: photos, and networks as the engine takes them, trained and untrained.

Nothing that a network computes is precomputed: the page does that. Photos and weights are small scripts, loaded when
they are asked for: unlike pictures and data, scripts can be read by a page that was opened from a folder.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import cnnhw
from cnnhw import files, models
from cnnhw.book import model_cards
from cnnhw.data import scenes
from cnnhw.data.decode import decode
from cnnhw.evaluation.browser import Program, program
from cnnhw.models import weights
from cnnhw.models.blocks import Classifier

SIDE = 128
"""Side of the photos in pixels: the most that a shipped network takes."""

_THUMB = 64
FIRST = 1_000_000  # the number of the first test scene: no network is trained on it
_BETWEEN = {
    "batch_norm": "batch norm", "max_pool": "max pooling", "average_pool": "average pooling",
    "combine": "sum with the shortcut", "concatenate": "", "relu": "ReLU",
}  # fmt: skip
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


@dataclass(frozen=True)
class Shown:
    """A network before and after its training, as ``networks`` finds them; both compute the same steps."""

    name: str
    trained: Classifier
    untrained: Classifier
    described: str


@dataclass(frozen=True)
class Value:
    """What a step gives: its channels and side, and the pixels of cell i along a side, `start + jump * i` onwards."""

    channels: int
    side: int
    start: int = 0
    field: int = 1
    jump: int = 1

    def slid(self, channels: int, kernel: int, stride: int, padding: int) -> Value:
        """Return what a window gives that slides over this value."""
        return Value(
            channels,
            (self.side + 2 * padding - kernel) // stride + 1,
            self.start - padding * self.jump,
            self.field + (kernel - 1) * self.jump,
            self.jump * stride,
        )


def untrained(name: str) -> Classifier:
    """Return a shipped network as it was before the first step of its training.

    The run's seed draws the same weights again. A whitened first layer was set from the training photos, before that
    step, and frozen: it is the trained network's.
    """
    run, trained = model_cards.job(name), cnnhw.load(name)
    model = models.create(run.arm.model, trained.num_classes, seed=run.seed, size=run.size, **run.arm.options)
    if any(stage.recipe.whiten for stage in run.arm.stages):
        first, frozen = (
            next(part for part in one.features.children() if isinstance(part, nn.Conv2d)) for one in (model, trained)
        )
        first.load_state_dict(frozen.state_dict())
    model.classes = trained.classes
    return model.eval()


def networks() -> Iterator[Shown]:
    """Yield all networks that come with the package, the one that the page opens with first."""
    for name in sorted(weights.shipped(), key=lambda name: (weights.SHIPPED / f"{name}.safetensors").stat().st_size):
        yield Shown(name, cnnhw.load(name), untrained(name), model_cards.get(name).description)


@functools.cache
def photos() -> dict[str, tuple[str, NDArray[Any]]]:
    """Return what is seen, and pixels of shape (S, S, 3), by name: scenes of all classes, and scikit-learn's photos."""
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    alts = {
        "flower.jpg": "Photo of an orange flower on a blurred ground",
        "china.jpg": "Photo of a Chinese palace with curved roofs under a clear sky",
    }
    found = {name: (alt, decode((folder / name).read_bytes(), SIDE, crop=True)) for name, alt in alts.items()}
    drawn = scenes.draw(len(scenes.CLASSES), size=SIDE, first=FIRST).images.permute(0, 2, 3, 1).numpy()
    return found | {
        name: (f"Generated scene of the class {name}", image) for name, image in zip(scenes.CLASSES, drawn, strict=True)
    }


def values(found: Program, size: int) -> list[Value | None]:
    """Return what the steps of a program give for photos of a side; None for what is no longer a map."""
    out: list[Value | None] = [Value(3, size)]
    for step in found.steps:
        given = [out[i] for i in step["inputs"]]
        maps = [one for one in given if one]
        if step["op"] in ("reshape", "linear") or len(maps) < len(given):
            out.append(None)
            continue
        first, end = min(maps, key=lambda one: one.start), max(one.start + one.field for one in maps)
        shape = found.weights[step["weights"][0]].shape if step["weights"] else ()
        if step["op"] == "convolution":
            out.append(first.slid(shape[0], shape[-1], step["stride"][0], step["padding"][0]))
        elif step["op"].endswith("_pool"):
            out.append(first.slid(first.channels, step["kernel"][0], step["stride"][0], step["padding"][0]))
        else:
            channels = sum(one.channels for one in maps) if step["op"] == "concatenate" else first.channels
            out.append(Value(channels, first.side, first.start, end - first.start, first.jump))
    return out


def after(found: Program, given: list[Value | None], at: int) -> dict[str, Any] | None:
    """Follow a value to the next ReLU: number of what that gives, its first channel of ours, what comes between."""
    first, between, pool = 0, [], ""
    while True:
        for number, step in enumerate(found.steps, start=1):
            opposite = step["op"] == "combine" and step["kind"] != "add"  # the other half of both signs
            if at in step["inputs"] and step["op"] in _BETWEEN and given[number] and not opposite:
                break
        else:
            return None
        if step["op"] == "concatenate":
            earlier = step["inputs"][: step["inputs"].index(at)]
            first += sum(one.channels for i in earlier if (one := given[i]))
        elif step["op"].endswith("_pool"):
            pool = step["op"]
        at = number
        between += [words] if (words := _BETWEEN[step["op"]]) else []
        if step["op"] == "relu":
            return {"value": at, "first": first, "between": between, "pool": pool, **_place(given[at])}


def _sees_colours(found: Program, at: int) -> bool:
    """Whether a value is the photo, perhaps shifted, scaled or pooled."""
    while at:
        step = found.steps[at - 1]
        if step["op"] not in ("combine", "max_pool", "average_pool"):
            return False
        at = step["inputs"][0]
    return True


def _place(value: Value | None) -> dict[str, int]:
    assert value
    return {"side": value.side, "start": value.start, "field": value.field, "jump": value.jump}


def in_words(names: Iterable[str]) -> list[str]:
    """Return what layers are called, given the names of a network's convolutions, in order."""
    units = [_unit(name) for name in names]
    out = []
    for number, unit in enumerate(units):
        of_it = f"{_ORDINALS[units[:number].count(unit)]} " if units.count(unit) > 1 else ""
        out.append(f"{unit}, {of_it}convolution" if unit else f"{of_it}convolution")
    return [words[0].upper() + words[1:] for words in out]


def _unit(name: str) -> str:
    """Return the part of the network that a convolution is in, in words: what the beginning of its name stands for."""
    for pattern, words in (
        (r"stem", "stem"),
        (r"conv(\d)_", "stage {}"),
        (r"conv\d", ""),
        (r"stage(\d)_block(\d+)\.shortcut", "stage {}, block {}, shortcut"),
        (r"stage(\d)_block(\d+)", "stage {}, block {}"),
        (r"residual(\d)_(\d+)", "stage {}, residual block {}"),
        (r"stage(\d)", "stage {}"),
        (r"dense(\d)_(\d+)", "dense block {}, layer {}"),
        (r"transition(\d*)", "transition {}"),
        (r"module(\d+)", "module {}"),
    ):
        if match := re.match(pattern, name):
            unit = words.format(*match.groups()).strip()
            break
    else:
        unit = name
    if branch := re.search(r"(?:inner\.(\d)\.)?branches\.(\d+)", name):  # both count from 0
        module = {None: "", "0": ", first module"}.get(branch[1], ", second module")
        unit += f"{module}, branch {int(branch[2]) + 1}"
    return unit


def layers(shown: Shown, found: Program) -> list[dict[str, Any]]:
    """Return what the page has to know of each convolution of the features."""
    given = values(found, shown.trained.size)
    own = [
        (number, step)
        for number, step in enumerate(found.steps)
        if step["op"] == "convolution" and step["name"].startswith("features.")
    ]
    names = [step["name"].removeprefix("features.") for _, step in own]
    before, now = shown.untrained.state_dict(), shown.trained.state_dict()
    out = []
    for name, words, (number, step) in zip(names, in_words(names), own, strict=True):
        weight = f"features.{name}.weight"
        value = given[number + 1]
        assert value
        out.append(
            {
                "name": name,
                "words": words,
                "step": number,
                "channels": value.channels,
                "inputs": found.weights[step["weights"][0]].shape[1],
                "colours": _sees_colours(found, step["inputs"][0]),
                "kernel": list(found.weights[step["weights"][0]].shape[2:]),
                "learnt": not torch.equal(before[weight].half(), now[weight].half()),
                "before": {"value": number + 1, "first": 0, "between": [], "pool": "", **_place(value)},
                "after": after(found, given, number + 1),
            }
        )
    return out


def _webp(image: NDArray[Any], side: int, **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR).save(file, "webp", **settings)
    return file.getvalue()


def _script(kind: str, key: str, held: str) -> str:
    return f"(window.cnnhw{kind} ||= {{}})[{json.dumps(key)}] = {held};\n"


def write(folder: Path, shown: Iterable[Shown] | None = None) -> dict[str, Any]:
    """Write photos and networks, each a script, and thumbnails of the photos; return what the page is told of them."""
    written = set()

    def put(name: str, data: bytes) -> None:
        with files.replacing(folder / name) as temporary:
            temporary.write_bytes(data)
        written.add(folder / name)

    pictures = photos()
    for name, (_, image) in pictures.items():
        put(f"{name}.webp", _webp(image, _THUMB, quality=80))
        exact = base64.b64encode(_webp(image, SIDE, lossless=True, exact=True, quality=70)).decode()
        put(f"{name}-photo.js", _script("Photos", name, json.dumps(exact)).encode())
    described = []
    for one in networks() if shown is None else shown:
        for key, model in ((one.name, one.trained), (f"{one.name}-untrained", one.untrained)):
            found = program(model)
            held = {"layers": layers(one, found), "program": found.described()}
            put(
                f"{key}.js", _script("Networks", key, json.dumps(held, allow_nan=False, separators=(",", ":"))).encode()
            )
        described.append(
            {
                "name": one.name,
                "size": one.trained.size,
                "classes": list(one.trained.classes) or [f"class {k}" for k in range(one.trained.num_classes)],
                "described": one.described,
                "bytes": (folder / f"{one.name}.js").stat().st_size,
            }
        )
    for path in set(folder.iterdir()) - written:
        path.unlink()
    return {"photos": [{"name": name, "alt": alt} for name, (alt, _) in pictures.items()], "networks": described}
