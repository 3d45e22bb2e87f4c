"""What a new run can be of: the workloads of this server's folders and of its workers; and the job that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError
from app.jobs.job import LOCAL
from app.store.workers import Worker
from app.workloads import check_allowed, find_workloads

DEVICES = ("auto", "cpu", "cuda")
MOST_STEPS = 100_000
MOST_THREADS = 4096


@dataclass(frozen=True, slots=True)
class Choice:
    """One workload at one place. workload: as the place's own process takes it; about: its docstring's first line."""

    value: str
    label: str
    about: str
    place: str
    place_name: str
    workload: str
    source_hash: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What `Jobs.submit` takes for a profile job."""

    arguments: dict[str, Any]
    title: str
    needs: dict[str, Any]


def local_choices(folders: Sequence[Path]) -> tuple[tuple[Choice, ...], tuple[str, ...]]:
    """Return the workloads of the server's folders, and in words the files there that cannot be read."""
    found: list[Choice] = []
    problems: list[str] = []
    for folder in folders:
        prefix = f"{folder.name}/" if len(folders) > 1 else ""
        for item in find_workloads(folder):
            if item.problem:
                problems.append(f"{prefix}{item.name}: {item.problem}")
                continue
            workload = str(folder.resolve() / item.name)
            found.append(
                Choice(
                    f"{LOCAL}|{workload}", prefix + item.name, item.about, LOCAL, "this machine", workload,
                    item.source_hash,
                )
            )  # fmt: skip
    return tuple(found), tuple(problems)


def worker_choices(workers: Iterable[Worker], now: float | None = None) -> tuple[Choice, ...]:
    """Return what workers offer that were heard of lately."""
    return tuple(
        Choice(
            value=f"{worker.id}|{item['name']}",
            label=str(item["name"]),
            about=str(item.get("about", "")),
            place=worker.id,
            place_name=worker.name,
            workload=str(item["name"]),
            source_hash=str(item.get("source_hash", "")),
        )
        for worker in workers
        if worker.alive(now)
        for item in worker.about.get("workloads", ())
        if not item.get("problem")
    )


def grouped(choices: Iterable[Choice]) -> list[dict[str, Any]]:
    """Return the choices for a Select, under the name of their place."""
    groups: dict[str, list[dict[str, str]]] = {}
    for choice in choices:
        groups.setdefault(choice.place_name, []).append({"value": choice.value, "label": choice.label})
    return [{"group": name, "items": items} for name, items in groups.items()]


def find_choice(choices: Iterable[Choice], value: str | None) -> Choice:
    """Return the choice with that value. Raises HotbenchError for none, or one that is not offered (any more)."""
    if not value:
        raise HotbenchError("no workload is chosen; choose one from the list")
    for choice in choices:
        if choice.value == value:
            return choice
    raise HotbenchError(f"{value.partition('|')[2]!r} is not offered any more; choose another workload")


def job_request(
    choice: Choice, device: str | None, steps: object, threads: object, folders: Sequence[Path]
) -> JobRequest:
    """Return the profile job. Raises HotbenchError for a device, a count or a file that does not do."""
    if device not in DEVICES:
        raise HotbenchError(f"{device!r} is no device; choose {', '.join(DEVICES)}")
    options = {
        "device": device,
        "steps": _count(steps, "steps", MOST_STEPS),
        "threads": _count(threads, "threads", MOST_THREADS),
    }
    title = f"Capture {choice.label}"
    if choice.place == LOCAL:
        return JobRequest({"workload": check_allowed(choice.workload, folders), **options}, title, {"place": LOCAL})
    needs: Mapping[str, Any] = {
        "place": choice.place,
        "workload": {"name": choice.workload, "source_hash": choice.source_hash},
    }
    return JobRequest({"workload": choice.workload, **options}, f"{title} on {choice.place_name}", dict(needs))


def _count(value: object, name: str, most: int) -> int | None:
    """Return a whole number from 1 on, None where the field is empty."""
    if value is None or value == "":
        return None
    number = float(str(value)) if str(value).replace(".", "", 1).isdigit() else 0.0
    if number < 1 or number > most or number != int(number):
        raise HotbenchError(f"{name}: {value!r} is no count from 1 to {most:,}; leave the field empty for the default")
    return int(number)
