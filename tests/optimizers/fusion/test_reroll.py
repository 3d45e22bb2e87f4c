"""Loops that were unrolled are found again, and compute what eager computes; the rest stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.loop_ir import Product
from optimizers.fusion.capture import capture
from optimizers.fusion.graph import users_of
from optimizers.fusion.lower import lower
from optimizers.fusion.module import FusedModule
from optimizers.fusion.reroll import reroll
from tests.optimizers.fusion.interpreted import Function, assert_same, fused_module
from tests.optimizers.fusion.recurrences import Backward, Elman, Gated, Ornate, Stacked, unrolled


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def rolled(model: torch.nn.Module, *args: Any, max_error: float | None = None) -> FusedModule:
    """The rolled program of a model, once it is found to agree with eager twice: memory is left over from the first."""
    fused = fused_module(model, args, rolled=True)
    for _ in range(2):
        assert_same(fused(*args), model(*args), max_error)
    assert not fused.fallbacks
    return fused


def trips(fused: FusedModule) -> list[int]:
    return [loop.program.trips for loop in fused.runner.program.loops]


def floats(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


@pytest.mark.parametrize("steps", [2, 3, 4, 7])
@pytest.mark.parametrize("batch", [1, 3])
def test_simple_recurrence_is_one_loop_from_three_steps_on(steps: int, batch: int) -> None:
    fused = rolled(Elman(5, 7), floats(batch, steps, 5))
    assert trips(fused) == ([steps] if steps > 2 else [])


def test_hoisted_product_stays_outside_and_the_loop_is_one_kernel() -> None:
    cell = Elman(5, 7)
    model = Function(lambda x: cell(x)[0])
    model.add_module("cell", cell)
    program = rolled(model, floats(2, 9, 5)).runner.program
    assert (len(program.products), len(program.loops), program.library_calls) == (1, 1, 0), program.source
    (loop,) = program.loops
    assert len(loop.program.body) == 2 and loop.period == 4


def test_tall_products_of_inputs_are_terms_of_the_products_of_states() -> None:
    fused = rolled(Elman(5, 7), floats(5, 9, 5))
    program = fused.runner.program
    assert (program.kernel_calls, program.library_calls) == (1, 0), program.source
    (loop,) = program.loops
    (product,) = [statement for statement in loop.program.body if isinstance(statement, Product)]
    assert [term.depth for term in product.terms] == [5, 7] and all(term.packed for term in product.terms)


@pytest.mark.parametrize("layers", [2, 3])
def test_layers_inside_steps_are_one_loop_of_all_layers(layers: int) -> None:
    fused = rolled(Stacked(6, layers, deep=True), floats(2, 8, 6))
    assert trips(fused) == [8]


def test_layer_after_layer_is_loop_after_loop() -> None:
    fused = rolled(Stacked(6, 3, deep=False), floats(2, 8, 6))
    assert trips(fused) == [8, 8, 8]
    program = fused.runner.program
    calls = program.kernel_calls + program.library_calls
    assert calls == 6, "the product of each layer's inputs is taken out of its loop"


def test_steps_may_run_backwards_and_begin_with_a_view_of_an_input() -> None:
    fused = rolled(Backward(5, 7), floats(2, 6, 5), floats(1, 2, 7))
    assert sum(trips(fused)) in (5, 6)


def test_concatenation_reduction_bias_and_invariant_live_in_a_loop() -> None:
    fused = rolled(Ornate(5, 8), floats(3, 6, 5))
    assert trips(fused) == [6]
    nodes = [node for bound in fused.runner.program.bounds.values() for node in bound.nodes]
    assert sum("sigmoid" in node for node in nodes) == 1, "what no trip changes is computed once"


def test_two_states_that_both_leave_begin_as_inputs() -> None:
    fused = rolled(Gated(4, 6), floats(5, 2, 4), floats(2, 6), floats(2, 6))
    assert trips(fused) == [5]


def test_two_states_may_alternate_in_one_output() -> None:
    gated = Gated(4, 6)

    def forward(x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[1], 6)
        states = []
        for step in range(x.shape[0]):
            i, f, g, o = (gated.inward(x[step]) + gated.recur(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states += [h, c]
        return torch.stack(states, 1)

    model = Function(forward)
    model.add_module("gated", gated)
    assert trips(rolled(model, floats(5, 2, 4))) == [5]


def test_product_of_two_values_of_the_same_step_lives_in_a_loop() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        h = torch.ones_like(x[0])
        for step in range(x.shape[0]):
            scores = torch.softmax(h @ x[step].t(), -1)
            h = torch.tanh(scores @ x[step] + h)
        return h

    assert trips(rolled(Function(forward), floats(6, 3, 4))) == [6]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64])
def test_products_without_a_kernel_stay_with_the_library(dtype: torch.dtype) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        h = x[0]
        for step in range(x.shape[0]):
            h = (h @ x[step]) * 2 - h
        return h

    x = (floats(6, 3, 3) * 3).to(dtype)
    assert trips(rolled(Function(forward), x)) == []


def test_prologue_and_epilogue_of_other_ops_stay_outside() -> None:
    cell = Elman(6, 6)

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(x) * 2 + torch.sigmoid(x)
        states, last = cell(x)
        return (states.softmax(-1) * last[:, None]).sum(1)

    model = Function(forward)
    model.add_module("cell", cell)
    fused = rolled(model, floats(2, 7, 6))
    assert trips(fused) == [7] and fused.runner.program.bounds


def test_all_states_but_the_first_can_be_wanted() -> None:
    cell = Elman(5, 6)

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = cell(x)
        return states[:, 1:].contiguous() * 2, states[:, ::2]

    model = Function(forward)
    model.add_module("cell", cell)
    assert trips(rolled(model, floats(2, 7, 5))) == [7]


def test_double_precision_rolls_too() -> None:
    assert trips(rolled(Elman(5, 7, torch.float64), floats(3, 4, 5).double())) == [4]


def test_weights_changed_in_place_are_seen() -> None:
    model, x = Elman(5, 7), floats(3, 6, 5)
    fused = rolled(model, x)
    model.recur.data.mul_(-0.5)
    model.bias = torch.nn.Parameter(floats(7))
    assert_same(fused(x), model(x))
    assert not fused.fallbacks


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e-41])
def test_unusual_values_pass_through_a_loop_as_through_eager(value: float) -> None:
    model, x = Elman(5, 7), floats(2, 6, 5)
    fused = rolled(model, x)
    x[1, 3, 2] = value
    assert_same(fused(x), model(x))


def test_layers_with_weights_of_their_own_are_no_loop() -> None:
    model = torch.nn.Sequential(*(m for _ in range(6) for m in (torch.nn.Linear(5, 5), torch.nn.Tanh())))
    assert trips(rolled(model, floats(2, 5))) == []


def test_values_of_two_steps_ago_are_no_loop_of_one_step() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        older, old = x[0], x[1]
        for step in range(8):
            older, old = old, torch.tanh(old + 0.5 * older) * x[step]
        return old

    fused = rolled(Function(forward), floats(8, 3, 5))
    assert all(count < 8 for count in trips(fused))


def test_graph_without_repetition_builds_the_same_program() -> None:
    model, x = Function(lambda x: (torch.tanh(x) * x.mean(-1, keepdim=True), x.exp())), floats(4, 5)
    plain, looked_at = fused_module(model, (x,)), fused_module(model, (x,), rolled=True)
    assert plain.runner.program.source == looked_at.runner.program.source


def test_distractors_of_the_same_shapes_do_not_hide_the_loop() -> None:
    cell = Elman(6, 6)

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        other = x[:, 0]
        for _ in range(3):
            other = torch.tanh(other @ cell.recur.t() + other)
        states, _ = cell(x)
        return states, other

    model = Function(forward)
    model.add_module("cell", cell)
    assert 9 in trips(rolled(model, floats(2, 9, 6)))


def layer_after_layer(seq: list[torch.Tensor], weight: torch.Tensor, layers: int) -> torch.Tensor:
    for _ in range(layers):
        h = torch.zeros_like(seq[0])
        for step, below in enumerate(seq):
            h = torch.tanh(below @ weight + 0.5 * h)
            seq[step] = h
    return torch.stack(seq)


@pytest.mark.parametrize("inward", [False, True])
@pytest.mark.parametrize(("rows", "steps"), [(1, 3), (2, 3), (5, 3), (3, 5)])
def test_loop_over_layers_may_begin_with_rows_of_a_hoisted_product(rows: int, steps: int, inward: bool) -> None:
    """The first layer's values are rows, steps apart, of one product over all steps; later layers' are dense."""

    def forward(x: torch.Tensor, weight: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        seq = [x[:, step] for step in range(steps)]
        return layer_after_layer([item @ first for item in seq] if inward else seq, weight, 4)

    model = Function(forward, weight=floats(5, 5) / 2, first=floats(5, 5) / 2)
    assert trips(rolled(model, floats(rows, steps, 5)))


LAYOUTS: dict[str, Any] = {
    "dense": lambda h: h,
    "transposed": lambda h: h.t().contiguous().t(),
    "every second row": lambda h: h.repeat_interleave(2, 0)[::2],
    "part of its rows": lambda h: torch.cat([h, h], 1)[:, : h.shape[1]],
    "one row for all": lambda h: h[:1].expand(h.shape),
    "one column for all": lambda h: h[:, :1].expand(h.shape),
}
READERS: dict[str, Any] = {
    "whole": lambda h, x: torch.tanh(x + h),
    "transposed": lambda h, x: torch.tanh(x + h.sum(0) + (h.t() * 0.5).sum(1)),
    "two parts": lambda h, x: torch.tanh(x + torch.cat([h[:, 2:] * 0.5, h[:, :2] + 1], 1)),
    "all but a column": lambda h, x: torch.cat([torch.tanh(x[:, :1]), torch.sigmoid(h[:, 1:] + x[:, 1:])], 1),
    "flat": lambda h, x: torch.tanh(x + (h.reshape(-1) * 0.5).reshape(h.shape)),
    "product": lambda h, x: torch.tanh(x + h @ x.t() @ h),
    "rows and whole": lambda h, x: torch.tanh(x + h * h[1:2] + h[:, 1:2]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reader", READERS)
def test_initial_value_may_have_any_layout(layout: str, reader: str) -> None:
    def forward(x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        states = []
        for step in range(x.shape[0]):
            h = READERS[reader](h, x[step])
            h = h * torch.sigmoid(x[step]) + torch.relu(x[step]) * 0.25
            states.append(h + 1)
        return torch.stack(states)

    fused = rolled(Function(forward), floats(6, 3, 5), LAYOUTS[layout](floats(3, 5)))
    if layout in ("dense", "part of its rows"):  # what begins in other layouts may stay outside, wholly or in part
        assert sum(trips(fused)) >= 5, fused.runner.program.source


@pytest.mark.parametrize("deep", [False, True])
def test_readers_of_every_definition_are_known_afterwards(deep: bool) -> None:
    result = reroll(lower(capture(Stacked(6, 2, deep), (floats(5, 4, 6),), {})))
    assert result.users == users_of(result.definitions)


bodies = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=2, max_size=7)


@settings(max_examples=15, deadline=None)
@given(bodies, st.integers(3, 6), st.integers(1, 3), st.integers(2, 5))
def test_random_bodies_are_found_and_compute_what_eager_computes(
    program: list[tuple[int, int]], steps: int, rows: int, size: int
) -> None:
    with torch.no_grad():
        model = Function(
            lambda x, *weights: unrolled(weights, program, x),
            first=floats(1, rows, size),
            second=floats(size, size) / 2,
        )
        # A recurrence can blow rounding errors up; what is wired wrongly is wrong by far more.
        fused = rolled(model, floats(steps, rows, size), max_error=1e-3)
        covered = sum(loop.period * loop.program.trips for loop in fused.runner.program.loops)
        assert covered, fused.runner.program.source
