"""Layers that run one after the other over all steps become one loop, each step through all layers.

A stack of recurrent layers is a loop, a product of all its outputs, the next loop. On a GPU the product goes into the
next layer's step: then layer 2 works on a step while layer 1 works on the following one, in one persistent kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernels.compiler.ir import ITEM_BYTES, IrError
from kernels.compiler.loop_ir import Apply, Fused, LoopBuffer, LoopProgram, Pack, Product, Term, Window, parts
from kernels.compiler.loop_verify import operands, verify_loop
from optimizers.fusion.graph import Call, Definition, Lowered, Reference, references_in, span, users_of
from optimizers.fusion.loops import Loop
from optimizers.fusion.memory import ALIGNMENT, references_by_source

_ITEM = ITEM_BYTES["float32"]


@dataclass(frozen=True, slots=True)
class _Link:
    """How a loop gets what another stored: as it is, or through a product of all steps.

    read:    the definition that the second loop reads.
    product: the number of the call that made it; None where it is what the first loop stored.
    """

    read: int
    product: int | None


def merge_loops(lowered: Lowered) -> Lowered:
    """Return the graph with loops of as many trips, one feeding the other step by step, as one loop."""
    merged: Lowered | None = lowered
    while merged is not None:
        lowered, merged = merged, _first_merged(merged)
    return lowered


def _first_merged(lowered: Lowered) -> Lowered | None:
    loops = [number for number, call in enumerate(lowered.calls) if isinstance(call.target, Loop) and call.args]
    for first in loops:
        for second in loops:
            if first == second:
                continue
            links = _links(lowered, first, second)
            if links:
                try:
                    return _Merger(lowered, first, second, links).merged()
                except IrError:
                    continue  # a step of the second needs more than the first has stored by then
    return None


def _links(lowered: Lowered, first: int, second: int) -> list[_Link]:
    """Return what the second loop reads of the first one's results; none where it also depends on them otherwise."""
    one, other = _loop(lowered, first), _loop(lowered, second)
    if one.program.trips != other.program.trips:
        return []
    stored = _stored(lowered, first)
    found: list[_Link] = []
    for read, buffer in zip(other.memories, other.program.buffers, strict=True):
        if buffer.written:
            continue
        product = _product_of(lowered, read, stored)
        if read in stored:
            found.append(_Link(read, None))
        elif product is not None:
            found.append(_Link(read, product))
            (_, right) = lowered.calls[product].args
            if _depends(lowered, right.source, first):
                return []
        elif _depends(lowered, read, first):
            return []
    return found


def _loop(lowered: Lowered, number: int) -> Loop:
    loop = lowered.calls[number].target
    assert isinstance(loop, Loop)
    return loop


def _stored(lowered: Lowered, number: int) -> dict[int, int]:
    """Return the definitions that a loop stores its results in, and the buffer that each one is."""
    loop, call = _loop(lowered, number), lowered.calls[number]
    pairs = enumerate(zip(loop.memories, loop.program.buffers, strict=True))
    return {index: k for k, (index, buffer) in pairs if buffer.written and index not in call.results}


def _product_of(lowered: Lowered, index: int, stored: dict[int, int]) -> int | None:
    """Return the call that makes a definition as a product of what is stored with something else."""
    definition = lowered.definitions[index]
    if definition.kind != "call" or definition.place is not None or definition.dtype != "float32":
        return None
    call = lowered.calls[definition.number]
    if str(call.target) != "aten.mm.default" or call.kwargs or call.args[0].source not in stored:
        return None
    return definition.number if _read_by_one(lowered, index, call) else None


def _read_by_one(lowered: Lowered, index: int, made: Call) -> bool:
    """Return whether a single call reads a definition, and nothing any of its slices."""
    own = {index, *made.slices}
    references = references_by_source(lowered)
    returned = {item.source for item in references_in(lowered.outputs)}
    return not own & returned and sum(len(references.get(k, ())) for k in own) == 1


def _depends(lowered: Lowered, index: int, number: int) -> bool:
    """Return whether a definition is computed from what call `number` makes."""
    parts_of: dict[int, list[int]] = {}
    for definition in lowered.definitions:
        if definition.place is not None:
            parts_of.setdefault(definition.place[0], []).append(definition.index)
    waiting, seen = [index], set[int]()
    while waiting:
        k = waiting.pop()
        if k in seen:
            continue
        seen.add(k)
        definition = lowered.definitions[k]
        if definition.kind == "call" and definition.number == number:
            return True
        waiting += [item.source for item in references_in(definition.operands)] + parts_of.get(k, [])
        waiting += [definition.place[0]] if definition.place is not None else []
        if definition.kind == "call":
            waiting += [item.source for item in lowered.call_inputs(lowered.calls[definition.number])]
    return False


class _Merger:
    """Puts the second loop's trip behind the first one's; the verifier then says whether that is right."""

    def __init__(self, lowered: Lowered, first: int, second: int, links: Sequence[_Link]) -> None:
        self.lowered, self.first, self.second, self.links = lowered, first, second, links
        self.one, self.other = _loop(lowered, first), _loop(lowered, second)
        self.definitions = list(lowered.definitions)
        made = {link.read for link in links if link.product is not None}
        further = (index for index in self.other.memories if index not in made)
        weights = (lowered.calls[link.product].args[1].source for link in links if link.product is not None)
        self.memories = tuple(dict.fromkeys((*self.one.memories, *further, *weights)))
        self.next_value = 1 + max(window.value for window in _windows(self.one.program))
        self.values_before = self.next_value
        self.next_value += 1 + max(window.value for window in _windows(self.other.program))
        self.stored = {index: self._number() for index in _stored(lowered, first)}
        self.scratch = lowered.calls[second].results[0] if lowered.calls[second].results else None
        self.scratch_bytes = self._bytes_of(self.scratch)
        self.products: dict[int, Product] = {}

    def merged(self) -> Lowered:
        """Return the graph. Raises IrError where the two are not one loop."""
        if self.scratch is None:
            raise IrError("the second loop has no memory of its own for a product")
        for link in self.links:
            if link.product is not None:
                self.products[link.read] = self._product(link)
        one, other = self.one.program, self.other.program
        prologue = (*map(self._of_first, one.prologue), *map(self._of_second, other.prologue))
        body = (*map(self._of_first, one.body), *self.products.values(), *map(self._of_second, other.body))
        program = LoopProgram(one.trips, self._buffers(), prologue, body)
        verify_loop(program)
        return self._graph(program)

    def _number(self) -> int:
        self.next_value += 1
        return self.next_value

    def _bytes_of(self, index: int | None) -> int:
        sizes = zip(self.other.memories, self.other.program.buffers, strict=True)
        return next((buffer.nbytes for memory, buffer in sizes if memory == index), 0)

    def _buffers(self) -> tuple[LoopBuffer, ...]:
        sizes: dict[int, int] = {}
        written: set[int] = set()
        for loop in (self.one, self.other):
            for index, buffer in zip(loop.memories, loop.program.buffers, strict=True):
                sizes[index] = max(sizes.get(index, 0), buffer.nbytes)
                written |= {index} if buffer.written else set()
        for index in self.memories:
            definition = self.definitions[index]
            sizes.setdefault(index, span(definition.shape, definition.strides) * ITEM_BYTES[definition.dtype])
        assert self.scratch is not None
        sizes[self.scratch] = self.scratch_bytes
        return tuple(LoopBuffer(f"d{index}", sizes[index], index in written) for index in self.memories)

    def _product(self, link: _Link) -> Product:
        """Return the product of one step: rows of what the first loop stored in this trip, times the same factor."""
        assert link.product is not None
        left, right = self.lowered.calls[link.product].args
        trips, (total, depth) = self.one.program.trips, left.shape
        rows, columns = total // trips, right.shape[1]
        if rows * trips != total or self.definitions[right.source].place is not None:
            raise IrError("the product's rows are not those of the steps")
        out = Window(self.memories.index(self.scratch), self._slot(rows * columns * _ITEM), value=self._number())
        begin = Window(
            self.memories.index(left.source),
            left.offset * _ITEM,
            rows * left.strides[0] * _ITEM,
            value=self.stored[left.source],
        )
        factor = Window(self.memories.index(right.source), right.offset * _ITEM)
        term = Term(depth, begin, _pair(left), factor, _pair(right))
        return Product("float32", rows, columns, (term,), out, columns)

    def _slot(self, nbytes: int) -> int:
        offset = -(-self.scratch_bytes // ALIGNMENT) * ALIGNMENT
        self.scratch_bytes = offset + -(-nbytes // ALIGNMENT) * ALIGNMENT
        return offset

    def _of_first(self, statement: Any) -> Any:
        """Return a statement of the first loop; what it stores for the second has a number of its own."""

        def moved(window: Window) -> Window:
            index = self.one.memories[window.buffer]
            return replace(window, buffer=self.memories.index(index), value=self.stored.get(index, window.value))

        return _with_windows(statement, moved)

    def _of_second(self, statement: Any) -> Any:
        """Return a statement of the second loop, reading what the first stored in this trip."""

        def moved(window: Window) -> Window:
            index = self.other.memories[window.buffer]
            if index in self.products:
                return self._of_product(window, self.products[index])
            buffer = self.memories.index(index)
            if index in self.stored:
                return replace(window, buffer=buffer, value=self.stored[index])
            value = window.value + self.values_before if window.value >= 0 else window.value
            return replace(window, buffer=buffer, value=value)

        return _with_windows(statement, moved)

    def _of_product(self, window: Window, product: Product) -> Window:
        """Return the window onto one step's product for one onto the product of all steps."""
        if window.step != product.rows * product.columns * _ITEM or window.alternate:
            raise IrError("the product's rows are not read step by step")
        return replace(product.out, offset=product.out.offset + window.offset)

    def _graph(self, program: LoopProgram) -> Lowered:
        calls = list(self.lowered.calls)
        one, other = calls[self.first], calls[self.second]
        products = [link.product for link in self.links if link.product is not None]
        nodes = [self.definitions[link.read].node for link in self.links if link.product is not None]
        loop = Loop(
            program,
            self.memories,
            self.one.period + self.other.period,
            tuple(dict.fromkeys((*self.one.nodes, *nodes, *self.other.nodes))),
        )
        arguments = tuple(
            _whole(self.definitions[index])
            for index, buffer in zip(self.memories, program.buffers, strict=True)
            if not buffer.written
        )
        results, slices = (*one.results, *other.results), (*one.slices, *other.slices)
        calls[self.second] = Call(loop, arguments, (), results, True, False, slices)
        for number in (self.first, *products):
            calls[number] = replace(calls[number], args=(), results=(), slices=())
        definitions = tuple(self._definition(definition, products) for definition in self.definitions)
        return replace(self.lowered, definitions=definitions, calls=tuple(calls), users=users_of(definitions))

    def _definition(self, definition: Definition, products: Sequence[int]) -> Definition:
        if definition.index == self.scratch:
            elements = -(-self.scratch_bytes // _ITEM)
            return replace(definition, shape=(elements,), number=self.second)
        if definition.kind != "call":
            return definition
        if definition.number in products:
            return replace(definition, kind="gone", operands=(), place=None)
        return replace(definition, number=self.second) if definition.number == self.first else definition


def _pair(reference: Reference) -> tuple[int, int]:
    return reference.strides[0], reference.strides[1]


def _whole(definition: Definition) -> Reference:
    return Reference(definition.index, 0, definition.shape, definition.strides)


def _windows(program: LoopProgram) -> Iterator[Window]:
    for statement in (*program.prologue, *program.body):
        for part in parts(statement):
            yield from (operand.window for operand in operands(part))


def _with_windows(statement: Any, moved: Callable[[Window], Window]) -> Any:
    """Return a statement with every window moved."""
    if isinstance(statement, Apply):
        return replace(statement, windows=tuple(map(moved, statement.windows)))
    if isinstance(statement, Fused):
        products = tuple(_with_windows(product, moved) for product in statement.products)
        return replace(statement, products=products, apply=_with_windows(statement.apply, moved))
    if isinstance(statement, Pack):
        product = _with_windows(statement.product, moved)
        return replace(statement, product=product, source=moved(statement.source), out=moved(statement.out))
    terms = tuple(replace(term, left=moved(term.left), right=moved(term.right)) for term in statement.terms)
    return replace(statement, terms=terms, out=moved(statement.out))
