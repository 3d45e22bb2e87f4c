"""Quantized layers for a CUDA device, their kernels' CPU twins in its place: they compute what the CPU's layers do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import hotbench
from analyzer.errors import HotbenchError
from kernels.quantized.cpu_lookup_weights import lookup_weights
from kernels.quantized.cpu_reference import integer_weights
from kernels.quantized.cpu_store import restored
from kernels.quantized.cpu_weights import bfloat16_weights, codebook_weights, int8_weights, weight_only_weights
from optimizers.quantization import cuda_linear as module
from optimizers.quantization import cuda_model
from optimizers.quantization.cuda_linear import CudaLinear, cuda_linear, quantized_linear_cuda
from optimizers.quantization.modules.embedding import QuantizedEmbedding
from optimizers.quantization.modules.linear import QuantizedLinear
from tests.kernels.device_stand_in import launch_on_the_host

RANDOM = np.random.default_rng()
ROWS, COLUMNS = 19, 70
BIAS = torch.randn(ROWS)


@pytest.fixture(autouse=True)
def twins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    launch_on_the_host(monkeypatch)
    monkeypatch.setattr(module, "stream_of", lambda device: 0)
    with torch.no_grad():
        yield


def scales() -> np.ndarray:
    return RANDOM.uniform(0.5, 1.5, ROWS).astype(np.float32) / 500


def layer(kind: str, bias: torch.Tensor | None = BIAS) -> QuantizedLinear:
    integers = RANDOM.integers(-127, 128, (ROWS, COLUMNS)).astype(np.int8)
    codes = RANDOM.integers(0, 8, (ROWS, COLUMNS)).astype(np.uint8)
    centroids = RANDOM.standard_normal((ROWS, 8)).astype(np.float32)
    grouped = RANDOM.standard_normal((ROWS, 3, 8)).astype(np.float32)
    weights = {
        "int8": lambda: int8_weights(integers, scales()),
        "int8-weight-only": lambda: weight_only_weights(integers, scales()),
        "codebook": lambda: codebook_weights(codes, centroids),
        "codebook-tensor": lambda: codebook_weights(codes, centroids[:1]),
        "codebook-float": lambda: lookup_weights(codes, centroids),
        "grouped-codebook": lambda: codebook_weights(codes, grouped, 32),
        "bfloat16": lambda: bfloat16_weights(RANDOM.standard_normal((ROWS, COLUMNS)).astype(np.float32)),
    }[kind]()
    return QuantizedLinear(weights, bias)


def called(moved: CudaLinear, x: torch.Tensor) -> torch.Tensor:
    f = moved.formats
    arrays = [moved.get_buffer(name) for name in f.arrays]
    formats: Any = (f.rows, f.columns, f.weights, f.scope, f.group, f.bias, f.activation, f.activations)
    return quantized_linear_cuda(x, arrays, *formats)


def on_the_cpu(original: QuantizedLinear, x: torch.Tensor) -> torch.Tensor:
    """Return what the CPU computes: codebooks as the int8 weights that they stand for, other kinds in float64."""
    if original.kind == "int8":
        return original(x)
    if original.kind != "codebook":
        return original(x.double()).float()
    arrays = {name: buffer.numpy() for name, buffer in original.named_buffers() if name != "bias"}
    prepared = restored("codebook", ROWS, COLUMNS, arrays)
    same = int8_weights(integer_weights(prepared), np.array(prepared.arrays[1][:ROWS], np.float32))
    return QuantizedLinear(same, original.bias)(x)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("int8", (3, 23)),
        ("int8", ()),
        ("codebook", (5,)),
        ("codebook-tensor", (2,)),
        ("int8-weight-only", (1,)),
        # The CPU quantises these activations, the device does not: it is as near to the weights as float32 is.
        ("grouped-codebook", (1,)),
    ],
)
def test_a_layer_for_the_device_computes_what_the_cpu_computes(kind: str, shape: tuple[int, ...]) -> None:
    original, x = layer(kind), torch.randn(*shape, COLUMNS)
    moved = cuda_linear(original)
    assert isinstance(moved, CudaLinear)
    wanted, got = on_the_cpu(original, x), called(moved, x)
    assert got.shape == (*shape, ROWS) and got.dtype is torch.float32
    assert (got - wanted).norm() <= 1e-5 * wanted.norm()


def test_codebooks_for_float_activations_are_float_centroids() -> None:
    original = layer("codebook-float")
    moved = cuda_linear(original)
    assert isinstance(moved, CudaLinear) and moved.formats.activations == "float"
    codes = moved.formats.packing.unpack(moved.get_buffer("weights").numpy().view(np.uint32))
    weights = np.take_along_axis(moved.get_buffer("codebook").numpy()[:, 0], codes.astype(np.intp), axis=1)
    got = torch.randn(3, COLUMNS)
    wanted = original(got.double()).float()
    torch.testing.assert_close(got @ torch.from_numpy(weights).T + BIAS, wanted, rtol=1e-4, atol=1e-4)


def test_half_precision_comes_in_and_goes_out() -> None:
    original, x = layer("int8", None), torch.randn(2, COLUMNS)
    got = called(cuda_linear(original), x.half())  # type: ignore[arg-type]
    assert got.dtype is torch.float16
    assert (got.float() - original(x)).norm() <= 0.01 * original(x).norm()
    assert called(cuda_linear(original), torch.empty(0, COLUMNS)).shape == (0, ROWS)  # type: ignore[arg-type]


def test_bfloat16_weights_become_a_layer_of_torch_with_the_same_numbers() -> None:
    original, x = layer("bfloat16"), torch.randn(4, COLUMNS)
    moved = cuda_linear(original)
    assert isinstance(moved, torch.nn.Linear)
    wanted = original(x.double()).float()
    assert (moved(x) - wanted).norm() <= 1e-5 * wanted.norm()


def test_a_model_is_copied_layers_that_are_shared_stay_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = layer("int8")
    model = torch.nn.ModuleDict({"a": shared, "b": torch.nn.Sequential(torch.nn.ReLU(), shared)})
    moved = hotbench.to_cuda(model, "cpu")
    assert isinstance(moved["a"], CudaLinear) and moved["a"] is moved["b"][1]  # type: ignore[index]
    assert model["a"] is shared and isinstance(shared, QuantizedLinear)
    assert moved["a"].get_buffer("weights").dtype is torch.int32  # type: ignore[index]
    assert moved.half()["a"].get_buffer("scales").dtype is torch.float32  # type: ignore[operator]


def test_what_cannot_move_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HotbenchError, match=r"torch sees no CUDA device to move the model to \(cuda\); run it on"):
        monkeypatch.setattr(cuda_model.torch.cuda, "is_available", lambda: False)
        hotbench.to_cuda(layer("int8"))
    embedding = QuantizedEmbedding.__new__(QuantizedEmbedding)
    torch.nn.Module.__init__(embedding)
    with pytest.raises(HotbenchError, match="words is a QuantizedEmbedding, which has no CUDA kernel; leave it out"):
        hotbench.to_cuda(torch.nn.ModuleDict({"words": embedding}), "cpu")
    with pytest.raises(HotbenchError, match=r"to meta|to cuda|hotbench.to_cuda") as refused:
        layer("int8").half()
    assert "hotbench.to_cuda makes a copy for a CUDA device" in str(refused.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.randn(2, 69),
            r"x is float32 \[2, 69\]; this quantized layer takes float32, float16 or bfloat16 \[..., 70",
        ),
        (torch.zeros(2, 70, dtype=torch.int64), r"x is int64 \[2, 70\]"),
        (torch.tensor(1.0), r"x is float32 \[\]"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_in_words(x: torch.Tensor, message: str) -> None:
    with pytest.raises(HotbenchError, match=message):
        called(cuda_linear(layer("int8")), x)  # type: ignore[arg-type]
    with torch.enable_grad(), pytest.raises(HotbenchError, match="a quantized layer has no gradient"):
        called(cuda_linear(layer("int8")), torch.randn(2, COLUMNS, requires_grad=True))  # type: ignore[arg-type]


def test_arrays_that_do_not_fit_are_refused_in_words() -> None:
    moved = cuda_linear(layer("int8"))
    assert isinstance(moved, CudaLinear)
    moved.weights = moved.get_buffer("weights")[1:]
    with pytest.raises(
        HotbenchError, match=r"weights is 1440 bytes on cpu; these weights need 1520 contiguous bytes on"
    ):
        called(moved, torch.randn(2, COLUMNS))
    with pytest.raises(HotbenchError, match="these weights have 3 arrays, weights, scales, sums; 0 are given"):
        quantized_linear_cuda(torch.randn(2, 8), [], 4, 8, "int8", "row", 0, False, "none", "dynamic")
