"""The workers' protocol: who may ask, and that once is once."""

import pytest

from app.revocation import revoke_worker
from tests.app.api.worker_steps import begun, finish, finish_run, put, refused
from tests.app.worker.desk import OFFERED, WANTED, Asking

# Who may ask


def test_without_a_token_nothing_is_answered(desk):
    client = desk.flask.test_client()
    for place in ("hello", "claim", "report", "jobs/job-1/begin", "jobs/job-1/finish"):
        refused(client.post(f"/api/worker/{place}", json={}), 401, "for workers, which send their token", "token")
    refused(client.put("/api/worker/jobs/job-1/values/run/run-1", data=b""), 401, "for workers", "token")
    refused(client.get("/api/worker/jobs/job-1/inputs/run"), 401, "for workers", "token")


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic YTpi", "Bearer", "bearer  "])
def test_a_wrong_token_is_refused(desk, header):
    answer = desk.flask.test_client().post("/api/worker/hello", json={}, headers={"Authorization": header})
    assert answer.status_code == 401 and answer.json["code"] == "token"


def test_a_revoked_token_is_refused_in_words_at_once(desk, asking):
    job = begun(desk, asking)
    desk.workers.revoke("gpu-1")
    for answer in (
        asking.hello(),
        asking.post("claim"),
        asking.post("report", {"job": job["id"]}, job["claim"]),
        finish(asking, job, state="failed"),
    ):
        refused(answer, 401, "was revoked at", "token")


def test_a_job_ends_at_once_when_its_workers_token_is_revoked(desk, asking):
    job = begun(desk, asking)
    own = desk.submit("profile", {}, {"place": desk.workers.list()[0].id})
    anybodys = desk.submit("profile", {}, {"workload": WANTED})
    revoke_worker(desk.store, desk.jobs, "gpu-1")
    ended = desk.jobs.get(job["id"])
    assert ended.state == "failed" and "its worker's token was revoked while this ran" in ended.error
    assert desk.jobs.get(own.id).error == "cancelled by the revocation of its worker"
    assert desk.jobs.get(anybodys.id).state == "queued"


def test_a_second_process_with_the_token_takes_over_and_the_first_must_stop(desk, asking):
    waiting = begun(desk, asking)
    second = Asking(desk, asking.headers["Authorization"].removeprefix("Bearer "), "s2")
    refused(second.post("claim"), 409, "another process works as gpu-1", "session")
    assert second.hello().status_code == 200
    running = desk.jobs.get(waiting["id"])
    assert running.state == "failed" and "the worker was started anew while this ran" in running.error
    refused(asking.post("claim"), 409, "give each worker a token of its own", "session")


def test_what_a_worker_says_of_itself_is_cut_to_what_we_know(desk, asking):
    asking.hello(host="b" * 500, secret="x", device={"kind": "cuda", "name": 7}, versions={"torch": "2.13", "bad": [1]})
    about = desk.workers.list()[0].about
    assert about["host"] == "b" * 80 and "secret" not in about and about["device"] == {"kind": "cuda", "name": ""}
    assert about["versions"] == {"torch": "2.13", "bad": ""} and about["workloads"] == OFFERED


# Claims


def test_a_job_goes_to_a_worker_that_has_its_file_and_to_no_other(desk, asking):
    for needs in ({}, {"place": "local"}, {"place": "worker-other"}, {"workload": {**WANTED, "source_hash": "1" * 64}}):
        desk.submit("profile", {}, needs)
    assert asking.claim() is None
    wanted = desk.submit("profile", {"workload": "x"}, {"workload": WANTED, "device": "cpu"})
    job = asking.claim()
    assert job["id"] == wanted.id and job["arguments"] == {"workload": "x"} and job["kind"] == "profile"
    assert desk.jobs.get(wanted.id).place == desk.workers.list()[0].id


def test_a_claim_whose_answer_was_lost_is_given_again_and_not_twice(desk, asking):
    first = desk.submit("profile", {}, {"workload": WANTED})
    second = desk.submit("profile", {}, {"workload": WANTED})
    lost = asking.claim()
    again = asking.claim()
    assert lost == again and lost["id"] == first.id
    assert desk.jobs.get(second.id).state == "queued"
    assert [event.text for event in desk.jobs.events(job=first.id, kinds=("state",))] == ["queued", "running"]


def test_a_worker_that_asks_for_more_without_ending_its_job_has_lost_it(desk, asking):
    job = begun(desk, asking)
    assert asking.claim() is None
    ended = desk.jobs.get(job["id"])
    assert ended.state == "failed" and "asked for other work without ending this" in ended.error
    refused(asking.post("report", {"job": job["id"]}, job["claim"]), 409, "has ended: failed", "job")


def test_a_job_that_had_not_begun_goes_back_when_the_worker_is_started_anew(desk, asking):
    job = desk.submit("profile", {}, {"workload": WANTED})
    assert asking.claim()["id"] == job.id
    second = Asking(desk, asking.headers["Authorization"].removeprefix("Bearer "), "s2")
    second.hello()
    assert desk.jobs.get(job.id).state == "queued"
    assert second.claim()["id"] == job.id


@pytest.mark.parametrize("claim", ["", "0" * 32])
def test_a_wrong_claim_opens_no_route(desk, asking, values, claim):
    job = {**begun(desk, asking), "claim": claim}
    for answer in (
        asking.post(f"jobs/{job['id']}/begin", {}, claim),
        asking.post("report", {"job": job["id"]}, claim),
        asking.get(f"jobs/{job['id']}/inputs/run", claim),
        put(asking, job, values, "run"),
        finish_run(asking, job, values),
    ):
        refused(answer, 409, "is not this worker's", "job")
    assert desk.store.entries() == () and desk.jobs.get(job["id"]).state == "running"


def test_another_workers_job_is_out_of_reach(desk, asking, values):
    job = begun(desk, asking)
    _, token = desk.workers.add("gpu-2", "ada")
    other = Asking(desk, token)
    other.hello()
    refused(finish_run(other, job, values), 409, "is not this worker's", "job")
    refused(put(other, job, values, "run"), 409, "is not this worker's", "job")
    assert other.claim() is None and desk.jobs.get(job["id"]).live


def test_an_unknown_job_is_refused(asking):
    refused(asking.post("jobs/job-none/begin", {}, "0" * 32), 409, "no job 'job-none'", "job")


# Reports


def test_progress_and_lines_arrive_and_the_answer_carries_a_cancel(desk, asking, now):
    job = begun(desk, asking)
    notes = [
        {"kind": "log", "text": "hello"},
        {"kind": "progress", "text": "half way", "fraction": 0.5},
        {"kind": "state", "text": "done"},
        {"kind": "value", "text": "run-1"},
        "no note",
    ]
    report = {"job": job["id"], "notes": notes, "load": {"cpu": 0.25, "memory": 7, "gpus": [{"name": "H100"}]}}
    now[0] += 9
    assert asking.post("report", report, job["claim"]).json == {"cancel": False}
    held = desk.jobs.get(job["id"])
    assert (held.stage, held.fraction, held.state, held.heartbeat) == ("half way", 0.5, "running", now[0])
    assert [event.text for event in desk.jobs.events(job=job["id"], kinds=("log", "value"))] == ["hello"]
    load = desk.workers.list()[0].about["load"]
    assert (load["cpu"], load["memory"]) == (0.25, 1.0)
    assert load["gpus"] == [{"name": "H100", "utilization": None, "memory": None}]
    desk.jobs.cancel(job["id"], "vera")
    assert asking.post("report", {"job": job["id"]}, job["claim"]).json == {"cancel": True}
    assert finish(asking, job, state="failed", error="killed").json == {
        "state": "cancelled",
        "error": "cancelled by vera",
    }


def test_an_idle_report_keeps_a_job_alive_whose_answer_is_on_the_way(desk, asking, now):
    job = desk.submit("profile", {}, {"workload": WANTED})
    asking.claim()
    now[0] += 29
    asking.post("report", {"job": None})
    now[0] += 29
    assert desk.jobs.vanished() == () and desk.jobs.get(job.id).live
    now[0] += 2
    assert [gone.id for gone in desk.jobs.vanished()] == [job.id]
