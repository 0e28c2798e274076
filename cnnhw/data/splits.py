"""Which photos are for training, which for validation, which for the test.

The photos of a class are sorted by the SHA-256 of seed and name, and the first ones are set aside. The split is the
same on every machine and with every version of any library; adding or removing a photo moves hardly any other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

__all__ = ["PARTS", "TEST", "VALIDATION", "natural", "split"]

PARTS = ("train", "validation", "test")
TEST = 0.2
VALIDATION = 0.1


def split(names: Sequence[str], labels: Sequence[int], given: Sequence[str], seed: int = 0) -> list[str]:
    """Assign each photo to a part, class by class.

    Parameters
    ----------
    names : sequence of str, length N
        The photos' names.
    labels : sequence of int, length N
        Their classes.
    given : sequence of str, length N
        The part that each photo comes in. If no photo comes in ``"test"``, 20 % of each class's ``"train"``
        photos become the test photos; if none comes in ``"validation"``, 10 % become validation photos;
        rounded, and at least one.
    seed : int
        Another number gives another, equally good assignment.

    Returns
    -------
    list of str, length N
        ``"train"``, ``"validation"`` or ``"test"`` for each photo.

    Examples
    --------
    >>> names, labels = [f"{number}.jpg" for number in range(10)], [0] * 10
    >>> parts = split(names, labels, ["train"] * 10)
    >>> parts.count("train"), parts.count("validation"), parts.count("test")
    (7, 1, 2)
    """
    parts = list(given)
    cuts = [(part, share) for part, share in (("test", TEST), ("validation", VALIDATION)) if part not in given]
    for label in sorted(set(labels)):
        pool = [row for row, own in enumerate(labels) if own == label and given[row] == "train"]
        pool.sort(key=lambda row: _rank(names[row], seed))
        start = 0
        for part, share in cuts:
            stop = start + max(1, round(share * len(pool)))
            for row in pool[start:stop]:
                parts[row] = part
            start = stop
    return parts


def natural(name: str) -> tuple[list[str | int], str]:
    """Return a key for sorting names, with the numbers in them by value: photo 2 before photo 10.

    Examples
    --------
    >>> sorted(["photo10", "photo2"], key=natural)
    ['photo2', 'photo10']
    """
    pieces = re.split(r"(\d+)", name)
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)], name


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
