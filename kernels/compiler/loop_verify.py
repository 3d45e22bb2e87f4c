"""The rules of a loop program, checked trip by trip before anything is printed.

Every access stays in its buffer in every trip; what a statement reads is exactly the value that it names, of the trip
that it names, whole and not overwritten since; what a statement writes meets nothing that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernels.compiler.ir import FLOATING, ITEM_BYTES, IrError
from kernels.compiler.loop_fuse import buffer_of, in_tiles
from kernels.compiler.loop_ir import Apply, Fused, LoopProgram, Pack, Product, Statement, Term, Window, parts
from kernels.compiler.loop_product import packable, packed_bytes
from kernels.compiler.verify import verify


@dataclass(frozen=True, slots=True)
class Operand:
    """One window of a statement and the bytes from its beginning on that the statement may touch."""

    window: Window
    nbytes: int
    written: bool


def verify_loop(program: LoopProgram) -> None:
    """Return nothing if the program keeps every rule; raise IrError on the first that it breaks."""
    _require(program.trips >= 1, f"the loop makes {program.trips} trips; it needs at least 1")
    _require(bool(program.body), "the loop has no statement")
    for position, statement in enumerate((*program.prologue, *program.body)):
        for part in parts(statement):
            _check_statement(program, f"statement {position}", part)
        if isinstance(statement, Fused):
            _check_fused(program, f"statement {position}", statement)
    contents: dict[int, _Contents] = {k: _Contents() for k in range(len(program.buffers))}
    for trip in range(-1, program.trips):
        for position, statement in enumerate(program.prologue if trip < 0 else program.body):
            name = f"statement {position + (0 if trip < 0 else len(program.prologue))} in trip {trip}"
            _check_ranges(program, name, statement, trip)
            for part in parts(statement):
                _check_ranges(program, name, part, trip)
                _run(contents, name, part, trip)


def operands(statement: Statement) -> Iterator[Operand]:
    """Yield what a statement touches, in order: a region's buffers; left and right of a product's terms, then out.

    A fused one touches all factors, then the region's buffers but for those of its products.
    """
    if isinstance(statement, Fused):
        for product in statement.products:
            yield from (operand for operand in operands(product) if not operand.written)
        own = {buffer_of(statement, product) for product in statement.products}
        yield from (operand for k, operand in enumerate(operands(statement.apply)) if k not in own)
        return
    if isinstance(statement, Apply):
        for buffer, window in zip(statement.region.buffers, statement.windows, strict=True):
            yield Operand(window, buffer.elements * ITEM_BYTES[buffer.dtype], buffer.written)
        return
    if isinstance(statement, Pack):
        product, packed = statement.product, statement.product.terms[statement.term]
        yield Operand(statement.source, _right_span(product, packed) * ITEM_BYTES[product.dtype], False)
        yield Operand(statement.out, packed_bytes(product, statement.term), True)
        return
    item = ITEM_BYTES[statement.dtype]
    for number, term in enumerate(statement.terms):
        left = 1 + (statement.rows - 1) * term.left_strides[0] + (term.depth - 1) * term.left_strides[1]
        right = packed_bytes(statement, number) if term.packed else _right_span(statement, term) * item
        yield Operand(term.left, left * item, False)
        yield Operand(term.right, right, False)
    yield Operand(statement.out, ((statement.rows - 1) * statement.out_stride + statement.columns) * item, True)


def _right_span(product: Product, term: Term) -> int:
    """Return the elements from the first to the last one of an unpacked right factor."""
    return 1 + (term.depth - 1) * term.right_strides[0] + (product.columns - 1) * term.right_strides[1]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise IrError(message)


def _check_statement(program: LoopProgram, name: str, statement: Apply | Product | Pack) -> None:
    if isinstance(statement, Apply):
        verify(statement.region)
        count = len(statement.region.buffers)
        _require(len(statement.windows) == count, f"{name} has {len(statement.windows)} windows for {count} buffers")
        same = any(buffer.same_as is not None for buffer in statement.region.buffers)
        _require(not same, f"{name} joins buffers by same_as; give one window instead")
    else:
        _check_product(name, statement.product if isinstance(statement, Pack) else statement)
    for operand in operands(statement):
        window = operand.window
        _require(0 <= window.buffer < len(program.buffers), f"{name} names buffer {window.buffer}, which is not there")
        buffer = program.buffers[window.buffer]
        if operand.written:
            _require(buffer.written, f"{name} writes to buffer {buffer.name}, which is not marked as written")
            _require(window.age == 0, f"{name} writes a value of an earlier trip")
        else:
            _require(
                window.value >= 0 or not buffer.written,
                f"{name} reads from buffer {buffer.name}, which the loop writes, without naming the value",
            )


def _check_product(name: str, product: Product) -> None:
    _require(product.dtype in FLOATING, f"{name} multiplies {product.dtype}; only floating dtypes can be")
    _require(bool(product.terms), f"{name} has no term")
    extents = (product.rows, product.columns, *(term.depth for term in product.terms))
    _require(min(extents) >= 1, f"{name} has the extents {extents}; each must be at least 1")
    strides = [s for term in product.terms for s in (*term.left_strides, *term.right_strides)]
    _require(min(strides) >= 0, f"{name} has a negative stride")
    packed = any(term.packed for term in product.terms)
    _require(not packed or packable(product), f"{name} cannot be packed")
    _require(
        product.rows == 1 or product.out_stride >= product.columns,
        f"{name} writes rows of {product.columns} elements {product.out_stride} apart",
    )


def _check_fused(program: LoopProgram, name: str, fused: Fused) -> None:
    _require(bool(fused.products), f"{name} has no product")
    reason = in_tiles(fused)
    _require(not isinstance(reason, str), f"{name} cannot be one: {reason}")
    made = {product.out.value for product in fused.products}
    _require(len(made) == len(fused.products), f"{name} has two products in one place")
    for other in (*program.prologue, *program.body):
        if other is not fused:
            read = {operand.window.value for part in parts(other) for operand in operands(part)}
            _require(not made & read, f"{name} has a product that another statement touches; it is never stored")
    reads = [operand.window.value for operand in operands(fused)]
    _require(not made & set(reads), f"{name} reads a product of its own as a factor")


def _check_ranges(program: LoopProgram, name: str, statement: Statement, trip: int) -> None:
    touched = [(operand, operand.window.begin(trip)) for operand in operands(statement)]
    for operand, begin in touched:
        buffer = program.buffers[operand.window.buffer]
        _require(
            begin >= 0 and begin + operand.nbytes <= buffer.nbytes,
            f"{name} touches bytes {begin} to {begin + operand.nbytes} of buffer {buffer.name} ({buffer.nbytes})",
        )
    for position, (one, first) in enumerate(touched):
        for other, second in touched[:position]:
            if one.window.buffer != other.window.buffer or not (one.written or other.written):
                continue
            apart = first + one.nbytes <= second or second + other.nbytes <= first
            _require(apart, f"{name}: what it writes in buffer {program.buffers[one.window.buffer].name} overlaps")


class _Contents:
    """Which value, of which trip, lies in each byte range of one buffer."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int, tuple[int, int]]] = []

    def write(self, begin: int, end: int, tag: tuple[int, int]) -> None:
        kept: list[tuple[int, int, tuple[int, int]]] = []
        for first, last, other in self.ranges:
            if last <= begin or end <= first:
                kept.append((first, last, other))
            elif other == tag:
                begin, end = min(begin, first), max(end, last)
            else:
                kept += [(first, begin, other)] * (first < begin) + [(end, last, other)] * (end < last)
        self.ranges = [*kept, (begin, end, tag)]

    def holds(self, begin: int, end: int, tag: tuple[int, int]) -> bool:
        place = begin
        for first, last, other in sorted(self.ranges):
            if other == tag and first <= place < last:
                place = last
        return place >= end


def _run(contents: dict[int, _Contents], name: str, statement: Statement, trip: int) -> None:
    found = list(operands(statement))
    for operand in found:
        window = operand.window
        if operand.written or window.value < 0:
            continue
        begin = window.begin(trip)
        tag = (window.value, -1 if window.age is None else trip - window.age)
        _require(
            contents[window.buffer].holds(begin, begin + operand.nbytes, tag),
            f"{name} reads value {tag[0]} of trip {tag[1]}, which is not whole where it reads it",
        )
    for operand in found:
        # What leaves the loop is read by nobody in it: only memory that holds named values is followed.
        if operand.written and (operand.window.value >= 0 or contents[operand.window.buffer].ranges):
            begin = operand.window.begin(trip)
            contents[operand.window.buffer].write(begin, begin + operand.nbytes, (operand.window.value, trip))
