"""When each chosen swap leaves and returns: as early back as memory allows, no wait that room in memory could save."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from optimizers.swap.moves import Move, Recompute, Swap, Tier
from optimizers.swap.timeline import Int64, Timeline


def assign_tiers(
    timeline: Timeline, moves: Sequence[Move], tiers: Sequence[Tier], balanced: bool = False
) -> list[Move] | None:
    """Return the moves with a tier for each swap; None where the tiers cannot hold them.

    A tier is filled before the next one is used; balanced: the one whose lanes have the least to do is taken.
    """
    if len(tiers) == 1 and all(isinstance(move, Recompute) or move.tier == tiers[0].name for move in moves):
        return list(moves)
    rooms = {tier.name: TierRoom(timeline, tier.capacity_bytes) for tier in tiers}
    load: dict[str, int] = defaultdict(int)
    found: list[Move] = []
    for move in sorted(moves, key=lambda move: (move.after, move.buffer)):
        if isinstance(move, Recompute):
            found.append(move)
            continue
        fitting = [tier for tier in tiers if rooms[tier.name].fits(move)]
        if not fitting:
            return None
        tier = fitting[0]
        if balanced:
            size = timeline.buffers[move.buffer].bytes
            cost = {tier.name: tier.out_nanoseconds(size) + tier.in_nanoseconds(size) for tier in fitting}
            tier = min(fitting, key=lambda tier: load[tier.name] + cost[tier.name])
            load[tier.name] += cost[tier.name]
        rooms[tier.name].take(move)
        found.append(Swap(move.buffer, move.after, move.freed_by, move.prefetch, move.before, tier.name))
    return found


class TierRoom:
    """The bytes that a tier can still hold at each event. A buffer takes its place from its last use to its next."""

    def __init__(self, timeline: Timeline, capacity_bytes: int | None) -> None:
        self.buffers = timeline.buffers
        self.left = None if capacity_bytes is None else np.full(len(timeline.events), capacity_bytes, dtype=np.int64)

    def fits(self, move: Move) -> bool:
        """Return whether the move's bytes have a place during its whole gap."""
        size = self.buffers[move.buffer].bytes
        return self.left is None or all(bool((part >= size).all()) for part in self._parts(move))

    def take(self, move: Move) -> None:
        """Give the move its place."""
        for part in self._parts(move):
            part -= self.buffers[move.buffer].bytes

    def _parts(self, move: Move) -> tuple[Int64, ...]:
        if self.left is None:
            return ()
        if move.before == move.after:
            return (self.left,)
        if move.before < move.after:
            return (self.left[: move.before + 1], self.left[move.after :])
        return (self.left[move.after : move.before + 1],)


def loosen(timeline: Timeline, moves: Sequence[Move], tiers: Sequence[Tier], room: Int64) -> list[Move]:
    """Return the moves with as much time for their copies as memory leaves room for.

    room: bytes that each event has left with these moves; taken here.
    First the copies out, in the order in which they leave; then the copies in, from the last to the first, so that
    a lane that is busy with a later buffer asks for the earlier one in good time.
    """
    swaps = [move for move in moves if isinstance(move, Swap)]
    lanes = _Lanes(timeline, {tier.name: tier for tier in tiers}, room)
    freed = {(move.buffer, move.after): lanes.later_freed(move)
             for move in sorted(swaps, key=lambda move: (move.after, move.before, move.buffer))}  # fmt: skip
    found: list[Move] = [move for move in moves if isinstance(move, Recompute)]
    for move in sorted(swaps, key=lambda move: (-move.before, move.buffer)):
        last = freed[move.buffer, move.after]
        fetched = lanes.earlier_fetched(move, 0 if move.before <= move.after else last)
        if last != move.freed_by or fetched != move.prefetch:
            move = Swap(move.buffer, move.after, last, fetched, move.before, move.tier)
        found.append(move)
    return found


class _Lanes:
    """When each tier's lanes are next free, out going forward in time and in going backward."""

    def __init__(self, timeline: Timeline, tiers: dict[str, Tier], room: Int64) -> None:
        self.sizes, self.tiers, self.room = timeline.sizes, tiers, room
        self.starts: list[int] = timeline.starts.tolist()
        self.out_free: dict[str, int] = defaultdict(int)
        self.in_free = dict.fromkeys(tiers, self.starts[-1])

    def later_freed(self, move: Swap) -> int:
        """Return the event that the copy out is done by without waiting, or the latest that memory allows."""
        size = self.sizes[move.buffer]
        leaves = self.starts[move.after + 1]
        done = max(self.out_free[move.tier], leaves) + self.tiers[move.tier].out_nanoseconds(size)
        self.out_free[move.tier] = done
        begin, last = move.freed_by, len(self.starts) - 1 if move.before <= move.after else move.prefetch
        wanted = min(bisect_left(self.starts, done, begin), last)
        if wanted <= begin or self.room[begin] < size:
            return begin
        short = self.room[begin:wanted] < size
        first = int(short.argmax())
        end = begin + first if short[first] else wanted
        self.room[begin:end] -= size
        return end

    def earlier_fetched(self, move: Swap, first: int) -> int:
        """Return the event from which the copy in hides, or the earliest that memory allows; never before `first`."""
        size = self.sizes[move.buffer]
        start = min(self.in_free[move.tier], self.starts[move.before]) - self.tiers[move.tier].in_nanoseconds(size)
        self.in_free[move.tier] = start
        wanted = max(bisect_right(self.starts, start, 0, move.before + 1) - 1, first)
        if wanted >= move.before or self.room[move.before - 1] < size:
            return move.before
        short = self.room[wanted : move.before][::-1] < size
        last = int(short.argmax())
        begin = move.before - last if short[last] else wanted
        self.room[begin : move.before] -= size
        return begin
