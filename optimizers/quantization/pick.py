"""Which kind of product computes with compressed weights: picked by timing them on inputs of a real step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from optimizers.fusion.timing import compare
from optimizers.plan import Refusal
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.modules.prepare import DENSE, kinds
from optimizers.quantization.modules.replace import replaced

LEAST_GAIN = 1.1
"""A kind that takes more memory must be so many times as quick."""
SECONDS = 0.03
"""Spent on timing one kind."""


def picked(
    module: torch.nn.Module,
    weights: Mapping[str, CompressedWeight],
    activations: str,
    call: Callable[[torch.nn.Module], Any] | None,
    goal: str,
) -> torch.nn.Module:
    """Return the layer that takes `module`'s place, weights by the layer's own names, its products by measurement.

    call: runs a layer on a real step's inputs; None where no step reaches it. goal: "size" keeps the smallest kind;
    "both" takes a larger one that is 1.1 times as quick; "speed" even float32 weights in memory.
    Raises CompressionError where no layer can be made.
    """
    best: torch.nn.Module | None = None
    reason = ""
    for variant in _variants(weights, activations, goal if call is not None else "size"):
        made = replaced(module, weights, activations, variant)
        if isinstance(made, Refusal):
            reason = made.reason
        elif best is None or call is None:
            best = best or made
        elif _is_quicker(call, best, made):
            best = made
    if best is None:
        raise CompressionError(reason)
    return best


def _variants(weights: Mapping[str, CompressedWeight], activations: str, goal: str) -> Iterator[dict[str, str]]:
    """Yield a kind for each weight: the smallest ones, then every other kind for all weights that it can hold."""
    able = {name: kinds(weight, activations) for name, weight in weights.items()}
    first = {name: found[0] for name, found in able.items()}
    yield first
    if goal == "size":
        return
    for kind in dict.fromkeys(kind for found in able.values() for kind in found):
        variant = {name: kind if kind in found else first[name] for name, found in able.items()}
        if variant != first and (goal == "speed" or kind != DENSE):
            yield variant


def _is_quicker(call: Callable[[torch.nn.Module], Any], best: torch.nn.Module, made: torch.nn.Module) -> bool:
    timed = compare(lambda: call(best), lambda: call(made), SECONDS, clear=LEAST_GAIN - 1.0)
    return timed.ratio > LEAST_GAIN and timed.low > 1.0
