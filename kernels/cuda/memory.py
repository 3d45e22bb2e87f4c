"""Loads and stores by address for generated kernels: on the device, and on the host for the CPU twin.

A name is a verb, a dtype and, where it moves several neighbours at once, their number: load_float32, store_uint8x16.
The index counts elements from the address; a wide access gives or takes a tuple.
    load_T(address, index) -> value              any memory
    read_T(address, index) -> value              memory that nothing writes while the kernel runs; may be moved
    stream_T(address, index) -> value            the same, of memory that is used once: first to leave the cache
    coherent_T(address, index) -> value          memory that other blocks write while the kernel runs
    store_T(address, index, value)
    store_coherent_T(address, index, value)      for other blocks to load coherently after a grid barrier
A 16-byte access is one instruction; the place it reaches must be a multiple of access_alignment(T, lanes).
Numba emits no wide access by itself, whatever the array's type: hence LLVM loads of vectors here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from kernels.compiler.ir import DTYPES
from kernels.compiler.ir import ITEM_BYTES as REGION_ITEM_BYTES

LANES = 4
ITEM_BYTES = {**REGION_ITEM_BYTES, "uint32": 4, "uint16": 2, "uint8": 1, "int8": 1}
WIDTHS: dict[str, tuple[int, ...]] = dict.fromkeys((*DTYPES, "uint32"), (1, LANES))
WIDTHS |= {"uint16": (1, 4, 8), "uint8": (1, 4, 16), "int8": (1, 4, 16)}
SMALL = ("uint16", "uint8", "int8")
GLOBAL_SPACE = 1  # NVVM's address space of device memory: without it every access is a slower generic one
HOST_SPACE = 0
WORD = ir.IntType(32)

LOADS = ("load", "read", "stream", "coherent")
STORES = ("store", "store_coherent")
HINTED = {"stream": "cs", "coherent": "cg", "store_coherent": "cg"}  # as PTX names the cache operators
HINTED_DTYPES = {"float32": "f32", "uint32": "u32"}

_LLVM = {
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "int32": ir.IntType(32),
    "int64": ir.IntType(64),
    "bool": ir.IntType(8),
    "uint32": ir.IntType(32),
    "uint16": ir.IntType(16),
    "uint8": ir.IntType(8),
    "int8": ir.IntType(8),
}


def access_alignment(dtype: str, lanes: int) -> int:
    """Return the bytes that the place of such an access must be a multiple of."""
    return min(16, lanes * ITEM_BYTES[dtype])


ALIGNMENT = {dtype: access_alignment(dtype, LANES) for dtype in WIDTHS}


@dataclass(frozen=True, slots=True)
class MemoryAccess:
    """One function that kernels call: what it does, on which dtype, how many neighbours at once."""

    verb: str
    dtype: str
    lanes: int

    @property
    def name(self) -> str:
        """Return the name that kernels use."""
        return f"{self.verb}_{self.dtype}" + (f"x{self.lanes}" if self.lanes > 1 else "")

    @property
    def alignment(self) -> int:
        """Return the bytes that the place must be a multiple of."""
        return access_alignment(self.dtype, self.lanes)


def memory_accesses() -> tuple[MemoryAccess, ...]:
    """Return every access that kernels may use."""
    return tuple(
        MemoryAccess(verb, dtype, lanes)
        for verb in (*LOADS, *STORES)
        for dtype in (HINTED_DTYPES if verb in HINTED else WIDTHS)
        for lanes in WIDTHS[dtype]
    )


def compiled_memory(intrinsic: Callable[..., Any], types: Any, space: int) -> dict[str, Any]:
    """Return the accesses by name as Numba intrinsics of one target."""
    names: dict[str, Any] = {}
    for access in memory_accesses():
        scalar = types.boolean if access.dtype == "bool" else getattr(types, access.dtype)
        value = scalar if access.lanes == 1 else types.UniTuple(scalar, access.lanes)
        # Cache operators mean nothing to the host, which is alone with its memory.
        hinted = access.verb in HINTED and space == GLOBAL_SPACE
        if access.verb in LOADS:
            load_emitter = _hinted_load_emitter if hinted else _load_emitter
            names[access.name] = _load_intrinsic(intrinsic, types, value, load_emitter(access, space))
        else:
            store_emitter = _hinted_store_emitter if hinted else _store_emitter
            names[access.name] = _store_intrinsic(intrinsic, types, value, store_emitter(access, space))
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


def _pointer(builder: Any, address: Any, index: Any, access: MemoryAccess, space: int) -> Any:
    item = _LLVM[access.dtype]
    pointer = builder.gep(builder.inttoptr(address, item.as_pointer(space)), [index])
    return pointer if access.lanes == 1 else builder.bitcast(pointer, _moved(access).as_pointer(space))


def _moved(access: MemoryAccess) -> Any:
    """Return the vector that memory is accessed as: words of small items, which NVVM would else load one by one."""
    if access.dtype in SMALL:
        return ir.VectorType(WORD, access.lanes * ITEM_BYTES[access.dtype] // 4)
    return ir.VectorType(_LLVM[access.dtype], access.lanes)


def _lane(number: int) -> Any:
    return ir.Constant(WORD, number)


def _load_emitter(access: MemoryAccess, space: int) -> Callable[..., Any]:
    def from_memory(builder: Any, value: Any) -> Any:
        return builder.icmp_unsigned("!=", value, ir.Constant(value.type, 0)) if access.dtype == "bool" else value

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(builder, arguments[0], arguments[1], access, space)
        loaded = builder.load(pointer, align=access.alignment)
        if access.verb in ("read", "stream"):
            loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        if access.lanes == 1:
            return from_memory(builder, loaded)
        values = [from_memory(builder, value) for value in _items_of(builder, loaded, access)]
        return context.make_tuple(builder, signature.return_type, values)

    return emit


def _store_emitter(access: MemoryAccess, space: int) -> Callable[..., Any]:
    def to_memory(builder: Any, value: Any) -> Any:
        return builder.zext(value, ir.IntType(8)) if access.dtype == "bool" and value.type.width == 1 else value

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(builder, arguments[0], arguments[1], access, space)
        if access.lanes == 1:
            stored = to_memory(builder, arguments[2])
        else:
            values = [to_memory(builder, builder.extract_value(arguments[2], k)) for k in range(access.lanes)]
            stored = _moved_from(builder, values, access)
        builder.store(stored, pointer, align=access.alignment)
        return context.get_dummy_value()

    return emit


def _items_of(builder: Any, loaded: Any, access: MemoryAccess) -> list[Any]:
    """Return the items of a loaded vector, small ones cut out of their words."""
    if access.dtype not in SMALL:
        return [builder.extract_element(loaded, _lane(k)) for k in range(access.lanes)]
    item, values = _LLVM[access.dtype], []
    for k in range(access.lanes):
        word, place = divmod(k * item.width, WORD.width)
        shifted = builder.lshr(builder.extract_element(loaded, _lane(word)), ir.Constant(WORD, place))
        values.append(builder.trunc(shifted, item))
    return values


def _moved_from(builder: Any, values: list[Any], access: MemoryAccess) -> Any:
    """Return the vector to store, small items put together into words."""
    vector = _moved(access)
    small = access.dtype in SMALL
    moved = ir.Constant(vector, None if small else ir.Undefined)  # None: zeros
    for k, value in enumerate(values):
        number, place = divmod(k * value.type.width, WORD.width) if small else (k, 0)
        if small:
            shifted = builder.shl(builder.zext(value, WORD), ir.Constant(WORD, place))
            value = builder.or_(builder.extract_element(moved, _lane(number)), shifted)
        moved = builder.insert_element(moved, value, _lane(number))
    return moved


def _hinted_load_emitter(access: MemoryAccess, space: int) -> Callable[..., Any]:
    """Return an emitter of inline PTX: LLVM has no load with a cache operator."""
    item, lanes = _LLVM[access.dtype], access.lanes
    kind, width, register = _ptx_form(access)
    results = _ptx_operands(0, lanes)
    text = f"ld.global.{HINTED[access.verb]}{width}.{kind} {results}, [${lanes}];"
    # A coherent load keeps its place among barriers; a streaming one may be moved, as its memory does not change.
    fixed = access.verb == "coherent"
    constraints = ",".join([f"={register}"] * lanes + ["l"] + (["~{memory}"] if fixed else []))
    returned = item if lanes == 1 else ir.LiteralStructType([item] * lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        assembly = ir.InlineAsm(ir.FunctionType(returned, [ir.IntType(64)]), text, constraints, side_effect=fixed)
        loaded = builder.call(assembly, [_byte_address(builder, arguments[0], arguments[1], access)])
        if lanes == 1:
            return loaded
        values = [builder.extract_value(loaded, k) for k in range(lanes)]
        return context.make_tuple(builder, signature.return_type, values)

    return emit


def _hinted_store_emitter(access: MemoryAccess, space: int) -> Callable[..., Any]:
    item, lanes = _LLVM[access.dtype], access.lanes
    kind, width, register = _ptx_form(access)
    text = f"st.global.{HINTED[access.verb]}{width}.{kind} [$0], {_ptx_operands(1, lanes)};"
    constraints = ",".join(["l"] + [register] * lanes + ["~{memory}"])

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] + [item] * lanes)
        values = [arguments[2]] if lanes == 1 else [builder.extract_value(arguments[2], k) for k in range(lanes)]
        place = _byte_address(builder, arguments[0], arguments[1], access)
        builder.call(ir.InlineAsm(function, text, constraints, side_effect=True), [place, *values])
        return context.get_dummy_value()

    return emit


def _ptx_form(access: MemoryAccess) -> tuple[str, str, str]:
    """Return PTX's type, its vector suffix and the constraint letter of the registers."""
    register = "f" if access.dtype == "float32" else "r"
    return HINTED_DTYPES[access.dtype], "" if access.lanes == 1 else f".v{access.lanes}", register


def _ptx_operands(first: int, lanes: int) -> str:
    names = [f"${first + k}" for k in range(lanes)]
    return names[0] if lanes == 1 else "{" + ",".join(names) + "}"


def _byte_address(builder: Any, address: Any, index: Any, access: MemoryAccess) -> Any:
    return builder.add(address, builder.mul(index, ir.Constant(ir.IntType(64), ITEM_BYTES[access.dtype])))
