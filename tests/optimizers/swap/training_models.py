"""Small models that train, dropout on: steps of a second or so in all, with tensors of odd sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from analyzer.workload import Arguments, Workload, seed_everything, seeded

CLASSES = 5


class Block(torch.nn.Module):
    """Attention written out and a feed-forward, with dropout, layer norm and residuals."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.joined = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.expand = torch.nn.Linear(width, 4 * width)
        self.contract = torch.nn.Linear(4 * width, width)
        self.first, self.second = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.dropout = torch.nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.joined(self.first(x)).chunk(3, dim=-1)
        weights = self.dropout(torch.softmax(query @ key.transpose(-1, -2) / 7.0, dim=-1))
        x = x + self.dropout(self.out(weights @ value))
        fed: torch.Tensor = self.contract(functional.gelu(self.expand(self.second(x))))
        return x + fed


class Attentive(torch.nn.Module):
    """[batch, length, width] -> class scores."""

    def __init__(self, width: int = 36, layers: int = 2) -> None:
        super().__init__()
        self.blocks = torch.nn.Sequential(*(Block(width) for _ in range(layers)))
        self.head = torch.nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.blocks(x).mean(dim=1))
        return scores


class Convolutional(torch.nn.Module):
    """[batch, 3, height, width] -> class scores, with batch norm and activations that work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(inplace=True),
            torch.nn.Dropout(0.1),
            torch.nn.Conv2d(8, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(16, 16, 3, padding=1),
            torch.nn.SiLU(),
        )
        self.head = torch.nn.Linear(16, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return scores


class Recurrent(torch.nn.Module):
    """[batch, steps, inputs] -> class scores, an LSTM written out."""

    def __init__(self, inputs: int = 24, hidden: int = 40) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = torch.nn.Linear(inputs + hidden, 4 * hidden)
        self.dropout = torch.nn.Dropout(0.1)
        self.head = torch.nn.Linear(hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[0], self.hidden)
        for step in range(x.shape[1]):
            i, f, g, o = self.gates(torch.cat([x[:, step], h], dim=1)).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = self.dropout(torch.sigmoid(o) * torch.tanh(c))
        scores: torch.Tensor = self.head(h)
        return scores


SHAPES: dict[str, tuple[type[torch.nn.Module], tuple[int, ...]]] = {
    "attentive": (Attentive, (5, 67, 36)),
    "convolutional": (Convolutional, (6, 3, 34, 30)),
    "recurrent": (Recurrent, (131, 7, 24)),
}


def training(name: str, seed: int = 0) -> Workload:
    """Return the named workload, the same one for the same seed."""
    kind, shape = SHAPES[name]
    seed_everything(seed)
    model = kind()

    def inputs(drawn: int) -> Arguments:
        return (torch.randn(*shape, generator=seeded(drawn)),), {}

    def loss(output: Any, batch: Arguments) -> torch.Tensor:
        return functional.cross_entropy(output, batch[0][0].flatten(1)[:, :CLASSES].argmax(dim=1))

    return Workload(model=model, inputs=inputs, loss=loss, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3))


def weights_after(workload: Workload, steps: int, step: Callable[[], Any] | None = None) -> bytes:
    """Return the bytes of all parameters after steps from a fixed random state, on other inputs each time."""
    from analyzer.workload import Stepper

    seed_everything(7)
    stepper = Stepper(workload)
    for seed in range(steps):
        stepper.redraw(seed)
        stepper.step() if step is None else step()
    return b"".join(parameter.detach().numpy().tobytes() for parameter in workload.model.parameters())
