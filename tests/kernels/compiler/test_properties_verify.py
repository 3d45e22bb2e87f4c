"""Faults planted at random into right regions and loops: each is refused, or changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels.compiler.ir import Access, IrError, Region, Store
from kernels.compiler.loop_ir import Apply, LoopProgram, Product, Window
from kernels.compiler.loop_reference import evaluate_loop
from kernels.compiler.loop_verify import verify_loop
from kernels.compiler.verify import verify
from tests.cuda.loop_programs import lstm_stack, several_steps, skipping
from tests.kernels.compiler.regions import random_region

REGIONS = st.builds(lambda seed: random_region(np.random.default_rng(seed)), st.integers(0, 10**6))
DTYPES = ("float32", "float64", "int32", "int64", "bool")


def with_value(region: Region, position: int, **fields: Any) -> Region:
    values = list(region.values)
    values[position] = replace(values[position], **fields)
    return replace(region, values=tuple(values))


def pick(data: st.DataObject, region: Region, kind: str) -> int:
    places = [k for k, value in enumerate(region.values) if (value.access is not None) == (kind == "load")]
    places = [k for k in places if kind == "load" or region.values[k].operands]
    assume(places)
    return data.draw(st.sampled_from(places))


def reach(region: Region, access: Access) -> tuple[int, int]:
    """Return the lowest and the highest element of an access."""
    ends = [stride * (extent - 1) for stride, extent in zip(access.strides, region.domain, strict=True)]
    return access.offset + sum(min(0, end) for end in ends), access.offset + sum(max(0, end) for end in ends)


def load_outside(data: st.DataObject, region: Region) -> Region:
    position = pick(data, region, "load")
    access = region.values[position].access
    assert access is not None
    low, high = reach(region, access)
    elements = region.buffers[access.buffer].elements
    moved = data.draw(st.sampled_from((-low - 1, elements - high)))
    return with_value(region, position, access=replace(access, offset=access.offset + moved))


def store_outside(data: st.DataObject, region: Region) -> Region:
    position = data.draw(st.integers(0, len(region.stores) - 1))
    store = region.stores[position]
    low, high = reach(region, store.access)
    moved = data.draw(st.sampled_from((-low - 1, region.buffers[store.access.buffer].elements - high)))
    stores = list(region.stores)
    stores[position] = Store(store.value, replace(store.access, offset=store.access.offset + moved))
    return replace(region, stores=tuple(stores))


def smaller_buffer(data: st.DataObject, region: Region) -> Region:
    store = data.draw(st.sampled_from(region.stores))
    buffers = list(region.buffers)
    elements = reach(region, store.access)[1]
    buffers[store.access.buffer] = replace(buffers[store.access.buffer], elements=elements)
    return replace(region, buffers=tuple(buffers))


def operand_of_the_future(data: st.DataObject, region: Region) -> Region:
    position = pick(data, region, "computed")
    operands = (data.draw(st.integers(position, position + 3)), *region.values[position].operands[1:])
    return with_value(region, position, operands=operands)


def operand_too_many(data: st.DataObject, region: Region) -> Region:
    position = pick(data, region, "computed")
    return with_value(region, position, operands=(*region.values[position].operands, 0, 0))


def other_dtype(data: st.DataObject, region: Region) -> Region:
    position = pick(data, region, "load")
    dtype = data.draw(st.sampled_from([d for d in DTYPES if d != region.values[position].dtype]))
    return with_value(region, position, dtype=dtype)


def unmarked_buffer(data: st.DataObject, region: Region) -> Region:
    buffers = list(region.buffers)
    number = data.draw(st.sampled_from(region.stores)).access.buffer
    buffers[number] = replace(buffers[number], written=False)
    return replace(region, buffers=tuple(buffers))


def points_on_each_other(data: st.DataObject, region: Region) -> Region:
    wide = [k for k, extent in enumerate(region.domain) if extent > 1]
    candidates = [
        (position, axis)
        for position, store in enumerate(region.stores)
        for axis in wide
        if store.access.strides[axis] and _varies(region, store.value, axis)
    ]
    assume(candidates)
    position, axis = data.draw(st.sampled_from(candidates))
    store = region.stores[position]
    strides = tuple(0 if k == axis else stride for k, stride in enumerate(store.access.strides))
    offset = max(0, store.access.offset)
    stores = list(region.stores)
    stores[position] = Store(store.value, Access(store.access.buffer, offset, strides))
    return replace(region, stores=tuple(stores))


def _varies(region: Region, number: int, axis: int) -> bool:
    value = region.values[number]
    own = value.access is not None and value.access.strides[axis] != 0
    if value.op.startswith("reduce_") and axis >= len(region.domain) - region.reduced:
        return False
    return own or value.axis == axis or any(_varies(region, k, axis) for k in value.operands)


def unknown_op(data: st.DataObject, region: Region) -> Region:
    return with_value(region, pick(data, region, "computed"), op="multiply")


FAULTS = (
    load_outside, store_outside, smaller_buffer, operand_of_the_future, operand_too_many, other_dtype,
    unmarked_buffer, points_on_each_other, unknown_op,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.replace("_", "-"))
@settings(max_examples=15, deadline=None)
@given(region=REGIONS, data=st.data())
def test_a_fault_in_a_random_region_is_refused_in_a_line(fault: Any, region: Region, data: st.DataObject) -> None:
    verify(region)
    with pytest.raises(IrError) as error:
        verify(fault(data, region))
    assert "\n" not in str(error.value)


LOOPS = {
    "lstm": lstm_stack(2, 3, 2, 4),
    "several-steps": several_steps(3, 2, 3),
    "skip": skipping(3, 4),
}


def results(program: LoopProgram, seed: int) -> bytes:
    """Return what the loop leaves in the memory that leaves it, the scratch poisoned before."""
    random = np.random.default_rng(seed)
    memories = []
    for buffer in program.buffers:
        values = random.standard_normal(buffer.nbytes // 4).astype(np.float32)
        memories.append(np.full_like(values, np.nan).view(np.uint8) if buffer.written else values.view(np.uint8))
    evaluate_loop(program, memories)
    return memories[[buffer.name for buffer in program.buffers].index("outputs")].tobytes()


def with_statement(program: LoopProgram, position: int, statement: Any) -> LoopProgram:
    body = list(program.body)
    body[position] = statement
    return replace(program, body=tuple(body))


def inner_windows(program: LoopProgram) -> list[tuple[int, str, int]]:
    """Return every window onto a value that the loop hands on: statement, kind and number."""
    found = []
    for position, statement in enumerate(program.body):
        if isinstance(statement, Apply):
            found += [(position, "window", k) for k, window in enumerate(statement.windows) if window.value >= 0]
        elif isinstance(statement, Product):
            found += [(position, "left", k) for k, term in enumerate(statement.terms) if term.left.value >= 0]
            found.append((position, "out", 0))
    return found


def changed_window(program: LoopProgram, place: tuple[int, str, int], **fields: Any) -> LoopProgram:
    position, kind, number = place
    statement = program.body[position]
    if isinstance(statement, Apply):
        windows = list(statement.windows)
        windows[number] = replace(windows[number], **fields)
        return with_statement(program, position, replace(statement, windows=tuple(windows)))
    assert isinstance(statement, Product)
    if kind == "out":
        return with_statement(program, position, replace(statement, out=replace(statement.out, **fields)))
    terms = list(statement.terms)
    terms[number] = replace(terms[number], left=replace(terms[number].left, **fields))
    return with_statement(program, position, replace(statement, terms=tuple(terms)))


def window_at(program: LoopProgram, place: tuple[int, str, int]) -> Window:
    position, kind, number = place
    statement: Any = program.body[position]
    if isinstance(statement, Apply):
        return statement.windows[number]
    window: Window = statement.out if kind == "out" else statement.terms[number].left
    return window


@pytest.mark.parametrize("name", LOOPS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_changed_window_of_a_loop_is_refused_or_changes_nothing(name: str, data: st.DataObject) -> None:
    program = LOOPS[name]
    verify_loop(program)
    place = data.draw(st.sampled_from(inner_windows(program)))
    window = window_at(program, place)
    choices: dict[str, Any] = {
        "offset": window.offset + data.draw(st.sampled_from((-64, -4, 4, 64, 128))),
        "step": data.draw(st.sampled_from((-4, 4, 64))),
        "alternate": data.draw(st.sampled_from((0, 4, 64, 128))),
        "phase": 1 - window.phase,
        "age": data.draw(st.sampled_from((0, 1, 2, None))),
        "value": data.draw(st.integers(0, 12)),
    }
    field = data.draw(st.sampled_from(sorted(choices)))
    changed = changed_window(program, place, **{field: choices[field]})
    try:
        verify_loop(changed)
    except IrError as error:
        assert "\n" not in str(error)
        return
    seed = data.draw(st.integers(0, 1000))
    assert results(changed, seed) == results(program, seed), (place, field, choices[field])


@pytest.mark.parametrize("name", LOOPS)
def test_statements_in_another_order_are_refused_or_change_nothing(name: str) -> None:
    program = LOOPS[name]
    refused = 0
    for first in range(len(program.body)):
        for second in range(first):
            body = list(program.body)
            body[first], body[second] = body[second], body[first]
            changed = replace(program, body=tuple(body))
            try:
                verify_loop(changed)
            except IrError:
                refused += 1
                continue
            assert results(changed, 1) == results(program, 1)
    assert refused
