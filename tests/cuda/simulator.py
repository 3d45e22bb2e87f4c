"""Extends numba-cuda's simulator so that kernels with barriers, warps and several blocks are simulated faithfully.

`install()` replaces how a launch runs. All blocks exist at once; their threads take turns, one at a time, and a turn
ends only at a barrier or at the thread's end. A kernel that lacks a barrier therefore fails every time, not one time
in five: in ascending order the first thread reads what a later one has not written, in descending order the last, and
warps and blocks run ahead of each other as far as barriers let them.
Shared and local memory start out as NaN (0xFF bytes), anew for each block.

A thread that waits for another in a loop of its own would never end its turn: barriers are the only way to wait.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba.cuda import types
from numba.cuda.np import numpy_support
from numba.cuda.simulator import kernel as stock
from numba.cuda.simulator import kernelapi

from tests.cuda.simulated_threads import WARP, Barrier, Block, Launch, SimulationError, Thread

ORDERS = ("ascending", "descending")

_order = ORDERS[0]
_waiting_blocks: list[tuple[Any, tuple[int, ...], tuple[Any, ...]]] = []


@contextlib.contextmanager
def scheduled(order: str) -> Iterator[None]:
    """Let threads take their turns in ascending or descending order within the context."""
    global _order
    before, _order = _order, order
    try:
        yield
    finally:
        _order = before


def install() -> None:
    """Return nothing; replace the stock simulator's launch, barriers and memory. Calling it again changes nothing."""
    stock.BlockManager.run = _collect_block
    kernelapi.FakeCUDAShared.array = _shared_array
    kernelapi.FakeCUDALocal.array = _local_array
    kernelapi.GridGroup.sync = _grid_barrier
    module = kernelapi.FakeCUDAModule
    module.shfl_sync = lambda self, mask, value, lane: _shuffle(mask, value, lambda own: int(lane))
    module.shfl_xor_sync = lambda self, mask, value, bits: _shuffle(mask, value, lambda own: own ^ int(bits))
    module.shfl_up_sync = lambda self, mask, value, delta: _shuffle(mask, value, lambda own: own - int(delta))
    module.shfl_down_sync = lambda self, mask, value, delta: _shuffle(mask, value, lambda own: own + int(delta))
    module.syncwarp = lambda self, mask=0xFFFFFFFF: _vote(mask, None) and None
    module.ballot_sync = lambda self, mask, flag: sum(1 << lane for lane, f in _vote(mask, flag).items() if f)
    module.any_sync = lambda self, mask, flag: any(_vote(mask, flag).values())
    module.all_sync = lambda self, mask, flag: all(_vote(mask, flag).values())
    # What each lane of the warp brings, by lane: of this simulator alone, for functions that tensor cores compute.
    module.warp_values = lambda self, value: _vote(0xFFFFFFFF, value)


def _collect_block(manager: Any, grid_point: tuple[int, ...], *arguments: Any) -> None:
    """Return at once, but for the last block of the grid: that one runs them all."""
    _waiting_blocks.append((manager, grid_point, arguments))
    if len(_waiting_blocks) < int(np.prod(manager._grid_dim)):
        return
    blocks = list(_waiting_blocks)
    _waiting_blocks.clear()
    threads = [thread for block in blocks for thread in _threads_of(*block)]
    Launch(threads, _order).run()


def _threads_of(manager: Any, grid_point: tuple[int, ...], arguments: tuple[Any, ...]) -> list[Thread]:
    size = int(np.prod(manager._block_dim))
    warps = [Barrier(f"warp {first // WARP}", min(WARP, size - first)) for first in range(0, size, WARP)]
    block = Block(grid_point, Barrier("block", size), warps)

    def body() -> None:
        manager._f(*arguments)

    # x runs fastest, as the hardware numbers threads
    points = sorted(np.ndindex(*manager._block_dim), key=lambda point: point[::-1])
    return [Thread(body, manager, block, point) for point in points]


def _current() -> Thread:
    thread = threading.current_thread()
    assert isinstance(thread, Thread)
    return thread


def _vote(mask: int, value: Any) -> dict[int, Any]:
    thread = _current()
    expected = (1 << thread.block.warps[thread.thread_id // WARP].parties) - 1
    if int(mask) & expected != expected:
        raise SimulationError(f"mask {int(mask):#x} leaves out lanes of the warp; only whole warps are simulated")
    return thread.meet_warp(value)


def _shuffle(mask: int, value: Any, source: Callable[[int], int]) -> Any:
    lane = _current().thread_id % WARP
    # A lane outside of the warp gives the thread its own value back.
    return _vote(mask, value).get(source(lane), value)


def _grid_barrier(self: Any) -> None:
    thread = _current()
    thread.meet(thread.launch.grid, id(thread), None)


def _poisoned(shape: Any, dtype: Any) -> np.ndarray:
    dtype = numpy_support.as_dtype(dtype) if isinstance(dtype, types.Type) else np.dtype(dtype)
    poison = np.full(int(np.prod(shape)) * dtype.itemsize, 0xFF, np.uint8)
    return poison.view(dtype).reshape(shape)


def _local_array(self: Any, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
    return _poisoned(shape, dtype)


def _shared_array(self: Any, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
    """Return the block's array of this line of the kernel; shape 0 is the dynamic shared memory, whole."""
    shared = _current().block.shared
    if np.prod(shape) == 0:
        if "dynamic" not in shared:
            shared["dynamic"] = _poisoned(self._dynshared_size, np.uint8)
        item_bytes = _poisoned(1, dtype).itemsize
        whole = shared["dynamic"].size // item_bytes * item_bytes
        return shared["dynamic"][:whole].view(_poisoned(1, dtype).dtype)
    caller = sys._getframe(1)
    site = (caller.f_code.co_filename, caller.f_lineno, caller.f_lasti)
    if site not in shared:
        shared[site] = _poisoned(shape, dtype)
    return shared[site]
