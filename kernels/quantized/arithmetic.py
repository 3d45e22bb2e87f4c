"""Arithmetic on packed words for the quantized kernels: on the device, on the host (the CPU twin), in the simulator.

    fma_float32(a, b, c) -> float32              a*b + c, rounded once everywhere, so that all three agree to the bit
    fma_float32x4(total, a4, b4) -> float32      four of them, one after another
    int8x4_to_float32(word) -> 4 float32         the signed bytes of a uint32
    bfloat16x4_to_float32(bits4) -> 4 float32    of the bits in four uint16
    low_centroids_float32x4(table, first, book, word) -> 4 float32    table[first + 16 * book + code] of the four codes
                                                 in the word's low half; high_centroids_float32x4 of those in the high
    dot_int8x4(a, b, total) -> int32             total + the products of the signed bytes, exact

`table` is an array in shared memory, aligned to CODEBOOK_ALIGNMENT bytes, and `first` a multiple of as many: then a
code's place is its byte offset put into the lowest byte of the codebooks' address, by one instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

LANES = 4
CODEBOOK_ALIGNMENT = 256
_FIRST_MULTIPLE = CODEBOOK_ALIGNMENT // 4
_CENTROIDS = 16
_SHARED_SPACE = 3
_OFFSETS = 0x3C3C3C3C  # a code in each byte, times the 4 bytes of a centroid
_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)
_FLOAT = ir.FloatType()
_MAGIC = 0x4B000000  # 2^23 as float32: its lowest mantissa bit is worth 1, so a byte put there is added to it
_MAGIC_OFFSET = 2.0**23 + 128.0


def compiled_arithmetic(intrinsic: Callable[..., Any], types: Any, device: bool) -> dict[str, Any]:
    """Return the functions by name as Numba intrinsics of one target."""
    four, float32, word = types.UniTuple(types.float32, LANES), types.float32, types.uint32
    parts: dict[str, tuple[Any, Callable[..., Any]]] = {
        "fma_float32": (float32(float32, float32, float32), _emit_fma),
        "fma_float32x4": (float32(float32, four, four), _emit_fma4),
        "int8x4_to_float32": (four(word), _emit_bytes_by_permute if device else _emit_bytes),
        "bfloat16x4_to_float32": (four(types.UniTuple(types.uint16, LANES)), _emit_bfloat16),
        "dot_int8x4": (types.int32(word, word, types.int32), _emit_dot_on_device if device else _emit_dot),
    }
    names = {name: _strict(intrinsic, signature, emit) for name, (signature, emit) in parts.items()}
    for half, name in enumerate(("low_centroids_float32x4", "high_centroids_float32x4")):
        names[name] = _lookup(intrinsic, types, _lookup_emitter(half, device))
    return names


def simulated_arithmetic() -> dict[str, Callable[..., Any]]:
    """Return the functions by name in NumPy scalars."""
    return {
        "fma_float32": _simulated_fma,
        "fma_float32x4": _simulated_fma4,
        "int8x4_to_float32": lambda word: tuple(_signed_bytes(word).astype(np.float32)),
        "bfloat16x4_to_float32": lambda bits: tuple((np.array(bits, np.uint32) << np.uint32(16)).view(np.float32)),
        "low_centroids_float32x4": _simulated_lookup(0),
        "high_centroids_float32x4": _simulated_lookup(1),
        "dot_int8x4": _simulated_dot,
    }


def _strict(intrinsic: Callable[..., Any], signature: Any, emit: Callable[..., Any]) -> Any:
    """Return an intrinsic of exactly this signature: a float64 argument must not be narrowed silently."""

    def accept(given: tuple[Any, ...]) -> Any:
        return (signature, emit) if given == signature.args else None

    if len(signature.args) == 1:

        @intrinsic
        def function(typing_context, a):  # type: ignore[no-untyped-def]
            return accept((a,))

        return function

    @intrinsic
    def function_of_three(typing_context, a, b, c):  # type: ignore[no-untyped-def]
        return accept((a, b, c))

    return function_of_three


def _lookup(intrinsic: Callable[..., Any], types: Any, emit: Callable[..., Any]) -> Any:
    @intrinsic
    def lookup(typing_context, table, first, book, word):  # type: ignore[no-untyped-def]
        if getattr(table, "dtype", None) != types.float32 or word != types.uint32:
            return None
        return types.UniTuple(types.float32, LANES)(table, types.int64, types.int64, types.uint32), emit

    return lookup


def _constant(number: int) -> Any:
    return ir.Constant(_WORD, number)


def _four(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
    return context.make_tuple(builder, signature.return_type, values)


def _emit_fma(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.fma(*arguments)


def _emit_fma4(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    total, first, second = arguments
    for lane in range(LANES):
        total = builder.fma(builder.extract_value(first, lane), builder.extract_value(second, lane), total)
    return total


def _emit_bytes(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    values = []
    for lane in range(LANES):
        moved = builder.shl(arguments[0], _constant(24 - 8 * lane))
        values.append(builder.sitofp(builder.ashr(moved, _constant(24)), _FLOAT))
    return _four(context, builder, signature, values)


def _emit_bytes_by_permute(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Put each byte, made unsigned, into the mantissa of 2^23 and subtract: the conversion unit would be slower."""
    unsigned = builder.xor(arguments[0], _constant(0x80808080))
    values = []
    for lane in range(LANES):
        bits = _permute(builder, unsigned, _constant(_MAGIC), 0x7650 | lane)
        values.append(builder.fsub(builder.bitcast(bits, _FLOAT), ir.Constant(_FLOAT, _MAGIC_OFFSET)))
    return _four(context, builder, signature, values)


def _emit_bfloat16(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    words = [builder.zext(builder.extract_value(arguments[0], lane), _WORD) for lane in range(LANES)]
    values = [builder.bitcast(builder.shl(word, _constant(16)), _FLOAT) for word in words]
    return _four(context, builder, signature, values)


def _lookup_emitter(half: int, device: bool) -> Callable[..., Any]:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table, first, book, word = arguments
        data = context.make_array(signature.args[0])(context, builder, value=table).data
        codebooks = builder.gep(data, [first])
        # Codes 0, 2, 4, 6 of a word lie in the low halves of its bytes, 1, 3, 5, 7 in the high ones.
        offsets = [builder.shl(word, _constant(2)), builder.lshr(word, _constant(2))]
        offsets = [builder.and_(offset, _constant(_OFFSETS)) for offset in offsets]
        find = _centroid_on_device if device else _centroid
        places = [divmod(LANES * half + lane, 2) for lane in range(LANES)]
        pointers = [find(builder, codebooks, offsets[odd], byte) for byte, odd in places]
        start = builder.mul(book, ir.Constant(_INDEX, _CENTROIDS))
        values = [builder.load(builder.gep(pointer, [start]), align=4) for pointer in pointers]
        return _four(context, builder, signature, values)

    return emit


def _centroid_on_device(builder: Any, codebooks: Any, offsets: Any, byte: int) -> Any:
    """Return the pointer whose lowest byte is the offset's and whose others are the codebooks'."""
    pointer = ir.PointerType(_FLOAT, _SHARED_SPACE)
    address = builder.ptrtoint(builder.addrspacecast(codebooks, pointer), _WORD)
    return builder.inttoptr(_permute(builder, offsets, address, 0x7650 | byte), pointer)


def _centroid(builder: Any, codebooks: Any, offsets: Any, byte: int) -> Any:
    code = builder.and_(builder.lshr(offsets, _constant(8 * byte + 2)), _constant(_CENTROIDS - 1))
    return builder.gep(codebooks, [builder.zext(code, _INDEX)])


def _permute(builder: Any, low: Any, high: Any, selector: int) -> Any:
    """Return four bytes chosen from eight, by the selector's hexadecimal digits."""
    kind = ir.FunctionType(_WORD, [_WORD] * 3)
    assembly = ir.InlineAsm(kind, "prmt.b32 $0, $1, $2, $3;", "=r,r,r,n")
    return builder.call(assembly, [low, high, _constant(selector)])


def _emit_dot_on_device(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    function = ir.FunctionType(_WORD, [_WORD] * 3)
    return builder.call(ir.InlineAsm(function, "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r"), list(arguments))


def _emit_dot(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    first, second, total = arguments
    for lane in range(LANES):
        bytes_ = [builder.ashr(builder.shl(word, _constant(24 - 8 * lane)), _constant(24)) for word in (first, second)]
        total = builder.add(total, builder.mul(*bytes_))
    return total


def _simulated_fma(a: Any, b: Any, c: Any) -> Any:
    for value in (a, b, c):
        if not isinstance(value, np.float32):
            raise TypeError(f"fma_float32 takes float32, not {type(value).__name__}")
    # The product is exact in float64; the sum may be rounded twice, which differs from once in one case of 2^29.
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


def _simulated_fma4(total: Any, first: Sequence[Any], second: Sequence[Any]) -> Any:
    for a, b in zip(first, second, strict=True):
        total = _simulated_fma(a, b, total)
    return total


def _signed_bytes(word: Any) -> Any:
    return np.array([word], "<u4").view(np.int8)


def _simulated_lookup(half: int) -> Callable[..., Any]:
    def lookup(table: Any, first: int, book: int, word: Any) -> tuple[Any, ...]:
        if not isinstance(word, np.uint32):
            raise TypeError(f"codes come in a uint32, not in {type(word).__name__}")
        if int(first) % _FIRST_MULTIPLE:
            raise ValueError(f"the codebooks begin at element {first}, no multiple of {_FIRST_MULTIPLE}")
        codes = [int(word) >> 4 * (LANES * half + lane) & 15 for lane in range(LANES)]
        return tuple(table[int(first) + _CENTROIDS * int(book) + code] for code in codes)

    return lookup


def _simulated_dot(a: Any, b: Any, total: Any) -> Any:
    products = _signed_bytes(a).astype(np.int32) * _signed_bytes(b).astype(np.int32)
    return np.int32(int(total) + int(products.sum()))
