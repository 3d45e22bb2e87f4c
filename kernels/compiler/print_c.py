"""Region -> a plain C99 function: point after point, nothing kept, tiled or reordered.

It is the second opinion on the Numba printers. Sums and products are added up in the next wider type and rounded
once; all else is computed in the value's own type, so that a compiler must be kept from contracting and reassociating
(see C_FLAGS).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kernels.compiler.ir import FLOATING, REDUCTIONS, Access, Region, Store
from kernels.compiler.print_c_scalar import C_TYPES, PREAMBLE, constant_text, value_text
from kernels.compiler.verify import verify

C_FLAGS = ("-std=c99", "-O1", "-ffp-contract=off", "-fwrapv", "-fno-strict-aliasing", "-fPIC", "-shared")
"""What a compiler that knows GCC's options is given; `-lm` follows the file."""
_WIDER = {"float32": "double", "float64": "long double", "int32": "int32_t", "int64": "int64_t", "bool": "_Bool"}
_FIRST: dict[str, Callable[[str], str]] = {
    "reduce_sum": lambda dtype: "0",
    "reduce_prod": lambda dtype: "1",
    "reduce_any": lambda dtype: "0",
    "reduce_all": lambda dtype: "1",
    "reduce_max": lambda dtype: _bound(dtype, -1),
    "reduce_min": lambda dtype: _bound(dtype, 1),
}
_TAKE = {
    "reduce_sum": "{t} += {v};",
    "reduce_prod": "{t} *= {v};",
    "reduce_any": "{t} |= {v};",
    "reduce_all": "{t} &= {v};",
    "reduce_max": "if (!({t} != {t}) && !({v} <= {t})) {t} = {v};",
    "reduce_min": "if (!({t} != {t}) && !({v} >= {t})) {t} = {v};",
}


def print_c(region: Region, name: str) -> str:
    """Return a file with `void name(void *b0, …)`, one address a buffer. Raises IrError for an invalid region."""
    return PREAMBLE + region_function(region, name)


def region_function(region: Region, name: str) -> str:
    """Return the function alone."""
    verify(region)
    return _Printer(region).function(name)


def _bound(dtype: str, sign: int) -> str:
    if dtype in FLOATING:
        return constant_text(dtype, sign * float("inf"))
    bits = 31 if dtype == "int32" else 63
    return constant_text(dtype, 2**bits - 1 if sign > 0 else -(2**bits))


class _Printer:
    """One region. Values at row level are computed once for each point of the outer axes, in order."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.first = len(region.domain) - region.reduced
        self.row = self._row_level()
        self.names = [f"v{k}" for k in range(len(region.values))]

    def _row_level(self) -> frozenset[int]:
        found: set[int] = set()
        for number, value in enumerate(self.region.values):
            fixed = value.axis is None or value.axis < self.first
            if value.access is not None:
                fixed = not any(value.access.strides[self.first :])
            if value.op in REDUCTIONS or (fixed and found.issuperset(value.operands)):
                found.add(number)
        return frozenset(found) if self.region.reduced else frozenset()

    def function(self, name: str) -> str:
        region = self.region
        parameters = ", ".join(f"void *b{k}" for k in range(len(region.buffers)))
        inner = list(range(self.first, len(region.domain)))
        body: list[str] = []
        for number in range(len(region.values)):
            if number in self.row:
                body += self._row_value(number, inner)
        later = [store for store in region.stores if self._once_a_row(store)]
        element = [store for store in region.stores if not self._once_a_row(store)]
        body += self._element_stores(element, inner)
        body += [self._store(store) for store in later]
        lines = self._loops(range(self.first), body)
        return "\n".join([f"void {name}({parameters})", "{", *_indented(lines), "}", ""])

    def _loops(self, axes: Iterable[int], body: list[str]) -> list[str]:
        for axis in reversed(list(axes)):
            extent = self.region.domain[axis]
            body = [f"for (int64_t i{axis} = 0; i{axis} < {extent}; ++i{axis}) {{", *_indented(body), "}"]
        return body

    def _row_value(self, number: int, inner: Sequence[int]) -> list[str]:
        value, name = self.region.values[number], self.names[number]
        if value.op not in REDUCTIONS:
            return [self._value(number)]
        total, kind = f"t{number}", _WIDER[value.dtype]
        if value.op in ("reduce_max", "reduce_min"):
            kind = C_TYPES[value.dtype]
        operand = value.operands[0]
        step = [*self._cone([operand]), _TAKE[value.op].format(t=total, v=self.names[operand])]
        return [
            f"{kind} {total} = {_FIRST[value.op](value.dtype)};",
            *self._loops(inner, step),
            f"const {C_TYPES[value.dtype]} {name} = ({C_TYPES[value.dtype]}){total};",
        ]

    def _element_stores(self, stores: Sequence[Store], inner: Sequence[int]) -> list[str]:
        """Return one walk: at each point everything is computed before anything is stored."""
        if not stores:
            return []
        body = [*self._cone([store.value for store in stores]), *map(self._store, stores)]
        return self._loops(inner, body)

    def _cone(self, sinks: Iterable[int]) -> list[str]:
        needed: set[int] = set()
        waiting = list(sinks)
        while waiting:
            number = waiting.pop()
            if number not in needed and number not in self.row:
                needed.add(number)
                waiting += self.region.values[number].operands
        return [self._value(number) for number in sorted(needed)]

    def _value(self, number: int) -> str:
        value = self.region.values[number]
        if value.access is not None:
            text = self._element(value.access)
        elif value.op == "index":
            text = f"i{value.axis}"
        else:
            text = value_text(self.region, value, [self.names[k] for k in value.operands])
        return f"const {C_TYPES[value.dtype]} {self.names[number]} = {text};"

    def _element(self, access: Access) -> str:
        dtype = self.region.buffers[access.buffer].dtype
        kind = "uint8_t" if dtype == "bool" else C_TYPES[dtype]
        terms = [f"INT64_C({stride}) * i{axis}" for axis, stride in enumerate(access.strides) if stride]
        return f"(({kind} *)b{access.buffer})[{' + '.join([*terms, str(access.offset)])}]"

    def _store(self, store: Store) -> str:
        return f"{self._element(store.access)} = {self.names[store.value]};"

    def _once_a_row(self, store: Store) -> bool:
        return store.value in self.row and not any(store.access.strides[self.first :])


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
