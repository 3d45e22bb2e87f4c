"""The workers page: what it shows of a worker, and who may let one in."""

import json
import time

import pytest
from flask import Flask

from app.api.worker_data import about_of, with_load
from app.jobs.job import Job
from app.jobs.queue import Jobs
from app.pages import workers as page
from app.store import open_store
from app.store.workers import Worker, Workers
from app.views.workers import Meter, offers_of, worker_command, worker_lines
from app.web import context as contexts
from app.web.context import Context, ServerSettings
from tests.app.values import HOSTILE

OFFERED = [
    {"name": "lstm.py:workload", "source_hash": "0" * 64, "about": HOSTILE, "problem": ""},
    {"name": "broken.py", "source_hash": "1" * 64, "about": "", "problem": "no Python that can be read: line 1"},
]
ABOUT = about_of({"about": {
    "host": "rack", "device": {"kind": "cuda", "name": "H100"}, "devices": ["cpu", "cuda"],
    "versions": {"torch": "2.13.0"}, "workloads": OFFERED,
}})  # fmt: skip
LOAD = {"cpu": 0.25, "memory": 0.5, "gpus": [{"name": "H100", "utilization": 0.875}]}
WORKER = Worker("w1", "gpu-1", "2026-01-01T00:00:00+00:00", "ada", seen=1000.0, about=with_load(ABOUT, LOAD, 999.0))


@pytest.fixture
def shown(tmp_path):
    """Return (store's workers, texts of a component) inside a request."""
    with open_store(str(tmp_path / "store")) as store:
        flask = Flask("page")
        contexts.install(Context(ServerSettings(), store, Jobs(store.database)), flask.extensions)
        with flask.test_request_context("http://127.0.0.1:8050/"):
            yield Workers(store.database)


def text(component):
    return json.dumps(component.to_plotly_json(), default=lambda item: item.to_plotly_json())


def test_a_worker_is_ready_working_away_or_never_seen():
    job = Job("job-1", "profile", "Capture", {}, "running", "ada", "2026", place="w1")
    (ready,) = worker_lines([WORKER], [], now=1010.0)
    (working,) = worker_lines([WORKER], [job], now=1010.0)
    (away,) = worker_lines([WORKER], [job], now=1031.0)
    (new,) = worker_lines([Worker("w2", "new", "2026", "ada")], [], now=1010.0)
    assert [line.state for line in (ready, working, away, new)] == ["ready", "working", "away", "never seen"]
    assert ready.job is None and working.job == job
    assert ready.device == "H100" and ready.devices == ("cpu", "cuda") and ready.versions == "torch 2.13.0"
    assert ready.meters == (Meter("CPU", 0.25), Meter("Memory", 0.5), Meter("GPU", 0.875))
    assert away.meters == () and new.device == "–" and new.seen is None


def test_an_offer_is_a_workload_or_a_file_that_cannot_be_read():
    first, second = offers_of(WORKER)
    assert (first.name, first.problem) == ("lstm.py:workload", "") and second.problem.startswith("no Python")


def test_the_command_keeps_the_token_out_of_the_arguments():
    assert (
        worker_command("t0k", "https://host")
        == "HOTBENCH_TOKEN=t0k hotbench worker --server https://host --workloads DIR"
    )


def test_without_a_worker_the_page_says_what_to_do(shown):
    assert "No worker yet" in text(page.layout({})) and "workers-add" in text(page.layout({}))


def test_the_table_shows_each_worker_and_what_it_offers(shown):
    worker, token = shown.add("gpu-1", "ada")
    shown.add("gone", "ada")
    shown.revoke("gone")
    shown.seen(worker.id, with_load(ABOUT, LOAD, time.time()))
    seen = text(page.layout({}))
    for words in ("gpu-1", "on rack", "H100", "88 %", "lstm.py:workload", "Revoke the token of gpu-1", "revoked"):
        assert words in seen, words
    assert token not in seen and "no Python that can be read" in seen and "1 workload" in seen
    assert "Revoke the token of gone" not in seen


def test_a_viewer_sees_the_workers_and_no_acts(shown, monkeypatch):
    from app.web.access import Person

    monkeypatch.setattr(page, "person", lambda: Person("vera", "viewer"))
    shown.add("gpu-1", "ada")
    seen = text(page.layout({}))
    assert "gpu-1" in seen and "workers-add" not in seen and "workers-revoke" not in seen


def test_a_new_token_is_shown_in_the_command_to_type(shown):
    worker, token = shown.add("gpu-1", "ada")
    card = text(page._token_card(worker, token, "http://127.0.0.1:8050/"))
    assert f"HOTBENCH_TOKEN={token} hotbench worker --server http://127.0.0.1:8050 --workloads DIR" in card
