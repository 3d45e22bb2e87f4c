"""The training steps that swap is measured on: a transformer, a convolutional network and an LSTM, dropout on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from analyzer.workload import Arguments, Workload, seeded
from examples.lstm import UnrolledLSTM
from examples.transformer import Layer

CLASSES = 8
WIDTH, HEADS, LENGTH, BATCH, LAYERS = 256, 4, 256, 4, 6


class Transformer(torch.nn.Module):
    """[batch, length, width] -> class scores [batch, classes], attention written out."""

    def __init__(self, layers: int = LAYERS, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer(WIDTH, HEADS, dropout) for _ in range(layers))
        self.head = torch.nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = x.new_zeros(x.shape[0], 1, 1, x.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        scores: torch.Tensor = self.head(x.mean(dim=1))
        return scores


class ConvolutionalNetwork(torch.nn.Module):
    """[batch, 3, 64, 64] -> class scores [batch, classes]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        channels = 3
        for width in (32, 64, 64):
            for inner in (channels, width):
                layers += [torch.nn.Conv2d(inner, width, 3, padding=1), torch.nn.BatchNorm2d(width), torch.nn.ReLU()]
            layers += [torch.nn.Dropout(0.1), torch.nn.MaxPool2d(2)]
            channels = width
        self.features = torch.nn.Sequential(*layers)
        self.head = torch.nn.Linear(64, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return scores


class Recurrent(torch.nn.Module):
    """[batch, steps, inputs] -> class scores [batch, classes], an unrolled LSTM with dropout before the head."""

    def __init__(self, inputs: int = 128, hidden: int = 128) -> None:
        super().__init__()
        self.recurrent = UnrolledLSTM(inputs, hidden)
        self.dropout = torch.nn.Dropout(0.1)
        self.head = torch.nn.Linear(hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.dropout(self.recurrent(x))[:, -1])
        return scores


def _training(model: torch.nn.Module, *shape: int) -> Workload:
    def inputs(seed: int) -> Arguments:
        return (torch.randn(*shape, generator=seeded(seed)),), {}

    def loss(output: Any, batch: Arguments) -> torch.Tensor:
        return functional.cross_entropy(output, batch[0][0].flatten(1)[:, :CLASSES].argmax(dim=1))

    return Workload(model=model, inputs=inputs, loss=loss, optimizer=torch.optim.AdamW(model.parameters(), lr=3e-4))


def transformer() -> Workload:
    """Six layers, four sequences of 256: 180 MB of saved tensors."""
    return _training(Transformer(), BATCH, LENGTH, WIDTH)


def cnn() -> Workload:
    """Six convolutions with batch norm over 16 images of 64 by 64."""
    return _training(ConvolutionalNetwork(), 16, 3, 64, 64)


def lstm() -> Workload:
    """40 unrolled steps of 64 sequences."""
    return _training(Recurrent(), 64, 40, 128)


CASES: dict[str, Callable[[], Workload]] = {"transformer": transformer, "cnn": cnn, "lstm": lstm}
