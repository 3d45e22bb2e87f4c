"""The CPU twin of a row kernel: one host thread does every member's sums, and merges them in the device's order."""

from __future__ import annotations

from kernels.compiler.print_cuda_plan import WARP, RowPlan
from kernels.compiler.print_cuda_reduce import Reduction
from kernels.compiler.print_cuda_row import RowText, merged, running
from kernels.compiler.print_cuda_schedule import Walk
from kernels.compiler.print_cuda_unit import indented


def host_text(row: RowText) -> str:
    """Return the text of the twin; its walks read a row again even where the device keeps it."""
    plan = row.plan
    body = [*row.row_coordinates(), *row.row_values(row.schedule.before)]
    for walk in row.schedule.walks:
        body += _walk(row, walk)
        body += [line for reduction in walk.reductions for line in reduction.finish]
        body += row.row_values(walk.after)
    body += row.unit(1).stores(row.schedule.row_stores)
    names = running(reduction for walk in row.schedule.walks for reduction in walk.reductions)
    lines = [f"partial{name} = np.empty({plan.team}, np.{dtype})" for name, dtype in names.items()]
    lines += [f"for row in range({row.rows}):", *indented(body)]
    return "\n".join(["import numpy as np", "", "", row.head(), *indented(lines), ""])


def _walk(row: RowText, walk: Walk) -> list[str]:
    """Return the lines of one walk by all members, one after the other, and of their merging."""
    team = row.plan.team
    lines = [line for reduction in walk.reductions for line in reduction.start]
    step = [*row.unit_coordinates("unit"), *_step(row, walk, row.plan.lanes), f"unit += {team}"]
    lines += ["unit = member", f"while unit < {row.units}:", *indented(step)]
    if row.left:
        left = [*row.left_coordinates(), *_step(row, walk, 1)]
        lines += [f"if member < {row.left}:", *indented(left)]
    names = running(walk.reductions)
    lines += [f"partial{name}[member] = p{name}" for name in names]
    return [f"for member in range({team}):", *indented(lines), *_merge(row.plan, walk.reductions)]


def _step(row: RowText, walk: Walk, lanes: int) -> list[str]:
    unit = row.unit(lanes)
    lines = [*unit.loads(walk.values), *unit.computed(walk.values), *row.takes(walk, unit)]
    return lines + unit.stores(walk.stores)


def _merge(plan: RowPlan, reductions: tuple[Reduction, ...]) -> list[str]:
    names = running(reductions)
    if not names:
        return []
    results = [f"p{name} = partial{name}[0]" for name in names]
    pair = [f"p{name} = partial{name}[own]" for name in names]
    pair += [f"q{name} = partial{name}[own + half]" for name in names]
    pair += [*merged(reductions), *(f"partial{name}[own] = p{name}" for name in names)]
    lanes = min(plan.team, plan.members_in_warp)
    step = ["for own in range(first, first + half):", *indented(pair)]
    lines = _halving(lanes // 2, 1, [f"for first in range(0, {plan.team}, {lanes}):", *indented(step)])
    if plan.across:
        others = [*(f"q{name} = partial{name}[other]" for name in names), *merged(reductions)]
        return [*lines, *results, f"for other in range({lanes}, {plan.team}, {lanes}):", *indented(others)]
    lines += _halving(plan.team // 2, WARP, [f"for own in range(0, half, {WARP}):", *indented(pair)])
    return lines + results


def _halving(half: int, last: int, lines: list[str]) -> list[str]:
    if half < last:
        return []
    return [f"half = {half}", f"while half >= {last}:", *indented([*lines, "half = half // 2"])]
