"""Every part, in plain sight, in the order in which they start.

A kernel family has its part as soon as tests/cuda has its cases, FAMILY_cases.py, and a file of GPU tests,
test_*gpu*.py, has one too. To add a benchmark: a module with `tasks(argument)` that returns a Task a case, and a line
in PARTS.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.gpu.part import Part

BUDGET_SECONDS = 530.0
UNTIMED_SECONDS = 120.0
CUDA_TESTS = Path(__file__).parents[2] / "tests" / "cuda"
KERNEL_FAMILIES = tuple(sorted(file.stem.removesuffix("_cases") for file in CUDA_TESTS.glob("*_cases.py")))
TEST_FILES = tuple(sorted(file.stem for file in CUDA_TESTS.glob("test_*gpu*.py")))


def _family(name: str) -> Part:
    spaced = name.replace("_", " ")
    part = f"kernels-{name.replace('_', '-')}"
    return Part(
        part, f"{spaced} kernels against float64", "benchmarks.gpu.kernel_cases:tasks", UNTIMED_SECONDS, False, name
    )


def _test_file(stem: str) -> Part:
    part = f"tests-{stem.removeprefix('test_').replace('_', '-')}"
    return Part(part, f"{stem}.py (pytest)", "benchmarks.gpu.device_tests:tasks", UNTIMED_SECONDS, False, stem)


PARTS: tuple[Part, ...] = (
    Part("environment", "this machine", "benchmarks.gpu.environment:tasks", UNTIMED_SECONDS, timed=False),
    *(_family(name) for name in KERNEL_FAMILIES),
    *(_test_file(stem) for stem in TEST_FILES),
    Part("pointwise", "bandwidth of pointwise kernels", "benchmarks.gpu.pointwise:tasks", 40, timed=True),
    Part("row-reduction", "layernorm and softmax", "benchmarks.gpu.row_reduction:tasks", 40, timed=True),
    Part("recurrent", "recurrent layers of 100 steps", "benchmarks.gpu.recurrent:tasks", 35, timed=True),
    Part("fusion", "whole models fused", "benchmarks.gpu.fusion:tasks", 70, timed=True),
    Part("quantized-gemv", "quantized matrix times vector", "benchmarks.gpu.quantized_gemv:tasks", 30, timed=True),
    Part("quantized-gemm", "quantized matrix times small batch", "benchmarks.gpu.quantized_gemm:tasks", 30, timed=True),
    Part("movers", "gather, scatter and pack", "benchmarks.gpu.movers:tasks", 30, timed=True),
    Part("launch", "cost of a launch", "benchmarks.gpu.launch:tasks", 20, timed=True),
    Part("capture", "capture of the examples", "benchmarks.gpu.captures:tasks", 60, timed=True),
    Part("pipeline", "the pipeline with every optimizer", "benchmarks.gpu.pipeline:tasks", 55, timed=True),
)


def part_named(name: str) -> Part:
    """Return the part called `name`. Raises KeyError, naming those that exist."""
    for part in PARTS:
        if part.name == name:
            return part
    raise KeyError(f"no part {name!r}; there are: {', '.join(part.name for part in PARTS)}")
