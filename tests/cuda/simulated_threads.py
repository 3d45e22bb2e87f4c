"""Simulated CUDA threads that take turns: one runs at a time, until it reaches a barrier or ends.

In ascending order all threads go from barrier to barrier together, the first one first. In descending order the last
one is first, and a warp or a block goes on as soon as it can, as far as it can: it reads what slower ones have not
written yet, and overwrites what they have not read.

Barriers hand around values: what a thread brings, all that meet there receive; shuffles and votes are made of that.
Where no thread can go on, the launch fails at once and says who waits where.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel as stock

WARP = 32


def _closed() -> threading.Lock:
    """Return a lock that whoever acquires it waits for: each turn releases it once, to one thread."""
    lock = threading.Lock()
    lock.acquire()
    return lock


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

    def own_barriers(self, thread_id: int) -> tuple[Barrier, Barrier]:
        """Return the barriers of a thread's warp and of the block."""
        return self.warps[thread_id // WARP], self.barrier


class Thread(stock.BlockThread):  # type: ignore[misc]
    """One CUDA thread; the stock simulator's kernel functions find it as the current thread."""

    def __init__(self, body: Callable[[], None], manager: Any, block: Block, thread_point: tuple[int, ...]) -> None:
        super().__init__(body, manager, block.grid_point, thread_point, False)
        self.body, self.block = body, block
        self.launch: Launch
        self.turn = _closed()
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
        self.launch.end_turn(self)

    def meet(self, barrier: Barrier, key: int, value: Any) -> dict[int, Any]:
        """Return what each thread brought to the barrier, by key; ends this thread's turn until all are there."""
        barrier.arrived[key] = value
        barrier.waiting.append(self)
        self.launch.end_turn(self)
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
        self.places = {id(thread): place for place, thread in enumerate(self.threads)}
        self.hurried = order == "descending"
        self.ready: list[Thread] = []  # whose turn is next stands last
        self.over = _closed()
        self.failed: Thread | None = None
        self.aborted = False
        self.grid = Barrier("grid", len(threads))

    def run(self) -> None:
        """Return when all threads have ended; raise SimulationError if one fails or if they wait for ever."""
        for thread in self.threads:
            thread.launch = self
            thread.start()
        self.ready = self.threads[::-1]
        try:
            self._next_turn()
            self.over.acquire()
            if self.failed is not None:
                error = self.failed.failure
                raise SimulationError(f"{self.failed}: {type(error).__name__}: {error}") from error
            self._check_all_ended()
        finally:
            self._abort()

    def end_turn(self, thread: Thread) -> None:
        """Give the next thread its turn; called by the one whose turn ends, which saves a switch to a third."""
        if self.aborted:
            return
        if thread.failure is not None:
            self.failed = thread
            self.over.release()
            return
        if self.hurried and not thread.ended:
            self.ready += self._released(thread.block.own_barriers(thread.thread_id))
        if not self.ready:
            self.ready = self._released(self._barriers())
        self._next_turn()

    def _next_turn(self) -> None:
        if self.ready:
            self.ready.pop().turn.release()
        else:
            self.over.release()

    def _released(self, barriers: Iterable[Barrier]) -> list[Thread]:
        """Return the threads of those barriers that are full, the next one last, and empty these barriers."""
        released: list[Thread] = []
        for barrier in barriers:
            if len(barrier.waiting) == barrier.parties:
                for thread in barrier.waiting:
                    thread.received = barrier.arrived
                released += barrier.waiting
                barrier.arrived, barrier.waiting = {}, []
        return sorted(released, key=lambda thread: -self.places[id(thread)])

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
