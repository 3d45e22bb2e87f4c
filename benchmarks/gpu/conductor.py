"""Runs parts as processes: each in a group of its own, with a limit; what it found until then is kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.gpu.findings import FAILED, PASSED, REFUSED, SKIPPED, Check, Figure, PartResult, Spread
from benchmarks.gpu.part import Part

ROOT = Path(__file__).parents[2]
RESTARTS = 5
LEAST_SECONDS = 5.0
POLL_SECONDS = 0.5
MOST_TOGETHER = 16
Clock = Callable[[], float]


class Conductor:
    """Runs parts, one or several at a time; `folder` takes their lines, output and temporary files."""

    def __init__(self, folder: Path, budget_seconds: float, clock: Clock = time.monotonic) -> None:
        self.folder, self.clock = folder, clock
        self.deadline = clock() + budget_seconds
        self._groups: set[int] = set()

    def run_all(self, parts: Sequence[Part], on_end: Callable[[PartResult], None]) -> None:
        """Run every part and hand each result to `on_end`, one at a time, as soon as it is there.

        Parts that time nothing run together first, the others one by one. Once the budget is spent the rest is
        skipped. Whatever interrupts this also ends the processes.
        """
        with ThreadPoolExecutor(_workers()) as pool:
            try:
                together = [pool.submit(self.run, part) for part in parts if not part.timed]
                for done in as_completed(together):
                    on_end(done.result())
                for part in parts:
                    if part.timed:
                        on_end(self.run(part))
            except BaseException:
                self.deadline = self.clock()
                self.stop()
                raise

    def stop(self) -> None:
        """End every running process with all that it started."""
        for group in tuple(self._groups):
            _end_group(group)

    def run(self, part: Part) -> PartResult:
        """Return the part's result, whatever becomes of its process."""
        begin = self.clock()
        if self.deadline - begin < LEAST_SECONDS:
            return PartResult(part.name, part.title, SKIPPED, "not run: the time for all parts was used up")
        end = min(begin + part.limit_seconds, self.deadline)
        checks: dict[str, Check] = {}
        tasks: list[str] = []
        trouble = ""
        for _ in range(1 + RESTARTS):
            status = self._run_once(part, tuple(checks), end)
            trouble = _trouble(status, end - begin, self._file(part, "log"))
            listed, begun, found = read_lines(self._file(part, "jsonl"))
            tasks = listed or tasks
            checks.update(found)
            if begun and begun not in checks:
                checks[begun] = Check(begun, FAILED, trouble)
            elif not found and status != 0:
                break
            if status is None or self._left(end) <= 0 or all(task in checks for task in tasks):
                break
        checks.update({task: Check(task, SKIPPED, f"not run: {trouble}") for task in tasks if task not in checks})
        return summarised(part, [checks[task] for task in tasks], self.clock() - begin, trouble)

    def _file(self, part: Part, suffix: str) -> Path:
        return self.folder / f"{part.name}.{suffix}"

    def _run_once(self, part: Part, done: Sequence[str], end: float) -> int | None:
        """Return the exit status of one process of the part, None where it was ended at the time `end`."""
        file = self._file(part, "jsonl")
        file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.gpu.child", part.tasks, str(file)]
        command += ["--argument", part.argument, "--done", *done]
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as temporary:
            with self._file(part, "log").open("ab") as log:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=os.environ | {"TMPDIR": temporary},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._groups.add(process.pid)
            try:
                return self._wait(process, end)
            finally:
                # The whole group: a compiler or a captured program that it started ends with it.
                _end_group(process.pid)
                process.wait()
                self._groups.discard(process.pid)

    def _left(self, end: float) -> float:
        # An interruption moves the deadline, for parts that have begun too.
        return min(end, self.deadline) - self.clock()

    def _wait(self, process: subprocess.Popen[bytes], end: float) -> int | None:
        while (left := self._left(end)) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(min(left, POLL_SECONDS))
        return None


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _workers() -> int:
    return max(1, min(MOST_TOGETHER, (os.cpu_count() or 1) - 1))


def read_lines(file: Path) -> tuple[list[str], str, dict[str, Check]]:
    """Return the part's task ids, the one begun last and the checks that have an end; a torn last line is left out."""
    tasks: list[str] = []
    begun, checks = "", {}
    for text in file.read_text().splitlines() if file.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        tasks = line.get("tasks", tasks)
        begun = line.get("begun", begun)
        if "check" in line:
            checks[line["check"]["id"]] = read_check(line["check"])
    return tasks, begun, checks


def read_check(data: Mapping[str, Any]) -> Check:
    """Return the check that was written as plain JSON."""
    figures = tuple(_figure(item) for item in data["figures"])
    return Check(data["id"], data["state"], data["text"], data["seconds"], figures, data["facts"])


def _figure(data: Mapping[str, Any]) -> Figure:
    spreads = {name: Spread(**data[name]) if data[name] else None for name in ("ours", "theirs", "ratio")}
    return Figure(**{**data, **spreads})


def _trouble(status: int | None, limit: float, log: Path) -> str:
    if status is None:
        return f"the process was ended after its limit of {limit:.0f} s"
    if status == 0:
        return "the process ended without a result"
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"the process ended with {how}: {lines[-1][:300] if lines else 'it printed nothing'}"


def summarised(part: Part, checks: Sequence[Check], seconds: float, trouble: str) -> PartResult:
    """Return the part's result: failed where a check did, else passed where one passed, else refused or skipped."""
    if not checks:
        return PartResult(part.name, part.title, FAILED, trouble, seconds)
    counts = {state: sum(check.state == state for check in checks) for state in (FAILED, PASSED, REFUSED, SKIPPED)}
    state = next(state for state, count in counts.items() if count)
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    first = next(check for check in checks if check.state == state)
    if state != PASSED:
        text = f"{text}; {first.id}: {first.text}"
    return PartResult(part.name, part.title, state, text, seconds, tuple(checks))
