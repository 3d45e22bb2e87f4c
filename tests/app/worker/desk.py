"""A small server for workers, without pages; packed values to hand in; and a worker's process to run against it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from flask import Flask
from waitress.server import create_server

from analyzer.experiment import experiment_id, save_experiment
from analyzer.record import dump_json, write_folder
from analyzer.run import save_run, with_content_id
from app.api.workers import blueprint
from app.jobs.queue import Jobs
from app.store import Store
from app.store.workers import Workers
from app.web import context as contexts
from app.web.context import Context, ServerSettings
from app.worker.transfer import pack
from optimizers.candidate import make_candidate, save_candidate
from tests.app.values import report_candidate, report_experiment, report_run

ROOT = Path(__file__).parents[3]
HOOK = Path(__file__).parent / "core_only"
WANTED = {"name": "model.py:workload", "source_hash": "0" * 64}
OFFERED = [{"name": "sub/model.py:workload", "source_hash": "0" * 64, "about": "One.", "problem": ""}]


class Desk:
    """The server's side: store, queue, workers, and the Flask app with the protocol alone."""

    def __init__(self, store: Store, clock=time.time) -> None:
        self.store = store
        self.jobs = Jobs(store.database, clock)
        self.workers = Workers(store.database, clock)
        self.stopping = threading.Event()
        self.flask = Flask("desk")
        contexts.install(Context(ServerSettings(), store, self.jobs, stopping=self.stopping), self.flask.extensions)
        self.flask.register_blueprint(blueprint)

    def submit(self, kind, arguments, needs=None):
        return self.jobs.submit(kind, arguments, title=f"{kind} it", user="ada", needs=needs)

    @contextlib.contextmanager
    def listening(self, port=0) -> Iterator[str]:
        """Yield the URL of a real server on the loopback."""
        server = create_server(self.flask, host="127.0.0.1", port=port, threads=8)
        thread = threading.Thread(target=_loop, args=(server,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.effective_port}"
        finally:
            self.stopping.set()
            server.trigger.pull_trigger(lambda: _close(server))
            thread.join()
            server.task_dispatcher.shutdown(timeout=3)
            self.stopping.clear()


def _loop(server):
    from waitress import wasyncore

    wasyncore.loop(timeout=1, map=server._map, use_poll=True)


def _close(server):
    from waitress import wasyncore

    wasyncore.close_all(server._map, ignore_all=True)


class Asking:
    """One worker's process, as the Flask test client plays it."""

    def __init__(self, desk: Desk, token: str, session: str = "s1") -> None:
        self._client = desk.flask.test_client()
        self.headers = {"Authorization": f"Bearer {token}", "Hotbench-Session": session}

    def post(self, place, data=None, claim=None):
        headers = {**self.headers, **({"Hotbench-Claim": claim} if claim else {})}
        return self._client.post(f"/api/worker/{place}", json=data if data is not None else {}, headers=headers)

    def get(self, place, claim=""):
        return self._client.get(f"/api/worker/{place}", headers={**self.headers, "Hotbench-Claim": claim})

    def put(self, place, data, claim=""):
        headers = {**self.headers, "Hotbench-Claim": claim}
        return self._client.put(f"/api/worker/{place}", data=data, headers=headers)

    def hello(self, **about):
        told = {"host": "box", "devices": ["cpu"], "workloads": OFFERED, **about}
        return self.post("hello", {"about": told})

    def claim(self):
        """Return the job that is given out now, or None."""
        answer = self.post("claim", {"workloads": OFFERED, "wait_seconds": 0})
        assert answer.status_code == 200, answer.json
        return answer.json["job"]


@dataclasses.dataclass(frozen=True)
class Values:
    """A run with its candidate, experiment and artifact, as folders."""

    run: object
    candidate: object
    experiment: object
    folder: Path

    def packed(self, kind) -> bytes:
        stream = io.BytesIO()
        pack(self.folder / kind, stream)
        return stream.getvalue()

    def id(self, kind) -> str:
        return "artifact-0123456789ab" if kind == "artifact" else getattr(self, kind).id


def make_values(folder: Path) -> Values:
    run = with_content_id(report_run())
    candidate = make_candidate(run.id, run.workload, report_candidate(run).applied)
    drawn = report_experiment(run, candidate)
    experiment = dataclasses.replace(drawn, id=experiment_id(drawn))
    save_run(run, folder / "run")
    save_candidate(candidate, folder / "candidate")
    save_experiment(experiment, folder / "experiment")
    files = {"load.py": b"raise SystemExit('never run here')", "experiment.json": dump_json({})}
    write_folder(folder / "artifact", files, "artifact", "artifact-0123456789ab")
    return Values(run, candidate, experiment, folder)


@contextlib.contextmanager
def worker_process(url, token, folder, log, extra=()) -> Iterator[subprocess.Popen]:
    """Yield a real worker: a process that may import the core packages alone, with its own folder and variables."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HOTBENCH_TOKEN": token,
        "PYTHONPATH": os.pathsep.join((str(HOOK), str(ROOT))),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(log.parent),
        # Where compiled kernels are kept; an empty one would be filled anew by every test.
        **{name: os.environ[name] for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME") if name in os.environ},
    }
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "app", "worker", "--server", url, "--workloads", str(folder), "--name", "box"]
        process = subprocess.Popen(
            [*command, *extra],
            cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(what, seconds=400.0):
    """Return the first true answer of `what`; fail when there is none for long: only a hang takes so long."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing came of {what}")
