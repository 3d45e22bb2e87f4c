"""What threads of one launch do together: sums over a warp, and a barrier that the whole grid passes at once.

    warp_sum(value) -> value             over the 32 lanes, for all of them; whole warps only
    warp_max(value) -> value             the same; NaN if any lane's is NaN
    grid_phase(counter) -> phase         once, before the first barrier of a kernel
    grid_barrier(counter, phase) -> phase    what was stored coherently before it is seen by coherent loads after it
counter is the address of one uint32 that is 0 before its first launch ever; each barrier flips its highest bit and
leaves the others 0, so that launches, replays of a CUDA graph among them, need no reset between them. All blocks of
the grid must run at once (KernelSource.cooperative), all their threads must call it, and blocks are one-dimensional.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from kernels.cuda.simulated import SimulatedMemory

PHASE = 0x80000000
WARP = 32


def device_threads(cuda: Any, intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    """Return the functions by name for the CUDA target."""
    functions = _warp_functions(cuda) | barrier_functions(cuda, *_counter_accesses(intrinsic, types))
    return {name: cuda.jit(device=True, inline="always")(function) for name, function in functions.items()}


def simulated_threads() -> dict[str, Callable[..., Any]]:
    """Return the functions by name for the simulator, whose grid barrier joins all blocks."""
    cuda: Any = RunningKernel()

    def grid_phase(counter: SimulatedMemory) -> int:
        if counter.values.dtype != np.uint32 or counter.values.size < 1:
            raise TypeError(f"the grid barrier needs a uint32 counter, not {counter.name} of {counter.values.dtype}")
        if int(counter.values[0]) not in (0, PHASE):
            raise ValueError(f"the grid barrier's counter {counter.name} begins with {counter.values[0]}, not 0")
        return int(counter.values[0])

    def grid_barrier(counter: SimulatedMemory, phase: int) -> int:
        cuda.cg.this_grid().sync()
        if cuda.threadIdx.x == 0 and cuda.blockIdx.x == 0:
            if int(counter.values[0]) != phase:
                raise ValueError(f"the grid barrier was given phase {phase} where its counter says {counter.values[0]}")
            counter.values[0] = PHASE - phase
        return PHASE - int(phase)

    return _warp_functions(cuda) | {"grid_phase": grid_phase, "grid_barrier": grid_barrier}


class RunningKernel:
    """Stands for the CUDA module inside of a simulated kernel: the simulator swaps it only in the kernel itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("numba.cuda.simulator.kernel")._get_kernel_context(), name)


def _warp_functions(cuda: Any) -> dict[str, Callable[..., Any]]:
    def warp_sum(value):  # type: ignore[no-untyped-def]
        value = value + cuda.shfl_xor_sync(0xFFFFFFFF, value, 16)
        value = value + cuda.shfl_xor_sync(0xFFFFFFFF, value, 8)
        value = value + cuda.shfl_xor_sync(0xFFFFFFFF, value, 4)
        value = value + cuda.shfl_xor_sync(0xFFFFFFFF, value, 2)
        return value + cuda.shfl_xor_sync(0xFFFFFFFF, value, 1)

    def warp_max(value):  # type: ignore[no-untyped-def]
        other = cuda.shfl_xor_sync(0xFFFFFFFF, value, 16)
        value = value if value != value or value > other else other
        other = cuda.shfl_xor_sync(0xFFFFFFFF, value, 8)
        value = value if value != value or value > other else other
        other = cuda.shfl_xor_sync(0xFFFFFFFF, value, 4)
        value = value if value != value or value > other else other
        other = cuda.shfl_xor_sync(0xFFFFFFFF, value, 2)
        value = value if value != value or value > other else other
        other = cuda.shfl_xor_sync(0xFFFFFFFF, value, 1)
        return value if value != value or value > other else other

    return {"warp_sum": warp_sum, "warp_max": warp_max}


def barrier_functions(cuda: Any, arrive: Any, observe: Any) -> dict[str, Callable[..., Any]]:
    """Return grid_phase and grid_barrier over arrive(counter, number) and observe(counter) -> its value."""

    def grid_phase(counter):  # type: ignore[no-untyped-def]
        return observe(counter) & 0x80000000

    def grid_barrier(counter, phase):  # type: ignore[no-untyped-def]
        next_phase = 0x80000000 - phase
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            # All arrivals together add 2**31, block 0 what the others leave: whatever the grid, one bit flips.
            arrive(counter, 0x80000001 - cuda.gridDim.x if cuda.blockIdx.x == 0 else 1)
            while (observe(counter) & 0x80000000) != next_phase:
                pass
        cuda.syncthreads()
        return next_phase

    return {"grid_phase": grid_phase, "grid_barrier": grid_barrier}


def _counter_accesses(intrinsic: Callable[..., Any], types: Any) -> tuple[Any, Any]:
    """Return arrive(counter, number), which publishes what the block stored, and observe(counter) -> int64."""
    word, address = ir.IntType(32), ir.IntType(64)

    def add(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [address, word])
        text = "red.release.gpu.global.add.u32 [$0], $1;"
        assembly = ir.InlineAsm(kind, text, "l,r,~{memory}", side_effect=True)
        builder.call(assembly, [arguments[0], builder.trunc(arguments[1], word)])
        return context.get_dummy_value()

    def read(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        text = "ld.acquire.gpu.global.u32 $0, [$1];"
        kind = ir.FunctionType(word, [address])
        assembly = ir.InlineAsm(kind, text, "=r,l,~{memory}", side_effect=True)
        return builder.zext(builder.call(assembly, [arguments[0]]), ir.IntType(64))

    @intrinsic
    def arrive(typing_context, counter, number):  # type: ignore[no-untyped-def]
        return types.void(types.int64, types.int64), add

    @intrinsic
    def observe(typing_context, counter):  # type: ignore[no-untyped-def]
        return types.int64(types.int64), read

    return arrive, observe
