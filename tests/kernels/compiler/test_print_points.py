"""Vectors side by side in the innermost loop of a pointwise kernel: the same results, whatever is left at its end."""

import numpy as np
import pytest

from kernels.compiler import print_points
from kernels.compiler.compile import compile_kernel
from kernels.compiler.nest import nest
from kernels.compiler.passes import simplify
from kernels.compiler.print_numba import print_numba
from kernels.compiler.print_points import streams
from tests.kernels.compiler.regions import Builder


def long_chain(rows: int, columns: int, op: str = "tanh", dtype: str = "float32", step: int = 1):
    """A row of numbers added to a matrix, and a long chain of dependent ops on each element."""
    b = Builder(rows, columns)
    x = b.load(b.buffer(rows * columns * step, dtype), columns * step, step)
    value = b.value("add", x, b.load(b.buffer(columns, dtype), 0, 1))
    for name in (op, "mul", "exp", "neg", "sqrt"):
        value = b.value(name, value, x) if name == "mul" else b.value("abs" if name == "neg" else name, value)
    b.output(value, columns, 1, elements=rows * columns)
    return b.region()


def results(region, cache, threads=1):
    rng = np.random.default_rng(8)
    arrays = [rng.standard_normal(buffer.elements).astype(buffer.dtype) for buffer in region.buffers]
    arrays[-1][:] = 0.0
    compile_kernel(region, cache)(*(array.ctypes.data for array in arrays), threads=threads)
    return arrays[-1]


@pytest.mark.parametrize(("rows", "columns"), [(5, 200), (17, 47)])
def test_side_by_side_or_not_the_results_are_the_same(rows, columns, tmp_path, monkeypatch):
    region = long_chain(rows, columns)
    assert streams(nest(simplify(region))) == {200: 6, 47: 2}[columns] and "tile" in print_numba(region, "kernel")
    together = results(region, tmp_path / "together")
    monkeypatch.setattr(print_points, "_MOST_STREAMS", 1)
    np.testing.assert_array_equal(results(region, tmp_path / "alone"), together)


def test_threads_share_it_at_any_place(kernel_cache):
    for rows, columns in ((1, 30_001), (41, 333)):
        region = long_chain(rows, columns)
        assert compile_kernel(region, kernel_cache).parallel
        one = results(region, kernel_cache)
        for threads in (2, 3):
            np.testing.assert_array_equal(results(region, kernel_cache, threads), one)


def test_what_no_vector_follows_is_left_to_llvm():
    assert streams(nest(simplify(long_chain(3, 192)))) == 6
    assert streams(nest(simplify(long_chain(3, 192, op="sin")))) == 1
    assert streams(nest(simplify(long_chain(3, 192, dtype="float64")))) == 1
    assert streams(nest(simplify(long_chain(3, 192, step=3)))) == 1


def test_a_row_of_few_vectors_leaves_none_over():
    for vectors, together in ((8, 4), (10, 5), (12, 6), (625, 6)):
        assert streams(nest(simplify(long_chain(2, 16 * vectors + 3)))) == together


def test_a_short_body_keeps_one_loop():
    b = Builder(500)
    b.output(b.value("relu", b.load(b.buffer(500), 1)), 1, elements=500)
    assert "tile" not in print_numba(b.region(), "kernel")
    assert "tile" in print_numba(long_chain(3, 500), "kernel")


def test_a_kernel_that_takes_no_longer_than_its_call_has_a_short_text():
    assert "tile" not in print_numba(long_chain(1, 200), "kernel")


@pytest.mark.parametrize(("columns", "rest"), [(6 * 16 * 2, False), (6 * 16 * 2 + 1, True)])
def test_a_loop_for_what_is_left_is_printed_where_something_is(columns, rest):
    assert (
        f"for i1 in range({columns // 96 * 96}, {columns}):" in print_numba(long_chain(9, columns), "kernel")
    ) is rest
