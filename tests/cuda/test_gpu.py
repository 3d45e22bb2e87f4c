"""Tier d: each kernel on a real device, against the float64 reference and against torch.

Skipped, visibly, where there is no device; `make gpu-check` or `pytest -m gpu` runs it where there is one.
"""

from __future__ import annotations

import math

import pytest

from kernels.pointwise import Launcher
from tests.cuda import pointwise_cases
from tests.cuda.case import SPECIALS, Case
from tests.cuda.cases import FORMS, form_id
from tests.cuda.device import check_on_device, missing

torch = pytest.importorskip("torch")


WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY is not None, reason=f"no GPU test: {WHY}")]


@pytest.mark.parametrize(("case", "form"), FORMS, ids=form_id)
def test_the_device_kernel_matches_the_float64_reference(case: Case, form: str) -> None:
    check_on_device(case, form)


def random_with_specials(size: int):
    values = torch.randn(size, device="cuda")
    values[: len(SPECIALS)] = torch.tensor(SPECIALS, device="cuda")
    return values[torch.randperm(size, device="cuda")].contiguous()


def stream_handle() -> int:
    return torch.cuda.current_stream().cuda_stream


@pytest.mark.parametrize("size", [37, 1_000_003])
def test_gelu_and_silu_match_torch_on_the_device(size: int) -> None:
    x, out, bias = random_with_specials(size), torch.empty(size, device="cuda"), torch.full((1,), 0.25, device="cuda")
    assert Launcher(pointwise_cases.gelu(size)).launch((x, out), stream_handle()) == "wide"
    torch.testing.assert_close(out, torch.nn.functional.gelu(x), rtol=2e-6, atol=2e-6, equal_nan=True)
    assert Launcher(pointwise_cases.scale_bias_silu(size)).launch((x, bias, out), stream_handle()) == "wide"
    wanted = torch.nn.functional.silu(x * 1.702 + 0.25)
    torch.testing.assert_close(out, wanted, rtol=4e-6, atol=4e-6, equal_nan=True)


def test_nan_infinities_and_comparisons_match_torch_on_the_device() -> None:
    size = 4099
    x, y = random_with_specials(size), random_with_specials(size)
    out = torch.empty(size, device="cuda")
    flags = [torch.empty(size, dtype=torch.bool, device="cuda") for _ in range(2)]
    Launcher(pointwise_cases.comparisons(size)).launch((x, y, out, *flags), stream_handle())
    wanted = torch.where(x < y, torch.minimum(x, y), torch.maximum(x, y))
    torch.testing.assert_close(out, wanted, rtol=0, atol=0, equal_nan=True)
    either = torch.isnan(x) | torch.isinf(y)
    assert torch.equal(flags[0], either)
    assert torch.equal(flags[1], ~either & (x < y))


def test_a_misaligned_tensor_takes_the_scalar_form_and_is_right() -> None:
    size = 4099
    x, out = random_with_specials(size + 1)[1:], torch.empty(size, device="cuda")
    assert x.data_ptr() % 16
    assert Launcher(pointwise_cases.gelu(size)).launch((x, out), stream_handle()) == "scalar"
    torch.testing.assert_close(out, torch.nn.functional.gelu(x), rtol=2e-6, atol=2e-6, equal_nan=True)


def test_a_launch_waits_for_the_work_before_it_on_its_stream() -> None:
    size = 1_000_003
    launcher = Launcher(pointwise_cases.gelu(size))
    launcher.prepare()
    x, out = torch.zeros(size, device="cuda"), torch.empty(size, device="cuda")
    matrix = torch.randn(4096, 4096, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(20):
            matrix = matrix @ matrix / 64
        x.fill_(1.0)
        launcher.launch((x, out), stream_handle())
    side.synchronize()
    assert torch.allclose(out, torch.nn.functional.gelu(torch.ones(1, device="cuda")))


def test_a_launch_is_captured_into_a_cuda_graph_and_replayed_on_new_values() -> None:
    size = 4099
    launcher = Launcher(pointwise_cases.gelu(size))
    launcher.prepare()
    x, out = torch.zeros(size, device="cuda"), torch.empty(size, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launcher.launch((x, out), stream_handle())
    for _ in range(2):
        x.copy_(random_with_specials(size))
        out.fill_(math.nan)
        graph.replay()
        torch.cuda.synchronize()
        torch.testing.assert_close(out, torch.nn.functional.gelu(x), rtol=2e-6, atol=2e-6, equal_nan=True)
