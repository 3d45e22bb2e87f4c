"""Products with the regions that read them: compiled kernels against a NumPy interpreter and float64."""

import importlib
from dataclasses import replace

import numpy as np
import pytest

from kernels.compiler import product_plan
from kernels.compiler.compile import compile_kernel
from kernels.compiler.gemm_target import AVX2, AVX512, NEON, PORTABLE
from kernels.compiler.ir import Buffer, IrError
from kernels.compiler.product_ir import ProductKernel, copy_region, verify_product, why_not
from kernels.compiler.product_plan import plan_dots
from kernels.compiler.product_print import PARALLEL_FLOPS, print_product_kernel
from kernels.compiler.product_reference import evaluate_product
from tests.kernels.compiler.regions import Builder, lstm_cell, softmax

GUARD = np.float32(-3.25e7)


def gelu_and_residual(rows: int, columns: int):
    """Bias, exact GELU, a residual that is added, and a second output: the product itself."""
    b = Builder(rows, columns)
    product, bias = b.buffer(rows * columns), b.buffer(columns)
    x = b.value("add", b.load(product, columns, 1), b.load(bias, 0, 1))
    half = b.value("mul", x, b.constant(0.5))
    bell = b.value("add", b.value("erf", b.value("mul", x, b.constant(0.5**0.5))), b.constant(1.0))
    residual = b.load(b.buffer(rows * columns), columns, 1)
    b.output(b.value("add", b.value("mul", half, bell), residual), columns, 1, elements=rows * columns)
    b.output(b.load(product, columns, 1), 1, rows, elements=rows * columns)
    return b.region()


def linear(rows: int, columns: int, depth: int, region, padding: int = 0, sums: int = 0, along: bool = True):
    right = (1, depth + padding) if along else (columns + padding, 1)
    return ProductKernel(rows, columns, depth, (depth + padding, 1), right, region, sums)


def memory(kernel: ProductKernel, rng: np.random.Generator) -> list[np.ndarray]:
    """Random numbers for each buffer; what the factors' windows leave out is NaN."""
    arrays = [rng.normal(size=buffer.elements).astype(np.float32) for buffer in kernel.buffers]
    for array, shape, strides in (
        (arrays[0], (kernel.rows, kernel.depth), kernel.left_strides),
        (arrays[1], (kernel.depth, kernel.columns), kernel.right_strides),
    ):
        used = np.zeros(array.size, bool)
        np.lib.stride_tricks.as_strided(used, shape, strides)[...] = True
        array[~used] = np.nan
    return arrays


def run(call, kernel: ProductKernel, arrays: list[np.ndarray], **options) -> list[np.ndarray]:
    """Run on copies between guards, which must be as they were."""
    rooms = []
    for array in arrays:
        room = np.full(array.size + 34, GUARD, np.float32)
        room[17:-17] = array
        rooms.append(room)
    call(*(room[17:].ctypes.data for room in rooms), **options)
    for room, buffer in zip(rooms, kernel.buffers, strict=True):
        assert (room[:17] == GUARD).all() and (room[-17:] == GUARD).all(), f"{buffer.name} is written beside"
    return [room[17:-17] for room in rooms]


def assert_right(kernel: ProductKernel, result: list[np.ndarray], arrays: list[np.ndarray]) -> None:
    expected = [array.astype(np.float64) for array in arrays]
    evaluate_product(kernel, expected, exact=True)
    for buffer, ours, exact in zip(kernel.buffers, result, expected, strict=True):
        if not buffer.written:
            continue
        scale = max(1.0, float(np.abs(exact).max()))
        assert np.abs(ours - exact).max() <= 4e-6 * scale, (kernel.rows, kernel.columns, kernel.depth)


@pytest.mark.parametrize(
    ("rows", "columns", "depth"), [(1, 130, 65), (130, 1, 3), (7, 200, 300), (24, 70, 33), (2, 9, 1), (300, 65, 16)]
)
def test_layer_of_any_size_is_right_and_stays_inside_its_memory(rows, columns, depth, kernel_cache):
    rng = np.random.default_rng(rows * columns)
    bias = [None, (0, 1)][rows % 2]
    kernel = linear(rows, columns, depth, copy_region(rows, columns, (columns + 3, 1), bias), padding=2)
    arrays = memory(kernel, rng)
    assert_right(kernel, run(compile_kernel(kernel, kernel_cache).entry, kernel, arrays), arrays)


@pytest.mark.parametrize(("rows", "columns", "depth"), [(101, 37, 1027), (200, 16, 1024)])
def test_a_great_depth_is_taken_block_after_block(rows, columns, depth, kernel_cache):
    rng = np.random.default_rng()
    region = copy_region(rows, columns, (columns + 3, 1), None)
    kernel = ProductKernel(rows, columns, depth, (1, rows + 2), (columns + 1, 1), region, 0)
    assert "further_" in print_product_kernel(kernel, "kernel").text
    arrays = memory(kernel, rng)
    assert_right(kernel, run(compile_kernel(kernel, kernel_cache), kernel, arrays), arrays)


@pytest.mark.parametrize("along", [True, False])
def test_region_is_applied_where_the_product_is_hot(along, kernel_cache):
    kernel = linear(19, 77, 40, gelu_and_residual(19, 77), padding=3, along=along)
    arrays = memory(kernel, np.random.default_rng(3))
    assert_right(kernel, run(compile_kernel(kernel, kernel_cache).entry, kernel, arrays), arrays)


@pytest.mark.parametrize("hidden", [5, 72])
def test_gates_of_a_cell_are_groups_of_columns(hidden, kernel_cache):
    kernel = linear(6, 4 * hidden, 21, lstm_cell(6, hidden))
    arrays = memory(kernel, np.random.default_rng(hidden))
    assert_right(kernel, run(compile_kernel(kernel, kernel_cache).entry, kernel, arrays), arrays)


@pytest.mark.parametrize("target", [AVX2, NEON, PORTABLE], ids=lambda target: target.name)
def test_tiles_of_other_processors_are_right_here_too(target, kernel_cache, monkeypatch):
    monkeypatch.setattr(product_plan, "host_target", lambda: target)
    kernel = linear(11, 45, 27, copy_region(11, 45, (45, 1), (0, 1)))
    arrays = memory(kernel, np.random.default_rng(5))
    compiled = compile_kernel(kernel, kernel_cache)
    assert f"width={target.width}" in compiled.source
    assert_right(kernel, run(compiled.entry, kernel, arrays), arrays)


def test_shares_of_threads_make_the_same_numbers(kernel_cache):
    columns, depth = 330, 64
    rows = PARALLEL_FLOPS // (2 * columns * depth) + 1
    kernel = linear(rows, columns, depth, gelu_and_residual(rows, columns))
    printed = print_product_kernel(kernel, "kernel")
    assert printed.items == 6 and "kernel_parallel" in printed.text
    importlib.import_module("torch")  # it brings the OpenMP library that the threads come from
    compiled = compile_kernel(kernel, kernel_cache)
    assert compiled.parallel, compiled.serial_reason
    arrays = memory(kernel, np.random.default_rng(1))
    first = run(compiled, kernel, arrays)
    assert_right(kernel, first, arrays)
    for threads in (2, 3, 7):
        for one, other in zip(first, run(compiled, kernel, arrays, threads=threads), strict=True):
            np.testing.assert_array_equal(one, other)


def test_second_compilation_comes_from_the_cache(kernel_cache):
    kernel = linear(3, 8, 8, copy_region(3, 8, (8, 1), None))
    compile_kernel(kernel, kernel_cache)
    again = compile_kernel(kernel, kernel_cache)
    assert again.from_cache and again.key == kernel.key() and not again.parallel and "small" in again.serial_reason


@pytest.mark.parametrize("target", [AVX512, AVX2, NEON, PORTABLE], ids=lambda target: target.name)
def test_plan_covers_every_row_once_and_fits_registers_and_stack(target):
    rng = np.random.default_rng(8)
    for _ in range(60):
        rows, columns, depth = (int(v) for v in rng.integers(1, 3000, 3))
        groups = int(rng.choice([1, 3, 4]))
        kernel = linear(
            rows + 1, groups * columns, depth, copy_region(rows + 1, groups * columns, (groups * columns, 1), None)
        )
        cut = plan_dots(kernel, target)
        assert sum(count * height for count, height in cut.blocks) == kernel.rows
        assert cut.rows * cut.columns <= max(target.sums, cut.columns)
        assert max(height for _, height in cut.blocks) * cut.strip * 4 <= 1 << 16
        assert cut.strips(columns) * cut.strip >= columns


def test_interpreter_agrees_with_a_plain_product():
    rng = np.random.default_rng(2)
    kernel = linear(4, 6, 5, copy_region(4, 6, (6, 1), None))
    left, right, out = rng.normal(size=20), rng.normal(size=30), np.zeros(24)
    arrays = [array.astype(np.float32) for array in (left, right, out)]
    evaluate_product(kernel, arrays)
    expected = arrays[0].reshape(4, 5) @ arrays[1].reshape(6, 5).T
    np.testing.assert_allclose(arrays[2].reshape(4, 6), expected, rtol=1e-6, atol=1e-6)


def planted() -> dict[str, ProductKernel]:
    good = linear(4, 6, 5, copy_region(4, 6, (6, 1), (0, 1)))
    buffers = good.region.buffers
    return {
        "no depth": replace(good, depth=0),
        "a stride backwards": replace(good, left_strides=(-5, 1)),
        "a product that is no buffer": replace(good, sums=7),
        "a region that reads behind the product": replace(good, rows=3),
        "a region over other columns": replace(good, columns=7),
        "a region that stores into the product": replace(good, sums=1),
        "a product of another dtype": replace(
            good, region=replace(good.region, buffers=(Buffer("sums", "float64", 24), *buffers[1:]))
        ),
        "factors that no vector follows": replace(good, right_strides=(7, 2)),
        "a region that reduces": linear(4, 6, 5, softmax(4, 6)),
    }


@pytest.mark.parametrize("fault", planted())
def test_planted_fault_is_rejected(fault):
    with pytest.raises(IrError):
        verify_product(planted()[fault])


def test_refusal_is_one_line_and_a_good_kernel_has_none():
    assert not why_not(linear(4, 6, 5, copy_region(4, 6, (6, 1), None)))
    why = why_not(linear(4, 6, 5, softmax(4, 6)))
    assert why and "\n" not in why
