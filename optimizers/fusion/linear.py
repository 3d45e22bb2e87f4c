"""Matrix products become kernels, each with the pointwise region that alone reads its result: linear layers, mostly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kernels.compiler.ir import Region
from kernels.compiler.product_deep import stands_alone
from kernels.compiler.product_ir import ProductKernel, copy_region, why_not
from kernels.compiler.quantized_ir import QuantizedKernel
from optimizers.fusion.graph import Lowered, Reference, expand, references_in
from optimizers.fusion.memory import Memory, Place, Places
from optimizers.fusion.quantized import QuantizedLinear, quantized_linear
from optimizers.fusion.regions import Bound
from optimizers.fusion.schedule import Unit

LIBRARY = "@product"
"""Behind the name of a node among those that stay with the library: only its product stays, not what surrounds it."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A call that computes left @ right (+ bias), and the definition that it makes."""

    result: int
    left: Reference
    right: Reference
    bias: Reference | None
    node: str

    @property
    def operands(self) -> tuple[Reference, ...]:
        """Return what the kernel reads beside the memory of its region."""
        return self.left, self.right

    @property
    def extents(self) -> tuple[int, int]:
        """Return rows and columns of the result."""
        return self.left.shape[0], self.right.shape[1]

    def kernel(self, windows: Sequence[Reference], region: Region, sums: int) -> ProductKernel | None:
        """Return the product, by the windows of its operands, with a region that reads it in its buffer `sums`.

        None where they cannot be one kernel.
        """
        left, right = windows
        strides = ((left.strides[0], left.strides[1]), (right.strides[0], right.strides[1]))
        kernel = ProductKernel(left.shape[0], right.shape[1], left.shape[1], *strides, region, sums)
        return None if why_not(kernel) else kernel


@dataclass(frozen=True, slots=True)
class Linears:
    """What the products of a program became: the units in order, and every bound.

    stay: products that no kernel computes after all; the program has to be built again with them in the library.
    """

    units: tuple[Unit, ...]
    bounds: dict[int, Bound]
    stay: frozenset[str]


def linear_products(lowered: Lowered) -> dict[int, Linear | QuantizedLinear]:
    """Return the products, by the number of their call, that kernels of ours may compute."""
    found: dict[int, Linear | QuantizedLinear] = {}
    for number, call in enumerate(lowered.calls):
        quantized = quantized_linear(call)
        if quantized is not None:
            found[number] = quantized
            continue
        biased = str(call.target) == "aten.addmm.default"
        if call.kwargs or not (biased or str(call.target) == "aten.mm.default") or len(call.args) != 2 + biased:
            continue
        (result,) = call.results
        left, right = call.args[-2:]
        definition = lowered.definitions[result or 0]
        stays = {definition.node, definition.node + LIBRARY} & lowered.library
        if not stays and definition.dtype == "float32" and definition.numel and left.shape[1]:
            bias = expand(call.args[0], definition.shape) if biased else None
            found[number] = Linear(definition.index, left, right, bias, definition.node)
    return found


def bind_products(
    lowered: Lowered,
    units: Sequence[Unit],
    bounds: Mapping[int, Bound],
    places: Places,
    products: Mapping[int, Linear | QuantizedLinear],
) -> Linears:
    """Return the program's units with products as kernels of their own, or as one with the region that reads them."""
    return _Binder(lowered, list(units), dict(bounds), places, products).bind()


class _Binder:
    def __init__(
        self,
        lowered: Lowered,
        units: list[Unit],
        bounds: dict[int, Bound],
        places: Places,
        products: Mapping[int, Linear | QuantizedLinear],
    ) -> None:
        self.lowered, self.units, self.bounds, self.places = lowered, units, bounds, places
        self.products = products
        self.stay: set[str] = set()
        self.last = max(bounds, default=-1)
        self.read = self._read_by_calls()
        self.homes: dict[Memory, list[int]] = {}
        """The groups that touch each memory."""
        for number, bound in bounds.items():
            for memory, _ in bound.memories:
                self.homes.setdefault(memory, []).append(number)

    def bind(self) -> Linears:
        """Bind each product in turn."""
        units: list[Unit] = []
        for unit in self.units:
            units += self._bound_unit(unit)
        return Linears(tuple(units), self.bounds, frozenset(self.stay))

    def _bound_unit(self, unit: Unit) -> list[Unit]:
        """Return what runs in the place of a unit: nothing for a product that the region behind it takes in."""
        if unit.kind != "call" or unit.number not in self.products:
            return [unit]
        linear = self.products[unit.number]
        home = self._reader(unit.number, linear)
        if home is not None and self._joined(linear, home):
            return []
        alone = self._alone(linear)
        if alone is None:
            self.stay.add(linear.node + LIBRARY)
            return [unit]
        self.last += 1
        self.bounds[self.last] = alone
        return [Unit("group", self.last)]

    def _read_by_calls(self) -> set[int]:
        """Return the definitions that outputs and the calls that stay read."""
        calls = [unit.number for unit in self.units if unit.kind == "call"]
        references = references_in(self.lowered.outputs)
        references += [item for n in calls for item in self.lowered.call_inputs(self.lowered.calls[n])]
        return {reference.source for reference in references}

    def _reader(self, number: int, linear: Linear | QuantizedLinear) -> int | None:
        """Return the group that alone reads the result; None if there is none."""
        memory = self.places.places[linear.result].memory
        if linear.result in self.read or self.lowered.calls[number].slices or memory.number != linear.result:
            return None
        homes = self.homes.get(memory, [])
        return homes[0] if len(homes) == 1 else None

    def _joined(self, linear: Linear | QuantizedLinear, home: int) -> bool:
        """Make one kernel of the product and the region that reads it, if that can be."""
        bound = self.bounds[home]
        region = bound.region
        if not isinstance(region, Region) or linear.bias is not None:
            return False
        memory = self.places.places[linear.result].memory
        position = next(k for k, (other, _) in enumerate(bound.memories) if other == memory)
        written = {bound.memories[k][0] for k, buffer in enumerate(region.buffers) if buffer.written}
        factors = {self.places.window(reference)[0] for reference in linear.operands}
        # Tiles are stored before others are computed: nothing that the product reads may be among what is stored.
        if bound.memories[position][1] or written & {memory, *factors}:
            return False
        kernel = self._kernel(linear, region, position)
        if kernel is None or (isinstance(kernel, ProductKernel) and stands_alone(kernel) and kernel.copied is None):
            return False
        others = [pair for k, pair in enumerate(bound.memories) if k != position]
        self.bounds[home] = self._bound(linear, kernel, others, bound.nodes)
        return True

    def _alone(self, linear: Linear | QuantizedLinear) -> Bound | None:
        """Return the product with its bias as a kernel that stores it, if that can be."""
        rows, columns = linear.extents
        place = self.places.places[linear.result]
        memories = [(place.memory, place.offset)]
        bias = None
        if linear.bias is not None:
            memory, window = self.places.window(linear.bias)
            memories.append((memory, window.offset))
            bias = (window.strides[0], window.strides[1])
        region = copy_region(rows, columns, _pair(place), bias)
        kernel = self._kernel(linear, region, 0)
        return None if kernel is None else self._bound(linear, kernel, memories, ())

    def _kernel(
        self, linear: Linear | QuantizedLinear, region: Region, sums: int
    ) -> ProductKernel | QuantizedKernel | None:
        return linear.kernel([self.places.window(reference)[1] for reference in linear.operands], region, sums)

    def _bound(
        self,
        linear: Linear | QuantizedLinear,
        kernel: ProductKernel | QuantizedKernel,
        others: Sequence[tuple[Memory, int]],
        nodes: Collection[str],
    ) -> Bound:
        factors = [self.places.window(reference) for reference in linear.operands]
        memories = (*((memory, window.offset) for memory, window in factors), *others)
        named = tuple(dict.fromkeys((linear.node, *nodes)))
        return Bound(kernel, memories, named, linear.node + LIBRARY)


def _pair(place: Place) -> tuple[int, int]:
    return place.strides[0], place.strides[1]
