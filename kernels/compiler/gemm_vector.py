"""Vectors of float32 in LLVM, for the inner loops of matrix products: loads, stores, multiply-add, sums.

Self-contained but for intrinsics.py: an exported artifact carries both beside its kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from kernels.compiler.intrinsics import _mark

FLOAT, BIT, INT32, INT64 = ir.FloatType(), ir.IntType(1), ir.IntType(32), ir.IntType(64)
# A kernel that was printed for another processor may be compiled for one that has no such instruction.
FUSES = llvm.get_host_cpu_features().get("fma", False) or not llvm.get_process_triple().startswith(("x86", "i"))


@dataclass(frozen=True, slots=True)
class Memory:
    """float32 elements from an address on, with the scope that tells LLVM what they may overlap."""

    pointer: Any
    scope: int


@dataclass(frozen=True, slots=True)
class Vectors:
    """Instructions on vectors of `width` lanes, appended where `builder` stands.

    fused: one rounding for a multiply-add. Without it LLVM is free to use two: on a processor that has no such
           instruction the fused one would be a call for each lane.
    """

    builder: Any
    width: int
    fused: bool

    @property
    def type(self) -> Any:
        """Return the vector type."""
        return ir.VectorType(FLOAT, self.width)

    def zero(self) -> Any:
        """Return the vector of zeros."""
        return ir.Constant(self.type, [0.0] * self.width)

    def index(self, *terms: tuple[Any, int]) -> Any:
        """Return the sum of value * factor, in elements; a value is an int64 of LLVM or a Python int."""
        constant, total = 0, None
        for value, factor in terms:
            if isinstance(value, int):
                constant += value * factor
            elif factor:
                term = value if factor == 1 else self.builder.mul(value, ir.Constant(INT64, factor))
                total = term if total is None else self.builder.add(total, term)
        if total is None:
            return ir.Constant(INT64, constant)
        return self.builder.add(total, ir.Constant(INT64, constant)) if constant else total

    def load(self, memory: Memory, index: Any, lanes: int) -> Any:
        """Return the elements from `index` on: `lanes` of them; the other lanes are 0 and their memory is let alone."""
        place = self._place(memory, index)
        if lanes >= self.width:
            value = self.builder.load(place, align=4)
        else:
            kind = ir.FunctionType(self.type, [self.type.as_pointer(), INT32, self._mask_type(), self.type])
            function = self._declared(f"llvm.masked.load.v{self.width}f32.p0", kind)
            value = self.builder.call(function, [place, ir.Constant(INT32, 4), self._mask(lanes), self.zero()])
        return _mark(self.builder, value, memory.scope)

    def store(self, memory: Memory, index: Any, value: Any, lanes: int) -> None:
        """Store the first `lanes` of the vector from `index` on."""
        place = self._place(memory, index)
        if lanes >= self.width:
            instruction = self.builder.store(value, place, align=4)
        else:
            kind = ir.FunctionType(ir.VoidType(), [self.type, self.type.as_pointer(), INT32, self._mask_type()])
            function = self._declared(f"llvm.masked.store.v{self.width}f32.p0", kind)
            instruction = self.builder.call(function, [value, place, ir.Constant(INT32, 4), self._mask(lanes)])
        _mark(self.builder, instruction, memory.scope)

    def load_all(self, memory: Memory, index: Any, kind: Any) -> Any:
        """Return a whole vector of another type."""
        element = self.builder.gep(memory.pointer, [index], inbounds=True)
        return _mark(
            self.builder, self.builder.load(self.builder.bitcast(element, kind.as_pointer()), align=4), memory.scope
        )

    def store_all(self, memory: Memory, index: Any, value: Any) -> None:
        """Store a whole vector of any type."""
        element = self.builder.gep(memory.pointer, [index], inbounds=True)
        place = self.builder.bitcast(element, value.type.as_pointer())
        _mark(self.builder, self.builder.store(value, place, align=4), memory.scope)

    def load_element(self, memory: Memory, index: Any) -> Any:
        """Return one element as a scalar."""
        value = self.builder.load(self.builder.gep(memory.pointer, [index], inbounds=True), align=4)
        return _mark(self.builder, value, memory.scope)

    def store_element(self, memory: Memory, index: Any, value: Any) -> None:
        """Store a scalar."""
        element = self.builder.gep(memory.pointer, [index], inbounds=True)
        _mark(self.builder, self.builder.store(value, element, align=4), memory.scope)

    def broadcast(self, memory: Memory, index: Any) -> Any:
        """Return one element in every lane."""
        value = self.load_element(memory, index)
        first = self.builder.insert_element(ir.Constant(self.type, ir.Undefined), value, ir.Constant(INT32, 0))
        return self._shuffle(first, [0] * self.width)

    def multiply_add(self, left: Any, right: Any, total: Any) -> Any:
        """Return left * right + total."""
        name = f"llvm.{'fma' if self.fused and FUSES else 'fmuladd'}.v{self.width}f32"
        function = self._declared(name, ir.FunctionType(self.type, [self.type] * 3))
        return self.builder.call(function, [left, right, total])

    def add(self, left: Any, right: Any) -> Any:
        """Return the sum, lane by lane (of scalars too)."""
        return self.builder.fadd(left, right)

    def totals(self, values: Sequence[Any]) -> Any:
        """Return the sum of each vector's lanes, as one vector of as many lanes: a power of 2, at most `width`."""
        share = self.width
        while share > 1:
            # Every total is spread over `share` lanes of a vector: fold them, two vectors into one while there are two.
            values = [self._folded(values[k : k + 2], share // 2) for k in range(0, len(values), 2)]
            share //= 2
        return values[0]

    def _folded(self, values: Sequence[Any], half: int) -> Any:
        lanes = range(0, values[0].type.count * len(values), 2 * half)
        lower, upper = ([lane + shift + k for lane in lanes for k in range(half)] for shift in (0, half))
        chosen = [
            ir.Constant(ir.VectorType(INT32, len(picked)), [ir.Constant(INT32, lane) for lane in picked])
            for picked in (lower, upper)
        ]
        return self.add(*(self.builder.shuffle_vector(values[0], values[-1], picked) for picked in chosen))

    def total(self, value: Any) -> Any:
        """Return the sum of all lanes as a scalar, the two halves added first."""
        half = self.width // 2
        while half:
            value = self.add(value, self._shuffle(value, [*range(half, 2 * half), *range(self.width - half)]))
            half //= 2
        return self.builder.extract_element(value, ir.Constant(INT32, 0))

    def _shuffle(self, value: Any, lanes: Sequence[int]) -> Any:
        chosen = ir.Constant(ir.VectorType(INT32, len(lanes)), [ir.Constant(INT32, lane) for lane in lanes])
        return self.builder.shuffle_vector(value, value, chosen)

    def _place(self, memory: Memory, index: Any) -> Any:
        element = self.builder.gep(memory.pointer, [index], inbounds=True)
        return self.builder.bitcast(element, self.type.as_pointer())

    def _mask_type(self) -> Any:
        return ir.VectorType(BIT, self.width)

    def _mask(self, lanes: int) -> Any:
        return ir.Constant(self._mask_type(), [ir.Constant(BIT, int(lane < lanes)) for lane in range(self.width)])

    def _declared(self, name: str, kind: Any) -> Any:
        # by hand: llvmlite cannot name an intrinsic over vectors
        found = self.builder.module.globals.get(name)
        return ir.Function(self.builder.module, kind, name) if found is None else found
