"""The mean of several workers' numbers: rounded as torch rounds, in the order of the ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.transfer.mean import scaled_sum
from optimizers.placement.transport.memory import tensor_at

_COMPILED = {torch.float32: "float32", torch.float64: "float64"}


def mean_of(dtype: torch.dtype, sources: Sequence[int], destinations: Sequence[int], count: int) -> None:
    """Return nothing; write the mean of the sources to every destination: addresses of `count` elements each.

    Each source is multiplied by 1/n first, as DistributedDataParallel does, so that no sum overflows where no mean
    does; then they are added in their order. With two sources the result is that of any order, bit for bit. For n
    sources of magnitude g, two orders differ by at most 2 (n - 1) eps * mean |g| (eps: half a unit in the last place).
    """
    if dtype in _COMPILED:
        scaled_sum(_COMPILED[dtype], sources, destinations, count, 1 / len(sources))
        return
    parts = [tensor_at(source, count * dtype.itemsize, None).view(dtype) for source in sources]
    total = parts[0] * (1 / len(sources))
    for part in parts[1:]:
        total += part * (1 / len(sources))
    for place in destinations:
        tensor_at(place, count * dtype.itemsize, None).view(dtype).copy_(total)
