"""``cnnhw bench``, ``reproduce``, ``claims`` and ``study``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnhw import outputs, system
from cnnhw.cli.command import cli
from cnnhw.cli.options import _ROOT, _file, _FloatRange, _folder, _interruptible, _time, _write
from cnnhw.errors import UnknownNameError
from cnnhw.models.weights import shipped

if TYPE_CHECKING:
    from cnnhw.studies.study import Job

__all__ = []

_PARTS = ("throughput", "epochs")
_RECORDS = "Folder for the records [default: docs/records of the checkout]."


@cli.command()
@_file("Also write all figures to this file.", "--json", "out")
@click.option(
    "--data", "sets", multiple=True, default=["scenes"], show_default=True, metavar="NAME_OR_FOLDER",
    help="The photos that epochs are counted for; may be repeated.",
)  # fmt: skip
@click.option(
    "--part", "parts", multiple=True,
    help="throughput: photos a second, for which no photos are read; epochs: how many fit in ten minutes, too "
    "[default: epochs].",
)  # fmt: skip
@click.option("--seconds", type=_FloatRange(0.1), default=5.0, show_default=True, help="Length of one sample of speed.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Samples of each thing.")
@click.option("--keras/--no-keras", hidden=True)
@click.option("--retrain", is_flag=True, hidden=True)
@_ROOT
def bench(
    out: Path | None, sets: Sequence[str], parts: Sequence[str], seconds: float, repeats: int, keras: bool,
    retrain: bool, root: Path | None,
) -> None:  # fmt: skip
    """Measure how quickly this machine trains the networks fast and best.

    Prints photos a second at each size that they are trained at, the number format, and how many epochs fit in ten
    minutes. It takes a minute or two; nothing else should run meanwhile.
    The book's own benchmark, beside Keras, is tests/benchmarks/bench.py in a checkout.
    """
    from cnnhw import data, files, system
    from cnnhw.training import throughput

    if unknown := [part for part in parts if part not in _PARTS]:
        raise UnknownNameError("part", unknown[0], _PARTS)
    if keras or retrain:
        raise click.UsageError("Keras is measured by python tests/benchmarks/bench.py, in a checkout.")
    if out:
        outputs.check_file(out, "--json")
    system.keep_freed()  # as `cnnhw train` does
    wanted = sets if not parts or "epochs" in parts else ()
    counts = {name: len(data.load(name, size=64, root=root).train) for name in wanted}
    result = throughput.measure(counts, seconds=seconds, repeats=repeats, say=lambda text: click.echo(text, err=True))
    click.echo(throughput.table(result))
    if out:
        out = _write(lambda path: files.write_json(path, result), out)
        click.echo(f"All figures: {out}")


@cli.command()
@click.argument("experiment", default="all")
@click.option(
    "--data", "name_or_folder", default="tiny5", show_default=True, metavar="NAME_OR_FOLDER",
    help="What to train on in place of, or as, Linnaeus 5: linnaeus5, tiny5, flowers, scenes, or a folder.",
)  # fmt: skip
@click.option(
    "--target", metavar="NAME_OR_FOLDER",
    help="What to transfer to [default: flowers after linnaeus5 and tiny5, else the same as --data].",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Smaller photos, a fifth of them and of the epochs: to see that it runs.")
@_folder("Folder for the records [default: runs/reproduce-DATA].")
@_ROOT
def reproduce(
    experiment: str, name_or_folder: str, target: str | None, quick: bool, out: Path | None, root: Path | None
) -> None:
    """Repeat the original report's experiments, as reported, and set the results beside its own.

    EXPERIMENT is one of q1_shallow, q1_deep, q2_concat_skip, q4_inception, q6_from_inception, q6_from_deep, or
    all. A transfer first trains the network that it transfers. It says how long it will take before it starts;
    stopped and started again, it goes on where it was.
    """
    from cnnhw import data, studies
    from cnnhw.book import original_report
    from cnnhw.book import rerun as again
    from cnnhw.studies import queue

    if root:
        os.environ["CNNHW_DATA"] = str(root)
    plan = again.plan(name_or_folder, target=target or "", quick=quick)
    jobs = again.jobs(plan, experiment)
    name = f"reproduce-{Path(name_or_folder).resolve().name}{'-quick' if quick else ''}"
    folder = out or Path("runs") / name
    outputs.check_records(folder, "--out")
    todo = queue.pending(jobs, folder)
    for source, size in dict.fromkeys((job.data, job.size) for job in todo):
        photos = data.load(source, size=size)
        if len(photos.classes) != 5:
            raise click.UsageError(f"{source} has {len(photos.classes)} classes; the report's experiments need 5.")
    system.keep_freed()
    if todo:
        click.echo("Measuring how fast this machine is ...")
        for job, seconds in queue.estimate(todo, seconds=5 if quick else 20).items():
            click.echo(f"{job.arm.name:20} {job.arm.epochs:3} epochs at {job.size} pixels, about {_time(seconds)}")
    with _interruptible("The same command goes on where it stopped."):
        for job in todo:
            click.echo(f"{job.arm.name} on {job.data}", err=True)
            queue.run_job(job, folder, progress=True)
    records = studies.records(plan.name, folder)
    keys = {job.arm.name: job.key for job in jobs}
    yours = {name: ([r for r in records if r.key == key], None) for name, key in keys.items()}
    book = {name: again.ours(name) for name in original_report.names() if name in keys}
    click.echo(again.table({"The book": book, "Here": yours}))
    if experiment == "all" and not quick:
        click.echo("\nWhat is odd about the report's numbers")
        click.echo(again.traces(yours))
    if quick:
        click.echo("\nA quick run shows that everything works; its numbers mean nothing.")
    click.echo(f"Records: {folder}")


@cli.command("claims")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of questions.")
@_folder("Judge by the records in this folder [default: the book's].", "--records", "where", exists=True)
def claims_command(as_json: bool, where: Path | None) -> None:
    """Say what the book asks, and what its records say about it.

    Of a question that is in the making nothing is said before its last run.
    """
    import json

    from cnnhw import studies
    from cnnhw.book import registry

    records = studies.records(where=where)
    found = {answer.question: answer.summary() for answer in registry.answers(records)}
    if as_json:
        click.echo(json.dumps([*found.values()], indent=1))
        return
    for question, one in found.items():
        click.echo(f"{one['verdict'] or 'no verdict':12}  {one['id']}: {one['statement']}")
        if one["effect"] is not None:
            effect = f"{one['effect']:+z.2f} {one['unit']} ({one['low']:+z.2f} to {one['high']:+z.2f})"
            known = {"no": "", "in part": ", known in part", "yes": ", known beforehand"}[one["known"]]
            said = f"{one['finding']}: " if one["finding"] else ""
            click.echo(f"{'':14}{said}{effect}, {one['n']} {question.counted}{known}")


@cli.group()
def study() -> None:
    """Run the studies that the book is made of."""


@study.command("list")
def study_list() -> None:
    """List the studies and what they ask."""
    from cnnhw.book import registry

    for name in registry.names():
        which = registry.get(name)
        click.echo(f"{name}: {which.question}")
        for arm in which.arms:
            photos = arm.data or which.data
            click.echo(f"  {arm.name}: {arm.model}, {arm.epochs} epochs, {len(arm.seeds)} seeds on {photos}")


@study.command("run")
@click.argument("names", nargs=-1, required=True)
@click.option("--processes", type=click.IntRange(1), help="Threads at a time [default: one a processor].")
@click.option("--plan", is_flag=True, help="Measure for 20 seconds and print what it would take; run nothing.")
@_folder(_RECORDS, "--records", "where")
def study_run(names: Sequence[str], processes: int | None, plan: bool, where: Path | None) -> None:
    """Run all that is still missing of the studies NAMES. Stop and start it as you like.

    A study with questions has to be planned first; its seeds are run block by block, until every question is precise.
    """
    from cnnhw.book import registry
    from cnnhw.studies import plan as plans
    from cnnhw.studies import queue, store

    _check_records(where)
    studies = [registry.get(name) for name in names]
    asked = [one for one in studies if one.questions]
    for one in () if plan else asked:
        plans.check_planned(one, where)
    records = store.read(where=where) if plan else []
    jobs = [job for one in studies if not one.questions for job in one.jobs()]
    jobs += [job for one in asked for job in plans.following(one, registry.QUESTIONS, records) if plan]
    jobs = queue.pending(jobs, where)
    processes = processes or os.cpu_count() or 1
    if plan:
        system.keep_freed()  # as in the processes that train
        costs = queue.estimate(jobs)
        for job, seconds in costs.items():
            click.echo(f"{job!s:30} {seconds / 60:6.1f} min")
        total = sum(seconds * min(job.study.threads, processes) for job, seconds in costs.items()) / processes
        click.echo(f"{len(jobs)} runs, {total / 60:.0f} min with {processes} threads at a time")
        return
    elsewhere = queue.run(jobs, processes, where)
    for one in asked:
        elsewhere += plans.run(one, registry.QUESTIONS, processes, where)
        counted = {question.id: question.counted for question in one.questions}
        for name, (count, half) in plans.widths(one, registry.QUESTIONS, store.read(one.name, where)).items():
            click.echo(f"{name}: {count} {counted[name]}" + (f", half-width {half:.3g}" if half is not None else ""))
    _elsewhere(elsewhere)


def _check_records(where: Path | None) -> None:
    from cnnhw.studies import store

    if where and where.resolve() != store.folder().resolve():
        outputs.check_records(where, "--records")


def _elsewhere(jobs: Sequence[Job]) -> None:
    for job in jobs:
        click.echo(f"{job} is being run by another process; it was left to it.")


@study.command("tune")
@click.argument("names", nargs=-1, required=True)
@click.option("--processes", type=click.IntRange(1), help="Threads at a time [default: one a processor].")
@_folder(_RECORDS, "--records", "where")
def study_tune(names: Sequence[str], processes: int | None, where: Path | None) -> None:
    """Choose the learning rate of every arm of the studies NAMES, on held-out photos. Stop and start it as you like.

    Five rates with one seed and a third of the epochs; the best two with three seeds and all epochs, which are the
    pilot of `study plan`; last, the better of these with twice the epochs. A best rate at an edge widens the grid.
    """
    from cnnhw.book import registry
    from cnnhw.studies import store, tuning

    _check_records(where)
    for one in [registry.get(name) for name in names]:
        _elsewhere(tuning.tune(one, processes, where))
        for choice in tuning.choices(one, store.read(tuning.of(one).name, where)).values():
            rate = "no rate yet" if choice.rate is None else f"{choice.rate:g}"
            tried = ", ".join(f"{rate:g}: {value:.3f}" for rate, value in choice.tried.items())
            whole = ", ".join(f"{rate:g}: {value:.3f}" for rate, value in choice.whole.items())
            click.echo(f"{one.name}/{choice.arm}: {rate} (a third of the epochs: {tried}; all: {whole})")


@study.command("plan")
@click.argument("names", nargs=-1)
@click.option(
    "--all", "every", is_flag=True, help="All studies of this edition, searches too, as one table; no plan is written."
)
@click.option("--sd", type=_FloatRange(0.001), help="Without a pilot: the SD of an effect between seeds, in points.")
@click.option(
    "--measure", is_flag=True,
    help="Without a pilot: measure for 20 seconds a study what its runs cost, and with --all keep it.",
)  # fmt: skip
@_folder(_RECORDS, "--records", "where")
def study_plan(names: Sequence[str], every: bool, sd: float | None, measure: bool, where: Path | None) -> None:
    """Say how many seeds the questions of the studies NAMES need, and what they cost; write the plan if it can be kept.

    The half-widths expected come from the pilot of `study tune`. No effect is looked at.
    """
    from cnnhw.book import registry
    from cnnhw.studies import plan as plans
    from cnnhw.studies import queue, store

    _check_records(where)
    if every == bool(names):
        raise click.UsageError("Name studies, or give --all.")
    records = store.read(where=where)
    chosen = [registry.get(name) for name in names or registry.names()]
    if silent := [one.name for one in chosen if not one.questions and not every]:
        raise click.UsageError(f"{silent[0]} has no questions: there is nothing to plan.")
    costs = plans.costs(where)
    if measure:
        system.keep_freed()  # as in the processes that train
        done = {(record.study, record.key) for record in records}
        for one in chosen:
            if jobs := [job for job in one.jobs() if one.questions or (one.name, job.key) not in done]:
                costs[one.name] = {job.arm.name: seconds for job, seconds in queue.estimate(jobs).items()}
    made = plans.account(chosen, registry.QUESTIONS, records, sd, costs)
    for ready in made:
        click.echo("\n".join(ready.lines()))
    if every:
        if measure:
            click.echo(f"Seconds of a run of each arm: {plans.write_costs(costs, where)}")
        known = [one.minutes for one in made if one.minutes is not None]
        unknown = f"; {len(made) - len(known)} studies are not measured yet" if len(known) < len(made) else ""
        total = sum(known) + sum(one.tuning for one in made)
        click.echo(f"{total:.0f} core-minutes in all, tuning and pilots included{unknown}")
        return
    for ready in made:
        click.echo(f"Plan: {plans.write(ready, where)}")


@study.command("check")
@click.argument("name")
@_folder("Look at the records in this folder [default: the book's].", "--records", "where", exists=True)
def study_check(name: str, where: Path | None) -> None:
    """Say whether the study NAME is sound: its arms have learnt, were tuned alike, and differ in one thing.

    A study that is not gives no verdicts.
    """
    from cnnhw import studies
    from cnnhw.book import registry
    from cnnhw.studies import soundness

    which = registry.get(name)
    for one in soundness.check(which, studies.records(where=where)):
        mark = "not known yet" if one.good is None else "yes" if one.good else "no"
        click.echo(f"{one.what:15} {one.of:24} {mark if one.decides else f'({mark})':15} {one.said}")
    if why := soundness.unsound(which, studies.records(where=where)):
        click.echo(f"No verdicts: {why}.")


@study.command("status")
@click.option("--canary", is_flag=True, help="Repeat the first 20 steps of one run an arm measured with other code.")
def study_status(canary: bool) -> None:
    """Say which runs have records, and which of them the present code does not match."""
    from cnnhw import studies
    from cnnhw.book import registry
    from cnnhw.studies import plan as plans
    from cnnhw.studies import queue, store, tuning

    everything = studies.records()
    tuned = {record.study for record in everything if record.study.endswith(tuning.SUFFIX)}
    for name in sorted({*registry.names(), *tuned}):
        which = registry.get(name)
        jobs = {job.key: job for job in which.jobs()}
        done = [record for record in everything if record.study == name and record.key in jobs]
        left = len(jobs) - len(done)
        if which.questions:  # how many seeds it takes is known block by block
            left = len(plans.following(which, registry.QUESTIONS, done))
        elif name in tuned:
            left = len(tuning.missing(registry.get(name.removesuffix(tuning.SUFFIX)), done))
        earlier = which.earlier(done)
        repeated = sum(record.repeated for record in done if record not in earlier)
        click.echo(
            f"{name}: {len(done)} of {len(done) + left} runs have records; "
            f"the present code matches {len(done) - len(earlier)}"
            + (f", of which it repeats the first steps of {repeated}" if repeated else "")
        )
        tried: dict[str, tuple[float | None, int]] = {}
        for record in earlier:
            said = f"  {record.path.name} was measured with other code, which the present code was not seen to repeat"
            if canary:
                # one seed an arm: all its runs take the same code
                if record.arm not in tried:
                    tried[record.arm] = queue.canary(jobs[record.key], record), record.seed
                difference, seed = tried[record.arm]
                if difference is None:
                    said += "; its first steps need weights that are not in the cache folder"
                else:
                    said += f": first losses of seed {seed} differ by {difference:.1e} nats"
                    if difference < queue.CANARY_LIMIT:
                        store.write_canary(record, jobs[record.key].code, difference, seed)
            click.echo(said)


@study.command("weights")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_folder("Compare with the records in this folder [default: the book's].", "--records", "where", exists=True)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the files [default: the package's own]."
)
def study_weights(names: Sequence[str], where: Path | None, out: Path | None) -> None:
    """Train shipped networks NAME... again and write their weights.

    Each is trained as its study does, compared with its record, and written in half precision. Names: {shipped}.
    """
    from cnnhw.book import model_cards, shipping

    for name in names:
        model_cards.get(name)  # a misspelt name is found before anything is trained, and a file that is there
        if out:
            outputs.check_file(out / model_cards.path(name).name)
    system.keep_freed()
    for name in names:
        path = shipping.make(name, where, out, progress=True)
        click.echo(f"{name}: {path}, {path.stat().st_size / 1000:,.0f} kB")


assert study_weights.help is not None
study_weights.help = study_weights.help.format(shipped=", ".join(shipped()))
