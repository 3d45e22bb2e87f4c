"""Row conversions and products with quantized weights as kernels: compiled against NumPy, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from kernels.compiler.compile import compile_kernel
from kernels.compiler.ir import Access, Buffer, IrError, Region, Store, Value
from kernels.compiler.product_ir import copy_region
from kernels.compiler.quantized_gather_ir import QuantizedGatherKernel, verify_quantized_gather
from kernels.compiler.quantized_ir import (
    FORMS,
    ConvertKernel,
    QuantizedKernel,
    verify_convert,
    verify_quantized,
    why_not,
)
from kernels.compiler.quantized_plan import balanced
from kernels.compiler.quantized_print import print_quantized
from kernels.compiler.quantized_reference import evaluate_convert, evaluate_quantized, evaluate_quantized_gather
from kernels.quantized.cpu_lookup_weights import LOOKUP_BITS, lookup_weights
from kernels.quantized.cpu_product import quantised_rows
from kernels.quantized.cpu_store import stored_arrays
from kernels.quantized.cpu_weights import (
    PreparedWeights,
    bfloat16_weights,
    codebook_weights,
    int8_weights,
    weight_only_weights,
)


def prepared(kind: str, rows: int, columns: int, group: int | None, rng: np.random.Generator) -> PreparedWeights:
    if kind == "bfloat16":
        return bfloat16_weights(rng.normal(size=(rows, columns)).astype(np.float32))
    if kind.startswith("int8"):
        make = int8_weights if kind == "int8" else weight_only_weights
        values = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
        return make(values, rng.uniform(0.01, 0.1, rows).astype(np.float32))
    many = 1 << LOOKUP_BITS.get(kind, 4)
    books = (rows, many) if group is None else (rows, -(-columns // group), many)
    make = lookup_weights if kind in LOOKUP_BITS else codebook_weights
    return make(
        rng.integers(0, many, (rows, columns)).astype(np.uint8), rng.normal(size=books).astype(np.float32), group
    )


def gelu_region(rows: int, columns: int) -> Region:
    """Buffers: sums, residual, out; out is relu(sums) + residual, its rows 3 elements further apart."""
    stride = columns + 3
    reach = (rows - 1) * stride + columns
    buffers = (
        Buffer("sums", "float32", rows * columns),
        Buffer("residual", "float32", rows * columns),
        Buffer("out", "float32", reach, True),
    )
    values = (
        Value("load", "float32", access=Access(0, 0, (columns, 1))),
        Value("relu", "float32", (0,)),
        Value("load", "float32", access=Access(1, 0, (columns, 1))),
        Value("add", "float32", (1, 2)),
    )
    return Region((rows, columns), 0, buffers, values, (Store(3, Access(2, 0, (stride, 1))),))


def converted(kind: str, x: np.ndarray, columns: int) -> np.ndarray:
    kernel = ConvertKernel(FORMS[kind], len(x), columns, x.shape[1])
    out = np.zeros(kernel.buffers[1].elements, np.int32)
    evaluate_convert(kernel, [x.ravel(), out])
    return out


CASES = [
    ("int8", 25, 70, 50, None),
    ("int8-weight-only", 3, 64, 19, None),
    ("bfloat16", 13, 130, 33, None),
    ("codebook", 5, 70, 50, None),
    ("codebook", 14, 70, 50, None),
    ("grouped-codebook", 5, 70, 50, 32),
    ("codebook-float-3", 7, 70, 215, None),
    ("grouped-codebook-float", 2, 70, 50, 32),
]


@pytest.mark.parametrize(("kind", "rows", "columns", "depth", "group"), CASES)
def test_product_and_its_region_are_numpys(kind, rows, columns, depth, group, kernel_cache):
    rng = np.random.default_rng()
    weights = prepared(kind, columns, depth, group, rng)
    kernel = QuantizedKernel(kind, rows, columns, depth, group, gelu_region(rows, columns), 0)
    out = np.full(kernel.buffers[-1].elements, 7.5, np.float32)
    arrays = [
        converted(kind, rng.normal(size=(rows, depth + 2)).astype(np.float32), depth),
        *(np.ravel(array) for array in stored_arrays(weights).values()),
        rng.normal(size=rows * columns).astype(np.float32),
        out,
    ]
    expected = [array.copy() for array in arrays]
    evaluate_quantized(kernel, expected, exact=False)
    compile_kernel(kernel, kernel_cache).entry(*(array.ctypes.data for array in arrays))
    largest = np.abs(expected[-1]).max()
    np.testing.assert_allclose(out, expected[-1], rtol=2e-6, atol=2e-6 * largest)
    between = np.ones(out.size, bool)
    for row in range(rows):
        between[row * (columns + 3) : row * (columns + 3) + columns] = False
    assert (out[between] == 7.5).all()


@pytest.mark.parametrize("form", ["bytes", "bfloat16", "float32"])
def test_rows_are_converted_bit_for_bit(form, kernel_cache):
    rng = np.random.default_rng()
    kernel = ConvertKernel(form, 5, 50, 57)
    x = (rng.normal(size=kernel.buffers[0].elements) * 10.0 ** rng.integers(-20, 20)).astype(np.float32)
    x[57:107] = 0.0
    x[2 * 57 : 2 * 57 + 50] = np.abs(x[2 * 57 : 2 * 57 + 50])
    ours, theirs = (np.zeros(kernel.buffers[1].elements, np.int32) for _ in range(2))
    evaluate_convert(kernel, [x, theirs])
    compile_kernel(kernel, kernel_cache).entry(x.ctypes.data, ours.ctypes.data)
    np.testing.assert_array_equal(ours, theirs)


def test_row_that_is_not_finite_becomes_a_row_of_nan(kernel_cache):
    rng = np.random.default_rng()
    convert = ConvertKernel("bytes", 25, 50, 50)
    x = rng.normal(size=(25, 50)).astype(np.float32)
    x[1, 3], x[7, 49] = np.inf, np.nan
    words = np.zeros(convert.buffers[1].elements, np.int32)
    compile_kernel(convert, kernel_cache).entry(x.ctypes.data, words.ctypes.data)
    kernel = QuantizedKernel("int8", 25, 70, 50, None, gelu_region(25, 70), 0)
    arrays = [words, *(np.ravel(array) for array in stored_arrays(prepared("int8", 70, 50, None, rng)).values())]
    residual, out = np.zeros(25 * 70, np.float32), np.zeros(kernel.buffers[-1].elements, np.float32)
    addresses = (array.ctypes.data for array in (*arrays, residual, out))
    compile_kernel(kernel, kernel_cache).entry(*addresses)
    bad = [row for row in range(25) if np.isnan(out[row * 73 : row * 73 + 70]).any()]
    assert bad == [1, 7]
    assert np.isnan(out[73 : 73 + 70]).all()


def test_bytes_are_those_of_the_product_that_runs_alone():
    rng = np.random.default_rng()
    x = rng.normal(size=(7, 50)).astype(np.float32)
    codes, scales, zeros = quantised_rows(prepared("int8", 3, 50, None, rng), x)
    memory = converted("int8", x, 50).view(np.uint8)
    np.testing.assert_array_equal(memory[: 7 * 64].reshape(7, 64)[:, :50], codes)
    np.testing.assert_array_equal(memory[7 * 64 : 7 * 68].view(np.float32), scales)
    np.testing.assert_array_equal(memory[7 * 68 :].view(np.int32), zeros)


def test_without_the_instructions_tiles_are_spelled_out(monkeypatch):
    kernel = QuantizedKernel("int8", 25, 70, 50, None, gelu_region(25, 70), 0)
    assert (
        "int8_tile(5, True)" in print_quantized(kernel, "kernel").text or "False" in print_quantized(kernel, "k").text
    )
    monkeypatch.setenv("HOTBENCH_CPU_FEATURES", "avx2")
    text = print_quantized(kernel, "kernel").text
    assert "int8_tile(2, native)" in text
    assert "Kernel: portable." in text


def test_large_product_is_shared_out_by_panels():
    region = copy_region(768, 384, (384, 1), None)
    printed = print_quantized(QuantizedKernel("int8", 768, 384, 1536, None, region, 0), "kernel")
    assert printed.items == 6
    assert "kernel_share" in printed.text


def test_parts_are_as_equal_as_they_can_be():
    for rows in range(1, 60):
        parts = balanced(rows, 6)
        assert sum(count * size for count, size in parts) == rows
        assert max(size for _, size in parts) - min(size for _, size in parts) <= 1
        assert sum(count for count, _ in parts) == -(-rows // 6)


def test_region_that_reads_several_columns_at_a_point_stays_apart():
    buffers = (Buffer("sums", "float32", 4 * 128), Buffer("out", "float32", 4 * 64, True))
    loads = [Value("load", "float32", access=Access(0, 64 * part, (128, 1))) for part in range(2)]
    region = Region((4, 64), 0, buffers, (*loads, Value("mul", "float32", (0, 1))), (Store(2, Access(1, 0, (64, 1))),))
    assert "several columns" in why_not(QuantizedKernel("int8", 4, 128, 32, None, region, 0))


PRODUCT = QuantizedKernel("int8", 4, 70, 32, None, copy_region(4, 70, (70, 1), None), 0)
FAULTS = {
    "no such kind": {"kind": "int5"},
    "no rows": {"rows": 0},
    "a group where there is none": {"group": 32},
    "grouped without a group": {"kind": "grouped-codebook"},
    "sums that are no buffer": {"sums": 2},
    "another number of rows": {"rows": 3},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_rejected(fault):
    verify_quantized(PRODUCT)
    with pytest.raises(IrError):
        verify_quantized(replace(PRODUCT, **FAULTS[fault]))


@pytest.mark.parametrize("fault", [{"form": "int4"}, {"rows": 0}, {"stride": 7}, {"columns": 1 << 20}])
def test_planted_fault_of_a_conversion_is_rejected(fault):
    kernel = ConvertKernel("bytes", 3, 8, 8)
    verify_convert(kernel)
    with pytest.raises(IrError):
        verify_convert(replace(kernel, **fault))


GATHERS = {
    "int8": QuantizedGatherKernel("int8", "int64", (3, 5), 7, 9, (5, 1), (45, 9, 1)),
    "bfloat16": QuantizedGatherKernel("bfloat16", "int32", (4,), 6, 5, (2,), (11, 2)),
    "3 bits, a codebook a row and group": QuantizedGatherKernel(
        "codebook", "int64", (6,), 7, 37, (1,), (37, 1), bits=3, books=7, group=16
    ),
    "4 bits, one codebook": QuantizedGatherKernel(
        "codebook", "int64", (6,), 7, 37, (1,), (37, 1), bits=4, books=1, group=37
    ),
}


def gather_memory(kernel: QuantizedGatherKernel, rng: np.random.Generator) -> list[np.ndarray]:
    index, codes, scales, *tables, out = kernel.buffers
    limits = np.iinfo(codes.dtype)
    return [
        rng.integers(0, kernel.rows, index.elements).astype(index.dtype),
        rng.integers(0 if codes.dtype != "uint16" else 0x3F80, min(limits.max, 0x4080), codes.elements).astype(
            codes.dtype
        ),
        rng.uniform(0.1, 1.0, scales.elements).astype(np.float32),
        *(rng.integers(-127, 128, table.elements).astype(np.int8) for table in tables),
        np.full(out.elements, 8.5, np.float32),
    ]


@pytest.mark.parametrize("name", GATHERS)
def test_rows_of_compressed_tables_are_numpys(name, kernel_cache):
    kernel = GATHERS[name]
    arrays = gather_memory(kernel, np.random.default_rng())
    expected = [array.copy() for array in arrays]
    evaluate_quantized_gather(kernel, expected)
    compile_kernel(kernel, kernel_cache).entry(*(array.ctypes.data for array in arrays))
    for ours, theirs in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("bad", [7, -1, 2**40])
def test_index_that_is_no_row_of_a_compressed_table_raises(bad, kernel_cache):
    kernel = GATHERS["int8"]
    arrays = gather_memory(kernel, np.random.default_rng())
    arrays[0][7] = bad
    for call in (
        lambda: compile_kernel(kernel, kernel_cache).entry(*(array.ctypes.data for array in arrays)),
        lambda: evaluate_quantized_gather(kernel, arrays),
    ):
        with pytest.raises(IndexError, match="index out of range in self"):
            call()


@pytest.mark.parametrize("fault", [{"kind": "int4"}, {"bits": 9}, {"books": 3}, {"group": 0}, {"extents": (0,)}])
def test_planted_fault_of_a_compressed_table_is_rejected(fault):
    kernel = GATHERS["4 bits, one codebook"]
    verify_quantized_gather(kernel)
    with pytest.raises(IrError):
        verify_quantized_gather(replace(kernel, **fault))
