"""Convolutional models of benchmarks.fusion: AlexNet, ResNeXt-29 (16x64d) and NASNet-A (6 @ 768) for CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class AlexNet(nn.Module):
    """[batch, 3, 227, 227] -> [batch, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classifier(self.features(x).flatten(1))
        return scores


class ResNeXtBlock(nn.Module):
    """1x1, grouped 3x3, 1x1, each with batch norm, and a residual."""

    def __init__(self, inputs: int, width: int, outputs: int, cardinality: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, groups=cardinality, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class ResNeXt29(nn.Module):
    """[batch, 3, 32, 32] -> [batch, 10]: three stages of three blocks."""

    def __init__(self, cardinality: int = 16, width: int = 64) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        inputs = 64
        for stage in range(3):
            outputs = 256 << stage
            for position in range(3):
                stride = 2 if stage and position == 0 else 1
                blocks.append(ResNeXtBlock(inputs, cardinality * width << stage, outputs, cardinality, stride))
                inputs = outputs
        self.features, self.head = nn.Sequential(*blocks), nn.Linear(inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.features(x).mean((2, 3)))
        return scores


def settled(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Return the model: each batch norm has the statistics of these images, and no scale of 1 or shift of 0.

    Without it activations fade from layer to layer, until the outputs say nothing about the convolutions.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.2, 0.2)
            norm.momentum = None  # the statistics of the one batch that follows
        model.train()(images)
        for norm in norms:
            norm.momentum = 0.1
    return model.eval()


def point(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """ReLU, a 1x1 convolution, batch norm."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class Separable(nn.Sequential):
    """ReLU, depthwise and 1x1 convolution, batch norm: twice, the stride in the first."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        layers: list[nn.Module] = []
        for channels, step in ((inputs, stride), (outputs, 1)):
            layers += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, step, kernel // 2, groups=channels, bias=False),
                nn.Conv2d(channels, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            ]
        super().__init__(*layers)


class FactorizedReduction(nn.Module):
    """Halves a map: every second pixel, and every second one shifted by one, each through half of the filters."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(x)
        shifted = functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        halved: torch.Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return halved


# Each pair of branches is (operation, state): state 0 is the cell's input, 1 the cell before, 2 and on the sums.
NORMAL = (
    ("separable-5", 0), ("separable-3", 1), ("separable-5", 1), ("separable-3", 1), ("average", 0), ("none", 1),
    ("average", 1), ("average", 1), ("separable-3", 0), ("none", 0),
)  # fmt: skip
REDUCTION = (
    ("separable-5", 0), ("separable-7", 1), ("max", 0), ("separable-7", 1), ("average", 0), ("separable-5", 1),
    ("none", 3), ("average", 2), ("separable-3", 2), ("max", 0),
)  # fmt: skip


class NASNetCell(nn.Module):
    """(input, the cell before's input) -> the concatenation of the states that no branch used."""

    def __init__(
        self, branches: Sequence[tuple[str, int]], inputs: int, before: int, filters: int, halved: bool
    ) -> None:
        super().__init__()
        self.branches = tuple(branches)
        self.reduces = branches is REDUCTION
        self.squeeze = point(inputs, filters)
        self.squeeze_before = FactorizedReduction(before, filters) if halved else point(before, filters)
        self.operations = nn.ModuleList(self._operation(name, state, filters) for name, state in branches)
        used = {state for _, state in branches}
        self.unused = [state for state in range(2 + len(branches) // 2) if state not in used]
        self.outputs = filters * len(self.unused)

    def _operation(self, name: str, state: int, filters: int) -> nn.Module:
        stride = 2 if self.reduces and state < 2 else 1
        if name.startswith("separable"):
            return Separable(filters, filters, int(name[-1]), stride)
        if name == "none":
            return nn.Identity()
        pool = nn.AvgPool2d if name == "average" else nn.MaxPool2d
        return pool(3, stride, 1)

    def forward(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        states = [self.squeeze(x), self.squeeze_before(before)]
        for position in range(0, len(self.branches), 2):
            left, right = (self.operations[p](states[self.branches[p][1]]) for p in (position, position + 1))
            states.append(left + right)
        return torch.cat([states[state] for state in self.unused], dim=1)


class NASNet(nn.Module):
    """[batch, 3, 32, 32] -> [batch, 10]: three stacks of six normal cells, a reduction cell between them."""

    def __init__(self, cells: int = 6, filters: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * filters, 3, padding=1, bias=False), nn.BatchNorm2d(3 * filters))
        self.cells = nn.ModuleList()
        inputs = before = 3 * filters
        halved = False
        for stack in range(3):
            kinds = [NORMAL] * cells if stack == 0 else [REDUCTION, *[NORMAL] * cells]
            for kind in kinds:
                cell = NASNetCell(kind, inputs, before, filters << stack, halved)
                self.cells.append(cell)
                inputs, before, halved = cell.outputs, inputs, kind is REDUCTION
        self.head = nn.Linear(inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = before = self.stem(x)
        for cell in self.cells:
            x, before = cell(x, before), x
        scores: torch.Tensor = self.head(functional.relu(x).mean((2, 3)))
        return scores
