"""Linear layers whose weight is a product of two thin matrices."""

from __future__ import annotations

import torch
from torch.nn import functional

from optimizers.quantization.modules.base import bias_of, set_buffer


class LowRankLinear(torch.nn.Module):
    """Computes (x right^T) left^T + bias: two products of torch, with fewer weights than the one they stand for."""

    holds = "low-rank"
    left: torch.Tensor
    right: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.rank, self.in_features = *left.shape, right.shape[1]
        self.packed = ("left", "right")
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        set_buffer(self, "bias", bias)

    @property
    def weight(self) -> torch.Tensor:
        """Return a tensor without values, of the weight's shape and dtype."""
        return torch.empty(self.out_features, self.in_features, device="meta")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x W^T + bias for x [..., in_features]."""
        return functional.linear(functional.linear(x, self.right), self.left, self.bias)

    def extra_repr(self) -> str:
        """Return sizes and rank."""
        return f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}"


def low_rank_linear(original: torch.nn.Linear, left: torch.Tensor, right: torch.Tensor) -> LowRankLinear:
    """Return the layer that takes a linear layer's place; its weight is left [rows, rank] right [rank, columns]."""
    layer = LowRankLinear(left.clone(), right.clone(), bias_of(original))
    layer.training = original.training
    return layer
