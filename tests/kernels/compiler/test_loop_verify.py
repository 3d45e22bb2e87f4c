"""The verifier accepts a right loop and names what is wrong with each planted fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kernels.compiler.ir import IrError
from kernels.compiler.loop_ir import Apply, Fused, LoopBuffer, LoopProgram, Product, Window, parts
from kernels.compiler.loop_scopes import READ_ONLY, alias_scopes
from kernels.compiler.loop_verify import verify_loop
from tests.kernels.compiler.loops import fused, recurrence

GOOD = recurrence(trips=5, rows=3, size=7, packed=True)


def product() -> Product:
    found = GOOD.body[0]
    assert isinstance(found, Product)
    return found


def with_term(**fields: Any) -> Product:
    return replace(product(), terms=(replace(product().terms[0], **fields),))


def region() -> Apply:
    found = GOOD.body[1]
    assert isinstance(found, Apply)
    return found


def with_window(position: int, **fields: Any) -> Apply:
    windows = list(region().windows)
    windows[position] = replace(windows[position], **fields)
    return replace(region(), windows=tuple(windows))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("trips", [1, 2, 9])
def test_right_loop_is_accepted(trips: int, packed: bool) -> None:
    verify_loop(recurrence(trips, 2, 5, packed=packed))


PANELS = product().terms[0].right
FAULTS = {
    "reads past the end in the last trip": (
        replace(GOOD, body=(product(), with_window(1, step=region().windows[1].step + 4))),
        "trip 4 touches bytes",
    ),
    "begins before the buffer": (
        replace(GOOD, body=(product(), with_window(1, offset=-4))),
        "trip 0 touches bytes -4",
    ),
    "one trip too many": (replace(GOOD, trips=6), "trip 5 touches bytes"),
    "no initial state": (replace(GOOD, prologue=GOOD.prologue[1:]), "trip 0 reads value 1 of trip -1"),
    "no panels": (replace(GOOD, prologue=GOOD.prologue[:1]), "reads value 3 of trip -1"),
    "statements the wrong way round": (replace(GOOD, body=(region(), product())), "reads value 2 of trip 0"),
    "state of the same trip instead of the one before": (
        replace(GOOD, body=(with_term(left=replace(product().terms[0].left, age=0)), region())),
        "reads value 1 of trip 0",
    ),
    "the wrong half of the state": (
        replace(GOOD, body=(with_term(left=replace(product().terms[0].left, phase=0)), region())),
        "reads value 1 of trip -1",
    ),
    "one half for both states": (
        replace(GOOD, body=(product(), with_window(2, alternate=0))),
        "trip 2 reads value 1 of trip 1",
    ),
    "product over the state that it reads": (
        replace(GOOD, body=(replace(product(), out=replace(product().out, offset=0)), region())),
        "reads value 2 of trip 0",
    ),
    "product over the panels": (
        replace(
            GOOD,
            body=(replace(product(), out=replace(product().out, offset=product().terms[0].right.offset)), region()),
        ),
        "overlaps",
    ),
    "memory that is not marked as written": (
        replace(GOOD, buffers=(*GOOD.buffers[:3], replace(GOOD.buffers[3], written=False))),
        "not marked as written",
    ),
    "results read without a name": (
        replace(GOOD, body=(product(), with_window(1, buffer=3))),
        "without naming the value",
    ),
    "a buffer that is not there": (replace(GOOD, body=(product(), with_window(0, buffer=9))), "buffer 9"),
    "too few windows": (replace(GOOD, body=(product(), replace(region(), windows=region().windows[:3]))), "3 windows"),
    "no trip": (replace(GOOD, trips=0), "0 trips"),
    "no statement": (replace(GOOD, body=()), "no statement"),
    "integer product": (replace(GOOD, body=(replace(product(), dtype="int32"), region())), "multiplies int32"),
    "empty product": (replace(GOOD, body=(with_term(depth=0), region())), "at least 1"),
    "no term": (replace(GOOD, body=(replace(product(), terms=()), region())), "has no term"),
    "rows over each other": (replace(GOOD, body=(replace(product(), out_stride=3), region())), "3 apart"),
    "writes into an earlier trip": (replace(GOOD, body=(product(), with_window(3, age=1))), "of an earlier trip"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda name: name.replace(" ", "-"))
def test_planted_fault_is_named(fault: str) -> None:
    program, words = FAULTS[fault]
    with pytest.raises(IrError, match=words) as error:
        verify_loop(program)
    assert "\n" not in str(error.value)


ONE = fused(GOOD)


def one(apply: Apply | None = None, **fields: Any) -> Fused:
    found = ONE.body[0]
    assert isinstance(found, Fused)
    return Fused((replace(found.products[0], **fields),), apply or found.apply)


def over_the_state(**fields: Any) -> Apply:
    """The region with its new state where the product still reads the old one."""
    windows = list(region().windows)
    windows[2] = replace(windows[2], **fields)
    return replace(region(), windows=tuple(windows))


ONE_FAULTS = {
    "stores what other tiles still read": (replace(ONE, body=(one(over_the_state(phase=1)),)), "overlaps"),
    "a product that another statement reads": (replace(ONE, body=(one(), region())), "another statement touches"),
    "a product that another statement makes": (replace(ONE, body=(product(), one())), "another statement touches"),
    "no product": (replace(ONE, body=(replace(one(), products=()),)), "has no product"),
    "the same product twice": (replace(ONE, body=(replace(one(), products=one().products * 2),)), "two products"),
    "rows of another length": (replace(ONE, body=(one(out_stride=8),)), "touches bytes|cannot be one"),
    "groups that are no blocks of the region's columns": (
        replace(ONE, prologue=ONE.prologue[:1], body=(one(groups=7),)),
        "not blocks of 7 columns",
    ),
    "a region that reads it elsewhere": (
        replace(ONE, body=(one(out=replace(product().out, value=9)),)),
        "0 buffers in the memory of the product",
    ),
    "panels of another size": (replace(ONE, prologue=ONE.prologue[:1]), "reads value 3 of trip -1"),
    "no initial state": (replace(ONE, prologue=ONE.prologue[1:]), "reads value 1 of trip -1"),
}


@pytest.mark.parametrize("fault", ONE_FAULTS, ids=lambda name: name.replace(" ", "-"))
def test_planted_fault_in_a_fused_statement_is_named(fault: str) -> None:
    verify_loop(ONE)
    program, words = ONE_FAULTS[fault]
    with pytest.raises(IrError, match=words) as error:
        verify_loop(program)
    assert "\n" not in str(error.value)


def test_fused_statement_stands_for_its_parts_and_has_a_scope_for_its_tile() -> None:
    assert [type(part) for part in parts(one())] == [Product, Apply] and parts(product()) == (product(),)
    *others, scopes = alias_scopes(ONE)
    assert len(scopes) == 2 + 3 + 1
    assert scopes[-1] not in {*scopes[:-1], *(scope for row in others for scope in row)}
    assert ONE.key() != GOOD.key()


def test_scratch_that_is_used_again_too_early_is_refused() -> None:
    program = recurrence(4, 2, 5)
    first, last = program.body
    assert isinstance(first, Product) and isinstance(last, Apply)
    # The state's new half is where the product still lies.
    windows = list(last.windows)
    windows[2] = replace(windows[2], offset=first.out.offset, alternate=0)
    with pytest.raises(IrError, match="overlaps|reads value"):
        verify_loop(replace(program, body=(first, replace(last, windows=tuple(windows)))))


def test_memory_that_is_ever_shared_has_one_scope() -> None:
    zero, pack, multiply, update = alias_scopes(GOOD)
    assert multiply[0] == update[2] == zero[0], "both halves of the state, whichever is the new one"
    assert pack == (READ_ONLY, multiply[1]) and update[1] == READ_ONLY
    assert len({READ_ONLY, multiply[0], multiply[1], multiply[2], update[3]}) == 5


def test_key_depends_on_where_operands_lie() -> None:
    keys = {program.key() for program, _ in FAULTS.values()}
    assert len(keys) >= len(FAULTS) - 1 and GOOD.key() not in keys
    renamed = replace(GOOD, buffers=tuple(LoopBuffer("other", b.nbytes, b.written) for b in GOOD.buffers))
    assert renamed.key() == GOOD.key()


def test_window_of_the_prologue_is_the_trip_before_the_first() -> None:
    window = Window(0, 8, step=0, alternate=100)
    assert window.begin(-1) == replace(window, phase=1).begin(0) == 108
    assert isinstance(LoopProgram(1, (), (), ()).key(), str)
