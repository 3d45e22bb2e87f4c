"""Codebook products with float32 activations: codes by lanes, exact weights, every number of bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.quantized.cpu_lookup import pack_lanes, strip_bytes, unpack_lanes
from kernels.quantized.cpu_lookup_weights import lookup_kind, lookup_weights
from kernels.quantized.cpu_product import ProductError, quantised_rows
from kernels.quantized.cpu_reference import codebooks, codes_of, dequantised, reference_product
from kernels.quantized.cpu_weights import PreparedWeights, WeightsError, codebook_weights
from tests.kernels.quantized.test_cpu_product import allow, native_or_portable, outputs

SIZE = st.integers(1, 150)
SEED = st.integers(0, 2**32)


def weights_of(
    random: np.random.Generator, rows: int, columns: int, bits: int, group: int | None = None, shared: bool = False
) -> tuple[np.ndarray, np.ndarray, PreparedWeights]:
    codes = random.integers(0, 2**bits, (rows, columns), dtype=np.uint8)
    books = (1 if shared else rows,) if group is None else (rows, -(-columns // group))
    centroids = random.standard_normal((*books, 2**bits), dtype=np.float32)
    return codes, centroids, lookup_weights(codes, centroids, group)


@settings(max_examples=60, deadline=None)
@given(vectors=st.integers(1, 70), step=st.integers(1, 70), bits=st.integers(1, 4), seed=SEED)
def test_codes_by_lanes_come_back_as_they_were(vectors: int, step: int, bits: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (128, 16 * vectors), dtype=np.uint8)
    group = 16 * min(step, vectors)
    panels = pack_lanes(codes, bits, group)
    assert panels.shape == (2, 16, strip_bytes(16 * vectors, bits, group))
    assert np.array_equal(unpack_lanes(panels, 16 * vectors, bits, group), codes)


@pytest.mark.parametrize(("bits", "most"), [(4, 4.0), (3, 3.2), (2, 2.0), (1, 1.0)])
def test_codes_take_their_bits(bits: int, most: float) -> None:
    assert strip_bytes(5 * 512, bits, 5 * 512) == 4 * 5 * 512 * most / 8


@settings(max_examples=40, deadline=None)
@given(rows=SIZE, columns=SIZE, bits=st.integers(1, 4), group=st.sampled_from([None, 16, 48]), seed=SEED)
def test_weights_are_those_of_the_products_with_bytes(
    rows: int, columns: int, bits: int, group: int | None, seed: int
) -> None:
    random = np.random.default_rng(seed)
    codes, centroids, weights = weights_of(random, rows, columns, bits, group)
    assert weights.kind == lookup_kind(bits, group is not None)
    assert np.array_equal(dequantised(weights), dequantised(codebook_weights(codes, centroids, group)))
    assert np.array_equal(codes_of(weights), codes)
    tables, scales = codebooks(weights)
    assert tables.shape == (rows, 1 if group is None else -(-columns // group), 16) and scales.shape == tables.shape[:2]
    assert np.array_equal(tables[..., : 1 << bits], tables[..., -(1 << bits) :])


@native_or_portable
@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 20), outs=SIZE, columns=st.integers(1, 700), shared=st.booleans(), seed=SEED)
def test_products_take_activations_as_they_are(
    allowed: str | None, rows: int, outs: int, columns: int, shared: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        allow(patch, allowed)
        _, _, weights = weights_of(random, outs, columns, 3, None, shared)
    near(random, rows, weights)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 9), outs=SIZE, columns=SIZE, group=st.sampled_from([16, 48, 128]), seed=SEED)
def test_groups_have_their_own_codebooks(rows: int, outs: int, columns: int, group: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    near(random, rows, weights_of(random, outs, columns, 2, group)[2])


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 1200), seed=SEED)
def test_single_bits_are_looked_up_too(rows: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    near(random, rows, weights_of(random, 67, columns, 1)[2])


def near(random: np.random.Generator, rows: int, weights: PreparedWeights) -> None:
    """Assert that a product is the float64 one but for the rounding of its sums."""
    x = random.standard_normal((rows, weights.columns), dtype=np.float32)
    size = np.abs(x).astype(np.float64) @ np.abs(dequantised(weights)).T.astype(np.float64)
    assert (np.abs(outputs(weights, x) - reference_product(weights, x)) <= 1e-6 * size).all()


def test_infinities_go_where_float_arithmetic_takes_them() -> None:
    codes = np.array([[0, 1, 0], [1, 0, 1]], np.uint8)
    weights = lookup_weights(codes, np.array([[1.0, 0.5]], np.float32))
    x = np.array([[1.0, np.inf, 2.0], [1.0, np.inf, -np.inf], [1.0, 2.0, 3.0]], np.float32)
    got = outputs(weights, x)
    assert np.isposinf(got[0]).all() and np.isnan(got[1]).all() and np.isfinite(got[2]).all()


def test_what_cannot_be_is_refused_in_words() -> None:
    _, _, weights = weights_of(np.random.default_rng(), 3, 5, 4)
    with pytest.raises(ProductError, match="products with codebook-float-4 weights quantise no activations"):
        quantised_rows(weights, np.zeros((1, 5), np.float32))
    with pytest.raises(WeightsError, match="the code 3 has no centroid; a codebook has 2"):
        lookup_weights(np.full((3, 20), 3, np.uint8), np.ones((3, 2), np.float32))
