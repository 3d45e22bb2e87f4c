"""A store with one run made by hand, for commands that need no capture."""

import dataclasses

import pytest

from analyzer.experiment import experiment_id, save_experiment
from analyzer.run import save_run, with_content_id
from app.store import open_store
from optimizers.candidate import make_candidate, save_candidate
from tests.app.values import report_candidate, report_experiment, report_run


@pytest.fixture(autouse=True)
def no_store_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTBENCH_STORE", str(tmp_path / "default-store"))


@pytest.fixture
def stored(tmp_path):
    """Return (store folder, run, candidate, experiment), all three saved."""
    place = str(tmp_path / "store")
    run = with_content_id(report_run())
    draft = report_candidate(run)
    candidate = make_candidate(run.id, run.workload, draft.applied)
    experiment = report_experiment(run, candidate)
    experiment = dataclasses.replace(experiment, id=experiment_id(experiment))
    with open_store(place) as store:
        store.save("run", lambda folder: save_run(run, folder), name=run.name, created=run.created)
        store.save(
            "candidate",
            lambda folder: save_candidate(candidate, folder),
            name="c",
            parent=run.id,
            created=run.created,
            summary={"optimizers": ["fusion"]},
        )
        store.save(
            "experiment",
            lambda folder: save_experiment(experiment, folder),
            name="e",
            parent=candidate.id,
            created=experiment.created,
        )
    return place, run, candidate, experiment
