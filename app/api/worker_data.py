"""What workers send, read with care: known fields of the right type, cut to a size that fits a row and a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import current_app

from analyzer.errors import HotbenchError
from app.jobs.job import Job, Note
from app.worker.transfer import MAX_PACKED_BYTES, MAX_UNPACKED_BYTES

SIZES = "HOTBENCH_WORKER_SIZES"
"""In Flask's config: a Sizes, where other limits than ours should hold."""

_STATES = ("done", "failed", "cancelled")
_MOST_WORKLOADS = 500
_MOST_NOTES = 2000
_LOAD_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Most bytes of one uploaded value: as it travels, and once it is unpacked."""

    packed: int = MAX_PACKED_BYTES
    unpacked: int = MAX_UNPACKED_BYTES


def sizes() -> Sizes:
    """Return the limits of this server."""
    found: Sizes = current_app.config.get(SIZES) or Sizes()
    return found


def assignment(job: Job) -> dict[str, Any]:
    """Return what the worker is told of its job."""
    names = ("id", "claim", "kind", "title", "arguments", "needs")
    return {name: getattr(job, name) for name in names}


def about_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a worker says of itself, as far as we know what it means."""
    given = _mapping(data.get("about"))
    device = _mapping(given.get("device"))
    return {
        "host": _text(given.get("host"), 80),
        "device": {"kind": _text(device.get("kind"), 16), "name": _text(device.get("name"), 120)},
        "devices": [_text(kind, 16) for kind in _list(given.get("devices"))[:8]],
        "versions": {
            _text(name, 40): _text(value, 40) for name, value in list(_mapping(given.get("versions")).items())[:20]
        },
        "workloads": workloads_of(given),
    }


def workloads_of(data: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the workloads that a worker offers."""
    fields = {"name": 400, "source_hash": 64, "about": 200, "problem": 300}
    return [
        {name: _text(item.get(name), most) for name, most in fields.items()}
        for item in map(_mapping, _list(data.get("workloads"))[:_MOST_WORKLOADS])
    ]


def with_load(about: Mapping[str, Any], given: Any, now: float) -> dict[str, Any] | None:
    """Return `about` with the worker's load of now; None while the last one is fresh enough: a row costs a write."""
    if now - float(_mapping(about.get("load")).get("at", 0.0)) < _LOAD_SECONDS:
        return None
    data = _mapping(given)
    gpus = [
        {
            "name": _text(gpu.get("name"), 80),
            "utilization": _fraction(gpu.get("utilization")),
            "memory": _fraction(gpu.get("memory")),
        }
        for gpu in map(_mapping, _list(data.get("gpus"))[:16])
    ]
    load = {"cpu": _fraction(data.get("cpu")), "memory": _fraction(data.get("memory")), "gpus": gpus, "at": now}
    return {**about, "load": load}


def notes_of(data: Mapping[str, Any]) -> list[Note]:
    """Return the progress and log lines of a report."""
    notes = []
    for item in map(_mapping, _list(data.get("notes"))[:_MOST_NOTES]):
        text = _text(item.get("text"), 2000)
        if item.get("kind") == "progress":
            notes.append(Note("progress", text, _fraction(item.get("fraction")) or 0.0))
        elif item.get("kind") == "log":
            notes.append(Note("log", text))
    return notes


def read_ending(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"state", "result", "error", "values", "notes"}. Raises HotbenchError for what is no end of a job."""
    if data.get("state") not in _STATES:
        raise HotbenchError(f"{data.get('state')!r} is no end of a job; it is one of {', '.join(_STATES)}")
    values = [
        (_text(item.get("kind"), 16), _text(item.get("id"), 80)) for item in map(_mapping, _list(data.get("values")))
    ]
    return {
        "state": data["state"],
        "result": dict(_mapping(data.get("result"))),
        "error": _text(data.get("error"), 2000),
        "values": values,
        "notes": data.get("notes"),
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""


def _fraction(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return min(max(float(value), 0.0), 1.0)
