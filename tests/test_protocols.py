"""What is done to data sets before training: splits, order, channels."""

from __future__ import annotations

import pytest
import torch
from conftest import make_photos

from cnnhw.data import protocols
from cnnhw.errors import UnknownNameError


def everything(photos):
    return sorted(name for split in (photos.train, photos.validation, photos.test) for name in split.names)


@pytest.mark.parametrize("name", protocols.names())
def test_each_photo_keeps_its_label_and_pixels(name):
    photos = make_photos(train=300)
    known = {
        name: (label, image)
        for split in (photos.train, photos.validation, photos.test)
        for name, label, image in zip(split.names, split.labels.tolist(), split.images, strict=True)
    }
    changed = protocols.prepare(photos, [name])
    for split in (changed.train, changed.validation, changed.test):
        assert len(split)
        for photo, label, image in zip(split.names, split.labels.tolist(), split.images, strict=True):
            assert label == known[photo][0]
            assert torch.equal(image, known[photo][1].flip(0) if name == "bgr" else known[photo][1])
    if name not in ("every_fifth", "half_train"):
        assert everything(changed) == everything(photos)
    assert len(set(everything(changed))) == len(everything(changed))


def test_last_tenth_is_of_the_last_class_in_order():
    photos = make_photos(train=300)  # 100 more to validate with
    changed = protocols.last_tenth(photos)
    assert (len(changed.train), len(changed.validation)) == (360, 40)
    assert changed.validation.labels.unique().tolist() == [2]
    assert changed.train.labels.diff().min() >= 0
    assert torch.equal(changed.test.labels, photos.test.labels)


def test_random_split_has_its_shares_and_follows_the_seed():
    photos = make_photos(train=300)
    first, same, other = (protocols.random_split(photos, seed) for seed in (0, 0, 1))
    total = len(everything(photos))
    assert len(first.test) == round(0.2 * total)
    assert len(first.validation) == (total - len(first.test)) // 10
    assert first.test.names == same.test.names
    assert first.test.names != other.test.names


def test_every_fifth_keeps_all_classes():
    changed = protocols.every_fifth(make_photos(train=300))
    assert torch.bincount(changed.train.labels).tolist() == [20, 20, 20]


def test_half_of_the_training_photos_and_all_others():
    photos = make_photos(train=300)
    changed = protocols.half_train(photos)
    assert torch.bincount(changed.train.labels).tolist() == [50, 50, 50]
    assert changed.test.names == photos.test.names
    assert changed.validation.names == photos.validation.names


def test_protocols_follow_one_another():
    photos = make_photos(train=300)
    both = protocols.prepare(photos, ["random_split", "bgr"], seed=3)
    assert both.test.names == protocols.random_split(photos, 3).test.names
    assert torch.equal(both.test.images, protocols.random_split(photos, 3).test.images.flip(1))
    assert protocols.prepare(photos, []) is photos


def test_unknown_protocol():
    with pytest.raises(UnknownNameError, match="Did you mean 'last_tenth'"):
        protocols.prepare(make_photos(), ["last_tenths"])
