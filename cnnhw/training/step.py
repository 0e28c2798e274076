"""One step of training: photos become logits, logits a loss, the loss gradients, and gradients new weights.

This page is one step of one process in single precision. What else a recipe or a machine asks for is wrapped around it,
each by a function that takes a step and returns one: :func:`cnnhw.training.mixup.mixup`,
:func:`cnnhw.training.mixed_precision.mixed` and, for several processes, ``cnnhw.training.distributed.shared``.
:mod:`cnnhw.training.loop` takes the steps of all epochs.

In the shapes, B is the number of photos in the batch, S their side in pixels, s the side that they are trained at, and
K the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnnhw.data.augment import resize, to_float
from cnnhw.training.optimizers import Update

__all__ = ["prepare", "step"]

Network = Callable[[Tensor], Tensor]
Criterion = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor, Network, Criterion, Update], tuple[Tensor, Tensor]]


def prepare(images: Tensor, augment: Callable[[Tensor], Tensor], side: int, device: torch.device) -> Tensor:
    """Make a batch of stored photos what the network takes.

    Parameters
    ----------
    images : Tensor of shape (B, C, S, S), uint8 or float32
        Photos in 0..255, C = 3; or cached features, which are floats already.
    augment : callable
        Changes a batch of photos at random: see :func:`cnnhw.data.augment.augment`.
    side : int
        Side length s in pixels that the photos are trained at.
    device : torch.device
        Where the network is.

    Returns
    -------
    Tensor of shape (B, C, s, s), float32
        Photos in 0..1, in memory channels last.

    See Also
    --------
    step : What the result is for.

    Examples
    --------
    >>> import torch
    >>> images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    >>> x = prepare(images, lambda images: images.flip(3), side=32, device=torch.device("cpu"))
    >>> x.shape, x.dtype
    (torch.Size([8, 3, 32, 32]), torch.float32)
    """
    images = augment(images)  # (B, 3, S, S) in 0..255: mirrored, shifted, partly covered
    x = to_float(images)  # (B, 3, S, S) in 0..1
    x = resize(x, side)  # (B, 3, s, s)
    return x.to(device, memory_format=torch.channels_last)  # (B, 3, s, s); the colours of a pixel beside each other


def step(x: Tensor, y: Tensor, network: Network, criterion: Criterion, optimizer: Update) -> tuple[Tensor, Tensor]:
    """Take one step down the gradient of the loss of one batch.

    Parameters
    ----------
    x : Tensor of shape (B, 3, s, s), float32
        Photos in 0..1.
    y : Tensor of shape (B,), int64
        Their classes, 0 to K - 1.
    network : callable
        Takes photos, returns logits.
    criterion : callable
        Takes logits and classes, returns their mean loss.
    optimizer : Update
        Updates the network's parameters, in place; not where the loss is infinite or not a number.

    Returns
    -------
    loss : Tensor of shape (), float32
        The loss before the step, in nats.
    logits : Tensor of shape (B, K), float32
        The logits before the step.

    See Also
    --------
    prepare : Makes the batch.
    cnnhw.fit : Takes the steps of a whole run.

    Examples
    --------
    >>> import torch
    >>> from cnnhw import Recipe, models
    >>> from cnnhw.training.optimizers import Update
    >>> model = models.create("plain", num_classes=3, size=32)
    >>> x, y = torch.rand(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    >>> optimizer = Update(model, Recipe())
    >>> losses = [step(x, y, model, torch.nn.CrossEntropyLoss(), optimizer)[0] for _ in range(5)]
    >>> bool(losses[-1] < losses[0])
    True
    """
    logits = network(x)  # (B, K): one number a class, the larger the likelier
    loss = criterion(logits, y)  # (): the mean of -log softmax(logits)[y] over the batch
    optimizer.zero_grad()  # the gradients of the step before are gone
    loss.backward()  # each parameter p gets p.grad, of its own shape: d loss / d p
    if loss.isfinite():
        optimizer.step()  # each p moves against p.grad, by about the learning rate
    return loss.detach(), logits.detach()
