"""Networks of others that are to be had with weights from ImageNet: what a transfer can start from.

:func:`cnnhw.models.pretrained.load` gives them those weights. The EfficientNets are written out here, the other two are
torchvision's, cut into features and head.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from cnnhw.errors import ModelError
from cnnhw.models.blocks import Classifier, linear_head
from cnnhw.models.depthwise import Depthwise

__all__ = [
    "MBConv", "SamePad", "Standardise", "efficientnet_lite0", "efficientnet_lite2", "mobilenet_v3_small", "resnet18",
]  # fmt: skip

# (kernel side, stride of the first block, factor of expansion) of each stage
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
# (blocks, channels out) of each stage
_LITE0 = ((1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320))
_LITE2 = ((1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352))
_HALF = (0.5, 0.5, 0.5)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's photos


class Standardise(nn.Module):
    """Shift and scale photos in 0..1 channel by channel, as when the weights were trained."""

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std  # no buffers: they are part of the network, not of its weights

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(x - mean) / std``, Tensor of shape (N, 3, S, S)."""
        mean, std = x.new_tensor(self.mean), x.new_tensor(self.std)  # (3,)
        return (x - mean[:, None, None]) / std[:, None, None]  # (N, 3, S, S)


class SamePad(nn.Module):
    """Pad with zeros as TensorFlow does before a convolution of stride 2: on even sides one more at the far end."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Return the padded map, Tensor of shape (N, C, H + p, W + q)."""
        high, wide = (self.kernel - 2 + side % 2 for side in x.shape[-2:])
        return F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))  # (N, C, H + p, W + q)


class MBConv(nn.Module):
    """Inverted bottleneck: widen by a 1x1 convolution, filter each channel by itself, narrow (Sandler et al. 2018)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = channels * expand
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expand > 1:
            layers |= {"expand": nn.Conv2d(channels, wide, 1, bias=False), "expand_norm": _norm(wide)}
            layers |= {"expand_relu": nn.ReLU6()}
        if stride > 1:
            layers |= {"pad": SamePad(kernel)}
        padding = kernel // 2 if stride == 1 else 0
        depthwise = Depthwise(wide, kernel, stride, padding)
        layers |= {"depthwise": depthwise, "depthwise_norm": _norm(wide), "depthwise_relu": nn.ReLU6()}
        layers |= {"project": nn.Conv2d(wide, out, 1, bias=False), "project_norm": _norm(out)}
        self.inner = nn.Sequential(layers)
        self.added = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Return a Tensor of shape (N, K, ceil(H / stride), ceil(W / stride))."""
        out = self.inner(x)  # (N, K, ceil(H / stride), ceil(W / stride))
        return x + out if self.added else out


def efficientnet_lite0(num_classes: int = 5, size: int = 224) -> Classifier:
    """Build EfficientNet-Lite0 (Liu 2020), which has no squeeze-and-excitation: maps (N, 1280, S/32, S/32)."""
    return _efficientnet(num_classes, size, _LITE0)


def efficientnet_lite2(num_classes: int = 5, size: int = 260) -> Classifier:
    """Build EfficientNet-Lite2, which is wider and deeper than Lite0: maps (N, 1280, S/32, S/32)."""
    return _efficientnet(num_classes, size, _LITE2)


def _efficientnet(num_classes: int, size: int, widths: tuple[tuple[int, int], ...]) -> Classifier:
    _check(size)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        standardise=Standardise(_HALF, _HALF),
        stem=nn.Sequential(
            OrderedDict(pad=SamePad(3), conv=nn.Conv2d(3, 32, 3, stride=2, bias=False), norm=_norm(32), relu=nn.ReLU6())
        ),  # (N, 32, S/2, S/2)
    )
    channels = 32
    for number, ((kernel, stride, expand), (blocks, out)) in enumerate(zip(_STAGES, widths, strict=True), start=1):
        stage = [MBConv(channels, out, kernel, stride, expand)]
        stage += [MBConv(out, out, kernel, 1, expand) for _ in range(blocks - 1)]
        layers[f"stage{number}"] = nn.Sequential(*stage)
        channels = out
    layers["top"] = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(channels, 1280, 1, bias=False), norm=_norm(1280), relu=nn.ReLU6())
    )
    return Classifier(nn.Sequential(layers), linear_head(1280, num_classes), size)


def resnet18(num_classes: int = 5, size: int = 224) -> Classifier:
    """Build torchvision's ResNet-18 (He et al. 2016) for sides S of 32 or more: maps (N, 512, S/32, S/32)."""
    from torchvision import models as zoo  # takes a second to import

    _check(size)
    net = zoo.resnet18(weights=None, num_classes=num_classes)
    _out_of_place(net)
    layers = OrderedDict(
        standardise=Standardise(_MEAN, _STD),
        stem=nn.Sequential(
            OrderedDict(conv=net.conv1, norm=net.bn1, relu=net.relu, pool=net.maxpool)
        ),  # (N, 64, S/4, S/4)
        stage1=net.layer1, stage2=net.layer2, stage3=net.layer3, stage4=net.layer4,
    )  # fmt: skip
    return Classifier(nn.Sequential(layers), _head(linear=net.fc), size)


def mobilenet_v3_small(num_classes: int = 5, size: int = 224) -> Classifier:
    """Build torchvision's small MobileNetV3 (Howard et al. 2019): maps (N, 576, S/32, S/32)."""
    from torchvision import models as zoo

    _check(size)
    net = zoo.mobilenet_v3_small(weights=None, num_classes=num_classes)
    _out_of_place(net)
    stem, *blocks, top = net.features
    layers: OrderedDict[str, nn.Module] = OrderedDict(standardise=Standardise(_MEAN, _STD), stem=stem)
    layers |= {f"block{number}": block for number, block in enumerate(blocks, start=1)}
    layers["top"] = top
    dense, activation, dropout, linear = net.classifier
    head = _head(dense=dense, activation=activation, dropout=dropout, linear=linear)
    return Classifier(nn.Sequential(layers), head, size)


def _head(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), **layers))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # EfficientNet's


def _check(size: int) -> None:
    if size < 32:
        raise ModelError(f"size={size} is too small: at least 32 pixels leave a cell of the last map")


def _out_of_place(net: nn.Module) -> None:
    # a map that was kept of one layer is not to be overwritten by the next
    for part in net.modules():
        if "inplace" in vars(part):
            vars(part)["inplace"] = False
