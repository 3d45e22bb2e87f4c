"""Tier d of products with small batches: launchers and layers on a real device, against the CPU and captured in graphs.

Skipped, visibly, where there is no device; `make gpu-check` or `pytest -m gpu` runs it where there is one.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from kernels.cuda.kernel import run_twin
from kernels.quantized.activation_bytes import ActivationBytes
from kernels.quantized.cpu_weights import codebook_weights, int8_weights
from kernels.quantized.gemm import BytesLauncher, Launcher, possible_warps
from kernels.quantized.gemm_shape import ByteRows, SmallGemm, tiles_of
from tests.cuda.case import draw
from tests.cuda.device import missing
from tests.cuda.quantized_gemm_cases import CASES, problem

torch = pytest.importorskip("torch")

WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY is not None, reason=f"no GPU test: {WHY}")]
PRODUCTS = (
    (SmallGemm(1023, 4096, 3, bias=True), 24),
    (SmallGemm(384, 1536, 8, bias=True), 64),
    (SmallGemm(67, 11008, 1), 2),
    (SmallGemm(4096, 4096, 2, weights="codebook"), 16),
    (SmallGemm(300, 1100, 4, weights="codebook", scope="tensor", bias=True), 27),
)


def on_device(array: np.ndarray):
    signed = array.view({np.uint32: np.int32, np.uint16: np.int16}.get(array.dtype.type, array.dtype))
    return torch.from_numpy(signed.copy()).cuda()


def stream_handle() -> int:
    return torch.cuda.current_stream().cuda_stream


@pytest.mark.parametrize(("product", "batch"), PRODUCTS, ids=str)
def test_every_spread_agrees_with_the_cpu_twin_to_the_bit(product: SmallGemm, batch: int) -> None:
    arrays = draw(CASES[0], problem(product, batch, 1), np.random.default_rng())
    tensors = [on_device(array) for array in arrays]
    run_twin(Launcher(product).sources["wide"], (*arrays, batch))
    for warps in possible_warps(product):
        tensors[-1].fill_(math.nan)
        assert Launcher(product, warps).launch(tensors, batch, stream_handle()) == "wide"
        assert tensors[-1].cpu().numpy().tobytes() == arrays[-1].tobytes()


def test_a_misaligned_tensor_takes_the_scalar_form_with_the_same_result() -> None:
    product, batch = SmallGemm(515, 3000, 2, weights="codebook"), 11
    launcher = Launcher(product)
    tensors = [on_device(array) for array in draw(CASES[0], problem(product, batch, 1), np.random.default_rng())]
    launcher.launch(tensors, batch, stream_handle())
    wanted = tensors[-1].clone()
    shifted = torch.empty(tensors[1].numel() + 1, dtype=torch.int32, device="cuda")[1:]
    shifted.copy_(tensors[1])
    tensors[-1].fill_(math.nan)
    assert launcher.launch((tensors[0], shifted, *tensors[2:]), batch, stream_handle()) == "scalar"
    assert torch.equal(tensors[-1], wanted)


@pytest.mark.parametrize("inputs", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("columns", "bits"), [(384, 8), (1371, 8), (4099, 4), (11008, 4)])
def test_bytes_of_rows_agree_with_the_cpu_twin_to_the_bit(inputs: str, columns: int, bits: int) -> None:
    shape, batch = ActivationBytes(ByteRows(columns, bits), inputs), 29
    x = torch.randn(batch, columns).to(getattr(torch, inputs))
    x[3, 7], x[5, 1] = math.nan, math.inf
    x[6] = 0
    given = x.view(torch.int16).numpy().view(np.uint16) if inputs != "float32" else x.numpy()
    arrays = [np.zeros(o.elements, o.dtype) for o in shape.operands(batch)]
    arrays[0][:] = given.ravel()
    tensors = [on_device(array) for array in arrays]
    launcher = BytesLauncher(shape)
    launcher.launch(tensors, batch, stream_handle())
    run_twin(launcher.sources["scalar"], (*arrays, batch))
    scales = torch.from_numpy(arrays[2])
    assert torch.equal(tensors[2].cpu().nan_to_num(-1.0), scales.nan_to_num(-1.0))
    finite = ~scales.isnan()
    words = torch.from_numpy(arrays[1].view(np.int32).copy()).reshape(batch, -1)
    assert torch.equal(tensors[1].cpu().reshape(batch, -1)[finite], words[finite])
    assert torch.equal(tensors[3].cpu()[finite], torch.from_numpy(arrays[3])[finite])


@pytest.mark.parametrize("batch", [1, 2, 24, 64, 70])
@pytest.mark.parametrize("weights", ["int8", "codebook"])
def test_a_layer_computes_what_it_computes_on_the_cpu(weights: str, batch: int) -> None:
    from optimizers.quantization.cuda_model import to_cuda
    from optimizers.quantization.modules.linear import QuantizedLinear

    random, shape = np.random.default_rng(), (515, 1030)
    if weights == "int8":
        scales = random.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        prepared = int8_weights(random.integers(-127, 128, shape).astype(np.int8), scales)
    else:
        centroids = random.standard_normal((shape[0], 16)).astype(np.float32)
        prepared = codebook_weights(random.integers(0, 16, shape).astype(np.uint8), centroids)
    layer, x = QuantizedLinear(prepared, torch.randn(shape[0])), torch.randn(batch, shape[1])
    moved = to_cuda(layer)
    with torch.no_grad():
        wanted = layer(x)
        torch.testing.assert_close(moved(x.cuda()).cpu(), wanted, rtol=2e-5, atol=2e-5 * wanted.abs().max().item())
        half = moved(x.cuda().half())
    assert half.dtype is torch.float16 and (half.float().cpu() - wanted).norm() < 0.01 * wanted.norm()


def test_a_layer_is_captured_into_a_cuda_graph_and_replayed_on_new_inputs() -> None:
    from optimizers.quantization.cuda_model import to_cuda
    from optimizers.quantization.modules.linear import QuantizedLinear

    random = np.random.default_rng()
    weights = int8_weights(random.integers(-127, 128, (256, 384)).astype(np.int8), np.full(256, 0.01, np.float32))
    layer = to_cuda(QuantizedLinear(weights, None))
    assert tiles_of(24) == 3
    x, graph = torch.randn(24, 384, device="cuda"), torch.cuda.CUDAGraph()
    with torch.no_grad():
        layer(x)
        with torch.cuda.graph(graph):
            out = layer(x)
        for _ in range(2):
            x.copy_(torch.randn(24, 384))
            graph.replay()
            torch.testing.assert_close(out, layer(x), rtol=0, atol=0)
