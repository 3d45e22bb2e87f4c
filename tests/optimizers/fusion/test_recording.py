"""One eager call written down: the same graph as torch's own tracing, and a key that says all that is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from optimizers.fusion.capture import ModelCall, UnfusableError, capture, decompositions
from optimizers.fusion.decompose import decomposed, graph_of
from optimizers.fusion.recording import Recording, Stand, UnrecordableError, record
from tests.optimizers.fusion.interpreted import Function, assert_same

OUTSIDE = torch.ones(3, 3)


def recorded(function: Callable[..., Any], *tensors: torch.Tensor) -> Recording:
    return record(lambda *flat: pytree.tree_leaves(function(*flat)), tensors)


def described(graph: torch.fx.GraphModule) -> list[tuple[str, str, str]]:
    """Return op, arguments and layouts of each node, by position instead of name."""
    numbers = {node: f"%{k}" for k, node in enumerate(graph.graph.nodes)}
    lines = []
    for node in graph.graph.nodes:
        tensors = [t for t in pytree.tree_leaves(node.meta.get("val")) if isinstance(t, torch.Tensor)]
        layouts = [(tuple(t.shape), t.stride(), t.dtype) for t in tensors]
        arguments = torch.fx.node.map_arg((node.args, node.kwargs), lambda inner: numbers[inner])
        named = node.op in ("placeholder", "get_attr", "output")
        lines.append((node.op if named else str(node.target), str(arguments) if not named else "", str(layouts)))
    return lines


def gates(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    i, f, o = (x @ w.t()).chunk(3, dim=1)
    scaled = torch.stack([torch.sigmoid(i), torch.tanh(f) * torch.tensor([2.0])], 1)
    return scaled.flatten(1)[:, ::2], torch.nn.functional.layer_norm(o, o.shape[1:]).softmax(-1)


def images(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    maps = torch.nn.functional.conv2d(x, w, padding=1).relu()
    return torch.nn.functional.max_pool2d(maps, 2).mean((2, 3)) + torch.arange(5)


def attention(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    made = torch.nn.functional.scaled_dot_product_attention(q, k, k)
    return torch.nn.functional.gelu(made).transpose(1, 2).reshape(2, 7, -1)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (gates, [(3, 5), (27, 5)]),
        (images, [(2, 3, 8, 9), (5, 3, 3, 3)]),
        (attention, [(2, 3, 7, 8), (2, 3, 7, 8)]),
    ],
)
def test_a_recording_becomes_the_graph_that_tracing_gives(
    function: Callable[..., Any], shapes: list[tuple[int, ...]]
) -> None:
    tensors = [torch.randn(shape) for shape in shapes]
    with torch.no_grad():
        traced = make_fx(lambda *flat: pytree.tree_leaves(function(*flat)), decompositions(), tracing_mode="fake")(
            *tensors
        )
        ours = graph_of(decomposed(recorded(function, *tensors), tensors, decompositions()))
        for graph in (traced, ours):
            graph.graph.eliminate_dead_code()
        assert described(ours) == described(traced)
        assert_same(ours(*tensors), pytree.tree_leaves(function(*tensors)))


def test_results_are_those_of_eager_to_the_bit() -> None:
    x, w = torch.randn(3, 5), torch.randn(27, 5)
    with torch.no_grad():
        for ours, theirs in zip(recorded(gates, x, w).results, gates(x, w), strict=True):
            assert torch.equal(ours, theirs)


def test_values_are_not_in_the_key() -> None:
    keys = {recorded(gates, torch.randn(3, 5), torch.randn(27, 5)).hash() for _ in range(3)}
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x * 2.0, lambda x: x * 3.0),
        (lambda x: x + 1, lambda x: x + 1.0),
        (lambda x: x + 1, lambda x: x + True),
        (torch.tanh, torch.sigmoid),
        (lambda x: (x + 1, x), lambda x: (x, x + 1)),
        (lambda x: x * torch.tensor([1.0]), lambda x: x * torch.tensor([1.5])),
        (lambda x: x.sum(0), lambda x: x.sum(1)),
        (lambda x: x[:, 0], lambda x: x[:, 1]),
        (lambda x: x.float(), lambda x: x.double()),
        (lambda x: [x + 1, None], lambda x: [x + 1, 0]),
        (lambda x: (x + 1) - (x * 2), lambda x: (x * 2) - (x + 1)),
    ],
)
def test_another_computation_has_another_key(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    x = torch.randn(3, 3)
    assert recorded(one, x).hash() != recorded(other, x).hash()


def test_another_layout_of_the_inputs_has_another_key() -> None:
    inputs = [torch.randn(3, 3), torch.randn(3, 3).t(), torch.randn(3, 4), torch.randn(3, 3, dtype=torch.float64)]
    assert len({recorded(torch.tanh, x).hash() for x in inputs}) == len(inputs)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        np.asarray,
        lambda x: bool(x.sum() > 0),
        lambda x: memoryview(x.untyped_storage()),
        lambda x: [float(value) for value in x.flatten()],
        lambda x: torch.equal(x, x + 1),
    ],
)
def test_nothing_can_read_a_value(read: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises(Exception):  # noqa: B017 (each way to read raises an error of its own)
        recorded(lambda x: (read(x), x)[1], torch.randn(2, 3))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x[x > 0], "dynamic_output_shape"),
        (lambda x: x.nonzero(), "dynamic_output_shape"),
        (torch.rand_like, "nondeterministic_seeded"),
        (lambda x: x.add_(1), "writes into an input"),
        (lambda x: x[0].zero_(), "writes into an input"),
        (lambda x: x + OUTSIDE, "that no op made"),
        (lambda x: OUTSIDE, "that no op made"),
        (lambda x: torch.empty_like(x).t_(), "inplace_view"),
        (lambda x: x.to_sparse(), "sparse|layout"),
    ],
)
def test_what_only_another_tracer_can_judge_is_not_recorded(function: Callable[..., Any], why: str) -> None:
    with pytest.raises(UnrecordableError, match=why):
        recorded(function, torch.randn(3, 3))


def test_random_numbers_and_inputs_are_as_before() -> None:
    x = torch.randn(3, 3)
    before, state = x.clone(), torch.get_rng_state()
    with pytest.raises(UnrecordableError):
        recorded(lambda x: torch.dropout(x, 0.5, True), x)
    assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)


def test_a_constant_that_forward_writes_keeps_its_first_value() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        made = torch.tensor([1.0, 2.0, 3.0])
        made.add_(x)
        return made * 2

    x = torch.randn(3)
    captured = capture(Function(function), (x,), {})
    with torch.no_grad():
        for value in (x, -x):
            assert_same(captured.graph(value), [function(value)])


def test_an_array_that_forward_fills_again_is_a_constant_each_time() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        array = np.ones(3, dtype=np.float32)
        scaled = torch.tanh(x * torch.from_numpy(array))
        array[:] = 2.0
        return scaled + torch.from_numpy(array)

    x = torch.randn(3)
    constants = [step.constant for step in recorded(function, x).steps if step.constant is not None]
    assert [constant.tolist() for constant in constants] == [[1.0] * 3, [2.0] * 3]
    assert_same(capture(Function(function), (x,), {}).graph(x), [function(x)])


def test_a_tensor_outlives_its_recording_as_an_empty_shell() -> None:
    kept: list[torch.Tensor] = []

    def function(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        return x + 1

    recorded(function, torch.randn(3))
    assert isinstance(kept[0], Stand) and "%0" in repr(kept[0])
    with pytest.raises(UnrecordableError, match="over"):
        kept[0] + 1


def test_forward_that_looks_at_values_only_while_nothing_compiles_is_recorded() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling() and bool((x > 100).any()):
            return x
        return torch.tanh(x)

    call = ModelCall(Function(function), (torch.randn(3),), {})
    assert call.recording() is not None and not torch.compiler.is_compiling()


def test_state_that_forward_changes_is_refused_and_put_back() -> None:
    class Counting(torch.nn.Module):
        count = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return x + self.count

    model = Counting()
    with pytest.raises(UnfusableError, match="assigns count"):
        ModelCall(model, (torch.randn(3),), {}).recording()
    assert model.count == 0 and "count" not in vars(model)
