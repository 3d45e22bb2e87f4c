"""Launches kernels that walk a table of segments: the table lies in device memory, uploaded before the first launch."""

from __future__ import annotations

from typing import Any

from kernels.cuda import launch as cuda_launch
from kernels.cuda import support as cuda_support
from kernels.cuda.kernel import THREADS_PER_BLOCK, KernelSource
from kernels.cuda.launch import DeviceKernels, LaunchBuffer
from kernels.transfer.segment_table import Table

BLOCKS_PER_MULTIPROCESSOR = 8
ANY_DTYPE = ("bool", "int8", "uint16", "int16", "float16", "uint32", "int32", "float32", "int64", "float64")


def memory_buffer(name: str, size: int, written: bool) -> LaunchBuffer:
    """Return a buffer of so many bytes, given as an address or as a contiguous CUDA array of any dtype."""
    return LaunchBuffer(name, "uint8", size, written, given_as=ANY_DTYPE)


class SegmentLauncher:
    """Launches one kernel on one table."""

    def __init__(self, source: KernelSource, table: Table, units_of_block: int) -> None:
        """units_of_block: how many of the table's units a block of THREADS_PER_BLOCK threads takes at once."""
        self.kernels = DeviceKernels({source.entry: source})
        self.table, self.units_of_block = table, units_of_block
        self._entry = source.entry
        self._uploaded: dict[int, tuple[Any, int]] = {}

    def prepare(self) -> None:
        """Return nothing; compile the kernel and upload the table, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing.
        """
        self.kernels.prepare()
        self._device_table()

    def launch(self, sources: int, destinations: int, stream: int) -> None:
        """Return nothing; queue the kernel on a stream. Keep all memory that the table names until it ran.

        sources, destinations: device addresses of the bases, multiples of 16; 0 where the table holds addresses.
        """
        if not self.table[1]:
            return
        tiles = -(-int(self.table[1]) // self.units_of_block)
        blocks = min(tiles, BLOCKS_PER_MULTIPROCESSOR * cuda_launch.multiprocessors())
        arguments = (self._device_table(), sources, destinations)
        form = self.kernels.choose(arguments)
        self.kernels.launch(form, blocks, THREADS_PER_BLOCK, stream, arguments)

    def _device_table(self) -> int:
        device = cuda_launch.current_device()
        if device not in self._uploaded:
            array = cuda_support.cuda_module().to_device(self.table)
            buffer = LaunchBuffer("table", "int64", self.table.size)
            self._uploaded[device] = array, cuda_launch.address_of(buffer, array)
        return self._uploaded[device][1]
