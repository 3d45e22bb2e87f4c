"""Part: the headless pipeline on the device, once for every optimizer: capture, optimize, export, by command line."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.findings import Found, Refused
from benchmarks.gpu.part import Task
from optimizers.registry import OPTIMIZERS

ROOT = Path(__file__).parents[2]
WORKLOAD = "examples/lstm.py:workload"
Answer = tuple[int, str, str]
Call = Callable[[Sequence[str]], Answer]


def tasks(argument: str) -> list[Task]:
    """Return a task for each optimizer that there is."""
    return [
        Task(optimizer.name, functools.partial(run_optimizer, optimizer.name, call, captured))
        for optimizer in OPTIMIZERS
    ]


def call(arguments: Sequence[str]) -> Answer:
    """Return exit code, output and error output of `python -m …`."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@functools.cache
def captured(device: str = "cuda") -> Path:
    """Return the folder of the example's run on the device, captured once; the process's temporary folder holds it."""
    folder = Path(tempfile.mkdtemp(prefix="pipeline-")) / "run"
    _expect(call(["analyzer", "capture", WORKLOAD, "--device", device, "-o", str(folder)]), "capture", (0,))
    return folder


def run_optimizer(name: str, run_module: Call, capture: Callable[[], Path]) -> Found:
    """Return the verdict on one optimizer and, where it is kept, the exported artifact.

    Raises Refused with the optimizer's own words, RuntimeError where a command fails.
    """
    run = capture()
    output = run.parent / name
    answer = _expect(
        run_module(["optimizers", "optimize", str(run), "--with", name, "-o", str(output)]), "optimize", (0, 1)
    )
    if answer["verdict"] == "refused":
        raise Refused(answer["reason"])
    speedup = answer["speedup"]
    text = f"{answer['verdict']}: {speedup['median']} x ({speedup['low']} to {speedup['high']})"
    if answer["kept"]:
        artifact = run.parent / f"{name}-artifact"
        facts = _expect(run_module(["optimizers", "export", str(output), "-o", str(artifact)]), "export", (0,))
        return Found(f"{text}; exported", facts={**answer, "artifact": facts})
    return Found(f"{text}; {answer['reason']}", facts=answer)


def _expect(answer: Answer, command: str, codes: Sequence[int]) -> dict[str, Any]:
    """Return a command's JSON object, {} where it prints text. Raises RuntimeError on any other exit code."""
    code, output, error = answer
    if code not in codes:
        lines = [line for line in error.splitlines() if line.strip()] or ["no message"]
        raise RuntimeError(f"{command} ended with exit code {code}: {lines[-1]}")
    try:
        found: dict[str, Any] = json.loads(output)
    except json.JSONDecodeError:
        return {}
    return found
