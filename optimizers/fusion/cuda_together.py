"""Kernel launches on a CUDA device held back until something needs them: those that are independent become one launch.

While a program is recorded into a CUDA graph, its launches wait in a queue. Before an op of the library that touches
the same memory, and at the end, the queue is launched in waves: a launch is in the first wave in which all that it
depends on is over, by the memory that each reads and writes. The small ones of a wave are one kernel, each on blocks of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels.compiler.ir import ITEM_BYTES
from kernels.compiler.print_cuda_together import block_threads
from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import KernelSource
from kernels.region_group_launch import GroupLauncher
from kernels.region_launch import THREADS_PER_MULTIPROCESSOR
from optimizers.fusion.cuda_kernels import CudaKernel, Launch, LoopKernel, RegionKernel, stream_of
from optimizers.fusion.cuda_waves import Footprint, dependent, overlap, span_of, storage_span, waves

MOST_PARTS = 8
"""Of one kernel: a larger one takes longer to compile than it can save."""
MOST_KERNELS = 16
"""That are compiled for one program; what is left over is launched one by one."""
MOST_WAITING = 500
"""Launches in the queue: finding what depends on what takes the square of it."""
_ALLOCATIONS = ("aten::empty", "aten::empty_strided", "aten::new_empty", "aten::empty_like")


class Group:
    """What launches the kernels of some sources at once; see GroupLauncher."""

    def __init__(self, sources: Sequence[KernelSource]) -> None:
        self._launcher = GroupLauncher(sources)
        self._launcher.prepare()

    def launch(self, addresses: Sequence[int], device: torch.device) -> None:
        """Queue the launch on torch's current stream."""
        self._launcher.launch(addresses, stream_of(device))


@dataclass
class Together:
    """The joined kernels of one program, shared by its runners.

    make: sources -> what launches them at once, compiled and loaded.
    room: the threads that the device runs at once; a kernel with as many is launched by itself.
    """

    make: Callable[[Sequence[KernelSource]], Any] = Group
    room: Callable[[], int] = lambda: THREADS_PER_MULTIPROCESSOR * cuda_launch.multiprocessors()
    groups: dict[tuple[KernelSource, ...], Any] = field(default_factory=dict)
    refused: dict[tuple[KernelSource, ...], str] = field(default_factory=dict)
    """Why sources that fit by their blocks are launched one by one."""

    def group(self, sources: tuple[KernelSource, ...], may_compile: bool) -> Any | None:
        """Return what launches the sources at once; None where it is not there and cannot be made now."""
        if sources not in self.groups and may_compile and sources not in self.refused:
            if len(self.groups) >= MOST_KERNELS:
                return None
            try:
                self.groups[sources] = self.make(sources)
            except Exception as error:  # the compiler's errors and the driver's have no other base in common
                self.refused[sources] = " ".join(str(error).split())[:300]
        return self.groups.get(sources)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A launch in the queue. source: of a kernel that can be joined, None for another."""

    launch: Launch
    touched: Footprint
    source: KernelSource | None


class LaunchQueue:
    """Holds back the launches of one program's kernels.

    launches: how each kernel is launched by itself, by name.
    kept:     what no op of the library is given as new memory while the program is recorded.
    """

    def __init__(
        self,
        together: Together,
        kernels: Mapping[str, CudaKernel],
        launches: Mapping[str, Launch],
        device: torch.device,
        kept: Sequence[torch.Tensor] = (),
    ) -> None:
        self._together, self._device = together, device
        self._waiting: list[_Waiting] = []
        self._kept = [storage_span(tensor) for tensor in kept]
        self._allocated: list[torch.Tensor] = []
        self._loose = False  # whether what waits touches memory that may be free by now
        self.launches = {name: self._held_back(kernels[name], launch) for name, launch in launches.items()}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold launches back within the context; at its end all are launched."""
        try:
            with _Flushing(self):
                yield
            self.flush()
        finally:
            self._allocated.clear()
            self._waiting.clear()

    def allocated(self, tensor: torch.Tensor) -> None:
        """Keep a tensor without content for as long as launches are held: none other is given its memory."""
        self._allocated.append(tensor)

    def before_op(self, func: Any, tensors: Sequence[torch.Tensor]) -> None:
        """Launch all that waits where an op of the library with these arguments cannot run before it.

        That is where they touch the same bytes and one of them writes, and where a launch touches memory that may be
        free by now: the op's result could be given that very memory.
        """
        writes = bool(func._schema.is_mutable)
        spans = tuple((*span_of(tensor), writes) for tensor in tensors)
        if self._loose or any(overlap(launch.touched.spans, spans) for launch in self._waiting):
            self.flush()

    def _is_kept(self, begin: int, end: int) -> bool:
        kept = (*self._kept, *map(storage_span, self._allocated))
        return any(first <= begin and end <= last for first, last in kept)

    def flush(self) -> None:
        """Launch all that waits."""
        waiting, self._waiting, self._loose = self._waiting, [], False
        for wave in waves(dependent([launch.touched for launch in waiting])):
            for group in self._grouped([waiting[number] for number in wave]):
                self._launch(group)

    def _held_back(self, kernel: CudaKernel, launch: Launch) -> Launch:
        buffers = _buffers(kernel)
        if buffers is None:
            # What it touches is not known: it waits for all, and all wait for it.
            def alone(*addresses: int) -> None:
                self.flush()
                launch(*addresses)

            return alone

        def hold(*addresses: int) -> None:
            spans = tuple((a, a + size, writes) for a, (size, writes) in zip(addresses, buffers, strict=True))
            region = kernel.launcher.region if isinstance(kernel, RegionKernel) else None
            touched = Footprint(addresses, spans, region)
            self._waiting.append(_Waiting(launch, touched, self._source(kernel, addresses)))
            self._loose = self._loose or not all(self._is_kept(begin, end) for begin, end, _ in spans)
            if len(self._waiting) >= MOST_WAITING:
                self.flush()

        return hold

    def _source(self, kernel: CudaKernel, addresses: tuple[int, ...]) -> KernelSource | None:
        """Return the form that the addresses allow, None for a kernel that is not to be joined."""
        sources = kernel.sources if isinstance(kernel, RegionKernel) else {}
        for source in sources.values():
            if source.accepts(addresses):
                return source if 2 * source.work_items <= self._together.room() else None
        return None

    def _grouped(self, wave: Sequence[_Waiting]) -> list[list[_Waiting]]:
        """Return a wave's launches as those that are made at once."""
        groups: list[list[_Waiting]] = []
        for launch in wave:
            for group in groups:
                together = [other.source for other in (*group, launch) if other.source is not None]
                if len(together) == len(group) + 1 <= MOST_PARTS and block_threads(together) is not None:
                    group.append(launch)
                    break
            else:
                groups.append([launch])
        return groups

    def _launch(self, group: Sequence[_Waiting]) -> None:
        if len(group) > 1:
            # Sorted: the same kernels in another order are the same group.
            ordered = sorted(group, key=lambda launch: repr(launch.source))
            sources = tuple(launch.source for launch in ordered if launch.source is not None)
            joined = self._together.group(sources, may_compile=not _is_capturing(self._device))
            if joined is not None:
                joined.launch([address for launch in ordered for address in launch.touched.addresses], self._device)
                return
        for launch in group:
            launch.launch(*launch.touched.addresses)


class _Flushing(TorchDispatchMode):
    """Launches what an op of the library needs before it runs; a view, or memory without content, needs nothing."""

    def __init__(self, queue: LaunchQueue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._queue = queue

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return what the op returns."""
        kwargs = kwargs or {}
        if func.name().partition(".")[0] in _ALLOCATIONS:
            result: torch.Tensor = func(*args, **kwargs)
            self._queue.allocated(result)
            return result
        if not func.is_view:
            given = tree_leaves((args, kwargs))
            self._queue.before_op(func, [value for value in given if isinstance(value, torch.Tensor)])
        return func(*args, **kwargs)


def _buffers(kernel: CudaKernel) -> tuple[tuple[int, bool], ...] | None:
    """Return the bytes of each of a kernel's buffers, and whether it writes them; None for an unknown kernel."""
    if isinstance(kernel, RegionKernel):
        buffers = kernel.launcher.region.buffers
        return tuple((buffer.elements * ITEM_BYTES[buffer.dtype], buffer.written) for buffer in buffers)
    if isinstance(kernel, LoopKernel):
        return tuple((buffer.nbytes, True) for buffer in kernel.launcher.program.buffers)
    return None


def _is_capturing(device: torch.device) -> bool:
    # What is not compiled and loaded by then cannot be: a capture records launches alone.
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
