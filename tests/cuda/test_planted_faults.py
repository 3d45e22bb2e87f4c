"""A test of the tests: a fault planted in a private copy of a kernel is reported by the tier that should see it."""

from __future__ import annotations

import dataclasses
import re

import pytest

from kernels import pointwise
from kernels.cuda.kernel import KernelSource
from kernels.recurrent.cell import LSTM
from tests.cuda import pointwise_cases, recurrent_cases
from tests.cuda.case import Case, check, guarded
from tests.cuda.cases import CASES
from tests.cuda.jobs import CompileJob, SimulateJob
from tests.cuda.test_sass import assert_bounds
from tests.cuda.toolchain_process import JobError, ToolchainProcess, simulated

SIZE = 37


def case_of(build: object) -> Case:
    name = f"pointwise-{build.__name__.replace('_', '-')}"  # type: ignore[attr-defined]
    return next(case for case in CASES if case.name == name)


SILU = case_of(pointwise_cases.scale_bias_silu)
TRANSPOSED = case_of(pointwise_cases.transposed)


def planted(case: Case, form: str, right: str, wrong: str) -> KernelSource:
    """Return the case's kernel with the first match of the pattern `right` replaced, as device and host run it."""
    source = case.problem(SIZE).sources[form]
    text, changes = re.subn(right, wrong, source.text, count=1)
    assert changes, f"nothing to change: {right} in {source.text}"
    return dataclasses.replace(source, text=text, host_text=re.sub(right, wrong, source.host_text, count=1))


WRONG = "elements are wrong"
LANES = r"(v\d+)_0, (v\d+)_1, (v\d+)_2, (v\d+)_3"
FAULTS = pytest.mark.parametrize(
    ("case", "form", "right", "wrong", "seen_by_twin", "seen_by_simulator"),
    [
        pytest.param(TRANSPOSED, "scalar", r"\b37\*i", "36*i", WRONG, WRONG, id="wrong-index"),
        pytest.param(SILU, "wide", "while group < 9", "while group < 8", WRONG, WRONG, id="lost-group"),
        pytest.param(SILU, "wide", r"    point = (.|\n)*", "", WRONG, WRONG, id="missing-tail"),
        pytest.param(
            SILU,
            "wide",
            rf"\({LANES}\)",
            r"(\1_0, \1_2, \1_1, \1_3)",
            WRONG,
            WRONG,
            id="swapped-lanes",
        ),
        pytest.param(
            SILU,
            "wide",
            "while point < 37",
            "while point < 38",
            "outside of the buffer",
            "access to elements 37 to 37",
            id="out-of-bounds",
        ),
    ],
)


@FAULTS
def test_the_twin_sees_the_fault(
    case: Case, form: str, right: str, wrong: str, seen_by_twin: str, seen_by_simulator: str
) -> None:
    source = planted(case, form, right, wrong)
    with pytest.raises(AssertionError, match=seen_by_twin):
        check(case, case.problem(SIZE), source, pointwise.twin, seed=1)


@pytest.mark.cuda_toolchain
@FAULTS
def test_the_simulator_sees_the_fault(
    case: Case,
    form: str,
    right: str,
    wrong: str,
    seen_by_twin: str,
    seen_by_simulator: str,
    simulating: ToolchainProcess,
) -> None:
    source = planted(case, form, right, wrong)
    with pytest.raises((AssertionError, JobError), match=seen_by_simulator):
        check(case, case.problem(SIZE), source, simulated(simulating, 2, 5), seed=1)


@pytest.mark.cuda_toolchain
def test_the_simulator_sees_a_misaligned_wide_access(simulating: ToolchainProcess) -> None:
    problem = SILU.problem(SIZE)
    arrays = tuple(guarded(b.dtype, b.elements) for b in problem.buffers)
    job = SimulateJob(problem.sources["wide"], arrays, 1, 4, misalignments=(4, 0, 0))
    with pytest.raises(JobError, match="misaligned 4-element access to a0"):
        simulating.run(job)
    # The scalar form serves the same addresses.
    simulating.run(dataclasses.replace(job, source=problem.sources["scalar"]))


@pytest.mark.cuda_toolchain
def test_the_simulator_sees_threads_that_overwrite_each_other(simulating: ToolchainProcess) -> None:
    text = "def kernel(a0):\n    store_float32(a0, 0, float32(cuda.grid(1)))\n"
    source = KernelSource("kernel", text, "", (4,), 4)
    with pytest.raises(AssertionError, match="depends on the order of the threads"):
        simulated(simulating, 1, 4)(source, (guarded("float32", 1),))


@pytest.mark.cuda_toolchain
def test_an_untyped_literal_does_not_compile(compiling: ToolchainProcess) -> None:
    source = planted(SILU, "wide", r"float32\(1\.702\)", "1.702")
    with pytest.raises(JobError, match="float64"):
        compiling.run(CompileJob(source, (9, 0)))


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(
    ("right", "wrong", "seen"),
    [
        pytest.param(
            r"= (v\d+_0) \* v\d+\n",
            r"= float32(\1 * 1.702)\n",
            "float64 instructions",
            id="narrowed-float64-literal",
        ),
        pytest.param(
            rf"{LANES} = read_float32x4\((a\d), i0\)",
            r"\1_0, \1_1, \1_2, \1_3 = read_float32(\5, i0), read_float32(\5, i0 + 1), "
            r"read_float32(\5, i0 + 2), read_float32(\5, i0 + 3)",
            "0 128-bit loads of 1",
            id="lost-wide-load",
        ),
        pytest.param(
            rf"store_float32x4\((a\d), i0, \({LANES}\)\)",
            r"store_float32(\1, i0, \2_0); store_float32(\1, i0 + 1, \2_1); "
            r"store_float32(\1, i0 + 2, \2_2); store_float32(\1, i0 + 3, \2_3)",
            "0 128-bit stores of 1",
            id="lost-wide-store",
        ),
        pytest.param(
            "    group = thread\n",
            "    group = thread\n    kept = cuda.local.array(64, float32)\n    kept[thread & 63] = float32(thread)\n"
            "    store_float32(a2, 0, kept[threads & 63])\n",
            "local memory accesses",
            id="local-array",
        ),
    ],
)
def test_the_compiled_code_shows_the_fault(right: str, wrong: str, seen: str, compiling: ToolchainProcess) -> None:
    report = compiling.run(CompileJob(planted(SILU, "wide", right, wrong), (9, 0)))
    with pytest.raises(AssertionError, match=seen):
        assert_bounds(report, SILU.bounds["wide"])


@pytest.mark.cuda_toolchain
def test_the_compiled_code_shows_one_lost_load_of_two(compiling: ToolchainProcess) -> None:
    case = case_of(pointwise_cases.bias_rows)
    scalar_loads = ", ".join(rf"read_float32(a1, \6 + {lane})" for lane in range(4))
    source = planted(
        case, "wide", rf"{LANES} = read_float32x4\((a1), (\w+)\)", rf"\1_0, \2_1, \3_2, \4_3 = {scalar_loads}"
    )
    report = compiling.run(CompileJob(source, (9, 0)))
    with pytest.raises(AssertionError, match="128-bit loads"):
        assert_bounds(report, case.bounds["wide"])


@pytest.mark.cuda_toolchain
def test_the_compiled_code_shows_a_spill(compiling: ToolchainProcess) -> None:
    case = case_of(pointwise_cases.transcendentals)
    source = case.problem(SIZE).sources["wide"]
    report = compiling.run(CompileJob(source, (8, 0), maximum_registers=24))
    with pytest.raises(AssertionError, match="registers are spilled"):
        assert_bounds(report, case.bounds["wide"])


@pytest.mark.cuda_toolchain
def test_the_compiled_code_shows_too_many_registers(compiling: ToolchainProcess) -> None:
    case = case_of(pointwise_cases.integers)
    report = compiling.run(CompileJob(case.problem(SIZE).sources["wide"], (9, 0)))
    with pytest.raises(AssertionError, match="more than 16"):
        assert_bounds(report, dataclasses.replace(case.bounds["wide"], registers=16))


RECURRENT = recurrent_cases.case(LSTM, 1, 3, wide=recurrent_cases.bounds(80, 9))
BARRIER = r"phase = grid_barrier\(counter, phase\)"


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(BARRIER, "pass", id="missing-grid-barrier"),
        pytest.param(r"cuda\.syncthreads\(\)", "pass", id="missing-block-barrier"),
        pytest.param(r"exchange, \(\(step \+ 1\) & 1\)", "exchange, (step & 1)", id="stored-into-the-wrong-half"),
        pytest.param(r"half = \(step & 1\)", "half = ((step + 1) & 1)", id="loaded-from-the-wrong-half"),
    ],
)
def test_the_simulator_sees_a_fault_between_the_steps(right: str, wrong: str, simulating: ToolchainProcess) -> None:
    problem = RECURRENT.problem(4)
    text, changes = re.subn(right, wrong, problem.sources["wide"].text)
    assert changes == 1
    source = dataclasses.replace(problem.sources["wide"], text=text)
    with pytest.raises((AssertionError, JobError), match=f"{WRONG}|depends on the order|access to elements 4 to 7"):
        check(RECURRENT, problem, source, simulated(simulating, *problem.grids[0]), seed=1)


@pytest.mark.cuda_toolchain
def test_the_simulator_sees_one_buffer_in_the_place_of_two(simulating: ToolchainProcess) -> None:
    problem = RECURRENT.problem(4)
    text = re.sub(r"\(step & 1\) \*|\(\(step \+ 1\) & 1\) \*", "0 *", problem.sources["wide"].text)
    source = dataclasses.replace(problem.sources["wide"], text=text)
    with pytest.raises(AssertionError, match=f"{WRONG}|depends on the order"):
        check(RECURRENT, problem, source, simulated(simulating, *problem.grids[0]), seed=1)
