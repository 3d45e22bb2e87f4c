"""Two hosts on one machine: network namespaces joined by a link of their own, whose rate may be limited. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from analyzer.errors import HotbenchError
from optimizers.placement.launch import Place
from optimizers.placement.workers import Meeting

INTERFACE = "hotbench0"
ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = 29500
"""Fixed: nobody else lives in these namespaces."""
FRAME_BYTES = 9000


@dataclass(frozen=True, slots=True)
class Hosts:
    """Two namespaces; a rank of an even number lives in the first, of an odd one in the second."""

    names: tuple[str, str]
    interface: str = INTERFACE

    def places(self, world_size: int) -> tuple[Place, ...]:
        """Return where each rank runs; gloo and tensorpipe are told the interface."""
        variables = (("GLOO_SOCKET_IFNAME", self.interface), ("TP_SOCKET_IFNAME", self.interface))
        return tuple(
            Place(("ip", "netns", "exec", self.names[rank % 2]), (*variables, ("HOTBENCH_INTERFACE", self.interface)))
            for rank in range(world_size)
        )

    def meeting(self, number: int = 0) -> Meeting:
        """Return where ranks meet, rank 0 being the host; another number for each launch that runs meanwhile."""
        return Meeting(ADDRESSES[0], PORT + number)


def unavailable() -> str:
    """Return why there can be no namespaces here, in one line; empty if there can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") else "no command ip; install iproute2"


@contextmanager
def two_hosts(megabits_per_second: float | None = None) -> Iterator[Hosts]:
    """Have two namespaces joined by a link, of limited rate if one is given; gone on leaving, with what runs in them.

    Raises HotbenchError where they cannot be made.
    """
    reason = unavailable()
    if reason:
        raise HotbenchError(reason)
    first, second = names = (f"hotbench-{os.getpid()}-a", f"hotbench-{os.getpid()}-b")
    with ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
        _ip("link", "add", INTERFACE, "netns", first, "type", "veth", "peer", "name", INTERFACE, "netns", second)
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", INTERFACE)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", INTERFACE, "mtu", str(FRAME_BYTES), "up")
            if megabits_per_second is not None:
                _limit(name, megabits_per_second)
        yield Hosts(names)


def _limit(name: str, megabits_per_second: float) -> None:
    # The bucket holds 1 ms of traffic: less cannot reach the rate with a timer of 1 kHz or slower.
    burst = max(int(megabits_per_second * 1e6 / 8 * 1e-3), 4 * FRAME_BYTES)
    limit = ("tbf", "rate", f"{megabits_per_second:g}mbit", "burst", str(burst), "latency", "200ms")
    _run("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", INTERFACE, "root", *limit)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise HotbenchError(f"cannot set up a network namespace: {' '.join(command)}: {said[-1]}")
