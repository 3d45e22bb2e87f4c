"""A test of the tests: a fault planted in a product with a small batch, or in joined kernels, is reported."""

from __future__ import annotations

import dataclasses
import re

import pytest

from kernels.cuda.kernel import KernelSource
from tests.cuda.case import Case, check
from tests.cuda.quantized_gemm_cases import CASES
from tests.cuda.together_cases import CASES as TOGETHER
from tests.cuda.toolchain_process import JobError, ToolchainProcess, simulated

pytestmark = pytest.mark.cuda_toolchain
BY_NAME = {case.name.removeprefix("small-batch-"): case for case in CASES}
INT8, CODEBOOK, BYTES = BY_NAME["int8-rows"], BY_NAME["codebook-rows"], BY_NAME["bytes-float32"]
WRONG = "elements are wrong"


def planted(case: Case, size: int, right: str, wrong: str) -> KernelSource:
    """Return the case's kernel with the first match of the pattern `right` replaced, as the device runs it."""
    source = next(iter(case.problem(size).sources.values()))
    text, changes = re.subn(right, wrong, source.text, count=1)
    assert changes == 1, f"nothing to change: {right} in {source.text}"
    return dataclasses.replace(source, text=text)


FAULTS = [
    pytest.param(INT8, 70, r"a1_0, a0_1", "a0_1, a1_0", WRONG, id="swapped-words-of-an-instruction"),
    pytest.param(INT8, 70, r"2 \* quarter \+ \(number & 1\)", "2 * quarter", WRONG, id="wrong-column-of-a-result"),
    pytest.param(INT8, 70, r"while chunk < 2", "while chunk < 1", WRONG, id="missing-last-chunk"),
    pytest.param(INT8, 70, r"min\(4 \* chunk \+ quarter, 4\)", "(4 * chunk + quarter + 90)", "access to", id="too-far"),
    pytest.param(CODEBOOK, 131, r"low_codebook_bytes", "high_codebook_bytes", WRONG, id="wrong-half-of-a-word"),
    pytest.param(CODEBOOK, 131, r"cuda\.syncthreads\(\)", "pass", f"{WRONG}|depends on the order", id="no-barrier"),
    pytest.param(BYTES, 37, r"cuda\.syncthreads\(\)", "pass", f"{WRONG}|depends on the order", id="bytes-no-barrier"),
]


@pytest.mark.parametrize(("case", "size", "right", "wrong", "seen"), FAULTS)
def test_the_simulator_sees_the_fault(
    case: Case, size: int, right: str, wrong: str, seen: str, simulating: ToolchainProcess
) -> None:
    source = planted(case, size, right, wrong)
    with pytest.raises((AssertionError, JobError), match=seen):
        check(case, case.problem(size), source, simulated(simulating, 1, 64), seed=1)


def test_the_simulator_sees_a_part_that_takes_the_blocks_of_another(simulating: ToolchainProcess) -> None:
    case = TOGETHER[0]
    problem = case.problem(37)
    source = planted(case, 37, r"own_block1 = block - end0", "own_block1 = block")
    blocks, threads = problem.grids[0]
    with pytest.raises(AssertionError, match=WRONG):
        check(case, problem, source, simulated(simulating, blocks, threads), seed=1)
