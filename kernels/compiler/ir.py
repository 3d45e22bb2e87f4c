"""The IR of one fused region: a loop nest over a domain, scalar values in SSA form, affine memory accesses.

A region of softmax over rows, as an example (domain (rows, cols), one reduced axis):

    0 load x[cols*i + j]          element level
    1 reduce_max 0                row level: one value for each i
    2 sub 0 1                     element level again
    3 exp 2
    4 reduce_sum 3                row level
    5 div 3 4
    store 5 -> out[cols*i + j]
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

DTYPES = ("float32", "float64", "int32", "int64", "bool")
ITEM_BYTES = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "bool": 1, "int8": 1, "uint8": 1, "uint16": 2}
"""Of values, and of quantized weights, which no region computes with."""

# Operands and result share a dtype, except where noted. Numerics are torch's: NaN and infinities propagate as
# there, maximum and minimum return NaN if either operand is one (the sign of a zero result is open), integer
# overflow wraps, relu keeps NaN and -0.0, sign(NaN) is 0, round is half to even, remainder has the divisor's sign.
# Floating only: all but neg, abs, sign, relu; floor, ceil, round, trunc (identities there); add, sub, mul, maximum,
# minimum, pow, remainder, which integers have too. An integer remainder needs a constant divisor that is not 0.
# No arithmetic on bool.
UNARY = (
    "neg", "abs", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "reciprocal", "sigmoid", "tanh",
    "erf", "sin", "cos", "floor", "ceil", "round", "trunc", "sign", "relu",
)  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "pow", "remainder", "atan2")
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")  # two operands of one dtype -> bool
TESTS = ("isnan", "isinf")  # one floating operand -> bool
LOGICAL = ("logical_and", "logical_or", "logical_xor", "logical_not")  # bool -> bool
BITWISE = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not")  # integers or bool
# any and all: bool -> bool; the others: numbers. Summing float32 may be reordered. A row-level operand counts once
# for each point of the reduced axes.
REDUCTIONS = ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_any", "reduce_all")
# load: no operand, an Access; sees what the buffer held before the kernel. constant: no operand, `constant`. index:
# the position along domain axis `axis` (int64). cast: one operand to `dtype`, as torch's Tensor.to (floating to
# integer truncates; NaN and what is out of range give the lowest integer). where: (bool, a, b).
STRUCTURAL = ("load", "constant", "index", "cast", "where")
OPS = (*STRUCTURAL, *UNARY, *BINARY, *COMPARE, *TESTS, *LOGICAL, *BITWISE, *REDUCTIONS)


FLOATING = ("float32", "float64")
INTEGER = ("int32", "int64")


class IrError(ValueError):
    """A region, or memory for one, that breaks the rules of this module. Its text is one line."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory handed to the kernel by address.

    elements: how many elements from its address on may be touched.
    written:  the kernel stores into it. Buffers of one region never overlap, unless `same_as` names an earlier
              buffer that has the same address (an in-place update) and dtype.
    scope:    the alias scope of its memory, where several regions become one function; None: one of its own.
    Memory that is both read and written (one buffer, or two joined by same_as) is read only where the very same
    Access stores it, or in elements that no store touches.
    """

    name: str
    dtype: str
    elements: int
    written: bool = False
    same_as: int | None = None
    scope: int | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """The element `offset + sum(strides[k] * i_k)` of a buffer, one stride (in elements) for each domain axis.

    A stride of 0 broadcasts. Any view (slice, transpose, expand, chunk) is only another offset and strides.
    """

    buffer: int
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """One scalar value; operands are positions of earlier values."""

    op: str
    dtype: str
    operands: tuple[int, ...] = ()
    access: Access | None = None
    constant: float | int | bool | None = None
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """Write a value, of the buffer's dtype; no two points of the domain write different values to one element.

    A row-level value (after a reduction) is stored once a row where the strides of all reduced axes are 0; with
    other strides it fills the row's elements.
    """

    value: int
    access: Access


@dataclass(frozen=True, slots=True)
class Region:
    """A fused loop nest.

    domain:  extent of each axis; () is one scalar iteration. No extent is 0.
    reduced: how many trailing axes the reductions run over; 0 in a pointwise region. A reduce_* value is at row
             level: one value for each point of the outer axes. Every other value is at the level of its operands
             (element level if any operand is); loads and index values are at row level when they do not vary along
             the reduced axes.
    """

    domain: tuple[int, ...]
    reduced: int
    buffers: tuple[Buffer, ...]
    values: tuple[Value, ...]
    stores: tuple[Store, ...]

    @property
    def outer(self) -> tuple[int, ...]:
        """Return the extents of the axes that are not reduced."""
        return self.domain[: len(self.domain) - self.reduced]

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on (buffer names excepted)."""
        buffers = tuple((b.dtype, b.elements, b.written, b.same_as) for b in self.buffers)
        # repr keeps -0.0, inf and nan apart
        text = repr((self.domain, self.reduced, buffers, self.values, self.stores))
        return hashlib.sha256(text.encode()).hexdigest()[:24]
