"""The report's networks and recipe in Keras: what the benchmark and the cross-checks compare ours with.

Needs the optional extra ``keras`` and nothing else of this package, so that a process that measures Keras holds no
PyTorch. Run as a script it trains one network and prints one JSON line an epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["build"]


def build(name: str, size: int = 128, num_classes: int = 5, rescale: bool = True) -> Any:
    """Build a network of the report in Keras, with Keras's default initialisation, compiled as in the report.

    Parameters
    ----------
    name : {"q1_shallow", "q1_deep", "q2_concat_skip", "q4_inception"}
        Which network.
    size : int
        Side length S of the photos in pixels.
    num_classes : int
        Number of logits.
    rescale : bool
        Begin with a division by 255.

    Returns
    -------
    keras.Model
        Takes photos, array of shape (N, S, S, 3), and returns logits.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    from keras import layers

    photo = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 255)(photo) if rescale else photo
    body = {"q1_shallow": _q1_shallow, "q1_deep": _q1_deep, "q2_concat_skip": _q2, "q4_inception": _q4}[name]
    model = keras.Model(photo, layers.Dense(num_classes)(body(layers, x)))
    _compile(model)
    return model


def _compile(model: Any) -> None:
    import keras

    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def _q1_shallow(layers: Any, x: Any) -> Any:
    for channels in (16, 32, 64):
        x = layers.MaxPooling2D(2)(layers.Conv2D(channels, 3, padding="same", activation="relu")(x))
    return layers.Dense(64, activation="relu")(layers.Flatten()(x))


def _q1_deep(layers: Any, x: Any) -> Any:
    for kernel, channels in ((3, 16), (5, 32), (7, 64), (7, 128)):
        x = layers.AveragePooling2D(2)(layers.Conv2D(channels, kernel, padding="same", activation="relu")(x))
    return layers.Dense(256, activation="relu")(layers.Flatten()(x))


def _q2(layers: Any, x: Any) -> Any:
    for (first, second), out in (((3, 16), (5, 32)), 32), (((7, 64), (7, 128)), 128):
        main = x
        for kernel, channels in (first, second):
            main = layers.AveragePooling2D(2)(layers.Conv2D(channels, kernel, activation="relu")(main))
        resized = layers.Resizing(*main.shape[1:3], interpolation="bilinear")(x)
        x = layers.Concatenate()([main, layers.Dense(out, activation="relu")(resized)])
    return layers.Dense(256)(layers.Flatten()(x))


def _q4(layers: Any, x: Any) -> Any:
    def conv(x: Any, kernel: int, channels: int) -> Any:
        return layers.Conv2D(channels, kernel, padding="same", activation="relu")(x)

    for channels, pool in ((16, 2), (32, 4)):
        branches = [
            conv(conv(x, 1, channels), 3, channels),
            conv(conv(x, 1, channels), 5, channels),
            conv(layers.MaxPooling2D(3, strides=1, padding="same")(x), 1, channels),
            conv(x, 1, channels),
        ]
        x = layers.AveragePooling2D(pool)(layers.Concatenate()(branches))
    x = layers.Dense(1024, activation="relu")(layers.Flatten()(x))
    return layers.Dense(256, activation="relu")(x)


def train(
    name: str, photos: Path, *, epochs: int, batch_size: int, seed: int, threads: int, seconds: float,
    target: Path | None = None, level: float = 1.0,
) -> None:  # fmt: skip
    """Train a network and print, after each epoch, a JSON line with its figures.

    Parameters
    ----------
    name : str
        As for :func:`build`.
    photos : Path
        Folder with ``train.npy``, ``validation.npy`` and ``test.npy``, uint8 arrays of shape (N, S, S, 3), and
        ``train_labels.npy`` and so on.
    epochs, batch_size, seed, threads : int
        How to train.
    seconds : float
        If above 0, take steps for that long instead, after a warm-up, and print photos/s only.
    target : Path, optional
        A folder of other photos, to which the network is transferred afterwards, as the report did: a new last layer
        learns for 10 epochs, then all layers until the test accuracy exceeds `level`, at most 20 epochs.
    level : float
        A test accuracy, 0 to 1.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(seed)

    def read(folder: Path) -> dict[str, Any]:
        return {path.stem: np.load(path) for path in folder.glob("*.npy")}

    data = read(photos)
    model = build(name, data["train"].shape[1], int(data["train_labels"].max()) + 1)

    def show(**figures: Any) -> None:
        status = Path("/proc/self/status")  # Linux; there is no standard way elsewhere
        memory = int(status.read_text().partition("VmHWM:")[2].split()[0]) // 1024 if status.exists() else 0
        print(json.dumps(figures | {"peak_mb": memory, "versions": _versions()}), flush=True)

    x, y = data["train"], data["train_labels"]
    if seconds > 0:
        sample = slice(0, 20 * batch_size)
        model.fit(x[sample], y[sample], batch_size, verbose=0)  # traces the graph
        start, taken = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            model.fit(x[sample], y[sample], batch_size, verbose=0)
            taken += len(x[sample])
        show(photos_per_second=taken / (time.perf_counter() - start))
        return
    spent = 0.0

    def learn(model: Any, data: dict[str, Any], batch_size: int, epoch: int, **more: str) -> float:
        nonlocal spent
        start = time.perf_counter()
        history = model.fit(data["train"], data["train_labels"], batch_size, verbose=0).history
        spent += time.perf_counter() - start
        figures = {"epoch": epoch, "seconds": round(spent, 2), "accuracy": history["accuracy"][0], **more}
        for part in ("validation", "test"):
            _, figures[f"{part}_accuracy"] = model.evaluate(data[part], data[f"{part}_labels"], 250, verbose=0)
        show(**figures)
        return figures["test_accuracy"]

    for epoch in range(1, epochs + 1):
        learn(model, data, batch_size, epoch, **({"stage": "source"} if target else {}))
    if target is None:
        return

    data = read(target)
    model.trainable = False
    classes = int(data["train_labels"].max()) + 1
    model = keras.Model(model.input, keras.layers.Dense(classes)(model.layers[-2].output))
    for stage, most in ("head", 10), ("all", 20):
        model.trainable = True
        for layer in model.layers[:-1]:
            layer.trainable = stage == "all"
        _compile(model)
        for epoch in range(1, most + 1):
            if learn(model, data, 64, epoch, stage=stage) > level and stage == "all":
                break


def _versions() -> dict[str, str]:
    import keras
    import tensorflow as tf

    return {"keras": keras.__version__, "tensorflow": tf.__version__}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--level", type=float, default=1.0)
    arguments = parser.parse_args()
    train(**vars(arguments))
