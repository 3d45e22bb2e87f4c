"""Every optimizer, in plain sight."""

from __future__ import annotations

from analyzer.errors import HotbenchError
from optimizers.fusion.optimizer import Fusion
from optimizers.placement.optimizer import PlacementOptimizer
from optimizers.plan import Optimizer
from optimizers.quantization.optimizer import QuantizationOptimizer
from optimizers.swap.optimizer import SwapOptimizer

OPTIMIZERS: tuple[Optimizer, ...] = (Fusion(), QuantizationOptimizer(), SwapOptimizer(), PlacementOptimizer())

ORDER: tuple[str, ...] = ("quantization", "fusion", "swap", "placement")
"""In which order several apply to one workload: each needs what the ones before it leave."""


def optimizer_named(name: str) -> Optimizer:
    """Return the optimizer called `name`. Raises HotbenchError, naming those that exist."""
    for optimizer in OPTIMIZERS:
        if optimizer.name == name:
            return optimizer
    known = ", ".join(optimizer.name for optimizer in OPTIMIZERS)
    raise HotbenchError(f"no optimizer {name!r}; known: {known}")
