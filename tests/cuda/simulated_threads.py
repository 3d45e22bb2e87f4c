"""Simulated CUDA threads that take turns: one runs at a time, until it reaches a barrier or ends.

Barriers hand around values: what a thread brings, all that meet there receive; shuffles and votes are made of that.
Where no thread can go on, the launch fails at once and says who waits where.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel as stock

WARP = 32


class SimulationError(RuntimeError):
    """A simulated kernel failed; the message names the thread, or the barrier that not all reach."""


class _Aborted(BaseException):
    """Unwinds the remaining threads of a launch that failed."""


@dataclass
class Barrier:
    """Where a group of threads meets; each brings a value and takes away everyone's."""

    name: str
    parties: int
    arrived: dict[int, Any] = field(default_factory=dict)
    waiting: list[Thread] = field(default_factory=list)


@dataclass
class Block:
    """What the threads of one block share."""

    grid_point: tuple[int, ...]
    barrier: Barrier
    warps: list[Barrier]
    shared: dict[Any, np.ndarray] = field(default_factory=dict)


class Thread(stock.BlockThread):  # type: ignore[misc]
    """One CUDA thread; the stock simulator's kernel functions find it as the current thread."""

    def __init__(self, body: Callable[[], None], manager: Any, block: Block, thread_point: tuple[int, ...]) -> None:
        super().__init__(body, manager, block.grid_point, thread_point, False)
        self.body, self.block = body, block
        self.launch: Launch
        self.turn = threading.Semaphore(0)
        self.received: dict[int, Any] = {}
        self.failure: BaseException | None = None
        self.ended = False

    def run(self) -> None:
        self.turn.acquire()
        try:
            with np.errstate(all="ignore"):
                self.body()
        except _Aborted:
            pass
        except Exception as error:
            self.failure = error
        self.ended = True
        self.launch.turn_over.release()

    def meet(self, barrier: Barrier, key: int, value: Any) -> dict[int, Any]:
        """Return what each thread brought to the barrier, by key; ends this thread's turn until all are there."""
        barrier.arrived[key] = value
        barrier.waiting.append(self)
        self.launch.turn_over.release()
        self.turn.acquire()
        if self.launch.aborted:
            raise _Aborted
        return self.received

    def meet_block(self, value: Any) -> dict[int, Any]:
        """Return what each thread of the block brought."""
        return self.meet(self.block.barrier, self.thread_id, value)

    def meet_warp(self, value: Any) -> dict[int, Any]:
        """Return what each thread of the warp brought, by lane."""
        return self.meet(self.block.warps[self.thread_id // WARP], self.thread_id % WARP, value)

    def syncthreads(self) -> None:
        self.meet_block(None)

    def syncthreads_count(self, value: Any) -> int:
        return sum(bool(v) for v in self.meet_block(value).values())

    def syncthreads_and(self, value: Any) -> int:
        return int(all(self.meet_block(value).values()))

    def syncthreads_or(self, value: Any) -> int:
        return int(any(self.meet_block(value).values()))

    def __str__(self) -> str:
        return f"block {tuple(self.blockIdx)} thread {tuple(self.threadIdx)}"


class Launch:
    """Gives the threads of all blocks their turns."""

    def __init__(self, threads: list[Thread], order: str) -> None:
        self.threads = threads if order == "ascending" else threads[::-1]
        self.turn_over = threading.Semaphore(0)
        self.aborted = False
        self.grid = Barrier("grid", len(threads))

    def run(self) -> None:
        """Return when all threads have ended; raise SimulationError if one fails or if they wait for ever."""
        for thread in self.threads:
            thread.launch = self
            thread.start()
        ready = list(self.threads)
        try:
            while ready:
                self._give_turn(ready.pop(0))
                if not ready:
                    ready = self._released()
            self._check_all_ended()
        finally:
            self._abort()

    def _give_turn(self, thread: Thread) -> None:
        thread.turn.release()
        self.turn_over.acquire()
        if thread.failure is not None:
            error = thread.failure
            raise SimulationError(f"{thread}: {type(error).__name__}: {error}") from error

    def _released(self) -> list[Thread]:
        """Return the threads of every full barrier, in this launch's order, and empty those barriers."""
        released: set[int] = set()
        for barrier in self._barriers():
            if len(barrier.waiting) == barrier.parties:
                for thread in barrier.waiting:
                    thread.received = barrier.arrived
                    released.add(id(thread))
                barrier.arrived, barrier.waiting = {}, []
        return [thread for thread in self.threads if id(thread) in released]

    def _barriers(self) -> Iterator[Barrier]:
        yield self.grid
        for block in {id(thread.block): thread.block for thread in self.threads}.values():
            yield block.barrier
            yield from block.warps

    def _check_all_ended(self) -> None:
        stuck = [b for b in self._barriers() if b.waiting]
        if stuck:
            first = stuck[0]
            raise SimulationError(
                f"{len(first.waiting)} of {first.parties} threads wait at the {first.name} barrier "
                f"({first.waiting[0]} among them) and the others never come"
            )

    def _abort(self) -> None:
        self.aborted = True
        for thread in self.threads:
            if not thread.ended:
                thread.body = lambda: None  # for one that has not begun
                thread.turn.release()
            thread.join()
