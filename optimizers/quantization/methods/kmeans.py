"""Codebooks: every weight becomes the number of one of 2**bits shared values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.kmeans import nearest_codes, row_centroids, tensor_centroids
from optimizers.plan import Refusal
from optimizers.quantization.compressed import CODEBOOK, GROUPED_CODEBOOK, Arrays, CompressedWeight, rounded_centroids
from optimizers.quantization.methods.codebook_fit import fitted_to_outputs
from optimizers.quantization.methods.importance import importance, misfit
from optimizers.quantization.methods.prune import kept_weights
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule

Values = NDArray[np.float32]


def clustered(weight: WeightInputs, rule: Rule) -> CompressedWeight | Refusal:
    """Return codes and centroids; the fit is that of the rule."""
    if reason := misfit(weight, rule):
        return Refusal("quantization", reason)
    counts = importance(weight, rule)
    if rule.scope == "group" and rule.group < weight.values.shape[1]:
        return _grouped(weight, rule, counts)
    if rule.sparsity:
        return _with_zero(weight.values, rule, counts, weight.threads)
    centroids = _centroids(weight.values, 1 << rule.code_bits, rule.scope, counts, weight.threads)
    if rule.fit == "gptq":
        return fitted_to_outputs(weight, rule.code_bits, centroids, None)
    return coded(weight.values, rounded_centroids(centroids), weight.threads)


def coded(values: Values, centroids: Values, threads: int = 1) -> CompressedWeight:
    """Return each weight's nearest centroid of its row's codebook; centroids [1 or rows, 2**bits] in order."""
    codes = nearest_codes(values, centroids, threads)
    bits = int(centroids.shape[-1]).bit_length() - 1
    return CompressedWeight(CODEBOOK, _shape(values), bits, None, {"codes": codes, "centroids": centroids})


def _centroids(values: Values, clusters: int, scope: str, counts: NDArray[np.float64] | None, threads: int) -> Values:
    if scope != "tensor":
        columns = None if counts is None or counts.shape[1] == 1 else counts
        return row_centroids(values, clusters, columns, threads)
    if counts is None:
        return tensor_centroids(values, clusters)[None]
    everywhere = np.broadcast_to(counts, values.shape).reshape(1, -1)
    return row_centroids(values.reshape(1, -1), clusters, everywhere, threads)


def _grouped(weight: WeightInputs, rule: Rule, counts: NDArray[np.float64] | None) -> CompressedWeight | Refusal:
    values, group, clusters = weight.values, rule.group, 1 << rule.code_bits
    rows, columns = values.shape
    centroids = np.empty((rows, -(-columns // group), clusters), np.float32)
    for number, start in enumerate(range(0, columns, group)):
        part = slice(start, start + group)
        shares = None if counts is None or counts.shape[1] == 1 else counts[:, part]
        centroids[:, number] = row_centroids(values[:, part], clusters, shares, weight.threads)
    if rule.fit == "gptq":
        return fitted_to_outputs(weight, rule.code_bits, centroids, group)
    centroids, codes = rounded_centroids(centroids), np.empty(values.shape, np.uint8)
    for number, start in enumerate(range(0, columns, group)):
        part = slice(start, start + group)
        codes[:, part] = nearest_codes(values[:, part], centroids[:, number], weight.threads)
    arrays: Arrays = {"codes": codes, "centroids": centroids}
    return CompressedWeight(GROUPED_CODEBOOK, _shape(values), rule.code_bits, group, arrays)


def _with_zero(values: Values, rule: Rule, counts: NDArray[np.float64] | None, threads: int) -> CompressedWeight:
    """Return codebooks with a centroid at zero, which the smallest weights get: entropy coding then pays most."""
    kept = kept_weights(values, rule.sparsity or 0.0, counts)
    shares = kept * (1.0 if counts is None else counts)
    flat, weights = (values.reshape(1, -1), shares.reshape(1, -1)) if rule.scope == "tensor" else (values, shares)
    found = row_centroids(flat, (1 << rule.code_bits) - 1, weights, threads)
    centroids = rounded_centroids(np.sort(np.pad(found, ((0, 0), (0, 1))), axis=1))
    codes = nearest_codes(values, centroids, threads)
    zero = np.abs(centroids).argmin(axis=1)[:, None]
    # Zero has the code 0 in all rows, so that entropy coding sees how frequent it is; the others follow in order.
    codes = np.where(kept & (codes != zero), codes + (codes < zero), 0).astype(np.uint8)
    order = np.argsort(np.arange(centroids.shape[1]) != zero, axis=1, kind="stable")
    arrays: Arrays = {"codes": codes, "centroids": np.take_along_axis(centroids, order, axis=1)}
    return CompressedWeight(CODEBOOK, _shape(values), rule.code_bits, None, arrays)


def _shape(values: Values) -> tuple[int, int]:
    return values.shape[0], values.shape[1]
