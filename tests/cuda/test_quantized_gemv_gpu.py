"""Tier d of the quantized products: the launcher on a real device, against torch and, to the bit, against the CPU twin.

Skipped, visibly, where there is no device; `make gpu-check` or `pytest -m gpu` runs it where there is one.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from kernels.cuda.kernel import run_twin
from kernels.quantized.gemv import Launcher
from kernels.quantized.product import QuantizedProduct
from kernels.quantized.source import Tuning
from tests.cuda.device import missing

torch = pytest.importorskip("torch")

WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY is not None, reason=f"no GPU test: {WHY}")]
PRODUCTS = (
    QuantizedProduct(1023, 4096, bias=True),
    QuantizedProduct(4099, 1371, batch=3),
    QuantizedProduct(129, 2048, batch=2, inputs="float16"),
    QuantizedProduct(4096, 4096, weights="codebook"),
    QuantizedProduct(67, 11008, batch=8, weights="codebook", bias=True),
    QuantizedProduct(67, 384, batch=5, weights="codebook", scope="tensor", inputs="bfloat16"),
    QuantizedProduct(300, 1100, weights="codebook", scope="group", group=64),
    QuantizedProduct(2051, 4095, batch=4, inputs="int8"),
)


def drawn(product: QuantizedProduct) -> tuple[np.ndarray, ...]:
    """Return fresh arrays for each operand, the output poisoned."""
    random = np.random.default_rng()
    arrays = []
    for operand in product.operands():
        if operand.dtype == "float32":
            array = random.standard_normal(operand.elements).astype(np.float32)
        elif operand.dtype == "uint16":
            values = torch.from_numpy(random.standard_normal(operand.elements)).to(getattr(torch, product.inputs))
            array = values.view(torch.int16).numpy().view(np.uint16)
        else:
            array = random.integers(0, 2**32, operand.elements, dtype=np.uint32).view(operand.dtype)
        if operand.written:
            array.view(np.uint8)[:] = 0xDE
        arrays.append(array)
    if product.is_integer:
        arrays[1].view(np.int8).reshape(product.batch, -1)[:, product.columns :] = 0
    return tuple(arrays)


def on_device(array: np.ndarray, misaligned_items: int = 0):
    """Return a tensor of the array's bits, as a dtype that torch has, perhaps beside its alignment."""
    signed = array.view({np.uint32: np.int32, np.uint16: np.int16}.get(array.dtype.type, array.dtype))
    whole = torch.empty(signed.size + misaligned_items, dtype=torch.from_numpy(signed).dtype, device="cuda")
    whole[misaligned_items:] = torch.from_numpy(signed).cuda()
    return whole[misaligned_items:]


def stream_handle() -> int:
    return torch.cuda.current_stream().cuda_stream


def described(product: QuantizedProduct) -> str:
    return f"{product.weights}-{product.scope}-{product.inputs}-{product.rows}x{product.columns}-b{product.batch}"


@pytest.mark.parametrize("product", PRODUCTS, ids=described)
def test_the_device_and_the_cpu_twin_agree_to_the_bit(product: QuantizedProduct) -> None:
    launcher, arrays = Launcher(product), drawn(product)
    tensors = [on_device(array) for array in arrays]
    assert launcher.launch(tensors, stream_handle()) == "wide"
    torch.cuda.synchronize()
    run_twin(launcher.sources["wide"], arrays)
    assert tensors[-1].cpu().numpy().tobytes() == arrays[-1].tobytes()


@pytest.mark.parametrize("tuning", [Tuning(1, 1), Tuning(2, 4), Tuning(4, 8)], ids=str)
def test_every_spread_of_the_work_is_right(tuning: Tuning) -> None:
    product = QuantizedProduct(1000, 5000, batch=2)
    arrays = drawn(product)
    integers = np.random.default_rng().integers(-127, 128, (1000, 5000))
    arrays[0][:] = product.packing.pack(integers).ravel()
    tensors = [on_device(array) for array in arrays]
    Launcher(product, tuning).launch(tensors, stream_handle())
    weights = torch.from_numpy(integers).cuda().double() * tensors[2].double()[:, None]
    wanted = torch.nn.functional.linear(tensors[1].reshape(2, 5000).double(), weights).float()
    torch.testing.assert_close(tensors[3].reshape(2, 1000), wanted, rtol=1e-4, atol=0.05)


def test_a_misaligned_tensor_takes_the_scalar_form_with_the_same_result() -> None:
    product = QuantizedProduct(515, 3000, weights="codebook")
    launcher, arrays = Launcher(product), drawn(product)
    results = []
    for shift, form in ((0, "wide"), (1, "scalar")):
        tensors = [on_device(array, shift) for array in arrays]
        assert launcher.launch(tensors, stream_handle()) == form
        results.append(tensors[-1].cpu().numpy().tobytes())
    assert results[0] == results[1]


def test_nan_and_infinities_match_torch_on_the_device() -> None:
    product = QuantizedProduct(300, 2048, batch=2, bias=True)
    arrays = drawn(product)
    integers = np.random.default_rng().integers(-3, 4, (300, 2048))
    arrays[0][:] = product.packing.pack(integers).ravel()
    arrays[1][700], arrays[1][2048 + 9] = math.inf, math.nan
    tensors = [on_device(array) for array in arrays]
    Launcher(product).launch(tensors, stream_handle())
    weights = torch.from_numpy(integers).cuda() * tensors[2][:, None]
    wanted = torch.nn.functional.linear(tensors[1].reshape(2, 2048), weights, tensors[3])
    torch.testing.assert_close(tensors[4].reshape(2, 300), wanted, rtol=1e-3, atol=0.05, equal_nan=True)


def test_a_launch_is_captured_into_a_cuda_graph_and_replayed_on_new_inputs() -> None:
    product = QuantizedProduct(257, 4096, weights="codebook")
    launcher, arrays = Launcher(product), drawn(product)
    launcher.prepare()
    tensors = [on_device(array) for array in arrays]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launcher.launch(tensors, stream_handle())
    for _ in range(2):
        x = torch.randn(4096)
        tensors[1].copy_(x)
        tensors[-1].fill_(math.nan)
        graph.replay()
        torch.cuda.synchronize()
        arrays[1][:] = x.numpy()
        run_twin(launcher.sources["wide"], arrays)
        assert tensors[-1].cpu().numpy().tobytes() == arrays[-1].tobytes()
