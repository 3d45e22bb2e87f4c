from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.quantized.cpu_codebook import pack_codes, unpack_codes
from kernels.quantized.cpu_reference import dequantised, integer_weights
from kernels.quantized.cpu_weights import (
    WeightsError,
    bfloat16_bits,
    bfloat16_weights,
    codebook_weights,
    int8_weights,
    quantised_tables,
)

SIZE = st.integers(1, 200)
SEED = st.integers(0, 2**32)


@settings(max_examples=50, deadline=None)
@given(rows=SIZE, columns=SIZE, seed=SEED)
def test_int8_panels_hold_the_weights(rows: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values, scales = random.integers(-128, 128, (rows, columns), dtype=np.int8), random.random(rows, dtype=np.float32)
    weights = int8_weights(values, scales)
    assert np.array_equal(integer_weights(weights), values)
    assert np.array_equal(dequantised(weights), values * scales[:, None])
    assert np.array_equal(weights.arrays[2][:rows], values.sum(axis=1, dtype=np.int32))


@settings(max_examples=50, deadline=None)
@given(rows=SIZE, columns=SIZE, bits=st.integers(1, 4), tensor=st.booleans(), seed=SEED)
def test_codebook_panels_hold_the_rounded_centroids(
    rows: int, columns: int, bits: int, tensor: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**bits, (rows, columns), dtype=np.uint8)
    centroids = random.standard_normal((1 if tensor else rows, 2**bits), dtype=np.float32)
    tables, scales = quantised_tables(np.broadcast_to(centroids, (rows, 2**bits)))
    weights = codebook_weights(codes, centroids)
    expected = np.take_along_axis(tables, codes.astype(np.int64), axis=1)
    assert np.array_equal(integer_weights(weights), expected)
    exact = np.take_along_axis(np.broadcast_to(centroids, tables.shape), codes.astype(np.int64), axis=1)
    assert (np.abs(dequantised(weights) - exact) <= 0.5001 * scales[:, None]).all()
    assert np.abs(tables).max(axis=1).min() == 127


@settings(max_examples=40, deadline=None)
@given(rows=SIZE, columns=SIZE, group=st.sampled_from([16, 48, 64, 256]), seed=SEED)
def test_grouped_codebooks_hold_the_rounded_centroids(rows: int, columns: int, group: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 16, (rows, columns), dtype=np.uint8)
    centroids = random.standard_normal((rows, -(-columns // group), 16), dtype=np.float32)
    weights = codebook_weights(codes, centroids, group)
    tables, scales = quantised_tables(centroids)
    numbers = np.arange(columns)[None, :] // group
    row = np.arange(rows)[:, None]
    assert np.array_equal(dequantised(weights), tables[row, numbers, codes] * scales[row, numbers])


@settings(max_examples=30, deadline=None)
@given(panels=st.integers(1, 3), steps=st.integers(1, 9), seed=SEED)
def test_codes_come_back_as_they_were(panels: int, steps: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 16, (64 * panels, 16 * steps), dtype=np.uint8)
    packed = pack_codes(codes)
    assert packed.nbytes * 2 == codes.size
    assert np.array_equal(unpack_codes(packed), codes)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_bfloat16_is_the_nearest_with_even_ties(values: list[float]) -> None:
    torch = pytest.importorskip("torch")
    floats = np.array(values, np.float32)
    expected = torch.from_numpy(floats).bfloat16().float().numpy()
    found = (bfloat16_bits(floats).astype(np.uint32) << np.uint32(16)).view(np.float32)
    assert np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(dequantised(bfloat16_weights(floats[None]))[0], expected, equal_nan=True)


def test_sizes_are_counted_in_bytes() -> None:
    weights = codebook_weights(np.zeros((4096, 4096), np.uint8), np.ones((4096, 16), np.float32))
    assert 4096 * 4096 // 2 <= weights.bytes < 1.02 * 4096 * 4096 / 2


def test_a_codebook_of_zeros_is_a_matrix_of_zeros() -> None:
    weights = codebook_weights(np.zeros((3, 5), np.uint8), np.zeros((3, 2), np.float32))
    assert not dequantised(weights).any()


def test_weights_that_cannot_be_prepared_are_refused_in_words() -> None:
    ones = np.ones(3, np.float32)
    with pytest.raises(WeightsError, match=r"int16 \[3, 4\] cannot be prepared; give int8"):
        int8_weights(np.zeros((3, 4), np.int16), ones)
    with pytest.raises(WeightsError, match=r"\[0, 4\] are empty"):
        int8_weights(np.zeros((0, 4), np.int8), ones)
    with pytest.raises(WeightsError, match="sums beyond 32 bits; give at most 65793 columns"):
        int8_weights(np.zeros((1, 65794), np.int8), ones[:1])
    with pytest.raises(WeightsError, match=r"scales float32 \[3\] do not go with the weights; give float32 \[2\]"):
        int8_weights(np.zeros((2, 4), np.int8), ones)
    with pytest.raises(WeightsError, match=r"the scale nan at \[1\] is not finite"):
        int8_weights(np.zeros((3, 4), np.int8), np.array([1, np.nan, 1], np.float32))
    codes = np.full((3, 20), 3, np.uint8)
    with pytest.raises(WeightsError, match="the code 3 has no centroid; a codebook has 2"):
        codebook_weights(codes, np.ones((3, 2), np.float32))
    with pytest.raises(WeightsError, match="not all finite"):
        codebook_weights(codes, np.full((3, 4), np.inf, np.float32))
    with pytest.raises(WeightsError, match=r"\[3, 5\] do not go with codes \[3, 20\]; give float32 \[1, 2, 4, 8 or 16"):
        codebook_weights(codes, np.ones((3, 5), np.float32))
    with pytest.raises(WeightsError, match="groups of 20 columns cannot be prepared; give a multiple of 16"):
        codebook_weights(codes, np.ones((3, 1, 4), np.float32), 20)
