"""When the stages of a loop run: as a wavefront as far as their memory allows, and never out of order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.ir import Access as At
from kernels.compiler.ir import Store, Value
from kernels.compiler.loop_ir import Apply, LoopProgram, Product, Window
from kernels.compiler.loop_reference import evaluate_loop
from kernels.recurrent.loop_kernel import loop_text
from kernels.recurrent.loop_schedule import Pipeline, pipelined, planned
from kernels.recurrent.loop_stages import LoopError, stages_of
from tests.cuda.loop_programs import Cell, LoopBuilder, lstm_stack, several_steps, skipping
from tests.kernels.compiler.loops import recurrence


def test_layers_run_as_a_wavefront_with_one_tick_a_step() -> None:
    pipeline = planned(lstm_stack(4, 3, 1, 6))
    assert (pipeline.period, pipeline.delays, pipeline.ticks) == (1, (0, 1, 2, 3), 9)
    assert list(pipeline.active(2)) == [(0, 2), (1, 1), (2, 0)]
    assert list(pipeline.active(7)) == [(2, 5), (3, 4)]


def test_gates_never_reach_memory() -> None:
    stages = stages_of(lstm_stack(2, 3, 5, 2))
    assert [len(stage.products) for stage in stages.stages] == [1, 1]
    assert [(stage.rows, stage.extents, stage.units) for stage in stages.stages] == [(5, (3,), 3)] * 2
    assert all(len(stage.column_reads()) == 4 for stage in stages.stages)


def test_a_state_that_is_read_two_layers_up_holds_the_wavefront_back() -> None:
    # Two halves: step t + 2 overwrites what the third layer would still read of step t.
    pipeline = planned(skipping(3, 5))
    assert pipeline.period == 2
    check_order(pipeline)


def test_steps_that_need_each_other_within_a_trip_do_not_overlap() -> None:
    pipeline = planned(several_steps(3, 2, 4))
    assert pipeline.period >= 3
    check_order(pipeline)


def test_a_product_that_several_read_is_a_stage_of_its_own() -> None:
    stages = stages_of(several_steps(3, 2, 4)).stages
    assert [bool(stage.products) for stage in stages] == [False, True, False, False]


def check_order(pipeline: Pipeline) -> None:
    """Fail unless all that meets in memory, with a write between, keeps its order in different ticks."""
    stages = pipeline.stages.stages
    seen: list[tuple[int, tuple[int, int], int, int, int, bool]] = []
    for number, stage in enumerate(stages):
        for trip in range(pipeline.stages.program.trips):
            tick = pipeline.period * trip + pipeline.delays[number]
            assert tick < pipeline.ticks
            for touch in stage.touches:
                begin = touch.window.begin(trip)
                place = (trip, touch.position)
                seen.append((tick, place, touch.window.buffer, begin, begin + touch.nbytes, touch.written))
    for one in seen:
        for other in seen:
            meets = one[2] == other[2] and one[3] < other[4] and other[3] < one[4] and (one[5] or other[5])
            if meets and one[1] < other[1]:
                assert one[0] < other[0], (one, other)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_stacks_keep_the_order_of_memory_and_values(data: st.DataObject) -> None:
    layers, steps, batch = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    loop = LoopBuilder(batch, 2, steps)
    inputs = Window(loop.buffer("inputs", steps * batch * 2), 0, batch * 2 * 4)
    states: list[tuple[Window, Window]] = []
    for layer in range(layers):
        now, before = loop.carried()
        sources = [before, *(state for pair in states for state in pair)]
        weights = Window(loop.buffer(f"weights{layer}", 4))
        left = data.draw(st.sampled_from(sources))
        product = loop.product(2, (left, weights))
        cell = Cell(batch, 2)
        total = cell.op("add", cell.load(product, 2, 2), cell.load(data.draw(st.sampled_from(sources)), 2, 2))
        cell.store(cell.op("tanh", cell.op("add", total, cell.load(inputs, 2, 2))), now)
        if layer == layers - 1:
            cell.store(len(cell.values) - 1, Window(loop.buffer("out", steps * batch * 2, True), 0, batch * 2 * 4))
        loop.body.append(cell.apply())
        states.append((now, before))
    pipeline = planned(loop.program())
    check_order(pipeline)
    run_by_ticks(loop.program(), pipeline)


def run_by_ticks(program: LoopProgram, pipeline: Pipeline) -> None:
    """Fail unless the statements, run tick by tick in either order of the stages, leave what the loop leaves."""
    random = np.random.default_rng()
    contents = [
        np.zeros(b.nbytes, np.uint8)
        if b.written
        else (random.standard_normal(b.nbytes // 4) / 2).astype(np.float32).view(np.uint8)
        for b in program.buffers
    ]
    wanted = [memory.copy() for memory in contents]
    evaluate_loop(program, wanted)
    trips = program.trips
    for backwards in (False, True):
        memories = [memory.copy() for memory in contents]
        evaluate_loop(replace(program, trips=1, body=program.body[:0]), memories)
        for tick in range(pipeline.ticks):
            active = sorted(pipeline.active(tick), reverse=backwards)
            for stage, trip in active:
                positions = sorted({touch.position for touch in pipeline.stages.stages[stage].touches})
                for position in positions:
                    assert trip < trips
                    evaluate_loop(_one(program, position, trip), memories)
        assert memories[-1].tobytes() == wanted[-1].tobytes()


def _one(program: LoopProgram, position: int, trip: int) -> LoopProgram:
    """Return the program of one statement in one trip."""

    def fixed(window: Window) -> Window:
        return replace(window, offset=window.begin(trip), step=0, alternate=0)

    statement = program.body[position]
    if isinstance(statement, Product):
        terms = tuple(replace(term, left=fixed(term.left), right=fixed(term.right)) for term in statement.terms)
        one: Apply | Product = replace(statement, terms=terms, out=fixed(statement.out))
    else:
        assert isinstance(statement, Apply)
        one = replace(statement, windows=tuple(map(fixed, statement.windows)))
    return replace(program, trips=1, prologue=(), body=(one,))


def test_a_reduction_is_refused_in_a_line() -> None:
    program = several_steps(3, 2, 2)
    first = program.body[0]
    assert isinstance(first, Apply)
    values = (*first.region.values, Value("reduce_max", "float32", (0,)))
    stores = (Store(len(values) - 1, At(1, 0, (3, 1))),)
    region = replace(first.region, reduced=1, values=values, stores=stores)
    with pytest.raises(LoopError, match="a reduction within a trip"):
        stages_of(replace(program, body=(replace(first, region=region), *program.body[1:])))


def test_float64_products_and_panels_of_what_is_written_are_refused() -> None:
    with pytest.raises(LoopError, match="float64"):
        stages_of(recurrence(3, 2, 5, "float64"))
    assert stages_of(recurrence(3, 3, 7, packed=True)).stages


def test_factors_that_do_not_fit_shared_memory_are_refused() -> None:
    program = recurrence(2, 1, 13_000)
    with pytest.raises(LoopError, match="factors of 3"):
        loop_text(replace(program))


def test_a_product_over_the_state_that_it_reads_is_computed_before() -> None:
    # In place: the region overwrites what other units still multiply, so the product cannot be taken into it.
    program = lstm_stack(1, 3, 1, 3)
    product, cell = program.body
    assert isinstance(product, Product) and isinstance(cell, Apply)
    h = product.terms[0].left
    still = replace(h, alternate=0, phase=0)
    body = (
        replace(product, terms=(replace(product.terms[0], left=still),)),
        replace(
            cell, windows=tuple(replace(w, alternate=0, phase=0) if w.value == h.value else w for w in cell.windows)
        ),
    )
    prologue = tuple(
        replace(s, windows=tuple(replace(w, alternate=0) if w.value == h.value else w for w in s.windows))
        for s in program.prologue
        if isinstance(s, Apply)
    )
    changed = replace(program, body=body, prologue=prologue)
    with pytest.raises(LoopError, match="overwrites"):
        pipelined(stages_of(changed))
    pipeline = planned(changed)
    assert len(pipeline.stages.stages) == 2
    check_order(pipeline)
