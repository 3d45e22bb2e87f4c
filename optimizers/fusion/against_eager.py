"""A fused module's outputs against eager's, and both against float64."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from optimizers.fusion.accuracy import Difference, difference
from optimizers.fusion.module import FusedModule

_DEEP_ERROR, _AS_NEAR = 1e-3, 1.25
"""Outputs that differ by less than the one are accepted if they are as near to float64 as eager's, times the other.

A model that rounds activations to bytes is far from float64 itself, and a last bit that differs before the rounding is
a whole step behind it: its outputs may differ from eager's by as much as both do from float64 together.
"""
_AS_NEAR_ROUNDED = 2.0
"""The factor for those: the largest of some hundred errors of rounding moves by chance."""


def verify(
    model: torch.nn.Module,
    module: FusedModule,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    max_error: float | None,
) -> Difference:
    """Return how far the fused outputs are from eager's, both with the same random numbers."""
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        reference = pytree.tree_leaves(model(*args, **kwargs))
        torch.set_rng_state(state)
        result = pytree.tree_leaves(module(*args, **kwargs))
    found = difference(result, reference, max_error)
    if not found.reason or max_error is not None:
        return found
    # Hundreds of layers in float32 differ by more from themselves in another order: float64 is the judge.
    exact = errors_against_float64(model, module, args, kwargs)
    if exact is None or exact[0] > (_AS_NEAR if exact[1] < _DEEP_ERROR else _AS_NEAR_ROUNDED) * exact[1]:
        return found
    near = difference(result, reference, max(_DEEP_ERROR, sum(exact)))
    return found if near.reason else Difference(found.max_rel, found.share, "")


def errors_against_float64(
    model: torch.nn.Module, module: FusedModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Return the errors of fused and eager outputs against the model in float64."""
    try:
        exact = copy.deepcopy(model).double()
        wide = pytree.tree_map_only(
            torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, (args, dict(kwargs))
        )
        with torch.random.fork_rng(devices=[]):
            state = torch.get_rng_state()
            flats = []
            for call, (call_args, call_kwargs) in ((exact, wide), (module, (args, kwargs)), (model, (args, kwargs))):
                torch.set_rng_state(state)
                flats.append(
                    [
                        leaf
                        for leaf in pytree.tree_leaves(call(*call_args, **call_kwargs))
                        if isinstance(leaf, torch.Tensor)
                    ]
                )
    except Exception:
        # A model that can't be copied or hard-codes float32: the figure is left out, the check against eager stands.
        return None
    reference, *others = ([t for t in flat if t.is_floating_point()] for flat in flats)
    fused, eager = (difference([t.double() for t in flat], reference, max_error=1.0).max_rel for flat in others)
    return fused, eager
