"""A model whose branches are independent of each other and of different shapes: what fits one launch."""

from __future__ import annotations

import torch
from torch import nn


class Branches(nn.Module):
    """Two inputs, each through a product and then through what is fused: a softmax, a norm and a chain."""

    def __init__(self, first: int = 40, second: int = 24) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(first, 20), nn.Linear(second, 12)
        self.norm = nn.LayerNorm(12)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return three results of x [rows, first] and y [others, second]."""
        left, right = self.left(x), self.right(y)
        chain = torch.tanh(right) * 0.5 + right.sigmoid()
        return left.softmax(1), self.norm(right), chain.sum(0)
