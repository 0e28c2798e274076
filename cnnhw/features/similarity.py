"""Embeddings, and the similarity of those of two networks."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnhw.data.augment import to_float
from cnnhw.data.photoset import Split
from cnnhw.errors import DataError, ModelError
from cnnhw.features.extract import _BATCH
from cnnhw.models.blocks import Classifier, evaluating, placed
from cnnhw.models.heads import check_size

__all__ = ["cka", "embeddings"]


def cka(first: Tensor, second: Tensor) -> float:
    """Return the similarity of two representations of the same photos, up to rotation and scale.

    Parameters
    ----------
    first : Tensor of shape (N, D)
        The features of N photos by one network.
    second : Tensor of shape (N, E)
        Their features by another network.

    Returns
    -------
    float
        Linear centred kernel alignment (Kornblith et al. 2019, eq. 4), 0 to 1; 1 for representations that differ by a
        rotation and a factor alone. It is biased upwards where N is not much larger than D and E.

    Raises
    ------
    DataError
        If the numbers of photos differ, or one representation is the same for all photos.

    Examples
    --------
    >>> import cnnhw, torch
    >>> first = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]])
    >>> round(cnnhw.features.cka(first, 3 * first.flip(1)), 6)
    1.0
    """
    if len(first) != len(second):
        raise DataError(f"representations of {len(first)} and of {len(second)} photos cannot be compared")
    x, y = (values.detach().double() - values.detach().double().mean(0) for values in (first, second))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    if scale == 0:
        raise DataError("a representation that is the same for all photos cannot be compared")
    return float((y.T @ x).square().sum() / scale)


def embeddings(model: Classifier, split: Split) -> Tensor:
    """Return embeddings of photos: the extractor's last map, averaged over all positions.

    Parameters
    ----------
    model : Classifier
        The network.
    split : Split
        N photos, best of the side that the network was trained with.

    Returns
    -------
    Tensor of shape (N, C), float32
        One embedding for each photo, on the CPU.

    Raises
    ------
    DataError
        If there are no photos.
    ModelError
        If the model is no `Classifier`, or takes no photos of that size.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw.data import scenes
    >>> photos = scenes.load(size=32, train=50, test=10, progress=False)
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> cnnhw.features.embeddings(model, photos.test).shape
    torch.Size([10, 64])
    """
    if not len(split):
        raise DataError("there are no photos to compute embeddings of: give a split that is not empty")
    if not isinstance(model, Classifier):
        raise ModelError(
            f"a {type(model).__name__} has no last map by itself: take cnnhw.features.maps of a layer of it"
        )
    check_size(model, split.store.shape[-1])
    found = []
    with evaluating(model), torch.no_grad():
        for rows in torch.arange(len(split)).split(_BATCH):
            photos = placed(to_float(split.batch(rows)), model).to(memory_format=torch.channels_last)
            found.append(model.forward_features(photos).mean((2, 3)).float().cpu())
    return torch.cat(found)
