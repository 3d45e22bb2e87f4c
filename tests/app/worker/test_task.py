"""The process of one job: it works on the worker's own file, and never opens a path that another machine wrote."""

import json
import sys

import pytest

from analyzer.errors import HotbenchError
from analyzer.experiment import load_experiment
from analyzer.record import load_json
from app.worker import task
from app.worker.client import Assignment
from app.worker.duties import Duty
from optimizers import artifact as artifacts
from optimizers import pipeline
from optimizers.artifact import Artifact
from optimizers.pipeline import Outcome, Proposal
from tests.app.values import report_diagnosis
from tests.app.worker.desk import make_values

HERE = "/gpu/box/model.py"


@pytest.fixture
def values(tmp_path):
    return make_values(tmp_path / "values")


def run_task(monkeypatch, tmp_path, kind, inputs, **more):
    output = tmp_path / "output"
    output.mkdir()
    request = {
        "kind": kind, "output": str(output), "inputs": {name: str(at) for name, at in inputs.items()},
        "workloads": dict.fromkeys(inputs, f"{HERE}:workload"),
        "optimizers": ["fusion"], "settings": {}, "max_error": None, **more,
    }  # fmt: skip
    (tmp_path / "request.json").write_text(json.dumps(request))
    monkeypatch.setattr(sys, "argv", ["task", str(tmp_path / "request.json")])
    return task.main(), output


def test_optimize_rebuilds_from_the_workers_file_and_keeps_the_runs_id(monkeypatch, tmp_path, values):
    seen = []

    def optimize(run, names, settings, folder, max_error, progress):
        seen.append((run.id, run.workload.path, names, settings, max_error))
        progress("measure", 0.5)
        return Outcome(Proposal(report_diagnosis(run), (), ()), values.candidate, values.experiment, ())

    monkeypatch.setattr(pipeline, "optimize", optimize)
    code, output = run_task(monkeypatch, tmp_path, "optimize", {"run": values.folder / "run"})
    assert code == 0 and seen == [(values.run.id, HERE, ["fusion"], {}, None)]
    result = load_json(output / "result.json")
    assert result["experiment"] == values.experiment.id and result["kept"] is True
    assert load_experiment(output / "experiment") == values.experiment


def test_export_rebuilds_from_the_workers_file(monkeypatch, tmp_path, values):
    seen = []

    def export_artifact(candidate, experiment, folder, format):
        assert format == "torch"
        seen.append((candidate.id, candidate.reference.path, experiment.id))
        return Artifact("artifact-1", ("load.py",), "0" * 64, "load it", 0.0)

    monkeypatch.setattr(artifacts, "export_artifact", export_artifact)
    inputs = {name: values.folder / name for name in ("candidate", "experiment")}
    code, output = run_task(monkeypatch, tmp_path, "export", inputs)
    assert code == 0 and seen == [(values.candidate.id, HERE, values.experiment.id)]
    assert load_json(output / "result.json")["artifact"] == "artifact-1"


def test_compare_measures_both_workers_files(monkeypatch, tmp_path, values):
    from analyzer import comparison

    seen = []

    def compare_runs(before, after, progress):
        seen.append((before.workload.path, after.workload.path))
        return comparison._comparison(
            before, after, "faster", "because", values.experiment.speedup, values.experiment.noise_floor,
            values.experiment,
        )  # fmt: skip

    monkeypatch.setattr(comparison, "compare_runs", compare_runs)
    inputs = dict.fromkeys(("before", "after"), values.folder / "run")
    code, output = run_task(monkeypatch, tmp_path, "compare", inputs)
    assert code == 0 and seen == [(HERE, HERE)]
    assert load_json(output / "result.json")["experiment"] == values.experiment.id


def test_a_failure_is_one_line_and_leaves_no_result(monkeypatch, tmp_path, values, capsys):
    def optimize(*_):
        raise HotbenchError("the workload is\nbroken")

    monkeypatch.setattr(pipeline, "optimize", optimize)
    code, output = run_task(monkeypatch, tmp_path, "optimize", {"run": values.folder / "run"})
    assert code == 2 and capsys.readouterr().err == "error: the workload is broken\n"
    assert not (output / "result.json").exists()


def test_a_kind_that_this_version_does_not_know_is_refused(tmp_path):
    job = Assignment("job-1", "c", "placement", "x", {}, {})
    duty = Duty(job, (tmp_path,), tmp_path, lambda *_: None, lambda *_: None, lambda _: None)
    with pytest.raises(HotbenchError, match="this worker does no 'placement' jobs; upgrade its Hotbench"):
        duty.do()


def test_a_run_of_a_file_that_is_not_here_is_refused_before_anything_runs(tmp_path, values):
    import shutil

    def fetch(name, folder):
        shutil.copytree(values.folder / name, folder)

    job = Assignment("job-1", "c", "optimize", "x", {"run": values.run.id}, {})
    (tmp_path / "work").mkdir()
    duty = Duty(job, (tmp_path / "none",), tmp_path / "work", fetch, lambda *_: None, lambda _: None)
    with pytest.raises(HotbenchError, match="has no workload as it was when it was captured"):
        duty.do()
