"""A test of the tests: further faults planted in the recurrent kernel; those between its steps are in
test_planted_faults.py.
"""

from __future__ import annotations

import dataclasses
import re

import pytest

from kernels.cuda.kernel import KernelSource
from kernels.recurrent.cell import LSTM
from tests.cuda import recurrent_cases
from tests.cuda.case import check
from tests.cuda.jobs import CompileJob
from tests.cuda.test_sass import assert_bounds
from tests.cuda.toolchain_process import JobError, ToolchainProcess, simulated

pytestmark = pytest.mark.cuda_toolchain
CASE = next(case for case in recurrent_cases.CASES if case.name == "recurrent-lstm-batch-1")
HIDDEN, STEPS = 5, 3  # no multiple of a block's units, of a warp or of four: every tail is there
WRONG = "elements are wrong"


def planted(source: KernelSource, right: str, wrong: str) -> KernelSource:
    """Return the kernel with the one match of the pattern `right` replaced."""
    text, changes = re.subn(right, wrong, source.text)
    assert changes == 1, f"{changes} places to change: {right} in {source.text}"
    return dataclasses.replace(source, text=text)


@pytest.mark.parametrize(
    ("right", "wrong", "seen"),
    [
        pytest.param(r"hidden\[[^]]*\] = float32\(0\.0\)", "pass", WRONG, id="missing-tail-of-columns"),
        pytest.param(r"writes = unit < 5", "writes = unit < 4", WRONG, id="missing-last-unit"),
        pytest.param(r"row = unit if unit < 5 else 4", "row = unit", "access to elements", id="unit-too-many"),
        pytest.param(r"\(5 \+ row\) \* 5", "(5 + row) * 4", WRONG, id="wrong-index"),
        pytest.param(r"s0_2, 4\)", "s0_2, 8)", WRONG, id="wrong-lane"),
    ],
)
def test_the_simulator_sees_the_fault(right: str, wrong: str, seen: str, simulating: ToolchainProcess) -> None:
    problem = recurrent_cases.problem(LSTM, HIDDEN, 1, STEPS)
    source = planted(problem.sources["scalar"], right, wrong)
    with pytest.raises((AssertionError, JobError), match=seen):
        check(CASE, problem, source, simulated(simulating, *problem.grids[0]), seed=1)


# Not one of the weights' loads: the compiler puts four of those together again, as it sees their alignment.
SCALAR_LOADS = ", ".join(rf"coherent_float32(source, \1 + {lane})" for lane in range(4))
LOCAL_ARRAY = "kept = cuda.local.array(64, float32)\n    kept[thread & 63] = h\n    c = kept[row & 63]\n    step = 0\n"


@pytest.mark.parametrize(
    ("right", "wrong", "seen"),
    [
        pytest.param(r"s0_0 = float32\(0\.0\)", "s0_0 = 0.0", "float64 instructions", id="float64-literal"),
        pytest.param(
            r"(s0_0) = s0_0 \+ w0_0 \* value", r"\1 = float32(s0_0 + w0_0 * value * 1.5)", "float64 instructions",
            id="narrowed-float64-literal",
        ),
        pytest.param(
            r"coherent_float32x4\(source, (.*)\)(?=\n)", SCALAR_LOADS, "8 128-bit loads of 9", id="lost-wide-load",
        ),
        pytest.param(r"step = 0\n", LOCAL_ARRAY, "local memory accesses", id="local-array"),
    ],
)  # fmt: skip
def test_the_compiled_code_shows_the_fault(right: str, wrong: str, seen: str, compiling: ToolchainProcess) -> None:
    source = planted(CASE.problem(CASE.device_size).sources["wide"], right, wrong)
    report = compiling.run(CompileJob(source, (9, 0)))
    with pytest.raises(AssertionError, match=seen):
        assert_bounds(report, dataclasses.replace(CASE.bounds["wide"], registers=255))
