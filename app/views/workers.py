"""What the page shows of a worker: whether it is there, how busy, what it does and what it offers."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.jobs.job import Job
from app.store.workers import Worker
from app.units import MISSING


@dataclass(frozen=True, slots=True)
class Meter:
    """One thing that is more or less in use: a fraction from 0 to 1."""

    label: str
    fraction: float


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker as a line of the page.

    state:  "working", "ready", "away", "never seen" or "revoked".
    seen:   ISO 8601, None before its first word.
    job:    what it does now.
    meters: how busy its machine was when it was last heard of; empty where that says nothing any more.
    """

    id: str
    name: str
    host: str
    state: str
    device: str
    devices: tuple[str, ...]
    versions: str
    seen: str | None
    revoked: str | None
    job: Job | None
    meters: tuple[Meter, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """One workload that a worker offers, or a file of its folder that cannot be read."""

    name: str
    about: str
    problem: str


def worker_lines(workers: Sequence[Worker], live: Sequence[Job], now: float | None = None) -> tuple[WorkerLine, ...]:
    """Return a line for each worker; `live` are the jobs that have not ended."""
    moment = time.time() if now is None else now
    doing = {job.place: job for job in live if job.state == "running"}
    return tuple(_line(worker, doing.get(worker.id), moment) for worker in workers)


def offers_of(worker: Worker) -> tuple[Offer, ...]:
    """Return what the worker offers, as it last said."""
    return tuple(
        Offer(str(item.get("name", "")), str(item.get("about", "")), str(item.get("problem", "")))
        for item in worker.about.get("workloads", ())
    )


def worker_command(token: str, server: str = "URL") -> str:
    """Return the command to type on the worker's machine. The token is a variable: all users can read arguments."""
    return f"HOTBENCH_TOKEN={shlex.quote(token)} hotbench worker --server {shlex.quote(server)} --workloads DIR"


def _line(worker: Worker, job: Job | None, now: float) -> WorkerLine:
    about = worker.about
    device = _mapping(about.get("device"))
    alive = worker.alive(now)
    versions = _mapping(about.get("versions"))
    return WorkerLine(
        id=worker.id,
        name=worker.name,
        host=str(about.get("host", "")),
        state=_state(worker, alive, job),
        device=str(device.get("name") or MISSING),
        devices=tuple(str(kind) for kind in about.get("devices", ())),
        versions=", ".join(f"{name} {value}" for name, value in versions.items() if value),
        seen=datetime.fromtimestamp(worker.seen, UTC).isoformat(timespec="seconds") if worker.seen else None,
        revoked=worker.revoked,
        job=job,
        meters=_meters(_mapping(about.get("load"))) if alive else (),
    )


def _state(worker: Worker, alive: bool, job: Job | None) -> str:
    if worker.revoked is not None:
        return "revoked"
    if worker.seen is None:
        return "never seen"
    if not alive:
        return "away"
    return "working" if job is not None else "ready"


def _meters(load: Mapping[str, Any]) -> tuple[Meter, ...]:
    found = [("CPU", load.get("cpu")), ("Memory", load.get("memory"))]
    gpus = load.get("gpus") or []
    for index, gpu in enumerate(gpus):
        name = "GPU" if len(gpus) == 1 else f"GPU {index}"
        found += [(name, gpu.get("utilization")), (f"{name} memory", gpu.get("memory"))]
    return tuple(Meter(label, float(value)) for label, value in found if value is not None)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
