"""A fused module is eager's twin: state, aliasing, fallbacks, in-place changes, threads."""

from __future__ import annotations

import copy
import threading
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import functional

from optimizers.fusion.capture import UnfusableError
from tests.optimizers.fusion.interpreted import Function, assert_fuses, assert_same, fused_module


def _floats(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Recurrent(torch.nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(inputs, 3 * hidden)
        self.recur = torch.nn.Linear(hidden, 3 * hidden, bias=False)
        self.hidden = hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(x.shape[0], self.hidden)
        outputs = []
        for step in range(x.shape[1]):
            a, b, c = (self.project(x[:, step]) + self.recur(h)).chunk(3, dim=1)
            h = torch.sigmoid(a) * h + torch.tanh(b) * torch.sigmoid(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1)


@pytest.mark.parametrize("batch", [1, 3])
def test_unrolled_recurrence_shares_kernels_between_steps(batch: int) -> None:
    fused = assert_fuses(Recurrent(5, 6), _floats(batch, 9, 5))
    assert len(fused.runner.program.regions) <= 5
    assert len(fused.runner.program.products) <= 4
    assert fused.runner.program.kernel_calls <= 20


def test_state_dict_and_parameters_are_the_originals() -> None:
    model = Recurrent(5, 6)
    fused = fused_module(model, (_floats(2, 3, 5),))
    assert list(fused.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(fused.parameters(), model.parameters(), strict=True))


def test_copy_has_weights_and_memory_of_its_own() -> None:
    model, x = Recurrent(5, 6), _floats(2, 4, 5)
    fused = fused_module(model, (x,))
    copied = copy.deepcopy(fused)
    with torch.no_grad():
        before = fused(x)
        copied.original.recur.weight.zero_()
        assert_same(copied(x), copied.original(x))
        assert_same(fused(x), before)
    assert not copied.fallbacks and list(copied.state_dict()) == list(model.state_dict())


def test_two_calls_return_different_memory() -> None:
    x = _floats(2, 4, 5)
    fused = fused_module(Recurrent(5, 6), (x,))
    with torch.no_grad():
        first = fused(x)
        kept = first.clone()
        second = fused(x * 2)
    assert torch.equal(first, kept) and first.data_ptr() != second.data_ptr()


def test_weights_changed_in_place_are_seen() -> None:
    model, x = Recurrent(5, 6), _floats(2, 4, 5)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        fused(x)
        model.recur.weight.mul_(0.5)
        model.project.bias.data.add_(1)
        assert_same(fused(x), model(x))
    assert not fused.fallbacks


def test_replaced_weights_are_seen() -> None:
    model, x = Recurrent(5, 6), _floats(2, 4, 5)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        fused(x)
        model.recur.weight = torch.nn.Parameter(_floats(18, 6, seed=4))
        model.project.weight.data = _floats(18, 5, seed=5)
        assert_same(fused(x), model(x))
        assert not fused.fallbacks
        model.project = torch.nn.Linear(5, 18)
        assert_same(fused(x), model(x))


def test_other_shape_stride_or_dtype_runs_the_original() -> None:
    model, x = Recurrent(5, 6), _floats(2, 4, 5)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        for other in (_floats(3, 4, 5), _floats(4, 2, 5).transpose(0, 1)):
            assert_same(fused(other), model(other))
    assert sum(fused.fallbacks.values()) == 2
    with torch.no_grad(), pytest.raises(RuntimeError):
        fused(x.double())  # as the original does


def test_other_arguments_run_the_original() -> None:
    model = Function(lambda x, flag, scale=1.0: torch.tanh(x) * scale if flag else torch.exp(x) * scale)
    x = _floats(3, 4)
    with torch.no_grad():
        fused = fused_module(model, (x, True), {"scale": 2.0})
        assert_same(fused(x, True, scale=2.0), model(x, True, scale=2.0))
        assert not fused.fallbacks
        assert_same(fused(x, False, scale=2.0), model(x, False, scale=2.0))
        assert_same(fused(x, True, scale=3.0), model(x, True, scale=3.0))
        assert_same(fused(x, True), model(x, True))
    assert sum(fused.fallbacks.values()) == 3


def test_gradients_run_the_original() -> None:
    model, x = Recurrent(5, 6), _floats(2, 4, 5)
    fused = fused_module(model, (x,))
    fused(x).sum().backward()
    assert fused.fallbacks["gradients"] == 1 and model.recur.weight.grad is not None


def test_train_mode_and_changed_attributes_run_the_original() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Tanh()).eval()
    x = _floats(3, 4)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        model[1].train()
        fused(x)
        model[1].eval()
        fused.train()
        assert model[0].training
        fused(x)
        fused.eval()
        model[0].register_forward_hook(lambda *_: None)
        fused(x)
    assert sum(fused.fallbacks.values()) == 3


def test_changed_number_in_a_module_runs_the_original() -> None:
    class Scaled(torch.nn.Module):
        scale = 2.0

        def __init__(self) -> None:
            super().__init__()
            self.shift = 1.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x) * 3 + self.shift

    model, x = Scaled(), _floats(3)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        model.shift = 5.0
        assert_same(fused(x), model(x))
    assert sum(fused.fallbacks.values()) == 1


def test_outputs_alias_as_eagers_do() -> None:
    def function(x: torch.Tensor) -> Any:
        y = torch.tanh(x)
        return {"whole": y, "view": y.t()[1:], "again": y, "input": x, "of input": x[0]}

    x = _floats(3, 4)
    fused = assert_fuses(function, x)
    with torch.no_grad():
        result = fused(x)
    assert result["whole"] is result["again"] and result["input"] is x
    result["whole"][0, 1] = 7.0
    assert result["view"][0, 0] == 7.0
    x[0, 0] = 9.0
    assert result["of input"][0] == 9.0


def test_output_and_its_slice_in_a_stack_do_not_alias() -> None:
    def function(x: torch.Tensor) -> Any:
        parts = [torch.tanh(x), torch.exp(x)]
        return torch.stack(parts), torch.cat(parts, dim=1), parts[0]

    x = _floats(2, 3)
    fused = assert_fuses(function, x)
    with torch.no_grad():
        stacked, joined, part = fused(x)
    part.zero_()
    assert stacked[0].abs().sum() > 0 and joined[:, :3].abs().sum() > 0


def test_parts_of_a_concatenation_can_be_read_in_other_ways() -> None:
    def function(x: torch.Tensor, w: torch.Tensor) -> Any:
        a, b = torch.tanh(x), torch.exp(x)
        joined = torch.cat([a, x, b, a], dim=1)
        return joined @ w, a.reshape(-1) * 2, b.t() @ a, joined.sum(1)

    assert_fuses(function, _floats(3, 4), _floats(16, 5))


class Pair(NamedTuple):
    first: torch.Tensor
    second: list[torch.Tensor | float | None]


def test_structures_and_plain_values_are_returned() -> None:
    assert_fuses(lambda x: Pair(x + 1, [x * 2, None, 3.0]), _floats(3))


def test_returned_weight_is_the_weight() -> None:
    model = Function(lambda x, w: (torch.tanh(x) + w, w, w[1:]), w=_floats(4))
    fused = assert_fuses(model, _floats(4))
    with torch.no_grad():
        assert fused(_floats(4))[1] is model.w


def test_in_place_ops_on_intermediates_fuse() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x)
        y.add_(1)
        y[:, 1] = 0.5
        y[0].mul_(2)
        return y.relu_()

    assert_fuses(function, _floats(3, 4))


def test_writing_into_an_input_or_buffer_is_refused() -> None:
    with pytest.raises(UnfusableError, match="writes input 0 in place"):
        fused_module(Function(lambda x: x.add_(1)), (_floats(3),))
    with pytest.raises(UnfusableError, match=r"writes .*running_mean in place|writes a tensor in place|num_batches"):
        fused_module(torch.nn.BatchNorm1d(3).train(), (_floats(4, 3),))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x.sum().item(),
        lambda x: torch.tanh(x) if x.sum() > 0 else x,
        lambda x: x[x > 0].exp(),
        lambda x: x * float(x.amax()),
        lambda x: [x + k for k in range(int(x.abs().sum()))],
    ],
)
def test_dependence_on_values_is_refused(function: Any) -> None:
    with pytest.raises(UnfusableError, match="tensor values"):
        fused_module(Function(function), (_floats(3),))


def test_state_assigned_by_forward_is_refused_and_restored() -> None:
    class Remembers(torch.nn.Module):
        last: Any = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last = torch.tanh(x)
            return self.last * 2

    model = Remembers()
    with pytest.raises(UnfusableError, match="assigns last"):
        fused_module(model, (_floats(3),))
    assert model.last is None


def test_plain_tensor_attribute_is_refused() -> None:
    model = Function(torch.tanh)
    model.table = _floats(3)
    table = model.table
    model.function = lambda x: torch.tanh(x) * table
    with pytest.raises(UnfusableError, match="register it as a buffer"):
        fused_module(model, (_floats(3),))


def test_hooks_and_foreign_inputs_are_refused() -> None:
    model = torch.nn.Linear(3, 3)
    handle = model.register_forward_hook(lambda *_: None)
    with pytest.raises(UnfusableError, match="forward hooks"):
        fused_module(model, (_floats(2, 3),))
    handle.remove()
    with pytest.raises(UnfusableError, match="input 1 is a function"):
        fused_module(Function(lambda x, f: f(x)), (_floats(3), lambda x: x))


def test_constants_made_in_forward_are_part_of_the_program() -> None:
    assert_fuses(lambda x: torch.tanh(x) * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor(2.0), _floats(4, 3))


def test_dropout_in_train_mode_draws_eagers_numbers() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.4), torch.nn.GELU()).train()
    x = _floats(5, 6)
    fused = fused_module(model, (x,))
    with torch.no_grad():
        torch.manual_seed(3)
        reference = model(x), torch.rand(1)
        torch.manual_seed(3)
        assert_same((fused(x), torch.rand(1)), reference)
    assert not fused.fallbacks


def test_random_ops_keep_their_order() -> None:
    def function(x: torch.Tensor) -> Any:
        a = torch.rand_like(x)
        b = torch.randn(3)
        return (b.exp() * 2, a.tanh() + functional.dropout(x, 0.5, training=True))

    model, x = Function(function), _floats(3)
    fused = fused_module(model, (x,))
    torch.manual_seed(1)
    reference = model(x)
    torch.manual_seed(1)
    assert_same(fused(x), reference)


def test_calls_from_several_threads_are_right() -> None:
    model = Recurrent(5, 6)
    inputs = [_floats(2, 4, 5, seed=k) for k in range(4)]
    fused = fused_module(model, (inputs[0],))
    with torch.no_grad():
        references = [model(x) for x in inputs]
    failures: list[str] = []

    def work(position: int) -> None:
        with torch.no_grad():
            for _ in range(5):
                if not torch.allclose(fused(inputs[position]), references[position], atol=1e-6):
                    failures.append(f"thread {position}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_autocast_and_inference_mode() -> None:
    model, x = Recurrent(5, 6), _floats(2, 4, 5)
    fused = fused_module(model, (x,))
    with torch.inference_mode():
        assert_same(fused(x), model(x))
    assert not fused.fallbacks
    with torch.no_grad():
        assert_same(fused(x), model(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fused(x)
    assert sum(fused.fallbacks.values()) == 1


def test_tied_weights_and_expanded_buffers() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.second = torch.nn.Linear(4, 4)
            self.second.weight = self.first.weight
            self.register_buffer("wide", _floats(1, 4).expand(3, 4), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.second(torch.tanh(self.first(x)) + self.wide))

    assert_fuses(Tied(), _floats(3, 4))
