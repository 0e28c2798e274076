"""What is checked before the first step: that network, photos and recipe fit together; and what depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from cnnhw import evaluation
from cnnhw.data.photoset import PhotoSet
from cnnhw.errors import ModelError, TrainingError
from cnnhw.models.blocks import Classifier, check_classifier, evaluating, placed, takes
from cnnhw.training import distributed
from cnnhw.training.recipe import Recipe

__all__ = []

_Norm = nn.modules.batchnorm._BatchNorm


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Cut an order of photos (N,) into batches of `size`; a last one of a single photo joins the one before it."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1 < size:  # batch norm has no variance for one
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def side(model: Classifier, wanted: int, size: int) -> int:
    """Return `wanted` pixels, or the next side up to `size` of which the extractor leaves something."""
    while wanted < size and not takes(model.features, wanted):
        wanted = min(wanted + 2, size)
    return wanted


def check_possible(model: Classifier, photos: PhotoSet, recipe: Recipe) -> None:
    """Raise an error if a network cannot be trained so on these photos."""
    _check_network(model)
    evaluation.check_fits(model, photos.size, len(photos.classes))
    if recipe.minutes and distributed.count() > 1:
        raise TrainingError("minutes are for one process, as each has its own clock: give the recipe epochs instead")
    if not len(photos.train) or not len(photos.validation):
        raise TrainingError(f"{photos!r} lacks photos to train on or to validate with")
    wanted = {recipe.side(epoch, photos.size) for epoch in range(1, recipe.epochs + 1)}
    sides = {side(model, pixels, photos.size) for pixels in wanted | {photos.size}}
    alone = min(len(part) for part in batches(torch.arange(len(photos.train)), recipe.batch_size)) == 1
    for pixels in sorted(sides, reverse=True):  # at the full side, an error is the network's own
        try:
            out, single = _tried(model, photos.train.store.shape[1], pixels)
        except RuntimeError as error:
            if pixels == photos.size:
                raise
            raise TrainingError(
                f"{model.name or 'the network'} cannot be trained at {pixels} pixels, only at {model.size} ({error}): "
                "choose other resolutions in the recipe, or another model"
            ) from error
        _check_logits(out, len(photos.classes))
        if alone and single:
            raise TrainingError(
                f"a batch of one photo cannot be normalised: at {pixels} pixels, batch norm sees one value a channel. "
                "Take batches of 2 photos or more, or larger photos"
            )


def _check_network(model: Classifier) -> None:
    """Raise ModelError if training does not know what to do with a network, or cannot save it."""
    check_classifier(model, "trained")
    name = model.name or "the network"
    parts = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    lazy = [key for key, value in parts.items() if nn.parameter.is_lazy(value)]
    if lazy:
        raise ModelError(f"{lazy[0]} of {name} has no shape yet: call the network on some photos before training")
    if kinds := {value.dtype for value in parts.values() if value.is_floating_point()} - {torch.float32}:
        raise ModelError(
            f"{name} holds numbers of {', '.join(sorted(map(str, kinds)))}, and float32 is trained: call its method "
            "float(); convolutions in half precision are chosen by Recipe(precision=...)"
        )
    devices = {str(value.device) for value in parts.values()}
    if len(devices) > 1 or "meta" in devices:
        raise ModelError(f"{name} lies on {', '.join(sorted(devices))}: move it to one device with its method to()")
    if not any(value.requires_grad for value in model.parameters()):
        raise ModelError(f"all parameters of {name} are frozen: call its method requires_grad_()")
    if other := [key for key, value in model.state_dict().items() if not isinstance(value, Tensor)]:
        raise ModelError(f"{other[0]} of {name} is no tensor, and could not be saved: keep it out of the state")


def _check_logits(out: Any, count: int) -> None:
    shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if shape != (1, count):
        raise ModelError(f"for one photo the network returns {shape}, not logits: a tensor of shape (1, {count})")


def _tried(model: Classifier, channels: int, pixels: int) -> tuple[Any, bool]:
    """Return what a network returns for one photo, and whether a batch norm that learns sees one value a channel."""
    seen: list[bool] = []

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].shape[2:].numel() == 1)

    with ExitStack() as stack, torch.inference_mode():
        for norm in learning_norms(model):
            stack.callback(norm.register_forward_pre_hook(note).remove)
        stack.enter_context(evaluating(model))
        return model(placed(torch.zeros(1, channels, pixels, pixels), model)), any(seen)


def learning_norms(model: nn.Module) -> Iterator[nn.Module]:
    """Give the batch norms whose statistics are not frozen: of one without parameters, those of its place decide."""
    for name, part in model.named_modules():
        if isinstance(part, _Norm):
            place = part if part.affine else model.get_submodule(name.rpartition(".")[0])
            if any(value.requires_grad for value in place.parameters()):
                yield part
