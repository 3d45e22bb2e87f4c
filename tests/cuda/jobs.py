"""What a test process asks of the toolchain environment: simulate a kernel, or compile it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda.kernel import KernelSource
from kernels.cuda.simulated import SimulatedMemory
from tests.cuda.sass import SassReport, compile_report


@dataclass(frozen=True)
class SimulateJob:
    """One launch in the simulator.

    arrays:        a flat array for each address; the same object twice is the same memory twice.
    scalars:       the numbers that follow the addresses.
    misalignments: bytes by which each address misses a multiple of 16.
    """

    source: KernelSource
    arrays: tuple[np.ndarray, ...]
    blocks: int
    threads: int
    order: str = "ascending"
    misalignments: tuple[int, ...] = ()
    scalars: tuple[int, ...] = ()

    def run(self) -> tuple[np.ndarray, ...]:
        """Return the arrays after the launch."""
        from tests.cuda import simulator

        simulator.install()
        cuda = cuda_kernel.cuda_support.cuda_module()
        assert cuda_kernel.cuda_support.is_simulator()
        kernel = cuda.jit(cuda_kernel.simulated_function(self.source))
        misalignments = self.misalignments or (0,) * len(self.arrays)
        memory = [SimulatedMemory(f"a{k}", a, misalignments[k]) for k, a in enumerate(self.arrays)]
        with simulator.scheduled(self.order):
            kernel[self.blocks, self.threads](*memory, *self.scalars)
        return self.arrays


@dataclass(frozen=True)
class CompileJob:
    """One kernel for one architecture."""

    source: KernelSource
    capability: tuple[int, int]
    maximum_registers: int | None = None

    def run(self) -> SassReport:
        """Return what the compiler made of it."""
        function, signature = cuda_kernel.device_function(self.source), cuda_kernel.signature(self.source)
        limits = (self.maximum_registers, self.source.threads)
        return compile_report(function, signature, self.capability, *limits)


@dataclass(frozen=True)
class Failure:
    """A job that raised: the exception's name and text."""

    message: str
