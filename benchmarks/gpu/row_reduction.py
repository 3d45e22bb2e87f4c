"""Part: layernorm and softmax, against eager, Inductor and a copy of as many bytes; float32."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.gpu import stopwatch
from benchmarks.gpu.contest import OURS, Contest, require_device, run_contest
from benchmarks.gpu.findings import Bar, Found
from benchmarks.gpu.part import Task
from benchmarks.gpu.rivals import copying, inductor, keeping, launching
from kernels.compiler.ir import Region
from kernels.row_reduction import Launcher
from tests.cuda import row_reduction_cases

COPY, EAGER, INDUCTOR = "copy", "eager", "inductor"
BAR = Bar("ratio", at_least=0.95)


@dataclass(frozen=True)
class Norm:
    """A row reduction as our region, of row length and rows, and as torch's function of x and one-row tensors.

    further: how many one-row tensors follow x; row_results: how many one-element-a-row results follow the result.
    """

    name: str
    region: Callable[[int, int], Region]
    function: Callable[..., torch.Tensor]
    further: int
    row_results: int
    shapes: tuple[tuple[int, int], ...]


def _layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias)


def _softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, dim=-1)


NORMS = (
    Norm("layernorm", row_reduction_cases.layer_norm, _layer_norm, 2, 2, ((32768, 768), (8192, 4096), (2048, 12288))),
    Norm("softmax", row_reduction_cases.softmax, _softmax, 0, 0, ((16384, 1000), (8192, 4096), (512, 50256))),
)


def tasks(argument: str) -> list[Task]:
    """Return a task for each reduction and shape."""
    return [
        Task(f"{norm.name}-{rows}x{length}", functools.partial(run, norm, rows, length))
        for norm in NORMS
        for rows, length in norm.shapes
    ]


def run(norm: Norm, rows: int, length: int) -> Found:
    """Return the figures of one reduction, buffers rotated past the cache."""
    require_device()
    sets = stopwatch.sets_beyond_cache(8 * rows * length)
    return run_contest(contest(norm, rows, length, sets, "cuda"))


def contest(norm: Norm, rows: int, length: int, sets: int, device: str) -> Contest:
    """Return the contest of one reduction over `rows` rows."""
    inputs = [torch.randn(rows, length, device=device) for _ in range(sets)]
    outputs = [torch.empty_like(x) for x in inputs]
    further = tuple(torch.randn(length, device=device) for _ in range(norm.further))
    row_results = tuple(torch.empty(rows, device=device) for _ in range(norm.row_results))
    launcher = Launcher(norm.region(length, rows))
    mine = [(x, *further, out, *row_results) for x, out in zip(inputs, outputs, strict=True)]
    given = [(x, *further) for x in inputs]
    return Contest(
        case=f"{norm.name}-{rows}x{length}",
        rivals={
            OURS: lambda: launching(launcher.launch, mine, result=1 + norm.further),
            COPY: lambda: copying(inputs, outputs),
            EAGER: lambda: keeping(norm.function, given),
            INDUCTOR: lambda: inductor(norm.function, given),
        },
        wanted=lambda: norm.function(inputs[0].double(), *(tensor.double() for tensor in further)),
        tolerance=1e-5,
        bytes_moved=8 * rows * length,
        tolerances={COPY: None},
        bars={INDUCTOR: (BAR,)},
    )
