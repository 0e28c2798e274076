"""Repeated cross-validation: five runs that test every photo once become one row."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photos

import cnnhw
from cnnhw.data import subsets
from cnnhw.errors import CnnhwError
from cnnhw.studies import folds, queue, store
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage


def record(photos, seed, predict, protocols=("fold",), whole=None):
    """Make a record of a run whose predictions are a function of a photo's name."""
    test = subsets.prepare(photos, protocols, seed)
    predicted = [predict(name, label) for name, label in zip(test.test.names, test.test.labels.tolist(), strict=True)]
    content = {
        "configuration": {"seed": seed},
        "data": {"classes": list(photos.classes)} | folds.tested(whole or photos, test),
        "best_epoch": 1,
        "test_labels": "".join(map(str, test.test.labels.tolist())),
        "test_predictions": {"1": "".join(map(str, predicted)), "2": "".join(map(str, test.test.labels.tolist()))},
    }
    return store.Record(content, Path(f"arm-{seed}.json"))


def hashed(name, label):
    return random.Random(name).randrange(3)


def test_a_repeat_is_a_row_of_all_photos_in_the_order_of_the_set():
    photos = make_photos(train=60)
    records = [record(photos, seed, hashed) for seed in folds.seeds([0, 2])]
    random.Random(0).shuffle(records)
    found = folds.pooled(records)
    whole = {row: (name, label) for split in photos.splits for row, name, label in zip(
        split.index.tolist(), split.names, split.labels.tolist(), strict=True)}  # fmt: skip
    expected = [hashed(*whole[row]) == whole[row][1] for row in sorted(whole)]
    assert found.shape == (2, 110)
    assert found.tolist() == [expected, expected]  # whatever the partition
    assert folds.pooled(records, epoch=2).all()


def test_arms_with_fewer_photos_to_learn_from_share_the_order():
    photos = make_photos(train=60)
    all_photos, few = (
        [record(photos, seed, hashed, protocols) for seed in folds.seeds([1])]
        for protocols in (("fold",), ("fold", "train_10"))
    )
    assert np.array_equal(folds.pooled(all_photos), folds.pooled(few))


def test_seeds_of_repeats():
    assert folds.seeds([0, 3]) == (0, 1, 2, 3, 4, 15, 16, 17, 18, 19)
    photos = make_photos(train=60)
    tests = [subsets.fold(photos, seed).test.index for seed in folds.seeds([3])]
    assert torch.cat(tests).sort().values.tolist() == list(range(110))


def test_what_cannot_be_pooled_is_refused():
    photos = make_photos(train=60)
    records = [record(photos, seed, hashed) for seed in folds.seeds([0, 1])]
    with pytest.raises(CnnhwError, match="seeds 7 have no record"):
        folds.pooled([one for one in records if one.seed != 7])
    with pytest.raises(CnnhwError, match="seed 3 is there twice"):
        folds.pooled([*records, records[3]])
    with pytest.raises(CnnhwError, match="no records to pool"):
        folds.pooled([])
    other = record(make_photos(train=60, seed=1), 4, hashed)
    with pytest.raises(CnnhwError, match="different data sets"):
        folds.pooled([*records[:4], other])
    wrong = dataclasses.replace(records[0], content=records[0].content | {"configuration": {"seed": 4}})
    with pytest.raises(CnnhwError, match="not test every photo once"):
        folds.pooled([*records[:4], wrong])
    bare = dataclasses.replace(records[0], content=records[0].content | {"data": {}})
    with pytest.raises(CnnhwError, match=r"arm-0\.json does not note which photos"):
        folds.pooled([bare])


def test_folds_of_a_repeat_start_from_one_source_and_are_pooled_from_their_records(pets, tmp_path):
    base = Arm("base", "q1_shallow", Recipe(epochs=1, batch_size=8), seeds=(0, 1))
    stage = Stage("classifier", Recipe(epochs=1, batch_size=8))
    moved = Arm("moved", "q1_shallow", (stage,), seeds=folds.seeds([1]), source="base", folds=5, protocols=("fold",))
    study = Study("folds", "Does it pool?", str(pets), 16, (base, moved))
    jobs = [job for job in study.jobs() if job.arm is moved]
    assert {job.source.seed for job in jobs} == {1}
    assert len({job.key for job in jobs}) == 5
    for job in jobs:
        queue.run_job(job, tmp_path / "records")
    records = [one for one in store.read("folds", tmp_path / "records") if one.arm == "moved"]
    found = folds.pooled(records)
    assert found.shape == (1, len(cnnhw.data.photo_files([pets])))
    assert found.mean() == pytest.approx(np.mean([one.accuracy() for one in records]))
    with pytest.raises(CnnhwError, match="study folds has no run of base with seed 2"):
        _ = dataclasses.replace(jobs[0], seed=10).source
