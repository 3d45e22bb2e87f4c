"""Tier d of the row reductions: against torch on a real device. Their cases run in test_gpu.py with all others."""

from __future__ import annotations

import math

import pytest

from kernels.row_reduction import Launcher
from tests.cuda.device import missing
from tests.cuda.row_reduction_cases import (
    counts,
    layer_norm,
    log_softmax,
    masked_softmax,
    middle_mean,
    residual_layer_norm,
    rms_norm,
    row_maximum,
    softmax,
)

torch = pytest.importorskip("torch")

WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY is not None, reason=f"no GPU test: {WHY}")]
LENGTHS = [1, 5, 31, 33, 128, 768, 1000, 1001, 1024, 4096, 12288, 50257]


def rows_of(rows: int, length: int) -> torch.Tensor:
    """Return random rows; one of -inf alone, one with NaN, one with inf where there are enough."""
    values = torch.randn(rows, length, device="cuda")
    if rows > 3:
        values[0] = -math.inf
        values[1, length // 2] = math.nan
        values[2, length - 1] = math.inf
    return values


def empty(*shape: int) -> torch.Tensor:
    return torch.full(shape, math.nan, device="cuda")


def launch(launcher: Launcher, *arguments: torch.Tensor) -> str:
    return launcher.launch(arguments, torch.cuda.current_stream().cuda_stream)


def assert_equal(got: torch.Tensor, wanted: torch.Tensor, tolerance: float = 4e-6) -> None:
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [3, 131, 4097])
def test_softmax_matches_torch(length: int, rows: int) -> None:
    x, out = rows_of(rows, length), empty(rows, length)
    form = launch(Launcher(softmax(length, rows)), x, out)
    assert form == ("wide" if length % 4 == 0 else "scalar")
    assert_equal(out, torch.softmax(x, 1))


@pytest.mark.parametrize("length", LENGTHS)
def test_log_softmax_in_place_matches_torch(length: int) -> None:
    x, maximum = rows_of(131, length), empty(131)
    wanted, most = torch.log_softmax(x, 1), x.amax(1)
    launch(Launcher(log_softmax(length, 131)), x, x, maximum)
    assert_equal(x, wanted, 2e-5)
    assert_equal(maximum, most, 0)


@pytest.mark.parametrize("length", LENGTHS)
def test_masked_softmax_matches_torch(length: int) -> None:
    x, out = torch.randn(2, 131, length, device="cuda"), empty(2, 131, length)
    mask = torch.rand(131, length, device="cuda") < 0.5
    mask[7] = False
    launch(Launcher(masked_softmax(length, 131)), x, mask, out)
    assert_equal(out, torch.softmax((x / 8).masked_fill(~mask, -math.inf), 2))


@pytest.mark.parametrize("length", LENGTHS[1:])
def test_norms_match_torch(length: int) -> None:
    rows = 517
    x, residual = rows_of(rows, length), torch.randn(rows, length, device="cuda")
    weight, bias, shift = (torch.randn(length, device="cuda") for _ in range(3))
    out, mean, deviation = empty(rows, length), empty(rows), empty(rows)
    launch(Launcher(layer_norm(length, rows)), x, weight, bias, out, mean, deviation)
    assert_equal(out, torch.nn.functional.layer_norm(x, (length,), weight, bias), 2e-5)
    assert_equal(mean, x.mean(1), 2e-5)
    total = x + shift + residual
    launch(Launcher(residual_layer_norm(length, rows)), x, residual, shift, x, weight, bias, out)
    assert_equal(x, total)
    assert_equal(out, torch.nn.functional.layer_norm(total, (length,), weight, bias), 2e-5)
    padded = rows_of(rows, length + 4)
    launch(Launcher(rms_norm(length, rows)), padded, weight, out)
    assert_equal(out, torch.nn.functional.rms_norm(padded[:, :length], (length,), weight, 1e-6), 2e-5)


@pytest.mark.parametrize("length", LENGTHS)
def test_extremes_and_sums_match_torch(length: int) -> None:
    rows = 131
    x, most, least = rows_of(rows, length), empty(rows), empty(rows)
    launch(Launcher(row_maximum(length, rows)), x, most, least)
    assert_equal(most, x.amax(1), 0)
    assert_equal(least, x.amin(1), 0)
    middle = torch.randn(rows, length, 33, device="cuda")
    mean, variance = empty(rows, 33), empty(rows, 33)
    launch(Launcher(middle_mean(length, rows)), middle, mean, variance)
    assert_equal(mean, middle.mean(1), 1e-5)
    assert_equal(variance, middle.var(1, correction=0), 1e-5)


@pytest.mark.parametrize("length", [1, 33, 1000])
def test_integers_and_bools_match_torch_exactly(length: int) -> None:
    rows = 131
    flag = torch.rand(rows, 4, length, device="cuda") < 0.9
    number = torch.randint(-(2**31), 2**31, (rows, 4, length), device="cuda", dtype=torch.int32)
    longs = [torch.empty(rows, dtype=torch.int64, device="cuda") for _ in range(2)]
    ints = [torch.empty(rows, dtype=torch.int32, device="cuda") for _ in range(2)]
    flags = [torch.empty(rows, dtype=torch.bool, device="cuda") for _ in range(2)]
    launch(Launcher(counts(length, rows)), flag, number, *longs, *ints, *flags)
    flat = number.flatten(1)
    wanted = (flag.flatten(1).sum(1), (flat.long() * 2**40).sum(1), flat.prod(1, dtype=torch.int32), flat.amax(1),
              (flat > 58).any(1), flag.flatten(1).all(1))  # fmt: skip
    for got, expected in zip((*longs, *ints, *flags), wanted, strict=True):
        assert torch.equal(got, expected)


def test_a_misaligned_tensor_takes_the_scalar_form_and_is_right() -> None:
    x, out = torch.randn(131 * 768 + 1, device="cuda")[1:], empty(131, 768)
    assert launch(Launcher(softmax(768, 131)), x, out) == "scalar"
    assert_equal(out, torch.softmax(x.reshape(131, 768), 1))


@pytest.mark.parametrize("length", [768, 12288, 50257])
def test_a_launch_is_captured_into_a_cuda_graph_and_replayed_on_new_values(length: int) -> None:
    launcher = Launcher(softmax(length, 131))
    launcher.prepare()
    x, out = torch.zeros(131, length, device="cuda"), empty(131, length)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch(launcher, x, out)
    for _ in range(2):
        x.normal_()
        out.fill_(math.nan)
        graph.replay()
        torch.cuda.synchronize()
        assert_equal(out, torch.softmax(x, 1))
