"""Builds pointwise regions for tests: one line an op, values numbered as they are added."""

from __future__ import annotations

from kernels.compiler.ir import Access, Buffer, Region, Store, Value


class Expression:
    """Collects the buffers, values and stores of one region over a domain."""

    def __init__(self, *domain: int) -> None:
        self.domain = domain
        self.buffers: list[Buffer] = []
        self.values: list[Value] = []
        self.stores: list[Store] = []

    def dense(self) -> tuple[int, ...]:
        """Return the strides of a contiguous tensor of the domain's shape."""
        strides, step = [], 1
        for extent in reversed(self.domain):
            strides.append(step)
            step *= extent
        return tuple(reversed(strides))

    def load(self, dtype: str = "float32", strides: tuple[int, ...] | None = None, offset: int = 0) -> int:
        """Return a value loaded from a buffer of its own."""
        strides = self.dense() if strides is None else strides
        self.buffers.append(Buffer(f"x{len(self.buffers)}", dtype, self._reach(offset, strides)))
        return self._add(Value("load", dtype, access=Access(len(self.buffers) - 1, offset, strides)))

    def constant(self, number: float, dtype: str = "float32") -> int:
        """Return a constant."""
        return self._add(Value("constant", dtype, constant=number))

    def index(self, axis: int) -> int:
        """Return the position along an axis, int64."""
        return self._add(Value("index", "int64", axis=axis))

    def op(self, name: str, *operands: int, dtype: str | None = None) -> int:
        """Return an op's result; its dtype is that of the last operand unless given."""
        return self._add(Value(name, dtype or self.values[operands[-1]].dtype, operands))

    def store(self, value: int, offset: int = 0, strides: tuple[int, ...] | None = None) -> None:
        """Store a value to a buffer of its own."""
        strides = self.dense() if strides is None else strides
        dtype = self.values[value].dtype
        self.buffers.append(Buffer(f"out{len(self.buffers)}", dtype, self._reach(offset, strides), written=True))
        self.stores.append(Store(value, Access(len(self.buffers) - 1, offset, strides)))

    def store_in_place(self, value: int, loaded: int) -> None:
        """Store a value where another one was loaded, through a second name for the same memory."""
        access = self.values[loaded].access
        assert access is not None
        first = self.buffers[access.buffer]
        self.buffers.append(Buffer(f"{first.name}_again", first.dtype, first.elements, True, access.buffer))
        self.stores.append(Store(value, Access(len(self.buffers) - 1, access.offset, access.strides)))

    def region(self) -> Region:
        """Return the region."""
        return Region(self.domain, 0, tuple(self.buffers), tuple(self.values), tuple(self.stores))

    def _add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _reach(self, offset: int, strides: tuple[int, ...]) -> int:
        return offset + 1 + sum((extent - 1) * step for extent, step in zip(self.domain, strides, strict=True))
