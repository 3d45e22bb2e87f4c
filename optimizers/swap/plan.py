"""The moves that make a step fit a budget: greedy choice, simulated, the quickest of a few tries kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analyzer.measurement import Estimate
from optimizers.plan import Refusal
from optimizers.swap.candidates import Candidates, check_allowed, least_nanoseconds, list_by_shape, list_candidates
from optimizers.swap.exhaustive import use_all
from optimizers.swap.move_table import MoveTable, table_of
from optimizers.swap.moves import Move, Recompute, Swap, Tier, check_moves
from optimizers.swap.schedule import assign_tiers, loosen
from optimizers.swap.simulate import SimulatedStep, Simulation, highest_bound
from optimizers.swap.sweep import choose, without_needless
from optimizers.swap.timeline import NANOSECONDS, Timeline

NAME = "swap"
FEW = 64
MANY = 1000
FEW_PRICES = (0.5,)
PRICES = (0.1, 0.3, 1.0)
BASIS = "simulated from the timeline and the tiers' bandwidths"


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """Moves whose simulated peak keeps the budget. `unmoved_peak_bytes`: the peak with nothing moved."""

    budget_bytes: int
    unmoved_peak_bytes: int
    moves: tuple[Move, ...]
    simulation: Simulation
    peak: Estimate
    step: Estimate

    @property
    def swapped(self) -> tuple[Swap, ...]:
        """Return the moves that are swaps."""
        return tuple(move for move in self.moves if isinstance(move, Swap))

    @property
    def recomputed(self) -> tuple[Recompute, ...]:
        """Return the moves that are recomputations."""
        return tuple(move for move in self.moves if isinstance(move, Recompute))


def plan(
    timeline: Timeline, budget_bytes: int, tiers: Sequence[Tier], allow: Sequence[str] = ("swap", "recompute")
) -> SwapPlan | Refusal:
    """Return a plan whose peak keeps the budget, at any bandwidth, or one line with the smallest budget that works.

    budget_bytes counts as Timeline.peak_bytes does: all that is live, constant part included.
    Raises SwapError for a method that is not known.
    """
    check_allowed(allow, tiers)
    if timeline.peak_bytes <= budget_bytes:
        return as_plan(timeline, (), tiers, budget_bytes)
    quickest = _quickest(timeline, budget_bytes, tiers, allow)
    if quickest is not None:
        best = _described(timeline, quickest, budget_bytes)
        return _improved(timeline, best, tiers, allow) if len(timeline.gap_rows) <= FEW else best
    smallest = smallest_budget(timeline, tiers, allow)
    if smallest <= budget_bytes:
        # A greedy choice can fail for more memory than it needed: what keeps the smaller budget keeps this one.
        quickest = _quickest(timeline, smallest, tiers, allow)
        assert quickest is not None, "the smallest budget is one that was kept"
        return _described(timeline, quickest, budget_bytes)
    return Refusal(NAME, f"a budget of {budget_bytes} bytes cannot be kept; the smallest that works is {smallest}")


def _quickest(timeline: Timeline, budget: int, tiers: Sequence[Tier], allow: Sequence[str]) -> SimulatedStep | None:
    """Return the quickest step of those that are tried; None where none keeps the budget."""
    quickest: SimulatedStep | None = None
    # Where copies must jam the lanes, what takes fewer of them comes first, and then spares the look at the others.
    lists = [(least_nanoseconds(item, budget, tiers), item) for item in _candidate_lists(timeline, tiers, allow)]
    for least, candidates in sorted(lists, key=lambda pair: pair[0]):
        if quickest is not None and quickest.nanoseconds <= least:
            break
        for moves in _fitting(timeline, candidates, budget, tiers):
            step = SimulatedStep(timeline, moves, tiers)
            if quickest is None or step.nanoseconds < quickest.nanoseconds:
                quickest = step
    if quickest is None:
        moves_or_none = next(_last_resorts(timeline, budget, tiers, allow), None)
        quickest = None if moves_or_none is None else SimulatedStep(timeline, moves_or_none, tiers)
    return quickest


def as_plan(timeline: Timeline, moves: Sequence[Move], tiers: Sequence[Tier], budget_bytes: int) -> SwapPlan:
    """Return the moves as a plan, simulated.

    The peak's high end holds at any bandwidth; the time's low end is a step without waiting, its high end one in which
    no copy overlaps with anything.
    """
    check_moves(timeline, moves, tiers)
    return _described(timeline, SimulatedStep(timeline, table_of(moves, tiers), tiers), budget_bytes)


def _described(timeline: Timeline, simulated: SimulatedStep, budget_bytes: int) -> SwapPlan:
    found = simulated.finish()
    copied = sum(end - start for *_, start, end in found.spans) / NANOSECONDS
    least = min(timeline.seconds + found.recompute_seconds, found.step_seconds)
    step = Estimate(least, found.step_seconds, max(least + copied, found.step_seconds), "s", BASIS)
    lowest = min(found.peak_bytes, found.bound_bytes)
    peak = Estimate(lowest, found.peak_bytes, max(found.bound_bytes, found.peak_bytes), "bytes", BASIS)
    return SwapPlan(budget_bytes, timeline.peak_bytes, tuple(simulated.moves.moves()), found, peak, step)


def smallest_budget(timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str] = ("swap", "recompute")) -> int:
    """Return the smallest budget in bytes that `plan` keeps with these tiers and methods.

    With swaps and a tier that holds everything no plan can do better. With recomputation alone, or tiers that fill
    up, it is the smallest that a bisection with greedy choices finds, which know of bytes and events, not of time: so
    it is the same for each trace of a step. What `plan` keeps by its other choices may be a little less.
    """
    check_allowed(allow, tiers)
    most = use_all(timeline, tiers, allow)
    smallest = min(timeline.peak_bytes, highest_bound(timeline, most))
    if "swap" in allow and any(tier.capacity_bytes is None for tier in tiers):
        return smallest
    for candidates in list_by_shape(timeline, tiers, allow):
        low, high = timeline.constant_bytes, smallest
        while low < high:
            middle = (low + high) // 2
            if next(_fitting(timeline, candidates, middle, tiers), None) is None:
                low = middle + 1
            else:
                high = smallest = middle
    return smallest


def _last_resorts(timeline: Timeline, budget: int, tiers: Sequence[Tier], allow: Sequence[str]) -> Iterator[MoveTable]:
    """Yield sets of moves that keep a budget for which the choice by cost has failed."""
    if "swap" in allow:
        yield from _fitting(timeline, list_candidates(timeline, tiers, ("swap",)), budget, tiers)
    kept, room = without_needless(timeline, use_all(timeline, tiers, allow), budget)
    if room.min(initial=0) >= 0 and highest_bound(timeline, kept) <= budget:
        yield loosen(timeline, kept, tiers, room)
    for candidates in list_by_shape(timeline, tiers, allow):
        yield from _fitting(timeline, candidates, budget, tiers)


def _fitting(timeline: Timeline, candidates: Candidates, budget: int, tiers: Sequence[Tier]) -> Iterator[MoveTable]:
    for moves in _assigned(timeline, choose(candidates, budget), tiers):
        kept, room = without_needless(timeline, moves, budget)
        if room.min(initial=0) >= 0:
            yield loosen(timeline, kept, tiers, room)


def _improved(timeline: Timeline, best: SwapPlan, tiers: Sequence[Tier], allow: Sequence[str]) -> SwapPlan:
    """Return the quickest of the plan and those that do without one of its moves: few enough to simulate each."""
    candidates = list_candidates(timeline, tiers, allow)
    for move in best.moves:
        if best.simulation.step_seconds <= timeline.seconds:
            break
        other = (timeline.gap_rows[candidates.order] != move.gap).any(axis=1)
        order = candidates.order[other]
        for moves in _fitting(timeline, replace(candidates, order=order), best.budget_bytes, tiers):
            step = SimulatedStep(timeline, moves, tiers)
            if step.nanoseconds < round(best.simulation.step_seconds * NANOSECONDS):
                best = _described(timeline, step, best.budget_bytes)
    return best


def _candidate_lists(timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str]) -> list[Candidates]:
    """Return lists of candidates by rising price of the lanes; of few gaps also swaps alone, whose choice cannot fail.

    Of many gaps swaps alone are never the quickest, and each list takes time.
    """
    found, many = [list_candidates(timeline, tiers, allow)], len(timeline.gap_rows) > MANY
    if "swap" not in allow or "recompute" not in allow or not timeline.recipes:
        return found
    for price in FEW_PRICES if many else PRICES:
        candidates = list_candidates(timeline, tiers, allow, price)
        if not any(candidates.is_like(other) for other in found):
            found.append(candidates)
    if not many and all(candidates.remakes for candidates in found):
        found.append(list_candidates(timeline, tiers, ("swap",)))
    return found


def _assigned(timeline: Timeline, chosen: MoveTable | None, tiers: Sequence[Tier]) -> Iterator[MoveTable]:
    if chosen is None:
        return
    for balanced in (False, True) if len(tiers) > 1 else (False,):
        moves = assign_tiers(timeline, chosen, tiers, balanced)
        if moves is not None:
            yield moves
