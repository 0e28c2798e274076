"""Q1: how well the report's two plain networks do, and how far trial and error leads from there."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure

from cnnhw import evaluation, plots, studies
from cnnhw.book import base, figures, original_report
from cnnhw.book.i import SIX
from cnnhw.studies import measures
from cnnhw.studies.statistics import Comparison, of_values
from cnnhw.studies.store import Record
from cnnhw.studies.study import Arm, Study
from cnnhw.training.recipe import Recipe
from cnnhw.transfer.stages import Stage

# As reported: Adam 1e-3, batches of 32, no augmentation. The run of 30 epochs is the report's own "it had converged
# near 15"; as the rate is constant, its epoch 13 is the report's 13-epoch run, so seed 0 is not run twice.
_Q1 = Study(
    name="q1",
    observation="fewer than six runs of one of its networks",
    question="How well do the report's two networks for Q1 do on photographs of five classes, and when do they stop?",
    data="tiny5",
    size=128,
    arms=(
        Arm("q1_deep_30", "q1_deep", Recipe(epochs=30), seeds=(0,)),
        Arm("q1_shallow", "q1_shallow", Recipe(epochs=15), seeds=SIX),
        Arm("q1_deep", "q1_deep", Recipe(epochs=13), seeds=(1, 2)),
    ),
    every_epoch=True,
)


@dataclass(frozen=True)
class Step:
    """One step of the search: a single change to what was kept so far, tried on validation photos alone.

    - ``name`` (str): the arm that tries it.
    - ``why`` (str): what it is expected to do, written before it is run.
    - ``recipe``, ``options`` (dict): fields of the recipe, and options of the network, that it changes.
    - ``arm`` (dict): other fields of the arm that it changes; another model begins with no options.
    - ``kept`` (bool or None): what was decided: whether its mean validation accuracy over all seeds is above that of
      what it changes. None until it was run.
    """

    name: str
    why: str
    recipe: Mapping[str, Any] = field(default_factory=dict, hash=False)
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    arm: Mapping[str, Any] = field(default_factory=dict, hash=False)
    kept: bool | None = None

    def tried_on(self, arm: Arm) -> Arm:
        """Return the arm that makes this change to another."""
        options = ({} if "model" in self.arm else {**arm.options}) | {**self.options}
        assert isinstance(arm.recipe, Recipe)
        recipe = dataclasses.replace(arm.recipe, **self.recipe)
        return dataclasses.replace(arm, name=self.name, options=options, recipe=recipe, **self.arm)


_VALIDATION = measures.MEASURES["validation"]
SEARCHED = tuple(range(300, 312))
"""Seeds of the search; the network that it ends with is tested with others."""
_REPORTED = Recipe(epochs=15, precision="bfloat16")
_FIRST = Arm("reported", "q1_shallow", _REPORTED, SEARCHED, protocols=("own_cut", "half_train"))
_FAST = {name: value for name, value in Recipe.fast().changes().items() if name not in ("epochs", "precision")}

# The log. A step can be run when all before it are decided, and its decision is written here, and committed, before
# the next one runs: the arm of that one does not exist until then. A step that no longer fits what was kept is
# written anew before it runs.
SEARCH = (
    Step(
        "batch_norm", "Batch norm behind each convolution lets the network learn more in as many epochs.",
        arm={"model": "plain"},
        options={"kernels": "3-3-3", "widths": "16-32-64", "head": "flatten-64"},
        kept=True,
    ),
    Step(
        "smaller_head", "An averaged map in place of the hidden layer takes away nearly all weights: less overfitting.",
        options={"head": "average"},
        kept=False,
    ),
    Step(
        "augmentation", "Mirrored and shifted photos keep the gap between training and validation small.",
        recipe={"flip": True, "shift": 3},
        kept=True,
    ),
    Step(
        "schedule", "A rate that rises to four times its value, and then falls to zero, learns more in as many epochs.",
        recipe={"schedule": "one_cycle", "learning_rate": 4e-3},
        kept=True,
    ),
    Step(
        "width", "With overfitting held down, twice the channels gain.",
        options={"widths": "32-64-128"},
        kept=True,
    ),
    Step(
        "residual", "The network of the chapter on speed halves the map early, with residual blocks where it is small.",
        arm={"model": "fast"},
        kept=True,
    ),
    Step(
        "fast_recipe", "So should its recipe gain: Muon, a whitened first layer, smoothed labels, rising resolution.",
        recipe=_FAST,
        kept=True,
    ),
    Step(
        "resolution", "All 64 pixels that the photos have show more than 48.",
        recipe={"shift": 4},
        arm={"size": 64},
        kept=True,
    ),
    Step(
        "more_photos", "All training photos, not every second one: no change of the network should gain as much.",
        arm={"protocols": ("own_cut",)},
        kept=True,
    ),
)  # fmt: skip


def search(first: Arm, steps: Sequence[Step]) -> tuple[tuple[Arm, ...], Arm]:
    """Return the arms that a search has had so far, the next one included, and the one that it has kept."""
    arms = [first]
    for step in steps:
        arms.append(step.tried_on(first))
        if step.kept is None:
            break
        first = arms[-1] if step.kept else first
    return tuple(arms), first


_ARMS, KEPT = search(_FIRST, SEARCH)
_SEARCH = Study(
    name="q1_search",
    observation="it is a search, each of whose steps is decided on validation photos",
    question="How far does trial and error lead from the report's first network, one change at a time?",
    data="tiny5",
    size=48,
    arms=_ARMS,
    test=False,
)

# Rates that `cnnhw study tune` chose.
_RATES = {"shallow": 1e-3, "deep": 5e-4, "final": 5e-3}


def _finally(name: str, model: str, recipe: Recipe | tuple[Stage, ...], **change: Any) -> Arm:
    """Return an arm with all training photos."""
    assert isinstance(recipe, Recipe)
    recipe = dataclasses.replace(recipe, precision=base.FORMAT)
    return base.arm(name, model, _RATES[name], recipe=recipe, protocols=("own_cut",), **change)


_FINAL = Study(
    name="q1_final",
    question="How much more accurate than the report's networks is the one that the search ends with?",
    data="tiny5",
    size=64,
    arms=(
        *(_finally(name, f"q1_{name}", _REPORTED) for name in ("shallow", "deep")),
        _finally("final", KEPT.model, KEPT.recipe, options=KEPT.options, size=KEPT.size or _SEARCH.size),
    ),
    questions=(
        base.question(
            "q1-final", ("final", "deep"),
            "The network that the search ends with is more accurate than the one that the report chose.",
            asked="the accuracy of the network that the search ends with, compared with the one that the report chose",
            chapter="q1", study="q1_final", role="primary", prediction="higher", delta=5.0, known="in part",
            registered="2026-11-30",
            held="photos", varied=("model", "options", "recipe", "size"),
        ),
        base.question(
            "q1-report", ("deep", "shallow"),
            "At 64 pixels, and at a rate tuned for each, the report's deeper network is less accurate than its other "
            "one.",
            asked="the accuracy of the report's deeper network at 64 pixels, compared with its other one",
            chapter="q1", study="q1_final", prediction="lower", delta=2.5, known="in part",
            held="photos, epochs, and recipe but for the rate",
        ),
    ),
)  # fmt: skip
STUDIES = (_Q1, _SEARCH, _FINAL)
ANSWER = (
    "Trial and error leads to a small residual network with batch norm, on augmented photos, with a learning rate that "
    "rises and falls. Compared with the network that the report chose, its test accuracy :finding:`q1-final is higher "
    "by {effect}/is lower by {effect}/differs by less than {delta}: {effect}/may be higher or lower: {effect}`."
)
"""What the landing page says."""


def tried() -> list[tuple[Step, str, Comparison]]:
    """Return the steps that were run, what each was tried on, and its gain in accuracy on the validation photos."""
    found = studies.records(_SEARCH.name)
    before, rows = _FIRST.name, []
    for step in SEARCH:
        both = [[_VALIDATION(run) for run in found if run.arm == arm] for arm in (step.name, before)]
        if len(both[0]) < len(SEARCHED):
            break
        rows.append((step, before, of_values(*both)))
        before = step.name if step.kept else before
    return rows


def gains() -> Figure:
    """Draw what each step of the search changed about the accuracy on the validation photos."""
    rows, dropped = {}, []
    for number, (step, _, gain) in enumerate(tried(), start=1):
        words = f"{number}. {step.name.replace('_', ' ')}"
        low, high = gain.interval()
        rows[words] = 100 * gain.effect, 100 * low, 100 * high
        dropped += [] if step.kept else [words]
    title = "Each step, against what had been kept before it"
    return figures.narrow(plots.forest(rows, "points of validation accuracy", title, grey=dropped))


def log() -> figures.Html:
    """Return the search as a table: each step with its reason, the accuracy on validation photos, and the decision."""
    found = studies.records(_SEARCH.name)
    first = f"model={_FIRST.model!r}, size={_SEARCH.size}, epochs={_REPORTED.epochs}"
    rows = [("the start", _reason("The report's first network.", first), _mean(found, _FIRST.name), "")]
    for number, (step, _, gain) in enumerate(tried(), start=1):
        low, high = gain.interval()
        said = f"{100 * gain.effect:+z.1f} ({100 * low:+z.1f} to {100 * high:+z.1f})"
        decided = {True: "kept", False: "given up", None: "to be decided"}[step.kept]
        name = f"{number}. {step.name.replace('_', ' ')}"
        rows.append((name, _reason(step.why, _change(step)), _mean(found, step.name), f"{said}, {decided}"))
    votes = [(f"{count} {'runs vote' if count > 1 else 'run alone'}", "", f"{mean:.3f}", "") for count, mean in voted()]
    parts = [("On validation photos",), *rows, *([("The final network, on test photos",), *votes] if votes else [])]
    return figures.table(("Step", "Why, and what changes", "Accuracy", "Difference, points"), parts)


def _reason(why: str, change: str) -> figures.Html:
    """Return why a step was tried, and what it changes."""
    return figures.Html(f"{html.escape(why)}<br>{figures.code(change)}")


def _mean(records: Sequence[Record], arm: str) -> str:
    return f"{fmean(_VALIDATION(run) for run in records if run.arm == arm):.3f}"


def voted() -> list[tuple[int, float]]:
    """Return the test accuracy of the final network if so many of its runs vote: means over groups of runs."""
    runs = [run for run in studies.records(_FINAL.name) if run.arm == "final"]
    found = []
    for count in (1, 3, 5) if runs else ():
        groups = [runs[at : at + count] for at in range(0, len(runs) - count + 1, count)]
        chosen = [torch.stack([run.predictions() for run in group]).mode(0).values for group in groups]
        found.append((count, fmean(evaluation.accuracy(one, runs[0].labels) for one in chosen)))
    return found


def _change(step: Step) -> str:
    """Return what a step changes, as Python has it."""
    fields = {**step.arm, **step.options, **step.recipe}
    photos = ["all training photos"] if fields.pop("protocols", ()) else []
    return ", ".join([f"{name}={value!r}" for name, value in fields.items()] + photos)


def curves() -> list[Figure]:
    """Draw loss and accuracy of the report's networks, our runs and the report's."""
    drawn = []
    for name, epochs in {"q1_shallow": 15, "q1_deep": 13}.items():
        runs = [
            {measure: values[:epochs] for measure, values in run.history.items()}
            for run in studies.records("q1")
            if run.content["configuration"]["model"] == name
        ]
        theirs, title = {name: original_report.get(name).history}, f"{name}, and the report's run"
        drawn.append(figures.narrow(plots.curves({name: runs}, reported=theirs, title=title, columns=1), 5.4))
    return drawn


def by_epoch() -> Figure:
    """Draw the test accuracy of the report's networks by epoch, and the epoch that the validation photos chose."""
    found: dict[str, list[tuple[list[float], int]]] = {}
    for run in studies.records("q1"):
        line = [run.accuracy(epoch) for epoch in range(1, len(run.history["loss"]) + 1)]
        found.setdefault(run.content["configuration"]["model"], []).append((line, run.best_epoch))
    title = "Test accuracy by epoch; rings: chosen by validation"
    return figures.narrow(plots.accuracy_by_epoch(found, title=title), 3.4)
