"""The largest number of items whose step fits, from as few looks at steps as will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

LOOKS = 12
GROWTH = 4
MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of a step: the smallest budget that works for it, and its peak with nothing moved."""

    smallest_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """moved: the largest number of items that was seen to fit, 0 for none.

    unmoved: the largest that would with nothing moved, along a straight line where no step was looked at.
    traced: the numbers of items that were looked at, rising.
    """

    moved: int
    unmoved: int
    traced: tuple[int, ...]


def search(look: Callable[[int], Need], known: Mapping[int, Need], budget_bytes: int) -> Found:
    """Return the largest number of items whose step needs no more than the budget.

    look: what so many items need. known: looks already made, at least one. Each next look is where the straight line
    through the two nearest meets the budget, or half way where that has moved one end alone; no more than GROWTH times
    the most so far. After LOOKS of them what was seen to fit counts, if there is still a gap.
    """
    needs = dict(known)
    ends: list[bool] = []
    for _ in range(LOOKS):
        fits, over = _ends({items: need.smallest_bytes for items, need in needs.items()}, budget_bytes)
        if fits + 1 >= over or fits >= MOST:
            break
        items = _next({items: need.smallest_bytes for items, need in needs.items()}, budget_bytes, fits, over)
        if len(ends) >= 2 and ends[-1] == ends[-2] and over <= MOST:
            items = (fits + over) // 2
        needs[items] = look(items)
        ends.append(needs[items].smallest_bytes <= budget_bytes)
    fits, _ = _ends({items: need.smallest_bytes for items, need in needs.items()}, budget_bytes)
    peaks = {items: need.peak_bytes for items, need in needs.items()}
    least, over = _ends(peaks, budget_bytes)
    unmoved = min(max(_along(peaks, budget_bytes), least), over - 1)
    return Found(fits, unmoved, tuple(sorted(needs)))


def _ends(needs: Mapping[int, int], budget: int) -> tuple[int, int]:
    """Return the largest number of items that fits (0: none), and the smallest above it that does not."""
    over = min((items for items, need in needs.items() if need > budget), default=MOST + 1)
    return max((items for items, need in needs.items() if need <= budget and items < over), default=0), over


def _next(needs: Mapping[int, int], budget: int, fits: int, over: int) -> int:
    """Return the number of items to look at, between the ends."""
    items = _along(needs, budget) if len(needs) > 1 else 2 * fits or over // 2
    most = min(over - 1, GROWTH * max(needs))
    return min(max(items, fits + 1), most)


def _along(needs: Mapping[int, int], budget: int) -> int:
    """Return where a straight line through the two whose needs are nearest to the budget meets it."""
    nearest = sorted(needs, key=lambda items: abs(needs[items] - budget))[:2]
    if len(nearest) < 2:
        return nearest[0]
    low, high = sorted(nearest)
    rise = needs[high] - needs[low]
    if rise <= 0:
        return MOST
    return min(max(low + (budget - needs[low]) * (high - low) // rise, 0), MOST)
