"""The stages of a loop's trip on a GPU: a pointwise region, with the products that it alone reads kept in registers.

A warp owns a unit of a stage with products: a point of the region's domain without its rows. It multiplies whatever
columns that point reads, for all rows, and applies the region at once: the gates of an LSTM never reach memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kernels.compiler.ir import ITEM_BYTES, Access, Buffer, IrError, Region, Store, Value
from kernels.compiler.loop_ir import Apply, LoopProgram, Product, Window
from kernels.compiler.loop_plain import PlainLoop, plain_loop
from kernels.compiler.loop_verify import operands, verify_loop
from kernels.compiler.passes import remove_dead_values, remove_repeated_values


class LoopError(ValueError):
    """A loop that the persistent kernel cannot run; the message says what it has. One line."""


@dataclass(frozen=True, slots=True)
class Touch:
    """Memory that a stage touches in every trip. position: of the statement in the trip that it comes from."""

    position: int
    window: Window
    nbytes: int
    written: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """A pointwise region over its windows.

    products: buffers of the region that are no memory: what the product computes is handed over in registers.
    row_axis: the axis of the domain that runs over the rows of the products; None where they have one row.
    touches:  everything in memory that it reads or writes.
    """

    region: Region
    windows: tuple[Window, ...]
    products: dict[int, Product]
    row_axis: int | None
    touches: tuple[Touch, ...]

    @property
    def rows(self) -> int:
        """Return the rows of its products; 1 without any."""
        return 1 if self.row_axis is None else self.region.domain[self.row_axis]

    @property
    def extents(self) -> tuple[int, ...]:
        """Return the domain without its rows."""
        return tuple(extent for axis, extent in enumerate(self.region.domain) if axis != self.row_axis)

    @property
    def units(self) -> int:
        """Return how many warps have work, or without products how many threads."""
        return math.prod(self.extents)

    def column_reads(self) -> tuple[tuple[int, Access], ...]:
        """Return the distinct products that a unit needs: buffer of the region, and access."""
        loads = (value.access for value in self.region.values if value.access is not None)
        found = ((access.buffer, access) for access in loads if access.buffer in self.products)
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Stages:
    """A loop as stages in the order of the trip; before: what runs once, trip -1."""

    program: PlainLoop
    before: tuple[Stage, ...]
    stages: tuple[Stage, ...]


def stages_of(program: LoopProgram, fused: bool = True) -> Stages:
    """Return the stages of a loop. fused: products go into the stage that reads them.

    Raises LoopError for what the kernel cannot run, IrError for an invalid program.
    """
    verify_loop(program)
    try:
        plain = plain_loop(program)
    except IrError as error:
        raise LoopError(str(error)) from error
    for statement in (*plain.prologue, *plain.body):
        _require_supported(plain, statement)
    takers = _takers(plain) if fused else {}
    before = tuple(_region_stage(statement, k, {}, None) for k, statement in enumerate(plain.prologue))
    stages = tuple(_stages(plain, takers))
    return Stages(plain, before, stages)


def _require_supported(program: PlainLoop, statement: Apply | Product) -> None:
    if isinstance(statement, Product):
        if statement.dtype != "float32":
            raise LoopError(f"a product of {statement.dtype}; the persistent kernel multiplies float32")
        return
    if statement.region.reduced:
        raise LoopError("a reduction within a trip; the persistent kernel runs pointwise steps and products")
    for window, buffer in zip(statement.windows, statement.region.buffers, strict=True):
        item = ITEM_BYTES[buffer.dtype]
        if any(number % item for number in (window.offset, window.step, window.alternate)):
            raise LoopError(f"a window of {buffer.dtype} that begins within an element")
        if buffer.dtype != "float32" and window.value >= 0 and program.buffers[window.buffer].written:
            raise LoopError(f"{buffer.dtype} values that pass from step to step; only float32 ones can")


def _takers(program: PlainLoop) -> dict[int, int]:
    """Return for each product, by position, the one region that can take it in."""
    found = {}
    for position, statement in enumerate(program.body):
        if not isinstance(statement, Product):
            continue
        readers = {
            place
            for place, other in enumerate(program.body)
            for operand in operands(other)
            if not operand.written and operand.window.value == statement.out.value
        }
        if len(readers) == 1 and _can_take(program, position, min(readers)):
            found[position] = min(readers)
    return found


def _can_take(program: PlainLoop, position: int, reader: int) -> bool:
    product, statement = program.body[position], program.body[reader]
    if not isinstance(product, Product) or not isinstance(statement, Apply) or reader < position:
        return False
    numbers = [k for k, window in enumerate(statement.windows) if window.value == product.out.value]
    if any(statement.windows[k].age != 0 or statement.region.buffers[k].written for k in numbers):
        return False
    shift = _shift(statement.windows[numbers[0]], product.out)
    same = all(_shift(statement.windows[k], product.out) == shift for k in numbers)
    return len(numbers) == 1 and same and shift is not None and row_axis(statement.region, {numbers[0]: product}) >= -1


def _shift(window: Window, out: Window) -> int | None:
    """Return how many elements behind the product's beginning the window begins; None where that varies."""
    fixed = (window.step, window.alternate, window.phase) == (out.step, out.alternate, out.phase)
    return (window.offset - out.offset) // ITEM_BYTES["float32"] if fixed and window.offset >= out.offset else None


def row_axis(region: Region, products: dict[int, Product]) -> int:
    """Return the axis that runs over the products' rows, -1 where they have one row, -2 where a point reads several."""
    candidates = [-1] if all(product.rows == 1 for product in products.values()) else list(range(len(region.domain)))
    loads = [value.access for value in region.values if value.access is not None and value.access.buffer in products]
    for axis in candidates:
        if all(_reads_one_row(region, products[access.buffer], access, axis) for access in loads):
            return axis
    return -2


def _reads_one_row(region: Region, product: Product, access: Access, axis: int) -> bool:
    if axis >= 0 and (region.domain[axis] != product.rows or access.strides[axis] != product.out_stride):
        return False
    rest = [(e, s) for k, (e, s) in enumerate(zip(region.domain, access.strides, strict=True)) if k != axis]
    if any(stride < 0 for _, stride in rest):
        return False
    return access.offset + sum((extent - 1) * stride for extent, stride in rest) < product.columns


def _stages(program: PlainLoop, takers: dict[int, int]) -> Iterator[Stage]:
    for position, statement in enumerate(program.body):
        if isinstance(statement, Product):
            if position not in takers:
                yield _product_stage(statement, position)
            continue
        taken: dict[int, Product] = {}
        places: dict[int, int] = {}
        for place, reader in takers.items():
            product = program.body[place]
            assert isinstance(product, Product)
            number = next((k for k, w in enumerate(statement.windows) if w.value == product.out.value), None)
            if (
                reader == position
                and number is not None
                and row_axis(statement.region, {**taken, number: product}) > -2
            ):
                taken[number], places[number] = product, place
            elif reader == position:
                yield _product_stage(product, place)
        yield _region_stage(statement, position, taken, places)


def _product_stage(product: Product, position: int) -> Stage:
    """Return the stage of a product whose result goes to memory."""
    elements = (product.rows - 1) * product.out_stride + product.columns
    access = Access(0, 0, (product.out_stride, 1))
    region = Region(
        (product.rows, product.columns),
        0,
        (Buffer("product", "float32", elements), Buffer("out", "float32", elements, True)),
        (Value("load", "float32", access=access),),
        (Store(0, replace(access, buffer=1)),),
    )
    return _region_stage(Apply(region, (product.out, product.out)), position, {0: product}, {0: position})


def _region_stage(
    statement: Apply, position: int, products: dict[int, Product], places: dict[int, int] | None
) -> Stage:
    region = remove_dead_values(remove_repeated_values(statement.region))
    shifted = _from_the_beginning(region, statement.windows, products)
    touches = [
        Touch(position, operand.window, operand.nbytes, operand.written)
        for number, operand in enumerate(operands(statement))
        if number not in products
    ]
    for number, product in products.items():
        reads = [operand for operand in operands(product) if not operand.written]
        touches += [Touch((places or {})[number], read.window, read.nbytes, False) for read in reads]
    axis = row_axis(shifted, products) if products else -1
    assert axis > -2, "a product was taken into a region that reads several of its rows at a point"
    return Stage(shifted, statement.windows, products, None if axis < 0 else axis, tuple(touches))


def _from_the_beginning(region: Region, windows: tuple[Window, ...], products: dict[int, Product]) -> Region:
    """Return the region with reads of a product counted from the product's own beginning."""
    shifts = {k: _shift(windows[k], product.out) or 0 for k, product in products.items()}

    def moved(value: Value) -> Value:
        access = value.access
        if access is None or not shifts.get(access.buffer):
            return value
        return replace(value, access=replace(access, offset=access.offset + shifts[access.buffer]))

    return replace(region, values=tuple(moved(value) for value in region.values))
