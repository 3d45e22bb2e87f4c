"""Prints a pointwise region as a Numba-CUDA kernel: a grid-stride loop over its points.

The wide form takes four neighbouring points at a time with one access for each operand, then the points that are
left over one by one. It exists where every access steps by 1 or 0 along the innermost axis and starts at a multiple
of four; else, and for addresses that are not aligned, the scalar form serves.
"""

from __future__ import annotations

import math

from kernels.compiler.ir import ITEM_BYTES, Region
from kernels.compiler.passes import accesses
from kernels.compiler.print_cuda_unit import Unit, coordinates, indented, is_wide
from kernels.cuda.kernel import KernelSource
from kernels.cuda.memory import ALIGNMENT, LANES

ENTRY = "pointwise"


def print_points(region: Region) -> dict[str, KernelSource]:
    """Return a simplified pointwise region's kernel by form: "scalar" always, "wide" where it is possible.

    Raises IrError for an op that has no CUDA text.
    """
    points = math.prod(region.domain)
    forms = {"scalar": _source(region, _scalar_loop(region, 0), points, ITEM_BYTES)}
    if _can_be_wide(region):
        forms["wide"] = _source(region, _wide_loop(region), -(-points // LANES), ALIGNMENT)
    return forms


def _source(region: Region, loop: list[str], work_items: int, alignment: dict[str, int]) -> KernelSource:
    return KernelSource(
        entry=ENTRY,
        text=_function(len(region.buffers), "cuda.grid(1)", "cuda.gridsize(1)", loop),
        host_text=_function(len(region.buffers), "0", "1", loop),
        alignment=tuple(alignment[buffer.dtype] for buffer in region.buffers),
        work_items=work_items,
    )


def _can_be_wide(region: Region) -> bool:
    """Return whether four neighbouring points are always one aligned access of each operand, or one shared element."""
    if math.prod(region.domain) < LANES or (len(region.domain) > 1 and region.domain[-1] % LANES):
        return False
    loaded = all(access.strides[-1] == 0 or is_wide(access) for access in accesses(region))
    return loaded and all(is_wide(store.access) for store in region.stores)


def _function(parameters: int, thread: str, threads: str, loop: list[str]) -> str:
    head = f"def {ENTRY}({', '.join(f'a{k}' for k in range(parameters))}):"
    return "\n".join([head, *indented([f"thread = {thread}", f"threads = {threads}", *loop]), ""])


def _wide_loop(region: Region) -> list[str]:
    points = math.prod(region.domain)
    groups = points // LANES
    lines = ["group = thread", f"while group < {groups}:", *indented(_step(region, "group", LANES))]
    first_left = groups * LANES
    return lines if first_left == points else lines + _scalar_loop(region, first_left)


def _scalar_loop(region: Region, first: int) -> list[str]:
    start = f"point = {first} + thread" if first else "point = thread"
    return [start, f"while point < {math.prod(region.domain)}:", *indented(_step(region, "point", 1))]


def _step(region: Region, position: str, lanes: int) -> list[str]:
    """Return the body of a loop: loads first, so that all are in flight together."""
    names = tuple(f"i{axis}" for axis in range(len(region.domain)))
    unit, values = Unit(region, lanes, names), range(len(region.values))
    lines = coordinates(region.domain, names, position, lanes) + unit.loads(values) + unit.computed(values)
    return [*lines, *unit.stores(range(len(region.stores))), f"{position} += threads"]
