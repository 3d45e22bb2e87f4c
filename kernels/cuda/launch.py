"""What every family's launcher needs: arguments checked and turned into addresses, kernels compiled once, launches.

A launcher's `prepare` compiles and loads; after it, `launch` neither allocates nor waits, so that it can be captured
into a CUDA graph. A stream is a handle, as torch.cuda.current_stream().cuda_stream; 0 is the default stream.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import support as cuda_support
from kernels.cuda.kernel import KernelSource
from kernels.cuda.memory import ITEM_BYTES


class ArgumentError(ValueError):
    """An argument that does not fit the kernel's buffer; the message names the buffer and what it needs."""


class LaunchError(RuntimeError):
    """A launch that this device cannot do; the message says what it needs and what the device has."""


class BufferLike(Protocol):
    """What is checked of a buffer; kernels.compiler.ir.Buffer has it too."""

    @property
    def name(self) -> str:
        """Return the name in messages."""

    @property
    def dtype(self) -> str:
        """Return the dtype that the kernel accesses it as."""

    @property
    def elements(self) -> int:
        """Return how many elements of that dtype may be touched."""

    @property
    def written(self) -> bool:
        """Return whether the kernel stores into it."""


@dataclass(frozen=True, slots=True)
class LaunchBuffer:
    """A buffer of a kernel.

    given_as: further dtypes that an array may have, counted by its bytes: ("int8",) for codes read as uint32.
    """

    name: str
    dtype: str
    elements: int
    written: bool = False
    given_as: tuple[str, ...] = ()


def addresses_of(buffers: Sequence[BufferLike], arguments: Sequence[Any]) -> tuple[int, ...]:
    """Return the address of each argument: an address, or an object with `__cuda_array_interface__`, contiguous.

    Raises ArgumentError for one that does not fit its buffer, or where their numbers differ.
    """
    if len(arguments) != len(buffers):
        raise ArgumentError(f"{len(arguments)} arguments for {len(buffers)} buffers; give one for each")
    return tuple(address_of(buffer, argument) for buffer, argument in zip(buffers, arguments, strict=True))


def address_of(buffer: BufferLike, argument: Any) -> int:
    """Return the argument's address; raise ArgumentError where it does not fit the buffer."""
    if isinstance(argument, int):
        return argument
    interface = getattr(argument, "__cuda_array_interface__", None)
    if interface is None:
        given = type(argument).__name__
        raise ArgumentError(f"buffer {buffer.name} needs an address or a CUDA array, not {given}; pass a CUDA tensor")
    address, read_only = interface["data"]
    shape, strides = tuple(interface["shape"]), interface.get("strides")
    dtype = np.dtype(interface["typestr"])
    if dtype != np.dtype(buffer.dtype) and str(dtype) not in getattr(buffer, "given_as", ()):
        raise ArgumentError(f"buffer {buffer.name} needs {buffer.dtype}, not {dtype}; convert it first")
    if strides is not None and not _is_contiguous(shape, tuple(strides), dtype.itemsize):
        raise ArgumentError(f"buffer {buffer.name} has strides {strides}; pass the address of its storage instead")
    elements = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize // ITEM_BYTES[buffer.dtype]
    if elements < buffer.elements:
        raise ArgumentError(f"buffer {buffer.name} needs {buffer.elements} elements, not {elements}; pass all of them")
    if buffer.written and read_only:
        raise ArgumentError(f"buffer {buffer.name} is written, but its array is read-only; pass a writable one")
    return int(address)


def require_disjoint(buffers: Sequence[BufferLike], addresses: Sequence[int]) -> None:
    """Return nothing; raise ArgumentError where memory that is written is another buffer's too."""
    places = sorted(
        (address, address + buffer.elements * ITEM_BYTES[buffer.dtype], buffer.name, buffer.written)
        for buffer, address in zip(buffers, addresses, strict=True)
    )
    reach, reaching = 0, ""  # the end of all before, of those written before
    written_reach, written_reaching = 0, ""
    for first, last, name, written in places:
        other = reaching if written and first < reach else written_reaching if first < written_reach else ""
        if other and first < last:
            raise ArgumentError(f"buffers {other} and {name} overlap, and one is written; give each its own memory")
        if last > reach:
            reach, reaching = last, name
        if written and last > written_reach:
            written_reach, written_reaching = last, name


class DeviceKernels:
    """A family's kernels by form, each compiled and loaded once for each device."""

    def __init__(self, sources: dict[str, KernelSource]) -> None:
        self.sources = sources
        self._compiled: dict[tuple[int, str], Any] = {}
        self._resident: dict[tuple[int, str, int], int] = {}

    def prepare(self) -> None:
        """Return nothing; compile and load every form for the current device.

        Raises CudaUnavailable where numba-cuda or a device is missing.
        """
        for form in self.sources:
            self.kernel(form)
        multiprocessors()

    def choose(self, addresses: tuple[int, ...]) -> str:
        """Return the first form, in the order of `sources`, whose alignment the addresses have.

        Raises ArgumentError where there is none.
        """
        for form, source in self.sources.items():
            if source.accepts(addresses):
                return form
        raise ArgumentError(f"an address of {addresses} is no multiple of its element's size; pass element addresses")

    def kernel(self, form: str) -> Any:
        """Return the compiled kernel of a form, for the current device."""
        key = (current_device(), form)
        if key not in self._compiled:
            self._compiled[key] = cuda_kernel.device_kernel(self.sources[form])
        return self._compiled[key]

    def launch(self, form: str, blocks: int, threads: int, stream: int, arguments: Sequence[int]) -> None:
        """Return nothing; queue the kernel on a stream. Its memory must be kept until it ran.

        arguments: addresses, then numbers.
        """
        kernel = self.kernel(form)
        handle = cuda_support.cuda_module().external_stream(stream) if stream else 0
        kernel[blocks, threads, handle](*arguments)

    def resident_blocks(self, form: str, threads: int) -> int:
        """Return how many blocks of a form run at once on the current device, by the driver's count.

        A grid with a barrier must not have more: those that wait would keep the others from starting.
        """
        key = (current_device(), form, threads)
        if key not in self._resident:
            compiled = next(iter(self.kernel(form).overloads.values()))
            self._resident[key] = int(compiled.max_cooperative_grid_blocks(threads))
        return self._resident[key]

    def local_bytes(self, form: str) -> int:
        """Return a thread's bytes of local memory on the current device: registers that did not suffice."""
        return int(next(iter(self.kernel(form).overloads.values())).local_mem_per_thread)

    def require_resident(self, form: str, blocks: int, threads: int) -> None:
        """Return nothing; raise LaunchError where the grid has more blocks than run at once."""
        fit = self.resident_blocks(form, threads)
        if blocks > fit:
            raise LaunchError(
                f"a grid of {blocks} blocks of {threads} threads with a barrier needs all of them at once, "
                f"but this device runs {fit}; use a smaller problem, or a device with more multiprocessors"
            )


def current_device() -> int:
    """Return the current device's number; raise CudaUnavailable where no kernel can be launched."""
    _require_device()
    return int(cuda_support.cuda_module().get_current_device().id)


def multiprocessors() -> int:
    """Return how many multiprocessors the current device has; raise CudaUnavailable without a device."""
    return _multiprocessors_of(current_device())


@functools.cache
def _multiprocessors_of(device: int) -> int:
    return int(cuda_support.cuda_module().get_current_device().MULTIPROCESSOR_COUNT)


@functools.cache
def _require_device() -> None:
    # Asked once: it looks through folders, and a launch takes microseconds.
    cuda_support.require_device()


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], item_bytes: int) -> bool:
    expected = item_bytes
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True
