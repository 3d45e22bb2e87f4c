"""Each method's compressed form against what it must stand for, on odd sizes and fresh weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.quantized.gptq import output_error
from optimizers.plan import Refusal
from optimizers.quantization.compressed import (
    CompressedWeight,
    centroid_tables,
    from_tables,
    rounded_centroids,
)
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.methods import compress_weight
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule
from optimizers.quantization.statistics import InputStatistics

DRAWN = np.random.default_rng()


def drawn(rows: int, columns: int) -> NDArray[np.float32]:
    return (DRAWN.standard_t(5, (rows, columns)) * 0.05).astype(np.float32)


def made(values: NDArray[np.float32], statistics: InputStatistics | None = None, **options: object) -> CompressedWeight:
    answer = compress_weight(WeightInputs(values, "linear", statistics, 2), Rule("*", **options))  # type: ignore[arg-type]
    assert isinstance(answer, CompressedWeight), answer
    return answer


def seen(columns: int) -> InputStatistics:
    inputs = DRAWN.normal(size=(4 * columns, columns)) @ (np.eye(columns) + 0.3 * DRAWN.normal(size=(columns, columns)))
    hessian = inputs.T @ inputs
    return InputStatistics(np.diag(hessian).copy(), hessian, len(inputs))


def test_int8_is_off_by_half_a_step_at_most() -> None:
    values = drawn(13, 37)
    values[5] = 0.0
    weight = made(values)
    steps = np.abs(values).max(axis=1, keepdims=True) / 127
    assert (np.abs(weight.dequantised() - values) <= 0.5001 * steps).all()
    assert weight.stored_bytes == 13 * 37 + 13 * 4
    assert made(values, activations="float").method == "int8-weight-only"


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("scope", ["tensor", "row", "group"])
def test_codebooks_of_every_size_and_scope_keep_their_bits(bits: int, scope: str) -> None:
    values = drawn(9, 41)
    weight = made(values, method="kmeans", bits=bits, scope=scope, group=16)
    assert int(weight.arrays["codes"].max()) < 1 << bits
    books = {"tensor": 1, "row": 9, "group": 27}[scope]
    assert weight.stored_bytes == -(-9 * 41 * bits // 8) + books * ((1 << bits) + 4)
    coarser = weight.error(values)
    if bits > 1:
        assert coarser < made(values, method="kmeans", bits=bits - 1, scope=scope, group=16).error(values)
    assert np.unique(weight.dequantised()[0, :16]).size <= 1 << bits


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=16))
def test_centroids_are_rounded_once_and_come_back_from_their_tables_exactly(numbers: list[float]) -> None:
    rounded = rounded_centroids(np.array([numbers], np.float32))
    assert np.array_equal(rounded_centroids(rounded), rounded)
    weight = CompressedWeight("codebook", (1, 1), 4, None, {"codes": np.zeros((1, 1), np.uint8), "centroids": rounded})
    tables, scales = centroid_tables(weight)
    assert np.array_equal(from_tables(tables, scales), rounded)
    largest = np.abs(numbers).max()
    assert np.allclose(rounded[0], numbers, atol=float(largest) / 253 + 1e-34)


@pytest.mark.parametrize("scope", ["row", "group", "tensor"])
def test_gptq_brings_outputs_nearer_than_the_diagonal_and_that_than_plain(scope: str) -> None:
    values, statistics = drawn(33, 80), seen(80)
    assert statistics.hessian is not None
    errors = [
        output_error(values, made(values, statistics, method="kmeans", bits=3, fit=fit, scope=scope).dequantised(),
                     statistics.hessian)
        for fit in ("gptq", "plain")
    ]  # fmt: skip
    assert errors[0] < errors[1]


def test_the_diagonal_serves_the_columns_that_count() -> None:
    values = drawn(5, 60)
    counts = np.where(np.arange(60) < 20, 1e4, 1.0)
    statistics = InputStatistics(counts, None, 100)
    favoured = made(values, statistics, method="kmeans", bits=2, fit="diagonal").dequantised()
    plain = made(values, method="kmeans", bits=2).dequantised()
    gaps = [float(((fitted - values)[:, :20] ** 2).sum()) for fitted in (favoured, plain)]
    assert gaps[0] < gaps[1]


def test_pruned_weights_keep_the_largest_exactly() -> None:
    values = drawn(11, 29)
    weight = made(values, method="prune", sparsity=0.7)
    dense = weight.dequantised()
    kept = dense != 0
    assert abs(kept.mean() - 0.3) < 0.01
    assert np.array_equal(dense[kept], values[kept])
    assert np.abs(values[~kept]).max() <= np.abs(values[kept]).min()
    assert weight.stored_bytes < values.nbytes


def test_pruning_by_inputs_drops_of_each_row_what_is_small_for_them() -> None:
    values, counts = drawn(9, 40), np.random.default_rng().uniform(0.01, 100, 40)
    weight = made(values, InputStatistics(counts, None, 50), method="prune", sparsity=0.6, fit="diagonal")
    dense = weight.dequantised()
    score = np.abs(values) * np.sqrt(counts)
    for row in range(9):
        kept = dense[row] != 0
        assert kept.sum() == 16 and score[row][~kept].max() <= score[row][kept].min()
    plain = made(values, method="prune", sparsity=0.6).dequantised()
    lost = [float((((found - values) ** 2) * counts).sum()) for found in (dense, plain)]
    assert lost[0] < lost[1]


def test_pruning_by_inputs_that_nobody_saw_is_refused() -> None:
    answer = compress_weight(WeightInputs(drawn(4, 8)), Rule("*", method="prune", fit="diagonal"))
    assert isinstance(answer, Refusal) and "no calibration input reaches it" in answer.reason


def test_a_sparsity_that_saves_nothing_is_refused_with_the_figures() -> None:
    answer = compress_weight(WeightInputs(drawn(4, 8)), Rule("*", method="prune", sparsity=0.1))
    assert isinstance(answer, Refusal)
    assert "at a sparsity of 0.1" in answer.reason
    assert "128" in answer.reason


def test_sparse_codebooks_have_a_centroid_at_zero() -> None:
    values = drawn(7, 64)
    for scope in ("row", "tensor"):
        weight = made(values, method="kmeans", bits=3, sparsity=0.6, scope=scope)
        zeros = weight.dequantised() == 0
        assert zeros.mean() >= 0.59
        assert np.abs(values[zeros]).mean() < np.abs(values[~zeros]).mean()
        assert np.array_equal(weight.arrays["codes"] == 0, zeros) and (weight.arrays["centroids"][:, 0] == 0).all()
        gaps = np.abs(weight.dequantised() - values)[~zeros]
        nearest = np.abs(weight.arrays["centroids"][:, None] - values[..., None])
        assert np.allclose(gaps, nearest.min(axis=2)[~zeros])


def test_low_rank_is_the_nearest_of_its_rank() -> None:
    values = drawn(20, 31)
    weight = made(values, method="low-rank", rank=5)
    assert weight.arrays["left"].shape == (20, 5)
    strengths = np.linalg.svd(values, compute_uv=False)
    assert np.isclose(np.linalg.norm(weight.dequantised() - values), np.sqrt((strengths[5:] ** 2).sum()), rtol=1e-3)
    share = made(values @ np.diag(np.geomspace(1, 1e-4, 31)).astype(np.float32), method="low-rank", rank=0.9)
    assert share.arrays["left"].shape[1] < 12


def test_a_rank_that_saves_nothing_is_refused_with_one_that_does() -> None:
    answer = compress_weight(WeightInputs(drawn(20, 30)), Rule("*", method="low-rank", rank=19))
    assert isinstance(answer, Refusal)
    assert "rank of at most 11" in answer.reason


def test_bfloat16_rounds_and_refuses_what_would_be_infinite() -> None:
    values = drawn(3, 5)
    assert np.allclose(made(values, method="bfloat16").dequantised(), values, rtol=2**-8)
    values[0, 0] = np.finfo(np.float32).max
    answer = compress_weight(WeightInputs(values), Rule("*", method="bfloat16"))
    assert isinstance(answer, Refusal)
    assert "beyond bfloat16" in answer.reason


def test_a_fit_without_inputs_is_refused_in_words() -> None:
    answer = compress_weight(WeightInputs(drawn(4, 4)), Rule("*", method="kmeans", fit="gptq"))
    assert isinstance(answer, Refusal)
    assert "no calibration input reaches it" in answer.reason
    looked_up = WeightInputs(drawn(4, 4), "embedding", InputStatistics(np.ones(4), None, 4))
    answer = compress_weight(looked_up, Rule("*", method="kmeans", fit="gptq"))
    assert isinstance(answer, Refusal)
    assert "looked up, not multiplied" in answer.reason


def test_a_form_without_its_arrays_is_an_error() -> None:
    with pytest.raises(CompressionError, match="without 'scales'"):
        CompressedWeight("int8", (1, 1), 8, None, {"values": np.zeros((1, 1), np.int8)})
    with pytest.raises(CompressionError, match="no compressed form 'int4'"):
        CompressedWeight("int4", (1, 1), 4, None, {})
