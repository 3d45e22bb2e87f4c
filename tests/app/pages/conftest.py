"""A store with a run, a candidate and an experiment, inside a request of a server that has it."""

from dataclasses import dataclass

import pytest
from flask import Flask

from analyzer.experiment import Experiment
from analyzer.record import write_folder
from analyzer.run import Run
from app import workbench
from app.jobs.queue import Jobs
from app.store import Store, open_store
from app.web import access
from app.web import context as contexts
from app.web.access import Person
from app.web.context import Context, ServerSettings
from optimizers.plan import Candidate


@dataclass
class Desk:
    """What a page finds in a request, and the values in its store."""

    store: Store
    jobs: Jobs
    run: Run
    candidate: Candidate
    experiment: Experiment

    def save_artifact(self, content: bytes = b"weights"):
        files = {"load.py": b"def load(): return None\n", "weights/all.bin": content}
        name = f"artifact-{content.hex()[:12]:0<12}"
        return self.store.save(
            "artifact",
            lambda folder: write_folder(folder, files, "artifact", name),
            name="model + fusion",
            parent=self.experiment.id,
        )

    def publish(self, value="", user="ada", title=""):
        return workbench.publish(self.store, value or self.experiment.id, user, title)


@pytest.fixture
def desk(stored):
    place, run, candidate, experiment = stored
    flask = Flask("app")
    with open_store(place) as store:
        jobs = Jobs(store.database)
        contexts.install(Context(ServerSettings(store=place), store, jobs), flask.extensions)
        with flask.test_request_context():
            yield Desk(store, jobs, run, candidate, experiment)


@pytest.fixture
def as_person(monkeypatch):
    """Return a function that makes the request one of the named person."""

    def become(name, role):
        # Wherever a page has taken the function from.
        from app.components import experiment_callbacks
        from app.pages import report

        for module in (access, experiment_callbacks, report):
            monkeypatch.setattr(module, "person", lambda: Person(name, role))

    return become
