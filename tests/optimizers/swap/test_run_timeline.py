"""A captured step as a timeline: its peak is the measured one, views are no buffers, what is written in place stays."""

import re
from dataclasses import replace

import pytest
import torch

from analyzer.graph import Graph, Op, Tensor
from analyzer.workload import Workload
from optimizers.swap.moves import Tier
from optimizers.swap.plan import plan, smallest_budget
from optimizers.swap.run_timeline import from_run
from optimizers.swap.timeline import SwapError
from tests.analyzer.capture.small import capture_workload

ROWS, WIDTH = 37, 211


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(5))

    def forward(self, x):
        for layer in self.layers:
            x = torch.nn.functional.gelu(layer(x))
        return torch.nn.functional.dropout(x, 0.3, training=True).reshape(-1).relu_()


def captured(rows, optimizer):
    model = Net()
    return capture_workload(
        Workload(
            model=model,
            inputs=(torch.randn(rows, WIDTH),),
            loss=lambda output, *_: output.square().mean(),
            optimizer=optimizer(model.parameters()),
        )
    )


@pytest.fixture(scope="module")
def run():
    return captured(ROWS, lambda parameters: torch.optim.AdamW(parameters, foreach=False))


def test_the_peak_is_the_measured_one_and_almost_all_of_it_is_attributed(run):
    timeline = from_run(run)
    assert timeline.peak_bytes == run.memory.peak_bytes
    assert timeline.constant_bytes <= 0.02 * timeline.peak_bytes
    assert timeline.notes == ()


def test_the_events_take_the_measured_step_and_run_in_its_order(run):
    timeline = from_run(run)
    assert timeline.seconds == pytest.approx(run.step_seconds.median, rel=1e-5)
    ops = [event.op for event in timeline.events]
    assert ops == sorted(set(ops))
    assert all(run.graph.ops[event.op].name == event.name for event in timeline.events)


def test_a_storage_is_one_buffer_whatever_stands_on_it(run):
    timeline = from_run(run)
    storages = [buffer.storage for buffer in timeline.buffers]
    assert len(set(storages)) == len(storages)
    assert max(buffer.tensors for buffer in timeline.buffers) > 1
    sizes = {buffer.storage: buffer.bytes for buffer in timeline.buffers}
    solid = [tensor for tensor in run.graph.tensors if 0 not in tensor.strides and tensor.storage in sizes]
    assert solid
    assert all(tensor.nbytes <= sizes[tensor.storage] for tensor in solid)


def test_only_activations_and_optimizer_state_move_and_nothing_that_is_written_in_place(run):
    timeline = from_run(run)
    moved = {timeline.buffers[gap.buffer].category for gap in timeline.gaps}
    assert moved == {"activation", "optimizer_state"}
    reasons = {re.sub(r"event \d+ ", "", buffer.left_alone) for buffer in timeline.buffers}
    assert {"parameter tensors stay", "gradient tensors stay"} <= reasons
    assert "writes it in place" in reasons
    assert not any(gap for gap in from_run(run, movable=()).gaps)


def test_what_draws_random_numbers_is_never_made_again(run):
    timeline = from_run(run)
    assert timeline.recipes
    repeated = {timeline.events[event].name for recipe in timeline.recipes for event in recipe.events}
    assert "aten::gelu" in repeated
    assert not any("dropout" in name or "bernoulli" in name for name in repeated)


def test_a_captured_step_is_planned_to_a_budget():
    # So many rows that the peak is where the backward begins: during the update nothing of the state can be away.
    timeline = from_run(captured(5 * ROWS, torch.optim.SGD))
    tiers = (Tier("host", 10e9, 10e9, 1e-5),)
    low = smallest_budget(timeline, tiers)
    assert low < timeline.peak_bytes
    budget = (low + timeline.peak_bytes) // 2
    found = plan(timeline, budget, tiers)
    assert found.moves
    assert found.simulation.peak_bytes <= budget


def test_a_run_without_ops_is_refused(run):
    empty = replace(run, graph=Graph((), (), ()))
    with pytest.raises(SwapError, match="has no ops; capture it again"):
        from_run(empty)


def hand_made(run, tensors, ops):
    return replace(run, graph=Graph(ops, tensors, ()).check(), memory=replace(run.memory, peak_bytes=1000))


def tensor(index, storage, producer, category, elements=10, offset=0):
    return Tensor(index, storage, offset, (elements,), (1,), "float32", "cpu", 4 * elements, producer, category)


def op(index, inputs, outputs, name="aten::mul", phase="forward", mutates=()):
    return Op(index, name, -1, phase, 1, inputs, outputs, mutates=mutates)


def test_sizes_lives_and_the_unattributed_rest_are_counted_by_hand(run):
    tensors = (
        tensor(0, 7, -1, "parameter"),
        tensor(1, 3, 0, "activation", 20),
        tensor(2, 3, 1, "activation", 5, offset=20),
        tensor(3, 4, 2, "temporary", 100),
        tensor(4, 5, 4, "gradient"),
    )
    ops = (
        op(0, (0,), (1,)),
        op(1, (1,), (2,), "aten::slice"),
        op(2, (0,), (3,)),
        op(3, (3,), ()),
        op(4, (2, 0), (4,), phase="backward"),
    )
    timeline = from_run(hand_made(run, tensors, ops), least_bytes=1)
    rows = [(b.storage, b.bytes, b.born, b.uses, b.released, b.tensors) for b in timeline.buffers]
    assert rows == [
        (3, 100, 0, (1, 4), 4, 2),
        (4, 400, 2, (2, 3), 3, 1),
        (5, 40, 4, (4,), None, 1),
        (7, 40, -1, (0, 2, 4), None, 1),
    ]
    assert timeline.constant_bytes == 1000 - 540
    assert [(gap.buffer, gap.after, gap.before) for gap in timeline.gaps] == [(0, 1, 4)]
    assert [(r.events, r.inputs, r.scratch_bytes) for r in timeline.recipes] == [((0,), (3,), 0)]


def test_a_write_in_place_between_leaves_the_storage_alone_and_its_readers_without_a_recipe(run):
    tensors = (
        tensor(0, 1, -1, "input"),
        tensor(1, 2, 0, "activation"),
        tensor(2, 3, 1, "activation"),
        tensor(3, 2, 2, "activation"),
    )
    ops = (
        op(0, (0,), (1,)),
        op(1, (1,), (2,)),
        op(2, (1,), (3,), "aten::add_", mutates=(1,)),
        op(3, (0,), ()),
        op(4, (2, 3), (), phase="backward"),
    )
    timeline = from_run(hand_made(run, tensors, ops), least_bytes=1)
    assert [buffer.left_alone for buffer in timeline.buffers[1:]] == ["event 2 writes it in place", ""]
    assert [gap.buffer for gap in timeline.gaps] == [2]
    assert timeline.recipes == ()


def test_the_optimizers_state_is_in_use_as_long_as_the_optimizer_is_and_small_tensors_stay(run):
    tensors = (
        tensor(0, 1, -1, "parameter"),
        tensor(1, 2, -1, "optimizer_state"),
        tensor(2, 3, -1, "optimizer_state", 9),
        tensor(3, 4, 0, "activation"),
        tensor(4, 5, 0, "activation"),
    )
    ops = (
        op(0, (0,), (3, 4)),
        op(1, (3,), ()),
        op(2, (4,), ()),
        op(3, (3,), (), phase="backward"),
        op(4, (), (), phase="backward"),
        op(5, (1,), (), phase="optimizer"),
        op(6, (0,), (), phase="optimizer"),
        op(7, (2,), (), phase="optimizer"),
        op(8, (1,), (), phase="optimizer"),
    )
    gaps = {(gap.buffer, gap.after, gap.before) for gap in from_run(hand_made(run, tensors, ops), least_bytes=40).gaps}
    # The state wraps into the next step; what the forward alone reads has no gap, however long its next use takes.
    assert gaps == {(1, 8, 5), (3, 1, 3)}
