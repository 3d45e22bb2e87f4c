"""How quickly a folder takes and gives back what is swapped: measured the way the engine copies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from optimizers.swap.entries import Copying
from optimizers.swap.errors import SwapError
from optimizers.swap.moves import Tier
from optimizers.swap.swap_file import BLOCK_BYTES, Staging, SwapFile
from optimizers.swap.tier import FileTier

DISK = "disk"
LARGE_BYTES = 8 << 20
ROUNDS = 3
SMALL_COPIES = 8
SMALL_BYTES = 32 << 10
ISSUES = 16
SMALL_OP, OPS = 4096, 200
"""Numbers of an op, and how many of them last longer than a small copy."""


def calibrate_folder(folder: Path) -> Tier:
    """Return the folder as a tier, with its measured bandwidths and the time that the smallest copy takes.

    Raises SwapError where the folder cannot hold a few MiB, or be written and read.
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
    except OSError as error:
        reason = error.strerror or str(error)
        raise SwapError(f"{folder} cannot be written or read ({reason}); free space there, or name another") from error
    finally:
        file.close()
    return Tier(DISK, LARGE_BYTES / out, LARGE_BYTES / back, min(least), issue_seconds=_issue_seconds(folder))


def _issue_seconds(folder: Path) -> float:
    """Return what a copy takes of the compute's time: memory, a job, a lane to wake, and what that lane's Python takes.

    Measured as how much longer small ops last beside a copy: their thread and the lanes share the interpreter.
    """
    tier, found = FileTier(folder, SMALL_BYTES), list[float]()
    source = torch.ones(SMALL_OP)
    storage = torch.empty(SMALL_BYTES, dtype=torch.uint8).untyped_storage()

    def compute() -> None:
        for _ in range(OPS):
            torch.add(source, source)

    def beside(start: Callable[[], Copying]) -> float:
        begin = time.perf_counter()
        copying = start()
        compute()
        taken = time.perf_counter() - begin
        copying.ticket.wait()
        return taken

    try:
        for _ in range(ISSUES):
            begin = time.perf_counter()
            compute()
            alone = time.perf_counter() - begin
            found.append(beside(lambda: tier.copy_out(storage, 0)) - alone)
            found.append(beside(lambda: tier.copy_in(SMALL_BYTES, 0)) - alone)
    finally:
        tier.close()
    return max(statistics.median(found), 0.0)


def _median(call: Callable[[], None], rounds: int) -> float:
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return max(statistics.median(found), 1e-9)
