"""Everything that can be moved, moved: how low a step's memory goes at all."""

from __future__ import annotations

from collections.abc import Sequence

from optimizers.swap.candidates import list_candidates
from optimizers.swap.moves import Move, Swap, Tier
from optimizers.swap.schedule import TierRoom
from optimizers.swap.sweep import Agreement
from optimizers.swap.timeline import Timeline


def use_all(timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str]) -> list[Move]:
    """Return a move for each gap that an allowed method can use, the largest size x gap first.

    A swap where a tier has room, for it takes no memory at all; else a recomputation, if its inputs stay.
    """
    rooms = {tier.name: TierRoom(timeline, tier.capacity_bytes) for tier in tiers if "swap" in allow}
    remade = list_candidates(timeline, tiers, ("recompute",)) if "recompute" in allow else None
    agreement, moves = Agreement(timeline), list[Move]()
    worth = timeline.gap_sizes * timeline.gap_nanoseconds
    for index in sorted(range(len(timeline.gaps)), key=lambda index: (-int(worth[index]), index)):
        buffer, after, before = timeline.gaps[index]
        swaps = (Swap(buffer, after, after + 1, before, before, name) for name in rooms)
        swap = next((swap for swap in swaps if rooms[swap.tier].fits(swap)), None)
        if swap is not None and agreement.accepts(swap):
            rooms[swap.tier].take(swap)
            moves.append(swap)
        elif remade is not None and index in remade.recipes and agreement.accepts(remade.move(index)):
            moves.append(remade.move(index))
    return moves
