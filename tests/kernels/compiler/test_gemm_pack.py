"""Weights in panels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.compiler.gemm_pack import ALIGNMENT, Panels, pack, packed, rounded
from kernels.compiler.ir import IrError


@given(
    st.integers(0, 9), st.integers(1, 4), st.integers(1, 70), st.integers(1, 4), st.sampled_from((4, 8, 16)), st.data()
)
def test_every_element_lies_where_the_layout_says_and_the_rest_is_0(depth, groups, columns, vectors, width, data):
    layout = Panels(depth, groups, columns, vectors * width, width)
    # as torch's w.t(): k is the last axis in memory
    b = np.arange(1, depth * groups * columns + 1, dtype=np.float32).reshape(groups, columns, depth).transpose(2, 0, 1)
    got = packed(b, layout)
    assert got.shape == (layout.elements,)
    assert got.size == 0 or got.ctypes.data % ALIGNMENT == 0
    expected = np.zeros(layout.elements, np.float32)
    for column in range(columns):
        number, within = divmod(column, layout.panel)
        across = layout.panel if number < layout.full else layout.last
        for k in range(depth):
            for group in range(groups):
                expected[number * layout.stride + (k * groups + group) * across + within] = b[k, group, column]
    np.testing.assert_array_equal(got, expected)


def test_weights_that_changed_are_packed_into_the_same_memory():
    layout = Panels(3, 2, 5, 4, 4)
    first, second = (np.random.default_rng(seed).standard_normal((3, 2, 5)).astype(np.float32) for seed in (1, 2))
    memory = packed(first, layout)
    pack(second, layout, memory)
    np.testing.assert_array_equal(memory, packed(second, layout))


@pytest.mark.parametrize(
    ("shape", "elements", "dtype"),
    [((3, 2, 4), 48, "float32"), ((3, 2, 5), 47, "float32"), ((3, 2, 5), 48, "float64")],
)
def test_what_does_not_fit_is_refused_in_one_line(shape, elements, dtype):
    layout = Panels(3, 2, 5, 4, 4)
    assert layout.elements == 48 and rounded(5, 4) == 8
    with pytest.raises(IrError, match=r"cannot pack .*give \(3, 2, 5\) and float32\(48,\)") as caught:
        pack(np.zeros(shape, np.float32), layout, np.zeros(elements, dtype))
    assert "\n" not in str(caught.value)
