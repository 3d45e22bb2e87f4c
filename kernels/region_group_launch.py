"""Launches several kernels that do not depend on each other as one, each on a range of the launch's blocks."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.compiler.print_cuda_together import block_threads, print_together
from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import KernelSource
from kernels.cuda.launch import DeviceKernels
from kernels.region_launch import THREADS_PER_MULTIPROCESSOR

_FORM = "together"


def block_ends(needed: Sequence[int], capacity: int) -> list[int]:
    """Return the block at which each part ends: as many as it needs where all fit at once, else its share of them.

    needed: blocks of each part. capacity: the blocks that run at once; each part gets one at least.
    """
    total = sum(needed)
    ends: list[int] = []
    for blocks in needed:
        share = blocks if total <= capacity else max(1, blocks * capacity // total)
        ends.append(share + (ends[-1] if ends else 0))
    return ends


class GroupLauncher:
    """Launches the kernels on the current CUDA device; the one that holds them all is compiled once.

    sources: kernels whose memory must not depend on each other's, in forms that their addresses will allow.
    Raises IrError where they do not fit one launch.
    """

    def __init__(self, sources: Sequence[KernelSource]) -> None:
        self.sources = tuple(sources)
        self.source = print_together(self.sources)
        self._kernels = DeviceKernels({_FORM: self.source})

    def prepare(self) -> None:
        """Return nothing; compile and load. Raises CudaUnavailable where numba-cuda or a device is missing."""
        self._kernels.prepare()

    def launch(self, addresses: Sequence[int], stream: int) -> None:
        """Return nothing; queue the launch. addresses: of the sources' buffers, one source after the other.

        Raises ArgumentError for an address that is not aligned as its source's form needs it.
        """
        form = self._kernels.choose(tuple(addresses))
        threads = block_threads(self.sources) or 1
        capacity = THREADS_PER_MULTIPROCESSOR // threads * cuda_launch.multiprocessors()
        ends = block_ends([-(-source.work_items // threads) for source in self.sources], capacity)
        self._kernels.launch(form, ends[-1], threads, stream, (*addresses, *ends[:-1]))
