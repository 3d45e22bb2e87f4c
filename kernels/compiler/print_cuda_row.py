"""What the device's and the host's text of a row kernel have in common: the lines for a row and for a unit of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from kernels.compiler.ir import Region
from kernels.compiler.print_cuda_plan import RowPlan
from kernels.compiler.print_cuda_reduce import Reduction
from kernels.compiler.print_cuda_schedule import Schedule, Walk
from kernels.compiler.print_cuda_unit import Unit, coordinates, row_length

ENTRY = "rows"


@dataclass(frozen=True)
class RowText:
    """A simplified region, the plan for its rows and what happens to each; `row` and `member` are variables."""

    region: Region
    plan: RowPlan
    schedule: Schedule

    @cached_property
    def rows(self) -> int:
        """Return the number of rows."""
        return math.prod(self.region.outer)

    @cached_property
    def units(self) -> int:
        """Return how many whole units of `lanes` neighbours a row has."""
        return row_length(self.region) // self.plan.lanes

    @cached_property
    def left(self) -> int:
        """Return how many elements of a row stand behind its whole units."""
        return row_length(self.region) - self.units * self.plan.lanes

    def head(self) -> str:
        """Return the line that begins the function."""
        return f"def {ENTRY}({', '.join(f'a{k}' for k in range(len(self.region.buffers)))}):"

    def row_coordinates(self) -> list[str]:
        """Return the lines that set the indices of the outer axes from `row`."""
        return coordinates(self.region.outer, self._indices("")[: self._first], "row")

    def unit_coordinates(self, position: str, suffix: str = "") -> list[str]:
        """Return the lines that set the indices of the reduced axes from the position of a unit in its row."""
        names = self._indices(suffix)[self._first :]
        return coordinates(self.region.domain[self._first :], names, position, self.plan.lanes)

    def left_coordinates(self, suffix: str = "") -> list[str]:
        """Return the line that sets the index of the element left over that belongs to `member`."""
        return [f"{self._indices(suffix)[self._first]} = {self.units * self.plan.lanes} + member"]

    def unit(self, lanes: int, suffix: str = "") -> Unit:
        """Return the printer of a unit; the suffix is that of its indices and values."""
        return Unit(self.region, lanes, self._indices(suffix), suffix, self.schedule.row, self._weights)

    def row_values(self, values: Iterable[int]) -> list[str]:
        """Return the lines of row-level values."""
        unit = self.unit(1)
        return [line for k in values for line in (*unit.loads([k]), *unit.computed([k]))]

    def takes(self, walk: Walk, unit: Unit) -> list[str]:
        """Return the lines that take a unit's elements into the walk's reductions."""
        return [line for reduction in walk.reductions for line in reduction.take(unit.names(reduction.argument))]

    @cached_property
    def _weights(self) -> frozenset[int]:
        """Return the loads that are the same for all rows: kept from row to row they would fill the registers."""
        found = (k for k, value in enumerate(self.region.values) if k not in self.schedule.row)
        accesses = ((k, self.region.values[k].access) for k in found)
        return frozenset(k for k, access in accesses if access is not None and not any(access.strides[: self._first]))

    @property
    def _first(self) -> int:
        return len(self.region.outer)

    def _indices(self, suffix: str) -> tuple[str, ...]:
        names = (f"i{axis}" if axis < self._first else f"i{axis}{suffix}" for axis in range(len(self.region.domain)))
        return tuple(names)


def running(reductions: Iterable[Reduction]) -> dict[str, str]:
    """Return the dtype of each running variable of the reductions, by name without its p or q."""
    return {name: dtype for reduction in reductions for name, dtype in reduction.running.items()}


def merged(reductions: Iterable[Reduction]) -> list[str]:
    """Return the lines that merge every q into its p."""
    return [line for reduction in reductions for line in reduction.merge]
