"""The accesses of kernels/cuda/memory.py in the simulator: plain functions that check each access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda.memory import LOADS, MemoryAccess, memory_accesses


class SimulatedMemory:
    """A buffer in the simulator, in the place of an address: each access is checked.

    values:       the elements that a kernel may touch, one-dimensional. Those of uint8 are raw bytes: an access of
                  another dtype reaches them too, its index counting its own elements.
    misalignment: bytes by which the pretended address misses a multiple of 16.
    """

    def __init__(self, name: str, values: NDArray[Any], misalignment: int = 0) -> None:
        self.name, self.values, self.misalignment = name, values, misalignment

    def check(self, index: int, access: MemoryAccess) -> None:
        """Raise IndexError outside of the buffer, TypeError on another dtype, ValueError where misaligned."""
        dtype, lanes = access.dtype, access.lanes
        if self.values.dtype not in (np.dtype(dtype), np.uint8):
            raise TypeError(f"{dtype} access to {self.name}, which holds {self.values.dtype}")
        item_bytes = np.dtype(dtype).itemsize
        size = self.values.nbytes // item_bytes
        if index < 0 or index + lanes > size:
            raise IndexError(f"access to elements {index} to {index + lanes - 1} of {self.name}[{size}]")
        reached = self.misalignment + int(index) * item_bytes
        if lanes > 1 and reached % access.alignment:
            raise ValueError(f"misaligned {lanes}-element access to {self.name} at byte {reached}")

    def elements(self, index: int, access: MemoryAccess) -> NDArray[Any]:
        """Return the elements that a checked access reaches, to read or to write."""
        if self.values.dtype == np.dtype(access.dtype):
            return self.values[index : index + access.lanes]
        item_bytes = np.dtype(access.dtype).itemsize
        return self.values[index * item_bytes : (index + access.lanes) * item_bytes].view(access.dtype)


def simulated_memory() -> dict[str, Callable[..., Any]]:
    """Return the accesses by name as plain functions on SimulatedMemory."""
    return {a.name: _simulated_load(a) if a.verb in LOADS else _simulated_store(a) for a in memory_accesses()}


def _simulated_load(access: MemoryAccess) -> Callable[..., Any]:
    lanes = access.lanes

    def load(memory: SimulatedMemory, index: int) -> Any:
        memory.check(index, access)
        elements = memory.elements(index, access)
        return elements[0] if lanes == 1 else tuple(elements)

    return load


def _simulated_store(access: MemoryAccess) -> Callable[..., Any]:
    lanes = access.lanes

    def store(memory: SimulatedMemory, index: int, stored: Any) -> None:
        memory.check(index, access)
        values = (stored,) if lanes == 1 else stored
        if len(values) != lanes:
            raise TypeError(f"{len(values)} values stored by {access.name} to {memory.name}")
        for value in values:
            given = np.asarray(value).dtype
            if given != np.dtype(access.dtype):
                raise TypeError(f"{given} value stored to {memory.name}, which holds {access.dtype}")
        memory.elements(index, access)[:] = values

    return store
