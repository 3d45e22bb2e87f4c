"""What pages show of a job: how long, how it ended, where its result is, and the command that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from app.jobs.job import LOCAL, Job
from app.units import mebibytes, plural, ratio

KIND_WORDS = {"profile": "Capture", "optimize": "Optimize", "compare": "Compare", "export": "Export",
              "largest-batch": "Largest batch"}  # fmt: skip
HERE = "this machine"


@dataclass(frozen=True, slots=True)
class ResultLink:
    """Where the result of a job is looked at."""

    text: str
    href: str


def duration_words(seconds: float) -> str:
    """Return "12 s", "3 min 05 s" or "1 h 02 min"; assets/events.js says the same while a job runs."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def elapsed_seconds(job: Job, now: datetime | None = None) -> float | None:
    """Return how long the job has run or ran; None for one that never began."""
    if job.started is None:
        return None
    end = datetime.fromisoformat(job.ended) if job.ended else now or datetime.now(UTC)
    return (end - datetime.fromisoformat(job.started)).total_seconds()


def stage_words(job: Job) -> str:
    """Return what the job is doing, in words: its stage, or why there is none."""
    if job.state == "queued":
        place = place_needed(job)
        waits = {LOCAL: "its turn", "": "a worker that has the workload"}.get(place, "its worker")
        return f"waits for {waits}"
    if job.state == "running":
        return "being cancelled" if job.cancel else job.stage or "starting"
    return outcome(job)


def outcome(job: Job) -> str:
    """Return in a few words what came out; "" where the state or the error says it all."""
    if job.state != "done":
        return ""
    result = job.result or {}
    if job.kind == "largest-batch":
        return largest_words(result)
    verdict = str(result.get("verdict", ""))
    if verdict == "refused" and result.get("reason"):
        return f"refused: {result['reason']}"
    if not verdict:
        return ""
    gain = result.get("speedup", {}).get("median")
    words = f"{verdict}, {ratio(gain)}" if isinstance(gain, int | float) else verdict
    return f"{words}, kept" if result.get("kept") else words


def result_link(job: Job) -> ResultLink | None:
    """Return where to look at what the job made; None before it is done."""
    if job.state != "done" or job.result is None:
        return None
    result, arguments = job.result, job.arguments
    if job.kind == "profile":
        return ResultLink("Open the run", _address("/", run=result.get("run")))
    if job.kind == "export" and result.get("reproducer"):
        return ResultLink("Open the experiment", _address("/experiments", experiment=arguments.get("experiment")))
    if job.kind == "export":
        return ResultLink("Open the artifact", _address("/artifacts", artifact=result.get("artifact")))
    if result.get("experiment"):
        return ResultLink("Open the experiment", _address("/experiments", experiment=result["experiment"]))
    if job.kind in ("optimize", "largest-batch"):
        return ResultLink("Back to Optimize", _address("/optimize", run=arguments.get("run")))
    if job.kind == "compare":
        pair = {name: arguments.get(name) for name in ("before", "after")}
        return ResultLink("Open the comparison", _address("/compare", **pair))
    return None


def command_of(job: Job) -> str:
    """Return the command line that does the same as the job; "" for a kind that has none."""
    given = job.arguments
    if job.kind == "profile":
        options = [f"--{name} {given[name]}" for name in ("device", "steps", "threads") if given.get(name)]
        return _command("profile", _quote(given.get("workload")), *options)
    if job.kind == "optimize":
        names = ",".join(given.get("optimizers") or ())
        settings = [f"--set {_quote(f'{key}={value}')}" for key, value in (given.get("settings") or {}).items()]
        limit = [f"--max-error {given['max_error']!r}"] if given.get("max_error") is not None else []
        return _command("optimize", _quote(given.get("run")), f"--with {_quote(names)}", *settings, *limit)
    if job.kind == "largest-batch":
        return largest_command(given)
    if job.kind == "compare":
        return _command("compare", _quote(given.get("before")), _quote(given.get("after")))
    if job.kind == "export":
        region = given.get("region")
        format = given.get("format") or "torch"
        named = ["-o artifact"] if format == "torch" else [f"--format {_quote(format)}", "-o artifact"]
        where = [f"--region {_quote(region)}", f"-o {_quote(region)}"] if region else named
        return _command("export", _quote(given.get("experiment")), *where)
    return ""


def largest_words(result: Mapping[str, Any]) -> str:
    """Return what the search for the largest batch found, in words; "" where it says nothing."""
    batch, alone = result.get("batch"), result.get("unswapped", {}).get("mid")
    if not isinstance(batch, int) or not isinstance(alone, int | float):
        return ""
    return f"{plural(batch, 'item')} fit into {mebibytes(result.get('budget_bytes'))}; {alone:,.0f} with nothing moved"


def largest_command(given: Mapping[str, Any]) -> str:
    """Return the command line that searches for the largest batch with these arguments."""
    options = [f"--budget {_quote(given.get('budget'))}"]
    options += [f"--axis {given['axis']}"] if given.get("axis") else []
    options += [f"--{name} {_quote(given[name])}" for name in ("allow", "folder") if given.get(name)]
    return _command("largest-batch", _quote(given.get("run")), *options)


def place_needed(job: Job) -> str:
    """Return the place that a job waits for: "local", a worker's id, or "" for any that has its workload."""
    if "workload" in job.needs:
        return str(job.needs.get("place", ""))
    return str(job.needs.get("place", LOCAL))


def place_words(job: Job, names: Mapping[str, str]) -> str:
    """Return where the job is or was done, or will be; `names` are the workers' by id."""
    place = job.place or place_needed(job)
    if place == LOCAL:
        return HERE
    return names.get(place, place) if place else "any worker with the workload"


def told(job: Job) -> dict[str, Any]:
    """Return what a browser learns of a job as it happens, as plain JSON."""
    link = result_link(job)
    seconds = elapsed_seconds(job)
    return {
        "kind": job.kind,
        "title": job.title,
        "about": job.about,
        "user": job.user,
        "place": job.place,
        "state": job.state,
        "stage": job.stage,
        "words": stage_words(job),
        "fraction": job.fraction,
        "cancel": job.cancel,
        "error": job.error if not job.live else "",
        "result": job.result,
        "link": {"text": link.text, "href": link.href} if link else None,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "seconds": seconds,
    }


def _address(path: str, **query: object) -> str:
    given = {name: str(value) for name, value in query.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def _command(*words: str) -> str:
    return " ".join(("hotbench", *words))


def _quote(value: object) -> str:
    return shlex.quote(str(value or ""))
