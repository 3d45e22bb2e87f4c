"""Forward and backward share few tensors, and long sums are taken at once, with the same gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.fx.experimental.proxy_tensor import make_fx

from optimizers.fusion.backend_aot import training_decompositions
from optimizers.fusion.backend_joins import share_joins
from optimizers.fusion.backend_partition import EXACT, partition


class Parts:
    """The two graphs of a function, run op by op."""

    def __init__(self, function: Callable[..., Any], *args: torch.Tensor) -> None:
        graphs: list[torch.fx.GraphModule] = []

        def keep(module: torch.fx.GraphModule, _: Any) -> Any:
            graphs.append(module)
            return make_boxed_func(module.forward)

        backend = aot_autograd(
            fw_compiler=keep, bw_compiler=keep, partition_fn=partition, decompositions=training_decompositions()
        )
        traced = make_fx(function)(*args)
        leaves = [arg.clone().requires_grad_() for arg in args]
        outputs = backend(traced, leaves)(*leaves)
        result = torch.autograd.grad(sum((o * o).sum() for o in outputs), leaves)
        expected = [arg.double().requires_grad_() for arg in args]
        reference = torch.autograd.grad(sum((o * o).sum() for o in function(*expected)), expected)
        torch.testing.assert_close([r.double() for r in result], list(reference), rtol=1e-4, atol=1e-4)
        self.forward, self.backward = graphs

    def saved(self) -> list[str]:
        names = [node.name for node in self.backward.graph.find_nodes(op="placeholder")]
        return [name for name in names if not name.startswith("tangents")]

    def ops(self) -> Counter[str]:
        return Counter(str(n.target).split(".")[1] for n in self.backward.graph.nodes if n.op == "call_function")


def _recurrence(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
    h = torch.zeros_like(x[0])
    outputs = []
    for step in range(x.shape[0]):
        h = torch.tanh(h @ w + x[step] @ w.t() + b)
        outputs.append(h)
    return [torch.stack(outputs)]


@pytest.mark.parametrize("batch", [1, 2])
def test_recurrence_saves_stacks_and_multiplies_once_a_weight(batch: int) -> None:
    steps = 9
    parts = Parts(_recurrence, torch.randn(steps, batch, 5), torch.randn(5, 5) / 3, torch.randn(5))
    assert len(parts.saved()) <= 6
    # A product a step for the hidden state and one for dx; those for the weight are three in all.
    assert parts.ops()["mm"] <= 2 * steps + 3
    assert parts.ops()["select_backward"] == 0 and parts.ops()["sum"] == 1


@pytest.mark.parametrize("batch", [1, 3])
def test_gradients_that_several_sums_read_are_stored_once(batch: int) -> None:
    parts = Parts(_recurrence, torch.randn(7, batch, 5), torch.randn(5, 5) / 3, torch.randn(5))
    joined = [part for node in _joins(parts.backward) for part in node.args[0]]
    assert len(joined) == len(set(joined)) >= 7


def _joins(module: torch.fx.GraphModule) -> list[Any]:
    return [node for node in module.graph.nodes if str(node.target) == "aten.cat.default"]


def test_only_rows_side_by_side_are_read_from_a_longer_join() -> None:
    graph = torch.fx.Graph()
    a, b, c = (graph.placeholder(name) for name in "abc")
    for k, node in enumerate((a, b, c)):
        node.meta["val"] = torch.randn(k + 1, 4)

    def join(*parts: torch.fx.Node) -> torch.fx.Node:
        node = graph.call_function(torch.ops.aten.cat.default, (list(parts), 0))
        node.meta["val"] = torch.cat([part.meta["val"] for part in parts])
        return node

    short, apart = join(b, c), join(a, c)
    doubled = graph.call_function(torch.ops.aten.mul.Tensor, (short, 2.0))
    whole, again = join(a, b, c), join(a, b, c)
    graph.output((doubled, apart, whole, again, short))
    values = [node.meta["val"] for node in (a, b, c)]
    expected = torch.fx.GraphModule({}, graph)(*values)
    share_joins(graph, [short, apart, whole, again])
    module = torch.fx.GraphModule({}, graph)
    graph.lint()
    assert _joins(module) == [apart, whole]
    for ours, theirs in zip(module(*values), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_a_saved_view_becomes_its_base() -> None:
    def function(x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
        return [x.t()[1:] @ w, torch.cos(x)[:2]]

    parts = Parts(function, torch.randn(5, 4), torch.randn(5, 3))
    assert sorted(parts.saved()) == ["primals_1", "primals_2"]


@pytest.mark.parametrize("cut", [lambda t: t.chunk(3, 1), lambda t: t.unbind(1), lambda t: t.split((1, 2), 1)])
def test_saved_pieces_of_a_tensor_become_stacks_of_the_whole(cut: Callable[[torch.Tensor], Any]) -> None:
    def function(x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
        outputs = []
        for step in range(x.shape[0]):
            first, *_, last = cut(torch.mm(x[step], w))
            outputs.append((torch.sigmoid(first) * torch.nn.functional.silu(last)).sum(0))
        return outputs

    parts = Parts(function, torch.randn(7, 2, 5), torch.randn(5, 3))
    assert len(parts.saved()) <= 4
    assert not any("getitem" in name for name in parts.saved())


def test_gradients_of_some_entries_leave_zeros_for_the_others() -> None:
    def function(x: torch.Tensor) -> list[torch.Tensor]:
        return [sum((k + 1.0) * torch.sin(x[:, k]) for k in (0, 1, 2, 4, 5, -1))]  # type: ignore[list-item]

    parts = Parts(function, torch.randn(3, 8))
    assert parts.ops()["select_backward"] == 0
    assert parts.ops()["stack"] == 1


def test_an_entry_that_is_read_twice_is_left_as_it_is() -> None:
    def function(x: torch.Tensor) -> list[torch.Tensor]:
        return [sum(torch.sin(x[k]) * (j + 1) for j, k in enumerate((0, 1, 2, 3, 0)))]  # type: ignore[list-item]

    Parts(function, torch.randn(4, 3))


def test_large_products_are_not_gathered() -> None:
    def function(*args: torch.Tensor) -> list[torch.Tensor]:
        return [sum(torch.sin(x @ args[-1]) for x in args[:-1])]  # type: ignore[list-item]

    parts = Parts(function, *(torch.randn(40, 6) for _ in range(5)), torch.randn(6, 4))
    assert parts.ops()["mm"] == 10 and parts.ops()["cat"] == 0


def test_what_is_compared_for_equality_is_computed_once() -> None:
    def function(x: torch.Tensor) -> list[torch.Tensor]:
        return [(torch.tanh(x) * 0.5).amax(1)]

    parts = Parts(function, torch.randn(4, 7))
    marked = {str(n.target).split(".")[1] for n in parts.forward.graph.nodes if n.meta.get(EXACT)}
    assert marked == {"mul", "amax"}
