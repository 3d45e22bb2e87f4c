"""What a launch asks of the driver, recorded without one: numba-cuda's own path from the kernel to the launch.

Run inside the toolchain environment. The device is named, loading is left out, the driver's launch is noted down.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import support as cuda_support
from kernels.cuda.kernel import KernelSource


@dataclass(frozen=True)
class RecordedLaunch:
    """One launch as the driver would get it.

    arguments:   their values, in order.
    occupancy:   what the driver is asked about how many blocks run at once: (threads a block, shared bytes).
    thread_bound: the most threads a block that the code was compiled for.
    """

    grid: tuple[int, ...]
    block: tuple[int, ...]
    cooperative: bool
    arguments: tuple[int, ...]
    resident_blocks: int
    occupancy: tuple[int, int]
    thread_bound: int | None


@dataclass(frozen=True)
class LaunchJob:
    """One kernel compiled as for a device and launched on none; of its blocks 3 fit each of 4 multiprocessors."""

    source: KernelSource
    blocks: int
    threads: int
    arguments: tuple[int, ...]

    def run(self) -> RecordedLaunch:
        """Return what the driver was asked for."""
        launches: list[tuple[Any, tuple[Any, ...]]] = []
        questions: list[tuple[int, int]] = []

        def occupancy(function: Any, threads: int, shared_bytes: int) -> int:
            questions.append((threads, shared_bytes))
            return 3

        context = SimpleNamespace(
            get_active_blocks_per_multiprocessor=occupancy, device=SimpleNamespace(MULTIPROCESSOR_COUNT=4)
        )
        with _without_driver(launches, context):
            kernel = cuda_kernel.device_kernel(self.source)
            compiled = next(iter(kernel.overloads.values()))
            kernel[self.blocks, self.threads, 0](*self.arguments)
            resident = int(compiled.max_cooperative_grid_blocks(self.threads))
        ((config, arguments),) = launches
        return RecordedLaunch(
            grid=tuple(config["grid"]),
            block=tuple(config["block"]),
            cooperative=bool(config["is_cooperative"]),
            arguments=tuple(int(getattr(argument, "value", argument)) for argument in arguments),
            resident_blocks=resident,
            occupancy=questions[0],
            thread_bound=compiled.launch_bounds,
        )


@contextlib.contextmanager
def _without_driver(launches: list[tuple[Any, tuple[Any, ...]]], context: Any) -> Iterator[None]:
    from numba.cuda import codegen, compiler, dispatcher

    device = SimpleNamespace(compute_capability=(9, 0))
    function = SimpleNamespace(kernel=None)

    def launch(stream: Any, config: Any, kernel: Any, *arguments: Any) -> None:
        launches.append((config, arguments))

    with contextlib.ExitStack() as patches:
        for target, name, value in (
            (cuda_support, "require_device", lambda: None),
            (dispatcher, "get_current_device", lambda: device),
            (compiler, "get_current_device", lambda: device),
            (codegen.CUDACodeLibrary, "_ensure_cc", lambda self, cc: cc or device.compute_capability),
            (codegen.CUDACodeLibrary, "get_cufunc", lambda self: function),
            (dispatcher._Kernel, "bind", lambda self: None),
            (dispatcher, "LaunchConfig", dict),
            (dispatcher, "launch", launch),
            (dispatcher, "get_context", lambda: context),
        ):
            patches.enter_context(mock.patch.object(target, name, value))
        yield
