"""Sets of photos that do not fit in memory, damaged and shared caches."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import types
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnnhw
from cnnhw import evaluation, features, models
from cnnhw.data import cache
from cnnhw.data.photoset import PhotoSet, Split
from cnnhw.errors import DataError
from cnnhw.evaluation import audit
from cnnhw.training import loop

KEY = cache.key("test", 1)


def noise(count: int = 40, size: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def build(images: torch.Tensor) -> cache.MappedPhotos:
    def fill(store):
        store[...] = images.numpy()
        return {"names": ["caf\u00e9", "\udcff"], "note": 0.1}

    return cache.build(KEY, tuple(images.shape), fill)[0]


def split_of(store: torch.Tensor, classes: int = 5) -> Split:
    rows = torch.arange(len(store))
    names = tuple(f"class {row % classes}/photo_{row:08d}.jpg" for row in rows.tolist())
    return Split(store, rows, rows % classes, names, tuple(f"{row:016x}" for row in rows.tolist()))


def photoset(store: torch.Tensor) -> PhotoSet:
    whole = split_of(store)
    few = Split(store, whole.index[:10], whole.labels[:10], whole.names[:10], whole.digests[:10])
    return PhotoSet("noise", tuple("abcde"), store.shape[-1], whole, few, few)


def files() -> tuple[Path, Path]:
    """Return the array and the JSON file of the entry."""
    return cache.folder() / f"{KEY}.npy", cache.folder() / f"{KEY}.json"


@pytest.fixture
def unchecked(monkeypatch):
    """Have arrays of any size checked photo by photo."""
    monkeypatch.setattr(cache, "CHECKED_WHOLE", 0)


# ---------------------------------------------------------------------------------------------------- damage


def test_any_damaged_byte_is_found(caplog, figures):
    images = noise(6)
    chance, found = np.random.default_rng(0), 0
    build(images)
    for path in files():
        whole = path.read_bytes()
        header = range(len(whole) - images.numel()) if path.suffix == ".npy" else range(60)
        for at in [*header, *chance.integers(0, len(whole), 150).tolist()]:
            damaged = bytearray(whole)
            damaged[at] ^= 1 << chance.integers(8)
            path.write_bytes(damaged)
            caplog.clear()
            entry = cache.load(KEY)
            if entry is None:
                assert [record.getMessage().count("\n") for record in caplog.records] == [0]
                assert str(files()[0]) in caplog.text
                found += 1
            else:  # blanks between the values of the JSON file may be other blanks
                assert json.loads(damaged) == json.loads(whole)
                assert torch.equal(entry[0], images)
            del entry
        path.write_bytes(whole)
    assert torch.equal(cache.load(KEY)[0], images)
    assert found > 400
    figures("large", damaged_entries_found=found)


@pytest.mark.parametrize(
    "damage",
    ["empty array", "half an array", "longer array", "no array", "empty JSON", "half a JSON", "other JSON", "no JSON"],
)
def test_damaged_entries_are_made_again(damage, caplog):
    images = noise()
    build(images)
    array, meta = files()
    path = array if "array" in damage else meta
    data = path.read_bytes()
    path.unlink()
    if not damage.startswith("no "):
        other = b"[1, 2]" if damage == "other JSON" else data + b"\0"
        path.write_bytes({"empty": b"", "half": data[: len(data) // 2]}.get(damage.split()[0], other))
    assert cache.load(KEY) is None
    assert len(caplog.records) == (damage != "no JSON")
    assert torch.equal(build(images), images)
    assert torch.equal(cache.load(KEY)[0], images)
    assert sorted(cache.folder().iterdir()) == sorted(files())


def test_entries_without_checksums_are_replaced(caplog):
    images = noise()
    cache.folder().mkdir(parents=True)
    np.save(files()[0], images.numpy())
    files()[1].write_text(json.dumps({"bytes": files()[0].stat().st_size, "meta": {}}))
    assert cache.load(KEY) is None
    assert "another version" in caplog.text
    assert torch.equal(build(images), images)
    assert sorted(cache.folder().iterdir()) == sorted(files())


def test_the_array_is_an_ordinary_one():
    images = noise()
    build(images)
    assert np.array_equal(np.load(files()[0]), images.numpy())


def test_photos_of_large_arrays_are_checked_when_first_read(unchecked):
    images = noise()
    whole = split_of(build(images))
    with files()[0].open("rb+") as file:
        file.seek(-images[0].numel() * 3 + 5, os.SEEK_END)
        file.write(bytes([int(images[-3].flatten()[5]) ^ 1]))
    split = dataclasses.replace(whole, store=cache.load(KEY)[0])
    assert torch.equal(split.batch([0, 39, 36, 0]), images[[0, 39, 36, 0]])
    with pytest.raises(DataError, match="photo 37 in it is not what was stored") as caught:
        split.batch([3, 37])
    assert str(files()[0]) in str(caught.value)
    assert cache.load(KEY) is None  # the next to ask for the photos has them made again
    assert torch.equal(split_of(build(images)).images, images)


def test_photos_changed_in_memory_are_not_taken_for_damaged(unchecked):
    images = noise()
    split = split_of(build(images))
    split.store[3] = 7
    assert torch.equal(split.batch([2, 3]), torch.stack([images[2], torch.full_like(images[3], 7)]))
    assert torch.equal(cache.load(KEY)[0], images)


# ---------------------------------------------------------------------------------------------------- processes


def _build_at_once(barrier, images, path) -> None:
    def fill(store):
        barrier.wait(60)  # both have begun
        store[...] = images
        barrier.wait(60)
        return {"names": ["x"]}

    store, meta = cache.build(KEY, images.shape, fill)
    np.save(path, store.numpy())
    assert meta == {"names": ["x"]}


def test_two_processes_build_the_same_entry(tmp_path):
    images, context = noise(), multiprocessing.get_context("spawn")
    barrier, paths = context.Barrier(2), [tmp_path / "0.npy", tmp_path / "1.npy"]
    processes = [context.Process(target=_build_at_once, args=(barrier, images.numpy(), path)) for path in paths]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert all(np.array_equal(np.load(path), images.numpy()) for path in paths)
    assert torch.equal(cache.load(KEY)[0], images)
    assert sorted(cache.folder().iterdir()) == sorted(files())


BUILDER = """
import sys, time
from cnnhw.data import cache
def fill(store):
    store[...] = 1
    print("filled", flush=True)
    time.sleep(600)
cache.build("other", (50, 3, 8, 8), fill)
"""


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    def leftovers():
        return list(cache.folder().glob(".*.tmp"))

    process = subprocess.Popen([sys.executable, "-c", BUILDER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "filled\n"
        (path,) = leftovers()
        os.utime(path, (1, 1))
        build(noise())
        assert leftovers() == [path]  # it is being written
    finally:
        process.kill()
        process.communicate()
    if os.name == "posix":
        assert process.returncode == -signal.SIGKILL
    path.touch()
    build(noise())
    assert leftovers() == [path]  # written to a moment ago
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    build(noise())
    assert leftovers() == []
    assert sorted(cache.folder().iterdir()) == sorted(files())


def test_a_cache_that_can_only_be_read(monkeypatch):
    images = noise()
    build(images)
    for path in files():
        path.chmod(0o444)
    cache.folder().chmod(0o555)
    if os.name != "posix" or os.geteuid() == 0:  # whom no mode keeps from writing

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    try:
        assert torch.equal(split_of(cache.load(KEY)[0]).images, images)
        with pytest.raises(DataError, match=r"cannot be stored.*CNNHW_CACHE") as caught:
            cache.build("another", (4, 3, 8, 8), lambda store: {})
        assert "\n" not in str(caught.value)
    finally:
        cache.folder().chmod(0o755)


def _sum_in_worker(split: Split, queue) -> None:
    queue.put((type(split.store).__name__, int(split.batch(range(0, len(split), 100)).sum()), split.fingerprint))


def test_splits_are_sent_to_processes_without_their_photos(figures):
    split = split_of(build(noise(10_000, 32)))
    _ = split.images
    size = len(ForkingPickler.dumps(split_of(split.store)))
    assert size < 2**20
    assert len(pickle.dumps(split)) < 2**20 < split.store.nbytes / 20
    whole = photoset(split.store)
    again = pickle.loads(pickle.dumps(whole))
    assert again.train.store is again.test.store
    assert again.fingerprint == whole.fingerprint
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_sum_in_worker, args=(split, queue))
    process.start()
    kind, total, fingerprint = queue.get()
    process.join(60)
    assert kind == "MappedPhotos"
    assert total == int(split.images[::100].sum())
    assert fingerprint == split.fingerprint
    figures("large", worst_pickle_kb_for_10000_photos=round(max(size, len(pickle.dumps(split))) / 1000))


def test_sending_photos_that_are_gone():
    split = split_of(build(noise()))
    data = pickle.dumps(split)
    twin = copy.deepcopy(split)
    assert torch.equal(twin.images, split.images)
    assert twin.store.data_ptr() != split.store.data_ptr()
    for path in files():
        path.unlink()
    with pytest.raises(DataError, match="Load the photos again") as caught:
        pickle.loads(data)
    assert str(files()[0]) in str(caught.value)


# ---------------------------------------------------------------------------------------------------- size


def test_training_and_prediction_never_copy_a_split(monkeypatch):
    photos = photoset(build(noise(60, 32)))
    monkeypatch.setattr(Split, "images", property(lambda split: pytest.fail("a whole split was copied")))
    recipe = dataclasses.replace(cnnhw.Recipe.fast(epochs=1), class_weights=True, cutout=0.2, mixup=0.2)
    run = cnnhw.fit(models.create("fast", size=32), photos, recipe, test_each_epoch=True, progress=False)
    assert evaluation.predict(run.model, photos.train).shape == (60, 5)
    assert len(features.top_activations(run.model, photos.train, "stem", 0, count=3)) == 3
    audit.near_duplicates(photos)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count maps that may be written to")
def test_arrays_larger_than_memory_can_be_mapped(tmp_path):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with (tmp_path / "sparse").open("wb+") as file:
        try:
            file.truncate(4 * memory + 2**40)
        except OSError as error:
            pytest.skip(f"no file of that size can be made here: {error}")
        with cache._map(file) as mapped:
            mapped[-1] = 1
            assert mapped[-1] == 1
        file.seek(-1, os.SEEK_END)
        assert file.read() == b"\0"


def test_space_is_set_aside_before_anything_is_written(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    if not hasattr(os, "posix_fallocate"):
        pytest.skip("this system cannot set space aside")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match="No space left on device"):
        cache.build(KEY, (4, 3, 8, 8), lambda store: pytest.fail("written to"))
    assert list(cache.folder().iterdir()) == []


EPOCH = """
import json, sys, threading, time
import torch
from torch import nn
import cnnhw
from cnnhw import evaluation
from cnnhw.data import cache
from cnnhw.models.blocks import Classifier

torch.set_num_threads(1)
torch.manual_seed(0)
peak, done = 0, threading.Event()

def anonymous():
    with open("/proc/self/status") as file:
        return int(file.read().partition("RssAnon:")[2].split()[0]) / 1024

def watch():
    global peak
    while not done.wait(0.02):
        peak = max(peak, anonymous())

before = anonymous()
threading.Thread(target=watch).start()
try:
    start = time.perf_counter()
    photos = cnnhw.data.load(sys.argv[1], size=256, progress=False)
    loading, built = time.perf_counter() - start, peak
    photos = cnnhw.data.load(sys.argv[1], size=256, progress=False)
    features = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    model = Classifier(features, nn.Sequential(nn.Linear(128, len(photos.classes))), 256)
    start = time.perf_counter()
    run = cnnhw.fit(model, photos, cnnhw.Recipe(epochs=1, batch_size=64), progress=False)
    training = time.perf_counter() - start
    logits = evaluation.predict(model, photos.test)
    assert (logits.argmax(1) == run.predictions).all()
finally:
    done.set()
store = photos.train.store
print(json.dumps({
    "photos": len(store), "bytes": store.nbytes, "peak": peak, "built": built, "before": before, "loading": loading,
    "training": training, "loss": run.history["loss"][0], "unread": int(store._unchecked.sum()),
    "copied": [name for name in ("train", "validation", "test") if "images" in vars(getattr(photos, name))],
}))
"""


def many_photos(folder: Path, count: int, classes: int, size: int) -> None:
    """Write JPEG files whose classes have colours of their own, all different by a comment inside."""
    chance, kinds = np.random.default_rng(0), []
    for kind in range(8 * classes):
        coarse = chance.integers(0, 200, (8, 8, 3), dtype=np.uint8)
        coarse[..., kind % classes % 3] //= 1 + kind % classes
        file = io.BytesIO()
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG", quality=75)
        kinds.append(file.getvalue())
    for label in range(classes):
        (folder / f"class_{label}").mkdir(parents=True)
    for number in range(count):
        data = kinds[number % len(kinds)]
        comment = b"\xff\xfe\x00\x06" + number.to_bytes(4, "big")
        (folder / f"class_{number % classes}" / f"{number:06d}.jpg").write_bytes(data[:2] + comment + data[2:])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="anonymous memory is read from /proc")
def test_a_large_folder_is_trained_on_in_little_memory(tmp_path, figures):
    if shutil.disk_usage(tmp_path).free < 6e9:
        pytest.skip("needs 6 GB of disk")
    many_photos(tmp_path / "photos", 11_000, 4, 256)
    command = [sys.executable, "-c", EPOCH, str(tmp_path / "photos")]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        found = json.loads(done.stdout)
    finally:
        shutil.rmtree(tmp_path / "photos")
        shutil.rmtree(cache.folder(), ignore_errors=True)
    assert found["photos"] == 11_000
    assert found["bytes"] > 2e9 > cache.CHECKED_WHOLE
    assert found["unread"] == 0
    assert found["copied"] == []
    assert 0 < found["loss"] < 1.3  # less than that of a guess among four
    assert 100 < found["peak"] < 1500
    figures(
        "large",
        photos=found["photos"],
        gigabytes=round(found["bytes"] / 1e9, 2),
        worst_anonymous_mb=round(found["peak"]),
    )


@pytest.mark.slow
def test_streaming_is_as_fast_as_memory(unchecked, monkeypatch, figures):
    # In processor time, which other work on the machine takes less from than from the time of day. It leaves out
    # waiting for a disk, but there is none here: the array was just written and is still in the system's memory.
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=time.process_time))
    streamed = photoset(build(noise(4000, 64)))
    held = photoset(streamed.train.images)
    recipe = cnnhw.Recipe.fast()

    def speed(photos: PhotoSet) -> float:
        return loop.speed(models.create("fast", size=64), photos, recipe, seconds=0.7)

    best = {streamed: 0.0, held: 0.0}
    for repetition in range(10):  # in changing order, as other work still slows one or the other for a while
        for photos in (streamed, held) if repetition % 2 else (held, streamed):
            best[photos] = max(best[photos], speed(photos))
    share = best[streamed] / best[held]
    assert isinstance(streamed.train.store, cache.MappedPhotos)
    assert share > 0.9
    figures("large", streaming_share=round(share, 2))
