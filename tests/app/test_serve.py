"""`hotbench serve` as a process: what it says, what it refuses, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import cli
from app.commands.serve import _folders
from app.store import open_store
from tests.app.web.conftest import store_with_users

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def serving(*arguments):
    """Yield (process, what it printed first) of a server; its whole group is ended at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--json", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process, read_object(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def read_object(process):
    """Return the JSON object at the beginning of stdout; the server keeps the stream open."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            return json.loads("".join(lines))
    pytest.fail(f"the server ended: {process.stderr.read()}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_answers_and_ends_cleanly(tmp_path, number):
    with serving("--port", "0", "--store", str(tmp_path / "store")) as (process, said):
        assert said["url"].startswith("http://127.0.0.1:")
        assert said["login"] is False
        assert said["workloads"] == [str(ROOT / "examples")]
        with urllib.request.urlopen(said["url"], timeout=60) as answer:
            assert b"Hotbench" in answer.read()
        process.send_signal(number)
        _, errors = process.communicate()
        assert process.returncode == 0
        assert errors == "stopped\n"


def test_a_port_in_use_is_told_in_one_line_and_leaves_no_store(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--port", port, "--store", str(tmp_path / "store")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"port {port} of 127.0.0.1 is in use" in said
    assert not (tmp_path / "store").exists()


def test_an_address_that_others_reach_needs_users(tmp_path, capsys):
    for arguments in (["--host", "0.0.0.0"], ["--trusted-host", "bench.example.org"], ["--login"]):
        assert cli.main(["serve", "--port", "0", *arguments, "--store", str(tmp_path)]) == 2
        assert "`hotbench users add NAME --role admin`" in capsys.readouterr().err


def test_an_address_that_others_reach_is_served_with_users(tmp_path):
    place = store_with_users(tmp_path)
    with serving("--host", "0.0.0.0", "--port", "0", "--store", place) as (process, said):
        assert said["login"] is True
        port = said["url"].rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/runs", timeout=60) as answer:
            assert answer.url.endswith("/login?next=%2Fruns")
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--port", "70000"], "'70000' is no port"),
        (["--port", "http"], "'http' is no port"),
        (["--workloads", "/no/such/folder"], "--workloads '/no/such/folder' is no folder"),
        (["--host", "203.0.113.9", "--port", "0"], "203.0.113.9 is no address of this machine"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path, capsys, arguments, words):
    assert cli.main(["serve", *arguments, "--store", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_only_folders_that_were_named_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _folders([tmp_path / "." / "", tmp_path]) == (tmp_path,)
    assert _folders(None) == (ROOT / "examples",)
    monkeypatch.setattr("app.commands.serve._CHECKOUT", tmp_path)
    assert _folders(None) == ()


def test_the_example_is_queued_for_an_empty_store(tmp_path):
    place = str(tmp_path / "store")
    with serving("--port", "0", "--example", "--store", place) as (process, _said):
        process.send_signal(signal.SIGTERM)
        process.communicate()
    with open_store(place) as store:
        from app.jobs.queue import Jobs

        (job,) = Jobs(store.database).list()
    assert job.title == "Capture lstm.py:workload"


def test_the_example_needs_a_checkout(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("app.commands.serve._CHECKOUT", tmp_path)
    assert cli.main(["serve", "--example", "--store", str(tmp_path)]) == 2
    assert "--example needs the examples folder of a checkout" in capsys.readouterr().err
