"""A test of the tests: a fault planted in a quantized product's kernel is reported by the tier that should see it."""

from __future__ import annotations

import dataclasses
import re

import pytest

from kernels.cuda.kernel import KernelSource, run_twin
from tests.cuda.case import Case, check
from tests.cuda.jobs import CompileJob
from tests.cuda.quantized_gemv_cases import CASES
from tests.cuda.test_sass import assert_bounds
from tests.cuda.toolchain_process import JobError, ToolchainProcess, simulated

BY_NAME = {case.name.removeprefix("quantized-"): case for case in CASES}
INT8, CODEBOOK, GROUPS = BY_NAME["int8-rows"], BY_NAME["codebook-rows"], BY_NAME["codebook-groups-bfloat16"]
SHARED = BY_NAME["int8-batch-float16"]
WRONG = "elements are wrong"


def planted(case: Case, size: int, right: str, wrong: str, form: str = "wide", count: int = 1) -> KernelSource:
    """Return the case's kernel with `count` matches of the pattern `right` replaced, as device and host run it."""
    source = case.problem(size).sources[form]
    text, changes = re.subn(right, wrong, source.text, count=count)
    assert changes, f"nothing to change: {right} in {source.text}"
    return dataclasses.replace(source, text=text, host_text=re.sub(right, wrong, source.host_text, count=count))


SINGLES = r"if lane == \d:\n(\s+v0 = .*\n(\s+s\d_0_\d = fma_float32\(.*\n)+)+"
ARITHMETIC = [
    pytest.param(CODEBOOK, 37, "low_centroids", "high_centroids", WRONG, id="wrong-nibble-order"),
    pytest.param(INT8, 35, SINGLES, "pass\n", WRONG, id="missing-tail-columns"),
    pytest.param(INT8, 513, "if tile == 1:", "if tile == 2:", WRONG, id="missing-last-tile"),
    pytest.param(GROUPS, 90, r"\+ 84\) >> 6\b", "+ 84) >> 7", WRONG, id="wrong-column-group"),
    pytest.param(INT8, 35, r"row1 = min\(first \+ 1, \d+\)", "row1 = row0", WRONG, id="same-row-twice"),
    pytest.param(INT8, 35, "if lane < 2:", "if lane < 3:", "access to elements 32 to 35", id="tail-too-long"),
]


@pytest.mark.parametrize(("case", "size", "right", "wrong", "seen"), ARITHMETIC[:3])
def test_the_twin_sees_the_fault(case: Case, size: int, right: str, wrong: str, seen: str) -> None:
    with pytest.raises(AssertionError, match=seen):
        check(case, case.problem(size), planted(case, size, right, wrong), run_twin, seed=1)


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(("case", "size", "right", "wrong", "seen"), ARITHMETIC)
def test_the_simulator_sees_the_fault(
    case: Case, size: int, right: str, wrong: str, seen: str, simulating: ToolchainProcess
) -> None:
    source = planted(case, size, right, wrong)
    with pytest.raises((AssertionError, JobError), match=seen):
        check(case, case.problem(size), source, simulated(simulating, 1, 64), seed=1)


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(
    ("case", "size", "right", "count"),
    [
        # Lanes look up what others have not written yet.
        pytest.param(CODEBOOK, 37, r"(cuda\.syncwarp\(\))(\n\s+(?:if|while) tile)", 1, id="before-lookups"),
        # The next tile's codebooks overwrite those that slower lanes still look up.
        pytest.param(GROUPS, 1100, r"(cuda\.syncwarp\(\))(\n\s+entry)", 2, id="after-lookups"),
        # One warp adds what the other has not stored yet.
        pytest.param(SHARED, 600, r"(cuda\.syncthreads\(\))(\n\s+if part)", 1, id="before-parts-are-added"),
    ],
)
def test_the_simulator_sees_a_missing_barrier(
    case: Case, size: int, right: str, count: int, simulating: ToolchainProcess
) -> None:
    source = case.problem(size).sources["wide"]
    text, changes = re.subn(right, r"pass\2", source.text, count=count)
    assert changes == count
    source = dataclasses.replace(source, text=text)
    with pytest.raises(AssertionError, match=f"{WRONG}|depends on the order of the threads"):
        check(case, case.problem(size), source, simulated(simulating, 1, 64), seed=1)


@pytest.mark.cuda_toolchain
def test_the_simulator_sees_codebooks_that_are_not_aligned(simulating: ToolchainProcess) -> None:
    source = planted(CODEBOOK, 37, r"own = 64 \* warp", "own = 48 * warp")
    with pytest.raises(JobError, match="the codebooks begin at element 48, no multiple of 64"):
        check(CODEBOOK, CODEBOOK.problem(37), source, simulated(simulating, 1, 64), seed=1)


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(
    ("right", "wrong", "seen"),
    [
        pytest.param(
            r"n1 = stream_uint32x4\(weights, (.*)\)\n",
            r"n1 = (stream_uint32(weights, \1), stream_uint32(weights, \1 + 1), "
            r"stream_uint32(weights, \1 + 2), stream_uint32(weights, \1 + 3))\n",
            "7 128-bit loads of 8",
            id="lost-wide-load-of-weights",
        ),
        pytest.param(
            r"x0 = read_float32x4\(x, (.*)\)\n",
            r"x0 = (read_float32(x, \1), read_float32(x, \1 + 1), read_float32(x, \1 + 2), read_float32(x, \1 + 3))\n",
            "7 128-bit loads of 8",
            id="lost-wide-load-of-inputs",
        ),
        pytest.param(
            r"store_float32\(y, (.*), (t0_0 \* .*)\)\n",
            r"store_float32(y, \1, float32(1.0001 * (\2)))\n",
            "float64 instructions",
            id="narrowed-float64-literal",
        ),
        pytest.param(
            r"(?m)^( +)s0_0_0 = float32\(0\.0\)\n",
            r"\1kept = cuda.local.array(64, float32)\n\1for k in range(64):\n"
            r"\1    kept[(k * first + lane) & 63] = float32(k)\n"
            r"\1s0_0_0 = kept[row0 & 63]\n",
            "local memory accesses",
            id="local-array",
        ),
    ],
)
def test_the_compiled_code_shows_the_fault(right: str, wrong: str, seen: str, compiling: ToolchainProcess) -> None:
    report = compiling.run(CompileJob(planted(INT8, INT8.device_size, right, wrong), (9, 0)))
    with pytest.raises(AssertionError, match=seen):
        assert_bounds(report, INT8.bounds["wide"])


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(r"s0_0_0 = float32\(0\.0\)", "s0_0_0 = 0.0", id="a-sum"),
        pytest.param(r"row0, t0_0 \*", "row0, 1.5 * t0_0 *", id="a-result"),
    ],
)
def test_an_untyped_float64_does_not_compile(right: str, wrong: str, compiling: ToolchainProcess) -> None:
    with pytest.raises(JobError, match="float64"):
        compiling.run(CompileJob(planted(INT8, 37, right, wrong), (9, 0)))
