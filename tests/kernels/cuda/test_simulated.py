"""Memory in the simulator: raw bytes serve accesses of any dtype, typed memory serves its own alone."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.cuda.simulated import SimulatedMemory, simulated_memory

NAMES = simulated_memory()


def test_raw_bytes_are_read_and_written_as_any_dtype() -> None:
    memory = SimulatedMemory("bytes", np.zeros(32, np.uint8))
    NAMES["store_float32x4"](memory, 4, tuple(np.float32([1, -2, 3, 4])))
    assert NAMES["read_float32"](memory, 5) == -2
    assert NAMES["read_uint32"](memory, 5) == 0xC0000000
    assert NAMES["load_uint8"](memory, 23) == 0xC0
    assert not memory.values[:16].any()


@pytest.mark.parametrize(("name", "index"), [("read_uint32", 8), ("read_uint32x4", 5), ("read_int64", -1)])
def test_the_bounds_of_raw_bytes_hold_for_every_dtype(name: str, index: int) -> None:
    with pytest.raises(IndexError, match="of bytes"):
        NAMES[name](SimulatedMemory("bytes", np.zeros(33, np.uint8)), index)


def test_the_alignment_of_raw_bytes_is_that_of_the_access() -> None:
    memory = SimulatedMemory("bytes", np.zeros(64, np.uint8))
    with pytest.raises(ValueError, match="misaligned 4-element access to bytes at byte 8"):
        NAMES["read_uint32x4"](memory, 2)


def test_typed_memory_refuses_another_dtype_and_raw_bytes_a_value_of_another() -> None:
    with pytest.raises(TypeError, match="uint32 access to floats"):
        NAMES["read_uint32"](SimulatedMemory("floats", np.zeros(4, np.float32)), 0)
    with pytest.raises(TypeError, match="float64 value stored to bytes"):
        NAMES["store_float32"](SimulatedMemory("bytes", np.zeros(16, np.uint8)), 0, np.float64(1))
