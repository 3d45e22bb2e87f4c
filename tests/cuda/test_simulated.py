"""Tier b: each kernel in the simulator: indices, bounds, alignment, barriers. It says nothing about speed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cuda.case import Bounds, Case, check
from tests.cuda.cases import CASES, form_id
from tests.cuda.expression import Expression
from tests.cuda.pointwise_cases import problem as pointwise_problem
from tests.cuda.toolchain_process import ToolchainProcess, simulated

pytestmark = pytest.mark.cuda_toolchain


@pytest.mark.parametrize("case", CASES, ids=form_id)
def test_the_simulated_kernel_matches_the_float64_reference(case: Case, simulating: ToolchainProcess) -> None:
    checked = set()
    for seed, size in enumerate(case.sizes):
        problem = case.problem(size)
        for form, source in problem.sources.items():
            blocks, threads = problem.grids[seed % len(problem.grids)]
            check(case, problem, source, simulated(simulating, blocks, threads), seed)
            checked.add(form)
    assert checked >= set(case.bounds)


def random_expression(choose: random.Random) -> Expression:
    """Return a region of up to three axes whose operands are permuted, sliced, broadcast and offset at random."""
    domain = tuple(choose.choice((1, 2, 3, 4, 8)) for _ in range(choose.randint(0, 3)))
    e = Expression(*domain)
    values = [e.load(strides=random_strides(choose, domain), offset=choose.choice((0, 1, 4))) for _ in range(3)]
    if domain:
        values.append(e.op("cast", e.index(choose.randrange(len(domain))), dtype="float32"))
    for name in choose.choices(("add", "sub", "mul", "maximum", "minimum"), k=4):
        values.append(e.op(name, choose.choice(values), choose.choice(values)))
    e.store(values[-1])
    e.store(choose.choice(values), offset=choose.choice((0, 4)))
    return e


def random_strides(choose: random.Random, domain: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor with permuted axes, some of them broadcast, rows perhaps padded."""
    strides, step = [0] * len(domain), 1
    axes = choose.sample(range(len(domain)), len(domain)) if choose.random() < 0.4 else range(len(domain))[::-1]
    for axis in axes:
        if choose.random() < 0.2:
            continue
        strides[axis] = step
        step *= domain[axis] + choose.choice((0, 0, 0, 4, 1))
    return tuple(strides)


@settings(max_examples=60, deadline=None)
@given(choose=st.randoms(use_true_random=False), seed=st.integers(0, 2**32 - 1))
def test_any_layout_of_operands_is_indexed_right(
    choose: random.Random, seed: int, simulating: ToolchainProcess
) -> None:
    problem = pointwise_problem(random_expression(choose).region())
    case = Case("random", lambda size: problem, (1,), 1, {form: Bounds(64) for form in problem.sources}, 1e-5)
    for source in problem.sources.values():
        check(case, problem, source, simulated(simulating, 2, 3), seed)
