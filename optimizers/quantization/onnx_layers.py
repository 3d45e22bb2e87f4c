"""Layers as ONNX has them: int8 weights behind DequantizeLinear, in the place of those with packed weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from analyzer.errors import HotbenchError
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.modules.base import QuantizedModule
from optimizers.quantization.modules.recurrent import QuantizedCell, QuantizedRecurrent

Shared = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""By the identity of a weight: its int8 values and scales, so that tied layers hold the same tensors."""
_torch: Any = torch
_CELLS = {
    "lstm": _torch.lstm_cell,
    "gru": _torch.gru_cell,
    "rnn_tanh": _torch.rnn_tanh_cell,
    "rnn_relu": _torch.rnn_relu_cell,
}
_LEVELS = 255
OPSET = 21


class Range(nn.Module):
    """Stands before a product: once its range is known, it rounds activations to 256 levels, QuantizeLinear's."""

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.seen, self.watching, self.rounding = 0.0, 0.0, False, False, False
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.uint8))

    def close(self) -> None:
        """Stop watching; round from now on, if anything was seen."""
        self.watching, self.rounding = False, self.seen
        if not math.isfinite(self.high - self.low):
            raise HotbenchError(
                f"activations reach from {self.low:g} to {self.high:g} on calibration; give other inputs"
            )
        step = (self.high - self.low) / _LEVELS or 1.0
        self.scale.fill_(step)
        self.zero_point.fill_(min(max(round(-self.low / step), 0), _LEVELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x, or x rounded."""
        if self.watching and x.numel():
            low, high = float(x.min()), float(x.max())
            # zero must be one of the levels, or padding would be rounded away; a NaN reaches close() as infinity
            self.low, self.high = min(self.low, low), max(self.high, high if low <= high else math.inf)
            self.seen = True
        if not self.rounding:
            return x
        if not torch.compiler.is_exporting():
            zero = self.zero_point.to(torch.float32)
            return (torch.clamp(torch.round(x / self.scale) + zero, 0, _LEVELS) - zero) * self.scale
        pair = (self.scale, self.zero_point)
        codes = _symbolic("QuantizeLinear", (x, *pair), {}, torch.uint8, x.shape)
        return _symbolic("DequantizeLinear", (codes, *pair), {}, torch.float32, x.shape)


def dequantised(values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return values [rows, ...] int8 times scales [rows], float32; as DequantizeLinear where a graph is exported."""
    if torch.compiler.is_exporting():
        return _symbolic("DequantizeLinear", (values, scales), {"axis": 0}, torch.float32, values.shape)
    return values.to(torch.float32) * scales.reshape(-1, *[1] * (values.dim() - 1))


def _symbolic(
    op: str, inputs: tuple[torch.Tensor, ...], attributes: dict[str, int], dtype: torch.dtype, shape: torch.Size
) -> torch.Tensor:
    """Return a tensor without meaning of its own that becomes the outcome of ONNX's op in the exported graph."""
    symbolic = _torch.onnx.ops.symbolic
    found: torch.Tensor = symbolic(op, inputs, attributes, dtype=dtype, shape=tuple(shape), version=OPSET)
    return found


class _OnnxLayer(QuantizedModule):
    """Holds int8 values and scales of its weights, and the bias."""

    values: torch.Tensor
    scales: torch.Tensor

    def __init__(self, arrays: tuple[torch.Tensor, torch.Tensor], bias: torch.Tensor | None, static: bool) -> None:
        super().__init__()
        self.hold(dict(zip(("values", "scales"), arrays, strict=True)))
        self.hold({"bias": None if bias is None else bias.detach()})
        self.range = Range() if static else None

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """Return x as the product takes it."""
        return x if self.range is None else self.range(x)


class OnnxLinear(_OnnxLayer):
    """A linear layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x W^T + bias."""
        bias: Any = self.bias
        return functional.linear(self.rounded(x), dequantised(self.values, self.scales), bias)


class OnnxConvolution(_OnnxLayer):
    """A convolution in one or two dimensions."""

    def __init__(self, layer: Any, arrays: tuple[torch.Tensor, torch.Tensor], static: bool) -> None:
        super().__init__(arrays, layer.bias, static)
        self.shape = tuple(layer.weight.shape)
        self.stride, self.dilation, self.groups = layer.stride, layer.dilation, getattr(layer, "groups", 1)
        own = getattr(layer, "_reversed_padding_repeated_twice", None)
        padding = [int(size) for size in (layer.padding if own is None else own)]
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        even = mode == "constant" and padding[::2] == padding[1::2]
        self.inner = tuple(padding[::2][::-1]) if even else (0,) * (len(padding) // 2)
        self.outer, self.mode = [] if even else padding, mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of x."""
        x = self.rounded(x)
        if any(self.outer):
            x = functional.pad(x, self.outer, self.mode)
        weight = dequantised(self.values.reshape(self.shape), self.scales)
        convolve: Any = functional.conv1d if len(self.inner) == 1 else functional.conv2d
        found: torch.Tensor = convolve(x, weight, self.bias, self.stride, self.inner, self.dilation, self.groups)
        return found


class OnnxEmbedding(_OnnxLayer):
    """An embedding: rows are looked up as int8, so that a call never widens the whole table."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return float32 [..., size] for ids."""
        rows = functional.embedding(ids, self.values).to(torch.float32)
        return rows * functional.embedding(ids, self.scales[:, None])


class OnnxRecurrent(QuantizedModule):
    """An LSTM, GRU or RNN, or a cell of one."""

    def __init__(self, layer: QuantizedRecurrent | QuantizedCell, arrays: Mapping[str, Any]) -> None:
        super().__init__()
        self.mode, self.hidden_size = layer.mode, layer.hidden_size
        self.cell = isinstance(layer, QuantizedCell)
        self.layers, self.both = getattr(layer, "num_layers", 1), getattr(layer, "bidirectional", False)
        self.first = getattr(layer, "batch_first", False)
        self.names = list(arrays)
        for name, (values, scales) in arrays.items():
            bias = name.replace("weight", "bias")
            self.hold({f"{name}_values": values, f"{name}_scales": scales, bias: getattr(layer, bias)})

    def forward(self, x: torch.Tensor, state: Any = None) -> Any:
        """Return what torch's layer does."""
        if not self.cell and x.dim() == 2:
            return self._without_batch(x, state)
        count = self.layers * (1 + self.both)
        if state is None:
            batch = x.shape[0] if self.cell or self.first else x.shape[1]
            zeros = x.new_zeros((batch, self.hidden_size) if self.cell else (count, batch, self.hidden_size))
            state = (zeros, zeros) if self.mode == "lstm" else zeros
        weights, biases = self._weights(), self._biases()
        if self.cell:
            return _CELLS[self.mode](x, state, *weights, *(biases or (None, None)))
        flat: list[torch.Tensor] = []
        for place in range(0, len(weights), 2):
            flat += [*weights[place : place + 2], *biases[place : place + 2]]
        function = getattr(_torch, self.mode)
        out, *last = function(x, state, flat, bool(biases), self.layers, 0.0, False, self.both, self.first)
        return out, tuple(last) if self.mode == "lstm" else last[0]

    def _without_batch(self, x: torch.Tensor, state: Any) -> Any:
        axis = 0 if self.first else 1
        if state is not None:
            state = tuple(s.unsqueeze(1) for s in state) if self.mode == "lstm" else state.unsqueeze(1)
        out, last = self.forward(x.unsqueeze(axis), state)
        return out.squeeze(axis), tuple(s.squeeze(1) for s in last) if self.mode == "lstm" else last.squeeze(1)

    def _weights(self) -> list[torch.Tensor]:
        part = self._buffers
        return [dequantised(_there(part[f"{name}_values"]), _there(part[f"{name}_scales"])) for name in self.names]

    def _biases(self) -> list[torch.Tensor]:
        found = [self._buffers.get(name.replace("weight", "bias")) for name in self.names]
        return [bias for bias in found if bias is not None]


def _there(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None
    return tensor


def onnx_layer(layer: nn.Module, weights: Mapping[str, CompressedWeight], shared: Shared, static: bool) -> nn.Module:
    """Return the layer with int8 weights in the place of one of a compressed model; it keeps its forward hooks.

    weights: the layer's, int8, by its own names. shared: what other layers hold already, is added to.
    static: rounds its inputs, once `Range` was closed; of linear layers and convolutions.
    """
    arrays = {name: _arrays(weight, shared) for name, weight in weights.items()}
    if isinstance(layer, QuantizedRecurrent | QuantizedCell):
        return OnnxRecurrent(layer, arrays).in_place_of(layer)
    own: Any = layer
    if hasattr(layer, "embedding_dim"):
        return OnnxEmbedding(arrays["weight"], None, False).in_place_of(layer)
    if hasattr(layer, "kernel_size"):
        return OnnxConvolution(own, arrays["weight"], static).in_place_of(layer)
    return OnnxLinear(arrays["weight"], own.bias, static).in_place_of(layer)


def _arrays(weight: CompressedWeight, shared: Shared) -> tuple[torch.Tensor, torch.Tensor]:
    if id(weight) not in shared:
        shared[id(weight)] = tuple(torch.from_numpy(weight.arrays[name].copy()) for name in ("values", "scales"))  # type: ignore[assignment]
    return shared[id(weight)]
