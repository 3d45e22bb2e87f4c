"""Cards of different heights in two columns: none leaves a hole beside a long one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of cards: those below what stands at the left, and at the right; then the rows across both columns."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def arrange(left: float, right: float, cards: Sequence[tuple[str, float]]) -> Columns:
    """Return where each of the cards (name, height) goes, in their order, when the columns are so high already.

    A card goes below the lower column while it leaves the two closer to each other than they were; what remains
    is put side by side. Heights are estimates, in any one unit.
    """
    heights = {True: left, False: right}
    columns: dict[bool, list[str]] = {True: [], False: []}
    waiting = list(cards)
    while waiting:
        lower = heights[True] < heights[False]
        gap = heights[not lower] - heights[lower]
        fits = next((card for card in waiting if card[1] < 1.5 * gap), None)
        if fits is None:
            break
        waiting.remove(fits)
        columns[lower].append(fits[0])
        heights[lower] += fits[1]
    return Columns(tuple(columns[True]), tuple(columns[False]), _rows(waiting))


def _rows(cards: Sequence[tuple[str, float]]) -> tuple[tuple[str, ...], ...]:
    """Return neighbours of about one height side by side; beside a much higher one a card would be mostly empty."""
    rows: list[tuple[str, ...]] = []
    place = 0
    while place < len(cards):
        heights = [height for _, height in cards[place : place + 2]]
        count = 2 if len(heights) == 2 and max(heights) <= 2 * min(heights) else 1
        rows.append(tuple(name for name, _ in cards[place : place + count]))
        place += count
    return tuple(rows)
