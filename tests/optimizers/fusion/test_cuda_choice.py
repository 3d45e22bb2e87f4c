"""A model on a CUDA device: refused in words where none is, else the faster of two programs, proven like any other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from kernels.cuda.support import CudaDescription, CudaUnavailable
from optimizers.fusion import api, cuda_build, cuda_choice, cuda_runner, timing
from optimizers.fusion.api import Fused, fuse_measured
from optimizers.fusion.capture import Captured, UnfusableError, capture
from optimizers.fusion.cuda_build import cuda_program
from optimizers.fusion.cuda_kernels import LoopKernel, RegionKernel, cuda_kernels, prepare
from optimizers.fusion.program import build_program
from optimizers.fusion.timing import Comparison
from optimizers.plan import Refusal
from tests.optimizers.fusion.host_device import Again, twin_kernels
from tests.optimizers.fusion.interpreted import assert_same
from tests.optimizers.fusion.recurrences import Elman

MODEL, X = Elman(3, 4), torch.randn(1, 4, 3)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let a graph that is captured on the CPU pass for one on a CUDA device."""
    monkeypatch.setattr(Captured, "device", property(lambda self: torch.device("cuda:0")))
    return monkeypatch


def described(driver: str | None) -> CudaDescription:
    return CudaDescription(None, driver, 0, None, "no CUDA driver answers: kernels run on the CPU")


def test_without_a_device_the_reason_is_one_line(on_cuda: pytest.MonkeyPatch) -> None:
    on_cuda.setattr(cuda_choice.cuda_support, "describe", lambda: described(None))
    answer = fuse_measured(MODEL, (X,), {})
    assert isinstance(answer, Refusal)
    assert answer.reason == ("the model is on a CUDA device, and no CUDA driver answers: kernels run on the CPU")


def test_tensors_on_two_devices_are_refused() -> None:
    with pytest.raises(UnfusableError, match=r"inward is on cpu, input 0 on meta; move both to one device"):
        capture(MODEL, (X.to("meta"),), {})


def test_a_tensor_made_on_another_device_is_refused(on_cuda: pytest.MonkeyPatch) -> None:
    captured = capture(MODEL, (X,), {})
    next(iter(captured.graph.graph.nodes)).meta["val"] = torch.empty(4, 3)
    with pytest.raises(UnfusableError, match="is on cpu, the model on cuda:0; keep all on one device"):
        cuda_program(captured, "a test")


class Device:
    """Everything that a device would do, done by the host."""

    def __init__(self, patch: pytest.MonkeyPatch, loops_faster: bool, loops_fit: bool = True) -> None:
        patch.setattr(cuda_choice, "require_cuda", lambda: None)
        patch.setattr(cuda_build, "_require_one_device", lambda captured: None)
        patch.setattr(cuda_build, "cuda_kernels", twin_kernels)
        patch.setattr(cuda_runner, "GraphRecorder", Again)
        patch.setattr(api, "clock_of", lambda device: None)
        patch.setattr(cuda_choice, "clock_of", lambda device: None)
        ratio = 1.5 if loops_faster else 0.5
        patch.setattr(cuda_choice, "compare", lambda *_, **__: Comparison(1.0, 1.0 / ratio, ratio, ratio, ratio, 7))
        self.fit = loops_fit
        patch.setattr(cuda_choice, "prepare", self.prepare)

    def prepare(self, kernels: dict[str, Any]) -> None:
        if not self.fit and any(name.startswith("loop") for name in kernels):
            raise UnfusableError("the loop's stages do not fit this device")


@pytest.mark.parametrize(("faster", "fit"), [(True, True), (False, True), (True, False)])
def test_loops_are_used_where_they_fit_and_are_faster(on_cuda: pytest.MonkeyPatch, faster: bool, fit: bool) -> None:
    Device(on_cuda, faster, fit)
    answer = fuse_measured(MODEL, (X,), {}, min_gain=-100.0)
    assert isinstance(answer, Fused), answer
    assert answer.rolled == (faster and fit) and bool(answer.program.loops) == answer.rolled
    x = torch.randn_like(X)
    assert_same(answer.module(x), MODEL(x))
    assert not answer.module.fallbacks


def test_the_clock_of_a_device_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    clock = timing.clock_of(torch.device("cuda:0"))
    assert clock is not None and clock() <= clock()
    assert waited == [torch.device("cuda:0")] * 2
    assert timing.clock_of(torch.device("cpu")) is None


def test_every_kernel_of_a_program_has_a_launcher_and_loading_it_without_a_device_says_why() -> None:
    captured = capture(MODEL, (X,), {})
    _, kernels = cuda_program(captured, "a test")
    assert {type(kernel) for kernel in kernels.values()} <= {LoopKernel, RegionKernel}
    assert any(isinstance(kernel, LoopKernel) for kernel in kernels.values())

    class Absent:
        def prepare(self) -> None:
            raise CudaUnavailable("no CUDA driver answers")

    with pytest.raises(UnfusableError, match="its CUDA kernels cannot be loaded: no CUDA driver answers"):
        prepare({"absent": Absent()})  # type: ignore[dict-item]


def test_kernels_for_the_cpu_are_refused() -> None:
    captured = capture(torch.nn.Linear(64, 64), (torch.randn(32, 64),), {})
    program = build_program(cuda_build.lower(captured), "a test")
    if program.products:
        with pytest.raises(UnfusableError, match="ProductKernel is for the CPU"):
            cuda_kernels(program)
