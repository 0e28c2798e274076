"""``.. provenance::``: the box that says what a page's figures come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from cnnhw import system
from cnnhw.book import benchmarks, registry
from cnnhw.errors import CnnhwError
from cnnhw.studies import plan
from cnnhw.studies.store import Record
from cnnhw_docs import label_audit, records


class Provenance(SphinxDirective):
    """``.. provenance:: STUDY ...``: the boxes that say what a page's figures come from.

    ``live`` is the box of what a page computes while the site is built, ``bench`` that of the benchmark, ``audit`` that
    of the audit of the flowers, ``peers`` that of trainings with other libraries, ``goals`` that of trainings by the
    clock.
    """

    required_arguments = 1
    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        try:
            return [node for name in self.arguments for node in self.box(name)]
        except CnnhwError as error:
            return [self.state.document.reporter.warning(f"provenance: {error}", line=self.lineno)]

    def box(self, name: str) -> list[nodes.Node]:
        """Return the box of a study, or of what was computed or measured otherwise."""
        if name == "live":
            title, lines = "What was computed for this page", live_provenance()
        elif name == "bench":
            title, lines = "Where the benchmark comes from", bench_provenance(benchmarks.record())
        elif name == "audit":
            title, lines = "Where the audit comes from", audit_provenance(label_audit.record())
        elif name == "goals":
            title, lines = "Where the figures of trainings by the clock come from", goals_provenance()
        elif name == "peers":
            title, lines = "Where the figures of other libraries come from", peers_provenance(benchmarks.peers())
        else:
            found = [record for record in records.every() if record.study == name]
            if not found and name not in registry.names():
                return [self.state.document.reporter.warning(f"no records of {name!r}", line=self.lineno)]
            title = "Where the figures come from"
            lines = provenance(found) if found else _not_run(name)
        box = nodes.admonition(classes=["provenance"])
        box += nodes.title("", title)
        items = nodes.field_list()
        for name, text in lines.items():
            item = nodes.field()
            item += nodes.field_name("", name)
            # dashes in commands stay as they are
            shown = nodes.literal("", text) if name.endswith(" again") else nodes.Text(text)
            item += nodes.field_body("", nodes.paragraph("", "", shown))
            items += item
        box += items
        return [box]


def _not_run(name: str) -> dict[str, str]:
    """Return the lines of the provenance box of a study that has no records."""
    return {"Study": f"{name}. {registry.get(name).question}", "Runs": "Not run yet."}


def spans(numbers: Sequence[int]) -> str:
    """Return numbers in words; what follows one another is told by its ends."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    told = [f"{one[0]} to {one[-1]}" if len(one) > 2 else ", ".join(map(str, one)) for one in groups]
    return ", ".join(told)


def provenance(found: Sequence[Record]) -> dict[str, str]:
    """Return the lines of the provenance box for the records of one study."""
    study = registry.get(found[0].study)
    contents = [record.content for record in found]
    sets: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for content in contents:
        data = content["data"]
        sets.setdefault((data["name"], content["configuration"]["size"]), {})[data["fingerprint"]] = data
    # of a study with questions, how many seeds it takes is known block by block
    following = plan.following(study, registry.QUESTIONS, found)
    missing = following if study.questions else [job for job in study.jobs() if job.key not in {r.key for r in found}]
    arms = []
    for arm in study.arms:
        done = [record.seed for record in found if record.arm == arm.name]
        seeds = f", seed{'s' if len(done) > 1 else ''} {spans(done)}" if done else ""
        planned = len(done) + sum(job.arm == arm for job in missing)
        arms.append(f"{arm.name}: {len(done)} of {planned} planned{seeds}")
    earlier = study.earlier(found)
    repeated = sum(record.repeated for record in found if record not in earlier)
    dates = sorted(content["date"][:10] for content in contents)
    return {
        "Study": f"{study.name}. {study.question}",
        "Data": "; ".join(_photos(name, size, splits) for (name, size), splits in sets.items()),
        "Runs": "; ".join(arms),
        "Machine": "; ".join(sorted({f"{run.content['processor']}, {per_run(run)}" for run in found})),
        "Versions": "; ".join(
            sorted({", ".join(f"{k} {v}" for k, v in content["versions"].items()) for content in contents})
        ),
        "When": " to ".join(dict.fromkeys((dates[0], dates[-1]))),
        "Training time": f"{sum(content['seconds'] for content in contents) / 3600:.1f} hours in all",
        "Code": (
            f"The present code matches {len(found) - len(earlier)} of {len(found)} runs"
            + (f"; an earlier version measured {repeated} of them, and one run an arm was repeated" if repeated else "")
            + "."
        ),
        "Reduced": "Yes: not all planned runs are there." if missing else "No.",
    }


def per_run(run: Record) -> str:
    """Return in words how many threads a run had."""
    threads = run.content["threads"]
    return f"{threads} thread{'s' if threads > 1 else ''} a run"


def _photos(name: str, size: int, splits: dict[str, dict[str, Any]]) -> str:
    """Describe one data set at one size, which may have been split in several ways."""
    data = next(iter(splits.values()))
    counts = ", ".join(f"{count:,} {part}" for part, count in data["photos"].items())
    which = f"fingerprint {data['fingerprint']}" if len(splits) == 1 else f"{len(splits)} splits"
    return f"{name}, {size} pixels, {which}: {counts}. {data['note']}".rstrip(". ")


def bench_provenance(result: dict[str, Any]) -> dict[str, str]:
    """Return the lines of the provenance box of the benchmark."""
    machine = result["machine"]
    keras = next(row["versions"] for row in result["throughput"] if row["side"] == "keras")
    versions = machine["versions"] | keras
    return {
        "Data": ", ".join(f"{name} ({count:,} photos to train on)" for name, count in result["photos"].items())
        + "; noise, where only speed is measured.",
        "Machine": f"{machine['processor']}, {machine['threads']} threads, {machine['memory_gb']} GB of memory",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "When": result["date"][:10],
        "Samples": f"{result['seconds']:g} seconds each, in turns; the recipe in Keras was trained once.",
        "Measure again": "python tests/benchmarks/bench.py --data tiny5 --data flowers --retrain --json bench.json",
    }


def audit_provenance(result: dict[str, Any]) -> dict[str, str]:
    """Return the lines of the provenance box of the audit of the flowers."""
    sets = (result["data"], result["against"])
    names = " --against ".join(one["name"] for one in sets)
    most = len(result["suspicious"])
    return {
        "Data": "; ".join(_photos(one["name"], one["size"], {one["fingerprint"]: one}) for one in sets),
        "Network": f"{result['model']}, with the weights from ImageNet, and a linear classifier on its features",
        "Looked at": f"{len(label_audit.SEEN)} photos whose labels are suspicious, and all pairs, once each",
        "Versions": ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        "When": result["date"][:10],
        "Audit again": f"cnnhw data audit {names} --weights imagenet --most {most} --json findings.json",
    }


def peers_provenance(found: dict[str, Any]) -> dict[str, str]:
    """Return the lines of the provenance box of the trainings with other libraries."""
    runs = found["runs"]
    versions = dict.fromkeys(f"{run['peer']} {run['version']}" for run in runs)
    sets = dict.fromkeys(f"{run['data']}, {run['minutes']:g} minutes" for run in runs)
    return {
        "Data": "; ".join(sets) + "; the same training, validation and test photos for all.",
        "Runs": f"{len(runs)}, one after the other",
        "Machine": f"{found['processor']}, {found['threads']} threads",
        "Versions": ", ".join(versions),
        "When": found["date"][:10],
        "Measure again": "python tests/benchmarks/peers.py --json peers.json",
    }


def goals_provenance() -> dict[str, str]:
    """Return the lines of the provenance box of what ``cnnhw train`` reached in a given time."""
    found = benchmarks.record("goals")
    sets = dict.fromkeys(f"{run['model']} on {run['data']}, {60 * run['minutes']:.0f} s" for run in found["runs"])
    return {
        "Data": "; ".join(sets),
        "Runs": f"{len(found['runs'])}, one after the other",
        "Machine": f"{found['processor']}, {found['threads']} threads",
        "When": found["date"][:10],
        "Measure again": "python tests/benchmarks/goals.py --json goals.json",
    }


def live_provenance() -> dict[str, str]:
    """Return the lines of the provenance box of what is computed while the site is built."""
    threads = torch.get_num_threads()
    return {
        "Data": "scenes, drawn by the package; photographs only where the page names them.",
        "Machine": f"{system.processor()}, {threads} thread{'s' if threads > 1 else ''}",
        "Versions": ", ".join(f"{name} {version}" for name, version in system.versions().items()),
        "When": "whenever the package, the records, or a library has changed since the last build",
        "Reduced": "Yes: what runs in seconds shows how something is done, and not how well it can be done.",
    }


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("provenance", Provenance)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
