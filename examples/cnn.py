"""A small convolutional classifier: convolution, batch norm, ReLU, pooling."""

from __future__ import annotations

import torch

from analyzer.workload import Workload, seeded


class ConvolutionalClassifier(torch.nn.Module):
    """[batch, 3, 32, 32] -> class scores [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        channels = 3
        for width in (16, 32, 64):
            layers += [
                torch.nn.Conv2d(channels, width, 3, padding=1, bias=False),
                torch.nn.BatchNorm2d(width),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
            ]
            channels = width
        self.features = torch.nn.Sequential(*layers)
        self.head = torch.nn.Linear(64 * 4 * 4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.features(images).flatten(1))
        return scores


def workload() -> Workload:
    """Eight images, inference."""
    return Workload(
        model=ConvolutionalClassifier(),
        inputs=lambda seed: ((torch.randn(8, 3, 32, 32, generator=seeded(seed)),), {}),
    )
