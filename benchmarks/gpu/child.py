"""The process of one part: python -m benchmarks.gpu.child MODULE:FUNCTION FILE.

Each line of FILE is one JSON object, written as soon as it is known: {"tasks": [ids]}, {"begun": id}, {"check": {…}}.
What was found before a crash is therefore kept. A CUDA error that spoils the process ends it with RESTART: the parent
starts it anew for the tasks that are left.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analyzer.record import to_plain
from benchmarks.gpu.findings import FAILED, PASSED, REFUSED, SKIPPED, Check, Failed, Figure, Refused, Skip, one_line
from benchmarks.gpu.part import Task, list_tasks

RESTART = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every task has an end, RESTART where the rest needs a new process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.child", description=__doc__)
    parser.add_argument("tasks", metavar="MODULE:FUNCTION", help="what lists the part's tasks")
    parser.add_argument("file", type=Path)
    parser.add_argument("--argument", default="", help="what it is called with")
    parser.add_argument("--done", nargs="*", default=[], metavar="ID", help="tasks that have an end already")
    options = parser.parse_args(arguments)
    return run_tasks(list_tasks(options.tasks, options.argument), options.file, options.done)


def run_tasks(tasks: Sequence[Task], file: Path, done: Sequence[str]) -> int:
    """Run the tasks but for those done, a line each."""
    _write(file, {"tasks": [task.id for task in tasks]})
    for task in tasks:
        if task.id in done:
            continue
        _write(file, {"begun": task.id})
        check = run_task(task)
        _write(file, {"check": to_plain(check)})
        if check.state == FAILED and cuda_is_spoilt():
            return RESTART
    return 0


def run_task(task: Task) -> Check:
    """Return the task's end; whatever it raises becomes words."""
    begin = time.perf_counter()

    def ended(state: str, text: str, figures: tuple[Figure, ...] = (), facts: Mapping[str, Any] | None = None) -> Check:
        return Check(task.id, state, text, time.perf_counter() - begin, figures, facts or {})

    try:
        found = task.run()
    except Skip as reason:
        return ended(SKIPPED, str(reason))
    except Refused as reason:
        return ended(REFUSED, str(reason))
    except Failed as failure:
        return ended(FAILED, str(failure), facts=failure.facts)
    except Exception as error:
        traceback.print_exc()
        return ended(FAILED, one_line(error))
    return ended(PASSED, found.text, found.figures, found.facts)


def cuda_is_spoilt() -> bool:
    """Return whether this process's CUDA context answers nothing but errors from now on."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _write(file: Path, line: dict[str, Any]) -> None:
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
