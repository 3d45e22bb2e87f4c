"""The workers' protocol: who may ask, once is once, and what does not hold is refused in words."""

import io
import json
import zipfile

import pytest

from app.api.worker_data import SIZES, Sizes
from app.derived.place import derived_root
from app.revocation import revoke_worker
from app.store import keeps, open_store
from tests.app.worker.desk import OFFERED, WANTED, Asking, Desk, make_values

NOW = [1_800_000_000.0]
FULL = {"kept": True, "verdict": "faster", "speedup": {"median": 2.289}}


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return make_values(tmp_path_factory.mktemp("values"))


@pytest.fixture
def desk(tmp_path):
    NOW[0] = 1_800_000_000.0
    with open_store(str(tmp_path / "store")) as store:
        yield Desk(store, lambda: NOW[0])


@pytest.fixture
def asking(desk):
    _, token = desk.workers.add("gpu-1", "ada")
    worker = Asking(desk, token)
    assert worker.hello().status_code == 200
    return worker


def begun(desk, asking, kind="profile", arguments=None, needs=None):
    """Return a job that the worker holds and has begun."""
    desk.submit(kind, arguments or {"workload": "model.py:workload"}, needs or {"workload": WANTED})
    job = asking.claim()
    assert asking.post(f"jobs/{job['id']}/begin", {}, job["claim"]).status_code == 200
    return job


def put(asking, job, values, kind, id=None):
    return asking.put(f"jobs/{job['id']}/values/{kind}/{id or values.id(kind)}", values.packed(kind), job["claim"])


def finish(asking, job, **ending):
    return asking.post(f"jobs/{job['id']}/finish", {"state": "done", "values": [], **ending}, job["claim"])


def finish_run(asking, job, values):
    return finish(asking, job, result={"run": values.run.id}, values=[{"kind": "run", "id": values.run.id}])


def saved_run(desk, values):
    """Save the run as one of this worker's."""
    from analyzer.run import save_run

    summary = {"place": "w", "place_name": "gpu-1"}
    return desk.store.save("run", lambda folder: save_run(values.run, folder), name="r", summary=summary)


def refused(answer, code, words, kind=""):
    assert answer.status_code == code, answer.json
    assert words in answer.json["error"] and answer.json.get("code", "") == kind
    return True


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


def test_progress_and_lines_arrive_and_the_answer_carries_a_cancel(desk, asking):
    job = begun(desk, asking)
    notes = [
        {"kind": "log", "text": "hello"},
        {"kind": "progress", "text": "half way", "fraction": 0.5},
        {"kind": "state", "text": "done"},
        {"kind": "value", "text": "run-1"},
        "no note",
    ]
    report = {"job": job["id"], "notes": notes, "load": {"cpu": 0.25, "memory": 7, "gpus": [{"name": "H100"}]}}
    NOW[0] += 9
    assert asking.post("report", report, job["claim"]).json == {"cancel": False}
    held = desk.jobs.get(job["id"])
    assert (held.stage, held.fraction, held.state, held.heartbeat) == ("half way", 0.5, "running", NOW[0])
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


def test_an_idle_report_keeps_a_job_alive_whose_answer_is_on_the_way(desk, asking):
    job = desk.submit("profile", {}, {"workload": WANTED})
    asking.claim()
    NOW[0] += 29
    asking.post("report", {"job": None})
    NOW[0] += 29
    assert desk.jobs.vanished() == () and desk.jobs.get(job.id).live
    NOW[0] += 2
    assert [gone.id for gone in desk.jobs.vanished()] == [job.id]


# Values


def test_a_run_that_is_handed_over_is_saved_with_its_place(desk, asking, values):
    job = begun(desk, asking)
    assert put(asking, job, values, "run").status_code == 200
    assert desk.store.entries() == ()
    answer = finish_run(asking, job, values)
    assert answer.json == {"state": "done", "error": ""}
    (entry,) = desk.store.entries()
    worker = desk.workers.list()[0]
    assert entry.id == values.run.id and entry.name == values.run.name
    assert entry.summary["place"] == worker.id and entry.summary["place_name"] == "gpu-1"
    assert entry.summary["ops"] == len(values.run.graph.ops)
    assert desk.jobs.get(job["id"]).result == {"run": values.run.id}
    assert not list(desk.store.database.location.blobs.glob(".*.partial"))


def test_the_pages_of_a_run_that_is_handed_over_are_made_before_anybody_visits_them(desk, asking, values):
    job = begun(desk, asking)
    put(asking, job, values, "run")
    finish_run(asking, job, values).close()
    assert list((derived_root(desk.store) / values.run.id).glob("ops-*.sqlite"))


def test_a_repeated_upload_and_a_repeated_end_change_nothing(desk, asking, values):
    job = begun(desk, asking)
    for _ in range(2):
        assert put(asking, job, values, "run").status_code == 200
    answers = [finish_run(asking, job, values).json for _ in range(2)]
    assert answers == [{"state": "done", "error": ""}] * 2 and len(desk.store.entries()) == 1
    assert [event.text for event in desk.jobs.events(job=job["id"], kinds=("state",))] == ["queued", "running", "done"]


def test_candidate_and_experiment_are_saved_together_and_kept(desk, asking, values):
    saved_run(desk, values)
    job = begun(desk, asking, "optimize", {"run": values.run.id, "optimizers": ["fusion"]})
    for kind in ("candidate", "experiment"):
        assert put(asking, job, values, kind).status_code == 200
    result = {**FULL, "candidate": values.candidate.id, "experiment": values.experiment.id}
    both = [{"kind": kind, "id": values.id(kind)} for kind in ("candidate", "experiment")]
    assert finish(asking, job, result=result, values=both).json["state"] == "done"
    candidate, experiment = desk.store.get(values.candidate.id), desk.store.get(values.experiment.id)
    assert (candidate.parent, experiment.parent) == (values.run.id, candidate.id)
    assert experiment.summary["verdict"] == "faster" and candidate.summary["optimizers"] == ["fusion"]
    assert [mark.experiment for mark in keeps.kept(desk.store, values.run.id)] == [experiment.id]


def test_a_refusal_by_every_optimizer_is_a_result_without_values(desk, asking, values):
    saved_run(desk, values)
    job = begun(desk, asking, "optimize", {"run": values.run.id})
    result = {"verdict": "refused", "reason": "nothing to fuse", "kept": False, "candidate": None, "experiment": None}
    assert finish(asking, job, result=result).json["state"] == "done"
    assert desk.jobs.get(job["id"]).result == result and len(desk.store.entries()) == 1


@pytest.mark.parametrize(
    ("result", "kinds", "words"),
    [
        ({}, (), "is said to be done, but nothing was handed over"),
        ({"run": "run-other"}, ("run",), "the result of"),
        ({}, ("run",), "the result of"),
        ({"candidate": "c"}, ("candidate",), "does not give candidate"),
    ],
)
def test_a_result_that_is_not_what_was_handed_over_is_refused(desk, asking, values, result, kinds, words):
    job = begun(desk, asking)
    put(asking, job, values, "run")
    sent = [{"kind": kind, "id": values.id(kind)} for kind in kinds]
    refused(finish(asking, job, result=result, values=sent), 400, words)
    assert desk.store.entries() == () and desk.jobs.get(job["id"]).live


def test_an_end_that_names_what_was_never_sent_is_refused(desk, asking, values):
    job = begun(desk, asking)
    refused(finish_run(asking, job, values), 400, "was not handed over")


def test_a_candidate_without_its_experiment_is_not_kept(desk, asking, values):
    saved_run(desk, values)
    job = begun(desk, asking, "optimize", {"run": values.run.id})
    put(asking, job, values, "candidate")
    result = {**FULL, "candidate": values.candidate.id, "experiment": values.experiment.id}
    both = [{"kind": kind, "id": values.id(kind)} for kind in ("candidate", "experiment")]
    refused(finish(asking, job, result=result, values=both), 400, "experiment-")
    alone = {"candidate": values.candidate.id}
    refused(finish(asking, job, result=alone, values=both[:1]), 400, "a candidate with its experiment, or neither")
    assert [entry.kind for entry in desk.store.entries()] == ["run"]


def test_a_verdict_that_the_experiment_does_not_hold_is_refused(desk, asking, values):
    saved_run(desk, values)
    job = begun(desk, asking, "optimize", {"run": values.run.id})
    for kind in ("candidate", "experiment"):
        put(asking, job, values, kind)
    result = {**FULL, "verdict": "smaller", "candidate": values.candidate.id, "experiment": values.experiment.id}
    both = [{"kind": kind, "id": values.id(kind)} for kind in ("candidate", "experiment")]
    refused(finish(asking, job, result=result, values=both), 400, "ended 'faster', not 'smaller'")
    assert [entry.kind for entry in desk.store.entries()] == ["run"]


def test_a_value_of_another_kind_or_id_is_refused(desk, asking, values):
    job = begun(desk, asking)
    refused(put(asking, job, values, "candidate"), 400, "a job of kind 'profile' gives no 'candidate'")
    refused(put(asking, job, values, "run", id="run-other"), 400, f"the upload is {values.run.id}, not run-other")
    place = f"jobs/{job['id']}/values/run/{values.candidate.id}"
    refused(asking.put(place, values.packed("candidate"), job["claim"]), 400, "holds a candidate, not a run")


def rewritten(data, change):
    """Return the zip with `change(name, bytes)` applied to each file; None leaves it out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(stream, "w") as target:
        for name in source.namelist():
            changed = change(name, source.read(name))
            if changed is not None:
                target.writestr(name, changed)
    return stream


def upload(asking, job, values, kind, data):
    return asking.put(f"jobs/{job['id']}/values/{kind}/{values.id(kind)}", data, job["claim"])


def test_a_changed_an_incomplete_and_a_padded_folder_are_refused(desk, asking, values):
    job, data = begun(desk, asking), values.packed("run")
    changed = rewritten(data, lambda name, held: held + b" " if name == "run.json" else held)
    refused(upload(asking, job, values, "run", changed.getvalue()), 400, "run.json differs from its hash")
    partial = rewritten(data, lambda name, held: None if name == "ops.parquet" else held)
    refused(upload(asking, job, values, "run", partial.getvalue()), 400, "ops.parquet is missing")
    padded = rewritten(data, lambda name, held: held)
    with zipfile.ZipFile(padded, "a") as archive:
        archive.writestr("extra.py", "")
    refused(upload(asking, job, values, "run", padded.getvalue()), 400, "'extra.py', which its manifest does not name")
    assert not list(desk.store.database.location.blobs.rglob("run.json"))


def test_an_archive_that_leads_out_of_its_folder_is_refused(desk, asking, values, tmp_path):
    job = begun(desk, asking)
    stream = io.BytesIO(values.packed("run"))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("../../../../escaped", "out")
    refused(upload(asking, job, values, "run", stream.getvalue()), 400, "which is no file inside it")
    assert not list(tmp_path.rglob("escaped"))


def test_a_candidate_whose_blob_is_another_file_of_the_server_is_refused(desk, asking, values):
    saved_run(desk, values)
    job = begun(desk, asking, "optimize", {"run": values.run.id})
    held = json.loads((values.folder / "candidate" / "candidate.json").read_bytes())
    held["applied"][0]["blobs"] = ["../../../../../../etc/passwd"]
    text = json.dumps(held).encode()

    def change(name, data):
        if name == "candidate.json":
            return text
        if name == "manifest.json":
            import hashlib

            manifest = json.loads(data)
            manifest["files"]["candidate.json"] = hashlib.sha256(text).hexdigest()
            return json.dumps(manifest).encode()
        return data

    data = rewritten(values.packed("candidate"), change).getvalue()
    refused(upload(asking, job, values, "candidate", data), 400, "names a blob that it does not hold")


def test_an_upload_that_is_too_large_is_refused_packed_and_unpacked(desk, asking, values):
    job = begun(desk, asking)
    size = len(values.packed("run"))
    desk.flask.config[SIZES] = Sizes(packed=size - 1)
    refused(put(asking, job, values, "run"), 413, f"at most {size - 1} bytes are taken")
    desk.flask.config[SIZES] = Sizes(unpacked=1000)
    refused(put(asking, job, values, "run"), 400, "at most 1000 are taken")
    desk.flask.config[SIZES] = Sizes(packed=size)
    assert put(asking, job, values, "run").status_code == 200


def test_a_late_result_of_a_job_that_was_given_up_is_saved_all_the_same(desk, asking, values):
    job = begun(desk, asking)
    desk.jobs.finish(job["id"], job["claim"], "failed", error="not been heard of")
    assert put(asking, job, values, "run").status_code == 200
    assert finish_run(asking, job, values).json == {"state": "failed", "error": "not been heard of"}
    assert [entry.id for entry in desk.store.entries()] == [values.run.id]


def test_a_result_that_comes_after_a_cancel_is_not_taken(desk, asking, values):
    job = begun(desk, asking)
    desk.jobs.finish(job["id"], job["claim"], "cancelled", error="cancelled by vera")
    refused(put(asking, job, values, "run"), 409, "has ended: cancelled (cancelled by vera)", "job")
    refused(finish_run(asking, job, values), 409, "has ended: cancelled", "job")
    assert desk.store.entries() == ()


def test_a_failure_is_told_in_the_workers_words(desk, asking):
    job = begun(desk, asking)
    ending = {"state": "failed", "error": "no file x", "notes": [{"kind": "log", "text": "last line"}]}
    assert finish(asking, job, **ending).json == {"state": "failed", "error": "no file x"}
    assert [event.text for event in desk.jobs.events(job=job["id"], kinds=("log",))] == ["last line"]


@pytest.mark.parametrize("state", ["queued", "running", "", None, 7])
def test_what_is_no_end_is_refused(desk, asking, state):
    refused(finish(asking, begun(desk, asking), state=state), 400, "is no end of a job")


def test_a_request_without_json_is_refused(desk, asking):
    client = desk.flask.test_client()
    answer = client.post("/api/worker/claim", data=b"{", headers=asking.headers)
    refused(answer, 400, "holds no JSON object")


# Inputs


def test_the_run_that_a_job_is_about_is_sent_as_it_was_saved(desk, asking, values):
    saved_run(desk, values)
    job = begun(desk, asking, "optimize", {"run": values.run.id})
    answer = asking.get(f"jobs/{job['id']}/inputs/run", job["claim"])
    assert answer.status_code == 200 and answer.headers["Hotbench-Kind"] == "run"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert held["run.json"] == (values.folder / "run" / "run.json").read_bytes() and "manifest.json" in held


@pytest.mark.parametrize(
    ("kind", "name"), [("optimize", "experiment"), ("optimize", "before"), ("profile", "run"), ("export", "run")]
)
def test_nothing_that_the_job_is_not_about_is_sent(desk, asking, values, kind, name):
    saved_run(desk, values)
    job = begun(desk, asking, kind, {"run": values.run.id, "before": values.run.id, "experiment": "x"})
    refused(asking.get(f"jobs/{job['id']}/inputs/{name}", job["claim"]), 400, f"has no {name!r} to send")


def test_an_export_gets_experiment_and_candidate_and_gives_an_artifact(desk, asking, values):
    from analyzer.experiment import save_experiment
    from optimizers.candidate import save_candidate

    saved_run(desk, values)
    desk.store.save("candidate", lambda at: save_candidate(values.candidate, at), name="c", parent=values.run.id)
    desk.store.save(
        "experiment", lambda at: save_experiment(values.experiment, at), name="e", parent=values.candidate.id
    )
    job = begun(desk, asking, "export", {"experiment": values.experiment.id})
    for name in ("experiment", "candidate"):
        answer = asking.get(f"jobs/{job['id']}/inputs/{name}", job["claim"])
        assert answer.status_code == 200 and answer.headers["Hotbench-Kind"] == name
    put(asking, job, values, "artifact")
    sent = [{"kind": "artifact", "id": values.id("artifact")}]
    refused(finish(asking, job, result={"artifact": values.id("artifact")}, values=sent), 400, "how exactly")
    result = {"artifact": values.id("artifact"), "max_abs_error_after_reload": 1e-7}
    assert finish(asking, job, result=result, values=sent).json["state"] == "done"
    entry = desk.store.get(values.id("artifact"))
    assert entry.parent == values.experiment.id and entry.summary["max_abs_error_after_reload"] == 1e-7
    assert entry.summary["files"] == 2 and "load.py" in entry.summary["loads_with"]
