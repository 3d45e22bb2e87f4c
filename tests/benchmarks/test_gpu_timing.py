"""Timing in turns and whole contests, on a stand-in for the device: a graph that calls again, a clock for events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import contest, launch, rivals, stopwatch
from benchmarks.gpu.contest import OURS, Contest
from benchmarks.gpu.findings import Bar, Skip, Spread


class CallingGraph:
    """Stands in for a CUDA graph: a replay calls what was captured."""

    def __init__(self, calls: Sequence[Callable[[], object]]) -> None:
        self.calls = list(calls)

    def replay(self) -> None:
        for call in self.calls:
            call()


def host_seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "captured", CallingGraph)
    monkeypatch.setattr(stopwatch, "between_events", host_seconds)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")


def test_turns_rotate_so_that_none_always_follows_the_same() -> None:
    order: list[str] = []

    def sampler(name: str) -> Callable[[], float]:
        def sample() -> float:
            order.append(name)
            return 1.0

        return sample

    samples = stopwatch.sample_in_turns({name: sampler(name) for name in "abc"}, 3)
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3, "c": 3}
    rounds = ["".join(order[place : place + 3]) for place in range(0, len(order), 3)]
    assert rounds == ["bca", "cab", "abc", "bca", "cab"]


@pytest.mark.usefixtures("on_host")
def test_a_replay_repeats_short_calls_and_tells_how_many_it_holds() -> None:
    counted: list[int] = []
    replay, count = stopwatch.replays([lambda: counted.append(0), lambda: counted.append(1)], least_seconds=1e-3)
    counted.clear()
    replay()
    assert len(counted) == count and count % 2 == 0 and 2 < count <= 2000


@pytest.mark.usefixtures("on_host")
def test_a_long_call_is_not_repeated() -> None:
    _, count = stopwatch.replays([lambda: time.sleep(0.002)], least_seconds=1e-3)
    assert count == 1


def test_rates_and_units_keep_low_below_high() -> None:
    assert stopwatch.as_rate(Spread(2.0, 1.0, 4.0), 8.0) == Spread(4.0, 2.0, 8.0)
    assert stopwatch.scaled(Spread(2.0, 1.0, 4.0), 1e6) == Spread(2e6, 1e6, 4e6)
    assert stopwatch.ratio_of([4.0, 4.0], [2.0, 2.0]) == Spread(2.0, 2.0, 2.0)


def test_the_sets_of_buffers_go_past_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=50 * 2**20))
    assert stopwatch.sets_beyond_cache(2**20) == 150
    assert stopwatch.sets_beyond_cache(2**30) == 1
    assert stopwatch.sets_beyond_cache(0) == 150 * 2**20


@pytest.mark.usefixtures("on_host")
def test_a_contest_gives_a_figure_for_each_peer_and_names_those_missing() -> None:
    x = torch.ones(1000)

    def absent() -> contest.Rival:
        raise RuntimeError("no compiler")

    case = Contest(
        case="double",
        rivals={
            OURS: lambda: rivals.keeping(torch.mul, [(x, 2.0)]),
            "eager": lambda: rivals.keeping(torch.add, [(x, x)]),
            "inductor": absent,
        },
        wanted=lambda: 2 * x.double(),
        tolerance=1e-6,
        bars={"eager": (Bar("ratio", at_least=1e-9),)},
    )
    found = contest.run_contest(case, rounds=5)
    assert found.text == "right to 1e-06; 1 figures; without inductor: RuntimeError: no compiler"
    (figure,) = found.figures
    assert figure.reached is True and math.isfinite(figure.ratio.median)
    assert figure.ratio.low <= figure.ratio.median <= figure.ratio.high
    assert len(found.facts["sm_clock_mhz"]) == 2
    assert found.facts["missing"] == {"inductor": "RuntimeError: no compiler"}


@pytest.mark.usefixtures("on_host")
def test_a_peer_that_no_graph_takes_is_timed_outside_and_ours_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(calls: Sequence[Callable[[], object]]) -> CallingGraph:
        if calls[0] is peer.calls[0]:
            raise RuntimeError("operation not permitted when stream is capturing")
        return CallingGraph(calls)

    monkeypatch.setattr(stopwatch, "captured", refusing)
    ours, peer = (rivals.keeping(torch.neg, [(torch.ones(3),)]) for _ in range(2))
    samplers, outside = contest.samplers_of({OURS: ours, "peer": peer})
    assert outside == {"peer": "RuntimeError: operation not permitted when stream is capturing"}
    assert samplers["peer"]() > 0 and samplers[OURS]() > 0
    with pytest.raises(RuntimeError, match="not permitted"):
        contest.samplers_of({OURS: peer})


def test_a_contest_without_device_is_skipped_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "missing", lambda: "no CUDA device")
    with pytest.raises(Skip, match="no CUDA"):
        contest.require_device()
    with pytest.raises(Skip, match="no CUDA"):
        launch.outside_graph()
