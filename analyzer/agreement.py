"""How many answers of two models agree: equal arg-max, or for embeddings equal nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

ARG_MAX, NEIGHBOUR = "arg-max", "nearest neighbour"

_UNIT_TOLERANCE = 1e-3
_MOST_NEIGHBOURS = 8192
"""Of embeddings whose nearest neighbours are compared: their similarities are a matrix."""


def agreements(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> tuple[int, int, str]:
    """Return how many rows agree, of how many, and in what ("arg-max" or "nearest neighbour").

    found, wanted: one output of the two models for each input, floating [..., size], of equal shapes. Where all of
    `wanted` are unit vectors [rows, size], the rows of all inputs together are each other's neighbours. A row that has
    a NaN in one of the two does not agree. Outputs without a last axis of 2 or more have no rows.
    """
    if any(b.dim() < 1 or b.shape[-1] < 2 for b in wanted):
        return 0, 0, ARG_MAX
    if _are_embeddings(wanted):
        a, b = torch.cat(list(found))[:_MOST_NEIGHBOURS], torch.cat(list(wanted))[:_MOST_NEIGHBOURS]
        same = (_nearest(a) == _nearest(b)) & ~torch.isnan(a).any(-1)
        return int(same.sum()), len(b), NEIGHBOUR
    equal = rows = 0
    for a, b in zip(found, wanted, strict=True):
        if b.numel():
            # the arg-max of a row with a NaN is the NaN's place, and says nothing
            same = (a.argmax(-1) == b.argmax(-1)) & (torch.isnan(a).any(-1) == torch.isnan(b).any(-1))
            equal += int(same.sum())
            rows += b.numel() // b.shape[-1]
    return equal, rows, ARG_MAX


def _are_embeddings(wanted: Sequence[torch.Tensor]) -> bool:
    """Return whether outputs are unit vectors: their arg-max says little, their neighbours much."""
    if any(b.dim() != 2 or b.shape[1] != wanted[0].shape[1] for b in wanted) or sum(len(b) for b in wanted) < 3:
        return False
    return all(bool((b.double().norm(dim=1) - 1).abs().max() < _UNIT_TOLERANCE) for b in wanted if len(b))


def _nearest(rows: torch.Tensor) -> torch.Tensor:
    similarity = rows @ rows.T
    similarity.fill_diagonal_(-math.inf)
    return similarity.argmax(1)
