"""What pages show of a job, from its row alone."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest

from app.jobs.job import Job
from app.views.jobs import (
    command_of,
    duration_words,
    elapsed_seconds,
    outcome,
    place_words,
    result_link,
    stage_words,
    told,
)

JOB = Job(
    id="job-1",
    kind="profile",
    title="Capture lstm",
    arguments={"workload": "/models/my model.py:f", "device": "cpu", "steps": None, "threads": 2},
    state="running",
    user="ada",
    created="2026-01-02T03:04:05.000000+00:00",
    place="local",
    started="2026-01-02T03:04:10.000000+00:00",
    stage="timing",
    fraction=0.4,
)
NOW = datetime(2026, 1, 2, 3, 4, 30, tzinfo=UTC)


def job(**changes):
    return dataclasses.replace(JOB, **changes)


def done(kind, arguments, result):
    return job(kind=kind, arguments=arguments, state="done", result=result, ended="2026-01-02T03:05:15+00:00")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7320, "2 h 02 min")],
)
def test_a_duration_in_words(seconds, words):
    assert duration_words(seconds) == words


def test_time_counts_from_the_start_to_the_end_or_to_now():
    assert elapsed_seconds(JOB, NOW) == 20
    assert elapsed_seconds(done("profile", {}, {})) == 65
    assert elapsed_seconds(job(started=None)) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "queued"}, "waits for its turn"),
        ({"state": "queued", "needs": {"place": "worker-1"}}, "waits for its worker"),
        ({"state": "queued", "needs": {"workload": {"source_hash": "ab"}}}, "waits for a worker that has the workload"),
        ({}, "timing"),
        ({"stage": ""}, "starting"),
        ({"cancel": True}, "being cancelled"),
        ({"state": "failed", "error": "no file"}, ""),
    ],
)
def test_what_a_job_is_doing(changes, words):
    assert stage_words(job(**changes)) == words


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"run": "run-1"}, ""),
        ({"verdict": "faster", "speedup": {"median": 2.29}, "kept": True}, "faster, 2.29×, kept"),
        ({"verdict": "inconclusive", "speedup": {"median": "nan"}, "kept": False}, "inconclusive"),
        ({"verdict": "refused", "reason": "fusion: nothing to fuse"}, "refused: fusion: nothing to fuse"),
    ],
)
def test_what_came_out(result, words):
    assert outcome(done("optimize", {}, result)) == words


@pytest.mark.parametrize(
    ("ended", "href"),
    [
        (done("profile", {}, {"run": "run-1"}), "/?run=run-1"),
        (done("optimize", {"run": "run-1"}, {"experiment": "experiment-1"}), "/experiments?experiment=experiment-1"),
        (done("optimize", {"run": "run-1"}, {"experiment": None}), "/optimize?run=run-1"),
        (done("compare", {"before": "a", "after": "b"}, {"experiment": None}), "/compare?before=a&after=b"),
        (done("export", {"experiment": "experiment-1"}, {"artifact": "artifact-1"}), "/artifacts?artifact=artifact-1"),
    ],
)
def test_each_result_has_a_place_to_look_at_it(ended, href):
    assert result_link(ended).href == href


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
def test_a_job_without_a_result_has_no_link(state):
    assert result_link(job(state=state)) is None


@pytest.mark.parametrize(
    ("kind", "arguments", "command"),
    [
        ("profile", JOB.arguments, "hotbench profile '/models/my model.py:f' --device cpu --threads 2"),
        (
            "optimize",
            {"run": "run-1", "optimizers": ["fusion"], "settings": {"fusion.min_gain": "1.1"}, "max_error": 1e-5},
            "hotbench optimize run-1 --with fusion --set fusion.min_gain=1.1 --max-error 1e-05",
        ),
        ("compare", {"before": "run-1", "after": "run-2"}, "hotbench compare run-1 run-2"),
        ("export", {"experiment": "experiment-1"}, "hotbench export experiment-1 -o artifact"),
        ("other", {}, ""),
    ],
)
def test_the_command_that_does_the_same(kind, arguments, command):
    assert command_of(job(kind=kind, arguments=arguments)) == command


def test_a_hostile_name_stays_one_word_of_the_command():
    assert command_of(job(arguments={"workload": "x; rm -rf $HOME"})) == "hotbench profile 'x; rm -rf $HOME'"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "this machine"),
        ({"place": None}, "this machine"),
        ({"place": "worker-1"}, "gpu-1"),
        ({"place": None, "needs": {"place": "worker-2"}}, "worker-2"),
        ({"place": None, "needs": {"workload": {}}}, "any worker with the workload"),
    ],
)
def test_where_a_job_is_done(changes, words):
    assert place_words(job(**changes), {"worker-1": "gpu-1"}) == words


def test_what_a_browser_is_told_is_plain_json_without_claim_or_arguments():
    fields = json.loads(json.dumps(told(job(claim="secret"))))
    assert fields["state"] == "running" and fields["words"] == "timing" and fields["seconds"] > 0
    assert "secret" not in json.dumps(fields) and "arguments" not in fields


def test_a_running_job_that_is_being_cancelled_has_no_error_yet():
    assert told(job(cancel=True, error="cancelled by bob"))["error"] == ""
    assert told(job(state="cancelled", error="cancelled by bob"))["error"] == "cancelled by bob"
