"""Kernel text that walks a table of segments (segment_table.py): each warp takes the same number of units."""

from __future__ import annotations

import re

from kernels.cuda.kernel import KernelSource
from kernels.transfer.segment_table import HEADER, ROW

PARAMETERS = "table, sources, destinations"
ALIGNMENT = (8, 16, 16)
_WORD = re.compile(r"\b[A-Z_]+\b")

# Sets `low` to the segment of [low, high) whose units contain `unit`. A table holds no segment without units, hence
# of the next k units each lies in one of the next k segments.
_FIND = f"""while high - low > 1:
    middle = (low + high) >> 1
    if read_int64(table, {HEADER} + {ROW} * middle) <= UNIT:
        low = middle
    else:
        high = middle
row = {HEADER} + {ROW} * low
begin = read_int64(table, row)
source = read_int64(table, row + 1)
destination = read_int64(table, row + 2)
extent = read_int64(table, row + 3)"""

_TILES = """def ENTRY(PARAMETERS):
    POSITION
    segments = read_int64(table, 0)
    units = read_int64(table, 1)
    tile_units = UNROLL * width
    first = group * tile_units
    while first < units:
        last = min(first + tile_units, units)
        low, high = int64(0), segments
        FIND_FIRST
        if CONDITION:
            TILE
        else:
            for step in range(UNROLL):
                unit = first + step * width + lane
                if unit < last:
                    high = min(low + tile_units, segments)
                    FIND_UNIT
                    UNIT
        first += groups * tile_units
"""

# A group is a warp, whose lanes take neighbouring units; a block smaller than a warp is one group. Any grid gives the
# same result: threads beyond the last whole group stay idle.
_DEVICE_POSITION = """width = min(int64(cuda.blockDim.x), int64(32))
groups_of_block = quotient_uint32(int64(cuda.blockDim.x), width)
group = quotient_uint32(int64(cuda.threadIdx.x), width)
lane = int64(cuda.threadIdx.x) - group * width
groups = groups_of_block * int64(cuda.gridDim.x)
if group >= groups_of_block:
    return
group += groups_of_block * int64(cuda.blockIdx.x)"""
_HOST_POSITION = "width, lane, group, groups = int64(1), int64(0), int64(0), int64(1)"


def find_segment(unit: str) -> str:
    """Return the text that sets begin, source, destination and extent to those of a unit's segment."""
    return _FIND.replace("UNIT", unit)


def fill_in(template: str, **parts: str) -> str:
    """Return the text with each named word replaced by its part, indented as the line that the word is all of."""
    lines = []
    for line in template.splitlines():
        name = line.strip()
        if name in parts:
            indent = line[: len(line) - len(name)]
            lines += [indent + inner for inner in parts[name].splitlines()]
        else:
            lines.append(_WORD.sub(lambda word: parts.get(word.group(), word.group()), line))
    return "\n".join(lines) + "\n"


def tiled_kernel(entry: str, unroll: int, condition: str, tile: str, unit: str) -> KernelSource:
    """Return a kernel whose threads take `unroll` units each at a time, neighbouring lanes neighbouring units.

    condition: whether the `tile_units` units from `first` on are one segment's and can be done at once.
    tile:      does so, for the units first + k * width + lane.
    unit:      does the one unit `unit`, whatever its segment.
    All three see source, destination and extent of the segment, and `begin`, its first unit.
    """

    def text(position: str) -> str:
        return fill_in(
            _TILES, ENTRY=entry, PARAMETERS=PARAMETERS, POSITION=position, UNROLL=str(unroll), CONDITION=condition,
            TILE=tile, UNIT=unit, FIND_FIRST=find_segment("first"), FIND_UNIT=find_segment("unit"),
        )  # fmt: skip

    return KernelSource(entry, text(_DEVICE_POSITION), text(_HOST_POSITION), ALIGNMENT, work_items=1)
