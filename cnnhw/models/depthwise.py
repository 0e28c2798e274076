"""Depthwise convolutions whose gradients a CPU finds quickly in bfloat16.

PyTorch's own are 20 to 60 times slower than the convolution itself where a kernel has 5x5 weights or a stride of 2, as
no fast code is there for these. Both gradients can be written as what there is fast code for.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Depthwise"]


class Depthwise(nn.Conv2d):
    r"""A convolution of each channel by a kernel of its own, with C channels in and out.

    .. math:: y_{c,i,j} = \sum_{u,v} w_{c,u,v} \, x_{c,\,si+u,\,sj+v}

    Parameters
    ----------
    channels : int
        Number of channels C.
    kernel : int
        Side of the kernels, 3 or 5.
    stride : int
        Step s between two outputs.
    padding : int
        Zeros at each side.

    See Also
    --------
    cnnhw.models.imagenet.MBConv : Holds one.

    Examples
    --------
    >>> Depthwise(8, kernel=5, stride=2)(torch.rand(2, 8, 15, 15)).shape
    torch.Size([2, 8, 6, 6])
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(channels, channels, kernel, stride, padding, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered maps, Tensor of shape (N, C, H', W')."""
        half = x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
        if not half or torch.get_autocast_dtype("cpu") != torch.bfloat16:
            return super().forward(x)
        x, weight = x.bfloat16(), self.weight.bfloat16()
        return _Filter.apply(x, weight, self.stride[0], int(self.padding[0]))


class _Filter(torch.autograd.Function):
    """The convolution with gradients of our own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        to_x = _input_gradient(grad, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        to_weight = _weight_gradient(grad, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, None, None


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return the gradient of the input: the mirrored kernels over the gradient, spread out by the stride."""
    side = weight.shape[-1]
    if stride > 1:
        size = [n + 2 * padding - side + 1 for n in x.shape[2:]]
        spread = torch.zeros(*grad.shape[:2], *size, dtype=grad.dtype).contiguous(memory_format=torch.channels_last)
        spread[:, :, ::stride, ::stride] = grad
        grad = spread
    return F.conv2d(grad, weight.flip(2, 3), None, 1, side - 1 - padding, groups=len(weight))


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return the gradient of the kernels, of which each quarter of 3x3 weights is found as that of a 3x3 kernel."""
    side = weight.shape[-1]
    if padding:
        x = F.pad(x, (padding,) * 4)
    found = torch.empty_like(weight)
    rows, columns = ((n - 1) * stride + 3 for n in grad.shape[2:])
    starts = {0, side - 3}
    for i in starts:
        for j in starts:
            seen = x[:, :, i : i + rows, j : j + columns].contiguous(memory_format=torch.channels_last)
            found[:, :, i : i + 3, j : j + 3] = torch.ops.aten.convolution_backward(
                grad, seen, weight[:, :, :3, :3].contiguous(), None, [stride, stride], [0, 0], [1, 1], False, [0, 0],
                len(weight), [False, True, False],
            )[1]  # fmt: skip
    return found
