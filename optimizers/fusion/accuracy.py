"""Whether two results are the same: values within a tolerance, NaN and infinities at the same places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""max|a-b| / max|b| that is accepted by default, by dtype; integers and booleans must be equal."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far results are from a reference.

    max_rel: max|a-b| / max|b| over all outputs. share: the largest part of its tolerance that an output uses;
    above 1 it does not agree. reason: in words, "" where they agree.
    """

    max_rel: float
    share: float
    reason: str


def difference(results: Sequence[Any], references: Sequence[Any], max_error: float | None = None) -> Difference:
    """Return how far flat outputs are from the reference's. max_error replaces the tolerance of floating dtypes."""
    max_rel, share, reason = 0.0, 0.0, ""
    for position, (result, reference) in enumerate(zip(results, references, strict=True)):
        error, allowed, why = _one(result, reference, max_error)
        max_rel = max(max_rel, error)
        share = max(share, error / allowed if allowed else (0.0 if error == 0 else float("inf")))
        if (why or error > allowed) and not reason:
            reason = why or f"output {position} differs by {error:.1e} of its largest value (allowed {allowed:.0e})"
    return Difference(max_rel, share, reason)


def _one(result: Any, reference: Any, max_error: float | None) -> tuple[float, float, str]:
    if not isinstance(reference, torch.Tensor):
        return 0.0, 0.0, "" if result == reference else f"{result!r} where {reference!r} was expected"
    if result.shape != reference.shape or result.dtype != reference.dtype:
        return (
            0.0,
            0.0,
            f"{result.dtype} {tuple(result.shape)} where {reference.dtype} {tuple(reference.shape)} was expected",
        )
    if not (reference.is_floating_point() or reference.is_complex()):
        return 0.0, 0.0, "" if torch.equal(result, reference) else f"{reference.dtype} values differ"
    allowed = max_error if max_error is not None else TOLERANCES.get(reference.dtype, 1e-5)
    if reference.is_complex():
        result, reference = torch.view_as_real(result.resolve_conj()), torch.view_as_real(reference.resolve_conj())
    a, b = result.double(), reference.double()
    finite = torch.isfinite(b)
    if not torch.equal(torch.nan_to_num(a, 7.0, 8.0, 9.0)[~finite], torch.nan_to_num(b, 7.0, 8.0, 9.0)[~finite]):
        return 0.0, allowed, "NaN or infinities stand at other places"
    a, b = a[finite], b[finite]
    if not bool(torch.isfinite(a).all()):
        return 0.0, allowed, "NaN or infinities stand at other places"
    if b.numel() == 0:
        return 0.0, allowed, ""
    largest = float(b.abs().max())
    error = float((a - b).abs().max())
    return (error / largest if largest else error), allowed, ""
