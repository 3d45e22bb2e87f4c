"""How a quantized product is cut into blocks of rows, panels of columns and tiles, and what each tile calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernels.compiler.quantized_ir import QuantizedKernel
from kernels.compiler.source import UNMARKED
from kernels.quantized.cpu_codebook import LARGEST_DIRECT
from kernels.quantized.cpu_features import PORTABLE, choose
from kernels.quantized.cpu_lookup import LARGEST_LOOKUP, STRIP_COLUMNS, STRIPS
from kernels.quantized.cpu_lookup_weights import LOOKUP_BITS, lookup_numbers
from kernels.quantized.cpu_source import MOST_LOOKED_UP
from kernels.quantized.cpu_store import layout, needs_of
from kernels.quantized.cpu_tile import COLUMNS, LARGEST_ROWS

ROW_FUNCTIONS = {"bytes": "quantise_row", "bfloat16": "bfloat16_row", "float32": "float32_row"}
"""By form: what converts a row."""
LARGEST_UNPACKED = 256 << 10
"""Bytes of stack that an unpacked panel may take; deeper codebooks are looked up for every tile."""
_BLOCK_BYTES = 256 << 10
"""Of the converted rows of a block: they stay in the second-level cache while all panels pass by."""
_AHEAD_LINES = 16
"""Bytes of the next panel that a tile of more than two rows asks for, a byte of the depth."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What a tile leaves, and how it becomes a value of the product. zero: "" where rows have none.

    The texts have the fields total, weight_sum, weight_scale, and zero.
    """

    dtype: str
    zero: str
    value: str


_INTEGER = Sums(
    "int32",
    "{zero}",
    "float32(subtract_int32({total}, multiply_int32(zero, {weight_sum}))) * (scale * {weight_scale})",
)
_FLOAT = Sums("float32", "float32({zero})", "({total} - zero * {weight_sum}) * (scale * {weight_scale})")
_FINAL = Sums("float32", "", "{total}")
_SUMS: Mapping[str, Sums] = {
    "int8": _INTEGER,
    "codebook": _INTEGER,
    "grouped-codebook": _FLOAT,
    "bfloat16": _FINAL,
    "int8-weight-only": Sums("float32", "", "{total} * {weight_scale}"),
    **dict.fromkeys(LOOKUP_BITS, _FINAL),
}
_TILES = {"int8": "int8_tile", "bfloat16": "bfloat16_tile", "int8-weight-only": "weight_only_tile"}


@dataclass(frozen=True, slots=True)
class Cut:
    """How the product is cut.

    kernel:  which instructions it is cut for, or "portable".
    blocks:  (how many, rows of each) of the blocks of rows, in order. panels: of 64 columns.
    arrays:  how many arrays the weights are. unpacked: whether codes are unpacked to a panel of bytes first.
    before:  lines for each panel. tile_lines: those of a tile, with the fields rows, place and ahead.
    ahead_bytes, ahead_tiles: what a tile fetches of the next panel, and how many tiles fetch all of it.
    """

    kernel: str
    blocks: tuple[tuple[int, int], ...]
    panels: int
    panel_bytes: int
    arrays: int
    largest: int
    tallest: int
    unpacked: bool
    definitions: tuple[str, ...]
    before: tuple[str, ...]
    tile_lines: tuple[str, ...]
    ahead_bytes: int
    ahead_tiles: int

    def tiles(self, height: int) -> tuple[tuple[int, int], ...]:
        """Return (how many, rows of each) of the tiles of a block, as equal as they can be."""
        return balanced(height, self.largest)


def sums_of(kernel: QuantizedKernel) -> Sums:
    """Return what the tiles of a kernel leave."""
    return _SUMS[kernel.kind]


def balanced(rows: int, most: int) -> tuple[tuple[int, int], ...]:
    """Return (how many, size of each) of the fewest parts of at most `most`, the larger ones first."""
    parts = -(-rows // most)
    size, more = divmod(rows, parts)
    found = ((more, size + 1), (parts - more, size))
    return tuple((count, extent) for count, extent in found if count)


def cut(kernel: QuantizedKernel) -> Cut:
    """Return the plan of a kernel for this machine."""
    chosen, _ = choose(needs_of(kernel.kind))
    native = chosen != PORTABLE
    depth = kernel.row_bytes
    in_floats = kernel.kind in LOOKUP_BITS
    looked_up = (
        in_floats
        or kernel.kind == "grouped-codebook"
        or (kernel.kind == "codebook" and (kernel.rows <= MOST_LOOKED_UP or COLUMNS * depth > LARGEST_UNPACKED))
    )
    # Without the instructions for it a tile is spelled out, which takes long to compile.
    tallest = LARGEST_LOOKUP if in_floats else LARGEST_DIRECT if looked_up else LARGEST_ROWS
    largest = min(tallest if native else 2, kernel.rows)
    most = max(largest, _BLOCK_BYTES // depth // largest * largest)
    blocks = balanced(kernel.rows, most)
    heights = sorted({rows for _, height in blocks for _, rows in balanced(height, largest)}, reverse=True)
    arrays = layout(kernel.kind, kernel.columns, kernel.depth, kernel.group)
    panel_bytes = _panel_bytes(kernel, depth)
    unpacked = kernel.kind == "codebook" and not looked_up
    ahead = depth * _AHEAD_LINES
    return Cut(
        chosen,
        blocks,
        -(-kernel.columns // COLUMNS),
        panel_bytes,
        len(arrays),
        largest,
        heights[0],
        unpacked,
        _definitions(kernel, heights, looked_up),
        _before(kernel, depth, looked_up),
        _tile_lines(kernel, depth, looked_up, unpacked),
        ahead,
        max(1, -(-panel_bytes // ahead)),
    )


def _panel_bytes(kernel: QuantizedKernel, depth: int) -> int:
    """Return the bytes of a panel: codes take half of one each; depth counts the bytes of activations."""
    if kernel.kind in LOOKUP_BITS:
        return STRIPS * lookup_numbers(kernel.kind, kernel.depth, kernel.group)[2]
    if kernel.kind.endswith("codebook"):
        return COLUMNS * depth // 2
    return COLUMNS * depth // (4 if kernel.kind == "int8-weight-only" else 1)


def _definitions(kernel: QuantizedKernel, heights: list[int], looked_up: bool) -> tuple[str, ...]:
    # Asked where the module is loaded: an artifact may come to a processor without the instructions.
    native = f"native = choose({needs_of(kernel.kind)!r})[0] != {PORTABLE!r}"
    if kernel.kind in LOOKUP_BITS:
        bits = LOOKUP_BITS[kernel.kind]
        return native, *(f"looked_up_{rows} = lookup_tile({rows}, {bits}, native)" for rows in heights)
    if looked_up:
        function = "grouped_tile" if kernel.group is not None else "codebook_tile"
        return native, *(f"looked_up_{rows} = {function}({rows}, native)" for rows in heights)
    tiles = tuple(f"tile_{rows} = {_TILES.get(kernel.kind, 'int8_tile')}({rows}, native)" for rows in heights)
    return (native, *tiles, *(["unpack = unpack_strip(native)"] if kernel.kind == "codebook" else []))


def _before(kernel: QuantizedKernel, depth: int, looked_up: bool) -> tuple[str, ...]:
    if kernel.kind in LOOKUP_BITS:
        group, groups, _ = lookup_numbers(kernel.kind, kernel.depth, kernel.group)
        return (
            f"store_int64(book, 0, int64({group // 16}), {UNMARKED})",
            f"store_int64(book, 3, int64({groups}), {UNMARKED})",
        )
    if kernel.group is not None:
        groups = -(-kernel.depth // kernel.group)
        return (
            f"books = tables + {1024 * groups} * number",
            f"store_int64(book, 0, int64({kernel.group}), {UNMARKED})",
        )
    if kernel.kind != "codebook":
        return ()
    if looked_up:
        return ("books = tables + 1024 * number",)
    unpack = f"    unpack(panel + {8 * depth} * strip, {depth}, books + 256 * strip, unpacked + 64 * strip, 0, 0)"
    return ("books = tables + 1024 * number", "for strip in range(4):", unpack)


def _tile_lines(kernel: QuantizedKernel, depth: int, looked_up: bool, unpacked: bool) -> tuple[str, ...]:
    if not looked_up:
        panel = "unpacked" if unpacked else "panel"
        return (f"tile_{{rows}}({{place}}, {depth}, {panel}, {depth}, totals, {{ahead}})",)
    if kernel.kind in LOOKUP_BITS:
        return _lookup_lines(kernel, depth)
    codes = f"panel + {8 * depth} * strip"
    if kernel.group is None:
        call = f"    looked_up_{{rows}}({{place}}, {depth}, {codes}, {depth}, books + 256 * strip, totals + 64 * strip)"
        return ("for strip in range(4):", call)
    groups = -(-kernel.depth // kernel.group)
    return (
        "for strip in range(4):",
        f"    store_int64(book, 1, books + {256 * groups} * strip, {UNMARKED})",
        f"    store_int64(book, 2, group_scales + {64 * groups} * (4 * number + strip), {UNMARKED})",
        f"    looked_up_{{rows}}({{place}}, {depth}, {codes}, {depth}, book, totals + 64 * strip)",
    )


def _lookup_lines(kernel: QuantizedKernel, depth: int) -> tuple[str, ...]:
    """Return the lines of a tile whose activations are float32, whose codebooks are looked up."""
    _, groups, size = lookup_numbers(kernel.kind, kernel.depth, kernel.group)
    scales = "scales" if kernel.group is None else "group_scales"
    row = f"{groups} * ({COLUMNS} * number + {STRIP_COLUMNS} * strip)"
    sums = f"totals + {4 * STRIP_COLUMNS} * strip"
    return (
        f"for strip in range({STRIPS}):",
        f"    store_int64(book, 1, tables + 16 * {row}, {UNMARKED})",
        f"    store_int64(book, 2, {scales} + 4 * {row}, {UNMARKED})",
        f"    looked_up_{{rows}}({{place}}, {depth}, panel + {size} * strip, {depth // 64}, book, {sums})",
    )
