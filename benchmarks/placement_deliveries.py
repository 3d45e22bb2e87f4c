"""deliveries-shm and -tcp: many transfers of mixed size among four processes, each one checked word by word.

The row says how many came whole, once and in order (ours), of how many that were sent (theirs).
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.progress import Progress
from benchmarks.contract import Promise, Ratio, Row
from benchmarks.placement_crowd import crowd
from benchmarks.placement_findings import INTACT, Effort, Findings
from benchmarks.placement_hosts import two_hosts

PROCESSES = 4
TRANSPORTS = {"deliveries-shm": "auto", "deliveries-tcp": "tcp"}
SENT = "sent"
LIMIT_SECONDS = 3600.0


def promises() -> tuple[Promise, ...]:
    """Return the rows of a full run."""
    return tuple(Promise(case, SENT, INTACT) for case in TRANSPORTS)


def measure(case: str, effort: Effort, found: Findings, progress: Progress, processes: int = PROCESSES) -> None:
    """Add the row of a case."""
    pairs = processes * (processes - 1)
    each = -(-effort.transfers // pairs)
    progress(f"{case}: {each * pairs} transfers", 0.1)
    seed = random.getrandbits(31)
    with ExitStack() as stack:
        try:
            where: tuple[Any, ...] = ()
            if TRANSPORTS[case] == "tcp":
                # UCX takes no TCP over loopback before 1.22: the processes live in two namespaces.
                hosts = stack.enter_context(two_hosts())
                where = (hosts.places(processes), hosts.meeting())
            workers = stack.enter_context(crowd(processes, *where))
            replies = workers.ask("deliver", LIMIT_SECONDS, transfers=each, seed=seed, transports=TRANSPORTS[case])
        except HotbenchError as error:
            found.add_missing(SENT, f"{case}: {error}")
            return
    intact = sum(int(reply["intact"]) for reply in replies)
    ratio = intact / (each * pairs)
    found.rows.append(Row(case, 1, SENT, INTACT, intact, each * pairs, Ratio(ratio, ratio, ratio)))
    found.details[case] = {
        "torn": sum(int(reply["torn"]) for reply in replies),
        "lost": sum(int(reply["lost"]) for reply in replies),
        "processes": processes,
        "transport": replies[0]["transport"],
        "seed": seed,
    }
