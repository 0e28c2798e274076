"""How far the features of a network that goes on learning move, epoch by epoch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from cnnhw import features, files
from cnnhw.data.photoset import PhotoSet
from cnnhw.models.blocks import Classifier

__all__ = ["Drift"]

_PHOTOS = 256


class Drift:
    """How far the features of a network have moved, on up to 256 photos: noted each epoch in a file in `folder`."""

    _FILE = "drift.json"

    def __init__(self, model: Classifier, photos: PhotoSet, folder: Path) -> None:
        self.model, self.path = model, folder / self._FILE
        rows = torch.arange(min(_PHOTOS, len(photos.validation)))
        self.photos = dataclasses.replace(photos.validation, index=photos.validation.index[rows], labels=rows)
        self.embeddings = features.embeddings(model, self.photos)
        self.weights = self._weights()

    def _weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.features.parameters()])

    def note(self, epoch: int) -> None:
        """Add a row: linear CKA with the first features, and the distance of the weights relative to their norm."""
        moved = (self._weights() - self.weights).norm() / self.weights.norm()
        row = {
            "similarity": round(features.cka(features.embeddings(self.model, self.photos), self.embeddings), 6),
            "distance": round(float(moved), 6),
        }
        files.write_json(self.path, self.read(self.path.parent) | {str(epoch): row})

    @classmethod
    def read(cls, folder: Path) -> dict[str, dict[str, float]]:
        """Return the rows by epoch, from 1: ``similarity`` (CKA, 0 to 1) and ``distance``; empty if there are none."""
        path = folder / cls._FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @staticmethod
    def summary(rows: Mapping[str, Mapping[str, float]], first: int) -> dict[str, float]:
        """Return similarity and distance after the epoch `first` that trained the features, and after the last."""
        found: dict[str, float] = {}
        for when, epoch in (("early ", first), ("", len(rows))):
            found |= {f"{when}feature similarity": rows[str(epoch)]["similarity"]}
            found |= {f"{when}weight distance": rows[str(epoch)]["distance"]}
        return found


FILES = (Drift._FILE,)
"""What :class:`Drift` leaves in its folder."""
