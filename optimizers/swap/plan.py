"""The moves that make a step fit a budget: greedy choice, simulated, the quickest of a few tries kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analyzer.measurement import Estimate
from optimizers.plan import Refusal
from optimizers.swap.candidates import Candidates, check_allowed, list_candidates
from optimizers.swap.exhaustive import use_all
from optimizers.swap.moves import Move, Recompute, Swap, Tier, check_moves
from optimizers.swap.schedule import assign_tiers, loosen
from optimizers.swap.simulate import SimulatedStep, Simulation, bound_curve, resident_at_start
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
    quickest: SimulatedStep | None = None
    for moves in _tries(timeline, budget_bytes, tiers, allow):
        step = SimulatedStep(timeline, moves, tiers)
        if quickest is None or step.nanoseconds < quickest.nanoseconds:
            quickest = step
        if quickest.nanoseconds <= timeline.starts[-1]:
            break
    if quickest is not None:
        best = _described(timeline, quickest, budget_bytes)
        return _improved(timeline, best, tiers, allow) if len(timeline.gaps) <= FEW else best
    smallest = smallest_budget(timeline, tiers, allow)
    return Refusal(NAME, f"a budget of {budget_bytes} bytes cannot be kept; the smallest that works is {smallest}")


def as_plan(timeline: Timeline, moves: Sequence[Move], tiers: Sequence[Tier], budget_bytes: int) -> SwapPlan:
    """Return the moves as a plan, simulated.

    The peak's high end holds at any bandwidth; the time's low end is a step without waiting, its high end one in which
    no copy overlaps with anything.
    """
    check_moves(timeline, moves, tiers)
    return _described(timeline, SimulatedStep(timeline, moves, tiers), budget_bytes)


def _described(timeline: Timeline, simulated: SimulatedStep, budget_bytes: int) -> SwapPlan:
    found = simulated.finish()
    copied = sum(end - start for *_, start, end in found.spans) / NANOSECONDS
    least = min(timeline.seconds + found.recompute_seconds, found.step_seconds)
    step = Estimate(least, found.step_seconds, max(least + copied, found.step_seconds), "s", BASIS)
    lowest = min(found.peak_bytes, found.bound_bytes)
    peak = Estimate(lowest, found.peak_bytes, max(found.bound_bytes, found.peak_bytes), "bytes", BASIS)
    return SwapPlan(budget_bytes, timeline.peak_bytes, tuple(simulated.moves), found, peak, step)


def smallest_budget(timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str] = ("swap", "recompute")) -> int:
    """Return the smallest budget in bytes that `plan` keeps with these tiers and methods.

    With swaps and a tier that holds everything no plan can do better. With recomputation alone, or tiers that fill
    up, it is the smallest that a bisection with the greedy choice finds.
    """
    check_allowed(allow, tiers)
    most = use_all(timeline, tiers, allow)
    low, high = timeline.constant_bytes, min(timeline.peak_bytes, _bound(timeline, most))
    if "swap" in allow and any(tier.capacity_bytes is None for tier in tiers):
        return high
    while low < high:
        middle = (low + high) // 2
        if next(_tries(timeline, middle, tiers, allow), None) is None:
            low = middle + 1
        else:
            high = middle
    return high


def _bound(timeline: Timeline, moves: Sequence[Move]) -> int:
    return int(bound_curve(timeline, moves).max(initial=resident_at_start(timeline, moves)))


def _tries(timeline: Timeline, budget: int, tiers: Sequence[Tier], allow: Sequence[str]) -> Iterator[list[Move]]:
    """Yield sets of moves that keep the budget, the most likely to be quick first."""
    found = False
    for candidates in _candidate_lists(timeline, tiers, allow):
        for moves in _fitting(timeline, candidates, budget, tiers):
            found = True
            yield moves
    if not found:
        kept, room = without_needless(timeline, use_all(timeline, tiers, allow), budget)
        if room.min(initial=0) >= 0 and _bound(timeline, kept) <= budget:
            yield loosen(timeline, kept, tiers, room)


def _fitting(timeline: Timeline, candidates: Candidates, budget: int, tiers: Sequence[Tier]) -> Iterator[list[Move]]:
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
        order = tuple(index for index in candidates.order if timeline.gaps[index] != move.gap)
        for moves in _fitting(timeline, replace(candidates, order=order), best.budget_bytes, tiers):
            found = as_plan(timeline, moves, tiers, best.budget_bytes)
            if found.simulation.step_seconds < best.simulation.step_seconds:
                best = found
    return best


def _candidate_lists(timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str]) -> Iterator[Candidates]:
    """Yield lists of candidates by rising price of the lanes, then swaps alone, whose choice cannot fail."""
    first = list_candidates(timeline, tiers, allow)
    yield first
    if "swap" not in allow or "recompute" not in allow or not timeline.recipes:
        return
    seen = [first]
    for price in FEW_PRICES if len(timeline.gaps) > MANY else PRICES:
        candidates = list_candidates(timeline, tiers, allow, price)
        if all(other.order != candidates.order or other.recipes != candidates.recipes for other in seen):
            seen.append(candidates)
            yield candidates
    if all(candidates.recipes for candidates in seen):
        yield list_candidates(timeline, tiers, ("swap",))


def _assigned(timeline: Timeline, chosen: list[Move] | None, tiers: Sequence[Tier]) -> Iterator[list[Move]]:
    if chosen is None:
        return
    for balanced in (False, True) if len(tiers) > 1 else (False,):
        moves = assign_tiers(timeline, chosen, tiers, balanced)
        if moves is not None:
            yield moves
