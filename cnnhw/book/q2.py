"""Q2: what residual connections change, with everything else the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cnnhw.book import base
from cnnhw.book.rates import RATES, RESNETS, deep, resnet
from cnnhw.studies.claims import Claim, alike, higher
from cnnhw.studies.measures import LOSS_AREA, SECONDS, Measure
from cnnhw.studies.study import Study


def _epochs_to(losses: Sequence[float], level: float) -> float:
    """Return when the mean training loss of an epoch falls to a level, between epochs by a straight line.

    A run that never does counts as if it did one epoch after its last.
    """
    for epoch, loss in enumerate(losses, start=1):
        if loss <= level:
            before = losses[epoch - 2] if epoch > 1 else loss
            return epoch - ((level - loss) / (before - loss) if before > level else 0.0)
    return len(losses) + 1.0


_EPOCHS_TO_LOSS = Measure(
    "epochs to a loss of 1.2", "epochs", 1.0, lambda run, _: _epochs_to(run.history["loss"], 1.2), form=".2f"
)
MEASURES = (_EPOCHS_TO_LOSS,)

_claim, _higher, _alike = (
    partial(made, study="q2", registered="2026-11-25", known_in_part=True) for made in (Claim, higher, alike)
)

_CLAIMS = (
    _higher("q2-accuracy", "residual", "plain",
        "Residual connections raise the accuracy of Q1's deeper network."),
    _claim("q2-loss", "residual", "plain",
        "Residual connections lower that network's training loss, averaged over the epochs.",
        "an average loss that is no lower", measure=LOSS_AREA, direction="less"),
    _claim("q2-steps", "residual", "plain",
        "With residual connections, that network's training loss falls to 1.2 nats in fewer epochs.",
        "as many epochs, or more", measure=_EPOCHS_TO_LOSS, direction="less"),
    _claim("q2-time", "residual", "plain",
        "With residual connections, that network trains in less time, as the report has it.",
        "as much time, or more", measure=SECONDS, direction="less"),
    _alike("q2-eight", "d8_residual", "d8_plain",
        "At depth 8, with batch norm, residual connections change less than 2.5 points."),
    _higher("q2-twenty", "d20_residual", "d20_plain",
        "At depth 20, with batch norm, residual connections raise the accuracy."),
    _claim("q2-twenty-loss", "d20_residual", "d20_plain",
        "At depth 20, with batch norm, residual connections lower the average training loss.",
        "an average loss that is no lower", measure=LOSS_AREA, direction="less"),
    _higher("q2-twenty-no-norm", "d20_residual_no_norm", "d20_plain_no_norm",
        "At depth 20, without batch norm, residual connections gain at least 2 points.",
        points=2),
)  # fmt: skip

_Q2 = Study(
    name="q2",
    question="What do residual connections change, with everything else the same?",
    data="tiny5",
    size=32,
    arms=(
        deep("residual", "q1_deep_residual", RATES["residual"], 6),
        deep("plain", "q1_deep", RATES["plain"], 6),
        *(resnet(name, options, RATES[name], 5) for name, options in RESNETS.items()),
    ),
    claims=_CLAIMS,
)

# Rates that `cnnhw study tune` chose or, before it has run, from its grid.
_RATES = {
    "d20_residual": 0.005, "d20_plain": 0.01, "d8_residual": 0.02, "d8_plain": 0.02, "residual": 0.02, "plain": 0.02,
}  # fmt: skip

_DEPTH = Study(
    name="q2_depth",
    question="Do residual connections gain more in a deeper network?",
    data="tiny5",
    size=32,
    arms=tuple(base.arm(name, "resnet", _RATES[name], RESNETS[name]) for name in _RATES if name in RESNETS),
    questions=(
        base.again(
            "q2-depth", ("d20_residual", "d20_plain", "d8_residual", "d8_plain"),
            "Residual connections gain more at depth 20 than at depth 8.",
            asked="the gain in accuracy from residual connections at depth 20, compared with the gain at depth 8",
            chapter="q2", study="q2_depth", role="primary", prediction="higher", delta=5.0, known="in part",
            held="photos, recipe, width, batch norm and the number of epochs",
            varied=("options.shortcuts", "options.depth"),
        ),
        base.again(
            "q2-depth-loss", ("d20_residual", "d20_plain"),
            "At depth 20, residual connections lower the training loss, averaged over the epochs.",
            chapter="q2", study="q2_depth", role="exploratory", prediction="lower", delta=0.05, measure=LOSS_AREA,
            held="photos, recipe, depth and batch norm", known="in part",
        ),
    ),
)  # fmt: skip
_DEEP = Study(
    name="q2_deep",
    question="Do residual connections change the accuracy of Q1's deeper network, once it is trained to convergence?",
    data="tiny5",
    size=64,
    arms=(
        base.arm("residual", "q1_deep_residual", _RATES["residual"], **base.LARGE),
        base.arm("plain", "q1_deep", _RATES["plain"], **base.LARGE),
    ),
    questions=(
        base.again(
            "q2-deep", ("residual", "plain"),
            "In Q1's deeper network, trained to convergence, residual connections change less than matters.",
            asked="the accuracy of Q1's deeper network with residual connections, compared with it without",
            chapter="q2", study="q2_deep", role="secondary", prediction="no difference that matters", delta=2.5,
            held="photos, recipe and layers", known="in part",
        ),
    ),
)  # fmt: skip
STUDIES = (_Q2, _DEPTH, _DEEP)
