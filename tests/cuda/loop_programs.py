"""Loops written by hand for the persistent kernel: stacks of LSTM layers, a cell of several steps, one with a skip."""

from __future__ import annotations

from dataclasses import dataclass, field

from kernels.compiler.ir import Access, Buffer, Region, Store, Value
from kernels.compiler.loop_ir import Apply, LoopBuffer, LoopProgram, Product, Term, Window

ITEM = 4
Statement = Apply | Product


@dataclass
class Cell:
    """Collects a pointwise region over [batch, hidden] and its windows."""

    batch: int
    hidden: int
    buffers: list[Buffer] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)

    def load(self, window: Window, row: int, columns: int, offset: int = 0) -> int:
        """Return a load of [batch, hidden] out of rows `row` apart; `columns` of a row may be touched."""
        elements = (self.batch - 1) * row + columns
        if window not in self.windows:
            self.windows.append(window)
            self.buffers.append(Buffer(f"b{len(self.buffers)}", "float32", elements))
        return self.op("load", access=Access(self.windows.index(window), offset, (row, 1)))

    def op(self, name: str, *operands: int, access: Access | None = None, constant: float | None = None) -> int:
        self.values.append(Value(name, "float32", operands, access, constant))
        return len(self.values) - 1

    def store(self, value: int, window: Window) -> None:
        elements = self.batch * self.hidden
        self.windows.append(window)
        self.buffers.append(Buffer(f"b{len(self.buffers)}", "float32", elements, True))
        self.stores.append(Store(value, Access(len(self.buffers) - 1, 0, (self.hidden, 1))))

    def apply(self) -> Apply:
        domain = (self.batch, self.hidden)
        region = Region(domain, 0, tuple(self.buffers), tuple(self.values), tuple(self.stores))
        return Apply(region, tuple(self.windows))


class LoopBuilder:
    """Collects buffers and statements. Buffer 0, the scratch, has two halves for every carried value, then the rest."""

    def __init__(self, batch: int, hidden: int, steps: int) -> None:
        self.batch, self.hidden, self.steps = batch, hidden, steps
        self.sizes: list[tuple[str, int, bool]] = [("scratch", 0, True)]
        self.prologue: list[Apply] = []
        self.body: list[Statement] = []
        self.values = 0

    def buffer(self, name: str, elements: int, written: bool = False) -> int:
        self.sizes.append((name, elements * ITEM, written))
        return len(self.sizes) - 1

    def scratch(self, elements: int) -> int:
        begin = -(-self.sizes[0][1] // 64) * 64
        self.sizes[0] = ("scratch", begin + elements * ITEM, True)
        return begin

    def carried(self, first: Window | None = None) -> tuple[Window, Window]:
        """Return where a carried [batch, hidden] is written and where the last trip's is read; it begins as `first`."""
        half = -(-self.batch * self.hidden * ITEM // 64) * 64
        offset = self.scratch(2 * half // ITEM)
        value = self.number()
        now = Window(0, offset, 0, half, 0, value, 0)
        cell = Cell(self.batch, self.hidden)
        begin = cell.op("constant", constant=0.0) if first is None else cell.load(first, self.hidden, self.hidden)
        cell.store(begin, now)
        self.prologue.append(cell.apply())
        return now, Window(0, offset, 0, half, 1, value, 1)

    def number(self) -> int:
        self.values += 1
        return self.values

    def product(self, columns: int, *terms: tuple[Window, Window]) -> Window:
        """Return where sums of left [batch, hidden] @ right [columns, hidden].T are written."""
        out = Window(0, self.scratch(self.batch * columns), value=self.number())
        made = tuple(Term(self.hidden, left, (self.hidden, 1), right, (1, self.hidden)) for left, right in terms)
        self.body.append(Product("float32", self.batch, columns, made, out, columns))
        return out

    def program(self) -> LoopProgram:
        buffers = tuple(LoopBuffer(*size) for size in self.sizes)
        return LoopProgram(self.steps, buffers, tuple(self.prologue), tuple(self.body))


def lstm_stack(layers: int, hidden: int, batch: int, steps: int) -> LoopProgram:
    """Return a stack of LSTM layers; the first one's input products [steps, batch, 4 * hidden] come from outside."""
    loop = LoopBuilder(batch, hidden, steps)
    inputs = Window(loop.buffer("inputs", steps * batch * 4 * hidden), 0, batch * 4 * hidden * ITEM)
    below: Window | None = None
    for layer in range(layers):
        recurrent = Window(loop.buffer(f"weights{layer}", 4 * hidden * hidden))
        h_now, h_before = loop.carried()
        c_now, c_before = loop.carried()
        terms = [(h_before, recurrent)]
        if below is not None:
            terms.append((below, Window(loop.buffer(f"inward{layer}", 4 * hidden * hidden))))
        gates = loop.product(4 * hidden, *terms)
        extra = inputs if below is None else Window(loop.buffer(f"bias{layer}", 4 * hidden))
        row = 4 * hidden if below is None else 0
        cell = Cell(batch, hidden)
        sums = []
        for gate in range(4):
            product = cell.load(gates, 4 * hidden, 4 * hidden, gate * hidden)
            sums.append(cell.op("add", product, cell.load(extra, row, 4 * hidden, gate * hidden)))
        i, f, o = (cell.op("sigmoid", sums[gate]) for gate in (0, 1, 3))
        kept = cell.op("mul", f, cell.load(c_before, hidden, hidden))
        c = cell.op("add", kept, cell.op("mul", i, cell.op("tanh", sums[2])))
        h = cell.op("mul", o, cell.op("tanh", c))
        cell.store(c, c_now)
        cell.store(h, h_now)
        if layer == layers - 1:
            cell.store(h, Window(loop.buffer("outputs", steps * batch * hidden, True), 0, batch * hidden * ITEM))
        loop.body.append(cell.apply())
        below = h_now
    return loop.program()


def several_steps(hidden: int, batch: int, steps: int) -> LoopProgram:
    """Return a loop whose trip is a pointwise step, a product that two steps read, and those: no trips overlap."""
    loop = LoopBuilder(batch, hidden, steps)
    first = Window(loop.buffer("first", batch * hidden))
    weights = Window(loop.buffer("weights", hidden * hidden))
    inputs = Window(loop.buffer("inputs", steps * batch * hidden), 0, batch * hidden * ITEM)
    outputs = Window(loop.buffer("outputs", steps * batch * hidden, True), 0, batch * hidden * ITEM)
    now, before = loop.carried(first)
    ready = Window(0, loop.scratch(batch * hidden), value=loop.number())
    cell = Cell(batch, hidden)
    cell.store(cell.op("relu", cell.load(before, hidden, hidden)), ready)
    loop.body.append(cell.apply())
    product = loop.product(hidden, (ready, weights))
    cell = Cell(batch, hidden)
    total = cell.op("add", cell.load(product, hidden, hidden), cell.load(inputs, hidden, hidden))
    cell.store(cell.op("tanh", total), now)
    loop.body.append(cell.apply())
    cell = Cell(batch, hidden)
    cell.store(cell.op("sub", cell.load(product, hidden, hidden), cell.load(ready, hidden, hidden)), outputs)
    loop.body.append(cell.apply())
    return loop.program()


def skipping(hidden: int, steps: int) -> LoopProgram:
    """Return three layers whose last one also reads the first one's state: its two halves hold back the wavefront."""
    loop = LoopBuilder(1, hidden, steps)
    inputs = Window(loop.buffer("inputs", steps * hidden), 0, hidden * ITEM)
    outputs = Window(loop.buffer("outputs", steps * hidden, True), 0, hidden * ITEM)
    states: list[Window] = []
    for layer in range(3):
        weights = Window(loop.buffer(f"weights{layer}", hidden * hidden))
        now, before = loop.carried()
        product = loop.product(hidden, (states[-1] if states else before, weights))
        cell = Cell(1, hidden)
        total = cell.op("add", cell.load(product, hidden, hidden), cell.load(before, hidden, hidden))
        if layer == 0:
            total = cell.op("add", total, cell.load(inputs, hidden, hidden))
        if layer == 2:
            total = cell.op("add", total, cell.load(states[0], hidden, hidden))
        value = cell.op("tanh", total)
        cell.store(value, now)
        if layer == 2:
            cell.store(value, outputs)
        loop.body.append(cell.apply())
        states.append(now)
    return loop.program()
