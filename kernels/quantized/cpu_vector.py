"""AVX-512 instructions that quantized products need and LLVM does not find by itself: dot products of bytes, lookups.

Memory is an address and an offset in bytes; vectors may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

INT8, INT16, INT32, INT64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOAT = ir.FloatType()
BYTES, HALVES, INTEGERS, FLOATS = (
    ir.VectorType(INT8, 64),
    ir.VectorType(INT16, 32),
    ir.VectorType(INT32, 16),
    ir.VectorType(FLOAT, 16),
)
TABLE, QUARTER = ir.VectorType(INT8, 16), ir.VectorType(INT32, 4)
MASK = ir.VectorType(ir.IntType(1), 16)
LANES = 16
"""32-bit lanes of a vector."""
TAKES_BYTES = llvm.llvm_version_info[0] >= 22
"""Older LLVM wants the operands of vpdpbusd as integers of 32 bits."""
Body = Callable[[Any, Sequence[Any]], Sequence[Any]]
"""(step, an int64; carried values) -> the carried values of the next step."""


class _Bfloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite does not know."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash(_Bfloat)


BFLOAT = _Bfloat()


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions on vectors of 64 bytes, appended where `builder` stands.

    native: the processor has the dot products and lookups; else they are spelled out in what any processor has.
    """

    builder: Any
    native: bool

    def sum(self, *terms: Any) -> Any:
        """Return the sum of int64 values and Python ints."""
        constant = sum(term for term in terms if isinstance(term, int))
        total = None
        for term in terms:
            if not isinstance(term, int):
                total = term if total is None else self.builder.add(total, term)
        if total is None:
            return ir.Constant(INT64, constant)
        return self.builder.add(total, ir.Constant(INT64, constant)) if constant else total

    def product(self, value: Any, factor: int) -> Any:
        """Return an int64 value times a Python int."""
        return self.builder.mul(value, ir.Constant(INT64, factor))

    def load(self, address: Any, offset: Any, kind: Any) -> Any:
        """Return what lies at address + offset."""
        return self.builder.load(self._place(address, offset, kind), align=1)

    def load_floats(self, address: Any, offset: Any, count: Any) -> Any:
        """Return the first `count` (an int64 below 16) float32 there; the other lanes are 0, their memory let alone."""
        lanes = ir.Constant(ir.VectorType(INT64, 16), [ir.Constant(INT64, lane) for lane in range(16)])
        undefined = ir.Constant(lanes.type, ir.Undefined)
        counts = self.builder.insert_element(undefined, count, ir.Constant(INT32, 0))
        mask = self.builder.icmp_unsigned("<", lanes, self.shuffle(counts, counts, [0] * 16))
        place = self._place(address, offset, FLOATS)
        zeros = ir.Constant(FLOATS, [0.0] * 16)
        kind = ir.FunctionType(FLOATS, [FLOATS.as_pointer(), INT32, MASK, FLOATS])
        function = self._declared("llvm.masked.load.v16f32.p0", kind)
        return self.builder.call(function, [place, ir.Constant(INT32, 1), mask, zeros])

    def multiply_add(self, left: Any, right: Any, total: Any) -> Any:
        """Return left * right + total of float32 vectors, rounded once."""
        return self._call("llvm.fma.v16f32", FLOATS, [left, right, total])

    def reduced(self, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Return a vector with all 16 lanes combined, in every lane."""
        for distance in (8, 4, 2, 1):
            vector = combine(vector, self.shuffle(vector, vector, [lane ^ distance for lane in range(16)]))
        return vector

    def store(self, value: Any, address: Any, offset: Any) -> None:
        """Store a value at address + offset."""
        self.builder.store(value, self._place(address, offset, value.type), align=1)

    def broadcast(self, address: Any, offset: Any, scalar: Any) -> Any:
        """Return a vector of the scalar at address + offset, in every place."""
        kind = ir.VectorType(scalar, 512 // (scalar.width if hasattr(scalar, "width") else 32))
        value = self.load(address, offset, scalar)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
        return self.shuffle(first, first, [0] * kind.count)

    def broadcast_table(self, address: Any, offset: Any) -> Any:
        """Return the 16 bytes at address + offset in each quarter of a vector."""
        quarter = self.load(address, offset, QUARTER)
        return self.bytes_of(self.shuffle(quarter, quarter, [lane % 4 for lane in range(16)]))

    def shuffle(self, left: Any, right: Any, lanes: Sequence[int]) -> Any:
        """Return the named lanes of two vectors, the second one's counted behind the first one's."""
        chosen = [ir.Constant(INT32, lane) for lane in lanes]
        return self.builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(INT32, len(lanes)), chosen))

    def bytes_of(self, value: Any) -> Any:
        """Return a vector's bits as bytes."""
        return self.builder.bitcast(value, BYTES)

    def dot(self, total: Any, unsigned: Any, signed: Any) -> Any:
        """Return int32 sums with the products of four neighbouring bytes each added: vpdpbusd, nothing saturates."""
        if not self.native:
            return self._dot_spelled_out(total, unsigned, signed)
        kind = BYTES if TAKES_BYTES else INTEGERS
        operands = [self.builder.bitcast(value, kind) for value in (unsigned, signed)]
        return self._call("llvm.x86.avx512.vpdpbusd.512", INTEGERS, [total, *operands])

    def dot_bfloats(self, total: Any, left: Any, right: Any) -> Any:
        """Return float32 sums with the products of two neighbouring bfloat16 each added: vdpbf16ps."""
        if not self.native:
            for half in range(2):
                first, second = (self._bfloats_as_floats(value, half) for value in (left, right))
                total = self.multiply_add(first, second, total)
            return total
        kind = ir.VectorType(BFLOAT, 32)
        operands = [self.builder.bitcast(value, kind) for value in (left, right)]
        return self._call("llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, [total, *operands])

    def to_bfloats(self, values: Any) -> Any:
        """Return 16 float32 as bfloat16, rounded to the nearest even."""
        return self.builder.fptrunc(values, ir.VectorType(BFLOAT, 16))

    def look_up(self, table: Any, indices: Any) -> Any:
        """Return table[index], below 16, in each quarter of its own table: vpshufb."""
        if self.native:
            return self._call("llvm.x86.avx512.pshuf.b.512", BYTES, [table, indices])
        result = ir.Constant(BYTES, [0] * 64)
        for index in range(16):
            entries = self.shuffle(table, table, [lane // 16 * 16 + index for lane in range(64)])
            here = self.builder.icmp_unsigned("==", indices, ir.Constant(BYTES, [index] * 64))
            result = self.builder.select(here, entries, result)
        return result

    def permute(self, table: Any, indices: Any) -> Any:
        """Return table[index & 15] of 16 float32, for 16 int32 indices: vpermps."""
        if self.native:
            return self._call("llvm.x86.avx512.permvar.sf.512", FLOATS, [table, indices])
        low = self.builder.and_(indices, ir.Constant(INTEGERS, [LANES - 1] * LANES))
        result = ir.Constant(FLOATS, [0.0] * LANES)
        for index in range(LANES):
            here = self.builder.icmp_unsigned("==", low, ir.Constant(INTEGERS, [index] * LANES))
            result = self.builder.select(here, self.shuffle(table, table, [index] * LANES), result)
        return result

    def nibbles(self, codes: Any) -> tuple[Any, Any]:
        """Return the low and the high 4 bits of each byte."""
        mask = ir.Constant(BYTES, [15] * 64)
        shifted = self.builder.lshr(self.builder.bitcast(codes, HALVES), ir.Constant(HALVES, [4] * 32))
        return self.builder.and_(codes, mask), self.builder.and_(self.bytes_of(shifted), mask)

    def prefetch(self, address: Any, offset: Any) -> None:
        """Ask for the line at address + offset, into the second cache; any address will do."""
        kind = ir.FunctionType(ir.VoidType(), [INT8.as_pointer(), INT32, INT32, INT32])
        function = self._declared("llvm.prefetch.p0", kind)
        hints = [ir.Constant(INT32, hint) for hint in (0, 2, 1)]
        self.builder.call(function, [self._place(address, offset, INT8), *hints])

    def loop(self, steps: Any, body: Body, carried: Sequence[Any]) -> list[Any]:
        """Emit `steps` (an int64, at least 0) rounds of `body`; return the last carried values."""
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        step = builder.phi(INT64)
        step.add_incoming(ir.Constant(INT64, 0), before)
        values = [builder.phi(value.type) for value in carried]
        for value, first in zip(values, carried, strict=True):
            value.add_incoming(first, before)
        builder.cbranch(builder.icmp_signed("<", step, steps), inside, after)
        builder.position_at_end(inside)
        results = body(step, values)
        following = builder.add(step, ir.Constant(INT64, 1))
        step.add_incoming(following, builder.block)
        for value, result in zip(values, results, strict=True):
            value.add_incoming(result, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return values

    def _place(self, address: Any, offset: Any, kind: Any) -> Any:
        base = self.builder.inttoptr(address, INT8.as_pointer())
        index = ir.Constant(INT64, offset) if isinstance(offset, int) else offset
        return self.builder.bitcast(self.builder.gep(base, [index]), kind.as_pointer())

    def _dot_spelled_out(self, total: Any, unsigned: Any, signed: Any) -> Any:
        left, right = (self.builder.bitcast(value, INTEGERS) for value in (unsigned, signed))
        amounts = [ir.Constant(INTEGERS, [amount] * 16) for amount in (0, 8, 16, 24)]
        for place in range(4):
            # each byte moves to the top of its integer, then down, with the sign or without
            raised = [self.builder.shl(value, amounts[3 - place]) for value in (left, right)]
            factors = self.builder.lshr(raised[0], amounts[3]), self.builder.ashr(raised[1], amounts[3])
            total = self.builder.add(total, self.builder.mul(*factors))
        return total

    def _bfloats_as_floats(self, value: Any, half: int) -> Any:
        """Return the lower or the upper bfloat16 of each 32 bits as float32."""
        integers = self.builder.bitcast(value, INTEGERS)
        if half == 0:
            integers = self.builder.shl(integers, ir.Constant(INTEGERS, [16] * 16))
        else:
            integers = self.builder.and_(integers, ir.Constant(INTEGERS, [-65536] * 16))
        return self.builder.bitcast(integers, FLOATS)

    def _call(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(self._declared(name, kind), arguments)

    def _declared(self, name: str, kind: Any) -> Any:
        found = self.builder.module.globals.get(name)
        return ir.Function(self.builder.module, kind, name) if found is None else found
