"""Peaks and categories, on blocks made by hand and on models whose memory is known."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analyzer.memory import Block, profile_memory, thin_out
from analyzer.workload import Workload
from tests.analyzer.capture.small import Function, capture_function, capture_workload

ELEMENTS = 5003
SIZE = 4 * ELEMENTS


def test_what_was_alive_before_counts_and_a_release_comes_before_an_allocation_of_its_instant():
    profile = profile_memory(
        [
            Block(0, 100, "parameter"),
            Block(1, 10, "temporary", 1.0, 2.0),
            Block(2, 30, "activation", 2.0, 3.0),
            Block(3, 7, "gradient", None, 2.5),
        ]
    )
    assert profile.peak_bytes == 137
    assert profile.at_peak == {"parameter": 100, "activation": 30, "gradient": 7}
    assert profile.timeline == ((0.0, 107), (1.0, 117), (2.0, 137), (2.5, 130), (3.0, 100))


def test_no_blocks_have_no_peak():
    profile = profile_memory([])
    assert (profile.peak_bytes, profile.at_peak, profile.timeline) == (0, {}, ((0.0, 0),))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20), st.integers(0, 20)), max_size=30))
def test_the_peak_is_the_highest_sum_over_all_instants(rows):
    blocks = [Block(i, size, "temporary", min(a, b), max(a, b) + 0.5) for i, (size, a, b) in enumerate(rows)]
    instants = [block.born for block in blocks]
    expected = max((sum(b.bytes for b in blocks if b.born <= t < b.released) for t in instants), default=0)
    assert profile_memory(blocks).peak_bytes == expected


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=400), st.integers(4, 60))
def test_a_thinned_course_keeps_its_ends_and_its_extremes(values, points):
    course = [(float(place), value) for place, value in enumerate(values)]
    thinned = thin_out(course, points)
    assert len(thinned) <= max(points, 4) and (thinned[0], thinned[-1]) == (course[0], course[-1])
    assert max(v for _, v in thinned) == max(values) and min(v for _, v in thinned) == min(values)
    assert list(thinned) == sorted(thinned)


def test_inference_holds_its_input_and_the_two_tensors_that_overlap():
    def function(x):
        a = x + 1.0
        b = a * 2.0
        del a
        c = b - 3.0
        del b
        return c

    memory = capture_function(function, torch.rand(ELEMENTS)).memory
    # A scalar operand stands in a tensor of its own while its op runs.
    assert 3 * SIZE <= memory.peak_bytes <= 3 * SIZE + 64
    assert memory.at_peak["input"] == SIZE
    assert 2 * SIZE <= memory.at_peak["temporary"] <= 2 * SIZE + 64


def test_views_share_the_memory_of_their_base():
    def function(x):
        return x.view(-1)[3:].t().unsqueeze(0)

    memory = capture_function(function, torch.rand(ELEMENTS)).memory
    assert (memory.peak_bytes, memory.at_peak) == (SIZE, {"input": SIZE})


class Scale(torch.nn.Module):
    """One vector of parameters; exp saves its result for the backward, the product its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(ELEMENTS))
        self.register_buffer("shift", torch.rand(ELEMENTS))

    def forward(self, x):
        return (x * self.weight).exp().sum() + 0 * self.shift[0]


def test_a_training_step_knows_parameters_gradients_state_and_activations():
    model = Scale()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    workload = Workload(
        model=model, inputs=(torch.rand(ELEMENTS),), loss=lambda output, batch: output, optimizer=optimizer
    )
    run = capture_workload(workload)
    at_peak = run.memory.at_peak
    assert at_peak["parameter"] == 2 * SIZE
    assert at_peak["input"] == SIZE
    # Two moments and the step count, itself a tensor of one float.
    assert at_peak["optimizer_state"] == 2 * SIZE + 4
    categories = {tensor.storage: tensor.category for tensor in run.graph.tensors}
    (exp,) = [op for op in run.graph.ops if op.name == "aten::exp"]
    assert categories[run.graph.tensors[exp.outputs[0]].storage] == "activation"
    (product,) = [op for op in run.graph.ops if op.name == "aten::mul" and op.phase == "forward" and op.scope == ""][:1]
    assert categories[run.graph.tensors[product.outputs[0]].storage] == "temporary"
    assert "unknown" not in at_peak and sum(at_peak.values()) == run.memory.peak_bytes


def test_gradients_of_the_step_before_are_gone_once_zeroed():
    model = Scale()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, foreach=False)
    workload = Workload(
        model=model, inputs=(torch.rand(ELEMENTS),), loss=lambda output, batch: output, optimizer=optimizer
    )
    memory = capture_workload(workload).memory
    start = memory.timeline[0][1]
    # Parameter, buffer, input and the old gradient are alive when the step begins, and zero_grad releases the last.
    assert start == 4 * SIZE
    assert min(live for _, live in memory.timeline) == 3 * SIZE


def test_memory_that_a_model_keeps_without_telling_is_unknown():
    kept = torch.rand(ELEMENTS)
    run = capture_workload(Workload(model=Function(lambda x: x + kept), inputs=(torch.rand(ELEMENTS),)))
    assert run.memory.at_peak["unknown"] == SIZE
    assert run.coverage.categorised_bytes == pytest.approx(2 / 3, abs=0.01)


def test_chained_temporaries_of_random_sizes_peak_where_arithmetic_says():
    random.seed(5)
    sizes = [random.randrange(1000, 9000) for _ in range(7)]

    def function(x):
        kept = [torch.zeros(1)]
        for size in sizes:
            kept.append(torch.zeros(size))
            kept.pop(0)
        return x

    expected = 4 + 4 * max(a + b for a, b in zip([1, *sizes], sizes, strict=False))
    assert capture_function(function, torch.rand(1)).memory.peak_bytes == expected
