"""The page that shows a run."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

__all__ = []


def _stage(stage: Mapping[str, Any]) -> str:
    what = {"classifier": "the last layer", "head": "the head", "all": "all layers"}
    trained = what.get(stage["train"], f"{stage['train']} and what follows")
    if stage.get("optimizer") == "lbfgs":
        return f"{trained}, by penalised logistic regression"
    return f"{trained} for {stage['epochs']} epochs"


def _stages(summary: Mapping[str, Any]) -> str:
    stages = summary["recipe"].get("stages", [])
    left_out = " (which made it worse, and is left out)"
    return "; ".join(
        _stage(stage) + (left_out if number > summary.get("kept_stage", number) else "")
        for number, stage in enumerate(stages, start=1)
    )


def _members(recipe: Mapping[str, Any]) -> str:
    if "members" not in recipe:
        return ""
    return f"{recipe['members']} networks {recipe['of']}, whose logits are averaged; the last epoch is that of the mean"


def _candidates(summary: Mapping[str, Any]) -> str:
    found = summary.get("candidates", {})
    return "; ".join(f"{name}: {accuracy:.3f}" for name, accuracy in found.items())


def _page(summary: dict[str, Any]) -> str:
    """Return the report of one run as an HTML page that stands beside its pictures."""
    low, high = summary["accuracy_interval"]
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    facts = {
        "Test accuracy": f"{summary['accuracy']:.3f} (95 % interval for the choice of photos {low:.3f} to {high:.3f})",
        "Balanced accuracy": f"{summary['balanced_accuracy']:.3f}",
        "Best epoch, by validation": f"{summary['best_epoch']} of {len(summary['history']['loss'])}",
        "Members": _members(summary["recipe"]),
        "Chosen on the validation photos": _candidates(summary),
        "Stages": _stages(summary),
        "Training time": f"{minutes} min {seconds} s with {summary['threads']} threads",
        "Parameters": f"{summary['parameters']:,}",
        "Photos": ", ".join(f"{count:,} {part}" for part, count in summary["photos"].items()),
        "Classes": ", ".join(f"{number} {name}" for number, name in enumerate(summary["classes"], start=1)),
        "Left out": f"{summary['left_out']['photos']:,} files" if summary["left_out"]["photos"] else "",
        "Data": summary["data_note"],
        "Licence of photos and weights": summary["licence"],
        "Processor": summary["processor"],
        "Date": summary["date"],
    }
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items() if v)
    title = html.escape(f"{summary['model']} on {summary['data']}")
    pictures = {
        "curves.png": "Loss and accuracy by epoch, in training and validation",
        "confusion.png": "Test confusion matrix: true classes in rows, predicted classes in columns",
        "model.svg": "The layers of the model with the shapes of their outputs and their parameters",
    }
    figures = "".join(f'<figure><img src="{name}" alt="{alt}"></figure>' for name, alt in pictures.items())
    left_out = "".join(
        f"<li>{html.escape(name)}: {html.escape(reason)}</li>"
        for name, reason in summary["left_out"]["reasons"].items()
    )
    if left_out:
        figures += f"<h2>Files left out</h2><ul>{left_out}</ul>"
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "th{text-align:left;padding-right:1rem;vertical-align:top;font-weight:600}figure{margin:2rem 0}"
        "img{max-width:100%;background:#fff}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{style}</style><h1>{title}</h1><table>{rows}</table>{figures}</html>\n"
    )
