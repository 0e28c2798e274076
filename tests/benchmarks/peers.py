"""What else one would use on photos of one's own, in the same time, on the same photos, from scratch.

``python tests/benchmarks/peers.py --json peers.json`` trains one network at a time: fastai, Ultralytics, Keras, a bare
loop with a network of timm, and cnnhw, for 2 and for 5 minutes each, on flowers and on a large folder of small photos
(50,000 generated scenes of 32 pixels, written as JPEGs). ``--data FOLDER`` names another folder. It takes two hours or
so, on processors that have nothing else to do. Peers that are not installed are left out: ``pip install fastai
ultralytics timm keras tensorflow``.

All get the same training, validation and test photos, as folders, and their own usual settings. Up to three epochs that
are thrown away say how many fit the time; they are no part of the seconds, but of the processor seconds, as those are
of the whole process. Ultralytics and cnnhw keep to a time themselves.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

SIZE = 64
BATCH = 64
SCENES = 50_000
PARTS = ("train", "val", "test")


def fit_fastai(folder: Path, seconds: float, size: int, seed: int) -> dict[str, Any]:
    """Train fastai's learner with a ResNet-18, by one cycle."""
    import fastai
    from fastai.vision.all import (
        ImageDataLoaders,
        Resize,
        ResizeMethod,
        accuracy,
        aug_transforms,
        get_image_files,
        resnet18,
        set_seed,
        vision_learner,
    )  # fmt: skip

    set_seed(seed, reproducible=True)
    photos = ImageDataLoaders.from_folder(
        folder, train="train", valid="val", item_tfms=Resize(size, method=ResizeMethod.Squish),
        batch_tfms=aug_transforms(), bs=BATCH, seed=seed,
    )  # fmt: skip

    def learner() -> Any:
        return vision_learner(photos, resnet18, pretrained=False, metrics=accuracy)

    def fit(model: Any, epochs: int) -> None:
        with model.no_bar(), model.no_logging():
            model.fit_one_cycle(epochs, 3e-3)

    epochs, took, model = _in_time(learner, fit, seconds)
    test = photos.test_dl(get_image_files(folder / "test"), with_labels=True)
    with model.no_bar():
        found = float(model.validate(dl=test)[1])
    return {"accuracy": found, "seconds": took, "epochs": epochs, "version": fastai.__version__}


def fit_timm(folder: Path, seconds: float, size: int, seed: int) -> dict[str, Any]:
    """Train a ResNet-18 of timm in a loop of ten lines: AdamW, one cycle, flips and crops, photos decoded once."""
    import timm
    import torch
    from torch.nn import functional
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    torch.manual_seed(seed)
    squash = v2.Compose([v2.ToImage(), v2.Resize((size, size))])

    def read(part: str) -> tuple[torch.Tensor, torch.Tensor]:
        found = ImageFolder(folder / part, transform=squash)
        images, labels = zip(*found, strict=True)
        return torch.stack(images), torch.tensor(labels)

    (images, labels), (test, truth) = read("train"), read("test")
    change = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=size // 16)])
    scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.45,) * 3, (0.25,) * 3)])

    def network() -> Any:
        return timm.create_model("resnet18", num_classes=int(labels.max()) + 1).to(memory_format=torch.channels_last)

    def fit(model: Any, epochs: int) -> None:
        optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        steps = epochs * -(-len(images) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
        model.train()
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(BATCH):
                batch = scale(torch.stack([change(image) for image in images[rows]]))
                functional.cross_entropy(model(batch), labels[rows]).backward()
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()

    epochs, took, model = _in_time(network, fit, seconds)
    model.eval()
    with torch.inference_mode():
        guessed = torch.cat([model(scale(part)).argmax(1) for part in test.split(256)])
    found = float((guessed == truth).float().mean())
    return {"accuracy": found, "seconds": took, "epochs": epochs, "version": timm.__version__}


def fit_keras(folder: Path, seconds: float, size: int, seed: int) -> dict[str, Any]:
    """Train the network of Keras's guide "Image classification from scratch": a small Xception.

    Keras's batch norm averages over some five hundred steps, more than fit the time, and would leave the network
    guessing; here it averages over fifty.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    from keras import layers

    norm = partial(layers.BatchNormalization, momentum=0.9)
    keras.utils.set_random_seed(seed)

    def read(part: str) -> Any:
        return keras.utils.image_dataset_from_directory(
            folder / part, image_size=(size, size), batch_size=BATCH, shuffle=part == "train", seed=seed, verbose=False
        ).cache()

    train, test = read("train").shuffle(1000).prefetch(2), read("test")
    classes = len([one for one in (folder / "train").iterdir() if one.is_dir()])

    def network() -> Any:
        photo = keras.Input((size, size, 3))
        x = layers.RandomFlip("horizontal")(photo)
        x = layers.Rescaling(1 / 255)(layers.RandomRotation(0.1)(x))
        x = layers.Activation("relu")(norm()(layers.Conv2D(128, 3, strides=2, padding="same")(x)))
        before = x
        for width in (256, 512, 728):
            for _ in range(2):
                x = layers.SeparableConv2D(width, 3, padding="same")(layers.Activation("relu")(x))
                x = norm()(x)
            x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
            x = before = layers.add([x, layers.Conv2D(width, 1, strides=2, padding="same")(before)])
        x = layers.Activation("relu")(norm()(layers.SeparableConv2D(1024, 3, padding="same")(x)))
        x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
        model = keras.Model(photo, layers.Dense(classes)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-4), loss, metrics=["accuracy"])
        return model

    def fit(model: Any, epochs: int) -> None:
        model.fit(train, epochs=epochs, verbose=0)

    epochs, took, model = _in_time(network, fit, seconds)
    found = float(model.evaluate(test, verbose=0)[1])
    return {"accuracy": found, "seconds": took, "epochs": epochs, "version": keras.__version__}


def fit_ultralytics(folder: Path, seconds: float, size: int, seed: int) -> dict[str, Any]:
    """Train Ultralytics' smallest classifier, which keeps to a time by itself."""
    import ultralytics

    model = ultralytics.YOLO("yolo11n-cls.yaml", verbose=False)
    start = time.perf_counter()
    model.train(
        data=str(folder), imgsz=size, batch=BATCH, time=seconds / 3600, epochs=100, pretrained=False, device="cpu",
        seed=seed, plots=False, verbose=False, val=False, project=str(folder.parent / "yolo"), exist_ok=True,
    )  # fmt: skip
    took = time.perf_counter() - start
    found = model.val(data=str(folder), split="test", imgsz=size, device="cpu", plots=False, verbose=False)
    epochs = len((Path(model.trainer.save_dir) / "results.csv").read_text().splitlines()) - 1
    return {"accuracy": float(found.top1), "seconds": took, "epochs": epochs, "version": ultralytics.__version__}


def fit_cnnhw(folder: Path, seconds: float, size: int, seed: int) -> dict[str, Any]:
    """Train as ``cnnhw train ensemble --minutes`` does."""
    import cnnhw

    out = folder.parent / "cnnhw-run"
    command = ["train", "ensemble", "--data", folder, "--minutes", seconds / 60, "--size", size, "--seed", seed]
    subprocess.run([sys.executable, "-m", "cnnhw", *map(str, command), "--out", out], check=True, capture_output=True)
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    shutil.rmtree(out)
    epochs = run["recipe"].get("epochs", 0)
    return {
        "accuracy": run["accuracy"], "seconds": run["seconds_total"], "epochs": epochs, "version": cnnhw.__version__,
    }  # fmt: skip


def _in_time(make: Callable[[], Any], fit: Callable[[Any, int], None], seconds: float) -> tuple[int, float, Any]:
    """Return how many epochs fit the time, what they took, and the model that was trained for them.

    What a training takes to begin with, such as compiling, is told from what an epoch takes by two short ones.
    """
    one = _seconds(fit, make(), 1)
    epochs = 1
    if one < seconds:
        two = _seconds(fit, make(), 2)
        epoch = max(two - one, two / 20)  # clocks jitter
        epochs = max(1, round((seconds - max(0.0, two - 2 * epoch)) / epoch))
    model = make()
    return epochs, _seconds(fit, model, epochs), model


def _seconds(fit: Callable[[Any, int], None], model: Any, epochs: int) -> float:
    """Train; return the time."""
    start = time.perf_counter()
    fit(model, epochs)
    return time.perf_counter() - start


PEERS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "cnnhw": ("cnnhw", fit_cnnhw),
    "bare loop, timm": ("timm", fit_timm),
    "fastai": ("fastai", fit_fastai),
    "Keras": ("keras", fit_keras),
    "Ultralytics": ("ultralytics", fit_ultralytics),
}


def parted(name: str, place: Path) -> Path:
    """Write a data set's photos as links, or as JPEGs, in a folder a part and a class; return the folder."""
    from PIL import Image

    from cnnhw import data

    photos = data.load(name, size=SIZE, progress=False)
    folder = place / "photos"
    source = Path(name) if Path(name).is_dir() else None
    for part, split in zip(PARTS, photos.splits, strict=True):
        for row, (path, label) in enumerate(zip(split.names, split.labels.tolist(), strict=True)):
            to = folder / part / photos.classes[label] / f"{row}{Path(path).suffix if source else '.jpg'}"
            to.parent.mkdir(parents=True, exist_ok=True)
            if source:
                to.symlink_to((source / path).resolve())
            else:
                Image.fromarray(split.batch([row])[0].permute(1, 2, 0).numpy()).save(to, quality=95)
    return folder


def small_photos(place: Path, count: int = SCENES) -> Path:
    """Write generated scenes of 32 pixels as JPEGs, four fifths to train on; return the folder."""
    from PIL import Image

    from cnnhw.data import scenes

    folder = place / "photos"
    step = 1000
    for first in range(0, count, step):
        drawn = scenes.draw(step, size=32, first=first)
        part = PARTS[(first >= 0.8 * count) + (first >= 0.85 * count)]
        for row, (image, label) in enumerate(zip(drawn.images, drawn.labels.tolist(), strict=True)):
            to = folder / part / scenes.CLASSES[label] / f"{first + row}.jpg"
            to.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(to, quality=95)
    return folder


def measure(peer: str, folder: Path, minutes: float, size: int, seed: int) -> dict[str, Any]:
    """Train one peer in a process of its own; return what it reached, its time, and its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, __file__, "--one", peer, "--folder", folder, "--minutes", minutes, "--size", size]
    done = subprocess.run([*map(str, command), "--seed", str(seed)], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"accuracy"')]
    if done.returncode or not lines:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-2000:]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"peer": peer, "minutes": minutes, "seed": seed, "processor_seconds": spent, **json.loads(lines[-1])}


def main() -> None:
    """Measure all peers that are installed, one training at a time, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for all figures, which must be new")
    parser.add_argument("--data", action="append", help="a data set or a folder; may be repeated")
    parser.add_argument("--minutes", type=float, action="append", help="may be repeated [default: 2 and 5]")
    parser.add_argument("--peer", action="append", choices=PEERS, help="may be repeated [default: all installed]")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each [default: 1]")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        found = PEERS[options.one][1](options.folder, 60 * options.minutes[0], options.size, options.seed)
        print(json.dumps(found))
        return
    if options.json and options.json.exists():
        parser.error(f"{options.json} exists")
    from cnnhw import system

    peers = options.peer or [peer for peer, (module, _) in PEERS.items() if importlib.util.find_spec(module)]
    rows = []
    for name in options.data or ["flowers", "small photos"]:
        with tempfile.TemporaryDirectory() as place:
            small = name == "small photos"
            folder = small_photos(Path(place)) if small else parted(name, Path(place))
            size, count = 32 if small else options.size, len(list((folder / "train").glob("*/*")))
            for minutes in options.minutes or [2.0, 5.0]:
                for seed in range(options.seed, options.seed + options.seeds):
                    for peer in peers:
                        row = measure(peer, folder, minutes, size, seed)
                        row |= {"data": name, "photos": count, "size": size}
                        rows.append(row)
                        print(json.dumps(row), flush=True)
    if options.json:
        text = {"processor": system.processor(), "threads": os.cpu_count(), "date": system.now(), "runs": rows}
        options.json.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
