"""A test of the tests: faults planted in a loop's persistent kernel; and the forms of a loop that no case has."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from kernels.cuda.kernel import KernelSource
from kernels.recurrent.loop_kernel import loop_buffers, loop_source, loop_text
from tests.cuda import loop_cases
from tests.cuda.case import Case, check
from tests.cuda.jobs import SimulateJob
from tests.cuda.loop_programs import lstm_stack, skipping
from tests.cuda.toolchain_process import JobError, ToolchainProcess, simulated

pytestmark = pytest.mark.cuda_toolchain
CASE = next(case for case in loop_cases.CASES if case.name == "loop-lstm-wavefront")
WRONG = "elements are wrong|depends on the order"


def planted(source: KernelSource, right: str, wrong: str) -> KernelSource:
    """Return the kernel with the first match of the pattern `right` replaced."""
    text, changes = re.subn(right, wrong, source.text, count=1)
    assert changes == 1, f"no place to change: {right} in {source.text}"
    return dataclasses.replace(source, text=text)


@pytest.mark.parametrize(
    ("right", "wrong", "seen"),
    [
        pytest.param(r"phase = grid_barrier\(counter, phase\)\n    if \(block", "if (block", WRONG, id="barrier"),
        pytest.param(r"cuda\.syncthreads\(\)", "pass", f"{WRONG}|never come", id="syncthreads"),
        pytest.param(r"delay = int64\(1\)", "delay = int64(0)", WRONG, id="wavefront-too-early"),
        pytest.param(r"\(\(trip \+ 1\) & 1\)", "(trip & 1)", WRONG, id="wrong-half"),
        pytest.param(r"while spot < \d+:(\n *held = quotient_uint32\(spot, 29\))", r"while spot < 0:\1", WRONG, id="tail"),  # noqa: E501
        pytest.param(r"s0_2, 4\)", "s0_2, 8)", WRONG, id="wrong-lane"),
        pytest.param(r"writer = unit < 3", "writer = unit < 2", WRONG, id="missing-unit"),
        pytest.param(r"mine = unit if unit < 3 else 2", "mine = unit + 1", "access to elements", id="unit-too-many"),
    ],
)  # fmt: skip
def test_the_simulator_sees_the_fault(right: str, wrong: str, seen: str, simulating: ToolchainProcess) -> None:
    problem = loop_cases.problem(lstm_stack(2, 3, 1, 3), 1)
    source = planted(problem.sources["scalar"], right, wrong)
    with pytest.raises((AssertionError, JobError), match=seen):
        check(CASE, problem, source, simulated(simulating, *problem.grids[0]), seed=1)


def test_a_wavefront_of_period_two_matches_the_reference(simulating: ToolchainProcess) -> None:
    problem = loop_cases.problem(skipping(3, 4), 1)
    case = Case("loop-skip", lambda size: problem, (1,), 1, CASE.bounds, CASE.tolerance, False)
    check(case, problem, problem.sources["scalar"], simulated(simulating, *problem.grids[0]), seed=2)


def test_launches_follow_each_other_without_a_reset(simulating: ToolchainProcess) -> None:
    program = lstm_stack(1, 2, 1, 2)
    text = loop_text(program, 1)
    random = np.random.default_rng()
    buffers = loop_buffers(program)
    arrays = tuple(random.standard_normal(buffer.elements // 4).astype(np.float32) for buffer in buffers[:-1])
    arrays = (*arrays, np.zeros(1, np.uint32))
    results = []
    for _ in range(2):
        arrays[-2][:] = np.nan
        arrays = tuple(simulating.run(SimulateJob(loop_source(text), arrays, text.blocks, text.threads)))
        results.append(arrays[-2].tobytes())
    assert results[0] == results[1] and not np.isnan(arrays[-2]).any()
