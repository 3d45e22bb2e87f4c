"""Regions with reduced axes at the edge of what the IR allows."""

from __future__ import annotations

from kernels.compiler.ir import Region
from tests.kernels.compiler.regions import Builder


def without_reduction() -> Region:
    """Every element by itself."""
    b = Builder(3, 5, reduced=1)
    b.output(b.value("exp", b.load(b.buffer(15), 5, 1)), 5, 1, elements=15)
    return b.region()


def without_walk() -> Region:
    """One result a row, from one element a row."""
    b = Builder(3, 5, reduced=1)
    b.output(b.value("exp", b.load(b.buffer(3), 1, 0)), 1, 0, elements=3)
    return b.region()


def row_value_that_fills_its_row() -> Region:
    """A row-level operand counts once for each element, and so does its store."""
    b = Builder(3, 5, reduced=1)
    b.output(b.value("reduce_sum", b.load(b.buffer(3), 1, 0)), 5, 1, elements=15)
    return b.region()


def one_element() -> Region:
    """No outer axis, a row of one."""
    b = Builder(1, reduced=1)
    b.output(b.value("reduce_max", b.load(b.buffer(1), 1)), 0, elements=1)
    return b.region()


def sum_of_a_constant() -> Region:
    """Beside the maximum of a row."""
    b = Builder(4, 7, reduced=1)
    b.output(b.value("reduce_max", b.load(b.buffer(28), 7, 1)), 1, 0, elements=4)
    b.output(b.value("reduce_sum", b.constant(2.0)), 1, 0, elements=4)
    return b.region()


def row_sums_added_in_place() -> Region:
    """A row-level value that is read by all members and then updated by one."""
    b = Builder(3, 40, reduced=1)
    memory = b.buffer(3, written=True)
    total = b.value("add", b.load(memory, 1, 0), b.value("reduce_sum", b.load(b.buffer(120), 40, 1)))
    b.store(total, b.buffer(3, written=True, same_as=memory), 1, 0)
    return b.region()


def backwards() -> Region:
    """Rows that are read from their end."""
    b = Builder(3, 9, reduced=1)
    x = b.load(b.buffer(27), 9, -1, offset=8)
    b.output(b.value("sub", x, b.value("reduce_max", x)), 9, 1, elements=27)
    return b.region()


EDGES = (
    without_reduction, without_walk, row_value_that_fills_its_row, one_element, sum_of_a_constant,
    row_sums_added_in_place, backwards,
)  # fmt: skip
