"""From a group to a Region of the compiler's IR, and the memory that each of its buffers is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernels.compiler.ir import COMPARE, Access, Buffer, Region, Store, Value
from kernels.compiler.kinds import Body
from optimizers.fusion.graph import Affine, Definition, Map, Operand, Reference, Scalar, invert, linear
from optimizers.fusion.group import Group, axes_of
from optimizers.fusion.memory import Memory, Places


@dataclass(frozen=True, slots=True)
class Bound:
    """A region and, for each of its buffers, where it begins: a memory and an offset in elements of it."""

    region: Body
    memories: tuple[tuple[Memory, int], ...]
    nodes: tuple[str, ...]
    """Nodes of the captured graph that it computes, at least in part."""
    product: str = ""
    """Of a product with its region: the name that leaves the product to the library, and nothing else."""

    @property
    def refused(self) -> tuple[str, ...]:
        """Return what is to be excluded from the program where the kernel is not the fastest way."""
        return (self.product,) if self.product else self.nodes


class RegionBuilder:
    """Builds the region of one group. Outer axes come first, by the strides of its stores, then reduced ones."""

    def __init__(self, group: Group, definitions: Sequence[Definition], places: Places) -> None:
        self.group = group
        self.definitions = definitions
        self.places = places
        self.values: list[Value] = []
        self.varies: list[bool] = []
        """For each value, whether it varies along the reduced axes."""
        self.known: dict[str, int] = {}
        self.made: dict[tuple[int, Map], int] = {}
        self.memories: list[Memory] = []
        self.order = self._axis_order()

    def build(self) -> Bound:
        """Return the region."""
        for index in sorted(self.group.members):
            for point in self.group.members[index]:
                self.made[index, point] = self._compute(self.definitions[index], point)
        # A value that lives in a slice of a concatenation would be stored there twice.
        stores = list(dict.fromkeys(self._store(index, point) for index, point in sorted(self.group.stored.items())))
        return self._packed(stores)

    def _axis_order(self) -> tuple[int, ...]:
        strides = [0] * len(self.group.extents)
        for index, point in self.group.stored.items():
            place = self.places.locate(self._whole(index), point, self.group.extents)
            strides = [max(a, b) for a, b in zip(strides, place[2], strict=True)]
        outer = sorted(self.group.outer, key=lambda axis: -strides[axis])
        return (*outer, *self.group.reduced)

    def _whole(self, index: int) -> Reference:
        definition = self.definitions[index]
        return Reference(index, 0, definition.shape, definition.strides)

    def _store(self, index: int, point: Map) -> Store:
        access = self._access(*self.places.locate(self._whole(index), point, self.group.extents))
        return Store(self._spread(self.made[index, point], access), access)

    def _spread(self, value: int, access: Access) -> int:
        """Return `value` at element level when it is stored along a reduced axis but does not vary along it."""
        axes = [axis for axis in range(len(self.group.outer), len(self.order)) if access.strides[axis]]
        if not axes or self.varies[value]:
            return value
        position = self._add(Value("index", "int64", axis=axes[0]), True)
        always = self._add(Value("ge", "bool", (position, self._constant(0, "int64"))), True)
        return self._add(Value("where", self.values[value].dtype, (always, value, value)), True)

    def _access(self, memory: Memory, constant: int, row: Sequence[int]) -> Access:
        if memory not in self.memories:
            self.memories.append(memory)
        strides = tuple(row[axis] if self.group.extents[axis] > 1 else 0 for axis in self.order)
        return Access(self.memories.index(memory), constant, strides)

    def _add(self, value: Value, varies: bool) -> int:
        key = repr(value)
        if key not in self.known:
            self.known[key] = len(self.values)
            self.values.append(value)
            self.varies.append(varies)
        return self.known[key]

    def _compute(self, definition: Definition, point: Map) -> int:
        if definition.op == "constant":
            operand = definition.operands[0]
            assert isinstance(operand, Scalar)
            return self._constant(operand.value, definition.dtype)
        if definition.op == "index":
            return self._position(point[definition.axis])
        inner = axes_of(self.group, definition, point) if definition.kind == "reduce" else point
        operands = tuple(self._operand(definition, item, inner) for item in definition.operands)
        if definition.op == "identity":
            return operands[0]
        if definition.kind == "reduce":
            return self._add(Value(definition.op, definition.dtype, operands), False)
        return self._add(Value(definition.op, definition.dtype, operands), any(self.varies[k] for k in operands))

    def _operand(self, definition: Definition, item: Operand, point: Map) -> int:
        if isinstance(item, Scalar):
            return self._constant(item.value, self._scalar_dtype(definition))
        source = self.definitions[item.source]
        if item.source in self.group.members:
            inverse = invert(linear(item, point, self.group.extents), source, self.group.extents)
            assert inverse is not None
            return self.made[item.source, inverse]
        access = self._access(*self.places.locate(item, point, self.group.extents))
        reduced = access.strides[len(self.group.outer) :]
        return self._add(Value("load", source.dtype, access=access), any(reduced))

    def _scalar_dtype(self, definition: Definition) -> str:
        """Return the dtype of a number among the operands: the result's, or in a comparison the other operand's."""
        if definition.op not in COMPARE:
            return definition.dtype
        return next(self.definitions[o.source].dtype for o in definition.operands if isinstance(o, Reference))

    def _constant(self, value: int | float | bool, dtype: str) -> int:
        return self._add(Value("constant", dtype, constant=value), False)

    def _position(self, place: Affine) -> int:
        """Return the value `constant + sum(coefficient * position along axis)`."""
        constant, row = place
        total = self._constant(constant, "int64")
        for axis, coefficient in enumerate(row):
            if not coefficient:
                continue
            position = self._add(Value("index", "int64", axis=self.order.index(axis)), axis in self.group.reduced)
            if coefficient != 1:
                position = self._combine("mul", position, self._constant(coefficient, "int64"))
            total = self._combine("add", total, position) if total != self._constant(0, "int64") else position
        return total

    def _combine(self, op: str, left: int, right: int) -> int:
        return self._add(Value(op, "int64", (left, right)), self.varies[left] or self.varies[right])

    def _packed(self, stores: list[Store]) -> Bound:
        """Return the region with each buffer beginning at the first element that is touched.

        Steps of an unrolled loop that differ only in which slices they touch so have equal regions.
        """
        reduced = len(self.group.reduced)
        domain = tuple(self.group.extents[axis] for axis in self.order)
        used = _needed(self.values, stores)
        accesses = [self.values[k].access for k in used] + [store.access for store in stores]
        lows, highs = self._extent(accesses, domain)
        order = [k for k in range(len(self.memories)) if k in lows]
        renamed = {old: new for new, old in enumerate(order)}

        def moved(access: Access | None) -> Access | None:
            if access is None:
                return None
            return Access(renamed[access.buffer], access.offset - lows[access.buffer], access.strides)

        position = {old: new for new, old in enumerate(used)}
        values = []
        for old in used:
            value = self.values[old]
            operands = tuple(position[k] for k in value.operands)
            values.append(Value(value.op, value.dtype, operands, moved(value.access), value.constant, value.axis))
        written = {store.access.buffer for store in stores}
        buffers = tuple(
            Buffer(f"b{renamed[k]}", self.memories[k].dtype, highs[k] - lows[k] + 1, k in written) for k in order
        )
        moved_stores = tuple(Store(position[s.value], moved(s.access) or s.access) for s in stores)
        region = Region(domain, reduced, buffers, tuple(values), moved_stores)
        nodes = tuple(dict.fromkeys(self.definitions[index].node for index in sorted(self.group.members)))
        return Bound(region, tuple((self.memories[k], lows[k]) for k in order), nodes)

    def _extent(
        self, accesses: Sequence[Access | None], domain: Sequence[int]
    ) -> tuple[dict[int, int], dict[int, int]]:
        lows: dict[int, int] = {}
        highs: dict[int, int] = {}
        for access in accesses:
            if access is None:
                continue
            reach = sum(stride * (extent - 1) for stride, extent in zip(access.strides, domain, strict=True))
            lows[access.buffer] = min(lows.get(access.buffer, access.offset), access.offset)
            highs[access.buffer] = max(highs.get(access.buffer, 0), access.offset + reach)
        return lows, highs


def _needed(values: Sequence[Value], stores: Sequence[Store]) -> list[int]:
    needed: set[int] = set()
    waiting = [store.value for store in stores]
    while waiting:
        k = waiting.pop()
        if k not in needed:
            needed.add(k)
            waiting.extend(values[k].operands)
    return sorted(needed)
