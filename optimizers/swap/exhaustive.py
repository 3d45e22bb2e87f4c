"""Everything that can be moved, moved: how low a step's memory goes at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimizers.swap.move_table import REMADE, MoveTable
from optimizers.swap.moves import Tier
from optimizers.swap.schedule import TierRoom
from optimizers.swap.sweep import Agreement
from optimizers.swap.timeline import Timeline


def use_all(timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str]) -> MoveTable:
    """Return a move for each gap that an allowed method can use, the largest size x events first.

    A swap where a tier has room, for it takes no memory at all; else a recomputation, if its inputs stay.
    """
    rooms = [TierRoom(timeline, tier.capacity_bytes) for tier in tiers if "swap" in allow]
    remakable = np.isfinite(timeline.gap_remaking_seconds) & ("recompute" in allow)
    agreement, found = Agreement(timeline), list[int]()
    order = np.lexsort((np.arange(len(timeline.gap_rows)), -timeline.gap_sizes * timeline.gap_events))
    again = remakable[order].tolist()
    for (buffer, after, before), remade in zip(timeline.gap_rows[order].tolist(), again, strict=True):
        tier = next((place for place, room in enumerate(rooms) if room.fits(buffer, after, before)), REMADE)
        if tier != REMADE and agreement.accepts(buffer, after, before, False):
            rooms[tier].take(buffer, after, before)
            found += (buffer, after, after + 1, before, before, tier)
        elif remade and agreement.accepts(buffer, after, before, True):
            found += (buffer, after, after + 1, before, before, REMADE)
    return MoveTable(np.array(found, dtype=np.int64).reshape(-1, 6), tuple(tier.name for tier in tiers))
