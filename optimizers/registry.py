"""The optimizers there are, in plain sight, and the order in which several apply."""

from __future__ import annotations

from analyzer.errors import HotbenchError
from optimizers.fusion.optimizer import Fusion
from optimizers.plan import Optimizer

OPTIMIZERS: tuple[Optimizer, ...] = (Fusion(),)
ORDER = ("quantization", "fusion", "swap", "placement")
"""Several optimizers in one request apply in this order: each one's names stand here."""


def optimizer_named(name: str) -> Optimizer:
    """Return the optimizer called `name`. Raises HotbenchError that lists what there is."""
    for optimizer in OPTIMIZERS:
        if optimizer.name == name:
            return optimizer
    known = ", ".join(optimizer.name for optimizer in OPTIMIZERS)
    raise HotbenchError(f"no optimizer {name!r}; there is: {known}")
