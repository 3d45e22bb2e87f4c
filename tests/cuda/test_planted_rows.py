"""A test of the tests of row reductions: a fault planted in a copy of a kernel is reported by the tier that should."""

from __future__ import annotations

import dataclasses
import re

import pytest

from kernels import row_reduction
from kernels.compiler.ir import Region
from kernels.compiler.passes import simplify
from kernels.compiler.print_cuda_plan import RowPlan
from kernels.compiler.print_cuda_rows import print_plan
from kernels.cuda.kernel import KernelSource
from tests.cuda.case import Case, check
from tests.cuda.jobs import CompileJob
from tests.cuda.row_reduction_cases import CASES, layer_norm, middle_mean, problem, row_maximum, rows_bounds, softmax
from tests.cuda.test_sass import assert_bounds
from tests.cuda.toolchain_process import JobError, ToolchainProcess, simulated

WARP = RowPlan(16, 4, True)
SHARED_WARP = RowPlan(8, 4, True)
BLOCK = RowPlan(64, 1, True)
LOOPED = RowPlan(64, 1, False)
ACROSS = RowPlan(8, 1, True, across=8)
LANES = r"(v\w+_0), (v\w+_1), (v\w+_2), (v\w+_3)"
WRONG = "elements are wrong|depends on the order"


def changed(text: str, right: str, wrong: str) -> str:
    """Return the text with the first match of the pattern `right` replaced; there is one."""
    result, changes = re.subn(right, wrong, text, count=1)
    assert changes, f"nothing to change: {right} in {text}"
    return result


def told(region: Region, plan: RowPlan) -> tuple[Case, KernelSource]:
    """Return a case of one region and plan, and its kernel."""
    block = plan.block if plan.across or plan.team > 32 else 32
    one = problem(region, {"only": plan}, block)
    return Case("planted", lambda size: one, (1,), 1, {}, 2e-5, specials=False), one.sources["only"]


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(
    ("region", "plan", "right", "wrong", "seen"),
    [
        pytest.param(softmax(70, 3), BLOCK, r"cuda\.syncthreads\(\)", "pass", WRONG, id="missing-barrier"),
        pytest.param(middle_mean(5, 2), ACROSS, r"cuda\.syncthreads\(\)", "pass", WRONG, id="missing-barrier-across"),
        pytest.param(softmax(40, 3), WARP, r"if member < 10:", "if member < 9:", "UnboundLocalError", id="lost-tail"),
        pytest.param(softmax(40, 1), WARP, r"if member < 10:", "if member < 11:", "access to elements 40", id="tail"),
        pytest.param(softmax(70, 3), LOOPED, r"while unit < 70:", "while unit < 71:", "access to elements|" + WRONG,
                     id="looped-tail"),
        pytest.param(softmax(70, 3), LOOPED, r"    p4 = p4 \* exp_float32\(p1 - s1\)\n", "    pass\n", WRONG,
                     id="sum-not-rescaled"),
        pytest.param(softmax(40, 3), WARP, r"p4, 4\)", "p4, 8)", WRONG, id="wrong-shuffle"),
        pytest.param(row_maximum(70, 3), BLOCK, r"shared1\[member >> 5\]", "shared1[0]", WRONG, id="warps-collide"),
        pytest.param(row_maximum(40, 3), SHARED_WARP, r"row = select\(.*\)", "pass", "elements 120", id="rows"),
        pytest.param(layer_norm(40, 3), WARP, r"if member == 0:", "if member == 16:", WRONG, id="no-row-store"),
        pytest.param(layer_norm(40, 3), WARP, r"\b40\*i0", "36*i0", WRONG, id="wrong-index"),
    ],
)  # fmt: skip
def test_the_simulator_sees_the_fault(
    region: Region, plan: RowPlan, right: str, wrong: str, seen: str, simulating: ToolchainProcess
) -> None:
    case, source = told(region, plan)
    one = case.problem(1)
    run = simulated(simulating, 1, one.grids[0][1])
    check(case, one, source, run, seed=1)
    planted = dataclasses.replace(source, text=changed(source.text, right, wrong))
    with pytest.raises((AssertionError, JobError), match=seen):
        check(case, one, planted, run, seed=1)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(r"partial4\[own \+ half\]", "partial4[own]", id="wrong-partner"),
        pytest.param(r"(p4 = .*\n.*\n +while unit) < 10:", r"\1 < 9:", id="lost-tail"),
    ],
)
def test_the_twin_sees_the_fault(right: str, wrong: str) -> None:
    case, source = told(softmax(40, 3), WARP)
    planted = dataclasses.replace(source, host_text=changed(source.host_text, right, wrong))
    with pytest.raises(AssertionError, match="elements are wrong"):
        check(case, case.problem(1), planted, row_reduction.twin, seed=1)


NORM = print_plan(simplify(layer_norm(128, 4096)), RowPlan(32, 4, True))


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(
    ("right", "wrong", "seen"),
    [
        pytest.param(r"= (v\w+) \* v\d+\n", r"= float32(\1 * 0.007)\n", "float64 instructions", id="float64"),
        pytest.param(
            rf"{LANES} = read_float32x4\((a\d), ([^)]+)\)",
            r"\1, \2, \3, \4 = read_float32(\5, \6), read_float32(\5, \6 + 1), "
            r"read_float32(\5, \6 + 2), read_float32(\5, \6 + 3)",
            "2 128-bit loads of 3",
            id="lost-wide-load",
        ),
        pytest.param(
            r"    base = \(thread >> 5\)\n",
            "    kept = cuda.local.array(64, float32)\n    kept[thread & 63] = float32(thread)\n"
            "    base = (thread >> 5) + int64(kept[1] == float32(-1.0))\n    base = base + int64(kept[base & 63])\n",
            "local memory accesses",
            id="indexed-row",
        ),
    ],
)
def test_the_compiled_code_shows_the_fault(right: str, wrong: str, seen: str, compiling: ToolchainProcess) -> None:
    planted = dataclasses.replace(NORM, text=changed(NORM.text, right, wrong))
    with pytest.raises(AssertionError, match=seen):
        assert_bounds(compiling.run(CompileJob(planted, (9, 0))), rows_bounds(48, 3, 1))


@pytest.mark.cuda_toolchain
def test_an_untyped_literal_does_not_compile(compiling: ToolchainProcess) -> None:
    planted = dataclasses.replace(NORM, text=changed(NORM.text, r"float32\(0\.0078125\)", "0.0078125"))
    with pytest.raises(JobError, match="float64|unify|NoneType|Typing"):
        compiling.run(CompileJob(planted, (9, 0)))


@pytest.mark.cuda_toolchain
def test_the_compiled_code_shows_a_row_that_does_not_fit(compiling: ToolchainProcess) -> None:
    case = next(case for case in CASES if case.name == "row-reduction-layer-norm-768")
    source = case.problem(case.device_size).sources["wide"]
    # launch bounds would take precedence over the limit
    job = CompileJob(dataclasses.replace(source, threads=None), (8, 0), maximum_registers=24)
    report = compiling.run(job)
    with pytest.raises(AssertionError, match="registers are spilled"):
        assert_bounds(report, case.bounds["wide"])
