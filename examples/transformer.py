"""A transformer encoder written out in PyTorch: masked attention, GELU feed-forward, post-norm residuals."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from analyzer.workload import Arguments, Workload, seeded

VOCABULARY = 1000
WIDTH = 256
HEADS = 4
LAYERS = 4
LENGTH = 64
CLASSES = 8


class SelfAttention(torch.nn.Module):
    """(x [batch, length, width], mask [batch, 1, 1, length] of 0 or -inf) -> [batch, length, width]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = torch.nn.Linear(width, 3 * width)
        self.output = torch.nn.Linear(width, width)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        projected = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads) + mask
        weights = self.dropout(torch.softmax(scores, dim=-1))
        mixed: torch.Tensor = self.output((weights @ value).transpose(1, 2).reshape(batch, length, width))
        return mixed


class Layer(torch.nn.Module):
    """Attention and feed-forward, each followed by dropout, residual and layer norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, dropout)
        self.attention_norm = torch.nn.LayerNorm(width)
        self.expand = torch.nn.Linear(width, 4 * width)
        self.contract = torch.nn.Linear(4 * width, width)
        self.output_norm = torch.nn.LayerNorm(width)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        fed: torch.Tensor = self.contract(functional.gelu(self.expand(x)))
        normed: torch.Tensor = self.output_norm(x + self.dropout(fed))
        return normed


class Encoder(torch.nn.Module):
    """(tokens [batch, length], lengths [batch]) -> [batch, length, width]."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.position = torch.nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        self.layers = torch.nn.ModuleList(Layer(WIDTH, HEADS, dropout) for _ in range(LAYERS))

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        padding = torch.arange(length, device=tokens.device)[None, :] >= lengths[:, None]
        mask = torch.zeros(padding.shape, device=tokens.device).masked_fill(padding, -torch.inf)[:, None, None, :]
        x = self.embedding(tokens) + self.position[:length]
        for layer in self.layers:
            x = layer(x, mask)
        return x


class Classifier(torch.nn.Module):
    """(tokens, lengths) -> class scores [batch, classes], from the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = torch.nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.encoder(tokens, lengths)[:, 0])
        return scores


def _batch(seed: int) -> Arguments:
    generator = seeded(seed)
    tokens = torch.randint(VOCABULARY, (4, LENGTH), generator=generator)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (4,), generator=generator)
    return (tokens, lengths), {}


def _loss(output: Any, batch: Arguments) -> torch.Tensor:
    return functional.cross_entropy(output, batch[0][0][:, 0] % CLASSES)


def encoder() -> Workload:
    """Four layers over four padded sequences of 64 tokens, inference."""
    return Workload(model=Encoder(), inputs=_batch)


def training() -> Workload:
    """One training step with dropout: forward, backward, AdamW."""
    model = Classifier()
    return Workload(model=model, inputs=_batch, loss=_loss, optimizer=torch.optim.AdamW(model.parameters(), lr=3e-4))
