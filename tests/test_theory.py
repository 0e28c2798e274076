"""Theory by hand against the code: budgets, receptive fields, path lengths, pooling."""

from __future__ import annotations

import copy
import math
import re
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from matplotlib import pyplot as plt
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnhw import models, theory
from cnnhw.cli.command import cli
from cnnhw.models.dense import TRANSITIONS, transition_layer
from cnnhw.models.residual import Span

every_model = pytest.mark.parametrize("name", models.names())


def side(name):
    return 100 if name == "q2_concat_skip" else 64


@every_model
def test_parameters_and_multiply_adds_agree_with_torch(name):
    model = models.create(name, size=side(name))
    before = copy.deepcopy(model.state_dict())
    found = theory.layers(model)
    assert sum(layer.parameters for layer in found) == models.count_parameters(model)
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.rand(1, 3, side(name), side(name)))
    assert 2 * sum(layer.macs for layer in found) == counter.get_total_flops()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert found[-1].shape == (5,)


@pytest.mark.parametrize("name", ["q1_shallow", "q1_deep", "q4_inception", "plain"])
def test_receptive_field_is_what_the_gradient_reaches(name):
    model = models.create(name, size=128).eval()
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            part.forward = lambda x: x  # so that no path is closed
        if isinstance(part, nn.MaxPool2d):
            size, stride, padding = part.kernel_size, part.stride, part.padding
            part.forward = nn.AvgPool2d(size, stride, padding).forward
        if isinstance(part, nn.Conv2d):
            part.weight.data.fill_(0.1)
    last = [layer for layer in theory.layers(model) if len(layer.shape) == 3 and layer.shape[-1] > 1][-1]
    x = torch.rand(1, 3, 128, 128, requires_grad=True)
    middle = last.shape[-1] // 2
    (gradient,) = torch.autograd.grad(model.forward_features(x)[0, :, middle, middle].sum(), x)
    reached = (gradient.abs().sum((0, 1)) > 0).any(0).nonzero().flatten()
    assert int(reached.max() - reached.min()) + 1 == last.field


@pytest.mark.parametrize(
    ("kernels", "fields"), [("33-33-33-33-33", (5, 14, 32, 68, 140)), ("3-3-3-3-3", (3, 8, 18, 38, 78))]
)
def test_receptive_fields_of_the_notes(kernels, fields):
    model = models.create("plain", size=256, kernels=kernels, widths="4-4-4-4-4")
    convs = {layer.name: layer.field for layer in theory.layers(model) if layer.kind == "Conv2d"}
    per = len(kernels.split("-")[0])
    assert tuple(convs[f"features.conv{stage}_{per}"] for stage in range(1, 6)) == fields


def test_warnings_name_the_layer():
    found = theory.layers(models.create("q4_inception"))
    (dense, field) = theory.warnings(found, 128)
    assert "99% of the parameters sit in one layer, head.dense1 (Linear): average" in dense
    assert "sees 20 of 128 pixels" in field
    assert theory.warnings(theory.layers(models.create("fast", size=64)), 64) == []


@pytest.mark.parametrize(("depth", "span"), [(24, 1), (24, 2), (12, 6), (54, 1)])
def test_paths(depth, span):
    found = theory.path_lengths(depth, span)
    mean = sum(length * share for length, share in found.items())
    variance = sum((length - mean) ** 2 * share for length, share in found.items())
    assert sum(found.values()) == pytest.approx(1)
    assert mean == pytest.approx(depth / 2)
    assert math.sqrt(variance) == pytest.approx(math.sqrt(span * depth) / 2)


def test_share_of_paths_that_carry_the_gradient_in_54_blocks():
    found = theory.path_lengths(54, 1)
    assert sum(found[k] for k in range(5, 18)) == pytest.approx(0.004537, abs=1e-6)


@pytest.mark.parametrize(("span", "length"), [(1, 3.8), (2, 7.3), (3, 11.0), (4, 14.3), (6, 19.3), (12, 23.6)])
def test_formula_of_the_weighted_path_length(span, length):
    assert theory.gradient_path_length(24, span) == pytest.approx(length, abs=0.06)


def test_measured_path_length_of_linear_blocks_is_exact():
    """With branches that scale by c, a path through k of n blocks carries c^k: the mean follows from the binomial."""
    model = models.create("residual", size=16, span=1, depth=12, norm=False)
    scale = 0.5
    for part in model.modules():
        if isinstance(part, Span):
            part.branch[1] = nn.Identity()  # no ReLU
            with torch.no_grad():
                part.branch[2].weight.zero_()
                part.branch[2].weight[range(16), range(16), 1, 1] = scale
                part.branch[2].bias.zero_()
    found = theory.measured_path_length(model, torch.rand(8, 3, 16, 16), torch.arange(8) % 5)
    assert found == pytest.approx(12 * scale / (1 + scale), rel=1e-2)


def test_path_length_leaves_the_model_alone_and_rises_with_the_span():
    images, labels = torch.rand(32, 3, 32, 32), torch.arange(32) % 5
    lengths = []
    for span in (1, 2, 6):
        model = models.create("residual", size=32, span=span)
        before = copy.deepcopy(model.state_dict())
        lengths.append(theory.measured_path_length(model, images, labels))
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert lengths[0] + 1 < lengths[1] < lengths[2] - 3
    assert theory.measured_path_length(models.create("residual", size=32, span=0), images, labels) == 24


def test_spans_have_equal_parameters_and_zero_branches_are_identities():
    counts = {span: models.count_parameters(models.create("residual", size=32, span=span)) for span in (0, 1, 2, 3, 6)}
    assert len(set(counts.values())) == 1
    block = Span(8, 2, norm=True, skip=True).eval()
    torch.nn.init.zeros_(block.branch[-1].weight)
    x = torch.rand(1, 8, 6, 6)
    assert torch.equal(block(x), x)
    assert not torch.equal(Span(8, 2, norm=True, skip=False).eval()(x), x)


@pytest.mark.parametrize("span", [0, 1, 2, 6])
def test_deleted_blocks_pass_their_input_on(span):
    model = models.create("residual", size=32, span=span).eval()
    x = torch.rand(2, 3, 32, 32)
    all_gone = theory.delete_blocks(model, 24, seed=0)
    convs = [part for part in all_gone.modules() if isinstance(part, nn.Conv2d)]
    assert len(convs) == 2  # stem and transition
    assert all_gone(x).isfinite().all()
    some = theory.delete_blocks(model, 6, seed=0)
    assert sum(isinstance(part, nn.Conv2d) for part in some.modules()) == 26 - 6
    assert torch.equal(theory.delete_blocks(model, 0, seed=0)(x), model(x))
    other = theory.delete_blocks(model, 6, seed=1)
    assert not torch.equal(some(x), other(x))


@pytest.mark.parametrize(
    ("options", "message"), [({"depth": 13}, "multiple"), ({"span": 5}, "divide"), ({"depth": 48}, "at least")]
)
def test_impossible_residual_networks(options, message):
    with pytest.raises(ValueError, match=message):
        models.create("residual", size=16, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": "3-3"}, "plan"),
        ({"kernels": "2-3-3-3"}, "plan"),
        ({"head": "sum"}, "average"),
        ({"size": 8}, "at least"),
    ],
)
def test_impossible_plans(options, message):
    with pytest.raises(ValueError, match=message):
        models.create("plain", **{"size": 32, **options})


@pytest.mark.parametrize(
    ("head", "parameters"),
    [
        ("flatten-256", 2_098_693),
        ("flatten-64", 524_677),
        ("flatten", 40_965),
        ("average-256", 34_309),
        ("average-64", 8_581),
        ("average", 645),
    ],
)
def test_parameters_of_the_heads(head, parameters):
    model = models.create("plain", size=128, head=head)  # a last map of 8x8 cells and 128 channels
    assert models.count_parameters(model.head) == parameters


def test_advice_names_what_it_rests_on():
    from cnnhw.book import iii, registry

    asked = {name: [rests for _, rests in iii.advice(models.create(name))] for name in ("q1_deep", "plain", "fast")}
    assert asked == {"q1_deep": ["iii-together-widening", "iii-together-flatten"], "plain": [], "fast": []}
    hidden = models.create("plain", head="average-64")
    assert [rests for _, rests in iii.advice(hidden)] == ["iii-together-hidden"]
    known = {one.id for one in registry.QUESTIONS}
    assert known > {"iii-together-widening", "iii-together-flatten", "iii-together-hidden"}
    printed = CliRunner().invoke(cli, ["design", "q1_deep"]).output
    said = r"kernels widen with depth, from 3 to 7; what the book found: iii-together-widening, (?:not run yet|[+-]\d)"
    assert re.search(said, printed)


def test_figures_of_designs_have_a_place_before_their_runs_and_show_each_design_after_them(monkeypatch):
    from cnnhw.book import iii

    made = [
        SimpleNamespace(study="iii_together", arm=arm, accuracy=lambda place=place: 0.5 + place / 100)
        for place, arm in enumerate(iii.DESIGNS)
    ]
    found = made[:-1]
    monkeypatch.setattr(iii.studies, "records", lambda study=None: found if study else [])
    assert iii.gains().get_label() == "What kernels and heads change: not run yet."
    assert iii.front().get_label() == "Accuracy against multiply-adds: not run yet."
    found = made
    said = iii.front().get_label()
    assert "3x3, average 0.5 at 15.9; " in said
    assert "widening, flattened 0.54 at 7.28; pairs, average 0.55 at 17.9." in said
    plt.close("all")


def test_budgets_of_the_design_study_are_equal():
    from cnnhw.book import registry

    def budget(arm):
        found = theory.layers(models.create("plain", size=32, **arm.options))
        return {"macs": sum(x.macs for x in found), "parameters": sum(x.parameters for x in found)}

    arms = {arm.name: arm for arm in registry.get("design").arms}
    base = budget(arms["base"])
    for name, arm in arms.items():
        what = name.rsplit("_", 1)[-1]
        if what in base:
            assert budget(arm)[what] == pytest.approx(base[what], rel=0.04), name


def test_average_and_convolution_can_be_exchanged_and_maximum_cannot():
    x = torch.randn(2, 12, 8, 8)
    found = {}
    for kind in TRANSITIONS:
        torch.manual_seed(0)
        layer = transition_layer(12, 6, kind).eval()
        torch.manual_seed(1)
        nn.init.normal_(next(part for part in layer if isinstance(part, nn.Conv2d)).weight)
        found[kind] = layer(x)
        assert found[kind].shape == (2, 6, 4, 4)
    assert torch.allclose(found["average"], found["average_first"], atol=1e-6)
    assert not torch.allclose(found["max"], found["max_first"], atol=1e-2)
    with pytest.raises(ValueError, match="none of average"):
        transition_layer(12, 6, "median")


def test_average_first_costs_a_quarter():
    macs = {
        kind: sum(
            layer.macs
            for layer in theory.layers(models.create("dense", size=32, transition=kind))
            if "transition" in layer.name
        )
        for kind in ("average", "average_first")
    }
    assert macs["average"] == 4 * macs["average_first"]


@pytest.mark.parametrize(("active", "average", "maximum"), [(1, 1.0, 1.37), (2, 2.0, 2.06), (4, 4.0, 2.85)])
def test_signal_in_a_window(active, average, maximum):
    assert theory.average_signal(active, 2.0) == pytest.approx(average)
    assert theory.max_signal(active, 2.0) == pytest.approx(maximum, abs=0.01)
    generator = torch.Generator().manual_seed(0)
    noise, signal = torch.randn(2, 200_000, 4, generator=generator)
    signal[:, :active] += 2.0
    with_it, without = signal.max(1).values, noise.max(1).values
    found = (with_it.mean() - without.mean()) / ((with_it.var() + without.var()) / 2).sqrt()
    assert float(found) == pytest.approx(theory.max_signal(active, 2.0), abs=0.02)
