"""Several processes train one network: the same gradients, every photo evaluated once, one writer, an end for all."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from conftest import make_photos
from safetensors.torch import load_file

from cnnhw import evaluation, models, training, transfer
from cnnhw.data.augment import augment
from cnnhw.errors import TrainingError
from cnnhw.models.registry import least_size
from cnnhw.models.weights import load
from cnnhw.training import distributed, presets
from cnnhw.training.checkpoint import read
from cnnhw.training.loop import fit
from cnnhw.training.recipe import Recipe

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

RECIPES = {
    "plain": {},
    "uneven": {"batch_size": 7},  # 60 photos: the last batch has four
    "two photos left": {"batch_size": 58},  # in the last batch, for which one of three processes has none
    "augmented": {"flip": True, "shift": 2, "cutout": 0.3},
    "mixup": {"mixup": 0.4, "label_smoothing": 0.1},
    "weighted": {"class_weights": True, "label_smoothing": 0.1},
    "muon": {"optimizer": "muon", "weight_decay": 0.1, "learning_rate": 0.01},
}


def launch(processes: int, script: str, folder: Path, *arguments: str) -> None:
    """Run a script in several processes, as ``torchrun`` does."""
    path = folder / "script.py"
    path.write_text("import sys\nsys.path.insert(0, sys.argv.pop(1))\n" + textwrap.dedent(script), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, path, str(Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]


GRADIENTS = """
    import json, torch
    from safetensors.torch import save_file
    from cnnhw import Recipe, models
    from cnnhw.training import distributed, loop
    from conftest import make_photos

    recipes, out = json.loads(sys.argv[1]), sys.argv[2]
    def epoch(changes):
        model = models.create("q1_shallow", 3, seed=1, size=16)
        state = loop.State(model, make_photos(), Recipe(**{"epochs": 1, **changes}), seed=3)
        tensors, losses = {}, []
        for step, (loss, correct, count) in enumerate(loop._steps(state, 1)):
            losses.append([loss, correct, count])
            if step == 0:
                tensors = {f"gradient.{n}": p.grad.clone().contiguous() for n, p in model.named_parameters()}
        tensors |= {f"weight.{n}": p.detach().contiguous() for n, p in model.named_parameters()}
        return tensors | {"losses": torch.tensor(losses, dtype=torch.float64)}

    # no network outlives its epoch: one that did would hold the connections until the interpreter's end, too late
    with distributed.session(torch.device("cpu")):
        for name, changes in recipes.items():
            tensors = epoch(changes)
            if distributed.rank() == 0:
                save_file(tensors, f"{out}/{name}.safetensors")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are named by Linux alone")
def test_no_thread_outlives_the_session(tmp_path):
    launch(
        2,
        """
        import pathlib, torch
        from torch.nn.parallel import DistributedDataParallel
        from cnnhw.training import distributed, presets

        with distributed.session(torch.device("cpu")):
            DistributedDataParallel(torch.nn.Linear(2, 2))(torch.ones(1, 2)).sum().backward()
        names = [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
        assert not [name for name in names if "gloo" in name], names
        """,
        tmp_path,
    )


@pytest.mark.slow
def test_shares_of_one_photo_are_normalised(tmp_path):
    launch(
        2,
        """
        import torch
        from conftest import make_photos
        from cnnhw import Recipe, fit, models
        from cnnhw.training import distributed, presets

        with distributed.session(torch.device("cpu")):  # the last batch has three of 60 photos
            run = fit(models.create("fast", 3, size=16), make_photos(), Recipe(epochs=1, batch_size=19), progress=False)
            assert len(run.first_losses) == 4
            del run
        """,
        tmp_path,
    )


@pytest.mark.slow
def test_gradients_losses_and_weights_are_those_of_one_process(tmp_path, figures):
    found = {}
    for processes in (1, 2, 3):
        folder = tmp_path / str(processes)
        folder.mkdir()
        launch(processes, GRADIENTS, folder, json.dumps(RECIPES), str(folder))
        found[processes] = {name: load_file(folder / f"{name}.safetensors") for name in RECIPES}
    worst = 0.0
    for name in RECIPES:
        for processes in (2, 3):
            for key, ours in found[1][name].items():
                theirs = found[processes][name][key]
                if key.startswith("gradient"):
                    difference = float((ours - theirs).abs().max() / ours.abs().max())
                    assert difference < 1e-5, (name, processes, key)
                    worst = max(worst, difference)
                elif key == "losses":
                    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
                else:  # a whole epoch: Adam divides by small numbers, which rounding can turn
                    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")
    figures("scale", recipes=len(RECIPES), processes="1, 2 and 3", worst_gradient_difference=worst)


def test_a_part_of_a_batch_is_changed_as_the_whole_is():
    images = torch.randint(0, 256, (11, 3, 16, 16), dtype=torch.uint8)
    settings = {"flip": True, "shift": 3, "cutout": 0.4}
    whole = augment(images, **settings, generator=torch.Generator().manual_seed(5))
    for rows in (slice(0, 4), slice(4, 11), slice(7, 8)):
        generator = torch.Generator().manual_seed(5)
        part = augment(images[rows], **settings, generator=generator, rows=rows, of=11)
        assert part.equal(whole[rows])


SHARES = """
    import torch
    from cnnhw import evaluation, models
    from cnnhw.training import distributed, loop
    from conftest import make_photos

    photos = make_photos(train=75)
    model = models.create("fast", 3, seed=1, size=16)
    with distributed.session(torch.device("cpu")):
        torch.manual_seed(distributed.rank())
        for part in model.modules():  # statistics that differ from process to process
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean += torch.rand(())
        distributed.average_buffers(model)
        means = [b.sum() for n, b in model.named_buffers() if n.endswith("running_mean")]
        assert len(set(map(float, distributed.gathered(torch.stack(means)[None]).sum(1)))) == 1
        for split in (photos.train, photos.validation, photos.test):
            share = distributed.share(len(split))
            seen = distributed.gathered(torch.arange(len(split))[share])
            assert seen.equal(torch.arange(len(split)))  # each once, in order
            torch.testing.assert_close(loop._predict(model, split), evaluation.predict(model, split))
        tiny = distributed.gathered(torch.arange(1)[distributed.share(1)])  # one process has nothing
        assert tiny.equal(torch.arange(1))
        assert distributed.broadcast(distributed.rank()) == 0
"""


@pytest.mark.slow
def test_every_photo_is_evaluated_once_and_statistics_are_averaged(tmp_path):
    launch(3, SHARES, tmp_path)


SMALL = ("--size", "16", "--batch-size", "64", "--out", "run")


def torchrun(
    *arguments: str, folder: Path, processes: int = 2, where: tuple[str, ...] = ("--standalone",)
) -> subprocess.Popen[str]:
    environment = os.environ | {"CNNHW_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", *where, "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*command, "-m", "cnnhw", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder,
    )  # fmt: skip


def workers(parent: int) -> list[int]:
    """Return the process ids of the training processes that ``torchrun`` has started, by rank."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"PPid:\t{parent}\n" in (process / "status").read_text():
                environment = (process / "environ").read_bytes().split(b"\0")
                rank = next(entry for entry in environment if entry.startswith(b"RANK="))
                found[int(rank[5:])] = int(process.name)
        except (OSError, StopIteration):
            continue
    return [found[rank] for rank in sorted(found)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_others_and_the_run_resumes(tmp_path, victim, figures):
    arguments = ("train", "q1_shallow", *SMALL, "--epochs", "15")
    process = torchrun(*arguments, folder=tmp_path)
    checkpoint = tmp_path / "run" / training.CHECKPOINT
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if checkpoint.exists() and read(checkpoint)[0]["epoch"] >= 1:
            break
        time.sleep(0.05)
    ids = workers(process.pid)
    assert len(ids) == 2, process.communicate()
    os.kill(ids[victim], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "another process of this run has ended" in errors
    assert "--resume" in errors
    assert not (tmp_path / "run" / "run.json").exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in ids)
    reached = read(checkpoint)[0]["epoch"]
    assert reached >= 1

    resumed = torchrun(*arguments, "--resume", folder=tmp_path)
    said, errors = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, errors[-3000:]
    assert said.count("Test accuracy") == 1  # the first process alone speaks
    assert "2 processes" in said
    summary = json.loads((tmp_path / "run" / "run.json").read_text())
    assert summary["processes"] == 2
    assert len(summary["history"]["loss"]) == 15
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(
        ["weights.safetensors", "run.json", "curves.png", "confusion.png", "model.svg", "report.html"]
    )
    figures("scale", killed_workers=1, resumed_runs=1)


@pytest.mark.slow
def test_two_machines_train_one_network_and_the_first_one_writes(tmp_path, figures):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agents = []
    for number in (0, 1):  # each with folders of its own, as two machines have
        machine = tmp_path / f"machine{number}"
        machine.mkdir()
        where = ("--nnodes", "2", "--node-rank", str(number), "--master-addr", "127.0.0.1", "--master-port", str(port))
        agents.append(
            torchrun("train", "q1_shallow", *SMALL, "--epochs", "2", folder=machine, where=where, processes=1)
        )
    said = [agent.communicate(timeout=240) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert "Test accuracy" in said[0][0]
    assert said[1][0] == ""
    summary = json.loads((tmp_path / "machine0" / "run" / "run.json").read_text())
    assert summary["processes"] == 2
    assert not (tmp_path / "machine1" / "run").exists()
    figures("scale", machines="2, simulated")


@pytest.mark.slow
def test_a_run_of_two_processes_is_not_resumed_by_one(tmp_path):
    script = """
        import torch
        from cnnhw import Recipe, fit, models
        from cnnhw.training import distributed, presets
        from conftest import make_photos
        with distributed.session(torch.device("cpu")):
            fit(models.create("q1_shallow", 3, size=16), make_photos(), Recipe(epochs=1), folder=sys.argv[1],
                progress=False)
    """
    launch(2, script, tmp_path, str(tmp_path / "run"))
    with pytest.raises(TrainingError, match="processes: 2 there, None now"):
        fit(models.create("q1_shallow", 3, size=16), make_photos(), Recipe(epochs=1), folder=tmp_path / "run",
            resume=True, progress=False)  # fmt: skip


@pytest.mark.slow
def test_other_commands_refuse_several_processes(tmp_path):
    process = torchrun("data", "list", folder=tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "only train runs on several processes" in errors


def test_alone_there_is_one_process_and_nothing_is_shared_out():
    assert (distributed.count(), distributed.rank()) == (1, 0)
    assert not distributed.launched()
    assert distributed.share(5) == slice(0, 5)
    with distributed.session(torch.device("cpu")), distributed.local_first():
        assert distributed.broadcast("x") == "x"


@pytest.mark.parametrize("total", [0, 1, 2, 5, 64])
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_shares_cover_all_and_are_even(monkeypatch, total, processes):
    monkeypatch.setattr(distributed, "count", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(list(range(total))[distributed.share(total)])
    assert [number for share in shares for number in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "fpga"])
def test_devices_that_are_not_here_are_refused(name):
    with pytest.raises(TrainingError, match="here"):
        distributed.device(name)


def test_the_processor_is_chosen_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    assert distributed.device() == torch.device("cpu")
    with pytest.raises(TrainingError, match="no device 'cuda' here: leave --device out"):
        distributed.device("cuda")


def test_each_process_of_a_machine_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    for local, expected in (("0", "cuda:0"), ("1", "cuda:1")):
        monkeypatch.setenv("LOCAL_RANK", local)
        assert distributed.device() == torch.device(expected)
    assert distributed.device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(TrainingError, match="no cuda device for process 2 of this machine, which has 2"):
        distributed.device()


@pytest.mark.parametrize(
    ("recipe", "device", "capability", "bfloat16", "expected"),
    [
        ("auto", "cuda", (8, 0), True, "bfloat16"),
        ("auto", "cuda", (7, 5), False, "float16"),
        ("auto", "cuda", (6, 1), False, "float32"),
        ("auto", "mps", None, False, "float32"),
        ("float16", "cpu", None, False, "float16"),
    ],
)
def test_precision_is_what_the_hardware_computes_in(monkeypatch, recipe, device, capability, bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert training.precision(Recipe(precision=recipe), torch.device(device)) == expected


@pytest.mark.slow
def test_float16_trains_with_a_scaled_loss_and_resumes(tmp_path):
    recipe = Recipe(epochs=2, precision="float16", optimizer="muon", learning_rate=0.01, weight_decay=0.1)

    def make():
        return models.create("fast", 3, seed=2, size=16)

    whole = fit(make(), make_photos(), recipe, folder=tmp_path / "whole", progress=False)
    note, _ = read(tmp_path / "whole" / training.CHECKPOINT)
    assert note["scaler"]["scale"] > 1
    assert whole.history["loss"][1] < whole.history["loss"][0]

    class Stop(Exception):
        pass

    def stop(epoch, row):
        raise Stop

    with pytest.raises(Stop):
        fit(make(), make_photos(), recipe, folder=tmp_path / "part", progress=False, on_epoch=stop)
    resumed = fit(make(), make_photos(), recipe, folder=tmp_path / "part", resume=True, progress=False)
    assert resumed.history["loss"] == whole.history["loss"]
    for ours, theirs in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert ours.equal(theirs)


gpu = pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no GPU here")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("name", models.names())
def test_a_gpu_trains_as_the_processor_does(name, figures):
    device = distributed.device()
    size = max(32, least_size(name))
    logits = {}
    for where in (torch.device("cpu"), device):
        model = models.create(name, 3, seed=1, size=size).to(where)
        photos = make_photos(size=size)
        recipe = Recipe(epochs=1, batch_size=30, optimizer="sgd", learning_rate=1e-3)  # Adam follows rounding's signs
        losses = training.first_losses(model, photos, recipe, seed=1, steps=2)
        logits[where.type] = torch.cat([torch.tensor(losses), evaluation.predict(model, photos.test).flatten()])
    ours, theirs = logits["cpu"], logits[device.type]
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)
    figures("gpu", gpu_networks=1, worst_gpu_difference=(ours - theirs).abs().max() / ours.abs().max())


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_gpu_learns_in_each_number_format_and_its_weights_work_anywhere(precision, tmp_path, figures):
    device = distributed.device()
    photos = make_photos(size=32)
    model = models.create("fast", 3, seed=1, size=32).to(device)
    recipe = dataclasses.replace(Recipe.fast(6), precision=precision, whiten=False)
    run = fit(model, photos, recipe, folder=tmp_path / "run", progress=False)
    assert (run.device, run.precision) == (device.type, precision)
    assert run.history["loss"][-1] < run.history["loss"][0]
    on_gpu = evaluation.predict(run.model, photos.test)
    run.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved" / "weights.safetensors")
    torch.testing.assert_close(evaluation.predict(loaded, photos.test), on_gpu.cpu(), rtol=2e-3, atol=2e-3)
    figures("gpu", gpu_formats=1)


@pytest.mark.gpu
@gpu
def test_a_gpu_solves_for_the_head_that_the_processor_finds(figures):
    photos, heads = make_photos(size=32), []
    for where in (torch.device("cpu"), distributed.device()):
        model = models.create("plain", 3, seed=1, size=32).to(where)
        transfer.linear_probe(model, photos)
        heads.append(evaluation.predict(model, photos.test).softmax(1))
    torch.testing.assert_close(heads[0], heads[1], rtol=0.05, atol=0.05)
    figures("gpu", gpu_heads=1)


@pytest.mark.gpu
@gpu
def test_a_gpu_trains_faster_than_a_thread_of_the_processor(figures):
    device, photos = distributed.device(), presets.noise(512, 64)
    speeds = {}
    for where in (torch.device("cpu"), device):
        model = models.create("best", size=64).to(where)
        speeds[where.type] = training.speed(model, photos, dataclasses.replace(Recipe.best(), whiten=False), seconds=5)
    assert speeds[device.type] > speeds["cpu"]
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    figures("gpu", gpu=name, gpu_photos_a_second=round(speeds[device.type]))
