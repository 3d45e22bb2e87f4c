"""Comparisons with an injected clock are exact."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from optimizers.fusion import timing
from optimizers.fusion.timing import compare


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


def test_ratio_of_two_steady_functions_is_exact() -> None:
    clock = Clock()
    found = compare(lambda: clock.work(0.006), lambda: clock.work(0.002), clock=clock)
    assert found.first_seconds == pytest.approx(0.006) and found.second_seconds == pytest.approx(0.002)
    assert found.ratio == pytest.approx(3.0) and found.low == pytest.approx(3.0) and found.high == pytest.approx(3.0)
    assert 7 <= found.rounds <= 61


def test_drift_of_the_machine_cancels() -> None:
    clock = Clock()
    slowdown = [1.0]

    def run(seconds: float) -> None:
        slowdown[0] *= 1.01
        clock.work(seconds * slowdown[0])

    found = compare(lambda: run(0.01), lambda: run(0.01), clock=clock)
    assert found.low <= 1.0 <= found.high and found.ratio == pytest.approx(1.0, abs=0.02)


def test_slow_functions_are_still_compared_seven_times() -> None:
    clock = Clock()
    found = compare(lambda: clock.work(30.0), lambda: clock.work(10.0), clock=clock)
    assert found.rounds == 7 and found.ratio == pytest.approx(3.0)


def test_clear_outcome_ends_the_rounds_and_an_open_one_does_not() -> None:
    clock = Clock()
    clear = compare(lambda: clock.work(0.006), lambda: clock.work(0.002), clock=clock, clear=0.1)
    slower = compare(lambda: clock.work(0.002), lambda: clock.work(0.006), clock=clock, clear=0.1)
    close = compare(lambda: clock.work(0.0021), lambda: clock.work(0.002), clock=clock, clear=0.1)
    assert clear.rounds == slower.rounds == 5 and clear.low == pytest.approx(3.0)
    assert close.rounds == 61 and close.ratio == pytest.approx(1.05)


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_cpu_time_is_taken_where_no_other_thread_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with ThreadPoolExecutor(1) as pool:
        ways = {"alone": lambda: spin(0.004), "shared": lambda: pool.submit(spin, 0.004).result()}
        assert timing._clock_for(ways["alone"], ways["alone"]) is time.thread_time
        assert timing._clock_for(ways["alone"], ways["shared"]) is time.perf_counter
