"""Convolutions with compressed weights: of bytes in one op, of others as a product with the patches of the input."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_convolution_call import KINDS
from kernels.quantized.cpu_weights import PreparedWeights
from optimizers.quantization.modules.base import bias_of
from optimizers.quantization.modules.gradients import refuse_gradients
from optimizers.quantization.modules.linear import QuantizedLinear
from optimizers.quantization.op_convolution import convolution_op


class QuantizedConvolution(QuantizedLinear):
    """Computes a convolution in one or two dimensions, without groups, each patch of its input quantised by itself.

    spatial: 1 or 2. padding: as functional.pad takes it, for all spatial dimensions.
    """

    def __init__(self, original: nn.Conv1d | nn.Conv2d, weights: PreparedWeights) -> None:
        super().__init__(weights, bias_of(original))
        self.spatial = len(original.kernel_size)
        self.in_channels, self.out_channels = original.in_channels, original.out_channels
        self.kernel_size, self.stride, self.dilation = original.kernel_size, original.stride, original.dilation
        self.padding_mode = original.padding_mode
        self.padding = tuple(int(size) for size in original._reversed_padding_repeated_twice)

    @property
    def weight(self) -> torch.Tensor:
        """Return a tensor without values, of the weight's shape and dtype."""
        return torch.empty(self.out_channels, self.in_channels, *self.kernel_size, device="meta")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of x [batch, in_channels, *sizes] or [in_channels, *sizes].

        Raises HotbenchError for an x of another shape, and where a gradient would be needed.
        """
        # packed weights have padding behind the channels: a product cannot tell
        if x.dim() - self.spatial not in (1, 2) or x.shape[-1 - self.spatial] != self.in_channels:
            wanted = f"[{self.in_channels}, {'width' if self.spatial == 1 else 'height, width'}] or a batch of it"
            raise HotbenchError(f"x is {list(x.shape)}; this quantized convolution takes {wanted}")
        refuse_gradients(x)
        if x.dim() == self.spatial + 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        if self.kind in KINDS:
            return self._whole(x)
        if any(self.padding):
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = functional.pad(x, self.padding, mode)
        if self.spatial == 1:
            x = x.unsqueeze(2)
        rows, sizes = self._patches(x)
        result = super().forward(rows).transpose(1, 2).contiguous()
        return result.view(x.shape[0], self.out_channels, *(sizes[1:] if self.spatial == 1 else sizes))

    def _whole(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution by the op hotbench::quantized_convolution."""
        padding = [*self.padding, 0, 0][:4]
        if any(self.padding) and self.padding_mode != "zeros":
            x, padding = functional.pad(x, self.padding, self.padding_mode), [0] * 4
        image = x if self.spatial == 2 else x.unsqueeze(2)
        result: torch.Tensor = convolution_op(
            image, self.panels, self.scales, self.sums, self.tables, self.bias, self.kind, self.out_channels,
            self._two(self.kernel_size, 1), self._two(self.stride, 1), self._two(self.dilation, 1), padding,
        )  # fmt: skip
        return result if self.spatial == 2 else result.squeeze(2)

    def _patches(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return the patches [batch, places, in_channels * height * width] of x, and how many there are each way."""
        height, width = self._two(self.kernel_size, 1)
        strides, dilation = self._two(self.stride, 1), self._two(self.dilation, 1)
        if (height, width) == (1, 1):
            taken = x[:, :, :: strides[0], :: strides[1]]
            return taken.flatten(2).transpose(1, 2), (taken.shape[2], taken.shape[3])
        high = (x.shape[2] - dilation[0] * (height - 1) - 1) // strides[0] + 1
        wide = (x.shape[3] - dilation[1] * (width - 1) - 1) // strides[1] + 1
        patches = functional.unfold(x, (height, width), dilation, 0, strides)
        return patches.transpose(1, 2), (high, wide)

    def _two(self, sizes: tuple[int, ...], missing: int) -> tuple[int, int]:
        return (missing, sizes[0]) if self.spatial == 1 else (sizes[0], sizes[1])

    def extra_repr(self) -> str:
        """Return channels, kernel size, kind and kernel."""
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        return f"{sizes}, kind={self.kind}, kernel={self.kernel}"


def quantized_convolution(original: nn.Conv1d | nn.Conv2d, weights: PreparedWeights) -> QuantizedConvolution:
    """Return the layer that takes a convolution's place; it has no groups."""
    return QuantizedConvolution(original, weights).in_place_of(original)
