"""The text of the persistent recurrent kernel: all steps in one launch, the weights in registers.

A warp owns a hidden unit. Its lanes hold the unit's weights, 4 neighbouring columns of every 128 each (wide form) or
one column of every 32 (scalar form). In each step a block copies all hidden values into shared memory, its warps
multiply and add, each unit's new value is published, and one grid barrier ends the step. Published values alternate
between the halves of `exchange`, so that nobody overwrites what a slower block still reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.recurrent.cell import Cell

WARP = 32
ENTRY = "recurrent"


@dataclass(frozen=True, slots=True)
class RecurrentText:
    """One kernel's text.

    warps: units of a block. wide: 128-bit accesses, for a hidden size that is a multiple of 4.
    """

    cell: Cell
    hidden: int
    batch: int
    warps: int
    wide: bool

    @property
    def threads(self) -> int:
        """Return the threads of a block."""
        return WARP * self.warps

    @property
    def blocks(self) -> int:
        """Return the blocks of the grid."""
        return -(-self.hidden // self.warps)

    @property
    def columns(self) -> int:
        """Return how many columns of each weight row a lane holds; those past the row's end are 0."""
        return 4 * -(-self.hidden // (4 * WARP)) if self.wide else -(-self.hidden // WARP)

    @property
    def padded(self) -> int:
        """Return the hidden values of one batch item in shared memory, with those past the end, which are 0."""
        return WARP * self.columns

    @property
    def slots(self) -> int:
        """Return the batch rounded up to a power of two: lanes split it by halves."""
        return 1 << (self.batch - 1).bit_length()

    def text(self) -> str:
        """Return the device's text."""
        head = f"def {ENTRY}({', '.join(parameters(self.cell))}):"
        body = [*self._places(), *self._weights(), *self._unit_values(), *self._zeros()]
        body += ["phase = grid_phase(counter)", "step = 0", "while step < steps:", *indent(self._step())]
        last = [f"store_float32({state}_last, place, {state})" for state in self.cell.states]
        return "\n".join([head, *indent([*body, "if writes:", *indent(last)]), ""])

    def _places(self) -> list[str]:
        group = WARP // self.slots  # lanes that work for the same batch item
        item = f"lane // {group}" if self.slots > 1 else "0"
        return [
            "thread = int64(cuda.threadIdx.x)",
            "lane = thread & 31",
            f"unit = int64(cuda.blockIdx.x) * {self.warps} + (thread >> 5)",
            # A warp past the last unit repeats that one's work and writes nothing: it is needed at the barriers.
            f"row = unit if unit < {self.hidden} else {self.hidden - 1}",
            f"lane_item = {item}",
            f"item = lane_item if lane_item < {self.batch} else {self.batch - 1}",
            f"place = item * {self.hidden} + row",
            f"writes = unit < {self.hidden} and lane_item < {self.batch} and (lane & {group - 1}) == 0",
            f"hidden = cuda.shared.array({self.batch * self.padded}, float32)",
        ]

    def _weights(self) -> list[str]:
        step = 4 if self.wide else 1
        lines = []
        for first in range(0, self.columns, step):
            start = f"{WARP * first} + {step} * lane"
            masked = WARP * (first + step) > self.hidden
            if masked:
                lines += [f"inside = {start} < {self.hidden}", f"column = {start} if inside else 0"]
            else:
                lines.append(f"column = {start}")
            for gate in range(self.cell.gates):
                names = [f"w{gate}_{first + k}" for k in range(step)]
                verb = "read_float32x4" if self.wide else "read_float32"
                rows = f"({gate * self.hidden} + row) * {self.hidden} + column"
                lines.append(f"{', '.join(names)} = {verb}(weights, {rows})")
                lines += [f"{name} = {name} if inside else float32(0.0)" for name in names if masked]
        return lines

    def _unit_values(self) -> list[str]:
        constants = [
            f"{name} = read_float32(constants, {k * self.hidden} + row)" for k, name in enumerate(self.cell.constants)
        ]
        states = [f"{state} = read_float32({state}_first, place)" for state in self.cell.states]
        return constants + states + self._inputs("x", "0")

    def _inputs(self, prefix: str, step: str) -> list[str]:
        """Return the loads of a step's inputs; ordinary ones, which stay where they are among the barriers."""
        row = self.cell.inputs * self.hidden
        return [
            f"{prefix}{k} = load_float32(inputs, ({step} * {self.batch} + item) * {row} + {k * self.hidden} + row)"
            for k in range(self.cell.inputs)
        ]

    def _zeros(self) -> list[str]:
        """Return the lines that clear shared memory's padding: a weight of 0 times what lies there must be 0."""
        past = self.padded - self.hidden
        if not past:
            return []
        return [
            "spare = thread",
            f"while spare < {self.batch * past}:",
            f"    of_item = quotient_uint32(spare, {past})",
            f"    column = spare - of_item * {past} + {self.hidden}",
            f"    hidden[of_item * {self.padded} + {self._shared_position('column')}] = float32(0.0)",
            f"    spare = spare + {self.threads}",
        ]

    def _shared_position(self, column: str) -> str:
        """Return where a column lies, so that the 32 lanes' columns are neighbours: no two in one bank."""
        if not self.wide:
            return column
        return f"(({column} >> 7 << 7) + (({column} & 3) << 5) + (({column} & 127) >> 2))"

    def _step(self) -> list[str]:
        values = self.batch * self.hidden
        published = [
            f"store_coherent_float32(exchange, ((step + 1) & 1) * {values} + place, {self.cell.states[0]})",
            f"store_float32(outputs, step * {values} + place, {self.cell.states[0]})",
        ]
        following = [f"x{k} = y{k}" for k in range(self.cell.inputs)]
        return [
            *self._gather(),
            "cuda.syncthreads()",
            # The next inputs come from far away: asked for now, used behind the barrier.
            "following = step + 1 if step + 1 < steps else step",
            *self._inputs("y", "following"),
            *self._products(),
            *self._reduce(),
            *self.cell.lines,
            "if writes:",
            *indent(published),
            *following,
            "step = step + 1",
            "if step < steps:",
            "    phase = grid_barrier(counter, phase)",
        ]

    def _gather(self) -> list[str]:
        """Return the lines that copy all hidden values into shared memory, all loads before the first store."""
        each = 4 if self.wide else 1
        groups = self.batch * self.hidden // each
        verb = "coherent_float32x4" if self.wide else "coherent_float32"
        loads, stores = [], []
        for turn in range(-(-groups // self.threads)):
            first = turn * self.threads
            position = f"thread + {first}" if first else "thread"
            if first + self.threads > groups:  # the last threads repeat the last group
                position = f"({position} if {position} < {groups} else {groups - 1})"
            names = [f"v{turn}_{k}" for k in range(each)]
            loads.append(f"group{turn} = {position}")
            loads.append(f"{', '.join(names)} = {verb}(source, half + {each} * group{turn})")
            stores += self._gather_store(f"group{turn}", names)
        select = f"source = exchange if step > 0 else {self.cell.states[0]}_first"
        return [select, f"half = (step & 1) * {self.batch * self.hidden}", *loads, *stores]

    def _gather_store(self, group: str, names: list[str]) -> list[str]:
        groups_an_item = self.hidden // len(names)
        lines = [f"of_item = quotient_uint32({group}, {groups_an_item})" if self.batch > 1 else "of_item = 0"]
        lines.append(f"within = {group} - of_item * {groups_an_item}")
        start = "(within >> 5 << 7) + (within & 31)" if self.wide else "within"
        lines.append(f"position = of_item * {self.padded} + {start}")
        return lines + [f"hidden[position + {WARP * k}] = {name}" for k, name in enumerate(names)]

    def _products(self) -> list[str]:
        lines = [f"s{b}_{g} = float32(0.0)" for b in range(self.slots) for g in range(self.cell.gates)]
        for column in range(self.columns):
            for b in range(self.batch):
                lines.append(f"value = hidden[{b * self.padded + WARP * column} + lane]")
                lines += [f"s{b}_{g} = s{b}_{g} + w{g}_{column} * value" for g in range(self.cell.gates)]
        return lines

    def _reduce(self) -> list[str]:
        """Return the lines that add up over the lanes.

        While there are several batch items, each half of the lanes keeps half of them and gives the others away.
        """
        lines, slots, bit = [], self.slots, WARP // 2
        gates = range(self.cell.gates)
        while slots > 1:
            slots //= 2
            lines.append(f"upper = (lane & {bit}) != 0")
            for b in range(slots):
                for g in gates:
                    low, high = f"s{b}_{g}", f"s{b + slots}_{g}"
                    lines.append(f"given = {low} if upper else {high}")
                    kept = f"({high} if upper else {low})"
                    lines.append(f"{low} = {kept} + cuda.shfl_xor_sync(0xFFFFFFFF, given, {bit})")
            bit //= 2
        while bit:
            lines += [f"s0_{g} = s0_{g} + cuda.shfl_xor_sync(0xFFFFFFFF, s0_{g}, {bit})" for g in gates]
            bit //= 2
        return lines + [f"p{g} = s0_{g}" for g in gates]


def parameters(cell: Cell) -> tuple[str, ...]:
    """Return the kernel's parameters: addresses, then the number of steps."""
    constants = ("constants",) if cell.constants else ()
    first = tuple(f"{state}_first" for state in cell.states)
    last = tuple(f"{state}_last" for state in cell.states)
    return ("inputs", "weights", *constants, *first, "outputs", *last, "exchange", "counter", "steps")


def indent(lines: list[str]) -> list[str]:
    """Return the lines one level deeper."""
    return [f"    {line}" for line in lines]
