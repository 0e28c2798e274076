"""The filters of a convolution."""

from __future__ import annotations

from torch import Tensor, nn

from cnnhw.errors import UnknownNameError
from cnnhw.features.extract import resolve
from cnnhw.models.blocks import single

__all__ = ["filters"]


def filters(model: nn.Module, layer: str | None = None) -> Tensor:
    """Return the filters of a convolution.

    Parameters
    ----------
    model : nn.Module
        Any model.
    layer : str, optional
        As for :func:`cnnhw.features.maps`.

    Returns
    -------
    Tensor of shape (K, C, k, k)
        A copy of the weights, on the CPU; half precision becomes float32.

    Raises
    ------
    UnknownNameError
        If there is no such layer, or it is no convolution.

    Examples
    --------
    >>> import cnnhw
    >>> model = cnnhw.models.create("q1_shallow", size=32)
    >>> cnnhw.features.filters(model).shape
    torch.Size([16, 3, 3, 3])
    """
    name = resolve(model, layer)
    module = model.get_submodule(name)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 4:
        known = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
        raise UnknownNameError("convolution", name, known)
    return single(weight.detach().cpu().clone())
