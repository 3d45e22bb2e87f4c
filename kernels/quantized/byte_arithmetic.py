"""Arithmetic on four bytes in a uint32, for products of bytes: on the device, on the host, in the simulator.

    dot_int8_uint8x4(a, b, total) -> int32      total + the products of a's signed with b's unsigned bytes, exact
    low_codebook_bytes(table, word) -> uint32   the bytes of the four codes in the word's low half; table: the 16 bytes
                                                of a codebook in 4 uint32
    high_codebook_bytes(table, word) -> uint32  those of the codes in its high half

On a device a lookup takes no memory: three byte permutations choose among the 16 bytes in four registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

_WORD = ir.IntType(32)
_HALF_CODES = 4
_LOW_THREE_BITS, _HIGHEST_BITS, _SAME_PLACE = 0x77777777, 0x88888888, 0x32103210


def compiled_bytes(intrinsic: Callable[..., Any], types: Any, device: bool) -> dict[str, Any]:
    """Return the functions by name as Numba intrinsics of one target."""
    word, number, table = types.uint32, types.int32, types.UniTuple(types.uint32, 4)

    @intrinsic
    def dot_int8_uint8x4(typing_context, a, b, total):  # type: ignore[no-untyped-def]
        emit = _emit_dot_on_device if device else _emit_dot
        return (number(word, word, number), emit) if (a, b, total) == (word, word, number) else None

    def lookup(half: int) -> Any:
        emit = _lookup_emitter(half, _look_up_by_permutes if device else _look_up)

        @intrinsic
        def codebook_bytes(typing_context, given, codes):  # type: ignore[no-untyped-def]
            return (word(table, word), emit) if (given, codes) == (table, word) else None

        return codebook_bytes

    lookups = {"low_codebook_bytes": lookup(0), "high_codebook_bytes": lookup(1)}
    return {"dot_int8_uint8x4": dot_int8_uint8x4, **lookups}


def simulated_bytes() -> dict[str, Callable[..., Any]]:
    """Return the functions by name in NumPy scalars."""
    return {
        "dot_int8_uint8x4": _simulated_dot,
        "low_codebook_bytes": lambda table, word: _simulated_lookup(table, word, 0),
        "high_codebook_bytes": lambda table, word: _simulated_lookup(table, word, 1),
    }


def _constant(number: int) -> Any:
    return ir.Constant(_WORD, number)


def _emit_dot_on_device(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    function = ir.FunctionType(_WORD, [_WORD] * 3)
    return builder.call(ir.InlineAsm(function, "dp4a.s32.u32 $0, $1, $2, $3;", "=r,r,r,r"), list(arguments))


def _emit_dot(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    signed, unsigned, total = arguments
    for lane in range(4):
        first = builder.ashr(builder.shl(signed, _constant(24 - 8 * lane)), _constant(24))
        second = builder.and_(builder.lshr(unsigned, _constant(8 * lane)), _constant(255))
        total = builder.add(total, builder.mul(first, second))
    return total


def _lookup_emitter(half: int, look_up: Callable[..., Any]) -> Callable[..., Any]:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table = [builder.extract_value(arguments[0], k) for k in range(4)]
        return look_up(builder, table, arguments[1], half)

    return emit


def _look_up_by_permutes(builder: Any, table: Sequence[Any], word: Any, half: int) -> Any:
    """Look each code's lower three bits up in both halves of the table, then choose by its highest bit.

    A selector reads its low 16 bits alone: a digit for each byte of the result.
    """
    lower = builder.and_(word, _constant(_LOW_THREE_BITS))
    # Digit k is k, or 4 + k where the code is 8 or more: byte k of the first or of the second lookup.
    choice = builder.lshr(builder.and_(word, _constant(_HIGHEST_BITS)), _constant(1))
    choice = builder.or_(choice, _constant(_SAME_PLACE))
    if half:
        lower, choice = (builder.lshr(value, _constant(16)) for value in (lower, choice))
    found = [_permute(builder, table[k], table[k + 1], lower) for k in (0, 2)]
    return _permute(builder, found[0], found[1], choice)


def _permute(builder: Any, low: Any, high: Any, selector: Any) -> Any:
    kind = ir.FunctionType(_WORD, [_WORD] * 3)
    return builder.call(ir.InlineAsm(kind, "prmt.b32 $0, $1, $2, $3;", "=r,r,r,r"), [low, high, selector])


def _look_up(builder: Any, table: Sequence[Any], word: Any, half: int) -> Any:
    result: Any = _constant(0)
    for lane in range(_HALF_CODES):
        code = builder.and_(builder.lshr(word, _constant(4 * (_HALF_CODES * half + lane))), _constant(15))
        number, place = builder.lshr(code, _constant(2)), builder.shl(builder.and_(code, _constant(3)), _constant(3))
        chosen = table[0]
        for k in range(1, 4):
            chosen = builder.select(builder.icmp_unsigned("==", number, _constant(k)), table[k], chosen)
        byte = builder.and_(builder.lshr(chosen, place), _constant(255))
        result = builder.or_(result, builder.shl(byte, _constant(8 * lane)))
    return result


def _simulated_dot(a: Any, b: Any, total: Any) -> Any:
    for value, kind in ((a, np.uint32), (b, np.uint32), (total, np.int32)):
        if not isinstance(value, kind):
            raise TypeError(f"dot_int8_uint8x4 takes {kind.__name__} here, not {type(value).__name__}")
    signed = np.array([a], "<u4").view(np.int8).astype(np.int32)
    return np.int32(int(total) + int((signed * np.array([b], "<u4").view(np.uint8)).sum()))


def _simulated_lookup(table: Sequence[Any], word: Any, half: int) -> Any:
    if not isinstance(word, np.uint32):
        raise TypeError(f"codes come in a uint32, not in {type(word).__name__}")
    entries = np.array(table, "<u4").view(np.uint8)
    codes = [int(word) >> 4 * (_HALF_CODES * half + lane) & 15 for lane in range(_HALF_CODES)]
    return np.ascontiguousarray(entries[codes]).view("<u4").astype(np.uint32)[0]
