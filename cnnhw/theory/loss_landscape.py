"""The loss between and around trained networks, and the gradient norm of each convolution.

A plane through three networks is a slice of the loss that needs no choice of directions and of their scale (Garipov et
al. 2018): it is the one plane on which all three lie.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import vector_to_parameters

from cnnhw.errors import CnnhwError
from cnnhw.models.blocks import Classifier

__all__ = ["Plane", "barrier", "gradient_norms", "plane"]


@dataclass(frozen=True, eq=False)
class Plane:
    """The loss on a plane through three networks.

    - ``losses`` (array of shape (steps, steps)): mean cross-entropy in nats; rows go along `up`, columns along
      `across`.
    - ``across``, ``up`` (array of shape (steps,)): coordinates of the columns and rows: distances between weights (L2
      norm over all parameters) from the first network, along the direction to the second one, and at right angles to
      it, towards the third.
    - ``places`` (tuple of three (float, float)): where the networks are: the first at (0, 0), the second at (its
      distance from the first, 0).
    - ``heights`` (tuple of three float): the losses of the three networks themselves.
    """

    losses: NDArray[np.float64]
    across: NDArray[np.float64]
    up: NDArray[np.float64]
    places: tuple[tuple[float, float], ...]
    heights: tuple[float, ...]


def gradient_norms(model: Classifier, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure the gradient norm of each convolution.

    Parameters
    ----------
    model : Classifier
        The model. It is left as it is: its own gradients, its mode and the statistics of its batch norms included.
    images : Tensor of shape (N, 3, S, S), float
        Photos in 0..1; batch norm takes its statistics from them, as in training.
    labels : Tensor of shape (N,), int64
        Their classes.

    Returns
    -------
    dict of str to float
        The L2 norm of the mean cross-entropy's gradient by each convolution's weight, by the convolution's name, in
        the order of the model's modules.

    Examples
    --------
    >>> import cnnhw, torch
    >>> model = cnnhw.models.create("q1_shallow", size=16)
    >>> list(gradient_norms(model, torch.rand(8, 3, 16, 16), torch.arange(8) % 5))
    ['features.conv1', 'features.conv2', 'features.conv3']
    """
    probe = copy.deepcopy(model).requires_grad_().train()
    weights = {name: part.weight for name, part in probe.named_modules() if isinstance(part, nn.Conv2d)}
    gradients = torch.autograd.grad(F.cross_entropy(probe(images), labels), list(weights.values()))
    return {name: float(gradient.norm()) for name, gradient in zip(weights, gradients, strict=True)}


def plane(
    first: Classifier,
    second: Classifier,
    third: Classifier,
    images: Tensor,
    labels: Tensor,
    steps: int = 15,
    margin: float = 0.3,
) -> Plane:
    """Measure the loss on the plane through three networks (Garipov et al. 2018).

    The statistics of batch norm belong to weights, and at weights in between there are none: they are estimated anew at
    each point, from the given photos, as for averaged weights (Izmailov et al. 2018). So a loss here is one in training
    mode, with all photos in one batch and without dropout, and differs from that of the network in evaluation mode.

    Parameters
    ----------
    first, second, third : Classifier
        Networks of one structure whose weights do not lie on a line, such as two solutions and the start that they
        have in common. They are left as they are.
    images : Tensor of shape (N, 3, S, S), float
        Photos in 0..1, a few hundred: there are steps^2 passes over them.
    labels : Tensor of shape (N,), int64
        Their classes.
    steps : int
        Points along each axis, 2 or more.
    margin : float
        How far the plane reaches beyond the networks on each side, as a share of their extent along that axis.

    Returns
    -------
    Plane
        Losses, coordinates, and where the networks are.

    Raises
    ------
    CnnhwError
        If the networks differ in structure, or lie on a line.

    Examples
    --------
    >>> import cnnhw, torch
    >>> networks = [cnnhw.models.create("q1_shallow", size=16, seed=seed) for seed in range(3)]
    >>> found = plane(*networks, torch.rand(8, 3, 16, 16), torch.arange(8) % 5, steps=3)
    >>> found.losses.shape, found.places[0]
    ((3, 3), (0.0, 0.0))
    """
    origin, *others = _vectors(first, second, third)
    to_second, to_third = (other - origin for other in others)
    length = float(to_second.norm())
    east = to_second / max(length, 1e-30)
    along = float(to_third @ east)
    rest = to_third - along * east
    height = float(rest.norm())
    if min(length, height) < 1e-6 * (1 + float(origin.norm())):
        raise CnnhwError("the three networks lie on a line, so there is no plane through them: take a different third")
    north = rest / height
    places = ((0.0, 0.0), (length, 0.0), (along, height))
    across, up = (_grid([place[axis] for place in places], steps, margin) for axis in (0, 1))
    loss = _loss_at(first, images, labels)
    losses = np.array([[loss(origin + x * east + y * north) for x in across] for y in up])
    return Plane(losses, across, up, places, tuple(loss(weights) for weights in (origin, *others)))


def barrier(first: Classifier, second: Classifier, images: Tensor, labels: Tensor, steps: int = 11) -> list[float]:
    """Measure the loss on the straight line from one network to another.

    Parameters
    ----------
    first, second, images, labels
        As for :func:`plane`; batch norm is treated as there.
    steps : int
        Points on the line, both ends included, 2 or more.

    Returns
    -------
    list of float
        Mean cross-entropies in nats. How far they rise above the straight line between their ends is the barrier.

    Examples
    --------
    >>> import cnnhw, torch
    >>> networks = [cnnhw.models.create("q1_shallow", size=16, seed=seed) for seed in range(2)]
    >>> len(barrier(*networks, torch.rand(8, 3, 16, 16), torch.arange(8) % 5, steps=5))
    5
    """
    start, end = _vectors(first, second)
    loss = _loss_at(first, images, labels)
    return [loss(start + t * (end - start)) for t in np.linspace(0, 1, steps).tolist()]


def _vectors(*networks: Classifier) -> list[Tensor]:
    """Return all parameters of each network as one vector, in double precision."""
    shapes = [[(name, value.shape) for name, value in network.named_parameters()] for network in networks]
    if any(other != shapes[0] for other in shapes[1:]):
        raise CnnhwError("the networks differ in structure: weights are compared one by one, so create all alike")
    # trained networks keep their weights channels last, which torch's own parameters_to_vector refuses
    return [torch.cat([p.detach().double().reshape(-1) for p in network.parameters()]) for network in networks]


def _loss_at(model: Classifier, images: Tensor, labels: Tensor) -> Callable[[Tensor], float]:
    """Return the function from a vector of weights to the loss."""
    probe = copy.deepcopy(model).eval()
    dtype = next(probe.parameters()).dtype
    for part in probe.modules():
        if isinstance(part, _BatchNorm):
            part.train()

    @torch.no_grad()
    def loss(weights: Tensor) -> float:
        vector_to_parameters(weights.to(dtype), probe.parameters())
        return float(F.cross_entropy(probe(images), labels))

    return loss


def _grid(values: Sequence[float], steps: int, margin: float) -> NDArray[np.float64]:
    low, high = min(values), max(values)
    reach = margin * (high - low)
    return np.linspace(low - reach, high + reach, steps)
