from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.quantized.cpu_rows import KINDS, packed_rows, row_bytes, rows_kernel, unpacked_rows
from kernels.quantized.cpu_weights import WeightsError


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 9), columns=st.integers(1, 40), bits=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_packing_round_trips_at_the_true_bits(rows: int, columns: int, bits: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns), dtype=np.uint8)
    packed = packed_rows(codes, bits)
    assert packed.shape == (rows, row_bytes(columns, bits)) and packed.shape[1] * 8 - columns * bits < 8
    assert np.array_equal(unpacked_rows(packed, columns, bits), codes)


def test_the_lowest_bits_come_first() -> None:
    assert packed_rows(np.array([[1, 2, 7, 5]], np.uint8), 3).tolist() == [[0b11_010_001, 0b1011]]


@settings(max_examples=40, deadline=None)
@given(
    columns=st.integers(1, 70),
    bits=st.integers(1, 4),
    group=st.integers(1, 40),
    shared=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_rows_are_looked_up_exactly(columns: int, bits: int, group: int, shared: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, groups = 11, -(-columns // group)
    books = 1 if shared else rows
    codes = random.integers(0, 1 << bits, (rows, columns), dtype=np.uint8)
    tables = random.integers(-127, 128, (books, groups, 1 << bits), dtype=np.int8)
    scales = random.random((books, groups), dtype=np.float32)
    ids, packed = random.integers(0, rows, 5), packed_rows(codes, bits)
    out = np.full((6, columns), np.float32(77.0))
    bad = rows_kernel()(
        KINDS.index("codebook"), ids.ctypes.data, 5, packed.ctypes.data, scales.ctypes.data, tables.ctypes.data,
        rows, columns, bits, books, groups, group, out.ctypes.data,
    )  # fmt: skip
    of_column = np.arange(columns) // group
    own = np.zeros((rows, 1), int) if shared else np.arange(rows)[:, None]
    values = tables[own, of_column[None], codes].astype(np.float32) * scales[own, of_column[None]]
    assert bad == -1 and np.array_equal(out[:5], values[ids]) and (out[5] == 77.0).all()


def test_a_number_that_is_no_row_is_found_before_memory_is_read() -> None:
    values, scales, out = np.zeros((3, 4), np.int8), np.ones(3, np.float32), np.empty((2, 4), np.float32)
    for wrong in (3, -1, 2**60):
        ids = np.array([1, wrong])
        found = rows_kernel()(
            0, ids.ctypes.data, 2, values.ctypes.data, scales.ctypes.data, 0, 3, 4, 8, 0, 0, 0, out.ctypes.data
        )
        assert found == 1


def test_codes_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(WeightsError, match="the code 9 does not fit 3 bits"):
        packed_rows(np.array([[9]], np.uint8), 3)
    with pytest.raises(WeightsError, match="codes of 9 bits cannot be packed"):
        packed_rows(np.array([[1]], np.uint8), 9)
    with pytest.raises(WeightsError, match=r"codes uint8 \[2, 3\] are not rows of 4 bytes \(7 of 4 bits\)"):
        unpacked_rows(np.zeros((2, 3), np.uint8), 7, 4)
