"""The quantized matrix-vector family's cases.

Inputs, scales, centroids and biases are drawn as small multiples of a power of two: every sum is exact in float32,
whatever its order, so that a single wrong or missing column shows. Rounding is tested in tests/kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.quantized.gemv import reference
from kernels.quantized.product import Operand, QuantizedProduct
from kernels.quantized.source import FORMS, Tuning, print_quantized
from tests.cuda.case import Bounds, BufferUse, Case, Problem

UNIT = 0.125
WORDS = (0, 2**32)  # all bits of packed weights are drawn, padding too: no kernel may let it count


def problem(product: QuantizedProduct, tuning: Tuning, *forms: str) -> Problem:
    """Return a product as a test problem, in all forms or those given, on grids of whole warps that share rows."""
    buffers = tuple(buffer_use(product, operand) for operand in product.operands())
    share = 32 * tuning.warps_per_row
    return Problem(
        buffers,
        {form: source for form, source in print_quantized(product, tuning).items() if form in (forms or FORMS)},
        lambda arrays: reference(product, arrays),
        grids=((1, share), (3, share), (2, min(256, 3 * share))),
        device_grid=(7, min(256, 3 * share)),
    )


def buffer_use(product: QuantizedProduct, operand: Operand) -> BufferUse:
    """Return how a test fills an operand."""
    size = operand.elements
    if operand.written:
        return BufferUse(operand.name, operand.dtype, size, False)
    if operand.dtype == "uint32" and operand.name == "weights":
        return BufferUse(operand.name, operand.dtype, size, True, integers=WORDS)
    fill = _drawn_inputs(product) if operand.name == "x" else _small(size)
    return BufferUse(operand.name, operand.dtype, size, True, fill=fill)


def _small(size: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: UNIT * random.integers(-16, 17, size).astype(np.float32)


def _drawn_inputs(product: QuantizedProduct) -> Callable[[np.random.Generator], np.ndarray]:
    def fill(random: np.random.Generator) -> np.ndarray:
        if product.inputs == "int8":
            x = np.zeros((product.batch, 4 * product.input_words), np.int8)
            x[:, : product.columns] = random.integers(-128, 128, (product.batch, product.columns))
            return x.ravel().view(np.uint32)
        values = _small(product.batch * product.columns)(random)
        if product.inputs == "float16":
            return values.astype(np.float16).view(np.uint16)
        return values if product.inputs == "float32" else (values.view(np.uint32) >> 16).astype(np.uint16)

    return fill


def int8_rows(size: int) -> Problem:
    """int8 weights, two rows a warp; an odd number of rows, no bias."""
    return problem(QuantizedProduct(3, size), Tuning(2))


def int8_batch_float16(size: int) -> Problem:
    """int8 weights with a bias, three vectors of float16; two warps share each row."""
    product = QuantizedProduct(2, size, batch=3, inputs="float16", bias=True)
    return problem(product, Tuning(1, 2), "wide")


def codebook_rows(size: int) -> Problem:
    """A codebook a row, four rows a warp, with a bias."""
    return problem(QuantizedProduct(5, size, weights="codebook", bias=True), Tuning(4), "wide")


def codebook_groups_bfloat16(size: int) -> Problem:
    """A codebook for each 64 columns of a row; inputs in bfloat16."""
    product = QuantizedProduct(2, size, weights="codebook", inputs="bfloat16", scope="group", group=64)
    return problem(product, Tuning(2), "wide")


def codebook_tensor_batch(size: int) -> Problem:
    """One codebook for all, eight vectors: each weight is looked up once; two warps share each row."""
    product = QuantizedProduct(3, size, batch=8, weights="codebook", scope="tensor")
    return problem(product, Tuning(1, 2), "wide")


def integers(size: int) -> Problem:
    """int8 times int8, two vectors; two warps share each two rows."""
    return problem(QuantizedProduct(3, size, batch=2, inputs="int8"), Tuning(2, 2), "wide")


def case(build: Callable[[int], Problem], sizes: tuple[int, ...], device_size: int, registers: int, loads: int) -> Case:
    """Return a case; sizes count columns.

    loads: the 128-bit loads of the wide form at the device's size: of each row's vector before the loop and in it, and
           of float32 inputs one for each four columns of a tile and for the groups behind the last whole tile.
    """
    name = f"quantized-{build.__name__.replace('_', '-')}"
    bounds = {form: Bounds(registers, proportional=False) for form in build(1).sources}
    bounds["wide"] = Bounds(registers, vector_loads=loads, proportional=False)
    return Case(name, build, sizes, device_size, bounds, specials=False)


CASES: tuple[Case, ...] = (
    case(int8_rows, (3, 511, 700, 513, 1027), 4099, 64, 2 * 2 + 4),
    case(int8_batch_float16, (1, 1100, 516, 37), 4100, 64, 2),
    case(codebook_rows, (2, 384, 1061, 1300), 4099, 80, 2 * 4 + 8),
    case(codebook_groups_bfloat16, (31, 1023, 1123, 70), 4099, 80, 2 * 2),
    case(codebook_tensor_batch, (9, 1030, 100, 33), 4100, 80, 2 + 8 * (8 + 1)),
    case(integers, (6, 1030, 777, 16), 4099, 64, 2 * 2),
)
