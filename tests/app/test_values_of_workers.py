"""What a worker handed in is never rebuilt on this machine: its paths and programs are another machine's."""

import dataclasses
import hashlib

import pytest

from analyzer import comparison
from analyzer.errors import HotbenchError
from analyzer.experiment import save_experiment
from analyzer.run import save_run, with_content_id
from app import workbench
from app.store import open_store
from optimizers import artifact, pipeline
from optimizers.candidate import save_candidate
from tests.app.worker.desk import make_values

PLACE = {"place": "worker-1", "place_name": "gpu-1"}


@pytest.fixture
def store(tmp_path):
    values = make_values(tmp_path / "values")
    with open_store(str(tmp_path / "store")) as opened:
        opened.save("run", lambda at: save_run(values.run, at), name="r", summary=PLACE)
        opened.save(
            "candidate", lambda at: save_candidate(values.candidate, at), name="c", parent=values.run.id, summary=PLACE
        )
        opened.save(
            "experiment",
            lambda at: save_experiment(values.experiment, at),
            name="e",
            parent=values.candidate.id,
            summary=PLACE,
        )
        yield opened, values


def never(*_, **__):
    raise AssertionError("something was rebuilt here")


def test_its_run_is_not_optimized_here(store, monkeypatch):
    monkeypatch.setattr(pipeline, "apply_plans", never)
    with pytest.raises(
        HotbenchError, match=r"run-.* comes from worker 'gpu-1', whose files are not here; use the page"
    ):
        workbench.optimize(store[0], store[1].run.id, ["fusion"], {})


def test_its_candidate_is_not_exported_here(store, monkeypatch, tmp_path):
    monkeypatch.setattr(artifact, "export_artifact", never)
    for export in (
        lambda: workbench.export(store[0], store[1].experiment.id, tmp_path / "artifact"),
        lambda: workbench.export_to_store(store[0], store[1].experiment.id),
    ):
        with pytest.raises(HotbenchError, match=r"candidate-.* comes from worker 'gpu-1'"):
            export()


def test_its_run_is_compared_by_the_stored_times_even_if_the_same_file_lies_here(store, monkeypatch, tmp_path):
    here = tmp_path / "model.py"
    here.write_text("raise SystemExit('run here')")
    digest = hashlib.sha256(here.read_bytes()).hexdigest()
    reference = dataclasses.replace(store[1].run.workload, path=str(here), source_hash=digest)
    run = with_content_id(dataclasses.replace(store[1].run, workload=reference))
    store[0].save("run", lambda at: save_run(run, at), name="sly", summary=PLACE)
    monkeypatch.setattr(comparison, "run_experiment", never)
    found = workbench.compare(store[0], run.id, run.id)
    assert found.interleaved is False and "model.py of run-" in found.reason
    assert workbench.read_run(store[0], run.id).workload.path == str(here)
