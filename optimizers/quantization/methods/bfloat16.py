"""The upper half of float32: no scales, no codebooks."""

from __future__ import annotations

import numpy as np

from kernels.quantized.cpu_weights import bfloat16_bits
from optimizers.plan import Refusal
from optimizers.quantization.compressed import BFLOAT16, CompressedWeight
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule


def rounded_to_bfloat16(weight: WeightInputs, rule: Rule) -> CompressedWeight | Refusal:
    """Return the weights rounded to bfloat16, to the nearest even; refuse those that would become infinite."""
    bits = bfloat16_bits(weight.values)
    if not np.isfinite((bits.astype(np.uint32) << np.uint32(16)).view(np.float32)).all():
        largest = float(np.abs(weight.values).max())
        return Refusal(
            "quantization", f"its largest weight {largest:g} is beyond bfloat16; scale the weights down first"
        )
    shape = (weight.values.shape[0], weight.values.shape[1])
    return CompressedWeight(BFLOAT16, shape, 16, None, {"values": bits})
