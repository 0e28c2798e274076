"""Properties that every registered model has, and the report's networks to the parameter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnhw import models, theory
from cnnhw.book import iii, original_report, q4
from cnnhw.errors import ModelError, UnknownNameError
from cnnhw.models.blocks import glorot_, seeded
from cnnhw.models.fast import fast
from cnnhw.models.first_layer import bank
from cnnhw.models.inception import InceptionModule
from cnnhw.models.original import ConcatSkip, Inception
from cnnhw.models.registry import least_size
from cnnhw.models.resnet import Shortcut

GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "own_photos.rst"
every_model = pytest.mark.parametrize("name", models.names())


def side(name):
    """Return a side length that the model can be built for, as small as may be."""
    return 100 if name == "q2_concat_skip" else 64


@every_model
def test_returns_finite_logits_of_the_right_shape(name):
    model = models.create(name, num_classes=7, size=side(name))
    logits = model(torch.rand(2, 3, side(name), side(name)))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert model.num_classes == 7


@every_model
def test_features_and_head_make_up_the_whole(name):
    model = models.create(name, size=side(name)).eval()
    x = torch.rand(2, 3, side(name), side(name))
    features = model.forward_features(x)
    assert features.dim() == 4
    assert torch.equal(model.forward_head(features), model(x))


@every_model
def test_every_parameter_gets_a_gradient(name):
    model = models.create(name, size=side(name))
    F.cross_entropy(model(torch.rand(8, 3, side(name), side(name))), torch.arange(8) % 5).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@every_model
def test_same_seed_same_weights_and_the_global_generator_is_left_alone(name):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second, other = (models.create(name, seed=seed, size=side(name)).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_model
def test_reset_classifier_changes_the_last_layer_only(name):
    model = models.create(name, size=side(name)).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.reset_classifier(9)
    assert model(torch.rand(1, 3, side(name), side(name))).shape == (1, 9)
    changed = [k for k, v in model.state_dict().items() if v.shape != before[k].shape or not torch.equal(v, before[k])]
    assert len(changed) <= 2
    assert model.state_dict()[changed[0]].shape[0] == 9
    with pytest.raises(ValueError, match="num_classes"):
        model.reset_classifier(0)


@every_model
def test_evaluation_is_deterministic(name):
    model = models.create(name, size=side(name)).eval()
    x = torch.rand(2, 3, side(name), side(name))
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("q1_shallow", 1_072_549), ("q1_deep", 2_613_925), ("q2_concat_skip", 887_717), ("q4_inception", 33_871_333)],
)
def test_parameters_as_reported(name, parameters):
    assert models.count_parameters(models.create(name)) == parameters
    assert original_report.get(name).parameters in (parameters, None)  # the report does not state that of Q2


@pytest.mark.parametrize(
    ("name", "shape", "dense_share"), [("q1_shallow", (64, 16, 16), 0.978), ("q1_deep", (128, 8, 8), 0.80)]
)
def test_last_map_and_share_of_the_dense_layer(name, shape, dense_share):
    model = models.create(name)
    assert model.forward_features(torch.rand(1, 3, 128, 128)).shape == (1, *shape)
    dense = model.head.dense1.weight.numel() + model.head.dense1.bias.numel()
    assert dense / models.count_parameters(model) == pytest.approx(dense_share, abs=0.003)


@every_model
def test_glorot_initialisation(name):
    for part in models.create(name).modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            receptive = part.weight[0, 0].numel()
            bound = (6 / (receptive * (part.weight.shape[0] + part.weight.shape[1]))) ** 0.5
            if name in ("residual", "resnet") and isinstance(part, nn.Conv2d):
                bound *= 2**0.5  # He's variance, for depth
            assert part.weight.abs().max().item() <= bound * (1 + 1e-6)
            if part.weight.numel() > 2000:
                assert part.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
            assert part.bias is None or part.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("name", "option", "parts"),
    [
        ("q1_shallow", "dense", "head.dense2"),
        ("q4_inception", "dense", "head.dense3"),
        ("q2_concat_skip", "skips", "features.concat1"),
    ],
)
def test_options_take_a_part_away(name, option, parts):
    whole, less = models.create(name), models.create(name, **{option: False})
    assert models.count_parameters(less) < models.count_parameters(whole)
    assert less.options == {option: False}
    assert parts in dict(whole.named_modules())
    assert parts not in dict(less.named_modules())
    assert less(torch.rand(1, 3, 128, 128)).shape == (1, 5)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match=r"q1_shallow has no option width; it has dense"):
        models.create("q1_shallow", width=3)
    with pytest.raises(ValueError, match=r"q1_deep has no option dense; it has none"):
        models.create("q1_deep", dense=False)


def test_inception_module_joins_four_branches():
    module = Inception(3, 16)
    x = torch.rand(2, 3, 12, 12)
    out = module(x)
    assert out.shape == (2, 64, 12, 12)
    for number, branch in enumerate((module.branch3, module.branch5, module.branch_pool, module.branch1)):
        assert torch.equal(out[:, 16 * number : 16 * (number + 1)], branch(x))


def test_concatenated_copy_is_the_resized_input():
    block = ConcatSkip(nn.Sequential(nn.Conv2d(3, 5, 3), nn.AvgPool2d(2)), 3, 3)
    with torch.no_grad():
        block.project.weight.copy_(torch.eye(3)[:, :, None, None])
        block.project.bias.zero_()
    x = torch.rand(1, 3, 10, 10)
    out = block(x)
    assert out.shape == (1, 8, 4, 4)
    assert torch.allclose(out[:, 5:], F.interpolate(x, size=4, mode="bilinear"))


def test_wrong_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'q1_shallow'"):
        models.create("q1_shalow")


@pytest.mark.parametrize("name", ["q1_shallow", "q1_deep", "q2_concat_skip", "q4_inception"])
def test_a_size_that_leaves_nothing_is_refused(name):
    with pytest.raises(ValueError, match="at least"):
        models.create(name, size=4)


@pytest.mark.parametrize("name", [*models.names(), "resnet18"])
def test_smallest_size_is_the_one_that_is_stated(name):
    least = least_size(name)
    model = models.create(name, size=least)
    assert model(torch.rand(2, 3, least, least)).isfinite().all()
    with pytest.raises(ModelError, match=f"{name}: it takes photos of at least {least} pixels, not {least - 1}"):
        models.create(name, size=least - 1)
    said = " ".join((models.builder(name).__doc__ or "").split())
    if name not in ("plain", "q1_deep_residual", "resnet18"):
        assert f"{least} or more" in said


@pytest.mark.skipif(not GUIDE.exists(), reason="needs the repository")
def test_the_guide_states_the_smallest_sizes():
    text = " ".join(GUIDE.read_text(encoding="utf-8").split())
    said = re.search(r"The smallest is (\d+) for ([^.]+?), (\d+) for ([^.]+?), and (\d+) for the others", text)
    sizes = dict.fromkeys(models.names(), int(said[5]))
    for size, listed in ((said[1], said[2]), (said[3], said[4])):
        sizes |= dict.fromkeys(re.findall("``(\\w+)``", listed), int(size))
    assert sizes == {name: least_size(name) for name in models.names()}


@pytest.mark.parametrize("value", ["12", 1.5, True])
def test_options_of_another_type_are_refused(value):
    with pytest.raises(ModelError, match=r"dense: growth=.* is not possible, it has to be of type int"):
        models.create("dense", size=32, growth=value)


def test_residual_connections_are_all_that_is_added_to_q1_deep():
    plain, residual = (models.create(name, size=32).eval() for name in ("q1_deep", "q1_deep_residual"))
    weights = dict(zip(plain.state_dict(), plain.state_dict().values(), strict=True))
    own = residual.state_dict()
    shortcuts = [key for key in own if ".shortcut." in key]
    assert len(shortcuts) == 4
    renamed = {key: f"features.{key.rpartition('.branch.')[2]}" if ".branch." in key else key for key in own}
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(torch.zeros_like(value) if key in shortcuts else weights[renamed[key]])
    x = torch.rand(3, 3, 32, 32)
    assert torch.equal(residual(x), plain(x))
    added = sum(own[key].numel() for key in shortcuts)
    assert models.count_parameters(residual) == models.count_parameters(plain) + added


@pytest.mark.parametrize("depth", [8, 14, 20])
@pytest.mark.parametrize("norm", [True, False])
def test_resnet_has_the_depth_that_it_says(depth, norm):
    plain, residual = (
        models.create("resnet", size=16, depth=depth, norm=norm, shortcuts=given) for given in (False, True)
    )
    layers = [part for part in plain.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth
    blocks = [part for part in residual.modules() if isinstance(part, Shortcut)]
    assert len(blocks) == (depth - 2) // 2
    projections = sum(models.count_parameters(block.shortcut) for block in blocks)
    assert models.count_parameters(residual) - models.count_parameters(plain) == projections
    assert projections > 0
    assert sum(isinstance(block.shortcut, nn.Identity) for block in blocks) == len(blocks) - 2


def test_a_block_adds_its_input():
    block = models.create("resnet", size=16, depth=8).features.stage1_block1
    x = torch.rand(2, 16, 8, 8)
    assert torch.allclose(block(x), x + block.branch(x))


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("resnet", {"depth": 10}, "not 6 n"),
        ("resnet", {"size": 30}, "no multiple of 4"),
        ("q1_deep_residual", {"size": 40}, "no multiple of 16"),
        ("inception", {"kernels": "1-4"}, "odd sides"),
        ("inception", {"kernels": "a"}, "odd sides"),
        ("inception", {"scale": 0.0}, "not between"),
        ("inception", {"size": 8}, "at least"),
        ("first_layer", {"side": 4}, "not an odd number"),
        ("first_layer", {"first": "own"}, "none of learnt"),
        ("fast_inception", {"widths": "32-64"}, "three multiples of 4"),
        ("fast_inception", {"widths": "32-64-126"}, "three multiples of 4"),
        ("fast_inception", {"widths": "32-0-128"}, "three multiples of 4"),
        ("fast_inception", {"widths": "32-x-64-128"}, "three multiples of 4"),
        ("fast_inception", {"kernels": "1-2-3"}, "odd sides"),
        ("fast_inception", {"kernels": "1--3"}, "odd sides"),
        ("fast_inception", {"kernels": ""}, "odd sides"),
        ("first_layer", {"size": 4}, "at least"),
    ],
)
def test_what_cannot_be_built_is_refused(name, options, match):
    with pytest.raises(ValueError, match=match):
        models.create(name, **options)


def test_modules_keep_the_channels_of_the_convolutions():
    deep = models.create("q1_deep", size=64)
    for kernels in ("1-3-5", "3-3-3", "3", "5"):
        model = models.create("inception", size=64, kernels=kernels)
        x = torch.rand(1, 3, 64, 64)
        for number in range(1, 5):
            x = model.features.get_submodule(f"pool{number}")(model.features.get_submodule(f"module{number}")(x))
            assert x.shape[1] == deep.features.get_submodule(f"conv{number}").out_channels
            assert x.shape[-1] == 64 // 2**number


@pytest.mark.parametrize("kernels", [(1, 3, 5), (1, 3, 5, 7), (3, 3, 3)])
def test_parameters_of_a_module_by_hand(kernels):
    direct, *reduced = kernels
    by_hand = (12 * 8 * direct**2 + 8) + sum(12 * 8 + 8 + 8 * 8 * side**2 + 8 for side in reduced) + (12 * 8 + 8)
    module = InceptionModule(12, 8, kernels)
    assert models.count_parameters(module) == by_hand
    x = torch.rand(2, 12, 9, 9)
    out = module(x)
    assert out.shape == (2, 8 * (len(kernels) + 1), 9, 9)
    for part, branch in zip(out.chunk(len(kernels) + 1, 1), module.branches, strict=True):
        assert torch.equal(part, branch(x))


def test_fast_inception_replaces_every_convolution_but_the_first():
    model, fast = (models.create(name, size=32) for name in ("fast_inception", "fast"))
    modules = [part for part in model.modules() if isinstance(part, InceptionModule)]
    inside = {conv for module in modules for conv in module.modules() if isinstance(conv, nn.Conv2d)}
    left = [part for part in model.modules() if isinstance(part, nn.Conv2d) and part not in inside]
    assert left == [model.features.stem]
    replaced = [part for part in fast.modules() if isinstance(part, nn.Conv2d) and part is not fast.features.stem]
    assert len(modules) == len(replaced)


def test_fast_inception_begins_with_the_weights_that_it_always_had():
    with seeded(3):
        model = fast(5, 32)
        for parent in list(model.features.modules()):
            for name, part in list(parent.named_children()):
                if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
                    setattr(parent, name, InceptionModule(part.in_channels, part.out_channels // 4))
        expected = glorot_(model).state_dict()
    found = models.create("fast_inception", size=32, seed=3).state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def cost(name, size=64, **options):
    found = theory.layers(models.create(name, size=size, **options))
    return tuple(sum(getattr(layer, what) for layer in found) for what in ("parameters", "macs"))


def test_modules_in_the_fast_network_cost_what_they_are_to():
    parameters, macs = cost("fast")
    options = q4.FAST_OPTIONS
    assert cost("fast_inception", **options["macs"])[1] == pytest.approx(macs, rel=0.01)
    assert cost("fast_inception", kernels="3") == (parameters, macs)
    for plan in q4.SCALES.values():
        for size in (48, 64):
            assert cost("fast_inception", size, **plan)[1] == pytest.approx(cost("fast", size)[1], rel=0.01)
    own = [part.num_features for part in models.create("fast").modules() if isinstance(part, nn.BatchNorm2d)]
    model = models.create("fast_inception", **options["channels"])
    assert [part.num_features for part in model.modules() if isinstance(part, nn.BatchNorm2d)] == own


def test_kernel_plans_are_one_topology_with_other_kernels():
    kinds = set()
    for plan in q4.SCALES.values():
        model = models.create("fast_inception", size=32, **plan)
        kinds.add(tuple(type(part) for part in model.modules()))
        sides = tuple(map(int, plan["kernels"].split("-")))
        assert all(part.kernels == sides for part in model.modules() if isinstance(part, InceptionModule))
        assert model.head[-1].in_features == int(plan["widths"].split("-")[-1])
    assert len(kinds) == 1


def test_designs_of_extractor_and_head_share_one_budget():
    whole = [cost("plain", **design)[0] for design in iii.DESIGNS.values()]
    assert len(whole) == 6
    assert whole == pytest.approx([98325] * 6, rel=0.01)
    shares = {
        name: models.count_parameters(models.create("plain", size=64, **design).head) / 98325
        for name, design in iii.DESIGNS.items()
    }
    assert max(shares.values()) > 0.6
    assert min(shares.values()) < 0.01


@pytest.mark.parametrize("side", [3, 5, 7])
def test_bank_of_edges_blobs_and_colours(side):
    filters = bank(side)
    assert filters.shape == (16, 3, side, side)
    assert torch.allclose(filters.flatten(1).norm(dim=1), torch.ones(16))
    uniform = filters.sum((1, 2, 3))
    assert uniform[[*range(8), *range(9, 16)]].abs().max() < 1e-5  # none answers to a grey surface
    assert uniform[8] > 1  # but the blob of brightness
    assert torch.linalg.matrix_rank(filters.flatten(1)) >= 8
    assert torch.allclose(filters[0], -filters[0].flip(-1), atol=1e-6)  # dark to the one side, bright to the other


@pytest.mark.parametrize(("first", "frozen"), [("learnt", False), ("random", True), ("bank", True)])
def test_first_layer_is_learnt_or_not(first, frozen):
    model = models.create("first_layer", size=16, side=5, first=first, seed=3)
    conv = model.features.conv1
    assert all(not parameter.requires_grad for parameter in conv.parameters()) is frozen
    if first == "bank":
        assert torch.equal(conv.weight, bank(5))
    else:
        assert torch.equal(conv.weight, models.create("first_layer", size=16, side=5, seed=3).features.conv1.weight)
    assert any(parameter.requires_grad for parameter in model.parameters())
