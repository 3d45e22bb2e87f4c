"""Programs for a CUDA device, run by their kernels' CPU twins: what the device would compute, and how it is called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from examples.gru_variant import GRUVariant
from examples.lstm import UnrolledLSTM
from optimizers.fusion.capture import capture
from optimizers.fusion.cuda_build import cuda_program
from optimizers.fusion.cuda_runner import CudaRunner
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program
from tests.optimizers.fusion.encoders import Encoder
from tests.optimizers.fusion.host_device import Again, twin_kernels
from tests.optimizers.fusion.interpreted import Function, assert_same
from tests.optimizers.fusion.recurrences import Ornate, Stacked


def for_device(model: torch.nn.Module, *args: Any) -> tuple[FusedModule, Program, Again]:
    captured = capture(model, args, {})
    program, _ = cuda_program(captured, "a test")
    recorder = Again()
    kernels: Any = twin_kernels(program)
    runner: Any = CudaRunner(program, kernels, recorder)
    return FusedModule(model, captured, runner), program, recorder


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


def test_lstm_is_one_persistent_kernel_and_follows_its_inputs_and_weights() -> None:
    model = UnrolledLSTM(7, 9)
    fused, program, recorder = for_device(model, torch.randn(2, 5, 7))
    assert len(program.loops) == 1 and program.library_calls == 1
    for _ in range(2):
        x = torch.randn(2, 5, 7)
        assert_same(fused(x), model(x))
    assert recorder.recorded == 1
    for parameter in model.parameters():
        parameter.data.mul_(-0.5)
    assert_same(fused(x), model(x))
    assert recorder.recorded == 1
    name = next(name for name, _ in model.named_parameters())
    owner, _, key = name.rpartition(".")
    setattr(model.get_submodule(owner), key, torch.nn.Parameter(torch.randn_like(model.get_parameter(name))))
    assert_same(fused(x), model(x))
    assert recorder.recorded == 2 and not fused.fallbacks


@pytest.mark.parametrize(
    ("model", "shape"), [(GRUVariant(6, 5), (3, 4, 6)), (Stacked(5, 3, True), (1, 4, 5))], ids=["gru", "deep"]
)
def test_layers_of_a_step_are_one_kernel(model: torch.nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    fused, program, _ = for_device(model, x)
    assert len(program.loops) == 1
    assert_same(fused(x), model(x))


def test_a_loop_that_the_kernel_cannot_run_is_fused_step_by_step() -> None:
    # It has a softmax in every step.
    model, x = Ornate(4, 4), torch.randn(2, 4, 4)
    fused, program, _ = for_device(model, x)
    assert not program.loops and program.kernel_calls > 4
    assert_same(fused(x), model(x))


def test_encoder_keeps_its_products_in_the_library() -> None:
    model, x = Encoder(12, 3), torch.randn(2, 5, 12)
    mask = torch.zeros(2, 1, 5, 5, dtype=torch.bool)
    mask[1, :, :, 3:] = True
    fused, program, _ = for_device(model, x, mask)
    assert program.library_calls >= 6 and not program.products and set(program.regions) == set(program.kernels)
    assert_same(fused(x, mask), model(x, mask))


def test_what_is_returned_belongs_to_the_caller_and_aliases_what_eager_aliases() -> None:
    def returned(x: torch.Tensor, w: torch.Tensor) -> Any:
        y = torch.tanh(x) * w
        return x[:, 1:], y, y.view(-1)[2:], w, y + 1

    model = Function(returned, w=torch.randn(3, 4))
    x = torch.randn(6, 4)[::2]
    fused, _, _ = for_device(model, x)
    first = fused(x)
    kept = [copy.deepcopy(value.detach()) for value in first]
    assert first[0].data_ptr() == x[:, 1:].data_ptr() and first[3].data_ptr() == model.get_parameter("w").data_ptr()
    assert first[1].untyped_storage().data_ptr() == first[2].untyped_storage().data_ptr()
    other = torch.randn(6, 4)[::2]
    assert_same(fused(other), model(other))
    for value, was in zip(first, kept, strict=True):
        assert torch.equal(value, was)
    assert_same(fused(x), model(x))


def test_expanded_and_empty_inputs_are_copied_as_they_lie() -> None:
    def joined(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x + y) + z.sum()

    args = (torch.randn(4, 1).expand(4, 5), torch.randn(9, 50)[::2, ::11], torch.randn(0, 3))
    args = (args[0], args[1][:4], args[2])
    fused, _, _ = for_device(Function(joined), *args)
    again = (torch.randn(4, 1).expand(4, 5), torch.randn(9, 50)[::2, ::11][:4], args[2])
    for given in (args, again):
        assert_same(fused(*given), joined(*given))
    assert not fused.fallbacks


def test_no_kernel_for_the_cpu_enters_a_program_for_the_device() -> None:
    class Mixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.linear = torch.nn.Embedding(11, 8), torch.nn.Linear(8, 16)
            self.pointwise, self.depthwise = torch.nn.Conv1d(16, 16, 1), torch.nn.Conv1d(16, 16, 3, groups=16)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = functional.gelu(self.linear(self.embedding(tokens)))
            x = functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]
            return torch.relu(self.depthwise(torch.tanh(self.pointwise(x.transpose(1, 2)))))

    model, tokens = Mixed(), torch.randint(0, 11, (2, 9))
    fused, program, _ = for_device(model, tokens)
    assert set(program.kernels) == set(program.regions) and program.library_calls >= 5
    assert_same(fused(tokens), model(tokens))
