"""The program without loops is left out only where it cannot win: its products alone take longer."""

from __future__ import annotations

import time

import torch

from optimizers.fusion.capture import capture
from optimizers.fusion.loops_bound import library_products, surely_faster
from optimizers.fusion.lower import lower
from optimizers.fusion.program import Program, build_program
from tests.optimizers.fusion.interpreted import Function
from tests.optimizers.fusion.recurrences import Elman


def program_of(model: torch.nn.Module, *inputs: torch.Tensor) -> Program:
    with torch.no_grad():
        return build_program(lower(capture(model, inputs, {})), "a program", rolled=True)


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_only_loops_that_beat_their_products_in_the_library_are_sure_to_win() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    program = program_of(Elman(33, 65), torch.randn(3, 19, 33))
    assert program.loops
    assert surely_faster(program, lambda: None)
    assert not surely_faster(program, lambda: busy(0.05))
    torch.set_num_threads(threads)


def test_without_loops_or_products_in_them_nothing_is_sure() -> None:
    def scan(x: torch.Tensor) -> torch.Tensor:
        state = x[0]
        for step in range(1, 12):
            state = torch.tanh(state * 0.5 + x[step])
        return state

    for model in (Function(torch.tanh), Function(scan)):
        assert not surely_faster(program_of(model, torch.randn(12, 7)), lambda: None)


def test_products_count_once_a_trip_or_once_for_all_trips_and_those_around_the_loop_too() -> None:
    class Around(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.weight = Elman(33, 65), torch.nn.Parameter(torch.randn(65, 37))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            _, last = self.inner(x)
            return last @ self.weight

    trips, batch = 19, 5
    program = program_of(Around(), torch.randn(batch, trips, 33))
    (loop,) = program.loops
    counted = library_products(program)
    assert counted[batch, 65, 65, "float32"] == loop.program.trips
    assert counted[batch, 65, 37, "float32"] == 1
    inside = counted[loop.program.trips * batch, 33, 65, "float32"]
    outside = counted[trips * batch, 33, 65, "float32"]
    assert inside + outside >= 1
