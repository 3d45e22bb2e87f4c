"""The kernels of a fused program for a CUDA device: every region and loop with its launcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from kernels.compiler.ir import IrError, Region
from kernels.compiler.loop_ir import LoopProgram
from kernels.cuda.kernel import KernelSource
from kernels.cuda.support import CudaUnavailable
from kernels.recurrent.loop_kernel import LoopLauncher
from kernels.recurrent.loop_stages import LoopError
from kernels.region_launch import FORMS, RegionLauncher
from optimizers.fusion.capture import UnfusableError
from optimizers.fusion.program import Program

Launch = Callable[..., None]
"""launch(*addresses): queues one kernel on torch's current stream."""


class CudaKernel(Protocol):
    """What a program's kernel must be able to do."""

    def prepare(self) -> None:
        """Compile and load, so that launches neither allocate nor wait."""

    def bound(self, device: torch.device) -> Launch:
        """Return how one runner launches the kernel; whatever memory the kernel needs of its own is made here."""


@dataclass(frozen=True)
class RegionKernel:
    """A region on the device."""

    launcher: RegionLauncher

    @property
    def sources(self) -> dict[str, KernelSource]:
        """Return the kernel's forms, the one that is launched where its alignment allows first."""
        found = self.launcher.sources
        return {form: found[form] for form in FORMS if form in found}

    def prepare(self) -> None:
        """Compile and load every form."""
        self.launcher.prepare()

    def bound(self, device: torch.device) -> Launch:
        """Return the launch of the form that the addresses allow."""

        def launch(*addresses: int) -> None:
            self.launcher.launch(addresses, stream_of(device))

        return launch


@dataclass(frozen=True)
class LoopKernel:
    """A loop as one persistent kernel."""

    launcher: LoopLauncher

    def prepare(self) -> None:
        """Compile, load, and find a grid that fits."""
        self.launcher.prepare()

    def bound(self, device: torch.device) -> Launch:
        """Return the launch, with a barrier's counter that no other runner uses."""
        counter = torch.zeros(1, dtype=torch.int32, device=device)

        def launch(*addresses: int) -> None:
            self.launcher.launch((*addresses, counter.data_ptr()), stream_of(device))

        return launch


def cuda_kernels(program: Program) -> dict[str, CudaKernel]:
    """Return the kernel of each distinct region and loop by its name in the program's source; none is compiled yet.

    Raises UnfusableError for one that has no CUDA text, in a line.
    """
    kernels: dict[str, CudaKernel] = {}
    try:
        for name, kernel in program.kernels.items():
            kernels[name] = _kernel(kernel)
    except (IrError, LoopError) as error:
        raise UnfusableError(f"the CUDA compiler refuses a kernel: {error}") from error
    return kernels


def prepare(kernels: Mapping[str, CudaKernel]) -> None:
    """Return nothing; compile and load all kernels. Raises UnfusableError where no device can run them."""
    try:
        for kernel in kernels.values():
            kernel.prepare()
    except (CudaUnavailable, RuntimeError) as error:
        raise UnfusableError(f"its CUDA kernels cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def _kernel(kernel: object) -> CudaKernel:
    if isinstance(kernel, Region):
        return RegionKernel(RegionLauncher(kernel))
    if isinstance(kernel, LoopProgram):
        return LoopKernel(LoopLauncher(kernel))
    raise IrError(f"{type(kernel).__name__} is for the CPU")


def stream_of(device: torch.device) -> int:
    """Return the handle of torch's current stream."""
    return int(torch.cuda.current_stream(device).cuda_stream)
