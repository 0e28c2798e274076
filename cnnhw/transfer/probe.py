"""The linear probe: the best linear head for frozen features, by penalised logistic regression solved to the end."""

from __future__ import annotations

import dataclasses
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnhw import evaluation
from cnnhw.data.augment import to_float
from cnnhw.data.photoset import PhotoSet, Split
from cnnhw.errors import TrainingError
from cnnhw.models.blocks import Classifier, count_parameters, device_of, evaluating
from cnnhw.training.recipe import Recipe
from cnnhw.training.run import Run
from cnnhw.training.state import class_weights

__all__ = ["PENALTIES", "linear_probe"]

PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Strengths of the L2 penalty that are tried, from the strongest."""

_BATCH = 32  # photos: larger batches leave the processor's cache and are slower


def linear_probe(
    model: Classifier, photos: PhotoSet, *, mirror: bool = True, weighted: bool = False, seed: int = 0
) -> Run:
    r"""Fit a network's last linear layer to its frozen features, in place.

    The features :math:`f \in \mathbb{R}^D` of each photo are computed once and standardised. The layer is then a
    multinomial logistic regression, which has one best solution for each strength :math:`\lambda` of its penalty:

    .. math:: \min_{W, b} \; \frac{1}{N} \sum_{n=1}^{N} -\log \operatorname{softmax}(W f_n + b)_{y_n}
              + \frac{\lambda}{2} \lVert W \rVert^2

    L-BFGS finds it in seconds, where steps of gradient descent take epochs. The strength with the lowest loss on the
    validation photos is kept. Standardisation becomes part of the layer.

    Parameters
    ----------
    model : Classifier
        The network, on any device; all but its last linear layer stays as it is.
    photos : PhotoSet
        Photos of the network's size and number of classes.
    mirror : bool
        Learn from the mirror image of each photo, too.
    weighted : bool
        Weigh the loss by the inverse frequency of the classes.
    seed : int
        Only noted in the run: nothing here is random.

    Returns
    -------
    Run
        One epoch; its recipe's ``weight_decay`` is the strength that was kept.

    Raises
    ------
    DataError
        If the photos do not fit the network.
    TrainingError
        If there are no photos to learn from or to choose by, or a feature is not a finite number.

    See Also
    --------
    cnnhw.transfer.adapt : Goes on from it with all layers.

    Examples
    --------
    >>> from cnnhw import models
    >>> from cnnhw.training import presets
    >>> model = models.create("plain", num_classes=5, size=32)  # in place of a trained one
    >>> run = linear_probe(model, presets.noise(40, 32))
    >>> run.trainable, run.recipe["weight_decay"] in PENALTIES
    (645, True)
    """
    evaluation.check_fits(model, photos.size, len(photos.classes))
    if not len(photos.train) or not len(photos.validation):
        raise TrainingError(f"{photos!r} lacks photos to train on or to validate with")
    start = time.perf_counter()
    layer = model.head[-1]
    assert isinstance(layer, nn.Linear)
    speeds = seconds_a_photo(model, photos.train.batch(range(min(_BATCH, len(photos.train)))))
    half = min(speeds, key=speeds.__getitem__)
    views = [_features(model, photos.train, mirrored, half) for mirrored in (False, True)[: 1 + mirror]]
    x, y = torch.cat(views), photos.train.labels.repeat(len(views))  # (N, D), (N,)
    held, known = _features(model, photos.validation, False, half), photos.validation.labels  # (V, D), (V,)
    if not x.isfinite().all():
        raise TrainingError(f"the features of {model.name} are not finite numbers for all photos: it cannot be used")
    mean, scale = x.mean(0), x.std(0).clamp(min=1e-6)  # (D,)
    x, held = (x - mean) / scale, (held - mean) / scale
    weights = class_weights(photos) if weighted else None
    solution = torch.zeros(len(photos.classes), x.shape[1] + 1)  # (K, D + 1): W beside b
    found: list[tuple[float, float, Tensor]] = []
    for penalty in PENALTIES:  # each from the solution before it, which is near
        solution = _solve(x, y, penalty, solution, weights)
        found.append((evaluation.loss(_logits(held, solution), known), penalty, solution))
    _, penalty, solution = min(found, key=lambda one: one[0])
    weight = solution[:, :-1] / scale
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(solution[:, -1] - weight @ mean)
    model.classes = photos.classes
    seconds = time.perf_counter() - start
    logits, outputs = _logits(x, solution), evaluation.predict(model, photos.validation)
    total = time.perf_counter() - start
    return Run(
        model=model,
        photos=photos,
        recipe=dataclasses.asdict(Recipe(epochs=1, weight_decay=penalty, flip=mirror, class_weights=weighted))
        | {"optimizer": "lbfgs"},
        seed=seed,
        history={
            "loss": [evaluation.loss(logits, y)],
            "accuracy": [evaluation.accuracy(logits.argmax(1), y)],
            "seconds": [round(seconds, 3)],
            "validation_loss": [evaluation.loss(outputs, known)],
            "validation_accuracy": [evaluation.accuracy(outputs.argmax(1), known)],
        },
        best_epoch=1,
        predictions=evaluation.predict(model, photos.test).argmax(1),
        threads=torch.get_num_threads(),
        device=device_of(model).type,
        trainable=count_parameters(layer),
        seconds_total=total,
    )


def _logits(x: Tensor, solution: Tensor) -> Tensor:
    return x @ solution[:, :-1].T + solution[:, -1]  # (N, K)


def _solve(x: Tensor, y: Tensor, penalty: float, start: Tensor, weights: Tensor | None) -> Tensor:
    """Return the minimum of the penalised loss, Tensor of shape (K, D + 1), from a start of that shape."""
    solution = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [solution], max_iter=300, tolerance_grad=1e-4, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(_logits(x, solution), y, weights) + penalty / 2 * solution[:, :-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return solution.detach()


@torch.inference_mode()
def _features(model: Classifier, split: Split, mirrored: bool, half: bool) -> Tensor:
    """Return the inputs of the last layer for the photos of a split: Tensor of shape (N, D), float32."""
    images = (to_float(split.batch(rows)) for rows in torch.arange(len(split)).split(_BATCH))
    with evaluating(model):
        return torch.cat([_inputs(model, x.flip(3) if mirrored else x, half) for x in images])


def _inputs(model: Classifier, x: Tensor, half: bool) -> Tensor:
    x = x.to(device_of(model), memory_format=torch.channels_last)  # (B, 3, S, S)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        return model.head[:-1](model.forward_features(x)).float().cpu()  # (B, D)


@torch.inference_mode()
def seconds_a_photo(model: Classifier, images: Tensor) -> dict[bool, float]:
    """Measure how long the features of a batch take, in seconds a photo, in float32 and (True) on a CPU in bfloat16."""
    x, found = to_float(images[:_BATCH]), {}
    with evaluating(model):
        for half in (False, True) if device_of(model).type == "cpu" else (False,):
            _inputs(model, x, half)  # the first time takes longer
            start = time.perf_counter()
            _inputs(model, x, half)
            found[half] = (time.perf_counter() - start) / len(x)
    return found
