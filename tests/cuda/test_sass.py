"""Tier c: each kernel compiled for two architectures, and what its instructions are. It says nothing about speed."""

from __future__ import annotations

import pytest

from kernels.cuda_kernel import KernelSource
from tests.cuda.case import Bounds, Case
from tests.cuda.cases import FORMS, form_id
from tests.cuda.jobs import CompileJob
from tests.cuda.sass import SassReport
from tests.cuda.toolchain_process import ToolchainProcess

pytestmark = pytest.mark.cuda_toolchain
CAPABILITIES = ((8, 0), (9, 0))


@pytest.mark.parametrize(("case", "form"), FORMS, ids=form_id)
@pytest.mark.parametrize("capability", CAPABILITIES, ids=("sm_80", "sm_90"))
def test_the_compiled_kernel_keeps_its_bounds(
    case: Case, form: str, capability: tuple[int, int], compiling: ToolchainProcess
) -> None:
    source = case.problem(case.device_size).sources[form]
    assert_bounds(compiling.run(CompileJob(source, capability)), case.bounds[form])


def assert_bounds(report: SassReport, bounds: Bounds) -> None:
    """Return nothing; raise AssertionError naming the first bound that the compiled kernel breaks."""
    assert report.spill_bytes == 0, f"{report.spill_bytes} bytes of registers are spilled"
    assert report.registers <= bounds.registers, f"{report.registers} registers, more than {bounds.registers}"
    if not bounds.local_memory:
        assert report.local_memory_instructions == 0, f"{report.local_memory_instructions} local memory accesses"
        assert report.stack_bytes == 0, f"a stack frame of {report.stack_bytes} bytes"
    if not bounds.float64:
        assert report.float64_instructions == 0, f"{report.float64_instructions} float64 instructions"
    assert report.generic_accesses == 0, f"{report.generic_accesses} generic accesses"
    assert report.vector_loads >= bounds.vector_loads, f"{report.vector_loads} 128-bit loads of {bounds.vector_loads}"
    stores = f"{report.vector_stores} 128-bit stores of {bounds.vector_stores}"
    assert report.vector_stores >= bounds.vector_stores, stores
    # The compiler unrolls loops, loads and stores alike: a single lost 128-bit access upsets their ratio.
    wanted, found = (bounds.vector_loads, bounds.vector_stores), (report.vector_loads, report.vector_stores)
    assert report.vector_loads * bounds.vector_stores == report.vector_stores * bounds.vector_loads, (
        f"128-bit loads to stores are {found[0]} to {found[1]}, not as {wanted[0]} to {wanted[1]}"
    )


def test_shared_memory_barriers_and_shuffles_compile(compiling: ToolchainProcess) -> None:
    text = """def kernel(a0, a1):
    tile = cuda.shared.array(64, float32)
    thread = cuda.threadIdx.x
    tile[thread] = cuda.shfl_xor_sync(0xFFFFFFFF, load_float32(a0, thread), 1)
    cuda.syncthreads()
    store_float32(a1, thread, tile[63 - thread])
"""
    report = compiling.run(CompileJob(KernelSource("kernel", text, "", (4, 4), 64), (9, 0)))
    assert report.shared_bytes == 256
    for opcode in ("BAR", "SHFL", "LDS", "STS"):
        assert any(name.startswith(opcode) for name in report.instructions), opcode
    assert_bounds(report, Bounds(32))
