"""Kernels printed as C against those that Numba compiles: two printers that share nothing but the IR."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.compiler.compile import compile_kernel
from kernels.compiler.ir import (
    BINARY,
    BITWISE,
    COMPARE,
    LOGICAL,
    OPS,
    REDUCTIONS,
    TESTS,
    UNARY,
    IrError,
    Region,
)
from kernels.compiler.print_c import print_c
from tests.kernels.compiler.c_compiler import compile_c, needs_compiler
from tests.kernels.compiler.regions import (
    Builder,
    column_sums,
    copies,
    layer_norm,
    lstm_cell,
    random_arrays,
    random_region,
    softmax,
)
from tests.kernels.compiler.test_prelude import SPECIAL

pytestmark = needs_compiler

# Bit for bit: one rounding at most, or none. For the others the largest distance in units of the last place: what the
# Numba kernels are allowed against float64 (test_prelude.py), where C rounds once.
EXACT = frozenset(OPS) - {
    "exp", "expm1", "log", "log1p", "log2", "rsqrt", "sigmoid", "tanh", "erf", "sin", "cos", "pow", "atan2",
    "reduce_sum", "reduce_prod",
}  # fmt: skip
ULPS = 4
OPEN_SIGN = ("maximum", "minimum", "reduce_max", "reduce_min", "reduce_sum")
LAYERS = {
    "softmax": softmax(5, 33),
    "softmax-in-place": softmax(7, 20, in_place=True),
    "layer-norm": layer_norm(4, 77),
    "lstm": lstm_cell(3, 37),
    "columns": column_sums(33, 301),
}


def both(region: Region, arrays: list[np.ndarray], cache, folder) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return what the two kernels leave in copies of the arrays."""
    numba, c = copies(region, arrays), copies(region, arrays)
    compile_kernel(region, cache)(*(array.ctypes.data for array in numba))
    compile_c(print_c(region, "kernel"), "kernel", folder)(*(array.ctypes.data for array in c))
    return numba, c


def steps_apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how many floating numbers lie between; NaN and NaN are 0 apart, as are the two zeros."""
    kind = np.int32 if first.dtype == np.float32 else np.int64
    ordered = []
    for values in (first, second):
        bits = values.view(kind).astype(np.float64 if kind is np.int64 else np.int64)
        lowest = float(np.iinfo(kind).min) if kind is np.int64 else int(np.iinfo(kind).min)
        ordered.append(np.where(values.view(kind) < 0, lowest - bits, bits))
    nan = np.isnan(first), np.isnan(second)
    apart = np.abs(ordered[0] - ordered[1])
    return np.where(nan[0] & nan[1], 0, np.where(nan[0] | nan[1], np.inf, apart))


def assert_close(op: str, got: np.ndarray, wanted: np.ndarray) -> None:
    if got.dtype.kind != "f":
        assert got.tobytes() == wanted.tobytes(), f"{op} of {got.dtype}"
        return
    apart = steps_apart(got, wanted)
    limit = 0 if op in EXACT else ULPS
    worst = int(np.argmax(apart))
    assert apart.max() <= limit, f"{op} of {got.dtype}: {got[worst]!r} against {wanted[worst]!r}"
    zeros = (got == 0) & (wanted == 0)
    if op not in OPEN_SIGN:
        assert (np.signbit(got[zeros]) == np.signbit(wanted[zeros])).all(), f"{op} of {got.dtype}: the sign of a zero"


def special_pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return every pair of special values, and random bit patterns behind them."""
    rng = np.random.default_rng()
    if dtype in ("float32", "float64"):
        values = np.array(SPECIAL, dtype)
        noise = (rng.standard_normal(500) * rng.choice([1e-30, 0.1, 1.0, 30.0], 500)).astype(dtype)
    else:
        bounds = np.iinfo(dtype)
        values = np.array([0, 1, -1, 2, -2, 3, 7, 31, bounds.min, bounds.max, bounds.min + 1], dtype)
        noise = rng.integers(bounds.min, bounds.max, 500, dtype)
    first, second = np.repeat(values, values.size), np.tile(values, values.size)
    return np.concatenate([first, noise]), np.concatenate([second, rng.permutation(noise)])


def scalar_ops(dtype: str, elements: int) -> tuple[Region, list[str]]:
    """Return a region with an output for each op that the dtype has, and the ops in order."""
    b = Builder(elements)
    x, y = (b.load(b.buffer(elements, dtype), 1) for _ in range(2))
    floating = dtype in ("float32", "float64")
    integer = ("neg", "abs", "sign", "relu", "floor", "ceil", "round", "trunc")
    both_have = ("add", "sub", "mul", "maximum", "minimum", "pow")
    names: list[str] = []

    def output(op: str, value: int) -> None:
        b.output(value, 1, elements=elements)
        names.append(op)

    for op in UNARY if floating else integer:
        output(op, b.value(op, x))
    for op in BINARY if floating else both_have:
        output(op, b.value(op, x, y))
    for op in COMPARE:
        output(op, b.value(op, x, y, dtype="bool"))
    for exponent in (2.0, 3.0, 0.5, -0.5, -1.0, -2.0, 1.7) if floating else (2, 3, 0):
        output("pow", b.value("pow", x, b.constant(exponent, dtype)))
    for target in {"float32", "float64", "int32", "int64", "bool"} - {dtype}:
        output("cast", b.value("cast", x, dtype=target))
    for op in TESTS if floating else ("bitwise_and", "bitwise_or", "bitwise_xor"):
        output(op, b.value(op, *((x,) if floating else (x, y)), dtype="bool" if floating else dtype))
    if not floating:
        output("bitwise_not", b.value("bitwise_not", x))
        output("remainder", b.value("remainder", x, b.constant(-3, dtype)))
    output("where", b.value("where", b.value("lt", x, y, dtype="bool"), x, y))
    return b.region(), names


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_every_scalar_op_agrees_on_special_and_random_values(dtype: str, kernel_cache, tmp_path) -> None:
    first, second = special_pairs(dtype)
    region, ops = scalar_ops(dtype, first.size)
    outputs = [np.zeros(b.elements, b.dtype) for b in region.buffers[2:]]
    numba, c = both(region, [first, second, *outputs], kernel_cache, tmp_path)
    for op, got, wanted in zip(ops, numba[2:], c[2:], strict=True):
        # 1 / (1 + exp(-x)) in float32 loses its last digits where it is a denormal; torch's does too.
        usual = slice(None) if op != "sigmoid" else first > -87
        assert_close(op, got[usual], wanted[usual])


def test_bools_combine_and_reduce_alike(kernel_cache, tmp_path) -> None:
    b = Builder(9, 7, reduced=1)
    x, y = (b.load(b.buffer(63, "bool"), 7, 1) for _ in range(2))
    for op in (*LOGICAL, *BITWISE):
        b.output(b.value(op, *((x,) if op.endswith("_not") else (x, y))), 7, 1, elements=63)
    for op in ("reduce_any", "reduce_all"):
        b.output(b.value(op, x), 1, 0, elements=9)
    rng = np.random.default_rng()
    inputs = [rng.integers(0, 2, 63).astype(bool) for _ in range(2)]
    inputs[0][:7], inputs[0][7:14] = True, False
    arrays = [*inputs, *(np.zeros(buffer.elements, bool) for buffer in b.buffers[2:])]
    for got, wanted in zip(*both(b.region(), arrays, kernel_cache, tmp_path), strict=True):
        assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
def test_reductions_keep_nan_infinities_and_wrapping(dtype: str, kernel_cache, tmp_path) -> None:
    b = Builder(6, 9, reduced=1)
    x = b.load(b.buffer(54, dtype), 9, 1)
    ops = [op for op in REDUCTIONS if op not in ("reduce_any", "reduce_all")]
    for op in ops:
        b.output(b.value(op, x), 1, 0, elements=6)
    rng = np.random.default_rng()
    values = rng.standard_normal(54).astype(dtype) if dtype == "float32" else rng.integers(-(2**31), 2**31, 54, dtype)
    if dtype == "float32":
        values[[3, 12, 21, 22]] = np.nan, np.inf, np.inf, -np.inf
    arrays = [values, *(np.zeros(6, dtype) for _ in ops)]
    numba, c = both(b.region(), arrays, kernel_cache, tmp_path)
    for op, got, wanted in zip(ops, numba[1:], c[1:], strict=True):
        if op in EXACT or dtype != "float32":
            assert_close(op, got, wanted)
        else:
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_well_known_layers_agree(name: str, kernel_cache, tmp_path) -> None:
    region = LAYERS[name]
    numba, c = both(region, random_arrays(region, np.random.default_rng()), kernel_cache, tmp_path)
    for got, wanted in zip(numba, c, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_random_layouts_and_levels_agree(seed: int, kernel_cache, tmp_path) -> None:
    # The seeds of test_print_numba.py: what it compiled comes back from the session's cache.
    rng = np.random.default_rng(1000 + seed)
    region = random_region(rng)
    numba, c = both(region, random_arrays(region, np.random.default_rng()), kernel_cache, tmp_path)
    for got, wanted in zip(numba, c, strict=True):
        finite = wanted[np.isfinite(wanted)]
        scale = float(np.abs(finite).max()) if finite.size else 1.0
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6 * scale)


def test_an_invalid_region_is_refused_in_a_line() -> None:
    b = Builder(3)
    b.output(b.load(b.buffer(2), 1), 1, elements=3)
    with pytest.raises(IrError, match="buffer"):
        print_c(b.region(), "kernel")
