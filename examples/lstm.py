"""An LSTM unrolled over 100 steps from elementary ops: over a thousand small ops in the data-flow graph."""

from __future__ import annotations

from typing import Any

import torch

from analyzer.workload import Arguments, Workload, seeded

STEPS = 100
HIDDEN = 128
CLASSES = 10


class UnrolledLSTM(torch.nn.Module):
    """[batch, steps, inputs] -> hidden states [batch, steps, hidden], without torch.nn.LSTM."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = hidden**-0.5
        self.hidden = hidden
        self.weight_input = torch.nn.Parameter(torch.empty(4 * hidden, inputs).uniform_(-bound, bound))
        self.weight_hidden = torch.nn.Parameter(torch.empty(4 * hidden, hidden).uniform_(-bound, bound))
        self.bias_input = torch.nn.Parameter(torch.empty(4 * hidden).uniform_(-bound, bound))
        self.bias_hidden = torch.nn.Parameter(torch.empty(4 * hidden).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(x.shape[0], self.hidden)
        c = x.new_zeros(x.shape[0], self.hidden)
        outputs = []
        for step in range(x.shape[1]):
            gates = x[:, step] @ self.weight_input.t() + self.bias_input + h @ self.weight_hidden.t() + self.bias_hidden
            i, f, g, o = gates.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1)


class SequenceClassifier(torch.nn.Module):
    """[batch, steps, inputs] -> class scores [batch, classes], from the last hidden state."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.recurrent = UnrolledLSTM(inputs, hidden)
        self.head = torch.nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.recurrent(x)[:, -1])
        return scores


def workload() -> Workload:
    """One sequence through the unrolled LSTM."""
    return Workload(
        model=UnrolledLSTM(HIDDEN, HIDDEN),
        inputs=lambda seed: ((torch.randn(1, STEPS, HIDDEN, generator=seeded(seed)),), {}),
    )


def _batch(seed: int) -> Arguments:
    return (torch.randn(4, STEPS, HIDDEN, generator=seeded(seed)),), {}


def _loss(output: Any, batch: Arguments) -> torch.Tensor:
    # The label is the position of the largest mean over time among the first inputs: learnable, and made of the batch.
    labels = batch[0][0][:, :, :CLASSES].mean(dim=1).argmax(dim=1)
    return torch.nn.functional.cross_entropy(output, labels)


def training() -> Workload:
    """One training step: forward over 100 steps, backward, AdamW."""
    model = SequenceClassifier(HIDDEN, HIDDEN, CLASSES)
    return Workload(model=model, inputs=_batch, loss=_loss, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3))
