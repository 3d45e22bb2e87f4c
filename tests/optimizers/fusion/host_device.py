"""Stands in for a CUDA device: kernels' CPU twins on host memory, and a recorder that runs everything again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kernels.compiler.ir import Region
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.print_cuda import print_cuda
from kernels.cuda.kernel import KernelSource, host_function
from kernels.recurrent.loop_kernel import loop_source, loop_text
from optimizers.fusion.cuda_runner import Flat, Replay, _whole
from optimizers.fusion.program import Program


class TwinKernel:
    """A kernel whose launch runs its CPU twin at the addresses."""

    def __init__(self, source: KernelSource, counters: int) -> None:
        self.source, self.counters, self.launches = source, counters, 0

    def prepare(self) -> None:
        host_function(self.source)

    def bound(self, device: torch.device) -> Callable[..., None]:
        assert device.type == "cpu"
        counter = torch.zeros(1, dtype=torch.int32)
        further = (counter.data_ptr(),) * self.counters

        def launch(*addresses: int) -> None:
            assert self.source.accepts((*addresses, *further))
            self.launches += 1
            host_function(self.source)(*addresses, *further)
            assert counter.item() == 0

        return launch


def twin_kernels(program: Program) -> dict[str, TwinKernel]:
    """Return the twin of each kernel of a program, as the device's printers write it."""
    found = {}
    for name, kernel in program.kernels.items():
        if isinstance(kernel, LoopProgram):
            found[name] = TwinKernel(loop_source(loop_text(kernel)), 1)
        else:
            assert isinstance(kernel, Region)
            found[name] = TwinKernel(print_cuda(kernel)["scalar"], 0)
    return found


class Again:
    """Records by remembering: a replay runs the function again and copies its results into the first ones."""

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, function: Callable[[], Flat]) -> tuple[Flat, Replay]:
        self.recorded += 1
        kept = function()

        def replay() -> None:
            for old, new in zip(kept, function(), strict=True):
                self._copy(old, new)

        return kept, replay

    def _copy(self, old: Any, new: Any) -> None:
        if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
            _whole(old).copy_(_whole(new))
