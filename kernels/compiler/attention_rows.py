"""The softmax of a few rows of scores as a function for generated kernels, in vectors of float32.

Self-contained but for gemm_vector.py and intrinsics.py: an exported artifact carries both beside its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending

from kernels.compiler.gemm_vector import FLOAT, INT32, INT64, Memory, Vectors
from kernels.compiler.intrinsics import HAS_SCALE

types: Any = numba.types

_TOGETHER = 4
"""Vectors of a long row that are computed side by side."""
_REGISTERS = 16
"""Rows of so many vectors in all stay in registers."""
# e^x = 2^n e^r, as exp_float32 of prelude.py computes it.
_LOG2_E, _LN2_HIGH, _LN2_LOW, _ROUND = 1.4426950408889634, 0.693359375, -2.12194440e-4, 12582912.0
_TERMS = (0.001381459773046962, 0.008368717244578333, 0.04166838808353208, 0.1666652062868283, 0.49999993447580665)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of scores, one behind the other.

    count: how many; elements: of each, whole vectors of `width` lanes; stride: from one to the next, in elements.
    scale: what each score is multiplied by first.  added: the stride, in elements, of the rows of numbers that are
    added then (0: one row for all); None: nothing is added.
    zero:  a row of -inf alone becomes zeros, not NaN.
    scopes: of the scores, the numbers added, the results.
    """

    count: int
    elements: int
    stride: int
    scale: float
    added: int | None
    zero: bool
    width: int
    fused: bool
    scopes: tuple[int, int, int]


def softmax_rows(count: int, elements: int, **options: Any) -> Any:
    """Return a function rows(address of scores, of what is added, of totals) for compiled code; arguments as of Rows.

    Each score x of a row becomes e^(x - the row's largest); the inverse of their sum goes to totals[row].
    """
    rows = Rows(count, elements, **options)

    def softmax(typing_context: Any, scores: Any, added: Any, totals: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointers = [builder.inttoptr(address, FLOAT.as_pointer()) for address in arguments]
            _Emitter(rows, builder, *map(Memory, pointers, rows.scopes)).emit()
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return extending.intrinsic(softmax)


class _Emitter:
    def __init__(self, rows: Rows, builder: Any, scores: Memory, added: Memory, totals: Memory) -> None:
        self.rows, self.builder = rows, builder
        self.scores, self.added, self.totals = scores, added, totals
        self.vectors = Vectors(builder, rows.width, rows.fused)

    def emit(self) -> None:
        """Emit all rows: side by side where they fit the registers, else one after the other."""
        across = self.rows.elements // self.rows.width
        if across * self.rows.count <= _REGISTERS:
            self._short(range(self.rows.count), across)
            return
        for row in range(self.rows.count):
            self._long(row, across)

    def _short(self, numbers: Sequence[int], across: int) -> None:
        found = [[self._score(row, k * self.rows.width) for k in range(across)] for row in numbers]
        highest = self._everywhere([self._reduced(self._larger, row) for row in found], self._larger)
        highest = [self._finite(value) for value in highest]
        powers = [
            [self._exp(self.builder.fsub(x, high)) for x in row] for row, high in zip(found, highest, strict=True)
        ]
        for row, values in zip(numbers, powers, strict=True):
            for k, value in enumerate(values):
                self._store(row, k * self.rows.width, value)
        self._put(numbers, [self._reduced(self.vectors.add, row) for row in powers])

    def _long(self, row: int, across: int) -> None:
        lowest = self._filled(float("-inf"))
        steps, rest = divmod(across, _TOGETHER)

        def look(first: Any, carried: Sequence[Any], together: int = _TOGETHER) -> list[Any]:
            result = list(carried)
            for k in range(together):
                index = self._index(first, k)
                value = self._score(row, index)
                if self.rows.scale != 1.0 or self.rows.added is not None:
                    self._store(row, index, value)
                result[k] = self._larger(value, result[k])
            return result

        carried = look(steps, self._loop(steps, look, [lowest] * _TOGETHER), rest)
        (highest,) = self._everywhere([self._reduced(self._larger, carried)], self._larger)
        highest = self._finite(highest)

        def raise_all(first: Any, carried: Sequence[Any], together: int = _TOGETHER) -> list[Any]:
            places = [self._index(first, k) for k in range(together)]
            loaded = [self._load(self.scores, row * self.rows.stride, place) for place in places]
            powers = [self._exp(self.builder.fsub(value, highest)) for value in loaded]
            for place, power in zip(places, powers, strict=True):
                self._store(row, place, power)
            sums = [self.vectors.add(*pair) for pair in zip(carried, powers, strict=False)]
            return [*sums, *carried[together:]]

        totals = raise_all(steps, self._loop(steps, raise_all, [self.vectors.zero()] * _TOGETHER), rest)
        self._put([row], [self._reduced(self.vectors.add, totals)])

    def _index(self, step: Any, k: int) -> Any:
        width = self.rows.width
        return self.vectors.index((step, _TOGETHER * width), (k, width))

    def _score(self, row: int, index: Any) -> Any:
        value = self._load(self.scores, row * self.rows.stride, index)
        if self.rows.scale != 1.0:
            value = self.builder.fmul(value, self._filled(self.rows.scale))
        if self.rows.added is not None:
            value = self.vectors.add(value, self._load(self.added, row * self.rows.added, index))
        return value

    def _load(self, memory: Memory, start: int, index: Any) -> Any:
        return self.vectors.load(memory, self.vectors.index((index, 1), (start, 1)), self.rows.width)

    def _store(self, row: int, index: Any, value: Any) -> None:
        place = self.vectors.index((index, 1), (row * self.rows.stride, 1))
        self.vectors.store(self.scores, place, value, self.rows.width)

    def _filled(self, number: float) -> Any:
        return ir.Constant(self.vectors.type, [float(np.float32(number))] * self.rows.width)

    def _larger(self, value: Any, other: Any) -> Any:
        # A NaN is passed over: its power, and with it the sum, is NaN all the same.
        return self.builder.select(self.builder.fcmp_ordered(">", value, other), value, other)

    def _finite(self, highest: Any) -> Any:
        if not self.rows.zero:
            return highest
        lowest = self.builder.fcmp_ordered("==", highest, self._filled(float("-inf")))
        return self.builder.select(lowest, self.vectors.zero(), highest)

    def _reduced(self, combine: Callable[[Any, Any], Any], values: Sequence[Any]) -> Any:
        """Return one vector of several, combined in pairs."""
        values = list(values)
        while len(values) > 1:
            pairs = [combine(values[k], values[k + 1]) for k in range(0, len(values) - 1, 2)]
            values = [*pairs, *values[2 * len(pairs) :]]
        return values[0]

    def _everywhere(self, values: Sequence[Any], combine: Callable[[Any, Any], Any]) -> list[Any]:
        """Return vectors with all lanes of each combined in every lane; several at a time hide their waiting."""
        shift, width, found = self.rows.width // 2, self.rows.width, list(values)
        while shift:
            lanes = [(lane + shift) % width for lane in range(width)]
            chosen = ir.Constant(ir.VectorType(INT32, width), [ir.Constant(INT32, lane) for lane in lanes])
            turned = [self.builder.shuffle_vector(value, value, chosen) for value in found]
            found = [combine(*pair) for pair in zip(turned, found, strict=True)]
            shift //= 2
        return found

    def _put(self, numbers: Sequence[int], sums: Sequence[Any]) -> None:
        one = ir.Constant(FLOAT, 1.0)
        for row, total in zip(numbers, self._everywhere(sums, self.vectors.add), strict=True):
            scalar = self.builder.extract_element(total, ir.Constant(INT32, 0))
            if self.rows.zero:
                nothing = self.builder.fcmp_ordered("==", scalar, ir.Constant(FLOAT, 0.0))
                scalar = self.builder.select(nothing, one, scalar)
            self.vectors.store_element(self.totals, ir.Constant(INT64, row), self.builder.fdiv(one, scalar))

    def _exp(self, x: Any) -> Any:
        """Return e^x of numbers that are 0 or less, or NaN."""
        builder, add = self.builder, self.vectors.multiply_add
        least = self._filled(-105.0)
        x = builder.select(builder.fcmp_ordered("<", x, least), least, x)
        shifted = add(x, self._filled(_LOG2_E), self._filled(_ROUND))
        n = builder.fsub(shifted, self._filled(_ROUND))
        r = add(n, self._filled(-_LN2_HIGH), x)
        r = add(n, self._filled(-_LN2_LOW), r)
        q = self._filled(_TERMS[0])
        for term in _TERMS[1:]:
            q = add(q, r, self._filled(term))
        power = self.vectors.add(add(q, builder.fmul(r, r), r), self._filled(1.0))
        integers = ir.VectorType(INT32, self.rows.width)
        exponent = builder.sub(builder.bitcast(shifted, integers), self._integers(0x4B400000))
        return self._scaled(power, exponent)

    def _integers(self, number: int) -> Any:
        return ir.Constant(ir.VectorType(INT32, self.rows.width), [number] * self.rows.width)

    def _scaled(self, value: Any, exponent: Any) -> Any:
        """Return value * 2^exponent, rounded once."""
        builder, kind, width = self.builder, self.vectors.type, self.rows.width
        if HAS_SCALE:
            name = f"llvm.ldexp.v{width}f32.v{width}i32"
            found = builder.module.globals.get(name)
            declared = ir.FunctionType(kind, [kind, ir.VectorType(INT32, width)])
            function = ir.Function(builder.module, declared, name) if found is None else found
            return builder.call(function, [value, exponent])
        half = builder.ashr(exponent, self._integers(1))
        for part in (half, builder.sub(exponent, half)):
            bits = builder.shl(builder.add(part, self._integers(127)), self._integers(23))
            value = builder.fmul(value, builder.bitcast(bits, kind))
        return value

    def _loop(self, steps: int, body: Callable[[Any, Sequence[Any]], list[Any]], carried: list[Any]) -> list[Any]:
        """Emit body(step, carried values) for each step; return the last carried values."""
        if steps < 2:
            return body(0, carried) if steps else carried
        builder = self.builder
        before, head = builder.block, builder.append_basic_block("rows")
        after = builder.append_basic_block("rows_done")
        builder.branch(head)
        builder.position_at_end(head)
        step = builder.phi(INT64)
        step.add_incoming(ir.Constant(INT64, 0), before)
        entering = [builder.phi(value.type) for value in carried]
        for value, initial in zip(entering, carried, strict=True):
            value.add_incoming(initial, before)
        results = body(step, entering)
        following = builder.add(step, ir.Constant(INT64, 1))
        step.add_incoming(following, builder.block)
        for value, result in zip(entering, results, strict=True):
            value.add_incoming(result, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, ir.Constant(INT64, steps)), head, after)
        builder.position_at_end(after)
        return results
