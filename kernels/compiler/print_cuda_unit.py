"""The lines of a generated CUDA kernel for a few neighbouring points: loads, values lane by lane, stores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kernels.compiler.ir import REDUCTIONS, Access, Region
from kernels.compiler.scalar_text import scalar_text
from kernels.compiler.source import position_text, roots
from kernels.cuda.memory import LANES


@dataclass(frozen=True, slots=True)
class Unit:
    """One point (lanes 1) or four neighbours along the innermost axis (lanes 4).

    indices: the name of each axis's index; of the innermost one, that of the first lane.
    suffix:  of the names of values, so that a kernel can hold several units.
    shared:  values that are the same for all units of a row, whose names have no suffix.
    anew:    loads that must not be moved out of a loop, although their memory does not change.
    """

    region: Region
    lanes: int
    indices: tuple[str, ...]
    suffix: str = ""
    shared: frozenset[int] = frozenset()
    anew: frozenset[int] = frozenset()

    def loads(self, values: Iterable[int]) -> list[str]:
        """Return the lines of the loads among the values."""
        return [self._load(k) for k in values if self.region.values[k].op == "load"]

    def computed(self, values: Iterable[int]) -> list[str]:
        """Return the lines of the values that are no loads: those that all lanes share first, then lane by lane."""
        varying = self._varying()
        others = [k for k in values if self.region.values[k].op != "load"]
        lines = [self._value(k, 0, varying) for k in others if k not in varying]
        for lane in range(self.lanes):
            lines += [self._value(k, lane, varying) for k in others if k in varying]
        return lines

    def stores(self, stores: Iterable[int]) -> list[str]:
        """Return the lines of the stores, by position."""
        return [self._store(k) for k in stores]

    def names(self, number: int) -> list[str]:
        """Return the name of a value for each lane."""
        return self._names(number, self._varying())

    def _varying(self) -> frozenset[int]:
        """Return the values that differ between the lanes."""
        varying: set[int] = set()
        if self.lanes == 1:
            return frozenset()
        for number, value in enumerate(self.region.values):
            moves = value.access is not None and value.access.strides[-1] != 0
            counts = value.op == "index" and value.axis == len(self.region.domain) - 1
            if moves or counts or (value.op not in REDUCTIONS and not varying.isdisjoint(value.operands)):
                varying.add(number)
        return frozenset(varying)

    def _names(self, number: int, varying: frozenset[int]) -> list[str]:
        name = f"v{number}" if number in self.shared else f"v{number}{self.suffix}"
        return [f"{name}_{lane}" if number in varying else name for lane in range(self.lanes)]

    def _load(self, number: int) -> str:
        value = self.region.values[number]
        access = value.access
        assert access is not None
        root = roots(self.region)
        written = {root[store.access.buffer] for store in self.region.stores}
        verb = "load" if root[access.buffer] in written or number in self.anew else "read"
        wide = self.lanes > 1 and access.strides[-1] != 0
        names = self._names(number, frozenset({number}) if wide else frozenset())
        width = f"x{self.lanes}" if wide else ""
        target = ", ".join(names) if wide else names[0]
        return f"{target} = {verb}_{value.dtype}{width}(a{access.buffer}, {position_text(access, self.indices)})"

    def _value(self, number: int, lane: int, varying: frozenset[int]) -> str:
        value = self.region.values[number]
        if value.op == "index":
            assert value.axis is not None
            index = self.indices[value.axis]
            text = f"{index} + {lane}" if number in varying and lane else index
        else:
            operands = [self._names(k, varying)[lane] for k in value.operands]
            source = self.region.values[value.operands[0]].dtype if value.operands else value.dtype
            text = scalar_text(value, source, operands)
        return f"{self._names(number, varying)[lane]} = {text}"

    def _store(self, number: int) -> str:
        store = self.region.stores[number]
        dtype = self.region.buffers[store.access.buffer].dtype
        names = ", ".join(self.names(store.value))
        width, stored = (f"x{self.lanes}", f"({names})") if self.lanes > 1 else ("", names)
        return f"store_{dtype}{width}(a{store.access.buffer}, {position_text(store.access, self.indices)}, {stored})"


def coordinates(extents: Sequence[int], names: Sequence[str], position: str, lanes: int = 1) -> list[str]:
    """Return the lines that set the index of each axis of a box from a position that counts groups of `lanes` points.

    The innermost extent is a multiple of `lanes`, or the box has one axis.
    """
    innermost = len(extents) - 1
    bits = 32 if math.prod(extents) < 2**31 else 64
    lines, rest = [], position
    for axis in range(innermost, -1, -1):
        own = rest
        if axis > 0:
            extent = extents[axis] // lanes if axis == innermost else extents[axis]
            quotient = f"rest_{names[axis]}"
            lines.append(f"{quotient} = quotient_uint{bits}({rest}, {extent})")
            own, rest = f"({rest} - {quotient} * {extent})", quotient
        lines.append(
            f"{names[axis]} = {lanes} * {own}" if axis == innermost and lanes > 1 else f"{names[axis]} = {own}"
        )
    return lines


def row_length(region: Region) -> int:
    """Return the number of elements of a row."""
    return math.prod(region.domain[len(region.domain) - region.reduced :])


def is_wide(access: Access) -> bool:
    """Return whether four neighbours along the innermost axis are one access, aligned if the buffer is."""
    return access.strides[-1] == 1 and all(step % LANES == 0 for step in (access.offset, *access.strides[:-1]))


def indented(lines: Iterable[str]) -> list[str]:
    """Return the lines one level deeper."""
    return [f"    {line}" for line in lines]


def block(header: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield the header and the lines below it; nothing if there are none."""
    if lines:
        yield header
        yield from indented(lines)
