"""Linear layers with compressed weights."""

from __future__ import annotations

import torch

from kernels.quantized.cpu_store import group_of
from kernels.quantized.cpu_weights import PreparedWeights
from optimizers.quantization.modules.base import QuantizedModule, bias_of, set_buffer
from optimizers.quantization.modules.gradients import refuse_gradients
from optimizers.quantization.modules.prepare import arrays_of
from optimizers.quantization.op_linear import linear_op


class QuantizedLinear(QuantizedModule):
    """Computes x W^T + bias for float32 x [..., in_features] by the op hotbench::quantized_linear.

    kind: of the prepared weights. kernel, reason: which kernel reads them, and why it is the portable one if it is.
    """

    holds = "product"
    bias: torch.Tensor | None
    panels: torch.Tensor
    scales: torch.Tensor
    sums: torch.Tensor
    tables: torch.Tensor | None
    group_scales: torch.Tensor | None

    def __init__(self, weights: PreparedWeights, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weights.rows, weights.columns
        self.kind, self.group = weights.kind, group_of(weights) or 0
        self.kernel, self.reason = weights.kernel, weights.reason
        arrays = arrays_of(weights)
        self.hold({name: arrays.get(name) for name in ("panels", "scales", "sums", "tables", "group_scales")})
        set_buffer(self, "bias", bias)

    @property
    def weight(self) -> torch.Tensor:
        """Return a tensor without values, of the weight's shape and dtype: code that looks at those goes on working."""
        return torch.empty(self.out_features, self.in_features, device="meta")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x W^T + bias for x [..., in_features]."""
        refuse_gradients(x)
        # Attributes of a module that are buffers are found last: between large products that is time worth saving.
        held = self._buffers
        result: torch.Tensor = linear_op(
            x, held["panels"], held["scales"], held["sums"], held.get("tables"), held.get("group_scales"),
            held.get("bias"), self.kind, self.out_features, self.in_features, self.group, "none",
        )  # fmt: skip
        return result

    def extra_repr(self) -> str:
        """Return sizes, kind and kernel."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return f"{sizes}, kind={self.kind}, kernel={self.kernel}"


def quantized_linear(original: torch.nn.Linear, weights: PreparedWeights) -> QuantizedLinear:
    """Return the layer that takes a linear layer's place."""
    return QuantizedLinear(weights, bias_of(original)).in_place_of(original)
