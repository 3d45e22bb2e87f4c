"""What tests of the workers' protocol share: a job that is held, values that are sent, a refusal that is read."""

from tests.app.worker.desk import WANTED


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
