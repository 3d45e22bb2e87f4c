"""float32 -> int8 with one scale for each 1024 elements, and back, many tensors in one launch. LOSSY.

A packed tensor is its codes, one byte an element, up to a multiple of 16 bytes, then a float32 scale for each group.
A group's scale is its largest finite magnitude / 127, and an element of code c is c * scale. What has no such code:

    NaN          code -128, and NaN again (its bits are lost)
    infinities   codes 127 and -127 of a group whose scale has its sign bit set, and the same infinities again; such a
                 group's finite elements use the codes from -126 to 126
    tiny groups  a group whose finite magnitudes are all below 2**-119 (1.5e-36) becomes zeros
Of any other element at most half a scale is lost, and the sign of a zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.cuda.kernel import KernelSource
from kernels.transfer.segment_kernel import ALIGNMENT, PARAMETERS, fill_in, find_segment, tiled_kernel

GROUP_ELEMENTS = 1024
UNPACK_UNIT_ELEMENTS, UNPACK_UNROLL = 4, 4
LEAST_MAGNITUDE = 2.0**-119
LARGEST = float(np.finfo(np.float32).max)


def packed_bytes(elements: int) -> int:
    """Return how many bytes so many elements become, scales included."""
    return scales_offset(elements) + 4 * -(-elements // GROUP_ELEMENTS)


def scales_offset(elements: int) -> int:
    """Return where in a packed tensor its scales begin."""
    return -(-elements // 16) * 16


_SCALE = f"""steps = float32(126) if infinite else float32(127)
inverse, scale = float32(0), float32(0)
if largest >= float32({LEAST_MAGNITUDE!r}):
    inverse = steps / largest
    scale = largest / steps
stored = -scale if infinite else scale"""

# Adding 1.5 * 2**23 rounds half to even and leaves the code in the lowest byte of the sum's bits.
_CODE = """scaled = min(max(X * inverse, -steps), steps)
code = int64(float32_to_bits(scaled + float32(12582912))) & 255
if fabs_float32(X) == float32(INFINITY):
    code = 127 if X > float32(0) else 129
if X != X:
    code = 128"""

# A group is one warp's: its 1024 elements stay in registers, 32 of each lane (the loops are unrolled, the local array
# is gone then), and no barrier is needed.
_PACK = """def pack_int8(PARAMETERS):
    lane = int64(cuda.threadIdx.x) & 31
    warps = (int64(cuda.blockDim.x) >> 5) * int64(cuda.gridDim.x)
    unit = (int64(cuda.blockDim.x) >> 5) * int64(cuda.blockIdx.x) + (int64(cuda.threadIdx.x) >> 5)
    segments = read_int64(table, 0)
    units = read_int64(table, 1)
    x = cuda.local.array(32, float32)
    while unit < units:
        low, high = int64(0), segments
        FIND
        index = unit - begin
        left = extent - 1024 * index - 4 * lane
        place = (source >> 2) + 1024 * index + 4 * lane
        if 1024 * (index + 1) <= extent and source & 15 == 0:
            for quad in range(8):
                v0, v1, v2, v3 = read_float32x4(sources, place + 128 * quad)
                x[4 * quad], x[4 * quad + 1], x[4 * quad + 2], x[4 * quad + 3] = v0, v1, v2, v3
        else:
            for quad in range(8):
                for k in range(4):
                    x[4 * quad + k] = float32(0)
                    if 128 * quad + k < left:
                        x[4 * quad + k] = read_float32(sources, place + 128 * quad + k)
        largest, infinite = float32(0), False
        for k in range(32):
            SCAN
        largest = warp_max(largest)
        infinite = cuda.any_sync(0xFFFFFFFF, infinite)
        SCALE
        coded = (destination >> 2) + 256 * index + lane
        for quad in range(8):
            word = int64(0)
            for k in range(4):
                CODE
                word |= code << (8 * k)
            if 128 * quad < left:
                store_uint32(destinations, coded + 32 * quad, uint32(word))
        if lane == 0:
            store_float32(destinations, ((destination + ((extent + 15) & -16)) >> 2) + index, stored)
        unit += warps
"""

_PACK_ON_HOST = """def pack_int8(PARAMETERS):
    segments = read_int64(table, 0)
    units = read_int64(table, 1)
    for unit in range(units):
        low, high = int64(0), segments
        FIND
        index = unit - begin
        left = min(extent - 1024 * index, 1024)
        place = (source >> 2) + 1024 * index
        largest, infinite = float32(0), False
        for k in range(left):
            x = read_float32(sources, place + k)
            SCAN
        SCALE
        for quad in range((left + 3) >> 2):
            word = int64(0)
            for k in range(4):
                x = read_float32(sources, place + 4 * quad + k) if 4 * quad + k < left else float32(0)
                CODE
                word |= code << (8 * k)
            store_uint32(destinations, (destination >> 2) + 256 * index + quad, uint32(word))
        store_float32(destinations, ((destination + ((extent + 15) & -16)) >> 2) + index, stored)
"""

_SCAN = """magnitude = fabs_float32(X)
if magnitude < float32(INFINITY) and magnitude > largest:
    largest = magnitude
if magnitude == float32(INFINITY):
    infinite = True"""


def _pack() -> KernelSource:
    shared = {"PARAMETERS": PARAMETERS, "FIND": find_segment("unit"), "SCALE": _SCALE}
    text = fill_in(_PACK, SCAN=fill_in(_SCAN, X="x[k]"), CODE=fill_in(_CODE, X="x[4 * quad + k]"), **shared)
    host_text = fill_in(_PACK_ON_HOST, SCAN=fill_in(_SCAN, X="x"), CODE=fill_in(_CODE, X="x"), **shared)
    return KernelSource("pack_int8", text, host_text, ALIGNMENT, work_items=1)


PACK = _pack()
"""pack_int8(table, base of the sources, base of the destinations): any grid of whole warps gives the same result."""

# float32(c) * scale may round beyond the largest float32 at the largest magnitude: held there.
_VALUE = f"""code = ((int64(word) >> SHIFT & 255) ^ 128) - 128
Y = min(max(float32(int32(code)) * scale, float32({-LARGEST!r})), float32({LARGEST!r}))
if infinite and (code == 127 or code == -127):
    Y = float32(INFINITY) if code > 0 else float32(-INFINITY)
if code == -128:
    Y = float32(NAN)"""

_DECODE = """word = read_uint32(sources, (source >> 2) + place)
scale = read_float32(sources, ((source + ((extent + 15) & -16)) >> 2) + (place >> 8))
infinite = int64(float32_to_bits(scale)) >> 31 != 0
scale = fabs_float32(scale)
""" + "\n".join(fill_in(_VALUE, SHIFT=str(8 * k), Y=f"y{k}") for k in range(4))

_UNPACK_TILE = f"""for step in range({UNPACK_UNROLL}):
    place = first - begin + step * width + lane
    DECODE
    store_float32x4(destinations, (destination >> 2) + 4 * place, (y0, y1, y2, y3))"""
_UNPACK_UNIT = """place = unit - begin
DECODE
element = (destination >> 2) + 4 * place
left = extent - 4 * place
store_float32(destinations, element, y0)
if left > 1:
    store_float32(destinations, element + 1, y1)
if left > 2:
    store_float32(destinations, element + 2, y2)
if left > 3:
    store_float32(destinations, element + 3, y3)"""
UNPACK = tiled_kernel(
    "unpack_int8",
    UNPACK_UNROLL,
    "destination & 15 == 0 and 4 * (first - begin + tile_units) <= extent",
    fill_in(_UNPACK_TILE, DECODE=_DECODE),
    fill_in(_UNPACK_UNIT, DECODE=_DECODE),
)


def reference(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the codes and the scales of a tensor's groups, each step rounded to float32 as the kernel rounds it."""
    groups = -(-values.size // GROUP_ELEMENTS)
    padded = np.zeros(groups * GROUP_ELEMENTS, np.float32)
    padded[: values.size] = values
    rows = padded.reshape(groups, GROUP_ELEMENTS)
    largest = np.where(np.isfinite(rows), np.abs(rows), np.float32(0)).max(axis=1, initial=0).astype(np.float32)
    infinite = np.isinf(rows).any(axis=1)
    steps = np.where(infinite, np.float32(126), np.float32(127))
    usable = largest >= LEAST_MAGNITUDE
    with np.errstate(all="ignore"):
        inverse = np.where(usable, steps / largest, np.float32(0))
        scales = np.where(usable, largest / steps, np.float32(0))
        scaled = np.clip(np.rint(rows * inverse[:, None]), -steps[:, None], steps[:, None])
    scaled = np.where(np.isinf(rows), np.copysign(np.float32(127), rows), scaled)
    codes = np.where(np.isnan(rows), np.float32(-128), scaled).astype(np.int8).reshape(-1)[: values.size]
    return codes, np.where(infinite, -scales, scales).astype(np.float32)


def unpack_reference(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the values of codes and scales, in float64, held within what a float32 can be."""
    own = np.repeat(scales, GROUP_ELEMENTS)[: codes.size]
    values = np.clip(codes.astype(np.float64) * np.abs(own.astype(np.float64)), -LARGEST, LARGEST)
    values = np.where(np.signbit(own) & (np.abs(codes.astype(np.int16)) == 127), np.copysign(np.inf, codes), values)
    return np.where(codes == -128, np.nan, values)
