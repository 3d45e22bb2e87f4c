"""Tier d of fused programs: whole models on a device, fused, against eager and float64, replayed from a CUDA graph."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cuda.device import missing

torch = pytest.importorskip("torch")

WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY is not None, reason=f"no GPU test: {WHY}")]


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Keep TF32 out of what the kernels are compared with."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with torch.no_grad():
        yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def program_of(model: Any, args: tuple[Any, ...]) -> Any:
    """Return the model with its program in its place, whether or not it is faster."""
    from optimizers.fusion.capture import capture
    from optimizers.fusion.cuda_build import cuda_program
    from optimizers.fusion.cuda_kernels import prepare
    from optimizers.fusion.cuda_runner import CudaRunner
    from optimizers.fusion.module import FusedModule

    captured = capture(model, args, {})
    program, kernels = cuda_program(captured, "a test")
    prepare(kernels)
    return FusedModule(model, captured, CudaRunner(program, kernels))


def check(fused: Any, model: Any, args: tuple[Any, ...]) -> None:
    got, wanted = (
        fused(*args),
        copy.deepcopy(model).double()(*(a.double() if a.is_floating_point() else a for a in args)),
    )
    torch.testing.assert_close(got.double(), wanted, rtol=2e-5, atol=2e-5)
    assert not fused.fallbacks


@pytest.mark.parametrize(("batch", "hidden"), [(1, 37), (1, 256), (6, 64)])
def test_an_unrolled_lstm_is_one_persistent_kernel(batch: int, hidden: int) -> None:
    from examples.lstm import UnrolledLSTM

    model = UnrolledLSTM(24, hidden).cuda()
    fused = program_of(model, (torch.randn(batch, 20, 24, device="cuda"),))
    assert len(fused.runner.program.loops) == 1
    for _ in range(3):
        check(fused, model, (torch.randn(batch, 20, 24, device="cuda"),))
    for parameter in model.parameters():
        parameter.mul_(0.7)
    check(fused, model, (torch.randn(batch, 20, 24, device="cuda"),))


@pytest.mark.parametrize("layers", [2, 10])
def test_layers_run_as_a_wavefront(layers: int) -> None:
    from tests.optimizers.fusion.recurrences import Stacked

    for deep in (True, False):
        model = Stacked(64, layers, deep).cuda()
        fused = program_of(model, (torch.randn(1, 12, 64, device="cuda"),))
        assert fused.runner.program.loops
        for _ in range(2):
            check(fused, model, (torch.randn(1, 12, 64, device="cuda"),))


def test_an_encoder_keeps_its_products_in_the_library() -> None:
    from tests.optimizers.fusion.encoders import Encoder

    model = Encoder(96, 4).cuda()
    mask = torch.zeros(2, 1, 50, 50, dtype=torch.bool, device="cuda")
    mask[1, :, :, 30:] = True
    fused = program_of(model, (torch.randn(2, 50, 96, device="cuda"), mask))
    for _ in range(2):
        check(fused, model, (torch.randn(2, 50, 96, device="cuda"), mask))


def test_weights_that_move_are_recorded_anew_and_special_values_pass() -> None:
    from examples.lstm import UnrolledLSTM

    model, x = UnrolledLSTM(8, 32).cuda(), torch.randn(2, 9, 8, device="cuda")
    fused = program_of(model, (x,))
    check(fused, model, (x,))
    owner = next(module for module in model.modules() if module._parameters)
    key = next(iter(owner._parameters))
    setattr(owner, key, torch.nn.Parameter(torch.randn_like(getattr(owner, key))))
    check(fused, model, (x,))
    x[0, 3, 2] = float("nan")
    torch.testing.assert_close(fused(x), model(x), rtol=2e-5, atol=2e-5, equal_nan=True)


def test_optimize_gives_a_module_that_computes_what_the_model_computes() -> None:
    import hotbench
    from examples.lstm import UnrolledLSTM

    model, x = UnrolledLSTM(64, 128).cuda().eval(), torch.randn(1, 50, 64, device="cuda")
    fused = hotbench.optimize(model, x)
    assert fused is not model, "fifty steps of eager's ops are slower than one kernel"
    check(fused, model, (torch.randn_like(x),))
