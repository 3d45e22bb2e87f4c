"""A test of the tests: faults planted in the gather and pack kernels are reported by the tiers that should see them.

The int8 kernel's largest magnitude is found by one warp, without a barrier: what a missing barrier is elsewhere is a
missing exchange between lanes here.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda.kernel import KernelSource
from tests.cuda import gather_cases, gather_strided_cases, pack_cases
from tests.cuda.case import Case, check, guarded
from tests.cuda.jobs import CompileJob, SimulateJob
from tests.cuda.test_sass import assert_bounds
from tests.cuda.toolchain_process import JobError, ToolchainProcess, simulated

CASES = {case.name: case for case in (*gather_cases.CASES, *gather_strided_cases.CASES, *pack_cases.CASES)}
SIZE = 1203
WRONG, OUTSIDE = "elements are wrong", "access to elements"


def planted(case: Case, right: str, wrong: str) -> KernelSource:
    """Return the case's kernel with `right` replaced wherever it stands, for the device and for the host."""
    (source,) = case.problem(SIZE).sources.values()
    assert right in source.text, f"nothing to change: {right} in {source.text}"
    return dataclasses.replace(
        source, text=source.text.replace(right, wrong), host_text=source.host_text.replace(right, wrong)
    )


def fault(case: str, right: str, wrong: str, name: str) -> object:
    return pytest.param(CASES[case], right, wrong, id=name)


ON_HOST_TOO = [
    fault("gather-aligned", "((source - destination) >> 2)", "((source - destination) >> 2) + 4", "wrong-offset"),
    fault("pack-bfloat16", "2 * pair + 1 < left", "2 * pair + 1 < left - 1", "missing-tail"),
    fault("unpack-bfloat16", "& 0xFFFF0000", "& 0xFFFE0000", "lost-bit"),
    fault("unpack-int8", "+ (place >> 8)", "+ (place >> 9)", "wrong-scale"),
    fault(
        "gather-transposes", "(rest2 - rest1 * extent2) * stride2", "(rest2 - rest1 * extent2) * stride1", "wrong-axis"
    ),
    fault("gather-columns", "count = min(int64(16), extent - byte)", "count = int64(16)", "written-past-the-end"),
    fault("gather-columns", "(extent3 - index3) * item >= 16", "item > 0", "read-past-the-row"),
]
IN_SIMULATOR = [
    *ON_HOST_TOO,
    fault("gather-aligned", "first += groups * tile_units", "first += (groups + 1) * tile_units", "lost-tile"),
    fault("gather-misaligned", "unit < last", "unit < last - 1", "missing-tail"),
    fault("gather-misaligned", "min(start + 16, destination + extent)", "start + 16", "written-past-the-end"),
    fault("scatter-misaligned", "max(start, destination)", "start", "written-before-the-start"),
    fault("gather-misaligned", "bits = 8 * (misfit & 3)", "bits = 0", "lost-shift"),
    fault("gather-misaligned", "if misfit & 8 != 0", "if misfit & 4 != 0", "wrong-shift"),
    fault("gather-many-tiny", "<= unit:", "< unit:", "wrong-segment"),
    fault(
        "scatter-misaligned", "read_uint8(sources, place + shift)", "read_uint8(sources, place)", "lost-shift-of-bytes"
    ),
    fault("pack-bfloat16", "float32_to_bfloat16(odd)", "float32_to_bfloat16(even)", "wrong-lane"),
    fault("unpack-bfloat16", "if 7 < left", "if 7 < left + 1", "written-past-the-end"),
    fault("pack-int8", "float32(126) if infinite", "float32(127) if infinite", "infinity-shares-a-code"),
    fault("unpack-int8", "if left > 3:", "if left > 2:", "written-past-the-end"),
    fault("pack-int8", "largest = warp_max(largest)", "pass", "missing-exchange-of-the-largest"),
    fault("pack-int8", "infinite = cuda.any_sync(0xFFFFFFFF, infinite)", "pass", "missing-exchange-of-infinities"),
    fault("pack-int8", "if 128 * quad + k < left:", "if 128 * quad + k <= left:", "read-past-the-end"),
    fault("pack-int8", "unit += warps", "unit += 2 * warps", "lost-group"),
    fault(
        "pack-aligned-int8",
        "store_uint32(destinations, coded + 32 * quad",
        "store_uint32(destinations, coded + 31 * quad",
        "wrong-offset",
    ),
]
PARAMETERS = ("case", "right", "wrong")


def loaded(case: Case, source: KernelSource, run: object) -> None:
    """Return nothing; check the kernel on sizes that together have every path of it."""
    for seed, size in enumerate((*case.sizes, SIZE)):
        check(case, case.problem(size), source, run, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize(PARAMETERS, ON_HOST_TOO)
def test_the_twin_sees_the_fault(case: Case, right: str, wrong: str) -> None:
    with pytest.raises(AssertionError, match=r"elements are wrong|outside of the buffer"):
        loaded(case, planted(case, right, wrong), cuda_kernel.run_twin)


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(PARAMETERS, IN_SIMULATOR)
def test_the_simulator_sees_the_fault(case: Case, right: str, wrong: str, simulating: ToolchainProcess) -> None:
    run = simulated(simulating, *case.problem(SIZE).grids[1])
    with pytest.raises((AssertionError, JobError), match=rf"{WRONG}|{OUTSIDE}|depends on the order"):
        loaded(case, planted(case, right, wrong), run)


@pytest.mark.cuda_toolchain
def test_the_simulator_sees_a_destination_off_the_16_byte_grid(simulating: ToolchainProcess) -> None:
    case = CASES["gather-aligned"]
    problem = case.problem(SIZE)
    arrays = tuple(guarded(b.dtype, b.elements) for b in problem.buffers)
    arrays[0][:] = problem.buffers[0].fill(np.random.default_rng())  # type: ignore[misc]
    job = SimulateJob(problem.sources["bytes"], arrays, 1, 32, misalignments=(0, 0, 4))
    with pytest.raises(JobError, match="misaligned 4-element access to a2"):
        simulating.run(job)


SCALAR_LOADS = ", ".join(f"read_uint32(sources, wanted + 4 * width + {lane})" for lane in range(4))


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(
    ("case", "right", "wrong", "seen"),
    [
        pytest.param(
            CASES["gather-aligned"], "read_uint32x4(sources, wanted + 4 * width)", f"({SCALAR_LOADS})",
            "6 128-bit loads of 7", id="one-lost-wide-copy",
        ),
        pytest.param(
            CASES["pack-int8"], "for k in range(32):", "for k in range(left):", "local memory", id="registers-indexed",
        ),
        pytest.param(
            CASES["pack-int8"], "scaled + float32(12582912)", "float32(scaled * 1.1) + float32(12582912)",
            "float64 instructions", id="float64-literal",
        ),
    ],
)  # fmt: skip
def test_the_compiled_code_shows_the_fault(
    case: Case, right: str, wrong: str, seen: str, compiling: ToolchainProcess
) -> None:
    report = compiling.run(CompileJob(planted(case, right, wrong), (9, 0)))
    (bounds,) = case.bounds.values()
    with pytest.raises(AssertionError, match=seen):
        assert_bounds(report, dataclasses.replace(bounds, registers=255))
