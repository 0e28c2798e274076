"""The report's networks in Keras and ours compute the same. Optional: needs ``pip install "cnnhw[keras]"``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnhw import models

pytestmark = [pytest.mark.keras, pytest.mark.slow]

# Keras runs in a process of its own: it and PyTorch do not always bear each other in one
KERAS_SIDE = """
import importlib.util, sys
import numpy as np

path, name, out = sys.argv[1:]
spec = importlib.util.spec_from_file_location("keras_reference", path)
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)
import keras

keras.utils.set_random_seed(1)
model = reference.build(name, rescale=False)
arrays = {}
for number, layer in enumerate(layer for layer in model.layers if layer.get_weights()):
    arrays[f"weight{number:02}"], arrays[f"bias{number:02}"] = layer.get_weights()


def photos(count, seed):
    return np.random.default_rng(seed).random((count, 128, 128, 3), dtype=np.float32)


for scale in (1, 255):
    arrays[f"logits{scale}"] = model.predict(photos(8, 0) * scale, verbose=0)
labels = np.arange(16) % 5
arrays["losses"] = []
for step in range(5):
    arrays["losses"].append(float(model.train_on_batch(photos(16, step), labels)[0]))
    model.reset_metrics()
np.savez(out, **arrays)
"""

# weights in the order in which Keras creates the layers; ours by name
ORDER = {
    "q1_shallow": ["features.conv1", "features.conv2", "features.conv3", "head.dense1", "head.dense2"],
    "q1_deep": [*(f"features.conv{i}" for i in range(1, 5)), "head.dense1", "head.dense2"],
    "q2_concat_skip": [
        "features.concat1.main.conv1",
        "features.concat1.main.conv2",
        "features.concat1.project",
        "features.concat2.main.conv3",
        "features.concat2.main.conv4",
        "features.concat2.project",
        "head.dense1",
        "head.dense2",
    ],
    "q4_inception": [
        f"features.inception{i}.{branch}"
        for i in (1, 2)
        for branch in ("branch3.0", "branch3.2", "branch5.0", "branch5.2", "branch_pool.1", "branch1.0")
    ]
    + ["head.dense1", "head.dense2", "head.dense3"],
}


@pytest.fixture(scope="module", params=ORDER)
def twins(request, tmp_path_factory):
    """Return what Keras computes, and our network with Keras's weights."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    out = tmp_path_factory.mktemp("keras") / "arrays.npz"
    script = Path(__file__).parent / "benchmarks" / "keras_reference.py"
    subprocess.run([sys.executable, "-c", KERAS_SIDE, script, request.param, out], check=True, capture_output=True)
    with np.load(out) as file:
        theirs = dict(file)
    ours = models.create(request.param)
    left = {}
    for key in sorted(key for key in theirs if key.startswith("weight")):
        left.setdefault(theirs[key].shape, []).append((theirs[key], theirs[key.replace("weight", "bias")]))
    with torch.no_grad():
        for name in ORDER[request.param]:
            part = ours.get_submodule(name)
            rows, columns = part.weight.shape[:2]
            kernel = (*part.weight.shape[2:], columns, rows) if isinstance(part, nn.Conv2d) else None
            wanted = kernel if kernel in left else (columns, rows)  # Q2's 1x1 convolutions are dense layers in Keras
            weight, bias = (torch.from_numpy(array) for array in left[wanted].pop(0))
            if kernel == wanted:
                weight = weight.permute(3, 2, 0, 1)
            elif name == "head.dense1":  # flattened as rows, columns, channels there
                shape = ours.forward_features(torch.zeros(1, 3, 128, 128)).shape[1:]
                weight = weight.reshape(shape[1], shape[2], shape[0], -1).permute(3, 2, 0, 1).flatten(1)
            else:
                weight = weight.T.reshape(part.weight.shape)
            part.weight.copy_(weight)
            part.bias.copy_(bias)
    assert not any(left.values()), "Keras has layers that ours lacks"
    return theirs, ours


def photos(count, seed):
    x = np.random.default_rng(seed).random((count, 128, 128, 3), dtype=np.float32)
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("training", [False, True])  # nothing in these networks may differ in training
def test_same_logits(twins, scale, training):
    theirs, ours = twins
    ours.pixel_scale = float(scale)
    with torch.no_grad():
        logits = ours.train(training)(photos(8, 0))
    ours.pixel_scale = 1.0
    expected = torch.from_numpy(theirs[f"logits{scale}"])
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_same_loss_over_five_steps_of_adam(twins):
    theirs, ours = twins
    optimizer = torch.optim.Adam(ours.parameters(), 1e-3, eps=1e-7)
    labels = torch.arange(16) % 5
    losses = []
    for step in range(5):
        # Keras adds epsilon before the correction of the second moment's bias, PyTorch after it
        optimizer.param_groups[0]["eps"] = 1e-7 / (1 - 0.999 ** (step + 1)) ** 0.5
        loss = F.cross_entropy(ours(photos(16, step)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(theirs["losses"].tolist(), abs=1e-3)
