from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.quantized.packing import Packing, PackingError


def drawn(bits: int, rows: int, columns: int, seed: int | None = None) -> np.ndarray:
    random = np.random.default_rng(seed)
    if bits == 4:
        return random.integers(0, 16, (rows, columns), dtype=np.uint8)
    return random.integers(-128, 128, (rows, columns), dtype=np.int8)


@settings(max_examples=60, deadline=None)
@given(bits=st.sampled_from((4, 8)), rows=st.integers(0, 5), columns=st.integers(1, 2500), seed=st.integers(0, 2**32))
def test_values_come_back_as_they_were(bits: int, rows: int, columns: int, seed: int) -> None:
    packing, values = Packing(bits, columns), drawn(bits, rows, columns, seed)
    words = packing.pack(values)
    assert words.dtype == np.uint32 and words.shape == (rows, packing.words) and packing.words % 4 == 0
    back = packing.unpack(words)
    assert back.dtype == values.dtype and np.array_equal(back, values)


@settings(max_examples=40, deadline=None)
@given(bits=st.sampled_from((4, 8)), columns=st.integers(1, 2500))
def test_each_column_is_stored_once_and_padding_is_zero(bits: int, columns: int) -> None:
    packing = Packing(bits, columns)
    order = packing.column_order()
    assert np.array_equal(np.sort(order), np.arange(packing.words * 32 // bits))
    words = packing.pack(np.full((1, columns), 15 if bits == 4 else -1))
    assert int(np.bitwise_count(words).sum()) == bits * columns


def test_the_layout_is_the_documented_one() -> None:
    codes = np.arange(64)[None, :] // 4
    words = Packing(4, 64).pack(codes).reshape(2, 4)
    # each half word is one group of four columns, here all with the group's own number
    assert [f"{word:08x}" for word in words[0]] == ["22220000", "66664444", "aaaa8888", "eeeecccc"]
    assert [f"{word:08x}" for word in words[1]] == ["33331111", "77775555", "bbbb9999", "ffffdddd"]
    assert Packing(8, 3).pack(np.array([[1, -1, 2]])).tolist() == [[0x0002FF01, 0, 0, 0]]
    assert Packing(4, 5).pack(np.array([[1, 2, 3, 4, 5]])).tolist() == [[0x00054321, 0, 0, 0]]


def test_neighbouring_lanes_hold_neighbouring_groups_of_a_full_tile() -> None:
    order = Packing(8, 1024).column_order().reshape(2, 32, 4, 4)
    lane, step = np.meshgrid(np.arange(32), np.arange(4), indexing="ij")
    assert np.array_equal(order[1, :, :, 0], 512 + 128 * step + 4 * lane)


def test_a_dot_product_over_permuted_inputs_is_the_same() -> None:
    columns = 1371
    packing, codes = Packing(4, columns), drawn(4, 3, columns)
    stored = packing.pack(codes).view(np.uint8)
    positions = np.stack([stored & 15, stored >> 4], axis=-1).reshape(3, -1).astype(np.int64)
    x = np.zeros(packing.words * 8, np.int64)
    x[:columns] = np.random.default_rng().integers(-9, 9, columns)
    assert np.array_equal(positions @ x[packing.column_order()], codes.astype(np.int64) @ x[:columns])


@pytest.mark.parametrize(
    ("bits", "columns", "message"), [(3, 5, "3 bits cannot be packed"), (4, 0, "a row of 0 columns")]
)
def test_a_layout_that_does_not_exist_is_refused(bits: int, columns: int, message: str) -> None:
    with pytest.raises(PackingError, match=message):
        Packing(bits, columns)


@pytest.mark.parametrize(
    ("bits", "values", "message"),
    [
        (4, np.array([[1, 2, 16]]), r"the value 16 at \[0, 2\] does not fit 4 bits; use 0 to 15"),
        (4, np.array([[1, 2, 3], [0, -1, 3]]), r"the value -1 at \[1, 1\]"),
        (8, np.array([[1, 2, 128]]), "the value 128 .* use -128 to 127"),
        (8, np.array([[1, 2]]), r"int64 \[1, 2\] cannot be packed; give integers \[rows, 3\]"),
        (8, np.array([[1.0, 2.0, 3.0]]), r"float64 \[1, 3\] cannot be packed"),
        (8, np.array([1, 2, 3]), r"int64 \[3\] cannot be packed"),
    ],
)
def test_values_that_do_not_fit_are_refused(bits: int, values: np.ndarray, message: str) -> None:
    with pytest.raises(PackingError, match=message):
        Packing(bits, 3).pack(values)


@pytest.mark.parametrize("words", [np.zeros((1, 3), np.uint32), np.zeros((1, 4), np.int32), np.zeros(4, np.uint32)])
def test_words_that_do_not_fit_are_refused(words: np.ndarray) -> None:
    with pytest.raises(PackingError, match=r"cannot be unpacked; give uint32 \[rows, 4\] for 3 columns"):
        Packing(4, 3).unpack(words)
