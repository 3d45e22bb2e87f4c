"""Tier c: each kernel compiled for two architectures, and what its instructions are. It says nothing about speed."""

from __future__ import annotations

import re

import pytest

from kernels.cuda.kernel import KernelSource
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
    assert_bounds(compiled_once(compiling, source, capability), case.bounds[form])


_REPORTS: dict[tuple[KernelSource, tuple[int, int]], SassReport] = {}


def compiled_once(compiling: ToolchainProcess, source: KernelSource, capability: tuple[int, int]) -> SassReport:
    """Return the kernel's report; several cases may share one kernel."""
    if (source, capability) not in _REPORTS:
        _REPORTS[source, capability] = compiling.run(CompileJob(source, capability))
    return _REPORTS[source, capability]


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
    if not bounds.proportional:
        return
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


def test_grid_barriers_and_warp_sums_compile(compiling: ToolchainProcess) -> None:
    text = """def kernel(a0, a1, rounds):
    phase = grid_phase(a1)
    value = coherent_float32(a0, cuda.grid(1))
    for step in range(rounds):
        store_coherent_float32(a0, cuda.grid(1), warp_max(warp_sum(value)))
        phase = grid_barrier(a1, phase)
        value = coherent_float32(a0, cuda.gridsize(1) - 1 - cuda.grid(1))
"""
    source = KernelSource("kernel", text, "", (4, 4), 64, scalars=1, cooperative=True, threads=64)
    for capability in CAPABILITIES:
        report = compiling.run(CompileJob(source, capability))
        assert any(re.match(r"REDG?\.E\.ADD\.STRONG\.GPU", name) for name in report.instructions)
        # Past the first-level cache: the counter and the values.
        assert report.instructions["LDG.E.STRONG.GPU"] >= 4
        assert report.instructions["STG.E.STRONG.GPU"] >= 1
        assert_bounds(report, Bounds(40))


def test_a_bound_on_the_threads_of_a_block_bounds_their_registers(compiling: ToolchainProcess) -> None:
    lines = [f"    x{k} = load_float32(a0, {k})" for k in range(80)]
    lines += ["    cuda.syncthreads()", "    value = coherent_float32(a0, cuda.grid(1))", "    total = value"]
    # Each of the 80 waits for what is loaded behind the barrier.
    lines += [f"    total = total * value + x{k}" for k in range(80)]
    text = "\n".join(["def kernel(a0):", *lines, "    store_float32(a0, cuda.grid(1), total)", ""])
    registers = [
        compiling.run(CompileJob(KernelSource("kernel", text, "", (4,), 1, threads=threads), (9, 0))).registers
        for threads in (None, 1024)
    ]
    assert registers[0] > 64 >= registers[1]
