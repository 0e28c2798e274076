"""Generated scenes, the default data set: textured objects on textured clutter; no files, no network.

The five classes differ in shape and texture and not in colour. Every random choice is a hash of the seed, the
scene's number and the factor's name, so a scene depends on nothing else, and a factor can be changed alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from cnnhw.data import cache, splits
from cnnhw.data.photoset import PhotoSet, parted
from cnnhw.errors import DataError

__all__ = ["CLASSES", "EASY", "HARD", "MIDDLE", "NORMAL", "WIDE", "Controls", "Drawing", "draw", "level", "load"]

CLASSES = ("berry", "bird", "dog", "flower", "other")
"""What is drawn; `other` are wheels, crates and mugs."""

VERSION = 1
"""Raised when the drawing changes: it is part of every digest and of the name in the cache."""

_CHUNK = 60
_TEST = 1_000_000  # the number of the first test scene
_GRIDS = (4, 8, 16, 32, 64)
_LATTICE = sum(grid * grid for grid in _GRIDS)
# Moss, fern, olive, ochre, sand, cream, brick, rust, rose, plum, lavender, sky, slate, teal, bark, charcoal.
_HEX = "3e5c2e 709646 807a3e cc9838 ceb88e ece2c8 ac4234 ba6232 d68492 6e3e70 9c8ec6 7cacd4 5c6c80 348082 684c36 423e42"
_PALETTE = torch.tensor([list(bytes.fromhex(one)) for one in _HEX.split()], dtype=torch.float32) / 255
_LIMITS = {"position": 0.5, "rotation": 180, "clutter": 2, "occlusion": 0.4, "colour": 1, "noise": 128, "light": 1}


@dataclass(frozen=True)
class Controls:
    """How the scenes vary; one factor can be changed and all other random choices stay as they are.

    - ``scale`` ((float, float)): smallest and largest diameter of the object, as a share of the picture's side: 0.05 to
      2.
    - ``position`` (float): largest offset of the object from the centre along either axis, as a share of the side: 0 to
      0.5.
    - ``rotation`` (float): largest rotation to either side, in degrees: 0 to 180.
    - ``clutter`` (float): how much lies around the object: 0 is a smooth ground, 1 the usual, 2 the most.
    - ``occlusion`` (float): roughly the share of the object that leaves in front of it hide: 0 to 0.4.
    - ``colour`` (float): how colourful the scenes are: 0 is greyscale, 1 the usual.
    - ``noise`` (float): standard deviation of the noise in every pixel, in grey levels: 0 to 128.
    - ``light`` (float): how much direction, strength, brightness, contrast and tint of the light vary: 0 to 1.

    Raises
    ------
    DataError
        If a value is outside its range.
    """

    scale: tuple[float, float] = (0.42, 0.85)
    position: float = 0.16
    rotation: float = 40.0
    clutter: float = 1.0
    occlusion: float = 0.1
    colour: float = 1.0
    noise: float = 8.0
    light: float = 1.0

    def __post_init__(self) -> None:
        try:
            low, high = map(float, self.scale)
            values = {name: float(getattr(self, name)) for name in _LIMITS}
        except (TypeError, ValueError) as error:
            raise DataError(f"{self}: scale must be two numbers and all else a number") from error
        if not 0.05 <= low <= high <= 2:
            raise DataError(f"scale is {self.scale}; give 0.05 <= smallest <= largest <= 2")
        for name, limit in _LIMITS.items():
            if not 0 <= values[name] <= limit:
                raise DataError(f"{name} is {values[name]:g}; give a number from 0 to {limit}")
        # Equal settings must give equal cache keys: 1 and 1.0 do not look the same in JSON.
        for name, value in {**values, "scale": (low, high)}.items():
            object.__setattr__(self, name, value)


EASY = Controls((0.7, 0.85), 0.05, 10.0, clutter=0.4, occlusion=0.0, noise=2.0, light=0.3)
"""Large upright objects in the middle, little clutter, steady light."""
MIDDLE = Controls((0.45, 0.6), 0.05, 10.0, clutter=0.4, occlusion=0.0, noise=2.0, light=0.3)
"""The same with objects of middle size only: to be trained on, and tested with others."""
NORMAL = Controls()
"""The scenes of the default data set."""
HARD = Controls((0.3, 0.9), 0.2, 180.0, clutter=1.5, occlusion=0.12, noise=14.0)
"""Objects of any size, turned any way, in dense clutter and noise."""
WIDE = tuple(
    replace(MIDDLE, scale=scale) for scale in ((0.2, 0.3), (0.3, 0.42), MIDDLE.scale, (0.7, 0.85), (0.95, 1.2))
)
"""Five ranges of size in one set, of which `MIDDLE` is the third; all else is as there."""


def level(difficulty: float) -> Controls:
    """Return scenes of any difficulty between `EASY` and `HARD`, all factors changing in proportion.

    Parameters
    ----------
    difficulty : float
        0 for `EASY`, 1 for `HARD`.

    Returns
    -------
    Controls
        For :func:`draw` and :func:`load`; :func:`cnnhw.data.load` knows them as ``"scenes_level_35"``, in hundredths.

    Raises
    ------
    DataError
        If `difficulty` is not between 0 and 1.

    Examples
    --------
    >>> from cnnhw.data import scenes
    >>> scenes.level(0.5).rotation, scenes.level(1) == scenes.HARD
    (95.0, True)
    """
    if not 0 <= difficulty <= 1:
        raise DataError(f"a difficulty is from 0 to 1, not {difficulty}")

    def between(easy: float, hard: float) -> float:
        return round(easy + (hard - easy) * difficulty, 6)  # rounded, as it is part of digests

    low, high = map(between, EASY.scale, HARD.scale)
    names = [field.name for field in fields(Controls) if field.name != "scale"]
    return Controls((low, high), **{name: between(getattr(EASY, name), getattr(HARD, name)) for name in names})


@dataclass(frozen=True, eq=False)
class Drawing:
    """Scenes as drawn.

    - ``images`` (Tensor of shape (N, 3, S, S), uint8): the pictures in RGB.
    - ``labels`` (Tensor of shape (N,), int64): the class of each, an index into `CLASSES`.
    - ``masks`` (Tensor of shape (N, S, S), bool): the pixels in which the object is seen.
    - ``scales`` (Tensor of shape (N,), float32): the objects' diameters, as a share of the picture's side.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    scales: Tensor


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64-bit numbers (the finaliser of splitmix64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class _Dice:
    """Random numbers that depend on the seed, a scene's number, a factor's name and nothing else."""

    def __init__(self, seed: int, index: NDArray[Any]) -> None:
        self.seed = seed
        self.index = index.astype(np.uint64)

    def only(self, rows: Tensor) -> _Dice:
        """Return the same dice for some of the scenes."""
        return _Dice(self.seed, self.index[rows.numpy()])

    def words(self, factor: str, count: int) -> NDArray[np.uint16]:
        """Return 16-bit numbers: (B, count) uint16."""
        step = np.uint64(0x9E3779B97F4A7C15)
        key = int.from_bytes(hashlib.sha256(f"{self.seed} {factor}".encode()).digest()[:8], "little")
        photo = _mix(np.uint64(key) + self.index * step)
        steps = np.arange(1, -(-count // 4) + 1, dtype=np.uint64) * step
        return _mix(photo[:, None] + steps).view(np.uint16)[:, :count]

    def __call__(self, factor: str, count: int) -> Tensor:
        """Return numbers between 0 and 1: (B, count) float32."""
        return torch.from_numpy(self.words(factor, count).astype(np.float32)).add_(0.5).div_(65536)

    def range(self, factor: str, *spans: tuple[float, float]) -> list[Tensor]:
        """Return one number a scene from each span: tensors of shape (B, 1, 1)."""
        low, high = torch.tensor(spans).T
        return list((low + (high - low) * self(factor, len(spans)))[:, :, None, None].unbind(1))


_NORMAL = (2**0.5 * torch.erfinv((2 * torch.arange(65536, dtype=torch.float64) + 1) / 65536 - 1)).float().numpy()


def _fields(dice: _Dice, factor: str, count: int) -> Tensor:
    """Return smooth random fields with detail at every scale: (B, count, 64, 64), deviating by about 1."""
    lattice = dice(factor, count * _LATTICE).sub_(0.5).view(-1, count, _LATTICE)
    field, start = lattice.new_zeros(len(lattice), count, 4, 4), 0
    for octave, grid in enumerate(_GRIDS):
        layer = lattice[:, :, start : start + grid * grid].unflatten(2, (grid, grid))
        field = F.interpolate(field, (grid, grid), mode="bicubic") + layer * (4.2 * 0.66**octave)
        start += grid * grid
    return field / 1.2


def _colours(dice: _Dice, factor: str, count: int, colour: float) -> list[Tensor]:
    """Return random natural colours: tensors of shape (B, 3, 1, 1)."""
    picks = torch.from_numpy(dice.words(factor, 2 * count) % len(_PALETTE)).long()
    first, second = _PALETTE[picks].chunk(2, 1)
    mixed = first.lerp(second, dice(factor + " mix", count)[:, :, None] * 0.5)
    mixed = mixed * (0.75 + 0.5 * dice(factor + " value", count)[:, :, None])
    grey = mixed.mean(2, keepdim=True)
    return list(grey.lerp(mixed, colour)[..., None, None].unbind(1))


_Number = float | Tensor
_Point = tuple[_Number, _Number]

# Outlines are signed distances, negative inside, in the object's own coordinates: u to the right and v down,
# the unit disc is the object's place.


def _capsule(u: Tensor, v: Tensor, a: _Point, b: _Point, ra: _Number, rb: _Number) -> Tensor:
    """Distance to a line from `a` to `b` that is `ra` thick at its start and `rb` at its end."""
    u, v, du, dv = u - a[0], v - a[1], b[0] - a[0], b[1] - a[1]
    h = ((u * du + v * dv) / (du * du + dv * dv)).clamp_(0, 1)
    return torch.hypot(u - h * du, v - h * dv) - (ra + (rb - ra) * h)


def _join(a: Tensor, b: Tensor, soft: float) -> Tensor:
    """Union of two outlines with a rounded seam (polynomial smooth minimum)."""
    h = (0.5 + (b - a) * (0.5 / soft)).clamp_(0, 1)
    return b.lerp(a, h) - soft * h * (1 - h)


def _inside(d: Tensor, soft: _Number) -> Tensor:
    """How much of each pixel is inside an outline whose edge is `soft` wide."""
    return (0.5 - d / soft).clamp_(0, 1)


def _dome(d: Tensor, width: float) -> Tensor:
    """Height of a puffed-up outline that rises over `width` from its edge."""
    return (1 - (1 + d / width).clamp_(0, 1) ** 2).sqrt_() * width


class _Body(NamedTuple):
    """An object in its own coordinates, drawn with pixels `px` wide; each tensor of shape (B, S, S)."""

    outline: Tensor
    height: Tensor
    tone: Tensor  # from the first colour (0) to the second (1)
    accent: Tensor  # how much of the third colour
    mark: Tensor  # near-black details: eyes, nose
    grain_u: Tensor  # where the texture is read
    grain_v: Tensor


def _berry(u: Tensor, v: Tensor, dice: _Dice, px: Tensor) -> _Body:
    """Draw a bunch of berries with a stem and a leaf."""
    places, many = dice("berry places", 3 * 12), dice("berry number", 2)
    long = many[:, 1, None, None]
    d, height = torch.full_like(u, 9.0), torch.zeros_like(u)
    tone, seed = torch.zeros_like(u), torch.zeros_like(u)
    for i in range(12):
        # Sunflower spiral, squeezed into a bunch or left round.
        angle, far = 2.4 * i, 0.2 * math.sqrt(i)
        jitter = places[:, 3 * i : 3 * i + 3, None, None]
        x = far * math.cos(angle) * (1.15 - 0.5 * long) + (jitter[:, 0] - 0.5) * 0.14
        y = far * math.sin(angle) * (0.9 + 0.4 * long) + (jitter[:, 1] - 0.5) * 0.14 + 0.1
        radius = 0.24 + 0.09 * jitter[:, 2] - 9 * (i > 6 + 6 * many[:, 0, None, None]).float()
        du, dv = u - x, v - y
        away = du * du + dv * dv
        ball = (radius * radius * radius.sign() - away).clamp_(min=0).sqrt_() * (1 + 0.02 * i)
        top = ball > height
        height = torch.where(top, ball, height)
        tone = torch.where(top, jitter[:, 2] * 0.8, tone)
        seed = torch.where(top, away, seed)
        d = torch.minimum(d, away.sqrt() - radius)
    stem = _capsule(u, v, (0.0, -0.45), ((long - 0.5) * 0.6, -1.0), 0.05, 0.035)
    leaf = torch.hypot((u - 0.34) / 0.36, (v + 0.7 - 0.3 * u) / 0.16) - 1
    accent = torch.maximum(_inside(stem, px), _inside(leaf * 0.2, px)) * (d > 0)
    d = torch.minimum(torch.minimum(d, stem), leaf * 0.2)
    calyx = (0.5 - (seed.sqrt() - 0.05) / 0.04).clamp_(0, 1) * (height > 0.05)
    return _Body(d, torch.maximum(height, _dome(d, 0.08)), tone, accent, calyx * 0.7, u * 0.5, v * 0.5)


def _bird(u: Tensor, v: Tensor, dice: _Dice, px: Tensor) -> _Body:
    """Draw a bird from the side, standing, or flying with a wing raised."""
    hx, hy, beak, tail = dice.range("bird head", (0.4, 0.52), (-0.5, -0.34), (0.2, 0.42), (-0.1, 0.45))
    plump, wing, lift, step = dice.range("bird body", (0.27, 0.36), (0.16, 0.22), (0, 1), (-0.15, 0.15))
    flies = lift < 0.4
    body = _capsule(u, v, (0.2, -0.02), (-0.3, 0.12), plump, plump * 0.6)
    head = torch.hypot(u - hx, v - hy) - 0.19
    d = _join(body, head, 0.16)
    fan = _capsule(u, v, (-0.35, 0.12), (-0.92, tail), 0.1, 0.15)
    d = _join(d, fan, 0.08)
    bill = _capsule(u, v, (hx + 0.12, hy + 0.02), (hx + 0.17 + beak, hy + 0.06), 0.08, 0.005)
    legs = torch.minimum(
        _capsule(u, v, (0.05, 0.2), (0.1 + step, 0.82), 0.035, 0.03),
        _capsule(u, v, (-0.08, 0.2), (-0.08 - step, 0.82), 0.035, 0.03),
    )
    folded = torch.hypot((u + 0.12) / 0.42, (v - 0.02 + 0.22 * (u + 0.1)) / wing) - 1
    raised = _capsule(u, v, (0.05, -0.1), (-0.35 + step, -0.9), 0.26, 0.05)
    raised = torch.maximum(raised, -(u + 0.62 - 0.5 * (v + 0.4)))
    blade = torch.where(flies, raised, folded * 0.17)
    accent = torch.maximum(_inside(bill, px), _inside(legs, px) * ~flies) * (d > 0)
    outline = torch.minimum(torch.minimum(d, bill), torch.where(flies, raised, legs))
    feathers = _inside(blade, 0.04)
    tone = feathers * (0.55 + 0.45 * torch.sin((u * 0.8 + v * 0.5) * 26).sign() * (0.3 + 0.7 * (u < 0)))
    tone = torch.maximum(tone, _inside(fan, 0.05) * 0.7)
    height = _dome(d, 0.3) + 0.12 * _dome(blade, 0.1) + _dome(torch.minimum(bill, legs), 0.06)
    eye = _inside(torch.hypot(u - hx - 0.06, v - hy + 0.04) - 0.04, px)
    height = torch.where(flies, torch.maximum(height, _dome(raised, 0.15)), height)
    return _Body(outline, height, tone, accent, eye, u * 0.35 + v * 0.2, v - 0.5 * u)


def _dog(u: Tensor, v: Tensor, dice: _Dice, px: Tensor) -> _Body:
    """Draw a dog from the side."""
    hx, hy, muzzle, ear = dice.range("dog head", (0.46, 0.58), (-0.6, -0.36), (0.22, 0.34), (-0.2, 0.26))
    tail, fat, legs = dice.range("dog body", (-0.75, 0.1), (0.23, 0.31), (0.6, 0.8))
    g1, g2 = dice.range("dog gait", (-0.16, 0.16), (-0.16, 0.16))
    d = _capsule(u, v, (-0.42, 0.0), (0.28, -0.02), fat * 0.95, fat * 1.1)
    d = _join(d, _capsule(u, v, (0.3, -0.08), (hx, hy), 0.2, 0.17), 0.1)
    d = _join(d, torch.hypot(u - hx, v - hy) - 0.22, 0.06)
    snout = (hx + muzzle, hy + 0.1)
    d = _join(d, _capsule(u, v, (hx, hy + 0.03), snout, 0.15, 0.1), 0.05)
    near = torch.minimum(
        _capsule(u, v, (-0.5, 0.08), (-0.52 + g1, legs), 0.15, 0.085),
        _capsule(u, v, (0.32, 0.08), (0.34 + g2, legs), 0.14, 0.08),
    )
    far = torch.minimum(
        _capsule(u, v, (-0.44, 0.05), (-0.44 - g1, legs - 0.05), 0.13, 0.08),
        _capsule(u, v, (0.26, 0.05), (0.24 - g2, legs - 0.05), 0.12, 0.075),
    )
    d = _join(d, near, 0.06)
    d = _join(d, _capsule(u, v, (-0.6, -0.06), (-0.92, tail), 0.09, 0.055), 0.05)
    flap = _capsule(u, v, (hx - 0.1, hy - 0.12), (hx - 0.19, hy + ear - 0.1), 0.1, 0.06)
    outline = torch.minimum(torch.minimum(d, flap), far)
    tone = torch.maximum(_inside(flap, 0.04), _inside(far, px) * (d > 0) * 0.8)
    dots = torch.minimum(
        torch.hypot(u - hx - 0.05, v - hy + 0.03) - 0.035,
        torch.hypot(u - snout[0] - 0.06, v - snout[1] + 0.03) - 0.05,
    )
    height = torch.maximum(_dome(d, 0.24), _dome(far, 0.1) * 0.4) + 0.4 * _dome(flap, 0.07)
    return _Body(outline, height, tone, torch.zeros_like(u), _inside(dots, px), u * 0.3, v * 0.9)


def _flower(u: Tensor, v: Tensor, dice: _Dice, px: Tensor) -> _Body:
    """Draw a flower with two rings of petals."""
    number, width, heart, tilt, twist = dice.range(
        "flower", (4.6, 10.4), (0.75, 1.15), (0.18, 0.34), (0.65, 1.0), (0.0, 6.3)
    )
    number = number.round()
    v = v / tilt
    r, angle = torch.hypot(u, v), torch.atan2(v, u) + twist
    sector = 2 * math.pi / number

    def petals(shift: Tensor | float, reach: float) -> Tensor:
        fold = torch.remainder(angle + shift, sector) - sector / 2
        along, across = r * torch.cos(fold), r * torch.sin(fold)
        half = width * reach * 0.52 * torch.sin(sector / 2).clamp(max=0.62)
        return (torch.hypot((along - 0.55 * reach) / (0.45 * reach), across / half) - 1) * 0.3

    front, back = petals(0.0, 1.0), petals(sector / 2, 0.93)
    disc = r - heart
    outline = torch.minimum(torch.minimum(front, back), disc)
    height = torch.maximum(_dome(front, 0.2) + 0.08 * _inside(front, 0.1), _dome(back, 0.2) * 0.7)
    height = torch.where(disc < 0, _dome(disc, 0.2) * 0.8 + 0.12, height)
    dots = torch.sin(u * 55) * torch.sin(v * 55) * (disc < 0)
    tone = (1.1 - r).clamp_(0, 1) * 0.7 + 0.3 * (front > 0)
    accent, nothing = _inside(disc, px), torch.zeros_like(u)
    return _Body(outline, height + 0.012 * dots, tone, accent, nothing, angle * 0.9, r * 0.15)


def _other(u: Tensor, v: Tensor, dice: _Dice, px: Tensor) -> _Body:
    """Draw something made by people: a wheel, a crate or a mug."""
    kind, spokes, rim, wide, high, slats = dice.range(
        "other", (0, 1), (2.6, 6.4), (0.1, 0.2), (0.6, 0.78), (0.55, 0.72), (2.6, 5.4)
    )
    spokes, slats, nothing = spokes.round(), slats.round(), torch.zeros_like(u)
    r = torch.hypot(u, v)
    # A wheel: tyre, spokes, hub.
    fold = torch.remainder(torch.atan2(v, u), math.pi / spokes) - math.pi / spokes / 2
    tyre, hub = (r - 0.92 + rim).abs() - rim, r - 0.17
    spoke = torch.maximum((r * torch.sin(fold)).abs() - 0.045, r - 0.85)
    wheel = torch.minimum(torch.minimum(tyre, hub), spoke)
    # A crate: boards with gaps, a frame around them and a brace across.
    crate = torch.maximum(u.abs() - wide, v.abs() - high)
    frame = torch.minimum(-crate - 0.13, (u * high - v * wide).abs() / torch.hypot(wide, high) - 0.08)
    board = (torch.remainder((v / high + 1) * slats / 2, 1) - 0.5).abs()
    gap = _inside(0.45 - board, 0.06) * _inside(0.02 - frame, 0.04)
    # A mug: a body with bands, and a handle.
    barrel = torch.maximum((u + 0.18).abs() - 0.52 + 0.1 * v, v.abs() - 0.75)
    handle = torch.maximum((torch.hypot((u - 0.42) / 0.4, v / 0.42) - 1).abs() * 0.4 - 0.085, 0.25 - u)
    curve = (0.36 - (u + 0.18) ** 2).clamp_(min=0).sqrt_() * (barrel < 0) + _dome(handle, 0.09) * (barrel > 0)
    bands = _inside((v.abs() - 0.5).abs() - 0.09, px)

    def choose(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        return torch.where(kind < 0.4, first, torch.where(kind < 0.7, second, third))

    return _Body(
        outline=choose(wheel, crate, torch.minimum(barrel, handle)),
        height=choose(_dome(wheel, 0.12), 0.08 * _inside(frame, 0.06) + _dome(crate, 0.05), curve),
        tone=choose(_inside(tyre, px), _inside(frame, px), bands),
        accent=choose(_inside(hub, px), nothing, nothing),
        mark=choose(nothing, gap * 0.7, nothing),
        grain_u=u * 0.25,
        grain_v=v * 1.2,
    )


class _Sun(NamedTuple):
    """Where the light comes from and how strong it is; tensors of shape (B, 1, 1)."""

    x: Tensor
    y: Tensor
    strength: Tensor


def _over(image: Tensor, cover: Tensor, shadow: Tensor, colour: Tensor) -> Tensor:
    """Lay something coloured over the image, and its shadow under it."""
    return (image * (1 - 0.45 * shadow)[:, None]).lerp_(colour, cover[:, None])


def _plane(size: int) -> tuple[Tensor, Tensor]:
    """Return the coordinates of the pixels' centres, -0.5 to 0.5: shapes (1, 1, S) and (1, S, 1)."""
    x = (torch.arange(size) + 0.5) / size - 0.5
    return x[None, None, :], x[None, :, None]


def _slopes(height: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slopes to the right and downwards, by differences between neighbouring pixels."""
    right = F.pad(height[:, :, 1:] - height[:, :, :-1], (0, 1))
    down = F.pad(height[:, 1:] - height[:, :-1], (0, 0, 0, 1))
    return right / step, down / step


class _Leaves(NamedTuple):
    """Leaves, blades or pebbles, one in each cell of a turned lattice."""

    factor: str
    share: float  # of the cells that hold one
    often: tuple[float, float]  # cells along the side
    depth: float  # of their shadows

    def lay(
        self, image: Tensor, plane: tuple[Tensor, Tensor], dice: _Dice, sun: _Sun, first: Tensor, second: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Lay them over the image, in tones between two colours; return it and how much each pixel is covered."""
        turn, ox, oy, often, slim, stout = dice.range(
            self.factor, (0, 6.3), (0, 16), (0, 16), self.often, (0.16, 0.75), (0, 1)
        )
        chance, lean, length, tone = dice(self.factor + " cells", 4 * 256).view(-1, 4, 256).unbind(1)
        lean = 6.3 * lean * dice(self.factor + " spread", 1) + turn[:, :, 0]
        # A cell without one holds a leaf too short to be seen.
        length = torch.where(chance < self.share, 0.4 + 0.3 * length, 1e-4)
        table = torch.stack([lean.cos() / length, lean.sin() / length, tone], 1)
        (x, y), cos, sin = plane, turn.cos() * often, turn.sin() * often
        p, q = x * cos - y * sin + ox, x * sin + y * cos + oy
        row = q.floor()
        p = p + 0.5 * torch.remainder(row, 2)
        column = p.floor()
        p, q = p - column - 0.5, q - row - 0.5
        cell = (torch.remainder(row, 16) * 16 + torch.remainder(column, 16)).long().flatten(1)
        c, s, tone = (table[:, k].gather(1, cell).view_as(p) for k in range(3))
        along, across = p * c + q * s, q * c - p * s
        bow = (1 - along * along).clamp_(min=0)
        bow = slim * bow.lerp(bow.sqrt(), stout)
        away = (across.abs() - bow) * 0.55
        cover = _inside(away, often / p.shape[-1]) * (bow > 0)
        shadow = (1 - away * 8).clamp_(0, 1) * (along.abs() < 1.1) * self.depth
        # A leaf is a ridge: one side faces the light.
        facing = (c * (sun.x * sin + sun.y * cos) - s * (sun.x * cos - sun.y * sin)) / often * 0.5
        shade = 1 + sun.strength * across / slim * facing - 0.12 * (across.abs() < 0.05)
        return _over(image, cover, shadow, first.lerp(second, tone[:, None]) * shade[:, None]), cover


def _ground(
    dice: _Dice, size: int, clutter: float, sun: _Sun, colours: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Paint what is behind the object; return it and the bent plane on which the leaves lie."""
    fields = _fields(dice, "ground", 4)
    depth = min(clutter, 1.0)
    # What is far away is out of focus, so 64 pixels will do for it.
    x, y = _plane(64)
    tones = fields[:, :2] * (0.3 * depth) + 0.5
    image = colours[0].lerp(colours[1], tones[:, :1].clamp(0, 1)) * (1 + 0.5 * (x * sun.x + y * sun.y))[:, None]
    image = image.lerp(colours[2], (tones[:, 1:] * 1.6 - 0.8).clamp(0, 1))
    image = image * (1 + 0.15 * depth * (fields[:, :1] - fields[:, :1].roll((1, 1), (2, 3))))
    bend = fields[:, 2:] * 0.02
    far = _Leaves("far", 0.64 * clutter, (5, 12), depth)
    image, _ = far.lay(image, (x + bend[:, 0], y + bend[:, 1]), dice, sun, colours[1] * 0.9, colours[2] * 0.9)
    canvas = F.interpolate(torch.cat([image, bend], 1), (size, size), mode="bilinear", antialias=size < 64)
    x, y = _plane(size)
    plane = x + canvas[:, 3], y + canvas[:, 4]
    near = _Leaves("near", 0.6 * clutter, (3, 9), depth)
    return near.lay(canvas[:, :3], plane, dice, sun, colours[3], colours[1])[0], plane


def _object(
    image: Tensor, dice: _Dice, kind: Tensor, controls: Controls, sun: _Sun, colours: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Lay the objects over the image; return it, how much they cover of each pixel, and their diameters."""
    size = image.shape[-1]
    low, high = controls.scale
    diameter = low + (high - low) * dice("scale", 1)[:, :, None]
    ox, oy, turn = (2 * roll - 1 for roll in (*dice.range("position", (0, 1), (0, 1)), *dice.range("rotation", (0, 1))))
    turn = turn * math.radians(controls.rotation)
    squeeze, mirror, bend, phase, grainy, patchy = dice.range(
        "pose", (0.85, 1.15), (-1, 1), (-0.12, 0.12), (0, 6.3), (0.05, 0.22), (0.1, 0.6)
    )
    x, y = ((c - controls.position * o) * 2 / diameter for c, o in zip(_plane(size), (ox, oy), strict=True))
    u = (x * turn.cos() + y * turn.sin()) * squeeze * mirror.sign()
    v = (y * turn.cos() - x * turn.sin()) / squeeze
    u, v = u + bend * torch.sin(2.2 * v + phase), v + bend * torch.sin(2.2 * u + phase)
    px = 2 / (size * diameter)
    parts = torch.empty(7, *u.shape)
    for label, draw_body in enumerate((_berry, _bird, _dog, _flower, _other)):
        rows = (kind == label).nonzero()[:, 0]
        if len(rows):
            parts[:, rows] = torch.stack(draw_body(u[rows], v[rows], dice.only(rows), px[rows]))
    outline, height, tone, accent, mark = parts[:5]
    grain = F.grid_sample(
        _fields(dice, "grain", 2), parts[5:].movedim(0, -1), padding_mode="reflection", align_corners=False
    )
    right, down = _slopes(height + 0.1 * grainy * grain[:, 0], px)
    facing = -(right * sun.x + down * sun.y) / (1 + right * right + down * down).sqrt_()
    shade = (1 + sun.strength * facing + grainy * grain[:, 0]) * (1 - 0.85 * mark)
    gloss = (facing * 4 - 2.6).clamp_(0, 1) * (0.3 * (kind == 0))[:, None, None]
    tone = (tone + patchy * grain[:, 1].clamp(-1, 1)).clamp_(0, 1)
    colour = colours[4].lerp(colours[5], tone[:, None]).lerp_(colours[6], accent[:, None])
    # The shadow falls away from the light.
    right, down = _slopes(outline, px)
    shadow = (1 - outline.clamp(min=0) * diameter * (8 + 5.5 * (right * sun.x + down * sun.y))).clamp_(0, 1)
    cover = _inside(outline, px)
    return _over(image, cover, shadow, colour * shade[:, None] + gloss[:, None]), cover, diameter.flatten()


def _paint(seed: int, index: NDArray[np.int64], size: int, controls: Controls) -> Drawing:
    """Draw the scenes with these numbers."""
    dice = _Dice(seed, index)
    kind = torch.from_numpy(index % len(CLASSES))
    angle, strong, bright, harsh, glow, tint = (controls.light * x for x in dice.range("light", *[(-1, 1)] * 6))
    sun = _Sun(-torch.cos(2.2 * angle - 1.6), -torch.sin(2.2 * angle - 1.6), 0.6 + 0.3 * strong)
    colours = _colours(dice, "colours", 9, controls.colour)
    for k in (1, 2, 3):
        colours[k] = colours[k].lerp(colours[0], 0.35)
    # An object as light as the ground would be hard to see.
    ground = torch.stack(colours[:4]).mean((0, 2), keepdim=True)[0]
    for k in (4, 5):
        value = colours[k].mean(1, keepdim=True)
        apart = (value - ground).sign() * (0.2 - (value - ground).abs()).clamp(min=0)
        colours[k] = colours[k] * ((value + apart) / value)
    image, plane = _ground(dice, size, controls.clutter, sun, colours)
    image, cover, diameter = _object(image, dice, kind, controls, sun, colours)
    front = _Leaves("front", 2.5 * controls.occlusion, (2.2, 4.5), 0.8)
    image, hidden = front.lay(image, plane, dice, sun, colours[7], colours[3])
    x, y = _plane(size)
    light = (1.3 + 0.35 * bright) * (1 - (0.4 + 0.3 * glow) * (x * sun.x + y * sun.y))
    tinted = 1 + (0.15 + 0.15 * tint)[:, None] * controls.light * (colours[8] - colours[8].mean(1, keepdim=True))
    image = (image * (tinted * light[:, None]) - 0.45) * (0.92 + 0.27 * harsh)[:, None] + 0.45
    if controls.noise:
        noise = torch.from_numpy(_NORMAL[dice.words("noise", size * size)]).view(-1, 1, size, size)
        image = image + noise * (controls.noise / 255)
    images = image.clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    return Drawing(images, kind, (cover > 0.5) & (hidden < 0.5), diameter)


def draw(
    count: int,
    *,
    seed: int = 0,
    size: int = 128,
    controls: Controls = NORMAL,
    first: int = 0,
    progress: bool = False,
) -> Drawing:
    """Draw scenes.

    Parameters
    ----------
    count : int
        How many scenes N; the class of scene i is ``i % 5``.
    seed : int
        Which scenes.
    size : int
        The pictures' side length S in pixels, 8 to 1024; the same scenes at any size.
    controls : Controls
        How the scenes vary.
    first : int
        The number of the first scene.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Drawing
        The pictures with labels and masks.

    Raises
    ------
    DataError
        If count, size or first is out of range.

    Examples
    --------
    >>> from cnnhw.data import scenes
    >>> drawing = scenes.draw(5, size=32)
    >>> drawing.images.shape, drawing.masks.shape, drawing.labels
    (torch.Size([5, 3, 32, 32]), torch.Size([5, 32, 32]), tensor([0, 1, 2, 3, 4]))
    """
    if count < 1 or first < 0:
        raise DataError(f"cannot draw {count} scenes from number {first}; give count >= 1, first >= 0")
    drawn = list(_chunks(np.arange(first, first + count), seed, size, controls, progress))
    columns = ([getattr(part, name) for part in drawn] for name in ("images", "labels", "masks", "scales"))
    return Drawing(*map(torch.cat, columns))


def _chunks(numbers: NDArray[np.int64], seed: int, size: int, controls: Controls, progress: bool) -> Iterator[Drawing]:
    if not 8 <= size <= 1024:
        raise DataError(f"size must be from 8 to 1024 pixels, not {size}")
    with tqdm(total=len(numbers), desc="drawing scenes", unit=" scenes", disable=not progress) as bar:
        for start in range(0, len(numbers), _CHUNK):
            chunk = numbers[start : start + _CHUNK]
            yield _paint(seed, chunk, size, controls)
            bar.update(len(chunk))


def load(
    *,
    size: int = 128,
    split_seed: int = 0,
    seed: int = 0,
    controls: Controls | tuple[Controls, ...] = NORMAL,
    train: int = 6000,
    test: int = 2000,
    progress: bool = True,
) -> PhotoSet:
    """Return scenes as a data set, drawn when first asked for and then kept in the cache folder.

    Parameters
    ----------
    size : int
        The pictures' side length in pixels, 8 to 1024.
    split_seed : int
        Decides which tenth of each class's training scenes is for validation.
    seed : int
        Which scenes.
    controls : Controls or tuple of Controls
        How the scenes vary; of several, five scenes by each in turn, one of each class.
    train, test : int
        How many scenes for training and validation together, and for testing: multiples of 5, `train` of 50.
    progress : bool
        Whether to show a progress bar while drawing.

    Returns
    -------
    PhotoSet
        The data set; the names end in the scenes' numbers, as `draw` counts them.

    Raises
    ------
    DataError
        If a number is out of range, or the cache folder cannot be written to.

    Examples
    --------
    >>> from cnnhw.data import scenes
    >>> scenes.load(size=16, train=50, test=10, progress=False)
    PhotoSet('scenes', classes=['berry', 'bird', 'dog', 'flower', 'other'], size=16, train=45, validation=5, test=10)
    """
    if train < 50 or train % 50 or train > _TEST or test < 5 or test % 5:
        raise DataError(f"train is {train}, test {test}; give a multiple of 50 and a multiple of 5")
    mixture = (controls,) if isinstance(controls, Controls) else tuple(controls)
    if not mixture:
        raise DataError("controls is empty: give one Controls or more")
    each = [("scenes", VERSION, int(seed), astuple(one), size) for one in mixture]
    what = each[0] if len(each) == 1 else ("scenes", VERSION, int(seed), [astuple(one) for one in mixture], size)
    key = cache.key(*what, train, test)

    numbers = np.array([*range(train), *range(_TEST, _TEST + test)])
    turns = numbers // len(CLASSES) % len(mixture)

    def fill(store: NDArray[np.uint8]) -> dict[str, Any]:
        for turn, one in enumerate(mixture):
            rows = np.flatnonzero(turns == turn)
            for k, drawing in enumerate(_chunks(numbers[rows], seed, size, one, progress)):
                store[rows[k * _CHUNK : (k + 1) * _CHUNK]] = drawing.images.numpy()
        return {"what": what}

    store, _ = cache.load(key) or cache.build(key, (train + test, 3, size, size), fill)
    labels = (numbers % len(CLASSES)).tolist()
    given = ["train"] * train + ["test"] * test
    names = [f"{part}/{CLASSES[k]}/{number:07d}" for part, k, number in zip(given, labels, numbers, strict=True)]
    digests = [cache.key(*each[turn], number) for turn, number in zip(turns.tolist(), numbers.tolist(), strict=True)]
    parts = splits.split(names, labels, given, split_seed)
    train_part, validation, test_part = parted(store, parts, labels, names, digests)
    return PhotoSet(
        name="scenes",
        classes=CLASSES,
        size=size,
        train=train_part,
        validation=validation,
        test=test_part,
        note=f"generated scenes, seed {seed}, {controls}; split seed {split_seed}",
        licence="CC0-1.0 (generated)",
    )
