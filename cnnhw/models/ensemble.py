"""An ensemble: several networks, trained apart, that answer as one (Hansen and Salamon 1990).

The mean of the members' logits is again one linear layer: it sees the channels of all members beside each other. So an
ensemble is a network like any other, with many separate branches; what works with a network works with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models import fast as members_
from cnnhw.models.blocks import Classifier, linear_head

__all__ = ["Branches", "ensemble", "joined"]

_BUILDERS = {"fast": members_.fast, "best": members_.best}


class Branches(nn.Module):
    r"""Feature extractors side by side, each of which sees the photo and its mirror image.

    .. math:: y = [f_1(x), \ldots, f_M(x)], \qquad
              f_m(x) = \tfrac{1}{2}\bigl(g_m(x) + \operatorname{flip} g_m(\operatorname{flip} x)\bigr)

    Parameters
    ----------
    branches : sequence of nn.Module
        The extractors :math:`g_m`, M of them: each returns a Tensor of shape (N, C, H, W).

    Examples
    --------
    >>> Branches([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)])(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8, 8])
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps of all branches, Tensor of shape (N, M * C, H, W), for photos (N, 3, S, S)."""
        both = torch.cat([x, x.flip(3)])  # (2N, 3, S, S): the photos, then their mirror images
        maps = torch.cat([branch(both) for branch in self.branches], 1)  # (2N, M * C, H, W)
        count = x.shape[0]  # N
        return (maps[:count] + maps[count:].flip(3)) / 2  # (N, M * C, H, W)


def ensemble(num_classes: int = 5, size: int = 64, *, members: int = 2, of: str = "fast") -> Classifier:
    """Build an ensemble of `fast` or `best` networks.

    Parameters
    ----------
    num_classes, size : int
        Number of logits; side length S of the photos in pixels, 16 or more.
    members : int
        Number M of networks, 1 or more.
    of : {"fast", "best"}
        Their kind.

    Returns
    -------
    Classifier
        The network; ``forward_features`` gives a Tensor of shape (N, M * C, S/16, S/16) for members with C channels.

    See Also
    --------
    joined : The ensemble of trained networks.
    cnnhw.training.ensembles.fit_ensemble : Trains one, each member apart.

    Examples
    --------
    >>> from cnnhw import models
    >>> model = models.create("ensemble", size=32, members=3)
    >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 384, 2, 2])
    """
    if of not in _BUILDERS:
        raise ModelError(f"of={of!r} is not possible, an ensemble is made of {' or '.join(_BUILDERS)}")
    if members < 1:
        raise ModelError(f"members={members} is not possible, an ensemble has 1 or more")
    parts = [_BUILDERS[of](num_classes, size) for _ in range(members)]
    features = nn.Sequential(OrderedDict(members=Branches([part.features for part in parts])))
    return Classifier(features, linear_head(members * parts[0]._classifier().in_features, num_classes), size)


def joined(networks: Sequence[Classifier]) -> Classifier:
    """Return the ensemble of trained networks of one kind: its logits are the mean of theirs, mirror images included.

    Parameters
    ----------
    networks : sequence of Classifier
        Networks `fast` or `best`, all of the same kind, size and classes; their layers become the ensemble's.

    Returns
    -------
    Classifier
        The ensemble, in evaluation mode.

    Raises
    ------
    ModelError
        If the networks are of different kinds, sizes or classes, or of a kind that cannot be joined.

    Examples
    --------
    >>> from cnnhw import models
    >>> model = joined([models.create("fast", seed=seed, size=32) for seed in range(3)])
    >>> model.name, model.options
    ('ensemble', {'members': 3, 'of': 'fast'})
    """
    kinds = {(one.name, one.num_classes, one.size, one.classes, one.pixel_scale, *one.options) for one in networks}
    if len(kinds) != 1 or networks[0].name not in _BUILDERS or networks[0].new_head:
        raise ModelError("an ensemble is made of networks 'fast' or 'best', all of one kind, size and list of classes")
    first = networks[0]
    with torch.device("meta"):
        model = ensemble(first.num_classes, first.size, members=len(networks), of=first.name)
    features, heads = model.features[0], [one._classifier() for one in networks]
    assert isinstance(features, Branches)
    features.branches = nn.ModuleList([one.features for one in networks])
    linear = nn.Linear(model._classifier().in_features, first.num_classes, device=heads[0].weight.device)
    with torch.no_grad():
        linear.weight.copy_(torch.cat([head.weight for head in heads], 1) / len(heads))  # (K, M * C)
        linear.bias.copy_(torch.stack([head.bias for head in heads]).mean(0))  # (K,)
    model.head[-1] = linear
    model.name, model.options = "ensemble", {"members": len(networks), "of": first.name}
    model.classes, model.pixel_scale = first.classes, first.pixel_scale
    return model.eval()
