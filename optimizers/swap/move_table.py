"""Moves in columns: the planner works with thousands at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizers.swap.moves import Move, Recompute, Swap, Tier
from optimizers.swap.timeline import NANOSECONDS, Int64, Timeline

BUFFER, AFTER, FREED_BY, PREFETCH, BEFORE, TIER = range(6)
REMADE = -1
"""Instead of a tier's place: the buffer is made again."""


@dataclass(frozen=True, slots=True, eq=False)
class MoveTable:
    """Moves as rows of (buffer, after, freed_by, prefetch, before, tier). tiers: what a tier's place stands for."""

    rows: Int64
    tiers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def remade(self) -> NDArray[np.bool_]:
        """Return which moves are recomputations."""
        found: NDArray[np.bool_] = self.rows[:, TIER] == REMADE
        return found

    @property
    def wraps(self) -> NDArray[np.bool_]:
        """Return which gaps run into the next step."""
        found: NDArray[np.bool_] = self.rows[:, BEFORE] <= self.rows[:, AFTER]
        return found

    def taken(self, places: Int64 | NDArray[np.bool_]) -> MoveTable:
        """Return the moves at these places."""
        return MoveTable(self.rows[places], self.tiers)

    def moves(self) -> list[Move]:
        """Return the moves one by one."""
        return [
            Recompute(buffer, after, before)
            if tier == REMADE
            else Swap(buffer, after, freed_by, prefetch, before, self.tiers[tier])
            for buffer, after, freed_by, prefetch, before, tier in self.rows.tolist()
        ]


def table_of(moves: Sequence[Move], tiers: Sequence[Tier]) -> MoveTable:
    """Return the moves as a table. Their tiers are among those given."""
    names = tuple(tier.name for tier in tiers)
    rows = [
        (move.buffer, move.after, move.after + 1, move.before, move.before, REMADE)
        if isinstance(move, Recompute)
        else (move.buffer, move.after, move.freed_by, move.prefetch, move.before, names.index(move.tier))
        for move in moves
    ]
    return MoveTable(np.array(rows, dtype=np.int64).reshape(-1, 6), names)


def scratch_of(timeline: Timeline, table: MoveTable) -> Int64:
    """Return the bytes that making each buffer again takes beside it; 0 for a swap."""
    found = np.zeros(len(table), dtype=np.int64)
    places = np.flatnonzero(table.remade)
    keys = table.rows[places][:, (BUFFER, BEFORE)].tolist()
    recipes = timeline.recipe_of
    found[places] = [recipes[buffer, before].scratch_bytes for buffer, before in keys]
    return found


def remaking_nanoseconds(timeline: Timeline, table: MoveTable) -> Int64:
    """Return how long making each buffer again takes; 0 for a swap."""
    found = np.zeros(len(table), dtype=np.int64)
    places = np.flatnonzero(table.remade)
    keys = table.rows[places][:, (BUFFER, BEFORE)].tolist()
    recipes = timeline.recipe_of
    found[places] = [round(recipes[buffer, before].seconds * NANOSECONDS) for buffer, before in keys]
    return found


def away_spans(table: MoveTable, events: int) -> tuple[Int64, Int64, Int64]:
    """Return the ranges of events (end excluded) in which a buffer surely takes no memory: move, begin and end of each.

    A gap that wraps has two, all others one; empty ranges are left out.
    """
    rows, wraps = table.rows, table.wraps
    places, split = np.arange(len(rows)), np.flatnonzero(wraps)
    begin = np.concatenate((rows[:, FREED_BY], np.zeros(len(split), dtype=np.int64)))
    end = np.concatenate((np.where(wraps, events, rows[:, PREFETCH]), rows[split, PREFETCH]))
    move = np.concatenate((places, split))
    real = begin < end
    return move[real], begin[real], end[real]


def copy_nanoseconds(tiers: Sequence[Tier], places: Int64, sizes: Int64, direction: str) -> Int64:
    """Return how long copies of these sizes take, "out" to the tiers at these places or "in" from them."""
    found = np.zeros(len(sizes), dtype=np.int64)
    for index, tier in enumerate(tiers):
        some = places == index
        found[some] = tier.nanoseconds(sizes[some], direction)
    return found
