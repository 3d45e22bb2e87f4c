"""Tiny models whose graph and memory are known by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from analyzer.capture import capture
from analyzer.graph import Graph, Op
from analyzer.run import Run
from analyzer.workload import Workload, WorkloadReference, prepare


class Function(torch.nn.Module):
    """A model without parameters: `function` of its inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def capture_workload(workload: Workload, steps: int = 1) -> Run:
    prepare(workload)
    reference = WorkloadReference(str(Path(__file__).resolve()), "small", "0" * 64, "1" * 64)
    return capture(workload, reference, steps=steps, threads=1)


def capture_function(function: Callable[..., Any], *inputs: torch.Tensor) -> Run:
    return capture_workload(Workload(model=Function(function), inputs=tuple(inputs)))


def executed(graph: Graph, name: str) -> list[Op]:
    """Return the executing ops of that name, "mul" for "aten::mul"."""
    return [op for op in graph.ops if op.name == f"aten::{name}" and op.executes]


def sources(graph: Graph, op: Op) -> set[str]:
    """Return the names of the ops that `op` takes data from."""
    return {graph.ops[edge.source].name.removeprefix("aten::") for edge in graph.edges if edge.target == op.index}


def line_of(function: Callable[..., Any], text: str) -> str:
    """Return "file.py:42" of the line of `function` that holds `text`."""
    lines, first = inspect.getsourcelines(function)
    offset = next(number for number, line in enumerate(lines) if text in line)
    return f"{Path(inspect.getsourcefile(function) or '').name}:{first + offset}"
