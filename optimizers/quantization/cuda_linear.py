"""A quantized linear layer on a CUDA device: the op hotbench::quantized_linear_cuda and the layer that calls it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analyzer.errors import HotbenchError
from kernels.cuda.support import CudaUnavailable
from kernels.quantized.cpu_reference import codebooks, codes_of, dequantised, integer_weights
from kernels.quantized.cpu_store import group_of, restored
from kernels.quantized.cpu_weights import PreparedWeights
from kernels.quantized.device_product import DeviceProduct, DeviceWeights
from kernels.quantized.product import ProductError
from optimizers.quantization.modules.linear import QuantizedLinear
from optimizers.quantization.op_library import register

SCHEMA = (
    "quantized_linear_cuda(Tensor x, Tensor[] arrays, int rows, int columns, str weights, str scope, int group, "
    "bool bias, str activation, str activations) -> Tensor"
)
_INPUTS = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


@functools.lru_cache(maxsize=4096)
def product_of(weights: DeviceWeights) -> DeviceProduct:
    """Return what launches the products with such weights; layers of one shape share its kernels."""
    return DeviceProduct(weights)


def quantized_linear_cuda(
    x: torch.Tensor,
    arrays: Sequence[torch.Tensor],
    rows: int,
    columns: int,
    weights: str,
    scope: str,
    group: int,
    bias: bool,
    activation: str,
    activations: str,
) -> torch.Tensor:
    """Return activation(x W^T + bias), [..., rows] of x's dtype, for x [..., columns] in float32, float16 or bfloat16.

    arrays: those of DeviceWeights.arrays, on x's device. The other arguments: as DeviceWeights has them.
    Raises HotbenchError for an x or arrays that do not fit, where a gradient would be needed, and without CUDA kernels.
    """
    _check_input(x, columns)
    formats = DeviceWeights(rows, columns, weights, scope, group, bias, activation, activations, _INPUTS[x.dtype])
    _check_arrays(formats, arrays, x.device)
    product = product_of(formats)
    given = x.reshape(-1, columns).contiguous()
    batch = len(given)
    out = torch.empty((batch, rows), dtype=torch.float32, device=x.device)
    workspace = torch.empty(product.workspace_bytes(batch), dtype=torch.uint8, device=x.device)
    addresses = {name: array.data_ptr() for name, array in zip(formats.arrays, arrays, strict=True)}
    try:
        with _on(x.device):
            product.launch(
                addresses, given.data_ptr(), batch, out.data_ptr(), workspace.data_ptr(), stream_of(x.device)
            )
    except CudaUnavailable as error:
        raise HotbenchError(f"a quantized layer on {x.device} needs CUDA kernels: {error}") from error
    return out.to(x.dtype).reshape(*x.shape[:-1], rows)


def _check_input(x: torch.Tensor, columns: int) -> None:
    if x.dtype not in _INPUTS or not x.dim() or x.shape[-1] != columns:
        given = f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
        raise HotbenchError(f"x is {given}; this quantized layer takes float32, float16 or bfloat16 [..., {columns}]")
    if x.requires_grad and torch.is_grad_enabled():
        raise HotbenchError("a quantized layer has no gradient; call the model within torch.no_grad()")


def _check_arrays(formats: DeviceWeights, arrays: Sequence[torch.Tensor], device: torch.device) -> None:
    """Raise HotbenchError unless the arrays are those of the formats: kernels read memory by address."""
    wanted = formats.arrays
    if len(arrays) != len(wanted):
        raise HotbenchError(f"these weights have {len(wanted)} arrays, {', '.join(wanted)}; {len(arrays)} are given")
    for array, (name, nbytes) in zip(arrays, wanted.items(), strict=True):
        if array.nbytes != nbytes or not array.is_contiguous() or array.device != device:
            given = f"{array.nbytes} bytes on {array.device}"
            raise HotbenchError(f"{name} is {given}; these weights need {nbytes} contiguous bytes on {device}")


def _on(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def stream_of(device: torch.device) -> int:
    """Return the handle of torch's current stream."""
    return int(torch.cuda.current_stream(device).cuda_stream)


def _fake(x: torch.Tensor, arrays: Sequence[torch.Tensor], rows: int, *rest: Any) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], rows))


linear_cuda_op = register(SCHEMA, quantized_linear_cuda, _fake, "CUDA")


class CudaLinear(torch.nn.Module):
    """Computes x W^T + bias on a CUDA device, for x [..., in_features] in float32, float16 or bfloat16.

    arrays: those of formats.arrays; the memory of the weights is packed as kernels/quantized/packing.py has it.
    """

    def __init__(self, formats: DeviceWeights, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__()
        self.formats, self.in_features, self.out_features = formats, formats.columns, formats.rows
        for name in formats.arrays:
            array = np.ascontiguousarray(arrays[name])
            self.register_buffer(name, torch.from_numpy(array.view(np.int32) if array.dtype == np.uint32 else array))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x W^T + bias."""
        f, arrays = self.formats, [self.get_buffer(name) for name in self.formats.arrays]
        result: torch.Tensor = linear_cuda_op(
            x, arrays, f.rows, f.columns, f.weights, f.scope, f.group, f.bias, f.activation, f.activations
        )
        return result

    def _apply(self, fn: Any, recurse: bool = True) -> CudaLinear:
        """Move the arrays; a change of dtype is for the activations, and leaves packed weights as they are."""
        probe = fn(torch.zeros(1))
        return super()._apply(lambda array: array.to(probe.device), recurse)  # type: ignore[no-any-return, no-untyped-call, unused-ignore]

    def extra_repr(self) -> str:
        """Return sizes and formats."""
        f = self.formats
        sizes = f"in_features={f.columns}, out_features={f.rows}, bias={f.bias}"
        return f"{sizes}, weights={f.weights}, scope={f.scope}, activations={f.activations}"


def cuda_linear(layer: QuantizedLinear) -> torch.nn.Module:
    """Return the layer that computes on a CUDA device what a quantized linear layer computes on the CPU.

    bfloat16 weights become torch's own float32 layer: their numbers are the same.
    Raises HotbenchError for weights that no CUDA kernel takes.
    """
    arrays = {name: buffer.numpy() for name, buffer in layer.named_buffers() if name != "bias"}
    prepared = restored(layer.kind, layer.out_features, layer.in_features, arrays, layer.group or None)
    if layer.kind == "bfloat16":
        return _dense(layer, prepared)
    bias = None if layer.bias is None else layer.bias.detach().numpy()
    try:
        formats, found = _int8(prepared, bias) if layer.kind.startswith("int8") else _codebook(prepared, bias)
        return CudaLinear(formats, found if bias is None else {**found, "bias": bias})
    except ProductError as error:
        raise HotbenchError(f"{layer.kind} weights [{prepared.rows}, {prepared.columns}]: {error}") from error


def _int8(weights: PreparedWeights, bias: NDArray[Any] | None) -> tuple[DeviceWeights, dict[str, NDArray[Any]]]:
    activations = "float" if weights.kind == "int8-weight-only" else "dynamic"
    formats = DeviceWeights(weights.rows, weights.columns, bias=bias is not None, activations=activations)
    integers = integer_weights(weights)
    scales = np.array(weights.arrays[1][: weights.rows], np.float32)
    packed = formats.packing.pack(integers)
    return formats, {"weights": packed, "scales": scales, "sums": integers.sum(axis=1, dtype=np.int32)}


def _codebook(weights: PreparedWeights, bias: NDArray[Any] | None) -> tuple[DeviceWeights, dict[str, NDArray[Any]]]:
    """Return codebooks as bytes where activations become bytes too, else as float32 centroids."""
    tables, scales = codebooks(weights)
    group, shape = group_of(weights) or 0, (weights.rows, weights.columns)
    scope, activations = "group" if group else "row", "dynamic" if weights.kind == "codebook" else "float"
    formats = DeviceWeights(
        *shape, weights="codebook", scope=scope, group=group, bias=bias is not None, activations=activations
    )
    packed = formats.packing.pack(codes_of(weights))
    centroids = (tables * scales[:, :, None]).astype(np.float32)
    if activations == "float":
        return formats, {"weights": packed, "codebook": centroids}
    sums = integer_weights(weights).sum(axis=1, dtype=np.int32)
    words = np.ascontiguousarray(tables[:, 0]).view(np.uint32)
    return formats, {"weights": packed, "tables": words, "scales": scales[:, 0], "sums": sums}


def _dense(layer: QuantizedLinear, weights: PreparedWeights) -> torch.nn.Linear:
    found = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    found.weight.data = torch.from_numpy(dequantised(weights))
    if layer.bias is not None:
        found.bias.data = layer.bias.detach().clone()
    return found.requires_grad_(False)
