"""torch.compile(model, backend="hotbench"): inference and training are eager's, and eager takes the rest."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from analyzer.errors import HotbenchError
from optimizers.fusion import api, backend_aot, backend_choice
from optimizers.fusion.backend import HotbenchBackend, options_of, register
from optimizers.fusion.backend import backend as registered
from optimizers.fusion.program import Program
from tests.optimizers.fusion.compiled import Counted, assert_trains, compiled
from tests.optimizers.fusion.interpreted import interpreted


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted([])

    def compile_kernels(program: Program) -> dict[str, Any]:
        counted.programs.append(program)
        return interpreted(program)

    monkeypatch.setattr(api, "compile_kernels", compile_kernels)
    return counted


@pytest.fixture
def backend(built: Counted) -> Iterator[HotbenchBackend]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield HotbenchBackend()
    torch.set_num_threads(threads)
    torch._dynamo.reset()


class Recurrent(torch.nn.Module):
    """An LSTM of eight steps from elementary ops."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.of_input = torch.nn.Linear(inputs, 4 * hidden)
        self.of_hidden = torch.nn.Linear(hidden, 4 * hidden)
        self.hidden = hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[1], self.hidden)
        outputs = []
        for step in range(x.shape[0]):
            i, f, g, o = (self.of_input(x[step]) + self.of_hidden(h)).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs)


def test_mlp_trains_as_eager(backend: HotbenchBackend, built: Counted) -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 6), torch.nn.SiLU(), torch.nn.Linear(6, 3)
    )
    assert_trains(model, torch.randn(4, 5), backend=backend, make=lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3))
    assert built.kernel_calls and not backend.reasons


@pytest.mark.parametrize("batch", [1, 3])
def test_unrolled_lstm_trains_as_eager_with_few_saved_tensors(
    backend: HotbenchBackend, built: Counted, batch: int
) -> None:
    x = torch.randn(8, batch, 5, requires_grad=True)
    assert_trains(Recurrent(5, 6), x, backend=backend)
    forward, backward = built.programs
    saved = [d for d in backward.lowered.definitions if d.kind in ("input", "weight")]
    assert forward.kernel_calls and backward.kernel_calls and len(saved) <= 16
    # One product over all steps for each weight, not one a step: eight for the hidden state, two and dx besides.
    assert sum(str(call.target) == "aten.mm.default" and bool(call.results) for call in backward.lowered.calls) <= 20


class Gated(torch.nn.Module):
    """Two layers of a GRU whose gates are cut from two products, of six steps."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.of_input = torch.nn.ModuleList(torch.nn.Linear(hidden, 3 * hidden) for _ in range(2))
        self.of_hidden = torch.nn.ModuleList(torch.nn.Linear(hidden, 3 * hidden, bias=False) for _ in range(2))

    def cell(self, layer: int, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        update_x, reset_x, new_x = self.of_input[layer](x).chunk(3, dim=1)
        update_h, reset_h, new_h = self.of_hidden[layer](h).chunk(3, dim=1)
        update = torch.sigmoid(update_x + update_h)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h) + functional.silu(new_x)
        return (1 - update) * new + update * h

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lower = upper = torch.zeros_like(x[0])
        outputs = []
        for step in range(x.shape[0]):
            lower = self.cell(0, x[step], lower)
            upper = self.cell(1, lower, upper) + lower
            outputs.append(upper)
        return torch.stack(outputs)


@pytest.mark.parametrize(("model", "batch"), [(Recurrent(5, 5), 1), (Recurrent(5, 5), 3), (Gated(5), 1), (Gated(5), 2)])
def test_forward_and_backward_of_recurrences_become_loops(
    backend: HotbenchBackend, built: Counted, monkeypatch: pytest.MonkeyPatch, model: torch.nn.Module, batch: int
) -> None:
    monkeypatch.setattr(backend_choice, "build", lambda captured, excluded: api.build(captured, excluded, True))
    assert_trains(model, torch.randn(7, batch, 5, requires_grad=True), backend=backend, steps=2)
    forward, backward = built.programs
    assert [len(program.loops) for program in (forward, backward)] == [1, 1]
    assert backward.loops[0].program.trips >= 4 and backward.kernel_calls <= 40


def test_layer_norm_gelu_and_dropout_train_with_eagers_masks(backend: HotbenchBackend, built: Counted) -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.GELU(), torch.nn.Dropout(0.3), torch.nn.LayerNorm(8), torch.nn.Linear(8, 4),
        torch.nn.Dropout(0.2), torch.nn.Softmax(-1),
    )  # fmt: skip
    assert_trains(model, torch.randn(6, 5, requires_grad=True), backend=backend, against_float64=False)
    assert built.kernel_calls and not backend.reasons


def test_dropout_masks_and_the_numbers_after_them_are_eagers(backend: HotbenchBackend) -> None:
    def function(x: torch.Tensor) -> Any:
        a = functional.dropout(x, 0.5)
        return a.exp(), functional.dropout(x.t(), 0.3).tanh(), torch.rand_like(x) + 1

    x = torch.randn(5, 7)
    call = compiled(function, backend)
    for _ in range(2):
        torch.manual_seed(3)
        expected = (*function(x), torch.rand(2))
        torch.manual_seed(3)
        for ours, theirs in zip((*call(x), torch.rand(2)), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_batch_norm_trains_and_updates_its_statistics(backend: HotbenchBackend, built: Counted) -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.LeakyReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.BatchNorm1d(5), torch.nn.ELU(),
    )  # fmt: skip
    assert_trains(model, torch.randn(4, 2, 6, 6), backend=backend)
    assert int(model[1].num_batches_tracked) == 3 and built.kernel_calls and not backend.reasons
    model.eval()
    x = torch.randn(4, 2, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(compiled(model, backend)(x), model(x))
    assert int(model[1].num_batches_tracked) == 3


def test_classification_losses_and_embeddings_train(backend: HotbenchBackend, built: Counted) -> None:
    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 6, padding_idx=0)
            self.head = torch.nn.Linear(6, 4)

        def forward(self, tokens: torch.Tensor, labels: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            scores = self.head(torch.tanh(self.embedding(tokens)).mean(1))
            loss = functional.cross_entropy(scores, labels, ignore_index=3)
            loss = loss + functional.mse_loss(torch.sigmoid(scores), target)
            return loss + functional.smooth_l1_loss(scores, target) - functional.log_softmax(scores, 0).mean()

    tokens, labels = torch.randint(0, 11, (5, 3)), torch.tensor([0, 1, 3, 2, 1])
    model = Classifier()
    assert_trains(model, tokens, labels, torch.rand(5, 4), backend=backend, loss=lambda out: out, against_float64=False)
    assert built.kernel_calls and not backend.reasons


def test_tied_weights_and_a_module_used_twice_train(backend: HotbenchBackend) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.second = torch.nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.tanh(self.first(torch.tanh(self.first(x)))))

    assert_trains(Tied(), torch.randn(3, 4, requires_grad=True), backend=backend)


def test_in_place_ops_views_and_integers_are_eagers(backend: HotbenchBackend) -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4))

        def forward(self, x: torch.Tensor, index: torch.Tensor) -> Any:
            y = torch.tanh(x * self.weight)
            y = y.clone().mul_(2)
            y[0] = 0.5
            z = (y * 3).add_(1)
            return {"view": z.t()[1:], "whole": z, "input": x, "slice": y[1:, ::2], "count": index + 1, "n": 3}

    x, index = torch.randn(3, 4, requires_grad=True), torch.arange(3)
    assert_trains(Odd(), x, index, backend=backend, steps=2)


def test_inputs_and_buffers_written_in_place_are_eagers(backend: HotbenchBackend) -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x.add_(torch.tanh(y))
        y[1:].mul_(2)
        return (x * y).sum(0)

    call = compiled(function, backend)
    for seed in range(2):
        torch.manual_seed(seed)
        first = [torch.randn(3, 4), torch.randn(3, 4)]
        second = [tensor.clone() for tensor in first]
        torch.testing.assert_close(call(*first), function(*second))
        torch.testing.assert_close(first, second)


def _shifted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a.add_(1)
    return torch.tanh(a) * torch.sigmoid(b) * 2


def _pieces(first: slice, second: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    whole = torch.linspace(-2, 2, 40).view(10, 4).clone()
    return whole, whole[first], whole[second]


@pytest.mark.parametrize("dynamic", [False, None])
@pytest.mark.parametrize("rows", [(6, 2, 0, 3), (2, 3, 1), (3, 2)])
def test_written_inputs_that_share_memory_in_some_calls_are_eagers(
    backend: HotbenchBackend, rows: tuple[int, ...], dynamic: bool | None
) -> None:
    call = torch.compile(_shifted, backend=backend, options={"measure": False}, dynamic=dynamic)
    own = torch.randn(3, 4)
    for row in rows:
        ours, theirs = (_pieces(slice(0, 3), slice(row, row + 3)) for _ in range(2))
        torch.testing.assert_close(call(*ours[1:]), _shifted(*theirs[1:]))
        torch.testing.assert_close(ours[0], theirs[0])
        torch.testing.assert_close(call(own.clone(), own), _shifted(own.clone(), own))
    assert backend.graphs


def test_gradients_of_a_maximum_over_recomputed_values_are_finite(backend: HotbenchBackend) -> None:
    class Largest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.amax(torch.tanh(x) * torch.sigmoid(x), 1) + (torch.exp(x) / 3).amin(1)

    assert_trains(Largest(), torch.randn(4, 9, requires_grad=True), backend=backend, steps=1)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "eval"])
def test_inference_is_eagers_in_every_mode(backend: HotbenchBackend, built: Counted, mode: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.GELU(), torch.nn.LayerNorm(6)).eval()
    call, x = compiled(model, backend), torch.randn(3, 5)
    if mode == "eval":
        torch.testing.assert_close(call(x), model(x))
        return
    with getattr(torch, mode)():
        torch.testing.assert_close(call(x), model(x))
        model[0].weight.data.mul_(0.5)
        model[2].bias.data = torch.randn(6)
        torch.testing.assert_close(call(x), model(x))
    assert built.kernel_calls


def test_a_second_shape_leaves_the_first_one_right(backend: HotbenchBackend, built: Counted) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6), torch.nn.Tanh())
    inputs = [torch.randn(batch, 5) for batch in (4, 3, 7, 4)]
    assert_trains(model, backend=backend, steps=4, inputs=lambda step: (inputs[step],))
    assert len(built.programs) >= 4 and not backend.reasons


def test_more_sizes_than_allowed_run_eagerly(backend: HotbenchBackend) -> None:
    call = compiled(lambda x: torch.tanh(x) * 2, backend, most_sizes=2)
    for batch in (2, 3, 4, 5, 6):
        x = torch.randn(batch, 3)
        torch.testing.assert_close(call(x), torch.tanh(x) * 2)
    assert backend.reasons == {"more than 2 sets of sizes": 1}


def test_parts_around_a_graph_break_are_compiled_alone(backend: HotbenchBackend) -> None:
    class Broken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.tanh(x * self.weight)
            torch._dynamo.graph_break()
            return torch.sigmoid(y).sum(1) * y.mean()

    assert_trains(Broken(), torch.randn(3, 4), backend=backend, steps=2)
    assert len(backend.decisions) == 2 and not backend.reasons


def test_backward_twice_and_accumulated_gradients_are_eagers(backend: HotbenchBackend) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2), torch.nn.Softplus())
    call, x = compiled(model, backend), torch.randn(5, 3)
    results = []
    for run in (call, model):
        model.zero_grad()
        first, second = run(x), run(2 * x)
        loss = first.square().sum() + second.sum()
        loss.backward(retain_graph=True)
        loss.backward()
        results.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(*results)


def test_second_derivatives_are_refused_and_never_wrong(backend: HotbenchBackend) -> None:
    x = torch.randn(3, requires_grad=True)
    loss = compiled(lambda x: torch.tanh(x).square().sum(), backend)(x)
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    torch.testing.assert_close(gradient, 2 * torch.tanh(x) * (1 - torch.tanh(x) ** 2))
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        gradient.sum().backward()


def test_gradient_of_an_output_outside_the_loss_is_zeros_and_of_an_unused_parameter_none(
    backend: HotbenchBackend,
) -> None:
    used, outside, unused = (torch.randn(3, requires_grad=True) for _ in range(3))
    call = compiled(lambda a, b, c: (torch.tanh(a) * 2, torch.sigmoid(b) + 1, 3), backend)
    call(used, outside, unused)[0].sum().backward()
    assert used.grad is not None and outside.grad is not None and not outside.grad.any() and unused.grad is None


def test_autocast_runs_eagerly_and_says_so(backend: HotbenchBackend) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    x = torch.randn(2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(model, backend)(x), model(x))
    assert [reason.split(",")[0] for reason in backend.reasons] == ["autocast is on"]


def test_a_failure_while_compiling_is_one_warning_and_eager(
    backend: HotbenchBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(backend_aot, "partition", fail)
    model = torch.nn.Linear(3, 4)
    with caplog.at_level(logging.INFO, logger="hotbench"):
        assert_trains(model, torch.randn(2, 3), backend=backend, steps=2)
    assert backend.reasons == {"compiling failed": 1}
    assert [r.levelname for r in caplog.records if r.name == "hotbench"] == ["WARNING"]
    assert "planted" in caplog.text


def test_a_failure_while_building_a_program_runs_op_by_op(
    backend: HotbenchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "build_program", lambda *_: 1 / 0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    assert_trains(model, torch.randn(2, 3), backend=backend, steps=2)
    assert backend.reasons == {"building a program failed": 2}


def test_what_is_measured_slower_runs_eagerly_with_the_figures(backend: HotbenchBackend, built: Counted) -> None:
    # Interpreted kernels are slower than anything.
    model = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(6))
    x = torch.randn(7, 5)
    call, state = torch.compile(model, backend=backend), torch.get_rng_state()
    result = call(x)
    torch.set_rng_state(state)
    expected = copy.deepcopy(model)
    expected[3].reset_running_stats()
    torch.testing.assert_close(result, expected(x))
    torch.testing.assert_close(model.state_dict(), expected.state_dict())
    assert built.kernel_calls and list(backend.reasons) == ["not faster than eager here"]
    decision = backend.decisions[0]
    assert decision.training and decision.comparison is not None and decision.comparison.low <= 1.0
    assert "95 % interval" in str(decision) and "with gradients runs eagerly" in str(decision)


def test_torch_compile_finds_the_backend_by_its_name(built: Counted) -> None:
    register()
    register()
    torch._dynamo.reset()
    before = len(registered.decisions)
    call = torch.compile(lambda x: torch.tanh(x) * 2, backend="hotbench", options={"measure": False})
    x = torch.randn(3)
    torch.testing.assert_close(call(x), torch.tanh(x) * 2)
    assert len(registered.decisions) == before + 1 and built.kernel_calls
    torch._dynamo.reset()


def test_copied_and_pickled_backends_are_the_same_backend(backend: HotbenchBackend) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    call, x = compiled(model, backend), torch.randn(2, 3)
    call(x)
    other = copy.deepcopy(call)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(call(x), model(x))
    torch.testing.assert_close(other(x), other._orig_mod(x))
    assert not torch.allclose(call(x), other(x)) and len(backend.graphs) >= 1 and not backend.reasons
    assert copy.copy(backend) is backend and copy.deepcopy([backend])[0] is backend
    assert pickle.loads(pickle.dumps(registered)) is registered
    fresh = pickle.loads(pickle.dumps(backend))
    assert isinstance(fresh, HotbenchBackend) and not fresh.decisions


def test_unknown_options_are_refused_in_words() -> None:
    with pytest.raises(HotbenchError, match="'speed' is unknown to the hotbench backend; it knows measure, most_sizes"):
        options_of({"speed": 1}, None)
    with pytest.raises(HotbenchError, match="measure='yes' is no truth value"):
        options_of({"measure": "yes"}, None)
    with pytest.raises(HotbenchError, match="most_sizes=-1 is no count"):
        options_of({"most_sizes": -1}, None)
    with pytest.raises(HotbenchError, match="mode='max-autotune' is unknown"):
        options_of(None, "max-autotune")
