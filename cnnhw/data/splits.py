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
    """Return ``"train"``, ``"validation"`` or ``"test"`` for each photo, class by class; parts `given` stay."""
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
    """Return a key for sorting names, with the numbers in them by value: photo 2 before photo 10."""
    pieces = re.split(r"(\d+)", name)
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)], name


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
