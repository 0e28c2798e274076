"""One network, several protocols: what it scored where, so that only figures of one row are compared."""

from __future__ import annotations

from statistics import fmean

from cnnhw import studies
from cnnhw.book import figures, registry
from cnnhw.data.subsets import FOLDS
from cnnhw.studies import tuning
from cnnhw.studies.store import Record

# studies and arms in which a network is trained as it is, from scratch, on tiny5
_TRAINED = {
    "q1_shallow": ("q1/q1_shallow", "faults/sound", "faults_averaged/flattened", "q1_final/shallow"),
    "q1_deep": ("q1/q1_deep", "q1/q1_deep_30", "q2_deep/plain", "q1_final/deep"),
    "q1_deep_residual": ("q2_deep/residual",),
    "fast": ("fast/fast", "q1_final/final", "q4_modules/threes", "source/fast"),
    "fast_inception": ("q4_modules/channels", "q4_modules/macs"),
}
_OPTIMISERS = {"adam": "Adam", "adamw": "AdamW", "muon": "Muon", "sgd": "SGD"}
_PILOTS = (tuning.PILOTS[0] // FOLDS,)  # the source of pilots


def table() -> figures.Html:
    """Return what networks that come back in several chapters scored under each protocol."""
    found: dict[str, list[Record]] = {}
    for run in studies.records():
        if run.seed in _PILOTS:
            continue
        found.setdefault(f"{run.study}/{run.arm}", []).append(run)
    rows = [_row(model, found[name]) for model, names in _TRAINED.items() for name in names if name in found]
    head = ("Network", "Chapter", "Pixels", "Training photos", "Epochs", "Optimiser", "Rate", "Test accuracy", "Runs")
    return figures.table(head, rows)


def _row(model: str, runs: list[Record]) -> tuple[str, ...]:
    """Return a row of the table."""
    content, chapter = runs[0].content, registry.chapter(runs[0].study)
    recipe = content["recipe"]
    return (
        figures.code(model),
        chapter.capitalize(),
        str(content["configuration"]["size"]),
        f"{content['data']['photos']['train']:,}",
        str(recipe["epochs"]),
        _OPTIMISERS[recipe["optimizer"]],
        f"{recipe['learning_rate']:g}",
        f"{fmean(run.accuracy() for run in runs):.3f}",
        str(len(runs)),
    )
