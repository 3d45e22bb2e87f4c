"""The training steps of benchmarks.placement: fully connected, recurrent and convolutional, 20, 25 and 8.5 MB."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch.nn import functional

from analyzer.workload import Arguments, Workload, seeded

WORDS, WIDTH = 4000, 512
RATE = 0.01


class Recurrent(torch.nn.Module):
    """[batch, length] words -> scores of the next word [batch, words]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(WORDS, WIDTH)
        self.recurrent = torch.nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.head = torch.nn.Linear(WIDTH, WORDS)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.recurrent(self.words(words))[0][:, -1])
        return scores


def _training(model: torch.nn.Module, inputs: Callable[[int], Arguments], labels: int) -> Workload:
    def loss(output: torch.Tensor, batch: Arguments) -> torch.Tensor:
        rows = batch[0][0].flatten(1)
        wanted = rows[:, :labels].argmax(dim=1) if rows.is_floating_point() else rows[:, 0]
        return functional.cross_entropy(output, wanted)

    return Workload(model=model, inputs=inputs, loss=loss, optimizer=torch.optim.SGD(model.parameters(), lr=RATE))


def mlp() -> Workload:
    """Four layers, 16 inputs of 784."""
    sizes = (784, 1024, 2048, 1024, 10)
    layers: list[torch.nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    return _training(model, lambda seed: ((torch.randn(16, 784, generator=seeded(seed)),), {}), 10)


def lstm() -> Workload:
    """A language model, 8 sentences of 10 words."""
    return _training(Recurrent(), lambda seed: ((torch.randint(0, WORDS, (8, 10), generator=seeded(seed)),), {}), WORDS)


def cnn() -> Workload:
    """Two convolutions and a wide layer, 16 images of 32 by 32."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * 8 * 8, 512),
        torch.nn.ReLU(),
        torch.nn.Linear(512, 10),
    )
    return _training(model, lambda seed: ((torch.randn(16, 3, 32, 32, generator=seeded(seed)),), {}), 10)


MODELS: dict[str, Callable[[], Workload]] = {"mlp": mlp, "lstm": lstm, "cnn": cnn}


def name_of(model: str) -> str:
    """Return how a workload of this module is named: path and function."""
    return f"{Path(__file__)}:{model}"
