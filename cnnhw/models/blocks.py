"""What all models share: the way they are built up, initialised and cut into features and head."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnhw.errors import ModelError

__all__ = ["Classifier", "evaluating", "glorot_", "linear_head"]


class Classifier(nn.Module):
    """A network in two parts: a feature extractor and a head that ends in one linear layer.

    - ``name`` (str): the name under which :func:`cnnhw.models.create` made the model, or ``""``.
    - ``options`` (dict of str to bool, int, float or str): the options that :func:`cnnhw.models.create` was given.
    - ``classes`` (tuple of str): the class names, once trained on a data set; empty before.
    - ``pixel_scale`` (float): what photos in 0..1 are multiplied by before the first layer: 1, or 255 for a network
      that was trained on raw pixels (see :class:`cnnhw.Recipe`).
    - ``new_head`` (dict of str to bool, int, float or str): the fields of the :class:`cnnhw.transfer.Head` that took
      the place of the head it was created with; empty if none did.

    Parameters
    ----------
    features : nn.Sequential
        Takes photos, Tensor of shape (N, 3, S, S) in 0..1; returns the last map, Tensor of shape (N, C, H, W).
    head : nn.Sequential
        Takes the last map; returns logits, Tensor of shape (N, num_classes). Its last layer is an ``nn.Linear``.
    size : int
        The photos' side length S, in pixels, that the network is made for.

    Raises
    ------
    ModelError
        If the head is no ``nn.Sequential`` that ends in an ``nn.Linear``.

    See Also
    --------
    cnnhw.models.create : Makes one by name.
    cnnhw.transfer.Head : Another head.

    Examples
    --------
    >>> import torch
    >>> features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    >>> head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> model = Classifier(features, head, size=32)
    >>> maps = model.forward_features(torch.rand(2, 3, 32, 32))
    >>> maps.shape, model.forward_head(maps).shape
    (torch.Size([2, 8, 32, 32]), torch.Size([2, 5]))
    """

    def __init__(self, features: nn.Sequential, head: nn.Sequential, size: int) -> None:
        super().__init__()
        if not (isinstance(head, nn.Sequential) and len(head) and isinstance(head[-1], nn.Linear)):
            raise ModelError("the head of a Classifier has to be an nn.Sequential whose last layer is an nn.Linear")
        self.features = features
        self.head = head
        self.size = size
        self.name = ""
        self.options: dict[str, bool | int | float | str] = {}
        self.classes: tuple[str, ...] = ()
        self.pixel_scale = 1.0
        self.new_head: dict[str, Any] = {}

    @property
    def num_classes(self) -> int:
        """The number of logits, from the last linear layer."""
        return self._classifier().out_features

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map of the extractor.

        Parameters
        ----------
        x : Tensor of shape (N, 3, S, S), float
            RGB photos in 0..1.

        Returns
        -------
        Tensor of shape (N, C, H, W)
            The feature maps that the head sees.

        Examples
        --------
        >>> import cnnhw, torch
        >>> model = cnnhw.models.create("q1_shallow", size=32)
        >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 64, 4, 4])
        """
        if self.pixel_scale != 1:
            x = x * self.pixel_scale  # (N, 3, S, S) in 0..255
        return self.features(x)  # (N, C, H, W)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return the logits of all that comes after the last map.

        Parameters
        ----------
        features : Tensor of shape (N, C, H, W)
            What :meth:`forward_features` returned.

        Returns
        -------
        Tensor of shape (N, num_classes)
            Logits; softmax over the last axis gives probabilities.

        Examples
        --------
        >>> import cnnhw, torch
        >>> model = cnnhw.models.create("q1_shallow", size=32)
        >>> model.forward_head(torch.rand(2, 64, 4, 4)).shape
        torch.Size([2, 5])
        """
        return self.head(features)  # (N, K)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, Tensor of shape (N, num_classes), for photos, Tensor of shape (N, 3, S, S) in 0..1."""
        features = self.forward_features(x)  # (N, C, H, W)
        return self.forward_head(features)  # (N, K)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last linear layer by a new one, initialised anew from torch's global generator.

        Parameters
        ----------
        num_classes : int
            Number of logits of the new layer, 1 or more.

        Raises
        ------
        ModelError
            If `num_classes` is less than 1.

        See Also
        --------
        cnnhw.transfer.begin : Does it with a seed of its own.

        Examples
        --------
        >>> from cnnhw import models
        >>> model = models.create("plain", num_classes=5, size=32)
        >>> model.reset_classifier(3)
        >>> model.num_classes
        3
        """
        if num_classes < 1:
            raise ModelError(f"num_classes must be 1 or more, got {num_classes}")
        old = self._classifier()
        new = nn.Linear(old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype)
        self.head[-1] = glorot_(new)
        self.classes = ()

    def _classifier(self) -> nn.Linear:
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        return last


def glorot_(module: nn.Module) -> nn.Module:
    r"""Initialise convolutions and linear layers as Keras does by default, in place.

    Weights are uniform on :math:`\pm\sqrt{6 / (n_i + n_o)}` for :math:`n_i` inputs and :math:`n_o` outputs of a unit
    (Glorot and Bengio 2010, eq. 16); biases are zero.

    Parameters
    ----------
    module : nn.Module
        Initialised with all its parts, in the order of ``module.modules()``.

    Returns
    -------
    nn.Module
        The same module.

    See Also
    --------
    cnnhw.models.create : Draws the weights of all models so.

    Examples
    --------
    >>> import torch
    >>> layer = glorot_(nn.Linear(100, 50))
    >>> bool(layer.weight.abs().max() <= (6 / 150) ** 0.5), bool(layer.bias.any())
    (True, False)
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


def linear_head(channels: int, num_classes: int) -> nn.Sequential:
    """Return global average pooling and one linear layer: maps (N, C, H, W) to logits (N, num_classes)."""
    return nn.Sequential(
        OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(channels, num_classes))
    )


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode; afterwards give each of its submodules the mode it had before."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:  # one by one, as some may be frozen
            part.training = training


def count_parameters(module: nn.Module, trainable_only: bool = False) -> int:
    """Count the parameters of a module.

    Parameters
    ----------
    module : nn.Module
        Any module.
    trainable_only : bool
        Leave out those that do not require gradients.

    Returns
    -------
    int
        Number of scalars.

    See Also
    --------
    cnnhw.theory.layers : Counts them layer by layer, without making the network.

    Examples
    --------
    >>> from cnnhw import models
    >>> count_parameters(models.create("q1_shallow"))
    1072549
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)


def placed(images: Tensor, module: nn.Module) -> Tensor:
    """Return float photos on the device, and in the number format, of a module's parameters."""
    like = next((part for part in module.parameters() if part.is_floating_point()), None)
    return images if like is None else images.to(like.device, like.dtype)


def single(values: Tensor) -> Tensor:
    """Return values in single precision, if they are in half."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def logits_of(out: Any) -> Tensor:
    """Return the logits, float32 or float64, of what a classifier returned."""
    logits = out.get("logits") if isinstance(out, Mapping) else getattr(out, "logits", out)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        what = f"a tensor of shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise ModelError(
            f"the model returns {what}, not logits of shape (N, K), nor an object that has them as its logits: put it "
            "into a module that returns them"
        )
    return single(logits)


def check_classifier(model: nn.Module, done: str) -> None:
    """Raise ModelError if a network is no `Classifier`; `done` says what cannot be done with it."""
    if not isinstance(model, Classifier):
        raise ModelError(
            f"a {type(model).__name__} cannot be {done} as it is, only a cnnhw.models.Classifier: put its layers into "
            "one, as Classifier(features, head, size)"
        )


def takes(module: nn.Module, side: int) -> bool:
    """Return whether something is left of photos of `side` pixels at the end of a module."""
    try:
        with evaluating(module), torch.inference_mode():
            return module(placed(torch.zeros(1, 3, side, side), module)).numel() > 0
    except RuntimeError:
        return False


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the module's first parameter."""
    return next(module.parameters()).device


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Have torch's global generators begin anew inside the block, and go on as before after it."""
    if device is None or device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # those of other devices are left alone
            yield
    else:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield
