"""Which memory a tensor stands on: the trace hands its storage ids out again, addresses and times tell them apart."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from analyzer.capture.executiontrace import TensorUse
from analyzer.capture.recording import AllocatorEvent, OpEvent

START, END, MEMORY = range(3)


@dataclass(slots=True)
class Storage:
    """One block of memory from its allocation to its release; times in nanoseconds.

    before:   it existed before the step.
    owner:    the op it was allocated in; -1 outside an op.
    category: what the workload knows it as; "" when it knows nothing.
    """

    index: int
    address: int
    bytes: int
    device: str
    before: bool
    born: int
    owner: int = -1
    released: int | None = None
    category: str = ""


def events_in_order(ops: Sequence[OpEvent], allocations: Iterable[AllocatorEvent]) -> Iterator[tuple[int, int, int]]:
    """Yield (time, kind, index) for each op's start and end and each allocator event, in the order they happened.

    An op ends after all that it called, also where the clock shows one tick for both.
    """
    threads: dict[int, list[tuple[int, int, int]]] = {}
    for index, op in enumerate(ops):
        threads.setdefault(op.thread, []).append((op.start, START, index))
    for index, event in enumerate(allocations):
        threads.setdefault(event.thread, []).append((event.time, MEMORY, index))
    return heapq.merge(*(_with_ends(sorted(events), ops) for events in threads.values()), key=lambda event: event[0])


def _with_ends(events: list[tuple[int, int, int]], ops: Sequence[OpEvent]) -> Iterator[tuple[int, int, int]]:
    open_ops: list[int] = []
    for time, kind, index in events:
        parent = ops[index].parent if kind == START else None
        while open_ops and (open_ops[-1] != parent if kind == START else ops[open_ops[-1]].end < time):
            done = open_ops.pop()
            yield ops[done].end, END, done
        yield time, kind, index
        if kind == START:
            open_ops.append(index)
    while open_ops:
        done = open_ops.pop()
        yield ops[done].end, END, done


class StorageTable:
    """Every block of memory seen in the recording, found by address or by the trace's id of the moment."""

    def __init__(self) -> None:
        self.storages: list[Storage] = []
        self._live: dict[int, Storage] = {}
        self._by_trace_id: dict[int, tuple[Storage, int]] = {}
        self._unclaimed: dict[int, list[Storage]] = {}

    def known(self, address: int, size: int, device: str, category: str, time: int) -> None:
        """Note what the workload says a live block is; a block never seen before existed before the step."""
        storage = self._live.get(address) if address else None
        if storage is None:
            if not address:
                return
            storage = self._add(address, size, device, True, time)
        storage.category = storage.category or category

    def allocate(self, event: AllocatorEvent, owner: int, before: bool) -> None:
        """Enter a new block, allocated in op `owner`."""
        storage = self._add(event.address, event.bytes, event.device, before, event.time)
        storage.owner = owner
        if owner >= 0:
            self._unclaimed.setdefault(owner, []).append(storage)

    def release(self, event: AllocatorEvent) -> None:
        """Note the release of a block; one that was never seen existed before the step."""
        storage = self._live.pop(event.address, None)
        if storage is None:
            storage = self._add(event.address, -event.bytes, event.device, True, event.time)
            del self._live[event.address]
        storage.released = event.time

    def read(self, use: TensorUse, address: int, now: int, time: int) -> Storage:
        """Return the block behind a tensor that an op is about to read."""
        storage = self._live.get(address) if address else self._remembered(use.storage)
        if storage is None:
            storage = self._add(address, 0, use.device, True, time)
        if storage.before and not storage.category:
            storage.bytes = max(storage.bytes, use.span[1])
        self._by_trace_id[use.storage] = (storage, now)
        return storage

    def written(self, use: TensorUse, op: int, begun: int, now: int, time: int) -> Storage:
        """Return the block behind a result of `op` that is none of its inputs'.

        It is the one that a callee handed up since the op began, else one allocated in the op itself.
        """
        remembered = self._by_trace_id.get(use.storage)
        if remembered is not None and remembered[1] >= begun and remembered[0].released is None:
            storage: Storage | None = remembered[0]
        else:
            storage = self._claim(op, use.span[1]) or self._remembered(use.storage)
        if storage is None:
            storage = self._add(0, use.span[1], use.device, False, time)
        self._by_trace_id[use.storage] = (storage, now)
        return storage

    def _claim(self, op: int, size: int) -> Storage | None:
        blocks = [block for block in self._unclaimed.get(op, ()) if block.released is None and block.bytes >= size > 0]
        if not blocks:
            return None
        best = min(blocks, key=lambda block: (block.bytes - size, block.index))
        self._unclaimed[op].remove(best)
        return best

    def _remembered(self, trace_id: int) -> Storage | None:
        storage, _ = self._by_trace_id.get(trace_id, (None, 0))
        return storage if storage is not None and storage.released is None else None

    def _add(self, address: int, size: int, device: str, before: bool, time: int) -> Storage:
        storage = Storage(len(self.storages), address, size, device, before, time)
        self.storages.append(storage)
        if address:
            self._live[address] = storage
        return storage
