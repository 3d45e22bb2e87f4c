"""A worker in a process of its own, with its own folder and no web or database package, against a real server."""

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest

from analyzer.experiment import load_experiment
from analyzer.run import load_run
from app.jobs.queue import Jobs
from app.store import open_store
from app.web.context import ServerSettings
from app.workloads import needs_of
from tests.app.worker.desk import Desk, wait_for, worker_process

TINY = '''
import torch
from analyzer.workload import Workload, seeded

class Chain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(7))

    def forward(self, x):
        for _ in range(6):
            x = torch.tanh(x * self.scale + 0.1)
        return x

def workload() -> Workload:
    """A chain of small ops."""
    return Workload(model=Chain(), inputs=lambda seed: ((torch.randn(3, 7, generator=seeded(seed)),), {}))
'''

SLOW = '''
import os, time
from pathlib import Path
from analyzer.workload import Workload

def workload() -> Workload:
    """Never ends by itself."""
    Path(__file__).with_name("slow.pid").write_text(str(os.getpid()))
    time.sleep(600)
'''


@pytest.fixture
def desk(tmp_path):
    with open_store(str(tmp_path / "store")) as store:
        yield Desk(store)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "box" / "workloads"
    root.mkdir(parents=True)
    (root / "tiny.py").write_text(TINY)
    (root / "slow.py").write_text(SLOW)
    return root


def log_of(tmp_path):
    place = tmp_path / "box" / "tmp"
    place.mkdir(exist_ok=True)
    return place / "worker.log"


def ended(desk, id):
    return wait_for(lambda: (job := desk.jobs.get(id)) and not job.live and job)


def profile(desk, worker, name, **arguments):
    given = {"workload": name, "device": "cpu", "steps": 2, "threads": 1, **arguments}
    return desk.submit("profile", given, {"place": worker.id})


def under_way(desk, folder, worker):
    """Return (job, pid of its capture) of a job that would never end by itself."""
    pid_file = folder / "slow.pid"
    pid_file.unlink(missing_ok=True)
    job = profile(desk, worker, "slow.py:workload")
    return job, int(wait_for(lambda: pid_file.exists() and pid_file.read_text()))


def gone(pid):
    """Return whether the process has ended; a zombie has."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def temporary_folders(tmp_path):
    return [path.name for path in (tmp_path / "box" / "tmp").iterdir() if path.name.startswith("hotbench-worker")]


def test_a_capture_and_an_optimization_on_a_worker_end_in_the_servers_store(desk, folder, tmp_path):
    worker, token = desk.workers.add("gpu-1", "ada")
    log = log_of(tmp_path)
    with desk.listening() as url, worker_process(url, token, folder, log):
        captured = ended(desk, profile(desk, worker, "tiny.py:workload").id)
        assert captured.state == "done", captured.error
        entry = desk.store.get(captured.result["run"])
        run = load_run(desk.store.folder(entry))
        assert entry.summary["place"] == worker.id and run.workload.path == str(folder / "tiny.py")
        told = desk.workers.get(worker.id)
        assert told.about["host"] == "box" and told.about["devices"][0] == "cpu" and told.about["versions"]["torch"]
        assert [item["name"] for item in told.about["workloads"]] == ["slow.py:workload", "tiny.py:workload"]

        needs = needs_of(entry, run, ServerSettings(), [told])
        request = {"run": run.id, "optimizers": ["fusion"], "settings": {"fusion.min_gain": "0.01"}, "max_error": 1e-4}
        optimized = ended(desk, desk.submit("optimize", request, needs).id)
        assert optimized.state == "done", optimized.error
        experiment = load_experiment(desk.store.folder(desk.store.get(optimized.result["experiment"])))
        assert experiment.verdict == optimized.result["verdict"] and experiment.interleaved
        assert desk.store.get(experiment.parent).parent == run.id

        changed = TINY.replace("range(6)", "range(5)")
        (folder / "tiny.py").write_text(changed)
        refused = desk.submit("optimize", request, {"place": worker.id})
        assert "the file changed or is gone; profile it again" in ended(desk, refused.id).error
        missing = profile(desk, worker, "../outside.py:workload")
        assert "is no file in the folders of workloads" in ended(desk, missing.id).error
        unlisted = profile(desk, worker, "tiny.py:seeded")
        assert "is no workload that this worker offers" in ended(desk, unlisted.id).error
    assert temporary_folders(tmp_path) == []
    assert "Traceback" not in log.read_text()


def test_cancel_and_sigterm_end_the_work_and_say_so(desk, folder, tmp_path):
    worker, token = desk.workers.add("gpu-1", "ada")
    log = log_of(tmp_path)
    with desk.listening() as url, worker_process(url, token, folder, log) as process:
        job, pid = under_way(desk, folder, worker)
        desk.jobs.cancel(job.id, "vera")
        cancelled = ended(desk, job.id)
        assert (cancelled.state, cancelled.error) == ("cancelled", "cancelled by vera")
        wait_for(lambda: gone(pid))

        job, pid = under_way(desk, folder, worker)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        stopped = desk.jobs.get(job.id)
        assert (stopped.state, stopped.error) == ("failed", "the worker was stopped while it ran; start it again")
        wait_for(lambda: gone(pid))
    assert temporary_folders(tmp_path) == []
    said = log.read_text()
    assert f"{job.id}: given back as failed" in said and "Traceback" not in said


def test_a_killed_worker_leaves_no_child_and_its_job_ends_in_words(desk, folder, tmp_path):
    worker, token = desk.workers.add("gpu-1", "ada")
    log = log_of(tmp_path)
    with desk.listening() as url:
        with worker_process(url, token, folder, log) as process:
            job, pid = under_way(desk, folder, worker)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            wait_for(lambda: gone(pid))
            assert desk.jobs.get(job.id).state == "running"
            later = Jobs(desk.store.database, lambda: time.time() + 31)
            assert [lost.id for lost in later.vanished()] == [job.id]
        with worker_process(url, token, folder, log):
            lost = ended(desk, job.id)
            assert lost.state == "failed" and "the worker was started anew while this ran" in lost.error
            assert desk.store.entries() == ()


def test_a_server_that_comes_back_gets_the_result_once_and_a_revoked_worker_stops(desk, folder, tmp_path):
    worker, token = desk.workers.add("gpu-1", "ada")
    log = log_of(tmp_path)
    with contextlib.ExitStack() as stack:
        with desk.listening() as url:
            process = stack.enter_context(worker_process(url, token, folder, log))
            job = profile(desk, worker, "tiny.py:workload")
            wait_for(lambda: desk.jobs.get(job.id).process)
        wait_for(lambda: "does not answer" in log.read_text())
        with desk.listening(int(url.rpartition(":")[2])):
            done = ended(desk, job.id)
            assert done.state == "done", done.error
            states = [event.text for event in desk.jobs.events(job=job.id, kinds=("state",))]
            assert states == ["queued", "running", "done"] and len(desk.store.entries("run")) == 1
            wait_for(lambda: "the server is back" in log.read_text())
            desk.workers.revoke("gpu-1")
            assert process.wait() == 2
    last = log.read_text().splitlines()[-1]
    assert re.fullmatch(r"hotbench: error: the token of gpu-1 .*was revoked at .*; ask whoever runs the server", last)
