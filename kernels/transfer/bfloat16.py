"""float32 -> bfloat16 and back, many tensors in one launch. LOSSY: 8 of 24 significant bits stay.

Rounded to the nearest, halves to even, as torch rounds; infinities and signed zeros stay, NaN stays NaN with its sign.
A packed tensor is its elements' 16-bit codes; what is left of the last 16 bytes is written with zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.transfer.segment_kernel import tiled_kernel

UNIT_ELEMENTS = 8  # 16 bytes of codes
UNROLL = 2
_MANTISSA_BITS, _LEAST_EXPONENT = 8, -125  # as frexp counts: the fraction is in [0.5, 1)


def packed_bytes(elements: int) -> int:
    """Return how many bytes so many elements become."""
    return 2 * elements


def _word(low: str, high: str) -> str:
    return f"uint32(int64(float32_to_bfloat16({low})) | int64(float32_to_bfloat16({high})) << 16)"


def _words(names: list[str]) -> str:
    return ", ".join(_word(low, high) for low, high in zip(names[::2], names[1::2], strict=True))


_NAMES = [f"x{k}" for k in range(UNIT_ELEMENTS)]
_PACK_TILE = f"""for step in range({UNROLL}):
    place = first - begin + step * width + lane
    element = (source >> 2) + {UNIT_ELEMENTS} * place
    {", ".join(_NAMES[:4])} = read_float32x4(sources, element)
    {", ".join(_NAMES[4:])} = read_float32x4(sources, element + 4)
    store_uint32x4(destinations, (destination >> 2) + 4 * place, ({_words(_NAMES)}))"""
_PACK_UNIT = f"""element = {UNIT_ELEMENTS} * (unit - begin)
left = extent - element
for pair in range(4):
    even, odd = float32(0), float32(0)
    if 2 * pair < left:
        even = read_float32(sources, (source >> 2) + element + 2 * pair)
    if 2 * pair + 1 < left:
        odd = read_float32(sources, (source >> 2) + element + 2 * pair + 1)
    store_uint32(destinations, (destination >> 2) + 4 * (unit - begin) + pair, {_word("even", "odd")})"""


def _values(word: str) -> list[str]:
    return [f"bits_to_float32(uint32(int64({word}) << 16))", f"bits_to_float32(uint32(int64({word}) & 0xFFFF0000))"]


def _unpack_tile() -> str:
    lines = ["coded = (source >> 2) + 4 * (first - begin + lane)"]
    lines.append(f"element = (destination >> 2) + {UNIT_ELEMENTS} * (first - begin + lane)")
    for k in range(UNROLL):
        names = ", ".join(f"w{k}_{word}" for word in range(4))
        lines.append(f"{names} = read_uint32x4(sources, coded + {4 * k} * width)")
    for k in range(UNROLL):
        for half in range(2):
            values = ", ".join(v for word in (2 * half, 2 * half + 1) for v in _values(f"w{k}_{word}"))
            place = f"element + {UNIT_ELEMENTS * k} * width + {4 * half}"
            lines.append(f"store_float32x4(destinations, {place}, ({values}))")
    return "\n".join(lines)


_UNPACK_UNIT = "\n".join(
    [
        f"element = {UNIT_ELEMENTS} * (unit - begin)",
        "left = extent - element",
        "element += destination >> 2",
        "w0, w1, w2, w3 = read_uint32x4(sources, (source >> 2) + 4 * (unit - begin))",
        *(
            f"if {2 * word + half} < left:\n    store_float32(destinations, element + {2 * word + half}, {value})"
            for word in range(4)
            for half, value in enumerate(_values(f"w{word}"))
        ),
    ]
)

# The tile is one segment's, its elements are all there, and its float32 end is on the 16-byte grid.
_CONDITION = "{end} & 15 == 0 and %d * (first - begin + tile_units) <= extent" % UNIT_ELEMENTS  # noqa: UP031

PACK = tiled_kernel("pack_bfloat16", UNROLL, _CONDITION.format(end="source"), _PACK_TILE, _PACK_UNIT)
UNPACK = tiled_kernel("unpack_bfloat16", UNROLL, _CONDITION.format(end="destination"), _unpack_tile(), _UNPACK_UNIT)


def reference(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the codes, rounded in float64; of a NaN the sign and the upper bits, made quiet."""
    with np.errstate(over="ignore", invalid="ignore"):
        fraction, exponent = np.frexp(values.astype(np.float64))
        step = np.ldexp(1.0, np.maximum(exponent, _LEAST_EXPONENT) - _MANTISSA_BITS)
        rounded = (np.rint(np.ldexp(fraction, exponent) / step) * step).astype(np.float32)
    codes = (np.copysign(rounded, values).view(np.uint32) >> 16).astype(np.uint16)
    quiet = (values.view(np.uint32) >> 16).astype(np.uint16) | np.uint16(0x40)
    return np.where(np.isnan(values), quiet, codes)


def unpack_reference(codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the float32 values of the codes: exact."""
    return (codes.astype(np.uint32) << 16).view(np.float32)
