"""Which products of a trip are computed together with the region that reads them, while each tile of them is hot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optimizers.fusion.schedule import Unit


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a trip: a unit, and the calls whose products it takes in."""

    unit: Unit
    products: tuple[Unit, ...] = ()


def steps(
    units: Sequence[Unit],
    touched: Callable[[Unit], Sequence[int]],
    private: Callable[[int], bool],
    fits: Callable[[Unit, Sequence[Unit]], bool],
) -> list[Step]:
    """Return the statements of a trip in order, each product moved to the only region that reads it where that fits.

    touched: the memories of a unit, by definition; private: whether a memory lives within one trip and the loop;
    fits: whether a region and products can be one statement.
    """
    users: dict[int, list[Unit]] = {}
    for unit in units:
        for memory in dict.fromkeys(touched(unit)):
            users.setdefault(memory, []).append(unit)
    taken: dict[Unit, list[Unit]] = {}
    for memory, both in users.items():
        if len(both) == 2 and [unit.kind for unit in both] == ["call", "group"] and private(memory):
            taken.setdefault(both[1], []).append(both[0])
    chosen: dict[Unit, tuple[Unit, ...]] = {}
    for group, calls in taken.items():
        order = [tuple(calls), *((call,) for call in reversed(calls))]
        chosen[group] = next((some for some in dict.fromkeys(order) if fits(group, some)), ())
    inner = {call for calls in chosen.values() for call in calls}
    return [Step(unit, chosen.get(unit, ())) for unit in units if unit not in inner]
