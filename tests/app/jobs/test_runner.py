"""Whatever is killed in mid-job, every job comes to an end in words, nothing of it lives on, and nothing is lost."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.jobs.queue import Jobs
from app.jobs.runner import Runner
from app.jobs.tree import MARK, mark_of, process_record
from app.store import open_store
from tests.app.jobs.making import ended, gone, log, running, submit, until

HERE = "here"


@pytest.fixture
def jobs(store):
    """Return the queue with the real clock: the processes' own has it too."""
    return Jobs(store.database)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "signs"
    made.mkdir()
    return made


@pytest.fixture
def server(tmp_path):
    """Return a function that starts a server's runner in a process of its own; it is killed at the end."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.app.jobs.fakeserver", str(tmp_path / "store")], start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def hanging(store, jobs, kind, folder):
    """Return a job of that kind once its process hangs."""
    job = submit(jobs, kind, folder)
    until((folder / HERE).exists, f"{kind} hangs")
    return jobs.get(job.id)


def test_a_job_is_done_in_a_process_of_its_own(store, jobs):
    job = submit(jobs, "quick")
    with running(store, jobs):
        done = ended(jobs, job.id)
    assert (done.state, done.result) == ("done", {"answer": 42, "ratio": "nan"})
    assert done.place == "local" and done.process["pid"] != os.getpid()
    lines = log(jobs, job.id)
    assert {"half", "told", "printed by the workload", "written by native code"} <= set(lines)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("fail", "^no file 'x.py'; give one that is there$"),
        ("bug", "^unexpected KeyError: 'missing'; the traceback is in .*hotbench-error-"),
        ("crash", "^the process was killed by signal 11 .SIGSEGV.; native code in the workload crashed"),
        ("nonsense", "^no job kind 'nonsense'; known: quick, fail"),
    ],
)
def test_a_job_that_fails_says_why(store, jobs, kind, words, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    job = submit(jobs, kind)
    with running(store, jobs):
        failed = ended(jobs, job.id)
    assert failed.state == "failed"
    with pytest.raises(ValueError, match=words):
        raise ValueError(failed.error)


def test_where_native_code_crashed_is_in_the_log(store, jobs):
    job = submit(jobs, "crash")
    with running(store, jobs):
        ended(jobs, job.id)
    assert any("Segmentation fault" in line for line in log(jobs, job.id))


def test_a_command_that_cannot_start_fails_its_job_and_not_the_runner(store, jobs):
    job = submit(jobs, "quick")
    runner = Runner(store, jobs, ("/no/such/python",))
    runner.start()
    try:
        assert "could not be started: No such file" in ended(jobs, job.id).error
        second = submit(jobs, "quick")
        assert ended(jobs, second.id).state == "failed"
    finally:
        runner.stop()


def test_jobs_are_done_one_after_the_other(store, jobs, folder):
    with running(store, jobs):
        first = hanging(store, jobs, "wait_for_file", folder)
        second = submit(jobs, "quick")
        assert jobs.get(second.id).state == "queued" and jobs.claim_local() is None
        (folder / "end").touch()
        assert ended(jobs, first.id).state == ended(jobs, second.id).state == "done"
    assert jobs.get(second.id).started >= jobs.get(first.id).ended


def test_cancel_ends_the_process_and_its_children_in_other_sessions(store, jobs, folder):
    with running(store, jobs):
        job = hanging(store, jobs, "family", folder)
        child = int((folder / "child").read_text())
        assert not gone(child)
        jobs.cancel(job.id, "bob")
        cancelled = ended(jobs, job.id)
        until(lambda: gone(child) and gone(job.process["pid"]), "both are gone")
    assert (cancelled.state, cancelled.error) == ("cancelled", "cancelled by bob")


def test_cancel_kills_who_heeds_no_request(store, jobs, folder):
    with running(store, jobs, grace_seconds=0.5):
        job = hanging(store, jobs, "stubborn", folder)
        jobs.cancel(job.id, "bob")
        cancelled = ended(jobs, job.id)
    assert (cancelled.state, cancelled.error) == ("cancelled", "cancelled by bob") and gone(job.process["pid"])


def test_a_killed_process_fails_its_job_in_words_and_takes_its_children_along(store, jobs, folder):
    with running(store, jobs):
        job = hanging(store, jobs, "family", folder)
        os.kill(job.process["pid"], signal.SIGKILL)
        failed = ended(jobs, job.id)
        child = int((folder / "child").read_text())
        until(lambda: gone(child), "the child is gone")
    assert failed.state == "failed" and failed.error.startswith("the process was killed by signal 9 (SIGKILL)")


def test_a_value_saved_before_the_kill_stays_and_is_named(store, jobs, folder):
    with running(store, jobs):
        job = hanging(store, jobs, "save", folder)
        os.kill(job.process["pid"], signal.SIGKILL)
        failed = ended(jobs, job.id)
    (run,) = store.entries("run")
    assert failed.state == "failed" and failed.error.endswith(f"; it had saved run {run.id}")
    assert store.folder(run).is_dir()


def test_a_value_half_written_at_the_kill_is_not_listed(store, jobs, folder):
    with running(store, jobs):
        job = hanging(store, jobs, "halve", folder)
        os.kill(job.process["pid"], signal.SIGKILL)
        failed = ended(jobs, job.id)
    assert store.entries() == () and "had saved" not in failed.error


def test_stopping_the_server_ends_its_job_in_words_and_leaves_the_queue(store, jobs, folder):
    with running(store, jobs):
        job = hanging(store, jobs, "family", folder)
        waiting = submit(jobs, "quick")
    assert jobs.get(job.id).state == "failed" and "stopped with the server" in jobs.get(job.id).error
    assert gone(job.process["pid"]) and gone(int((folder / "child").read_text()))
    assert jobs.get(waiting.id).state == "queued"


def test_a_job_that_outlives_a_killed_server_is_watched_to_its_end(store, jobs, folder, server):
    first = server()
    job = hanging(store, jobs, "wait_for_file", folder)
    waiting = submit(jobs, "quick")
    first.kill()
    first.wait()
    assert not gone(job.process["pid"])
    with running(store, jobs):
        (folder / "end").touch()
        assert ended(jobs, job.id).result == {"answer": 42}
        assert ended(jobs, waiting.id).state == "done"


def test_a_job_killed_together_with_its_server_has_failed_after_the_restart(store, jobs, folder, server):
    first = server()
    job = hanging(store, jobs, "family", folder)
    child = int((folder / "child").read_text())
    waiting = submit(jobs, "quick")
    first.kill()
    os.kill(job.process["pid"], signal.SIGKILL)
    first.wait()
    # A signal takes effect later: a process that still ends is watched as one that lives.
    until(lambda: gone(job.process["pid"]), "the job's process is gone")
    assert jobs.get(job.id).state == "running"
    with running(store, jobs):
        failed = ended(jobs, job.id)
        assert ended(jobs, waiting.id).state == "done"
        until(lambda: gone(child), "its child is gone")
    assert failed.state == "failed"
    assert failed.error == "the server was restarted and the job's process is gone; start it again"


def test_a_finished_value_survives_the_kill_of_server_and_process(store, jobs, folder, server):
    first = server()
    job = hanging(store, jobs, "save", folder)
    first.kill()
    os.kill(job.process["pid"], signal.SIGKILL)
    first.wait()
    with running(store, jobs):
        failed = ended(jobs, job.id)
    (run,) = store.entries("run")
    assert failed.error.endswith(f"; it had saved run {run.id}")


def test_a_job_whose_process_never_began_is_done_after_the_restart(store, jobs, monkeypatch):
    monkeypatch.setattr("app.jobs.runner.STALE_SECONDS", 0.0)
    job = submit(jobs, "quick")
    lost = jobs.claim_local()
    with running(store, jobs):
        assert ended(jobs, job.id).state == "done"
    assert jobs.get(job.id).claim != lost.claim
    assert any("queued again" in line for line in log(jobs, job.id))


def test_a_process_with_a_lost_claim_does_nothing(store, jobs, tmp_path):
    job = submit(jobs, "quick")
    jobs.claim_local()
    command = [sys.executable, "-m", "tests.app.jobs.fakeprocess", "--store", str(tmp_path / "store"), job.id, "wrong"]
    assert subprocess.run(command).returncode == 3
    assert jobs.get(job.id).process is None and log(jobs, job.id) == []


def test_a_pid_that_another_process_has_now_is_not_taken_for_the_job(store, jobs):
    job = submit(jobs, "quick")
    claim = jobs.claim_local().claim
    jobs.begin(job.id, claim, {**process_record(os.getpid()), "started": "another boot:1"})
    with running(store, jobs):
        assert "the job's process is gone" in ended(jobs, job.id).error


def test_a_vanished_worker_fails_its_job_in_words(store, tmp_path):
    long_ago = Jobs(store.database, lambda: 1_700_000_000.0)
    job = submit(long_ago, "quick", needs={"place": "worker-1"})
    long_ago.claim("worker-1", lambda needs: True)
    jobs = Jobs(store.database)
    with running(store, jobs, patience_seconds=0.0):
        failed = ended(jobs, job.id)
    assert failed.state == "failed" and "worker worker-1 has not been heard of for 30 seconds" in failed.error


def test_a_worker_that_no_server_listened_to_gets_time_to_be_heard(store):
    long_ago = Jobs(store.database, lambda: 1_700_000_000.0)
    away = submit(long_ago, "quick", needs={"place": "worker-1"})
    long_ago.claim("worker-1", lambda needs: True)
    jobs = Jobs(store.database)
    here = submit(jobs, "quick")
    with running(store, jobs, patience_seconds=600.0):
        assert ended(jobs, here.id).state == "done"
    assert jobs.get(away.id).state == "running"


def test_two_runners_of_one_store_do_each_job_once(store, jobs, tmp_path):
    ids = [submit(jobs, "quick").id for _ in range(3)]
    with open_store(str(tmp_path / "store")) as second, running(store, jobs), running(second, Jobs(second.database)):
        states = [ended(jobs, id).state for id in ids]
    assert states == ["done"] * 3
    starts = [event for event in jobs.events(kinds=("state",)) if event.text == "running"]
    assert len(starts) == 3


def test_the_store_is_handed_on_without_its_url_among_the_arguments(store, jobs, folder):
    with running(store, jobs):
        job = hanging(store, jobs, "wait_for_file", folder)
        process = Path("/proc") / str(job.process["pid"])
        arguments = (process / "cmdline").read_text()
        assert f"{MARK}={mark_of(job.id, job.claim)}" in (process / "environ").read_text().split("\0")
        (folder / "end").touch()
        ended(jobs, job.id)
    assert "sqlite" not in arguments and "store" not in arguments


def test_no_thread_is_left_by_a_stopped_runner(store, jobs):
    before = set(threading.enumerate())
    with running(store, jobs):
        ended(jobs, submit(jobs, "quick").id)
    assert set(threading.enumerate()) == before
