"""Recurrent models of many kinds, unrolled: what re-rolling must find, and what it must leave alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


class Elman(torch.nn.Module):
    """[batch, steps, inputs] -> (hidden states [batch, steps, hidden], the last one)."""

    def __init__(self, inputs: int, hidden: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.inward = torch.nn.Parameter(torch.randn(hidden, inputs, dtype=dtype) / 3)
        self.recur = torch.nn.Parameter(torch.randn(hidden, hidden, dtype=dtype) / 3)
        self.bias = torch.nn.Parameter(torch.randn(hidden, dtype=dtype))

    def cell(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ self.inward.t() + h @ self.recur.t() + self.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = x.new_zeros(x.shape[0], self.recur.shape[0])
        states = []
        for step in range(x.shape[1]):
            h = self.cell(x[:, step], h)
            states.append(h)
        return torch.stack(states, 1), h


class Stacked(torch.nn.Module):
    """Layers of Elman cells: the inner loop over layers (deep) or over time (else)."""

    def __init__(self, size: int, layers: int, deep: bool) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([Elman(size, size) for _ in range(layers)])
        self.deep = deep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.deep:
            for layer in self.layers:
                x, _ = layer(x)
            return x
        states = [x.new_zeros(x.shape[0], x.shape[2]) for _ in self.layers]
        outputs = []
        for step in range(x.shape[1]):
            below = x[:, step]
            for number, layer in enumerate(self.layers):
                states[number] = layer.cell(below, states[number])
                below = states[number]
            outputs.append(below)
        return torch.stack(outputs, 1)


class Backward(Elman):
    """From the last step to the first, from a given state; every state is an output of its own."""

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        states = []
        for step in reversed(range(x.shape[1])):
            h = self.cell(x[:, step], h[0] if h.dim() == 3 else h)
            states.append(h)
        return states


class Ornate(Elman):
    """What a step can have besides products: a concatenation, a reduction, a value that no trip changes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        half = self.recur.shape[0] // 2
        h = torch.ones_like(x[:, 0, :1]).expand(x.shape[0], 2 * half).contiguous()
        total = x.new_zeros(x.shape[0], 1)
        for step in range(x.shape[1]):
            scale = torch.sigmoid(self.bias)
            joined = torch.cat([torch.relu(h[:, half:]), h[:, :half] * 0.5], 1)
            mixed = functional.linear(joined, self.recur, self.bias)
            h = torch.softmax(mixed + x[:, step] @ self.inward.t(), -1) * scale + 0.1 * h
            total = total + h.mean(1, keepdim=True)
        return torch.cat([h, total], 1)


class Gated(torch.nn.Module):
    """An LSTM whose input and forget gates see the cell state; c and h both leave."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inward = torch.nn.Linear(inputs, 4 * hidden)
        self.recur = torch.nn.Linear(hidden, 4 * hidden, bias=False)
        self.peep = torch.nn.Parameter(torch.randn(2, hidden))

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cells = []
        for step in range(x.shape[0]):
            i, f, g, o = (self.inward(x[step]) + self.recur(h)).chunk(4, 1)
            i, f = torch.sigmoid(i + c * self.peep[0]), torch.sigmoid(f + c * self.peep[1])
            c = f * c + i * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            cells.append(c)
        return torch.stack(cells), h, c


def unrolled(weights: Sequence[torch.Tensor], program: Sequence[tuple[int, int]], x: torch.Tensor) -> torch.Tensor:
    """[steps, rows, size] -> all states: a random body, of (op, operand) pairs, once for each step."""
    state = torch.zeros_like(x[0])
    states = []
    for step in range(x.shape[0]):
        values = [state, x[step], weights[0][0]]
        for op, pick in program:
            values.append(_applied(op, values[-1], values[pick % len(values)], weights))
        state = torch.tanh(values[-1] + 0.5 * state)
        states.append(state)
    return torch.stack(states)


def _applied(op: int, last: torch.Tensor, other: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    if op == 0:
        return last + other
    if op == 1:
        return last * torch.sigmoid(other)
    if op == 2 and last.dim() == 2:
        return last @ weights[1]
    if op == 3:
        return last - last.mean(-1, keepdim=True)
    if op == 4 and last.dim() == 2:
        return torch.cat([last[:, 1:], last[:, :1]], 1)
    return torch.relu(last) * 0.7
