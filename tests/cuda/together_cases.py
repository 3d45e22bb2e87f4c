"""The cases of independent kernels that run as one, each on blocks of its own: the parts are other families' cases.

What the one kernel leaves in memory must be what the parts leave by themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kernels.compiler.ir import Region
from kernels.compiler.print_cuda_plan import RowPlan
from kernels.compiler.print_cuda_together import print_together
from kernels.cuda.kernel import KernelSource
from tests.cuda import pointwise_cases, row_reduction_cases
from tests.cuda.case import Bounds, Case, Problem
from tests.cuda.row_reduction_cases import SMALL, small_plans

FORM = "together"
ONE_WARP, TEAM = RowPlan(32, 1, True), RowPlan(64, 1, True)


def problem(parts: Sequence[Problem], sources: Sequence[KernelSource]) -> Problem:
    """Return some problems as one: their buffers one after the other, one block more for each part than for the last.

    sources: of each part, in the form that runs.
    """
    firsts = list(itertools.accumulate((len(part.buffers) for part in parts), initial=0))
    buffers = [
        buffer if buffer.same_as is None else replace(buffer, same_as=buffer.same_as + first)
        for part, first in zip(parts, firsts, strict=False)
        for buffer in part.buffers
    ]

    def expected(arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for part, (first, last) in zip(parts, itertools.pairwise(firsts), strict=True):
            found += part.expected(arrays[first:last])
        return found

    ends = tuple(itertools.accumulate(range(1, len(parts))))
    source = print_together(sources)
    assert source.threads is not None
    grid = ((ends[-1] if ends else 0) + 2, source.threads)
    return Problem(tuple(buffers), {FORM: source}, expected, grids=(grid,), device_grid=grid, scalars=ends)


def points_and_rows(size: int) -> Problem:
    """A chain of twenty ops, a GELU of another size, and a softmax whose rows have a warp each."""
    rows = _rows(row_reduction_cases.softmax(size, 3), ONE_WARP)
    parts = [
        pointwise_cases.problem(pointwise_cases.long_chain(size)),
        pointwise_cases.problem(pointwise_cases.gelu(size + 1)),
        rows,
    ]
    return problem(parts, [_form(part) for part in parts])


def two_teams(size: int) -> Problem:
    """A softmax and a norm whose rows have a block each, with barriers and shared memory of their own, and a chain."""
    parts = [
        _rows(row_reduction_cases.softmax(size, 3), TEAM),
        _rows(row_reduction_cases.layer_norm(size, 2), TEAM),
        pointwise_cases.problem(pointwise_cases.scale_bias_silu(size)),
    ]
    return problem(parts, [_form(part) for part in parts])


def _rows(region: Region, plan: RowPlan) -> Problem:
    length = region.domain[-1]
    plans = {"scalar": plan} if length <= SMALL else row_reduction_cases.row_plans(region)
    return row_reduction_cases.problem(region, plans if length > SMALL else small_plans(region, plans), 64)


def _form(part: Problem) -> KernelSource:
    return part.sources.get("wide") or part.sources["scalar"]


CASES: tuple[Case, ...] = (
    Case("together-points-and-rows", points_and_rows, (5, 64, 37), 1001, {FORM: Bounds(96, proportional=False)}),
    Case("together-two-teams", two_teams, (132, 40), 1024, {FORM: Bounds(96, proportional=False)}),
)
