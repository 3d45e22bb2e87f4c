"""`hotbench workers` and `hotbench worker`: a token is printed once, and what does not hold is one line."""

import json
import os
import subprocess
import sys

import pytest

from app import cli
from app.store import open_store
from app.store.workers import Workers
from tests.app.worker.desk import HOOK, ROOT


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def fails(capsys, *arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and err.startswith("hotbench: error: "), err
    return err


def test_a_worker_is_added_listed_and_revoked(capsys, tmp_path):
    place = tmp_path / "store"
    code, out, _ = run(capsys, "workers", "add", "gpu-1", "--json", "--store", place)
    added = json.loads(out)
    assert code == 0 and added["name"] == "gpu-1" and added["alive"] is False
    with open_store(str(place)) as store:
        assert Workers(store.database).of_token(added["token"]).id == added["id"]
    code, out, _ = run(capsys, "workers", "list", "--json", "--store", place)
    (listed,) = json.loads(out)["workers"]
    assert listed["name"] == "gpu-1" and "token" not in listed and added["token"] not in out
    assert run(capsys, "workers", "list", "--store", place)[1].split()[:3] == ["gpu-1", "never", "seen"]
    code, out, _ = run(capsys, "workers", "revoke", "gpu-1", "--store", place)
    assert (code, out) == (0, "gpu-1 is revoked: it gets no job and no answer any more\n")
    assert "revoked 20" in run(capsys, "workers", "list", "--store", place)[1]


def test_the_command_to_type_is_not_cut(capsys, tmp_path):
    _, out, _ = run(capsys, "workers", "add", "gpu-1", "--store", tmp_path / "store")
    command = next(line for line in out.splitlines() if "hotbench worker" in line)
    assert command.strip().startswith("HOTBENCH_TOKEN=") and command.endswith("--server URL --workloads DIR")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add",), "which one? write `hotbench workers add NAME`"),
        (("revoke",), "which one? write `hotbench workers revoke NAME`"),
        (("list", "gpu-1"), "list takes no name, got 'gpu-1'"),
        (("add", "a b"), "is no worker's name"),
        (("revoke", "gpu-1"), "no worker 'gpu-1'; there are: none"),
        (("remove", "gpu-1"), "invalid choice: 'remove'"),
    ],
)
def test_what_does_not_hold_is_one_line(capsys, tmp_path, arguments, message):
    assert message in fails(capsys, "workers", *arguments, "--store", tmp_path / "store")


def test_without_a_worker_it_says_how_to_add_one(capsys, tmp_path):
    assert "hotbench workers add NAME" in run(capsys, "workers", "list", "--store", tmp_path / "store")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--server", "http://127.0.0.1:1", "--token", "t", "--workloads", "none"), "--workloads 'none' is no folder"),
        (("--server", "127.0.0.1:1", "--token", "t", "--workloads", "."), "is no address of a server"),
        (("--server", "http://127.0.0.1:1", "--workloads", "."), "no token: give --token or set HOTBENCH_TOKEN"),
        (("--token", "t", "--workloads", "."), "the following arguments are required: --server"),
    ],
)
def test_a_worker_that_cannot_start_says_why(capsys, monkeypatch, arguments, message):
    monkeypatch.delenv("HOTBENCH_TOKEN", raising=False)
    assert message in fails(capsys, "worker", *arguments)


def core_only(*arguments):
    """Return the end of a command in a process that can import the core packages alone."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HOOK), str(ROOT)))}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_a_machine_with_the_core_packages_alone_lists_its_commands_and_says_what_the_others_need():
    helped = core_only("-m", "app", "--help")
    assert helped.returncode == 0 and "do a server's jobs on this machine" in helped.stdout
    refused = core_only("-m", "app", "workers", "list")
    assert refused.returncode == 2
    expected = (
        r"hotbench: error: this command needs the package 'sqlalchemy'; install it with: pip install 'hotbench[app]'"
    )
    assert refused.stderr.strip() == expected


def test_the_worker_itself_imports_no_torch_and_nothing_beyond_the_core():
    code = "import sys, app.cli, app.worker.loop; print(sorted({'torch', 'numba', 'pandas'} & set(sys.modules)))"
    done = core_only("-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
