"""Codebooks fitted to what a layer computes: GPTQ for the codes, least squares for the centroids, in turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.gptq import GptqError, feedback, fitted_codes, output_error, refitted_centroids
from optimizers.plan import Refusal
from optimizers.quantization.compressed import CODEBOOK, GROUPED_CODEBOOK, CompressedWeight, rounded_centroids
from optimizers.quantization.methods.weight import WeightInputs

ROUNDS = 2
"""Of codes and centroids in turn, at most: the best is kept."""


def fitted_to_outputs(
    weight: WeightInputs, bits: int, centroids: NDArray[np.float32], group: int | None
) -> CompressedWeight | Refusal:
    """Return the codebooks and codes whose outputs on the calibration inputs are nearest to the layer's own.

    centroids: where to start from, [1 or rows, 2**bits] or [rows, groups, 2**bits].
    """
    statistics = weight.statistics
    assert statistics is not None and statistics.hessian is not None
    values, hessian = weight.values, statistics.hessian
    best: tuple[float, CompressedWeight] | None = None
    try:
        made_up = feedback(hessian)
        for turn in range(ROUNDS):
            rounded = rounded_centroids(centroids)
            codes = fitted_codes(values, made_up, rounded, group, weight.threads)
            found = _weight(values, bits, group, codes, rounded)
            error = output_error(values, found.dequantised(), hessian)
            if best is not None and error >= best[0]:
                break
            best = (error, found)
            if group is not None or len(rounded) != len(values) or turn + 1 == ROUNDS:
                break
            centroids = refitted_centroids(values, hessian, codes, rounded, weight.threads)
    except GptqError as error:
        return Refusal("quantization", str(error))
    assert best is not None
    return best[1]


def _weight(
    values: NDArray[np.float32],
    bits: int,
    group: int | None,
    codes: NDArray[np.uint8],
    centroids: NDArray[np.float32],
) -> CompressedWeight:
    method = CODEBOOK if group is None else GROUPED_CODEBOOK
    shape = (values.shape[0], values.shape[1])
    return CompressedWeight(method, shape, bits, group, {"codes": codes, "centroids": centroids})
