"""This machine as a cluster of one host, for a plan that is to run here."""

from __future__ import annotations

import os

from analyzer.device import usable_cores
from optimizers.placement.cluster import Cluster, Host, Link

NAME = "this machine"
_SHARED = "measured: one-sided puts between two processes of a host, 64 MB, AMD EPYC virtual machine"
_LOOPBACK = "as shared memory: nothing leaves the machine"


def this_machine(workers: int) -> Cluster:
    """Return the machine with room for `workers` processes, however many cores it has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shared = Link("shared memory", "shared-memory", 8e-6, 5.5e9, _SHARED, 1.0)
    loopback = Link("loopback", "network", 3e-5, 3.0e9, _LOOPBACK, 1.0)
    host = Host("host", 1, max(workers, 1), usable_cores(), 0, memory, shared, loopback)
    return Cluster(NAME, (host,))
