from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.quantized.cpu_epilogue import ACTIVATIONS
from kernels.quantized.cpu_features import CAP, PORTABLE, host_features
from kernels.quantized.cpu_lookup_weights import lookup_weights
from kernels.quantized.cpu_product import ProductError, product, quantised_rows
from kernels.quantized.cpu_reference import activated, dequantised, integer_weights, reference_product
from kernels.quantized.cpu_weights import (
    PreparedWeights,
    bfloat16_weights,
    codebook_weights,
    int8_weights,
    weight_only_weights,
)

ROWS = st.integers(1, 27)
SIZE = st.integers(1, 150)
SEED = st.integers(0, 2**32)
Random = np.random.Generator


def int8(random: Random, rows: int, columns: int) -> PreparedWeights:
    values = random.integers(-128, 128, (rows, columns), dtype=np.int8)
    return int8_weights(values, random.uniform(0.001, 0.1, rows).astype(np.float32))


def codebook(random: Random, rows: int, columns: int, bits: int = 4) -> PreparedWeights:
    codes = random.integers(0, 2**bits, (rows, columns), dtype=np.uint8)
    return codebook_weights(codes, random.standard_normal((rows, 2**bits), dtype=np.float32))


def grouped(random: Random, rows: int, columns: int, group: int = 32) -> PreparedWeights:
    codes = random.integers(0, 16, (rows, columns), dtype=np.uint8)
    centroids = random.standard_normal((rows, -(-columns // group), 16), dtype=np.float32)
    return codebook_weights(codes, centroids, group)


def bfloat16(random: Random, rows: int, columns: int) -> PreparedWeights:
    return bfloat16_weights(random.standard_normal((rows, columns), dtype=np.float32))


def weight_only(random: Random, rows: int, columns: int) -> PreparedWeights:
    values = random.integers(-128, 128, (rows, columns), dtype=np.int8)
    return weight_only_weights(values, random.uniform(0.001, 0.1, rows).astype(np.float32))


def looked_up(random: Random, rows: int, columns: int, bits: int = 3) -> PreparedWeights:
    codes = random.integers(0, 2**bits, (rows, columns), dtype=np.uint8)
    return lookup_weights(codes, random.standard_normal((rows, 2**bits), dtype=np.float32))


def looked_up_by_group(random: Random, rows: int, columns: int) -> PreparedWeights:
    codes = random.integers(0, 16, (rows, columns), dtype=np.uint8)
    return lookup_weights(codes, random.standard_normal((rows, -(-columns // 32), 16), dtype=np.float32), 32)


KINDS: tuple[Callable[[Random, int, int], PreparedWeights], ...] = (
    int8, codebook, grouped, bfloat16, weight_only, looked_up, looked_up_by_group,
)  # fmt: skip
native_or_portable = pytest.mark.parametrize("allowed", ["", None], ids=["portable", "native"])


def allow(monkeypatch: pytest.MonkeyPatch, allowed: str | None) -> None:
    if allowed is None:
        monkeypatch.delenv(CAP, raising=False)
    else:
        monkeypatch.setenv(CAP, allowed)


def outputs(
    weights: PreparedWeights,
    x: NDArray[np.float32],
    activation: str = "none",
    bias: NDArray[np.float32] | None = None,
    residual: NDArray[np.float32] | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return a product's outputs; what lies between and behind its rows must stay as it is."""
    stride = weights.rows + 3
    out = np.full((len(x), stride), np.float32(77.0))
    product(
        weights,
        x.ctypes.data,
        len(x),
        x.shape[1],
        out.ctypes.data,
        stride,
        activation,
        0 if bias is None else bias.ctypes.data,
        0 if residual is None else residual.ctypes.data,
        0 if residual is None else residual.shape[1],
        threads,
    )
    assert (out[:, weights.rows :] == 77.0).all()
    return out[:, : weights.rows]


def exact_sums(weights: PreparedWeights, x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    values, scales, zeros = quantised_rows(weights, x)
    centred = values.astype(np.int64) - zeros[:, None]
    return centred @ integer_weights(weights).astype(np.int64).T, scales


@native_or_portable
@settings(max_examples=40, deadline=None)
@given(rows=ROWS, outs=SIZE, columns=SIZE, bits=st.integers(1, 4), looked_up=st.booleans(), seed=SEED)
def test_sums_are_exact_integer_arithmetic(
    allowed: str | None, rows: int, outs: int, columns: int, bits: int, looked_up: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        allow(patch, allowed)
        weights = codebook(random, outs, columns, bits) if looked_up else int8(random, outs, columns)
    x = random.standard_normal((rows, columns), dtype=np.float32)
    sums, scales = exact_sums(weights, x)
    factors = scales[:, None] * np.asarray(weights.arrays[1], np.float32)[None, :outs]
    expected = sums.astype(np.float32) * factors
    assert np.array_equal(outputs(weights, x), expected)
    # the comparison notices one wrong weight times one step of an activation
    assert not np.array_equal(expected, (sums + 1).astype(np.float32) * factors)


@pytest.mark.parametrize("extreme", [127, -128])
def test_the_largest_sums_do_not_saturate(extreme: int) -> None:
    columns = 11008
    weights = int8_weights(np.full((3, columns), extreme, np.int8), np.ones(3, np.float32))
    x = np.linspace(0.0, 1.0, 2 * columns, dtype=np.float32).reshape(2, columns)
    x[1] = -1.0
    sums, scales = exact_sums(weights, x)
    assert np.abs(sums).max() > 2**27
    assert np.array_equal(outputs(weights, x), sums.astype(np.float32) * scales[:, None])


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, columns=SIZE, power=st.integers(-25, 37), shift=st.floats(-2, 2, width=32), seed=SEED)
def test_quantised_activations_are_within_half_a_step(
    rows: int, columns: int, power: int, shift: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x = ((random.standard_normal((rows, columns)) + shift) * 10.0**power).astype(np.float32)
    values, scales, zeros = quantised_rows(int8(random, 1, columns), x)
    assert ((zeros >= 0) & (zeros <= 255)).all()
    back = (values.astype(np.float64) - zeros[:, None]) * scales[:, None]
    assert (np.abs(back - x) <= 0.5001 * scales[:, None]).all()
    low, high = np.minimum(x.min(axis=1), 0.0), np.maximum(x.max(axis=1), 0.0)
    assert np.allclose(scales, np.maximum(high / 254.0 - low / 254.0, 1e-30), rtol=1e-5)


@native_or_portable
@settings(max_examples=25, deadline=None)
@given(rows=ROWS, outs=SIZE, columns=SIZE, group=st.sampled_from([16, 32, 64]), seed=SEED)
def test_groups_have_their_own_codebooks(
    allowed: str | None, rows: int, outs: int, columns: int, group: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        allow(patch, allowed)
        weights = grouped(random, outs, columns, group)
    x = random.standard_normal((rows, columns), dtype=np.float32)
    values, scales, zeros = quantised_rows(weights, x)
    seen = (values.astype(np.float64) - zeros[:, None]) * scales[:, None]
    expected = reference_product(weights, seen)
    # the zero point is taken off the float32 sums of all, padding included
    largest = 127.0 * float(np.asarray(weights.arrays[5]).max())
    size = 255.0 * scales[:, None] * weights.depth * largest
    assert (np.abs(outputs(weights, x) - expected) <= 2e-7 * size).all()


@native_or_portable
@settings(max_examples=25, deadline=None)
@given(rows=ROWS, outs=SIZE, columns=SIZE, seed=SEED)
def test_bfloat16_products_are_sums_of_rounded_factors(
    allowed: str | None, rows: int, outs: int, columns: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        allow(patch, allowed)
        weights = bfloat16(random, outs, columns)
    x = random.standard_normal((rows, columns), dtype=np.float32)
    rounded = dequantised(bfloat16_weights(x))
    expected = reference_product(weights, rounded)
    size = np.abs(rounded).astype(np.float64) @ np.abs(dequantised(weights)).T.astype(np.float64)
    assert (np.abs(outputs(weights, x) - expected) <= 1e-6 * size + 1e-30).all()


@native_or_portable
@settings(max_examples=25, deadline=None)
@given(rows=ROWS, outs=SIZE, columns=SIZE, seed=SEED)
def test_weight_only_products_take_activations_as_they_are(
    allowed: str | None, rows: int, outs: int, columns: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        allow(patch, allowed)
        weights = weight_only(random, outs, columns)
    x = random.standard_normal((rows, columns), dtype=np.float32)
    size = np.abs(x).astype(np.float64) @ np.abs(dequantised(weights)).T.astype(np.float64)
    assert (np.abs(outputs(weights, x) - reference_product(weights, x)) <= 1e-6 * size).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_bias_activation_and_residual_follow_the_sums(
    kind: Callable[[Random, int, int], PreparedWeights], activation: str
) -> None:
    random = np.random.default_rng()
    weights = kind(random, 83, 45)
    x, bias = random.standard_normal((7, 45), dtype=np.float32), random.standard_normal(83, dtype=np.float32)
    residual = random.standard_normal((7, 85), dtype=np.float32)
    plain = outputs(weights, x)
    expected = activated(plain.astype(np.float64) + bias, activation)
    assert np.allclose(outputs(weights, x, activation=activation, bias=bias), expected, rtol=1e-5, atol=2e-6)
    got = outputs(weights, x, activation=activation, bias=bias, residual=residual)
    assert np.allclose(got, expected + residual[:, :83], rtol=1e-5, atol=2e-6)


def test_a_residual_may_lie_where_the_outputs_go() -> None:
    random = np.random.default_rng()
    weights = int8(random, 70, 33)
    x, out = random.standard_normal((9, 33), dtype=np.float32), random.standard_normal((9, 70), dtype=np.float32)
    expected = outputs(weights, x, residual=out)
    address = out.ctypes.data
    product(weights, x.ctypes.data, 9, 33, address, 70, residual_address=address, residual_stride=70)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.__name__)
def test_a_row_that_is_not_finite_gives_nan_and_leaves_the_others_alone(
    kind: Callable[[Random, int, int], PreparedWeights], activation: str, value: float
) -> None:
    random = np.random.default_rng()
    weights = kind(random, 65, 37)
    x = random.standard_normal((5, 37), dtype=np.float32)
    expected = outputs(weights, x, activation=activation)
    x[3, int(random.integers(37))] = value
    got = outputs(weights, x, activation=activation)
    assert np.isnan(got[3]).all()
    assert np.array_equal(np.delete(got, 3, axis=0), np.delete(expected, 3, axis=0))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("rows", [1, 25])
def test_two_threads_give_the_same_bits(kind: Callable[[Random, int, int], PreparedWeights], rows: int) -> None:
    pytest.importorskip("torch")  # brings the OpenMP pool
    random = np.random.default_rng()
    weights = kind(random, 1030, 300)
    x = random.standard_normal((rows, 300), dtype=np.float32)
    assert np.array_equal(outputs(weights, x, threads=2), outputs(weights, x))


@pytest.mark.parametrize("kind", KINDS[:-1], ids=lambda kind: kind.__name__)
def test_the_native_and_the_portable_kernel_agree(kind: Callable[[Random, int, int], PreparedWeights]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(CAP, raising=False)
        native = kind(np.random.default_rng(5), 90, 77)
        if native.kernel == PORTABLE:
            pytest.skip(f"no native kernel to compare with: {native.reason}")
        patch.setenv(CAP, "avx2")
        portable = kind(np.random.default_rng(5), 90, 77)
    assert portable.kernel == PORTABLE and "has no avx512" in portable.reason and native.reason == ""
    x = np.random.default_rng().standard_normal((11, 77), dtype=np.float32)
    assert np.allclose(outputs(native, x), outputs(portable, x), rtol=1e-5, atol=1e-5)


def test_the_cap_only_takes_features_away() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CAP, "no-such-feature, avx2")
        assert {name for name, there in host_features().items() if there} <= {"avx2"}


def test_wrong_arguments_are_refused_in_words() -> None:
    weights = int8(np.random.default_rng(), 5, 3)
    with pytest.raises(ProductError, match="'swish' is not known; use one of none, relu"):
        product(weights, 0, 1, 3, 0, 5, activation="swish")
    with pytest.raises(ProductError, match="2 rows 4 apart overlap; outputs have 5 columns"):
        product(weights, 0, 2, 3, 0, 4)
    with pytest.raises(ProductError, match=r"x float64 \[2, 3\] cannot be quantised"):
        quantised_rows(weights, np.zeros((2, 3)))  # type: ignore[arg-type]
    assert product(weights, 0, 0, 3, 0, 5) == ""
