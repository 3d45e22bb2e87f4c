"""A small model with every kind of layer that is compressed, as a workload that a fresh process can build."""

from __future__ import annotations

import torch
from torch import nn

from analyzer.workload import Workload, seeded


class Tagger(nn.Module):
    """Token ids [batch, length] -> scores of 19 classes; `out` has the weights of `again`."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(113, 48)
        self.mix = nn.Linear(48, 130)
        self.norm = nn.LayerNorm(130)
        self.act = nn.GELU()
        self.again = nn.Linear(130, 130)
        self.out = nn.Linear(130, 130, bias=False)
        self.out.weight = self.again.weight
        self.head = nn.Linear(130, 19)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.act(self.norm(self.mix(self.embed(ids))))
        return self.head(self.out(self.act(self.again(hidden))))


def tagger() -> Workload:
    """Return the model with inputs [3, 11]; its metric is the share of one class."""
    return Workload(
        model=Tagger(),
        inputs=lambda seed: ((torch.randint(0, 113, (3, 11), generator=seeded(seed)),), {}),
        evaluate=lambda model: {"first class": float((model(torch.arange(113)[None]).argmax(-1) == 0).float().mean())},
    )


class Encoder(nn.Module):
    """One layer of a transformer: attention with two heads, then two linear layers, over embedded tokens and places."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(61, 48), nn.Embedding(12, 48)
        self.register_buffer("places", torch.arange(12)[None])
        self.query, self.key, self.value, self.out = (nn.Linear(48, 48) for _ in range(4))
        self.wide, self.narrow = nn.Linear(48, 96), nn.Linear(96, 48)
        self.first, self.second = nn.LayerNorm(48), nn.LayerNorm(48)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places: torch.Tensor = self.get_buffer("places")
        x = self.embed(ids) + self.place(places[:, : ids.shape[1]])
        batch, length, size = x.shape
        split = (batch, length, 2, size // 2)
        heads = (made(x).view(split).transpose(1, 2) for made in (self.query, self.key, self.value))
        mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(batch, length, size)
        x = self.first(x + self.out(mixed))
        return self.second(x + self.narrow(nn.functional.gelu(self.wide(x))))


def encoder() -> Workload:
    """Return the encoder with inputs [2, 9]."""
    return Workload(model=Encoder(), inputs=lambda seed: ((torch.randint(0, 61, (2, 9), generator=seeded(seed)),), {}))


def training() -> Workload:
    """Return the same as a training step."""
    made = tagger()
    made.loss = lambda output, batch: output.square().mean()
    made.optimizer = torch.optim.SGD(made.model.parameters(), 0.1)
    return made


def own_step() -> Workload:
    """Return the same with a step of its own."""
    made = tagger()
    made.step = lambda model, batch: model(*batch[0])
    return made


def not_a_number() -> Workload:
    """Return the same with a weight that is NaN."""
    made = tagger()
    with torch.no_grad():
        made.model.head.weight[3, 5] = float("nan")
    return made
