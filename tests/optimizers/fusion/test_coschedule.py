"""Which thread makes which call: no two that share memory change places, and planted faults are found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optimizers.fusion.capture import capture
from optimizers.fusion.coschedule import (
    ScheduleError,
    Task,
    conflicts,
    dealt,
    dependencies,
    kept_longer,
    verify_schedule,
)
from optimizers.fusion.coschedule_run import Fastest, Joiner
from optimizers.fusion.coschedule_text import joined
from optimizers.fusion.lower import lower
from optimizers.fusion.memory import Memory
from optimizers.fusion.program import build_program
from optimizers.fusion.runtime import Runner, compile_kernels, kernel_call

spans = st.tuples(st.integers(0, 40), st.integers(1, 9), st.booleans()).map(lambda s: (s[0], s[0] + s[1], s[2]))
tasks = st.lists(
    st.builds(Task, st.lists(spans, max_size=4).map(tuple), st.floats(1e-7, 1e-4)), min_size=1, max_size=24
)


def _touch(one: Task, other: Task) -> bool:
    return any(
        (one_writes or writes) and bool(set(range(first, last)) & set(range(begin, end)))
        for first, last, one_writes in one.spans
        for begin, end, writes in other.spans
    )


@settings(max_examples=80, deadline=None)
@given(tasks, st.integers(1, 4))
def test_a_schedule_keeps_the_order_of_what_shares_memory(found, threads: int) -> None:
    pairs = conflicts(found)
    for later, task in enumerate(found):
        for earlier in range(later):
            assert pairs[later, earlier] == _touch(task, found[earlier])
    lists = dealt(found, threads)
    verify_schedule(found, lists)
    # One more proof: whatever thread goes first, a call finds those that it needs done.
    for order in (range(threads), range(threads)[::-1]):
        over, at = [], [0] * threads
        while len(over) < len(found):
            before = len(over)
            for thread in order:
                while at[thread] < len(lists[thread]):
                    turn = lists[thread][at[thread]]
                    if any(at[other] < count for other, count in turn.waits):
                        break
                    assert all(k in over for k in range(turn.task) if _touch(found[k], found[turn.task]))
                    over.append(turn.task)
                    at[thread] += 1
            assert len(over) > before, "threads wait for each other"


@settings(max_examples=60, deadline=None)
@given(tasks, st.data())
def test_a_wait_that_is_left_out_is_found_or_was_not_needed(found, data) -> None:
    lists = dealt(found, 2)
    waiting = [(t, k) for t, turns in enumerate(lists) for k, turn in enumerate(turns) if turn.waits]
    if not waiting:
        return
    thread, position = data.draw(st.sampled_from(waiting))
    turn = lists[thread][position]
    lists[thread][position] = replace(turn, waits=())
    other = 1 - thread
    needed = [k for k in dependencies(found)[turn.task] if any(t.task == k for t in lists[other])]
    known = max((n for t in lists[thread][:position] for _, n in t.waits), default=0)
    if all([t.task for t in lists[other]].index(k) < known for k in needed):
        verify_schedule(found, lists)
    else:
        with pytest.raises(ScheduleError, match="before task"):
            verify_schedule(found, lists)


def test_a_schedule_that_loses_or_blocks_a_call_is_refused() -> None:
    found = [Task(((0, 4, True),), 1e-6), Task(((0, 4, False),), 1e-6)]
    lists = dealt(found, 2)
    with pytest.raises(ScheduleError, match="leaves some out"):
        verify_schedule(found, [lists[0][:1], []])
    turns = [turn for row in lists for turn in row]
    blocked = [[replace(turns[0], waits=((1, 1),))], [replace(turns[1], waits=((0, 1),))]]
    with pytest.raises(ScheduleError, match="wait for each other"):
        verify_schedule(found, blocked)


def test_branches_run_side_by_side_and_a_chain_stays_on_one_thread() -> None:
    chain = [Task(((8 * k, 8 * k + 8, False), (8 * k + 8, 8 * k + 16, True)), 1e-5) for k in range(6)]
    assert sorted(len(turns) for turns in dealt(chain, 2)) == [0, 6]
    branches = [Task(((100 * b + 8 * k, 100 * b + 8 * k + 16, True),), 1e-5) for b in range(2) for k in range(5)]
    assert [len(turns) for turns in dealt(branches, 2)] == [5, 5]


def test_the_fastest_way_is_found_by_its_own_calls() -> None:
    now, made = [0.0], []

    def way(name: str, seconds: float):
        def run() -> None:
            made.append(name)
            now[0] += seconds

        return run

    choice = Fastest([way("slow", 2.0), way("fast", 1.0), way("other", 3.0)], lambda: now[0])
    for _ in range(20):
        choice()
    assert made.count("slow") == made.count("other") == 4 and made[-5:] == ["fast"] * 5


def test_slots_are_kept_longer_for_several_threads_only() -> None:
    memory = Memory("arena", 0, "float32")
    assert kept_longer({memory: (4, 1, 2)}, 1) == {memory: (4, 1, 2)}
    assert kept_longer({memory: (4, 1, 2)}, 2)[memory][2] > 2


def test_calls_are_joined_where_nothing_stands_between_them() -> None:
    class Kernel:
        buffers = ()
        raises = False

    class Raising(Kernel):
        raises = True

    lines = ["k1(*a1)", "k2(*a2)", "m3 = f(v)", "k1(*a3)", "k3(*a4)", "k1(*a5)", "k2(*a6)", "return ()"]
    kernels = {"one": Kernel(), "two": Kernel(), "three": Raising()}
    bind, run = joined(lines, {"k1": "one", "k2": "two", "k3": "three"}, kernels)
    assert run == ["j0()", "m3 = f(v)", "k1(*a3)", "k3(*a4)", "j1()", "return ()"]
    assert bind[-2:] == [
        'j0 = together(kernels, (("one", a1), ("two", a2)), facts)',
        'j1 = together(kernels, (("one", a5), ("two", a6)), facts)',
    ]


class Cell(nn.Module):
    """Branches that can run side by side, each a chain; sizes that keep kernels small."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 18, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(18, 18, 3, padding=1, groups=18), nn.Conv2d(18, 18, 1), nn.ReLU()) for _ in range(4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return torch.stack([branch(x) for branch in self.branches]).sum(0).mean((2, 3))


@pytest.mark.parametrize("threads", [1, 2])
def test_joined_programs_give_the_results_of_single_calls(threads: int) -> None:
    torch.manual_seed(1)
    model, x = Cell().eval(), torch.randn(1, 3, 9, 7)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.no_grad():
            captured = capture(model, (x,), {})
            program = build_program(lower(captured), "a test")
            kernels = compile_kernels(program)
            weights = [dict(model.named_parameters())[name] for name in captured.weights]
            plain = Runner(program, kernels, lambda _, call: call)(weights, (x,))[0]
            runner = Runner(program, kernels)
            assert "together(" in program.source
            for _ in range(16):  # every way takes its turn
                assert torch.equal(runner(weights, (x,))[0], plain)
            assert torch.allclose(plain, model(x), atol=1e-5)
    finally:
        torch.set_num_threads(before)


def test_kernels_without_machine_code_are_called_one_by_one() -> None:
    class Interpreted:
        source, parallel = "", False

        def __init__(self) -> None:
            self.calls: list[tuple[int, ...]] = []

        def entry(self, *addresses: int) -> None:
            self.calls.append(addresses)

    kernel = Interpreted()
    run = Joiner({"k": kernel}, {"k": kernel_call(kernel, 1)}, 1)((("k", (1, 2)), ("k", (3,))), {"k": (1e-6, ())})
    run()
    assert kernel.calls == [(1, 2), (3,)]
