"""Studies: jobs, records and the queue, which loses nothing when it is killed."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photos
from filelock import FileLock
from PIL import Image

import cnnhw
from cnnhw import files, models, studies
from cnnhw.book import ii, q3, q6, registry
from cnnhw.data import subsets
from cnnhw.errors import CnnhwError, TrainingError, UnknownNameError
from cnnhw.models.dense import TRANSITIONS
from cnnhw.models.first_layer import bank
from cnnhw.studies import drift, queue, store
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage


@pytest.fixture
def folder(tmp_path):
    """Make a folder of two classes of striped photos."""
    rng = np.random.default_rng(0)
    for label in range(2):
        for number in range(20):
            photo = rng.integers(0, 150, (16, 16, 3), dtype=np.uint8)
            photo[:: label + 2] += 60
            path = tmp_path / "photos" / f"class {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(path)
    return tmp_path / "photos"


def tiny(folder, epochs=3, **change):
    arms = (
        Arm("short", "q1_shallow", Recipe(epochs=epochs, batch_size=4), seeds=(0, 1)),
        Arm("long", "q1_shallow", Recipe(epochs=epochs + 1, batch_size=4), seeds=(0,)),
    )
    plain = Study("tiny", "Does it work?", str(folder), 16, arms, every_epoch=True, observation="a test")
    return dataclasses.replace(plain, **change)


@pytest.fixture
def tiny_study(folder, tmp_path, monkeypatch):
    """Register a study of seconds, in this process and in those that it starts."""
    study = tiny(folder)
    monkeypatch.setitem(registry._STUDIES, "tiny", study)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        from cnnhw.book import registry
        from cnnhw.studies import Arm, Study
        from cnnhw.training import Recipe
        from cnnhw.transfer import Stage
        registry._STUDIES["tiny"] = {study!r}
        """)
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))
    return study


def figures(record):
    content = dict(record.content)
    history = {name: values for name, values in content["history"].items() if name != "seconds"}
    return content["key"], history, content["test_predictions"], content["first_losses"], content["best_epoch"]


def test_jobs_take_turns_over_the_seeds(folder):
    assert [str(job) for job in tiny(folder).jobs()] == ["tiny/short-0", "tiny/long-0", "tiny/short-1"]


def test_key_depends_on_all_that_decides_the_run_and_on_nothing_else(folder):
    study = tiny(folder)
    first, second, third = study.jobs()
    assert len({first.key, second.key, third.key}) == 3
    assert first.key == tiny(folder, question="Another?").jobs()[0].key
    assert first.key != tiny(folder, size=32).jobs()[0].key
    assert first.key != tiny(folder, data="scenes").jobs()[0].key


def test_queue_runs_what_is_missing_and_records_it(tiny_study, tmp_path):
    where = tmp_path / "records"
    jobs = tiny_study.jobs()
    assert queue.pending(jobs, where) == jobs
    queue.run_job(jobs[0], where)
    assert queue.pending(jobs, where) == jobs[1:]
    (record,) = store.read("tiny", where)
    before = record.path.read_bytes()
    assert queue.run(jobs, 2, where, progress=False) == []
    assert record.path.read_bytes() == before
    found = store.read("tiny", where)
    assert [(r.arm, r.seed) for r in found] == [("long", 0), ("short", 0), ("short", 1)]
    assert [path.name for path in (files.cache_folder() / "studies").glob("*/")] == ["weights"]  # no checkpoints

    photos = cnnhw.data.load(tiny_study.data, size=16, progress=False)
    run = cnnhw.fit(
        models.create("q1_shallow", 2, seed=0, size=16), photos, Recipe(epochs=3, batch_size=4), progress=False
    )
    assert record.accuracy() == run.accuracy
    assert record.best_epoch == run.best_epoch
    assert torch.equal(record.confusion(), run.confusion)
    assert record.history["loss"] == pytest.approx(run.history["loss"], abs=1e-5)
    assert record.content["data"]["test_fingerprint"] == photos.test.fingerprint
    assert record.content["threads"] == 1
    assert record.content["code"] == tiny_study.jobs()[0].code
    assert not record.repeated
    assert 0 <= record.accuracy(1) <= 1
    assert queue.canary(tiny_study.jobs()[0], record) < 1e-6


def test_canary_that_passes_is_noted_in_the_record(tiny_study, tmp_path):
    where = tmp_path / "records"
    queue.run_job(tiny_study.jobs()[0], where)
    (record,) = store.read("tiny", where)
    assert tiny_study.earlier([record]) == []
    store.write_canary(record, "1" * 16, 1e-7, 0)
    (later,) = store.read("tiny", where)
    assert later.repeated
    assert tiny_study.earlier([later]) == [later]
    assert later.content["canary"] == {"measured": record.content["code"], "difference": 1e-7, "seed": 0}
    store.write_canary(later, record.content["code"], 2e-7, 0)
    (again,) = store.read("tiny", where)
    assert again.content["canary"] == {"measured": record.content["code"], "difference": 2e-7, "seed": 0}
    assert tiny_study.earlier([again]) == []


def transfers(folder):
    """Return a study of a network and of two transfers from it."""
    stages = (Stage("classifier", Recipe(epochs=2, batch_size=4)), Stage("all", Recipe(epochs=2, batch_size=4)))
    arms = (
        Arm("moved", "q1_shallow", stages, seeds=(0,), source="base"),
        Arm("base", "q1_shallow", Recipe(epochs=1, batch_size=4), seeds=(0,)),
        Arm("kept", "q1_shallow", stages[:1], seeds=(0,), source="base", new_classifier=False, protocols=("bgr",)),
    )
    return Study("moves", "Does it move?", str(folder), 16, arms, every_epoch=True)


def test_a_transfer_runs_its_source_first_and_both_are_recorded(folder, tmp_path, monkeypatch):
    study = transfers(folder)
    monkeypatch.setitem(registry._STUDIES, "moves", study)
    moved, base, kept = study.jobs()
    assert moved.source == base
    assert base.is_source
    assert not moved.is_source
    queue.run_job(moved, tmp_path)
    assert [record.arm for record in store.read("moves", tmp_path)] == ["base", "moved"]
    queue.run_job(base, tmp_path)  # has its record and its weights already
    queue.run_job(kept, tmp_path)
    found = {record.arm: record for record in store.read("moves", tmp_path)}
    assert len(found) == 3
    stages = found["moved"].stages
    assert [stage["epochs"] for stage in stages] == [2, 2]
    assert stages[0]["trainable"] == 2 * 65
    assert stages[1]["trainable"] == found["moved"].content["parameters"]
    assert found["moved"].best_epoch == stages[1]["best_epoch"] > 2
    assert {len(values) for values in found["moved"].history.values()} == {4}
    assert len(found["moved"].content["test_predictions"]) == 4
    assert found["base"].stages == []
    jobs = {job.arm.name: job for job in study.jobs()}
    assert all(queue.canary(jobs[arm], record) < 1e-6 for arm, record in found.items())
    for weights in (files.cache_folder() / "studies" / "weights").glob("*.safetensors"):
        weights.unlink()
    assert queue.canary(moved, found["moved"]) is None
    assert queue.canary(base, found["base"]) < 1e-6


def test_key_of_a_transfer_depends_on_its_source_and_on_what_is_done_to_it(folder):
    moved = transfers(folder).jobs()[0]
    changes = {"new_classifier": False, "cache": False, "protocols": ("bgr",), "options": {"dense": False}, "size": 8}
    jobs = [dataclasses.replace(moved, arm=dataclasses.replace(moved.arm, **{k: v})) for k, v in changes.items()]
    base = dataclasses.replace(moved.study.arms[1], recipe=Recipe(epochs=9))
    other = dataclasses.replace(moved.study, arms=(moved.study.arms[0], base))
    keys = {moved.key, dataclasses.replace(moved, study=other).key, *(job.key for job in jobs)}
    assert len(keys) == len(changes) + 2


def test_studies_of_time_may_use_several_threads(folder, tmp_path, monkeypatch):
    started = []

    def run_process(job, where, running, report):
        started.append(("start", job.study.name))
        time.sleep(0.05)
        started.append(("end", job.study.name))
        return 0, ""

    monkeypatch.setattr(queue, "_run_process", run_process)
    wide = tiny(folder, name="wide", threads=2)
    assert wide.jobs()[0].key != tiny(folder).jobs()[0].key
    queue.run(wide.jobs() + tiny(folder).jobs(), 2, tmp_path / "records", progress=False)
    assert [what for what, study in started if study == "wide"] == ["start", "end"] * 3
    assert [what for what, study in started if study == "tiny"][:2] == ["start", "start"]


@pytest.mark.slow
def test_a_failing_job_is_named_and_the_others_are_finished(tiny_study, tmp_path, monkeypatch, capfd):
    jobs = tiny_study.jobs()[:2]
    (files.cache_folder() / "studies" / jobs[0].key).mkdir(parents=True)
    (files.cache_folder() / "studies" / jobs[0].key / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="1 of 2 runs failed: tiny/short-0"):
        queue.run(jobs, 2, tmp_path / "records", progress=False)
    assert "not a readable checkpoint" in capfd.readouterr().err
    assert queue.pending(jobs, tmp_path / "records") == jobs[:1]


def test_a_job_that_another_process_is_running_is_left_to_it(tiny_study, tmp_path):
    jobs = tiny_study.jobs()[:1]
    lock = files.cache_folder() / "studies" / f"{jobs[0].key}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert queue.run(jobs, 1, tmp_path / "records", progress=False) == jobs
    assert store.read("tiny", tmp_path / "records") == []


@pytest.mark.slow
def test_killed_queue_goes_on_where_it_stopped(tiny_study, tmp_path):
    command = [sys.executable, "-m", "cnnhw", "study", "run", "tiny", "--processes", "2", "--records"]

    def start(where):
        return subprocess.Popen([*command, str(tmp_path / where)], start_new_session=True, stderr=subprocess.DEVNULL)

    begun = time.monotonic()
    assert start("whole").wait() == 0
    whole_time = time.monotonic() - begun
    rng = random.Random(1)
    kills = 0
    for attempt in range(30):
        process = start("killed")
        try:
            assert process.wait(timeout=rng.uniform(0.2, 0.4 + 0.1 * attempt) * whole_time) == 0
            break
        except subprocess.TimeoutExpired:
            if attempt % 2:
                process.kill()  # the runs go on without the queue
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            store.read("tiny", tmp_path / "killed")  # whatever is there is whole
    assert kills >= 1  # how many depends on the machine's load
    deadline = time.monotonic() + 60
    while queue.pending(tiny_study.jobs(), tmp_path / "killed") and time.monotonic() < deadline:
        assert start("killed").wait() == 0
    whole, killed = (store.read("tiny", tmp_path / where) for where in ("whole", "killed"))
    assert [figures(record) for record in whole] == [figures(record) for record in killed]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', '{"format": 99, "key": 1, "configuration": {}}'])
def test_damaged_record_is_named(tmp_path, damage):
    path = tmp_path / "q1" / "x.json.gz"
    path.parent.mkdir()
    for data in (damage.encode(), packed := gzip.compress(damage.encode()), packed[:-1]):
        path.write_bytes(data)
        with pytest.raises(CnnhwError, match=r"x\.json\.gz is not a usable record"):
            store.read("q1", tmp_path)


def test_a_record_that_is_not_packed_is_no_silent_gap(tmp_path):
    (tmp_path / "q1").mkdir()
    (tmp_path / "q1" / "a-0-01234567.json").write_text("{}")
    with pytest.raises(CnnhwError, match=r"a-0-01234567\.json is a record that is not packed: pack it"):
        store.read(where=tmp_path)


def test_a_record_whose_configuration_was_edited_is_refused(tiny_study, tmp_path):
    queue.run_job(tiny_study.jobs()[0], tmp_path / "records")
    (record,) = store.read(where=tmp_path / "records")
    content = json.loads(gzip.decompress(record.path.read_bytes()))
    content["configuration"]["seed"] = 5
    record.path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(CnnhwError, match="its key does not fit"):
        store.read(where=tmp_path / "records")


@pytest.mark.parametrize("classes", [2, 10, 11, 200])
def test_predictions_of_any_number_of_classes_are_read_back_as_they_were(classes):
    labels = torch.randint(0, classes, (500,), generator=torch.Generator().manual_seed(classes))
    labels[:classes] = torch.arange(classes)
    text = store._to_text(labels.tolist(), classes)
    assert torch.equal(store._from_text(text, classes), labels)
    content = {"data": {"classes": list(map(str, range(classes)))}, "test_labels": text, "best_epoch": 2}
    record = store.Record(content | {"test_predictions": {"2": text}}, Path("record.json"))
    assert torch.equal(record.labels, labels)
    assert torch.equal(record.predictions(), labels)
    assert len(text) == 500 or classes > 10


def test_committed_records_are_readable_and_belong_to_their_studies():
    keys = functools.cache(lambda name: {job.key for job in registry.get(name).jobs()})
    for record in studies.records():
        study = registry.get(record.study)
        assert record.key in keys(record.study)
        assert sum(map(len, record.content["test_predictions"].values())) % max(1, len(record.labels)) == 0
        epochs = sum(stage["epochs"] for stage in record.stages) or record.content["recipe"]["epochs"]
        assert {len(values) for values in record.history.values()} == {epochs}
        if study.every_epoch:
            assert len(record.content["test_predictions"]) == epochs
    assert sum(file.stat().st_size for file in store.folder().rglob("*.json.gz")) < 10e6


def test_estimate_grows_with_the_epochs(tiny_study):
    jobs = tiny_study.jobs()
    costs = queue.estimate(jobs, seconds=0.4)
    assert set(costs) == set(jobs)
    assert all(seconds > 0 for seconds in costs.values())


def test_wrong_study():
    with pytest.raises(UnknownNameError, match="Did you mean 'q1'"):
        registry.get("q11")


def test_a_source_may_be_of_another_study():
    job = registry.get("q6_pays").job("transfer", 5 * 203 + 4)
    assert job.source == registry.get("source").job("fast", 203)
    assert job.source.is_source
    assert not job.is_source
    assert job.configuration["source"] == job.source.key


def test_drift_is_noted_by_epoch_and_survives_an_interruption(folder, tmp_path):
    photos = make_photos()
    model = models.create("q1_shallow", 3, size=16)
    watched = drift.Drift(model, photos, tmp_path)
    watched.note(1)
    assert drift.Drift.read(tmp_path) == {"1": {"similarity": 1.0, "distance": 0.0}}
    with torch.no_grad():
        for parameter in model.features.parameters():
            parameter.mul_(1.5)
    watched.note(2)
    row = drift.Drift.read(tmp_path)["2"]
    assert row["distance"] == pytest.approx(0.5, abs=1e-5)
    assert 0.5 < row["similarity"] <= 1
    summary = drift.Drift.summary(drift.Drift.read(tmp_path), first=1)
    assert summary["early weight distance"] == 0
    assert summary["weight distance"] == row["distance"]
    assert drift.Drift.read(tmp_path / "nowhere") == {}


def test_a_plane_has_a_point_a_photo():
    photos = make_photos(train=120)
    model = models.create("q1_shallow", 3, size=16)
    found = q6._map(model, photos, {})
    assert q6._map(model, photos, {}) == found
    assert list(found) == ["map across", "map up"]
    assert len(found["map across"]) == len(found["map up"]) == len(photos.test)


def test_a_first_layer_is_measured_as_it_was_drawn():
    photos = make_photos(size=32)
    configuration = {"model": "first_layer", "seed": 3, "options": {"side": 5}}
    model = models.create("first_layer", 3, seed=3, size=32, side=5)
    start = q3.at_start(model, photos, configuration)
    assert {f"{name} at start": value for name, value in q3._filters(model, photos, configuration).items()} == start
    with torch.no_grad():
        model.features.conv1.weight.copy_(bank(5))
    assert q3.at_start(model, photos, configuration) == start
    assert q3._filters(model, photos, configuration)["edge correlation"] > start["edge correlation at start"] + 0.1
    assert {f"{name}" for name in start} - {"figure-ground best at start", "magnitude correlation at start"} == {
        name for name in registry.MEASURES if name.endswith("at start") and name != "path length at start"
    }


@pytest.mark.parametrize("kind", TRANSITIONS)
def test_maps_at_transitions_are_measured_where_they_are_pooled(kind):
    photos = make_photos(size=32)
    model = models.create("dense", 3, size=32, layers=1, transition=kind).eval()
    found = ii.at_transitions(model, photos, {})
    assert len(found) == 6
    assert set(found) <= set(registry.MEASURES)
    maps = {}
    x = photos.test.images / 255
    for name, part in model.features.named_children():
        if name.startswith("transition"):
            maps[name] = part[1](part[0](x)).detach()
        x = part(x)
    for name, values in maps.items():
        live = values[:, ~cnnhw.features.dead(values)]
        assert found[f"{name} active share"] == pytest.approx(float((live > 0).float().mean()), abs=1e-5)
        same = found[f"{name} pooled autocorrelation"] == found[f"{name} autocorrelation"]
        assert same is (kind in ("max_first", "average_first", "strided"))  # the convolution comes after


def test_weights_of_each_arms_first_seed_are_kept(tiny_study, tmp_path):
    jobs = {(job.arm.name, job.seed): job for job in tiny_study.jobs()}
    for job in jobs.values():
        queue.run_job(job, tmp_path)
    assert {name: queue.weights_file(job).exists() for name, job in jobs.items()} == {
        ("short", 0): True, ("short", 1): False, ("long", 0): True
    }  # fmt: skip
    kept = cnnhw.load(queue.weights_file(jobs["long", 0]))
    photos = cnnhw.data.load(tiny_study.data, size=16, progress=False)
    record = next(record for record in store.read("tiny", tmp_path) if record.arm == "long")
    assert torch.equal(cnnhw.evaluation.predict(kept, photos.test).argmax(1), record.predictions())
    before = record.path.read_bytes()
    queue.weights_file(jobs["long", 0]).unlink()
    queue.run_job(jobs["long", 0], tmp_path)  # nothing is run again for them
    assert record.path.read_bytes() == before
    assert not queue.weights_file(jobs["long", 0]).exists()


def test_each_runs_own_cut_is_in_its_record(tiny_study, tmp_path):
    arm = dataclasses.replace(tiny_study.arms[0], protocols=("own_cut",))
    study = dataclasses.replace(tiny_study, arms=(arm,))
    assert study.jobs()[0].key != tiny_study.jobs()[0].key
    for job in study.jobs():
        queue.run_job(job, tmp_path)
    whole = cnnhw.data.load(study.data, size=16, progress=False)
    found = {record.seed: record.content["data"] for record in store.read("tiny", tmp_path)}
    for seed, content in found.items():
        assert content["fingerprint"] == subsets.own_cut(whole, seed).fingerprint
        assert content["test_fingerprint"] == whole.test.fingerprint
        assert "tested" not in content
    assert found[0]["fingerprint"] != found[1]["fingerprint"]


@pytest.mark.parametrize("stages", [1, 2])
def test_a_study_may_note_how_far_features_move(folder, tmp_path, monkeypatch, stages):
    study = transfers(folder)
    moved = dataclasses.replace(study.arms[0], recipe=study.arms[0].stages[:stages])
    study = dataclasses.replace(study, arms=(moved, study.arms[1]), drift=True, every_epoch=False)
    monkeypatch.setitem(registry._STUDIES, "moves", study)
    queue.run_job(study.job("moved", 0), tmp_path / "records")
    content = next(record.content for record in store.read("moves", tmp_path / "records") if record.arm == "moved")
    assert list(content["drift"]) == [str(epoch) for epoch in range(1, 2 * stages + 1)]
    assert content["drift"]["2"] == {"similarity": 1.0, "distance": 0.0}
    assert (content["measures"]["early weight distance"] > 0) is (stages == 2)
