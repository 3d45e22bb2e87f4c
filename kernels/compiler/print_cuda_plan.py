"""How a row reduction is spread over CUDA threads: threads for a row, accesses, what stays in registers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kernels.compiler.ir import Region
from kernels.compiler.levels import levels, once_a_row
from kernels.compiler.nest import nest
from kernels.compiler.passes import accesses
from kernels.compiler.print_cuda_schedule import schedule
from kernels.compiler.print_cuda_unit import is_wide, row_length
from kernels.cuda.memory import LANES

WARP = 32
SHORT_BLOCK = 128  # threads of a block in which each warp has rows of its own
LARGEST_TEAM = 512  # leaves each thread 128 registers
REGISTER_ELEMENTS = 32  # the most elements of a row that a thread has in registers
KEPT_REGISTERS = 48  # the most values that it keeps of them between two walks
MANY_ROWS = 2048  # rows that fill a device with a warp each; below, more threads share a row
PRINTED_VALUES = 640  # the most lines of unrolled arithmetic: compile time
SECTOR = 8
MANY_COLUMNS = 8192
LONG_COLUMN = 128


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Who works on a row.

    team:     how many threads share a row, a power of two.
    lanes:    neighbouring elements that a thread takes at a time: 4 with one access, or 1.
    resident: whether a row stays in registers; else each walk over it reads it again.
    across:   0, or how many neighbouring threads work on neighbouring rows, each for another row: for
              memory that runs along the outer axis.
    """

    team: int
    lanes: int
    resident: bool
    across: int = 0

    @property
    def block(self) -> int:
        """Return the threads of a block."""
        if self.across:
            return self.across * self.team
        return max(self.team, SHORT_BLOCK) if self.team <= WARP else self.team

    @property
    def members_in_warp(self) -> int:
        """Return how many threads of a warp can work on one row."""
        return WARP // self.across if self.across else WARP


def row_plans(region: Region) -> dict[str, RowPlan]:
    """Return the plan of each form of a simplified region: "scalar" always, "wide" where it is possible."""
    forms = {"scalar": _plan(region, 1)}
    if can_be_wide(region):
        forms["wide"] = _plan(region, LANES)
    return forms


def can_be_wide(region: Region) -> bool:
    """Return whether four neighbours of a row are always one aligned access of each operand, or one shared element."""
    if region.domain[-1] < LANES or (region.reduced > 1 and region.domain[-1] % LANES):
        return False
    found = levels(region)
    loaded = [v.access for v, level in zip(region.values, found, strict=True) if v.access is not None and not level.row]
    stored = [store.access for store in region.stores if not once_a_row(region, found, store)]
    wide = all(access.strides[-1] == 0 or is_wide(access) for access in loaded) and all(map(is_wide, stored))
    return wide and any(access.strides[-1] == 1 for access in (*loaded, *stored))


def wide_buffers(region: Region) -> frozenset[int]:
    """Return the buffers that a kernel with four lanes reaches with wide accesses."""
    return frozenset(access.buffer for access in accesses(region) if access.strides[-1] != 0)


def _plan(region: Region, lanes: int) -> RowPlan:
    length, rows = row_length(region), math.prod(region.outer)
    walks = schedule(region, resident=True)
    values = sum(len(walk.values) for walk in walks.walks)
    elements = min(REGISTER_ELEMENTS, KEPT_REGISTERS // max(1, walks.kept), PRINTED_VALUES // max(1, values))
    if lanes == 1 and nest(region).columns is not None:
        # 8 neighbours fill a 32-byte sector; 32 a cache line, where there are enough rows for all multiprocessors.
        across = WARP if rows >= MANY_COLUMNS or length < LONG_COLUMN else SECTOR
        team = _power_of_two(min(LARGEST_TEAM // across, length // 4))
        return RowPlan(team, 1, -(-length // team) <= min(elements, 16), across)
    units = -(-length // lanes)
    team = min(WARP, _power_of_two(units))
    # A long row's sum is best found by many threads; with many rows there are enough of them anyway.
    wanted = elements if rows >= MANY_ROWS else min(elements, 8)
    while team < LARGEST_TEAM and team >= WARP and _elements(units, team, lanes) > wanted:
        team *= 2
    return RowPlan(team, lanes, _elements(units, team, lanes) <= elements)


def _elements(units: int, team: int, lanes: int) -> int:
    return -(-units // team) * lanes


def _power_of_two(least: int) -> int:
    """Return the smallest power of two that is not below `least`."""
    return 1 << max(0, least - 1).bit_length()
