"""Transfer in stages: what trains, what stays, and frozen features that are computed once."""

from __future__ import annotations

import copy
import dataclasses
import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from conftest import make_photos
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import cnnhw
from cnnhw import models, transfer
from cnnhw.errors import DataError, TrainingError, UnknownNameError
from cnnhw.models.heads import Head
from cnnhw.training import clock, loop
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

HEAD = Stage("classifier", Recipe(epochs=3, batch_size=8))
ALL = Stage("all", Recipe(epochs=2, batch_size=8))
# smallest sides that each can be built for, and the recipe fields that rule a cache out
SIDES = {"q2_concat_skip": 100}


@pytest.fixture(autouse=True)
def one_number_format(monkeypatch):
    """The probe computes in the faster number format: which one that is must not decide a test."""
    monkeypatch.setattr(transfer.probe, "seconds_a_photo", lambda *_: {False: 1e-3, True: 2e-3})


def network(name="q1_shallow", size=16, classes=3, **options):
    return models.create(name, classes, size=size, **options)


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("cache", [True, False])
def test_head_stage_changes_the_last_layer_and_nothing_else(name, cache):
    side = SIDES.get(name, 16)
    photos = make_photos(train=24, size=side)
    model = network(name, side)
    before = weights(model)
    (run,) = transfer.transfer(model, photos, [HEAD], new_classifier=False, cache=cache, progress=False)
    after = model.state_dict()
    last = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert last == {f"head.{[*dict(model.head.named_children())][-1]}.{kind}" for kind in ("weight", "bias")}
    assert run.trainable == sum(after[key].numel() for key in last)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", models.names())
def test_cached_features_give_the_same_result(name):
    side = SIDES.get(name, 16)
    photos = make_photos(train=24, size=side)
    results = []
    for cache in (True, False):
        model = network(name, side)
        (run,) = transfer.transfer(model, photos, [HEAD], cache=cache, progress=False, test_each_epoch=True)
        results.append((run, weights(model)))
    (cached, ours), (plain, theirs) = results
    assert cached.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-5)
    assert cached.test_predictions == plain.test_predictions
    for key, value in ours.items():
        assert torch.allclose(value, theirs[key], atol=1e-5), key


def test_features_of_a_network_in_the_middle():
    photos, model = make_photos(), network()
    model.requires_grad_(False)
    model.features.conv3.requires_grad_()
    model.head.requires_grad_()
    rest, features = transfer.frozen_features(model, photos)
    assert features.train.images.shape == (60, 32, 4, 4)
    assert features.size == rest.size == 4
    assert torch.equal(features.train.labels, photos.train.labels)
    logits = cnnhw.evaluation.predict(rest, features.test)
    assert torch.allclose(logits, cnnhw.evaluation.predict(model, photos.test), atol=1e-5)
    rest.head[-1].bias.data += 1
    assert torch.equal(rest.head[-1].bias, model.head[-1].bias)


def test_features_need_frozen_layers_and_others():
    photos, model = make_photos(), network()
    with pytest.raises(DataError, match="no frozen layers"):
        transfer.frozen_features(model, photos)
    model.requires_grad_(False)
    with pytest.raises(DataError, match="no frozen layers"):
        transfer.frozen_features(model, photos)


@pytest.mark.parametrize("change", [{"flip": True}, {"shift": 1}, {"cutout": 0.5}, {"mixup": 0.2}, {"raw": True}])
def test_what_changes_the_photos_is_not_cached(change):
    photos, model = make_photos(), network()
    stage = Stage("classifier", dataclasses.replace(HEAD.recipe, **change))
    assert transfer.freeze(model, photos, stage) == (model, photos)


def test_second_stage_trains_the_extractor_only_if_it_is_told_to():
    photos = make_photos()
    for stage, moves in ((ALL, True), (Stage("classifier", ALL.recipe), False)):
        model = network()
        before = model.features.conv1.weight.detach().clone()
        first, second = transfer.transfer(model, photos, [HEAD, stage], progress=False)
        assert torch.equal(model.features.conv1.weight, before) is not moves
        assert first.trainable == 195
        assert second.trainable == (models.count_parameters(model) if moves else 195)
        assert model.classes == photos.classes
        assert second.model is model


def test_each_stage_goes_on_from_the_one_before():
    photos, model = make_photos(train=90), network()
    runs = transfer.transfer(model, photos, [HEAD] * 3, progress=False)
    for earlier, later in pairwise(runs):
        assert later.history["loss"][0] < earlier.history["loss"][0]


def test_new_classifier_depends_on_the_seed_alone():
    photos = make_photos(classes=4)
    models_ = [network() for _ in range(3)]
    for model, seed, noise in zip(models_, (1, 1, 2), (0, 5, 5), strict=True):
        torch.manual_seed(noise)
        expected = torch.rand(1)
        torch.manual_seed(noise)
        transfer.begin(model, len(photos.classes), seed)
        assert torch.equal(torch.rand(1), expected)
    first, same, other = (model.head[-1].weight for model in models_)
    assert first.shape == (4, 64)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_old_classifier_needs_as_many_classes():
    with pytest.raises(DataError, match="the data have 4 classes, the model has 3"):
        transfer.transfer(network(), make_photos(classes=4), [HEAD], new_classifier=False)


def test_raw_pixels_travel_with_the_weights(tmp_path):
    photos, model = make_photos(), network()
    run = cnnhw.fit(model, photos, Recipe(epochs=1, raw=True), progress=False)
    assert model.pixel_scale == 255
    loaded = cnnhw.load(run.save(tmp_path / "run"))
    assert loaded.pixel_scale == 255
    assert torch.equal(cnnhw.evaluation.predict(loaded, photos.test).argmax(1), run.predictions)
    head = []
    for cache in (True, False):
        (found,) = transfer.transfer(copy.deepcopy(loaded), photos, [HEAD], cache=cache, progress=False)
        head.append(found.history["loss"])
    assert head[0] == pytest.approx(head[1], rel=1e-5)


def test_interrupted_transfer_goes_on_and_ends_alike(tmp_path):
    photos = make_photos()
    whole, cut = network(), network()
    expected = transfer.transfer(whole, photos, [HEAD, ALL], progress=False)

    class Stop(Exception):
        pass

    def stop(at):
        def tell(epoch, row):
            if epoch == at:
                raise Stop

        return tell

    for at in (2, 4):
        with pytest.raises(Stop):
            transfer.transfer(
                network(), photos, [HEAD, ALL], folder=tmp_path, resume=True, progress=False, on_epoch=stop(at)
            )
    runs = transfer.transfer(cut, photos, [HEAD, ALL], folder=tmp_path, resume=True, progress=False)
    assert [run.history["loss"] for run in runs] == [run.history["loss"] for run in expected]
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in cut.state_dict().items())
    with pytest.raises(TrainingError, match="already holds a run"):
        transfer.transfer(network(), photos, [HEAD], folder=tmp_path, progress=False)


def test_frozen_batch_norm_keeps_its_statistics():
    photos = make_photos(size=16)
    model = network("fast")
    before = weights(model)
    stage = Stage("classifier", dataclasses.replace(HEAD.recipe, flip=True))
    transfer.transfer(model, photos, [stage], new_classifier=False, progress=False)
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before if "running" in key)


def test_unknown_layers_are_refused():
    for change in ({"stages": [Stage("conv9", HEAD.recipe)]}, {"stages": [HEAD], "fresh_from": "conv9"}):
        with pytest.raises(UnknownNameError, match=r"layer 'conv9'\. Did you mean 'conv[123]'"):
            transfer.transfer(network(), make_photos(), progress=False, **change)


@pytest.mark.parametrize(("layer", "trained"), [("conv1", 10), ("conv3", 6), ("relu3", 4), ("dense2", 2)])
def test_a_stage_trains_a_layer_and_all_after_it(layer, trained):
    photos, model = make_photos(), network()
    before = weights(model)
    transfer.transfer(model, photos, [Stage(layer, ALL.recipe)], new_classifier=False, progress=False)
    moved = [key for key, value in model.state_dict().items() if not torch.equal(before[key], value)]
    assert moved == list(before)[-trained:]


def test_what_is_not_transferred_is_as_created():
    source, fresh = network(), models.create("q1_shallow", 3, seed=5, size=16)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    before = weights(source)
    transfer.begin(source, 3, seed=5, fresh_from="conv2")
    for key, value in source.state_dict().items():
        expected = before if key.startswith("features.conv1") else fresh.state_dict()
        assert torch.equal(value, expected[key]), key


HEADS = [
    Head(),
    Head(hidden=7),
    Head(pool="flatten"),
    Head(hidden=7, dropout=0.5, pool="flatten"),
    Head(dropout=0.3),
    Head(zero=True),
]


@pytest.mark.parametrize("name", models.names())
def test_new_heads_fit_every_network_and_travel_with_its_weights(name, tmp_path):
    side = SIDES.get(name, 16)
    for number, head in enumerate(HEADS):
        model = network(name, side)
        transfer.begin(model, 4, seed=3, head=head)
        model.eval()
        x = torch.rand(2, 3, side, side)
        with torch.no_grad():
            maps = model.forward_features(x)
            expected = model(x)
        width = maps.shape[1] * (maps.shape[2] * maps.shape[3] if head.pool == "flatten" else 1)
        counted = (width + 1) * head.hidden + ((head.hidden or width) + 1) * 4
        assert models.count_parameters(model.head) == counted
        assert expected.shape == (2, 4)
        assert bool((expected == 0).all()) is head.zero
        path = tmp_path / f"{number}.safetensors"
        cnnhw.models.weights.save_weights(model, path)
        loaded = cnnhw.load(path)
        assert loaded.new_head == model.new_head
        with torch.no_grad():
            assert torch.allclose(loaded(x), expected, atol=1e-6)


def test_a_new_head_may_be_for_photos_of_another_size(tmp_path):
    photos, model = make_photos(size=24), network(size=16)
    stages = transfer.two_stages(transfer.recipe(1, batch_size=8), head_epochs=1)
    runs = transfer.transfer(model, photos, stages, head=Head(hidden=5, pool="flatten"), progress=False)
    assert model.size == 24
    folder = transfer.joined(runs, stages).save(tmp_path / "run")
    loaded = cnnhw.load(folder)
    assert torch.equal(cnnhw.evaluation.predict(loaded, photos.test).argmax(1), runs[-1].predictions)
    assert "the head for 1 epochs; all layers for 1 epochs" in (folder / "report.html").read_text(encoding="utf-8")


def test_stages_as_one_run_count_epochs_through():
    stages = [HEAD, ALL]
    runs = transfer.transfer(network(), make_photos(), stages, progress=False)
    one = transfer.joined(runs, stages)
    assert one.history["loss"] == runs[0].history["loss"] + runs[1].history["loss"]
    assert one.recipe["epochs"] == 5
    assert one.best_epoch == 3 + runs[1].best_epoch
    assert one.accuracy == runs[1].accuracy


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["q1_shallow", "fast"])
def test_cached_features_of_new_heads_give_the_same_result(name, head):
    photos, results = make_photos(train=24, size=16), []
    for cache in (True, False):
        model = network(name)
        (run,) = transfer.transfer(model, photos, [Stage("head", HEAD.recipe)], head=head, cache=cache, progress=False)
        results.append(run.history["loss"])
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_bad_heads_and_stages_are_refused():
    for change in ({"hidden": -1}, {"dropout": 1.0}, {"pool": "max"}):
        with pytest.raises(ValueError, match=f"Head\\({next(iter(change))}="):
            Head(**change)
    for change in ({"features_rate": 0.0}, {"layer_decay": -1.0}):
        with pytest.raises(ValueError, match=f"Stage\\({next(iter(change))}="):
            Stage("all", **change)
    with pytest.raises(ValueError, match="not both"):
        transfer.begin(network(), 3, 0, head=Head(), new_classifier=False)
    with pytest.raises(ValueError, match="steps=4 is not possible"):
        transfer.gradual(network(), Recipe(), 4)
    with pytest.raises(UnknownNameError, match="layer of the features 'dense1'"):
        transfer.freeze(network(), make_photos(), Stage("all", until="dense1"))


def test_unfreezing_from_the_end_and_from_the_beginning():
    model = network("fast")
    assert transfer.parts(model) == ["stem", "stage1", "stage2", "residual2_1", "stage3", "residual3_1"]
    end = transfer.gradual(model, Recipe(), 3)
    start = transfer.gradual(model, Recipe(), 3, reverse=True)
    assert [stage.train for stage in end] == ["stage3", "stage2", "all"]
    assert [stage.until for stage in start] == ["stage1", "residual2_1", ""]
    trained = []
    for stage in (*end, *start):
        transfer.freeze(model, make_photos(), stage, cache=False)
        assert all(p.requires_grad for p in model.head.parameters())
        trained.append(
            [
                name
                for name in transfer.parts(model)
                if any(p.requires_grad for p in model.features.get_submodule(name).parameters())
            ]
        )
    names = transfer.parts(model)
    assert trained == [names[4:], names[2:], names, names[:2], names[:4], names]


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_in_turn_each_layer_learns_for_as_many_steps_in_every_order(steps):
    model, photos = network("fast"), make_photos(train=25)  # batches of 8, 8 and, as one photo is no batch, 9
    recipe = Recipe(epochs=2, batch_size=8)
    for order in ("end", "start", "together"):
        stages = transfer.in_turn(model, recipe, steps, order=order)
        found = transfer.learning_steps(model, photos, stages)
        assert found == {**dict.fromkeys(transfer.parts(model), 6), "classifier": 6 * steps}
    end, start = (transfer.in_turn(model, recipe, steps, order=order) for order in ("end", "start"))
    assert end == start[::-1]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_steps_are_counted_as_they_are_taken():
    model, photos = network("fast"), make_photos()
    stages = [HEAD, *transfer.gradual(model, ALL.recipe, 3)]
    found = transfer.learning_steps(model, photos, stages)
    assert list(found.values()) == [16, 16, 32, 32, 48, 48, 72]
    model.features.stem.requires_grad_(False)
    assert transfer.learning_steps(model, photos, stages) == found
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        "features.stem.weight", "features.stem.bias"
    ]  # fmt: skip
    two = transfer.two_stages(ALL.recipe, head_epochs=9)
    tuned, at_once = (transfer.learning_steps(model, photos, one) for one in (two, [Stage("all", ALL.recipe)]))
    assert [tuned[name] for name in transfer.parts(model)] == [at_once[name] for name in transfer.parts(model)]


def test_an_order_in_turn_moves_its_group_and_the_head_alone():
    model, photos = network("fast"), make_photos(train=24)
    first, *_ = transfer.in_turn(model, Recipe(epochs=1, batch_size=8), 3, order="start")
    before = weights(model)
    transfer.transfer(model, photos, [first], new_classifier=False, progress=False)
    moved = {key.split(".")[1] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"stem", "stage1", "linear"}
    with pytest.raises(ValueError, match="order='up'"):
        transfer.in_turn(model, Recipe(), order="up")
    with pytest.raises(ValueError, match="steps=7 is not possible"):
        transfer.in_turn(model, Recipe(), 7)


@pytest.mark.parametrize(("name", "kept", "first"), [("fast", "stem", "stage1"), ("inception", "", "module1")])
def test_a_control_has_head_and_stem_of_the_transfer_and_fresh_weights_between(name, kept, first):
    source = network(name, 32)
    if name == "fast":
        cnnhw.training.whiten_(source, torch.rand(20, 3, 32, 32))
    moved, control = copy.deepcopy(source), copy.deepcopy(source)
    transfer.begin(moved, 4, seed=7, head=Head(hidden=5))
    transfer.begin(control, 4, seed=7, head=Head(hidden=5), fresh_from=first)
    fresh = network(name, 32, 4, seed=7).state_dict()
    assert models.count_parameters(moved) == models.count_parameters(control)
    for key, value in control.state_dict().items():
        same = key.startswith("head.") or (kept and key.startswith(f"features.{kept}."))
        assert torch.equal(value, moved.state_dict()[key] if same else fresh[key]), key


def test_a_stem_whitened_on_the_new_photos_is_the_same_with_and_without_a_transfer():
    photos, stems = make_photos(train=24), []
    stage = Stage("all", Recipe(epochs=1, batch_size=8, whiten=True))
    for fresh_from in ("", "stem"):
        model = models.create("fast", 3, size=16, seed=9)
        transfer.transfer(model, photos, [stage], head=Head(), fresh_from=fresh_from, seed=3, progress=False)
        stems.append(model.features.stem.weight)
    assert torch.equal(*stems)
    assert not torch.equal(stems[0], models.create("fast", 3, size=16, seed=9).features.stem.weight)


def test_discriminative_rates_scale_each_layers_steps():
    # one step of SGD without momentum's history moves weights by rate times gradient times 1.9 (Nesterov)
    recipe = Recipe(epochs=1, batch_size=60, optimizer="sgd", learning_rate=0.01)
    moved = []
    for stage in (Stage("all", recipe), Stage("all", recipe, features_rate=0.5, layer_decay=0.1)):
        model = network()
        before = weights(model)
        transfer.transfer(model, make_photos(), [stage], new_classifier=False, progress=False)
        moved.append({key: (value - before[key]).double() for key, value in model.state_dict().items()})
    for key, value in moved[0].items():
        factor = {"conv3": 0.05, "conv2": 0.005, "conv1": 0.0005}.get(key.split(".")[1], 1.0)
        assert torch.allclose(moved[1][key], factor * value, rtol=0.02, atol=2e-8), key
    assert Stage("all", recipe).rates(model) == {}


def test_a_zero_head_shields_the_features_for_one_step_only():
    photos = make_photos()

    def moved(optimizer, epochs, decay=0.0, zero=True):
        model = network()
        transfer.begin(model, 3, 0, head=Head(zero=zero))
        before = {key: value for key, value in weights(model).items() if key.startswith("features")}
        recipe = Recipe(
            epochs=epochs, batch_size=60, optimizer=optimizer, weight_decay=decay, learning_rate=0.01, keep="last"
        )
        cnnhw.fit(model, photos, recipe, progress=False)
        return {key: (before[key], model.state_dict()[key]) for key in before}

    assert all(torch.equal(old, new) for old, new in moved("sgd", 1).values())
    assert not any(torch.equal(old, new) for old, new in moved("sgd", 2).values())
    assert not any(torch.equal(old, new) for old, new in moved("sgd", 1, zero=False).values())
    # decoupled weight decay moves them all the same, by rate times decay (Loshchilov and Hutter 2019)
    for old, new in moved("adamw", 1, decay=0.1).values():
        assert torch.allclose(new, old * (1 - 0.01 * 0.1), rtol=1e-6, atol=0)


def test_rates_of_layers_belong_to_a_run_that_is_resumed(tmp_path):
    photos = make_photos()
    stage = Stage("all", ALL.recipe, layer_decay=0.5)

    class Stop(Exception):
        pass

    def stop(epoch, row):
        raise Stop

    for other in (Stage("all", ALL.recipe), stage):
        folder = tmp_path / str(other.layer_decay)
        with pytest.raises(Stop):
            transfer.transfer(network(), photos, [other], folder=folder, progress=False, on_epoch=stop)
    with pytest.raises(TrainingError, match="other settings"):
        transfer.transfer(network(), photos, [stage], folder=tmp_path / "1.0", resume=True, progress=False)
    cut, whole = network(), network()
    transfer.transfer(cut, photos, [stage], folder=tmp_path / "0.5", resume=True, progress=False)
    transfer.transfer(whole, photos, [stage], progress=False)
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in cut.state_dict().items())


def test_layers_drawn_anew_keep_a_head_that_was_replaced_before():
    model = network()
    transfer.begin(model, 3, seed=1, head=Head(hidden=6))
    conv1 = model.features.conv1.weight.clone()
    transfer.begin(model, 4, seed=5, fresh_from="conv2")
    other = network()
    transfer.begin(other, 4, seed=5, head=Head(hidden=6))
    assert torch.equal(model.head.hidden.weight, other.head.hidden.weight)
    assert torch.equal(model.features.conv1.weight, conv1)


def test_licences_of_source_and_photos_are_kept(tmp_path):
    model = network()
    cnnhw.models.weights.save_weights(model, tmp_path / "source.safetensors", licence="of the source")
    loaded = transfer.source(tmp_path / "source.safetensors")
    photos = dataclasses.replace(make_photos(), licence="of the photos")
    (run,) = transfer.transfer(loaded, photos, [HEAD], progress=False)
    assert run.licence == "of the photos; of the source"
    assert cnnhw.load(run.save(tmp_path / "run")).licence == run.licence


def adapted(photos, **changes):
    """Return a run of `adapt`, from a network with fixed weights, and the network as it was before."""
    model = network("fast", size=16, classes=4)
    before = copy.deepcopy(model.state_dict())
    options = {"head_epochs": 2, "epochs": 2, "progress": False, "seed": 3} | changes
    return transfer.adapt(model, photos, **options), before


@pytest.mark.parametrize("head", [Head(), Head(hidden=6)], ids=["linear", "hidden"])
def test_adapting_is_the_two_stages_of_which_the_better_is_kept(head):
    photos, told = make_photos(size=16), []
    run, _ = adapted(photos, head=head, on_epoch=lambda epoch, row: told.append(epoch))
    model = network("fast", size=16, classes=4)
    second = transfer.Stage("all", transfer.recipe(2, shift=1))
    if head.hidden:
        first = transfer.Stage("head", transfer.recipe(2, flip=False))
        runs = transfer.transfer(model, photos, [first, second], head=head, seed=3, progress=False)
    else:
        transfer.begin(model, 3, seed=3, head=head, size=16)
        runs = [transfer.linear_probe(model, photos)]
        runs += transfer.transfer(model, photos, [second], new_classifier=False, seed=3, progress=False)
    assert told == [*range(1, len(run.history["loss"]) + 1)]
    assert [stage.history["loss"] for stage in run.stages] == [one.history["loss"] for one in runs]
    assert [stage["train"] for stage in run.recipe["stages"]] == ["head" if head.hidden else "classifier", "all"]
    better = 1 if runs[0].validation_accuracy > runs[1].validation_accuracy else 2
    assert run.kept == run.summary()["kept_stage"] == better
    assert run.predictions.equal(runs[better - 1].predictions)


def test_a_second_stage_that_makes_it_worse_is_left_out(monkeypatch, tmp_path):
    wild = dataclasses.replace(transfer.recipe(1), learning_rate=30.0)
    monkeypatch.setattr(transfer.stages, "recipe", lambda *_, **__: wild)
    photos = make_photos(size=16)
    run, before = adapted(photos, head_epochs=30, epochs=1)
    assert run.stages[0].validation_accuracy > run.stages[1].validation_accuracy
    assert run.kept == 1
    features = {name: value for name, value in run.model.state_dict().items() if name.startswith("features")}
    assert all(torch.equal(value, before[name]) for name, value in features.items())
    assert cnnhw.evaluation.predict(run.model, photos.test).argmax(1).equal(run.predictions)
    page = (run.save(tmp_path / "run") / "report.html").read_text(encoding="utf-8")
    assert "all layers for 1 epochs (which made it worse, and is left out)" in page


def test_adapting_without_a_second_stage_keeps_the_features():
    run, before = adapted(make_photos(size=16), epochs=0, head=None)
    assert (len(run.stages), run.kept, run.best_epoch <= 2) == (1, 1, True)
    assert torch.equal(run.model.features.stage1[0].weight, before["features.stage1.0.weight"])
    assert run.model.num_classes == 3


@pytest.mark.parametrize(
    ("head", "last", "folders"), [(Head(hidden=6), 3, {"head", "all"}), (Head(), 2, {"all"})], ids=["hidden", "linear"]
)
def test_adapting_goes_on_where_it_was_interrupted(tmp_path, head, last, folders):
    photos = make_photos(size=16)
    whole, _ = adapted(photos, head=head)

    def stop(epoch, row):
        if epoch == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapted(photos, folder=tmp_path, head=head, on_epoch=stop)
    assert {path.name for path in (tmp_path / ".cnnhw-stages").iterdir()} == folders
    with pytest.raises(TrainingError, match="already holds a run"):
        adapted(photos, folder=tmp_path, head=head)
    resumed, _ = adapted(photos, folder=tmp_path, head=head, resume=True)
    assert all(map(torch.equal, whole.model.state_dict().values(), resumed.model.state_dict().values()))
    assert resumed.kept == whole.kept
    resumed.save(tmp_path)  # beside the checkpoints


def test_a_network_to_adapt_can_be_named():
    run = transfer.adapt("fast", make_photos(size=32), head_epochs=1, epochs=0, progress=False)
    assert (run.model.name, run.model.size, run.model.num_classes) == ("fast", 32, 3)


def test_an_interrupted_adaptation_goes_on_with_the_time_it_had(tmp_path):
    class Stop(Exception):
        pass

    def stop(epoch, row):
        if epoch == 4:  # of the second stage, the third
            raise Stop

    photos = make_photos(size=16)
    options = {"epochs": 5, "minutes": 5.0, "folder": tmp_path, "progress": False}
    with pytest.raises(Stop):
        transfer.adapt(network("fast", size=16, classes=4), photos, on_epoch=stop, **options)
    run = transfer.adapt(network("fast", size=16, classes=4), photos, resume=True, **options)
    assert len(run.stages[1].history["loss"]) == 5
    with pytest.raises(TrainingError, match="flip: True there, False now"):
        transfer.adapt(network("fast", size=16, classes=4), photos, resume=True, augment=False, **options)


def test_adapting_keeps_to_its_minutes(monkeypatch):
    now = [0.0]
    for module in (transfer.choice, transfer.probe, clock, loop):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    model = network("fast", size=16, classes=4)
    model.register_forward_pre_hook(lambda module, inputs: now.__setitem__(0, now[0] + 0.02 * len(inputs[0])))
    ends = []
    run = transfer.adapt(
        model, make_photos(size=16), epochs=1000, minutes=0.5, progress=False, on_epoch=lambda *_: ends.append(now[0])
    )
    assert 28.5 <= ends[-1] <= 31.5
    assert run.seconds_total == pytest.approx(ends[-1], rel=0.05)
    assert run.recipe["epochs"] == len(run.history["loss"]) == len(ends)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_probe_is_as_good_as_scikit_learn(weighted):
    model, photos = network("fast", size=16, classes=3).eval(), make_photos(train=90, size=16)
    run = transfer.linear_probe(model, photos, mirror=False, weighted=weighted)
    with torch.no_grad():
        parts = (photos.train, photos.validation)
        x, held = (model.head[:-1](model.forward_features(part.images / 255)).double().numpy() for part in parts)
    mean, scale = x.mean(0), x.std(0, ddof=1).clip(1e-6)
    y, known = (part.labels.numpy() for part in parts)
    best = math.inf
    for penalty in transfer.probe.PENALTIES:
        theirs = LogisticRegression(
            C=1 / (penalty * len(y)), class_weight="balanced" if weighted else None, max_iter=5000, tol=1e-8
        ).fit((x - mean) / scale, y)
        best = min(best, log_loss(known, theirs.predict_proba((held - mean) / scale)))
    assert run.history["validation_loss"][0] == pytest.approx(best, rel=0.02)


def test_the_probe_leaves_the_features_and_the_mode_as_they_were():
    model, photos = network("fast", size=16, classes=3).train(), make_photos(size=16)
    before = copy.deepcopy(model.state_dict())
    run = transfer.linear_probe(model, photos, seed=4)
    assert model.training
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}
    assert (run.seed, run.classes, model.classes) == (4, photos.classes, photos.classes)
    again = transfer.linear_probe(model, photos)
    assert again.history["loss"] == run.history["loss"]  # whatever the layer was before


def test_the_probe_refuses_what_it_cannot_learn_from():
    model, photos = network("fast", size=16, classes=3), make_photos(size=16)
    with pytest.raises(DataError, match="the photos are 16 pixels wide"):
        transfer.linear_probe(network("fast", size=32, classes=3), photos)
    empty = dataclasses.replace(
        photos.validation, index=photos.validation.index[:0], labels=photos.validation.labels[:0]
    )
    with pytest.raises(TrainingError, match="lacks photos"):
        transfer.linear_probe(model, dataclasses.replace(photos, validation=empty))
    torch.nn.init.constant_(model.features.stage1[0].weight, math.nan)
    with pytest.raises(TrainingError, match="not finite"):
        transfer.linear_probe(model, photos)


def test_batch_norms_can_stay_as_they_are():
    model, photos = network("fast", size=16), make_photos(size=16)
    before = weights(model)
    stage = Stage("all", Recipe(epochs=1, batch_size=8), norms=False)
    transfer.transfer(model, photos, [stage], progress=False)
    norms = {name for name, part in model.named_modules() if isinstance(part, torch.nn.BatchNorm2d)}
    kept = {key for key, value in weights(model).items() if torch.equal(value, before[key])}
    assert norms
    assert kept == {key for key in before if key.rpartition(".")[0] in norms}
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert stage.changes()["norms"] is False
