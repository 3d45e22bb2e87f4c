"""Which launches on a CUDA device depend on each other, by what each touches; the order that leaves most at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.compiler.footprint import may_share
from kernels.compiler.ir import ITEM_BYTES, Access, Region
from optimizers.fusion.coschedule import Span, Task, conflicts


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one launch touches. region: how it touches the memory at its addresses, None where that is not known."""

    addresses: tuple[int, ...]
    spans: tuple[Span, ...]
    region: Region | None


def waves(pairs: NDArray[np.bool_]) -> list[list[int]]:
    """Return launches by wave: each in the first one behind all earlier ones that it depends on.

    pairs: [launches, launches], whether two of them depend on each other.
    """
    found: list[list[int]] = []
    level = np.zeros(len(pairs), np.int64)
    for number in range(len(pairs)):
        needed = np.flatnonzero(pairs[number, :number])
        level[number] = level[needed].max() + 1 if needed.size else 0
        if level[number] == len(found):
            found.append([])
        found[level[number]].append(number)
    return found


def dependent(launches: Sequence[Footprint]) -> NDArray[np.bool_]:
    """Return [launches, launches]: whether two touch the same bytes and one of them writes.

    Ranges of bytes that meet may still be apart element by element: rows of a matrix that is written in parts.
    """
    found = conflicts([Task(launch.spans, 0.0) for launch in launches])
    for later, earlier in np.argwhere(np.tril(found, -1)).tolist():
        found[later, earlier] = found[earlier, later] = _touch(launches[later], launches[earlier])
    return found


def _touch(one: Footprint, other: Footprint) -> bool:
    if one.region is None or other.region is None:
        return True
    return any(
        (first.writes or second.writes) and _meet(first, second)
        for first in _touched(one, one.region)
        for second in _touched(other, other.region)
    )


@dataclass(frozen=True, slots=True)
class _Touched:
    """What one access of a launch touches. begin: the address of its buffer; item: the bytes of an element."""

    begin: int
    item: int
    access: Access
    domain: tuple[int, ...]
    writes: bool


def _meet(one: _Touched, other: _Touched) -> bool:
    distance, rest = divmod(other.begin - one.begin, one.item)
    if rest or one.item != other.item:
        return True
    return may_share(one.access, one.domain, other.access, other.domain, distance)


def _touched(launch: Footprint, region: Region) -> list[_Touched]:
    loads = {value.access for value in region.values if value.access is not None}
    stores = {store.access for store in region.stores}
    return [
        _Touched(launch.addresses[access.buffer], _item_bytes(region, access), access, region.domain, writes)
        for accesses, writes in ((loads, False), (stores, True))
        for access in accesses
    ]


def _item_bytes(region: Region, access: Access) -> int:
    return ITEM_BYTES[region.buffers[access.buffer].dtype]


def overlap(one: Sequence[Span], other: Sequence[Span]) -> bool:
    """Return whether some bytes of one are some of the other, and one of them is written."""
    return any(a < d and c < b and (x or y) for a, b, x in one for c, d, y in other)


def span_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor's elements and the end of the last."""
    begin = tensor.data_ptr()
    if not tensor.numel():
        return begin, begin
    reach = 1 + sum((extent - 1) * step for extent, step in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + reach * tensor.element_size()


def storage_span(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first byte of the storage that a tensor lies in, and its end."""
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
