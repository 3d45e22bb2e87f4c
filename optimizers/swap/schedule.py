"""When each chosen swap leaves and returns: as early back as memory allows, no wait that room in memory could save."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from optimizers.swap.move_table import AFTER, BEFORE, BUFFER, FREED_BY, PREFETCH, TIER, MoveTable, copy_nanoseconds
from optimizers.swap.moves import Tier
from optimizers.swap.timeline import Int64, Timeline


def assign_tiers(
    timeline: Timeline, moves: MoveTable, tiers: Sequence[Tier], balanced: bool = False
) -> MoveTable | None:
    """Return the moves with a tier for each swap; None where the tiers cannot hold them.

    A tier is filled before the next one is used; balanced: the one whose lanes have the least to do is taken.
    """
    if not tiers or (len(tiers) == 1 and tiers[0].capacity_bytes is None):
        return moves
    rooms = [TierRoom(timeline, tier.capacity_bytes) for tier in tiers]
    load = [0] * len(tiers)
    rows = moves.rows[np.lexsort((moves.rows[:, BUFFER], moves.rows[:, AFTER]))]
    swaps = np.flatnonzero(rows[:, TIER] >= 0)
    for place, (buffer, after, *_, before, _) in zip(swaps.tolist(), rows[swaps].tolist(), strict=True):
        fitting = [index for index, room in enumerate(rooms) if room.fits(buffer, after, before)]
        if not fitting:
            return None
        tier = fitting[0]
        if balanced:
            size = timeline.sizes[buffer]
            cost = {index: tiers[index].out_nanoseconds(size) + tiers[index].in_nanoseconds(size) for index in fitting}
            tier = min(fitting, key=lambda index: load[index] + cost[index])
            load[tier] += cost[tier]
        rooms[tier].take(buffer, after, before)
        rows[place, TIER] = tier
    return MoveTable(rows, moves.tiers)


class TierRoom:
    """The bytes that a tier can still hold at each event. A buffer takes its place from its last use to its next."""

    def __init__(self, timeline: Timeline, capacity_bytes: int | None) -> None:
        self.sizes = timeline.sizes
        self.left = None if capacity_bytes is None else np.full(len(timeline.events), capacity_bytes, dtype=np.int64)

    def fits(self, buffer: int, after: int, before: int) -> bool:
        """Return whether the buffer has a place during its whole gap."""
        size = self.sizes[buffer]
        return self.left is None or all(bool((part >= size).all()) for part in self._parts(after, before))

    def take(self, buffer: int, after: int, before: int) -> None:
        """Give the buffer its place."""
        for part in self._parts(after, before):
            part -= self.sizes[buffer]

    def _parts(self, after: int, before: int) -> tuple[Int64, ...]:
        if self.left is None:
            return ()
        if before == after:
            return (self.left,)
        if before < after:
            return (self.left[: before + 1], self.left[after:])
        return (self.left[after : before + 1],)


def loosen(timeline: Timeline, moves: MoveTable, tiers: Sequence[Tier], room: Int64) -> MoveTable:
    """Return the moves with as much time for their copies as memory leaves room for.

    room: bytes that each event has left with these moves; taken here.
    First the copies out, in the order in which they leave; then the copies in, from the last to the first, so that
    a lane that is busy with a later buffer asks for the earlier one in good time.
    """
    remade = moves.remade
    rows, kept = moves.rows[~remade], moves.rows[remade]
    if not len(rows):
        return MoveTable(kept, moves.tiers)
    rows = rows[np.lexsort((rows[:, BUFFER], rows[:, BEFORE], rows[:, AFTER]))]
    lanes = _Lanes(timeline, tiers, room)
    lanes.free_later(rows)
    rows = rows[np.lexsort((rows[:, BUFFER], -rows[:, BEFORE]))]
    lanes.fetch_earlier(rows)
    return MoveTable(np.concatenate((kept, rows)), moves.tiers)


class _Lanes:
    """When each tier's lanes are next free, out going forward in time and in going backward."""

    def __init__(self, timeline: Timeline, tiers: Sequence[Tier], room: Int64) -> None:
        self.timeline, self.tiers, self.room = timeline, tiers, room
        self.starts: list[int] = timeline.starts.tolist()

    def free_later(self, rows: Int64) -> None:
        """Set by which event each copy out is done without waiting, or the latest that memory allows."""
        room, starts, found = self.room, self.starts, rows[:, FREED_BY].tolist()
        wraps = rows[:, BEFORE] <= rows[:, AFTER]
        lasts = np.where(wraps, len(starts) - 1, rows[:, PREFETCH]).tolist()
        leaves = self.timeline.starts[rows[:, AFTER] + 1].tolist()
        sizes, durations = self._copies(rows, "out")
        # Room only shrinks: most have none left at their gap's begin, which is quick to see here.
        most, free, tiers = [*room.tolist(), 0], [0] * len(self.tiers), rows[:, TIER].tolist()
        moves = zip(tiers, leaves, found.copy(), lasts, sizes, durations, strict=True)
        for place, (tier, leave, begin, last, size, duration) in enumerate(moves):
            done = free[tier]
            free[tier] = done = (leave if leave > done else done) + duration
            if most[begin] < size or begin >= last or starts[begin] >= done:
                continue
            wanted = bisect_left(starts, done, begin, last)
            short = room[begin:wanted] < size
            first = int(short.argmax())
            end = begin + first if short[first] else wanted
            if end > begin:
                found[place] = end
                # Not room[begin:end] -= size: that would also copy the range onto itself.
                part = room[begin:end]
                part -= size
        rows[:, FREED_BY] = found

    def fetch_earlier(self, rows: Int64) -> None:
        """Set from which event each copy in hides, or the earliest that memory allows; never before it has left."""
        room, starts, found = self.room, self.starts, rows[:, BEFORE].tolist()
        wraps = rows[:, BEFORE] <= rows[:, AFTER]
        firsts = np.where(wraps, 0, rows[:, FREED_BY]).tolist()
        needs = self.timeline.starts[rows[:, BEFORE]].tolist()
        sizes, durations = self._copies(rows, "in")
        most, free, tiers = [*room.tolist(), 0], [starts[-1]] * len(self.tiers), rows[:, TIER].tolist()
        moves = zip(tiers, needs, found.copy(), firsts, sizes, durations, strict=True)
        for place, (tier, need, before, first, size, duration) in enumerate(moves):
            start = free[tier]
            free[tier] = start = (need if need < start else start) - duration
            if first >= before or most[before - 1] < size or starts[before] <= start:
                continue
            wanted = max(bisect_right(starts, start, first, before) - 1, first)
            short = room[wanted:before][::-1] < size
            last = int(short.argmax())
            begin = before - last if short[last] else wanted
            if begin < before:
                found[place] = begin
                part = room[begin:before]
                part -= size
        rows[:, PREFETCH] = found

    def _copies(self, rows: Int64, direction: str) -> tuple[list[int], list[int]]:
        """Return each copy's bytes and nanoseconds."""
        sizes = self.timeline.buffer_bytes[rows[:, BUFFER]]
        return sizes.tolist(), copy_nanoseconds(self.tiers, rows[:, TIER], sizes, direction).tolist()
