"""Does one job on a worker: finds the workload among its own files, runs the pipeline in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import HotbenchError, RecordError, WorkloadError
from analyzer.progress import Progress, part
from analyzer.record import load_json, read_folder
from app.child import check_finished, run_child
from app.worker.client import Assignment
from app.workloads import check_allowed, find_workloads

Echo = Callable[[str], None]
Fetch = Callable[[str, Path], None]
"""Writes the value with that id, as the server holds it, into that new folder."""

RESULT = "result.json"
"""What app.worker.task writes beside the values."""
ERROR = "error: "
ORDER = ("run", "candidate", "experiment", "artifact", "reproducer")
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "profile": (),
    "optimize": ("run",),
    "compare": ("before", "after"),
    "export": ("candidate", "experiment"),
}


@dataclass(frozen=True, slots=True)
class Done:
    """What a job gave: its result as plain JSON, and the folders of the values that were made, in order."""

    result: Mapping[str, Any]
    values: tuple[tuple[str, str, Path], ...] = ()
    """(kind, id, folder), parents first."""


@dataclass(frozen=True)
class Duty:
    """One job with all that doing it takes. `folder` is empty, and the caller's to remove."""

    job: Assignment
    folders: tuple[Path, ...]
    folder: Path
    fetch: Fetch
    progress: Progress
    echo: Echo

    def do(self) -> Done:
        """Do the job. Raises HotbenchError in one line where it cannot be done or fails."""
        if self.job.kind not in _ARGUMENTS:
            raise HotbenchError(f"this worker does no {self.job.kind!r} jobs; upgrade its Hotbench to the server's")
        return self._profile() if self.job.kind == "profile" else self._task()

    def _profile(self) -> Done:
        arguments, target = self.job.arguments, self.folder / "run"
        command = [sys.executable, "-m", "analyzer", "capture", self._workload(), "-o", str(target)]
        command += ["--device", str(arguments.get("device") or "auto"), "--progress", "json", "--json"]
        for name in ("steps", "threads"):
            command += [f"--{name}", str(int(arguments[name]))] if arguments.get(name) is not None else []
        self._run("capture", command, 0.0)
        id = read_folder(target, "run").id
        return Done({"run": id}, (("run", id, target),))

    def _task(self) -> Done:
        output = self.folder / "output"
        output.mkdir()
        inputs = {name: self._input(name) for name in _ARGUMENTS[self.job.kind]}
        given = self.job.arguments
        request = {
            "kind": self.job.kind,
            "output": str(output),
            "inputs": {name: str(folder) for name, folder in inputs.items()},
            "workloads": {name: self._source_of(name, folder) for name, folder in inputs.items()},
            "optimizers": list(given.get("optimizers") or ()),
            "settings": dict(given.get("settings") or {}),
            "max_error": given.get("max_error"),
            "region": given.get("region"),
            "format": given.get("format") or "torch",
        }
        file = self.folder / "request.json"
        file.write_text(json.dumps(request), encoding="utf-8")
        self._run(self.job.kind, [sys.executable, "-m", "app.worker.task", str(file)], 0.05)
        values = [(kind, output / kind) for kind in ORDER if (output / kind).is_dir()]
        return Done(load_json(output / RESULT), tuple((kind, read_folder(at, kind).id, at) for kind, at in values))

    def _run(self, what: str, command: Sequence[str], start: float) -> None:
        def echo(line: str) -> None:
            # The capture's own summary is no news: its folder says it all.
            if not line.startswith('{"run": "'):
                self.echo(line)

        finished = run_child(command, part(self.progress, start, 0.95), echo, ERROR)
        check_finished(what, finished, ERROR)

    def _input(self, name: str) -> Path:
        """Return the folder of what the argument names, as the server holds it."""
        self.progress("fetch what the job is about", 0.0)
        folder = self.folder / "input" / name
        self.fetch(name, folder)
        return folder

    def _workload(self) -> str:
        """Return the absolute `file.py:function` of a profile job, from the files of this worker alone."""
        wanted = self.job.needs.get("workload")
        if isinstance(wanted, Mapping):
            return self._source(str(wanted.get("source_hash")), str(wanted.get("name")))
        name = str(self.job.arguments.get("workload"))
        absolute = check_allowed(name, self.folders)
        if absolute not in self._offered().values():
            raise WorkloadError(f"{name!r} is no workload that this worker offers; annotate it as `-> Workload`")
        return absolute

    def _source_of(self, name: str, folder: Path) -> str:
        """Return the workload here that a run or a candidate was made of; "" for what has none of its own."""
        if name == "experiment":
            return ""
        kind = "candidate" if name == "candidate" else "run"
        head = load_json(folder / f"{kind}.json")
        try:
            reference = head["reference" if kind == "candidate" else "workload"]
            return self._source(str(reference["source_hash"]), f":{reference['function']}")
        except (KeyError, TypeError) as error:
            raise RecordError(f"the {kind} that the server sent names no workload; profile it again") from error

    def _source(self, source_hash: str, name: str) -> str:
        found = self._offered().get((source_hash, name.rpartition(":")[2]))
        if found is None:
            raise WorkloadError(
                f"this worker has no {name.lstrip(':')} as it was when it was captured: the file changed or is gone; "
                "profile it again"
            )
        return found

    def _offered(self) -> dict[tuple[str, str], str]:
        """Return {(source hash, function): absolute name} of all that this worker offers, looked up now."""
        return {
            (item.source_hash, item.function): f"{folder.resolve() / item.name.rpartition(':')[0]}:{item.function}"
            for folder in self.folders
            for item in find_workloads(folder)
            if item.function
        }
