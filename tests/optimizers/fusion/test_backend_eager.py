"""Checkpoints under torch.compile: the mask of a recomputed dropout is forward's, compiled and left to eager."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from optimizers.fusion import api, backend_aot, backend_trial
from optimizers.fusion.backend import HotbenchBackend
from optimizers.fusion.backend_eager import eager_call
from optimizers.fusion.backend_sizes import OneSize
from optimizers.fusion.timing import Comparison
from tests.optimizers.fusion.compiled import assert_trains, compiled
from tests.optimizers.fusion.interpreted import interpreted


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[HotbenchBackend]:
    monkeypatch.setattr(api, "compile_kernels", interpreted)
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield HotbenchBackend()
    torch._dynamo.reset()


def _save_products(_: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op is torch.ops.aten.mm.default else CheckpointPolicy.PREFER_RECOMPUTE


class Checkpointed(torch.nn.Module):
    """Two steps of a recurrence with dropout in a checkpoint, and two more in a checkpoint within it."""

    def __init__(self, nested: bool = False, **options: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 4) / 2)
        self.bias = torch.nn.Parameter(torch.randn(4))
        self.nested = nested
        self.options = {"use_reentrant": False, **options}

    def _dropout(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, 0.3, self.training)

    def _steps(self, x: torch.Tensor, nested: bool) -> torch.Tensor:
        for _ in range(2):
            x = self._dropout(torch.tanh(x @ self.weight + self.bias)) + 0.1 * x.sigmoid()
        return checkpoint(self._steps, x, False, **self.options) if nested else x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = checkpoint(self._steps, self._dropout(x), self.nested, **self.options)
        return self._dropout(y).exp() * self.bias


@pytest.mark.parametrize("nested", [False, True])
def test_checkpointed_dropout_trains_with_eagers_gradients(backend: HotbenchBackend, nested: bool) -> None:
    x = torch.randn(3, 4, requires_grad=True)
    assert_trains(Checkpointed(nested=nested), x, backend=backend, steps=2, against_float64=False)
    assert not backend.reasons


def test_checkpoint_without_random_numbers_is_compiled(backend: HotbenchBackend) -> None:
    assert_trains(Checkpointed().eval(), torch.randn(3, 4, requires_grad=True), backend=backend, steps=2)
    (graph,) = backend.graphs
    assert [program.chosen is not None for program in graph.programs] == [True, True]


def test_programs_with_random_states_run_op_by_op_and_say_so(backend: HotbenchBackend) -> None:
    compiled(Checkpointed(), backend)(torch.randn(3, 4)).sum().backward()
    (graph,) = backend.graphs
    assert all("higher-order op" in program.reason and not program.failed for program in graph.programs)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(("nested", "reentrant"), [(True, False), (False, True)])
def test_checkpoint_that_compiling_fails_for_is_eagers(
    backend: HotbenchBackend, monkeypatch: pytest.MonkeyPatch, nested: bool, reentrant: bool
) -> None:
    monkeypatch.setattr(backend_aot, "partition", lambda *_, **__: 1 / 0)
    x = torch.randn(3, 4, requires_grad=True)
    model = Checkpointed(nested=nested, use_reentrant=reentrant)
    assert_trains(model, x, backend=backend, steps=2, against_float64=False)
    assert backend.reasons == {"compiling failed": 1}


def test_checkpoint_that_is_not_faster_is_eagers(backend: HotbenchBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_trial, "compare", lambda *_, **__: Comparison(0.001, 0.002, 0.5, 0.4, 0.6, 9))
    assert_trains(Checkpointed(), torch.randn(3, 4), backend=backend, steps=2, against_float64=False, measure=True)
    assert backend.reasons == {"not faster than eager here": 1}


def test_checkpoint_for_other_sizes_is_eagers(backend: HotbenchBackend) -> None:
    inputs = [torch.randn(rows, 4) for rows in (3, 5, 2)]
    assert_trains(
        Checkpointed(), backend=backend, steps=3, inputs=lambda k: (inputs[k],), loss=lambda y: y.square().sum(),
        against_float64=False, most_sizes=1,
    )  # fmt: skip
    assert "more than 1 sets of sizes" in backend.reasons


def test_selective_checkpoint_left_to_eager_keeps_its_policy(
    backend: HotbenchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_aot, "partition", lambda *_, **__: 1 / 0)
    context = partial(create_selective_checkpoint_contexts, _save_products)
    model = Checkpointed(context_fn=context)
    assert_trains(model, torch.randn(3, 4), backend=backend, steps=2, against_float64=False)


def test_graph_without_checkpoint_runs_as_it_is() -> None:
    graph = torch.fx.symbolic_trace(lambda x: torch.tanh(x) + 1)
    assert eager_call(graph) == graph.forward


def test_graphs_whose_checkpoints_differ_have_different_hashes(backend: HotbenchBackend) -> None:
    graphs: list[OneSize] = []
    for function in (torch.tanh, torch.sigmoid):
        torch._dynamo.reset()
        call = compiled(lambda x, f=function: checkpoint(f, x, use_reentrant=False) * 2, backend)
        call(torch.randn(3, requires_grad=True))
        graphs += [graph for graph in backend.graphs if graph not in graphs]
    assert len({graph.hash for graph in graphs}) == 2


@pytest.mark.parametrize("kept", [True, False])
def test_checkpoint_around_a_compiled_model_does_not_notice_the_trial(
    backend: HotbenchBackend, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    ratio = Comparison(0.002, 0.001, 2.0, 1.5, 2.5, 9) if kept else Comparison(0.001, 0.002, 0.5, 0.4, 0.6, 9)
    monkeypatch.setattr(backend_trial, "compare", lambda *_, **__: ratio)
    weight, x = torch.randn(4, 4, requires_grad=True), torch.randn(3, 4)

    def step(x: torch.Tensor) -> torch.Tensor:
        return (torch.tanh(x @ weight) * x.sigmoid()).exp()

    (wanted,) = torch.autograd.grad(step(x).sum(), weight)
    fast = torch.compile(step, backend=backend)
    for _ in range(2):
        (got,) = torch.autograd.grad(checkpoint(fast, x, use_reentrant=False).sum(), weight)
        torch.testing.assert_close(got, wanted)
    assert (not backend.reasons) is kept
