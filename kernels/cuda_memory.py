"""Loads and stores by address for generated kernels: on the device, on the host (the CPU twin), in the simulator.

Four names for each dtype T, index in elements from the address:
    load_T(address, index) -> value              store_T(address, index, value)
    load_Tx4(address, index) -> four values      store_Tx4(address, index, four values)
and read_T, read_Tx4: a load from memory that nothing writes while the kernel runs, which the compiler may move.
An x4 access of a 4-byte dtype is one 128-bit access; the address it reaches must be a multiple of ALIGNMENT[T].
Numba emits no wide access by itself, whatever the array's type: hence LLVM loads of vectors here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from kernels.compiler.ir import DTYPES, ITEM_BYTES

LANES = 4
ALIGNMENT = {dtype: min(16, LANES * ITEM_BYTES[dtype]) for dtype in DTYPES}
GLOBAL_SPACE = 1  # NVVM's address space of device memory: without it every access is a slower generic one
HOST_SPACE = 0

_LLVM = {
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "int32": ir.IntType(32),
    "int64": ir.IntType(64),
    "bool": ir.IntType(8),
}


def compiled_memory(intrinsic: Callable[..., Any], types: Any, space: int) -> dict[str, Any]:
    """Return the accesses by name as Numba intrinsics of one target."""
    names: dict[str, Any] = {}
    for dtype in DTYPES:
        scalar = types.boolean if dtype == "bool" else getattr(types, dtype)
        for lanes, suffix in ((1, ""), (LANES, f"x{LANES}")):
            value = scalar if lanes == 1 else types.UniTuple(scalar, lanes)
            for verb, unchanging in (("load", False), ("read", True)):
                emit_load = _load_emitter(dtype, lanes, space, unchanging)
                names[f"{verb}_{dtype}{suffix}"] = _load_intrinsic(intrinsic, types, value, emit_load)
            emit_store = _store_emitter(dtype, lanes, space)
            names[f"store_{dtype}{suffix}"] = _store_intrinsic(intrinsic, types, value, emit_store)
    return names


def _load_intrinsic(intrinsic: Callable[..., Any], types: Any, value: Any, emit: Callable[..., Any]) -> Any:
    @intrinsic
    def load(typing_context, address, index):  # type: ignore[no-untyped-def]
        return value(types.int64, types.int64), emit

    return load


def _store_intrinsic(intrinsic: Callable[..., Any], types: Any, value: Any, emit: Callable[..., Any]) -> Any:
    @intrinsic
    def store(typing_context, address, index, values):  # type: ignore[no-untyped-def]
        # The type as it came: a float64 value must not be narrowed silently into a float32 buffer.
        return (types.void(types.int64, types.int64, value), emit) if values == value else None

    return store


def _pointer(builder: Any, address: Any, index: Any, dtype: str, lanes: int, space: int) -> Any:
    element = builder.inttoptr(address, _LLVM[dtype].as_pointer(space))
    pointer = builder.gep(element, [index])
    return pointer if lanes == 1 else builder.bitcast(pointer, ir.VectorType(_LLVM[dtype], lanes).as_pointer(space))


def _lane(number: int) -> Any:
    return ir.Constant(ir.IntType(32), number)


def _load_emitter(dtype: str, lanes: int, space: int, unchanging: bool) -> Callable[..., Any]:
    def from_memory(builder: Any, value: Any) -> Any:
        return builder.icmp_unsigned("!=", value, ir.Constant(value.type, 0)) if dtype == "bool" else value

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(builder, arguments[0], arguments[1], dtype, lanes, space)
        loaded = builder.load(pointer, align=ITEM_BYTES[dtype] if lanes == 1 else ALIGNMENT[dtype])
        if unchanging:
            loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        if lanes == 1:
            return from_memory(builder, loaded)
        values = [from_memory(builder, builder.extract_element(loaded, _lane(k))) for k in range(lanes)]
        return context.make_tuple(builder, signature.return_type, values)

    return emit


def _store_emitter(dtype: str, lanes: int, space: int) -> Callable[..., Any]:
    def to_memory(builder: Any, value: Any) -> Any:
        return builder.zext(value, ir.IntType(8)) if dtype == "bool" and value.type.width == 1 else value

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(builder, arguments[0], arguments[1], dtype, lanes, space)
        stored = arguments[2]
        if lanes == 1:
            stored = to_memory(builder, stored)
        else:
            stored = ir.Constant(ir.VectorType(_LLVM[dtype], lanes), ir.Undefined)
            for k in range(lanes):
                value = to_memory(builder, builder.extract_value(arguments[2], k))
                stored = builder.insert_element(stored, value, _lane(k))
        builder.store(stored, pointer, align=ITEM_BYTES[dtype] if lanes == 1 else ALIGNMENT[dtype])
        return context.get_dummy_value()

    return emit


class SimulatedMemory:
    """A buffer in the simulator, in the place of an address: each access is checked.

    values:       the elements that a kernel may touch, one-dimensional.
    misalignment: bytes by which the pretended address misses a multiple of 16.
    """

    def __init__(self, name: str, values: NDArray[Any], misalignment: int = 0) -> None:
        self.name, self.values, self.misalignment = name, values, misalignment

    def check(self, index: int, lanes: int, dtype: str) -> None:
        """Raise IndexError outside of the buffer, TypeError on another dtype, ValueError where misaligned."""
        if self.values.dtype != np.dtype(dtype):
            raise TypeError(f"{dtype} access to {self.name}, which holds {self.values.dtype}")
        if index < 0 or index + lanes > self.values.size:
            raise IndexError(f"access to elements {index} to {index + lanes - 1} of {self.name}[{self.values.size}]")
        reached = self.misalignment + index * self.values.itemsize
        if lanes > 1 and reached % ALIGNMENT[dtype]:
            raise ValueError(f"misaligned {lanes}-element access to {self.name} at byte {reached}")


def simulated_memory() -> dict[str, Callable[..., Any]]:
    """Return the accesses by name as plain functions on SimulatedMemory."""
    names: dict[str, Callable[..., Any]] = {}
    for dtype in DTYPES:
        for lanes, suffix in ((1, ""), (LANES, f"x{LANES}")):
            names[f"load_{dtype}{suffix}"] = names[f"read_{dtype}{suffix}"] = _simulated_load(dtype, lanes)
            names[f"store_{dtype}{suffix}"] = _simulated_store(dtype, lanes)
    return names


def _simulated_load(dtype: str, lanes: int) -> Callable[..., Any]:
    def load(memory: SimulatedMemory, index: int) -> Any:
        memory.check(index, lanes, dtype)
        return memory.values[index] if lanes == 1 else tuple(memory.values[index : index + lanes])

    return load


def _simulated_store(dtype: str, lanes: int) -> Callable[..., Any]:
    def store(memory: SimulatedMemory, index: int, stored: Any) -> None:
        memory.check(index, lanes, dtype)
        values = (stored,) if lanes == 1 else stored
        for value in values:
            if np.asarray(value).dtype != memory.values.dtype:
                raise TypeError(f"{np.asarray(value).dtype} value stored to {memory.name}, which holds {dtype}")
        memory.values[index : index + lanes] = values

    return store
