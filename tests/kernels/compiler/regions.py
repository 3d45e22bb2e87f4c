"""Regions to test with: a small builder, the ops of well-known layers, and random ones."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from kernels.compiler.ir import Access, Buffer, Region, Store, Value

Array = np.ndarray[Any, np.dtype[Any]]


class Builder:
    """Collects a region's parts; every method returns the position of what it added."""

    def __init__(self, *domain: int, reduced: int = 0) -> None:
        self.domain, self.reduced = domain, reduced
        self.buffers: list[Buffer] = []
        self.values: list[Value] = []
        self.stores: list[Store] = []

    def buffer(self, elements: int, dtype: str = "float32", written: bool = False, same_as: int | None = None) -> int:
        self.buffers.append(Buffer(f"t{len(self.buffers)}", dtype, elements, written, same_as))
        return len(self.buffers) - 1

    def load(self, buffer: int, *strides: int, offset: int = 0) -> int:
        return self.value("load", dtype=self.buffers[buffer].dtype, access=Access(buffer, offset, strides))

    def constant(self, constant: float, dtype: str = "float32") -> int:
        return self.value("constant", dtype=dtype, constant=constant)

    def value(self, op: str, *operands: int, dtype: str | None = None, **attributes: Any) -> int:
        self.values.append(Value(op, dtype or self.values[operands[-1]].dtype, operands, **attributes))
        return len(self.values) - 1

    def store(self, value: int, buffer: int, *strides: int, offset: int = 0) -> None:
        self.stores.append(Store(value, Access(buffer, offset, strides)))

    def output(self, value: int, *strides: int, elements: int) -> int:
        buffer = self.buffer(elements, self.values[value].dtype, written=True)
        self.store(value, buffer, *strides)
        return buffer

    def region(self) -> Region:
        return Region(self.domain, self.reduced, tuple(self.buffers), tuple(self.values), tuple(self.stores))


def softmax(rows: int, columns: int, in_place: bool = False) -> Region:
    b = Builder(rows, columns, reduced=1)
    x = b.load(b.buffer(rows * columns, written=in_place), columns, 1)
    e = b.value("exp", b.value("sub", x, b.value("reduce_max", x)))
    result = b.value("div", e, b.value("reduce_sum", e))
    b.store(result, b.buffer(rows * columns, written=True, same_as=0 if in_place else None), columns, 1)
    return b.region()


def layer_norm(rows: int, columns: int) -> Region:
    b = Builder(rows, columns, reduced=1)
    x, residual, weight, bias = (b.buffer(n) for n in (rows * columns, rows * columns, columns, columns))
    value = b.value("add", b.load(x, columns, 1), b.load(residual, columns, 1))
    share = b.constant(1.0 / columns)
    centred = b.value("sub", value, b.value("mul", b.value("reduce_sum", value), share))
    variance = b.value("mul", b.value("reduce_sum", b.value("mul", centred, centred)), share)
    scaled = b.value("mul", centred, b.value("rsqrt", b.value("add", variance, b.constant(1e-5))))
    weighted = b.value("add", b.value("mul", scaled, b.load(weight, 0, 1)), b.load(bias, 0, 1))
    b.output(weighted, columns, 1, elements=rows * columns)
    return b.region()


def lstm_cell(batch: int, hidden: int) -> Region:
    b = Builder(batch, hidden)
    gates, bias, cell = b.buffer(4 * batch * hidden), b.buffer(4 * hidden), b.buffer(batch * hidden)
    summed = [
        b.value("add", b.load(gates, 4 * hidden, 1, offset=k * hidden), b.load(bias, 0, 1, offset=k * hidden))
        for k in range(4)
    ]
    i, f, o = (b.value("sigmoid", summed[k]) for k in (0, 1, 3))
    new = b.value("add", b.value("mul", f, b.load(cell, hidden, 1)), b.value("mul", i, b.value("tanh", summed[2])))
    b.output(b.value("mul", o, b.value("tanh", new)), hidden, 1, elements=batch * hidden)
    b.output(new, hidden, 1, elements=batch * hidden)
    return b.region()


def column_sums(rows: int, columns: int) -> Region:
    """Two outputs: the sum of squares of each column less its mean, and the mean."""
    b = Builder(columns, rows, reduced=1)
    x = b.load(b.buffer(rows * columns), 1, columns)
    mean = b.value("mul", b.value("reduce_sum", x), b.constant(1.0 / rows))
    centred = b.value("sub", x, mean)
    b.output(b.value("reduce_sum", b.value("mul", centred, centred)), 1, 0, elements=columns)
    b.output(mean, 1, 0, elements=columns)
    return b.region()


_UNARY = ("neg", "abs", "exp", "tanh", "sigmoid", "erf", "relu", "floor", "sqrt", "log1p", "sign")
_BINARY = ("add", "sub", "mul", "maximum", "minimum")
_REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min")


def random_region(rng: np.random.Generator) -> Region:
    """Return a region of random rank, layouts (permuted, broadcast, offset, reversed), ops, levels and outputs."""
    rank = int(rng.integers(0, 4))
    reduced = int(rng.integers(0, min(rank, 2) + 1))
    b = Builder(*(int(rng.choice([1, 2, 3, 5, 9])) for _ in range(rank)), reduced=reduced)
    in_place = None
    for _ in range(rng.integers(1, 4)):
        broadcast = rng.random(rank) < 0.3
        access, elements = _layout(rng, b.domain, broadcast)
        updated = in_place is None and rng.random() < 0.4 and not broadcast.any()
        buffer = b.buffer(elements, written=updated)
        in_place = Access(buffer, access.offset, access.strides) if updated else in_place
        b.load(buffer, *access.strides, offset=access.offset)
    pool = [*range(len(b.values)), b.constant(float(rng.normal()))]
    for _ in range(rng.integers(1, 9)):
        pool.append(_random_value(rng, b, pool))
    _random_stores(rng, b, pool, in_place)
    return b.region()


def _layout(rng: np.random.Generator, domain: tuple[int, ...], broadcast: Any) -> tuple[Access, int]:
    """Return a layout without overlaps, and how many elements its buffer needs."""
    strides, step, offset = [0] * len(domain), int(rng.integers(1, 3)), int(rng.integers(0, 3))
    low = high = offset
    for axis in rng.permutation(len(domain)):
        if not broadcast[axis]:
            strides[axis] = -step if rng.random() < 0.15 else step
            low += min(0, strides[axis] * (domain[axis] - 1))
            high += max(0, strides[axis] * (domain[axis] - 1))
            step *= domain[axis] + int(rng.integers(0, 2))
    return Access(0, offset - min(low, 0), tuple(strides)), high - min(low, 0) + 1 + int(rng.integers(0, 3))


def _random_value(rng: np.random.Generator, b: Builder, pool: list[int]) -> int:
    kind = rng.random()
    first, second = (int(rng.choice(pool)) for _ in range(2))
    if b.reduced and kind < 0.3:
        return b.value(str(rng.choice(_REDUCTIONS)), first)
    if kind < 0.4:
        # compared as they were loaded: rounding must not decide
        less = b.value("lt", 0, b.constant(0.25), dtype="bool")
        return b.value("where", less, first, second)
    if kind < 0.5 and b.domain:
        axis = int(rng.integers(0, len(b.domain)))
        return b.value("cast", b.value("index", dtype="int64", axis=axis), dtype="float32")
    if kind < 0.75:
        return b.value(str(rng.choice(_UNARY)), first)
    return b.value(str(rng.choice(_BINARY)), first, second)


def _random_stores(rng: np.random.Generator, b: Builder, pool: list[int], in_place: Access | None) -> None:
    from kernels.compiler.levels import levels

    found = levels(b.region())
    first = len(b.domain) - b.reduced
    for value in {pool[-1], int(rng.choice(pool))}:
        along = np.array([axis >= first and found[value].row for axis in range(len(b.domain))], bool)
        if in_place is not None and not along.any():
            buffer = b.buffer(b.buffers[in_place.buffer].elements, written=True, same_as=in_place.buffer)
            b.store(value, buffer, *in_place.strides, offset=in_place.offset)
            in_place = None
            continue
        access, elements = _layout(rng, b.domain, along)
        buffer = b.buffer(elements, written=True)
        b.store(value, buffer, *access.strides, offset=access.offset)


def random_arrays(region: Region, rng: np.random.Generator) -> list[Array]:
    """Return an array for each buffer; in-place buffers share theirs."""
    arrays: list[Array] = []
    for buffer in region.buffers:
        if buffer.same_as is not None:
            arrays.append(arrays[buffer.same_as])
        elif buffer.dtype in ("float32", "float64"):
            arrays.append(rng.normal(size=buffer.elements).astype(buffer.dtype))
        else:
            arrays.append(rng.integers(0, 2, buffer.elements).astype(buffer.dtype))
    return arrays


def copies(region: Region, arrays: list[Array], dtype: str | None = None) -> list[Array]:
    """Return copies (floating ones as `dtype`) in which in-place buffers share their array again."""
    result: list[Array] = []
    for buffer, array in zip(region.buffers, arrays, strict=True):
        if buffer.same_as is not None:
            result.append(result[buffer.same_as])
        else:
            result.append(array.astype(dtype if dtype and array.dtype.kind == "f" else array.dtype))
    return result


def points(domain: tuple[int, ...]) -> Any:
    return itertools.product(*map(range, domain))
