"""Calls of a library's sgemm_ from compiled code."""

import ctypes

import numba
import numpy as np
import pytest
from scipy.linalg import cython_blas

from kernels.compiler.gemm_library import call_sgemm


def address_of_sgemm() -> int:
    """scipy's Fortran sgemm: its integers have 32 bits."""
    capsule = cython_blas.__pyx_capi__["sgemm"]
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return pointer(capsule, name(capsule))


@numba.njit
def product(function, a, b, c, sizes, strides, transposed, accumulate):
    call_sgemm(function, a, b, c, sizes, strides, transposed, accumulate)


@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
def test_row_major_products_with_padded_rows(a_transposed, b_transposed, accumulate):
    rng = np.random.default_rng(7)
    rows, columns, depth = 5, 11, 7
    a, b, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((13, 17), (15, 19), (9, 23)))
    left = a[:depth, :rows].T if a_transposed else a[:rows, :depth]
    right = b[:columns, :depth].T if b_transposed else b[:depth, :columns]
    expected = c.astype(np.float64)
    start = expected[:rows, :columns] if accumulate else 0.0
    expected[:rows, :columns] = start + left.astype(np.float64) @ right.astype(np.float64)
    product(
        address_of_sgemm(),
        a.ctypes.data,
        b.ctypes.data,
        c.ctypes.data,
        (rows, columns, depth),
        (17, 19, 23),
        (a_transposed, b_transposed),
        accumulate,
    )
    np.testing.assert_allclose(c, expected, rtol=0, atol=2e-6)
