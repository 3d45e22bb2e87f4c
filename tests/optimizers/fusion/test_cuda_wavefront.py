"""Layers over all steps become one loop over steps where each step of the next needs no more than the same step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fusion_recurrent import UnrolledLSTM
from kernels.recurrent.loop_kernel import loop_text
from optimizers.fusion.capture import capture
from optimizers.fusion.cuda_build import LOOPS, cuda_program, library_nodes
from optimizers.fusion.cuda_wavefront import merge_loops
from optimizers.fusion.lower import lower
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program, build_program
from optimizers.fusion.reroll import reroll
from optimizers.fusion.runtime import Runner
from tests.optimizers.fusion.interpreted import assert_same, interpreted
from tests.optimizers.fusion.recurrences import Elman, Stacked, _applied


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def merged(model: torch.nn.Module, *args: torch.Tensor) -> tuple[FusedModule, Program]:
    """Return the model with merged loops, run by the interpreter, which checks every trip of a loop first."""
    captured = capture(model, args, {})
    program = build_program(merge_loops(reroll(lower(captured, library_nodes(captured)))), "a test")
    return FusedModule(model, captured, Runner(program, interpreted(program))), program


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("layers", [2, 3])
def test_a_stack_of_lstm_layers_is_one_loop_without_products_of_all_steps(layers: int, batch: int) -> None:
    model, x = UnrolledLSTM(layers, 3, 5), torch.randn(6, batch, 3)
    fused, program = merged(model, x)
    assert len(program.loops) == 1 and program.kernel_calls == 1 and program.library_calls <= 1
    for _ in range(2):
        x = torch.randn_like(x)
        assert_same(fused(x), model(x))


def test_each_layer_follows_the_one_below_by_one_tick() -> None:
    captured = capture(UnrolledLSTM(4, 3, 5), (torch.randn(6, 1, 3),), {})
    program, _ = cuda_program(captured, "a test")
    (loop,) = program.loops
    pipeline = loop_text(loop.program).pipeline
    assert (pipeline.period, pipeline.delays, pipeline.ticks) == (1, (0, 1, 2, 3), 9)
    apart, _ = cuda_program(captured, "a test", forms=(LOOPS,))
    assert len(apart.loops) == 4


def test_what_lower_layers_return_is_stored_as_well() -> None:
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = UnrolledLSTM(2, 3, 4)

        def forward(self, x: torch.Tensor) -> Any:
            first, h, c = self.stack.layers[0](x)
            second, _, last = self.stack.layers[1](first)
            return first, second, h, c * 2, last

    model, x = Both(), torch.randn(5, 1, 3)
    fused, program = merged(model, x)
    assert len(program.loops) == 1
    assert_same(fused(x), model(x))


class Reversed(torch.nn.Module):
    """The second layer runs from the last step to the first: it must wait for all of the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Elman(3, 4), Elman(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.first(x)
        return self.second(states.flip(1))[0] if x.shape[0] > 1 else self.backwards(states)

    def backwards(self, states: torch.Tensor) -> torch.Tensor:
        h, found = states.new_zeros(states.shape[0], 4), []
        for step in reversed(range(states.shape[1])):
            h = self.second.cell(states[:, step], h)
            found.append(h)
        return torch.stack(found, 1)


class Seeded(torch.nn.Module):
    """The second layer begins with the first one's last state: it cannot begin before that is there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Elman(3, 4), Elman(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, h = self.first(x)
        found = []
        for step in range(states.shape[1]):
            h = self.second.cell(states[:, step], h)
            found.append(h)
        return torch.stack(found, 1)


@pytest.mark.parametrize("model", [Reversed(), Seeded()], ids=["reversed", "seeded"])
@pytest.mark.parametrize("batch", [1, 3])
def test_layers_that_must_wait_stay_apart(model: torch.nn.Module, batch: int) -> None:
    x = torch.randn(batch, 5, 3)
    fused, program = merged(model, x)
    assert len(program.loops) == 2
    assert_same(fused(x), model(x))


class Between(torch.nn.Module):
    """Work between the layers: one sums over all steps, so that the next layer has to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = Stacked(4, 3, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.stack.layers:
            states, _ = layer(x)
            x = torch.tanh(states) + states.mean(1, keepdim=True)
        return x


def test_layers_with_other_work_between_them_stay_right() -> None:
    model, x = Between(), torch.randn(1, 5, 4)
    fused, program = merged(model, x)
    assert len(program.loops) == 3
    assert_same(fused(x), model(x))


class Layers(torch.nn.Module):
    """Layers of random bodies, of (op, operand) pairs as in recurrences.py; all of their states are returned."""

    def __init__(self, bodies: list[tuple[bool, list[tuple[int, int]]]], size: int) -> None:
        super().__init__()
        self.bodies = bodies
        self.rows = torch.nn.ParameterList([torch.nn.Parameter(torch.randn(1, size)) for _ in bodies])
        self.recur, self.inward = (
            torch.nn.ParameterList([torch.nn.Parameter(torch.randn(size, size) / 3) for _ in bodies]) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = []
        for (multiplied, body), row, recur, inward in zip(self.bodies, self.rows, self.recur, self.inward, strict=True):
            state, states = torch.zeros_like(x[0]), []
            for step in range(x.shape[0]):
                y = x[step] @ inward if multiplied else x[step]
                values = [state, y, row[0]]
                for op, pick in body:
                    values.append(_applied(op, values[-1], values[pick % len(values)], (row, recur)))
                state = torch.tanh(values[-1] + 0.5 * state + y)
                states.append(state)
            x = torch.stack(states)
            outputs.append(x)
        return outputs


BODIES = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=3)),
    min_size=2,
    max_size=3,
)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(bodies=BODIES, size=st.integers(1, 5), batch=st.sampled_from((1, 2, 5)), steps=st.integers(3, 6))
def test_random_layers_equal_eager_merged_or_not(
    bodies: list[tuple[bool, list[tuple[int, int]]]], size: int, batch: int, steps: int
) -> None:
    model, x = Layers(bodies, size), torch.randn(steps, batch, size)
    fused, program = merged(model, x)
    assert len(program.loops) <= len(bodies)
    assert_same(fused(x), model(x))
