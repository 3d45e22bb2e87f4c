"""An encoder layer written out of elementary ops."""

from __future__ import annotations

import torch
from torch.nn import functional


class Encoder(torch.nn.Module):
    """One encoder layer with attention written out: products by the library, the rest in regions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward, self.outward = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(width) for _ in range(2)])

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        split = (batch, length, self.heads, width // self.heads)
        q, k, v = (part.view(split).transpose(1, 2) for part in self.inward(x).chunk(3, -1))
        scores = (q @ k.transpose(-1, -2) / split[-1] ** 0.5).masked_fill(mask, -1e9)
        x = self.norms[0](x + self.outward((scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)))
        return self.norms[1](x + self.down(functional.gelu(self.up(x))))
