"""Audit of a labelled data set: label errors and near-duplicates.

A label is suspicious if a classifier that has not seen it finds another class more probable (confident learning,
Northcutt et al. 2021). Photos in both training and test set make the test accuracy too high.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnhw import evaluation, features, system
from cnnhw.data.augment import luminance
from cnnhw.data.photoset import PhotoSet, join
from cnnhw.data.splits import PARTS, natural
from cnnhw.errors import DataError
from cnnhw.models.blocks import Classifier

__all__ = ["Pair", "Suspects", "dhash", "margins", "near_duplicates", "run", "suspicious_labels", "table"]

DISTANCE = 6
ALIKE = 0.9
_CHUNK = 500
_AT_ONCE = 2**22  # comparisons of hashes
_CELLS = 24  # a side of what is compared to confirm them
_PLAIN = 4.0  # grey levels: photos that vary less are the same only if their files are
_WHERE = {"train": 0, "validation": 5, "test": 1}  # of which only train and test add up to 1
_PARTS = {number: part for part, number in _WHERE.items()}
_PARTNERS = 20  # of a photo, at most: what is found grows as the number of photos does
_TIE = 0.01  # grey levels of 255: less is rounding
_STRENGTH = 0.03  # inverse strength of the penalty on the weights; about right for 128 values as for 1280
_MOST_PAIRS = 200


@dataclass(frozen=True, eq=False)
class Suspects:
    """Out-of-fold predictions for the labels of a data set of N photos and K classes."""

    labels: Tensor  # (N,), int64: those given
    probabilities: Tensor  # (N, K), float64: by the classifier that was fitted without the photo
    margins: Tensor  # (N,), float64: see `margins`
    order: Tensor  # (N,), int64: the rows, the most suspicious label first

    @property
    def predicted(self) -> Tensor:
        """The most probable class of each photo: Tensor of shape (N,), int64."""
        return self.probabilities.argmax(1)

    @property
    def accuracy(self) -> float:
        """Share of photos whose most probable class is the label given, 0 to 1."""
        return evaluation.accuracy(self.predicted, self.labels)

    @property
    def confusion(self) -> Tensor:
        """Labels given in rows, most probable classes in columns: Tensor of shape (K, K), int64."""
        return evaluation.confusion_matrix(self.predicted, self.labels, self.probabilities.shape[1])


@dataclass(frozen=True)
class Pair:
    """Two photos that look the same."""

    names: tuple[str, str]
    parts: tuple[str, str]  # each "train", "validation" or "test"
    labels: tuple[str, str]  # the names of their classes
    distance: int  # bits in which their hashes differ, 0 to 64

    @property
    def leaks(self) -> bool:
        """Whether one is for training and the other for the test."""
        return set(self.parts) == {"train", "test"}


def margins(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return each label's probability minus that of the most probable other class: Tensor of shape (N,), -1 to 1."""
    own = labels[:, None]
    others = probabilities.scatter(1, own, -torch.inf)
    return probabilities.gather(1, own)[:, 0] - others.amax(1)


def suspicious_labels(vectors: Tensor, labels: Tensor, *, folds: int = 5, seed: int = 0) -> Suspects:
    """Rank labels by out-of-fold predictions of logistic regression on vectors (N, D), the most suspicious first."""
    if vectors.ndim != 2 or labels.ndim != 1 or len(vectors) != len(labels):
        shapes = tuple(vectors.shape), tuple(labels.shape)
        raise DataError(f"vectors and labels have the shapes {shapes[0]} and {shapes[1]}: give (N, D) and (N,)")
    if not vectors.isfinite().all():
        raise DataError("some vectors hold values that are not finite: a network with such weights cannot be used")
    if folds < 2:
        raise DataError(f"folds is {folds}: give 2 or more")
    if len(labels) and labels.min() < 0:
        raise DataError(f"the least label is {int(labels.min())}: give labels from 0")
    counts = torch.bincount(labels).tolist()
    if len(counts) < 2:
        raise DataError("all photos have the same label: there must be two classes or more")
    least = min(range(len(counts)), key=counts.__getitem__)
    if counts[least] < folds:
        raise DataError(
            f"class {least} has {counts[least]} photos, and {folds} folds need {folds} of each class: "
            "take fewer folds, or leave the class out"
        )
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=1000))
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    found = cross_val_predict(
        classifier, vectors.double().numpy(), labels.numpy(), cv=cut, method="predict_proba"
    )  # (N, K)
    probabilities = torch.from_numpy(found)
    by = margins(probabilities, labels)
    return Suspects(labels, probabilities, by, by.argsort(stable=True))


def dhash(images: Tensor) -> NDArray[np.uint64]:
    """Return the difference hash (Krawetz 2013) of each RGB photo (N, 3, H, W), uint8: array of shape (N,), uint64."""
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise DataError(f"photos must be uint8 of shape (N, 3, H, W), not {images.dtype} of {tuple(images.shape)}")
    down, across = _areas(images.shape[2], 8), _areas(images.shape[3], 9)
    hashes = []
    for some in images.split(_CHUNK):
        cells = down @ luminance(some.float()) @ across.T  # (N, 8, 9)
        bits = (cells.diff(dim=2) > _TIE).flatten(1)  # (N, 64)
        hashes.append(np.packbits(bits.numpy(), axis=1).view(">u8")[:, 0].astype(np.uint64))
    return np.concatenate(hashes)


def _areas(side: int, cells: int) -> Tensor:
    """Return the weights that average `side` pixels to `cells` equal areas: Tensor of shape (cells, side)."""
    edges, pixels = torch.linspace(0, side, cells + 1, dtype=torch.float64), torch.arange(side)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (overlap.clamp(min=0) * cells / side).float()


def near_duplicates(
    first: PhotoSet, second: PhotoSet | None = None, *, distance: int = DISTANCE, alike: float = ALIKE
) -> list[Pair]:
    """Find photos that look the same, within a data set or between two.

    Their hashes differ in up to `distance` bits of 64, and the steps of brightness between 24 by 24 areas have a cosine
    of `alike` or more, -1 to 1, so that backgrounds that are alike do not count. Photos of one colour are the same only
    if their files are. Of each photo the 20 nearest that follow it are given: leaks first, then those of another class.
    """
    if not 0 <= distance <= 64:
        raise DataError(f"distance is {distance}: a hash has 64 bits, give 0 to 64")
    if not -1 <= alike <= 1:
        raise DataError(f"alike is {alike}: it is a cosine, give -1 to 1")
    left = _listing(first)
    right = left if second is None else _listing(second)
    pairs = []
    step = max(1, _AT_ONCE // max(1, len(right.names)))
    for start in range(0, len(left.names), step):
        # equal bits add 1 to the product of signs and different ones take 1 off, which float32 holds exactly
        apart = (64 - left.signs[start : start + step] @ right.signs.T) / 2
        same: NDArray[np.bool_] = apart <= distance
        if second is None:
            same &= np.arange(len(right.names)) > np.arange(start, start + len(apart))[:, None]  # each pair once
        rows, columns = np.flatnonzero(same.any(1)), np.flatnonzero(same.any(0))
        looks = left.looks[start + rows] @ right.looks[columns].T >= alike
        copies = left.digests[start + rows, None] == right.digests[columns]
        same[np.ix_(rows, columns)] &= looks | copies
        for row in rows.tolist():
            of, partners = start + row, np.flatnonzero(same[row])
            leaks = left.where[of] + right.where[partners] == _WHERE["train"] + _WHERE["test"]
            others = left.labels[of] != right.labels[partners]
            order = np.lexsort((apart[row, partners], ~others, ~leaks))[:_PARTNERS]
            for partner in partners[order].tolist():
                names, parts, labels = zip(left.entry(of), right.entry(partner), strict=True)
                pairs.append(Pair(names, parts, labels, int(apart[row, partner])))

    def rank(pair: Pair) -> tuple[Any, ...]:
        first, second = pair.names
        return not pair.leaks, pair.parts[0] == pair.parts[1], pair.distance, natural(first), natural(second)

    return sorted(pairs, key=rank)


class _Listing(NamedTuple):
    """All N photos of a data set, and how they look."""

    names: list[str]
    digests: NDArray[np.str_]  # (N,)
    labels: NDArray[np.str_]  # (N,)
    where: NDArray[np.int64]  # (N,): the parts, as in `_WHERE`
    signs: NDArray[np.float32]  # (N, 64): the bits of the hashes
    looks: NDArray[np.float32]  # (N, 1104): steps between cells, of length 1 together, or 0 if the photo is plain

    def entry(self, row: int) -> tuple[str, str, str]:
        return self.names[row], _PARTS[int(self.where[row])], str(self.labels[row])


def _listing(photos: PhotoSet) -> _Listing:
    everything = join(*photos.splits)
    where = np.repeat([_WHERE[part] for part in PARTS], [len(split) for split in photos.splits])
    hashes, looks = [], []
    for rows in torch.arange(len(everything)).split(_CHUNK):
        images = everything.batch(rows)
        hashes.append(dhash(images))
        down, across = (_areas(side, _CELLS) for side in images.shape[2:])
        cells = down @ luminance(images.float()) @ across.T  # (N, 24, 24)
        steps = torch.cat([cells.diff(dim=1).flatten(1), cells.diff(dim=2).flatten(1)], 1)
        plain = cells.flatten(1).std(1, keepdim=True) < _PLAIN
        looks.append((steps / steps.norm(dim=1, keepdim=True).clamp(min=1e-6)).masked_fill(plain, 0).numpy())
    bits = np.unpackbits(np.concatenate(hashes).view(np.uint8).reshape(-1, 8), axis=1)
    signs = 2 * bits.astype(np.float32) - 1
    labels = np.array(photos.classes)[everything.labels.numpy()]
    return _Listing(list(everything.names), np.array(everything.digests), labels, where, signs, np.concatenate(looks))


def run(
    photos: PhotoSet,
    model: Classifier,
    *,
    against: PhotoSet | None = None,
    most: int = 24,
    credits: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Audit all photos of a data set by a network's features; return plain values, as JSON holds them."""
    credits = credits or {}
    everything = join(*photos.splits)
    labels, names = everything.labels, everything.names
    parts = [part for part, split in zip(PARTS, photos.splits, strict=True) for _ in range(len(split))]
    folds = max(2, min(5, *torch.bincount(labels).tolist()))
    found = suspicious_labels(
        torch.cat([features.embeddings(model, split) for split in photos.splits if len(split)]), labels, folds=folds
    )
    wrong = [row for row in found.order.tolist() if found.margins[row] < 0]
    predicted = found.predicted.tolist()
    suspicious = [
        {
            "name": names[row],
            "part": parts[row],
            "label": photos.classes[labels[row]],
            "predicted": photos.classes[predicted[row]],
            "margin": round(float(found.margins[row]), 4),
            "probabilities": [round(share, 4) for share in found.probabilities[row].tolist()],
            "credit": credits.get(names[row], ""),
        }
        for row in wrong[:most]
    ]
    shares = found.probabilities.amax(1).tolist()
    opinions = {
        name: (photos.classes[label], round(share, 4))
        for name, label, share in zip(names, predicted, shares, strict=True)
    }
    duplicates = [_section((photos.name,), near_duplicates(photos), credits, opinions)]
    if against:
        pairs = near_duplicates(photos, against)
        duplicates.append(_section((photos.name, against.name), pairs, credits, opinions))
    return {
        "data": _facts(photos),
        "against": _facts(against) if against else None,
        "model": model.name,
        "folds": folds,
        "accuracy": found.accuracy,
        "confusion": found.confusion.tolist(),
        "disagreements": len(wrong),
        "suspicious": suspicious,
        "distance": DISTANCE,
        "duplicates": duplicates,
        "date": system.now(),
        "versions": system.versions() | {"scikit-learn": importlib.metadata.version("scikit-learn")},
    }


def _facts(photos: PhotoSet) -> dict[str, Any]:
    return {
        "name": photos.name,
        "fingerprint": photos.fingerprint,
        "size": photos.size,
        "classes": list(photos.classes),
        "photos": {part: len(split) for part, split in zip(PARTS, photos.splits, strict=True)},
        "note": photos.note,
        "licence": photos.licence,
    }


def _section(
    sets: Sequence[str], pairs: Sequence[Pair], credits: Mapping[str, str], opinions: Mapping[str, tuple[str, float]]
) -> dict[str, Any]:
    by_distance = Counter(pair.distance for pair in pairs)
    listed = []
    for pair in pairs[:_MOST_PAIRS]:
        own = pair.names[: 3 - len(sets)]  # of the first set alone
        seen = {"predicted": [opinions[name] for name in own]}
        known = [credits.get(name, "") for name in own]
        listed.append(asdict(pair) | seen | ({"credits": known} if any(known) else {}))
    return {
        "sets": list(sets),
        "count": len(pairs),
        "leaks": sum(pair.leaks for pair in pairs),
        "other_label": sum(pair.labels[0] != pair.labels[1] for pair in pairs),
        "by_distance": {str(bits): by_distance[bits] for bits in sorted(by_distance)},
        "pairs": listed,
    }


def table(result: Mapping[str, Any], pairs: int = 10) -> str:
    """Return what `run` found as text, with up to so many pairs of duplicates."""
    data, listed = result["data"], result["suspicious"]
    classes, count = data["classes"], sum(data["photos"].values())
    lines = [
        f"{data['name']}: {count:,} photos of {data['size']}x{data['size']} pixels, seen through {result['model']}.",
        f"Classifiers that have not seen a photo agree with its label in {result['accuracy']:.1%} of cases, and find "
        f"another class more probable for {result['disagreements']:,} photos.",
    ]
    if listed:
        lines += ["", f"The {len(listed)} most suspicious labels, each with its probability:"]
        width = max(map(len, classes))
        for entry in listed:
            given, other = (entry["probabilities"][classes.index(entry[of])] for of in ("label", "predicted"))
            lines.append(
                f"  {entry['label']:{width}} {given:.2f}  looks like {entry['predicted']:{width}} {other:.2f}  "
                f"{entry['name']} ({entry['part']})"
            )
    for section in result["duplicates"]:
        first, *rest = section["sets"]
        where = f"between {first} and {rest[0]}" if rest else f"within {first}"
        lines += [
            "",
            f"Near duplicates {where}, up to {result['distance']} of 64 bits apart: {section['count']:,} pairs, "
            f"{section['leaks']:,} of a training and a test photo, {section['other_label']:,} of two classes.",
        ]
        for pair in section["pairs"][:pairs]:
            photos = (f"{name} ({part})" for name, part in zip(pair["names"], pair["parts"], strict=True))
            classes = f", labelled {' and '.join(pair['labels'])}" if len(set(pair["labels"])) > 1 else ""
            lines.append(f"  {pair['distance']} apart: {' and '.join(photos)}{classes}")
    return "\n".join(lines)
