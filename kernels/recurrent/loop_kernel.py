"""A loop program as one persistent kernel: its source, its buffers, its float64 reference and its launcher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler.ir import ITEM_BYTES
from kernels.compiler.loop_ir import LoopProgram
from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import KernelSource
from kernels.cuda.launch import DeviceKernels, LaunchBuffer, LaunchError, addresses_of, require_disjoint
from kernels.recurrent.loop_schedule import Pipeline, planned
from kernels.recurrent.loop_text import ENTRY, LoopText
from kernels.recurrent.loop_twin import twin_text

WARPS = (8, 12, 16, 20, 24, 32)
"""Warps of a block, in the order in which a device is asked whether the grid fits it."""
THREADS_OF_A_MULTIPROCESSOR, REGISTERS_OF_A_MULTIPROCESSOR = 2048, 65536


def loop_text(program: LoopProgram, warps: int = WARPS[0]) -> LoopText:
    """Return the persistent kernel of a loop. Raises LoopError for a loop that it cannot run, in a line."""
    text = LoopText(planned(program), warps)
    text.text()  # says whether the factors fit
    return text


def loop_source(text: LoopText) -> KernelSource:
    """Return the kernel; launch it with text.blocks blocks of text.threads threads."""
    return KernelSource(
        entry=ENTRY,
        text=text.text(),
        host_text=twin_text(text),
        alignment=(*_alignment(text.pipeline), 4),
        work_items=text.blocks * text.threads,
        cooperative=True,
        threads=text.threads,
    )


def loop_buffers(program: LoopProgram) -> tuple[LaunchBuffer, ...]:
    """Return what a launch needs memory for: the program's buffers, as bytes, and a counter.

    counter [1], uint32: 0 before its first launch; not shared by launches that may run at the same time.
    """
    buffers = (LaunchBuffer(b.name, "uint8", b.nbytes, b.written, tuple(ITEM_BYTES)) for b in program.buffers)
    return (*buffers, LaunchBuffer("counter", "uint32", 1, True, ("int32",)))


def loop_reference(program: LoopProgram, arrays: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Return what the buffers, all of float32, hold after the loop, every value computed and kept in float64."""
    # Imported here: the oracle needs SciPy, which an environment that only compiles kernels lacks.
    from kernels.compiler.loop_reference import ExactMemory, evaluate_loop

    memories = [ExactMemory(array.view(np.uint8)) for array in arrays]
    evaluate_loop(program, memories)
    return [memory.typed("float32") for memory in memories]


class LoopLauncher:
    """Launches one loop on the current CUDA device; its kernel is compiled once, at first use or by `prepare`."""

    def __init__(self, program: LoopProgram) -> None:
        self.program = program
        self.buffers = loop_buffers(program)
        self._pipeline = loop_text(program).pipeline
        self._plans: dict[int, tuple[LoopText, DeviceKernels]] = {}

    def prepare(self) -> None:
        """Return nothing; compile, load, and find a grid that fits, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing, LaunchError where the loop does not fit it.
        """
        self._plan()

    def launch(self, arguments: Sequence[Any], stream: int) -> None:
        """Return nothing; the work is queued on the stream: keep the arguments until it ran.

        arguments: for each of `buffers`, an address or an object with `__cuda_array_interface__`.
        Raises ArgumentError for an argument that does not fit, LaunchError and CudaUnavailable as `prepare`.
        """
        addresses = addresses_of(self.buffers, arguments)
        require_disjoint(self.buffers, addresses)
        text, kernels = self._plan()
        form = kernels.choose(addresses)
        kernels.launch(form, text.blocks, text.threads, stream, addresses)

    def _plan(self) -> tuple[LoopText, DeviceKernels]:
        """Return text and kernel for the current device: of the grids that fit it, the one with most blocks."""
        device = cuda_launch.current_device()
        if device not in self._plans:
            self._plans[device] = self._fitting()
        return self._plans[device]

    def _fitting(self) -> tuple[LoopText, DeviceKernels]:
        refused = ""
        for warps in WARPS:
            text = LoopText(self._pipeline, warps)
            if text.blocks > most_blocks(text):
                refused = refused or f"{text.blocks} blocks of {text.threads} threads cannot all run at once"
                continue
            kernels = DeviceKernels({"persistent": loop_source(text)})
            kernels.prepare()
            local = kernels.local_bytes("persistent")
            if local:
                refused = f"blocks of {text.threads} threads leave {local} bytes a thread outside of registers"
                continue
            try:
                kernels.require_resident("persistent", text.blocks, text.threads)
            except LaunchError as error:
                refused = str(error)
                continue
            return text, kernels
        raise LaunchError(f"the loop's stages do not fit this device: {refused}")


def most_blocks(text: LoopText) -> int:
    """Return how many blocks the current device can run at once at best: what need not be compiled to be refused."""
    by_registers = REGISTERS_OF_A_MULTIPROCESSOR // (text.threads * text.least_registers)
    by_threads = THREADS_OF_A_MULTIPROCESSOR // text.threads
    return max(1, min(by_registers, by_threads)) * cuda_launch.multiprocessors()


def _alignment(pipeline: Pipeline) -> list[int]:
    """Return the bytes that each buffer's address must be a multiple of: its largest element."""
    program = pipeline.stages.program
    found = [1] * len(program.buffers)
    for stage in (*pipeline.stages.before, *pipeline.stages.stages):
        for window, buffer in zip(stage.windows, stage.region.buffers, strict=True):
            found[window.buffer] = max(found[window.buffer], ITEM_BYTES[buffer.dtype])
        for product in stage.products.values():
            for term in product.terms:
                for window in (term.left, term.right):
                    found[window.buffer] = max(found[window.buffer], ITEM_BYTES[product.dtype])
    return found
