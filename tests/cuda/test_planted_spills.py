"""A test of the tests: with too few registers each family's kernel spills, and the compiled code shows it.

Those of the pointwise and the row kernels stand with their other faults.
"""

from __future__ import annotations

import dataclasses

import pytest

from tests.cuda.cases import CASES
from tests.cuda.jobs import CompileJob
from tests.cuda.test_sass import assert_bounds
from tests.cuda.toolchain_process import ToolchainProcess


@pytest.mark.cuda_toolchain
@pytest.mark.parametrize("name", ["recurrent-lstm", "quantized-codebook", "gather-", "pack-int8"])
def test_the_compiled_code_shows_registers_that_were_spilled(name: str, compiling: ToolchainProcess) -> None:
    case = next(case for case in CASES if case.name.startswith(name))
    form = next(iter(case.bounds))
    source = case.problem(case.device_size).sources[form]
    # Launch bounds would take precedence over the limit.
    job = CompileJob(dataclasses.replace(source, threads=None), (8, 0), maximum_registers=24)
    report = compiling.run(job)
    with pytest.raises(AssertionError, match="registers are spilled"):
        assert_bounds(report, case.bounds[form])
