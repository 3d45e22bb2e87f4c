"""Whole numbers of 8 bits, with a scale for each row."""

from __future__ import annotations

import numpy as np

from optimizers.plan import Refusal
from optimizers.quantization.compressed import INT8, INT8_WEIGHT_ONLY, CompressedWeight
from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule

_LARGEST = 127


def scaled_to_int8(weight: WeightInputs, rule: Rule) -> CompressedWeight | Refusal:
    """Return the weights as int8 values times a scale a row: the largest of a row becomes 127 or -127."""
    values = weight.values
    largest = np.abs(values).max(axis=1).astype(np.float64)
    scales = (np.where(largest > 0, largest, 1.0) / _LARGEST).astype(np.float32)
    # a row of denormal numbers has no scale in float32; it is nearly zero
    scales = np.where(scales > 0, scales, np.float32(1))
    whole = np.clip(np.rint(values / scales[:, None]), -_LARGEST, _LARGEST).astype(np.int8)
    method = INT8 if rule.activations == "dynamic" else INT8_WEIGHT_ONLY
    shape = (values.shape[0], values.shape[1])
    return CompressedWeight(method, shape, 8, None, {"values": whole, "scales": scales})
