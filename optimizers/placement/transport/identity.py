"""Who a worker is: what it tells its peers of itself, and whether two of them can share memory."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """A worker of a job.

    machine: what workers that can see each other's memory have in common: the running kernel and its process numbers.
    """

    rank: int
    host: str
    pid: int
    machine: str

    @classmethod
    def own(cls, rank: int) -> Identity:
        """Return the identity of this process."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return cls(rank, socket.gethostname(), os.getpid(), f"{boot} {Path('/proc/self/ns/pid').readlink()}")

    def encode(self) -> bytes:
        """Return the identity as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Identity:
        """Return the identity of JSON; raise ValueError for anything else."""
        try:
            values = json.loads(data)
            return cls(int(values["rank"]), str(values["host"]), int(values["pid"]), str(values["machine"]))
        except (KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"not an identity: {error}") from None

    def __str__(self) -> str:
        return f"rank {self.rank} (pid {self.pid} on {self.host})"
