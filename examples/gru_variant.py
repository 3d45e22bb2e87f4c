"""A two-layer recurrent cell that no library has a kernel for: GRU gates, a SiLU in the candidate, learned decay."""

from __future__ import annotations

import torch
from torch.nn import functional

from analyzer.workload import Workload, seeded

STEPS = 100
HIDDEN = 128


class Cell(torch.nn.Module):
    """(x [batch, inputs], h [batch, hidden]) -> the next h [batch, hidden]."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = hidden**-0.5
        self.weight_input = torch.nn.Parameter(torch.empty(3 * hidden, inputs).uniform_(-bound, bound))
        self.weight_hidden = torch.nn.Parameter(torch.empty(3 * hidden, hidden).uniform_(-bound, bound))
        self.bias = torch.nn.Parameter(torch.empty(3 * hidden).uniform_(-bound, bound))
        self.decay = torch.nn.Parameter(torch.empty(hidden).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        from_input = x @ self.weight_input.t() + self.bias
        from_hidden = h @ self.weight_hidden.t()
        input_update, input_reset, input_new = from_input.chunk(3, dim=1)
        hidden_update, hidden_reset, hidden_new = from_hidden.chunk(3, dim=1)
        update = torch.sigmoid(input_update + hidden_update)
        reset = torch.sigmoid(input_reset + hidden_reset)
        candidate = torch.tanh(input_new + reset * hidden_new) + 0.1 * functional.silu(input_new)
        return (1 - update) * candidate + update * h * torch.sigmoid(self.decay)


class GRUVariant(torch.nn.Module):
    """[batch, steps, inputs] -> [batch, steps, hidden]; the second layer adds the first one's state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.first = Cell(inputs, hidden)
        self.second = Cell(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lower = x.new_zeros(x.shape[0], self.hidden)
        upper = x.new_zeros(x.shape[0], self.hidden)
        outputs = []
        for step in range(x.shape[1]):
            lower = self.first(x[:, step], lower)
            upper = self.second(lower, upper) + lower
            outputs.append(upper)
        return torch.stack(outputs, dim=1)


def workload() -> Workload:
    """One sequence of 100 steps through both layers."""
    return Workload(
        model=GRUVariant(HIDDEN, HIDDEN),
        inputs=lambda seed: ((torch.randn(1, STEPS, HIDDEN, generator=seeded(seed)),), {}),
    )
