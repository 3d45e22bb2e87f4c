"""A descent notes when the loss was low enough, and stops there."""

from __future__ import annotations

import pytest

from analyzer.errors import HotbenchError
from optimizers.placement.convergence import WINDOW, Descent
from optimizers.placement.launch import MeasuredSteps, PlacementLaunch
from optimizers.placement.step_times import StepTimes


class FakeRanks:
    """Two ranks whose loss falls by 1 a step, from 30 on rank 0 and 32 on rank 1; each step takes 0.5 s."""

    transport = "none"
    launch = PlacementLaunch("module:function", {}, "gloo")

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def steps(self, count: int, seeds: range) -> MeasuredSteps:
        self.seeds += seeds
        times = tuple(StepTimes(0.5, 0.4, 0.1, 0.0) for _ in seeds)
        losses = tuple(tuple(first - seed for seed in seeds) for first in (31.0, 33.0))
        return MeasuredSteps("gloo", "none", (times, times), losses)


def test_a_descent_ends_with_the_step_that_reached_the_target():
    ranks = FakeRanks()
    descent = Descent(ranks, target_loss=16.5)
    assert descent.go_on(7) == pytest.approx(3.5) and not descent.is_over
    while not descent.is_over:
        descent.go_on(7)
    assert ranks.seeds == list(range(1, len(ranks.seeds) + 1))
    found = descent.found()
    # The mean of both ranks at step n is 32 - n, of the last ten steps 36.5 - n.
    assert len(found.losses) == 20 and found.losses[-1] == pytest.approx(16.5)
    assert found.reached_seconds == found.seconds[-1] == pytest.approx(10.0)
    assert "loss 16.5 after 10.00 s, 20 steps" in found.in_words()


def test_a_target_that_is_not_reached_is_said():
    descent = Descent(FakeRanks(), target_loss=0.0)
    descent.go_on(WINDOW)
    assert descent.found().reached_seconds is None
    assert "not yet 0" in descent.found().in_words()


def test_the_first_steps_alone_end_no_training():
    descent = Descent(FakeRanks(), target_loss=1e9)
    descent.go_on(WINDOW - 1)
    assert not descent.is_over


def test_a_target_that_is_no_number_is_refused():
    with pytest.raises(HotbenchError, match="a target loss of nan"):
        Descent(FakeRanks(), float("nan"))
