"""The benchmark tables' cases, built with small sizes on the CPU: our kernels are their CPU twins there."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu import (
    contest,
    launch,
    movers,
    pointwise,
    quantized_gemm,
    quantized_gemv,
    recurrent,
    rivals,
    row_reduction,
)
from benchmarks.gpu.contest import OURS, Contest, Rival, build_rivals, figures_of
from benchmarks.gpu.findings import Bar
from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import launch as cuda_launch
from kernels.cuda import support as cuda_support
from kernels.recurrent.cell import GRU, LSTM
from kernels.transfer.pack import FORMATS


class TwinKernel:
    """Stands in for a compiled kernel: a launch runs the CPU twin at once."""

    def __init__(self, source: cuda_kernel.KernelSource) -> None:
        self.run = cuda_kernel.host_function(source)
        compiled = SimpleNamespace(local_mem_per_thread=0, max_cooperative_grid_blocks=lambda threads: 1000)
        self.overloads = {"": compiled}

    def __getitem__(self, configuration: tuple[object, ...]) -> Callable[..., None]:
        return self.run


def on_host(array: np.ndarray) -> SimpleNamespace:
    """Return what looks like a device array, in host memory."""
    interface = {"data": (array.ctypes.data, False), "shape": array.shape, "typestr": array.dtype.str, "version": 2}
    return SimpleNamespace(__cuda_array_interface__=interface, array=array)


@pytest.fixture(autouse=True)
def twins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_launch, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: 2)
    monkeypatch.setattr(cuda_support, "cuda_module", lambda: SimpleNamespace(to_device=on_host))
    monkeypatch.setattr(cuda_kernel, "device_kernel", TwinKernel)
    # Compiling for the CPU takes long and says nothing about a GPU.
    for module in (pointwise, row_reduction):
        monkeypatch.setattr(module, "inductor", rivals.keeping)


CONTESTS: dict[str, Callable[[], Contest]] = {
    "gelu": lambda: pointwise.contest(pointwise.FORMULAS[0], 4099, 2, "cpu"),
    "scale-bias-silu": lambda: pointwise.contest(pointwise.FORMULAS[1], 4099, 2, "cpu"),
    "layernorm": lambda: row_reduction.contest(row_reduction.NORMS[0], 5, 132, 2, "cpu"),
    "softmax": lambda: row_reduction.contest(row_reduction.NORMS[1], 5, 1000, 2, "cpu"),
    "gather": lambda: movers.gathering("gather", (1000, 7, 1, 300), "cpu"),
    "gather-tiny": lambda: movers.gathering("gather-tiny", (7, 1), "cpu", in_cache=True),
    "scatter": lambda: movers.scattering("scatter", (1000, 7, 1, 300), "cpu"),
    **{f"pack-{name}": lambda name=name: movers.packing(FORMATS[name], (3000, 7, 300), "cpu") for name in FORMATS},
    **{f"unpack-{name}": lambda name=name: movers.unpacking(FORMATS[name], (3000, 7, 300), "cpu") for name in FORMATS},
    "lstm": lambda: recurrent.contest(recurrent.Layer(LSTM, 1, 12, judged=True), 5, "cpu"),
    "gru": lambda: recurrent.contest(recurrent.Layer(GRU, 2, 7), 5, "cpu"),
    **{kind.name: lambda kind=kind: quantized_gemv.contest(kind, 37, 300, "cpu") for kind in quantized_gemv.KINDS},
    **{
        f"{kind.name}-batch": lambda kind=kind: quantized_gemm.contest(kind, 40, 304, 24, "cpu")
        for kind in quantized_gemm.FORMATS
    },
}


@pytest.mark.parametrize("name", CONTESTS)
def test_every_rival_computes_the_same_and_ours_is_the_twin(name: str) -> None:
    case = CONTESTS[name]()
    ready, absent, _ = build_rivals(case)
    assert absent == {}
    assert set(ready) == set(case.rivals) and OURS in ready and len(ready) > 1
    for rival in ready.values():
        for call in rival.calls:
            call()


def test_the_calls_of_ours_write_to_buffers_of_their_own() -> None:
    ready, _, _ = build_rivals(CONTESTS["gelu"]())
    results = [call() for call in ready[OURS].calls]
    assert results[0].data_ptr() != results[1].data_ptr()
    assert not torch.equal(results[0], results[1])


def test_a_kept_result_is_not_overwritten_by_the_next_call() -> None:
    rival = rivals.keeping(torch.neg, [(torch.ones(3),), (torch.zeros(3),)])
    first, second = (call() for call in rival.calls)
    assert first.data_ptr() != second.data_ptr() and first.eq(-1).all()


def small_contest(**changes: Any) -> Contest:
    x = torch.ones(8)
    settings = {
        "case": "double",
        "rivals": {
            OURS: lambda: rivals.keeping(torch.mul, [(x, 2.0)]),
            "peer": lambda: rivals.keeping(torch.add, [(x, x)]),
        },
        "wanted": lambda: x.double() * 2,
        "tolerance": 1e-6,
        **changes,
    }
    return Contest(**settings)


def test_a_wrong_result_of_ours_is_an_error() -> None:
    with pytest.raises(AssertionError, match=r"ours is wrong: relative error 5.00e-01, allowed 1e-06"):
        build_rivals(small_contest(wanted=lambda: torch.full((8,), 4.0, dtype=torch.float64)))


def test_nan_is_wrong() -> None:
    with pytest.raises(AssertionError, match="nan is wrong"):
        contest.compare("nan", torch.full((3,), float("nan")), torch.ones(3), 1.0)


def broken() -> Rival:
    raise RuntimeError("no C compiler\nwas found")


def test_a_peer_that_fails_or_is_wrong_is_missing_with_the_reason() -> None:
    x = torch.ones(8)
    peers = {
        OURS: lambda: rivals.keeping(torch.mul, [(x, 2.0)]),
        "inductor": broken,
        "wrong": lambda: rivals.keeping(torch.mul, [(x, 3.0)]),
    }
    ready, absent, _ = build_rivals(small_contest(rivals=peers))
    assert set(ready) == {OURS}
    assert absent["inductor"] == "RuntimeError: no C compiler was found"
    assert absent["wrong"].startswith("AssertionError: wrong is wrong: relative error 5.00e-01")


def test_figures_tell_time_bandwidth_and_bars() -> None:
    samples = {OURS: (1e-4, 1e-4, 1e-4), "peer": (2e-4, 2e-4, 2e-4)}
    case = small_contest(
        bytes_moved=10**6,
        bars={"peer": (Bar("ratio", at_least=1.9), Bar("ratio", at_least=2.1)), "": (Bar("ours", at_least=11.0),)},
    )
    alone, reached, missed = figures_of(case, samples, "NVIDIA H100 80GB HBM3")
    assert (alone.metric, alone.ours.median, alone.reached) == ("gb-per-s", pytest.approx(10.0), False)
    assert (reached.theirs.median, reached.ratio.median) == (pytest.approx(5.0), pytest.approx(2.0))
    assert (reached.reached, missed.reached, missed.bar) == (True, False, "at least 2.1 x")
    assert {figure.reached for figure in figures_of(case, samples, "NVIDIA A100")} == {None}
    (timed,) = figures_of(small_contest(), samples, "NVIDIA H100")
    assert (timed.metric, timed.ours.median, timed.bar) == ("microseconds", pytest.approx(100.0), "")


def test_the_launches_that_are_timed_compute_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = launch.calls("cpu")
    calls["ours-by-address"]()
    assert calls["eager"]().shape == (launch.ELEMENTS,)
    figures = launch.found("case", {OURS: (2e-6,) * 3, "eager": (4e-6,) * 3}, "time").figures
    assert [(figure.peer, figure.ratio.median) for figure in figures] == [("eager", pytest.approx(2.0))]
