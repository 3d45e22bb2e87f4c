"""How quickly a folder takes and gives back what is swapped: measured the way the engine copies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from optimizers.swap.moves import Tier
from optimizers.swap.swap_file import BLOCK_BYTES, Staging, SwapFile

DISK = "disk"
LARGE_BYTES = 8 << 20
ROUNDS = 3
SMALL_COPIES = 8


def calibrate_folder(folder: Path) -> Tier:
    """Return the folder as a tier, with its measured bandwidths and the time that the smallest copy takes.

    Raises SwapError where the folder cannot hold a few MiB.
    """
    memory = torch.ones(LARGE_BYTES, dtype=torch.uint8)
    staging, address = Staging(), memory.data_ptr()
    file = SwapFile(folder, LARGE_BYTES)
    try:
        file.write(address, LARGE_BYTES, 0, staging)
        out = _median(lambda: file.write(address, LARGE_BYTES, 0, staging), ROUNDS)
        back = _median(lambda: file.read(address, LARGE_BYTES, 0, staging), ROUNDS)
        least = [_median(lambda: file.write(address, BLOCK_BYTES, 0, staging), SMALL_COPIES),
                 _median(lambda: file.read(address, BLOCK_BYTES, 0, staging), SMALL_COPIES)]  # fmt: skip
    finally:
        file.close()
    return Tier(DISK, LARGE_BYTES / out, LARGE_BYTES / back, min(least))


def _median(call: Callable[[], None], rounds: int) -> float:
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return max(statistics.median(found), 1e-9)
