"""The workers' protocol: what is handed over is saved whole, and what does not hold is refused in words."""

import io
import json
import zipfile

import pytest

from app.api.worker_data import SIZES, Sizes
from app.derived.place import derived_root
from app.store import keeps
from tests.app.api.worker_steps import begun, finish, finish_run, put, refused, saved_run

FULL = {"kept": True, "verdict": "faster", "speedup": {"median": 2.289}}


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
