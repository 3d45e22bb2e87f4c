"""Blocks of weights turned over in registers: every element in its place, nothing else touched."""

import numba
import numpy as np
import pytest

from kernels.compiler.gemm_target import host_target
from kernels.compiler.gemm_transpose import gemm_transpose

WIDTH = host_target().width


@pytest.mark.parametrize(("columns", "depth"), [(WIDTH, WIDTH), (1, WIDTH), (WIDTH, 1), (WIDTH - 1, WIDTH - 2)])
def test_columns_along_the_depth_become_rows(columns, depth):
    from_column, to_k = depth + 3, WIDTH + 5

    @numba.njit(boundscheck=False)
    def kernel(b, panel):
        gemm_transpose(b, panel, columns, depth, from_column, to_k, WIDTH, 0, 1)

    b = np.random.default_rng().standard_normal((columns, from_column)).astype(np.float32)
    panel = np.full((depth + 1, to_k), 7.0, np.float32)
    kernel(b.ctypes.data, panel.ctypes.data)
    np.testing.assert_array_equal(panel[:depth, :columns], b[:, :depth].T)
    assert not panel[:depth, columns:WIDTH].any(), "missing columns are 0"
    assert (panel[:depth, WIDTH:] == 7.0).all() and (panel[depth] == 7.0).all()
