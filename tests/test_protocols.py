"""What is done to data sets before training: splits, order, channels."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from conftest import make_photos

from cnnhw.data import subsets
from cnnhw.errors import UnknownNameError


def everything(photos):
    return sorted(name for split in (photos.train, photos.validation, photos.test) for name in split.names)


@pytest.mark.parametrize("name", subsets.names())
def test_each_photo_keeps_its_label_and_pixels(name):
    photos = make_photos(train=300)
    known = {
        name: (label, image)
        for split in (photos.train, photos.validation, photos.test)
        for name, label, image in zip(split.names, split.labels.tolist(), split.images, strict=True)
    }
    changed = subsets.prepare(photos, [name])
    for split in (changed.train, changed.validation, changed.test):
        assert len(split)
        for photo, label, image in zip(split.names, split.labels.tolist(), split.images, strict=True):
            assert label == known[photo][0]
            assert torch.equal(image, known[photo][1].flip(0) if name == "bgr" else known[photo][1])
    if name not in ("every_fifth", "half_train", *subsets.SHARES):
        assert everything(changed) == everything(photos)
    assert len(set(everything(changed))) == len(everything(changed))


def test_what_protocols_leave_aside_is_in_no_part():
    photos = make_photos(train=300)  # 100 more to validate with
    changed = subsets.prepare(photos, ["own_cut", "half_train"], seed=3)
    aside = subsets.left_out(photos, changed)
    assert len(aside) == 150
    pool = {*photos.train.index.tolist(), *photos.validation.index.tolist()}
    used = {*changed.train.index.tolist(), *changed.validation.index.tolist()}
    assert {*aside.index.tolist()} == pool - used
    assert len(subsets.left_out(photos, photos)) == 0
    folded = subsets.prepare(photos, ["fold", "half_train"], seed=3)
    aside = {*subsets.left_out(photos, folded).index.tolist()}
    assert aside.isdisjoint(folded.test.index.tolist())
    assert aside


def test_last_tenth_is_of_the_last_class_in_order():
    photos = make_photos(train=300)  # 100 more to validate with
    changed = subsets.last_tenth(photos)
    assert (len(changed.train), len(changed.validation)) == (360, 40)
    assert changed.validation.labels.unique().tolist() == [2]
    assert changed.train.labels.diff().min() >= 0
    assert torch.equal(changed.test.labels, photos.test.labels)


def test_random_split_has_its_shares_and_follows_the_seed():
    photos = make_photos(train=300)
    first, same, other = (subsets.random_split(photos, seed) for seed in (0, 0, 1))
    total = len(everything(photos))
    assert len(first.test) == round(0.2 * total)
    assert len(first.validation) == (total - len(first.test)) // 10
    assert first.test.names == same.test.names
    assert first.test.names != other.test.names


def test_every_fifth_keeps_all_classes():
    changed = subsets.every_fifth(make_photos(train=300))
    assert torch.bincount(changed.train.labels).tolist() == [20, 20, 20]


def test_half_of_the_training_photos_and_all_others():
    photos = make_photos(train=300)
    changed = subsets.half_train(photos)
    assert torch.bincount(changed.train.labels).tolist() == [50, 50, 50]
    assert changed.test.names == photos.test.names
    assert changed.validation.names == photos.validation.names


def test_protocols_follow_one_another():
    photos = make_photos(train=300)
    both = subsets.prepare(photos, ["random_split", "bgr"], seed=3)
    assert both.test.names == subsets.random_split(photos, 3).test.names
    assert torch.equal(both.test.images, subsets.random_split(photos, 3).test.images.flip(1))
    assert subsets.prepare(photos, []) is photos


def test_unknown_protocol():
    with pytest.raises(UnknownNameError, match="Did you mean 'last_tenth'"):
        subsets.prepare(make_photos(), ["last_tenths"])


def test_folds_test_each_photo_once_and_keep_the_classes_balanced():
    photos = make_photos(train=300)
    folds = [subsets.fold(photos, seed) for seed in range(6)]
    tested = [set(one.test.names) for one in folds]
    assert sorted(name for names in tested[:5] for name in names) == everything(photos)
    assert tested[5] not in tested[:5]
    for one in folds:
        assert len(one.test) == pytest.approx(0.2 * 550, abs=3)
        assert len(one.validation) == pytest.approx(0.1 * 550, abs=3)
        assert not set(one.test.names) & set(one.train.names)
        for split in (one.train, one.validation, one.test):
            counts = torch.bincount(split.labels)
            assert counts.max() - counts.min() <= 2


def test_each_seed_cuts_training_and_validation_photos_anew():
    photos = make_photos(train=300)
    cuts = [subsets.own_cut(photos, seed) for seed in (0, 0, 1)]
    for one in cuts:
        assert one.test is photos.test
        assert torch.equal(torch.bincount(one.validation.labels), torch.bincount(photos.validation.labels))
        assert all((split.index.diff() > 0).all() for split in (one.train, one.validation))
        assert everything(one) == everything(photos)
    first, same, other = (one.validation.names for one in cuts)
    assert first == same != photos.validation.names
    # two cuts at random share about a quarter of their validation photos, 100 of 400
    assert 10 < len(set(first) & set(other)) < 45
    assert cuts[0].fingerprint == cuts[1].fingerprint != cuts[2].fingerprint
    again = subsets.own_cut(cuts[2], 0)  # of the photos and the seed alone, not of the cut before
    assert again.fingerprint == cuts[0].fingerprint


def test_a_cut_of_its_own_goes_with_a_share_of_the_training_photos():
    photos = make_photos(train=300)
    for name, kept in (("half_train", 150), ("train_10", 30)):
        whole, part = (subsets.prepare(photos, ["own_cut", *more], seed=4) for more in ((), (name,)))
        assert len(part.train) == kept
        assert set(part.train.names) < set(whole.train.names)
        assert part.validation.names == whole.validation.names
        assert part.train.names != subsets.prepare(photos, [name], seed=4).train.names


def test_shares_of_the_training_photos_are_nested_and_balanced():
    photos = make_photos(train=300)
    names, others = [], []
    for name, share in subsets.SHARES.items():
        one = subsets.prepare(photos, [name], seed=3)
        assert torch.bincount(one.train.labels).tolist() == [round(share * 100)] * 3
        assert one.test.names == photos.test.names
        names.append(set(one.train.names))
        others.append(set(subsets.prepare(photos, [name], seed=4).train.names))
    assert all(small < large for small, large in pairwise(names))
    assert all(a != b for a, b in zip(names, others, strict=True))
