"""The source of the compiled modules of quantized products: one module a kind of weights, for every shape."""

from __future__ import annotations

from kernels.quantized.cpu_codebook import LARGEST_DIRECT, STRIP
from kernels.quantized.cpu_epilogue import finish_text
from kernels.quantized.cpu_lookup import GROUP_NUMBERS, LARGEST_LOOKUP, STRIP_COLUMNS, STRIPS
from kernels.quantized.cpu_lookup_weights import GROUPED_LOOKUP, LOOKUP_BITS
from kernels.quantized.cpu_tile import COLUMNS, LARGEST_ROWS

FUNCTION = "quantized"
MOST_LOOKED_UP = 8
"""Rows up to which looking codes up for every tile of rows beats unpacking the panel once; measured."""
PARAMETERS = (
    "weights", "x", "x_stride", "rows", "out", "out_stride", "activation", "bias", "residual", "residual_stride",
    "workspace",
)  # fmt: skip
"""Addresses and numbers of a call, strides in elements; see `table` for weights. 0 stands for no bias, no residual."""

_HEADER = '''"""Products with {kind} weights, compiled once for every shape."""

import numba
import numpy as np

from kernels.compiler.intrinsics import (
    call_integer, call_parallel, load_float32, load_int32, load_int64, multiply_int32, select, stack, store_float32,
    store_int64, subtract_int32,
)
from kernels.compiler.prelude import erf_float32, sigmoid_float32, tanh_float32
{imports}

float32, int64 = np.float32, np.int64
inline = numba.njit(forceinline=True, error_model="numpy", boundscheck=False)
{tiles}
'''
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'
_QUANTISE = '''

@numba.njit("void(int64, int64, int64, int64, int64)", {options})
def quantise(weights, x, x_stride, rows, workspace):
    """Write the rows as bytes, then their scales, then their zeros."""
    columns, depth = load_int64(weights, 5, 0), load_int64(weights, 6, 0)
    scales = workspace + rows * depth
    for row in range(rows):
        place = scales + 4 * row
        quantised(x + 4 * row * x_stride, columns, workspace + row * depth, place, place + 4 * rows, 0)
'''
_ROUND = '''

@numba.njit("void(int64, int64, int64, int64, int64)", {options})
def quantise(weights, x, x_stride, rows, workspace):
    """Write the rows as the tiles read them."""
    columns, depth = load_int64(weights, 5, 0), load_int64(weights, 6, 0)
    for row in range(rows):
        rounded(x + 4 * row * x_stride, columns, workspace + row * depth, 0, 0, 0)
'''
_RANGE = '''

@inline
def scratch_of(weights, rows, workspace, thread):
    """Return the address of a thread's room for an unpacked panel."""
    depth = load_int64(weights, 6, 0)
    return workspace + (rows * (depth + 8) + 63) // 64 * 64 + thread * {columns} * depth


@numba.njit("void({signature})", {options})
def {name}_range({parameters}, begin, end, scratch):
    """Compute the panels from `begin` to `end`; the rows are quantised. scratch: the thread's own memory."""
    columns, depth = load_int64(weights, 4, 0), load_int64(weights, 6, 0)
    scales = workspace + rows * depth
    zeros = scales + 4 * rows
    for number in range(begin, end):
        panel = load_int64(weights, 0, 0) + number * depth * {panel_bytes}
        sums = stack({sum_bytes})
        width = min(int64({columns}), columns - number * {columns})
{before}
{loops}


'''
_LOOP = """\
        tiles = (rows + {largest} - 1) // {largest}
        for tile in range(tiles):
            first = rows * tile // tiles
            count = rows * (tile + 1) // tiles - first
            place, ahead = workspace + first * depth, following + depth * {lines} * tile
{choice}
            finish(sums, scales, zeros, weights, number * {columns}, width, bias, activation, residual, residual_stride,
                   out, out_stride, first, count)
"""
_STRIPS = """\
            for strip in range(4):
                codes, book = panel + {strip_bytes} * depth * strip, books + {book_bytes} * strip
{choice}"""
_LOOK_UP = """\
        books = load_int64(weights, 8, 0) + 1024 * number"""
_UNPACK = """\
        for strip in range(4):
            unpack(panel + {strip_bytes} * depth * strip, depth, books + 256 * strip, scratch + 64 * strip, 0, 0)
        following, panel = panel + {panel_bytes} * depth, scratch"""
_GROUPS = """\
        groups = load_int64(weights, 10, 0)
        books, group = load_int64(weights, 8, 0) + 1024 * number * groups, stack(24)
        store_int64(group, 0, load_int64(weights, 9, 0), 5)"""
_LOOKUP_PANEL = """\
        groups, strip_bytes = load_int64(weights, 10, 0), load_int64(weights, 11, 0)
        panel = load_int64(weights, 0, 0) + {strips} * strip_bytes * number
        following, group = panel, stack({group_numbers})
        first_scale = load_int64(weights, {scales}, 0) + 4 * {columns} * groups * number
        first_book = load_int64(weights, 8, 0) + 16 * {columns} * groups * number
        store_int64(group, 0, load_int64(weights, 9, 0) // 16, 5)
        store_int64(group, 3, groups, 5)"""
_LOOKUP_STRIPS = """\
            for strip in range({strips}):
                codes = panel + strip_bytes * strip
                store_int64(group, 1, first_book + 16 * {strip_columns} * groups * strip, 5)
                store_int64(group, 2, first_scale + 4 * {strip_columns} * groups * strip, 5)
{choice}"""
_GROUP_STRIP = """\
                store_int64(group, 1, books + 256 * groups * strip, 5)
                store_int64(group, 2, load_int64(weights, 11, 0) + 64 * groups * (4 * number + strip), 5)
"""
_WHOLE = """

@numba.njit("void({addresses})", {options})
def {name}({parameters}):
    quantise(weights, x, x_stride, rows, workspace)
    {name}_range({parameters}, 0, load_int64(weights, 7, 0), scratch_of(weights, rows, workspace, 0))


@numba.cfunc("void(int64)", cache=True)
def {name}_task(task):
    {name}({arguments})


@numba.cfunc("void(int64)", cache=True)
def {name}_share(task):
    threads = call_integer(load_int64(task, 0, 0))
    thread = call_integer(load_int64(task, 1, 0))
    weights = load_int64(task, 2, 0)
    items = load_int64(weights, 7, 0)
    {name}_range({loads}, items * thread // threads, items * (thread + 1) // threads,
                 scratch_of(weights, load_int64(task, 5, 0), load_int64(task, 12, 0), thread))


@numba.njit("void({parallel})", {options})
def {name}_parallel({parameters}, runtime, share, threads):
    quantise(weights, x, x_stride, rows, workspace)
    task = stack({task_bytes})
    store_int64(task, 0, load_int64(runtime, 1, 0), 0)
    store_int64(task, 1, load_int64(runtime, 2, 0), 0)
{stores}
    call_parallel(load_int64(runtime, 0, 0), share, task, threads)


@numba.cfunc("void(int64)", cache=True)
def {name}_parallel_task(task):
    {name}_parallel({all_arguments})
"""


def _choice(name: str, arguments: str, largest: int, depth: int) -> str:
    """Return the lines that call the tile of `count` rows."""
    space = " " * depth
    lines = []
    for rows in range(largest, 0, -1):
        word = "if" if rows == largest else "elif"
        lines.append(f"{space}{word} count == {rows}:\n{space}    {name}_{rows}({arguments})")
    return "\n".join(lines)


_ROWS = {"final": ("rounded", "bfloat16_row"), "scaled": ("rounded", "float32_row")}
"""By what the sums are: what turns rows of activations into what the tiles read, if they are not quantised."""
_IMPORT_TILE = "from kernels.quantized.cpu_tile import int8_tile"
_PANEL_BYTES = COLUMNS // 2
_STRIP_BYTES = STRIP // 2
_INT8_LINES = 16
"""Bytes of the next panel that a tile asks for, a unit of depth."""


def int8_source(native: bool) -> str:
    """Return the source of products with int8 weights."""
    tiles = _tiles("tile", "int8_tile", _largest(LARGEST_ROWS, native), native)
    following = f"        following = panel + {COLUMNS} * depth"
    loop = _tile_loop(native, _INT8_LINES)
    return _module("int8", _IMPORT_TILE, tiles, COLUMNS, following, loop)


def bfloat16_source(native: bool) -> str:
    """Return the source of products with bfloat16 weights and activations, summed in float32."""
    imports = "from kernels.quantized.cpu_tile import bfloat16_tile"
    tiles = _tiles("tile", "bfloat16_tile", _largest(LARGEST_ROWS, native), native)
    following = f"        following = panel + {COLUMNS} * depth"
    loop = _tile_loop(native, _INT8_LINES)
    return _module("bfloat16", imports, tiles, COLUMNS, following, loop, sums="final")


def weight_only_source(native: bool) -> str:
    """Return the source of products with int8 weights and float32 activations."""
    imports = "from kernels.quantized.cpu_tile import weight_only_tile"
    tiles = _tiles("tile", "weight_only_tile", _largest(LARGEST_ROWS, native), native)
    following = f"        following = panel + {COLUMNS // 4} * depth"
    loop = _tile_loop(native, _INT8_LINES // 4)
    return _module("int8, weight-only", imports, tiles, COLUMNS // 4, following, loop, sums="scaled")


def codebook_source(native: bool) -> str:
    """Return the source of products with codebook weights, a codebook a column of the product."""
    imports = f"from kernels.quantized.cpu_codebook import codebook_tile, unpack_strip\n{_IMPORT_TILE}"
    direct = _largest(LARGEST_DIRECT, native)
    tiles = (
        _tiles("tile", "int8_tile", _largest(LARGEST_ROWS, native), native),
        _tiles("looked_up", "codebook_tile", direct, native),
        f"unpack = unpack_strip({native})",
    )
    calls = _choice("looked_up", "place, depth, codes, depth, book, sums + 64 * strip", direct, 16)
    strips = _STRIPS.format(strip_bytes=_STRIP_BYTES, book_bytes=256, choice=calls)
    loops = (
        f"        following = panel + {_PANEL_BYTES} * depth",
        f"        if rows <= {MOST_LOOKED_UP}:",
        _indented(_loop(direct, _INT8_LINES // 2, strips)),
        "            continue",
        _UNPACK.format(strip_bytes=_STRIP_BYTES, panel_bytes=_PANEL_BYTES),
        _tile_loop(native, _INT8_LINES // 2),
    )
    return _module("codebook", imports, "\n".join(tiles), _PANEL_BYTES, _LOOK_UP, "\n".join(loops))


def grouped_source(native: bool) -> str:
    """Return the source of products with codebook weights, a codebook and a scale a group of a column."""
    imports = "from kernels.quantized.cpu_codebook import grouped_tile"
    direct = _largest(LARGEST_DIRECT, native)
    arguments = "place, depth, codes, depth, group, sums + 64 * strip"
    calls = _GROUP_STRIP + _choice("looked_up", arguments, direct, 16)
    strips = _STRIPS.format(strip_bytes=_STRIP_BYTES, book_bytes=0, choice=calls)
    before = f"{_GROUPS}\n        following = panel + {_PANEL_BYTES} * depth"
    loop = _loop(direct, _INT8_LINES // 2, strips)
    tiles = _tiles("looked_up", "grouped_tile", direct, native)
    return _module("grouped codebook", imports, tiles, _PANEL_BYTES, before, loop, sums="float")


def lookup_source(kind: str, native: bool) -> str:
    """Return the source of products with codebook weights and float32 activations; kind: one of LOOKUP_BITS."""
    largest = _largest(LARGEST_LOOKUP, native)
    before = _LOOKUP_PANEL.format(
        strips=STRIPS,
        group_numbers=GROUP_NUMBERS,
        columns=COLUMNS,
        scales=12 if kind == GROUPED_LOOKUP else 1,
    )
    arguments = f"place, depth, codes, depth // 64, group, sums + 4 * {STRIP_COLUMNS} * strip"
    calls = _choice("looked_up", arguments, largest, 16)
    strips = _LOOKUP_STRIPS.format(strips=STRIPS, strip_columns=STRIP_COLUMNS, choice=calls)
    tiles = "\n".join(
        f"looked_up_{rows} = lookup_tile({rows}, {LOOKUP_BITS[kind]}, {native})" for rows in range(1, largest + 1)
    )
    imports = "from kernels.quantized.cpu_lookup import lookup_tile"
    return _module(kind, imports, tiles, 0, before, _loop(largest, 0, strips), sums="final", row="float32_row")


def _module(
    kind: str, imports: str, tiles: str, panel_bytes: int, before: str, loops: str, sums: str = "integer",
    row: str | None = None,
) -> str:  # fmt: skip
    """Return a module: `before` stands before each panel's loops. panel_bytes: of a panel and a unit of depth.

    row: what turns rows of activations into what the tiles read, where the sums don't say it.
    """
    name, usual = _ROWS.get(sums, ("quantised", "quantise_row"))
    row = row or usual
    body = _RANGE.format(
        signature=_integers(len(PARAMETERS) + 3),
        options=_OPTIONS,
        name=FUNCTION,
        parameters=", ".join(PARAMETERS),
        columns=COLUMNS,
        panel_bytes=panel_bytes,
        sum_bytes=4 * LARGEST_ROWS * COLUMNS,
        before=before,
        loops=loops,
    )
    imports += f"\nfrom kernels.quantized.cpu_quantise import {row}"
    header = _HEADER.format(kind=kind, imports=imports, tiles=f"{name} = {row}()\n{tiles}")
    rows = (_ROUND if sums in _ROWS else _QUANTISE).format(options=_OPTIONS)
    return header + finish_text(COLUMNS, sums) + rows + body.rstrip() + _whole()


def _largest(rows: int, native: bool) -> int:
    """Return the most rows of a tile: few where each instruction is spelled out, which takes long to compile."""
    return rows if native else 2


def _tile_loop(native: bool, lines: int) -> str:
    largest = _largest(LARGEST_ROWS, native)
    return _loop(largest, lines, _choice("tile", "place, depth, panel, depth, sums, ahead", largest, 12))


def _loop(largest: int, lines: int, choice: str) -> str:
    return _LOOP.format(largest=largest, lines=lines, columns=COLUMNS, choice=choice).rstrip("\n")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))


def _whole() -> str:
    count = len(PARAMETERS)
    return _WHOLE.format(
        name=FUNCTION,
        options=_OPTIONS,
        addresses=_integers(count),
        parameters=", ".join(PARAMETERS),
        parallel=_integers(count + 3),
        arguments=", ".join(f"load_int64(task, {k}, 0)" for k in range(count)),
        all_arguments=", ".join(f"load_int64(task, {k}, 0)" for k in range(count + 3)),
        loads=", ".join(f"load_int64(task, {k + 2}, 0)" for k in range(count)),
        stores="\n".join(f"    store_int64(task, {k + 2}, {name}, 0)" for k, name in enumerate(PARAMETERS)),
        task_bytes=8 * (count + 2),
    )


def _tiles(name: str, function: str, largest: int, native: bool) -> str:
    return "\n".join(f"{name}_{rows} = {function}({rows}, {native})" for rows in range(1, largest + 1))


def _integers(count: int) -> str:
    return ", ".join(["int64"] * count)
