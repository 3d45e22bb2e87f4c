"""Launches held back and joined: in the right order whatever they touch, and chosen only where that is faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.gpu.fusion import Heads
from kernels.compiler.ir import Region
from kernels.compiler.print_cuda import print_cuda
from kernels.compiler.print_cuda_together import print_together
from kernels.cuda.kernel import KernelSource, host_function
from kernels.region_launch import FORMS
from optimizers.fusion import cuda_choice, cuda_kernels
from optimizers.fusion.capture import capture
from optimizers.fusion.coschedule import Task, conflicts
from optimizers.fusion.cuda_build import STRAIGHT, cuda_program
from optimizers.fusion.cuda_choice import CudaVariant
from optimizers.fusion.cuda_kernels import RegionKernel
from optimizers.fusion.cuda_runner import CudaRunner
from optimizers.fusion.cuda_together import MOST_PARTS, LaunchQueue, Together
from optimizers.fusion.cuda_waves import waves
from optimizers.fusion.module import FusedModule
from optimizers.fusion.timing import Comparison
from tests.optimizers.fusion.branches import Branches
from tests.optimizers.fusion.host_device import Again
from tests.optimizers.fusion.interpreted import Function, assert_same

CPU = torch.device("cpu")
MODEL, X, Y = Branches(7, 5).eval(), torch.randn(6, 7), torch.randn(9, 5)


class TwinLauncher:
    """Launches a region by its CPU twin; `order` notes every launch."""

    def __init__(self, region: Region, order: list[str]) -> None:
        self.region, self.order, self.sources = region, order, print_cuda(region)

    def prepare(self) -> None:
        pass

    def launch(self, addresses: Sequence[int], stream: int) -> str:
        form = next(form for form in FORMS if form in self.sources and self.sources[form].accepts(tuple(addresses)))
        self.order.append("alone")
        host_function(self.sources[form])(*addresses)
        return form


class TwinGroup:
    """Launches some sources at once by the CPU twin of the kernel that holds them all."""

    def __init__(self, sources: Sequence[KernelSource], order: list[str]) -> None:
        self.source, self.order, self.parts = print_together(sources), order, len(sources)

    def launch(self, addresses: Sequence[int], device: torch.device) -> None:
        assert self.source.accepts(tuple(addresses))
        self.order.append(f"{self.parts} at once")
        host_function(self.source)(*addresses, *range(1, self.parts))


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cuda_kernels, "stream_of", lambda device: 0)
    # As on a device: outputs come from torch's own allocation.
    monkeypatch.delattr(torch._C._dynamo.guards, "_empty_strided_cpu", raising=False)
    with torch.no_grad():
        yield


def joined_module(order: list[str], together: Together | None) -> FusedModule:
    captured = capture(MODEL, (X, Y), {})
    program, _ = cuda_program(captured, "a test", forms=(STRAIGHT,))
    kernels: Any = {name: RegionKernel(TwinLauncher(r, order)) for name, r in program.kernels.items()}  # type: ignore[arg-type]
    runner: Any = CudaRunner(program, kernels, Again(), together)
    return FusedModule(MODEL, captured, runner)


def twins(order: list[str], room: int = 1 << 20) -> Together:
    return Together(lambda sources: TwinGroup(sources, order), lambda: room)


def test_branches_are_launched_at_once_and_compute_what_eager_computes() -> None:
    order: list[str] = []
    together = twins(order)
    fused = joined_module(order, together)
    for _ in range(2):
        x, y = torch.randn_like(X), torch.randn_like(Y)
        for got, wanted in zip(fused(x, y), MODEL(x, y), strict=True):
            assert_same(got, wanted)
    assert together.groups and not fused.fallbacks
    assert any(launch.endswith("at once") for launch in order)
    alone: list[str] = []
    joined_module(alone, None)(X, Y)
    assert len(order) // 2 < len(alone), "as many launches as without joining"


def test_what_fills_the_device_or_cannot_be_compiled_is_launched_alone() -> None:
    order: list[str] = []
    full = twins(order, room=1)
    for got, wanted in zip(joined_module(order, full)(X, Y), MODEL(X, Y), strict=True):
        assert_same(got, wanted)
    assert not full.groups and set(order) == {"alone"}

    def fails(sources: Sequence[KernelSource]) -> Any:
        raise RuntimeError("ptxas died\n in two lines")

    broken = Together(fails, lambda: 1 << 20)
    for got, wanted in zip(joined_module(order, broken)(X, Y), MODEL(X, Y), strict=True):
        assert_same(got, wanted)
    assert not broken.groups and set(broken.refused.values()) == {"ptxas died in two lines"}


SPANS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3), st.booleans()), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(drawn=st.lists(SPANS, max_size=12))
def test_what_touches_the_same_bytes_is_in_waves_in_its_order(drawn: list[list[tuple[int, int, bool]]]) -> None:
    tasks = [Task(tuple((a, a + size, writes) for a, size, writes in spans), 0.0) for spans in drawn]
    pairs = conflicts(tasks)
    found = waves(pairs)
    level = {number: k for k, wave in enumerate(found) for number in wave}
    assert sorted(level) == list(range(len(tasks))) and all(found)
    for later in range(len(tasks)):
        for earlier in range(later):
            if pairs[later, earlier]:
                assert level[earlier] < level[later]
        # No later than it must be: the wave before holds something that it waits for.
        if level[later]:
            assert any(pairs[later, e] and level[e] == level[later] - 1 for e in range(later))


def test_parts_of_one_result_that_lie_between_each_other_are_independent() -> None:
    order: list[str] = []
    model, x = Heads((4, 6, 8)), torch.randn(5, 256)
    captured = capture(model, (x,), {})
    program, _ = cuda_program(captured, "a test", forms=(STRAIGHT,))
    kernels: Any = {name: RegionKernel(TwinLauncher(r, order)) for name, r in program.kernels.items()}  # type: ignore[arg-type]
    runner: Any = CudaRunner(program, kernels, Again(), twins(order))
    assert_same(FusedModule(model, captured, runner)(x), model(x))
    assert order == ["3 at once"] * 2  # once recorded, once replayed


def queue_of(order: list[str], kept: Sequence[torch.Tensor]) -> tuple[LaunchQueue, Any, torch.Tensor, torch.Tensor]:
    captured = capture(Function(lambda x: torch.tanh(x) + 1), (torch.zeros(8),), {})
    program, _ = cuda_program(captured, "a test", forms=(STRAIGHT,))
    ((name, region),) = program.kernels.items()
    kernel: Any = RegionKernel(TwinLauncher(region, order))  # type: ignore[arg-type]
    x, out = torch.zeros(8), torch.zeros(8)
    together = twins(order)
    queue = LaunchQueue(together, {name: kernel}, {name: kernel.bound(CPU)}, CPU, (*kept, x, out))
    launch = queue.launches[name]
    return queue, lambda a, b: launch(a.data_ptr(), b.data_ptr()), x, out


def test_an_op_that_reads_what_waits_comes_after_it_and_another_may_come_before() -> None:
    order: list[str] = []
    queue, launch, x, out = queue_of(order, ())
    with queue.held():
        launch(x, out)
        torch.ones(4).mul(2)
        out.view(2, 4)
        x.clone()  # reads what the launch reads
        assert not order
        out.clone()
        assert order == ["alone"]
        launch(x, out)
        x.add_(1)  # writes what the launch reads
        assert order == ["alone"] * 2 and torch.equal(out, torch.ones(8))
        launch(x, out)
    assert order == ["alone"] * 3 and torch.allclose(out, torch.tanh(torch.ones(8)) + 1)


def test_memory_that_may_be_free_by_now_is_not_waited_with() -> None:
    order: list[str] = []
    queue, launch, x, _ = queue_of(order, ())
    other = torch.zeros(8)
    with queue.held():
        launch(x, torch.empty_strided((8,), (1,)))
        torch.ones(4).mul(2)
        assert not order
        launch(x, other)
        torch.ones(4).mul(2)
        assert order == ["2 at once"]


def test_many_parts_are_several_kernels() -> None:
    order: list[str] = []
    outs = [torch.zeros(8) for _ in range(MOST_PARTS + 3)]
    queue, launch, x, _ = queue_of(order, outs)
    with queue.held():
        for out in outs:
            launch(x, out)
    assert order == [f"{MOST_PARTS} at once", "3 at once"]
    assert all(torch.equal(out, torch.ones(8)) for out in outs)


@pytest.mark.parametrize("faster", [True, False])
def test_joining_is_chosen_where_it_is_measured_to_be_faster(monkeypatch: pytest.MonkeyPatch, faster: bool) -> None:
    order: list[str] = []
    ratio = 1.5 if faster else 0.5
    monkeypatch.setattr(cuda_choice, "compare", lambda *_, **__: Comparison(1.0, 1.0 / ratio, ratio, ratio, ratio, 7))
    monkeypatch.setattr(cuda_choice, "clock_of", lambda device: None)
    monkeypatch.setattr(cuda_choice, "Together", lambda: twins(order))
    monkeypatch.setattr(CudaVariant, "module", lambda self, model, captured: joined_module(order, self.together))
    captured = capture(MODEL, (X, Y), {})
    program, kernels = cuda_program(captured, "a test", forms=(STRAIGHT,))
    variant = CudaVariant(program, kernels, rolled=False)

    def right(module: FusedModule) -> bool:
        return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(module(X, Y), MODEL(X, Y), strict=True))

    found = cuda_choice._joined_if_faster(variant, captured, MODEL, lambda module: module(X, Y), right)
    assert (found.together is not None) == faster
