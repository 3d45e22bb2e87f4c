"""The pointwise family's cases."""

from __future__ import annotations

from collections.abc import Callable

from kernels import pointwise
from kernels.compiler.ir import Region
from kernels.compiler.print_cuda import print_cuda
from tests.cuda.case import Bounds, BufferUse, Case, Problem
from tests.cuda.expression import Expression

SIZES = (1, 3, 37, 64)


def problem(region: Region) -> Problem:
    """Return a region as a test problem: every form of its kernel, the IR's interpreter as the reference."""
    buffers = tuple(BufferUse(b.name, b.dtype, b.elements, not b.written, b.same_as) for b in region.buffers)
    return Problem(buffers, print_cuda(region), lambda arrays: pointwise.reference(region, arrays))


def scale_bias_silu(size: int) -> Region:
    """silu(x * scale + bias), the scale a constant and the bias one element."""
    e = Expression(size)
    x, bias = e.load(), e.load(strides=(0,))
    y = e.op("add", e.op("mul", x, e.constant(1.702)), bias)
    e.store(e.op("mul", y, e.op("sigmoid", y)))
    return e.region()


def gelu(size: int) -> Region:
    """The exact gelu, by erf."""
    e = Expression(size)
    x = e.load()
    y = e.op("erf", e.op("mul", x, e.constant(0.7071067811865476)))
    e.store(e.op("mul", e.op("mul", x, e.constant(0.5)), e.op("add", y, e.constant(1.0))))
    return e.region()


def long_chain(size: int) -> Region:
    """Twenty dependent ops on three inputs."""
    e = Expression(size)
    x, y, z = e.load(), e.load(), e.load()
    for round_number in range(4):
        x = e.op("tanh", e.op("add", e.op("mul", x, e.constant(0.3 + round_number)), y))
        y = e.op("sub", e.op("mul", x, z), e.constant(0.25))
    e.store(e.op("maximum", x, y))
    return e.region()


def bias_rows(size: int, columns: int = 12) -> Region:
    """relu(x + bias) for rows of a multiple of four columns: still 128-bit accesses."""
    e = Expression(size, columns)
    e.store(e.op("relu", e.op("add", e.load(), e.load(strides=(0, 1)))))
    return e.region()


def bias_odd_rows(size: int) -> Region:
    """The same for 7 columns, where rows start off the 16-byte grid."""
    return bias_rows(size, columns=7)


def gate_columns(size: int) -> Region:
    """x * sigmoid(gate) with one gate a row: the gate is uniform over neighbouring points."""
    e = Expression(size, 8)
    e.store(e.op("mul", e.load(), e.op("sigmoid", e.load(strides=(1, 0)))))
    return e.region()


def transposed(size: int) -> Region:
    """x + y.T over three axes, y read across the grain."""
    e = Expression(2, size, 5)
    e.store(e.op("add", e.load(), e.load(strides=(5 * size, 1, size))))
    return e.region()


def chunk(size: int) -> Region:
    """A gated half: both inputs are halves of one row, at an offset that is a multiple of four."""
    e = Expression(size, 8)
    e.store(e.op("mul", e.load(strides=(16, 1)), e.op("tanh", e.load(strides=(16, 1), offset=8))))
    return e.region()


def comparisons(size: int) -> Region:
    """where(x < y, minimum, maximum), NaN passed on; and two bool outputs."""
    e = Expression(size)
    x, y = e.load(), e.load()
    less = e.op("lt", x, y, dtype="bool")
    e.store(e.op("where", less, e.op("minimum", x, y), e.op("maximum", x, y)))
    either = e.op("logical_or", e.op("isnan", x, dtype="bool"), e.op("isinf", y, dtype="bool"))
    e.store(either)
    e.store(e.op("logical_and", e.op("logical_not", either), less))
    return e.region()


def rounding(size: int) -> Region:
    """The ops that keep integers, with torch's rules at halves, signs and NaN."""
    e = Expression(size)
    x = e.load()
    for name in ("floor", "ceil", "round", "trunc", "sign", "abs", "neg", "relu"):
        e.store(e.op(name, x))
    return e.region()


def in_place(size: int) -> Region:
    """x = x * decay + g, into x's own memory."""
    e = Expression(size)
    x, g = e.load(), e.load()
    e.store_in_place(e.op("add", e.op("mul", x, e.constant(0.9)), g), x)
    return e.region()


def transcendentals(size: int) -> Region:
    """Functions that are accurate in float32 alone."""
    e = Expression(size)
    x = e.load()
    positive = e.op("add", e.op("abs", x), e.constant(0.125))
    for name in ("exp", "expm1", "tanh", "reciprocal"):
        e.store(e.op(name, x))
    for name in ("log", "log1p", "log2", "sqrt", "rsqrt"):
        e.store(e.op(name, positive))
    e.store(e.op("pow", positive, e.constant(1.5)))
    e.store(e.op("atan2", x, positive))
    e.store(e.op("remainder", x, e.constant(-1.75)))
    return e.region()


def angles(size: int) -> Region:
    """sin and cos: libdevice reduces large angles with a table in local memory and one float64 product."""
    e = Expression(size)
    x = e.load()
    e.store(e.op("add", e.op("sin", x), e.op("cos", x)))
    return e.region()


def integers(size: int) -> Region:
    """int64 and int32 arithmetic that wraps, the position, and casts both ways."""
    e = Expression(size, 4)
    wide, narrow, x = e.load("int64"), e.load("int32"), e.load()
    odd = e.op("mul", e.op("mul", wide, e.constant(0x7FFFFFFFFFFFFFF1, "int64")), e.index(0))
    e.store(e.op("bitwise_xor", odd, e.op("remainder", wide, e.constant(-3, "int64"))))
    e.store(e.op("mul", narrow, e.constant(0x7FFFFFF1, "int32")))
    e.store(e.op("pow", narrow, e.op("cast", e.index(1), dtype="int32")))
    e.store(e.op("cast", x, dtype="int32"))
    e.store(e.op("add", e.op("cast", e.index(1), dtype="float32"), e.op("cast", narrow, dtype="float32")))
    return e.region()


def double(size: int) -> Region:
    """The only case that may compute in float64: its tensors are."""
    e = Expression(size)
    x = e.load("float64")
    e.store(e.op("mul", x, e.op("sigmoid", x)))
    return e.region()


def scalar(size: int) -> Region:
    """A domain of one point, two axes of extent 1."""
    e = Expression(1, 1)
    e.store(e.op("exp", e.load()))
    return e.region()


def _case(build: Callable[[int], Region], device_size: int, tolerance: float = 2e-6, **bounds: Bounds) -> Case:
    return Case(
        name=f"pointwise-{build.__name__.replace('_', '-')}",
        problem=lambda size: problem(build(size)),
        sizes=SIZES,
        device_size=device_size,
        bounds=bounds,
        tolerance=tolerance,
    )


MILLION = 1_000_003
CASES = (
    _case(scale_bias_silu, MILLION, wide=Bounds(48, 1, 1), scalar=Bounds(48)),
    _case(gelu, MILLION, wide=Bounds(48, 1, 1), scalar=Bounds(48)),
    _case(long_chain, MILLION, 5e-5, wide=Bounds(48, 3, 1), scalar=Bounds(48)),
    _case(bias_rows, MILLION // 12, wide=Bounds(48, 2, 1), scalar=Bounds(48)),
    _case(bias_odd_rows, MILLION // 7, scalar=Bounds(48)),
    _case(gate_columns, MILLION // 8, wide=Bounds(48, 1, 1), scalar=Bounds(48)),
    _case(transposed, MILLION // 10, scalar=Bounds(48)),
    _case(chunk, MILLION // 8, wide=Bounds(48, 2, 1), scalar=Bounds(48)),
    _case(comparisons, MILLION, wide=Bounds(48, 2, 1), scalar=Bounds(48)),
    _case(rounding, MILLION, wide=Bounds(48, 1, 8), scalar=Bounds(48)),
    _case(in_place, MILLION, wide=Bounds(48, 2, 1), scalar=Bounds(48)),
    _case(transcendentals, MILLION, 1e-5, wide=Bounds(80, 1, 12), scalar=Bounds(48)),
    _case(angles, MILLION, wide=Bounds(48, 1, 1, True, True), scalar=Bounds(48, 0, 0, True, True)),
    _case(integers, MILLION // 4, wide=Bounds(64, 4, 6), scalar=Bounds(48)),
    _case(double, MILLION, 1e-14, wide=Bounds(48, 2, 2, True), scalar=Bounds(48, 0, 0, True)),
    _case(scalar, 1, scalar=Bounds(48)),
)
