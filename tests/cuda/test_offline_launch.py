"""A launch from `device_kernel` to the driver's door, through numba-cuda's own code; no device takes part."""

from __future__ import annotations

import pytest

from kernels.cuda.kernel import KernelSource
from kernels.recurrent.cell import GRU
from kernels.recurrent.kernel import recurrent_source, recurrent_texts
from tests.cuda.jobs import CompileJob
from tests.cuda.offline_launch import LaunchJob
from tests.cuda.toolchain_process import ToolchainProcess

pytestmark = pytest.mark.cuda_toolchain
PLAIN = KernelSource(
    "kernel", "def kernel(a0, rows):\n    store_int64(a0, cuda.grid(1), rows)\n", "", (8,), 1, scalars=1
)


def test_a_kernel_with_a_grid_barrier_reaches_the_driver_as_a_cooperative_launch(compiling: ToolchainProcess) -> None:
    text = recurrent_texts(GRU, 12, 2)["wide"]
    arguments = (*(4096 * k for k in range(1, 9)), 100)
    recorded = compiling.run(LaunchJob(recurrent_source(text), text.blocks, text.threads, arguments))
    assert recorded.cooperative
    assert (recorded.grid, recorded.block) == ((2, 1, 1), (256, 1, 1))
    assert recorded.arguments == arguments
    assert (recorded.resident_blocks, recorded.occupancy) == (12, (256, 0))
    assert recorded.thread_bound == 256


def test_an_ordinary_kernel_is_launched_as_one_with_any_address_and_number(compiling: ToolchainProcess) -> None:
    recorded = compiling.run(LaunchJob(PLAIN, 7, 96, (0x7F0000000008, -(2**40))))
    assert not recorded.cooperative and recorded.thread_bound is None
    assert (recorded.grid, recorded.block) == ((7, 1, 1), (96, 1, 1))
    assert recorded.arguments == (0x7F0000000008, -(2**40))


def test_recording_a_launch_leaves_the_compiling_process_as_it_was(compiling: ToolchainProcess) -> None:
    compiling.run(LaunchJob(PLAIN, 1, 32, (0, 0)))
    for capability in ((8, 0), (9, 0)):
        assert compiling.run(CompileJob(PLAIN, capability)).architecture == f"sm_{capability[0]}{capability[1]}"
