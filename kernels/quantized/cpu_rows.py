"""Rows of compressed tables, looked up by number: what embeddings compute. Kernel, layout and NumPy reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_compile import compiled_text
from kernels.quantized.cpu_weights import WeightsError

KINDS = ("int8", "codebook", "bfloat16")
_FUNCTION = "look_up"
_SOURCE = '''"""Rows of compressed tables as float32."""

import numba
import numpy as np

from kernels.compiler.intrinsics import from_bits, load_float32, load_int64, stack, store_float32
from kernels.quantized.cpu_memory import load_byte, load_half, load_signed_byte

float32, int32, int64 = np.float32, np.int32, np.int64
inline = numba.njit(forceinline=True, error_model="numpy", boundscheck=False)


@inline
def scaled(codes, scale, columns, out):
    for k in range(columns):
        store_float32(out, k, float32(load_signed_byte(codes, k)) * scale, 1)


@inline
def widened(codes, columns, out):
    for k in range(columns):
        store_float32(out, k, from_bits(int32(load_half(codes, k) << 16)), 1)


@inline
def looked_up(codes, last, bits, first, end, book, out):
    """Write the columns from `first` to `end`; the codes' bits lie one behind the other, lowest first."""
    mask = (int64(1) << bits) - 1
    for k in range(first, end):
        place = k * bits
        low = place >> 3
        pair = load_byte(codes, low) | load_byte(codes, min(low + 1, last)) << 8
        store_float32(out, k, load_float32(book, pair >> (place & 7) & mask, 2), 1)


@numba.njit("int64({integers})", cache=True, nogil=True, error_model="numpy", boundscheck=False)
def look_up(kind, ids, count, codes, scales, tables, rows, columns, bits, books, groups, group, out):
    """Write float32 [count, columns]; return the place of the first number that is no row, or -1."""
    book = stack(64)
    width = (columns * bits + 7) >> 3
    for place in range(count):
        row = load_int64(ids, place, 3)
        if row < 0 or row >= rows:
            return place
        taken, result = codes + row * width, out + 4 * place * columns
        if kind == 0:
            scaled(taken, load_float32(scales, row, 0), columns, result)
        elif kind == 2:
            widened(taken, columns, result)
        else:
            own = (row if books > 1 else 0) * groups
            for number in range(groups):
                scale = load_float32(scales, own + number, 0)
                table = tables + ((own + number) << bits)
                for code in range(int64(1) << bits):
                    store_float32(book, code, float32(load_signed_byte(table, code)) * scale, 2)
                looked_up(taken, width - 1, bits, number * group, min(columns, (number + 1) * group), book, result)
    return -1
'''.replace("{integers}", ", ".join(["int64"] * 13))


@cache
def rows_kernel() -> Callable[..., int]:
    """Return the compiled lookup: it takes the addresses and numbers of `look_up` in the source above.

    kind: a place in KINDS. ids: int64. tables, bits, books, groups and group are 0 but for codebooks; bits is then 8
    for int8 and 16 for bfloat16.
    """
    return compiled_text("rows", _SOURCE, (_FUNCTION,))[_FUNCTION]


def row_bytes(columns: int, bits: int) -> int:
    """Return the bytes of a row of packed codes."""
    return (columns * bits + 7) // 8


def packed_rows(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return codes [rows, columns], below 2**bits, as uint8 [rows, row_bytes]: lowest bits first, each row for itself.

    Raises WeightsError for a code that is too large, or bits that are not from 1 to 8.
    """
    if not 1 <= bits <= 8:
        raise WeightsError(f"codes of {bits} bits cannot be packed; give 1 to 8 bits")
    if codes.size and int(codes.max()) >> bits:
        raise WeightsError(f"the code {int(codes.max())} does not fit {bits} bits; give the bits of the codebook")
    packed = np.empty((len(codes), row_bytes(codes.shape[1], bits)), np.uint8)
    for part in _parts(codes):
        spread = (codes[part, :, None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
        flat = spread.reshape(len(spread), codes.shape[1] * bits)
        packed[part] = np.packbits(flat, axis=1, bitorder="little")
    return packed


def unpacked_rows(packed: NDArray[np.uint8], columns: int, bits: int) -> NDArray[np.uint8]:
    """Return the codes uint8 [rows, columns] of packed rows. Raises WeightsError for rows of another size."""
    if packed.ndim != 2 or packed.dtype != np.uint8 or packed.shape[1] != row_bytes(columns, bits):
        given = f"{packed.dtype} {list(packed.shape)}"
        raise WeightsError(f"codes {given} are not rows of {row_bytes(columns, bits)} bytes ({columns} of {bits} bits)")
    codes = np.empty((len(packed), columns), np.uint8)
    for part in _parts(codes):
        spread = np.unpackbits(packed[part], axis=1, bitorder="little")[:, : columns * bits]
        weighted = spread.reshape(-1, columns, bits) << np.arange(bits, dtype=np.uint8)
        codes[part] = np.bitwise_or.reduce(weighted, axis=2)
    return codes


def _parts(codes: NDArray[np.uint8]) -> Iterator[slice]:
    """Yield slices of rows of about a million codes: their bits, a byte each, are then few."""
    step = max(1, (1 << 20) // max(1, codes.shape[1]))
    for first in range(0, len(codes), step):
        yield slice(first, first + step)
