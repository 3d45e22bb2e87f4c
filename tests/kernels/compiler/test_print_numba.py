"""Compiled kernels against the interpreter in float64."""

import numpy as np
import pytest

from kernels.compiler.compile import compile_kernel
from kernels.compiler.nest import nest
from kernels.compiler.passes import simplify
from kernels.compiler.print_numba import print_numba
from kernels.compiler.reference import evaluate
from kernels.compiler.verify import verify
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


def run(region, arrays, cache, threads=1):
    kernel = compile_kernel(region, cache)
    results = copies(region, arrays)
    kernel(*(array.ctypes.data for array in results), threads=threads)
    return results


def check(region, cache, seed=0, threads=1, tolerance=1e-6, arrays=None):
    arrays = random_arrays(region, np.random.default_rng(seed)) if arrays is None else arrays
    exact = copies(region, arrays, "float64")
    evaluate(region, exact, exact=True)
    got = run(region, arrays, cache, threads)
    for buffer, want, array in zip(region.buffers, exact, got, strict=True):
        if buffer.written and want.dtype.kind == "f":
            finite = np.abs(want[np.isfinite(want)])
            scale = float(finite.max()) if finite.size else 0.0
            np.testing.assert_allclose(array, want, rtol=tolerance, atol=tolerance * scale)
        else:
            np.testing.assert_array_equal(array, want)
    return got


@pytest.mark.parametrize(
    "region",
    [
        softmax(5, 33),
        softmax(3, 2500),
        softmax(7, 20, in_place=True),
        layer_norm(4, 77),
        lstm_cell(1, 128),
        lstm_cell(3, 37),
        column_sums(33, 301),
        column_sums(2, 9),
    ],
    ids=["softmax", "long-softmax", "softmax-in-place", "layer-norm", "lstm", "odd-lstm", "columns", "few-columns"],
)
def test_well_known_layers_are_right_to_1e_6(region, kernel_cache):
    check(region, kernel_cache)


@pytest.mark.parametrize("seed", range(12))
def test_random_regions_agree_with_the_interpreter(seed, kernel_cache):
    rng = np.random.default_rng(1000 + seed)
    region = random_region(rng)
    verify(region)
    check(region, kernel_cache, seed, tolerance=2e-5)


def test_arithmetic_is_bit_for_bit_that_of_numpy(kernel_cache):
    b = Builder(1001)
    x, y, z, w = (b.load(b.buffer(1001), 1) for _ in range(4))
    product = b.value("add", b.value("mul", x, y), z)
    b.output(b.value("sub", b.value("sqrt", b.value("abs", b.value("div", product, w))), x), 1, elements=1001)
    arrays = random_arrays(b.region(), np.random.default_rng(6))
    got = run(b.region(), arrays, kernel_cache)
    x, y, z, w = arrays[:4]
    np.testing.assert_array_equal(got[4], np.sqrt(np.abs((x * y + z) / w)) - x)


def test_a_value_that_is_dear_to_compute_is_kept_between_passes():
    passes = nest(simplify(softmax(5, 33))).passes
    assert [walk.kept for walk in passes] == [(), (3,), ()]
    assert "stack(132)" in print_numba(softmax(5, 33), "kernel")


def test_rows_too_long_for_the_stack_are_computed_again():
    assert all(not walk.kept for walk in nest(simplify(softmax(2, 50_000))).passes)


def test_sums_over_two_axes_with_a_far_outer_one(kernel_cache):
    b = Builder(3, 6, 50, reduced=2)
    x = b.load(b.buffer(3 * 6 * 50), 50, 150, 1)
    b.output(b.value("reduce_sum", x), 1, 0, 0, elements=3)
    b.output(
        b.value("reduce_prod", b.value("add", b.constant(1.0), b.value("mul", x, b.constant(0.01)))),
        1,
        0,
        0,
        elements=3,
    )
    check(b.region(), kernel_cache)


def test_a_long_sum_is_as_accurate_as_float64_to_1e_7_of_its_terms(kernel_cache):
    b = Builder(200_003, reduced=1)
    b.output(b.value("reduce_sum", b.load(b.buffer(200_003), 1)), 0, elements=1)
    arrays = [np.random.default_rng(3).random(200_003).astype(np.float32), np.zeros(1, np.float32)]
    got = run(b.region(), arrays, kernel_cache)
    assert abs(got[1][0] - arrays[0].astype(np.float64).sum()) < 1e-7 * arrays[0].sum()


def test_a_transposition_is_right(kernel_cache):
    b = Builder(70, 66)
    b.output(b.value("add", b.load(b.buffer(4620), 1, 70), b.load(b.buffer(4620), 66, 1)), 66, 1, elements=4620)
    check(b.region(), kernel_cache)


def test_more_buffers_than_memory_scopes(kernel_cache):
    b = Builder(33)
    total = b.load(b.buffer(33), 1)
    for _ in range(60):
        total = b.value("add", total, b.load(b.buffer(33), 1))
    b.output(total, 1, elements=33)
    check(b.region(), kernel_cache)


def test_a_row_maximum_fills_its_row(kernel_cache):
    b = Builder(4, 6, reduced=1)
    x = b.load(b.buffer(24), 6, 1)
    b.output(b.value("reduce_max", x), 6, 1, elements=24)
    check(b.region(), kernel_cache)


def test_integers_wrap_and_bools_reduce(kernel_cache):
    b = Builder(3, 5, reduced=1)
    x, y = (b.load(b.buffer(15, dtype), 5, 1) for dtype in ("int32", "int64"))
    for op in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"):
        b.output(b.value(op, x), 1, 0, elements=3)
        b.output(b.value(op, y), 1, 0, elements=3)
    positive = b.value("gt", x, b.constant(0, "int32"), dtype="bool")
    b.output(b.value("reduce_any", positive), 1, 0, elements=3)
    b.output(b.value("reduce_all", positive), 1, 0, elements=3)
    rng = np.random.default_rng(5)
    arrays = [rng.integers(-(2**31), 2**31, 15).astype(np.int32), rng.integers(-(2**62), 2**62, 15)]
    arrays[0][:5] = [-1, -2, 0, -3, -4]
    arrays[0][5:10] = [1, 2, 3, 4, 5]
    arrays += [np.zeros(buffer.elements, buffer.dtype) for buffer in b.buffers[2:]]
    check(b.region(), kernel_cache, arrays=arrays)


def test_nan_survives_maxima_sums_and_tests(kernel_cache):
    b = Builder(4, 40, reduced=1)
    x = b.load(b.buffer(160), 40, 1)
    for op in ("reduce_max", "reduce_min", "reduce_sum"):
        b.output(b.value(op, x), 1, 0, elements=4)
    b.output(b.value("isnan", x, dtype="bool"), 40, 1, elements=160)
    arrays = random_arrays(b.region(), np.random.default_rng(2))
    arrays[0][[7, 81]] = np.nan
    arrays[0][[50, 121]] = np.inf, -np.inf
    got = check(b.region(), kernel_cache, arrays=arrays)
    assert np.isnan(got[1]).tolist() == [True, False, True, False]
    assert got[1][1] == np.inf and got[2][3] == -np.inf


def test_columns_of_every_dtype(kernel_cache):
    b = Builder(20, 6, reduced=1)
    arrays = []
    rng = np.random.default_rng(8)
    for dtype in ("float64", "int32", "int64", "bool"):
        x = b.load(b.buffer(120, dtype), 1, 20)
        arrays.append((rng.normal(size=120) * 3).astype(dtype))
        ops = ("any", "all") if dtype == "bool" else ("sum", "prod", "max", "min")
        for op in ops:
            b.output(b.value(f"reduce_{op}", x), 1, 0, elements=20)
            arrays.append(np.zeros(20, dtype))
    assert nest(simplify(b.region())).columns == 0
    check(b.region(), kernel_cache, arrays=arrays)


def test_columns_keep_nan_and_infinities(kernel_cache):
    b = Builder(20, 6, reduced=1)
    x = b.load(b.buffer(120), 1, 20)
    for op in ("reduce_max", "reduce_sum"):
        b.output(b.value(op, x), 1, 0, elements=20)
    arrays = random_arrays(b.region(), np.random.default_rng(2))
    arrays[0][[3, 24]] = np.nan, -np.inf
    check(b.region(), kernel_cache, arrays=arrays)


def test_a_kernel_shared_out_to_threads_stores_the_same(kernel_cache):
    pytest.importorskip("torch")  # brings the OpenMP pool
    for region in (lstm_cell(64, 130), softmax(300, 70), column_sums(70, 1111)):
        kernel = compile_kernel(region, kernel_cache)
        assert kernel.parallel, kernel.serial_reason
        arrays = random_arrays(region, np.random.default_rng(9))
        serial, shared = (run(region, arrays, kernel_cache, threads) for threads in (1, 3))
        for one, other in zip(serial, shared, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_source_lists_the_ops_and_imports_the_prelude_from_where_it_is_told():
    text = print_numba(softmax(5, 33), "rows", prefix="copy_of_")
    assert (
        "from copy_of_prelude import" in text
        and "from copy_of_intrinsics import" in text
        and "def rows(b0, b1):" in text
    )
    assert "v3 float32 = exp v2" in text
    compile(text, "generated", "exec")
