"""The cases of products with a small batch, and of what makes bytes of the rows that they multiply.

Scales and biases are small multiples of a power of two and sums of a size that float32 holds exactly: a single wrong
or missing column shows. Padding in packed weights is drawn, in packed inputs it is zeros, as the family has it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.quantized import activation_bytes
from kernels.quantized.activation_bytes import ActivationBytes, print_bytes
from kernels.quantized.gemm import reference
from kernels.quantized.gemm_shape import ByteRows, SmallGemm
from kernels.quantized.gemm_source import FORMS, print_gemm
from kernels.quantized.product import Operand
from tests.cuda.case import Bounds, BufferUse, Case, Problem

UNIT = 0.125
WORDS = (0, 2**32)
Fill = Callable[[np.random.Generator], np.ndarray]


def problem(product: SmallGemm, batch: int, warps: int, *forms: str) -> Problem:
    """Return a product as a test problem, on grids of whole warps that share rows."""
    share = 32 * warps
    return Problem(
        tuple(_buffer_use(product, batch, operand) for operand in product.operands(batch)),
        {form: source for form, source in print_gemm(product, warps).items() if form in (forms or FORMS)},
        lambda arrays: reference(product, batch, arrays),
        grids=((1, share), (2, share), (2, min(256, 2 * share))),
        device_grid=(7, min(256, 2 * share)),
        scalars=(batch,),
    )


def _buffer_use(product: SmallGemm, batch: int, operand: Operand) -> BufferUse:
    name, dtype, size = operand.name, operand.dtype, operand.elements
    if operand.written:
        return BufferUse(name, dtype, size, False)
    if name == "x":
        return BufferUse(name, dtype, size, True, fill=_packed(product, batch))
    if dtype == "uint32":
        return BufferUse(name, dtype, size, True, integers=WORDS)
    if dtype == "int32":
        # A zero point is a byte; the sums of the weights need not be theirs for the kernel to be right.
        return BufferUse(name, dtype, size, True, integers=(0, 256) if name == "x_zeros" else (-(2**20), 2**20))
    return BufferUse(name, dtype, size, True, fill=_small(size))


def _small(size: int) -> Fill:
    return lambda random: UNIT * random.integers(-8, 9, size).astype(np.float32)


def _packed(product: SmallGemm, batch: int) -> Fill:
    rows = product.bytes

    def fill(random: np.random.Generator) -> np.ndarray:
        order = rows.packing.column_order()
        stored = np.zeros((batch, 4 * rows.words), np.uint8)
        drawn = random.integers(0, 256, (batch, order.size), np.uint8)
        stored[:, : order.size] = np.where(order < rows.columns, drawn, 0)
        return stored.ravel().view(np.uint32)

    return fill


def bytes_problem(shape: ActivationBytes, batch: int, *forms: str) -> Problem:
    """Return rows that become bytes as a test problem: one without negative values, one of zeros."""

    def expected(arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        words, scales, zeros = activation_bytes.reference(shape, batch, arrays[0])
        return [arrays[0], words, scales.astype(np.float64), zeros]

    def finite(random: np.random.Generator) -> np.ndarray:
        values = random.standard_normal(batch * shape.rows.columns).astype(np.float32)
        values[: shape.rows.columns] = np.abs(values[: shape.rows.columns])  # a row without negative values
        values[-shape.rows.columns :] *= np.float32(0)
        if shape.inputs == "float16":
            return values.astype(np.float16).view(np.uint16)
        return values if shape.inputs == "float32" else (values.view(np.uint32) >> 16).astype(np.uint16)

    buffers = tuple(
        BufferUse(o.name, o.dtype, o.elements, not o.written, fill=None if o.written else finite)
        for o in shape.operands(batch)
    )
    grids = ((1, 64), (2, 32), (3, 96))
    sources = {form: source for form, source in print_bytes(shape).items() if form in (forms or FORMS)}
    return Problem(buffers, sources, expected, grids=grids, device_grid=(2, 256), scalars=(batch,))


def int8_rows(size: int) -> Problem:
    """int8 weights, one warp for 16 rows, a batch that does not fill its tile; two tiles of rows, the second short."""
    return problem(SmallGemm(19, size), 5, 1, "wide")


def int8_full_batch(size: int) -> Problem:
    """int8 weights with bias and GELU, 64 vectors; all warps of a block share the rows."""
    return problem(SmallGemm(9, size, 8, bias=True, activation="gelu"), 64, 8, "wide")


def codebook_rows(size: int) -> Problem:
    """A codebook a row, with a bias; two warps share the rows."""
    return problem(SmallGemm(18, size, 2, weights="codebook", bias=True), 11, 2, "wide")


def bytes_float32(size: int) -> Problem:
    """Rows of float32 in the order of int8 weights."""
    return bytes_problem(ActivationBytes(ByteRows(size, 8)), 4, "wide")


def case(build: Callable[[int], Problem], sizes: tuple[int, ...], device_size: int, registers: int, loads: int) -> Case:
    """Return a case; sizes count columns. loads: the 128-bit loads of the wide form at the device's size."""
    name = f"small-batch-{build.__name__.replace('_', '-')}"
    bounds = {form: Bounds(registers, proportional=False) for form in build(1).sources}
    bounds["wide"] = Bounds(registers, vector_loads=loads, proportional=False)
    return Case(name, build, sizes, device_size, bounds, specials=False)


CASES: tuple[Case, ...] = (
    case(int8_rows, (3, 70, 515), 4099, 64, 2 * 2 + 1),
    case(int8_full_batch, (64, 37, 520), 4100, 144, 2 * 2 + 8),
    case(codebook_rows, (5, 131, 1030), 4099, 112, 2 * 2 + 2 + 2 * 2),
    case(bytes_float32, (1, 37, 516), 4100, 64, 2),
)
