"""Two hosts, as network namespaces joined by a link: when it stalls, each names the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.placement_hosts import ADDRESSES, INTERFACE, two_hosts, unavailable
from optimizers.placement.backends import unavailable as without_backend

REASON = unavailable() or without_backend("hotbench")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "there are two hosts")
WAIT_SECONDS = 120

_STREAM = """
import json, sys, torch
from datetime import timedelta
from optimizers.placement.transport import TransportError, open_transport
from optimizers.placement.transport.slots import Receiver, Sender

torch.set_num_threads(1)
rank = int(sys.argv[1])
patience = timedelta(seconds=60)
store = torch.distributed.TCPStore(sys.argv[2], 29500, 2, rank == 0, timeout=patience, wait_for_workers=False)
options = dict(secret=b"a secret of two hosts", transports="tcp", interface=sys.argv[3], timeout_seconds=20.0)
try:
    with open_transport(store, rank, 2, **options) as transport:
        transport.timeout_seconds = 3.0
        end = Sender(transport, 0, "stream", 1 << 20) if rank else Receiver(transport, 1, "stream", 1 << 20)
        tensor, count = torch.ones(1 << 18), 0
        while True:
            if rank:
                end.send(tensor)
            else:
                with end.receive():
                    pass
            count += 1
            if count == 5:
                print("under way", flush=True)
except TransportError as error:
    print(json.dumps(str(error)), flush=True)
"""


@contextmanager
def started(commands: list[list[str]], folder: Path, **variables: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Give a process for each command, in a group of its own; nothing of it is left."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TORCHELASTIC"))}
    environment = {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3]), **variables}
    processes = [
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )
        for command in commands
    ]  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_when_the_link_between_two_hosts_stalls_each_stops_and_names_the_other(tmp_path: Path) -> None:
    with two_hosts() as hosts:
        commands = [
            ["ip", "netns", "exec", name, sys.executable, "-c", _STREAM, str(rank), ADDRESSES[0], INTERFACE]
            for rank, name in enumerate(hosts.names)
        ]
        with started(commands, tmp_path) as processes:
            for process in processes:
                assert process.stdout is not None and process.stdout.readline().strip() == "under way"
            subprocess.run(["ip", "-n", hosts.names[1], "link", "set", INTERFACE, "down"], check=True)
            said = [process.communicate(timeout=WAIT_SECONDS)[0].strip().splitlines() for process in processes]
    for rank, lines in enumerate(said):
        words = json.loads(lines[-1])
        assert f"rank {1 - rank} (pid {processes[1 - rank].pid} on " in words and "\n" not in words
