"""The lines of one stage of a persistent loop: weights kept, left factors gathered, products, the region, stores."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.compiler.ir import Access
from kernels.compiler.loop_ir import Term, Window
from kernels.compiler.print_cuda_unit import coordinates
from kernels.compiler.source import position_text
from kernels.recurrent.loop_points import (
    WindowText,
    axis_names,
    load_line,
    loads_of,
    point_lines,
    scaled,
    store_lines,
    value_line,
)
from kernels.recurrent.loop_stages import Stage
from kernels.recurrent.text import WARP, indent

MOST_SLOTS = 4
"""Rows that are multiplied together."""
MOST_WEIGHTS = 160
"""A lane's, of its 255 registers; a stage with more reads its weights in every tick."""


class StageText:
    """The lines of a stage with products, for a warp of it; without, for a thread. `first_block` is set before."""

    def __init__(self, places: WindowText, stage: Stage, warps: int) -> None:
        self.places, self.stage, self.warps = places, stage, warps
        self.threads = WARP * warps
        self.slots = 1 << (min(self.stage.rows, MOST_SLOTS) - 1).bit_length()
        self.reads = self.stage.column_reads()
        self.terms = [(k, term) for k, product in self.stage.products.items() for term in product.terms]
        self.factors = list(dict.fromkeys(_factor(term) for _, term in self.terms))
        """The distinct left factors: depth, window, strides."""

    @property
    def shared_elements(self) -> int:
        """Return the elements of shared memory: every left factor's rows, padded to whole warps."""
        return self.slots * sum(_padded(depth) for depth, _, _ in self.factors)

    @property
    def weights(self) -> int:
        """Return the weights that a lane needs in a tick."""
        return sum(-(-term.depth // WARP) for k, _ in self.reads for term in self.stage.products[k].terms)

    @property
    def resident(self) -> bool:
        """Return whether the weights stay in registers: few enough, and the same in every trip."""
        fixed = all(self.places.verb(term.right) == "read" for _, term in self.terms)
        return fixed and self.weights <= MOST_WEIGHTS

    def before(self) -> list[str]:
        """Return what happens once, before the first tick."""
        if not self.stage.products:
            return []
        units = self.stage.units
        group = WARP // self.slots  # lanes that work for the same row
        lines = [
            f"unit = (block - first_block) * {self.warps} + warp",
            # A warp past the last unit repeats that one's work and writes nothing: it is needed at the barriers.
            f"mine = unit if unit < {units} else {units - 1}",
            *self._coordinates("mine"),
            f"slot = lane // {group}" if self.slots > 1 else "slot = int64(0)",
            f"writer = unit < {units} and (lane & {group - 1}) == 0",
        ]
        if self.resident:
            lines += self._weights("0")
        return [*lines, *self._zeros()]

    def body(self) -> list[str]:
        """Return what the stage does in trip `trip`."""
        if not self.stage.products:
            share = -(-self.stage.units // self.threads) * self.threads
            start = f"unit = (block - first_block) * {self.threads} + thread"
            step = [*point_lines(self.places, self.stage, "trip"), f"unit = unit + {share}"]
            return [start, f"while unit < {self.stage.units}:", *indent(step)]
        rows = self.stage.rows
        if rows <= self.slots:
            return ["first = int64(0)", *self._group()]
        group = [*self._group(), "cuda.syncthreads()", f"first = first + {self.slots}"]
        return ["first = int64(0)", f"while first < {rows}:", *indent(group)]

    def _coordinates(self, position: str) -> list[str]:
        names = axis_names(self.stage)
        own = [name for axis, name in enumerate(names) if axis != self.stage.row_axis]
        return coordinates(self.stage.extents, own, position) if own else []

    def _group(self) -> list[str]:
        """Return the work on up to four rows from `first` on."""
        rows, stage = self.stage.rows, self.stage
        lines = ["row = first + slot", f"row = row if row < {rows} else {rows - 1}"]
        if stage.row_axis is not None:
            lines.append(f"i{stage.row_axis} = row")
        loads = loads_of(stage)
        # Asked for before the products: they come from far away.
        lines += [load_line(self.places, stage, k, "trip") for k in loads]
        lines += [*self._gather(), "cuda.syncthreads()"]
        if not self.resident:
            lines += self._weights("trip")
        lines += [*self._multiply(), *reduced(self.slots, len(self.reads))]
        lines += [value_line(stage, k, self.reads) for k in range(len(stage.region.values)) if k not in loads]
        writes = f"if writer and first + slot < {rows}:" if self.slots > 1 or rows > 1 else "if writer:"
        return [*lines, writes, *indent(store_lines(self.places, stage, "trip"))]

    def _gather(self) -> list[str]:
        """Return the copy of the left factors' rows into shared memory; the last rows stand in for those past them."""
        lines, base = [], 0
        for depth, window, strides in self.factors:
            rows = f"(first + held if first + held < {self.stage.rows} else {self.stage.rows - 1})"
            begin = self.places.element(window, "trip", "float32")
            position = " + ".join([begin, *scaled(strides[0], rows), *scaled(strides[1], "column")])
            memory = self.places.memory(window, "float32")
            load = f"{self.places.verb(window)}_float32({memory}, {position})"
            lines += [
                "spot = thread",
                f"while spot < {self.slots * depth}:",
                f"    held = quotient_uint32(spot, {depth})",
                f"    column = spot - held * {depth}",
                f"    shared[{base} + held * {_padded(depth)} + column] = {load}",
                f"    spot = spot + {self.threads}",
            ]
            base += self.slots * _padded(depth)
        return lines

    def _zeros(self) -> list[str]:
        """Return the lines that clear the padding: a weight of 0 times what lies there must be 0."""
        lines, base = [], 0
        for depth, _, _ in self.factors:
            past = _padded(depth) - depth
            if past:
                lines += [
                    "spot = thread",
                    f"while spot < {self.slots * past}:",
                    f"    held = quotient_uint32(spot, {past})",
                    f"    column = spot - held * {past} + {depth}",
                    f"    shared[{base} + held * {_padded(depth)} + column] = float32(0.0)",
                    f"    spot = spot + {self.threads}",
                ]
            base += self.slots * _padded(depth)
        return lines

    def _weights(self, trip: str) -> list[str]:
        lines = []
        for read, (buffer, access) in enumerate(self.reads):
            column = position_text(self._without_rows(access.offset, access.strides), axis_names(self.stage))
            for number, term in enumerate(self.stage.products[buffer].terms):
                lines += self._weights_of(f"w{read}_{number}", term, column, trip)
        return lines

    def _weights_of(self, name: str, term: Term, column: str, trip: str) -> list[str]:
        lines = []
        begin, memory = self.places.element(term.right, trip, "float32"), self.places.memory(term.right, "float32")
        read = f"{self.places.verb(term.right)}_float32"
        for turn in range(-(-term.depth // WARP)):
            depth = f"lane + {WARP * turn}" if turn else "lane"
            masked = WARP * (turn + 1) > term.depth
            at = f"({depth} if {depth} < {term.depth} else 0)" if masked else f"({depth})"
            down, across = term.right_strides
            position = " + ".join([begin, *scaled(down, at), *scaled(across, f"({column})")])
            lines.append(f"{name}_{turn} = {read}({memory}, {position})")
            if masked:
                lines.append(f"{name}_{turn} = select({depth} < {term.depth}, {name}_{turn}, float32(0.0))")
        return lines

    def _without_rows(self, offset: int, strides: Sequence[int]) -> Access:
        kept = tuple(0 if axis == self.stage.row_axis else stride for axis, stride in enumerate(strides))
        return Access(0, offset, kept)

    def _multiply(self) -> list[str]:
        rows = min(self.slots, self.stage.rows)
        lines = [f"s{slot}_{read} = float32(0.0)" for slot in range(self.slots) for read in range(len(self.reads))]
        base = 0
        for factor in self.factors:
            for turn in range(_padded(factor[0]) // WARP):
                for slot in range(rows):
                    lines.append(f"value = shared[{base + slot * _padded(factor[0]) + WARP * turn} + lane]")
                    lines += [
                        f"s{slot}_{read} = s{slot}_{read} + w{read}_{number}_{turn} * value"
                        for read, (buffer, _) in enumerate(self.reads)
                        for number, term in enumerate(self.stage.products[buffer].terms)
                        if _factor(term) == factor
                    ]
            base += self.slots * _padded(factor[0])
        return lines


def reduced(slots: int, sums: int) -> list[str]:
    """Return the lines that add up s{slot}_{k} over a warp's lanes into p{k}, of the slot that a lane works for."""
    lines, bit = [], WARP // 2
    while slots > 1:
        slots //= 2
        lines.append(f"upper = (lane & {bit}) != 0")
        for slot in range(slots):
            for k in range(sums):
                low, high = f"s{slot}_{k}", f"s{slot + slots}_{k}"
                lines.append(f"given = select(upper, {low}, {high})")
                lines.append(f"{low} = select(upper, {high}, {low}) + cuda.shfl_xor_sync(0xFFFFFFFF, given, {bit})")
        bit //= 2
    while bit:
        lines += [f"s0_{k} = s0_{k} + cuda.shfl_xor_sync(0xFFFFFFFF, s0_{k}, {bit})" for k in range(sums)]
        bit //= 2
    return lines + [f"p_{k} = s0_{k}" for k in range(sums)]


def _factor(term: Term) -> tuple[int, Window, tuple[int, int]]:
    return term.depth, term.left, term.left_strides


def _padded(depth: int) -> int:
    return -(-depth // WARP) * WARP
