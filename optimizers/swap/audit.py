"""The least time that any plan can take for a budget, from an integer program: what the greedy planner is held to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from analyzer.measurement import Estimate
from optimizers.plan import Refusal
from optimizers.swap.candidates import check_allowed, list_candidates
from optimizers.swap.move_table import table_of
from optimizers.swap.moves import Move, Recompute, Swap, Tier, check_moves, is_inside, order_of
from optimizers.swap.plan import SwapPlan, as_plan, plan
from optimizers.swap.schedule import loosen
from optimizers.swap.simulate import highest_bound
from optimizers.swap.sweep import without_needless
from optimizers.swap.timeline import NANOSECONDS, SwapError, Timeline

MOST_CELLS = 20_000
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Audit:
    """What the integer program says of a budget.

    least_seconds: no plan's simulated step is shorter (within the solver's tolerance); where the solver ran out of time
                   it is what had been proved by then.
    plan: the quicker one of the greedy plan and the program's own decisions.
    greedy_over_least: the greedy plan's simulated step over the bound, 1 or more.
    """

    least_seconds: float
    plan: SwapPlan
    greedy: SwapPlan

    @property
    def greedy_over_least(self) -> float:
        """Return how many times the bound the greedy plan takes; 1 for a step that takes no time."""
        return self.greedy.simulation.step_seconds / self.least_seconds if self.least_seconds > 0 else 1.0

    @property
    def least(self) -> Estimate:
        """Return the bound as an estimate: from it up to the best plan's simulated time."""
        best = max(self.plan.simulation.step_seconds, self.least_seconds)
        return Estimate(self.least_seconds, best, best, "s", "lower bound by an integer program, simulated above")


def audit(
    timeline: Timeline,
    budget_bytes: int,
    tiers: Sequence[Tier],
    allow: Sequence[str] = ("swap", "recompute"),
    seconds: float = SECONDS,
) -> Audit | Refusal:
    """Return the bound and the better plan for a small timeline, or the planner's refusal.

    The program has for each gap and each event over the budget whether the buffer is away then, and for each event how
    long it waits. It relaxes the simulator in two ways, so its optimum is a bound: copies share a lane in any order,
    and nothing waits for bytes in flight. Tiers: each swap takes the quickest one's time; with several the lanes'
    limits are their number times as wide. Raises SwapError for a timeline that is too large.
    """
    check_allowed(allow, tiers)
    greedy = plan(timeline, budget_bytes, tiers, allow)
    if isinstance(greedy, Refusal) or not greedy.moves:
        return greedy if isinstance(greedy, Refusal) else Audit(timeline.seconds, greedy, greedy)
    program = _Program(timeline, budget_bytes, tiers, allow)
    least, away = program.solve(seconds)
    best = greedy
    for moves in program.decisions(away):
        found = as_plan(timeline, moves, tiers, budget_bytes)
        if found.simulation.step_seconds < best.simulation.step_seconds:
            best = found
    return Audit(max(least, timeline.seconds), best, greedy)


def least_peak(timeline: Timeline, tiers: Sequence[Tier], allow: Sequence[str] = ("swap", "recompute")) -> int:
    """Return a bound that no plan's guaranteed peak goes under: each buffer away whenever it is idle, scratch free."""
    check_allowed(allow, tiers)
    candidates = list_candidates(timeline, tiers, allow)
    live = timeline.live_bytes.copy()
    for index in candidates.order.tolist():
        buffer, after, before = timeline.gaps[index]
        for begin, end in ((0, before), (after + 1, len(live))) if before <= after else ((after + 1, before),):
            live[begin:end] -= timeline.buffers[buffer].bytes
    return int(live.max(initial=timeline.constant_bytes))


class _Program:
    """Columns: waiting seconds before each event and at the end; `away` for each (swap, event); `remade` for each."""

    def __init__(self, timeline: Timeline, budget: int, tiers: Sequence[Tier], allow: Sequence[str]) -> None:
        self.timeline, self.budget, self.tiers = timeline, budget, tiers
        self.count = len(timeline.events)
        self.swaps = [gap for gap in timeline.gaps if "swap" in allow]
        pairs = ((gap, timeline.recipe_of.get((gap.buffer, gap.before))) for gap in timeline.gaps)
        self.remakes = [(gap, recipe) for gap, recipe in pairs
                        if recipe is not None and not gap.wraps and "recompute" in allow]  # fmt: skip
        scratch = any(recipe.scratch_bytes for _, recipe in self.remakes)
        full = timeline.live_bytes > budget
        self.events = [event for event in range(self.count) if full[event] or scratch]
        cells = [(index, event) for index, gap in enumerate(self.swaps) for event in self.events
                 if is_inside(gap, event)]  # fmt: skip
        if len(cells) * max(len(self.events), 1) > MOST_CELLS:
            raise SwapError(f"{len(cells)} decisions over {len(self.events)} events are too many to audit; use plan")
        self.cell = {key: self.count + 1 + place for place, key in enumerate(cells)}
        self.remade_at = self.count + 1 + len(cells)
        self.columns = self.remade_at + len(self.remakes)
        self.rows: list[dict[int, float]] = []
        self.least: list[float] = []

    def solve(self, seconds: float) -> tuple[float, NDArray[np.float64] | None]:
        """Return the bound in seconds, and the columns of the best solution (None: none was found)."""
        self._keep_budget()
        self._give_copies_time()
        self._give_ends_time()
        self._keep_inputs()
        cost = np.zeros(self.columns)
        cost[: self.count + 1] = 1.0
        cost[self.remade_at :] = [recipe.seconds for _, recipe in self.remakes]
        whole = np.ones(self.columns, dtype=np.int64)
        whole[: self.count + 1] = 0
        upper = np.where(whole > 0, 1.0, np.inf)
        entries = [(row, column, value) for row, cells in enumerate(self.rows) for column, value in cells.items()]
        rows, columns, values = zip(*entries, strict=True)
        matrix = coo_array((values, (rows, columns)), shape=(len(self.rows), self.columns)).tocsr()
        answer = milp(
            cost,
            constraints=LinearConstraint(matrix, lb=np.array(self.least)),
            integrality=whole,
            bounds=Bounds(np.zeros(self.columns), upper),
            options={"time_limit": seconds},
        )
        bound = answer.mip_dual_bound
        return self.timeline.seconds + max(0.0 if bound is None else float(bound), 0.0), answer.x

    def _row(self, cells: dict[int, float], least: float) -> None:
        self.rows.append(cells)
        self.least.append(least)

    def _keep_budget(self) -> None:
        live = self.timeline.live_bytes
        unit = float(max(self.budget, 1))
        for event in self.events:
            cells = {self.cell[index, event]: self._size(gap.buffer) / unit
                     for index, gap in enumerate(self.swaps) if (index, event) in self.cell}  # fmt: skip
            for place, (gap, recipe) in enumerate(self.remakes):
                if is_inside(gap, event):
                    cells[self.remade_at + place] = self._size(gap.buffer) / unit
                elif gap.before == event:
                    cells[self.remade_at + place] = -recipe.scratch_bytes / unit
            if cells:
                self._row(cells, (int(live[event]) - self.budget) / unit)

    def _size(self, buffer: int) -> int:
        return self.timeline.buffers[buffer].bytes

    def _give_copies_time(self) -> None:
        """All that left since event `first` and is away at `event` was copied out in between; and so back in."""
        outs = {gap.buffer: self._quickest(gap.buffer, "out") for gap in self.swaps}
        ins = {gap.buffer: self._quickest(gap.buffer, "in") for gap in self.swaps}
        for event in self.events:
            here = [(index, gap) for index, gap in enumerate(self.swaps) if (index, event) in self.cell]
            for first in sorted({gap.after for _, gap in here if gap.after < event}):
                group = {self.cell[index, event]: outs[gap.buffer] for index, gap in here
                         if first <= gap.after < event}  # fmt: skip
                self._copy_row(group, first + 1, event)
            for last in sorted({gap.before for _, gap in here if gap.before > event}):
                group = {self.cell[index, event]: ins[gap.buffer] for index, gap in here
                         if event < gap.before <= last}  # fmt: skip
                self._copy_row(group, event + 1, last)

    def _give_ends_time(self) -> None:
        """A gap that wraps is used whole: its copy in fits between the step's start and its use, its copy out between
        its use and the step's end.
        """
        for event in self.events:
            here = [(index, gap) for index, gap in enumerate(self.swaps) if gap.wraps and (index, event) in self.cell]
            for first in sorted({gap.after for _, gap in here}):
                group = {self.cell[index, event]: self._quickest(gap.buffer, "out") for index, gap in here
                         if gap.after >= first}  # fmt: skip
                self._copy_row(group, first + 1, self.count)
            for last in sorted({gap.before for _, gap in here}):
                group = {self.cell[index, event]: self._quickest(gap.buffer, "in") for index, gap in here
                         if gap.before <= last}  # fmt: skip
                self._copy_row(group, 0, last)

    def _copy_row(self, group: dict[int, float], first: int, last: int) -> None:
        """The time from the start of event `first`, its waiting included, to that of `last` holds these copies."""
        starts = self.timeline.starts
        cells = {column: -seconds / len(self.tiers) for column, seconds in group.items()}
        for event in range(first, last + 1):
            cells[event] = 1.0
        for place, (gap, recipe) in enumerate(self.remakes):
            if first <= gap.before <= last:
                cells[self.remade_at + place] = recipe.seconds
        self._row(cells, -float(starts[last] - starts[first]) / NANOSECONDS)

    def _quickest(self, buffer: int, direction: str) -> float:
        size = self._size(buffer)
        return min(tier.out_nanoseconds(size) if direction == "out" else tier.in_nanoseconds(size)
                   for tier in self.tiers) / NANOSECONDS  # fmt: skip

    def _keep_inputs(self) -> None:
        """A gap is used once, and what a recomputation reads is there."""
        for place, (gap, recipe) in enumerate(self.remakes):
            column = self.remade_at + place
            for index, other in enumerate(self.swaps):
                needed = other.buffer in recipe.inputs
                for event in self.events:
                    cell = self.cell.get((index, event))
                    if cell is not None and (other == gap or (needed and event == gap.before)):
                        self._row({column: -1.0, cell: -1.0}, -1.0)
            for further, (source, _) in enumerate(self.remakes):
                if source.buffer in recipe.inputs and is_inside(source, gap.before):
                    self._row({column: -1.0, self.remade_at + further: -1.0}, -1.0)

    def decisions(self, values: NDArray[np.float64] | None) -> Iterator[list[Move]]:
        """Yield the solution as moves that the simulator accepts and the budget allows.

        As they are, each buffer away as long as the program has it; then with the same gaps, and all the time that
        memory leaves for the copies.
        """
        found = [] if values is None else self._moves(values)
        try:
            check_moves(self.timeline, found, self.tiers)
        except SwapError:
            # The solver's tolerance let a source go that a recomputation needs.
            return
        if not found or highest_bound(self.timeline, table_of(found, self.tiers)) > self.budget:
            return
        yield found
        tight = [self._tight(move) if isinstance(move, Swap) else move for move in found]
        kept, room = without_needless(self.timeline, table_of(tight, self.tiers), self.budget)
        yield loosen(self.timeline, kept, self.tiers, room).moves()

    def _tight(self, move: Swap) -> Swap:
        return Swap(move.buffer, move.after, move.after + 1, move.before, move.before, move.tier)

    def _moves(self, values: NDArray[np.float64]) -> list[Move]:
        found: list[Move] = []
        for place, (gap, _) in enumerate(self.remakes):
            if values[self.remade_at + place] > 0.5:
                found.append(Recompute(gap.buffer, gap.after, gap.before))
        for index, gap in enumerate(self.swaps):
            away = [event for event in self.events
                    if (index, event) in self.cell and values[self.cell[index, event]] > 0.5]  # fmt: skip
            if away:
                head = [event for event in away if event < gap.before]
                tail = [event for event in away if event > gap.after]
                freed = min(tail, default=self.count) if gap.wraps else away[0]
                fetched = (max(head) + 1 if head else 0) if gap.wraps else away[-1] + 1
                found.append(Swap(gap.buffer, gap.after, freed, fetched, gap.before, self.tiers[0].name))
        return sorted(found, key=lambda move: (move.after, order_of(self.timeline, move)))
