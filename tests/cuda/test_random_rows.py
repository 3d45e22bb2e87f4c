"""Random row reductions and those at the edge, spread over threads in every way, in the simulator and by the twin."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import row_reduction
from kernels.compiler.ir import Region
from kernels.compiler.passes import simplify
from kernels.compiler.print_cuda_plan import WARP, RowPlan, row_plans
from kernels.compiler.verify import verify
from tests.cuda.case import Case, check
from tests.cuda.edge_rows import EDGES
from tests.cuda.random_rows import random_plan, random_rows
from tests.cuda.row_reduction_cases import problem
from tests.cuda.toolchain_process import ToolchainProcess, simulated

TOLERANCE = 5e-5


@pytest.mark.cuda_toolchain
@settings(max_examples=25, deadline=None)
@given(choose=st.randoms(use_true_random=False), seed=st.integers(0, 2**32 - 1))
def test_any_region_and_any_team_match_the_reference(
    choose: random.Random, seed: int, simulating: ToolchainProcess
) -> None:
    region = random_rows(choose)
    verify(region)
    plan = choose.choice([random_plan(choose, simplify(region)), *row_plans(simplify(region)).values()])
    warps = choose.choice((1, 2)) * WARP
    block = plan.block if plan.across or plan.team > WARP else warps
    told = problem(region, {"any": plan}, block)
    case = Case(f"random {plan}", lambda size: told, (1,), 1, {}, TOLERANCE, specials=False)
    check(case, told, told.sources["any"], simulated(simulating, choose.choice((1, 2, 3)), block), seed)


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize("build", EDGES)
def test_a_region_at_the_edge_is_right_however_it_is_spread(
    build: Callable[[], Region], simulating: ToolchainProcess
) -> None:
    region = build()
    made = [RowPlan(64, 1, True), RowPlan(64, 1, False), RowPlan(8, 1, False, 8)]
    for seed, plan in enumerate([*row_plans(simplify(region)).values(), *made]):
        told = problem(region, {"any": plan}, plan.block)
        case = Case(f"{build.__name__} {plan}", lambda size, told=told: told, (1,), 1, {}, TOLERANCE)
        check(case, told, told.sources["any"], simulated(simulating, 2, plan.block), seed)


@pytest.mark.parametrize("seed", range(3))
def test_the_twin_of_any_team_matches_the_reference(seed: int) -> None:
    choose = random.Random(seed)
    region = random_rows(choose)
    told = problem(region, {"any": random_plan(choose, simplify(region))}, 32)
    case = Case(f"random {seed}", lambda size: told, (1,), 1, {}, TOLERANCE, specials=False)
    check(case, told, told.sources["any"], row_reduction.twin, seed)
