"""Part: bandwidth of fused pointwise kernels, against a copy of as many bytes, eager and Inductor; float32."""

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
from kernels.pointwise import Launcher
from tests.cuda import pointwise_cases

MIB = 2**20
BAR_FROM = 64
COPY, EAGER, INDUCTOR = "copy", "eager", "inductor"


@dataclass(frozen=True)
class Formula:
    """A pointwise formula as our region and as torch's function, of x and further one-element tensors.

    sizes: of x, in MiB; those with a bar first.
    """

    name: str
    region: Callable[[int], Region]
    function: Callable[..., torch.Tensor]
    constants: tuple[float, ...]
    sizes: tuple[int, ...]


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x)


def _scale_bias_silu(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.silu(x * 1.702 + bias)


FORMULAS = (
    Formula("gelu", pointwise_cases.gelu, _gelu, (), (64,)),
    Formula("scale-bias-silu", pointwise_cases.scale_bias_silu, _scale_bias_silu, (0.25,), (64, 256, 1, 8)),
)


def tasks(argument: str) -> list[Task]:
    """Return a task for each formula and size."""
    return [
        Task(f"{formula.name}-{size}-mib", functools.partial(run, formula, size))
        for formula in FORMULAS
        for size in formula.sizes
    ]


def run(formula: Formula, size: int) -> Found:
    """Return the figures of one formula on tensors of `size` MiB, buffers rotated past the cache."""
    require_device()
    sets = stopwatch.sets_beyond_cache(2 * size * MIB)
    return run_contest(contest(formula, size * MIB // 4, sets, "cuda"))


def contest(formula: Formula, elements: int, sets: int, device: str) -> Contest:
    """Return the contest of one formula over `elements` float32 elements."""
    inputs = [torch.randn(elements, device=device) for _ in range(sets)]
    outputs = [torch.empty_like(x) for x in inputs]
    constants = tuple(torch.full((1,), value, device=device) for value in formula.constants)
    launcher = Launcher(formula.region(elements))
    mine = [(x, *constants, out) for x, out in zip(inputs, outputs, strict=True)]
    given = [(x, *constants) for x in inputs]
    mib = elements * 4 // MIB
    return Contest(
        case=f"{formula.name}-{mib}-mib",
        rivals={
            OURS: lambda: launching(launcher.launch, mine),
            COPY: lambda: copying(inputs, outputs),
            EAGER: lambda: keeping(formula.function, given),
            INDUCTOR: lambda: inductor(formula.function, given),
        },
        wanted=lambda: formula.function(inputs[0].double(), *(c.double() for c in constants)),
        tolerance=1e-6,
        bytes_moved=2 * 4 * elements,
        tolerances={COPY: None},
        bars={COPY: (Bar("ratio", at_least=0.85),)} if mib >= BAR_FROM else {},
    )
