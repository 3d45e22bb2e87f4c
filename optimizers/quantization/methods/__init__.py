"""The methods: each takes a weight matrix [rows, columns] and a rule and returns its compressed form or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from optimizers.plan import Refusal
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.methods.bfloat16 import rounded_to_bfloat16
from optimizers.quantization.methods.int8 import scaled_to_int8
from optimizers.quantization.methods.kmeans import clustered
from optimizers.quantization.methods.low_rank import factorised
from optimizers.quantization.methods.prune import pruned
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule

Method = Callable[[WeightInputs, Rule], CompressedWeight | Refusal]
METHODS: Mapping[str, Method] = {
    "int8": scaled_to_int8,
    "kmeans": clustered,
    "prune": pruned,
    "low-rank": factorised,
    "bfloat16": rounded_to_bfloat16,
}
"""A method of one's own is one more line here and its name in rules.METHODS."""


def compress_weight(weight: WeightInputs, rule: Rule) -> CompressedWeight | Refusal:
    """Return the compressed form of a weight, or why there is none: it is empty, or holds NaN or infinity."""
    values: NDArray[np.float32] = weight.values
    if values.size == 0:
        return Refusal("quantization", f"its weight {list(values.shape)} is empty; there is nothing to compress")
    if not np.isfinite(values).all():
        wrong = values[~np.isfinite(values)]
        return Refusal(
            "quantization", f"its weight holds {len(wrong)} values such as {wrong[0]}; mend the weights first"
        )
    return METHODS[rule.method](weight, rule)
