"""How many tensors stand on a storage."""

from __future__ import annotations

import functools

import torch


@functools.cache
def references_of_wrapper() -> int:
    """Return how many references a storage keeps to itself once Python has seen it: by torch's version 0 or 1."""
    tensor = torch.empty(1)
    count: int = torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)
    return count - 1


def references(identity: int) -> int:
    """Return how many tensors stand on the storage of that identity now, those of autograd included."""
    count: int = torch._C._storage_Use_Count(identity)
    return max(count - references_of_wrapper(), 0)
