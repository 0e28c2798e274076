"""The report's experiments as a study of one's own, and the table."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cnnhw import studies
from cnnhw.book import original_report, registry, rerun, rerun_figures
from cnnhw.cli.command import cli
from cnnhw.data import scenes
from cnnhw.errors import UnknownNameError
from cnnhw.studies import queue, store
from cnnhw.training.recipe import Recipe


def test_plan_is_as_reported():
    plan = rerun.plan("linnaeus5", threads=1)
    arms = {arm.name: arm for arm in plan.arms}
    assert list(arms) == original_report.names()
    for name, arm in arms.items():
        experiment = original_report.get(name)
        stages = experiment.stages or (experiment,)
        assert [stage.recipe.epochs for stage in arm.stages] == [stage.epochs for stage in stages]
        assert [stage.recipe.batch_size for stage in arm.stages] == [stage.batch_size for stage in stages]
        assert all(stage.recipe.learning_rate == experiment.learning_rate for stage in arm.stages)
        assert all(stage.recipe.keep == "last" for stage in arm.stages)
        assert arm.source == (experiment.source or "")
        assert "bgr" in arm.protocols
    raw = {name for name, arm in arms.items() if isinstance(arm.recipe, Recipe) and arm.recipe.raw}
    assert raw == {"q2_concat_skip", "q4_inception"}
    assert {job.arm.name: job.data for job in plan.jobs()}["q6_from_deep"] == "flowers"


def test_transfer_brings_its_source():
    plan = rerun.plan("scenes", quick=True, threads=1)
    assert [job.arm.name for job in rerun.jobs(plan, "q6_from_deep")] == ["q1_deep", "q6_from_deep"]
    assert [job.arm.name for job in rerun.jobs(plan, "q1_shallow")] == ["q1_shallow"]
    assert {job.arm.name for job in rerun.jobs(plan)} == set(original_report.names())
    assert {job.data for job in plan.jobs()} == {"scenes"}
    with pytest.raises(UnknownNameError, match="Did you mean 'q6_from_deep'"):
        rerun.jobs(plan, "q6_from_deap")


def test_another_target():
    plan = rerun.plan("tiny5", target="scenes", threads=1)
    assert {job.arm.name: job.data for job in plan.jobs()}["q6_from_inception"] == "scenes"


@pytest.mark.parametrize("name", ["q1_shallow", "q1_deep"])
def test_rows_give_the_reports_numbers_and_ours(name):
    rows = {row.measure: row for row in rerun.rows(name, [rerun.ours(name), ([], None)])}
    assert rows["parameters"].reported == rows["parameters"].columns[0].removesuffix(" (tiny5)")
    assert rows["test accuracy"].cells[1] == f"{original_report.get(name).test_accuracy:.4g} (linnaeus5)"
    assert rows["epochs"].columns[0] == f"{original_report.get(name).epochs} (tiny5)"
    assert all(row.columns[1] == "–" for row in rows.values())
    assert all(row.columns[0].endswith("(tiny5)") for row in rows.values())


def test_table_as_text_and_html():
    table = rerun.table({"ours <b>": {"q1_shallow": rerun.ours("q1_shallow")}}, {("q1_shallow", "epochs"): "&"})
    assert str(table).count("q1_shallow") == 1
    assert "1,072,549 (linnaeus5)" in str(table)
    page = table._repr_html_()
    assert "ours &lt;b&gt;" in page
    assert "<td>&amp;</td>" in page
    assert page.count("<tr") == page.count("</tr>") == len(table.rows) + 2


def test_words_are_about_rows_that_exist():
    rows = {(row.experiment, row.measure) for name in original_report.names() for row in rerun.rows(name, [])}
    assert set(rerun.WORDS) <= rows


@pytest.fixture(scope="module")
def book():
    """Return the book's own runs of all experiments."""
    return {name: rerun.ours(name) for name in original_report.names()}


def test_what_comes_back_is_judged_by_every_run(book):
    found = {(row.experiment, row.measure.partition(";")[0]): row for row in rerun.traces(book).rows}
    loss = "mean loss of the first epoch"
    assert found["q2_concat_skip", loss].reported == "21.8"
    assert found["q2_concat_skip", loss].columns == ("25.9, 23.5 to 27.4", "yes")
    first, *others = book["q2_concat_skip"][0]
    history = first.history | {"loss": [1.6, *first.history["loss"][1:]]}
    sound = dataclasses.replace(first, content=first.content | {"history": history})
    changed = rerun.traces(book | {"q2_concat_skip": ([sound, *others], None)})
    assert {row.measure.partition(";")[0]: row.columns[1] for row in changed.rows[:2]}[loss] == "no"
    assert "<code>q4_inception</code>" in changed._repr_html_()


@pytest.mark.parametrize("draw", [rerun_figures.accuracies, rerun_figures.curves, rerun_figures.shares_found])
def test_figures_say_both_sides_in_words(draw, book):
    words = draw({name: book[name] for name in ("q1_shallow", "q6_from_deep")}).get_label()
    assert rerun.TITLES["q1_shallow"] in words
    assert rerun.TITLES["q4_inception"] not in words
    assert "report" in words
    assert "our" in words


def test_classes_are_set_side_by_side_by_name(book):
    figure = rerun_figures.shares_found({name: book[name] for name in ("q4_inception", "q6_from_deep")})
    axis = figure.axes[0]
    names = [tick.get_text() for tick in axis.get_yticklabels()]
    assert names == ["berry", "bird", "dog", "flower", "fruit", "insect", "other"]
    crosses = {round(float(line.get_ydata()[0])) for line in axis.lines if line.get_marker() == "x"}
    dots = {round(float(line.get_ydata()[0])) for line in axis.lines if line.get_marker() == "o"}
    assert [names[height] for height in sorted(crosses)] == ["berry", "bird", "dog", "flower", "other"]
    assert [names[height] for height in sorted(dots)] == ["bird", "dog", "fruit", "insect", "other"]
    (row,) = (row for row in rerun.rows("q4_inception", [book["q4_inception"]]) if row.measure.startswith("share"))
    assert row.reported.startswith("berry 48%, bird 36%")
    assert row.columns[0].startswith("bird 64%, dog 59%")


def test_second_stage_is_drawn_with_the_fault_and_without_it(book):
    words = rerun_figures.second_stage(book).get_label()
    assert "report, 1.28 after the first stage and 1.32 at the end; ours, with the fault, 1.18" in words


@pytest.mark.parametrize(
    ("accuracies", "epoch"), [([0.2, 0.5, 0.69, 0.7, 0.6], 3), ([0.7, 0.1], 1), ([0.1, 0.2, 0.9], 3)]
)
def test_epoch_of_convergence(accuracies, epoch):
    assert rerun.converged(accuracies) == epoch


@pytest.fixture
def few_scenes(monkeypatch):
    """Make the scenes few and easy."""
    load = scenes.load
    monkeypatch.setattr(scenes, "load", lambda **wanted: load(**wanted | {"train": 300, "test": 100}))


@pytest.mark.slow
def test_command_runs_offline_and_goes_on(few_scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    command = ["reproduce", "q6_from_deep", "--data", "scenes", "--quick"]
    first = CliRunner().invoke(cli, command)
    assert first.exit_code == 0, first.output
    assert "q1_deep                2 epochs at 64 pixels, about" in first.output
    assert "trained parameters in stage 1" in first.output
    found = store.read("reproduce", tmp_path / "runs" / "reproduce-scenes-quick")
    assert [record.arm for record in found] == ["q1_deep", "q6_from_deep"]
    transfer = found[1]
    assert [stage["trainable"] for stage in transfer.stages] == [1285, transfer.content["parameters"]]
    assert len(transfer.history["loss"]) == sum(stage["epochs"] for stage in transfer.stages) == 6
    assert transfer.best_epoch == 6
    again = CliRunner().invoke(cli, command)
    assert again.exit_code == 0
    assert "Measuring" not in again.output
    assert again.stdout.splitlines()[-20:] == first.stdout.splitlines()[-20:]


def test_all_experiments_end_with_what_is_odd_about_the_report(tmp_path, monkeypatch):
    runs = {name: rerun.ours(name)[0][0] for name in original_report.names()}
    jobs = [SimpleNamespace(arm=SimpleNamespace(name=name), key=run.key) for name, run in runs.items()]
    monkeypatch.setattr(rerun, "jobs", lambda *_: jobs)
    monkeypatch.setattr(queue, "pending", lambda *_: [])
    monkeypatch.setattr(studies, "records", lambda *_: list(runs.values()))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["reproduce"])
    assert result.exit_code == 0, result.output
    odd = result.output.partition("What is odd about the report's numbers")[2]
    assert "points behind Q1's first network; odd above 10" in odd
    assert odd.count(" yes") + odd.count(" no\n") >= 7


def test_command_refuses_another_number_of_classes(tmp_path):
    from PIL import Image

    for label in "ab":
        for number in range(4):
            path = tmp_path / "photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (number * 50, 90 * (label == "a"), 0)).save(path)
    result = CliRunner().invoke(cli, ["reproduce", "q1_shallow", "--data", str(tmp_path / "photos"), "--quick"])
    assert result.exit_code == 2
    assert "has 2 classes" in result.output


def test_committed_records_of_the_report_are_there():
    for name in original_report.names():
        records, epoch = rerun.ours(name)
        if records:
            assert all((epoch or 1) <= len(record.history["loss"]) for record in records)
    assert registry.get("report").job("q6_from_deep", 1).source.arm.name == "q1_deep"
