"""How much each weight of a layer counts, by what goes into it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optimizers.quantization.methods.weight import WeightInputs
from optimizers.quantization.rules import Rule


def importance(weight: WeightInputs, rule: Rule) -> NDArray[np.float64] | None:
    """Return how much each column counts, [1, columns], or of an embedding each row, [rows, 1]; None: all alike."""
    if rule.fit == "plain" or weight.statistics is None:
        return None
    if weight.kind == "embedding":
        # rows that calibration never looked up may be looked up later
        return weight.statistics.diagonal[:, None] + 1.0
    return weight.statistics.diagonal[None]


def misfit(weight: WeightInputs, rule: Rule) -> str:
    """Return why the rule's fit does not go with the layer, or nothing."""
    if rule.fit == "plain":
        return ""
    if weight.statistics is None:
        return f"fit={rule.fit!r} needs its inputs, and no calibration input reaches it; calibrate, or use fit='plain'"
    if rule.fit == "gptq" and weight.statistics.hessian is None:
        return "it is looked up, not multiplied: fit='gptq' has nothing to fit; use 'plain' or 'diagonal'"
    if not np.isfinite(weight.statistics.diagonal).all():
        return "its calibration inputs hold NaN or infinity; give finite ones"
    return ""
