"""Prints a region with reductions as a Numba-CUDA kernel: a team of threads takes row after row.

A row that fits stays in registers between its reductions: it is read once and written once, and its variables are
printed one by one, since an indexed array would lie in local memory. A longer row is read again by each walk. Each
thread adds up its own elements; then the threads of a team merge by shuffles within a warp and, where a team is
larger, through shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernels.compiler.ir import ITEM_BYTES, Region
from kernels.compiler.print_cuda_online import online_pairs
from kernels.compiler.print_cuda_plan import WARP, RowPlan, row_plans, wide_buffers
from kernels.compiler.print_cuda_reduce import Reduction
from kernels.compiler.print_cuda_row import ENTRY, RowText, merged, running
from kernels.compiler.print_cuda_rows_host import host_text
from kernels.compiler.print_cuda_schedule import Walk, schedule
from kernels.compiler.print_cuda_unit import block, indented
from kernels.compiler.source import roots
from kernels.cuda.kernel import KernelSource
from kernels.cuda.memory import ALIGNMENT

FULL_WARP = "0xFFFFFFFF"
LOADS_AHEAD = 48  # the most elements that are in flight before the first is used


def print_rows(region: Region) -> dict[str, KernelSource]:
    """Return a simplified region's kernel by form: "scalar" always, "wide" where 128-bit accesses are possible.

    Raises IrError for an op that has no CUDA text.
    """
    return {form: print_plan(region, plan) for form, plan in row_plans(region).items()}


def print_plan(region: Region, plan: RowPlan) -> KernelSource:
    """Return a simplified region's kernel for one way to spread its rows over threads; plan.block threads a block."""
    wide = wide_buffers(region) if plan.lanes > 1 else frozenset()
    pairs = {} if plan.resident else online_pairs(region, plan.lanes)
    text = RowText(region, plan, schedule(region, plan.resident, pairs))
    return KernelSource(
        entry=ENTRY,
        text=_DeviceText(text).text(),
        host_text=host_text(RowText(region, plan, schedule(region, False, pairs))),
        alignment=tuple((ALIGNMENT if k in wide else ITEM_BYTES)[b.dtype] for k, b in enumerate(region.buffers)),
        work_items=text.rows * plan.team,
        threads=plan.block,
        exact_threads=plan.team > WARP or plan.across > 0,
    )


@dataclass(frozen=True, slots=True)
class _DeviceText:
    """Prints the kernel as the threads of a device run it."""

    row: RowText

    def text(self) -> str:
        """Return the whole function."""
        plan, walks = self.row.plan, self.row.schedule.walks
        body = [*self._row_index(), *self.row.row_coordinates(), *self.row.row_values(self.row.schedule.before)]
        for number, walk in enumerate(walks):
            body += [line for reduction in walk.reductions for line in reduction.start]
            body += self._resident_walk(walk, number) if plan.resident else self._looped_walk(walk)
            body += self._merge(walk.reductions)
            body += [line for reduction in walk.reductions for line in reduction.finish]
            body += self.row.row_values(walk.after)
        body += [*self._row_stores(), *self._reuse_barrier(), "base += step"]
        lines = [*self._shared_arrays(), *self._threads()]
        if plan.resident:
            lines += [line for chunk in self._chunks() for line in self._chunk_position(*chunk)]
        lines += [f"while base < {self.row.rows}:", *indented(body)]
        return "\n".join([self.row.head(), *indented(lines), ""])

    # Which thread has which row.

    def _threads(self) -> list[str]:
        """Return the lines that set member, base and step, and slot where neighbours have several rows."""
        plan, own = self.row.plan, "int64(cuda.threadIdx.x)"
        if plan.across:
            rows = [f"base = {plan.across} * int64(cuda.blockIdx.x)", f"step = {plan.across} * int64(cuda.gridDim.x)"]
            bits = plan.across.bit_length() - 1
            return [f"thread = {own}", f"slot = thread & {plan.across - 1}", f"member = thread >> {bits}", *rows]
        if plan.team > WARP:
            return [f"member = {own}", "base = int64(cuda.blockIdx.x)", "step = int64(cuda.gridDim.x)"]
        if plan.team == 1:
            return ["member = int64(0)", "base = cuda.grid(1)", "step = cuda.gridsize(1)"]
        in_warp, bits = WARP // plan.team, plan.team.bit_length() - 1
        lines = ["thread = cuda.grid(1)", f"member = thread & {plan.team - 1}"]
        if in_warp > 1:
            lines.append(f"slot = (thread & {WARP - 1}) >> {bits}")
        # A warp goes on as long as one of its rows is there: its shuffles need all lanes.
        share = f"{in_warp} * " if in_warp > 1 else ""
        return [*lines, f"base = {share}(thread >> 5)", f"step = {share}(cuda.gridsize(1) >> 5)"]

    def _slots(self) -> int:
        """Return how many rows start at one `base`."""
        plan = self.row.plan
        return plan.across or (max(1, WARP // plan.team) if plan.team > 1 else 1)

    def _clamped(self) -> bool:
        return self.row.rows % self._slots() != 0

    def _row_index(self) -> list[str]:
        if self._slots() == 1:
            return ["row = base"]
        if not self._clamped():
            return ["row = base + slot"]
        last = self.row.rows - 1
        return ["row = base + slot", f"active = row < {self.row.rows}", f"row = select(active, row, int64({last}))"]

    def _if_active(self, lines: list[str]) -> list[str]:
        return list(block("if active:", lines)) if self._clamped() else lines

    # Walks.

    def _chunks(self) -> Iterator[tuple[int, str, int]]:
        """Yield a member's units: number, suffix, lanes."""
        row, team = self.row, self.row.plan.team
        count = -(-row.units // team)
        for number in range(count):
            yield number, f"_k{number}", row.plan.lanes
        if row.left:
            yield count, f"_k{count}", 1

    def _inside(self, number: int, lanes: int) -> str | None:
        """Return the condition for a member to have this unit, None if all have it."""
        row, team = self.row, self.row.plan.team
        if lanes != row.plan.lanes:
            return f"member < {row.left}"
        return f"member < {row.units - number * team}" if (number + 1) * team > row.units else None

    def _chunk_position(self, number: int, suffix: str, lanes: int) -> list[str]:
        if lanes != self.row.plan.lanes:
            return self.row.left_coordinates(suffix)
        first = number * self.row.plan.team
        position = f"unit{suffix}"
        start = f"member + {first}" if first else "member"
        return [f"{position} = {start}", *self.row.unit_coordinates(position, suffix)]

    def _resident_walk(self, walk: Walk, number: int) -> list[str]:
        """Return the lines of a walk unit by unit; in the first one, loads go ahead, to be in flight together.

        What later walks load (weights) is in a cache; all of it at once would take a register for each element.
        """
        loaded = sum(self.row.region.values[k].op == "load" for k in walk.values) * self.row.plan.lanes
        ahead = max(1, LOADS_AHEAD // max(1, loaded)) if number == 0 else 1
        chunks = list(self._chunks())
        lines: list[str] = []
        for first in range(0, len(chunks), ahead):
            batch = chunks[first : first + ahead]
            lines += [line for chunk in batch for line in self._where_inside(*chunk, self._chunk_loads(walk, *chunk))]
            lines += [line for chunk in batch for line in self._where_inside(*chunk, self._chunk_work(walk, *chunk))]
        return lines

    def _where_inside(self, number: int, suffix: str, lanes: int, lines: list[str]) -> list[str]:
        inside = self._inside(number, lanes)
        return list(block(f"if {inside}:", lines)) if inside else lines

    def _chunk_loads(self, walk: Walk, number: int, suffix: str, lanes: int) -> list[str]:
        return self.row.unit(lanes, suffix).loads(walk.values)

    def _chunk_work(self, walk: Walk, number: int, suffix: str, lanes: int) -> list[str]:
        unit = self.row.unit(lanes, suffix)
        stores = self._if_active(unit.stores(walk.stores))
        return [*unit.computed(walk.values), *self.row.takes(walk, unit), *stores]

    def _looped_walk(self, walk: Walk) -> list[str]:
        row = self.row
        body = [*row.unit_coordinates("unit"), *self._step(walk, row.plan.lanes), f"unit += {row.plan.team}"]
        lines = ["unit = member", f"while unit < {row.units}:", *indented(body)]
        if row.left:
            lines += block(f"if member < {row.left}:", [*row.left_coordinates(), *self._step(walk, 1)])
        return lines

    def _step(self, walk: Walk, lanes: int) -> list[str]:
        unit = self.row.unit(lanes)
        lines = [*unit.loads(walk.values), *unit.computed(walk.values), *self.row.takes(walk, unit)]
        return lines + self._if_active(unit.stores(walk.stores))

    def _row_stores(self) -> list[str]:
        """Return the lines of the stores that one member carries out for the row."""
        lines = self._if_active(self.row.unit(1).stores(self.row.schedule.row_stores))
        team = self.row.plan.team
        if team == 1:
            return lines
        stores = list(block("if member == 0:", lines))
        # The other members read the row's own elements before they are updated.
        wait = "cuda.syncthreads()" if self._meets_in_shared_memory() else "cuda.syncwarp()"
        return [wait, *stores] if self._updates_in_place() else stores

    def _updates_in_place(self) -> bool:
        region, root = self.row.region, roots(self.row.region)
        loaded = {root[value.access.buffer] for value in region.values if value.access is not None}
        return any(root[region.stores[k].access.buffer] in loaded for k in self.row.schedule.row_stores)

    # How a team merges.

    def _meets_in_shared_memory(self) -> bool:
        return self.row.plan.team > self.row.plan.members_in_warp

    def _shared_arrays(self) -> list[str]:
        if not self._meets_in_shared_memory():
            return []
        plan = self.row.plan
        size = plan.team // plan.members_in_warp * max(1, plan.across)
        names = running(reduction for walk in self.row.schedule.walks for reduction in walk.reductions)
        return [f"shared{name} = cuda.shared.array({size}, {dtype})" for name, dtype in names.items()]

    def _reuse_barrier(self) -> list[str]:
        """Return a barrier where the next row could overwrite shared memory that a slower warp still reads."""
        barriers = sum(bool(walk.reductions) for walk in self.row.schedule.walks)
        return ["cuda.syncthreads()"] if self._meets_in_shared_memory() and barriers == 1 else []

    def _merge(self, reductions: tuple[Reduction, ...]) -> list[str]:
        plan, names = self.row.plan, running(reductions)
        if not names:
            return []
        lines = self._shuffles(reductions, min(plan.team, plan.members_in_warp), max(1, plan.across))
        if not self._meets_in_shared_memory():
            return lines
        if plan.across:
            return lines + self._merge_columns(reductions)
        warps = plan.team // WARP
        lines += block(f"if member & {WARP - 1} == 0:", [f"shared{name}[member >> 5] = p{name}" for name in names])
        lines += ["cuda.syncthreads()", *(f"p{name} = shared{name}[member & {warps - 1}]" for name in names)]
        return lines + self._shuffles(reductions, warps)

    def _merge_columns(self, reductions: tuple[Reduction, ...]) -> list[str]:
        """Return the lines by which each thread merges what the block's warps have of its row."""
        plan, names = self.row.plan, running(reductions)
        stores = [f"shared{name}[{plan.across} * (thread >> 5) + slot] = p{name}" for name in names]
        first = list(block(f"if thread & {WARP - 1} < {plan.across}:", stores)) if plan.across < WARP else stores
        lines = [*first, "cuda.syncthreads()", *(f"p{name} = shared{name}[slot]" for name in names)]
        for other in range(1, plan.team // plan.members_in_warp):
            lines += [f"q{name} = shared{name}[{plan.across * other} + slot]" for name in names] + merged(reductions)
        return lines

    def _shuffles(self, reductions: tuple[Reduction, ...], members: int, apart: int = 1) -> list[str]:
        """Return the lines that merge members of a warp that stand `apart` lanes from each other."""
        lines: list[str] = []
        distance = members // 2
        while distance:
            call = f"cuda.shfl_xor_sync({FULL_WARP}, p{{}}, {distance * apart})"
            lines += [f"q{name} = {call.format(name)}" for name in running(reductions)]
            lines += merged(reductions)
            distance //= 2
        return lines
