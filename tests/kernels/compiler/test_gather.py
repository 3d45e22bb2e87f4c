"""Rows by index: compiled kernels against NumPy, and indices that are no row."""

from dataclasses import replace

import numpy as np
import pytest

from kernels.compiler.compile import compile_kernel
from kernels.compiler.gather_ir import GatherKernel, verify_gather
from kernels.compiler.gather_reference import evaluate_gather
from kernels.compiler.ir import IrError

DENSE = GatherKernel("float32", "int64", (3, 5), 7, 9, (5, 1), (9, 1), (45, 9, 1))
STRIDED = GatherKernel("float64", "int32", (4, 3), 6, 5, (2, 11), (12, 2), (1, 20, 4))


def memory(kernel: GatherKernel, rng: np.random.Generator) -> list[np.ndarray]:
    index, table, out = kernel.buffers
    return [
        rng.integers(0, kernel.rows, index.elements).astype(index.dtype),
        rng.normal(size=table.elements).astype(table.dtype),
        np.full(out.elements, 8.5, out.dtype),
    ]


@pytest.mark.parametrize("kernel", [DENSE, STRIDED], ids=["dense", "strided"])
def test_rows_are_numpys_and_nothing_between_them_is_touched(kernel, kernel_cache):
    arrays = memory(kernel, np.random.default_rng(3))
    expected = [array.copy() for array in arrays]
    evaluate_gather(kernel, expected)
    compile_kernel(kernel, kernel_cache).entry(*(array.ctypes.data for array in arrays))
    for ours, theirs in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("bad", [7, -1, 2**40, -(2**62)])
def test_index_that_is_no_row_raises_and_reads_nothing(bad, kernel_cache):
    arrays = memory(DENSE, np.random.default_rng(4))
    arrays[0][7] = bad
    compiled = compile_kernel(DENSE, kernel_cache)
    with pytest.raises(IndexError, match="index out of range in self"):
        compiled.entry(*(array.ctypes.data for array in arrays))
    with pytest.raises(IndexError, match="index out of range in self"):
        evaluate_gather(DENSE, arrays)
    assert (arrays[2][7 * 9 :] == 8.5).all()


FAULTS = {
    "no such dtype": {"dtype": "float16"},
    "indices that are no integers": {"index_dtype": "float32"},
    "an empty table": {"rows": 0},
    "no indices": {"extents": (0, 5)},
    "a stride backwards": {"index": (-5, 1)},
    "a stride too few": {"out": (9, 1)},
    "rows in one place": {"out": (9, 9, 1)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_rejected(fault):
    verify_gather(DENSE)
    with pytest.raises(IrError):
        verify_gather(replace(DENSE, **FAULTS[fault]))
