"""The source of the compiled convolutions with 8-bit weights: one module a kind of weights, for every shape."""

from __future__ import annotations

from collections.abc import Mapping

from kernels.quantized.cpu_codebook import STRIP
from kernels.quantized.cpu_convolution import NUMBERS_BYTES, PIXELS
from kernels.quantized.cpu_tile import COLUMNS, LARGEST_ROWS

FUNCTION = "convolve"
KINDS = ("int8", "codebook")
PARAMETERS = ("weights", "geometry", "image", "out", "bias", "ranges", "scratch")
"""Addresses of a call: weights: the table of prepared weights. geometry: numbers of cpu_convolution_call.Geometry.
bias: 0 for none. ranges: float32 [batch, 3, plane up to a multiple of 16]. scratch: memory of each thread."""
RANGE_PIXELS = 1024
"""Whose ranges are widened channel by channel while they stay in the first cache."""

_HEADER = '''"""Convolutions with {kind} weights, compiled once for every shape."""

import numba
import numpy as np

from kernels.compiler.intrinsics import (
    call_integer, call_parallel, load_float32, load_int32, load_int64, multiply_int32, stack, store_float32,
    store_int64, subtract_int32,
)
from kernels.quantized.cpu_convolution import channel_tile, gather_patches, patch_numbers, range_pixels
{imports}

float32, int64 = np.float32, np.int64
inline = numba.njit(forceinline=True, error_model="numpy", boundscheck=False)
widen, number_patches, gather = range_pixels(), patch_numbers(), gather_patches()
{tiles}


@inline
def segments_of(first, pixels, row, width, segments):
    """Write where the results of a block lie, as (lane, how many, place); return how many there are."""
    lane, found = 0, 0
    end = min(int64({pixels}), pixels - first)
    while lane < end:
        y = (first + lane) // row
        x = first + lane - y * row
        run = min(end - lane, row - x)
        kept = min(run, width - x)
        if kept > 0:
            store_int64(segments, 3 * found, lane, 5)
            store_int64(segments, 3 * found + 1, kept, 5)
            store_int64(segments, 3 * found + 2, y * width + x, 5)
            found += 1
        lane += run
    return found


@inline
def finish(sums, numbers, weights, channel, count, bias, out, plane, segments, found):
    """Write the results of a tile: channels `channel` on."""
    if bias == 0:
        bias = load_int64(weights, 3, 0)
    values = stack({sum_bytes})
    for row in range(channel, channel + count):
        scale = load_float32(load_int64(weights, 1, 0), row, 0)
        weight_sum = load_int32(load_int64(weights, 2, 0), row, 0)
        added = load_float32(bias, row, 0)
        taken = sums + {sum_bytes} * (row - channel)
        for k in range({pixels}):
            zero = load_int32(numbers + {sum_bytes}, k, 3)
            total = subtract_int32(load_int32(taken, k, 4), multiply_int32(zero, weight_sum))
            store_float32(values, k, float32(total) * (load_float32(numbers, k, 3) * scale) + added, 2)
        for number in range(found):
            lane, kept = load_int64(segments, 3 * number, 5), load_int64(segments, 3 * number + 1, 5)
            place = out + 4 * (row * plane + load_int64(segments, 3 * number + 2, 5))
            for k in range(kept):
                store_float32(place, k, load_float32(values, lane + k, 2), 1)
'''
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'
_BODY = '''

@inline
def scratch_of(weights, scratch, thread):
    """Return the address of a thread's memory: a panel of pixels, and one of weights where they are unpacked."""
    return scratch + thread * {panels} * {columns} * load_int64(weights, 6, 0)


@numba.njit("void({eight})", {options})
def widen_all(geometry, image, ranges, first, end, stride, plane, channels):
    """Widen the ranges of the pixels of some images by all their channels."""
    for number in range(first, end):
        own = ranges + 3 * stride * number
        for k in range(3 * stride // 4):
            store_float32(own, k, float32(0.0), 1)
        for begin in range(0, plane, {range_pixels}):
            count = min(plane - begin, int64({range_pixels}))
            # in a plane smaller than a vector the next one's values widen ranges that nothing reads
            last = 4 * (count - 16) if plane >= 16 else int64(0)
            for channel in range(channels):
                x = image + 4 * ((number * channels + channel) * plane + begin)
                widen(x, (count + 15) // 16, last, own + 4 * begin, stride, 0)


@numba.njit("void({integers}, int64, int64)", {options})
def convolve_range({parameters}, begin, end):
    """Compute blocks of 64 pixels, those of an image one after the other. scratch: the thread's own."""
    channels, depth = load_int64(weights, 4, 0), load_int64(weights, 6, 0)
    taps, tap_places, offsets = load_int64(geometry, 0, 0), load_int64(geometry, 1, 0), load_int64(geometry, 2, 0)
    plane, pixels, row = load_int64(geometry, 3, 0), load_int64(geometry, 4, 0), load_int64(geometry, 5, 0)
    width, results, inputs = load_int64(geometry, 6, 0), load_int64(geometry, 7, 0), load_int64(geometry, 8, 0)
    stride = (plane + 15) // 16 * 64
    blocks = (pixels + {pixels} - 1) // {pixels}
    numbers, segments, sums = stack({number_bytes}), stack({segment_bytes}), stack({rows} * {sum_bytes})
    for item in range(begin, end):
        number = item // blocks
        # the last block begins where it ends with the last pixel: some are computed twice, to the same bits
        first = max(int64(0), min((item - number * blocks) * {pixels}, pixels - {pixels}))
        number_patches(ranges + 3 * stride * number + 4 * first, tap_places, taps, stride, numbers, 0)
        gather(image + 4 * (number * inputs * plane + first), offsets, inputs * taps, numbers, scratch, depth)
        found = segments_of(first, pixels, row, width, segments)
        target = out + 4 * number * channels * results
        for panel in range(load_int64(weights, 7, 0)):
            taken = load_int64(weights, 0, 0) + panel * depth * {panel_bytes}
{unpack}
            many = min(int64({columns}), channels - panel * {columns})
            tiles = (many + {rows} - 1) // {rows}
            for tile in range(tiles):
                channel = many * tile // tiles
                count = many * (tile + 1) // tiles - channel
                place = taken + 4 * channel
{choice}
                finish(sums, numbers, weights, panel * {columns} + channel, count, bias, target, results, segments,
                       found)


@numba.njit("void({integers}, int64)", {options})
def convolve({parameters}, batch):
    plane = load_int64(geometry, 3, 0)
    widen_all(geometry, image, ranges, 0, batch, (plane + 15) // 16 * 64, plane, load_int64(geometry, 8, 0))
    blocks = (load_int64(geometry, 4, 0) + {pixels} - 1) // {pixels}
    convolve_range({parameters}, 0, batch * blocks)


@numba.cfunc("void(int64)", cache=True)
def convolve_share(task):
    threads = call_integer(load_int64(task, 0, 0))
    thread = call_integer(load_int64(task, 1, 0))
    items = load_int64(task, 2, 0)
    convolve_range({loads}, scratch_of(load_int64(task, 3, 0), load_int64(task, 9, 0), thread),
                   items * thread // threads, items * (thread + 1) // threads)


@numba.njit("void({integers}, int64, int64, int64, int64)", {options})
def convolve_parallel({parameters}, batch, runtime, share, threads):
    plane = load_int64(geometry, 3, 0)
    widen_all(geometry, image, ranges, 0, batch, (plane + 15) // 16 * 64, plane, load_int64(geometry, 8, 0))
    task = stack({task_bytes})
    store_int64(task, 0, load_int64(runtime, 1, 0), 0)
    store_int64(task, 1, load_int64(runtime, 2, 0), 0)
    store_int64(task, 2, batch * ((load_int64(geometry, 4, 0) + {pixels} - 1) // {pixels}), 0)
{stores}
    call_parallel(load_int64(runtime, 0, 0), share, task, threads)
'''
_UNPACK = """\
            books, room = load_int64(weights, 8, 0) + 1024 * panel, scratch + {columns} * depth
            for strip in range(4):
                unpack(taken + {strip_bytes} * depth * strip, depth, books + 256 * strip, room + 64 * strip, 0, 0)
            taken = room"""
_IMPORTS: Mapping[str, str] = {"int8": "", "codebook": "from kernels.quantized.cpu_codebook import unpack_strip\n"}


def convolution_source(kind: str, native: bool) -> str:
    """Return the source of convolutions with weights of a kind, one of KINDS."""
    rows = LARGEST_ROWS if native else 2
    tiles = [f"tile_{count} = channel_tile({count}, {native})" for count in range(1, rows + 1)]
    unpacked = kind == "codebook"
    if unpacked:
        tiles.append(f"unpack = unpack_strip({native})")
    names = {"columns": COLUMNS, "pixels": PIXELS, "sum_bytes": 4 * PIXELS, "rows": rows, "options": _OPTIONS}
    header = _HEADER.format(kind=kind, imports=_IMPORTS[kind], tiles="\n".join(tiles), **names)
    return header + _BODY.format(
        **names,
        eight=_integers(8),
        integers=_integers(len(PARAMETERS)),
        parameters=", ".join(PARAMETERS),
        panels=2 if unpacked else 1,
        panel_bytes=COLUMNS // 2 if unpacked else COLUMNS,
        unpack=_UNPACK.format(columns=COLUMNS, strip_bytes=STRIP // 2) if unpacked else "",
        number_bytes=NUMBERS_BYTES,
        segment_bytes=24 * PIXELS,
        range_pixels=RANGE_PIXELS,
        choice=_choice(rows),
        loads=", ".join(f"load_int64(task, {k + 3}, 0)" for k in range(len(PARAMETERS) - 1)),
        stores="\n".join(f"    store_int64(task, {k + 3}, {name}, 0)" for k, name in enumerate(PARAMETERS)),
        task_bytes=8 * (len(PARAMETERS) + 3),
    )


def _choice(rows: int) -> str:
    """Return the lines that call the tile of `count` channels."""
    lines = []
    for count in range(rows, 0, -1):
        word = "if" if count == rows else "elif"
        lines.append(f"{' ' * 16}{word} count == {count}:")
        lines.append(f"{' ' * 20}tile_{count}(place, scratch, depth, sums, 0, 0)")
    return "\n".join(lines)


def _integers(count: int) -> str:
    return ", ".join(["int64"] * count)
