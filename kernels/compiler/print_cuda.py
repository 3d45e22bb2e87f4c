"""Prints a pointwise region as a Numba-CUDA kernel: a grid-stride loop over its points.

The wide form takes four neighbouring points at a time with one access for each operand, then the points that are
left over one by one. It exists where every access steps by 1 or 0 along the innermost axis and starts at a multiple
of four; else, and for addresses that are not aligned, the scalar form serves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kernels.compiler.ir import ITEM_BYTES, Access, IrError, Region
from kernels.compiler.passes import accesses, simplify
from kernels.compiler.scalar_text import scalar_text
from kernels.compiler.source import position_text, roots
from kernels.compiler.verify import verify
from kernels.cuda_kernel import KernelSource
from kernels.cuda_memory import ALIGNMENT, LANES

ENTRY = "pointwise"


def print_cuda(region: Region) -> dict[str, KernelSource]:
    """Return the region's kernel by form: "scalar" always, "wide" where 128-bit accesses are possible.

    Raises IrError for an invalid region, for one with reductions, and for an op that has no CUDA text.
    """
    verify(region)
    if region.reduced:
        raise IrError("a region with reductions is no pointwise kernel; give it to the reduction family")
    region = simplify(region)
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
    loaded = all(access.strides[-1] == 0 or _is_wide(access) for access in accesses(region))
    return loaded and all(_is_wide(store.access) for store in region.stores)


def _is_wide(access: Access) -> bool:
    return access.strides[-1] == 1 and all(step % LANES == 0 for step in (access.offset, *access.strides[:-1]))


def _function(parameters: int, thread: str, threads: str, loop: list[str]) -> str:
    head = f"def {ENTRY}({', '.join(f'a{k}' for k in range(parameters))}):"
    return "\n".join([head, *_indent([f"thread = {thread}", f"threads = {threads}", *loop]), ""])


def _wide_loop(region: Region) -> list[str]:
    points = math.prod(region.domain)
    groups = points // LANES
    body = [*_coordinates(region, "group", LANES), *_Point(region, LANES).lines(), "group += threads"]
    lines = ["group = thread", f"while group < {groups}:", *_indent(body)]
    first_left = groups * LANES
    return lines if first_left == points else lines + _scalar_loop(region, first_left)


def _scalar_loop(region: Region, first: int) -> list[str]:
    body = [*_coordinates(region, "point", 1), *_Point(region, 1).lines(), "point += threads"]
    start = f"point = {first} + thread" if first else "point = thread"
    return [start, f"while point < {math.prod(region.domain)}:", *_indent(body)]


def _coordinates(region: Region, position: str, lanes: int) -> list[str]:
    """Return the lines that set i0, i1, … from a position that counts groups of `lanes` points."""
    innermost = len(region.domain) - 1
    bits = 32 if math.prod(region.domain) < 2**31 else 64
    lines, rest = [], position
    for axis in range(innermost, -1, -1):
        own = rest
        if axis > 0:
            extent = region.domain[axis] // lanes if axis == innermost else region.domain[axis]
            lines.append(f"rest{axis} = quotient_uint{bits}({rest}, {extent})")
            own, rest = f"({rest} - rest{axis} * {extent})", f"rest{axis}"
        lines.append(f"i{axis} = {lanes} * {own}" if axis == innermost and lanes > 1 else f"i{axis} = {own}")
    return lines


@dataclass(frozen=True, slots=True)
class _Point:
    """The lines for one point (lanes 1) or for four neighbours (lanes 4)."""

    region: Region
    lanes: int

    def lines(self) -> list[str]:
        """Return loads first, so that all are in flight together, then the values lane by lane, then the stores."""
        loaded = [k for k, value in enumerate(self.region.values) if value.op == "load"]
        computed = [k for k, value in enumerate(self.region.values) if value.op != "load"]
        varying = self._varying()
        lines = [self._load(k) for k in loaded]
        lines += [self._value(k, 0, varying) for k in computed if k not in varying]
        for lane in range(self.lanes):
            lines += [self._value(k, lane, varying) for k in computed if k in varying]
        return lines + [self._store(k, varying) for k in range(len(self.region.stores))]

    def _varying(self) -> set[int]:
        """Return the values that differ between the lanes."""
        varying: set[int] = set()
        if self.lanes == 1:
            return varying
        for number, value in enumerate(self.region.values):
            moves = value.access is not None and value.access.strides[-1] != 0
            counts = value.op == "index" and value.axis == len(self.region.domain) - 1
            if moves or counts or not varying.isdisjoint(value.operands):
                varying.add(number)
        return varying

    def _names(self, number: int, varying: set[int]) -> list[str]:
        return [f"v{number}_{lane}" if number in varying else f"v{number}" for lane in range(self.lanes)]

    def _position(self, access: Access) -> str:
        return position_text(access, [f"i{axis}" for axis in range(len(self.region.domain))])

    def _load(self, number: int) -> str:
        value = self.region.values[number]
        access = value.access
        assert access is not None
        root = roots(self.region)
        written = {root[store.access.buffer] for store in self.region.stores}
        verb = "load" if root[access.buffer] in written else "read"
        wide = self.lanes > 1 and access.strides[-1] != 0
        names = ", ".join(self._names(number, {number})) if wide else f"v{number}"
        width = f"x{self.lanes}" if wide else ""
        return f"{names} = {verb}_{value.dtype}{width}(a{access.buffer}, {self._position(access)})"

    def _value(self, number: int, lane: int, varying: set[int]) -> str:
        value = self.region.values[number]
        if value.op == "index":
            text = f"i{value.axis} + {lane}" if number in varying and lane else f"i{value.axis}"
        else:
            operands = [self._names(k, varying)[lane] for k in value.operands]
            source = self.region.values[value.operands[0]].dtype if value.operands else value.dtype
            text = scalar_text(value, source, operands)
        return f"{self._names(number, varying)[lane]} = {text}"

    def _store(self, number: int, varying: set[int]) -> str:
        store = self.region.stores[number]
        dtype = self.region.buffers[store.access.buffer].dtype
        names = ", ".join(self._names(store.value, varying))
        width, stored = (f"x{self.lanes}", f"({names})") if self.lanes > 1 else ("", names)
        return f"store_{dtype}{width}(a{store.access.buffer}, {self._position(store.access)}, {stored})"


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
